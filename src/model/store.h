/* The object store of the loop thread: every object that the source holds, by key, and for each of
 * its readers (policy engines, each on a thread of its own) what has changed since it last took a
 * batch: one entry per key, newest state, so a burst collapses into one. Thread: loop. */
#pragma once

#include "model/object.h"

struct osm_store;

OSM_MUST_USE struct osm_store *osm_store_new(void);
/** Its readers have been freed. */
void osm_store_free(struct osm_store *store);
/** Adds or replaces. An object that is osm_object_same as the current one replaces it without
 * becoming a change: readers keep the old one, of which only origin, resourceVersion or the like
 * may be out of date. Who prints an origin asks here for it. Going back to what readers hold,
 * before they took the change, takes the change back. Owns: takes the reference in every case.
 * Errors: OSM_ENOMEM, nothing changed. */
OSM_MUST_USE int osm_store_put(struct osm_store *store, struct osm_object *object);
/** Errors: OSM_ENOENT where absent; OSM_ENOMEM, nothing changed. */
int osm_store_delete(struct osm_store *store, const char *key);
/** Borrowed until the next change. */
struct osm_object *osm_store_get(const struct osm_store *store, const char *key);
size_t osm_store_count(const struct osm_store *store);
/** The pod whose sidecar has this osm_proxy_key; NULL: none, or more than one (then nobody knows
 * whose it is). Borrowed. */
struct osm_object *osm_store_pod_of_proxy(const struct osm_store *store, const char *proxy);
/** Every object, as a batch for one who knows nothing yet; no reader is needed for it. NULL: no
 * memory. */
OSM_MUST_USE struct osm_changes *osm_store_all(const struct osm_store *store);
/** Every object, in no order that means anything; borrowed for the call, in which the store must
 * not change. */
typedef void osm_store_each_fn(void *ud, struct osm_object *object);
void osm_store_each(const struct osm_store *store, osm_store_each_fn *fn, void *ud);
/** Grows with each change of an object. */
uint64_t osm_store_revision(const struct osm_store *store);

/* --- readers --- */
struct osm_store_reader;

/** A reader that knows nothing yet: every object is news to it. NULL: no memory. */
OSM_MUST_USE struct osm_store_reader *osm_store_reader_new(struct osm_store *store);
/** NULL is accepted. */
void osm_store_reader_free(struct osm_store_reader *reader);
/** From now on a new status of an object of this type ("group/Kind") is a change for this reader,
 * too. Of other kinds it is none: statuses change every few seconds. Errors: OSM_ENOMEM. */
OSM_MUST_USE int osm_store_reader_watch_status(struct osm_store_reader *reader, const char *type);
bool osm_store_reader_dirty(const struct osm_store_reader *reader);
/** It starts anew: every object is news to it again. Errors: OSM_ENOMEM, some are marked. */
OSM_MUST_USE int osm_store_reader_restart(struct osm_store_reader *reader);
/** Moves what has changed since the last take into a new batch. NULL: nothing, or no memory (it
 * stays). */
OSM_MUST_USE struct osm_changes *osm_store_reader_take(struct osm_store_reader *reader);
