/* Random manifests over a few names, so that they meet: two namespaces that mostly belong to the
 * mesh, four services and accounts, eight pods. */
#include "property.h"

#include "base/yaml.h"

#include <stdio.h>
#include <string.h>

enum { YAML_MAX = 8192 };

static const char *const spaces[] = {"red", "blue"};
static const char *const names[] = {"a", "b", "c", "d"};

json_t *object_parse(const char *yaml)
{
    struct osm_yaml_docs docs = {0};
    struct osm_err err = {0};
    if (osm_yaml_parse(yaml, strlen(yaml), &docs, NULL, &err) || docs.len != 1) {
        (void)fprintf(stderr, "%s: %s\n", yaml, err.msg);
        OSM_REQUIRE(!"a test's own YAML is right");
    }
    json_t *body = json_incref(docs.list[0].value);
    osm_yaml_docs_clear(&docs);
    return body;
}

static json_t *finish(struct osm_buf *yaml)
{
    OSM_REQUIRE(!yaml->failed);
    json_t *body = object_parse(yaml->data);
    osm_buf_clear(yaml);
    return body;
}

/* "apiVersion, kind, metadata" with the namespace and the name open. */
static void head(struct osm_buf *y, struct random *r, const char *api, const char *kind)
{
    (void)osm_buf_addf(y, "{apiVersion: %s, kind: %s, metadata: {name: %s, namespace: %s", api,
                       kind, PICK(r, names), PICK(r, spaces));
}

static json_t *some_namespace(struct random *r, bool sane)
{
    struct osm_buf y = OSM_BUF_INIT(YAML_MAX);
    bool in = sane || pick(r, 4);
    (void)osm_buf_addf(&y,
                       "{apiVersion: v1, kind: Namespace, metadata: {name: %s, labels: "
                       "{openservicemesh.io/monitored-by: %s}}}",
                       PICK(r, spaces), in ? "osm" : "other");
    return finish(&y);
}

static json_t *service(struct random *r, bool sane)
{
    static const char *const targets[] = {"8080", "8081", "web", "db", "gone"};
    static const char *const ports[] = {"http", "tcp-x", "tcp-server-first-y", "grpc-z", "other"};
    static const char *const protocols[] = {"appProtocol: tcp", "appProtocol: HTTP",
                                            "appProtocol: mongo", "protocol: UDP", "note: 1"};
    struct osm_buf y = OSM_BUF_INIT(YAML_MAX);
    head(&y, r, "v1", "Service");
    if (!pick(r, 4))
        (void)osm_buf_addf(&y, ", creationTimestamp: \"2024-01-0%uT00:00:00Z\"", pick(r, 9) + 1);
    (void)osm_buf_add_str(&y, "}, spec: {clusterIP: ");
    if (pick(r, 5))
        (void)osm_buf_addf(&y, "10.0.0.%u", pick(r, 8) + 1);
    else
        (void)osm_buf_add_str(&y, pick(r, 2) ? "None" : "\"\"");
    if (pick(r, 8))
        (void)osm_buf_addf(&y, ", selector: {app: %s}", PICK(r, names));
    if (!sane && !pick(r, 15))
        (void)osm_buf_add_str(&y, ", type: ExternalName");
    (void)osm_buf_add_str(&y, ", ports: [");
    unsigned n = pick(r, 8) ? 1 + pick(r, 3) : 0;
    for (unsigned i = 0; i < n; i++)
        (void)osm_buf_addf(&y, "%s{name: %s, port: %u, targetPort: %s, %s}", i ? ", " : "",
                           ports[pick(r, sane ? 4 : 5)], 80 + pick(r, 3),
                           targets[pick(r, sane ? 4 : 5)],
                           pick(r, 5) ? "note: 1" : protocols[pick(r, sane ? 2 : 5)]);
    (void)osm_buf_add_str(&y, "]}}");
    return finish(&y);
}

