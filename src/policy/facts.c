#include "policy/facts.h"

#include "policy/bundle.h"

#include <string.h>

static json_t *settings(struct osm_engine *e, const struct osm_key *key)
{
    (void)key;
    return json_incref(e->settings);
}

static json_t *target_port(struct osm_engine *e, const struct osm_key *key)
{
    int64_t port = key->at[2].i;
    if (port < 1 || port > 65535)
        return json_integer(0);
    return json_integer(osm_world_target_port(e->world, key->at[0].str, key->at[1].str, (int)port));
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
} facts[] = {
    {"settings", "", settings},
    {"target_port", "ssi", target_port},
    {"target_ports", "ssi", target_ports},
    {"accounts_behind", "ss", accounts_behind},
    {"services_of", "ss", services_of},
    {"workloads", "", workloads},
    {"accounts", "", accounts},
    {"members", "ss", members},
    {"addresses", "ss", addresses},
};

int osm_facts_declare(struct osm_engine *e, struct osm_err *err)
{
    for (size_t i = 0; i < sizeof facts / sizeof *facts; i++) {
        struct osm_decl *d = osm_bundle_declare(e, OSM_DECL_FACT, facts[i].name, NULL, err);
        if (!d)
            return OSM_ENOMEM;
        d->signature = facts[i].signature;
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
        {"ss", "takes a namespace and a name"},
        {"ssi", "takes a namespace, a service and a port number"},
    };
    bool fits = key->n == strlen(fact->signature);
    for (size_t i = 0; fits && i < key->n; i++)
        fits = key->at[i].type == (fact->signature[i] == 's' ? OSM_SCALAR_STR : OSM_SCALAR_INT);
    for (size_t i = 0; !fits && i < sizeof forms / sizeof *forms; i++)
        if (!strcmp(forms[i].signature, fact->signature))
            return forms[i].text;
    return NULL;
}
