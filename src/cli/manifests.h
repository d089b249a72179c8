/* The texts of manifests that are named on the command line. */
#pragma once

#include "base/err.h"

#include <jansson.h>

enum { OSM_MANIFESTS_MAX_BYTES = 8 * 1024 * 1024 };

/** [{"name", "text"}]: each of @p from (NULL-terminated) is a file, "-" for standard input, or a
 * directory, whose *.yaml, *.yml and *.json files are read in their order (not those of folders in
 * it). Errors: OSM_EIO, OSM_ENOENT, OSM_ELIMIT all have more than OSM_MANIFESTS_MAX_BYTES,
 * OSM_EINVAL no UTF-8; each names the path. Caller: json_decref. */
OSM_MUST_USE int osm_manifests_read(json_t **out, const char *const *from, struct osm_err *err);
