/* Which kinds a server has, from what it says of itself. */
#include "kube/discovery.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static const char *groups =
    "{\"kind\":\"APIGroupDiscoveryList\",\"apiVersion\":\"apidiscovery.k8s.io/v2\",\"items\":["
    "{\"metadata\":{\"name\":\"specs.smi-spec.io\"},\"versions\":["
    "{\"version\":\"v1alpha4\",\"freshness\":\"Current\",\"resources\":["
    "{\"resource\":\"tcproutes\",\"responseKind\":{\"group\":\"specs.smi-spec.io\","
    "\"version\":\"v1alpha4\",\"kind\":\"TCPRoute\"},\"scope\":\"Namespaced\","
    "\"verbs\":[\"delete\",\"list\",\"watch\"]}]},"
    "{\"version\":\"v1alpha3\",\"resources\":["
    "{\"resource\":\"tcproutes\",\"responseKind\":{\"kind\":\"TCPRoute\"},\"scope\":\"Namespaced\","
    "\"verbs\":[\"list\",\"watch\"]},"
    "{\"resource\":\"onlyread\",\"responseKind\":{\"kind\":\"OnlyRead\"},\"verbs\":[\"get\"]}]}]},"
    "{\"metadata\":{\"name\":\"away.example\"},\"versions\":[{\"version\":\"v1\","
    "\"freshness\":\"Stale\"}]},"
    "{\"metadata\":{\"name\":\"evil\"},\"versions\":[{\"version\":\"..\",\"resources\":["
    "{\"resource\":\"../secrets\",\"responseKind\":{\"kind\":\"Evil\"},\"verbs\":[\"list\","
    "\"watch\"]}]}]}]}";

static int read_into(struct osm_kube_resources *r, const char *text, unsigned rank,
                     struct osm_err *err)
{
    json_t *document = json_loads(text, 0, NULL);
    assert_non_null(document);
    int rc = osm_kube_resources_add(r, document, rank, err);
    json_decref(document);
    return rc;
}

static const struct osm_kube_resource *find(const struct osm_kube_resources *r, const char *group,
                                            const char *kind, const char *first, const char *second)
{
    const char *const versions[] = {first, second, NULL};
    return osm_kube_resources_find(r, group, kind, versions, NULL);
}

static void test_version_that_the_reader_prefers_is_taken(void **state)
{
    (void)state;
    struct osm_kube_resources r = {.list = NULL};
    assert_int_equal(read_into(&r, groups, 0, NULL), 0);
    const struct osm_kube_resource *found =
        find(&r, "specs.smi-spec.io", "TCPRoute", "v1alpha3", "v1alpha4");
    assert_string_equal(found->version, "v1alpha3");
    assert_true(found->namespaced);
    char *path = osm_kube_path(found);
    assert_string_equal(path, "/apis/specs.smi-spec.io/v1alpha3/tcproutes");
    osm_free(path);
    found = find(&r, "specs.smi-spec.io", "TCPRoute", "v1", "v1alpha4");
    assert_string_equal(found->version, "v1alpha4");
    osm_kube_resources_clear(&r);
}

static void test_kind_in_other_versions_or_without_verbs_is_not_found(void **state)
{
    (void)state;
    struct osm_kube_resources r = {.list = NULL};
    const char *const versions[] = {"v1", NULL};
    char *served = NULL;
    assert_int_equal(read_into(&r, groups, 0, NULL), 0);
    assert_null(osm_kube_resources_find(&r, "specs.smi-spec.io", "TCPRoute", versions, &served));
    assert_string_equal(served, "v1alpha4, v1alpha3");
    osm_free(served);
    assert_null(osm_kube_resources_find(&r, "specs.smi-spec.io", "UDPRoute", versions, &served));
    assert_null(served);
    assert_null(find(&r, "specs.smi-spec.io", "OnlyRead", "v1alpha3", "v1"));
    assert_null(find(&r, "", "TCPRoute", "v1alpha3", "v1"));
    osm_kube_resources_clear(&r);
}

