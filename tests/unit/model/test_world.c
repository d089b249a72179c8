#include "model/world.h"

#include "base/log.h"
#include "base/map.h"
#include "model/objects.h"
#include "model/store.h"

#include <stdio.h>

/* A world fed through a store, as in the daemon. */
struct fixture {
    struct osm_store *store;
    struct osm_world *world;
    int appeared, vanished, changed;
    char last[128];
};

static void on_visible(void *ud, struct osm_object *old, struct osm_object *now)
{
    struct fixture *f = ud;
    f->appeared += !old;
    f->vanished += !now;
    f->changed += old && now;
    (void)snprintf(f->last, sizeof f->last, "%s", now ? now->key : old->key);
}

static int set_up(void **state)
{
    static const struct osm_world_config config = {"osm", "osm-system"};
    struct fixture *f = osm_alloc(sizeof *f);
    osm_log_set_level(OSM_LOG_MODEL, OSM_LOG_OFF); /* malformed objects are meant */
    assert_non_null(f);
    f->store = osm_store_new();
    f->world = osm_world_new(&config);
    assert_non_null(f->store);
    assert_non_null(f->world);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    osm_store_free(f->store);
    osm_world_free(f->world);
    osm_free(f);
    return 0;
}

static void apply(struct fixture *f)
{
    struct osm_changes *changes = osm_store_take_changes(f->store);
    f->appeared = f->vanished = f->changed = 0;
    if (changes)
        assert_int_equal(osm_world_apply(f->world, changes, on_visible, f), 0);
    osm_changes_free(changes);
}

/* Puts every document of the text, then applies one batch. */
static void put(struct fixture *f, const char *yaml)
{
    struct osm_yaml_docs docs = {NULL, 0};
    struct osm_err err = {0};
    if (osm_yaml_parse(yaml, strlen(yaml), &docs, NULL, &err))
        fail_msg("%s in:\n%s", err.msg, yaml);
    for (size_t i = 0; i < docs.len; i++) {
        struct osm_object *object = NULL;
        if (osm_object_new(&object, json_incref(docs.list[i].value), "", &err))
            fail_msg("%s in:\n%s", err.msg, yaml);
        assert_int_equal(osm_store_put(f->store, object), 0);
    }
    osm_yaml_docs_clear(&docs);
    apply(f);
}

static void del(struct fixture *f, const char *key)
{
    assert_int_equal(osm_store_delete(f->store, key), 0);
    apply(f);
}

/* Compares an answer with a JSON text and drops it. */
static void expect(json_t *answer, const char *json)
{
    assert_non_null(answer);
    char *text = json_dumps(answer, JSON_COMPACT | JSON_ENCODE_ANY);
    assert_non_null(text);
    assert_string_equal(text, json);
    osm_free(text);
    json_decref(answer);
}

static const char *endpoints_of(struct fixture *f, const char *service, int port)
{
    static char text[512];
    struct osm_endpoint *list = NULL;
    size_t n = 0;
    text[0] = '\0';
    assert_int_equal(osm_world_endpoints(f->world, "shop", service, port, &list, &n), 0);
    for (size_t i = 0; i < n; i++) {
        size_t len = strlen(text);
        (void)snprintf(text + len, sizeof text - len, "%s%s:%d=%s", i ? " " : "", list[i].address,
                       list[i].port, list[i].account);
    }
    osm_free(list);
    return text;
}

static const char monitored[] =
    "apiVersion: v1\n"
    "kind: Namespace\n"
    "metadata: {name: shop, labels: {openservicemesh.io/monitored-by: osm}}\n";
static const char web[] = "apiVersion: v1\n"
                          "kind: Service\n"
                          "metadata: {name: web, namespace: shop}\n"
                          "spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}\n";
static const char pod_a[] =
    "apiVersion: v1\n"
    "kind: Pod\n"
    "metadata:\n"
    "  name: a\n"
    "  namespace: shop\n"
    "  labels: {app: web, osm-proxy-uuid: 0ABCDEF0-0000-4000-8000-00000000000a}\n"
    "spec: {serviceAccountName: seller, containers: [{ports: [{name: http, containerPort: "
    "8081}]}]}\n"
    "status: {podIP: 10.0.0.1}\n";

static void test_only_monitored_namespaces_are_visible(void **state)
{
    struct fixture *f = *state;
    put(f, web);
    assert_int_equal(f->appeared, 0);
    assert_false(osm_world_monitored(f->world, "shop"));
    put(f, monitored);
    assert_int_equal(f->appeared, 2); /* the Service and the Namespace itself */
    assert_true(osm_world_monitored(f->world, "shop"));
    put(f, "{apiVersion: v1, kind: Namespace, metadata: {name: shop}}");
    assert_int_equal(f->vanished, 2);
    assert_false(osm_world_monitored(f->world, "shop"));
}

static void test_facts_follow_service_and_pods(void **state)
{
    struct fixture *f = *state;
    put(f, monitored);
    put(f, web);
    put(f, pod_a);
    assert_int_equal(osm_world_target_port(f->world, "shop", "web", 80), 8080);
    assert_int_equal(osm_world_target_port(f->world, "shop", "web", 81), 0);
    expect(osm_world_accounts_behind(f->world, "shop", "web"), "[\"seller\"]");
    expect(osm_world_services_of(f->world, "shop", "seller"), "[\"web\"]");
    expect(osm_world_workloads(f->world), "[[\"shop\",\"web\",\"seller\"]]");
    expect(osm_world_accounts(f->world), "[[\"shop\",\"seller\"]]");
    expect(osm_world_addresses(f->world, "shop", "web"), "[\"10.0.0.1\"]");
    expect(osm_world_members(f->world, "shop", "web"), "[]");
    assert_string_equal(endpoints_of(f, "web", 80), "10.0.0.1:8080=seller");
    del(f, "/Pod/shop/a");
    expect(osm_world_accounts_behind(f->world, "shop", "web"), "[]");
    expect(osm_world_services_of(f->world, "shop", "seller"), "[]");
    expect(osm_world_workloads(f->world), "[]");
    expect(osm_world_accounts(f->world), "[]");
    assert_string_equal(endpoints_of(f, "web", 80), "");
}