static json_t *pod(struct random *r, bool sane)
{
    struct osm_buf y = OSM_BUF_INIT(YAML_MAX);
    unsigned i = pick(r, 8), space = pick(r, 2), uuid = i + 8 * space;
    if (!sane && !pick(r, 10)) /* now and then the uuid of another pod */
        uuid = pick(r, 16);
    (void)osm_buf_addf(
        &y, "{apiVersion: v1, kind: Pod, metadata: {name: p%u, namespace: %s, labels: {app: %s", i,
        spaces[space], PICK(r, names));
    if (sane || pick(r, 8))
        (void)osm_buf_addf(&y, ", osm-proxy-uuid: 00000000-0000-4000-8000-00000000000%x", uuid);
    (void)osm_buf_addf(&y, "}}, spec: {serviceAccountName: %s, containers: [{name: app, ports: [",
                       PICK(r, names));
    if (pick(r, 4))
        (void)osm_buf_addf(&y, "{name: web, containerPort: %u}, ", 8080 + pick(r, 3));
    (void)osm_buf_addf(&y, "{name: db, containerPort: %u}]}", 9000 + pick(r, 2));
    (void)osm_buf_addf(&y, "]}, status: {phase: %s, podIP: 10.1.0.%u%s}}",
                       sane || pick(r, 12) ? "Running" : "Succeeded", pick(r, 200) + 1,
                       pick(r, 4) ? "" : ", conditions: [{type: Ready, status: \"False\"}]");
    return finish(&y);
}

static json_t *slice(struct random *r)
{
    struct osm_buf y = OSM_BUF_INIT(YAML_MAX);
    head(&y, r, "discovery.k8s.io/v1", "EndpointSlice");
    (void)osm_buf_addf(&y,
                       ", labels: {kubernetes.io/service-name: %s}}, addressType: IPv4, ports: "
                       "[{name: http, port: %u}, {name: tcp-x, port: 8081}], endpoints: [",
                       PICK(r, names), 8080 + pick(r, 3));
    unsigned n = pick(r, 4);
    for (unsigned i = 0; i < n; i++)
        (void)osm_buf_addf(&y,
                           "%s{addresses: [10.1.0.%u], targetRef: {kind: Pod, name: p%u, "
                           "namespace: red}, conditions: {ready: %s}}",
                           i ? ", " : "", pick(r, 200) + 1, pick(r, 8),
                           pick(r, 4) ? "true" : "false");
    (void)osm_buf_add_str(&y, "]}");
    return finish(&y);
}

static json_t *endpoints(struct random *r)
{
    struct osm_buf y = OSM_BUF_INIT(YAML_MAX);
    head(&y, r, "v1", "Endpoints");
    (void)osm_buf_addf(&y,
                       "}, subsets: [{addresses: [{ip: 10.1.0.%u, targetRef: {kind: Pod, name: "
                       "p%u}}], ports: [{name: http, port: %u}]}]}",
                       pick(r, 200) + 1, pick(r, 8), 8080 + pick(r, 3));
    return finish(&y);
}

static const char *some_version(struct random *r, bool sane, const char *newest)
{
    static const char *const others[] = {"v1alpha1", "v1alpha2", "v1alpha3", "v1alpha4", "v9"};
    return sane || pick(r, 12) ? newest : PICK(r, others);
}

