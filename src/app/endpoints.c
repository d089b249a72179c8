/* The debug endpoints: those of Open Service Mesh, in JSON, and our own beside them. Nothing here
 * waits for the policies, so all of it works while they are stuck. */
#include "app/endpoints.h"

#include "app/ca_reload.h"
#include "app/commands.h"
#include "app/http.h"
#include "app/leaves.h"
#include "app/listing.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/map.h"
#include "debug/profile.h"

#include <stdlib.h>
#include <string.h>

static const char MONITORED_BY[] = "openservicemesh.io/monitored-by";

static void out_of_memory(struct osm_http_request *request)
{
    osm_http_reply_text(request, 500, "out of memory");
}

/* --- names, sorted --- */

static json_t *sorted(const struct osm_map *names)
{
    size_t n;
    json_t *list = json_array();
    const char **keys = osm_map_sorted_keys(names, &n);
    for (size_t i = 0; list && keys && i < n; i++)
        (void)json_array_append_new(list, json_string(keys[i]));
    if (!keys && names->count) {
        json_decref(list);
        list = NULL;
    }
    osm_free(keys);
    return list;
}

/* --- the MeshConfig --- */

static const struct osm_object *mesh_config(const struct osm_app *app)
{
    char *key = osm_strf("config.openservicemesh.io/MeshConfig/%s/osm-mesh-config",
                         app->config.osm_namespace);
    const struct osm_object *found = key ? osm_store_get(app->store, key) : NULL;
    osm_free(key);
    return found;
}

static bool has_no_effect(const struct osm_app *app, const char *flag)
{
    size_t i;
    json_t *reject;
    char *path = osm_strf("spec.featureFlags.%s", flag);
    bool found = !path;
    json_array_foreach (app->snapshot ? app->snapshot->rejects : NULL, i, reject)
        found = found || (!strcmp(osm_json_text(reject, "path"), path) &&
                          !strncmp(osm_json_text(reject, "object"), "MeshConfig ", 11));
    osm_free(path);
    return found;
}

json_t *osm_app_feature_flags(const struct osm_app *app)
{
    const struct osm_object *config = mesh_config(app);
    json_t *flags = json_object(), *value;
    const json_t *asked = config ? osm_json_at(config->body, "spec", "featureFlags", NULL) : NULL;
    const char *name;
    json_object_foreach ((json_t *)(uintptr_t)asked, name, value)
        if (json_is_boolean(value))
            (void)json_object_set_new(
                flags, name, json_boolean(json_is_true(value) && !has_no_effect(app, name)));
    return flags;
}

static void feature_flags(void *ud, struct osm_http_request *request)
{
    osm_http_reply_json(request, 200, osm_app_feature_flags(ud));
}

static void config(void *ud, struct osm_http_request *request)
{
    const struct osm_object *found = mesh_config(ud);
    if (!found)
        osm_http_reply_text(request, 404, "there is no MeshConfig osm-mesh-config");
    else
        osm_http_reply_json(request, 200, json_incref((json_t *)(uintptr_t)found->body));
}

/* --- objects --- */

struct gathering {
    const struct osm_app *app;
    struct osm_map names;
    const char *kind; /* with its group; NULL: see below */
    bool failed;
};

static void gather_namespace(void *ud, struct osm_object *object)
{
    struct gathering *g = ud;
    const char *by = object->kind[0] == 'N' && osm_object_is(object, "", "Namespace")
                         ? osm_json_str_at(object->body, "metadata", "labels", MONITORED_BY, NULL)
                         : NULL;
    if (by && !strcmp(by, g->app->config.mesh_name) &&
        osm_map_put(&g->names, object->name, object, NULL))
        g->failed = true;
}

json_t *osm_app_namespaces(const struct osm_app *app)
{
    struct gathering g = {.app = app};
    osm_store_each(app->store, gather_namespace, &g);
    json_t *list = g.failed ? NULL : sorted(&g.names);
    osm_map_clear(&g.names);
    return list;
}

static void namespaces(void *ud, struct osm_http_request *request)
{
    json_t *list = osm_app_namespaces(ud);
    osm_http_reply_json(request, 200, list ? json_pack("{s:o}", "namespaces", list) : NULL);
}