static void test_proxies_are_pods_with_a_uuid(void **state)
{
    struct fixture *f = *state;
    size_t n = 0;
    put(f, monitored);
    put(f, web);
    put(f, pod_a);
    const struct osm_world_proxy *proxies = osm_world_proxies(f->world, &n);
    assert_int_equal(n, 1);
    assert_string_equal(proxies[0].uuid, "0abcdef0-0000-4000-8000-00000000000a");
    assert_string_equal(proxies[0].account, "seller");
    assert_string_equal(proxies[0].pod, "a");
    assert_int_equal(proxies[0].services_len, 1);
    assert_string_equal(proxies[0].services[0], "web");
    assert_string_equal(proxies[0].object->key, "/Pod/shop/a");
}

/* --- visibility --- */

static void test_a_batch_tells_each_object_once(void **state)
{
    struct fixture *f = *state;
    put(f, web);
    /* The namespace gains the label and the Service changes in the same batch. */
    put(f, "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: "
           "{openservicemesh.io/monitored-by: osm}}\n"
           "---\n"
           "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\nspec: {ports: "
           "[{port: 81}]}\n");
    assert_int_equal(f->appeared, 2);
    assert_int_equal(f->changed, 0);
    put(f, web);
    assert_int_equal(f->changed, 1);
    assert_string_equal(f->last, "/Service/shop/web");
    put(f, web);
    assert_int_equal(f->appeared + f->changed + f->vanished, 0);
}

static void test_label_must_name_this_mesh(void **state)
{
    struct fixture *f = *state;
    put(f, web);
    put(f, "{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: "
           "{openservicemesh.io/monitored-by: other}}}");
    assert_false(osm_world_monitored(f->world, "shop"));
    put(f, "{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: "
           "[openservicemesh.io/monitored-by]}}");
    assert_false(osm_world_monitored(f->world, "shop"));
    put(f, "{apiVersion: example.org/v1, kind: Namespace, metadata: {name: shop, namespace: x, "
           "labels: "
           "{openservicemesh.io/monitored-by: osm}}}");
    assert_false(osm_world_monitored(f->world, "shop"));
    put(f, monitored);
    assert_true(osm_world_monitored(f->world, "shop"));
    del(f, "/Namespace//shop");
    assert_false(osm_world_monitored(f->world, "shop"));
    assert_int_equal(f->vanished, 2);
}

static void test_only_the_meshs_own_mesh_config_is_visible(void **state)
{
    struct fixture *f = *state;
    put(f, monitored);
    put(f, "{apiVersion: config.openservicemesh.io/v1alpha2, kind: MeshConfig, metadata: {name: c, "
           "namespace: shop}}");
    assert_int_equal(f->appeared, 0);
    put(f, "{apiVersion: config.openservicemesh.io/v1alpha2, kind: MeshConfig, metadata: {name: c, "
           "namespace: osm-system}}");
    assert_int_equal(f->appeared, 1);
    put(f, "{apiVersion: v1, kind: Service, metadata: {name: s, namespace: osm-system}}");
    assert_int_equal(f->appeared, 0);
    put(f, "{apiVersion: v1, kind: Node, metadata: {name: n}}");
    assert_int_equal(f->appeared, 0);
}

static void test_revision_grows_with_facts_only(void **state)
{
    struct fixture *f = *state;
    put(f, monitored);
    uint64_t before = osm_world_revision(f->world);
    put(f, "{apiVersion: split.smi-spec.io/v1alpha2, kind: TrafficSplit, metadata: {name: t, "
           "namespace: shop}}");
    put(f, "{apiVersion: v1, kind: Service, metadata: {name: web, namespace: elsewhere}}");
    assert_int_equal(osm_world_revision(f->world), before);
    put(f, web);
    assert_int_equal(osm_world_revision(f->world), before + 1);
    put(f, pod_a);
    put(f, "{apiVersion: v1, kind: Namespace, metadata: {name: shop}}");
    assert_int_equal(osm_world_revision(f->world), before + 3);
}

static void test_unmonitored_namespaces_have_no_facts(void **state)
{
    struct fixture *f = *state;
    put(f, web);
    put(f, pod_a);
    expect(osm_world_accounts_behind(f->world, "shop", "web"), "[]");
    expect(osm_world_workloads(f->world), "[]");
    expect(osm_world_accounts(f->world), "[]");
    assert_int_equal(osm_world_target_port(f->world, "shop", "web", 80), 0);
    assert_string_equal(endpoints_of(f, "web", 80), "");
    put(f, monitored);
    expect(osm_world_workloads(f->world), "[[\"shop\",\"web\",\"seller\"]]");
    assert_string_equal(endpoints_of(f, "web", 80), "10.0.0.1:8080=seller");
    put(f, "{apiVersion: v1, kind: Namespace, metadata: {name: shop}}");
    expect(osm_world_workloads(f->world), "[]");
    assert_string_equal(endpoints_of(f, "web", 80), "");
}

/* --- pods --- */

/* A pod of the account "seller" that the Service web selects; @p more goes into its status. */
static void put_pod(struct fixture *f, const char *name, const char *ip, const char *metadata,
                    const char *status)
{
    char yaml[800];
    (void)snprintf(
        yaml, sizeof yaml,
        "apiVersion: v1\nkind: Pod\nmetadata: {name: %s, namespace: shop, labels: {app: web}%s%s}\n"
        "spec: {serviceAccountName: seller}\nstatus: {podIP: '%s'%s%s}\n",
        name, *metadata ? ", " : "", metadata, ip, *status ? ", " : "", status);
    put(f, yaml);
}

static void test_only_ready_pods_get_traffic(void **state)
{
    struct fixture *f = *state;
    put(f, monitored);
    put(f, web);
    put_pod(f, "a", "10.0.0.1", "", "");
    put_pod(f, "b", "10.0.0.2", "", "conditions: [{type: Ready, status: 'True'}]");
    put_pod(f, "c", "10.0.0.3", "", "conditions: [{type: Ready, status: 'False'}]");
    put_pod(f, "d", "10.0.0.4", "", "conditions: [{type: PodScheduled, status: 'True'}]");
    put_pod(f, "e", "", "", "");
    put_pod(f, "g", "10.0.0.5", "deletionTimestamp: '2026-01-01T00:00:00Z'", "");
    put_pod(f, "h", "10.0.0.6", "", "phase: Succeeded");
    put_pod(f, "i", "10.0.0.7", "", "phase: Failed");
    put_pod(f, "j", "fd00::1", "", "");
    put_pod(f, "k", "fd00::1", "", "podIPs: [{ip: 'fd00::1'}, {ip: 10.0.0.8}]");
    assert_string_equal(endpoints_of(f, "web", 80), "10.0.0.1:8080=seller 10.0.0.2:8080=seller "
                                                    "10.0.0.4:8080=seller 10.0.0.8:8080=seller");
    expect(osm_world_addresses(f->world, "shop", "web"),
           "[\"10.0.0.1\",\"10.0.0.2\",\"10.0.0.4\",\"10.0.0.8\"]");
    put_pod(f, "c", "10.0.0.3", "", "conditions: [{type: Ready, status: 'True'}]");
    put_pod(f, "a", "10.0.0.1", "", "conditions: [{type: Ready, status: Unknown}]");
    assert_string_equal(endpoints_of(f, "web", 80), "10.0.0.2:8080=seller 10.0.0.3:8080=seller "
                                                    "10.0.0.4:8080=seller 10.0.0.8:8080=seller");
}

