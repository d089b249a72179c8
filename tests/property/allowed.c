/* Who may what, read from the bytes that the servers' proxies are served, as Envoy reads them: the
 * filter chains of the inbound listener with their network RBAC, and behind a chain that speaks
 * HTTP the virtual hosts of its route table with theirs. What this file does not understand counts
 * as a permission of its own, so that a new form is seen and not taken for none. */
#include "policy/encode/proto.h"
#include "property.h"

#include <stdlib.h>
#include <string.h>

enum { LINE_MAX_BYTES = 64 << 10, REMEMBERED_MAX = 4096 };

/* --- decoding, once per version --- */

static struct osm_map decoded; /* "LDS version" -> json_t */

void allowed_forget(void)
{
    osm_map_each (&decoded, e)
        json_decref(e->value);
    osm_map_clear(&decoded);
}

/* Borrowed until the next snapshot. */
static const json_t *decode(const struct osm_resource *r, enum osm_xds_type type)
{
    char key[128];
    (void)snprintf(key, sizeof key, "%d %s", (int)type, r->version);
    json_t *json = osm_map_get(&decoded, key);
    if (json)
        return json;
    int rc = osm_proto_decode(osm_proto_find(osm_xds_type_message(type)), osm_bytes_data(r->body),
                              osm_bytes_len(r->body), &json, NULL);
    OSM_REQUIRE(!rc && !osm_map_put(&decoded, key, json, NULL));
    return json;
}

/* --- the sets --- */

static void add(struct osm_map *set, const char *member)
{
    OSM_REQUIRE(!osm_map_put(set, member, set, NULL));
}

struct place {
    struct allowed *allowed;
    const char *server; /* "ns/account" */
    int port;
};

static void allow(const struct place *at, const char *caller, const char *route)
{
    struct osm_buf line = OSM_BUF_INIT(LINE_MAX_BYTES);
    (void)osm_buf_addf(&line, "%s -> %s", caller, at->server);
    add(&at->allowed->pairs, line.data);
    (void)osm_buf_addf(&line, " port %d", at->port);
    add(&at->allowed->ports, line.data);
    (void)osm_buf_addf(&line, " %s", route);
    OSM_REQUIRE(!line.failed);
    add(&at->allowed->whole, line.data);
    osm_buf_clear(&line);
}

static void free_text(char *text)
{
    free(text);
}

static char *text_of(const json_t *value)
{
    char *text = json_dumps(value, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY);
    OSM_REQUIRE(text);
    return text;
}

/* --- RBAC --- */

static const json_t *policies_of(const json_t *rules)
{
    const char *action = osm_json_str_at(rules, "action", NULL);
    OSM_REQUIRE(!action || !strcmp(action, "ALLOW"));
    return osm_json_at(rules, "policies", NULL);
}

/* The caller that a principal names; the text of the principal where it is another form. */
static char *caller_of(const json_t *principal)
{
    const char *name = osm_json_str_at(principal, "authenticated", "principal_name", "exact", NULL);
    if (name) {
        char *copy = osm_strdup(name);
        OSM_REQUIRE(copy);
        return copy;
    }
    char *text = text_of(principal), *copy = osm_strdup(text);
    OSM_REQUIRE(copy);
    free_text(text);
    return copy;
}

static bool opens_port(const json_t *permissions, int port)
{
    size_t i;
    const json_t *each;
    json_array_foreach (permissions, i, each) {
        const json_t *number = json_object_get(each, "destination_port");
        if (!number || json_integer_value(number) == port)
            return true;
    }
    return false;
}

/* Those whom the network filter lets through to the port: a set of callers; "*" without a filter.
 */
static void connected(const json_t *chain, int port, struct osm_map *callers)
{
    size_t i, k;
    const json_t *filter, *principal;
    const char *name;
    json_t *policy;
    bool limited = false;
    json_array_foreach (json_object_get(chain, "filters"), i, filter) {
        const char *type = osm_json_str_at(filter, "typed_config", "@type", NULL);
        if (!type || !strstr(type, "filters.network.rbac.v3.RBAC"))
            continue;
        limited = true;
        json_object_foreach (
            (json_t *)(uintptr_t)policies_of(osm_json_at(filter, "typed_config", "rules", NULL)),
            name, policy) {
            if (!opens_port(json_object_get(policy, "permissions"), port))
                continue;
            json_array_foreach (json_object_get(policy, "principals"), k, principal) {
                char *caller = caller_of(principal);
                add(callers, caller);
                osm_free(caller);
            }
        }
    }
    if (!limited)
        add(callers, "*");
}

