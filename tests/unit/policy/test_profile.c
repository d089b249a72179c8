/* What rules and emitters cost, counted: runs, answers from the memo, instructions, and lines.
 * Times are compared with each other only where one is many times the other. */
#include "policy/engine_util.h"

enum { BUDGET = 5000000 };

static const char bundle[] =
    "local M = { api = 1, kinds = { Cfg = { group = 'test.mesh', versions = { 'v1' } } },\n"
    "  rules = {}, emit = {} }\n"
    "local R = M.rules\n"
    "local function spin(n)\n"
    "  local sum = 0\n"
    "  for i = 1, n do\n"
    "    sum = sum + i\n" /* line 7 */
    "  end\n"
    "  return sum\n"
    "end\n"
    "function R.keys() return { 'a', 'b', 'c' } end\n"
    "function R.base(mesh) local c = mesh.Cfg('a', 'x') return c and c.spec.v or 'none' end\n"
    "function R.busy(mesh, n)\n"
    "  mesh.base()\n"
    "  return spin(2000)\n" /* line 15 */
    "end\n"
    "function R.idle(mesh, n) return mesh.busy(n) end\n"
    "function R.nobody() return 1 end\n"
    "M.emit.e = { each = 'keys', run = function(mesh, out, n)\n"
    "  out.cluster({ name = n .. mesh.base(), audience = 'everyone',\n"
    "    message = { connect_timeout = '1s', alt_stat_name = tostring(mesh.idle(n)), type = "
    "'STATIC' } })\n"
    "end }\n"
    "return M\n";

static void set(struct bench *b, const char *v)
{
    char yaml[256];
    (void)snprintf(yaml, sizeof yaml,
                   "apiVersion: test.mesh/v1\nkind: Cfg\nmetadata: {name: x, namespace: a}\n"
                   "spec: {v: %s}\n",
                   v);
    bench_apply(b, yaml);
}

static const json_t *entry(const json_t *costs, const char *section, const char *field,
                           const char *value, json_int_t line)
{
    size_t i;
    const json_t *each;
    json_array_foreach (json_object_get(costs, section), i, each)
        if (!strcmp(json_string_value(json_object_get(each, field)), value) &&
            (!line || json_integer_value(json_object_get(each, "line")) == line))
            return each;
    return NULL;
}

static json_int_t number(const json_t *of, const char *field)
{
    assert_non_null(of);
    return json_integer_value(json_object_get(of, field));
}

static json_int_t rule(const json_t *costs, const char *name, const char *field)
{
    return number(entry(costs, "rules", "name", name, 0), field);
}

static void test_runs_and_hits_are_counted_since_the_start(void **state)
{
    struct bench *b = *state;
    bench_load_text(b, bundle);
    bench_apply(b, NAMESPACE("a"));
    json_t *costs = osm_engine_costs(b->engine);
    assert_int_equal(rule(costs, "keys", "runs"), 1);
    assert_int_equal(rule(costs, "busy", "runs"), 3);
    assert_int_equal(rule(costs, "idle", "runs"), 3);
    assert_int_equal(rule(costs, "m.e", "runs"), 3);
    assert_true(json_is_true(json_object_get(entry(costs, "rules", "name", "m.e", 0), "emitter")));
    /* Three emitters and three busy ask for it; the first of them makes it. */
    assert_int_equal(rule(costs, "base", "runs"), 1);
    assert_int_equal(rule(costs, "base", "hits"), 5);
    assert_int_equal(rule(costs, "busy", "hits"), 0);
    assert_null(entry(costs, "rules", "name", "nobody", 0));
    assert_null(json_object_get(costs, "lines"));
    json_decref(costs);

    /* base changes: the emitters and the busy ask again, what idle asked for has not changed. */
    set(b, "one");
    costs = osm_engine_costs(b->engine);
    assert_int_equal(rule(costs, "base", "runs"), 2);
    assert_int_equal(rule(costs, "base", "hits"), 5 + 6);
    assert_int_equal(rule(costs, "busy", "runs"), 6);
    assert_int_equal(rule(costs, "idle", "runs"), 3);
    assert_int_equal(rule(costs, "idle", "hits"), 3);
    assert_int_equal(rule(costs, "m.e", "runs"), 6);
    json_decref(costs);
}