static void
test_pods_that_are_not_ready_keep_their_account_but_pods_that_are_over_do_not(void **state)
{
    struct fixture *f = *state;
    put(f, monitored);
    put(f, web);
    put_pod(f, "a", "10.0.0.1", "", "conditions: [{type: Ready, status: 'False'}]");
    expect(osm_world_accounts_behind(f->world, "shop", "web"), "[\"seller\"]");
    put_pod(f, "a", "10.0.0.1", "deletionTimestamp: x", "");
    expect(osm_world_accounts_behind(f->world, "shop", "web"), "[\"seller\"]");
    put_pod(f, "a", "10.0.0.1", "", "phase: Failed");
    expect(osm_world_accounts_behind(f->world, "shop", "web"), "[]");
}

static void test_unready_addresses_are_published_where_asked_for(void **state)
{
    struct fixture *f = *state;
    put(f, monitored);
    put(f, "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\n"
           "spec: {selector: {app: web}, publishNotReadyAddresses: true, ports: [{port: 80}]}\n");
    put_pod(f, "a", "10.0.0.1", "", "conditions: [{type: Ready, status: 'False'}]");
    assert_string_equal(endpoints_of(f, "web", 80), "10.0.0.1:80=seller");
}

static void test_selectors_need_every_label_and_empty_ones_select_nothing(void **state)
{
    struct fixture *f = *state;
    put(f, monitored);
    put_pod(f, "a", "10.0.0.1", "", "");
    put(f, "{apiVersion: v1, kind: Service, metadata: {name: two, namespace: shop}, "
           "spec: {selector: {app: web, tier: x}, ports: [{port: 80}]}}");
    put(f, "{apiVersion: v1, kind: Service, metadata: {name: none, namespace: shop}, spec: {ports: "
           "[{port: 80}]}}");
    put(f, "{apiVersion: v1, kind: Service, metadata: {name: empty, namespace: shop}, "
           "spec: {selector: {}, ports: [{port: 80}]}}");
    put(f, "{apiVersion: v1, kind: Service, metadata: {name: away, namespace: shop}, "
           "spec: {type: ExternalName, selector: {app: web}, ports: [{port: 80}]}}");
    put(f, "{apiVersion: v1, kind: Service, metadata: {name: other, namespace: elsewhere}, "
           "spec: {selector: {app: web}, ports: [{port: 80}]}}");
    expect(osm_world_services_of(f->world, "shop", "seller"), "[]");
    put(f, "{apiVersion: v1, kind: Pod, metadata: {name: b, namespace: shop, labels: {app: web, "
           "tier: x, z: z}}}");
    expect(osm_world_services_of(f->world, "shop", "default"), "[\"two\"]");
    expect(osm_world_accounts_behind(f->world, "shop", "two"), "[\"default\"]");
}

static void test_one_service_of_two_accounts_and_one_account_of_two_services(void **state)
{
    struct fixture *f = *state;
    put(f, monitored);
    put(f, web);
    put(f, "{apiVersion: v1, kind: Service, metadata: {name: apex, namespace: shop}, "
           "spec: {selector: {app: web}, ports: [{port: 80}]}}");
    put_pod(f, "b", "10.0.0.2", "", "");
    put(f, "{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: shop, labels: {app: web}}, "
           "spec: {serviceAccount: old.name}, status: {podIP: 10.0.0.1}}");
    expect(osm_world_accounts_behind(f->world, "shop", "web"), "[\"old.name\",\"seller\"]");
    expect(osm_world_services_of(f->world, "shop", "seller"), "[\"apex\",\"web\"]");
    expect(osm_world_workloads(f->world),
           "[[\"shop\",\"apex\",\"old.name\"],[\"shop\",\"apex\",\"seller\"],"
           "[\"shop\",\"web\",\"old.name\"],[\"shop\",\"web\",\"seller\"]]");
    expect(osm_world_accounts(f->world), "[]"); /* nobody has a sidecar */
}

/* --- ports --- */

static void test_ports(void **state)
{
    struct fixture *f = *state;
    put(f, monitored);
    put(f, "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\n"
           "spec:\n  selector: {app: web}\n  ports:\n"
           "  - {name: plain, port: 80}\n"
           "  - {name: zero, port: 81, targetPort: 0}\n"
           "  - {name: named, port: 82, targetPort: http}\n"
           "  - {name: missing, port: 83, targetPort: nowhere}\n"
           "  - {name: dns, port: 53, targetPort: 5353, protocol: UDP}\n"
           "  - {name: dns-tcp, port: 54, targetPort: 5354, protocol: TCP}\n");
    put(f, "{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: shop, labels: {app: web}}, "
           "spec: {containers: ["
           "{ports: [{name: http, containerPort: 9000, protocol: UDP}, {name: http, containerPort: "
           "8002}]}]}, "
           "status: {podIP: 10.0.0.1}}");
    put(f, "{apiVersion: v1, kind: Pod, metadata: {name: b, namespace: shop, labels: {app: web}}, "
           "spec: {containers: ["
           "{}, {ports: [{containerPort: 1}, {name: http, containerPort: 8001}]}]}, "
           "status: {podIP: 10.0.0.2, conditions: [{type: Ready, status: 'False'}]}}");
    assert_int_equal(osm_world_target_port(f->world, "shop", "web", 80), 80);
    assert_int_equal(osm_world_target_port(f->world, "shop", "web", 81), 81);
    assert_int_equal(osm_world_target_port(f->world, "shop", "web", 82),
                     8001); /* of any pod, ready or not */
    assert_int_equal(osm_world_target_port(f->world, "shop", "web", 83), 0);
    assert_int_equal(osm_world_target_port(f->world, "shop", "web", 53), 0);
    assert_int_equal(osm_world_target_port(f->world, "shop", "web", 54), 5354);
    assert_int_equal(osm_world_target_port(f->world, "shop", "none", 80), 0);
    assert_int_equal(osm_world_target_port(f->world, "shop", "web", -1), 0);
    assert_string_equal(endpoints_of(f, "web", 82), "10.0.0.1:8002=default");
    assert_string_equal(endpoints_of(f, "web", 83), "");
    assert_string_equal(endpoints_of(f, "web", 53), "");
}

