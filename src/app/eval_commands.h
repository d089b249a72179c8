/* What consoles answer by trying it on a copy: eval, mesh, trace, watch. */
#pragma once

#include "app/app.h"

extern const struct osm_control_command osm_eval_commands[];
/** NULL: no memory. */
OSM_MUST_USE struct osm_evaluators *osm_app_evaluators_new(struct osm_app *app);
