/* Documents, as a directory holds them, all the way that an object takes: YAML or JSON, the store,
 * the shipped policies' schema, `from`, `accept` and indexes, the rules over a small mesh, and the
 * encoder. Whatever the objects are, the engine lives on, what it serves can be decoded, and once
 * they are gone it serves and reports what it did before, to the byte. Run in the repository's
 * root. */
#include "base/check.h"
#include "base/log.h"
#include "base/yaml.h"
#include "model/store.h"
#include "policy/encode/proto.h"
#include "policy/engine.h"

#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { OBJECTS_MAX = 16 };

/* What the objects of the input meet: their names are those of the seeds. */
static const char mesh[] =
    "{apiVersion: v1, kind: Namespace, metadata: {name: red, labels: "
    "{openservicemesh.io/monitored-by: osm}}}\n---\n"
    "{apiVersion: v1, kind: Service, metadata: {name: a, namespace: red}, spec: {clusterIP: "
    "10.0.0.1, selector: {app: a}, ports: [{name: http, port: 80, targetPort: web}, {name: tcp-x, "
    "port: 81, targetPort: 8081}]}}\n---\n"
    "{apiVersion: v1, kind: Service, metadata: {name: b, namespace: red}, spec: {clusterIP: "
    "10.0.0.2, selector: {app: b}, ports: [{port: 80}]}}\n---\n"
    "{apiVersion: v1, kind: Pod, metadata: {name: a-1, namespace: red, labels: {app: a, "
    "osm-proxy-uuid: 00000000-0000-4000-8000-000000000001}}, spec: {serviceAccountName: a, "
    "containers: [{name: app, ports: [{name: web, containerPort: 8080}]}]}, status: {podIP: "
    "10.1.0.1}}\n---\n"
    "{apiVersion: v1, kind: Pod, metadata: {name: b-1, namespace: red, labels: {app: b, "
    "osm-proxy-uuid: 00000000-0000-4000-8000-000000000002}}, spec: {serviceAccountName: b, "
    "containers: [{name: app}]}, status: {podIP: 10.1.0.2}}\n---\n"
    "{apiVersion: specs.smi-spec.io/v1alpha4, kind: HTTPRouteGroup, metadata: {name: a, namespace: "
    "red}, spec: {matches: [{name: one, pathRegex: /x, methods: [GET]}]}}\n---\n"
    "{apiVersion: access.smi-spec.io/v1alpha3, kind: TrafficTarget, metadata: {name: a, namespace: "
    "red}, spec: {destination: {kind: ServiceAccount, name: a, namespace: red}, sources: [{kind: "
    "ServiceAccount, name: b, namespace: red}], rules: [{kind: HTTPRouteGroup, name: a}]}}\n";

struct bench {
    struct osm_store *store;
    struct osm_store_reader *reader;
    struct osm_engine *engine;
    struct osm_snapshot *snapshot, *before;
};

static void run(struct bench *b)
{
    struct osm_snapshot *made = NULL;
    struct osm_err err = {0};
    struct osm_changes none = {NULL, 0}, *changes = osm_store_reader_take(b->reader);
    int rc = osm_engine_run(b->engine, changes ? changes : &none, &made, &err);
    osm_changes_free(changes);
    OSM_REQUIRE(!rc);
    if (made) {
        osm_snapshot_unref(b->snapshot);
        b->snapshot = made;
    }
}

static void put_all(struct bench *b, const char *text)
{
    struct osm_yaml_docs docs = {NULL, 0};
    OSM_REQUIRE(!osm_yaml_parse(text, strlen(text), &docs, NULL, NULL));
    for (size_t i = 0; i < docs.len; i++) {
        struct osm_object *object = NULL;
        OSM_REQUIRE(!osm_object_new(&object, json_incref(docs.list[i].value), "mesh", NULL));
        OSM_REQUIRE(!osm_store_put(b->store, object));
    }
    osm_yaml_docs_clear(&docs);
}

