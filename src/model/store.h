/* The object store of the loop thread: every object that the source holds, by key, and what has changed since the
 * policy thread last took a batch (one entry per key, newest state: a burst collapses into one). Thread: loop. */
#pragma once

#include "model/object.h"

struct osm_store;

OSM_MUST_USE struct osm_store *osm_store_new(void);
void osm_store_free(struct osm_store *store);
/** Adds or replaces. An object with equal content and labels is taken without becoming a change... unless its origin or
 *  resourceVersion differ: then readers keep the old one. Owns: takes the reference. Errors: OSM_ENOMEM. */
OSM_MUST_USE int osm_store_put(struct osm_store *store, struct osm_object *object);
/** OSM_ENOENT where absent. */
int osm_store_delete(struct osm_store *store, const char *key);
/** Borrowed until the next change. */
struct osm_object *osm_store_get(const struct osm_store *store, const char *key);
size_t osm_store_count(const struct osm_store *store);
/** The pod with this osm-proxy-uuid label (lower case); NULL: none, or more than one (then nobody gets in). Borrowed. */
struct osm_object *osm_store_pod_by_uuid(const struct osm_store *store, const char *uuid);
bool osm_store_dirty(const struct osm_store *store);
/** Moves the changes since the last take into a new batch. NULL: none or no memory (they stay). */
OSM_MUST_USE struct osm_changes *osm_store_take_changes(struct osm_store *store);
