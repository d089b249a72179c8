/* Answers as a person reads them. */
#include "debug/render.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void expect(const char *json, const char *text)
{
    struct osm_buf out = OSM_BUF_INIT(1 << 20);
    json_t *value = json_loads(json, JSON_DECODE_ANY, NULL);
    assert_non_null(value);
    assert_int_equal(osm_render(&out, value), 0);
    assert_string_equal(out.data ? out.data : "", text);
    osm_buf_clear(&out);
    json_decref(value);
    assert_int_equal(osm_mem_live(), 0);
}

static void test_values(void **state)
{
    (void)state;
    expect("5", "5\n");
    expect("\"a\"", "a\n");
    expect("null", "-\n");
    expect("{}", "");
    expect("[]", "");
    expect("{\"a\":1,\"b\":{\"c\":true,\"d\":null},\"e\":[],\"f\":{}}",
           "a: 1\nb:\n  c: true\n  d: -\ne: none\nf: {}\n");
    expect("{\"a\":[1,\"x\"]}", "a:\n  - 1\n  - x\n");
    expect("{\"at\":0,\"not_after\":1795770507,\"atom\":5}",
           "at: 1970-01-01T00:00:00Z\nnot_after: 2026-11-27T09:08:27Z\natom: 5\n");
    expect("{\"text\":\"one\\n\\ntwo\"}", "text:\n  one\n  \n  two\n");
}

static void test_records_are_a_table(void **state)
{
    (void)state;
    expect("{\"list\":[{\"name\":\"a\",\"n\":1},{\"name\":\"long\",\"tags\":[\"x\",\"y\"]}]}",
           "list:\n  NAME  N  TAGS\n  a     1  \n  long     x, y\n");
    expect("[{\"name\":\"\xc3\xa9\xc3\xa9\",\"n\":1},{\"name\":\"abc\",\"n\":2}]",
           "NAME  N\n\xc3\xa9\xc3\xa9    1\nabc   2\n");
    expect("[{\"text\":\"a\\nb\\tc\",\"n\":1}]", "TEXT   N\na b c  1\n");
    /* what does not fit cells is no table */
    expect("[{\"a\":{\"b\":1}}]", "-\n  a:\n    b: 1\n");
}

static void test_long_cells_are_cut_between_characters(void **state)
{
    (void)state;
    struct osm_buf json = OSM_BUF_INIT(4096), text = OSM_BUF_INIT(4096);
    (void)osm_buf_add_str(&json, "[{\"a\":\"");
    (void)osm_buf_add_str(&text, "A                                  B\nx");
    for (int i = 0; i < 100; i++)
        (void)osm_buf_add_str(&json, i ? "\xc3\xa9" : "x");
    for (int i = 0; i < 29; i++) /* 59 bytes: half a character is none */
        (void)osm_buf_add_str(&text, "\xc3\xa9");
    (void)osm_buf_add_str(&json, "\",\"b\":1}]");
    (void)osm_buf_add_str(&text, "...  1\n");
    struct osm_buf out = OSM_BUF_INIT(4096);
    json_t *value = json_loads(json.data, 0, NULL);
    assert_int_equal(osm_render(&out, value), 0);
    assert_string_equal(out.data, text.data);
    json_decref(value);
    osm_buf_clear(&json);
    osm_buf_clear(&text);
    osm_buf_clear(&out);
}

/* A name that somebody put into a manifest must not move the cursor of whoever looks at it. */
static void test_terminals_get_no_control_characters(void **state)
{
    (void)state;
    expect("{\"a\\u001b[2Jb\":\"\\u001b]0;x\\u0007\\r\\u007f\\u009b\\u00e9\"}",
           "a\\x1b[2Jb: \\x1b]0;x\\x07\\x0d\\x7f\\u009b\xc3\xa9\n");
    expect("[{\"a\":\"\\u001b[2J\"}]", "A\n\\x1b[2J\n");
    expect("{\"a\":\"x\\n\\u001b[2J\"}", "a:\n  x\n  \\x1b[2J\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_records_are_a_table),
        cmocka_unit_test(test_long_cells_are_cut_between_characters),
        cmocka_unit_test(test_terminals_get_no_control_characters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
