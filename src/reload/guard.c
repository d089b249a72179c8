#include "reload/guard.h"

#include "base/json.h"
#include "base/mem.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* A request's rules are about callers, not about what they ask for; a connection's are about ports,
 * of which a chain has one. */
enum { REQUESTS = -1, ANY_PORT = -2 };

static const char anybody[] = OSM__GUARD_ANYBODY,
                  network_rbac[] = "envoy.extensions.filters.network.rbac.v3",
                  http_rbac[] = "envoy.extensions.filters.http.rbac.v3",
                  manager[] = "envoy.extensions.filters.network.http_connection_manager.v3",
                  tls[] = "envoy.extensions.transport_sockets.tls.v3";

/* Filters that can turn away what RBAC lets pass. */
static const char *const gates[] = {
    "envoy.extensions.filters.network.ext_authz.v3",
    "envoy.extensions.filters.network.wasm.v3",
    "envoy.extensions.filters.http.ext_authz.v3",
    "envoy.extensions.filters.http.jwt_authn.v3",
    "envoy.extensions.filters.http.basic_auth.v3",
    "envoy.extensions.filters.http.api_key_auth.v3",
    "envoy.extensions.filters.http.oauth2.v3",
    "envoy.extensions.filters.http.ext_proc.v3",
    "envoy.extensions.filters.http.lua.v3",
    "envoy.extensions.filters.http.wasm.v3",
    "envoy.extensions.filters.http.composite.v3",
};

static bool of_package(const json_t *config, const char *package)
{
    const char *type = osm_json_text(config, "@type"), *slash = strrchr(type, '/');
    size_t len = strlen(package);
    type = slash ? slash + 1 : type;
    return !strncmp(type, package, len) && type[len] == '.';
}

static bool is_gate(const json_t *config)
{
    for (size_t i = 0; i < sizeof gates / sizeof *gates; i++)
        if (of_package(config, gates[i]))
            return true;
    return false;
}

static char *text_of(const json_t *value)
{
    return json_dumps(value, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY);
}

/* Adds to a set; takes both texts, NULL @p when: always. */
static int add_taken(json_t *set, char *who, char *when)
{
    char *key = who && when ? osm_strf("%s\n%s", who, when) : who;
    int rc = key && !json_object_set_new(set, key, json_true()) ? 0 : OSM_ENOMEM;
    if (key != who)
        osm_free(key);
    osm_free(who);
    osm_free(when);
    return rc;
}

static char *principal_text(const json_t *principal)
{
    const json_t *name =
        json_object_get(json_object_get(principal, "authenticated"), "principal_name");
    const char *exact = json_string_value(json_object_get(name, "exact"));
    if (json_object_size(principal) == 1 && exact && json_object_size(name) == 1)
        return osm_strdup(exact);
    if (json_is_true(json_object_get(principal, "any")) ||
        (json_object_get(principal, "authenticated") && !name))
        return osm_strdup(anybody); /* with a certificate, of whomever */
    return text_of(principal);
}

/* Adds whom a policy names, for each of its permissions. */
static int add_policy(json_t *set, const json_t *policy, int64_t port, bool exactly)
{
    size_t i, k;
    const json_t *permission, *principal;
    bool more =
        json_object_size(policy) > (size_t)(json_object_get(policy, "permissions") != NULL) +
                                       (json_object_get(policy, "principals") != NULL);
    int rc = 0;
    json_array_foreach (json_object_get(policy, "permissions"), i, permission) {
        const json_t *number = json_object_get(permission, "destination_port");
        bool about_port = number && port >= 0;
        bool always = json_is_true(json_object_get(permission, "any")) || about_port ||
                      (port == REQUESTS && !exactly);
        if (about_port && json_integer_value(number) != port)
            continue; /* nothing of that arrives here */
        json_array_foreach (json_object_get(policy, "principals"), k, principal) {
            char *when = more ? text_of(policy) : always ? NULL : text_of(permission);
            if ((more || !always) && !when)
                rc = OSM_ENOMEM;
            rc = rc ? rc : add_taken(set, principal_text(principal), osm_take_ptr(&when));
            osm_free(when);
        }
    }
    return rc;
}

static bool is_action(const json_t *rules, const char *action)
{
    const char *said = osm_json_text(rules, "action");
    return !strcmp(*said ? said : "ALLOW", action);
}

