#include "xds/snapshot.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static const char TYPE_PREFIX[] = "type.googleapis.com/";

const char *osm_xds_type_message(enum osm_xds_type type)
{
    static const char *const names[] = {
#define X(id, message, name_field) message,
        OSM_XDS_TYPES(X)
#undef X
    };
    return names[type];
}

const char *osm_xds_type_short(enum osm_xds_type type)
{
    static const char *const names[] = {
#define X(id, message, name_field) #id,
        OSM_XDS_TYPES(X)
#undef X
    };
    return names[type];
}

int osm_xds_type_parse(const char *type_url)
{
    if (strncmp(type_url, TYPE_PREFIX, sizeof TYPE_PREFIX - 1) != 0)
        return -1;
    for (int i = 0; i < OSM_XDS_TYPE_COUNT; i++)
        if (!strcmp(type_url + sizeof TYPE_PREFIX - 1, osm_xds_type_message((enum osm_xds_type)i)))
            return i;
    return -1;
}

/* The public structs are the first members of counted ones. */
struct counted_resource {
    struct osm_resource resource;
    atomic_size_t refs;
    char *name, *version;
};

struct counted_class {
    struct osm_class cls;
    atomic_size_t refs;
};

struct counted_snapshot {
    struct osm_snapshot snapshot;
    atomic_size_t refs;
};

static bool drop(atomic_size_t *refs)
{
    return atomic_fetch_sub_explicit(refs, 1, memory_order_acq_rel) == 1;
}

struct osm_resource *osm_resource_new_versioned(const char *name, const char *version,
                                                struct osm_bytes *body)
{
    struct counted_resource *r = osm_alloc(sizeof *r);
    if (r) {
        r->name = osm_strdup(name);
        r->version = osm_strdup(version);
    }
    if (!r || !r->name || !r->version) {
        osm_bytes_unref(body);
        if (r) {
            osm_free(r->name);
            osm_free(r->version);
        }
        osm_free(r);
        return NULL;
    }
    atomic_init(&r->refs, 1);
    r->resource = (struct osm_resource){body, r->name, r->version, false};
    return &r->resource;
}

struct osm_resource *osm_resource_new(const char *name, struct osm_bytes *body)
{
    char version[OSM_HASH_HEX_SIZE];
    return osm_resource_new_versioned(name, osm_hash_hex(osm_bytes_hash(body), version), body);
}

struct osm_resource *osm_resource_new_composed(const char *name, bool authorises,
                                               struct osm_bytes *body)
{
    struct osm_resource *resource = osm_resource_new(name, body);
    if (resource)
        resource->authorises = authorises;
    return resource;
}

struct osm_resource *osm_resource_ref(struct osm_resource *resource)
{
    atomic_fetch_add_explicit(&((struct counted_resource *)resource)->refs, 1,
                              memory_order_relaxed);
    return resource;
}

void osm_resource_unref(struct osm_resource *resource)
{
    struct counted_resource *r = (struct counted_resource *)resource;
    if (!r || !drop(&r->refs))
        return;
    osm_bytes_unref(r->resource.body);
    osm_free(r->name);
    osm_free(r->version);
    osm_free(r);
}

struct osm_class *osm_class_new(void)
{
    struct counted_class *c = osm_alloc(sizeof *c);
    if (!c)
        return NULL;
    atomic_init(&c->refs, 1);
    return &c->cls;
}

struct osm_class *osm_class_ref(struct osm_class *cls)
{
    atomic_fetch_add_explicit(&((struct counted_class *)cls)->refs, 1, memory_order_relaxed);
    return cls;
}

void osm_class_unref(struct osm_class *cls)
{
    struct counted_class *c = (struct counted_class *)cls;
    if (!c || !drop(&c->refs))
        return;
    for (int t = 0; t < OSM_XDS_TYPE_COUNT; t++) {
        for (size_t i = 0; i < cls->types[t].len; i++)
            osm_resource_unref(cls->types[t].list[i]);
        osm_free(cls->types[t].list);
    }
    osm_free(c);
}

static int name_against(const void *name, const void *slot)
{
    return strcmp(name, (*(struct osm_resource *const *)slot)->name);
}

struct osm_resource *osm_class_find(const struct osm_class *cls, enum osm_xds_type type,
                                    const char *name)
{
    if (!cls->types[type].len)
        return NULL;
    struct osm_resource **at = bsearch(name, cls->types[type].list, cls->types[type].len,
                                       sizeof(struct osm_resource *), name_against);
    return at ? *at : NULL;
}

