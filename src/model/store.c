#include "model/store.h"

#include "base/check.h"
#include "base/map.h"
#include "model/names.h"

#include <string.h>

/* What happened to a key since the reader's last take. */
struct pending {
    struct osm_object
        *base; /* what the reader holds: one reference, NULL if the key is new to it */
    struct osm_object *last; /* one reference; the last object, where it is deleted now */
};

struct osm_store_reader {
    struct osm_store *store;
    struct osm_store_reader *next;
    struct osm_map pending;     /* key -> struct pending * */
    struct osm_map with_status; /* "group/Kind" -> the reader: its status counts */
};

struct osm_store {
    struct osm_map objects;  /* key -> one reference */
    struct osm_map by_proxy; /* osm_proxy_key -> struct osm_map *: key -> object (borrowed) */
    struct osm_store_reader *readers;
    uint64_t revision;
};

struct osm_store *osm_store_new(void)
{
    return osm_alloc(sizeof(struct osm_store));
}

static void pending_free(struct pending *p)
{
    if (!p)
        return;
    osm_object_unref(p->base);
    osm_object_unref(p->last);
    osm_free(p);
}

void osm_store_free(struct osm_store *store)
{
    if (!store)
        return;
    osm_map_each (&store->objects, e)
        osm_object_unref(e->value);
    osm_map_each (&store->by_proxy, e) {
        osm_map_clear(e->value);
        osm_free(e->value);
    }
    osm_map_clear(&store->objects);
    osm_map_clear(&store->by_proxy);
    (void)OSM_CHECK(!store->readers);
    osm_free(store);
}

/* How the pod's sidecar is known; false where it has no label that is valid. */
static bool proxy_key_of(const struct osm_object *object, char out[OSM_PROXY_KEY_SIZE])
{
    if (!osm_object_is(object, "", "Pod"))
        return false;
    const char *uuid = osm_json_str_at(object->body, "metadata", "labels", "osm-proxy-uuid", NULL);
    if (!osm_uuid_valid(uuid))
        return false;
    (void)osm_proxy_key(out, uuid, object->ns);
    return true;
}

static void unindex(struct osm_store *store, const struct osm_object *object)
{
    char proxy[OSM_PROXY_KEY_SIZE];
    struct osm_map *pods =
        proxy_key_of(object, proxy) ? osm_map_get(&store->by_proxy, proxy) : NULL;
    if (!pods)
        return;
    if (osm_map_get(pods, object->key) == object)
        (void)osm_map_del(pods, object->key);
    if (!pods->count) {
        (void)osm_map_del(&store->by_proxy, proxy);
        osm_map_clear(pods);
        osm_free(pods);
    }
}

static int add_to_index(struct osm_store *store, struct osm_object *object)
{
    char proxy[OSM_PROXY_KEY_SIZE];
    if (!proxy_key_of(object, proxy))
        return 0;
    struct osm_map *pods = osm_map_get(&store->by_proxy, proxy);
    if (!pods) {
        pods = osm_alloc(sizeof *pods);
        if (!pods || osm_map_put(&store->by_proxy, proxy, pods, NULL)) {
            osm_free(pods);
            return OSM_ENOMEM;
        }
    }
    int rc = osm_map_put(pods, object->key, object, NULL);
    if (rc && !pods->count) {
        (void)osm_map_del(&store->by_proxy, proxy);
        osm_map_clear(pods);
        osm_free(pods);
    }
    return rc;
}

/* Notes for a reader that @p key, which has @p old now (NULL: nothing), is about to change. */
static int note(struct osm_store_reader *reader, const char *key, struct osm_object *old)
{
    if (osm_map_get(&reader->pending, key))
        return 0;
    struct pending *p = osm_alloc(sizeof *p);
    if (!p || osm_map_put(&reader->pending, key, p, NULL)) {
        osm_free(p);
        return OSM_ENOMEM;
    }
    p->base = old ? osm_object_ref(old) : NULL;
    return 0;
}

/* Whether this reader would not answer differently for the one and the other. */
static bool is_same(const struct osm_store_reader *reader, const struct osm_object *a,
                    const struct osm_object *b)
{
    if (!osm_object_same(a, b))
        return false;
    if (!reader->with_status.count || osm_hash_equal(a->status, b->status))
        return true;
    size_t len = strcspn(a->key, "/"); /* the key begins with group/Kind/ */
    len += 1 + strcspn(a->key + len + 1, "/");
    return !osm_map_getn(&reader->with_status, a->key, len);
}

/* Forgets notes that say nothing (any more). */
static void settle(struct osm_store *store, const char *key)
{
    const struct osm_object *now = osm_map_get(&store->objects, key);
    for (struct osm_store_reader *reader = store->readers; reader; reader = reader->next) {
        struct pending *p = osm_map_get(&reader->pending, key);
        if (p && ((!now && !p->base) || (now && p->base && is_same(reader, now, p->base)))) {
            (void)osm_map_del(&reader->pending, key);
            pending_free(p);
        }
    }
}

/* For all readers. Errors: OSM_ENOMEM; settle then takes back what was noted. */
static int note_all(struct osm_store *store, const char *key, struct osm_object *old)
{
    int rc = 0;
    for (struct osm_store_reader *reader = store->readers; reader && !rc; reader = reader->next)
        rc = note(reader, key, old);
    return rc;
}

