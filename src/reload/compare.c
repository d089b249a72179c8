#include "reload/compare.h"

#include "base/json.h"
#include "base/map.h"
#include "policy/encode/proto.h"
#include "xds/parts.h"

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
    struct osm_map doors; /* listener before, after -> this: looked at */
};

/* --- who is let in, by the chains of an inbound listener --- */

static const char anybody[] = "anybody";

/* Another form of principal than ours is taken for anybody: it may hold whom it likes. */
static const char *name_of(const json_t *principal)
{
    const json_t *name =
        json_object_get(json_object_get(principal, "authenticated"), "principal_name");
    const char *exact = json_string_value(json_object_get(name, "exact"));
    return json_object_size(principal) == 1 && exact ? exact : anybody;
}

/* Adds whom a chain lets connect to the set @p out. A filter of RBAC lets in whom its policies
 * name; no such filter: anybody. */
static int add_principals(json_t *out, const json_t *chain)
{
    static const char rbac_type[] = "envoy.extensions.filters.network.rbac.v3.RBAC";
    size_t i, k;
    const json_t *filter, *policy, *principal;
    const char *policy_name;
    bool guarded = false;
    int rc = 0;
    json_array_foreach (json_object_get(chain, "filters"), i, filter) {
        const json_t *config = json_object_get(filter, "typed_config");
        const char *type = osm_json_text(config, "@type"), *slash = strrchr(type, '/');
        const json_t *rules = json_object_get(config, "rules");
        if (strcmp(slash ? slash + 1 : type, rbac_type) != 0 || !rules)
            continue;
        const char *action = osm_json_text(rules, "action");
        guarded = guarded || !*action || !strcmp(action, "ALLOW");
        json_object_foreach (json_object_get(rules, "policies"), policy_name, policy) {
            json_array_foreach (json_object_get(policy, "principals"), k, principal)
                rc |= json_object_set_new(out, name_of(principal), json_true());
        }
    }
    if (!guarded)
        rc |= json_object_set_new(out, anybody, json_true());
    return rc ? OSM_ENOMEM : 0;
}

/* {principal: true} of the chain of this name; {} where there is none. */
static json_t *let_in(const struct osm_parts *listener, const char *name, struct osm_err *err)
{
    const char *message = NULL;
    (void)osm_parts_field(OSM_XDS_LDS, &message);
    json_t *out = json_object();
    int rc = out ? 0 : osm_fail(err, OSM_ENOMEM, "out of memory");
    for (size_t i = 0; i < listener->len && !rc; i++) {
        const struct osm_part *part = &listener->list[i];
        json_t *chain = NULL;
        if (strcmp(part->name, name) != 0)
            continue;
        rc = osm_proto_decode(osm_proto_find(message), part->data, part->len, &chain, err);
        if (!rc && add_principals(out, chain))
            rc = osm_fail(err, OSM_ENOMEM, "out of memory");
        json_decref(chain);
    }
    if (!rc)
        return out;
    json_decref(out);
    return NULL;
}

static int add_opened(struct osm_comparison *out, const char *who, const char *chain)
{
    char *text = osm_strf("%s -> chain \"%s\"", who, chain);
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

static int compare_chain(struct osm_comparison *out, const struct osm_parts *before,
                         const struct osm_parts *after, const char *chain, struct osm_err *err)
{
    json_t *were = let_in(before, chain, err), *are = were ? let_in(after, chain, err) : NULL;
    const char *who;
    json_t *unused;
    int rc = were && are ? 0 : err->code;
    if (!rc && !json_object_get(were, anybody)) {
        json_object_foreach (are, who, unused)
            if (!rc && !json_object_get(were, who) && add_opened(out, who, chain))
                rc = osm_fail(err, OSM_ENOMEM, "out of memory");
    }
    json_decref(were);
    json_decref(are);
    return rc;
}

/* No chain of what is not inbound lets anybody in. */
static int take_apart(struct osm_parts *out, const struct osm_resource *listener,
                      struct osm_err *err)
{
    *out = (struct osm_parts){0};
    int rc = listener ? osm_parts_of(out, OSM_XDS_LDS, listener->body) : 0;
    if (rc)
        return osm_fail(err, rc, "listener %s: %s", listener->name, osm_code_text(rc));
    if (out->direction != OSM_PARTS_INBOUND)
        osm_parts_clear(out);
    return 0;
}

static int compare_doors(struct comparing *c, const struct osm_resource *before,
                         const struct osm_resource *after, struct osm_err *err)
{
    const struct osm_resource *key[] = {before, after};
    struct osm_parts old = {0}, now = {0};
    if (osm_map_getn(&c->doors, key, sizeof key))
        return 0; /* proxies share listeners */
    int rc = osm_map_putn(&c->doors, key, sizeof key, c, NULL) ? OSM_ENOMEM : 0;
    if (rc)
        return osm_fail(err, rc, "out of memory");
    rc = take_apart(&old, before, err);
    if (!rc)
        rc = take_apart(&now, after, err);
    for (size_t i = 0; i < now.len && !rc; i++) {
        const struct osm_part *was = osm_parts_find(&old, now.list[i].name);
        bool again = i && !strcmp(now.list[i - 1].name, now.list[i].name);
        if (!again && !(was && osm_part_same(was, &now.list[i])))
            rc = compare_chain(c->out, &old, &now, now.list[i].name, err);
    }
    osm_parts_clear(&old);
    osm_parts_clear(&now);
    return rc;
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
        if (type == OSM_XDS_LDS && order >= 0 && differs)
            rc = compare_doors(c, order ? NULL : a[i], b[k], err);
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
