/* Composition: who reads what, what it becomes, what is left out and reported. */
#include "xds/compose_world.h"

/* ---- audiences ---- */

static void test_each_term_reaches_whom_it_names(void **state)
{
    (void)state;
    struct world w;
    setup(&w);
    two_readers(&w);
    put(&w, cluster("k1", "all", "A", "everyone"));
    put(&w, cluster("k2", "ns", "B", "namespace=blue"));
    put(&w, cluster("k3", "acc", "C", "account=red/caller"));
    put(&w, cluster("k4", "svc", "D", "service=blue/web"));
    put(&w, cluster("k5", "pod", "E", "pod=red/p2"));
    put(&w, cluster("k6", "both", "F", "service=blue/web account=blue/shop"));
    put(&w, cluster("k7", "neither", "G", "service=blue/web account=red/caller"));
    put(&w, for_whom(cluster("k8", "or", "H", "account=blue/shop"), "pod=red/p2"));
    run(&w);
    const char *names[] = {"all", "ns", "acc", "svc", "pod", "both", "neither", "or"};
    const char *first[] = {"A", "B", "", "D", "", "F", "", "H"},
               *second[] = {"A", "", "C", "", "E", "", "", "H"};
    for (size_t i = 0; i < 8; i++) {
        assert_string_equal(served(&w, 0, OSM_XDS_CDS, names[i]), first[i]);
        assert_string_equal(served(&w, 1, OSM_XDS_CDS, names[i]), second[i]);
    }
    assert_int_equal(json_array_size(w.errors), 0);
    assert_string_equal(w.proxies[0].pod, "p1");
    assert_string_equal(w.proxies[1].account, "caller");
    teardown(&w);
}

static void test_a_service_of_another_namespace_is_another_service(void **state)
{
    (void)state;
    struct world w;
    setup(&w);
    add_reader(&w, "u1", "p1", "red", "shop", svc_web, 1);
    put(&w, cluster("k", "c", "A", "service=blue/web"));
    run(&w);
    assert_string_equal(served(&w, 0, OSM_XDS_CDS, "c"), "");
    teardown(&w);
}

static void test_the_most_specific_term_wins(void **state)
{
    (void)state;
    struct world w;
    setup(&w);
    add_reader(&w, "u1", "p1", "blue", "shop", svc_both, 2);
    const char *audiences[] = {"everyone", "namespace=blue", "account=blue/shop",
                               "service=blue/api account=blue/shop", "pod=blue/p1"};
    const char *bodies[] = {"0", "1", "2", "3", "4"};
    for (int i = 0; i < 5; i++) {
        char key[8];
        (void)snprintf(key, sizeof key, "a%d", i); /* lesser keys lose to better terms */
        put(&w, cluster(key, "c", bodies[i], audiences[i]));
        run(&w);
        assert_string_equal(served(&w, 0, OSM_XDS_CDS, "c"), bodies[i]);
        assert_int_equal(json_array_size(w.errors), 0);
    }
    for (int i = 4; i > 0; i--) {
        char key[8];
        (void)snprintf(key, sizeof key, "a%d", i);
        osm_compose_remove(w.compose, key);
        run(&w);
        assert_string_equal(served(&w, 0, OSM_XDS_CDS, "c"), bodies[i - 1]);
    }
    teardown(&w);
}

static void test_equal_rank_and_unequal_bytes_is_reported(void **state)
{
    (void)state;
    struct world w;
    setup(&w);
    two_readers(&w);
    put(&w, cluster("m.b(x)#1", "c", "B", "service=blue/web"));
    put(&w, cluster("m.a(x)#1", "c", "A", "account=blue/shop"));
    put(&w, cluster("m.c(x)#1", "c", "A", "account=blue/shop"));
    run(&w);
    assert_string_equal(served(&w, 0, OSM_XDS_CDS, "c"), "A");
    EXPECT_ERRORS(&w, "cluster \"c\": left out: m.a(x)#1 gives other content for the same readers "
                      "and comes first");
    const json_t *report = json_array_get(w.errors, 0);
    assert_string_equal(json_string_value(json_object_get(report, "where")), "m.b(x)#1");
    assert_string_equal(json_string_value(json_object_get(report, "module")),
                        "policies/envoy/x.lua");
    assert_int_equal(json_integer_value(json_object_get(report, "line")), 14);
    run(&w);
    assert_int_equal(json_array_size(w.errors), 1); /* the full set each time */
    osm_compose_remove(w.compose, "m.b(x)#1");
    run(&w);
    assert_int_equal(json_array_size(w.errors), 0);
    teardown(&w);
}

