/* Discovery messages: requests from bytes that are not trusted, responses in parts, renamed
 * secrets. */
#include "base/mem.h"
#include "xds/discovery.h"
#include "xds/wire.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void text(struct osm_buf *b, uint32_t field, const char *value)
{
    osm_wire_put_bytes(b, field, value, strlen(value));
}

static struct osm_buf delta_request(void)
{
    struct osm_buf b = OSM_BUF_INIT(4096);
    size_t node = osm_wire_open(&b, 1);
    text(&b, 1, "id-1");
    text(&b, 2, "cluster");
    text(&b, 3, ""); /* metadata: whatever it holds is nobody's business */
    text(&b, 6, "envoy");
    size_t build = osm_wire_open(&b, 8), numbers = osm_wire_open(&b, 1);
    for (uint32_t i = 1; i <= 3; i++) {
        osm_wire_put_tag(&b, i, OSM_WIRE_VARINT);
        osm_wire_put_varint(&b, i == 1 ? 1 : 30 + i);
    }
    osm_wire_close(&b, numbers);
    osm_wire_close(&b, build);
    osm_wire_close(&b, node);
    text(&b, 2, "type.googleapis.com/x");
    text(&b, 3, "a");
    text(&b, 3, "");
    text(&b, 3, "b");
    text(&b, 4, "c");
    size_t claim = osm_wire_open(&b, 5);
    text(&b, 1, "a");
    text(&b, 2, "v1");
    osm_wire_close(&b, claim);
    text(&b, 6, "nonce");
    size_t error = osm_wire_open(&b, 7);
    osm_wire_put_tag(&b, 1, OSM_WIRE_VARINT);
    osm_wire_put_varint(&b, 3);
    text(&b, 2, "why");
    osm_wire_close(&b, error);
    text(&b, 99, "from a later version");
    return b;
}

static void test_decodes_a_delta_request(void **state)
{
    (void)state;
    struct osm_buf b = delta_request();
    struct osm_discovery_request r;
    struct osm_err err = {0};
    assert_int_equal(0, osm_discovery_decode(&r, OSM_STREAM_DELTA, b.data, b.len, &err));
    assert_true(r.has_node);
    assert_string_equal("id-1", r.node_id);
    assert_string_equal("envoy", r.user_agent);
    assert_string_equal("1.32.33", r.version);
    assert_string_equal("type.googleapis.com/x", r.request.type_url);
    assert_int_equal(3, r.request.names_len);
    assert_string_equal("a", r.request.names[0]);
    assert_string_equal("", r.request.names[1]);
    assert_string_equal("b", r.request.names[2]);
    assert_int_equal(1, r.request.unsubscribe_len);
    assert_string_equal("c", r.request.unsubscribe[0]);
    assert_int_equal(1, r.request.claims_len);
    assert_string_equal("a", r.request.claims[0].name);
    assert_string_equal("v1", r.request.claims[0].version);
    assert_string_equal("nonce", r.request.nonce);
    assert_string_equal("", r.request.version);
    assert_true(r.request.refused);
    assert_string_equal("why", r.request.error);
    osm_discovery_request_clear(&r);
    osm_buf_clear(&b);
}

static void test_decodes_a_state_of_the_world_request(void **state)
{
    (void)state;
    struct osm_buf b = OSM_BUF_INIT(4096);
    struct osm_discovery_request r;
    text(&b, 1, "v7");
    text(&b, 3, "a");
    text(&b, 4, "url");
    text(&b, 5, "n");
    assert_int_equal(0, osm_discovery_decode(&r, OSM_STREAM_SOTW, b.data, b.len, NULL));
    assert_string_equal("v7", r.request.version);
    assert_string_equal("url", r.request.type_url);
    assert_string_equal("n", r.request.nonce);
    assert_int_equal(1, r.request.names_len);
    assert_false(r.has_node || r.request.refused);
    osm_discovery_request_clear(&r);
    osm_buf_clear(&b);
    assert_int_equal(0, osm_discovery_decode(&r, OSM_STREAM_SOTW, NULL, 0, NULL));
    assert_string_equal("", r.request.type_url);
    osm_discovery_request_clear(&r);
}

/* Every prefix and every single-byte change decodes or is refused; the sanitizers watch the rest.
 */
