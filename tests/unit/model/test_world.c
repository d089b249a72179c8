/* What is visible, and the facts over all namespaces. */
#include "model/world_fixture.h"

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
    assert_int_equal(first_target_port(f->world, "shop", "web", 80), 8080);
    assert_int_equal(first_target_port(f->world, "shop", "web", 81), 0);
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
    assert_string_equal(proxies[0].key, "0abcdef0-0000-4000-8000-00000000000a.shop");
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
    assert_int_equal(first_target_port(f->world, "shop", "web", 80), 0);
    assert_string_equal(endpoints_of(f, "web", 80), "");
    put(f, monitored);
    expect(osm_world_workloads(f->world), "[[\"shop\",\"web\",\"seller\"]]");
    assert_string_equal(endpoints_of(f, "web", 80), "10.0.0.1:8080=seller");
    put(f, "{apiVersion: v1, kind: Namespace, metadata: {name: shop}}");
    expect(osm_world_workloads(f->world), "[]");
    assert_string_equal(endpoints_of(f, "web", 80), "");
}

/* --- proxies --- */

static void test_a_uuid_that_a_pod_of_another_namespace_has_counts(void **state)
{
    struct fixture *f = *state;
    size_t n = 0;
    put(f, monitored);
    put(f, pod_a);
    put(f, "{apiVersion: v1, kind: Namespace, metadata: {name: thieves, labels: "
           "{openservicemesh.io/monitored-by: osm}}}");
    put(f, "{apiVersion: v1, kind: Pod, metadata: {name: copy, namespace: thieves, labels: "
           "{osm-proxy-uuid: 0abcdef0-0000-4000-8000-00000000000A}}}");
    const struct osm_world_proxy *proxies = osm_world_proxies(f->world, &n);
    assert_int_equal(n, 2);
    assert_string_equal(proxies[0].pod, "a");
    assert_string_equal(proxies[1].pod, "copy");
    expect(osm_world_reports(f->world), "[]");
}

static void test_what_is_malformed_is_reported_until_it_is_not(void **state)
{
    struct fixture *f = *state;
    put(f, monitored);
    put(f,
        "{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: shop}, spec: {hostname: 5}}");
    json_t *reports = osm_world_reports(f->world);
    assert_int_equal(json_array_size(reports), 1);
    assert_string_equal(json_string_value(json_object_get(json_array_get(reports, 0), "object")),
                        "Pod shop/a");
    json_decref(reports);
    put(f, pod_a);
    assert_true(osm_world_reports_changed(f->world));
    expect(osm_world_reports(f->world), "[]");
    put(f,
        "{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: shop}, spec: {hostname: 5}}");
    del(f, "/Pod/shop/a");
    expect(osm_world_reports(f->world), "[]");
}

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
    assert_true(osm_world_reports_changed(f->world));
    json_t *reports = osm_world_reports(f->world);
    assert_int_equal(json_array_size(reports), 2);
    assert_string_equal(json_string_value(json_object_get(json_array_get(reports, 0), "path")),
                        "metadata.labels.osm-proxy-uuid");
    json_decref(reports);
    assert_false(osm_world_reports_changed(f->world));
    put(f, "{apiVersion: v1, kind: Pod, metadata: {name: b, namespace: shop, labels: "
           "{osm-proxy-uuid: none}}}");
    (void)osm_world_proxies(f->world, &n);
    assert_int_equal(n, 1);
    assert_true(osm_world_reports_changed(f->world));
    expect(osm_world_reports(f->world), "[]");
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

/* --- what facts may answer otherwise --- */

static void note_topic(void *ud, enum osm_world_topic topic, const char *ns, const char *name)
{
    static const char *const words[] = {"", "workloads", "accounts", "all"};
    char(*told)[256] = ud;
    char what[64];
    (void)snprintf(what, sizeof what, "%s%s%s ", topic == OSM_WORLD_NAMED ? ns : words[topic],
                   topic == OSM_WORLD_NAMED ? "/" : "", topic == OSM_WORLD_NAMED ? name : "");
    if (!strstr(*told, what))
        (void)snprintf(*told + strlen(*told), sizeof *told - strlen(*told), "%s", what);
}

static const char *settled(struct fixture *f)
{
    static char told[256];
    told[0] = '\0';
    assert_int_equal(osm_world_settle(f->world, note_topic, &told), 0);
    json_decref(osm_world_workloads(f->world)); /* answered: the next change is told anew */
    json_decref(osm_world_accounts(f->world));
    return told;
}

static void test_topics_are_told_where_facts_may_differ(void **state)
{
    struct fixture *f = *state;
    put(f, monitored);
    assert_string_equal(settled(f), "all ");
    put(f, web);
    assert_string_equal(settled(f), "shop/web ");
    put(f, pod_a);
    assert_string_equal(settled(f), "shop/web shop/seller workloads accounts ");
    put(f, "{apiVersion: v1, kind: Service, metadata: {name: other, namespace: shop}, spec: {}}");
    assert_string_equal(settled(f), "shop/other ");
    assert_string_equal(settled(f), "");
    del(f, "/Pod/shop/a");
    assert_string_equal(settled(f), "shop/web shop/seller workloads accounts ");
    put(f, "{apiVersion: v1, kind: Namespace, metadata: {name: shop}}");
    assert_string_equal(settled(f), "all ");
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
        cmocka_unit_test_setup_teardown(test_a_uuid_of_two_pods_is_left_out, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_uuid_that_a_pod_of_another_namespace_has_counts,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_is_malformed_is_reported_until_it_is_not, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_topics_are_told_where_facts_may_differ, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, count_json, nothing_is_left);
}