/* ---- classes ---- */

static void test_equal_sets_share_a_class_and_keep_it(void **state)
{
    (void)state;
    struct world w;
    setup(&w);
    two_readers(&w);
    add_reader(&w, "u3", "p3", "red", "other", NULL, 0);
    put(&w, cluster("k1", "c", "A", "everyone"));
    put(&w, cluster("k2", "d", "B", "account=blue/shop"));
    run(&w);
    struct osm_class *first = osm_class_ref(w.proxies[0].cls),
                     *second = osm_class_ref(w.proxies[1].cls);
    assert_ptr_equal(w.proxies[1].cls, w.proxies[2].cls);
    assert_ptr_not_equal(first, second);
    assert_ptr_equal(osm_class_find(first, OSM_XDS_CDS, "c"),
                     osm_class_find(second, OSM_XDS_CDS, "c"));
    put(&w, cluster("k2", "d", "B2", "account=blue/shop"));
    run(&w);
    assert_ptr_not_equal(w.proxies[0].cls, first);
    assert_ptr_equal(w.proxies[1].cls, second);
    put(&w, cluster("k2", "d", "B", "account=blue/shop"));
    run(&w);
    assert_string_equal(osm_class_find(w.proxies[0].cls, OSM_XDS_CDS, "d")->version,
                        osm_class_find(first, OSM_XDS_CDS, "d")->version);
    osm_class_unref(first);
    osm_class_unref(second);
    teardown(&w);
}

static void test_a_reader_without_items_has_an_empty_class(void **state)
{
    (void)state;
    struct world w;
    setup(&w);
    two_readers(&w);
    run(&w);
    assert_non_null(w.proxies[0].cls);
    assert_ptr_equal(w.proxies[0].cls, w.proxies[1].cls);
    assert_int_equal(w.proxies[0].cls->types[OSM_XDS_CDS].len, 0);
    teardown(&w);
}

static void test_readers_come_go_and_change(void **state)
{
    (void)state;
    struct world w;
    setup(&w);
    put(&w, cluster("k1", "c", "A", "service=blue/web"));
    put(&w, cluster("k2", "d", "B", "service=blue/api"));
    add_reader(&w, "u1", "p1", "blue", "shop", svc_web, 1);
    run(&w);
    assert_string_equal(served(&w, 0, OSM_XDS_CDS, "c"), "A");
    assert_string_equal(served(&w, 0, OSM_XDS_CDS, "d"), "");
    w.readers[0].services = svc_both;
    w.readers[0].services_len = 2;
    run(&w);
    assert_string_equal(served(&w, 0, OSM_XDS_CDS, "d"), "B");
    w.readers_len = 0;
    run(&w);
    add_reader(&w, "u0", "p0", "blue", "shop", svc_web, 1);
    run(&w);
    assert_string_equal(w.proxies[0].key, "u0");
    assert_string_equal(served(&w, 0, OSM_XDS_CDS, "c"), "A");
    teardown(&w);
}

static void test_unsorted_readers_are_refused(void **state)
{
    (void)state;
    struct world w;
    setup(&w);
    add_reader(&w, "u2", "p1", "blue", "shop", NULL, 0);
    add_reader(&w, "u1", "p2", "blue", "shop", NULL, 0);
    struct osm_err err = {0};
    json_t *errors = json_array();
    struct osm_snapshot_proxy *out = NULL;
    assert_int_equal(osm_compose_run(w.compose, w.readers, 2, &out, errors, &err), OSM_EINVAL);
    assert_null(out);
    json_decref(errors);
    teardown(&w);
}

