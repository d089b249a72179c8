#include "policy/engine_util.h"

#define SHOP_DIR "tests/unit/policy/bundles/shop"
#define UUID_A   "11111111-1111-4111-8111-111111111111"
#define UUID_B   "22222222-2222-4222-8222-222222222222"

static const char shop[] = NAMESPACE(
    "shop") "---\napiVersion: v1\nkind: Service\nmetadata: {name: cart, namespace: shop}\n"
            "spec: {clusterIP: 10.0.0.1, selector: {app: cart}, ports: [{name: http, port: 80, "
            "targetPort: 8080}]}\n"
            "---\napiVersion: v1\nkind: Service\nmetadata: {name: cart-v2, namespace: shop}\n"
            "spec: {clusterIP: 10.0.0.2, selector: {app: cart-v2}, ports: [{name: http, port: 80, "
            "targetPort: 8081}]}\n"
            "---\napiVersion: v1\nkind: Pod\n"
            "metadata: {name: cart-1, namespace: shop, labels: {app: cart, osm-proxy-uuid: " UUID_A
            "}}\n"
            "spec: {serviceAccountName: cart, containers: [{name: c, ports: [{containerPort: "
            "8080}]}]}\n"
            "status: {phase: Running, podIP: 10.1.0.1}\n"
            "---\napiVersion: v1\nkind: Pod\n"
            "metadata: {name: buyer-1, namespace: shop, labels: {app: buyer, "
            "osm-proxy-uuid: " UUID_B "}}\n"
            "spec: {serviceAccountName: buyer, containers: [{name: c}]}\n"
            "status: {phase: Running, podIP: 10.1.0.2}\n";

static void start(struct bench *b)
{
    struct osm_err err = {0};
    if (bench_load(b, SHOP_DIR, &err))
        fail_msg("%s", err.msg);
    bench_apply(b, shop);
}

static void test_items_reach_the_proxies_of_their_audience(void **state)
{
    struct bench *b = *state;
    start(b);
    assert_int_equal(json_array_size(b->snapshot->errors), 0);
    assert_int_equal(b->snapshot->proxies_len, 2);
    assert_string_equal(bench_resource(b, UUID_B, OSM_XDS_CDS, "shop/cart|8080"),
                        "{\"connect_timeout\":\"1s\",\"eds_cluster_config\":{\"eds_config\":{"
                        "\"ads\":{},\"resource_api_version\":"
                        "\"V3\"}},\"name\":\"shop/cart|8080\",\"type\":\"EDS\"}");
    assert_null(bench_resource(b, UUID_A, OSM_XDS_RDS, "rds-inbound"));
    bench_apply(b, "apiVersion: test.mesh/v1\nkind: Grant\nmetadata: {name: g, namespace: "
                   "shop}\nspec: {to: cart, from: buyer}\n");
    assert_non_null(
        strstr(bench_resource(b, UUID_A, OSM_XDS_RDS, "rds-inbound"), "\"value\":\"shop/buyer\""));
    assert_null(bench_resource(b, UUID_B, OSM_XDS_RDS, "rds-inbound"));
}

static void test_addresses_are_filled_in_without_running_a_rule(void **state)
{
    struct bench *b = *state;
    start(b);
    assert_non_null(strstr(bench_resource(b, UUID_B, OSM_XDS_EDS, "shop/cart|8080"), "10.1.0.1"));
    assert_string_equal(bench_resource(b, UUID_B, OSM_XDS_EDS, "shop/cart-v2|8081"),
                        "{\"cluster_name\":\"shop/cart-v2|8081\"}");
    bench_apply(
        b, "apiVersion: v1\nkind: Pod\n"
           "metadata: {name: cart-1, namespace: shop, labels: {app: cart, osm-proxy-uuid: " UUID_A
           "}}\n"
           "spec: {serviceAccountName: cart, containers: [{name: c, ports: [{containerPort: "
           "8080}]}]}\n"
           "status: {phase: Running, podIP: 10.1.0.9}\n");
    assert_true(b->fresh);
    assert_non_null(strstr(bench_resource(b, UUID_B, OSM_XDS_EDS, "shop/cart|8080"), "10.1.0.9"));
    assert_int_equal(bench_figure(b, "rules_run"), 0);
}

static void test_nothing_is_published_when_nothing_differs(void **state)
{
    struct bench *b = *state;
    start(b);
    assert_int_equal(b->snapshot->number, 1);
    bench_run(b);
    assert_false(b->fresh);
    bench_apply(b, "apiVersion: test.mesh/v1\nkind: Grant\nmetadata: {name: g, namespace: "
                   "shop}\nspec: {to: nobody, from: buyer}\n");
    assert_false(b->fresh);
    bench_apply(b, "apiVersion: test.mesh/v1\nkind: Grant\nmetadata: {name: g, namespace: "
                   "shop}\nspec: {to: cart, from: buyer}\n");
    assert_true(b->fresh);
    assert_int_equal(b->snapshot->number, 2);
}

