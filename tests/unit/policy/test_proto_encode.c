/* The encoder: bytes against those of another implementation, and what it refuses, with the path.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "policy/encode/proto.h"

#include <lauxlib.h>
#include <lua.h>

#include "policy/lua_json.h"
#include "policy/proto_golden.h"

enum { MAX = 1 << 20 };

static void to_hex(const struct osm_buf *in, struct osm_buf *out)
{
    for (size_t i = 0; i < in->len; i++)
        assert_int_equal(osm_buf_addf(out, "%02x", (unsigned)(unsigned char)in->data[i]), 0);
}

static int encode_json(const char *type, const char *json, struct osm_buf *out, struct osm_err *err)
{
    json_error_t where;
    json_t *value = json_loads(json, JSON_DECODE_ANY, &where);
    assert_non_null(value);
    assert_non_null(osm_proto_find(type));
    int rc = osm_proto_encode_json(value, osm_proto_find(type), OSM_PROTO_RULES_IGNORED, out, NULL,
                                   NULL, err);
    json_decref(value);
    return rc;
}

/* Runs `return <text>` and encodes what it gives. */
static int encode_lua(const char *type, const char *text, struct osm_buf *out,
                      osm_proto_ref_fn *on_ref, void *ud, struct osm_err *err)
{
    lua_State *L = luaL_newstate();
    assert_non_null(L);
    assert_int_equal(luaL_loadstring(L, text), 0);
    assert_int_equal(lua_pcall(L, 0, 1, 0), 0);
    int top = lua_gettop(L);
    int rc = osm_proto_encode_lua(L, -1, osm_proto_find(type), OSM_PROTO_RULES_IGNORED, out, on_ref,
                                  ud, err);
    assert_int_equal(lua_gettop(L), top);
    lua_close(L);
    return rc;
}

static void expect_hex(const char *type, const char *text, const char *hex)
{
    struct osm_buf out = OSM_BUF_INIT(MAX), got = OSM_BUF_INIT(MAX);
    struct osm_err err = {0};
    if (encode_lua(type, text, &out, NULL, NULL, &err))
        fail_msg("%s", err.msg);
    to_hex(&out, &got);
    assert_string_equal(got.len ? got.data : "", hex);
    osm_buf_clear(&out);
    osm_buf_clear(&got);
}

static void expect_error(const char *type, const char *text, const char *message)
{
    struct osm_buf out = OSM_BUF_INIT(MAX);
    struct osm_err err = {0};
    assert_int_equal(osm_buf_add_str(&out, "kept"), 0);
    assert_int_not_equal(encode_lua(type, text, &out, NULL, NULL, &err), 0);
    assert_string_equal(err.msg, message);
    assert_string_equal(out.data, "kept");
    osm_buf_clear(&out);
}

static void test_json_gives_the_bytes_of_the_reference(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof goldens / sizeof *goldens; i++) {
        struct osm_buf out = OSM_BUF_INIT(MAX), hex = OSM_BUF_INIT(MAX);
        struct osm_err err = {0};
        if (encode_json(goldens[i].type, goldens[i].json, &out, &err))
            fail_msg("%s: %s", goldens[i].type, err.msg);
        to_hex(&out, &hex);
        assert_string_equal(hex.data, goldens[i].hex);
        osm_buf_clear(&out);
        osm_buf_clear(&hex);
    }
}

static void test_lua_gives_the_bytes_of_the_reference(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof goldens / sizeof *goldens; i++) {
        if (strstr(goldens[i].json, "null") || strstr(goldens[i].json, "[]"))
            continue; /* Lua has neither */
        struct osm_buf out = OSM_BUF_INIT(MAX), hex = OSM_BUF_INIT(MAX);
        struct osm_err err = {0};
        json_t *value = json_loads(goldens[i].json, 0, NULL);
        lua_State *L = luaL_newstate();
        push_json(L, value);
        if (osm_proto_encode_lua(L, 1, osm_proto_find(goldens[i].type), OSM_PROTO_RULES_IGNORED,
                                 &out, NULL, NULL, &err))
            fail_msg("%s: %s", goldens[i].type, err.msg);
        to_hex(&out, &hex);
        assert_string_equal(hex.data, goldens[i].hex);
        lua_close(L);
        json_decref(value);
        osm_buf_clear(&out);
        osm_buf_clear(&hex);
    }
}

