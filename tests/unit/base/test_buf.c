#include "base/buf.h"

#include "base/check_left.h"

#include <stdlib.h>
#include <unistd.h>

static void test_text_grows_and_stays_terminated(void **state)
{
    (void)state;
    struct osm_buf buf = OSM_BUF_INIT(1000);
    for (int i = 0; i < 100; i++)
        assert_int_equal(osm_buf_addf(&buf, "%02d,", i), 0);
    assert_int_equal(buf.len, 300);
    assert_int_equal(strlen(buf.data), 300);
    assert_memory_equal(buf.data, "00,01,", 6);
    osm_buf_clear(&buf);
    osm_buf_clear(&buf);
}

static void test_the_ceiling_is_exact_and_remembered(void **state)
{
    (void)state;
    struct osm_buf buf = OSM_BUF_INIT(4);
    assert_int_equal(osm_buf_add(&buf, "abcd", 4), 0);
    assert_int_equal(osm_buf_add(&buf, "", 0), 0);
    assert_int_equal(osm_buf_add_char(&buf, 'e'), OSM_ELIMIT);
    assert_int_equal(buf.failed, OSM_ELIMIT);
    assert_string_equal(buf.data, "abcd");
    assert_int_equal(osm_buf_add(&buf, "", 0), OSM_ELIMIT);
    osm_buf_reset(&buf);
    assert_int_equal(osm_buf_add_str(&buf, "ok"), 0);
    assert_string_equal(buf.data, "ok");
    assert_null(osm_buf_reserve(&buf, SIZE_MAX));
    assert_null(osm_buf_take(&buf)); /* a failed buffer gives nothing */
    assert_null(buf.data);
}

static void test_a_lent_room_is_used_while_it_is_enough(void **state)
{
    (void)state;
    char room[8];
    long live = osm_mem_live();
    struct osm_buf buf = osm_buf_on(room, sizeof room, 100);
    assert_string_equal(buf.data, "");
    assert_int_equal(osm_buf_add_str(&buf, "1234567"), 0);
    assert_ptr_equal(buf.data, room);
    assert_int_equal(osm_mem_live(), live);
    osm_mem_fail_at(0);
    assert_int_equal(osm_buf_add_char(&buf, '8'), OSM_ENOMEM);
    assert_string_equal(buf.data, "1234567");
    osm_buf_reset(&buf);
    assert_int_equal(osm_buf_add_str(&buf, "12345678"), 0);
    assert_string_equal(buf.data, "12345678");
    assert_ptr_not_equal(buf.data, room);
    osm_buf_clear(&buf);
    osm_buf_clear(&buf);
    buf = osm_buf_on(room, sizeof room, 100);
    assert_int_equal(osm_buf_add_str(&buf, "own"), 0);
    char *text = osm_buf_take(&buf); /* outlives the room */
    assert_ptr_not_equal(text, room);
    assert_string_equal(text, "own");
    osm_free(text);
}

static void test_take_moves_the_text_out(void **state)
{
    (void)state;
    struct osm_buf buf = OSM_BUF_INIT(10);
    char *empty = osm_buf_take(&buf);
    assert_string_equal(empty, "");
    (void)osm_buf_add_str(&buf, "x");
    char *text = osm_buf_take(&buf);
    assert_string_equal(text, "x");
    assert_null(buf.data);
    osm_free(empty);
    osm_free(text);
}

static void test_no_memory_is_remembered(void **state)
{
    (void)state;
    struct osm_buf buf = OSM_BUF_INIT(1000);
    osm_mem_fail_at(0);
    assert_int_equal(osm_buf_add_str(&buf, "x"), OSM_ENOMEM);
    osm_mem_fail_at(-1);
    assert_int_equal(osm_buf_add_str(&buf, "x"), OSM_ENOMEM);
    osm_buf_clear(&buf);
    assert_int_equal(osm_buf_add_str(&buf, "x"), 0);
    osm_buf_clear(&buf);
}

