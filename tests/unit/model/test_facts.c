/* The facts of one namespace: pods, ports, slices, members. */
#include "model/world_fixture.h"

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

static void test_unready_pods_keep_their_account_and_those_that_are_over_do_not(void **state)
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
    assert_int_equal(first_target_port(f->world, "shop", "web", 80), 80);
    assert_int_equal(first_target_port(f->world, "shop", "web", 81), 81);
    assert_int_equal(first_target_port(f->world, "shop", "web", 82),
                     8001); /* of any pod, ready or not */
    assert_int_equal(first_target_port(f->world, "shop", "web", 83), 0);
    assert_int_equal(first_target_port(f->world, "shop", "web", 53), 0);
    assert_int_equal(first_target_port(f->world, "shop", "web", 54), 5354);
    assert_int_equal(first_target_port(f->world, "shop", "none", 80), 0);
    assert_int_equal(first_target_port(f->world, "shop", "web", -1), 0);
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
    assert_int_equal(first_target_port(f->world, "shop", "web", 80), 8081);
    put(f, "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: s1, namespace: "
           "shop, labels: "
           "{kubernetes.io/service-name: web}}, addressType: IPv4, ports: [{name: p, port: 7002}], "
           "endpoints: []}");
    put(f,
        "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: s2, namespace: "
        "shop, labels: "
        "{kubernetes.io/service-name: web}}, addressType: IPv4, ports: [{name: p, port: 7001}]}");
    assert_int_equal(first_target_port(f->world, "shop", "web", 80), 7001);
    assert_int_equal(first_target_port(f->world, "shop", "web", 81), 8081); /* no slice names it */
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
    assert_int_equal(first_target_port(f->world, "shop", "web", 80),
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            test_unready_pods_keep_their_account_and_those_that_are_over_do_not, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_only_ready_pods_get_traffic, set_up, tear_down),
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
    };
    return cmocka_run_group_tests(tests, count_json, nothing_is_left);
}
