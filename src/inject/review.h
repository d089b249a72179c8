/* What is asked of a review before its fields are read. */
#pragma once

#include "base/err.h"

#include <jansson.h>
#include <stddef.h>

/** Holds a text that is to be parsed as JSON to so many values and levels, in one pass and without
 * memory: anybody may send one. Errors: OSM_ELIMIT. */
OSM_MUST_USE int osm__review_bounds(const char *text, size_t len, struct osm_err *err);
/** A text may hold a NUL, and passes untouched: but not where it is read here, since it would be
 * read up to there. Errors: OSM_EINVAL with the field. */
OSM_MUST_USE int osm__review_texts(const json_t *review, struct osm_err *err);
/** The same of the pod that it is about. */
OSM_MUST_USE int osm__review_pod_texts(const json_t *pod, struct osm_err *err);
