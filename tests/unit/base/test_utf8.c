#include "base/utf8.h"

#include "base/err.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void expect_repaired(const char *text, const char *repaired)
{
    char copy[64];
    (void)snprintf(copy, sizeof copy, "%s", text);
    assert_string_equal(osm_utf8_repair(copy), repaired);
    assert_true(osm_utf8_valid(copy, strlen(copy)));
}

static void test_valid_text_stays(void **state)
{
    (void)state;
    expect_repaired("", "");
    expect_repaired("plain", "plain");
    expect_repaired("\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80",
                    "\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80");
}

static void test_a_character_that_was_cut_goes_whole(void **state)
{
    (void)state;
    expect_repaired("a\xc3", "a");
    expect_repaired("a\xe2\x82", "a");
    expect_repaired("a\xf0\x9f\x98", "a");
}

static void test_bytes_of_no_character_are_replaced(void **state)
{
    (void)state;
    expect_repaired("\xff\xfe.", "??.");
    expect_repaired("\xc3(", "?(");
    expect_repaired("\x80tail", "?tail");
    expect_repaired("\xed\xa0\x80.", "???."); /* a surrogate */
    expect_repaired("\xc0\xaf.", "??.");      /* overlong */
}

static void test_error_texts_are_valid_wherever_they_are_cut(void **state)
{
    (void)state;
    char name[600];
    for (size_t lead = 0; lead < 4; lead++) {
        memset(name, 'a', lead);
        for (size_t i = lead; i + 2 < sizeof name; i += 2)
            memcpy(name + i, "\xc3\xa9", 3);
        struct osm_err err = {0};
        (void)osm_fail(&err, OSM_ENOENT, "%.127s is not there, nor is %s", name, name);
        assert_true(osm_utf8_valid(err.msg, strlen(err.msg)));
        osm_err_prepend(&err, "somewhere%zu: ", lead);
        assert_true(osm_utf8_valid(err.msg, strlen(err.msg)));
    }
}

/* Plain text is looked at eight bytes at a time: a bad byte is found in every place. */
static void test_a_bad_byte_is_found_wherever_it_stands(void **state)
{
    (void)state;
    for (size_t len = 1; len < 40; len++)
        for (size_t at = 0; at < len; at++) {
            char text[40];
            memset(text, 'x', len);
            assert_true(osm_utf8_valid(text, len));
            text[at] = (char)0x80;
            assert_false(osm_utf8_valid(text, len));
            text[at] = (char)0xc3;
            assert_false(osm_utf8_valid(text, len));
            if (at + 1 < len) {
                text[at + 1] = (char)0xa4;
                assert_true(osm_utf8_valid(text, len));
            }
        }
}

static void test_what_a_terminal_acts_on_is_told_in_letters(void **state)
{
    (void)state;
    static const char *const rows[][3] = {
        {"", "", ""},
        {"plain \xc3\xa9", "", "plain \xc3\xa9"},
        {"\x1b[31m\x7f", "", "\\x1b[31m\\x7f"},
        {"a\n\tb\r", "\n\t", "a\n\tb\\x0d"},
        {"a\nb", "", "a\\x0ab"},
        {"\xc2\x9b"
         "2J\xc2\xa0",
         "", "\\u009b2J\xc2\xa0"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct osm_buf out = OSM_BUF_INIT(100);
        assert_int_equal(osm_utf8_add_tame(&out, rows[i][0], rows[i][1]), 0);
        assert_string_equal(out.data ? out.data : "", rows[i][2]);
        osm_buf_clear(&out);
    }
    struct osm_buf small = OSM_BUF_INIT(3);
    assert_int_equal(osm_utf8_add_tame(&small, "\x1b", ""), OSM_ELIMIT);
    osm_buf_clear(&small);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_valid_text_stays),
        cmocka_unit_test(test_what_a_terminal_acts_on_is_told_in_letters),
        cmocka_unit_test(test_a_bad_byte_is_found_wherever_it_stands),
        cmocka_unit_test(test_a_character_that_was_cut_goes_whole),
        cmocka_unit_test(test_bytes_of_no_character_are_replaced),
        cmocka_unit_test(test_error_texts_are_valid_wherever_they_are_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
