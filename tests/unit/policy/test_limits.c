/* The limits of a run: time, memory, state between calls. What is one rule's fault stays with it;
 * what is not loses the engine, which says so. */
#include "policy/engine_util.h"

#include "base/log.h"

#include <fcntl.h>

#define PROXY "11111111-1111-4111-8111-111111111111"

static const char world[] =
    NAMESPACE("a") "---\napiVersion: v1\nkind: Pod\n"
                   "metadata: {name: p, namespace: a, labels: {osm-proxy-uuid: " PROXY "}}\n"
                   "spec: {serviceAccountName: x, containers: [{name: c}]}\n"
                   "status: {phase: Running, podIP: 10.1.0.1}\n";

/* A cluster for each Service; how much a Service makes its rules do is written in its annotations:
 * turns of a loop, megabytes that are kept, rules that each turn a little. */
static const char bundle[] =
    "local function turn(n) local x = 0 for i = 1, n do x = x + 1 end return x end\n"
    "local M = { api = 1, kinds = { Service = { versions = { 'v1' } } }, rules = {} }\n"
    "function M.rules.keep(mesh, name, i) return name .. i .. ('x'):rep(1000000) end\n"
    "function M.rules.little(mesh, name, i) return turn(10000) end\n"
    "function M.rules.work(mesh, ns, name)\n"
    "  local todo = mesh.Service(ns, name).metadata.annotations or {}\n"
    "  for i = 1, todo.keep or 0 do mesh.keep(name, i) end\n"
    "  for i = 1, todo.little or 0 do mesh.little(name, i) end\n"
    "  turn(todo.turns or 0)\n"
    "  return ns .. '/' .. name\n"
    "end\n"
    "M.emit = { clusters = { each = 'Service', run = function(mesh, out, ns, name)\n"
    "  local cluster = mesh.work(ns, name)\n"
    "  out.cluster({ name = cluster, audience = 'everyone', message = { type = 'EDS' } })\n"
    "  out.load_assignment({ cluster = cluster, audience = 'everyone', accounts = 'any',\n"
    "    service_port = { ns, name, 80 } })\n"
    "end } }\n"
    "return M\n";

static int set_up(void **state)
{
    struct bench *b = bench_new();
    struct osm_err err = {0};
    bench_time_ms = 1000;
    bench_time_step_ms = 0;
    bench_write(b, "m.lua", bundle, NULL);
    struct osm_engine_config config = bench_config(b->dir);
    config.memory_max_bytes = 48 << 20;
    if (osm_engine_new(&b->engine, &config, &err))
        fail_msg("%s", err.msg);
    bench_put(b, world);
    *state = b;
    return 0;
}

static void service(struct bench *b, const char *name, const char *annotations)
{
    char text[512];
    (void)snprintf(text, sizeof text,
                   "apiVersion: v1\nkind: Service\n"
                   "metadata: {name: %s, namespace: a, annotations: {%s}}\n",
                   name, annotations);
    bench_put(b, text);
}

static bool is_served(struct bench *b, const char *name)
{
    return bench_resource(b, PROXY, OSM_XDS_CDS, name) != NULL;
}

static void test_an_evaluation_that_takes_long_is_an_error_of_its_rule(void **state)
{
    struct bench *b = *state;
    bench_time_step_ms = 10;
    service(b, "fast", "");
    service(b, "slow", "turns: 100000"); /* some thousand looks at the clock */
    bench_run(b);
    assert_int_equal(json_array_size(b->snapshot->errors), 1);
    assert_string_equal(bench_entry(b->snapshot->errors, 0, "where"), "rule work(a, slow)");
    assert_string_equal(bench_entry(b->snapshot->errors, 0, "message"),
                        "has taken longer than 5 s for one evaluation; it works on long texts "
                        "again and again?");
    assert_string_equal(bench_entry(b->snapshot->errors, 0, "module"), "m.lua");
    assert_true(is_served(b, "a/fast"));
    assert_false(is_served(b, "a/slow"));
}