/* An emitter whose reads hold was looked at for nothing: that is its hit. */
static void test_an_emitter_that_need_not_run_is_hit(void **state)
{
    struct bench *b = *state;
    bench_load_text(b, "local M = { api = 1, kinds = { Cfg = { group = 'test.mesh', versions = { "
                       "'v1' } } }, rules = {}, emit = {} }\n"
                       "function M.rules.keys() return { 'a', 'b' } end\n"
                       "function M.rules.there(mesh) return mesh.Cfg('a', 'x') ~= nil end\n"
                       "M.emit.e = { each = 'keys', run = function(mesh) mesh.there() end }\n"
                       "return M\n");
    bench_apply(b, NAMESPACE("a"));
    set(b, "one");
    set(b, "two");
    json_t *costs = osm_engine_costs(b->engine);
    assert_int_equal(rule(costs, "m.e", "runs"), 4);
    assert_int_equal(rule(costs, "m.e", "hits"), 2);
    assert_int_equal(rule(costs, "there", "runs"), 3);
    json_decref(costs);
}

static void test_instructions_and_time_are_of_the_rule_alone(void **state)
{
    struct bench *b = *state;
    bench_load_text(b, bundle);
    bench_apply(b, NAMESPACE("a"));
    json_t *costs = osm_engine_costs(b->engine);
    /* A turn of the loop is two instructions, counted at looks a hundred apart. */
    assert_in_range(rule(costs, "busy", "instructions"), 3 * 4000 - 300, 3 * 4100 + 300);
    assert_in_range(rule(costs, "idle", "instructions"), 0, 3 * 100);
    assert_in_range(rule(costs, "m.e", "instructions"), 0, 3 * 200);
    /* most time first */
    json_int_t last = INT64_MAX;
    size_t i;
    const json_t *each;
    json_array_foreach (json_object_get(costs, "rules"), i, each) {
        assert_true(number(each, "us") <= last);
        last = number(each, "us");
    }
    json_decref(costs);
}

static void test_lines_are_followed_from_begin_to_end(void **state)
{
    struct bench *b = *state;
    struct osm_err err = {0};
    bench_load_text(b, bundle);
    assert_null(osm_engine_profile_end(b->engine));
    assert_int_equal(osm_engine_profile_begin(b->engine, 1, &err), 0);
    assert_int_equal(osm_engine_profile_begin(b->engine, 1, &err), OSM_EBUSY);
    bench_apply(b, NAMESPACE("a"));
    json_t *profile = osm_engine_profile_end(b->engine);
    const json_t *loop = entry(profile, "lines", "module", "m.lua", 7);
    assert_int_equal(number(loop, "runs"), 3 * 2000);
    assert_string_equal(json_string_value(json_object_get(loop, "text")), "sum = sum + i");
    assert_int_equal(number(entry(profile, "lines", "module", "m.lua", 15), "runs"), 3);
    assert_int_equal(number(entry(profile, "lines", "module", "m.lua", 12), "runs"), 1);
    assert_null(entry(profile, "lines", "module", "m.lua", 18));
    json_decref(profile);

    /* What was before does not count, and neither does what comes after. */
    assert_int_equal(osm_engine_profile_begin(b->engine, 1, &err), 0);
    profile = osm_engine_profile_end(b->engine);
    assert_int_equal(json_array_size(json_object_get(profile, "rules")), 0);
    assert_int_equal(json_array_size(json_object_get(profile, "lines")), 0);
    json_decref(profile);
    set(b, "one");
    assert_int_equal(osm_engine_profile_begin(b->engine, 1, &err), 0);
    set(b, "two");
    profile = osm_engine_profile_end(b->engine);
    assert_int_equal(rule(profile, "busy", "runs"), 3);
    assert_int_equal(number(entry(profile, "lines", "module", "m.lua", 7), "runs"), 3 * 2000);
    json_decref(profile);
}

/* Of many runs one in several is followed, and counts for the others; the first are all. */
static void test_what_is_followed_counts_for_what_is_not(void **state)
{
    struct bench *b = *state;
    struct osm_err err = {0};
    bench_load_text(b, "local M = { api = 1, rules = {}, emit = {} }\n"
                       "function M.rules.keys()\n"
                       "  local keys = {}\n"
                       "  for i = 1, 216 do keys[i] = i end\n"
                       "  return keys\n"
                       "end\n"
                       "M.emit.e = { each = 'keys', run = function()\n"
                       "  local x = 1\n" /* line 8 */
                       "end }\n"
                       "return M\n");
    assert_int_equal(osm_engine_profile_begin(b->engine, 8, &err), 0);
    bench_apply(b, NAMESPACE("a"));
    json_t *profile = osm_engine_profile_end(b->engine);
    assert_int_equal(rule(profile, "m.e", "runs"), 216);
    assert_int_equal(number(entry(profile, "lines", "module", "m.lua", 8), "runs"), 216);
    json_decref(profile);
}

