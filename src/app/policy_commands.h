/* What the sockets answer about the policies: policy.reload, policy.apply, policy.activate,
 * policy.rollback, policy.list (osm_reload_status; of reload and apply osm_reload_answer_fn's
 * outcome, once it is known, with a canary once that is over), policy.why ({"type", "resource",
 * "items": as osm_engine_why}). */
#pragma once

#include "app/app.h"

extern const struct osm_control_command osm_policy_commands[];
