/* Regular expressions by RE2, the library (and so the dialect) that Envoy uses. The only way to it:
 * C++ stays behind this file. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#include "base/err.h"

struct osm_regex;

/** Errors: OSM_EINVAL with RE2's reason. */
OSM_MUST_USE int osm_regex_new(struct osm_regex **out, const char *pattern, struct osm_err *err);
void osm_regex_free(struct osm_regex *regex);
/** Whether it matches anywhere in the text (anchor it with ^ and $). */
bool osm_regex_matches(const struct osm_regex *regex, const char *text, size_t len);

/** Whether Envoy would take the pattern. @p max_program_size: its re2.max_program_size.error_level,
 * 0: no limit. Errors: OSM_EINVAL with RE2's reason; OSM_ELIMIT. */
OSM_MUST_USE int osm_regex_check(const char *pattern, unsigned max_program_size,
                                 struct osm_err *err);

#ifdef __cplusplus
}
#endif