/* Of SMI whatever its API groups are called: "split.smi-spec.io". */
static void gather_kind(void *ud, struct osm_object *object)
{
    struct gathering *g = ud;
    if (!strcmp(object->kind, g->kind) &&
        (strstr(object->group, "smi-spec.io") || (!object->group[0] && g->kind[0] == 'S')) &&
        osm_map_put(&g->names, object->key, object, NULL))
        g->failed = true;
}

static json_t *keys_of(const struct osm_app *app, const char *kind)
{
    struct gathering g = {.app = app, .kind = kind};
    osm_store_each(app->store, gather_kind, &g);
    json_t *list = g.failed ? NULL : sorted(&g.names);
    osm_map_clear(&g.names);
    return list;
}

static json_t *object_of(const struct osm_app *app, const char *key)
{
    const struct osm_object *object = osm_store_get(app->store, key);
    return object ? json_incref((json_t *)(uintptr_t)object->body) : NULL;
}

/* As Open Service Mesh named them: accounts by namespace and name alone. */
static json_t *account_of(const struct osm_app *app, const char *key)
{
    const struct osm_object *object = osm_store_get(app->store, key);
    return object ? json_pack("{s:s, s:s}", "Namespace", object->ns, "Name", object->name) : NULL;
}

static void policies(void *ud, struct osm_http_request *request)
{
    const struct osm_app *app = ud;
    const struct osm_listing lists[] = {
        {"traffic_splits", keys_of(app, "TrafficSplit"), object_of},
        {"service_accounts", keys_of(app, "ServiceAccount"), account_of},
        {"route_groups", keys_of(app, "HTTPRouteGroup"), object_of},
        {"traffic_targets", keys_of(app, "TrafficTarget"), object_of},
    };
    osm_listing_reply(request, app, lists, sizeof lists / sizeof *lists);
}

/* --- certificates --- */

static json_t *certificate_of(const struct osm_app *app, const char *key)
{
    struct osm_leaf_view leaf;
    if (!app->leaves || !osm_leaves_look(app->leaves, key, &leaf))
        return NULL;
    return json_pack("{s:s, s:s?, s:I, s:I, s:I, s:b}", "common_name", leaf.common_name, "version",
                     leaf.version, "not_after", (json_int_t)leaf.not_after, "remaining_s",
                     (json_int_t)(leaf.version ? leaf.not_after - osm_wall_s() : 0), "renewed_at",
                     (json_int_t)leaf.renew_at, "signing", leaf.signing);
}

static json_t *ads_certificate(const struct osm_app *app, const char *key)
{
    (void)key;
    int64_t not_after = osm_leaf_not_after(app->ads_leaf);
    return json_pack("{s:o, s:s, s:I, s:I}", "common_name",
                     json_sprintf("ads.%s", app->config.trust_domain), "serial",
                     osm_leaf_serial(app->ads_leaf), "not_after", (json_int_t)not_after,
                     "remaining_s", (json_int_t)(not_after - osm_wall_s()));
}

static json_t *roots(const struct osm_app *app, const char *key)
{
    (void)key;
    return osm_ca_status(app->ca);
}

static void certs(void *ud, struct osm_http_request *request)
{
    const struct osm_app *app = ud;
    const struct osm_listing lists[] = {
        {"roots", json_pack("[s]", "root"), roots},
        {"ads", json_pack("[s]", "ads"), ads_certificate},
        {"service", app->leaves ? osm_leaves_keys(app->leaves) : json_array(), certificate_of},
    };
    osm_listing_reply(request, app, lists, sizeof lists / sizeof *lists);
}

/* --- proxies --- */

/* Those that have, or had, a stream, and those whose pods should have one. */
static json_t *all_proxies(const struct osm_app *app)
{
    struct osm_map names = OSM_MAP_INIT;
    size_t n = 0;
    char(*known)[OSM_PROXY_KEY_SIZE] = app->ads ? osm_ads_known(app->ads, &n) : NULL;
    bool failed = app->ads && !known;
    for (size_t i = 0; i < n && !failed; i++)
        failed = osm_map_put(&names, known[i], known, NULL) != 0;
    for (size_t i = 0; app->snapshot && i < app->snapshot->proxies_len && !failed; i++)
        failed = osm_map_put(&names, app->snapshot->proxies[i].key, known, NULL) != 0;
    json_t *list = failed ? NULL : sorted(&names);
    osm_map_clear(&names);
    osm_free(known);
    return list;
}

