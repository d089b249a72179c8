/* Bytes to lines, without a socket: the same lines however the bytes are cut. */
#include "debug/framing.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* All lines so far, each between brackets; a token between braces. Returns what `next` said last.
 */
static int drain(struct osm_framing *f, struct osm_buf *out)
{
    struct osm_frame frame;
    int rc;
    while ((rc = osm_framing_next(f, &frame)) > 0) {
        assert_int_equal(strlen(frame.text), frame.len);
        (void)osm_buf_add_strs(out, frame.is_token ? "{" : "[", frame.text,
                               frame.is_token ? "}" : "]", NULL);
    }
    return rc;
}

static void expect(const char *bytes, bool token, enum osm_form form, const char *frames)
{
    size_t len = strlen(bytes);
    for (size_t first = 0; first <= len; first++)
        for (size_t second = first; second <= len; second++) {
            struct osm_framing f = OSM_FRAMING_INIT(token);
            struct osm_buf got = OSM_BUF_INIT(1 << 16);
            assert_int_equal(osm_framing_add(&f, bytes, first), 0);
            assert_int_equal(drain(&f, &got), 0);
            assert_int_equal(osm_framing_add(&f, bytes + first, second - first), 0);
            assert_int_equal(drain(&f, &got), 0);
            assert_int_equal(osm_framing_add(&f, bytes + second, len - second), 0);
            f.ended = true;
            assert_int_equal(drain(&f, &got), 0);
            assert_int_equal(f.form, form);
            assert_string_equal(got.data ? got.data : "", frames);
            osm_buf_clear(&got);
            osm_framing_clear(&f);
        }
    assert_int_equal(osm_mem_live(), 0);
}

static void test_lines_of_both_forms(void **state)
{
    (void)state;
    expect("", false, OSM_FORM_UNKNOWN, "");
    expect("\n\r\n", false, OSM_FORM_UNKNOWN, "");
    expect("a b\n\nc\r\n", false, OSM_FORM_TEXT, "[a b][][c]");
    expect("a\nb", false, OSM_FORM_TEXT, "[a][b]");
    expect("\n{1}\n\n{2}\r\n x\n", false, OSM_FORM_JSON, "[{1}][{2}][ x]");
    expect("x\n{1}\n", false, OSM_FORM_TEXT, "[x][{1}]");
}

static void test_the_token_is_the_first_line(void **state)
{
    (void)state;
    expect("secret\nstatus\n", true, OSM_FORM_TEXT, "{secret}[status]");
    expect("secret\r\n\n{1}\n", true, OSM_FORM_JSON, "{secret}[{1}]");
    expect("{1}\n{2}\n", true, OSM_FORM_JSON, "{{1}}[{2}]");
    expect("secret", true, OSM_FORM_UNKNOWN, "{secret}");
}

/* What may come in before a line is known to be too long has a ceiling too. */
static void test_a_line_has_a_limit(void **state)
{
    (void)state;
    char chunk[OSM_FRAME_CHUNK_BYTES];
    memset(chunk, 'x', sizeof chunk);
    for (int over = 0; over < 2; over++) {
        struct osm_framing f = OSM_FRAMING_INIT(false);
        struct osm_frame frame;
        for (size_t n = 0; n < OSM_FRAME_MAX_BYTES; n += sizeof chunk) {
            assert_int_equal(osm_framing_add(&f, chunk, sizeof chunk), 0);
            assert_int_equal(osm_framing_next(&f, &frame), 0);
        }
        assert_int_equal(osm_framing_add(&f, over ? "x" : "\n", 1), 0);
        if (over) {
            assert_int_equal(osm_framing_next(&f, &frame), OSM_ELIMIT);
        } else {
            assert_int_equal(osm_framing_next(&f, &frame), 1);
            assert_int_equal(frame.len, OSM_FRAME_MAX_BYTES);
        }
        osm_framing_clear(&f);
    }
    assert_int_equal(osm_mem_live(), 0);
}

static void test_a_zero_byte_is_no_end(void **state)
{
    (void)state;
    struct osm_framing f = OSM_FRAMING_INIT(false);
    struct osm_frame frame;
    assert_int_equal(osm_framing_add(&f, "a\0b\n", 4), 0);
    assert_true(osm_framing_waits(&f));
    assert_int_equal(osm_framing_next(&f, &frame), 1);
    assert_int_equal(frame.len, 3);
    assert_false(osm_framing_waits(&f));
    osm_framing_clear(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines_of_both_forms),
        cmocka_unit_test(test_the_token_is_the_first_line),
        cmocka_unit_test(test_a_line_has_a_limit),
        cmocka_unit_test(test_a_zero_byte_is_no_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