static void test_stale_group_is_known_as_such_and_paths_lead_nowhere_else(void **state)
{
    (void)state;
    struct osm_kube_resources r = {.list = NULL};
    assert_int_equal(read_into(&r, groups, 0, NULL), 0);
    assert_true(osm_kube_resources_stale(&r, "away.example"));
    assert_false(osm_kube_resources_stale(&r, "specs.smi-spec.io"));
    assert_null(find(&r, "evil", "Evil", "..", "v1"));
    osm_kube_resources_clear(&r);
}

static void test_older_documents_say_the_same(void **state)
{
    (void)state;
    struct osm_kube_resources r = {.list = NULL};
    const char *list = "{\"kind\":\"APIResourceList\",\"groupVersion\":\"v1\",\"resources\":["
                       "{\"name\":\"pods\",\"kind\":\"Pod\",\"namespaced\":true,"
                       "\"verbs\":[\"list\",\"watch\"]},"
                       "{\"name\":\"pods/log\",\"kind\":\"Pod\",\"namespaced\":true,"
                       "\"verbs\":[\"get\"]}]}";
    assert_int_equal(read_into(&r, list, 0, NULL), 0);
    char *path = osm_kube_path(find(&r, "", "Pod", "v1", "v2"));
    assert_string_equal(path, "/api/v1/pods");
    osm_free(path);
    osm_kube_resources_clear(&r);

    json_t *document = json_loads("{\"kind\":\"APIGroupList\",\"groups\":[{\"versions\":["
                                  "{\"groupVersion\":\"a/v2\"},{\"groupVersion\":\"a/v1\"}]},"
                                  "{\"versions\":[{\"groupVersion\":\"b/v1\"},{}]}]}",
                                  0, NULL);
    json_t *versions = osm_kube_group_versions(document);
    json_t *expected = json_pack("[s, s, s]", "a/v2", "a/v1", "b/v1");
    assert_true(json_equal(versions, expected));
    json_decref(versions);
    json_decref(expected);
    json_decref(document);
}

static void test_what_is_no_discovery_is_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {"{}", "[]", "{\"kind\":\"Status\"}",
                                        "{\"kind\":\"APIGroupDiscoveryList\"}"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct osm_kube_resources r = {.list = NULL};
        struct osm_err err = {0};
        assert_int_equal(read_into(&r, texts[i], 0, &err), OSM_EPARSE);
        assert_string_equal(err.msg, "discovery: the answer is no list of resources");
        osm_kube_resources_clear(&r);
    }
    json_t *status = json_pack("{s:s}", "kind", "Status");
    assert_null(osm_kube_group_versions(status));
    json_decref(status);
}

static void test_no_memory_at_any_point_is_an_error_and_leaves_nothing(void **state)
{
    (void)state;
    json_t *document = json_loads(groups, 0, NULL);
    for (long n = 0;; n++) {
        struct osm_kube_resources r = {.list = NULL};
        osm_mem_fail_at(n);
        int rc = osm_kube_resources_add(&r, document, 0, NULL);
        bool waits = osm_mem_fail_waits();
        osm_mem_fail_at(-1);
        osm_kube_resources_clear(&r);
        assert_int_equal(osm_mem_live(), 0);
        assert_int_equal(rc, waits ? 0 : OSM_ENOMEM);
        if (waits)
            break;
    }
    json_decref(document);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_version_that_the_reader_prefers_is_taken),
        cmocka_unit_test(test_kind_in_other_versions_or_without_verbs_is_not_found),
        cmocka_unit_test(test_stale_group_is_known_as_such_and_paths_lead_nowhere_else),
        cmocka_unit_test(test_older_documents_say_the_same),
        cmocka_unit_test(test_what_is_no_discovery_is_refused),
        cmocka_unit_test(test_no_memory_at_any_point_is_an_error_and_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
