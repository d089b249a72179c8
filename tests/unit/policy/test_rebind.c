/* Other rules for an engine that has run: what is evaluated then, and what is not. That it says
 * what a fresh one says is for tests/property (changed_rules_equal_scratch). */
#include "policy/engine_util.h"

static const char OBJECTS[] =
    "apiVersion: v1\nkind: Namespace\nmetadata: {name: red, labels: "
    "{openservicemesh.io/monitored-by: osm}}\n---\n"
    "apiVersion: v1\nkind: Pod\n"
    "metadata: {name: p, namespace: red, labels: {app: a, osm-proxy-uuid: "
    "00000000-0000-4000-8000-000000000000}}\n"
    "spec: {serviceAccountName: a, containers: [{name: c}]}\n"
    "status: {phase: Running, podIP: 10.1.0.1}\n---\n"
    "apiVersion: acme.test/v1\nkind: Link\nmetadata: {name: one, namespace: red}\nspec: {to: a}\n"
    "---\n"
    "apiVersion: acme.test/v1\nkind: Link\nmetadata: {name: two, namespace: red}\nspec: {to: b}\n";

#define UUID "00000000-0000-4000-8000-000000000000"

/* A kind, a rule over it in a module of its own, two emitters in a third. */
static const char KINDS[] =
    "return { api = 1, kinds = { ['acme.Link'] = { group = 'acme.test', versions = { 'v1' },\n"
    "    accept = function(link, reject) if link.spec.to == 'x' then reject({ 'spec' }, 'no x') "
    "end end } },\n"
    "  indexes = { ['acme.to'] = { of = 'acme.Link', keys = function(link) return { { link.spec.to "
    "} } end } } }\n";
static const char RULES[] =
    "local M = { api = 1, rules = {} }\n"
    "M.rules['acme.target'] = function(mesh, namespace, name) return mesh.acme.Link(namespace, "
    "name).spec.to end\n"
    "return M\n";
static const char EMITS[] =
    "local M = { api = 1, emit = {} }\n"
    "M.emit.first = { each = 'acme.Link', run = function(mesh, out, namespace, name)\n"
    "  out.cluster { name = 'first ' .. name, audience = 'everyone', message = { alt_stat_name = "
    "mesh.acme.target(namespace, name) } }\n"
    "end }\n"
    "M.emit.second = { each = 'acme.Link', run = function(mesh, out, namespace, name)\n"
    "  out.load_assignment { cluster = 'second ' .. name, audience = 'everyone', service_port = { "
    "namespace, name, 80 }, accounts = {} }\n"
    "end }\n"
    "return M\n";

static void begin(struct bench *b)
{
    struct osm_err err = {0};
    bench_write(b, "kinds.lua", KINDS, "rules.lua", RULES, "emits.lua", EMITS, NULL);
    if (bench_load(b, NULL, &err))
        fail_msg("%s", err.msg);
    bench_apply(b, OBJECTS);
    assert_int_equal(bench_figure(b, "rules_run"), 6);
}

/* The bundle as it now is in the folder. */
static bool rebind(struct bench *b, struct osm_err *err)
{
    const char *const dirs[] = {b->dir, NULL};
    struct osm_policy_files *files = NULL;
    struct osm_err none = {0};
    bool done = false;
    assert_int_equal(osm_policy_files_read(&files, dirs, &none), 0);
    int rc = osm_engine_rebind(b->engine, files, false, &done, err);
    assert_true(!rc || !done);
    if (done)
        assert_ptr_equal(osm_engine_files(b->engine), files);
    osm_policy_files_unref(files);
    return done;
}

/* How many rules and emitters the next run evaluates. */
static json_int_t runs_after(struct bench *b, const char *path, const char *text)
{
    struct osm_err err = {0};
    bench_write(b, path, text, NULL);
    if (!rebind(b, &err))
        fail_msg("%s", err.msg);
    bench_run(b);
    json_t *figures = osm_engine_figures(b->engine);
    json_int_t n = json_integer_value(json_object_get(figures, "rules_run"));
    json_decref(figures);
    return n;
}

static const char *first_one(struct bench *b)
{
    return bench_resource(b, UUID, OSM_XDS_CDS, "first one");
}

