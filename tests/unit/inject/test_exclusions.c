#include "inject/exclusions.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static int read_lists(struct osm_exclusions *out, const char *mesh_config, const char *pod,
                      struct osm_err *err)
{
    json_t *config = json_loads(mesh_config, 0, NULL), *object = json_loads(pod, 0, NULL);
    assert_non_null(config);
    assert_non_null(object);
    int rc = osm_exclusions_read(out, config, object, err);
    json_decref(config);
    json_decref(object);
    return rc;
}

#define POD(annotations) "{\"metadata\":{\"annotations\":{" annotations "}}}"

static void test_merges_mesh_config_and_annotations_without_duplicates(void **state)
{
    (void)state;
    struct osm_exclusions e;
    struct osm_err err = {0};
    assert_int_equal(
        read_lists(&e,
                   "{\"spec\":{\"traffic\":{\"outboundPortExclusionList\":[6379],"
                   "\"outboundIPRangeExclusionList\":[\"10.0.0.0/8\"],"
                   "\"networkInterfaceExclusionList\":[\"eth1\"]},\"sidecar\":{\"localProxyMode\":"
                   "\"PodIP\"}}}",
                   POD("\"openservicemesh.io/outbound-port-exclusion-list\":\"6379, 7000\","
                       "\"openservicemesh.io/inbound-port-exclusion-list\":\"80\","
                       "\"openservicemesh.io/outbound-ip-range-exclusion-list\":\"10.0.0.0/"
                       "8,192.168.0.0/16\""),
                   &err),
        0);
    assert_int_equal(e.config.outbound_port_exclusions_len, 2);
    assert_int_equal(e.config.outbound_port_exclusions[1], 7000);
    assert_int_equal(e.config.inbound_port_exclusions_len, 1);
    assert_int_equal(e.config.outbound_ip_exclusions_len, 2);
    assert_string_equal(e.config.outbound_ip_exclusions[1], "192.168.0.0/16");
    assert_string_equal(e.config.interface_exclusions[0], "eth1");
    assert_true(e.config.pod_ip_mode);
    osm_exclusions_clear(&e);
}

static void expect_error(const char *mesh_config, const char *pod, const char *text)
{
    struct osm_exclusions e;
    struct osm_err err = {0};
    assert_int_equal(read_lists(&e, mesh_config, pod, &err), OSM_EINVAL);
    assert_string_equal(err.msg, text);
}

static void test_refuses_bad_entries_by_name(void **state)
{
    (void)state;
    expect_error("{}", POD("\"openservicemesh.io/outbound-port-exclusion-list\":\"-7070\""),
                 "Invalid port value '-7070' specified for annotation "
                 "'openservicemesh.io/outbound-port-exclusion-list'");
    expect_error("{}", POD("\"openservicemesh.io/inbound-port-exclusion-list\":\"80,70000\""),
                 "Invalid port value '70000' specified for annotation "
                 "'openservicemesh.io/inbound-port-exclusion-list'");
    expect_error("{}", POD("\"openservicemesh.io/outbound-ip-range-inclusion-list\":\"foobar\""),
                 "Invalid IP range 'foobar' specified for annotation "
                 "'openservicemesh.io/outbound-ip-range-inclusion-list'");
    expect_error(
        "{\"spec\":{\"traffic\":{\"outboundPortExclusionList\":[1,\"2\"]}}}", "{}",
        "MeshConfig: spec.traffic.outboundPortExclusionList[1]: expected a port from 1 to 65535");
    expect_error(
        "{\"spec\":{\"traffic\":{\"networkInterfaceExclusionList\":[\"eth0\",\"eth0; x\"]}}}", "{}",
        "MeshConfig: spec.traffic.networkInterfaceExclusionList[1]: expected the name of an "
        "interface such as eth0 or eth+");
    expect_error("{\"spec\":{\"sidecar\":{\"localProxyMode\":7}}}", "{}",
                 "MeshConfig: spec.sidecar.localProxyMode: expected Localhost or PodIP");
}

static void test_entries_of_an_annotation_are_bounded_though_they_be_the_same(void **state)
{
    (void)state;
    struct osm_exclusions e;
    struct osm_err err = {0};
    char list[1024 * 2 + 2] = "", pod[4096];
    for (size_t i = 0; i < 1024; i++)
        memcpy(list + 2 * i, "1,", 2);
    list[2 * 1024 - 1] = '\0';
    (void)snprintf(pod, sizeof pod,
                   POD("\"openservicemesh.io/inbound-port-exclusion-list\":\"%s\""), list);
    assert_int_equal(read_lists(&e, "{}", pod, &err), 0);
    assert_int_equal(e.config.inbound_port_exclusions_len, 1);
    osm_exclusions_clear(&e);
    memcpy(list + 2 * 1024 - 1, ",1", 3);
    (void)snprintf(pod, sizeof pod,
                   POD("\"openservicemesh.io/inbound-port-exclusion-list\":\"%s\""), list);
    assert_int_equal(read_lists(&e, "{}", pod, &err), OSM_ELIMIT);
    assert_non_null(strstr(err.msg, "openservicemesh.io/inbound-port-exclusion-list"));
}

static void test_an_empty_mode_is_the_default(void **state)
{
    (void)state;
    struct osm_exclusions e;
    struct osm_err err = {0};
    const char *config = "{\"spec\":{\"sidecar\":{\"localProxyMode\":\"\"}}}";
    assert_int_equal(read_lists(&e, config, "{}", &err), 0);
    assert_false(e.config.pod_ip_mode);
    osm_exclusions_clear(&e);
}

static int no_leak(void **state)
{
    (void)state;
    return osm_mem_live() != 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_merges_mesh_config_and_annotations_without_duplicates),
        cmocka_unit_test(test_refuses_bad_entries_by_name),
        cmocka_unit_test(test_entries_of_an_annotation_are_bounded_though_they_be_the_same),
        cmocka_unit_test(test_an_empty_mode_is_the_default),
    };
    return cmocka_run_group_tests(tests, NULL, no_leak);
}
