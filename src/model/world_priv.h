/* What world.c (namespaces, changes, questions) and world_proxies.c share. */
#pragma once

#include "model/facts.h"
#include "model/world.h"

/* A namespace. */
struct osm__space {
    const char *name;       /* the map's key; "" holds what is cluster-scoped */
    struct osm_map objects; /* key -> one reference */
    bool monitored;
    bool next;                /* what monitored becomes with the batch that is being applied */
    struct osm__facts *facts; /* NULL unless monitored */
};

struct osm_world {
    char *mesh_name, *osm_namespace;
    struct osm_map spaces; /* namespace -> struct osm__space * */
    uint64_t revision;
    /* answers over all namespaces, kept until `changed` says otherwise */
    struct osm__facts_changed changed;
    bool toggled; /* a namespace has joined or left since the world was settled */
    json_t *workloads, *accounts;
    struct osm_world_proxy *proxies;
    const char **proxy_services; /* what the proxies' `services` point into */
    size_t proxies_len;
    struct osm_world_proxy
        *doubled; /* those that have a uuid that others of their namespace have */
    size_t doubled_len;
};

/** Links the facts of all namespaces. Errors: OSM_ENOMEM; may be tried again. */
OSM_MUST_USE int osm__world_link(struct osm_world *world);
/** For qsort of texts. */
int osm__by_text(const void *a, const void *b);
