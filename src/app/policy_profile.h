/* What the control socket answers about the costs of policies: policy.profile. */
#pragma once

#include "app/app.h"

enum { OSM_PROFILE_MAX_S = 3600 };
/** {"seconds": how long it is to be looked, line by line; absent: what has been counted since the
 * engine began}. Answers osm_engine_costs or osm_engine_profile_end of the active generation, with
 * "generation" and "digest". One at a time. */
void osm_policy_profile_command(void *ud, struct osm_control_request *request, const json_t *args);
/** Answers who still waits. */
void osm_policy_profile_stop(struct osm_app *app);
