#include "base/options.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

struct parsed {
    const char *dir, *level;
    bool quick;
    const char **words;
    size_t words_len;
    struct osm_err err;
};

static int parse(struct parsed *p, int argc, char **argv)
{
    const struct osm_option options[] = {
        {"state-dir", 0, "DIR", "state", &p->dir, NULL, true},
        {"verbosity", 'v', "LEVEL", "level", &p->level, NULL, false},
        {"quick", 'q', NULL, "quick", NULL, &p->quick, false},
        {NULL, 0, NULL, NULL, NULL, NULL, false},
    };
    int rc = osm_options_parse(options, argc, argv, &p->words, &p->words_len, &p->err);
    return rc ? rc : osm_options_require(options, &p->err);
}

#define PARSE(p, ...)                                                                              \
    parse((p), (int)(sizeof((char *[]){"prog", __VA_ARGS__}) / sizeof(char *)),                    \
          (char *[]){"prog", __VA_ARGS__})

static void test_reads_flags_values_and_words(void **state)
{
    (void)state;
    struct parsed p = {0};
    assert_int_equal(PARSE(&p, "wait", "--state-dir=/a=b", "-v", "debug", "-q", "--", "--quick"),
                     0);
    assert_string_equal(p.dir, "/a=b");
    assert_string_equal(p.level, "debug");
    assert_true(p.quick);
    assert_int_equal(p.words_len, 2);
    assert_string_equal(p.words[0], "wait");
    assert_string_equal(p.words[1], "--quick");
    osm_free(p.words);
}

static void test_unknown_flag_names_the_nearest(void **state)
{
    (void)state;
    struct parsed p = {0};
    assert_int_equal(PARSE(&p, "--state-dri", "x"), OSM_EINVAL);
    assert_string_equal(p.err.msg, "unknown flag --state-dri; did you mean --state-dir?");
    assert_int_equal(PARSE(&p, "--wholly-other=1"), OSM_EINVAL);
    assert_string_equal(p.err.msg, "unknown flag --wholly-other; --help lists them");
    assert_int_equal(PARSE(&p, "-z"), OSM_EINVAL);
}

static void test_refuses_missing_value_missing_flag_and_value_for_a_switch(void **state)
{
    (void)state;
    struct parsed p = {0};
    assert_int_equal(PARSE(&p, "--state-dir"), OSM_EINVAL);
    assert_string_equal(p.err.msg, "--state-dir needs a value: DIR");
    assert_int_equal(PARSE(&p, "--state-dir", "x", "--quick=yes"), OSM_EINVAL);
    struct parsed none = {0};
    assert_int_equal(PARSE(&none, "-q"), OSM_EINVAL);
    assert_string_equal(none.err.msg, "--state-dir DIR is missing: state");
    osm_free(none.words);
}

static void test_a_flag_that_repeats_keeps_its_values_in_order(void **state)
{
    (void)state;
    const char *dirs[OSM_OPTION_VALUES_MAX + 1] = {NULL}, **words = NULL;
    size_t n = 0;
    struct osm_err err = {0};
    const struct osm_option options[] = {
        {"policies", 0, "DIR...", "where", dirs, NULL, true},
        {NULL, 0, NULL, NULL, NULL, NULL, false},
    };
    char *few[] = {"program", "--policies", "a", "--policies=b", "--policies", "c"};
    char *many[1 + OSM_OPTION_VALUES_MAX + 1] = {"program"};
    for (size_t i = 0; i <= OSM_OPTION_VALUES_MAX; i++)
        many[1 + i] = "--policies=x";
    assert_int_equal(osm_options_parse(options, 6, few, &words, &n, &err), 0);
    osm_free(words);
    assert_string_equal(dirs[0], "a");
    assert_string_equal(dirs[1], "b");
    assert_string_equal(dirs[2], "c");
    assert_null(dirs[3]);
    memset(dirs, 0, sizeof dirs);
    assert_int_equal(osm_options_parse(options, 1 + OSM_OPTION_VALUES_MAX, many, &words, &n, &err),
                     0);
    osm_free(words);
    memset(dirs, 0, sizeof dirs);
    assert_int_equal(osm_options_parse(options, 2 + OSM_OPTION_VALUES_MAX, many, &words, &n, &err),
                     OSM_EINVAL);
    assert_string_equal(err.msg, "--policies: at most 32 of them");
}

static int no_leak(void **state)
{
    (void)state;
    return osm_mem_live() != 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads_flags_values_and_words),
        cmocka_unit_test(test_unknown_flag_names_the_nearest),
        cmocka_unit_test(test_refuses_missing_value_missing_flag_and_value_for_a_switch),
        cmocka_unit_test(test_a_flag_that_repeats_keeps_its_values_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, no_leak);
}