static void test_a_named_port_comes_from_slices_first(void **state)
{
    struct fixture *f = *state;
    put(f, monitored);
    put(f, "{apiVersion: v1, kind: Service, metadata: {name: web, namespace: shop}, "
           "spec: {selector: {app: web}, ports: [{name: p, port: 80, targetPort: http}, {name: q, "
           "port: 81, targetPort: http}]}}");
    put(f, pod_a);
    assert_int_equal(osm_world_target_port(f->world, "shop", "web", 80), 8081);
    put(f, "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: s1, namespace: "
           "shop, labels: "
           "{kubernetes.io/service-name: web}}, addressType: IPv4, ports: [{name: p, port: 7002}], "
           "endpoints: []}");
    put(f,
        "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: s2, namespace: "
        "shop, labels: "
        "{kubernetes.io/service-name: web}}, addressType: IPv4, ports: [{name: p, port: 7001}]}");
    assert_int_equal(osm_world_target_port(f->world, "shop", "web", 80), 7001);
    assert_int_equal(osm_world_target_port(f->world, "shop", "web", 81),
                     8081); /* no slice names it */
    assert_string_equal(endpoints_of(f, "web", 80), "");
}

/* --- slices and Endpoints --- */

static const char slice[] =
    "apiVersion: discovery.k8s.io/v1\n"
    "kind: EndpointSlice\n"
    "metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}\n"
    "addressType: IPv4\n"
    "ports: [{name: '', port: 9090, protocol: TCP}]\n"
    "endpoints:\n"
    "- {addresses: [10.0.0.9, 10.0.0.99], conditions: {ready: true}, targetRef: {kind: Pod, name: "
    "a}}\n"
    "- {addresses: [10.0.0.8], conditions: {ready: false}}\n"
    "- {addresses: [10.0.0.7]}\n"
    "- {addresses: [10.0.0.1], conditions: {ready: null}}\n"
    "- {addresses: [10.0.0.6], targetRef: {kind: Pod, name: a, namespace: elsewhere}}\n"
    "- {addresses: [10.0.0.5], targetRef: {kind: Pod, name: gone}}\n"
    "- {addresses: ['fd00::1']}\n";

static void test_slices_win_over_endpoints_and_pods(void **state)
{
    struct fixture *f = *state;
    put(f, monitored);
    put(f, web);
    put(f, pod_a);
    put(f, "{apiVersion: v1, kind: Endpoints, metadata: {name: web, namespace: shop}, subsets: "
           "[{addresses: "
           "[{ip: 10.1.1.1}], notReadyAddresses: [{ip: 10.1.1.2}], ports: [{port: 5000}]}]}");
    assert_string_equal(endpoints_of(f, "web", 80), "10.1.1.1:5000=");
    put(f, slice);
    assert_string_equal(
        endpoints_of(f, "web", 80),
        "10.0.0.1:9090=seller 10.0.0.5:9090= 10.0.0.6:9090= 10.0.0.7:9090= 10.0.0.9:9090=seller");
    assert_int_equal(osm_world_target_port(f->world, "shop", "web", 80),
                     8080); /* a number stands as it is */
    del(f, "discovery.k8s.io/EndpointSlice/shop/web-1");
    assert_string_equal(endpoints_of(f, "web", 80), "10.1.1.1:5000=");
    del(f, "/Endpoints/shop/web");
    assert_string_equal(endpoints_of(f, "web", 80), "10.0.0.1:8080=seller");
}

static void test_slices_name_accounts_by_pod_and_by_address(void **state)
{
    struct fixture *f = *state;
    put(f, monitored);
    put(f, "{apiVersion: v1, kind: Service, metadata: {name: web, namespace: shop}, spec: {ports: "
           "[{port: 80}]}}");
    put(f, slice);
    expect(osm_world_accounts_behind(f->world, "shop", "web"), "[]");
    put(f, pod_a); /* named by one endpoint; and 10.0.0.1 is its address */
    expect(osm_world_accounts_behind(f->world, "shop", "web"), "[\"seller\"]");
    put(f, "{apiVersion: v1, kind: Pod, metadata: {name: other, namespace: shop}, spec: "
           "{serviceAccountName: x}, "
           "status: {podIP: 10.0.0.7}}");
    expect(osm_world_accounts_behind(f->world, "shop", "web"), "[\"seller\",\"x\"]");
    put(f, "{apiVersion: v1, kind: Pod, metadata: {name: third, namespace: shop}, spec: "
           "{serviceAccountName: y}, "
           "status: {podIP: 10.0.0.7}}");
    expect(osm_world_accounts_behind(f->world, "shop", "web"),
           "[\"seller\"]"); /* two accounts at one address: unknown */
    del(f, "/Pod/shop/other");
    expect(osm_world_accounts_behind(f->world, "shop", "web"), "[\"seller\",\"y\"]");
    size_t n = 0;
    const struct osm_world_proxy *proxies = osm_world_proxies(f->world, &n);
    assert_int_equal(n, 1);
    assert_int_equal(proxies[0].services_len, 1);
}

static void test_a_pod_being_deleted_gets_no_traffic_through_slices(void **state)
{
    struct fixture *f = *state;
    put(f, monitored);
    put(f, web);
    put(f,
        "{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: shop, deletionTimestamp: x}, "
        "status: {podIP: 10.0.0.9}}");
    put(f, slice);
    assert_string_equal(endpoints_of(f, "web", 80),
                        "10.0.0.1:9090= 10.0.0.5:9090= 10.0.0.6:9090= 10.0.0.7:9090=");
}