static void test_broken_requests_are_refused_or_harmless(void **state)
{
    (void)state;
    struct osm_buf b = delta_request();
    size_t refused = 0;
    for (size_t cut = 0; cut < b.len; cut++) {
        struct osm_discovery_request r;
        char *copy = malloc(cut + 1); /* exact, so that reading on is seen */
        memcpy(copy, b.data, cut);
        if (osm_discovery_decode(&r, OSM_STREAM_DELTA, copy, cut, NULL))
            refused++;
        else
            osm_discovery_request_clear(&r);
        free(copy);
    }
    assert_true(refused > b.len / 2);
    for (size_t at = 0; at < b.len; at++)
        for (int mask = 1; mask < 256; mask <<= 1) {
            struct osm_discovery_request r;
            b.data[at] = (char)(b.data[at] ^ mask);
            if (!osm_discovery_decode(&r, OSM_STREAM_DELTA, b.data, b.len, NULL))
                osm_discovery_request_clear(&r);
            b.data[at] = (char)(b.data[at] ^ mask);
        }
    osm_buf_clear(&b);
}

static void test_text_with_a_zero_byte_is_refused(void **state)
{
    (void)state;
    struct osm_buf b = OSM_BUF_INIT(64);
    struct osm_discovery_request r;
    struct osm_err err = {0};
    osm_wire_put_bytes(&b, 3, "a\0b", 3);
    assert_int_equal(OSM_EPARSE, osm_discovery_decode(&r, OSM_STREAM_SOTW, b.data, b.len, &err));
    assert_non_null(strstr(err.msg, "field 3"));
    osm_buf_clear(&b);
}

static void test_a_number_where_a_message_belongs_is_refused(void **state)
{
    (void)state;
    for (char field = 1; field <= 7; field++) {
        struct osm_discovery_request r;
        char bytes[] = {(char)(field << 3), 1};
        assert_int_equal(OSM_EPARSE, osm_discovery_decode(&r, OSM_STREAM_DELTA, bytes, 2, NULL));
    }
}

static struct osm_resource *resource(const char *name, size_t size, bool secret)
{
    char *data = calloc(1, size + 1);
    memset(data, 'x', size);
    struct osm_bytes *body = secret ? osm_bytes_new_secret(data, size) : osm_bytes_new(data, size);
    free(data);
    return osm_resource_new_versioned(name, "v", body);
}

/* The bytes of all parts in order. */
static struct osm_buf joined(const struct osm_discovery_response *r)
{
    struct osm_buf all = OSM_BUF_INIT(1 << 20);
    for (size_t i = 0; i < r->parts_len; i++) {
        const struct osm_discovery_part *p = &r->parts[i];
        (void)osm_buf_add(&all, p->body ? osm_bytes_data(p->body) : r->text.data + p->from, p->len);
    }
    assert_int_equal(r->len, all.len);
    return all;
}

static void check_encoding(enum osm_stream_mode mode, size_t size, bool secret)
{
    struct osm_resource *list[] = {resource("a", size, secret), resource("b", 3, false)};
    char *removed[] = {(char *)(uintptr_t) "gone"};
    struct osm_stream_response in = {.type = OSM_XDS_SDS,
                                     .version = "abc",
                                     .nonce = "1-2",
                                     .resources = list,
                                     .resources_len = 2,
                                     .removed = removed,
                                     .removed_len = mode == OSM_STREAM_DELTA};
    struct osm_discovery_response out;
    assert_int_equal(0, osm_discovery_encode(&out, mode, &in));
    bool shared = false;
    for (size_t i = 0; i < out.parts_len; i++)
        shared = shared || out.parts[i].body == list[0]->body;
    assert_int_equal(size >= 1024 || secret, shared); /* secrets are not copied around */
    struct osm_buf all = joined(&out);
    struct osm_wire_reader reader = {(const uint8_t *)all.data,
                                     (const uint8_t *)all.data + all.len};
    struct osm_wire_field f;
    size_t resources = 0, gone = 0, type_urls = 0;
    int rc;
    while ((rc = osm_wire_next(&reader, &f)) > 0) {
        gone += f.field == 6 && f.len == 4;
        type_urls += f.field == 4 && f.len == strlen("type.googleapis.com/") +
                                                  strlen(osm_xds_type_message(OSM_XDS_SDS));
        if (f.field != 2)
            continue;
        struct osm_wire_reader inner = {f.data, f.data + f.len};
        struct osm_wire_field g;
        if (mode == OSM_STREAM_DELTA) {
            bool any = false;
            while (osm_wire_next(&inner, &g) > 0) {
                if (g.field == 3)
                    assert_int_equal(list[resources]->name[0], g.data[0]);
                if (g.field == 2) {
                    inner = (struct osm_wire_reader){g.data, g.data + g.len};
                    any = true;
                    break;
                }
            }
            assert_true(any);
        }
        while (osm_wire_next(&inner, &g) > 0)
            if (g.field == 2)
                assert_int_equal(osm_bytes_len(list[resources]->body), g.len);
        resources++;
    }
    assert_int_equal(0, rc);
    assert_int_equal(2, resources);
    assert_int_equal(1, type_urls);
    assert_int_equal(mode == OSM_STREAM_DELTA, gone);
    osm_buf_clear(&all);
    osm_discovery_response_clear(&out);
    osm_resource_unref(list[0]);
    osm_resource_unref(list[1]);
}

