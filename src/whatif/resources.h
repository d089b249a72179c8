/* What changes from one form of a resource to another. Resources, and the filter chains and virtual
 * hosts in them, are shared by many proxies: each pair of forms is decoded and compared once, and
 * of a composite resource only the elements whose bytes differ. Thread: any, one at a time. */
#pragma once

#include "xds/snapshot.h"

#include <stdbool.h>

struct osm_resources;

struct osm_resources_limits {
    size_t fields_max;       /* of one resource */
    size_t bytes_max;        /* of all changes as JSON; over it only their number is told */
    bool (*is_late)(void *); /* asked between two resources: true ends with OSM_ETIMEDOUT */
    void *ud;
};

OSM_MUST_USE struct osm_resources *osm_resources_new(const struct osm_resources_limits *limits);
/** NULL is accepted. */
void osm_resources_free(struct osm_resources *resources);
/** Compares two forms of the resource of one type and name; either may be NULL. *out: the place of
 * what is told in osm_resources_told. Errors: OSM_EPARSE a form cannot be read; OSM_ETIMEDOUT;
 * OSM_ENOMEM. */
OSM_MUST_USE int osm_resources_compare(struct osm_resources *resources, enum osm_xds_type type,
                                       const struct osm_resource *before,
                                       const struct osm_resource *after, size_t *out,
                                       struct osm_err *err);
/** [{"type": "LDS", "name", "change": "added", "removed" or "changed", "fields": as osm_fields_diff
 * (of "added" and "removed" one, with the path ""), "more": so many fields are left out}]: in the
 * order of the first comparison of each. Borrowed. */
json_t *osm_resources_told(const struct osm_resources *resources);
