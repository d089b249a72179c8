#include "reload/compare.h"

#include "base/mem.h"
#include "policy/encode/proto.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { LISTENER_MAX_BYTES = 65536 };

/* "a,b" -> RBAC that lets in a and b; NULL: no RBAC at all; "*": a principal that is anybody. */
static json_t *filters(const char *who)
{
    char text[200] = "";
    if (!who)
        return json_array();
    json_t *principals = json_array();
    (void)snprintf(text, sizeof text, "%s", who);
    for (char *at = text; *at;) {
        size_t len = strcspn(at, ",");
        bool more = at[len] == ',';
        at[len] = '\0';
        (void)json_array_append_new(principals, !strcmp(at, "*")
                                                    ? json_pack("{s:b}", "any", 1)
                                                    : json_pack("{s:{s:{s:s}}}", "authenticated",
                                                                "principal_name", "exact", at));
        at += len + more;
    }
    return json_pack("[{s:s, s:{s:s, s:s, s:{s:s, s:{s:{s:[{s:b}], s:o}}}}}]", "name", "l4_rbac",
                     "typed_config", "@type", "envoy.extensions.filters.network.rbac.v3.RBAC",
                     "stat_prefix", "n", "rules", "action", "ALLOW", "policies", "p", "permissions",
                     "any", 1, "principals", principals);
}

static struct osm_resource *listener(const char *direction, const char *chain, const char *who)
{
    struct osm_buf out = OSM_BUF_INIT(LISTENER_MAX_BYTES);
    json_t *message = json_pack("{s:s, s:s, s:[{s:s, s:o}]}", "name", "l", "traffic_direction",
                                direction, "filter_chains", "name", chain, "filters", filters(who));
    assert_non_null(message);
    struct osm_err err = {0};
    if (osm_proto_encode_json(message, osm_proto_find(osm_xds_type_message(OSM_XDS_LDS)),
                              OSM_PROTO_RULES_IGNORED, &out, NULL, NULL, &err))
        fail_msg("%s", err.msg);
    json_decref(message);
    struct osm_resource *r = osm_resource_new("l", osm_bytes_new(out.data, out.len));
    osm_buf_clear(&out);
    assert_non_null(r);
    return r;
}

/* One proxy; takes the listener (NULL: it has none), and has so many clusters. */
static struct osm_snapshot *snapshot(struct osm_resource *lds, size_t clusters)
{
    struct osm_snapshot *s = osm_snapshot_new();
    struct osm_class *cls = osm_class_new();
    assert_non_null(s);
    assert_non_null(cls);
    cls->types[OSM_XDS_LDS].list = osm_alloc_array(1, sizeof(void *));
    cls->types[OSM_XDS_LDS].len = lds != NULL;
    cls->types[OSM_XDS_LDS].list[0] = lds;
    cls->types[OSM_XDS_CDS].list = osm_alloc_array(clusters + 1, sizeof(void *));
    for (size_t i = 0; i < clusters; i++) {
        char name[32];
        (void)snprintf(name, sizeof name, "c%zu", i);
        cls->types[OSM_XDS_CDS].list[i] = osm_resource_new(name, osm_bytes_new("x", 1));
        cls->types[OSM_XDS_CDS].len = i + 1;
    }
    s->proxies = osm_alloc(sizeof *s->proxies);
    s->proxies_len = 1;
    s->proxies[0] = (struct osm_snapshot_proxy){osm_strdup("u"), osm_strdup("shop"),
                                                osm_strdup("blue"), osm_strdup("shop"), cls};
    return s;
}

/* Takes both. */
static struct osm_comparison compared(struct osm_snapshot *served, struct osm_snapshot *next)
{
    struct osm_comparison found;
    struct osm_err err = {0};
    if (osm_compare(&found, served, next, &err))
        fail_msg("%s", err.msg);
    osm_snapshot_unref(served);
    osm_snapshot_unref(next);
    return found;
}