static json_t *target(struct random *r, bool sane)
{
    struct osm_buf y = OSM_BUF_INIT(YAML_MAX);
    const char *ns = PICK(r, spaces);
    (void)osm_buf_addf(
        &y,
        "{apiVersion: access.smi-spec.io/%s, kind: TrafficTarget, metadata: {name: %s, "
        "namespace: %s}, spec: {destination: {kind: ServiceAccount, name: %s, namespace: "
        "%s}, sources: [",
        some_version(r, sane, "v1alpha3"), PICK(r, names), ns, PICK(r, names),
        sane || pick(r, 12) ? ns : PICK(r, spaces));
    unsigned n = sane || pick(r, 12) ? 1 + pick(r, 2) : 0;
    for (unsigned i = 0; i < n; i++)
        (void)osm_buf_addf(&y, "%s{kind: ServiceAccount, name: %s, namespace: %s}", i ? ", " : "",
                           PICK(r, names), PICK(r, spaces));
    (void)osm_buf_add_str(&y, "], rules: [");
    n = 1 + pick(r, 3);
    for (unsigned i = 0; i < n; i++) {
        bool tcp = !pick(r, 3);
        (void)osm_buf_addf(&y, "%s{kind: %s, name: %s", i ? ", " : "",
                           tcp ? "TCPRoute" : "HTTPRouteGroup", PICK(r, names));
        if (!tcp && pick(r, 2))
            (void)osm_buf_addf(&y, ", matches: [%s%s]", pick(r, 2) ? "one" : "two",
                               pick(r, 3) ? "" : ", three");
        (void)osm_buf_add_str(&y, "}");
    }
    (void)osm_buf_add_str(&y, "]}}");
    return finish(&y);
}

static json_t *group(struct random *r, bool sane)
{
    static const char *const matches[] = {"one", "two", "three"};
    static const char *const paths[] = {"/buy", "/buy/.*", "\"/[a-z]+/x\"", "\"\"", "\".*\""};
    static const char *const methods[] = {"GET", "POST", "PUT", "DELETE"};
    struct osm_buf y = OSM_BUF_INIT(YAML_MAX);
    char api[64];
    (void)snprintf(api, sizeof api, "specs.smi-spec.io/%s", some_version(r, sane, "v1alpha4"));
    head(&y, r, api, "HTTPRouteGroup");
    (void)osm_buf_add_str(&y, "}, spec: {matches: [");
    unsigned n = pick(r, 10) ? 1 + pick(r, 3) : 0;
    for (unsigned i = 0; i < n; i++) {
        (void)osm_buf_addf(&y, "%s{name: %s", i ? ", " : "", matches[i]);
        if (pick(r, 4))
            (void)osm_buf_addf(&y, ", pathRegex: %s",
                               sane || pick(r, 20) ? PICK(r, paths) : "\"(\"");
        if (pick(r, 2))
            (void)osm_buf_addf(&y, ", methods: [%s, %s]", PICK(r, methods),
                               pick(r, 6) ? PICK(r, methods) : "\"*\"");
        if (!pick(r, 3))
            (void)osm_buf_addf(&y, ", headers: [{user-agent: v%u}%s]", pick(r, 3),
                               pick(r, 2) ? "" : ", {host: shop}");
        (void)osm_buf_add_str(&y, "}");
    }
    (void)osm_buf_add_str(&y, "]}}");
    return finish(&y);
}

static json_t *tcp_route(struct random *r, bool sane)
{
    struct osm_buf y = OSM_BUF_INIT(YAML_MAX);
    char api[64];
    (void)snprintf(api, sizeof api, "specs.smi-spec.io/%s", some_version(r, sane, "v1alpha4"));
    head(&y, r, api, "TCPRoute");
    unsigned n = pick(r, 6) ? 1 + pick(r, 2) : 0;
    (void)osm_buf_add_str(&y, "}, spec: {matches: {ports: [");
    for (unsigned i = 0; i < n; i++)
        (void)osm_buf_addf(&y, "%s%u", i ? ", " : "", pick(r, 3) ? 8080 + pick(r, 3) : 9000);
    (void)osm_buf_add_str(&y, "]}}}");
    return finish(&y);
}

static json_t *split(struct random *r, bool sane)
{
    struct osm_buf y = OSM_BUF_INIT(YAML_MAX);
    char api[64];
    (void)snprintf(api, sizeof api, "split.smi-spec.io/%s", some_version(r, sane, "v1alpha2"));
    head(&y, r, api, "TrafficSplit");
    if (pick(r, 2))
        (void)osm_buf_addf(&y, ", creationTimestamp: \"2024-01-0%uT00:00:00Z\"", pick(r, 9) + 1);
    (void)osm_buf_addf(&y, "}, spec: {service: %s%s, backends: [", PICK(r, names),
                       pick(r, 5) ? "" : ".red");
    unsigned n = 1 + pick(r, 3);
    for (unsigned i = 0; i < n; i++)
        (void)osm_buf_addf(&y, "%s{service: %s, weight: %s%u}", i ? ", " : "", PICK(r, names),
                           sane || pick(r, 25) ? "" : "-", pick(r, 4) * 25);
    (void)osm_buf_add_str(&y, "]}}");
    return finish(&y);
}