static const json_t *http_of(const json_t *chain)
{
    size_t i;
    const json_t *filter;
    json_array_foreach (json_object_get(chain, "filters"), i, filter) {
        const char *type = osm_json_str_at(filter, "typed_config", "@type", NULL);
        if (type && strstr(type, "HttpConnectionManager"))
            return json_object_get(filter, "typed_config");
    }
    return NULL;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

#define EVERY_METHOD "GET|HEAD|PUT|POST|DELETE|CONNECT|OPTIONS|TRACE|PATCH|other"

/* A permission of requests as path, method by method, and headers: one that lists fewer methods
 * allows a part of what it allowed, not something new. */
static void allow_requests(const struct place *at, const char *caller, const json_t *permission)
{
    char *headers[64];
    const char *path = "any path", *methods = EVERY_METHOD;
    size_t i, n = 0;
    const json_t *rule, *rules = osm_json_at(permission, "and_rules", "rules", NULL);
    json_array_foreach (rules, i, rule) {
        const char *regex = osm_json_str_at(rule, "url_path", "path", "safe_regex", "regex", NULL);
        const char *header = osm_json_str_at(rule, "header", "name", NULL);
        const char *value =
            osm_json_str_at(rule, "header", "string_match", "safe_regex", "regex", NULL);
        if (regex)
            path = regex;
        else if (header && value && !strcmp(header, ":method"))
            methods = value;
        else if (n < 64)
            headers[n++] = text_of(rule);
    }
    if (!rules && json_object_get(permission, "any") != json_true())
        headers[n++] = text_of(permission);
    qsort(headers, n, sizeof *headers, by_text);
    for (const char *end = methods; end; methods = end + 1) {
        struct osm_buf route = OSM_BUF_INIT(LINE_MAX_BYTES);
        end = strchr(methods, '|');
        (void)osm_buf_addf(&route, "%.*s %s", end ? (int)(end - methods) : (int)strlen(methods),
                           methods, path);
        for (i = 0; i < n; i++)
            (void)osm_buf_addf(&route, " %s", headers[i]);
        OSM_REQUIRE(!route.failed);
        allow(at, caller, route.data);
        osm_buf_clear(&route);
        if (!end)
            break;
    }
    for (i = 0; i < n; i++)
        free_text(headers[i]);
}

static void allow_host(const struct place *at, const json_t *host, const struct osm_map *connected)
{
    const json_t *config =
        osm_json_at(host, "typed_per_filter_config", "envoy.filters.http.rbac", NULL);
    size_t i, k;
    const char *name;
    json_t *policy;
    const json_t *principal, *permission;
    if (!config) {
        osm_map_each (connected, e)
            allow(at, e->key, "any request");
        return;
    }
    json_object_foreach (
        (json_t *)(uintptr_t)policies_of(osm_json_at(config, "rbac", "rules", NULL)), name,
        policy) {
        json_array_foreach (json_object_get(policy, "principals"), i, principal) {
            char *caller = caller_of(principal);
            if (osm_map_has(connected, caller) || osm_map_has(connected, "*"))
                json_array_foreach (json_object_get(policy, "permissions"), k, permission)
                    allow_requests(at, caller, permission);
            osm_free(caller);
        }
    }
}

static void allow_chain(struct place *at, const struct osm_class *cls, const json_t *chain)
{
    size_t i;
    const json_t *host, *http = http_of(chain);
    struct osm_map callers = OSM_MAP_INIT;
    at->port =
        (int)json_integer_value(osm_json_at(chain, "filter_chain_match", "destination_port", NULL));
    connected(chain, at->port, &callers);
    osm_map_each (&callers, e)
        allow(at, e->key, http ? "may connect" : "may talk TCP");
    const char *table = osm_json_str_at(http, "rds", "route_config_name", NULL);
    const struct osm_resource *routes = table ? osm_class_find(cls, OSM_XDS_RDS, table) : NULL;
    if (routes)
        json_array_foreach (json_object_get(decode(routes, OSM_XDS_RDS), "virtual_hosts"), i, host)
            allow_host(at, host, &callers);
    osm_map_clear(&callers);
}

struct allowed allowed_of(const struct osm_snapshot *snapshot)
{
    struct allowed a = {OSM_MAP_INIT, OSM_MAP_INIT, OSM_MAP_INIT};
    if (decoded.count > REMEMBERED_MAX)
        allowed_forget();
    for (size_t i = 0; i < snapshot->proxies_len; i++) {
        const struct osm_snapshot_proxy *p = &snapshot->proxies[i];
        const struct osm_resource *r = osm_class_find(p->cls, OSM_XDS_LDS, "inbound-listener");
        char server[256];
        size_t k;
        const json_t *chain;
        (void)snprintf(server, sizeof server, "%s/%s", p->ns, p->account);
        struct place at = {&a, server, 0};
        if (r)
            json_array_foreach (json_object_get(decode(r, OSM_XDS_LDS), "filter_chains"), k, chain)
                allow_chain(&at, p->cls, chain);
    }
    return a;
}

void allowed_clear(struct allowed *a)
{
    osm_map_clear(&a->whole);
    osm_map_clear(&a->ports);
    osm_map_clear(&a->pairs);
}

const char *allowed_beyond(const struct osm_map *now, const struct osm_map *before)
{
    osm_map_each (now, e)
        if (!osm_map_has(before, e->key))
            return e->key;
    return NULL;
}