#define CLUSTER  "envoy.config.cluster.v3.Cluster"
#define LISTENER "envoy.config.listener.v3.Listener"
#define ROUTES   "envoy.config.route.v3.RouteConfiguration"
#define STRUCT   "google.protobuf.Struct"

static void test_an_unknown_field_names_its_neighbour(void **state)
{
    (void)state;
    expect_error(CLUSTER, "return { conect_timeout = '1s' }",
                 "conect_timeout: no such field in envoy.config.cluster.v3.Cluster; did you mean "
                 "\"connect_timeout\"?");
    expect_error(CLUSTER, "return { ['name\\0x'] = 'a' }",
                 "name: no such field in envoy.config.cluster.v3.Cluster; did you mean \"name\"?");
    expect_error(CLUSTER, "return { zzzzzzzzzzzzzzzzzzzzz = 1 }",
                 "zzzzzzzzzzzzzzzzzzzzz: no such field in envoy.config.cluster.v3.Cluster");
    expect_error(CLUSTER, "return { 'a' }",
                 "expected a table of fields (envoy.config.cluster.v3.Cluster), got a list");
}

static void test_a_wrong_type_names_its_path(void **state)
{
    (void)state;
    expect_error(
        LISTENER,
        "return { filter_chains = { { filters = { { name = 'a' }, {}, { name = 7 } } } } }",
        "filter_chains[0].filters[2].name: expected a string, got number");
    expect_error(CLUSTER, "return { connect_timeout = 1 }",
                 "connect_timeout: expected a duration such as \"1s\", got number");
    expect_error(CLUSTER, "return { connect_timeout = '1m' }",
                 "connect_timeout: expected a duration such as \"1s\", got \"1m\"");
    expect_error(CLUSTER, "return { eds_cluster_config = false }",
                 "eds_cluster_config: expected a table "
                 "(envoy.config.cluster.v3.Cluster.EdsClusterConfig), got boolean");
    expect_error(
        CLUSTER, "return { per_connection_buffer_limit_bytes = 'x' }",
        "per_connection_buffer_limit_bytes: expected an integer from 0 to 4294967295, got string");
    expect_error(
        CLUSTER, "return { per_connection_buffer_limit_bytes = -1 }",
        "per_connection_buffer_limit_bytes: expected an integer from 0 to 4294967295, got -1");
    expect_error(
        CLUSTER, "return { per_connection_buffer_limit_bytes = 3.5 }",
        "per_connection_buffer_limit_bytes: expected an integer from 0 to 4294967295, got 3.5");
    expect_error(CLUSTER, "return { per_connection_buffer_limit_bytes = 4294967296.0 }",
                 "per_connection_buffer_limit_bytes: expected an integer from 0 to 4294967295, got "
                 "4294967296");
    expect_error(CLUSTER, "return { name = '\\xff' }",
                 "name: expected a string, got bytes that are not UTF-8");
    expect_error(CLUSTER, "return { name = 'a\\0b' }", "name: holds a zero byte");
    expect_error(CLUSTER, "return { name = function() end }",
                 "name: expected a string, got function");
}

static void test_lists_are_lists(void **state)
{
    (void)state;
    expect_error(ROUTES, "return { virtual_hosts = { { domains = { 'a', nil, 'c' } } } }",
                 "virtual_hosts[0].domains: expected a list without holes");
    expect_error(ROUTES, "return { virtual_hosts = { name = 'a' } }",
                 "virtual_hosts: expected a list, got a table with named keys");
    expect_error(ROUTES, "return { virtual_hosts = 'a' }",
                 "virtual_hosts: expected a list, got string");
    expect_hex(ROUTES, "return { virtual_hosts = {}, most_specific_header_mutations_wins = false }",
               "");
}

