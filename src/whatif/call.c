#include "whatif/call.h"

#include "base/json.h"
#include "base/mem.h"
#include "policy/encode/proto.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum { TEXT_MAX_BYTES = 2048, ENDPOINTS_MAX = 10000, NEAR_MAX = 20 };

static const char TYPES[] = "envoy.extensions.";

struct walk {
    const struct osm_call *call;
    struct osm_request request;
    json_t *steps;
    struct osm_err *err;
    int rc;
    bool uncertain; /* some layer could not be decided */
};

/* --- steps --- */

/* Borrowed; NULL: no memory. */
static json_t *step(struct walk *w, const char *layer, enum osm_tri passes, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
static json_t *step(struct walk *w, const char *layer, enum osm_tri passes, const char *fmt, ...)
{
    char text[TEXT_MAX_BYTES];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    json_t *entry = json_pack("{s:s, s:o, s:s}", "layer", layer, "passes",
                              passes == OSM_UNKNOWN ? json_null() : json_boolean(passes == OSM_YES),
                              "text", text);
    w->uncertain = w->uncertain || passes == OSM_UNKNOWN;
    if (json_array_append_new(w->steps, entry)) {
        w->rc = osm_fail(w->err, OSM_ENOMEM, "out of memory");
        return NULL;
    }
    return entry;
}

static json_t *decode(struct walk *w, enum osm_xds_type type, const struct osm_resource *resource)
{
    json_t *out = NULL;
    if (!w->rc)
        w->rc = osm_proto_decode(osm_proto_find(osm_xds_type_message(type)),
                                 osm_bytes_data(resource->body), osm_bytes_len(resource->body),
                                 &out, w->err);
    return w->rc ? NULL : out;
}

/* The resource as JSON; NULL: it is not served, or w->rc. */
static json_t *served(struct walk *w, const struct osm_snapshot_proxy *proxy,
                      enum osm_xds_type type, const char *name)
{
    const struct osm_resource *resource = osm_class_find(proxy->cls, type, name);
    return resource ? decode(w, type, resource) : NULL;
}

/* Whether an Any holds this message, given without what all of ours begin with. */
static bool holds(const json_t *any, const char *message)
{
    const char *type = osm_json_text(any, "@type"), *slash = strrchr(type, '/');
    type = slash ? slash + 1 : type;
    return !strncmp(type, TYPES, sizeof TYPES - 1) && !strcmp(type + sizeof TYPES - 1, message);
}

/* --- filter chains --- */

/* The chain that takes it, of all listeners of a direction; a new reference, NULL: none.
 * *fallback: it is a listener's default chain. */
static json_t *chain_of(struct walk *w, const struct osm_snapshot_proxy *proxy,
                        const char *direction, const struct osm_arrival *arrival, bool *fallback)
{
    json_t *best = NULL, *standard = NULL;
    int best_fit = -1;
    for (size_t i = 0; i < proxy->cls->types[OSM_XDS_LDS].len && !w->rc; i++) {
        json_t *listener = decode(w, OSM_XDS_LDS, proxy->cls->types[OSM_XDS_LDS].list[i]), *chain;
        bool meant = !strcmp(osm_json_text(listener, "traffic_direction"), direction);
        size_t k;
        json_array_foreach (meant ? json_object_get(listener, "filter_chains") : NULL, k, chain) {
            int own = osm_match_chain(json_object_get(chain, "filter_chain_match"), arrival);
            if (own > best_fit) {
                json_decref(best);
                best = json_incref(chain);
                best_fit = own;
            }
        }
        json_t *other = meant ? json_object_get(listener, "default_filter_chain") : NULL;
        if (other && !standard)
            standard = json_incref(other);
        json_decref(listener);
    }
    *fallback = !best && standard;
    if (best) {
        json_decref(standard);
        return best;
    }
    return standard;
}

/* --- authorisation --- */

/* What the policies of RBAC are, those of the caller first: they are the nearest. */
static json_t *policies_of(struct walk *w, const json_t *rules)
{
    json_t *out = json_array(), *policy;
    const char *name;
    for (int mine = 1; mine >= 0; mine--)
        json_object_foreach (json_object_get(rules, "policies"), name, policy) {
            enum osm_tri caller = osm_match_principals(policy, &w->request);
            struct osm_buf who = OSM_BUF_INIT(TEXT_MAX_BYTES), what = OSM_BUF_INIT(TEXT_MAX_BYTES);
            if ((caller != OSM_NO) != mine || json_array_size(out) >= NEAR_MAX)
                continue;
            osm_match_describe_principals(policy, &who);
            osm_match_describe_permissions(policy, &what);
            json_t *entry = json_pack(
                "{s:s, s:o, s:s, s:s}", "name", name, "caller",
                caller == OSM_UNKNOWN ? json_null() : json_boolean(caller == OSM_YES), "principals",
                who.data ? who.data : "", "permissions", what.data ? what.data : "");
            (void)json_array_append_new(out, entry);
            osm_buf_clear(&who);
            osm_buf_clear(&what);
        }
    return out;
}

/* Whether the call goes on. */
static bool authorise(struct walk *w, const char *layer, const json_t *rules, const char *denied)
{
    if (!rules)
        return true;
    struct osm_verdict v = osm_match_rbac(rules, &w->request);
    bool deny = !strcmp(osm_json_text(rules, "action"), "DENY");
    json_t *entry =
        v.passes == OSM_YES && v.policy && !deny
            ? step(w, layer, v.passes, "let in by the policy %s", v.policy)
        : v.passes == OSM_YES ? step(w, layer, v.passes, "no policy forbids it")
        : v.passes == OSM_NO && deny
            ? step(w, layer, v.passes, "the policy %s forbids it: %s", v.policy, denied)
        : v.passes == OSM_NO
            ? step(w, layer, v.passes, "no policy of the sidecar lets it in: %s", denied)
            : step(w, layer, v.passes, "the policies of the sidecar are of a form not known here");
    if (entry && json_object_set_new(entry, "policies", policies_of(w, rules)))
        w->rc = osm_fail(w->err, OSM_ENOMEM, "out of memory");
    if (entry && v.passes == OSM_YES && v.policy &&
        (json_object_set_new(entry, "policy", json_string(v.policy)) ||
         json_object_set_new(entry, "permission", json_integer((json_int_t)v.permission))))
        w->rc = osm_fail(w->err, OSM_ENOMEM, "out of memory");
    return v.passes != OSM_NO && !w->rc;
}

/* --- HTTP, either side --- */

/* What a connection manager, or a proxy for TCP, does with the call. */
struct handling {
    json_t *manager; /* borrowed from the chain; NULL: no HTTP */
    json_t *tcp;
    json_t *routes; /* owned */
    const json_t *host, *route;
};

static const json_t *table_of(struct walk *w, const struct osm_snapshot_proxy *proxy,
                              struct handling *h, const char **name)
{
    *name = osm_json_text(json_object_get(h->manager, "rds"), "route_config_name");
    json_t *inner = json_object_get(h->manager, "route_config");
    h->routes = inner ? json_incref(inner) : served(w, proxy, OSM_XDS_RDS, *name);
    return h->routes;
}

/* The rules of RBAC that are at a virtual host; NULL: none. */
static const json_t *rules_at(const json_t *host)
{
    const char *name;
    json_t *config;
    json_object_foreach (json_object_get(host, "typed_per_filter_config"), name, config)
        if (holds(config, "filters.http.rbac.v3.RBACPerRoute"))
            return json_object_get(json_object_get(config, "rbac"), "rules");
    return NULL;
}

/* The route that takes the request; false: none, which is told. */
static bool route_of(struct walk *w, const struct osm_snapshot_proxy *proxy, const char *layer,
                     struct handling *h)
{
    const char *name;
    size_t i;
    const json_t *route;
    enum osm_tri sure = OSM_YES;
    if (!table_of(w, proxy, h, &name)) {
        if (!w->rc)
            (void)step(w, layer, OSM_NO, "there is no route table %s: HTTP 404", name);
        return false;
    }
    h->host = osm_match_host(h->routes, &w->request);
    if (!h->host) {
        (void)step(w, layer, OSM_NO, "no virtual host of %s answers to %s: HTTP 404", name,
                   w->request.host);
        return false;
    }
    json_array_foreach (json_object_get(h->host, "routes"), i, route) {
        enum osm_tri is = osm_match_route(json_object_get(route, "match"), &w->request);
        if (is == OSM_UNKNOWN)
            sure = OSM_UNKNOWN;
        if (is == OSM_YES) {
            h->route = route;
            (void)step(w, layer, sure, "%s: virtual host %s, route %zu", name,
                       osm_json_text(h->host, "name"), i);
            return !w->rc;
        }
    }
    json_t *entry = step(w, layer, sure == OSM_UNKNOWN ? sure : OSM_NO,
                         "no route of the virtual host %s takes %s %s: HTTP 404",
                         osm_json_text(h->host, "name"), w->request.method, w->request.path);
    const json_t *rules = rules_at(h->host); /* what they grant is what there are routes for */
    if (entry && rules && json_object_set_new(entry, "policies", policies_of(w, rules)))
        w->rc = osm_fail(w->err, OSM_ENOMEM, "out of memory");
    return false;
}

/* The configuration of an HTTP filter for this request: of the route, of the virtual host, or its
 * own. */
static const json_t *config_of(const struct handling *h, const json_t *filter)
{
    const char *name = osm_json_text(filter, "name");
    const json_t *own = json_object_get(json_object_get(h->route, "typed_per_filter_config"), name);
    if (!own)
        own = json_object_get(json_object_get(h->host, "typed_per_filter_config"), name);
    return own ? own : json_object_get(filter, "typed_config");
}

/* What the HTTP filters do, the router last. */
static bool pass_filters(struct walk *w, const struct handling *h)
{
    size_t i;
    const json_t *filter;
    json_array_foreach (json_object_get(h->manager, "http_filters"), i, filter) {
        const json_t *config = config_of(h, filter);
        const char *name = osm_json_text(filter, "name");
        if (holds(config, "filters.http.rbac.v3.RBACPerRoute") ||
            holds(config, "filters.http.rbac.v3.RBAC")) {
            const json_t *inner = json_object_get(config, "rbac");
            if (!authorise(w, "request", json_object_get(inner ? inner : config, "rules"),
                           "HTTP 403"))
                return false;
        } else if (holds(config, "filters.http.ext_authz.v3.ExtAuthz")) {
            (void)step(
                w, "filters", OSM_UNKNOWN,
                "%s asks the server of the external authorization, whose answer is not known "
                "here",
                name);
        } else if (!holds(config, "filters.http.router.v3.Router") &&
                   !holds(config, "filters.http.health_check.v3.HealthCheck")) {
            (void)step(w, "filters", OSM_UNKNOWN, "%s decides what is not known here", name);
        }
        if (w->rc)
            return false;
    }
    return true;
}

/* Goes through a chain's network filters. False: they deny, or w->rc. */
static bool pass_chain(struct walk *w, const json_t *chain, const char *layer, struct handling *h)
{
    size_t i;
    json_t *filter;
    json_array_foreach (json_object_get(chain, "filters"), i, filter) {
        json_t *config = json_object_get(filter, "typed_config");
        if (holds(config, "filters.network.rbac.v3.RBAC")) {
            if (!authorise(w, "connection", json_object_get(config, "rules"),
                           "the connection is closed"))
                return false;
        } else if (holds(config,
                         "filters.network.http_connection_manager.v3.HttpConnectionManager")) {
            h->manager = config;
        } else if (holds(config, "filters.network.tcp_proxy.v3.TcpProxy")) {
            h->tcp = config;
        } else {
            (void)step(w, layer, OSM_UNKNOWN, "the filter %s decides what is not known here",
                       osm_json_text(filter, "name"));
        }
        if (w->rc)
            return false;
    }
    if (h->manager || h->tcp)
        return true;
    (void)step(w, layer, OSM_UNKNOWN, "the chain %s ends in a filter that is not known here",
               osm_json_text(chain, "name"));
    return false;
}

/* --- the server's side --- */

struct backend {
    const char *cluster, *address, *server_name;
    unsigned port;
    const json_t *protocols;
};

static const char *pod_of(const struct osm_snapshot_proxy *proxy, char out[256])
{
    (void)snprintf(out, 256, "%s/%s", proxy->ns, proxy->pod);
    return out;
}

/* Whether the pod's sidecar lets it in. */
static bool walk_server(struct walk *w, const struct osm_snapshot_proxy *server,
                        const struct backend *b)
{
    struct handling h = {0};
    char pod[256];
    bool fallback = false, passes = false;
    const struct osm_arrival arrival = {NULL, b->port, b->server_name, b->protocols};
    if (!server) {
        (void)step(w, "server", b->server_name ? OSM_NO : OSM_YES,
                   b->server_name ? "%s has no sidecar that is served: there is nobody who speaks "
                                    "the mesh's TLS"
                                  : "%s has no sidecar",
                   b->address);
        return !b->server_name && !w->rc;
    }
    w->request.port = b->port;
    json_t *chain = chain_of(w, server, "INBOUND", &arrival, &fallback);
    if (!chain) {
        if (!w->rc)
            (void)step(w, "server listener", OSM_NO,
                       "the sidecar of %s has no chain for port %u%s%s: the connection is closed",
                       pod_of(server, pod), b->port, b->server_name ? " of " : " without TLS",
                       b->server_name ? b->server_name : "");
        return false;
    }
    (void)step(w, "server listener", OSM_YES, "the sidecar of %s, chain %s", pod_of(server, pod),
               osm_json_text(chain, "name"));
    if (!w->rc && pass_chain(w, chain, "server listener", &h))
        passes = !h.manager || (w->request.method && route_of(w, server, "server route", &h) &&
                                pass_filters(w, &h));
    json_decref(h.routes);
    json_decref(chain);
    return passes && !w->rc;
}

/* --- from the client's clusters to pods --- */

struct reached {
    json_t *seen; /* {"class port name": true}: of pods that are served the same one is asked */
    size_t pods, denied;
    bool any;
};

static void reach(struct walk *w, const struct backend *b, struct reached *r)
{
    const struct osm_snapshot_proxy *server = w->call->find(w->call->ud, b->address);
    char key[512];
    (void)snprintf(key, sizeof key, "%p %u %s", server ? (void *)server->cls : NULL, b->port,
                   b->server_name ? b->server_name : "");
    if (w->rc || json_object_get(r->seen, key))
        return;
    if (json_object_set_new(r->seen, key, json_true()))
        w->rc = osm_fail(w->err, OSM_ENOMEM, "out of memory");
    r->pods++;
    if (!w->rc && !walk_server(w, server, b))
        r->denied++;
}

/* Each ready pod behind a cluster. */
static size_t reach_endpoints(struct walk *w, const json_t *assignment, struct backend *b,
                              struct reached *r)
{
    size_t i, k, n = 0;
    const json_t *locality, *endpoint;
    json_array_foreach (json_object_get(assignment, "endpoints"), i, locality)
        json_array_foreach (json_object_get(locality, "lb_endpoints"), k, endpoint) {
            const json_t *address =
                json_object_get(json_object_get(json_object_get(endpoint, "endpoint"), "address"),
                                "socket_address");
            b->address = osm_json_text(address, "address");
            b->port = (unsigned)json_integer_value(json_object_get(address, "port_value"));
            if (n++ < ENDPOINTS_MAX)
                reach(w, b, r);
        }
    return n;
}

static void reach_cluster(struct walk *w, const char *name, struct reached *r)
{
    const struct osm_snapshot_proxy *caller = w->call->caller;
    json_t *cluster = served(w, caller, OSM_XDS_CDS, name);
    const json_t *tls =
        json_object_get(json_object_get(cluster, "transport_socket"), "typed_config");
    const char *eds = osm_json_text(json_object_get(cluster, "eds_cluster_config"), "service_name");
    struct backend b = {.cluster = name, .server_name = NULL};
    if (!cluster) {
        r->pods++;
        r->denied++;
        if (!w->rc)
            (void)step(w, "endpoints", OSM_NO, "the caller is not told of the cluster %s: HTTP 503",
                       name);
        return;
    }
    if (holds(tls, "transport_sockets.tls.v3.UpstreamTlsContext")) {
        b.server_name = osm_json_text(tls, "sni");
        b.protocols = json_object_get(json_object_get(tls, "common_tls_context"), "alpn_protocols");
    }
    if (!strcmp(osm_json_text(cluster, "type"), "ORIGINAL_DST")) {
        b.address = w->call->address;
        b.port = w->call->port;
        (void)step(w, "endpoints", OSM_YES, "the cluster %s: to where it was meant to go", name);
        reach(w, &b, r);
        json_decref(cluster);
        return;
    }
    bool by_eds = !strcmp(osm_json_text(cluster, "type"), "EDS");
    json_t *assignment = by_eds ? served(w, caller, OSM_XDS_EDS, *eds ? eds : name)
                                : json_incref(json_object_get(cluster, "load_assignment"));
    size_t i, k, n = 0;
    const json_t *locality;
    json_array_foreach (json_object_get(assignment, "endpoints"), i, locality)
        n += json_array_size(json_object_get(locality, "lb_endpoints"));
    if (!w->rc && n)
        (void)step(w, "endpoints", OSM_YES, "the cluster %s has %zu endpoint%s", name, n,
                   n == 1 ? "" : "s");
    k = w->rc ? 0 : reach_endpoints(w, assignment, &b, r);
    if (!w->rc && !k) {
        r->pods++;
        r->denied++;
        (void)step(w, "endpoints", OSM_NO,
                   "the cluster %s has no ready endpoint that the caller may reach: HTTP 503",
                   name);
    }
    json_decref(assignment);
    json_decref(cluster);
}

/* --- the client's side --- */

static void reach_clusters(struct walk *w, const json_t *to, struct reached *r)
{
    const json_t *weighted = json_object_get(json_object_get(to, "weighted_clusters"), "clusters");
    const char *only = json_string_value(json_object_get(to, "cluster"));
    size_t i;
    const json_t *each;
    if (only)
        reach_cluster(w, only, r);
    json_array_foreach ((json_t *)(uintptr_t)weighted, i, each)
        if (!w->rc && json_integer_value(json_object_get(each, "weight")) > 0)
            reach_cluster(w, osm_json_text(each, "name"), r);
    if (!only && !json_array_size(weighted) && !w->rc)
        (void)step(w, "client route", OSM_UNKNOWN, "it goes to what is not known here");
}

static void follow_route(struct walk *w, const json_t *route, struct reached *r)
{
    const json_t *to = json_object_get(route, "route"),
                 *direct = json_object_get(route, "direct_response");
    if (to)
        reach_clusters(w, to, r);
    else if (direct)
        (void)step(w, "client route", OSM_NO, "the caller's own sidecar answers HTTP %d",
                   (int)json_integer_value(json_object_get(direct, "status")));
    else
        (void)step(w, "client route", OSM_UNKNOWN, "the route answers what is not known here");
}

static void walk_client(struct walk *w, struct reached *r)
{
    const struct osm_call *call = w->call;
    const struct osm_arrival arrival = {call->address, call->port, NULL, NULL};
    struct handling h = {0};
    char pod[256];
    bool fallback = false;
    json_t *chain = chain_of(w, call->caller, "OUTBOUND", &arrival, &fallback);
    if (!chain) {
        if (!w->rc)
            (void)step(w, "client listener", OSM_NO,
                       "the sidecar of %s leads nowhere from %s:%u: the connection is closed",
                       pod_of(call->caller, pod), call->address, call->port);
        return;
    }
    (void)step(w, "client listener", OSM_YES, "the sidecar of %s, chain %s%s",
               pod_of(call->caller, pod), osm_json_text(chain, "name"),
               fallback ? ": not as a Service of the mesh, but to wherever it goes" : "");
    if (!w->rc && pass_chain(w, chain, "client listener", &h)) {
        if (h.tcp) {
            w->request.method = w->request.path = NULL; /* nobody looks */
            reach_clusters(w, h.tcp, r);
        } else if (route_of(w, call->caller, "client route", &h)) {
            follow_route(w, h.route, r);
        }
    }
    json_decref(h.routes);
    json_decref(chain);
}

static bool any_denies(const json_t *steps)
{
    size_t i;
    const json_t *each;
    json_array_foreach ((json_t *)(uintptr_t)steps, i, each)
        if (json_is_false(json_object_get(each, "passes")))
            return true;
    return false;
}

/* The step that decided: the first that denies, the first of which nothing is known, or the last.
 */
static const char *layer_of(const json_t *steps, bool denied, bool uncertain)
{
    size_t i;
    const json_t *each;
    json_array_foreach ((json_t *)(uintptr_t)steps, i, each) {
        const json_t *passes = json_object_get(each, "passes");
        if (denied ? json_is_false(passes) : uncertain && json_is_null(passes))
            return osm_json_text(each, "layer");
    }
    return osm_json_text(json_array_get(steps, json_array_size(steps) - 1), "layer");
}

int osm_call_walk(const struct osm_call *call, json_t **out, struct osm_err *err)
{
    struct osm_err own = {0};
    struct walk w = {.call = call, .request = call->request, .steps = json_array(), .err = &own};
    struct reached r = {.seen = json_object()};
    if (!w.steps || !r.seen)
        w.rc = osm_fail(&own, OSM_ENOMEM, "out of memory");
    else
        walk_client(&w, &r);
    if (!w.rc) {
        bool none = !r.pods || r.denied == r.pods, denies = any_denies(w.steps);
        const char *verdict = none && denies            ? "denied"
                              : r.denied && denies      ? "partly"
                              : w.uncertain || r.denied ? "unknown"
                                                        : "allowed";
        *out = json_pack("{s:s, s:s, s:O}", "verdict", verdict, "layer",
                         layer_of(w.steps, denies, w.uncertain), "steps", w.steps);
        w.rc = *out ? 0 : osm_fail(&own, OSM_ENOMEM, "out of memory");
    }
    json_decref(w.steps);
    json_decref(r.seen);
    return w.rc ? osm_fail(err, w.rc, "%s", own.msg) : 0;
}
