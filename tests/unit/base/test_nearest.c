#include "base/nearest.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static const char *const names[] = {"status", "wait", "filter_chains", NULL};

static void test_finds_a_mistyped_name(void **state)
{
    (void)state;
    assert_string_equal(osm_nearest_of(names, "statsu"), "status");
    assert_string_equal(osm_nearest_of(names, "wiat"), "wait");
    assert_string_equal(osm_nearest_of(names, "filterchains"), "filter_chains");
}

static void test_the_case_of_letters_does_not_count(void **state)
{
    (void)state;
    static const char *const fields[] = {"matches", "pathRegex", NULL};
    assert_string_equal(osm_nearest_of(fields, "MATCHES"), "matches");
    assert_string_equal(osm_nearest_of(fields, "PATHREGEXX"), "pathRegex");
    assert_null(osm_nearest_of(fields, "SOURCES"));
}

static void test_ignores_what_is_far_or_overlong(void **state)
{
    (void)state;
    char overlong[300];
    memset(overlong, 'a', sizeof overlong - 1);
    overlong[sizeof overlong - 1] = '\0';
    assert_null(osm_nearest_of(names, "bootstrap"));
    assert_null(osm_nearest_of(names, overlong));
    const char *const long_names[] = {overlong, NULL};
    assert_null(osm_nearest_of(long_names, "status"));
}

static void test_searches_the_keys_of_a_map(void **state)
{
    (void)state;
    struct osm_map map = OSM_MAP_INIT;
    assert_int_equal(osm_map_put(&map, "backends", &map, NULL), 0);
    assert_string_equal(osm_nearest_in(&map, "backend"), "backends");
    osm_map_clear(&map);
    assert_null(osm_nearest_in(&map, "backend"));
}

static int no_leak(void **state)
{
    (void)state;
    return osm_mem_live() != 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_finds_a_mistyped_name),
        cmocka_unit_test(test_the_case_of_letters_does_not_count),
        cmocka_unit_test(test_ignores_what_is_far_or_overlong),
        cmocka_unit_test(test_searches_the_keys_of_a_map),
    };
    return cmocka_run_group_tests(tests, NULL, no_leak);
}
