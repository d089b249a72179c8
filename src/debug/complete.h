/* What a line that is being typed wants next: of which argument of which command, and what it
 * begins with. Where the words come from is for others to know. Pure. */
#pragma once

#include "debug/registry.h"

enum { OSM_COMPLETING_BEFORE_MAX = 3 };

struct osm_completing {
    bool any; /* something can be completed; else nothing below counts */
    enum osm_control_complete source;
    const struct osm_control_command *command; /* NULL: its name is being typed */
    const struct osm_control_arg *arg;         /* NULL: the name of an option is */
    size_t start;                              /* byte of the line where the word begins */
    char *name; /* KEYS: of what they are keys, "" unknown; else NULL */
    char *before[OSM_COMPLETING_BEFORE_MAX]; /* words (keys) before this one */
    size_t before_len;                       /* may be more than are kept */
    char end; /* what a whole word is followed by: ' ', the quote that it began with, 0: nothing */
};

/** @p line up to the cursor. Errors: OSM_ENOMEM. */
OSM_MUST_USE int osm_complete_parse(struct osm_completing *out, const struct osm_registry *registry,
                                    const char *line);
void osm_completing_clear(struct osm_completing *completing);
