/* What two JSON values differ in: the fewest fields that tell the one from the other. Pure. Thread:
 * any.
 *
 *   virtual_hosts[name=shop].routes[0].route.weighted_clusters.clusters[name=v2].weight: 50 -> 70
 *
 * An element of a list is known by what names it (its name, key, address, ...) where all elements
 * have such a thing, each its own; else by the alignment of the two lists that leaves the least to
 * tell. So what is put in front of a list is one change, and not one of each element behind it. */
#pragma once

#include "base/buf.h"

#include <jansson.h>
#include <stdbool.h>

enum { OSM_FIELDS_PATH_MAX_BYTES = 64 * 1024 };

/** Appends to @p out (an array), in the order of the fields, {"path", "change": "added", "removed",
 * "changed" or "moved", "before", "after"}: values, of which "added" has no "before" and "removed"
 * no "after"; of "moved", places in the list. @p before or @p after NULL: absent. @p prefix: what
 * paths begin with, "" for the root. Over @p max of them the rest is counted in *more (added to).
 * Index of an element without a name: in the list as it is after the change, of a removed one
 * before it. Values are references to those that were given. Errors: OSM_ENOMEM; OSM_ELIMIT a path
 * is too long. */
OSM_MUST_USE int osm_fields_diff(const json_t *before, const json_t *after, const char *prefix,
                                 json_t *out, size_t max, size_t *more);

/* Steps of a path, as diffs print them and people type them: a name, `["a name with dots"]`, `[3]`,
 * `[name=shop]`. */
struct osm_fields_step {
    enum { OSM_FIELDS_KEY, OSM_FIELDS_INDEX, OSM_FIELDS_NAMED } type;
    const char *text; /* of the path; not NUL-terminated: key, or the name behind '=' */
    size_t len;
    size_t index;
};
/** The next step of the path at *at, which moves behind it. 1; 0: the end; OSM_EPARSE. */
int osm_fields_step(const char **at, struct osm_fields_step *out);
/** The value at a path; NULL where there is none. Borrowed. Errors: OSM_EPARSE no path; OSM_ENOENT.
 */
OSM_MUST_USE int osm_fields_at(const json_t *value, const char *path, const json_t **out);
/** Appends the path to @p out with every element that has a name known by it: "filters[0]" becomes
 * "filters[name=l4_rbac]". Errors: OSM_EPARSE no path; OSM_ENOENT it leads nowhere; OSM_ENOMEM. */
OSM_MUST_USE int osm_fields_normal(const json_t *value, const char *path, struct osm_buf *out);
/** Whether the one path is the other, or leads into what it leads to: "a.b" and "a.b[0].c". */
bool osm_fields_within(const char *inner, const char *outer);
