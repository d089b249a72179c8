/* The command "ca.reload": reads the state directory again and lets what is there take over,
 * without a restart. The answer is the state that serves from now on. */
#pragma once

#include "app/app.h"

extern const struct osm_control_command osm_ca_commands[];
/** Who signs and who is trusted: {"fingerprint", "not_after", "passive": [{"fingerprint",
 * "not_after"}]}. NULL: no memory. */
json_t *osm_ca_status(const struct osm_ca *ca);