struct osm_snapshot *osm_snapshot_new(void)
{
    struct counted_snapshot *s = osm_alloc(sizeof *s);
    if (!s)
        return NULL;
    atomic_init(&s->refs, 1);
    return &s->snapshot;
}

struct osm_snapshot *osm_snapshot_ref(struct osm_snapshot *snapshot)
{
    atomic_fetch_add_explicit(&((struct counted_snapshot *)snapshot)->refs, 1,
                              memory_order_relaxed);
    return snapshot;
}

void osm_snapshot_unref(struct osm_snapshot *snapshot)
{
    struct counted_snapshot *s = (struct counted_snapshot *)snapshot;
    if (!s || !drop(&s->refs))
        return;
    for (size_t i = 0; i < snapshot->proxies_len; i++) {
        struct osm_snapshot_proxy *p = &snapshot->proxies[i];
        osm_free((char *)(uintptr_t)p->key);
        osm_free((char *)(uintptr_t)p->pod);
        osm_free((char *)(uintptr_t)p->ns);
        osm_free((char *)(uintptr_t)p->account);
        osm_class_unref(p->cls);
    }
    osm_free(snapshot->proxies);
    json_decref(snapshot->rejects);
    json_decref(snapshot->errors);
    json_decref(snapshot->policy);
    json_decref(snapshot->host);
    osm_free(s);
}

static int key_against(const void *key, const void *proxy)
{
    return strcmp(key, ((const struct osm_snapshot_proxy *)proxy)->key);
}

const struct osm_snapshot_proxy *osm_snapshot_find(const struct osm_snapshot *snapshot,
                                                   const char *key)
{
    if (!snapshot->proxies_len)
        return NULL;
    return bsearch(key, snapshot->proxies, snapshot->proxies_len, sizeof *snapshot->proxies,
                   key_against);
}

static bool copy_proxy(struct osm_snapshot_proxy *to, const struct osm_snapshot_proxy *from,
                       struct osm_class *cls)
{
    *to = (struct osm_snapshot_proxy){osm_strdup(from->key), osm_strdup(from->pod),
                                      osm_strdup(from->ns), osm_strdup(from->account),
                                      osm_class_ref(cls)};
    return to->key && to->pod && to->ns && to->account;
}

static void take_reports(struct osm_snapshot *to, const struct osm_snapshot *from)
{
    to->rejects = json_incref(from->rejects);
    to->errors = json_incref(from->errors);
    to->policy = json_incref(from->policy);
    to->host = json_incref(from->host);
}

struct osm_snapshot *osm_snapshot_mix(const struct osm_snapshot *base,
                                      const struct osm_snapshot *other, osm_snapshot_pick_fn *pick,
                                      void *ud)
{
    struct osm_snapshot *mixed = osm_snapshot_new();
    if (!mixed)
        return NULL;
    mixed->proxies = osm_alloc_array(base->proxies_len, sizeof *mixed->proxies);
    bool ok = mixed->proxies;
    for (size_t i = 0; ok && i < base->proxies_len; i++) {
        const struct osm_snapshot_proxy *p = &base->proxies[i];
        const struct osm_snapshot_proxy *q =
            pick(ud, p->key) ? osm_snapshot_find(other, p->key) : NULL;
        ok = copy_proxy(&mixed->proxies[mixed->proxies_len++], p, q ? q->cls : p->cls);
    }
    take_reports(mixed, base);
    if (ok)
        return mixed;
    osm_snapshot_unref(mixed);
    return NULL;
}

struct osm_snapshot *osm_snapshot_remade(const struct osm_snapshot *base,
                                         osm_snapshot_remake_fn *remake, void *ud)
{
    struct osm_snapshot *made = osm_snapshot_new();
    if (!made)
        return NULL;
    made->proxies = osm_alloc_array(base->proxies_len, sizeof *made->proxies);
    bool ok = made->proxies;
    for (size_t i = 0; ok && i < base->proxies_len; i++) {
        struct osm_class *cls = remake(ud, &base->proxies[i]);
        ok = cls && copy_proxy(&made->proxies[made->proxies_len++], &base->proxies[i], cls);
        osm_class_unref(cls);
    }
    take_reports(made, base);
    if (ok)
        return made;
    osm_snapshot_unref(made);
    return NULL;
}
