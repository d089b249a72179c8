/* What the control socket answers about the policies: policy.reload, policy.apply, policy.activate,
 * policy.rollback, policy.list, policy.why. */
#pragma once

#include "app/app.h"

/** {"force": bool}. Answers once it is known what has become of what the directories hold:
 * osm_reload_answer_fn's outcome. */
void osm_policy_reload_command(void *ud, struct osm_control_request *request, const json_t *args);
/** {"dirs": [absolute paths], "canary": "5%" or "label=KEY=VALUE" or absent, "soak_ms": n or
 * absent, "force": bool}. As policy.reload; with a canary the answer comes once that is over. */
void osm_policy_apply_command(void *ud, struct osm_control_request *request, const json_t *args);
/** {"digest": its beginning, or absent}. */
void osm_policy_activate_command(void *ud, struct osm_control_request *request, const json_t *args);
/** {"reason": text or absent}. */
void osm_policy_rollback_command(void *ud, struct osm_control_request *request, const json_t *args);
/** {"pod": "namespace/name", "resource": its name, "type": "LDS" or absent: the first that has it,
 * "element": part of a name, or a path of fields
 * (osm_field_is_path), or absent}. Of a path the answer is osm_whatif_field's; else {"type",
 * "resource", "items": as osm_engine_why}. */
void osm_policy_why_command(void *ud, struct osm_control_request *request, const json_t *args);
/** osm_reload_status. */
void osm_policy_list_command(void *ud, struct osm_control_request *request, const json_t *args);