int osm_store_put(struct osm_store *store, struct osm_object *object)
{
    struct osm_object *old = osm_map_get(&store->objects, object->key);
    if (old == object) {
        osm_object_unref(object);
        return 0;
    }
    /* Only a key that is new to a map needs memory, so once the index has it nothing has to be put
     * back for an old one. */
    int rc = note_all(store, object->key, old);
    if (!rc)
        rc = add_to_index(store, object);
    if (!rc) {
        rc = osm_map_put(&store->objects, object->key, object, NULL);
        if (rc)
            unindex(store, object);
    }
    if (!rc && old)
        unindex(store, old);
    settle(store, object->key);
    store->revision += !rc;
    osm_object_unref(rc ? object : old);
    return rc;
}

int osm_store_delete(struct osm_store *store, const char *key)
{
    struct osm_object *old = osm_map_get(&store->objects, key);
    if (!old)
        return OSM_ENOENT;
    int rc = note_all(store, key, old);
    if (rc) {
        settle(store, old->key);
        return rc;
    }
    for (struct osm_store_reader *reader = store->readers; reader; reader = reader->next) {
        struct pending *p = osm_map_get(&reader->pending, key);
        osm_object_unref(p->last);
        p->last = osm_object_ref(old);
    }
    store->revision++;
    unindex(store, old);
    (void)osm_map_del(&store->objects, old->key);
    settle(store, old->key);
    osm_object_unref(old);
    return 0;
}

struct osm_object *osm_store_get(const struct osm_store *store, const char *key)
{
    return osm_map_get(&store->objects, key);
}

size_t osm_store_count(const struct osm_store *store)
{
    return store->objects.count;
}

void osm_store_each(const struct osm_store *store, osm_store_each_fn *fn, void *ud)
{
    osm_map_each (&store->objects, e)
        fn(ud, e->value);
}

struct osm_object *osm_store_pod_of_proxy(const struct osm_store *store, const char *proxy)
{
    const struct osm_map *pods = osm_map_get(&store->by_proxy, proxy);
    if (!pods || pods->count != 1)
        return NULL;
    osm_map_each (pods, e)
        return e->value;
    return NULL;
}

struct osm_changes *osm_store_all(const struct osm_store *store)
{
    struct osm_changes *all = osm_alloc(sizeof *all);
    struct osm_change *list = osm_alloc_array(store->objects.count + 1, sizeof *list);
    if (!all || !list) {
        osm_free(all);
        osm_free(list);
        return NULL;
    }
    all->list = list;
    osm_map_each (&store->objects, e)
        list[all->len++].now = osm_object_ref(e->value);
    return all;
}

uint64_t osm_store_revision(const struct osm_store *store)
{
    return store->revision;
}

/* --- readers --- */

struct osm_store_reader *osm_store_reader_new(struct osm_store *store)
{
    struct osm_store_reader *reader = osm_alloc(sizeof *reader);
    if (!reader)
        return NULL;
    reader->store = store;
    reader->next = store->readers;
    store->readers = reader;
    if (osm_store_reader_restart(reader)) {
        osm_store_reader_free(reader);
        return NULL;
    }
    return reader;
}

void osm_store_reader_free(struct osm_store_reader *reader)
{
    if (!reader)
        return;
    struct osm_store_reader **at = &reader->store->readers;
    while (*at != reader)
        at = &(*at)->next;
    *at = reader->next;
    osm_map_each (&reader->pending, e)
        pending_free(e->value);
    osm_map_clear(&reader->pending);
    osm_map_clear(&reader->with_status);
    osm_free(reader);
}

int osm_store_reader_watch_status(struct osm_store_reader *reader, const char *type)
{
    return osm_map_put(&reader->with_status, type, reader, NULL);
}

bool osm_store_reader_dirty(const struct osm_store_reader *reader)
{
    return reader->pending.count > 0;
}

int osm_store_reader_restart(struct osm_store_reader *reader)
{
    /* A base that the reader no longer has is forgotten: whatever the object is now is news to it.
     * What is deleted meanwhile is no news to a reader that never knew it, so its note may stay. */
    osm_map_each (&reader->store->objects, e) {
        int rc = note(reader, e->key, NULL);
        if (rc)
            return rc;
        struct pending *p = osm_map_get(&reader->pending, e->key);
        osm_object_unref(p->base);
        p->base = NULL;
    }
    return 0;
}

struct osm_changes *osm_store_reader_take(struct osm_store_reader *reader)
{
    if (!reader->pending.count)
        return NULL;
    struct osm_changes *batch = osm_alloc(sizeof *batch);
    struct osm_change *list = osm_alloc_array(reader->pending.count, sizeof *list);
    if (!batch || !list) {
        osm_free(batch);
        osm_free(list);
        return NULL;
    }
    batch->list = list;
    osm_map_each (&reader->pending, e) {
        struct pending *p = e->value;
        struct osm_object *now = osm_map_get(&reader->store->objects, e->key);
        struct osm_change *change = &list[batch->len++];
        if (now)
            change->now = osm_object_ref(now);
        else
            change->gone = osm_take_ptr(&p->last);
        pending_free(p);
    }
    osm_map_clear(&reader->pending);
    return batch;
}