static void test_a_remark_is_no_change(void **state)
{
    char text[4096];
    begin(*state);
    (void)snprintf(text, sizeof text, "%s-- a remark\n", RULES);
    assert_int_equal(runs_after(*state, "rules.lua", text), 0);
    (void)snprintf(text, sizeof text, "\n%s", RULES); /* errors would name another line */
    assert_int_equal(runs_after(*state, "rules.lua", text), 2);
}

static void test_a_changed_rule_and_who_reads_it(void **state)
{
    struct bench *b = *state;
    begin(b);
    /* the rule for two keys, and the emitter that reads it */
    assert_int_equal(runs_after(b, "rules.lua",
                                "local M = { api = 1, rules = {} }\n"
                                "M.rules['acme.target'] = function(mesh, namespace, name) return "
                                "'to ' .. mesh.acme.Link(namespace, name).spec.to end\n"
                                "return M\n"),
                     4);
    assert_string_equal(first_one(b), "{\"alt_stat_name\":\"to a\",\"name\":\"first one\"}");
    /* another function, the same answers: nobody else runs */
    assert_int_equal(runs_after(b, "rules.lua",
                                "local M = { api = 1, rules = {} }\n"
                                "M.rules['acme.target'] = function(mesh, namespace, name) return "
                                "'to' .. ' ' .. mesh.acme.Link(namespace, name).spec.to end\n"
                                "return M\n"),
                     2);
}

static void test_an_extension_and_what_it_extends(void **state)
{
    struct bench *b = *state;
    begin(b);
    assert_int_equal(runs_after(b, "extend.lua",
                                "return { api = 1, extends = { cluster = { run = function(_, "
                                "cluster) cluster.connect_timeout = '7s' end } } }\n"),
                     2);
    assert_non_null(strstr(first_one(b), "7s"));
    assert_int_equal(runs_after(b, "extend.lua", "return {}\n"), 2);
    assert_null(strstr(first_one(b), "7s"));
}

static void test_a_wrap_and_who_asks(void **state)
{
    struct bench *b = *state;
    begin(b);
    assert_int_equal(
        runs_after(
            b, "wrap.lua",
            "return { api = 1, wraps = { ['acme.target'] = function(_, original, ...) return "
            "'via ' .. original(...) end } }\n"),
        6); /* what is wrapped has another name: two wraps, two rules, two emitters */
    assert_string_equal(first_one(b), "{\"alt_stat_name\":\"via a\",\"name\":\"first one\"}");
    assert_int_equal(runs_after(b, "wrap.lua", "return {}\n"), 4);
    assert_string_equal(first_one(b), "{\"alt_stat_name\":\"a\",\"name\":\"first one\"}");
}

/* Who asks for names that stand in the text is not concerned by others that come and go. */
static void test_a_name_that_comes_and_goes(void **state)
{
    struct bench *b = *state;
    begin(b);
    assert_int_equal(
        runs_after(b, "more.lua",
                   "return { api = 1, rules = { ['acme.more'] = function() return 1 end "
                   "} }\n"),
        0);
    assert_int_equal(runs_after(b, "more.lua", "return {}\n"), 0);
}

/* A module that writes into another's table while it is loaded. */
static void test_a_function_from_elsewhere(void **state)
{
    struct bench *b = *state;
    begin(b);
    assert_int_equal(
        runs_after(b, "zzz.lua",
                   "require('rules').rules['acme.target'] = function() return 'z' end\n"
                   "return {}\n"),
        4);
    assert_string_equal(first_one(b), "{\"alt_stat_name\":\"z\",\"name\":\"first one\"}");
    assert_int_equal(runs_after(b, "zzz.lua",
                                "local z = 'zz'\n"
                                "require('rules').rules['acme.target'] = function() return z end\n"
                                "return {}\n"),
                     4);
    assert_string_equal(first_one(b), "{\"alt_stat_name\":\"zz\",\"name\":\"first one\"}");
}

