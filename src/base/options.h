/* Command-line flags from a table: `--name VALUE`, `--name=VALUE`, `--name` for booleans, `-x`
 * short forms. An unknown flag is an error that names the nearest known one. */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stdio.h>

enum { OSM_OPTION_VALUES_MAX = 32 };

struct osm_option {
    const char *name;       /* without dashes; NULL ends a table */
    char short_name;        /* 0: none */
    const char *value_name; /* "DIR" for the help; NULL: a boolean flag; "DIR...": may be given
                               several times, and `value` is an array of OSM_OPTION_VALUES_MAX + 1
                               that ends with NULL */
    const char *help;
    const char **value; /* where the value goes; borrowed from argv */
    bool *flag;         /* for booleans */
    bool required;
};

/** Fills in the options from argv[1..]; words that are no flags go to *words in order (the array is
 * the caller's, osm_free; NULL-terminated). "--" ends the flags. Errors: OSM_EINVAL "unknown flag
 * --x; did you mean --y?", a missing value, a missing required flag. */
OSM_MUST_USE int osm_options_parse(const struct osm_option *options, int argc, char **argv,
                                   const char ***words, size_t *words_len, struct osm_err *err);
/** The required flags that are absent, as an error; separate, so that --help works without them. */
int osm_options_require(const struct osm_option *options, struct osm_err *err);
/** One aligned line per option. */
void osm_options_help(const struct osm_option *options, FILE *to);
