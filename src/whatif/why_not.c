#include "whatif/why_not_priv.h"

#include "base/json.h"
#include "base/nearest.h"
#include "model/names.h"
#include "whatif/call.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

enum { TEXT_MAX_BYTES = 2048, DEFAULT_PORT = 80 };

static int no_memory(struct osm__why_not *a)
{
    return osm_fail(a->err, OSM_ENOMEM, "out of memory");
}

/* --- objects --- */

const struct osm_object *osm__why_not_object(const struct osm__why_not *a, const char *kind,
                                             const char *ns, const char *name)
{
    for (size_t i = 0; i < a->q->objects->len; i++) {
        const struct osm_object *o = a->q->objects->list[i].now;
        if (!strcmp(o->name, name) && !strcmp(o->ns, ns) && !strcmp(o->kind, kind))
            return o;
    }
    return NULL;
}

int osm__why_not_ask(struct osm__why_not *a, const char *rule, json_t *keys, json_t **out)
{
    int rc = keys ? osm_engine_ask(a->engine, rule, keys, out, a->err) : no_memory(a);
    json_decref(keys);
    if (rc == OSM_ENOENT)
        return osm_fail(a->err, rc,
                        "the policies in force have no rule %s: smi/explain.lua has been replaced",
                        rule);
    return rc;
}

/* --- where nothing has to be walked --- */

/* The answer where no configuration has to be walked. */
static int decide(struct osm__why_not *a, const char *verdict, const char *layer, const char *fmt,
                  ...) __attribute__((format(printf, 4, 5)));
static int decide(struct osm__why_not *a, const char *verdict, const char *layer, const char *fmt,
                  ...)
{
    char text[TEXT_MAX_BYTES];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    bool denied = !strcmp(verdict, "denied");
    a->out = json_pack("{s:s, s:s, s:[{s:s, s:o, s:s}], s:s}", "verdict", verdict, "layer", layer,
                       "steps", "layer", layer, "passes", denied ? json_false() : json_null(),
                       "text", text, "text", text);
    return a->out ? 0 : no_memory(a);
}

/* --- the caller --- */

static bool split_name(const char *text, char *ns, size_t ns_size, char *name, size_t name_size)
{
    const char *slash = strchr(text, '/');
    size_t len = slash ? (size_t)(slash - text) : 0;
    if (!len || len >= ns_size || !slash[1] || strlen(slash + 1) >= name_size ||
        strchr(slash + 1, '/'))
        return false;
    (void)snprintf(ns, ns_size, "%.*s", (int)len, text);
    (void)snprintf(name, name_size, "%s", slash + 1);
    return true;
}

static const struct osm_snapshot_proxy *proxy_of(const struct osm__why_not *a, const char *pod,
                                                 const char *account)
{
    for (size_t i = 0; i < a->q->served->proxies_len; i++) {
        const struct osm_snapshot_proxy *p = &a->q->served->proxies[i];
        if (!strcmp(p->ns, a->ns) && (pod ? !strcmp(p->pod, pod) : !strcmp(p->account, account)))
            return p;
    }
    return NULL;
}

/* A pod of the account, with a sidecar or without. */
static const struct osm_object *pod_of_account(const struct osm__why_not *a, const char *account)
{
    for (size_t i = 0; i < a->q->objects->len; i++) {
        const struct osm_object *o = a->q->objects->list[i].now;
        if (osm_object_is(o, "", "Pod") && !strcmp(o->ns, a->ns) &&
            !strcmp(osm_pod_account(o), account))
            return o;
    }
    return NULL;
}

static int find_caller(struct osm__why_not *a)
{
    char name[256];
    if (!split_name(a->q->caller, a->ns, sizeof a->ns, name, sizeof name))
        return osm_fail(a->err, OSM_EINVAL, "%.200s: expected NAMESPACE/POD or NAMESPACE/ACCOUNT",
                        a->q->caller);
    if (osm_outside_open(a->q->outside, a->ns, a->q->objects))
        return no_memory(a);
    const struct osm_object *pod = osm__why_not_object(a, "Pod", a->ns, name);
    a->caller = pod ? proxy_of(a, name, NULL) : proxy_of(a, NULL, name);
    if (!pod && a->caller)
        pod = osm__why_not_object(a, "Pod", a->ns, a->caller->pod);
    if (!pod)
        pod = pod_of_account(a, name);
    if (!pod && !osm__why_not_object(a, "ServiceAccount", a->ns, name))
        return osm_fail(a->err, OSM_ENOENT,
                        "%.200s: there is no such pod, and no pod runs as such an account",
                        a->q->caller);
    (void)snprintf(a->account, sizeof a->account, "%s", pod ? osm_pod_account(pod) : name);
    (void)snprintf(a->pod, sizeof a->pod, "%s", pod ? pod->name : "");
    return 0;
}