static void test_of_a_oneof_only_one_is_set(void **state)
{
    (void)state;
    expect_error(CLUSTER, "return { type = 'EDS', cluster_type = { name = 'x' } }",
                 "only one of \"type\" and \"cluster_type\" may be set");
    expect_error(LISTENER,
                 "return { address = { socket_address = { port_value = 1, named_port = 'x' } } }",
                 "address.socket_address: only one of \"port_value\" and \"named_port\" may be "
                 "set");
    expect_hex(CLUSTER, "return { type = 'STATIC' }",
               "1000"); /* its default, and set all the same */
}

static void test_enums_by_name_or_number(void **state)
{
    (void)state;
    expect_hex(CLUSTER, "return { lb_policy = 'MAGLEV' }", "3005");
    expect_hex(CLUSTER, "return { lb_policy = 5 }", "3005");
    expect_hex(CLUSTER, "return { lb_policy = 'ROUND_ROBIN' }", "");
    expect_error(CLUSTER, "return { lb_policy = 'ROUND_ROBBIN' }",
                 "lb_policy: no value \"ROUND_ROBBIN\" in "
                 "envoy.config.cluster.v3.Cluster.LbPolicy; did you mean "
                 "\"ROUND_ROBIN\"?");
    expect_error(CLUSTER, "return { lb_policy = 99 }",
                 "lb_policy: no value 99 in envoy.config.cluster.v3.Cluster.LbPolicy");
}

static void test_numbers_in_every_form(void **state)
{
    (void)state;
    expect_hex("google.protobuf.UInt32Value", "return 0", "");
    expect_hex("google.protobuf.UInt32Value", "return 3.0", "0803");
    expect_hex("google.protobuf.Int32Value", "return -1", "08ffffffffffffffffff01");
    expect_hex("google.protobuf.Int64Value", "return '-9223372036854775808'",
               "0880808080808080808001");
    expect_hex("google.protobuf.UInt64Value", "return '18446744073709551615'",
               "08ffffffffffffffffff01");
    expect_hex("google.protobuf.DoubleValue", "return 1.5", "09000000000000f83f");
    expect_hex("google.protobuf.FloatValue", "return 1", "0d0000803f");
    expect_hex("google.protobuf.BoolValue", "return true", "0801");
    expect_hex("google.protobuf.BytesValue", "return '\\xff\\0'", "0a02ff00");
    expect_hex("google.protobuf.BytesValue", "return { base64 = '/wA=' }", "0a02ff00");
    expect_error("google.protobuf.BytesValue", "return { base64 = '/' }", "not base64");
    expect_error("google.protobuf.UInt64Value", "return '18446744073709551616'",
                 "expected an unsigned 64-bit integer, got string");
    expect_error("google.protobuf.UInt64Value", "return 2^64",
                 "expected an unsigned 64-bit integer, got 1.8446744073709552e+19");
    expect_error("google.protobuf.Int64Value", "return 2^63",
                 "expected a 64-bit integer, got 9.2233720368547758e+18");
    expect_error("google.protobuf.DoubleValue", "return 0/0", "expected a finite number, got -nan");
    expect_error("google.protobuf.FloatValue", "return 1e39",
                 "expected a finite number, got 1e+39");
    expect_error("google.protobuf.BoolValue", "return 1", "expected a boolean, got number");
}

/* What the API marks as optional is written where it is set, also with its default: proto3's
 * `optional`, of which the API has none today, reads as this one of proto2. */
static void test_optional_fields_are_written_with_their_default_too(void **state)
{
    (void)state;
    expect_hex("google.protobuf.FieldOptions", "return { packed = false }", "1000");
    expect_hex("google.protobuf.FieldOptions", "return { ctype = 'STRING' }", "0800");
    expect_hex("google.protobuf.FieldOptions", "return {}", "");
    expect_hex(CLUSTER, "return { respect_dns_ttl = false }", "");
}