/* ---- composites ---- */

static void test_a_composite_is_its_header_and_its_elements_by_name(void **state)
{
    (void)state;
    struct world w;
    setup(&w);
    two_readers(&w);
    put(&w, element("k2", OSM_XDS_LDS, "in", "b", "BB", "everyone"));
    put(&w, element("k9", OSM_XDS_LDS, "in", "a", "A", "account=red/caller"));
    put(&w, header("k1", OSM_XDS_LDS, "in", "H"));
    put(&w, header("r1", OSM_XDS_RDS, "routes", "R"));
    put(&w, element("r2", OSM_XDS_RDS, "routes", "v", "V", "everyone"));
    run(&w);
    assert_string_equal(served(&w, 0, OSM_XDS_LDS, "in"), "H\x1a\x02"
                                                          "BB"); /* filter_chains is field 3 */
    assert_string_equal(served(&w, 1, OSM_XDS_LDS, "in"), "H\x1a\x01"
                                                          "A\x1a\x02"
                                                          "BB");
    assert_string_equal(served(&w, 1, OSM_XDS_RDS, "routes"),
                        "R\x12\x01V"); /* virtual_hosts is field 2 */
    assert_int_equal(json_array_size(w.errors), 0);
    teardown(&w);
}

static void test_a_header_alone_is_served_only_where_it_says_so(void **state)
{
    (void)state;
    struct world w;
    setup(&w);
    two_readers(&w);
    put(&w, header("k1", OSM_XDS_LDS, "in", "H"));
    struct osm_item *alone = header("k2", OSM_XDS_LDS, "out", "O");
    alone->alone = true;
    put(&w, alone);
    put(&w, element("k3", OSM_XDS_LDS, "none", "e", "E", "everyone"));
    run(&w);
    assert_null(osm_class_find(w.proxies[0].cls, OSM_XDS_LDS, "in"));
    assert_string_equal(served(&w, 0, OSM_XDS_LDS, "out"), "O");
    assert_null(osm_class_find(w.proxies[0].cls, OSM_XDS_LDS, "none"));
    EXPECT_ERRORS(&w, "listener \"none\", filter chain \"e\": left out: nothing emits the header "
                      "of its resource to the same readers");
    teardown(&w);
}

static void test_a_header_rule_sees_the_tags_of_its_class(void **state)
{
    (void)state;
    struct world w;
    setup(&w);
    two_readers(&w);
    struct osm_item *h = header("k1", OSM_XDS_LDS, "in", NULL);
    h->header_rule = dup("head");
    put(&w, h);
    struct osm_item *a = element("k2", OSM_XDS_LDS, "in", "a", "A", "everyone"),
                    *b = element("k3", OSM_XDS_LDS, "in", "b", "B", "account=red/caller");
    a->tags = dup_list("90 80");
    b->tags = dup_list("80 100");
    put(&w, a);
    put(&w, b);
    run(&w);
    assert_string_equal(served(&w, 0, OSM_XDS_LDS, "in"), "head0[80 90 ]\x1a\x01"
                                                          "A");
    assert_string_equal(served(&w, 1, OSM_XDS_LDS, "in"), "head0[100 80 90 ]\x1a\x01"
                                                          "A\x1a\x01"
                                                          "B");
    assert_int_equal(w.header_calls, 2);
    assert_int_equal(w.headers_live, 2);
    put(&w, cluster("k4", "c", "C", "everyone"));
    run(&w);
    assert_int_equal(w.header_calls, 2); /* nothing it depends on has changed */
    osm_compose_forget_headers(w.compose);
    struct osm_resource *before =
        osm_resource_ref(osm_class_find(w.proxies[0].cls, OSM_XDS_LDS, "in"));
    run(&w);
    assert_int_equal(w.header_calls, 4);
    assert_int_equal(w.headers_live, 2);
    assert_ptr_equal(osm_class_find(w.proxies[0].cls, OSM_XDS_LDS, "in"),
                     before); /* equal bytes, equal resource */
    osm_resource_unref(before);
    w.header_version = 1;
    osm_compose_forget_headers(w.compose);
    run(&w);
    assert_string_equal(served(&w, 0, OSM_XDS_LDS, "in"), "head1[80 90 ]\x1a\x01"
                                                          "A");
    w.header_fails = true;
    osm_compose_forget_headers(w.compose);
    run(&w);
    assert_null(osm_class_find(w.proxies[0].cls, OSM_XDS_LDS, "in"));
    teardown(&w);
}