/* Why the caller has no sidecar that is served. */
static int decide_caller(struct osm__why_not *a)
{
    const struct osm_object *pod = *a->pod ? osm__why_not_object(a, "Pod", a->ns, a->pod) : NULL;
    const char *label =
        pod ? osm_json_str_at(pod->body, "metadata", "labels", "osm-proxy-uuid", NULL) : NULL;
    const char *phase = pod ? osm_json_str_at(pod->body, "status", "phase", NULL) : NULL;
    if (!pod)
        return decide(a, "denied", "caller", "no pod runs as the account %s/%s", a->ns, a->account);
    if (!label)
        return decide(a, "denied", "caller",
                      "pod %s/%s has no sidecar (no label osm-proxy-uuid): the sidecars of others "
                      "take no calls from outside of the mesh",
                      a->ns, a->pod);
    return decide(
        a, "denied", "caller",
        "pod %s/%s has no sidecar that is served: its namespace is not of the mesh, another "
        "pod has its uuid, or it is over (phase %s)",
        a->ns, a->pod, phase ? phase : "unknown");
}

/* --- the Service --- */

static int parse_service(struct osm__why_not *a)
{
    const char *text = a->q->service, *dot = strchr(text, '.');
    static const char *const ends[] = {"", ".svc", ".svc.cluster", ".svc.cluster.local"};
    if (strchr(text, '/') &&
        split_name(text, a->service_ns, sizeof a->service_ns, a->service, sizeof a->service))
        return 0;
    size_t len = dot ? strcspn(dot + 1, ".") : 0;
    bool known = false;
    for (size_t i = 0; len && i < sizeof ends / sizeof *ends; i++)
        known = known || !strcmp(dot + 1 + len, ends[i]);
    if (!known || dot == text || len >= sizeof a->service_ns ||
        (size_t)(dot - text) >= sizeof a->service)
        return osm_fail(a->err, OSM_EINVAL,
                        "%.200s: expected NAMESPACE/SERVICE or SERVICE.NAMESPACE", text);
    (void)snprintf(a->service, sizeof a->service, "%.*s", (int)(dot - text), text);
    (void)snprintf(a->service_ns, sizeof a->service_ns, "%.*s", (int)len, dot + 1);
    return 0;
}

static int decide_no_service(struct osm__why_not *a)
{
    struct osm_nearest search = osm_nearest_start(a->service);
    for (size_t i = 0; i < a->q->objects->len; i++) {
        const struct osm_object *o = a->q->objects->list[i].now;
        if (osm_object_is(o, "", "Service") && !strcmp(o->ns, a->service_ns))
            osm_nearest_consider(&search, o->name);
    }
    const char *near = search.best;
    return decide(a, "denied", "service", "there is no Service %s/%s%s%s%s", a->service_ns,
                  a->service, near ? "; do you mean " : "", near ? near : "", near ? "?" : "");
}

static int find_service(struct osm__why_not *a)
{
    const struct osm_object *service = osm__why_not_object(a, "Service", a->service_ns, a->service);
    if (!service)
        return decide_no_service(a);
    int rc = osm__why_not_ask(a, "service_explained", json_pack("[ss]", a->service_ns, a->service),
                              &a->explained);
    if (!rc && !json_is_object(a->explained))
        return decide(a, "denied", "service",
                      "no policy sees Service %s/%s: its namespace is not of the mesh, or it is "
                      "rejected",
                      a->service_ns, a->service);
    return rc;
}