static int add_policies(json_t *set, const json_t *rules, int64_t port, bool exactly)
{
    const char *name;
    const json_t *policy;
    int rc = 0;
    json_object_foreach (json_object_get(rules, "policies"), name, policy)
        rc = rc ? rc : add_policy(set, policy, port, exactly);
    return rc;
}

static int add_rules(struct osm__guard *g, const json_t *rules, int64_t port)
{
    if (!rules)
        return 0;
    if (is_action(rules, "DENY"))
        return add_policies(g->deny, rules, port, true);
    if (!is_action(rules, "ALLOW"))
        return 0; /* it only logs */
    json_t *set = json_object();
    int rc = set ? add_policies(set, rules, port, false) : OSM_ENOMEM;
    return json_array_append_new(g->allow, set) ? OSM_ENOMEM : rc;
}

/* What must stay as it is; takes both. */
static int add_ask(struct osm__guard *g, char *without_taken, json_t *what_taken)
{
    int rc = without_taken && what_taken ? 0 : OSM_ENOMEM;
    if (rc)
        json_decref(what_taken);
    else if (json_object_set_new(g->asks, without_taken, what_taken))
        rc = OSM_ENOMEM;
    osm_free(without_taken);
    return rc;
}

static int add_gate(struct osm__guard *g, const json_t *filter)
{
    return add_ask(g, osm_strf("whom filter \"%s\" turns away", osm_json_text(filter, "name")),
                   json_incref(json_object_get(filter, "typed_config")));
}

/* Of RBAC for requests the virtual hosts hold the rules, under the filter's name. */
static int add_request_rules(struct osm__guard *g, const json_t *filter)
{
    const json_t *own = json_object_get(filter, "typed_config");
    int rc = add_rules(g, json_object_get(own, "rules"), REQUESTS);
    if (!rc)
        rc = add_ask(
            g, osm_strf("whom virtual hosts turn away by \"%s\"", osm_json_text(filter, "name")),
            json_true());
    return !rc && json_object_get(own, "matcher") ? add_gate(g, filter) : rc;
}

static int add_manager(struct osm__guard *g, const json_t *config)
{
    static const char *const specifiers[] = {"rds", "route_config", "scoped_routes"};
    size_t i;
    const json_t *filter;
    bool refuses = false;
    int rc = 0;
    json_array_foreach (json_object_get(config, "http_filters"), i, filter) {
        const json_t *own = json_object_get(filter, "typed_config");
        if (rc || json_is_true(json_object_get(filter, "disabled")))
            continue;
        if (of_package(own, http_rbac)) {
            refuses = true;
            rc = add_request_rules(g, filter);
        } else if (is_gate(own)) {
            rc = add_gate(g, filter);
        }
    }
    for (i = 0; refuses && !rc && i < sizeof specifiers / sizeof *specifiers; i++) {
        json_t *routes = json_object_get(config, specifiers[i]);
        if (routes)
            rc = add_ask(g, osm_strdup("whom its route table turns away"), json_incref(routes));
    }
    return rc;
}

/* That the client shows a certificate, and of whom it has to be. */
static int add_certificate(struct osm__guard *g, const json_t *socket)
{
    static const char *const fields[] = {"validation_context",
                                         "validation_context_sds_secret_config",
                                         "combined_validation_context"},
                             *const resumption[] = {"disable_stateless_session_resumption",
                                                    "disable_stateful_session_resumption"};
    const json_t *own = json_object_get(socket, "typed_config");
    const json_t *common = json_object_get(own, "common_tls_context");
    size_t of_whom = 0;
    int rc = 0;
    if (!of_package(own, tls) || !json_is_true(json_object_get(own, "require_client_certificate")))
        return 0;
    json_t *what = json_object();
    if (!what)
        return OSM_ENOMEM;
    for (size_t i = 0; !rc && i < sizeof fields / sizeof *fields; i++) {
        json_t *field = json_object_get(common, fields[i]);
        of_whom += field != NULL;
        rc = field && json_object_set(what, fields[i], field) ? OSM_ENOMEM : 0;
    }
    for (size_t i = 0; !rc && i < sizeof resumption / sizeof *resumption; i++)
        if (json_is_true(json_object_get(own, resumption[i])))
            rc = json_object_set_new(what, resumption[i], json_true()) ? OSM_ENOMEM : 0;
    if (!rc && of_whom)
        return add_ask(g, osm_strdup(OSM__GUARD_STRANGERS), what);
    json_decref(what);
    return rc;
}