static void test_a_slice_moves_between_services(void **state)
{
    struct fixture *f = *state;
    put(f, monitored);
    put(f, "{apiVersion: v1, kind: Service, metadata: {name: web, namespace: shop}, spec: {ports: "
           "[{port: 80}]}}");
    put(f, "{apiVersion: v1, kind: Service, metadata: {name: api, namespace: shop}, spec: {ports: "
           "[{port: 80}]}}");
    put(f, pod_a);
    put(f, slice);
    expect(osm_world_services_of(f->world, "shop", "seller"), "[\"web\"]");
    put(f, "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: web-1, "
           "namespace: shop, labels: "
           "{kubernetes.io/service-name: api}}, addressType: IPv4, ports: [{port: 1}], endpoints: "
           "[{addresses: [10.0.0.1]}]}");
    expect(osm_world_services_of(f->world, "shop", "seller"), "[\"api\"]");
    assert_string_equal(endpoints_of(f, "web", 80), "");
    assert_string_equal(endpoints_of(f, "api", 80), "10.0.0.1:1=seller");
    put(f, "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: web-1, "
           "namespace: shop}, "
           "addressType: IPv4, endpoints: [{addresses: [10.0.0.1]}]}");
    expect(osm_world_services_of(f->world, "shop", "seller"), "[]");
}

static void test_members_of_a_headless_service(void **state)
{
    struct fixture *f = *state;
    put(f, monitored);
    put(f, "{apiVersion: v1, kind: Service, metadata: {name: db, namespace: shop}, "
           "spec: {clusterIP: None, selector: {app: db}, ports: [{port: 80}]}}");
    put(f,
        "{apiVersion: v1, kind: Pod, metadata: {name: db-1, namespace: shop, labels: {app: db}}, "
        "spec: {hostname: db-1, subdomain: db}, status: {podIP: 10.0.0.1}}");
    put(f,
        "{apiVersion: v1, kind: Pod, metadata: {name: db-0, namespace: shop, labels: {app: db}}, "
        "spec: {hostname: db-0, subdomain: db}, status: {podIP: 10.0.0.2}}");
    put(f, "{apiVersion: v1, kind: Pod, metadata: {name: x, namespace: shop, labels: {app: db}}, "
           "spec: {hostname: x, subdomain: other}, status: {podIP: 10.0.0.3}}");
    expect(osm_world_members(f->world, "shop", "db"),
           "[{\"hostname\":\"db-0\",\"address\":\"10.0.0.2\"},"
           "{\"hostname\":\"db-1\",\"address\":\"10.0.0.1\"}]");
    put(f, "{apiVersion: v1, kind: Endpoints, metadata: {name: db, namespace: shop}, subsets: "
           "[{addresses: "
           "[{ip: 10.0.0.2, hostname: b}, {ip: 10.0.0.1, hostname: a}, {ip: 10.0.0.3}]}]}");
    expect(osm_world_members(f->world, "shop", "db"),
           "[{\"hostname\":\"a\",\"address\":\"10.0.0.1\"},{\"hostname\":\"b\",\"address\":\"10.0."
           "0.2\"}]");
}

/* --- proxies --- */

static void test_a_uuid_of_two_pods_is_left_out(void **state)
{
    struct fixture *f = *state;
    size_t n = 0;
    put(f, monitored);
    put(f, pod_a);
    put(f, "{apiVersion: v1, kind: Pod, metadata: {name: b, namespace: shop, labels: "
           "{osm-proxy-uuid: 0abcdef0-0000-4000-8000-00000000000A}}}");
    (void)osm_world_proxies(f->world, &n);
    assert_int_equal(n, 0);
    put(f, "{apiVersion: v1, kind: Pod, metadata: {name: b, namespace: shop, labels: "
           "{osm-proxy-uuid: none}}}");
    (void)osm_world_proxies(f->world, &n);
    assert_int_equal(n, 1);
    put(f, "{apiVersion: v1, kind: Pod, metadata: {name: b, namespace: shop, labels: "
           "{osm-proxy-uuid: 00000000-0000-4000-8000-000000000000}}}");
    const struct osm_world_proxy *proxies = osm_world_proxies(f->world, &n);
    assert_int_equal(n, 2);
    assert_string_equal(proxies[0].pod, "b");
    assert_int_equal(proxies[0].services_len, 0);
    put(f, "{apiVersion: v1, kind: Pod, metadata: {name: b, namespace: shop, labels: "
           "{osm-proxy-uuid: 00000000-0000-4000-8000-000000000000}}, status: {phase: Failed}}");
    (void)osm_world_proxies(f->world, &n);
    assert_int_equal(n, 1);
}

/* --- bad input --- */

/* Every field that facts are read from, with a value of each wrong type: nothing crashes, and what
 * is malformed is as if it were not there. */
static void test_wrong_types_make_an_object_absent(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *yaml; /* with one %s */
        int fine;         /* index of the value of the right type, or -1 */
    } fields[] = {
        {"kind: Pod\nmetadata: {name: a, namespace: shop, labels: %s}", 2},
        {"kind: Pod\nmetadata: {name: a, namespace: shop, labels: {app: %s}}", 0},
        {"kind: Pod\nmetadata: {name: a, namespace: shop, labels: {app: web}, deletionTimestamp: "
         "%s}",
         0},
        {"kind: Pod\nmetadata: {name: a, namespace: shop, labels: {app: web}}\nspec: %s", 2},
        {"kind: Pod\nmetadata: {name: a, namespace: shop, labels: {app: web}}\nspec: "
         "{serviceAccountName: %s}",
         0},
        {"kind: Pod\nmetadata: {name: a, namespace: shop, labels: {app: web}}\nspec: {hostname: "
         "%s}",
         0},
        {"kind: Pod\nmetadata: {name: a, namespace: shop, labels: {app: web}}\nspec: {containers: "
         "%s}",
         -1},
        {"kind: Pod\nmetadata: {name: a, namespace: shop, labels: {app: web}}\nspec: {containers: "
         "[%s]}",
         2},
        {"kind: Pod\nmetadata: {name: a, namespace: shop, labels: {app: web}}\nspec: {containers: "
         "[{ports: %s}]}",
         -1},
        {"kind: Pod\nmetadata: {name: a, namespace: shop, labels: {app: web}}\nspec: {containers: "
         "[{ports: [%s]}]}",
         -1},
        {"kind: Pod\nmetadata: {name: a, namespace: shop, labels: {app: web}}\nspec: {containers: "
         "[{ports: [{containerPort: %s}]}]}",
         1},
        {"kind: Pod\nmetadata: {name: a, namespace: shop, labels: {app: web}}\nstatus: %s", 2},
        {"kind: Pod\nmetadata: {name: a, namespace: shop, labels: {app: web}}\nstatus: {phase: %s}",
         0},
        {"kind: Pod\nmetadata: {name: a, namespace: shop, labels: {app: web}}\nstatus: {podIP: %s}",
         0},
        {"kind: Pod\nmetadata: {name: a, namespace: shop, labels: {app: web}}\nstatus: {podIPs: "
         "%s}",
         -1},
        {"kind: Pod\nmetadata: {name: a, namespace: shop, labels: {app: web}}\nstatus: {podIPs: "
         "[%s]}",
         2},
        {"kind: Pod\nmetadata: {name: a, namespace: shop, labels: {app: web}}\nstatus: "
         "{conditions: %s}",
         -1},
        {"kind: Pod\nmetadata: {name: a, namespace: shop, labels: {app: web}}\nstatus: "
         "{conditions: [%s]}",
         2},
        {"kind: Pod\nmetadata: {name: a, namespace: shop, labels: {app: web}}\nstatus: "
         "{conditions: [{type: %s}]}",
         0},
    };
    static const char *const values[] = {"text", "7", "{x: y}", "[[]]", "true"};
    put(f, monitored);
    put(f, web);
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        for (size_t j = 0; j < sizeof values / sizeof *values; j++) {
            char yaml[512] = "apiVersion: v1\n";
            (void)snprintf(yaml + strlen(yaml), sizeof yaml - strlen(yaml), fields[i].yaml,
                           values[j]);
            put(f, yaml);
            json_t *accounts = osm_world_accounts_behind(f->world, "shop", "web");
            bool selected = json_array_size(accounts) > 0, labelled = i > 1;
            if (selected != (fields[i].fine == (int)j && labelled))
                fail_msg("%s\nis %s", yaml, selected ? "taken" : "left out");
            json_decref(accounts);
        }
    }
}

