/* What the sockets answer about the policies: policy.reload, policy.apply, policy.activate,
 * policy.rollback, policy.list (osm_reload_status; of reload and apply osm_reload_answer_fn's
 * outcome, once it is known, with a canary once that is over), policy.why, xds.why
 * ({"type", "resource", "generation", "digest", "items": as osm_engine_why}), policy.log. */
#pragma once

#include "app/app.h"

extern const struct osm_control_command osm_policy_commands[];