static void test_packed_lists_take_numbers_only(void **state)
{
    (void)state;
    expect_hex("envoy.config.route.v3.RetryPolicy",
               "return { retriable_status_codes = { 503, 5.0 } }", "3a03f70305");
    expect_error("envoy.config.route.v3.RetryPolicy",
                 "return { retriable_status_codes = { 503, 'x' } }",
                 "retriable_status_codes[1]: expected an integer from 0 to 4294967295, got string");
    expect_error("envoy.config.core.v3.HealthStatusSet", "return { statuses = { 'HEALTY' } }",
                 "statuses[0]: no value \"HEALTY\" in envoy.config.core.v3.HealthStatus; did you "
                 "mean \"HEALTHY\"?");
}

static void test_keys_of_maps_may_be_numbers_and_booleans(void **state)
{
    (void)state;
    const char *method = "envoy.extensions.filters.network.dubbo_proxy.v3.MethodMatch";
    expect_hex(method, "return { params_match = { [300] = {}, [7] = {} } }",
               "12040807120012050"
               "8ac021200");
    expect_hex(method, "return { params_match = { ['7'] = {} } }", "120408071200");
    expect_error(method, "return { params_match = { [-1] = {} } }",
                 "params_match: expected an integer from 0 to 4294967295, got -1");
    expect_error(method, "return { params_match = { [7] = {}, ['7'] = {} } }",
                 "params_match: a key is given twice");
    expect_error(method, "return { params_match = { [7] = { exact_match = 1 } } }",
                 "params_match[7].exact_match: expected a string, got number");
}

static void test_null_is_a_value_in_plain_data_only(void **state)
{
    (void)state;
    struct osm_buf out = OSM_BUF_INIT(MAX), hex = OSM_BUF_INIT(MAX);
    struct osm_err err = {0};
    assert_int_equal(encode_json(STRUCT, "{\"a\": null}", &out, &err), 0);
    to_hex(&out, &hex);
    assert_string_equal(hex.data, "0a070a016112020800");
    osm_buf_clear(&out);
    assert_int_equal(encode_json("envoy.config.core.v3.Metadata",
                                 "{\"filter_metadata\": {\"a\": null}, "
                                 "\"typed_filter_metadata\": null}",
                                 &out, &err),
                     0);
    assert_int_equal(out.len, 0);
    osm_buf_clear(&out);
    osm_buf_clear(&hex);
}

static void test_durations_and_timestamps(void **state)
{
    (void)state;
    expect_hex("google.protobuf.Duration", "return '0s'", "");
    expect_hex("google.protobuf.Duration", "return '315576000000s'", "0880bcaece9709");
    expect_hex("google.protobuf.Duration", "return '-0.5s'", "1080b6ca91feffffffff01");
    const char *bad[] = {"315576000001s", "1",   "1.s", ".5s", "1.0000000001s", "s", "",
                         "+1s",           "1s ", "--1s"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char text[64], message[128];
        (void)snprintf(text, sizeof text, "return '%s'", bad[i]);
        (void)snprintf(message, sizeof message, "expected a duration such as \"1s\", got \"%s\"",
                       bad[i]);
        expect_error("google.protobuf.Duration", text, message);
    }
    expect_hex("google.protobuf.Timestamp", "return '1970-01-01T00:00:00Z'", "");
    expect_hex("google.protobuf.Timestamp", "return '1970-01-01T01:00:01+01:00'", "0801");
    expect_error("envoy.admin.v3.CertificateDetails", "return { valid_from = 7 }",
                 "valid_from: expected a timestamp such as \"2024-01-31T12:00:00Z\", got number");
    expect_error(
        "google.protobuf.Timestamp", "return '2023-02-29T00:00:00Z'",
        "expected a timestamp such as \"2024-01-31T12:00:00Z\", got \"2023-02-29T00:00:00Z\"");
}