/* One comparison of long texts can take 20 ms, so the clock is looked at every few instructions. */
static void test_the_clock_is_looked_at_often(void **state)
{
    struct bench *b = *state;
    bench_time_step_ms = 1000;
    service(b, "slow", "turns: 400");
    bench_run(b);
    assert_int_equal(json_array_size(b->snapshot->errors), 1);
    assert_string_equal(bench_entry(b->snapshot->errors, 0, "where"), "rule work(a, slow)");
}

static void test_what_took_long_is_tried_again_though_nothing_it_read_has_changed(void **state)
{
    struct bench *b = *state;
    bench_time_step_ms = 10;
    service(b, "slow", "turns: 100000");
    bench_run(b);
    assert_false(is_served(b, "a/slow"));
    bench_time_step_ms = 0;
    bench_run(b);
    assert_true(is_served(b, "a/slow"));
    assert_int_equal(json_array_size(b->snapshot->errors), 0);
}

static void test_time_of_callees_is_not_that_of_their_caller(void **state)
{
    struct bench *b = *state;
    bench_time_step_ms = 2;
    service(b, "many", "little: 20"); /* 20 evaluations of some 0.6 s */
    bench_run(b);
    assert_int_equal(json_array_size(b->snapshot->errors), 0);
    assert_true(is_served(b, "a/many"));
}

static void test_a_run_without_end_loses_the_engine(void **state)
{
    struct bench *b = *state;
    struct osm_err err = {0};
    service(b, "one", "");
    bench_run(b);
    bench_time_step_ms = 2;
    service(b, "many", "little: 1000");
    assert_int_equal(bench_try_run(b, &err), OSM_ELUA);
    assert_string_equal(err.msg, "a run of the policies has taken longer than 10 s");
    assert_int_equal(bench_try_run(b, &err), OSM_ELUA);
    assert_true(is_served(b, "a/one")); /* the last snapshot is whole */
}

static void test_the_first_run_has_more_time(void **state)
{
    struct bench *b = *state;
    struct osm_err err = {0};
    bench_time_step_ms = 2;
    service(b, "some", "little: 40"); /* some 24 s */
    bench_run(b);
    assert_true(is_served(b, "a/some"));
    service(b, "many", "little: 1000");
    assert_int_equal(bench_try_run(b, &err), OSM_ELUA);
}

static long long lua_bytes(struct bench *b)
{
    json_t *figures = osm_engine_figures(b->engine);
    long long bytes = json_integer_value(json_object_get(figures, "lua_bytes"));
    json_decref(figures);
    return bytes;
}

static void test_garbage_goes_between_runs(void **state)
{
    struct bench *b = *state;
    long long most = 0;
    for (int i = 0; i < 6; i++) { /* 4 MB of values come and go in each turn */
        service(b, "big", i % 2 ? "" : "keep: 4");
        bench_run(b);
        while (osm_engine_rest(b->engine))
            ;
        assert_true(is_served(b, "a/big"));
        assert_false(osm_engine_rest(b->engine)); /* nothing new: nothing to do */
        most = lua_bytes(b) > most ? lua_bytes(b) : most;
    }
    assert_in_range(most, 4000000, 7000000); /* never two turns' at once */
}

static void test_a_long_run_is_logged(void **state)
{
    struct bench *b = *state;
    char text[4096] = "";
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    osm_log_set_fd(fds[1]);
    bench_time_step_ms = 2;
    service(b, "some", "little: 8");
    bench_run(b);
    osm_log_set_fd(2);
    close(fds[1]);
    assert_true(read(fds[0], text, sizeof text - 1) > 0);
    close(fds[0]);
    assert_non_null(strstr(text, "a run has taken long"));
}

static void test_a_full_state_fails_the_rules_that_need_more_and_nothing_else(void **state)
{
    struct bench *b = *state;
    service(b, "one", "keep: 1");
    bench_run(b);
    assert_true(is_served(b, "a/one"));
    service(b, "big", "keep: 100");
    service(b, "two", "");
    bench_run(b);
    assert_true(json_array_size(b->snapshot->errors) > 0);
    assert_string_equal(
        bench_entry(b->snapshot->errors, 0, "message"),
        "the policies need more than 50331648 bytes of memory; --policy-memory gives more");
    assert_true(is_served(b, "a/one"));
    assert_true(is_served(b, "a/two"));
    assert_false(is_served(b, "a/big"));
    bench_delete(b, "/Service/a/big");
    assert_int_equal(json_array_size(b->snapshot->errors), 0);
    assert_true(is_served(b, "a/one"));
}

