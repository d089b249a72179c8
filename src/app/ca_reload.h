/* The command "ca.reload": reads the roots again, from where they are kept, and lets what is there
 * take over, without a restart. The answer is the state that serves from now on. */
#pragma once

#include "app/app.h"

extern const struct osm_control_command osm_ca_commands[];
/** Who signs and who is trusted, {} where that is not known yet: {"fingerprint", "not_after",
 * "passive": [{"fingerprint", "not_after"}]}. NULL: no memory. */
json_t *osm_ca_status(const struct osm_ca *ca);
