/* The decoder: back to what was encoded, secrets left out, and nothing that is malformed gets
 * through or breaks it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "policy/encode/proto.h"

#include "policy/proto_golden.h"

enum { MAX = 1 << 20 };

#define CLUSTER "envoy.config.cluster.v3.Cluster"
#define SECRET  "envoy.extensions.transport_sockets.tls.v3.Secret"

static void from_hex(const char *hex, struct osm_buf *out)
{
    for (; hex[0] && hex[1]; hex += 2) {
        static const char digits[] = "0123456789abcdef";
        assert_int_equal(osm_buf_add_char(out, (char)((strchr(digits, hex[0]) - digits) << 4 |
                                                      (strchr(digits, hex[1]) - digits))),
                         0);
    }
}

static json_t *decode_hex(const char *type, const char *hex)
{
    struct osm_buf bytes = OSM_BUF_INIT(MAX);
    struct osm_err err = {0};
    json_t *json = NULL;
    from_hex(hex, &bytes);
    if (osm_proto_decode(osm_proto_find(type), bytes.data ? bytes.data : "", bytes.len, &json,
                         &err))
        fail_msg("%s", err.msg);
    osm_buf_clear(&bytes);
    return json;
}

static void expect_json(const char *type, const char *hex, const char *want)
{
    json_t *json = decode_hex(type, hex), *wanted = json_loads(want, JSON_DECODE_ANY, NULL);
    assert_non_null(wanted);
    if (!json_equal(json, wanted)) {
        char *text = json_dumps(json, JSON_ENCODE_ANY);
        fail_msg("%s, not %s", text, want);
    }
    json_decref(json);
    json_decref(wanted);
}

static void expect_malformed(const char *type, const char *hex, const char *message)
{
    struct osm_buf bytes = OSM_BUF_INIT(MAX);
    struct osm_err err = {0};
    json_t *json = NULL;
    from_hex(hex, &bytes);
    assert_int_equal(osm_proto_decode(osm_proto_find(type), bytes.data, bytes.len, &json, &err),
                     OSM_EPARSE);
    assert_null(json);
    assert_string_equal(err.msg, message);
    osm_buf_clear(&bytes);
}

static void test_the_bytes_of_the_reference_come_back(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof goldens / sizeof *goldens; i++) {
        json_t *json = decode_hex(goldens[i].type, goldens[i].hex);
        struct osm_buf again = OSM_BUF_INIT(MAX), want = OSM_BUF_INIT(MAX);
        struct osm_err err = {0};
        if (osm_proto_encode_json(json, osm_proto_find(goldens[i].type), OSM_PROTO_RULES_IGNORED,
                                  &again, NULL, NULL, &err))
            fail_msg("%s: %s", goldens[i].type, err.msg);
        from_hex(goldens[i].hex, &want);
        assert_int_equal(again.len, want.len);
        assert_memory_equal(again.data, want.data, want.len);
        json_decref(json);
        osm_buf_clear(&again);
        osm_buf_clear(&want);
    }
}

static void test_the_text_is_what_was_written(void **state)
{
    (void)state;
    expect_json(goldens[4].type, goldens[4].hex, goldens[4].json);
    expect_json(
        "envoy.admin.v3.CertificateDetails", goldens[8].hex,
        "{\"path\": \"p\", \"valid_from\": \"2024-02-29T23:59:59.500Z\", \"expiration_time\": "
        "\"1969-12-31T23:59:59Z\", \"days_until_expiration\": \"18446744073709551615\"}");
    expect_json("envoy.type.v3.Int64Range", goldens[6].hex,
                "{\"start\": -9223372036854775808, \"end\": 9223372036854775807}");
    expect_json("google.protobuf.Struct",
                "0a160a01611211320f0a0911000000000000f03f0a0220010a080a016212031a0178",
                "{\"a\": [1, true], \"b\": \"x\"}");
    expect_json("google.protobuf.Value", "0800", "null");
    expect_json("google.protobuf.FloatValue", "0dcdcccc3d", "0.1");
    expect_json("google.protobuf.BytesValue", "0a02ff00", "{\"base64\": \"/wA=\"}");
    expect_json("google.protobuf.Duration", "1080b6ca91feffffffff01", "\"-0.500s\"");
    expect_json("google.protobuf.Any", "0a0378797a120161",
                "{\"@type\": \"xyz\", \"value\": \"YQ==\"}");
    expect_json("google.protobuf.Any", "", "{}");
}

static void test_occurrences_of_a_message_are_joined(void **state)
{
    (void)state;
    /* eds_cluster_config { service_name: "a" } twice, the second with eds_config { ads {} }; name
     * "x", then "y" */
    expect_json(CLUSTER,
                "0a0178"
                "1a03120161"
                "0a0179"
                "1a040a021a00",
                "{\"name\": \"y\", \"eds_cluster_config\": {\"service_name\": \"a\", "
                "\"eds_config\": {\"ads\": {}}}}");
}

