/* Composite resources taken apart: what is around the elements, and each of these by its name. */
#include "xds/parts.h"

#include "base/mem.h"
#include "xds/wire.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

enum { BYTES_MAX = 4096 };

static void put_chain(struct osm_buf *out, const char *name, const char *filter)
{
    size_t chain = osm_wire_open(out, 3);
    osm_wire_put_bytes(out, 3, filter, strlen(filter));
    osm_wire_put_bytes(out, 7, name, strlen(name));
    osm_wire_close(out, chain);
}

static struct osm_bytes *listener(void)
{
    struct osm_buf out = OSM_BUF_INIT(BYTES_MAX);
    osm_wire_put_bytes(&out, 1, "inbound", 7);
    put_chain(&out, "b", "x");
    osm_wire_put_tag(&out, 16, OSM_WIRE_VARINT);
    osm_wire_put_varint(&out, OSM_PARTS_OUTBOUND);
    put_chain(&out, "a", "y");
    struct osm_bytes *bytes = osm_bytes_new(out.data, out.len);
    osm_buf_clear(&out);
    assert_non_null(bytes);
    return bytes;
}

static void test_elements_are_known_by_name(void **state)
{
    (void)state;
    struct osm_bytes *bytes = listener();
    struct osm_parts parts;
    const char *message = NULL;
    assert_string_equal(osm_parts_field(OSM_XDS_LDS, &message), "filter_chains");
    assert_string_equal(message, "envoy.config.listener.v3.FilterChain");
    assert_null(osm_parts_field(OSM_XDS_CDS, NULL));
    assert_int_equal(osm_parts_of(&parts, OSM_XDS_LDS, bytes), 0);
    assert_int_equal(parts.len, 2);
    assert_string_equal(parts.list[0].name, "a");
    assert_string_equal(parts.list[1].name, "b");
    assert_int_equal(parts.direction, OSM_PARTS_OUTBOUND);
    assert_memory_equal(parts.around.data, "\x0a\x07inbound\x80\x01\x02", parts.around.len);
    assert_int_equal(parts.around.len, 12);
    assert_ptr_equal(osm_parts_find(&parts, "b"), &parts.list[1]);
    assert_null(osm_parts_find(&parts, "c"));
    assert_true(osm_part_same(&parts.list[0], &parts.list[0]));
    assert_false(osm_part_same(&parts.list[0], &parts.list[1]));
    osm_parts_clear(&parts);
    osm_bytes_unref(bytes);
}

/* Cut at every byte, and without memory: an error, and nothing is lost. */
static void test_what_cannot_be_taken_apart_is_an_error(void **state)
{
    (void)state;
    struct osm_bytes *bytes = listener();
    long live = osm_mem_live();
    struct osm_parts parts;
    size_t whole = 0;
    for (size_t len = 0; len < osm_bytes_len(bytes); len++) {
        struct osm_bytes *cut = osm_bytes_new(osm_bytes_data(bytes), len);
        int rc = osm_parts_of(&parts, OSM_XDS_LDS, cut);
        assert_true(rc == 0 || rc == OSM_EPARSE);
        whole += rc == 0;
        osm_parts_clear(&parts);
        osm_bytes_unref(cut);
    }
    assert_int_equal(whole, 4); /* where a field ends */
    for (long n = 0, rc = OSM_ENOMEM; rc; n++) {
        osm_mem_fail_at(n);
        rc = osm_parts_of(&parts, OSM_XDS_LDS, bytes);
        osm_mem_fail_at(-1);
        assert_true(rc == 0 || rc == OSM_ENOMEM);
        osm_parts_clear(&parts);
        assert_int_equal(osm_mem_live(), live);
    }
    assert_int_equal(osm_parts_of(&parts, OSM_XDS_CDS, bytes), OSM_EPARSE);
    osm_bytes_unref(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_elements_are_known_by_name),
        cmocka_unit_test(test_what_cannot_be_taken_apart_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
