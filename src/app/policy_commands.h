/* What the control socket answers about the generations of policies: policy.reload,
 * policy.activate, policy.rollback, policy.list. */
#pragma once

#include "app/app.h"

/** {"force": bool}. Answers once it is known what has become of what the directories hold:
 * osm_reload_answer_fn's outcome. */
void osm_policy_reload_command(void *ud, struct osm_control_request *request, const json_t *args);
/** {"digest": its beginning, or absent}. */
void osm_policy_activate_command(void *ud, struct osm_control_request *request, const json_t *args);
/** {"reason": text or absent}. */
void osm_policy_rollback_command(void *ud, struct osm_control_request *request, const json_t *args);
/** osm_reload_status. */
void osm_policy_list_command(void *ud, struct osm_control_request *request, const json_t *args);
