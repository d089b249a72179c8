/* The object store of the loop thread: every object that the source holds, by key, and what has
 * changed since the policy thread last took a batch (one entry per key, newest state: a burst
 * collapses into one). Thread: loop. */
#pragma once

#include "model/object.h"

struct osm_store;

OSM_MUST_USE struct osm_store *osm_store_new(void);
void osm_store_free(struct osm_store *store);
/** Adds or replaces. An object that is osm_object_same as the current one replaces it without
 * becoming a change: readers keep the old one, of which only origin, resourceVersion or the like
 * may be out of date. Who prints an origin asks here for it. Going back to what readers hold,
 * before they took the change, takes the change back. Owns: takes the reference in every case.
 * Errors: OSM_ENOMEM, nothing changed. */
OSM_MUST_USE int osm_store_put(struct osm_store *store, struct osm_object *object);
/** From now on a new status of an object of this type ("group/Kind") is a change, too. Of other
 * kinds it is none: statuses change every few seconds. Errors: OSM_ENOMEM. */
OSM_MUST_USE int osm_store_watch_status(struct osm_store *store, const char *type);
/** Errors: OSM_ENOENT where absent; OSM_ENOMEM, nothing changed. */
int osm_store_delete(struct osm_store *store, const char *key);
/** Borrowed until the next change. */
struct osm_object *osm_store_get(const struct osm_store *store, const char *key);
size_t osm_store_count(const struct osm_store *store);
/** The pod with this osm-proxy-uuid label (lower case); NULL: none, or more than one (then nobody
 * gets in). Borrowed. */
struct osm_object *osm_store_pod_by_uuid(const struct osm_store *store, const char *uuid);
bool osm_store_dirty(const struct osm_store *store);
/** Makes a change of every object: for a reader that starts anew. Errors: OSM_ENOMEM, some are
 * marked. */
OSM_MUST_USE int osm_store_mark_all(struct osm_store *store);
/** Moves the changes since the last take into a new batch. NULL: none or no memory (they stay). */
OSM_MUST_USE struct osm_changes *osm_store_take_changes(struct osm_store *store);