static struct bench *bench(void)
{
    static struct bench b;
    static const char *const dirs[] = {"policies", NULL};
    const struct osm_engine_config config = {.policies_dirs = dirs,
                                             .mesh_name = "osm",
                                             .osm_namespace = "osm-system",
                                             .trust_domain = "cluster.local",
                                             .roots_pem = "roots"};
    if (b.engine)
        return &b;
    osm_log_set_level(OSM_LOG_TOPIC_COUNT, OSM_LOG_ERROR);
    b.store = osm_store_new();
    b.reader = b.store ? osm_store_reader_new(b.store) : NULL;
    OSM_REQUIRE(b.reader && !osm_engine_new(&b.engine, &config, NULL));
    put_all(&b, mesh);
    run(&b);
    OSM_REQUIRE(b.snapshot->proxies_len == 2 && !json_array_size(b.snapshot->errors));
    b.before = osm_snapshot_ref(b.snapshot);
    return &b;
}

static void check_decodes(const struct osm_snapshot *s)
{
    for (size_t i = 0; i < s->proxies_len; i++)
        for (int t = 0; t < OSM_XDS_TYPE_COUNT; t++)
            for (size_t k = 0; k < s->proxies[i].cls->types[t].len; k++) {
                const struct osm_resource *r = s->proxies[i].cls->types[t].list[k];
                json_t *json = NULL;
                int rc =
                    osm_proto_decode(osm_proto_find(osm_xds_type_message((enum osm_xds_type)t)),
                                     osm_bytes_data(r->body), osm_bytes_len(r->body), &json, NULL);
                OSM_REQUIRE(!rc);
                json_decref(json);
            }
}

static void check_same(const struct osm_snapshot *a, const struct osm_snapshot *b)
{
    OSM_REQUIRE(a->proxies_len == b->proxies_len);
    OSM_REQUIRE(json_equal(a->rejects, b->rejects) && json_equal(a->errors, b->errors));
    for (size_t i = 0; i < a->proxies_len; i++)
        for (int t = 0; t < OSM_XDS_TYPE_COUNT; t++) {
            size_t n = a->proxies[i].cls->types[t].len;
            OSM_REQUIRE(n == b->proxies[i].cls->types[t].len);
            for (size_t k = 0; k < n; k++) {
                const struct osm_resource *x = a->proxies[i].cls->types[t].list[k];
                const struct osm_resource *y = b->proxies[i].cls->types[t].list[k];
                OSM_REQUIRE(!strcmp(x->name, y->name) && !strcmp(x->version, y->version));
                OSM_REQUIRE(osm_bytes_len(x->body) == osm_bytes_len(y->body) &&
                            !memcmp(osm_bytes_data(x->body), osm_bytes_data(y->body),
                                    osm_bytes_len(x->body)));
            }
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bench *b = bench();
    struct osm_yaml_docs docs = {NULL, 0};
    char *keys[OBJECTS_MAX];
    size_t n = 0;
    if (osm_yaml_parse((const char *)data, size, &docs, NULL, NULL))
        return 0;
    for (size_t i = 0; i < docs.len && n < OBJECTS_MAX; i++) {
        struct osm_object *object = NULL;
        if (osm_object_new(&object, json_incref(docs.list[i].value), "fuzz", NULL))
            continue;
        keys[n] = osm_strdup(object->key);
        OSM_REQUIRE(keys[n++] && !osm_store_put(b->store, object));
    }
    osm_yaml_docs_clear(&docs);
    if (!n)
        return 0;
    run(b);
    check_decodes(b->snapshot);
    for (size_t i = 0; i < n; i++) {
        (void)osm_store_delete(b->store, keys[i]);
        osm_free(keys[i]);
    }
    put_all(b, mesh); /* one of it may have been replaced */
    run(b);
    check_same(b->before, b->snapshot);
    return 0;
}
