#include "reload/compare.h"

#include "base/json.h"
#include "base/map.h"
#include "policy/encode/proto.h"

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

/* --- who is let in, by the chains of an inbound listener --- */

static const char anybody[] = "anybody";

static json_t *decode(const struct osm_resource *listener, struct osm_err *err)
{
    json_t *out = NULL;
    int rc =
        osm_proto_decode(osm_proto_find(osm_xds_type_message(OSM_XDS_LDS)),
                         osm_bytes_data(listener->body), osm_bytes_len(listener->body), &out, err);
    return rc ? NULL : out;
}

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

/* {chain name: {principal: true}} of a listener for arriving connections; {} of any other. */
static json_t *let_in(const struct osm_resource *listener, struct osm_err *err)
{
    json_t *out = json_object();
    json_t *message = listener ? decode(listener, err) : json_object();
    size_t i;
    const json_t *chain;
    bool failed = !out || !message;
    bool inbound = !strcmp(osm_json_text(message, "traffic_direction"), "INBOUND");
    json_array_foreach (inbound ? json_object_get(message, "filter_chains") : NULL, i, chain) {
        const char *name = osm_json_text(chain, "name");
        json_t *set = json_object_get(out, name);
        if (failed)
            break;
        if (!set) {
            set = json_object();
            failed = json_object_set_new(out, name, set) != 0;
        }
        failed = failed || add_principals(set, chain);
    }
    json_decref(message);
    if (!failed)
        return out;
    json_decref(out);
    if (err && !err->code)
        (void)osm_fail(err, OSM_ENOMEM, "out of memory");
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

static int compare_doors(struct osm_comparison *out, const struct osm_resource *before,
                         const struct osm_resource *after, struct osm_err *err)
{
    json_t *old = let_in(before, err), *now = old ? let_in(after, err) : NULL;
    const char *chain, *who;
    json_t *set, *unused;
    int rc = old && now ? 0 : OSM_EPARSE;
    json_object_foreach (now, chain, set) {
        const json_t *were = json_object_get(old, chain);
        if (json_object_get(were, anybody))
            continue;
        json_object_foreach (set, who, unused)
            if (!rc && !json_object_get(were, who) && add_opened(out, who, chain))
                rc = osm_fail(err, OSM_ENOMEM, "out of memory");
    }
    json_decref(old);
    json_decref(now);
    return rc;
}

/* --- resources --- */

static int compare_type(struct osm_comparison *out, struct counts *counts, const struct pair *pair,
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
            rc = compare_doors(out, order ? NULL : a[i], b[k], err);
        i += order <= 0;
        k += order >= 0;
    }
    counts->before += na;
    return rc;
}

static struct counts *counts_of(struct osm_map *pairs, struct osm_comparison *out,
                                const struct pair *pair, struct osm_err *err)
{
    struct counts *counts = osm_map_getn(pairs, pair, sizeof *pair);
    if (counts)
        return counts;
    counts = osm_alloc(sizeof *counts);
    if (!counts || osm_map_putn(pairs, pair, sizeof *pair, counts, NULL)) {
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
        if (compare_type(out, counts, pair, (enum osm_xds_type)t, err))
            return NULL;
    return counts;
}

int osm_compare(struct osm_comparison *out, const struct osm_snapshot *served,
                const struct osm_snapshot *candidate, struct osm_err *err)
{
    struct osm_map pairs = OSM_MAP_INIT;
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
        const struct counts *counts = counts_of(&pairs, out, &pair, err);
        if (!counts) {
            rc = err && err->code ? err->code : OSM_ENOMEM;
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
    osm_map_each (&pairs, e)
        osm_free(e->value);
    osm_map_clear(&pairs);
    if (rc)
        osm_comparison_clear(out);
    return rc;
}

void osm_comparison_clear(struct osm_comparison *c)
{
    json_decref(c->opened);
    *c = (struct osm_comparison){0};
}