size_t osm_app_missing(const struct osm_app *app)
{
    size_t n = 0;
    for (size_t i = 0; app->snapshot && app->ads && i < app->snapshot->proxies_len; i++)
        n += !osm_ads_connected(app->ads, app->snapshot->proxies[i].key);
    return n;
}

static json_t *times_of(const uint32_t *at_s)
{
    json_t *list = json_array();
    for (size_t i = 0; i < OSM_ADS_TIMES && at_s[i]; i++)
        (void)json_array_append_new(list, json_integer(at_s[i]));
    return list;
}

static json_t *traffic_of(const struct osm_app *app, const char *proxy)
{
    struct osm_ads_figures figures;
    if (!app->ads || !osm_ads_figures(app->ads, proxy, &figures))
        return NULL;
    json_t *types = json_object();
    for (int t = 0; t < OSM_XDS_TYPE_COUNT; t++) {
        const struct osm_ads_counts *counts = &figures.types[t];
        if (counts->sent || counts->not_sent || counts->requests)
            (void)json_object_set_new(
                types, osm_xds_type_short((enum osm_xds_type)t),
                json_pack("{s:I, s:I, s:I, s:o}", "sent", (json_int_t)counts->sent, "not_sent",
                          (json_int_t)counts->not_sent, "requests", (json_int_t)counts->requests,
                          "sent_at", times_of(figures.sent_at_s[t])));
    }
    return json_pack("{s:s, s:s, s:o}", "uuid", figures.uuid, "identity", figures.identity, "types",
                     types);
}

static void xds(void *ud, struct osm_http_request *request)
{
    const struct osm_app *app = ud;
    const struct osm_listing lists[] = {{"proxies", all_proxies(app), traffic_of}};
    osm_listing_reply(request, app, lists, 1);
}

static json_t *proxy_of(const struct osm_app *app, const char *proxy)
{
    json_t *status = app->ads ? osm_ads_proxy_status(app->ads, proxy) : NULL;
    const struct osm_snapshot_proxy *pod =
        app->snapshot ? osm_snapshot_find(app->snapshot, proxy) : NULL;
    bool is_connected = status != NULL;
    if (!status && pod)
        status = json_pack("{s:s%, s:s, s:s, s:s}", "uuid", proxy, OSM_UUID_SIZE - 1, "pod",
                           pod->pod, "namespace", pod->ns, "account", pod->account);
    if (status)
        (void)json_object_set_new(status, "connected", json_boolean(is_connected));
    return status;
}

static void one_proxy(const struct osm_app *app, struct osm_http_request *request,
                      const char *proxy)
{
    struct osm_err err = {0};
    const char *cfg = osm_http_query(request, "cfg");
    json_t *status = proxy_of(app, proxy), *config_dump = NULL;
    const struct osm_snapshot_proxy *pod =
        app->snapshot ? osm_snapshot_find(app->snapshot, proxy) : NULL;
    bool wants = status && cfg && strcmp(cfg, "false") != 0 && pod;
    if (wants && !(config_dump = osm_app_proxy_config(app, pod, NULL, &err))) {
        json_decref(status);
        osm_http_reply_text(request, 500, err.msg);
        return;
    }
    json_t *traffic = status ? traffic_of(app, proxy) : NULL;
    (void)json_object_set_new(status, "traffic", traffic ? traffic : json_null());
    if (config_dump)
        (void)json_object_set_new(status, "config", config_dump);
    osm_http_reply_json(request, 200, status);
}

/* Two pods of different namespaces may have one uuid: &namespace= says which, else the first. */
static void find_proxy(const struct osm_app *app, struct osm_http_request *request,
                       const char *uuid)
{
    const char *ns = osm_http_query(request, "namespace");
    json_t *keys = all_proxies(app), *key;
    size_t i, n = strlen(uuid);
    json_array_foreach (keys, i, key) {
        const char *proxy = json_string_value(key);
        if (n == OSM_UUID_SIZE - 1 && !strncasecmp(proxy, uuid, n) &&
            (!ns || !strcmp(proxy + n + 1, ns))) {
            one_proxy(app, request, proxy);
            json_decref(keys);
            return;
        }
    }
    json_decref(keys);
    osm_http_reply_text(request, 404, "no proxy has this uuid; /debug/proxy lists them");
}

static void proxies(void *ud, struct osm_http_request *request)
{
    const struct osm_app *app = ud;
    const char *uuid = osm_http_query(request, "uuid");
    if (uuid) {
        find_proxy(app, request, uuid);
        return;
    }
    const struct osm_listing lists[] = {{"proxies", all_proxies(app), proxy_of}};
    osm_listing_reply(request, app, lists, 1);
}