static void test_json_strings(void **state)
{
    (void)state;
    struct osm_buf buf = OSM_BUF_INIT(1000);
    (void)osm_buf_add_json_string(&buf, "a\"\\\n\t\x01\x7f/\xc3\xa9\xf0\x9f\x98\x80");
    assert_string_equal(buf.data, "\"a\\\"\\\\\\n\\t\\u0001\\u007f/\xc3\xa9\xf0\x9f\x98\x80\"");
    osm_buf_reset(&buf);
    /* a lone byte, an overlong form, half a surrogate pair, beyond Unicode, a cut sequence */
    (void)osm_buf_add_json_string(&buf, "\xff|\xc0\xaf|\xed\xa0\x80|\xf4\x90\x80\x80|\xe2\x82");
    assert_string_equal(
        buf.data, "\"\\ufffd|\\ufffd\\ufffd|\\ufffd\\ufffd\\ufffd|\\ufffd\\ufffd\\ufffd\\ufffd|"
                  "\\ufffd\\ufffd\"");
    osm_buf_clear(&buf);
}

static void test_secrets_grow_and_go(void **state)
{
    (void)state;
    struct osm_buf buf = OSM_BUF_SECRET_INIT(10000);
    for (int i = 0; i < 1000; i++)
        (void)osm_buf_add_str(&buf, "key");
    assert_int_equal(buf.failed, 0);
    assert_int_equal(strlen(buf.data), 3000);
    osm_buf_clear(&buf);
}

static void test_reads_files_up_to_the_ceiling(void **state)
{
    (void)state;
    char path[] = "/tmp/osm-buf-XXXXXX";
    int fd = mkstemp(path);
    char text[40000];
    struct osm_err err = {0};
    memset(text, 'x', sizeof text);
    assert_int_equal(write(fd, text, sizeof text), sizeof text);
    close(fd);
    struct osm_buf buf = OSM_BUF_INIT(sizeof text), small = OSM_BUF_INIT(sizeof text - 1);
    assert_int_equal(osm_buf_read_file(&buf, path, &err), 0);
    assert_int_equal(buf.len, sizeof text);
    assert_int_equal(osm_buf_read_file(&small, path, &err), OSM_ELIMIT);
    assert_non_null(strstr(err.msg, path));
    (void)remove(path);
    assert_int_equal(osm_buf_read_file(&buf, path, &err), OSM_ENOENT);
    assert_int_equal(osm_buf_read_file(&buf, "/tmp", &err), OSM_EIO);
    osm_buf_clear(&buf);
    osm_buf_clear(&small);
}

static void test_texts_and_numbers_in_a_row(void **state)
{
    (void)state;
    struct osm_buf buf = OSM_BUF_INIT(1000);
    assert_int_equal(osm_buf_add_strs(&buf, "a", "", "bc", NULL), 0);
    static const int64_t numbers[] = {0, 7, -7, 10, INT64_MAX, INT64_MIN};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        assert_int_equal(osm_buf_add_char(&buf, ' '), 0);
        assert_int_equal(osm_buf_add_int(&buf, numbers[i]), 0);
    }
    assert_string_equal(buf.data, "abc 0 7 -7 10 9223372036854775807 -9223372036854775808");
    osm_buf_clear(&buf);
    struct osm_buf small = OSM_BUF_INIT(3);
    assert_int_equal(osm_buf_add_strs(&small, "ab", "cd", "e", NULL), OSM_ELIMIT);
    assert_string_equal(small.data, "ab");
    osm_buf_clear(&small);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text_grows_and_stays_terminated),
        cmocka_unit_test(test_the_ceiling_is_exact_and_remembered),
        cmocka_unit_test(test_a_lent_room_is_used_while_it_is_enough),
        cmocka_unit_test(test_take_moves_the_text_out),
        cmocka_unit_test(test_no_memory_is_remembered),
        cmocka_unit_test(test_texts_and_numbers_in_a_row),
        cmocka_unit_test(test_json_strings),
        cmocka_unit_test(test_secrets_grow_and_go),
        cmocka_unit_test(test_reads_files_up_to_the_ceiling),
    };
    return cmocka_run_group_tests(tests, NULL, nothing_is_left);
}
