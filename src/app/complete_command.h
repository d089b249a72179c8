/* What a console's user may mean, for whoever types: the command "complete". */
#pragma once

#include "app/app.h"

extern const struct osm_control_command osm_complete_commands[];
