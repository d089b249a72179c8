/* What is typed becomes the request that is meant. */
#include "debug/words.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void handler(void *ud, struct osm_control_request *request, const json_t *args)
{
    (void)ud;
    (void)request;
    (void)args;
}

static const struct osm_control_arg why_args[] = {
    {.name = "pod", .type = OSM_ARG_TEXT, .required = true, .help = ""},
    {.name = "mount_path", .type = OSM_ARG_TEXT, .help = ""},
    {.name = "count", .type = OSM_ARG_INTEGER, .help = ""},
    {.name = "dry_run", .type = OSM_ARG_FLAG, .help = ""},
    {.name = NULL},
};
static const struct osm_control_arg mesh_args[] = {
    {.name = "name", .type = OSM_ARG_TEXT, .required = true, .help = ""},
    {.name = "keys", .type = OSM_ARG_KEYS, .help = ""},
    {.name = NULL},
};
static const struct osm_control_arg data_args[] = {
    {.name = "before", .type = OSM_ARG_DATA, .help = ""},
    {.name = "pod", .type = OSM_ARG_TEXT, .help = ""},
    {.name = NULL},
};
static const struct osm_control_arg eval_args[] = {
    {.name = "code", .type = OSM_ARG_LINE, .required = true, .help = ""},
    {.name = NULL},
};
static const struct osm_control_command table[] = {
    {.name = "policy.why", .handler = handler, .args = why_args, .help = ""},
    {.name = "policy", .handler = handler, .help = ""},
    {.name = "mesh", .handler = handler, .args = mesh_args, .help = ""},
    {.name = "eval", .handler = handler, .args = eval_args, .help = ""},
    {.name = "data", .handler = handler, .args = data_args, .help = ""},
    {.name = NULL},
};

/* @p request: "name {args}", or "" for no command; an error begins with "error: ". */
static void expect(const char *line, const char *request)
{
    struct osm_err err = {0};
    struct osm_registry *r = osm_registry_new();
    assert_int_equal(osm_registry_add(r, table, NULL, &err), 0);
    const char *rest = NULL;
    const struct osm_control_command *command = osm_words_command(r, line, &rest);
    char *got = NULL;
    json_t *args = NULL;
    if (!command) {
        got = osm_strdup("");
    } else if (osm_words_args(command, rest, &args, &err)) {
        got = osm_strf("error: %s", err.msg);
    } else {
        char *text = json_dumps(args, JSON_COMPACT);
        got = osm_strf("%s %s", command->name, text);
        free(text);
    }
    assert_string_equal(got, request);
    osm_free(got);
    json_decref(args);
    osm_registry_free(r);
    assert_int_equal(osm_mem_live(), 0);
}

static void test_names_take_as_many_words_as_they_have(void **state)
{
    (void)state;
    expect("policy why a/b", "policy.why {\"pod\":\"a/b\"}");
    expect("  policy\t why   a/b  ", "policy.why {\"pod\":\"a/b\"}");
    expect("policy.why a/b", "policy.why {\"pod\":\"a/b\"}");
    expect("policy", "policy {}");
    expect("policy x", "error: policy: x is more than it takes");
    expect("policies", "");
    expect("", "");
    expect("   ", "");
}