static void test_a_change_runs_only_what_read_it(void **state)
{
    struct bench *b = *state;
    start(b);
    bench_apply(b, "apiVersion: test.mesh/v2\nkind: Split\nmetadata: {name: s, namespace: shop}\n"
                   "spec: {service: cart, backends: [{name: cart-v2, weight: 5}]}\n");
    /* backends(shop, cart), leaves(shop, cart), and the two emitters that asked for them */
    assert_int_equal(bench_figure(b, "rules_run"), 4);
    assert_non_null(strstr(bench_resource(b, UUID_B, OSM_XDS_RDS, "rds-outbound"),
                           "{\"name\":\"shop/cart-v2|8081\",\"weight\":5}"));
}

static void test_an_older_version_is_lifted(void **state)
{
    struct bench *b = *state;
    start(b);
    bench_apply(b, "apiVersion: test.mesh/v1\nkind: Split\nmetadata: {name: s, namespace: shop}\n"
                   "spec: {service: cart, backend: {name: cart-v2}}\n");
    assert_string_equal(bench_ask(b, "backends", "[\"shop\",\"cart\"]"),
                        "[{\"name\":\"cart-v2\",\"weight\":1}]");
    assert_string_equal(
        bench_ask(b, "Split", "[\"shop\",\"s\"]"),
        "{\"apiVersion\":\"test.mesh/"
        "v2\",\"kind\":\"Split\",\"metadata\":{\"name\":\"s\",\"namespace\":\"shop\"},"
        "\"spec\":{\"backends\":[{\"name\":\"cart-v2\"}],\"service\":\"cart\"}}");
}

static void test_rejected_objects_do_not_exist(void **state)
{
    struct bench *b = *state;
    start(b);
    bench_apply(b, "apiVersion: test.mesh/v2\nkind: Split\nmetadata: {name: s, namespace: shop}\n"
                   "spec: {service: cart, backends: [{name: cart-v2}, {name: x, weight: -1}]}\n"
                   "---\napiVersion: test.mesh/v9\nkind: Split\nmetadata: {name: t, namespace: "
                   "shop}\nspec: {}\n");
    assert_int_equal(json_array_size(b->snapshot->rejects), 2);
    assert_string_equal(bench_entry(b->snapshot->rejects, 0, "object"), "Split shop/s");
    assert_string_equal(bench_entry(b->snapshot->rejects, 0, "path"), "spec.backends[1].weight");
    assert_string_equal(bench_entry(b->snapshot->rejects, 0, "reason"), "is negative");
    assert_string_equal(bench_entry(b->snapshot->rejects, 0, "by"), "model/services");
    assert_string_equal(bench_entry(b->snapshot->rejects, 1, "path"), "apiVersion");
    assert_string_equal(bench_ask(b, "Split", "[\"shop\",\"s\"]"), "null");
    assert_string_equal(bench_ask(b, "splits_of", "[\"shop\",\"cart\"]"), "[]");
    bench_delete(b, "test.mesh/Split/shop/s");
    assert_int_equal(json_array_size(b->snapshot->rejects), 1);
}

static void test_rejects_between_objects_belong_to_the_answer(void **state)
{
    struct bench *b = *state;
    start(b);
    bench_apply(b,
                "apiVersion: test.mesh/v2\nkind: Split\nmetadata: {name: a, namespace: shop}\n"
                "spec: {service: cart, backends: [{name: cart-v2}]}\n"
                "---\napiVersion: test.mesh/v2\nkind: Split\nmetadata: {name: b, namespace: shop}\n"
                "spec: {service: cart, backends: [{name: cart-v2}]}\n");
    assert_int_equal(json_array_size(b->snapshot->rejects), 1);
    assert_string_equal(bench_entry(b->snapshot->rejects, 0, "object"), "Split shop/b");
    assert_string_equal(bench_entry(b->snapshot->rejects, 0, "by"), "backends");
    bench_delete(b, "test.mesh/Split/shop/a");
    assert_int_equal(json_array_size(b->snapshot->rejects), 0);
}