/* The memo of headers once grew with every set of tags that had ever been served, and the engine
 * held a rule's answer for each. */
static void test_a_header_that_no_class_has_any_more_is_let_go(void **state)
{
    (void)state;
    struct world w;
    setup(&w);
    two_readers(&w);
    struct osm_item *h = header("k1", OSM_XDS_LDS, "in", NULL);
    h->header_rule = dup("head");
    put(&w, h);
    for (int i = 0; i < 3; i++) {
        struct osm_item *a = element("k2", OSM_XDS_LDS, "in", "a", "A", "everyone");
        a->tags = dup_list(i % 2 ? "80" : "90");
        put(&w, a);
        run(&w);
        assert_int_equal(w.header_calls, i + 1);
        assert_int_equal(w.headers_live, 1);
    }
    osm_compose_remove(w.compose, "k2");
    run(&w);
    assert_int_equal(w.headers_live, 0);
    teardown(&w);
}

static void test_of_two_equal_domains_one_is_left_out(void **state)
{
    (void)state;
    struct world w;
    setup(&w);
    two_readers(&w);
    put(&w, header("h", OSM_XDS_RDS, "r", "R"));
    struct osm_item *a = element("k1", OSM_XDS_RDS, "r", "z", "Z", "everyone"),
                    *b = element("k2", OSM_XDS_RDS, "r", "a", "A", "everyone"),
                    *c = element("k3", OSM_XDS_RDS, "r", "c", "C", "everyone"),
                    *d = element("k4", OSM_XDS_RDS, "r", "d", "D", "everyone");
    a->domains = dup_list("web web.blue");
    b->domains = dup_list("api WEB.blue");
    c->domains = dup_list("api"); /* free: b is left out whole */
    d->domains = dup_list("x y X");
    put(&w, a);
    put(&w, b);
    put(&w, c);
    put(&w, d);
    run(&w);
    assert_string_equal(served(&w, 0, OSM_XDS_RDS, "r"), "R\x12\x01"
                                                         "C\x12\x01Z");
    EXPECT_ERRORS(&w,
                  "route configuration \"r\", virtual host \"a\": left out: domain \"WEB.blue\" "
                  "belongs to virtual host \"z\" of k1",
                  "route configuration \"r\", virtual host \"d\": left out: domain \"X\" belongs "
                  "to virtual host \"d\" of k4");
    /* The more specific wins, whatever its key. */
    struct osm_item *special = element("k9", OSM_XDS_RDS, "r", "s", "S", "pod=blue/p1");
    special->domains = dup_list("web");
    put(&w, special);
    run(&w);
    assert_string_equal(served(&w, 0, OSM_XDS_RDS, "r"), "R\x12\x01"
                                                         "A\x12\x01"
                                                         "S");
    assert_string_equal(served(&w, 1, OSM_XDS_RDS, "r"), "R\x12\x01"
                                                         "C\x12\x01Z");
    teardown(&w);
}

