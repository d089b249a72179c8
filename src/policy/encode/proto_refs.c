/* What a message says about others: clusters, route configurations, secrets and load assignments by
 * name. */
#include "policy/encode/proto_encode_priv.h"

#include "envoy/config/cluster/v3/cluster.pb-c.h"

#include <string.h>

/* Asked for every text of every message, and nearly always different at the first letter. */
static inline bool is(const char *text, const char *other)
{
    return *text == *other && !strcmp(text, other);
}

void osm__proto_note_name(struct osm__proto_encoder *e, struct osm__proto_node *node,
                          const ProtobufCFieldDescriptor *f, const char *text)
{
    static const struct {
        const char *message, *field;
        enum osm_ref_kind kind;
    } names[] = {
        {"envoy.config.route.v3.RouteAction", "cluster", OSM_REF_CLUSTER},
        {"envoy.config.route.v3.RouteAction.RequestMirrorPolicy", "cluster", OSM_REF_CLUSTER},
        {"envoy.config.route.v3.WeightedCluster.ClusterWeight", "name", OSM_REF_CLUSTER},
        {"envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", "cluster", OSM_REF_CLUSTER},
        {"envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.WeightedCluster.ClusterWeight",
         "name", OSM_REF_CLUSTER},
        {"envoy.extensions.filters.network.http_connection_manager.v3.Rds", "route_config_name",
         OSM_REF_ROUTE_CONFIG},
    };
    if (is(f->name, "name"))
        node->name = text;
    else if (is(f->name, "service_name") &&
             !strcmp(node->message->name, "envoy.config.cluster.v3.Cluster.EdsClusterConfig") &&
             node->up)
        node->up->eds_name = text;
    if (!e->on_ref || !*text)
        return;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (is(f->name, names[i].field) && !strcmp(node->message->name, names[i].message))
            e->on_ref(e->ud, names[i].kind, text);
}

/* A secret is asked of us only where its config source is ADS; a cluster's type stands behind its
 * name. */
void osm__proto_note_message(struct osm__proto_encoder *e, struct osm__proto_node *node)
{
    const char *type = node->message->name;
    if (!e->on_ref)
        return;
    if (node->is_ads && node->name && *node->name &&
        !strcmp(type, "envoy.extensions.transport_sockets.tls.v3.SdsSecretConfig"))
        e->on_ref(e->ud, OSM_REF_SECRET, node->name);
    if (node->is_eds && !strcmp(type, "envoy.config.cluster.v3.Cluster"))
        e->on_ref(e->ud, OSM_REF_EDS,
                  node->eds_name && *node->eds_name ? node->eds_name
                  : node->name                      ? node->name
                                                    : "");
    if (!strcmp(type, "envoy.config.core.v3.AggregatedConfigSource") && node->up && node->up->up &&
        !strcmp(node->up->message->name, "envoy.config.core.v3.ConfigSource"))
        node->up->up->is_ads = true;
}

void osm__proto_note_number(struct osm__proto_node *node, const ProtobufCFieldDescriptor *f,
                            uint64_t bits)
{
    if (bits == ENVOY__CONFIG__CLUSTER__V3__CLUSTER__DISCOVERY_TYPE__EDS &&
        f->type == PROTOBUF_C_TYPE_ENUM && !strcmp(f->name, "type") &&
        !strcmp(node->message->name, "envoy.config.cluster.v3.Cluster"))
        node->is_eds = true;
}