/* Objects of a kind with another function are taken in again, the others are not. */
static void test_a_kind_that_takes_in_otherwise(void **state)
{
    struct bench *b = *state;
    begin(b);
    bench_write(
        b, "kinds.lua",
        "return { api = 1, kinds = { ['acme.Link'] = { group = 'acme.test', versions = { "
        "'v1' },\n"
        "    accept = function(link, reject) if link.spec.to == 'b' then reject({ 'spec' }, "
        "'no b') end end } },\n"
        "  indexes = { ['acme.to'] = { of = 'acme.Link', keys = function(link) return { { "
        "link.spec.to } } end } } }\n",
        NULL);
    struct osm_err err = {0};
    assert_true(rebind(b, &err));
    bench_run(b);
    assert_int_equal(json_array_size(b->snapshot->rejects), 1);
    assert_string_equal(bench_entry(b->snapshot->rejects, 0, "reason"), "no b");
    assert_null(bench_resource(b, UUID, OSM_XDS_CDS, "first two"));
    assert_non_null(first_one(b));
    bench_delete(b, "acme.test/Link/red/one");
    assert_null(first_one(b));
    (void)runs_after(b, "kinds.lua", KINDS);
    assert_int_equal(json_array_size(b->snapshot->rejects), 0);
    assert_non_null(bench_resource(b, UUID, OSM_XDS_CDS, "first two"));
}

/* Nor does it become one that was asked for its rules. */
static void test_what_does_not_load_changes_nothing(void **state)
{
    struct bench *b = *state;
    struct osm_err err = {0};
    begin(b);
    bench_write(b, "rules.lua", "return {", NULL);
    assert_false(rebind(b, &err));
    assert_string_equal(err.msg, "rules.lua:1: unexpected symbol near <eof>");
    bench_write(b, "rules.lua", RULES, "more.lua",
                "return { api = 1, kinds = { ['acme.More'] = { versions = { 'v1' } } } }\n", NULL);
    err = (struct osm_err){0};
    assert_false(rebind(b, &err)); /* its objects are not here */
    assert_string_equal(err.msg, "");
    assert_false(osm_engine_lost(b->engine));
    bench_apply(b, "apiVersion: acme.test/v1\nkind: Link\nmetadata: {name: one, namespace: red}\n"
                   "spec: {to: c}\n");
    assert_string_equal(first_one(b), "{\"alt_stat_name\":\"c\",\"name\":\"first one\"}");
}

/* Whoever was told that there is no such name is not told when there is one. */
static void test_who_asked_in_vain(void **state)
{
    struct bench *b = *state;
    struct osm_err err = {0};
    begin(b);
    static const char asks[] = "return { api = 1, emit = { asks = { each = 'acme.Link', run = "
                               "function(mesh, out, _, name)\n"
                               "  local m, word = mesh, 'acme'\n"
                               "  out.cluster { name = 'asks ' .. name, audience = 'everyone',\n"
                               "    message = { alt_stat_name = tostring(pcall(function() return "
                               "m[word].later() end)) } }\n"
                               "end } } }\n";
    (void)runs_after(b, "asks.lua", asks);
    assert_string_equal(bench_resource(b, UUID, OSM_XDS_CDS, "asks one"),
                        "{\"alt_stat_name\":\"false\",\"name\":\"asks one\"}");
    bench_write(b, "later.lua",
                "return { api = 1, rules = { ['acme.later'] = function() return 1 end } }\n", NULL);
    assert_false(rebind(b, &err));
    assert_string_equal(err.msg, "");
}

/* A new generation begins without what an emitter has said before it failed. */
static void test_what_fails_keeps_nothing(void **state)
{
    struct bench *b = *state;
    char text[4096];
    begin(b);
    (void)snprintf(text, sizeof text, "%s",
                   "local M = { api = 1, rules = {} }\n"
                   "M.rules['acme.target'] = function() error('not today') end\n"
                   "return M\n");
    (void)runs_after(b, "rules.lua", text);
    assert_int_equal(json_array_size(b->snapshot->errors), 2);
    assert_null(first_one(b));
    assert_non_null(bench_resource(b, UUID, OSM_XDS_EDS, "second one"));
    (void)runs_after(b, "rules.lua", RULES);
    assert_non_null(first_one(b));
    /* while an object that makes it fail leaves what grants nothing */
    bench_apply(b, "apiVersion: acme.test/v1\nkind: Link\nmetadata: {name: one, namespace: red}\n"
                   "spec: {to: 5}\n");
    assert_int_equal(json_array_size(b->snapshot->errors), 1);
    assert_non_null(first_one(b));
    osm_engine_begin_anew(b->engine);
    bench_run(b);
    assert_null(first_one(b));
}