static void test_an_any_names_a_known_message(void **state)
{
    (void)state;
#define FILTER(content)                                                                            \
    "return { filter_chains = { { filters = { { name = 'f', typed_config = " content " } } } } }"
    expect_error(LISTENER, FILTER("{ stat_prefix = 'x' }"),
                 "filter_chains[0].filters[0].typed_config.@type: expected the full name of a "
                 "message, such as "
                 "\"envoy.config.cluster.v3.Cluster\", got nothing");
    expect_error(
        LISTENER, FILTER("{ ['@type'] = 'envoy.Nope' }"),
        "filter_chains[0].filters[0].typed_config.@type: no message \"envoy.Nope\" is known");
    expect_error(LISTENER,
                 FILTER("{ ['@type'] = 'envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy', "
                        "idle_timeout = 3 }"),
                 "filter_chains[0].filters[0].typed_config.idle_timeout: expected a duration such "
                 "as \"1s\", got number");
    expect_hex(
        "google.protobuf.Any", "return { ['@type'] = 'google.protobuf.Empty' }",
        "0a29747970652e676f6f676c65617069732e636f6d2f676f6f676c652e70726f746f6275662e456d707479");
    expect_error("google.protobuf.Any",
                 "return { ['@type'] = 'google.protobuf.Duration', value = '1s', x = 1 }",
                 "value: a google.protobuf.Duration in an Any has \"value\" and nothing else");
}

static void test_struct_is_plain_data(void **state)
{
    (void)state;
    expect_hex(STRUCT, "return { b = 'x', a = { 1, true } }",
               "0a160a01611211320f0a0911000000000000f03f0a0220010a080a016212031a0178");
}

static void test_maps_are_sorted_and_named_in_paths(void **state)
{
    (void)state;
    expect_error(
        CLUSTER,
        "return { typed_extension_protocol_options = { ['a.b'] = { ['@type'] = "
        "'google.protobuf.Empty', x = 1 } } }",
        "typed_extension_protocol_options[\"a.b\"].x: no such field in google.protobuf.Empty");
    expect_error(CLUSTER, "return { typed_extension_protocol_options = { {} } }",
                 "typed_extension_protocol_options: expected string keys, got a number key");
    expect_error(STRUCT, "return { ['a\\0b'] = 1 }", "a key holds a zero byte");
    expect_error(STRUCT, "return { a = { b = function() end } }",
                 "[\"a\"][\"b\"]: expected plain data, got function");
}

static void test_depth_is_limited(void **state)
{
    (void)state;
    struct osm_buf out = OSM_BUF_INIT(MAX);
    struct osm_err err = {0};
    assert_int_equal(encode_lua(STRUCT, "local t = {} t.t = t return t", &out, NULL, NULL, &err),
                     OSM_ELIMIT);
    assert_non_null(strstr(err.msg, "more than 64 messages deep"));
    osm_buf_clear(&out);
}

static void test_size_is_limited(void **state)
{
    (void)state;
    struct osm_buf out = OSM_BUF_INIT(16);
    struct osm_err err = {0};
    assert_int_equal(
        encode_lua(CLUSTER, "return { name = 'xxxxxxxxxxxxxxxxxxxx' }", &out, NULL, NULL, &err),
        OSM_ELIMIT);
    assert_string_equal(err.msg, "over a limit (at most 16 bytes)");
    osm_buf_clear(&out);
}

static void add_ref(void *ud, enum osm_ref_kind kind, const char *name)
{
    static const char *const kinds[] = {"cluster", "routes", "secret", "eds"};
    assert_int_equal(osm_buf_addf(ud, "%s:%s ", kinds[kind], name), 0);
}

static void expect_refs(const char *type, const char *text, const char *refs)
{
    struct osm_buf out = OSM_BUF_INIT(MAX), got = OSM_BUF_INIT(MAX);
    struct osm_err err = {0};
    if (encode_lua(type, text, &out, add_ref, &got, &err))
        fail_msg("%s", err.msg);
    assert_string_equal(got.len ? got.data : "", refs);
    osm_buf_clear(&out);
    osm_buf_clear(&got);
}

