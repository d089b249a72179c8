#include "base/log.h"

#include "base/check_left.h"

#include <jansson.h>
#include <unistd.h>

static int pipe_fds[2];

static int set_up(void **state)
{
    (void)state;
    assert_int_equal(pipe(pipe_fds), 0);
    osm_log_set_fd(pipe_fds[1]);
    osm_log_set_level(OSM_LOG_TOPIC_COUNT, OSM_LOG_INFO);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    osm_log_set_fd(2);
    close(pipe_fds[0]);
    close(pipe_fds[1]);
    return 0;
}

/* All that was written, NUL-terminated; the write end is replaced so that reading ends. */
static const char *written(void)
{
    static char text[65536];
    (void)!write(pipe_fds[1], "", 1);
    size_t len = 0;
    while (!len || text[len - 1]) {
        ssize_t n = read(pipe_fds[0], text + len, sizeof text - len);
        assert_true(n > 0);
        len += (size_t)n;
    }
    return text;
}

static void test_a_record_is_one_line_of_json(void **state)
{
    (void)state;
    osm_log(OSM_LOG_XDS, OSM_LOG_WARN, "stream \"x\"", OSM_S("node", "a\nb"), OSM_I("i", -1),
            OSM_U("u", INT64_MAX), OSM_D("d", 1.5), OSM_S("none", NULL), OSM_S("bad", "\xff"));
    const char *text = written();
    json_t *record = json_loads(text, 0, NULL);
    assert_non_null(record);
    assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
    assert_string_equal(json_string_value(json_object_get(record, "level")), "warn");
    assert_string_equal(json_string_value(json_object_get(record, "component")), "xds");
    assert_string_equal(json_string_value(json_object_get(record, "message")), "stream \"x\"");
    assert_string_equal(json_string_value(json_object_get(record, "node")), "a\nb");
    assert_int_equal(json_integer_value(json_object_get(record, "i")), -1);
    assert_non_null(strstr(text, "\"u\":9223372036854775807"));
    assert_true(json_is_null(json_object_get(record, "none")));
    assert_string_equal(json_string_value(json_object_get(record, "bad")), "\xef\xbf\xbd");
    assert_int_equal(strlen(json_string_value(json_object_get(record, "time"))),
                     strlen("2026-01-01T00:00:00.000Z"));
    json_decref(record);
}

static int evaluated;

static int count_evaluation(void)
{
    return ++evaluated;
}

static void test_levels_are_per_topic_and_hide_evaluation(void **state)
{
    (void)state;
    osm_log_set_level(OSM_LOG_CA, OSM_LOG_ERROR);
    evaluated = 0;
    osm_log(OSM_LOG_CA, OSM_LOG_WARN, "hidden", OSM_I("n", count_evaluation()));
    osm_log(OSM_LOG_CORE, OSM_LOG_DEBUG, "hidden too", OSM_I("n", count_evaluation()));
    assert_int_equal(evaluated, 0);
    osm_log(OSM_LOG_CA, OSM_LOG_ERROR, "shown", OSM_I("n", count_evaluation()));
    assert_int_equal(evaluated, 1);
    const char *text = written();
    assert_non_null(strstr(text, "shown"));
    assert_null(strstr(text, "hidden"));
}

static void test_repeats_are_held_back(void **state)
{
    (void)state;
    for (int i = 0; i < 100; i++)
        osm_log(OSM_LOG_CORE, OSM_LOG_WARN, "again and again");
    int lines = 0;
    for (const char *c = written(); *c; c++)
        lines += *c == '\n';
    assert_in_range(lines, 20, 40); /* 20 in a second; the test may meet the turn of one */
}

static void test_a_record_over_the_limit_says_so(void **state)
{
    (void)state;
    static char long_text[20000];
    memset(long_text, 'x', sizeof long_text - 1);
    osm_log(OSM_LOG_CORE, OSM_LOG_WARN, "long", OSM_S("text", long_text));
    const char *text = written();
    json_t *record = json_loads(text, 0, NULL);
    assert_non_null(record);
    assert_string_equal(json_string_value(json_object_get(record, "message")), "long");
    assert_non_null(json_object_get(record, "left_out"));
    json_decref(record);
}

static void test_level_words(void **state)
{
    (void)state;
    assert_int_equal(osm_log_level_parse("debug"), OSM_LOG_DEBUG);
    assert_int_equal(osm_log_level_parse("disabled"), OSM_LOG_OFF);
    assert_int_equal(osm_log_level_parse("loud"), -1);
    osm_log_set_level(OSM_LOG_TOPIC_COUNT, OSM_LOG_OFF);
    assert_false(osm_log_on(OSM_LOG_CORE, OSM_LOG_FATAL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_record_is_one_line_of_json, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_levels_are_per_topic_and_hide_evaluation, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_repeats_are_held_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_record_over_the_limit_says_so, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_level_words, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, nothing_is_left);
}