static void test_of_a_oneof_the_last_stays(void **state)
{
    (void)state;
    expect_json("google.protobuf.Value",
                "2001"
                "1a0178",
                "\"x\"");
    expect_json("envoy.config.core.v3.ConfigSource",
                "1a00"
                "0a0178",
                "{\"path\": \"x\"}");
}

static void test_unknown_fields_are_skipped(void **state)
{
    (void)state;
    expect_json(CLUSTER,
                "0a0178"
                "c83e05"
                "ca3e03616263"
                "cd3e00000000"
                "c93e0000000000000000",
                "{\"name\": \"x\"}");
    expect_json(CLUSTER,
                "0805"
                "0a0178",
                "{\"name\": \"x\"}"); /* name as a varint */
}

static void test_packed_and_unpacked_are_read_alike(void **state)
{
    (void)state;
    expect_json("envoy.config.route.v3.RetryPolicy", "3a03f703053805",
                "{\"retriable_status_codes\": [503, 5, 5]}");
}

static void test_malformed_bytes_are_refused(void **state)
{
    (void)state;
    const char *cut = CLUSTER ": cut off, or not in the wire format";
    expect_malformed(CLUSTER, "0a05616263", cut);
    expect_malformed(CLUSTER, "0a", cut);
    expect_malformed(CLUSTER, "0affffffffffffffffff01", cut);
    expect_malformed(CLUSTER, "0affffffffffffffffffff01", cut);
    expect_malformed(CLUSTER, "00", cut);
    expect_malformed(CLUSTER, "0b", cut);
    expect_malformed(CLUSTER, "0a01ff", CLUSTER ": a string is not UTF-8");
    expect_malformed("envoy.config.route.v3.RetryPolicy", "3a01ff",
                     "envoy.config.route.v3.RetryPolicy: a packed field is cut off");
    expect_malformed("google.protobuf.Duration", "10ffffffff07",
                     "google.protobuf.Duration: out of range");
}

static void test_depth_is_limited(void **state)
{
    (void)state;
    /* Value { list_value { Value { ... } } }, 40 of each */
    struct osm_buf bytes = OSM_BUF_INIT(MAX), outer = OSM_BUF_INIT(MAX);
    struct osm_err err = {0};
    json_t *json = NULL;
    for (int i = 0; i < 80; i++) {
        osm_buf_reset(&outer);
        assert_true(bytes.len < 128 * 128);
        unsigned len = (unsigned)bytes.len;
        (void)osm_buf_add_char(&outer, i % 2 ? 0x32 : 0x0a);
        if (len >= 128)
            (void)osm_buf_add_char(&outer, (char)(uint8_t)(len | 0x80));
        (void)osm_buf_add_char(&outer, (char)(uint8_t)(len >= 128 ? len >> 7 : len));
        (void)osm_buf_add(&outer, bytes.data, bytes.len);
        struct osm_buf swap = bytes;
        bytes = outer;
        outer = swap;
    }
    assert_int_equal(osm_proto_decode(osm_proto_find("google.protobuf.Value"), bytes.data,
                                      bytes.len, &json, &err),
                     OSM_EPARSE);
    assert_non_null(strstr(err.msg, "more than 64 messages deep"));
    osm_buf_clear(&bytes);
    osm_buf_clear(&outer);
}

