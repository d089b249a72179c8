#include "whatif/snapshots.h"

#include "base/map.h"
#include "reload/compare.h"
#include "whatif/fields.h"

#include <stdlib.h>
#include <string.h>

enum { OPENED_TOLD_MAX = 20, HOST_FIELDS_MAX = 100, ENTRY_MAX_BYTES = 1 << 20 };

/* Proxies for which the same changes; of each pair of classes. */
struct group {
    size_t *changes; /* places; the key of the map */
    size_t len;
    char **proxies;
    size_t proxies_len;
};

struct diff {
    const struct osm_snapshot *served, *next;
    struct osm_resources *resources;
    struct osm_map pairs;  /* two classes -> group, or this: nothing changes */
    struct osm_map groups; /* changes -> struct group */
    json_t *appear, *leave;
    size_t proxies;
    unsigned guard_percent;
    struct osm_err *err;
};

static int no_memory(struct diff *d)
{
    return osm_fail(d->err, OSM_ENOMEM, "out of memory");
}

/* --- groups --- */

static void group_free(struct group *g)
{
    for (size_t i = 0; i < g->proxies_len; i++)
        osm_free(g->proxies[i]);
    osm_free(g->proxies);
    osm_free(g->changes);
    osm_free(g);
}

/* Whether a list of this length is full: lists grow to the next power of two. */
static bool is_full(size_t len)
{
    return !(len & (len - 1));
}

static size_t grown(size_t len)
{
    return len ? len * 2 : 1;
}

static int add_change(struct diff *d, struct group *g, size_t place)
{
    size_t *list = is_full(g->len)
                       ? osm_realloc_array(g->changes, grown(g->len), sizeof *g->changes)
                       : g->changes;
    if (!list)
        return no_memory(d);
    g->changes = list;
    list[g->len++] = place;
    return 0;
}

static int compare_type(struct diff *d, const struct osm_class *before,
                        const struct osm_class *after, enum osm_xds_type type, struct group *out)
{
    struct osm_resource *const *a = before->types[type].list, *const *b = after->types[type].list;
    size_t na = before->types[type].len, nb = after->types[type].len;
    int rc = 0;
    for (size_t i = 0, k = 0; !rc && (i < na || k < nb);) {
        int order = i == na ? 1 : k == nb ? -1 : strcmp(a[i]->name, b[k]->name);
        const struct osm_resource *old = order <= 0 ? a[i] : NULL, *now = order >= 0 ? b[k] : NULL;
        i += old != NULL;
        k += now != NULL;
        if (old && now && (old == now || !strcmp(old->version, now->version)))
            continue;
        size_t place = 0;
        rc = osm_resources_compare(d->resources, type, old, now, &place, d->err);
        if (!rc)
            rc = add_change(d, out, place);
    }
    return rc;
}

/* *out: the group of this pair of classes; NULL: nothing changes. */
static int group_of(struct diff *d, const struct osm_class *before, const struct osm_class *after,
                    struct group **out)
{
    const struct osm_class *pair[2] = {before, after};
    void *known = before == after ? d : osm_map_getn(&d->pairs, pair, sizeof pair);
    if (known) {
        *out = known == d ? NULL : known;
        return 0;
    }
    struct group *g = osm_alloc(sizeof *g);
    int rc = g ? 0 : no_memory(d);
    for (int t = 0; t < OSM_XDS_TYPE_COUNT && !rc; t++)
        rc = compare_type(d, before, after, (enum osm_xds_type)t, g);
    void *same =
        !rc && g->len ? osm_map_getn(&d->groups, g->changes, g->len * sizeof *g->changes) : NULL;
    if (!rc && g->len && !same &&
        osm_map_putn(&d->groups, g->changes, g->len * sizeof *g->changes, g, NULL))
        rc = no_memory(d);
    *out = rc || !g->len ? NULL : same ? same : g;
    if (!rc && osm_map_putn(&d->pairs, pair, sizeof pair, *out ? (void *)*out : d, NULL))
        rc = no_memory(d);
    if (g && !(g->len && osm_map_getn(&d->groups, g->changes, g->len * sizeof *g->changes) == g))
        group_free(g);
    return rc;
}

static char *name_of(const struct osm_snapshot_proxy *proxy)
{
    return osm_strf("%s/%s", proxy->ns, proxy->pod);
}

