/* A composite resource taken apart again: what is around its elements (filter chains, virtual
 * hosts), and each element by its name. What two proxies share is found without decoding it. Pure.
 * Thread: any. */
#pragma once

#include "base/buf.h"
#include "base/bytes.h"
#include "xds/snapshot.h"

#include <stdbool.h>

struct osm_part {
    char *name;
    const uint8_t *data; /* the element's message; inside the resource's bytes */
    size_t len;
};

struct osm_parts {
    struct osm_buf around; /* the message without its elements */
    struct osm_part *list; /* sorted by name */
    size_t len;
    uint32_t direction; /* of a listener: traffic_direction */
};
enum { OSM_PARTS_OUTBOUND = 2 }; /* traffic_direction: OUTBOUND; all else may let somebody in */

/** Of such a resource, the field that holds its elements ("filter_chains") and, in *message, the
 * full name of their message. NULL: resources of this type are not composite. */
const char *osm_parts_field(enum osm_xds_type type, const char **message);
/** Takes apart; @p body must outlive it. Errors: OSM_EPARSE malformed; OSM_ENOMEM. */
OSM_MUST_USE int osm_parts_of(struct osm_parts *out, enum osm_xds_type type,
                              const struct osm_bytes *body);
/** Repeatable. */
void osm_parts_clear(struct osm_parts *parts);
/** Borrowed; NULL where absent. */
const struct osm_part *osm_parts_find(const struct osm_parts *parts, const char *name);
static inline bool osm_part_same(const struct osm_part *a, const struct osm_part *b)
{
    return a->len == b->len && !__builtin_memcmp(a->data, b->data, a->len);
}
