/* What the person on call asks first, without Lua: snapshot, xds nodes, xds show, ca status, log,
 * log set, handles, mem. */
#pragma once

#include "app/app.h"

extern const struct osm_control_command osm_debug_commands[];