static void test_wrong_types_elsewhere_never_crash(void **state)
{
    struct fixture *f = *state;
    static const char *const fields[] = {
        "kind: Service\nmetadata: {name: web, namespace: shop}\nspec: %s",
        "kind: Service\nmetadata: {name: web, namespace: shop}\nspec: {selector: %s}",
        "kind: Service\nmetadata: {name: web, namespace: shop}\nspec: {selector: {app: %s}}",
        "kind: Service\nmetadata: {name: web, namespace: shop}\nspec: {clusterIP: %s}",
        "kind: Service\nmetadata: {name: web, namespace: shop}\nspec: {type: %s}",
        "kind: Service\nmetadata: {name: web, namespace: shop}\nspec: {publishNotReadyAddresses: "
        "%s}",
        "kind: Service\nmetadata: {name: web, namespace: shop}\nspec: {ports: %s}",
        "kind: Service\nmetadata: {name: web, namespace: shop}\nspec: {ports: [%s]}",
        "kind: Service\nmetadata: {name: web, namespace: shop}\nspec: {ports: [{port: %s}]}",
        "kind: Service\nmetadata: {name: web, namespace: shop}\nspec: {ports: [{port: 80, "
        "targetPort: %s}]}",
        "kind: Service\nmetadata: {name: web, namespace: shop}\nspec: {ports: [{port: 80, name: "
        "%s}]}",
        "kind: Service\nmetadata: {name: web, namespace: shop}\nspec: {ports: [{port: 80, "
        "protocol: %s}]}",
        "kind: Endpoints\nmetadata: {name: web, namespace: shop}\nsubsets: %s",
        "kind: Endpoints\nmetadata: {name: web, namespace: shop}\nsubsets: [%s]",
        "kind: Endpoints\nmetadata: {name: web, namespace: shop}\nsubsets: [{addresses: %s}]",
        "kind: Endpoints\nmetadata: {name: web, namespace: shop}\nsubsets: [{addresses: [%s]}]",
        "kind: Endpoints\nmetadata: {name: web, namespace: shop}\nsubsets: [{addresses: [{ip: "
        "%s}]}]",
        "kind: Endpoints\nmetadata: {name: web, namespace: shop}\nsubsets: [{addresses: [{ip: "
        "10.0.0.1, targetRef: %s}]}]",
        "kind: Endpoints\nmetadata: {name: web, namespace: shop}\nsubsets: [{notReadyAddresses: "
        "%s}]",
        "kind: Endpoints\nmetadata: {name: web, namespace: shop}\nsubsets: [{ports: %s}]",
        "kind: Endpoints\nmetadata: {name: web, namespace: shop}\nsubsets: [{ports: [{port: %s}]}]",
        "kind: EndpointSlice\nmetadata: {name: s, namespace: shop, labels: "
        "{kubernetes.io/service-name: %s}}\naddressType: IPv4",
        "kind: EndpointSlice\nmetadata: {name: s, namespace: shop, labels: "
        "{kubernetes.io/service-name: web}}\naddressType: %s",
        "kind: EndpointSlice\nmetadata: {name: s, namespace: shop, labels: "
        "{kubernetes.io/service-name: web}}\n"
        "addressType: IPv4\nendpoints: %s",
        "kind: EndpointSlice\nmetadata: {name: s, namespace: shop, labels: "
        "{kubernetes.io/service-name: web}}\n"
        "addressType: IPv4\nendpoints: [%s]",
        "kind: EndpointSlice\nmetadata: {name: s, namespace: shop, labels: "
        "{kubernetes.io/service-name: web}}\n"
        "addressType: IPv4\nendpoints: [{addresses: %s}]",
        "kind: EndpointSlice\nmetadata: {name: s, namespace: shop, labels: "
        "{kubernetes.io/service-name: web}}\n"
        "addressType: IPv4\nendpoints: [{addresses: [%s]}]",
        "kind: EndpointSlice\nmetadata: {name: s, namespace: shop, labels: "
        "{kubernetes.io/service-name: web}}\n"
        "addressType: IPv4\nendpoints: [{addresses: [10.0.0.1], conditions: %s}]",
        "kind: EndpointSlice\nmetadata: {name: s, namespace: shop, labels: "
        "{kubernetes.io/service-name: web}}\n"
        "addressType: IPv4\nendpoints: [{addresses: [10.0.0.1], conditions: {ready: %s}}]",
        "kind: EndpointSlice\nmetadata: {name: s, namespace: shop, labels: "
        "{kubernetes.io/service-name: web}}\n"
        "addressType: IPv4\nports: %s",
        "kind: EndpointSlice\nmetadata: {name: s, namespace: shop, labels: "
        "{kubernetes.io/service-name: web}}\n"
        "addressType: IPv4\nports: [{name: %s, port: 1}]",
        "kind: Namespace\nmetadata: {name: shop, labels: %s}",
        "kind: Namespace\nmetadata: {name: shop, labels: {openservicemesh.io/monitored-by: %s}}",
    };
    static const char *const values[] = {"text", "7",  "-1", "65536", "1.5",  "{x: y}",
                                         "[[]]", "[]", "{}", "true",  "null", "''"};
    put(f, pod_a);
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        for (size_t j = 0; j < sizeof values / sizeof *values; j++) {
            char yaml[512];
            bool is_slice = strstr(fields[i], "EndpointSlice") != NULL;
            (void)snprintf(yaml, sizeof yaml, "apiVersion: %s\n",
                           is_slice ? "discovery.k8s.io/v1" : "v1");
            (void)snprintf(yaml + strlen(yaml), sizeof yaml - strlen(yaml), fields[i], values[j]);
            if (!strstr(fields[i], "Namespace"))
                put(f, monitored);
            put(f, yaml);
            json_t *all =
                json_pack("[oooo]", osm_world_workloads(f->world), osm_world_accounts(f->world),
                          osm_world_members(f->world, "shop", "web"),
                          osm_world_addresses(f->world, "shop", "web"));
            assert_non_null(all);
            json_decref(all);
            (void)endpoints_of(f, "web", 80);
            put(f, monitored);
            put(f, web); /* the next good one counts again */
            assert_int_equal(osm_world_target_port(f->world, "shop", "web", 80), 8080);
        }
}