/* --- ours --- */

static void generations(void *ud, struct osm_http_request *request)
{
    const struct osm_app *app = ud;
    if (app->reload)
        osm_http_reply_json(request, 200, osm_reload_status(app->reload));
    else
        osm_http_reply_text(request, 503, "starting");
}

static void source(void *ud, struct osm_http_request *request)
{
    const struct osm_app *app = ud;
    if (app->source)
        osm_http_reply_json(request, 200, osm_source_status(app->source));
    else
        osm_http_reply_text(request, 503, "starting");
}

static void rejects(void *ud, struct osm_http_request *request)
{
    const struct osm_app *app = ud;
    const struct osm_snapshot *s = app->snapshot;
    osm_http_reply_json(request, 200,
                        json_pack("{s:I, s:O*, s:O*}", "snapshot", (json_int_t)(s ? s->number : 0),
                                  "rejects", s ? s->rejects : NULL, "errors",
                                  s ? s->errors : NULL));
}

/* --- profiling --- */

struct profiling {
    struct osm_http_request *request;
};

static void profiled(void *ud, struct osm_buf *folded, const struct osm_err *err)
{
    struct profiling *p = ud;
    if (err)
        osm_http_reply_text(p->request, 500, err->msg);
    else
        osm_http_reply(p->request, 200, "text/plain; charset=utf-8", folded);
    osm_free(p);
}

static void profile(void *ud, struct osm_http_request *request)
{
    struct osm_app *app = ud;
    struct osm_err err = {0};
    const char *text = osm_http_query(request, "seconds");
    char *end = NULL;
    unsigned long seconds = text && *text ? strtoul(text, &end, 10) : OSM_PROFILE_DEFAULT_S;
    if ((text && (!end || *end)) || seconds < 1 || seconds > OSM_PROFILE_MAX_S) {
        osm_http_reply_text(request, 400, "seconds: expected a number from 1 to 60");
        return;
    }
    struct profiling *p = osm_alloc(sizeof *p);
    if (!p) {
        out_of_memory(request);
        return;
    }
    p->request = request;
    int rc = osm_profile_start(app->loop, (unsigned)seconds, profiled, p, &err);
    if (!rc)
        return;
    osm_free(p);
    osm_http_reply_text(request, rc == OSM_EBUSY ? 409 : 500, err.msg);
}

static void cmdline(void *ud, struct osm_http_request *request)
{
    struct osm_buf text = OSM_BUF_INIT(1 << 20);
    (void)ud;
    (void)osm_buf_read_file(&text, "/proc/self/cmdline", NULL);
    osm_http_reply(request, 200, "text/plain; charset=utf-8", &text);
}

/* --- the index --- */

static void list_endpoints(void *ud, struct osm_http_request *request)
{
    (void)ud;
    json_t *out = json_object();
    for (const struct osm_http_route *r = osm_http_routes(request); r->path; r++)
        (void)json_object_set_new(out, r->path, json_string(r->about));
    osm_http_reply_json(request, 200, out);
}

const struct osm_http_route osm_app_debug_routes[] = {
    {"/debug", list_endpoints, "this list", 0},
    {"/debug/certs", certs, "roots and certificates that were issued, without their keys", 0},
    {"/debug/xds", xds, "what was sent to each proxy, and when last", 0},
    {"/debug/proxy", proxies, "the proxies; ?uuid=ID for one, &cfg=true with what it is served", 0},
    {"/debug/policies", policies, "the SMI objects", 0},
    {"/debug/config", config, "the MeshConfig", 0},
    {"/debug/namespaces", namespaces, "the namespaces that are monitored", 0},
    {"/debug/feature-flags", feature_flags, "feature flags of the MeshConfig", 0},
    {"/debug/generations", generations, "the generations of the policies", 0},
    {"/debug/source", source, "where objects come from, and files in error", 0},
    {"/debug/rejects", rejects, "what the policies have left out, and rules in error", 0},
    {"/debug/profile", profile, "where CPU time goes: folded stacks; ?seconds=N, up to 60", 0},
    {"/debug/pprof/profile", profile, "the same, where Open Service Mesh had it", 0},
    {"/debug/pprof/cmdline", cmdline, "how the daemon was started", 0},
    {NULL, NULL, NULL, 0},
};