static void test_what_authorises_is_withdrawn_when_its_emitter_fails(void **state)
{
    struct bench *b = *state;
    start(b);
    bench_apply(b, "apiVersion: test.mesh/v1\nkind: Grant\nmetadata: {name: g, namespace: "
                   "shop}\nspec: {to: cart, from: buyer}\n");
    assert_non_null(bench_resource(b, UUID_A, OSM_XDS_RDS, "rds-inbound"));
    bench_apply(b, "apiVersion: test.mesh/v1\nkind: Grant\nmetadata: {name: h, namespace: "
                   "shop}\nspec: {to: cart, from: crash}\n");
    assert_null(bench_resource(b, UUID_A, OSM_XDS_RDS, "rds-inbound"));
    assert_int_equal(json_array_size(b->snapshot->errors), 1);
    assert_string_equal(bench_entry(b->snapshot->errors, 0, "where"), "rule callers(shop, cart)");
    assert_string_equal(bench_entry(b->snapshot->errors, 0, "message"),
                        "model/services.lua:88: a caller that no program can bear");
    assert_string_equal(bench_entry(b->snapshot->errors, 0, "module"), "model/services.lua");
    assert_non_null(bench_resource(b, UUID_A, OSM_XDS_CDS, "shop/cart|8080"));
    bench_delete(b, "test.mesh/Grant/shop/h");
    assert_non_null(bench_resource(b, UUID_A, OSM_XDS_RDS, "rds-inbound"));
    assert_int_equal(json_array_size(b->snapshot->errors), 0);
}

static void test_a_key_that_leaves_takes_its_items_along(void **state)
{
    struct bench *b = *state;
    start(b);
    json_int_t cells = bench_figure(b, "cells");
    bench_delete(b, "/Service/shop/cart-v2");
    assert_null(bench_resource(b, UUID_B, OSM_XDS_CDS, "shop/cart-v2|8081"));
    assert_null(bench_resource(b, UUID_B, OSM_XDS_EDS, "shop/cart-v2|8081"));
    assert_true(bench_figure(b, "cells") < cells);
}

static void test_new_roots_reach_the_validation_contexts(void **state)
{
    struct bench *b = *state;
    start(b);
    char before[4096];
    (void)snprintf(before, sizeof before, "%s", bench_resource(b, UUID_A, OSM_XDS_SDS, "roots"));
    assert_int_equal(osm_engine_set_roots(b->engine, "other roots"), 0);
    bench_run(b);
    assert_true(b->fresh);
    assert_string_not_equal(bench_resource(b, UUID_A, OSM_XDS_SDS, "roots"), before);
}

static void test_questions_are_answered_as_a_rule_would_be(void **state)
{
    struct bench *b = *state;
    start(b);
    assert_string_equal(bench_ask(b, "Service", "[]"),
                        "[[\"shop\",\"cart\"],[\"shop\",\"cart-v2\"]]");
    assert_string_equal(bench_ask(b, "ports", "[]"),
                        "[[\"shop\",\"cart\",80],[\"shop\",\"cart-v2\",80]]");
    assert_string_equal(bench_ask(b, "target_ports", "[\"shop\",\"cart\",80]"), "[8080]");
    assert_string_equal(bench_ask(b, "settings", "[]"),
                        "{\"mesh_name\":\"osm\",\"osm_namespace\":\"osm-system\",\"trust_domain\":"
                        "\"cluster.local\"}");
    assert_string_equal(bench_ask(b, "accounts_behind", "[\"shop\",\"cart\"]"), "[\"cart\"]");
    assert_string_equal(bench_ask(b, "target_ports", "[\"shop\"]"),
                        "target_ports: takes a namespace, a service and a port number");
    assert_string_equal(bench_ask(b, "nothing", "[]"), "nothing: nobody declares it");
}

static void test_a_namespace_that_leaves_the_mesh_takes_its_objects_along(void **state)
{
    struct bench *b = *state;
    start(b);
    bench_apply(b, "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n");
    assert_int_equal(b->snapshot->proxies_len, 0);
    assert_string_equal(bench_ask(b, "Service", "[]"), "[]");
    bench_apply(b, NAMESPACE("shop"));
    assert_int_equal(b->snapshot->proxies_len, 2);
    assert_non_null(bench_resource(b, UUID_B, OSM_XDS_CDS, "shop/cart|8080"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BENCH_TEST(test_items_reach_the_proxies_of_their_audience),
        BENCH_TEST(test_addresses_are_filled_in_without_running_a_rule),
        BENCH_TEST(test_nothing_is_published_when_nothing_differs),
        BENCH_TEST(test_a_change_runs_only_what_read_it),
        BENCH_TEST(test_an_older_version_is_lifted),
        BENCH_TEST(test_rejected_objects_do_not_exist),
        BENCH_TEST(test_rejects_between_objects_belong_to_the_answer),
        BENCH_TEST(test_what_authorises_is_withdrawn_when_its_emitter_fails),
        BENCH_TEST(test_a_key_that_leaves_takes_its_items_along),
        BENCH_TEST(test_new_roots_reach_the_validation_contexts),
        BENCH_TEST(test_questions_are_answered_as_a_rule_would_be),
        BENCH_TEST(test_a_namespace_that_leaves_the_mesh_takes_its_objects_along),
    };
    return cmocka_run_group_tests(tests, NULL, bench_no_leak);
}
