/* Between the diff of values (fields.c), the alignment of lists (fields_align.c) and paths
 * (fields_path.c). */
#pragma once

#include "whatif/fields.h"

/* What names the elements of a list. */
struct osm__namer {
    const char *label;   /* in paths: "[label=...]" */
    const char *keys[5]; /* where the name is in the element, NULL-terminated */
};
/** Ends with a NULL label; the first that fits is used. */
extern const struct osm__namer osm__namers[];
/** NULL where the element has no such name. Borrowed. */
const char *osm__name_by(const struct osm__namer *namer, const json_t *element);
/** *out: the namer by which all elements of both lists have names, in each list no two the same;
 * NULL: there is none, or no element. @p other may be NULL. Errors: OSM_ENOMEM. */
OSM_MUST_USE int osm__namer_of(const json_t *list, const json_t *other,
                               const struct osm__namer **out);

/* How two lists lie beside each other. */
struct osm__pair {
    size_t before, after; /* places; OSM__NONE: it is not in that list */
};
#define OSM__NONE SIZE_MAX
struct osm__alignment {
    struct osm__pair *list; /* in the order of both lists; equal pairs are left out */
    size_t len;
};
/** Errors: OSM_ENOMEM. */
OSM_MUST_USE int osm__align(const json_t *before, const json_t *after, struct osm__alignment *out);
/** Marks (true) those of n different numbers that are left where as few as possible are taken out
 * so that the rest ascends. Errors: OSM_ENOMEM. */
OSM_MUST_USE int osm__ascending(const size_t *numbers, size_t n, bool *stays);
