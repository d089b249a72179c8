/* What the files of files share. */
#pragma once

#include "policy/files.h"

/** Of what counts: where a file lies, and what lies below it, does not. Errors: OSM_ENOMEM. */
OSM_MUST_USE int osm__policy_files_digest(struct osm_policy_files *files);
