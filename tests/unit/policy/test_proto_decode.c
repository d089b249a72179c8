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

#include "policy/proto.h"

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

/* ---- random messages ---- */

static uint32_t next_random(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*seed >> 33);
}

static json_t *random_message(uint64_t *seed, const ProtobufCMessageDescriptor *message, int depth);

static json_t *random_value(uint64_t *seed, const ProtobufCFieldDescriptor *f, int depth)
{
    static const char *const texts[] = {"", "a", "web.blue:80", "\xc3\xa9",
                                        "type.googleapis.com/x"};
    uint32_t r = next_random(seed);
    switch (f->type) {
    case PROTOBUF_C_TYPE_BOOL:
        return json_boolean(r & 1);
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_BYTES:
        return json_string(texts[r % 5]);
    case PROTOBUF_C_TYPE_ENUM: {
        const ProtobufCEnumDescriptor *e = f->descriptor;
        return json_string(e->values[r % e->n_values].name);
    }
    case PROTOBUF_C_TYPE_FLOAT:
    case PROTOBUF_C_TYPE_DOUBLE:
        return json_real((double)(int)(r % 2000) / 8 - 100);
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
        return json_integer(r % 3 ? r % 1000 : UINT32_MAX);
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
        return json_integer(r % 3 ? (json_int_t)(r % 1000) - 500 : INT32_MIN);
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
        return r % 3 ? json_integer(r) : json_string("18446744073709551615");
    case PROTOBUF_C_TYPE_MESSAGE:
        return random_message(seed, f->descriptor, depth + 1);
    default:
        return json_integer(r % 3 ? (json_int_t)r - (1 << 30) : INT64_MIN);
    }
}

static json_t *random_any(uint64_t *seed, int depth)
{
    static const char *const types[] = {
        "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext", CLUSTER};
    const char *type = types[next_random(seed) % 4];
    json_t *any = random_message(seed, osm_proto_find(type), depth + 1);
    json_object_set_new(any, "@type", json_string(type));
    return any;
}

static json_t *random_message(uint64_t *seed, const ProtobufCMessageDescriptor *message, int depth)
{
    static const char *const durations[] = {"0s", "1s", "-1.5s", "0.000000001s", "315576000000s"};
    if (!strcmp(message->package_name, "google.protobuf")) {
        if (!strcmp(message->short_name, "Duration"))
            return json_string(durations[next_random(seed) % 5]);
        if (!strcmp(message->short_name, "Timestamp"))
            return json_string("2024-02-29T01:02:03.004Z");
        if (!strcmp(message->short_name, "Any"))
            return depth > 4 ? json_object() : random_any(seed, depth);
        if (!strcmp(message->short_name, "Struct"))
            return json_pack("{s:[i,s,b,n,{}],s:f}", "k", 1, "t", 1, "d", 0.5);
        if (!strcmp(message->short_name, "Value") || !strcmp(message->short_name, "ListValue"))
            return json_pack("[i,[],{s:n}]", 7, "x");
        if (message->n_fields == 1 && !strcmp(message->fields[0].name, "value"))
            return random_value(seed, &message->fields[0], depth);
    }
    json_t *object = json_object();
    unsigned wanted = depth > 6 ? 0 : 1 + next_random(seed) % 4;
    for (unsigned n = 0; n < wanted && message->n_fields; n++) {
        const ProtobufCFieldDescriptor *f = &message->fields[next_random(seed) % message->n_fields];
        bool taken = json_object_get(object, f->name) != NULL;
        for (unsigned i = 0; f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF && i < message->n_fields; i++)
            taken |= message->fields[i].quantifier_offset == f->quantifier_offset &&
                     message->fields[i].flags & PROTOBUF_C_FIELD_FLAG_ONEOF &&
                     json_object_get(object, message->fields[i].name);
        if (taken)
            continue;
        if (f->label != PROTOBUF_C_LABEL_REPEATED) {
            json_object_set_new(object, f->name, random_value(seed, f, depth));
        } else if (f->type == PROTOBUF_C_TYPE_MESSAGE && osm_proto_is_map_entry(f->descriptor)) {
            const ProtobufCMessageDescriptor *entry = f->descriptor;
            const char *key = entry->fields[0].type == PROTOBUF_C_TYPE_STRING ? "b"
                              : entry->fields[0].type == PROTOBUF_C_TYPE_BOOL ? "true"
                                                                              : "7";
            json_object_set_new(
                object, f->name,
                json_pack("{s:o}", key, random_value(seed, &entry->fields[1], depth)));
        } else {
            json_object_set_new(
                object, f->name,
                json_pack("[o,o]", random_value(seed, f, depth), random_value(seed, f, depth)));
        }
    }
    return object;
}

static void test_random_messages_come_back(void **state)
{
    (void)state;
    static const char *const types[] = {
        CLUSTER, "envoy.config.listener.v3.Listener", "envoy.config.route.v3.RouteConfiguration",
        "envoy.config.endpoint.v3.ClusterLoadAssignment",
        "envoy.extensions.transport_sockets.tls.v3.CertificateValidationContext"};
    uint64_t seed = 42;
    size_t total = 0;
    for (int i = 0; i < 2000; i++) {
        const ProtobufCMessageDescriptor *type = osm_proto_find(types[i % 5]);
        struct osm_buf once = OSM_BUF_INIT(MAX), twice = OSM_BUF_INIT(MAX);
        struct osm_err err = {0};
        json_t *in = random_message(&seed, type, 0), *out = NULL;
        if (osm_proto_encode_json(in, type, OSM_PROTO_RULES_IGNORED, &once, NULL, NULL, &err))
            fail_msg("encode: %s", err.msg);
        if (osm_proto_decode(type, once.data ? once.data : "", once.len, &out, &err))
            fail_msg("decode: %s", err.msg);
        char *printed = json_dumps(out, JSON_COMPACT);
        if (!strstr(printed, "[redacted]")) {
            if (osm_proto_encode_json(out, type, OSM_PROTO_RULES_IGNORED, &twice, NULL, NULL, &err))
                fail_msg("again: %s", err.msg);
            assert_int_equal(once.len, twice.len);
            if (once.len)
                assert_memory_equal(once.data, twice.data, once.len);
            total += once.len;
        }
        /* Cut off anywhere it may be refused, but must not be read behind its end (the sanitizer
         * looks). */
        for (size_t cut = 0; cut < once.len; cut += 1 + once.len / 16) {
            char *part = osm_strndup(once.data, cut);
            char *exact = osm_alloc(cut ? cut : 1);
            memcpy(exact, part, cut);
            json_t *ignored = NULL;
            if (!osm_proto_decode(type, exact, cut, &ignored, NULL))
                json_decref(ignored);
            osm_free(part);
            osm_free(exact);
        }
        free(printed);
        json_decref(in);
        json_decref(out);
        osm_buf_clear(&once);
        osm_buf_clear(&twice);
    }
    assert_true(total > 50000); /* the generator does its work */
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
        cmocka_unit_test(test_random_messages_come_back),
    };
    return cmocka_run_group_tests(tests, NULL, no_allocation_is_left);
}
