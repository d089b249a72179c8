/* The facts of one monitored namespace: its pods, services and their endpoints, linked with each
 * other.
 *
 *   pod ---- labels ----> services whose selector matches      (pods_by_label, services_by_label)
 *   slice -- targetRef -> pod, or address -> pod               (mentions)
 *
 * A change of a pod marks only the services it touches; a marked service is linked anew when
 * somebody asks. What a question needs beyond the links (addresses, ports) is read off the objects
 * at that moment, so nothing else can be stale. */
#pragma once

#include "base/map.h"
#include "model/kube.h"
#include "model/world.h"

/* A small bag of pointers; removal does not keep order. */
struct osm__bag {
    void **items;
    size_t len, cap;
};

/* What changed, for those who keep an answer over all namespaces. Shared by them. */
struct osm__facts_changed {
    bool workloads; /* pairs of service and account */
    bool accounts;  /* accounts with a sidecar */
    bool proxies;   /* pods with a sidecar, or the services of one */
    bool reports;   /* objects that are malformed */
    /* of the linking in progress: each service that is linked anew, and each account that it had or
     * has; NULL: nobody listens */
    osm_world_topic_fn *tell;
    void *ud;
};

/* Lives while there is a pod, or a service is linked to it. */
struct osm__pod_node {
    const char *name;     /* the map's key */
    struct osm__pod *pod; /* NULL: gone, links not yet taken down */
    struct osm__bag services;
    uint64_t mark; /* of the linking in progress */
};

/* Lives while a pod with a sidecar has it, or a service is linked to it. */
struct osm__account_node {
    const char *name;
    struct osm__bag services;
    size_t sidecars;
    uint64_t mark;
};

/* "p/NAME" or "a/ADDRESS", as slices name pods. Lives while a service is linked to it. */
struct osm__mention_node {
    const char *name;
    struct osm__bag services;
    uint64_t mark;
};

/* Lives while there is a Service, EndpointSlice or Endpoints object of its name. */
struct osm__service_node {
    const char *name;
    struct osm__service *service; /* NULL: none; then nothing is behind it */
    struct osm__bag slices;       /* struct osm__slices *, borrowed from the map */
    struct osm__slices *endpoints;
    struct osm__bag pods, accounts, mentions; /* nodes, once linked */
    bool marked;
};

struct osm__facts {
    const char *ns; /* borrowed */
    struct osm__facts_changed *changed;
    struct osm_map pods, services, accounts, mentions; /* name -> node */
    struct osm_map slices; /* name of the EndpointSlice -> struct osm__slices * */
    struct osm_map pods_by_label, services_by_label; /* "key=value" -> struct osm__bag * of nodes */
    struct osm_map pods_by_ip;                       /* address -> struct osm__bag * of pod nodes */
    struct osm__bag marked;                          /* service nodes to link anew */
    uint64_t mark;
    struct osm_map malformed; /* key -> struct osm_object *: what nothing is derived from */
};

OSM_MUST_USE struct osm__facts *osm__facts_new(const char *ns, struct osm__facts_changed *changed);
void osm__facts_free(struct osm__facts *facts);
/** Is it of a kind that facts are derived from? */
bool osm__facts_wants(const struct osm_object *object);
/** Replaces @p old by @p now (either may be NULL), both of a wanted kind. Errors: OSM_ENOMEM, facts
 * are then unusable. */
OSM_MUST_USE int osm__facts_change(struct osm__facts *facts, const struct osm_object *old,
                                   struct osm_object *now);
/** Links what is marked. Errors: OSM_ENOMEM; may be tried again. */
OSM_MUST_USE int osm__facts_link(struct osm__facts *facts);

/* --- questions; the facts must be linked --- */

/* One usable endpoint. Everything is borrowed until the next change. */
struct osm__backend {
    const char *address, *account, *hostname; /* "" unknown */
    uint16_t port;
    bool own; /* a pod of the namespace has this address: not only an EndpointSlice says so */
};

/** The service, if there is one that is well formed. */
const struct osm__service_node *osm__facts_service(const struct osm__facts *facts,
                                                   const char *name);
const struct osm__service_port *osm__facts_port(const struct osm__service_node *node, int number);
/* Distinct, ascending; of more than these the least. */
enum { OSM__NUMBERS_MAX = 16 };
struct osm__numbers {
    uint16_t list[OSM__NUMBERS_MAX];
    size_t len;
};
/** As osm_world_target_ports. */
void osm__facts_target_ports(const struct osm__service_node *node,
                             const struct osm__service_port *port, struct osm__numbers *out);
/** Ready endpoints, sorted by address, without duplicates; @p port NULL: whatever their ports.
 * *out: osm_free. */
OSM_MUST_USE int osm__facts_backends(const struct osm__facts *facts,
                                     const struct osm__service_node *node,
                                     const struct osm__service_port *port,
                                     struct osm__backend **out, size_t *n);
/** The pod that an endpoint stands for; NULL where unknown. */
struct osm__pod_node *osm__facts_endpoint_pod(const struct osm__facts *facts,
                                              const struct osm__endpoint *endpoint);
/** The slices that count: EndpointSlices, else the Endpoints object, else none. Iterate i from 0
 * until NULL. */
const struct osm__slices *osm__facts_slices(const struct osm__service_node *node, size_t i);