static json_t *config(struct random *r, bool sane)
{
    struct osm_buf y = OSM_BUF_INIT(YAML_MAX);
    (void)osm_buf_addf(
        &y,
        "{apiVersion: config.openservicemesh.io/v1alpha2, kind: MeshConfig, metadata: {name: "
        "osm-mesh-config, namespace: osm-system}, spec: {traffic: "
        "{enablePermissiveTrafficPolicyMode: %s, enableEgress: %s}}}",
        sane || pick(r, 3) ? "false" : "true", sane || pick(r, 4) ? "false" : "true");
    return finish(&y);
}

/* Of the test's own bundle: what goes wrong on purpose. */
static json_t *some_link(struct random *r)
{
    static const char *const wrongs[] = {"emit",    "message", "rule",    "emit",   "emit",
                                         "message", "keys",    "from",    "accept", "reject",
                                         "chain",   "type",    "refused", "none"};
    static const unsigned depths[] = {1, 40, 140, 148, 149, 150, 151, 152, 160, 310};
    struct osm_buf y = OSM_BUF_INIT(YAML_MAX);
    head(&y, r, pick(r, 6) ? "test.mesh/v2" : "test.mesh/v1", "Link");
    (void)osm_buf_addf(&y, "}, spec: {to: %s", PICK(r, names));
    if (!pick(r, 3))
        (void)osm_buf_addf(&y, ", wrong: %s", PICK(r, wrongs));
    if (!pick(r, 12))
        (void)osm_buf_addf(&y, ", depth: %u", PICK(r, depths));
    (void)osm_buf_add_str(&y, "}}");
    return finish(&y);
}

json_t *object_random(struct random *r, enum kind kind, bool sane)
{
    switch (kind) {
    case KIND_NAMESPACE:
        return some_namespace(r, sane);
    case KIND_SERVICE:
        return service(r, sane);
    case KIND_POD:
        return pod(r, sane);
    case KIND_SLICE:
        return slice(r);
    case KIND_ENDPOINTS:
        return endpoints(r);
    case KIND_TARGET:
        return target(r, sane);
    case KIND_GROUP:
        return group(r, sane);
    case KIND_TCPROUTE:
        return tcp_route(r, sane);
    case KIND_SPLIT:
        return split(r, sane);
    case KIND_CONFIG:
        return config(r, sane);
    case KIND_LINK:
    case KIND_COUNT:
    default:
        return some_link(r);
    }
}

void objects_anchor(struct ops *ops)
{
    ops_put(ops, object_parse("{apiVersion: v1, kind: Namespace, metadata: {name: anchor, labels: "
                              "{openservicemesh.io/monitored-by: osm}}}"));
    ops_put(ops, object_parse("{apiVersion: v1, kind: Pod, metadata: {name: anchor, namespace: "
                              "anchor, labels: {osm-proxy-uuid: "
                              "99999999-0000-4000-8000-000000000000}}, spec: {serviceAccountName: "
                              "anchor, containers: [{name: app}]}, status: {phase: Running, podIP: "
                              "10.9.0.1}}"));
    ops->list[ops->len - 2].pinned = ops->list[ops->len - 1].pinned = true;
    for (size_t i = 0; i < sizeof spaces / sizeof *spaces; i++) {
        char yaml[256];
        (void)snprintf(yaml, sizeof yaml,
                       "{apiVersion: v1, kind: Namespace, metadata: {name: %s, labels: "
                       "{openservicemesh.io/monitored-by: osm}}}",
                       spaces[i]);
        ops_put(ops, object_parse(yaml));
    }
}