static void test_a_first_run_that_needs_too_much_loses_the_engine(void **state)
{
    struct bench *b = *state;
    struct osm_err err = {0};
    service(b, "big", "keep: 100");
    assert_int_equal(bench_try_run(b, &err), OSM_ELUA);
    assert_string_equal(
        err.msg,
        "the policies need more than 50331648 bytes of memory; --policy-memory gives more");
}

static void test_a_bundle_that_keeps_nothing_is_pure(void **state)
{
    struct bench *b = *state;
    struct osm_err err = {0};
    service(b, "one", "little: 3");
    bench_run(b);
    assert_int_equal(osm_engine_check_pure(b->engine, &err), 0);
}

static void test_state_between_calls_is_named_with_its_line(void **state)
{
    struct bench *b = *state;
    struct osm_err err = {0};
    osm_engine_free(b->engine);
    b->engine = NULL;
    bench_load_text(
        b,
        "-- a rule\nlocal M = { api = 1, rules = {} }\nlocal unused, n <const>, calls = 1, 2, 0\n"
        "function M.rules.f(mesh) calls = calls + n return 1 end\nreturn M\n");
    assert_int_equal(osm_engine_check_pure(b->engine, &err), 0);
    assert_string_equal(bench_ask(b, "f", "[]"), "1");
    assert_int_equal(osm_engine_check_pure(b->engine, &err), OSM_ELUA);
    assert_string_equal(err.msg, "m.lua:3: the local \"calls\" changed while rules ran; rules keep "
                                 "no state between calls");
}

static void test_state_between_calls_is_reported_until_the_bundle_goes(void **state)
{
    struct bench *b = *state;
    osm_engine_free(b->engine);
    b->engine = NULL;
    bench_load_text(
        b, "local seen\nlocal M = { api = 1, kinds = { Service = { versions = { 'v1' } } } }\n"
           "M.emit = { e = { each = 'Service', run = function() seen = true end } }\nreturn M\n");
    for (int i = 0; i < 3; i++) {
        const char *const names[] = {"one", "two", "three"};
        service(b, names[i], "");
        bench_run(b);
        assert_int_equal(json_array_size(b->snapshot->errors), 1);
        assert_string_equal(bench_entry(b->snapshot->errors, 0, "where"), "bundle");
        assert_string_equal(bench_entry(b->snapshot->errors, 0, "module"), "m.lua");
    }
}

int main(void)
{
#define LIMIT_TEST(f) cmocka_unit_test_setup_teardown(f, set_up, bench_tear_down)
    const struct CMUnitTest tests[] = {
        LIMIT_TEST(test_an_evaluation_that_takes_long_is_an_error_of_its_rule),
        LIMIT_TEST(test_the_clock_is_looked_at_often),
        LIMIT_TEST(test_what_took_long_is_tried_again_though_nothing_it_read_has_changed),
        LIMIT_TEST(test_time_of_callees_is_not_that_of_their_caller),
        LIMIT_TEST(test_a_run_without_end_loses_the_engine),
        LIMIT_TEST(test_the_first_run_has_more_time),
        LIMIT_TEST(test_garbage_goes_between_runs),
        LIMIT_TEST(test_a_long_run_is_logged),
        LIMIT_TEST(test_a_full_state_fails_the_rules_that_need_more_and_nothing_else),
        LIMIT_TEST(test_a_first_run_that_needs_too_much_loses_the_engine),
        LIMIT_TEST(test_a_bundle_that_keeps_nothing_is_pure),
        LIMIT_TEST(test_state_between_calls_is_named_with_its_line),
        LIMIT_TEST(test_state_between_calls_is_reported_until_the_bundle_goes),
    };
    return cmocka_run_group_tests(tests, NULL, bench_no_leak);
}