static int list_ports(const json_t *ports, struct osm_buf *out)
{
    size_t i;
    const json_t *port;
    json_array_foreach ((json_t *)(uintptr_t)ports, i, port)
        (void)osm_buf_addf(out, "%s%d (%s)", i ? ", " : "",
                           (int)json_integer_value(json_object_get(port, "number")),
                           osm_json_text(port, "protocol"));
    return out->failed;
}

static const json_t *port_with(const json_t *ports, unsigned number)
{
    size_t i;
    const json_t *port;
    json_array_foreach ((json_t *)(uintptr_t)ports, i, port)
        if (json_integer_value(json_object_get(port, "number")) == (json_int_t)number)
            return port;
    return NULL;
}

static int find_port(struct osm__why_not *a)
{
    const json_t *ports = json_object_get(a->explained, "ports");
    struct osm_buf text = OSM_BUF_INIT(TEXT_MAX_BYTES);
    int rc = list_ports(ports, &text);
    a->port = a->q->port                    ? port_with(ports, a->q->port)
              : json_array_size(ports) == 1 ? json_array_get(ports, 0)
                                            : port_with(ports, DEFAULT_PORT);
    if (!rc && !a->port && !a->q->port && json_array_size(ports))
        rc = osm_fail(a->err, OSM_EINVAL, "--port: which of %s?", text.data);
    else if (!rc && !a->port)
        rc = decide(a, "denied", "port", "Service %s/%s has %s%s%s", a->service_ns, a->service,
                    a->q->port ? "no port of this number that the mesh carries" : "no such port",
                    text.data ? ", but " : "", text.data ? text.data : "");
    else if (!rc && !json_array_size(json_object_get(a->explained, "addresses")))
        rc = decide(a, "denied", "service",
                    "Service %s/%s has no address that a client could be led by", a->service_ns,
                    a->service);
    osm_buf_clear(&text);
    return rc;
}

/* --- the walk --- */

static int index_pods(struct osm__why_not *a)
{
    struct osm_map proxies = OSM_MAP_INIT; /* "namespace/pod" -> proxy */
    int rc = 0;
    for (size_t i = 0; i < a->q->served->proxies_len && !rc; i++) {
        struct osm_snapshot_proxy *p = &a->q->served->proxies[i];
        char *name = osm_strf("%s/%s", p->ns, p->pod);
        rc = name ? osm_map_put(&proxies, name, p, NULL) : OSM_ENOMEM;
        osm_free(name);
    }
    for (size_t i = 0; i < a->q->objects->len && !rc; i++) {
        const struct osm_object *o = a->q->objects->list[i].now;
        const char *address =
            osm_object_is(o, "", "Pod") ? osm_json_str_at(o->body, "status", "podIP", NULL) : NULL;
        char *name = address ? osm_strf("%s/%s", o->ns, o->name) : NULL;
        struct osm_snapshot_proxy *proxy = name ? osm_map_get(&proxies, name) : NULL;
        if (address && !name)
            rc = OSM_ENOMEM;
        if (proxy)
            rc = osm_map_put(&a->by_address, address, proxy, NULL);
        osm_free(name);
    }
    osm_map_clear(&proxies);
    return rc ? no_memory(a) : 0;
}

static const struct osm_snapshot_proxy *find_pod(void *ud, const char *address)
{
    const struct osm__why_not *a = ud;
    return osm_map_get(&a->by_address, address);
}

static bool is_http(const struct osm__why_not *a)
{
    const char *protocol = osm_json_text(a->port, "protocol");
    return !strcmp(protocol, "http") || !strcmp(protocol, "grpc");
}

static const char *method_of(const struct osm__why_not *a)
{
    return a->q->method ? a->q->method : "GET";
}

static const char *path_of(const struct osm__why_not *a)
{
    return a->q->path ? a->q->path : "/";
}

static int walk(struct osm__why_not *a)
{
    unsigned number = (unsigned)json_integer_value(json_object_get(a->port, "number"));
    const json_t *addresses = json_object_get(a->explained, "addresses");
    char *principal = osm_principal(a->account, a->ns, a->q->trust_domain);
    char *host = number == DEFAULT_PORT ? osm_strf("%s.%s", a->service, a->service_ns)
                                        : osm_strf("%s.%s:%u", a->service, a->service_ns, number);
    char *path = osm_strndup(path_of(a), strcspn(path_of(a), "?"));
    const struct osm_call call = {.caller = a->caller,
                                  .address = json_string_value(json_array_get(addresses, 0)),
                                  .port = number,
                                  .request = {.principal = principal,
                                              .method = method_of(a),
                                              .path = path,
                                              .host = host,
                                              .headers = a->q->headers},
                                  .find = find_pod,
                                  .ud = a};
    int rc = principal && host && path ? index_pods(a) : no_memory(a);
    if (!rc)
        rc = osm_call_walk(&call, &a->out, a->err);
    osm_free(principal);
    osm_free(host);
    osm_free(path);
    return rc;
}

