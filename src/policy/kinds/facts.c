#include "policy/kinds/facts.h"

#include "policy/bundle/bundle.h"

#include <string.h>

static json_t *settings(struct osm_engine *e, const struct osm_key *key)
{
    (void)key;
    return json_incref(e->settings);
}

static json_t *is_monitored(struct osm_engine *e, const struct osm_key *key)
{
    return json_boolean(osm_world_monitored(e->world, key->at[0].str));
}

static json_t *target_ports(struct osm_engine *e, const struct osm_key *key)
{
    int64_t port = key->at[2].i;
    if (port < 1 || port > 65535)
        return json_array();
    return osm_world_target_ports(e->world, key->at[0].str, key->at[1].str, (int)port);
}

static json_t *accounts_behind(struct osm_engine *e, const struct osm_key *key)
{
    return osm_world_accounts_behind(e->world, key->at[0].str, key->at[1].str);
}

static json_t *services_of(struct osm_engine *e, const struct osm_key *key)
{
    return osm_world_services_of(e->world, key->at[0].str, key->at[1].str);
}

static json_t *workloads(struct osm_engine *e, const struct osm_key *key)
{
    (void)key;
    return osm_world_workloads(e->world);
}

static json_t *accounts(struct osm_engine *e, const struct osm_key *key)
{
    (void)key;
    return osm_world_accounts(e->world);
}

static json_t *members(struct osm_engine *e, const struct osm_key *key)
{
    return osm_world_members(e->world, key->at[0].str, key->at[1].str);
}

static json_t *addresses(struct osm_engine *e, const struct osm_key *key)
{
    return osm_world_addresses(e->world, key->at[0].str, key->at[1].str);
}

static const struct {
    const char *name, *signature;
    osm_fact_fn *fn;
    const char *params, *returns, *doc; /* LuaCATS; params in the signature's order */
} facts[] = {
    {"settings", "", settings, "", "mesh.Settings", "How the mesh is called, and where."},
    {"is_monitored", "s", is_monitored, "namespace", "boolean",
     "Whether the namespace is of this mesh, by its label openservicemesh.io/monitored-by."},
    {"target_ports", "ssi", target_ports, "namespace, service, port", "integer[]",
     "The ports of the pods behind a Service's port, ascending: several where a named one is "
     "another number in some pods, {} where it is found in none. Without a selector its endpoints "
     "say which."},
    {"accounts_behind", "ss", accounts_behind, "namespace, service", "string[]",
     "The accounts of the pods behind a Service, sorted: plain names, in the Service's namespace."},
    {"services_of", "ss", services_of, "namespace, account", "string[]",
     "The Services of the namespace that have a pod of this account, sorted."},
    {"workloads", "", workloads, "", "[string, string, string][]",
     "Namespace, Service and account of all that serve; sorted, so good for `each`."},
    {"accounts", "", accounts, "", "[string, string][]",
     "Namespace and account of all pods with a sidecar; sorted, so good for `each`."},
    {"members", "ss", members, "namespace, service", "mesh.Member[]",
     "The pods behind a headless Service; {} for any other."},
    {"addresses", "ss", addresses, "namespace, service", "string[]",
     "The addresses of the ready pods behind a Service; those that an EndpointSlice names and no "
     "pod "
     "of the namespace has are left out. Who asks is run again whenever a pod comes or goes, so "
     "ask only if that is needed; load assignments are filled in without "
     "asking."},
};

int osm_facts_declare(struct osm_engine *e, struct osm_err *err)
{
    for (size_t i = 0; i < sizeof facts / sizeof *facts; i++) {
        struct osm_decl *d = osm_bundle_declare(e, OSM_DECL_FACT, facts[i].name, NULL, err);
        if (!d)
            return OSM_ENOMEM;
        d->params = facts[i].signature;
        d->fact = facts[i].fn;
    }
    return 0;
}

const char *osm_fact_check(const struct osm_decl *fact, const struct osm_key *key)
{
    static const struct {
        const char *signature, *text;
    } forms[] = {
        {"", "takes no key"},
        {"s", "takes a namespace"},
        {"ss", "takes a namespace and a name"},
        {"ssi", "takes a namespace, a service and a port number"},
    };
    bool fits = key->n == strlen(fact->params);
    for (size_t i = 0; fits && i < key->n; i++)
        fits = key->at[i].type == (fact->params[i] == 's' ? OSM_SCALAR_STR : OSM_SCALAR_INT);
    for (size_t i = 0; !fits && i < sizeof forms / sizeof *forms; i++)
        if (!strcmp(forms[i].signature, fact->params))
            return forms[i].text;
    return NULL;
}

/* "namespace, service, port" with the types of "ssi". */
static json_t *describe_params(const char *names, const char *signature)
{
    json_t *params = json_array();
    for (size_t i = 0; params && signature[i]; i++) {
        size_t n = strcspn(names, ",");
        if (json_array_append_new(params, json_pack("{s:s%, s:s, s:s}", "name", names, n, "type",
                                                    signature[i] == 's' ? "string" : "integer",
                                                    "text", ""))) {
            json_decref(params);
            return NULL;
        }
        names += n + strspn(names + n, ", ");
    }
    return params;
}

json_t *osm_fact_describe(const struct osm_decl *fact)
{
    for (size_t i = 0; i < sizeof facts / sizeof *facts; i++)
        if (!strcmp(facts[i].name, fact->name))
            return json_pack("{s:s, s:s, s:o, s:[{s:s, s:s, s:s}]}", "name", fact->name, "text",
                             facts[i].doc, "params",
                             describe_params(facts[i].params, facts[i].signature), "returns",
                             "type", facts[i].returns, "name", "", "text", "");
    return NULL;
}
