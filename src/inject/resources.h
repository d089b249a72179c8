/* What a container may ask of its node, as Kubernetes reads it. */
#pragma once

#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>

/** The number that a quantity ("100m", "64Mi", 1.5) says, not below 0. False: it is none. */
OSM_MUST_USE bool osm__quantity_read(const json_t *value, double *out);
/** A container's `resources`; absent and null are none. @p what names it in errors. Errors:
 * OSM_EINVAL with the field: it would be refused in each pod, and nobody would be told why. */
OSM_MUST_USE int osm__resources_check(const char *what, const json_t *resources,
                                      struct osm_err *err);