static void expect_opened(const char *before, const char *after, const char *only)
{
    struct osm_comparison found = compared(snapshot(listener("INBOUND", "in", before), 0),
                                           snapshot(listener("INBOUND", "in", after), 0));
    assert_int_equal(json_object_size(found.opened), only != NULL);
    if (only)
        assert_non_null(json_object_get(found.opened, only));
    osm_comparison_clear(&found);
}

static void test_who_is_let_in_anew_is_named(void **state)
{
    (void)state;
    expect_opened("a", "a,b", "b -> chain \"in\"");
    expect_opened("a,b", "b", NULL);
    expect_opened("a,b", "b,a", NULL);
    expect_opened("a", NULL, "anybody -> chain \"in\""); /* no RBAC any more */
    expect_opened("a", "a,*", "anybody -> chain \"in\"");
    expect_opened("", "a", "a -> chain \"in\""); /* RBAC without a principal denies */
    expect_opened(NULL, "a", NULL);
}

static void test_a_new_chain_opens_and_an_outbound_one_does_not(void **state)
{
    (void)state;
    struct osm_comparison found = compared(snapshot(listener("INBOUND", "one", "a"), 0),
                                           snapshot(listener("INBOUND", "two", "a"), 0));
    assert_non_null(json_object_get(found.opened, "a -> chain \"two\""));
    osm_comparison_clear(&found);
    found = compared(snapshot(NULL, 0), snapshot(listener("INBOUND", "in", "a"), 0));
    assert_non_null(json_object_get(found.opened, "a -> chain \"in\""));
    osm_comparison_clear(&found);
    found = compared(snapshot(NULL, 0), snapshot(listener("OUTBOUND", "out", NULL), 0));
    assert_int_equal(json_object_size(found.opened), 0);
    osm_comparison_clear(&found);
}

static void test_what_vanishes_is_counted(void **state)
{
    (void)state;
    struct osm_comparison found =
        compared(snapshot(listener("INBOUND", "in", "a"), 3), snapshot(NULL, 1));
    assert_int_equal(found.before, 4);
    assert_int_equal(found.vanished, 3);
    assert_int_equal(found.changed + found.added, 0);
    assert_int_equal(found.bare, 1);
    assert_string_equal(found.bare_one, "blue/shop");
    assert_int_equal(found.proxies, 1);
    assert_int_equal(found.changed_proxies, 1);
    osm_comparison_clear(&found);
    found = compared(snapshot(NULL, 1), snapshot(NULL, 1));
    assert_int_equal(found.before, 1);
    assert_int_equal(found.changed_proxies + found.vanished + found.bare, 0);
    osm_comparison_clear(&found);
}

/* Any allocation may fail: it is an error then, and nothing is lost. */
static void test_no_memory_is_an_error(void **state)
{
    (void)state;
    struct osm_snapshot *served = snapshot(listener("INBOUND", "in", "a"), 2);
    struct osm_snapshot *next = snapshot(listener("INBOUND", "in", "a,b"), 1);
    long live = osm_mem_live(), failures = 0;
    for (long n = 0; n < 400; n++) {
        struct osm_comparison found;
        struct osm_err err = {0};
        osm_mem_fail_at(n);
        int rc = osm_compare(&found, served, next, &err);
        osm_mem_fail_at(-1);
        failures += rc != 0;
        if (!rc) {
            assert_non_null(json_object_get(found.opened, "b -> chain \"in\""));
            osm_comparison_clear(&found);
        }
        if (osm_mem_live() != live)
            fail_msg("allocation %ld: something is lost", n);
    }
    assert_true(failures > 20);
    osm_snapshot_unref(served);
    osm_snapshot_unref(next);
}

int main(void)
{
    json_set_alloc_funcs(osm_alloc, osm_free);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_who_is_let_in_anew_is_named),
        cmocka_unit_test(test_a_new_chain_opens_and_an_outbound_one_does_not),
        cmocka_unit_test(test_what_vanishes_is_counted),
        cmocka_unit_test(test_no_memory_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