static void test_of_two_equal_matches_one_is_left_out(void **state)
{
    (void)state;
    struct world w;
    setup(&w);
    two_readers(&w);
    put(&w, header("h", OSM_XDS_LDS, "l", "L"));
    struct osm_item *a = element("k2", OSM_XDS_LDS, "l", "a", "A", "everyone"),
                    *b = element("k1", OSM_XDS_LDS, "l", "b", "B", "everyone");
    a->unique = dup("00ff");
    b->unique = dup("00ff");
    put(&w, a);
    put(&w, b);
    run(&w);
    assert_string_equal(served(&w, 0, OSM_XDS_LDS, "l"), "L\x1a\x01"
                                                         "B");
    EXPECT_ERRORS(
        &w, "listener \"l\", filter chain \"a\": left out: its match equals that of \"b\" of k1");
    teardown(&w);
}

static void test_parts_that_cannot_be_are_refused(void **state)
{
    (void)state;
    struct world w;
    setup(&w);
    assert_int_equal(
        osm_compose_put(w.compose, element("k", OSM_XDS_CDS, "c", "e", "E", "everyone")),
        OSM_EINVAL);
    assert_int_equal(osm_compose_put(w.compose, for_whom(item("k", OSM_XDS_LDS, OSM_ITEM_ELEMENT,
                                                              "l", NULL, "E"),
                                                         "everyone")),
                     OSM_EINVAL);
    assert_int_equal(osm_compose_put(w.compose, header("k", OSM_XDS_LDS, "l", NULL)), OSM_EINVAL);
    osm_compose_remove(w.compose, "k");
    teardown(&w);
}

/* ---- references ---- */

static void test_dangling_references_are_reported_and_served(void **state)
{
    (void)state;
    struct world w;
    setup(&w);
    two_readers(&w);
    put(&w, header("h", OSM_XDS_RDS, "r", "R"));
    put(&w, with_ref(element("v", OSM_XDS_RDS, "r", "v", "V", "everyone"), OSM_REF_CLUSTER, "c"));
    put(&w, with_ref(with_ref(cluster("c", "c", "C", "account=blue/shop"), OSM_REF_EDS, ""),
                     OSM_REF_SECRET, "root"));
    put(&w, with_ref(cluster("d", "d", "D", "account=blue/shop"), OSM_REF_SECRET, "service-cert"));
    run(&w);
    assert_string_equal(served(&w, 1, OSM_XDS_RDS, "r"), "R\x12\x01V");
    EXPECT_ERRORS(
        &w,
        "cluster \"c\": refers to load assignment \"c\", which is not served to the same proxies",
        "cluster \"c\": refers to secret \"root\", which is not served to the same proxies",
        "route configuration \"r\", virtual host \"v\": refers to cluster \"c\", which is not "
        "served to the same proxies");
    put(&w, for_whom(item("e", OSM_XDS_EDS, OSM_ITEM_WHOLE, "c", NULL, "E"), "namespace=blue"));
    put(&w, for_whom(item("s", OSM_XDS_SDS, OSM_ITEM_WHOLE, "root", NULL, "S"), "namespace=blue"));
    put(&w, cluster("c2", "c", "C", "account=red/caller"));
    run(&w);
    assert_int_equal(json_array_size(w.errors), 0);
    osm_compose_remove(w.compose, "e");
    run(&w);
    assert_int_equal(json_array_size(w.errors), 1);
    teardown(&w);
}