/* --- the property: what is derived step by step equals what is derived from scratch --- */

static uint64_t random_state;

static unsigned pick(unsigned n)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(random_state >> 33) % n;
}

static const char *one_of(const char *const *list, unsigned n)
{
    return list[pick(n)];
}

static void random_yaml(char *out, size_t size)
{
    static const char *const spaces[] = {"shop", "bank", "osm-system"};
    static const char *const names[] = {"a", "b", "c", "d", "e"};
    static const char *const ips[] = {"10.0.0.1", "10.0.0.2", "10.0.0.3", "''", "fd00::1"};
    static const char *const status[] = {
        "phase: Running", "phase: Failed", "conditions: [{type: Ready, status: 'False'}]",
        "conditions: [{type: Ready, status: 'True'}]", "phase: [bad]"};
    static const char *const labels[] = {"{app: x}", "{app: y}", "{app: x, tier: t}", "{}",
                                         "{app: 7}"};
    static const char *const ports[] = {
        "[{port: 80, targetPort: http}]", "[{port: 80, targetPort: 8080}]",
        "[{port: 80, name: p}, {port: 81, protocol: UDP}]", "[{port: 0}]"};
    static const char *const meshes[] = {"osm", "osm", "osm", "other"};
    const char *ns = one_of(spaces, 3), *name = one_of(names, 5), *ip = one_of(ips, 5);
    switch (pick(10)) {
    case 0:
        (void)snprintf(out, size,
                       "{apiVersion: v1, kind: Namespace, metadata: {name: %s, labels: "
                       "{openservicemesh.io/monitored-by: %s}}}",
                       ns, one_of(meshes, 4));
        break;
    case 1:
    case 2:
        (void)snprintf(out, size,
                       "{apiVersion: v1, kind: Service, metadata: {name: %s, namespace: %s}, spec: "
                       "{%s selector: %s, ports: %s}}",
                       name, ns, pick(3) ? "" : "clusterIP: None,", one_of(labels, 5),
                       one_of(ports, 4));
        break;
    case 3:
        (void)snprintf(
            out, size,
            "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: s%u, "
            "namespace: %s, labels: {kubernetes.io/service-name: %s}}, "
            "addressType: %s, ports: [{name: '%s', port: 90%u}], endpoints: [{addresses: [%s]%s}, "
            "{addresses: [10.0.0.9], targetRef: {kind: Pod, name: %s}}]}",
            pick(3), ns, name, pick(5) ? "IPv4" : "IPv6", pick(2) ? "p" : "", pick(3), ip,
            pick(2) ? ", hostname: h" : "", one_of(names, 5));
        break;
    case 4:
        (void)snprintf(out, size,
                       "{apiVersion: v1, kind: Endpoints, metadata: {name: %s, namespace: %s}, "
                       "subsets: [{addresses: [{ip: %s}, {ip: 10.0.0.8, targetRef: {kind: Pod, "
                       "name: %s}}], ports: [{port: 70%u}]}]}",
                       name, ns, ip, one_of(names, 5), pick(3));
        break;
    case 5:
        (void)snprintf(out, size,
                       "{apiVersion: config.openservicemesh.io/v1alpha2, kind: MeshConfig, "
                       "metadata: {name: %s, namespace: %s}, spec: {n: %u}}",
                       name, ns, pick(3));
        break;
    default:
        (void)snprintf(
            out, size,
            "{apiVersion: v1, kind: Pod, metadata: {name: %s, namespace: %s%s, labels: {%s%s%s}}, "
            "spec: {serviceAccountName: acc%u, hostname: h%u, subdomain: %s, containers: [{ports: "
            "[{name: http, containerPort: 80%u}]}]}, status: {podIP: %s, %s}}",
            name, ns, pick(8) ? "" : ", deletionTimestamp: x", pick(2) ? "app: x" : "app: y",
            pick(3) ? "" : ", tier: t",
            pick(2)   ? ""
            : pick(2) ? ", osm-proxy-uuid: 00000000-0000-4000-8000-000000000001"
                      : ", osm-proxy-uuid: 00000000-0000-4000-8000-00000000000A",
            pick(3), pick(2), one_of(names, 5), pick(3), ip, one_of(status, 5));
    }
}