static void expect_redacted(const char *type, const char *text, const char *want)
{
    struct osm_buf bytes = OSM_BUF_INIT(MAX);
    struct osm_err err = {0};
    json_t *in = json_loads(text, 0, NULL), *wanted = json_loads(want, 0, NULL), *out = NULL;
    if (osm_proto_encode_json(in, osm_proto_find(type), OSM_PROTO_RULES_IGNORED, &bytes, NULL, NULL,
                              &err) ||
        osm_proto_decode(osm_proto_find(type), bytes.data, bytes.len, &out, &err))
        fail_msg("%s", err.msg);
    char *printed = json_dumps(out, JSON_COMPACT);
    assert_null(strstr(printed, "HIDE"));
    if (!json_equal(out, wanted))
        fail_msg("%s, not %s", printed, want);
    free(printed);
    json_decref(in);
    json_decref(out);
    json_decref(wanted);
    osm_buf_clear(&bytes);
}

static void test_secrets_are_never_printed(void **state)
{
    (void)state;
    expect_redacted(SECRET,
                    "{\"name\":\"s\",\"tls_certificate\":{\"certificate_chain\":{\"inline_bytes\":"
                    "\"CERT\"},\"private_key\":"
                    "{\"inline_bytes\":\"HIDE\"},\"password\":{\"inline_string\":\"HIDE\"},"
                    "\"pkcs12\":{\"inline_bytes\":\"HIDE\"}}}",
                    "{\"name\":\"s\",\"tls_certificate\":{\"certificate_chain\":{\"inline_bytes\":"
                    "\"CERT\"},\"private_key\":"
                    "{\"inline_bytes\":\"[redacted]\"},\"password\":{\"inline_string\":\"[redacted]"
                    "\"},\"pkcs12\":"
                    "{\"inline_bytes\":\"[redacted]\"}}}");
    expect_redacted(SECRET,
                    "{\"session_ticket_keys\":{\"keys\":[{\"inline_bytes\":\"HIDE\"},{\"filename\":"
                    "\"/key\"}]}}",
                    "{\"session_ticket_keys\":{\"keys\":[{\"inline_bytes\":\"[redacted]\"},{"
                    "\"filename\":\"/key\"}]}}");
    expect_redacted(SECRET,
                    "{\"generic_secret\":{\"secret\":{\"inline_string\":\"HIDE\"},\"secrets\":{"
                    "\"a\":{\"inline_string\":\"HIDE\"}}}}",
                    "{\"generic_secret\":{\"secret\":{\"inline_string\":\"[redacted]\"},"
                    "\"secrets\":{\"a\":{\"inline_string\":\"[redacted]\"}}}}");
    /* inside an Any, too */
    expect_redacted("google.protobuf.Any",
                    "{\"@type\":\"" SECRET
                    "\",\"tls_certificate\":{\"private_key\":{\"inline_string\":\"HIDE\"}}}",
                    "{\"@type\":\"type.googleapis.com/" SECRET
                    "\",\"tls_certificate\":{\"private_key\":{\"inline_string\":\"[redacted]\"}}}");
    /* in a key that occurs twice */
    json_t *out = decode_hex(SECRET, "0a017312181a061204484944451a061204484944451a061204484944"
                                     "45");
    char *printed = json_dumps(out, 0);
    assert_null(strstr(printed, "HIDE"));
    free(printed);
    json_decref(out);
}

static int no_allocation_is_left(void **state)
{
    (void)state;
    return osm_mem_live() ? -1 : 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_bytes_of_the_reference_come_back),
        cmocka_unit_test(test_the_text_is_what_was_written),
        cmocka_unit_test(test_occurrences_of_a_message_are_joined),
        cmocka_unit_test(test_of_a_oneof_the_last_stays),
        cmocka_unit_test(test_unknown_fields_are_skipped),
        cmocka_unit_test(test_packed_and_unpacked_are_read_alike),
        cmocka_unit_test(test_malformed_bytes_are_refused),
        cmocka_unit_test(test_depth_is_limited),
        cmocka_unit_test(test_secrets_are_never_printed),
    };
    return cmocka_run_group_tests(tests, NULL, no_allocation_is_left);
}