static void test_arguments_by_order_and_by_name(void **state)
{
    (void)state;
    expect("policy why a /m 5", "policy.why {\"pod\":\"a\",\"mount_path\":\"/m\",\"count\":5}");
    expect("policy why --count 5 a", "policy.why {\"count\":5,\"pod\":\"a\"}");
    expect("policy why a --count=-5 --dry-run",
           "policy.why {\"pod\":\"a\",\"count\":-5,\"dry_run\":true}");
    expect("policy why a --mount-path='x y'", "policy.why {\"pod\":\"a\",\"mount_path\":\"x y\"}");
    expect("policy why -- --pod", "policy.why {\"pod\":\"--pod\"}");
    expect("policy why '--pod'", "policy.why {\"pod\":\"--pod\"}");
    expect("policy why a --pod b", "error: pod is given twice");
    expect("policy why a --bad", "error: policy.why takes no argument --bad");
    expect("policy why a --count", "error: --count: its value is missing");
    expect("policy why 'a", "error: a quote has no end");
    expect("policy why \xff", "error: pod: not a text in UTF-8");
    /* not numbers: the schema says what is wrong */
    expect("policy why a b 5x", "policy.why {\"pod\":\"a\",\"mount_path\":\"b\",\"count\":\"5x\"}");
    expect("policy why a b 99999999999999999999",
           "policy.why {\"pod\":\"a\",\"mount_path\":\"b\",\"count\":\"99999999999999999999\"}");
}

static void test_data_is_typed_by_name(void **state)
{
    (void)state;
    expect("data a", "data {\"pod\":\"a\"}");
    expect("data --before '{\"x\": [1]}' a", "data {\"before\":{\"x\":[1]},\"pod\":\"a\"}");
    expect("data --before=5", "data {\"before\":5}");
    expect("data --before={x", "data {\"before\":\"{x\"}");
}

static void test_quotes(void **state)
{
    (void)state;
    expect("policy why \"a \\\"b\\\" \\\\ \\n\"",
           "policy.why {\"pod\":\"a \\\"b\\\" \\\\ \\\\n\"}");
    expect("policy why 'a \\'", "policy.why {\"pod\":\"a \\\\\"}");
    expect("policy why a'b c'd", "policy.why {\"pod\":\"ab cd\"}");
    expect("policy why ''", "policy.why {\"pod\":\"\"}");
}

static void test_keys_are_numbers_booleans_or_texts(void **state)
{
    (void)state;
    expect("mesh f shop 80 true -3 \"80\" 'true' 8x",
           "mesh {\"name\":\"f\",\"keys\":[\"shop\",80,true,-3,\"80\",\"true\",\"8x\"]}");
    expect("mesh f", "mesh {\"name\":\"f\"}");
}

static void test_a_line_is_taken_as_it_stands(void **state)
{
    (void)state;
    expect("eval  mesh.f(\"a\",  'b')  ", "eval {\"code\":\"mesh.f(\\\"a\\\",  'b')  \"}");
    expect("eval -- a comment", "eval {\"code\":\"-- a comment\"}");
    expect("eval --x", "eval {\"code\":\"--x\"}");
    expect("eval x = 'open", "eval {\"code\":\"x = 'open\"}");
    expect("eval if a then\nb()", "eval {\"code\":\"if a then\\nb()\"}");
    expect("eval", "eval {}");
}

static void test_a_mistyped_name_has_a_neighbour(void **state)
{
    (void)state;
    struct osm_err err = {0};
    struct osm_registry *r = osm_registry_new();
    assert_int_equal(osm_registry_add(r, table, NULL, &err), 0);
    static const char *const cases[][2] = {
        {"polcy why x", "policy why"},
        {"policy wy x", "policy why"},
        {"mseh a b", "mesh"},
        {"something else", NULL},
        {"", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *near = osm_words_nearest(r, cases[i][0]);
        if (cases[i][1])
            assert_string_equal(near, cases[i][1]);
        else
            assert_null(near);
        osm_free(near);
    }
    osm_registry_free(r);
    assert_int_equal(osm_mem_live(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_take_as_many_words_as_they_have),
        cmocka_unit_test(test_arguments_by_order_and_by_name),
        cmocka_unit_test(test_data_is_typed_by_name),
        cmocka_unit_test(test_quotes),
        cmocka_unit_test(test_keys_are_numbers_booleans_or_texts),
        cmocka_unit_test(test_a_line_is_taken_as_it_stands),
        cmocka_unit_test(test_a_mistyped_name_has_a_neighbour),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