static void test_a_chain_without_its_routes_is_left_out_until_they_come(void **state)
{
    (void)state;
    struct world w;
    setup(&w);
    two_readers(&w);
    put(&w, header("h", OSM_XDS_LDS, "l", "L"));
    put(&w,
        with_ref(element("a", OSM_XDS_LDS, "l", "a", "A", "everyone"), OSM_REF_ROUTE_CONFIG, "r"));
    put(&w, element("b", OSM_XDS_LDS, "l", "b", "B", "everyone"));
    put(&w,
        with_ref(for_whom(item("w", OSM_XDS_LDS, OSM_ITEM_WHOLE, "whole", NULL, "W"), "everyone"),
                 OSM_REF_ROUTE_CONFIG, "r"));
    run(&w);
    assert_string_equal(served(&w, 0, OSM_XDS_LDS, "l"), "L\x1a\x01"
                                                         "B");
    assert_string_equal(served(&w, 0, OSM_XDS_LDS, "whole"), "");
    EXPECT_ERRORS(&w,
                  "listener \"l\", filter chain \"a\": left out: route configuration \"r\" is not "
                  "served to the same proxies",
                  "listener \"whole\": left out: route configuration \"r\" is not served to the "
                  "same proxies");
    put(&w, header("rh", OSM_XDS_RDS, "r", "R"));
    put(&w, element("rv", OSM_XDS_RDS, "r", "v", "V", "account=red/caller"));
    run(&w);
    assert_string_equal(served(&w, 0, OSM_XDS_LDS, "l"), "L\x1a\x01"
                                                         "B");
    assert_string_equal(served(&w, 1, OSM_XDS_LDS, "l"), "L\x1a\x01"
                                                         "A\x1a\x01"
                                                         "B");
    assert_string_equal(served(&w, 1, OSM_XDS_LDS, "whole"), "W");
    osm_compose_remove(w.compose, "rv");
    run(&w);
    assert_string_equal(served(&w, 1, OSM_XDS_LDS, "l"), "L\x1a\x01"
                                                         "B");
    assert_int_equal(json_array_size(w.errors), 2);
    teardown(&w);
}

static void test_what_is_left_out_does_not_let_a_lesser_one_through(void **state)
{
    (void)state;
    struct world w;
    setup(&w);
    two_readers(&w);
    struct osm_item *narrow = element("k1", OSM_XDS_LDS, "l", "a", "N", "pod=blue/p1"),
                    *twin = element("k2", OSM_XDS_LDS, "l", "t", "T", "everyone");
    narrow->unique = dup("00ff");
    twin->unique = dup("00ff");
    put(&w, header("h", OSM_XDS_LDS, "l", "L"));
    put(&w, with_ref(narrow, OSM_REF_ROUTE_CONFIG, "r"));
    put(&w, element("k3", OSM_XDS_LDS, "l", "a", "W", "everyone"));
    put(&w, twin);
    put(&w, element("k4", OSM_XDS_LDS, "l", "b", "B", "everyone"));
    run(&w);
    assert_string_equal(served(&w, 0, OSM_XDS_LDS, "l"), "L\x1a\x01"
                                                         "B");
    assert_string_equal(served(&w, 1, OSM_XDS_LDS, "l"), "L\x1a\x01W\x1a\x01"
                                                         "B\x1a\x01T");
    teardown(&w);
}

static int no_allocation_is_left(void **state)
{
    (void)state;
    return osm_mem_live() ? -1 : 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_term_reaches_whom_it_names),
        cmocka_unit_test(test_a_service_of_another_namespace_is_another_service),
        cmocka_unit_test(test_the_most_specific_term_wins),
        cmocka_unit_test(test_equal_rank_and_unequal_bytes_is_reported),
        cmocka_unit_test(test_equal_sets_share_a_class_and_keep_it),
        cmocka_unit_test(test_a_reader_without_items_has_an_empty_class),
        cmocka_unit_test(test_readers_come_go_and_change),
        cmocka_unit_test(test_unsorted_readers_are_refused),
        cmocka_unit_test(test_a_composite_is_its_header_and_its_elements_by_name),
        cmocka_unit_test(test_a_header_alone_is_served_only_where_it_says_so),
        cmocka_unit_test(test_a_header_rule_sees_the_tags_of_its_class),
        cmocka_unit_test(test_a_header_that_no_class_has_any_more_is_let_go),
        cmocka_unit_test(test_of_two_equal_domains_one_is_left_out),
        cmocka_unit_test(test_of_two_equal_matches_one_is_left_out),
        cmocka_unit_test(test_parts_that_cannot_be_are_refused),
        cmocka_unit_test(test_dangling_references_are_reported_and_served),
        cmocka_unit_test(test_what_is_left_out_does_not_let_a_lesser_one_through),
        cmocka_unit_test(test_a_chain_without_its_routes_is_left_out_until_they_come),
    };
    return cmocka_run_group_tests(tests, NULL, no_allocation_is_left);
}
