#include "base/err.h"

#include "base/check_left.h"

static void test_failing_fills_the_error_and_returns_its_code(void **state)
{
    (void)state;
    struct osm_err err = {0};
    assert_int_equal(osm_fail(&err, OSM_EIO, "%s: %d", "disk", 5), OSM_EIO);
    assert_int_equal(err.code, OSM_EIO);
    assert_string_equal(err.msg, "disk: 5");
    assert_int_equal(osm_fail(NULL, OSM_EIO, "nobody listens"), OSM_EIO);
}

static void test_context_goes_before_the_text(void **state)
{
    (void)state;
    struct osm_err err = {0};
    osm_err_prepend(&err, "nothing happened: ");
    assert_string_equal(err.msg, "");
    (void)osm_fail(&err, OSM_EPARSE, "line 3");
    osm_err_prepend(&err, "%s: ", "shop.yaml");
    assert_string_equal(err.msg, "shop.yaml: line 3");
    osm_err_prepend(NULL, "x");
}

static void test_its_own_text_may_be_an_argument(void **state)
{
    (void)state;
    struct osm_err err = {0};
    (void)osm_fail(&err, OSM_EIO, "inner");
    (void)osm_fail(&err, OSM_EINVAL, "outer: %s", err.msg);
    assert_string_equal(err.msg, "outer: inner");
}

static void test_long_texts_are_cut(void **state)
{
    (void)state;
    struct osm_err err = {0};
    char text[2000];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    (void)osm_fail(&err, OSM_EIO, "%s", text);
    assert_int_equal(strlen(err.msg), sizeof err.msg - 1);
    osm_err_prepend(&err, "context: ");
    assert_memory_equal(err.msg, "context: xxx", 12);
    assert_int_equal(strlen(err.msg), sizeof err.msg - 1);
    osm_err_prepend(&err, "%s", text);
    assert_int_equal(strlen(err.msg), sizeof err.msg - 1);
}

static void test_every_code_has_a_text_and_a_name(void **state)
{
    (void)state;
    for (int code = OSM_EMISMATCH; code < 0; code++) {
        assert_string_not_equal(osm_code_text(code), "unknown error");
        assert_memory_equal(osm_code_name(code), "OSM_E", 5);
    }
    assert_string_equal(osm_code_text(0), "ok");
    assert_string_equal(osm_code_name(0), "OSM_OK");
    assert_string_equal(osm_code_text(-9999), "unknown error");
    assert_string_equal(osm_code_name(OSM_ENOENT), "OSM_ENOENT");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_failing_fills_the_error_and_returns_its_code),
        cmocka_unit_test(test_context_goes_before_the_text),
        cmocka_unit_test(test_its_own_text_may_be_an_argument),
        cmocka_unit_test(test_long_texts_are_cut),
        cmocka_unit_test(test_every_code_has_a_text_and_a_name),
    };
    return cmocka_run_group_tests(tests, NULL, nothing_is_left);
}
