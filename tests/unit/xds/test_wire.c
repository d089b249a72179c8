/* The wire format: what is written is read back, and what is malformed is refused without being
 * read behind its end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "xds/wire.h"

static void test_what_is_written_is_read_back(void **state)
{
    (void)state;
    struct osm_buf out = OSM_BUF_INIT(4096);
    struct osm_wire_field f;
    const uint64_t numbers[] = {0, 127, 128, UINT32_MAX, UINT64_MAX};
    for (size_t i = 0; i < 5; i++) {
        osm_wire_put_tag(&out, 536870911, OSM_WIRE_VARINT);
        osm_wire_put_varint(&out, numbers[i]);
    }
    osm_wire_put_tag(&out, 2, OSM_WIRE_32);
    osm_wire_put_fixed32(&out, 0x01020304);
    osm_wire_put_tag(&out, 3, OSM_WIRE_64);
    osm_wire_put_fixed64(&out, 0x0102030405060708);
    osm_wire_put_bytes(&out, 4, "abc", 3);
    assert_int_equal(out.failed, 0);
    struct osm_wire_reader r = {(const uint8_t *)out.data, (const uint8_t *)out.data + out.len};
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(osm_wire_next(&r, &f), 1);
        assert_int_equal(f.field, 536870911);
        assert_true(f.number == numbers[i]);
    }
    assert_int_equal(osm_wire_next(&r, &f), 1);
    assert_true(f.type == OSM_WIRE_32 && f.number == 0x01020304);
    assert_int_equal(osm_wire_next(&r, &f), 1);
    assert_true(f.type == OSM_WIRE_64 && f.number == 0x0102030405060708);
    assert_int_equal(osm_wire_next(&r, &f), 1);
    assert_true(f.field == 4 && f.len == 3 && !memcmp(f.data, "abc", 3));
    assert_int_equal(osm_wire_next(&r, &f), 0);
    osm_buf_clear(&out);
}

static void test_lengths_of_nested_messages_are_put_in_front(void **state)
{
    (void)state;
    struct osm_buf out = OSM_BUF_INIT(4096);
    char text[200];
    memset(text, 'x', sizeof text);
    size_t outer = osm_wire_open(&out, 1), inner = osm_wire_open(&out, 2);
    osm_wire_put_bytes(&out, 3, text, sizeof text);
    osm_wire_close(&out, inner);
    osm_wire_close(&out, outer);
    struct osm_wire_reader r = {(const uint8_t *)out.data, (const uint8_t *)out.data + out.len};
    for (uint32_t field = 1; field <= 3; field++) {
        struct osm_wire_field f;
        assert_int_equal(osm_wire_next(&r, &f), 1);
        assert_int_equal(f.field, field);
        assert_ptr_equal(f.data + f.len, r.end);
        assert_ptr_equal(r.at, r.end);
        r = (struct osm_wire_reader){f.data, f.data + f.len};
    }
    assert_int_equal(r.end - r.at, sizeof text);
    osm_buf_clear(&out);
}

static void test_the_malformed_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t len;
    } rows[] = {
        {"\x08", 1},                                              /* no value */
        {"\x08\x80", 2},                                          /* a varint that does not end */
        {"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", 11},     /* over 64 bits */
        {"\x08\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", 12}, /* over ten bytes */
        {"\x0d\x01\x02\x03", 4},                                  /* 4 bytes wanted */
        {"\x09\x01\x02\x03\x04\x05\x06\x07", 8},                  /* 8 bytes wanted */
        {"\x0a\x02"
         "a",
         3},
        {"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11}, /* a length near 2^64 */
        {"\x00\x01", 2},                                      /* field 0 */
        {"\x0b", 1},                                          /* a group */
        {"\x0f", 1},                                          /* wire type 7 */
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        uint8_t *exact = osm_alloc(rows[i].len); /* the sanitizer sees what is read behind it */
        memcpy(exact, rows[i].bytes, rows[i].len);
        struct osm_wire_reader r = {exact, exact + rows[i].len};
        struct osm_wire_field f;
        assert_int_equal(osm_wire_next(&r, &f), OSM_EPARSE);
        osm_free(exact);
    }
}

static void test_a_full_buffer_stays_failed(void **state)
{
    (void)state;
    struct osm_buf out = OSM_BUF_INIT(4);
    size_t mark = osm_wire_open(&out, 1);
    osm_wire_put_bytes(&out, 1, "abcdef", 6);
    osm_wire_close(&out, mark);
    assert_int_equal(out.failed, OSM_ELIMIT);
    osm_buf_clear(&out);
}

static int no_allocation_is_left(void **state)
{
    (void)state;
    return osm_mem_live() ? -1 : 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_written_is_read_back),
        cmocka_unit_test(test_lengths_of_nested_messages_are_put_in_front),
        cmocka_unit_test(test_the_malformed_is_refused),
        cmocka_unit_test(test_a_full_buffer_stays_failed),
    };
    return cmocka_run_group_tests(tests, NULL, no_allocation_is_left);
}