int osm__guard_init(struct osm__guard *g)
{
    *g = (struct osm__guard){json_array(), json_object(), json_object()};
    return g->allow && g->deny && g->asks ? 0 : OSM_ENOMEM;
}

void osm__guard_clear(struct osm__guard *g)
{
    json_decref(g->allow);
    json_decref(g->deny);
    json_decref(g->asks);
}

int osm__guard_of_nothing(struct osm__guard *g)
{
    int rc = osm__guard_init(g);
    return rc ? rc : json_array_append_new(g->allow, json_object()) ? OSM_ENOMEM : 0;
}

int osm__guard_of_chain(struct osm__guard *g, const json_t *chain)
{
    const json_t *number =
        json_object_get(json_object_get(chain, "filter_chain_match"), "destination_port");
    size_t i;
    const json_t *filter;
    int64_t port = json_is_integer(number) ? json_integer_value(number) : ANY_PORT;
    int rc = osm__guard_init(g);
    rc = rc ? rc : add_certificate(g, json_object_get(chain, "transport_socket"));
    json_array_foreach (json_object_get(chain, "filters"), i, filter) {
        const json_t *config = json_object_get(filter, "typed_config");
        if (rc)
            break;
        if (of_package(config, network_rbac))
            rc = add_rules(g, json_object_get(config, "rules"), port);
        if (!rc && (is_gate(config) ||
                    (of_package(config, network_rbac) && json_object_get(config, "matcher"))))
            rc = add_gate(g, filter);
        if (!rc && of_package(config, manager))
            rc = add_manager(g, config);
    }
    return rc;
}

/* --- requests --- */

/* An exception of one virtual host, or of what is in it, to what a filter does. What excepts
 * from other filters than RBAC is in the set as whom that would let pass. */
static int add_exception(struct osm__guard *g, json_t *set, const char *filter,
                         const json_t *config, bool *ruled)
{
    const json_t *rules = json_object_get(json_object_get(config, "rbac"), "rules");
    if (of_package(config, http_rbac)) {
        *ruled = true;
        if (rules && is_action(rules, "ALLOW"))
            return add_policies(set, rules, REQUESTS, false);
        int rc = add_taken(set, osm_strdup(anybody), NULL);
        return !rc && rules && is_action(rules, "DENY")
                   ? add_policies(g->deny, rules, REQUESTS, true)
                   : rc;
    }
    if (!is_gate(config) && !of_package(config, "envoy.config.route.v3"))
        return 0;
    char *what = text_of(config);
    return what ? add_taken(set, osm_strf("whom filter \"%s\" turns away", filter), what)
                : OSM_ENOMEM;
}

static int add_exceptions(struct osm__guard *g, json_t *set, const json_t *of, bool *ruled)
{
    const char *filter;
    const json_t *config;
    int rc = 0;
    json_object_foreach (json_object_get(of, "typed_per_filter_config"), filter, config)
        rc = rc ? rc : add_exception(g, set, filter, config, ruled);
    return rc;
}

/* Routes, and the clusters that they choose from. */
static int add_exceptions_below(struct osm__guard *g, json_t *set, const json_t *host)
{
    size_t i, k;
    const json_t *route, *cluster;
    bool unused;
    int rc = 0;
    json_array_foreach (json_object_get(host, "routes"), i, route) {
        const json_t *weighted =
            json_object_get(json_object_get(route, "route"), "weighted_clusters");
        rc = rc ? rc : add_exceptions(g, set, route, &unused);
        json_array_foreach (json_object_get(weighted, "clusters"), k, cluster)
            rc = rc ? rc : add_exceptions(g, set, cluster, &unused);
    }
    return rc;
}

int osm__guard_of_host(struct osm__guard *g, const json_t *host)
{
    bool ruled = false;
    int rc = osm__guard_init(g);
    json_t *set = rc ? NULL : json_object();
    if (rc || !set || json_array_append_new(g->allow, set))
        return OSM_ENOMEM;
    rc = add_exceptions(g, set, host, &ruled);
    if (!rc && !ruled)
        rc = add_taken(set, osm_strdup(anybody), NULL);
    return rc ? rc : add_exceptions_below(g, set, host);
}

int osm__guard_of_table(struct osm__guard *g, const json_t *table)
{
    bool unused;
    int rc = osm__guard_init(g);
    json_t *set = rc ? NULL : json_object();
    if (rc || !set || json_array_append_new(g->allow, set))
        return OSM_ENOMEM;
    return add_exceptions(g, set, table, &unused);
}
