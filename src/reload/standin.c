#include "reload/standin.h"

#include "base/map.h"
#include "xds/denial.h"

#include <stdio.h>
#include <string.h>

struct osm_standin {
    struct osm_snapshot *snapshot;
    struct osm_map stale; /* "proxy TYPE name" -> this */
    bool all_stale;       /* it is not known what is not */
};

struct osm_standin *osm_standin_new(void)
{
    return osm_alloc(sizeof(struct osm_standin));
}

void osm_standin_free(struct osm_standin *s)
{
    if (!s)
        return;
    osm_snapshot_unref(s->snapshot);
    osm_map_clear(&s->stale);
    osm_free(s);
}

void osm_standin_said(struct osm_standin *s, struct osm_snapshot *snapshot, bool current)
{
    bool first = !s->snapshot;
    osm_snapshot_unref(s->snapshot);
    s->snapshot = osm_snapshot_ref(snapshot);
    if (current)
        osm_map_clear(&s->stale);
    s->all_stale = !current && (first || s->all_stale);
}

static char *key_of(const char *proxy, enum osm_xds_type type, const char *name)
{
    return osm_strf("%s %s %s", proxy, osm_xds_type_short(type), name);
}

static void note(struct osm_standin *s, const char *proxy, enum osm_xds_type type, const char *name)
{
    char *key = key_of(proxy, type, name);
    s->all_stale = s->all_stale || !key || osm_map_put(&s->stale, key, s, NULL);
    osm_free(key);
}

static bool is_stale(const struct osm_standin *s, const char *proxy, enum osm_xds_type type,
                     const char *name)
{
    char *key = s->all_stale ? NULL : key_of(proxy, type, name);
    bool stale = !key || osm_map_has(&s->stale, key);
    osm_free(key);
    return stale;
}

/* Both ways: what has come to authorise somebody has changed as well. */
static void note_changes(struct osm_standin *s, const char *proxy, const struct osm_class *from,
                         const struct osm_class *to)
{
    for (int t = 0; from && t < OSM_XDS_TYPE_COUNT; t++) {
        enum osm_xds_type type = (enum osm_xds_type)t;
        for (size_t i = 0; i < from->types[t].len; i++) {
            const struct osm_resource *r = from->types[t].list[i],
                                      *q = to ? osm_class_find(to, type, r->name) : NULL;
            if (r->authorises && (!q || strcmp(q->version, r->version) != 0))
                note(s, proxy, type, r->name);
        }
    }
}

void osm_standin_changed(struct osm_standin *s, const struct osm_snapshot *before,
                         const struct osm_snapshot *after)
{
    for (size_t i = 0; i < before->proxies_len; i++) {
        const struct osm_snapshot_proxy *p = &before->proxies[i],
                                        *q = osm_snapshot_find(after, p->key);
        if (!q || q->cls != p->cls)
            note_changes(s, p->key, p->cls, q ? q->cls : NULL);
    }
    for (size_t i = 0; i < after->proxies_len; i++) {
        const struct osm_snapshot_proxy *q = &after->proxies[i],
                                        *p = osm_snapshot_find(before, q->key);
        if (!p || p->cls != q->cls)
            note_changes(s, q->key, q->cls, p ? p->cls : NULL);
    }
}

/* --- serving --- */

struct making {
    const struct osm_standin *standin;
    const struct osm_snapshot *newer;
};

/* What is served in the place of a resource: a reference in *out, NULL: nothing. */
static int substitute(const struct making *m, const struct osm_snapshot_proxy *proxy,
                      enum osm_xds_type type, struct osm_resource *r, struct osm_resource **out)
{
    const struct osm_snapshot_proxy *now = NULL;
    struct osm_resource *today = NULL;
    *out = NULL;
    if (!r->authorises || !is_stale(m->standin, proxy->key, type, r->name)) {
        *out = osm_resource_ref(r);
    } else if (type == OSM_XDS_RDS) {
        *out = osm_denial_routes(r->name);
        return *out ? 0 : OSM_ENOMEM;
    } else if (type == OSM_XDS_SDS) {
        now = osm_snapshot_find(m->newer, proxy->key);
        today = now ? osm_class_find(now->cls, type, r->name) : NULL;
        *out = today ? osm_resource_ref(today) : NULL;
    }
    return 0;
}

static bool has_stale(const struct making *m, const struct osm_snapshot_proxy *proxy)
{
    for (int t = 0; t < OSM_XDS_TYPE_COUNT; t++)
        for (size_t i = 0; i < proxy->cls->types[t].len; i++) {
            const struct osm_resource *r = proxy->cls->types[t].list[i];
            if (r->authorises && is_stale(m->standin, proxy->key, (enum osm_xds_type)t, r->name))
                return true;
        }
    return false;
}

static struct osm_class *remake(void *ud, const struct osm_snapshot_proxy *proxy)
{
    const struct making *m = ud;
    if (!has_stale(m, proxy))
        return osm_class_ref(proxy->cls);
    struct osm_class *cls = osm_class_new();
    for (int t = 0; cls && t < OSM_XDS_TYPE_COUNT; t++) {
        size_t len = proxy->cls->types[t].len;
        cls->types[t].list = osm_alloc_array(len, sizeof(struct osm_resource *));
        int rc = cls->types[t].list ? 0 : OSM_ENOMEM;
        for (size_t i = 0; !rc && i < len; i++) {
            struct osm_resource *r;
            rc = substitute(m, proxy, (enum osm_xds_type)t, proxy->cls->types[t].list[i], &r);
            if (r)
                cls->types[t].list[cls->types[t].len++] = r;
        }
        if (rc) {
            osm_class_unref(cls);
            cls = NULL;
        }
    }
    return cls;
}

struct osm_snapshot *osm_standin_snapshot(const struct osm_standin *s,
                                          const struct osm_snapshot *newer)
{
    struct making m = {s, newer};
    return s->snapshot ? osm_snapshot_remade(s->snapshot, remake, &m) : NULL;
}