static void test_encodes_both_forms_and_shares_large_and_secret_bytes(void **state)
{
    (void)state;
    check_encoding(OSM_STREAM_SOTW, 10, false);
    check_encoding(OSM_STREAM_DELTA, 10, false);
    check_encoding(OSM_STREAM_SOTW, 5000, false);
    check_encoding(OSM_STREAM_DELTA, 5000, false);
    check_encoding(OSM_STREAM_DELTA, 10, true);
}

static void test_secret_gets_another_name_and_keeps_the_rest(void **state)
{
    (void)state;
    struct osm_buf b = OSM_BUF_INIT(256);
    text(&b, 1, "service-cert");
    text(&b, 2, "the certificate");
    struct osm_resource *in =
        osm_resource_new_versioned("service-cert", "fp.1", osm_bytes_new_secret(b.data, b.len));
    struct osm_resource *out = osm_discovery_rename_secret(in, "service-cert:red/caller");
    osm_buf_reset(&b);
    text(&b, 1, "service-cert:red/caller");
    text(&b, 2, "the certificate");
    assert_non_null(out);
    assert_string_equal("service-cert:red/caller", out->name);
    assert_string_equal("fp.1", out->version);
    assert_true(osm_bytes_secret(out->body));
    assert_int_equal(b.len, osm_bytes_len(out->body));
    assert_memory_equal(b.data, osm_bytes_data(out->body), b.len);
    osm_resource_unref(in);
    osm_resource_unref(out);
    in = osm_resource_new_versioned("x", "1", osm_bytes_new_secret("\xff", 1));
    assert_null(osm_discovery_rename_secret(in, "y"));
    osm_resource_unref(in);
    osm_buf_clear(&b);
}

static void test_running_out_of_memory_leaks_nothing(void **state)
{
    (void)state;
    struct osm_buf b = delta_request();
    struct osm_resource *one = resource("a", 5000, false);
    for (long n = 0; n < 12; n++) {
        struct osm_discovery_request r;
        struct osm_discovery_response out;
        struct osm_stream_response in = {
            .type = OSM_XDS_CDS, .resources = &one, .resources_len = 1};
        osm_mem_fail_at(n);
        int rc = osm_discovery_decode(&r, OSM_STREAM_DELTA, b.data, b.len, NULL);
        osm_mem_fail_at(-1);
        if (!rc)
            osm_discovery_request_clear(&r);
        osm_mem_fail_at(n);
        rc = osm_discovery_encode(&out, OSM_STREAM_DELTA, &in);
        osm_mem_fail_at(-1);
        assert_true(rc == 0 || rc == OSM_ENOMEM);
        if (!rc)
            osm_discovery_response_clear(&out);
        osm_mem_fail_at(n);
        struct osm_resource *renamed = osm_discovery_rename_secret(one, "b");
        osm_mem_fail_at(-1);
        osm_resource_unref(renamed);
    }
    osm_resource_unref(one);
    osm_buf_clear(&b);
}

static int no_memory_left_behind(void **state)
{
    (void)state;
    return osm_mem_live() == 0 ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decodes_a_delta_request),
        cmocka_unit_test(test_decodes_a_state_of_the_world_request),
        cmocka_unit_test(test_broken_requests_are_refused_or_harmless),
        cmocka_unit_test(test_text_with_a_zero_byte_is_refused),
        cmocka_unit_test(test_a_number_where_a_message_belongs_is_refused),
        cmocka_unit_test(test_encodes_both_forms_and_shares_large_and_secret_bytes),
        cmocka_unit_test(test_secret_gets_another_name_and_keeps_the_rest),
        cmocka_unit_test(test_running_out_of_memory_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, no_memory_left_behind);
}