/* What a helper's caller goes on to do is the caller's. */
static void test_after_a_return_the_callers_line_pays(void **state)
{
    struct bench *b = *state;
    struct osm_err err = {0};
    bench_load_text(b, "local M = { api = 1, rules = {}, emit = {} }\n"
                       "local function one(text)\n"
                       "  return 'x' .. text\n" /* line 3 */
                       "end\n"
                       "function M.rules.keys() return { 'a' } end\n"
                       "M.emit.e = { each = 'keys', run = function(mesh, out, n)\n"
                       "  local text = string.rep(one(n), 500000)\n" /* line 7 */
                       "end }\n"
                       "return M\n");
    assert_int_equal(osm_engine_profile_begin(b->engine, 1, &err), 0);
    bench_apply(b, NAMESPACE("a"));
    json_t *profile = osm_engine_profile_end(b->engine);
    const json_t *helper = entry(profile, "lines", "module", "m.lua", 3),
                 *caller = entry(profile, "lines", "module", "m.lua", 7);
    assert_true(number(caller, "us") > number(helper, "us"));
    assert_int_equal(number(caller, "runs"), 1);
    json_decref(profile);
}

/* A budget ends an evaluation after as many instructions, whether anybody looks or not. */
static void test_a_budget_ends_the_same_while_a_profile_is_taken(void **state)
{
    struct bench *b = *state;
    struct osm_err err = {0};
    bench_load_text(b, "local M = { api = 1, rules = {}, emit = {} }\n"
                       "function M.rules.keys() return { 'a' } end\n"
                       "M.emit.e = { each = 'keys', run = function() while true do end end }\n"
                       "return M\n");
    assert_int_equal(osm_engine_profile_begin(b->engine, 1, &err), 0);
    bench_apply(b, NAMESPACE("a"));
    assert_int_equal(json_array_size(b->snapshot->errors), 1);
    json_t *profile = osm_engine_profile_end(b->engine);
    assert_in_range(rule(profile, "m.e", "instructions"), BUDGET, BUDGET + 100);
    json_decref(profile);
}

/* The engine goes with a profile that nobody has ended. */
static void test_an_engine_may_go_while_a_profile_is_taken(void **state)
{
    struct bench *b = *state;
    struct osm_err err = {0};
    bench_load_text(b, bundle);
    assert_int_equal(osm_engine_profile_begin(b->engine, 8, &err), 0);
    bench_apply(b, NAMESPACE("a"));
}

static void test_without_memory_a_profile_is_none(void **state)
{
    struct bench *b = *state;
    bench_load_text(b, bundle);
    bench_apply(b, NAMESPACE("a"));
    for (long n = 0;; n++) {
        struct osm_err err = {0};
        json_t *profile = NULL, *costs;
        osm_mem_fail_at(n);
        int rc = osm_engine_profile_begin(b->engine, 1, &err);
        if (!rc)
            profile = osm_engine_profile_end(b->engine);
        costs = osm_engine_costs(b->engine);
        osm_mem_fail_at(-1);
        bool all = profile && costs;
        if (rc)
            assert_int_equal(rc, OSM_ENOMEM);
        json_decref(profile);
        json_decref(costs);
        if (all)
            break;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BENCH_TEST(test_runs_and_hits_are_counted_since_the_start),
        BENCH_TEST(test_an_emitter_that_need_not_run_is_hit),
        BENCH_TEST(test_instructions_and_time_are_of_the_rule_alone),
        BENCH_TEST(test_lines_are_followed_from_begin_to_end),
        BENCH_TEST(test_what_is_followed_counts_for_what_is_not),
        BENCH_TEST(test_after_a_return_the_callers_line_pays),
        BENCH_TEST(test_a_budget_ends_the_same_while_a_profile_is_taken),
        BENCH_TEST(test_an_engine_may_go_while_a_profile_is_taken),
        BENCH_TEST(test_without_memory_a_profile_is_none),
    };
    return cmocka_run_group_tests(tests, NULL, bench_no_leak);
}
