/* Base64, there and back. */
#include "base/base64.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

static const struct {
    const char *bytes, *text;
} rows[] = {{"", ""},
            {"f", "Zg=="},
            {"fo", "Zm8="},
            {"foo", "Zm9v"},
            {"foob", "Zm9vYg=="},
            {"fooba", "Zm9vYmE="},
            {"foobar", "Zm9vYmFy"},
            {"\xff\xfe\xfb", "//77"}};

static void test_vectors_of_the_rfc(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct osm_buf text = OSM_BUF_INIT(64), bytes = OSM_BUF_INIT(64);
        assert_int_equal(osm_base64_encode(&text, rows[i].bytes, strlen(rows[i].bytes)), 0);
        assert_string_equal(text.data ? text.data : "", rows[i].text);
        assert_int_equal(osm_base64_decode(&bytes, rows[i].text, strlen(rows[i].text)), 0);
        assert_string_equal(bytes.data ? bytes.data : "", rows[i].bytes);
        osm_buf_clear(&text);
        osm_buf_clear(&bytes);
    }
}

static void test_all_bytes_come_back_at_every_length(void **state)
{
    (void)state;
    unsigned char all[256];
    for (size_t i = 0; i < sizeof all; i++)
        all[i] = (unsigned char)i;
    for (size_t n = 0; n <= sizeof all; n++) {
        struct osm_buf text = OSM_BUF_INIT(512), bytes = OSM_BUF_INIT(512);
        assert_int_equal(osm_base64_encode(&text, all, n), 0);
        assert_int_equal(text.len, (n + 2) / 3 * 4);
        assert_int_equal(osm_base64_decode(&bytes, text.data ? text.data : "", text.len), 0);
        assert_int_equal(bytes.len, n);
        assert_true(!n || !memcmp(bytes.data, all, n));
        osm_buf_clear(&text);
        osm_buf_clear(&bytes);
    }
}

static void test_a_full_buffer_is_told(void **state)
{
    (void)state;
    struct osm_buf text = OSM_BUF_INIT(7);
    assert_int_equal(osm_base64_encode(&text, "foobar", 6), OSM_ELIMIT);
    osm_buf_clear(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors_of_the_rfc),
        cmocka_unit_test(test_all_bytes_come_back_at_every_length),
        cmocka_unit_test(test_a_full_buffer_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
