/* Which options each command of `osm` takes. One that a command would pass over is refused:
 * `policy reload --canary 5%` would otherwise serve everybody at once. */
#pragma once

#include "base/options.h"

#include <stddef.h>

/** Errors: OSM_EINVAL an option that is set and is none of the command's, a format that it does not
 * write, or a word or value that is empty. Words that make no command are passed. */
OSM_MUST_USE int osm_cli_check_options(const struct osm_option *options, const char *const *words,
                                       size_t n, struct osm_err *err);
