/* What the host knows of the cluster, derived from Namespaces, Services, Pods, EndpointSlices and
 * Endpoints: the facts that rules ask for and the addresses that never enter Lua. Pure: objects in,
 * answers and a list of what changed out. One thread (the policy thread owns an instance).
 *
 * Only what lies in a monitored namespace (label openservicemesh.io/monitored-by = mesh name), the
 * mesh's own MeshConfig (in the OSM namespace; one elsewhere is never visible), and Namespace
 * objects of monitored namespaces are visible: no rule can forget that check. A namespace that
 * gains or loses the label makes its objects appear or vanish.
 *
 * Facts leave out what is malformed (a wrong type in a field that is read: logged, and as if it
 * were not there), pods that are over (phase Succeeded or Failed), ports that are not TCP, and
 * addresses that are not IPv4. A pod is ready when its Ready condition says so; one that lists no
 * such condition (usual in a directory) is ready too. A pod that is being deleted keeps its account
 * and its proxy but gets no new traffic.
 *
 * Every answer is a new json reference (caller: json_decref), sorted, without duplicates, and never
 * NULL but for no memory. */
#pragma once

#include "model/object.h"

struct osm_world;

struct osm_world_config {
    const char *mesh_name;
    const char *osm_namespace;
};

OSM_MUST_USE struct osm_world *osm_world_new(const struct osm_world_config *config);
void osm_world_free(struct osm_world *world);

/** Applies a batch. visible(ud, old, now) is called for each object whose visible content or status
 * changed (NULL = not there before / no longer); facts are invalidated. Does not take @p changes.
 * Errors: OSM_ENOMEM (the world is then unusable). */
typedef void osm_world_visible_fn(void *ud, struct osm_object *old, struct osm_object *now);
OSM_MUST_USE int osm_world_apply(struct osm_world *world, const struct osm_changes *changes,
                                 osm_world_visible_fn *visible, void *ud);
/* What a fact is about. */
enum osm_world_topic {
    OSM_WORLD_NAMED,     /* a service or an account: namespace and name */
    OSM_WORLD_WORKLOADS, /* osm_world_workloads */
    OSM_WORLD_ACCOUNTS,  /* osm_world_accounts */
    OSM_WORLD_ALL,       /* everything: a namespace has joined or left */
};
typedef void osm_world_topic_fn(void *ud, enum osm_world_topic topic, const char *ns,
                                const char *name);
/** After osm_world_apply and before any question: calls on_topic for each topic of which a fact may
 * now answer otherwise than before, some of them more than once. ns and name: borrowed, NULL where
 * the topic has none. Errors: OSM_ENOMEM. */
OSM_MUST_USE int osm_world_settle(struct osm_world *world, osm_world_topic_fn *on_topic, void *ud);
bool osm_world_monitored(const struct osm_world *world, const char *ns);
/** Grows with each batch that changed anything a fact is derived from. */
uint64_t osm_world_revision(const struct osm_world *world);

/* --- facts; each is a function of its key --- */
/** Numeric target ports of a Service port, ascending: [8080]. A number as it stands; a name through
 * slices or Endpoints, else containerPort of all selected pods, ready or not; [] where it is not
 * found; of more than sixteen the least. Of a Service without selector, what its slices or
 * Endpoints say counts before a number too. @p port is the service port number. */
json_t *osm_world_target_ports(struct osm_world *world, const char *ns, const char *service,
                               int port);
/** Accounts of the pods that a Service selects (or that its slices/Endpoints name): ["shop", ...],
 * all in its namespace. */
json_t *osm_world_accounts_behind(struct osm_world *world, const char *ns, const char *service);
/** Services that have a pod of this account behind them: ["shop", "shop-apex"]. */
json_t *osm_world_services_of(struct osm_world *world, const char *ns, const char *account);
/** All pairs, as keys: [[ns, service, account], ...]. */
json_t *osm_world_workloads(struct osm_world *world);
/** Accounts that have at least one pod with a sidecar: [[ns, account], ...]. */
json_t *osm_world_accounts(struct osm_world *world);
/** Ready endpoints that have a host name, of a headless service: [{"hostname": ..., "address":
 * ...}]; of any other: []. As below, only addresses that a pod has. */
json_t *osm_world_members(struct osm_world *world, const char *ns, const char *service);
/** Ready endpoint addresses that a pod of the namespace has: ["10.244.1.2", ...]. An EndpointSlice
 * may name any address, that of somebody else's Service or pod, too. */
json_t *osm_world_addresses(struct osm_world *world, const char *ns, const char *service);

/* --- endpoints, filled into load assignments by the host; never in Lua --- */
struct osm_endpoint {
    const char *address; /* IPv4 text; borrowed until the next apply */
    const char *account; /* "" unknown */
    uint16_t port;       /* numeric target port */
};
/** Ready endpoints of a service port, sorted by address. EndpointSlices win; Endpoints count only
 * for a Service without slices; with neither, selector and ready Pods. *out: osm_free. */
OSM_MUST_USE int osm_world_endpoints(struct osm_world *world, const char *ns, const char *service,
                                     int port, struct osm_endpoint **out, size_t *n);

/* --- proxies: every pod of a monitored namespace that carries a valid osm-proxy-uuid label --- */
struct osm_world_proxy {
    const char *key; /* osm_proxy_key */
    const char *pod; /* name */
    const char *ns;
    const char *account;
    const char **services; /* names in ns that select this pod (or whose slices name it), sorted */
    size_t services_len;
    struct osm_object *object;
};
/** Sorted by key; one that two pods of a namespace have is left out, and reported. Valid until the
 * next apply. */
const struct osm_world_proxy *osm_world_proxies(struct osm_world *world, size_t *n);
/** Whether osm_world_proxies would answer otherwise than it did last. The world is settled. */
bool osm_world_proxies_changed(const struct osm_world *world);

/** What of the objects nothing is derived from, and why: [{"object": "Pod blue/shop-1", "path",
 * "reason", "origin", "by"}]. NULL: no memory. Caller: json_decref. */
json_t *osm_world_reports(struct osm_world *world);
/** Whether osm_world_reports would answer otherwise than it did last. */
bool osm_world_reports_changed(const struct osm_world *world);