static void test_references_are_told(void **state)
{
    (void)state;
    expect_refs(ROUTES,
                "return { virtual_hosts = { { routes = { { route = { cluster = 'a' } }, { route = "
                "{ weighted_clusters = "
                "{ clusters = { { name = 'b', weight = 1 }, { name = 'c' } } }, "
                "request_mirror_policies = { { cluster = 'd' } } } } } } } }",
                "cluster:a cluster:b cluster:c cluster:d ");
    expect_refs(LISTENER,
                FILTER("{ ['@type'] = 'envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy', "
                       "weighted_clusters = "
                       "{ clusters = { { name = 'a', weight = 1 } } } }"),
                "cluster:a ");
    expect_refs(
        LISTENER,
        FILTER(
            "{ ['@type'] = "
            "'envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager', "
            "rds = { route_config_name = 'r', config_source = { ads = {} } } }"),
        "routes:r ");
    expect_refs(
        CLUSTER,
        "return { name = 'n', type = 'EDS', eds_cluster_config = { eds_config = { ads = {} } } }",
        "eds:n ");
    expect_refs(CLUSTER,
                "return { name = 'n', type = 'EDS', eds_cluster_config = { service_name = 's' } }",
                "eds:s ");
    expect_refs(CLUSTER, "return { type = 'EDS' }", "eds: ");
    expect_refs(CLUSTER, "return { name = 'n', type = 'STATIC' }", "");
    const char *tls = "envoy.extensions.transport_sockets.tls.v3.CommonTlsContext";
    expect_refs(
        tls,
        "return { tls_certificate_sds_secret_configs = { { name = 'service-cert', sds_config = { "
        "ads = {} } }, "
        "{ name = 'file', sds_config = { path_config_source = { path = 'x' } } }, { name = "
        "'static' } }, "
        "validation_context_sds_secret_config = { name = 'root', sds_config = { ads = {} } } }",
        "secret:service-cert secret:root ");
}

static void test_out_of_memory_is_an_error_and_leaks_nothing(void **state)
{
    (void)state;
    json_t *value = json_loads(goldens[0].json, 0, NULL);
    int rc = OSM_ENOMEM;
    for (long n = 0; rc && n < 100; n++) {
        struct osm_buf out = OSM_BUF_INIT(MAX);
        struct osm_err err = {0};
        osm_mem_fail_at(n);
        rc = osm_proto_encode_json(value, osm_proto_find(goldens[0].type), OSM_PROTO_RULES_IGNORED,
                                   &out, NULL, NULL, &err);
        osm_mem_fail_at(-1);
        if (rc)
            assert_int_equal(rc, OSM_ENOMEM);
        osm_buf_clear(&out);
    }
    assert_int_equal(rc, 0);
    json_decref(value);
}

static int no_allocation_is_left(void **state)
{
    (void)state;
    return osm_mem_live() ? -1 : 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_json_gives_the_bytes_of_the_reference),
        cmocka_unit_test(test_lua_gives_the_bytes_of_the_reference),
        cmocka_unit_test(test_an_unknown_field_names_its_neighbour),
        cmocka_unit_test(test_a_wrong_type_names_its_path),
        cmocka_unit_test(test_lists_are_lists),
        cmocka_unit_test(test_of_a_oneof_only_one_is_set),
        cmocka_unit_test(test_enums_by_name_or_number),
        cmocka_unit_test(test_numbers_in_every_form),
        cmocka_unit_test(test_optional_fields_are_written_with_their_default_too),
        cmocka_unit_test(test_packed_lists_take_numbers_only),
        cmocka_unit_test(test_keys_of_maps_may_be_numbers_and_booleans),
        cmocka_unit_test(test_null_is_a_value_in_plain_data_only),
        cmocka_unit_test(test_durations_and_timestamps),
        cmocka_unit_test(test_an_any_names_a_known_message),
        cmocka_unit_test(test_struct_is_plain_data),
        cmocka_unit_test(test_maps_are_sorted_and_named_in_paths),
        cmocka_unit_test(test_depth_is_limited),
        cmocka_unit_test(test_size_is_limited),
        cmocka_unit_test(test_references_are_told),
        cmocka_unit_test(test_out_of_memory_is_an_error_and_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, no_allocation_is_left);
}
