#include "reload/compare.h"

#include "base/map.h"
#include "reload/doors.h"

#include <stdio.h>
#include <string.h>

/* Proxies share classes: each pair of them is looked at once. */
struct pair {
    const struct osm_class *served, *candidate;
};
struct counts {
    size_t before, vanished, changed, added;
    bool bare;
};

struct comparing {
    struct osm_comparison *out;
    struct osm_map pairs; /* struct pair -> struct counts */
    struct osm_map doors; /* listener or route table, before and after -> this: looked at */
};

static int add_opened(void *ud, const char *who, const char *door)
{
    struct osm_comparison *out = ud;
    char *text = osm_strf("%s -> %s", who, door);
    int rc = text ? 0 : OSM_ENOMEM;
    if (!rc && !json_object_get(out->opened, text)) {
        if (json_object_size(out->opened) < OSM_OPENED_MAX)
            rc = json_object_set_new(out->opened, text, json_true()) ? OSM_ENOMEM : 0;
        else
            out->opened_more++;
    }
    osm_free(text);
    return rc;
}

static int compare_doors(struct comparing *c, enum osm_xds_type type,
                         const struct osm_resource *before, const struct osm_resource *after,
                         struct osm_err *err)
{
    const struct osm_resource *key[] = {before, after};
    bool routes = type == OSM_XDS_RDS;
    bool doors = routes ? after->authorises || (before && before->authorises) : type == OSM_XDS_LDS;
    if (!doors || osm_map_getn(&c->doors, key, sizeof key))
        return 0; /* proxies share listeners */
    if (osm_map_putn(&c->doors, key, sizeof key, c, NULL))
        return osm_fail(err, OSM_ENOMEM, "out of memory");
    return (routes ? osm_doors_of_routes : osm_doors_of_listener)(before, after, add_opened, c->out,
                                                                  err);
}

/* --- resources --- */

static int compare_type(struct comparing *c, struct counts *counts, const struct pair *pair,
                        enum osm_xds_type type, struct osm_err *err)
{
    struct osm_resource *const *a = pair->served->types[type].list;
    struct osm_resource *const *b = pair->candidate->types[type].list;
    size_t na = pair->served->types[type].len, nb = pair->candidate->types[type].len;
    int rc = 0;
    for (size_t i = 0, k = 0; !rc && (i < na || k < nb);) {
        int order = i == na ? 1 : k == nb ? -1 : strcmp(a[i]->name, b[k]->name);
        bool differs = order || strcmp(a[i]->version, b[k]->version) != 0;
        counts->vanished += order < 0;
        counts->added += order > 0;
        counts->changed += !order && differs;
        if (order >= 0 && differs)
            rc = compare_doors(c, type, order ? NULL : a[i], b[k], err);
        i += order <= 0;
        k += order >= 0;
    }
    counts->before += na;
    return rc;
}

static struct counts *counts_of(struct comparing *c, const struct pair *pair, struct osm_err *err)
{
    struct counts *counts = osm_map_getn(&c->pairs, pair, sizeof *pair);
    if (counts)
        return counts;
    counts = osm_alloc(sizeof *counts);
    if (!counts || osm_map_putn(&c->pairs, pair, sizeof *pair, counts, NULL)) {
        osm_free(counts);
        (void)osm_fail(err, OSM_ENOMEM, "out of memory");
        return NULL;
    }
    if (pair->served == pair->candidate) {
        for (int t = 0; t < OSM_XDS_TYPE_COUNT; t++)
            counts->before += pair->served->types[t].len;
        return counts;
    }
    counts->bare = pair->served->types[OSM_XDS_LDS].len && !pair->candidate->types[OSM_XDS_LDS].len;
    for (int t = 0; t < OSM_XDS_TYPE_COUNT; t++)
        if (compare_type(c, counts, pair, (enum osm_xds_type)t, err))
            return NULL;
    return counts;
}

int osm_compare(struct osm_comparison *out, const struct osm_snapshot *served,
                const struct osm_snapshot *candidate, struct osm_err *err)
{
    struct comparing c = {.out = out, .pairs = OSM_MAP_INIT, .doors = OSM_MAP_INIT};
    struct osm_err own = {0};
    int rc = 0;
    *out = (struct osm_comparison){.opened = json_object()};
    if (!out->opened)
        return osm_fail(err, OSM_ENOMEM, "out of memory");
    for (size_t i = 0; i < served->proxies_len && !rc; i++) {
        const struct osm_snapshot_proxy *a = &served->proxies[i];
        const struct osm_snapshot_proxy *b = osm_snapshot_find(candidate, a->key);
        if (!b)
            continue;
        const struct pair pair = {a->cls, b->cls};
        const struct counts *counts = counts_of(&c, &pair, &own);
        if (!counts) {
            rc = osm_fail(err, own.code ? own.code : OSM_ENOMEM, "%s", own.msg);
            break;
        }
        out->proxies++;
        out->changed_proxies += counts->vanished || counts->changed || counts->added;
        out->before += counts->before;
        out->vanished += counts->vanished;
        out->changed += counts->changed;
        out->added += counts->added;
        if (counts->bare && !out->bare++)
            (void)snprintf(out->bare_one, sizeof out->bare_one, "%s/%s", a->ns, a->pod);
    }
    osm_map_each (&c.pairs, e)
        osm_free(e->value);
    osm_map_clear(&c.pairs);
    osm_map_clear(&c.doors);
    if (rc)
        osm_comparison_clear(out);
    return rc;
}

void osm_comparison_clear(struct osm_comparison *c)
{
    json_decref(c->opened);
    *c = (struct osm_comparison){0};
}

/* --- whether somebody should look first --- */

static int add_reason(json_t *reasons, char *text)
{
    int rc = text ? json_array_append_new(reasons, json_string(text)) : -1;
    osm_free(text);
    return rc;
}

json_t *osm_comparison_reasons(const struct osm_comparison *found, unsigned percent, size_t max)
{
    json_t *reasons = json_array(), *unused;
    const char *pair;
    size_t more = found->opened_more;
    int rc = reasons ? 0 : -1;
    if (found->before && found->vanished * 100 > found->before * percent)
        rc |= add_reason(reasons, osm_strf("takes away %zu of %zu resources, more than %u %%",
                                           found->vanished, found->before, percent));
    if (found->bare == 1)
        rc |= add_reason(reasons, osm_strf("%s loses all its listeners", found->bare_one));
    else if (found->bare)
        rc |= add_reason(reasons, osm_strf("%zu proxies lose all their listeners, the first is %s",
                                           found->bare, found->bare_one));
    json_object_foreach (found->opened, pair, unused) {
        if (json_array_size(reasons) < max)
            rc |= add_reason(reasons, osm_strf("lets in who is denied today: %s", pair));
        else
            more++;
    }
    if (more)
        rc |= add_reason(reasons, osm_strf("and %zu more who are denied today", more));
    if (!rc)
        return reasons;
    json_decref(reasons);
    return NULL;
}
