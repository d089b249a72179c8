/* Objects that nobody reads at present, as text: a tenth of what they take to be read. Immutable,
 * shared by reference between threads. */
#pragma once

#include "model/object.h"

struct osm_packed;

/** The object stays the caller's. Errors: OSM_ENOMEM. */
OSM_MUST_USE int osm_packed_new(struct osm_packed **out, const struct osm_object *object);
struct osm_packed *osm_packed_ref(struct osm_packed *packed);
/** NULL is accepted. */
void osm_packed_unref(struct osm_packed *packed);
/** Borrowed. */
const char *osm_packed_ns(const struct osm_packed *packed);
/** The object again, equal to what it was. Errors: OSM_ENOMEM. */
OSM_MUST_USE int osm_packed_open(struct osm_object **out, const struct osm_packed *packed);

/* Those of a moment. */
struct osm_outside {
    struct osm_packed **list; /* a reference each */
    size_t len;
};
void osm_outside_free(struct osm_outside *outside);
/** Adds those of a namespace to @p changes, whose list is grown. NULL: there are none.
 * Errors: OSM_ENOMEM. */
OSM_MUST_USE int osm_outside_open(const struct osm_outside *outside, const char *ns,
                                  struct osm_changes *changes);