/* Everything one can ask, as one JSON value. */
static json_t *everything(struct osm_world *world)
{
    static const char *const spaces[] = {"shop", "bank", "osm-system"}, *const names[] = {"a", "b",
                                                                                          "c", "d",
                                                                                          "e"};
    json_t *all = json_pack("[oo]", osm_world_workloads(world), osm_world_accounts(world));
    for (int i = 0; i < 3; i++) {
        for (int j = 0; j < 5; j++) {
            struct osm_endpoint *list = NULL;
            size_t n = 0;
            assert_int_equal(osm_world_endpoints(world, spaces[i], names[j], 80, &list, &n), 0);
            json_t *endpoints = json_array();
            for (size_t k = 0; k < n; k++)
                (void)json_array_append_new(
                    endpoints,
                    json_pack("[ssi]", list[k].address, list[k].account, (int)list[k].port));
            osm_free(list);
            (void)json_array_append_new(
                all, json_pack("[iooooo]", osm_world_target_port(world, spaces[i], names[j], 80),
                               osm_world_accounts_behind(world, spaces[i], names[j]),
                               osm_world_members(world, spaces[i], names[j]),
                               osm_world_addresses(world, spaces[i], names[j]), endpoints,
                               json_boolean(osm_world_monitored(world, spaces[i]))));
        }
        for (int j = 0; j < 3; j++) {
            char account[8];
            (void)snprintf(account, sizeof account, "acc%d", j);
            (void)json_array_append_new(all, osm_world_services_of(world, spaces[i], account));
        }
    }
    size_t n = 0;
    const struct osm_world_proxy *proxies = osm_world_proxies(world, &n);
    for (size_t i = 0; i < n; i++) {
        json_t *services = json_array();
        for (size_t j = 0; j < proxies[i].services_len; j++)
            (void)json_array_append_new(services, json_string(proxies[i].services[j]));
        (void)json_array_append_new(all, json_pack("[ssssos]", proxies[i].uuid, proxies[i].pod,
                                                   proxies[i].ns, proxies[i].account, services,
                                                   proxies[i].object->key));
    }
    return all;
}

/* What the callbacks say is visible: key -> content. */
struct visible {
    struct osm_map map;
};

static void track(void *ud, struct osm_object *old, struct osm_object *now)
{
    struct visible *v = ud;
    const struct osm_object *either = old ? old : now;
    assert_int_equal(osm_map_has(&v->map, either->key), old != NULL);
    osm_object_unref(osm_map_del(&v->map, either->key));
    if (now)
        assert_int_equal(osm_map_put(&v->map, now->key, osm_object_ref(now), NULL), 0);
}

static void visible_clear(struct visible *v)
{
    osm_map_each (&v->map, e)
        osm_object_unref(e->value);
    osm_map_clear(&v->map);
}

static void compare_visible(const struct visible *a, const struct visible *b)
{
    assert_int_equal(a->map.count, b->map.count);
    osm_map_each (&a->map, e) {
        const struct osm_object *other = osm_map_get(&b->map, e->key);
        assert_non_null(other);
        assert_true(osm_object_same(e->value, other));
    }
}

static void run_random_world(uint64_t seed, int batches)
{
    static const struct osm_world_config config = {"osm", "osm-system"};
    struct osm_map objects = OSM_MAP_INIT; /* what exists: key -> object */
    struct osm_store *store = osm_store_new();
    struct osm_world *world = osm_world_new(&config);
    struct visible seen = {OSM_MAP_INIT};
    random_state = seed;
    for (int batch = 0; batch < batches; batch++) {
        for (unsigned i = 0, n = 1 + pick(4); i < n; i++) {
            char yaml[1024];
            random_yaml(yaml, sizeof yaml);
            struct osm_object *object = object_of(yaml);
            if (pick(3)) {
                void *old = NULL;
                assert_int_equal(osm_map_put(&objects, object->key, osm_object_ref(object), &old),
                                 0);
                osm_object_unref(old);
                assert_int_equal(osm_store_put(store, osm_object_ref(object)), 0);
            } else if (osm_store_delete(store, object->key) == 0) {
                osm_object_unref(osm_map_del(&objects, object->key));
            }
            osm_object_unref(object);
        }
        struct osm_changes *changes = osm_store_take_changes(store);
        if (changes)
            assert_int_equal(osm_world_apply(world, changes, track, &seen), 0);
        osm_changes_free(changes);
        if (!pick(4)) /* several batches without a question in between */
            continue;

        struct osm_store *all = osm_store_new();
        struct osm_world *fresh = osm_world_new(&config);
        struct visible seen_fresh = {OSM_MAP_INIT};
        osm_map_each (&objects, e)
            assert_int_equal(osm_store_put(all, osm_object_ref(e->value)), 0);
        changes = osm_store_take_changes(all);
        if (changes)
            assert_int_equal(osm_world_apply(fresh, changes, track, &seen_fresh), 0);
        osm_changes_free(changes);
        compare_visible(&seen, &seen_fresh);
        json_t *got = everything(world), *want = everything(fresh);
        if (!json_equal(got, want)) {
            char *a = json_dumps(got, JSON_COMPACT), *b = json_dumps(want, JSON_COMPACT);
            fail_msg("seed %llu, batch %d:\nstep by step %s\nfrom scratch %s",
                     (unsigned long long)seed, batch, a, b);
        }
        json_decref(got);
        json_decref(want);
        visible_clear(&seen_fresh);
        osm_world_free(fresh);
        osm_store_free(all);
    }
    visible_clear(&seen);
    osm_map_each (&objects, e)
        osm_object_unref(e->value);
    osm_map_clear(&objects);
    osm_world_free(world);
    osm_store_free(store);
}

static void test_step_by_step_equals_from_scratch(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 12; seed++)
        run_random_world(seed, 150);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_only_monitored_namespaces_are_visible, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_facts_follow_service_and_pods, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_proxies_are_pods_with_a_uuid, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_batch_tells_each_object_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_label_must_name_this_mesh, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_only_the_meshs_own_mesh_config_is_visible, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_revision_grows_with_facts_only, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_unmonitored_namespaces_have_no_facts, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_only_ready_pods_get_traffic, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            test_pods_that_are_not_ready_keep_their_account_but_pods_that_are_over_do_not, set_up,
            tear_down),
        cmocka_unit_test_setup_teardown(test_unready_addresses_are_published_where_asked_for,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            test_selectors_need_every_label_and_empty_ones_select_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            test_one_service_of_two_accounts_and_one_account_of_two_services, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_ports, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_named_port_comes_from_slices_first, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_slices_win_over_endpoints_and_pods, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_slices_name_accounts_by_pod_and_by_address, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_pod_being_deleted_gets_no_traffic_through_slices,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_slice_moves_between_services, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_members_of_a_headless_service, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_uuid_of_two_pods_is_left_out, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_wrong_types_make_an_object_absent, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_wrong_types_elsewhere_never_crash, set_up, tear_down),
        cmocka_unit_test(test_step_by_step_equals_from_scratch),
    };
    return cmocka_run_group_tests(tests, count_json, nothing_is_left);
}