static int add_proxy(struct diff *d, struct group *g, const struct osm_snapshot_proxy *proxy)
{
    char *name = name_of(proxy);
    char **list = is_full(g->proxies_len)
                      ? osm_realloc_array(g->proxies, grown(g->proxies_len), sizeof *g->proxies)
                      : g->proxies;
    if (list)
        g->proxies = list;
    if (!name || !list) {
        osm_free(name);
        return no_memory(d);
    }
    list[g->proxies_len++] = name;
    return 0;
}

static int add_name(struct diff *d, json_t *list, const struct osm_snapshot_proxy *proxy)
{
    char *name = name_of(proxy);
    int rc = name ? json_array_append_new(list, json_string(name)) : -1;
    osm_free(name);
    return rc ? no_memory(d) : 0;
}

/* Both lists are sorted by key. */
static int compare_proxies(struct diff *d)
{
    const struct osm_snapshot_proxy *a = d->served->proxies, *b = d->next->proxies;
    size_t na = d->served->proxies_len, nb = d->next->proxies_len;
    int rc = 0;
    for (size_t i = 0, k = 0; !rc && (i < na || k < nb);) {
        int order = i == na ? 1 : k == nb ? -1 : strcmp(a[i].key, b[k].key);
        struct group *group = NULL;
        if (order)
            rc = order < 0 ? add_name(d, d->leave, &a[i]) : add_name(d, d->appear, &b[k]);
        else
            rc = group_of(d, a[i].cls, b[k].cls, &group);
        if (!rc && group)
            rc = add_proxy(d, group, &a[i]);
        d->proxies += !order;
        i += order <= 0;
        k += order >= 0;
    }
    return rc;
}

/* --- in order --- */

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int by_size(const void *a, const void *b)
{
    const struct group *x = *(struct group *const *)a, *y = *(struct group *const *)b;
    if (x->proxies_len != y->proxies_len)
        return x->proxies_len > y->proxies_len ? -1 : 1;
    return strcmp(x->proxies[0], y->proxies[0]);
}

static int by_json_text(const void *a, const void *b)
{
    return strcmp(json_string_value(*(json_t *const *)a), json_string_value(*(json_t *const *)b));
}

static int sort_names(struct diff *d, json_t **names)
{
    size_t n = json_array_size(*names), i;
    json_t **list = osm_alloc_array(n + 1, sizeof *list), *sorted = json_array(), *name;
    if (!list || !sorted) {
        osm_free(list);
        json_decref(sorted);
        return no_memory(d);
    }
    json_array_foreach (*names, i, name)
        list[i] = name;
    if (n)
        qsort(list, n, sizeof(json_t *), by_json_text);
    int rc = 0;
    for (i = 0; i < n && !rc; i++)
        rc = json_array_append(sorted, list[i]);
    osm_free(list);
    json_decref(*names);
    *names = sorted;
    return rc ? no_memory(d) : 0;
}

static json_t *group_json(struct group *g)
{
    json_t *proxies = json_array(), *changes = json_array();
    int rc = proxies && changes ? 0 : -1;
    qsort(g->proxies, g->proxies_len, sizeof *g->proxies, by_text);
    for (size_t i = 0; i < g->proxies_len && !rc; i++)
        rc = json_array_append_new(proxies, json_string(g->proxies[i]));
    for (size_t i = 0; i < g->len && !rc; i++)
        rc = json_array_append_new(changes, json_integer((json_int_t)g->changes[i]));
    if (!rc)
        return json_pack("{s:o, s:o}", "proxies", proxies, "changes", changes);
    json_decref(proxies);
    json_decref(changes);
    return NULL;
}

static json_t *groups_json(struct diff *d)
{
    json_t *out = json_array();
    struct group **list = osm_alloc_array(d->groups.count + 1, sizeof *list);
    size_t n = 0;
    int rc = out && list ? 0 : -1;
    osm_map_each (&d->groups, e) {
        struct group *g = e->value;
        if (rc)
            break;
        qsort(g->proxies, g->proxies_len, sizeof *g->proxies, by_text);
        list[n++] = g;
    }
    if (n)
        qsort(list, n, sizeof(struct group *), by_size);
    for (size_t i = 0; i < n && !rc; i++)
        rc = json_array_append_new(out, group_json(list[i]));
    osm_free(list);
    if (!rc)
        return out;
    json_decref(out);
    return NULL;
}

/* --- what is reported beside the resources --- */

static int add_text(const char *text, size_t len, void *buf)
{
    return osm_buf_add(buf, text, len);
}