/* --- the request --- */

static bool is_given_twice(const json_t *headers, const char *name)
{
    const char *other;
    json_t *value;
    json_object_foreach ((json_t *)(uintptr_t)headers, other, value)
        if (other != name && !strcasecmp(other, name))
            return true;
    return false;
}

/* What would not be the request that is asked about is refused: an answer would be about another
 * one. */
static int check_request(const struct osm__why_not *a)
{
    const char *name;
    json_t *value;
    if (a->q->headers && !json_is_object(a->q->headers))
        return osm_fail(a->err, OSM_EINVAL, "headers: expected {NAME: VALUE}");
    json_object_foreach ((json_t *)(uintptr_t)a->q->headers, name, value) {
        if (!json_is_string(value))
            return osm_fail(a->err, OSM_EINVAL, "header %.100s: expected a text", name);
        if (*name == ':' || !strcasecmp(name, "host"))
            return osm_fail(a->err, OSM_EINVAL,
                            "header %.100s: follows from the Service, method and path that are "
                            "asked about",
                            name);
        if (is_given_twice(a->q->headers, name))
            return osm_fail(a->err, OSM_EINVAL,
                            "header %.100s: is there twice, which versions of Envoy take "
                            "differently",
                            name);
    }
    if (*path_of(a) != '/')
        return osm_fail(a->err, OSM_EINVAL, "path %.100s: expected one that begins with /",
                        path_of(a));
    return 0;
}

static int name_all(struct osm__why_not *a)
{
    char *account = osm_strf("%s/%s", a->ns, a->account),
         *service = osm_strf("%s/%s", a->service_ns, a->service),
         *pod = *a->pod ? osm_strf("%s/%s", a->ns, a->pod) : NULL,
         *request = !a->port || is_http(a) ? osm_strf("%s %s", method_of(a), path_of(a)) : NULL;
    json_t *names =
        json_pack("{s:{s:s?, s:s?}, s:s?, s:I, s:s?, s:s?}", "caller", "pod", pod, "account",
                  account, "service", service, "port",
                  (json_int_t)json_integer_value(json_object_get(a->port, "number")), "protocol",
                  a->port ? osm_json_text(a->port, "protocol") : NULL, "request", request);
    int rc = !account || !service || !names || json_object_update(a->out, names) ? no_memory(a) : 0;
    json_decref(names);
    osm_free(account);
    osm_free(service);
    osm_free(pod);
    osm_free(request);
    return rc;
}

int osm_why_not(const struct osm_why_not *question, struct osm_engine *engine, json_t **out,
                struct osm_err *err)
{
    struct osm_err own = {0};
    struct osm__why_not a = {.q = question, .engine = engine, .err = &own};
    int rc = check_request(&a);
    if (!rc)
        rc = find_caller(&a);
    if (!rc)
        rc = parse_service(&a);
    if (!rc && strcmp(a.service_ns, a.ns) != 0 &&
        osm_outside_open(question->outside, a.service_ns, question->objects))
        rc = no_memory(&a);
    if (!rc)
        rc = osm_engine_take(engine, question->objects, &own);
    if (!rc && !a.caller)
        rc = decide_caller(&a);
    if (!rc && !a.out)
        rc = find_service(&a);
    if (!rc && !a.out)
        rc = find_port(&a);
    if (!rc && !a.out)
        rc = walk(&a);
    if (!rc)
        rc = osm__why_not_explain(&a);
    if (!rc)
        rc = name_all(&a);
    osm_map_clear(&a.by_address);
    json_decref(a.explained);
    if (rc)
        json_decref(a.out);
    else
        *out = a.out;
    return rc ? osm_fail(err, rc, "%s", own.msg) : 0;
}
