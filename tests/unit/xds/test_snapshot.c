/* Snapshots: lookups, shared parts, and that the last reference frees everything. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "xds/snapshot.h"

static struct osm_resource *resource(const char *name, const char *text)
{
    struct osm_resource *r = osm_resource_new(name, osm_bytes_new(text, strlen(text)));
    assert_non_null(r);
    return r;
}

static void test_types_have_names_both_ways(void **state)
{
    (void)state;
    char url[128];
    for (int t = 0; t < OSM_XDS_TYPE_COUNT; t++) {
        (void)snprintf(url, sizeof url, "type.googleapis.com/%s",
                       osm_xds_type_message((enum osm_xds_type)t));
        assert_int_equal(osm_xds_type_parse(url), t);
        assert_int_equal(osm_xds_type_parse(url + 5), -1);
    }
    assert_string_equal(osm_xds_type_short(OSM_XDS_LDS), "LDS");
    assert_int_equal(osm_xds_type_parse("type.googleapis.com/envoy.config.cluster.v3.Cluster2"),
                     -1);
    assert_int_equal(osm_xds_type_parse(""), -1);
}

static void test_a_version_follows_the_content(void **state)
{
    (void)state;
    struct osm_resource *a = resource("a", "x"), *b = resource("b", "x"), *c = resource("a", "y");
    assert_string_equal(a->version, b->version);
    assert_string_not_equal(a->version, c->version);
    struct osm_resource *own = osm_resource_new_versioned("a", "v1", osm_bytes_ref(a->body));
    assert_string_equal(own->version, "v1");
    assert_ptr_equal(own->body, a->body);
    osm_resource_unref(a);
    osm_resource_unref(b);
    osm_resource_unref(c);
    osm_resource_unref(own);
}

static struct osm_class *class_of_two(void)
{
    struct osm_class *cls = osm_class_new();
    cls->types[OSM_XDS_RDS].list = osm_alloc_array(2, sizeof(struct osm_resource *));
    cls->types[OSM_XDS_RDS].list[0] = resource("a", "1");
    cls->types[OSM_XDS_RDS].list[1] = resource("b", "2");
    cls->types[OSM_XDS_RDS].len = 2;
    return cls;
}

static void test_a_class_finds_by_type_and_name(void **state)
{
    (void)state;
    struct osm_class *cls = class_of_two();
    assert_ptr_equal(osm_class_find(cls, OSM_XDS_RDS, "b"), cls->types[OSM_XDS_RDS].list[1]);
    assert_null(osm_class_find(cls, OSM_XDS_RDS, "c"));
    assert_null(osm_class_find(cls, OSM_XDS_CDS, "b"));
    osm_class_unref(cls);
    osm_class_unref(NULL);
}

static void test_a_snapshot_finds_by_uuid_and_frees_what_it_holds(void **state)
{
    (void)state;
    struct osm_snapshot *s = osm_snapshot_new();
    assert_null(osm_snapshot_find(s, "u1"));
    struct osm_class *cls = class_of_two();
    s->proxies = osm_alloc_array(2, sizeof *s->proxies);
    s->proxies[0] = (struct osm_snapshot_proxy){osm_strdup("u1"), osm_strdup("p1"), osm_strdup("n"),
                                                osm_strdup("a"), osm_class_ref(cls)};
    s->proxies[1] = (struct osm_snapshot_proxy){osm_strdup("u2"), osm_strdup("p2"), osm_strdup("n"),
                                                osm_strdup("a"), cls};
    s->proxies_len = 2;
    s->rejects = json_array();
    assert_string_equal(osm_snapshot_find(s, "u2")->pod, "p2");
    assert_null(osm_snapshot_find(s, "u3"));
    struct osm_snapshot *second = osm_snapshot_ref(s);
    osm_snapshot_unref(s);
    assert_string_equal(osm_snapshot_find(second, "u1")->pod, "p1");
    osm_snapshot_unref(second);
    osm_snapshot_unref(NULL);
}

static int no_allocation_is_left(void **state)
{
    (void)state;
    return osm_mem_live() ? -1 : 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_types_have_names_both_ways),
        cmocka_unit_test(test_a_version_follows_the_content),
        cmocka_unit_test(test_a_class_finds_by_type_and_name),
        cmocka_unit_test(test_a_snapshot_finds_by_uuid_and_frees_what_it_holds),
    };
    return cmocka_run_group_tests(tests, NULL, no_allocation_is_left);
}