/* An engine of proven rules does not look for writes; one that is given others does. */
static void test_rules_that_write_are_found(void **state)
{
    struct bench *b = *state;
    struct osm_err err = {0};
    bench_write(b, "kinds.lua", KINDS, "rules.lua", RULES, "emits.lua", EMITS, NULL);
    struct osm_engine_config config = bench_config(b->dir);
    config.proven = true;
    if (osm_engine_new(&b->engine, &config, &err))
        fail_msg("%s", err.msg);
    bench_apply(b, OBJECTS);
    (void)runs_after(b, "rules.lua",
                     "local M = { api = 1, rules = {} }\n"
                     "M.rules['acme.target'] = function(mesh, namespace, name)\n"
                     "  local link = mesh.acme.Link(namespace, name)\n"
                     "  link.spec.to = link.spec.to .. '!'\n"
                     "  return link.spec.to\n"
                     "end\n"
                     "return M\n");
    assert_int_equal(json_array_size(b->snapshot->errors), 2);
    assert_non_null(strstr(bench_entry(b->snapshot->errors, 0, "message"), "is read-only"));
    (void)runs_after(b, "rules.lua", RULES);
    assert_int_equal(json_array_size(b->snapshot->errors), 0);
    assert_string_equal(first_one(b), "{\"alt_stat_name\":\"a\",\"name\":\"first one\"}");
}

/* Also where the list that it is in was made for others before. */
static void test_writes_into_a_list_that_was_there_are_found(void **state)
{
    static const char reads[] = "local M = { api = 1, rules = {} }\n"
                                "M.rules['acme.target'] = function(mesh, namespace, name)\n"
                                "  return mesh.acme.to('a')[1].spec.to%s\n"
                                "end\n"
                                "return M\n";
    struct bench *b = *state;
    char text[4096];
    begin(b);
    (void)snprintf(text, sizeof text, reads, "");
    (void)runs_after(b, "rules.lua", text);
    assert_int_equal(json_array_size(b->snapshot->errors), 0);
    (void)runs_after(b, "rules.lua",
                     "local M = { api = 1, rules = {} }\n"
                     "M.rules['acme.target'] = function(mesh, namespace, name)\n"
                     "  mesh.acme.to('a')[1].spec.to = 'changed'\n"
                     "end\n"
                     "return M\n");
    assert_int_equal(json_array_size(b->snapshot->errors), 2);
    assert_non_null(strstr(bench_entry(b->snapshot->errors, 0, "message"), "is read-only"));
    (void)runs_after(b, "rules.lua", RULES);
    assert_string_equal(first_one(b), "{\"alt_stat_name\":\"a\",\"name\":\"first one\"}");
}

/* What the old bundle held goes with it. */
static void test_rules_come_and_go_without_end(void **state)
{
    struct bench *b = *state;
    char text[4096];
    json_int_t first = 0, last = 0;
    begin(b);
    for (unsigned i = 0; i < 400; i++) {
        (void)snprintf(text, sizeof text, "local number = %u\n%s", i, RULES);
        (void)runs_after(b, "rules.lua", text);
        while (osm_engine_rest(b->engine)) {
        }
        json_t *figures = osm_engine_figures(b->engine);
        last = json_integer_value(json_object_get(figures, "lua_bytes"));
        first = i == 99 ? last : first;
        json_decref(figures);
    }
    if (last > first + first / 4)
        fail_msg("Lua holds %lld bytes after 400 changes, %lld after 100", (long long)last,
                 (long long)first);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BENCH_TEST(test_a_remark_is_no_change),
        BENCH_TEST(test_a_changed_rule_and_who_reads_it),
        BENCH_TEST(test_an_extension_and_what_it_extends),
        BENCH_TEST(test_a_wrap_and_who_asks),
        BENCH_TEST(test_a_name_that_comes_and_goes),
        BENCH_TEST(test_a_function_from_elsewhere),
        BENCH_TEST(test_a_kind_that_takes_in_otherwise),
        BENCH_TEST(test_what_does_not_load_changes_nothing),
        BENCH_TEST(test_who_asked_in_vain),
        BENCH_TEST(test_what_fails_keeps_nothing),
        BENCH_TEST(test_rules_that_write_are_found),
        BENCH_TEST(test_writes_into_a_list_that_was_there_are_found),
        BENCH_TEST(test_rules_come_and_go_without_end),
    };
    return cmocka_run_group_tests(tests, NULL, bench_no_leak);
}