/* What tells one report from another: where it comes from may move. */
static int key_of(const json_t *report, struct osm_buf *out)
{
    static const char *const fields[] = {"object", "path", "reason", "where", "message", NULL};
    osm_buf_reset(out);
    for (size_t i = 0; fields[i]; i++) {
        const json_t *value = json_object_get(report, fields[i]);
        if (value && json_dump_callback(value, add_text, out, JSON_COMPACT | JSON_ENCODE_ANY))
            return OSM_ENOMEM;
        (void)osm_buf_add_char(out, '\n');
    }
    return out->failed;
}

/* Those of @p list that are not in @p others. NULL: no memory. */
static json_t *missing_in(const json_t *list, const json_t *others)
{
    struct osm_map known = OSM_MAP_INIT;
    struct osm_buf key = OSM_BUF_INIT(ENTRY_MAX_BYTES);
    json_t *out = json_array(), *report;
    size_t i;
    int rc = out ? 0 : OSM_ENOMEM;
    json_array_foreach ((json_t *)(uintptr_t)others, i, report) {
        rc = rc ? rc : key_of(report, &key);
        rc = rc ? rc : osm_map_putn(&known, key.data, key.len, &known, NULL);
    }
    json_array_foreach ((json_t *)(uintptr_t)list, i, report) {
        rc = rc ? rc : key_of(report, &key);
        if (!rc && !osm_map_getn(&known, key.data, key.len))
            rc = json_array_append(out, report);
    }
    osm_buf_clear(&key);
    osm_map_clear(&known);
    if (!rc)
        return out;
    json_decref(out);
    return NULL;
}

static json_t *daemon_fields(const struct diff *d)
{
    json_t *out = json_array();
    size_t more = 0;
    if (out && !osm_fields_diff(d->served->host, d->next->host, "", out, HOST_FIELDS_MAX, &more))
        return out;
    json_decref(out);
    return NULL;
}

static int guards_of(struct diff *d, json_t **out)
{
    struct osm_comparison found;
    int rc = osm_compare(&found, d->served, d->next, d->err);
    if (rc)
        return rc;
    *out = osm_comparison_reasons(&found, d->guard_percent, OPENED_TOLD_MAX);
    osm_comparison_clear(&found);
    return *out ? 0 : no_memory(d);
}

static int put_all(struct diff *d, json_t **out)
{
    json_t *guards = NULL;
    int rc = guards_of(d, &guards);
    if (rc)
        return rc;
    json_t *made = json_pack("{s:O, s:o, s:O, s:O, s:I, s:o, s:o, s:o, s:o, s:o, s:o}", "changes",
                             osm_resources_told(d->resources), "groups", groups_json(d), "appear",
                             d->appear, "leave", d->leave, "proxies", (json_int_t)d->proxies,
                             "rejected", missing_in(d->next->rejects, d->served->rejects),
                             "accepted", missing_in(d->served->rejects, d->next->rejects), "errors",
                             missing_in(d->next->errors, d->served->errors), "fixed",
                             missing_in(d->served->errors, d->next->errors), "daemon",
                             daemon_fields(d), "guards", guards);
    static const char *const lists[] = {"changes",  "appear", "leave", "rejected",
                                        "accepted", "errors", "fixed", "daemon"};
    bool differs = false;
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        differs = differs || json_array_size(json_object_get(made, lists[i]));
    if (!made || json_object_set_new(made, "differs", json_boolean(differs))) {
        json_decref(made);
        return no_memory(d);
    }
    *out = made;
    return 0;
}

int osm_snapshots_diff(const struct osm_snapshot *served, const struct osm_snapshot *next,
                       const struct osm_resources_limits *limits, unsigned guard_percent,
                       json_t **out, struct osm_err *err)
{
    struct osm_err own = {0};
    struct diff d = {.served = served,
                     .next = next,
                     .resources = osm_resources_new(limits),
                     .appear = json_array(),
                     .leave = json_array(),
                     .guard_percent = guard_percent,
                     .err = &own};
    int rc = d.resources && d.appear && d.leave ? 0 : no_memory(&d);
    if (!rc)
        rc = compare_proxies(&d);
    if (!rc)
        rc = sort_names(&d, &d.appear);
    if (!rc)
        rc = sort_names(&d, &d.leave);
    if (!rc)
        rc = put_all(&d, out);
    osm_map_each (&d.groups, e)
        group_free(e->value);
    osm_map_clear(&d.groups);
    osm_map_clear(&d.pairs);
    osm_resources_free(d.resources);
    json_decref(d.appear);
    json_decref(d.leave);
    return rc ? osm_fail(err, rc, "%s", own.msg) : 0;
}
