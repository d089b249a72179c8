/* Cells that an engine which is given other rules must not keep, each for a reason that is not in
 * the function that gave the answer. What such an engine says is compared with what a fresh one
 * says. */
#include "policy/engine_util.h"

static const char OBJECTS[] =
    "apiVersion: v1\nkind: Namespace\nmetadata: {name: red, labels: "
    "{openservicemesh.io/monitored-by: osm}}\n---\n"
    "apiVersion: v1\nkind: Pod\n"
    "metadata: {name: p, namespace: red, labels: {app: a, osm-proxy-uuid: "
    "00000000-0000-4000-8000-000000000000}}\n"
    "spec: {serviceAccountName: a, containers: [{name: c}]}\n"
    "status: {phase: Running, podIP: 10.1.0.1}\n---\n"
    "apiVersion: acme.test/v1\nkind: Link\nmetadata: {name: one, namespace: red}\nspec: {to: a}\n";

#define UUID "00000000-0000-4000-8000-000000000000"

/* A rule whose answer is served. */
static const char KINDS[] =
    "return { api = 1, kinds = { ['acme.Link'] = { group = 'acme.test', versions = { 'v1' } } } "
    "}\n";
static const char EMITS[] =
    "local M = { api = 1, emit = {} }\n"
    "M.emit.links = { each = 'acme.Link', run = function(mesh, out, namespace, name)\n"
    "  out.cluster { name = name, audience = 'everyone',\n"
    "    message = { alt_stat_name = tostring(mesh.acme.answer(namespace, name)) } }\n"
    "end }\n"
    "return M\n";

static const char *served(struct bench *b)
{
    const char *text = bench_resource(b, UUID, OSM_XDS_CDS, "one");
    return text ? text : "nothing";
}

static char *text_of(const json_t *list)
{
    char *text = json_dumps(list, JSON_COMPACT);
    assert_non_null(text);
    return text;
}

static void check_same_list(const json_t *a, const json_t *b)
{
    char *x = text_of(a), *y = text_of(b);
    assert_string_equal(x, y);
    free(x);
    free(y);
}

/* A bench of its own engine, over the same objects. */
static void check_like_fresh(struct bench *b)
{
    struct bench fresh = {.store = b->store, .reader = osm_store_reader_new(b->store)};
    struct osm_err err = {0};
    char text[1024];
    assert_non_null(fresh.reader);
    if (bench_load(&fresh, b->dir, &err))
        fail_msg("%s", err.msg);
    bench_run(&fresh);
    (void)snprintf(text, sizeof text, "%s", served(b));
    assert_string_equal(text, served(&fresh));
    check_same_list(b->snapshot->errors, fresh.snapshot->errors);
    check_same_list(b->snapshot->rejects, fresh.snapshot->rejects);
    osm_snapshot_unref(fresh.snapshot);
    osm_engine_free(fresh.engine);
    osm_store_reader_free(fresh.reader);
}

/* The bundle as it now is in the folder. An engine that does not take it is replaced. */
static bool rebind(struct bench *b)
{
    const char *const dirs[] = {b->dir, NULL};
    struct osm_policy_files *files = NULL;
    struct osm_err err = {0};
    bool done = false;
    assert_int_equal(osm_policy_files_read(&files, dirs, &err), 0);
    if (osm_engine_rebind(b->engine, files, false, &done, &err))
        fail_msg("%s", err.msg);
    osm_policy_files_unref(files);
    if (!done) {
        osm_engine_free(b->engine);
        if (bench_load(b, NULL, &err))
            fail_msg("%s", err.msg);
        assert_int_equal(osm_store_reader_restart(b->reader), 0);
    }
    bench_run(b);
    return done;
}

static void begin(struct bench *b)
{
    struct osm_err err = {0};
    bench_write(b, "emits.lua", EMITS, NULL);
    if (bench_load(b, NULL, &err))
        fail_msg("%s", err.msg);
    bench_apply(b, OBJECTS);
}

/* A file is another one: what is served then holds @p says, as what a fresh engine serves does.
 * Whether the engine that there was says it. */
static bool becomes(struct bench *b, const char *path, const char *text, const char *says)
{
    bench_write(b, path, text, NULL);
    bool done = rebind(b);
    assert_non_null(strstr(served(b), says));
    check_like_fresh(b);
    return done;
}

/* The members of a cycle have not read each other. */
static void test_a_cycle_that_ends(void **state)
{
    struct bench *b = *state;
    bench_write(b, "kinds.lua", KINDS, "a.lua",
                "return { api = 1, rules = { ['acme.answer'] = function(mesh, ...) return "
                "mesh.acme.other(...) end } }\n",
                "b.lua",
                "return { api = 1, rules = { ['acme.other'] = function(mesh, ...) return "
                "mesh.acme.answer(...) end } }\n",
                NULL);
    begin(b);
    assert_int_equal(json_array_size(b->snapshot->errors), 2);
    bench_write(b, "b.lua",
                "return { api = 1, rules = { ['acme.other'] = function() return 'end' end } }\n",
                NULL);
    assert_true(rebind(b));
    assert_non_null(strstr(served(b), "end"));
    check_like_fresh(b);
}

/* Nor has the end of a chain that is too long read what comes after it. */
static void test_a_chain_that_gets_shorter(void **state)
{
    static const char down[] =
        "return { api = 1, rules = {\n"
        "  ['acme.answer'] = function(mesh) return mesh.acme.down(60) end,\n"
        "  ['acme.all'] = function(mesh) return pcall(mesh.acme.down, 0) end,\n"
        "  ['acme.down'] = function(mesh, n) return mesh.acme.on(n) end },\n"
        "emit = { all = { each = 'acme.Link', run = function(mesh) mesh.acme.all() end } } }\n";
    static const char on[] = "return { api = 1, rules = { ['acme.on'] = function(mesh, n) return "
                             "%s mesh.acme.down(n + 1) end } }\n";
    struct bench *b = *state;
    char text[1024];
    (void)snprintf(text, sizeof text, on, "");
    bench_write(b, "kinds.lua", KINDS, "a.lua", down, "b.lua", text, NULL);
    begin(b);
    assert_string_equal(served(b), "nothing");
    (void)snprintf(text, sizeof text, on, "n >= 90 and 'end' or");
    assert_true(becomes(b, "b.lua", text, "end"));
}

/* An answer that holds an object is told from others by the object as it was written. */
static void test_an_object_in_an_answer_that_is_taken_in_otherwise(void **state)
{
    static const char kinds[] =
        "return { api = 1, kinds = { ['acme.Link'] = { group = 'acme.test', versions = { 'v1' "
        "},\n"
        "  schema = { type = 'object', properties = { spec = { type = 'object', properties = {\n"
        "    to = { type = 'string' }, more = { type = 'string', default = '%s' } } } } } } } }\n";
    struct bench *b = *state;
    char text[2048];
    (void)snprintf(text, sizeof text, kinds, "some");
    bench_write(b, "kinds.lua", text, "a.lua",
                "return { api = 1, rules = { ['acme.link'] = function(mesh, ...) return { "
                "mesh.acme.Link(...) } end,\n"
                "  ['acme.answer'] = function(mesh, ...) return mesh.acme.link(...)[1].spec.more "
                "end } }\n",
                NULL);
    begin(b);
    assert_non_null(strstr(served(b), "some"));
    (void)snprintf(text, sizeof text, kinds, "another");
    assert_true(becomes(b, "kinds.lua", text, "another"));
}

/* A module that is required by a function when it runs is not among what that reaches. */
static void test_a_module_that_is_required_late(void **state)
{
    struct bench *b = *state;
    bench_write(b, "kinds.lua", KINDS, "a.lua",
                "return { api = 1, rules = { ['acme.answer'] = function() return "
                "require('words').word end } }\n",
                "words.lua", "return { word = 'first' }\n", NULL);
    begin(b);
    assert_non_null(strstr(served(b), "first"));
    (void)becomes(b, "words.lua", "return { word = 'second' }\n", "second");
}

static void test_an_extension_that_requires_late(void **state)
{
    struct bench *b = *state;
    bench_write(b, "kinds.lua", KINDS, "a.lua",
                "return { api = 1, rules = { ['acme.answer'] = function() return 'a' end },\n"
                "  extends = { cluster = { run = function(_, cluster) cluster.alt_stat_name = "
                "require('words').word end } } }\n",
                "words.lua", "return { word = 'first' }\n", NULL);
    begin(b);
    assert_non_null(strstr(served(b), "first"));
    (void)becomes(b, "words.lua", "return { word = 'second' }\n", "second");
}

static void test_a_kind_that_requires_late(void **state)
{
    struct bench *b = *state;
    bench_write(b, "kinds.lua",
                "return { api = 1, kinds = { ['acme.Link'] = { group = 'acme.test', versions = { "
                "'v1' },\n"
                "  accept = function(link, reject) if link.spec.to == require('words').word then "
                "reject({ 'spec' }, 'no') end end } } }\n",
                "a.lua",
                "return { api = 1, rules = { ['acme.answer'] = function() return 'a' end } }\n",
                "words.lua", "return { word = 'x' }\n", NULL);
    begin(b);
    assert_int_equal(json_array_size(b->snapshot->rejects), 0);
    bench_write(b, "words.lua", "return { word = 'a' }\n", NULL);
    (void)rebind(b);
    assert_int_equal(json_array_size(b->snapshot->rejects), 1);
    check_like_fresh(b);
}

/* Whether there is a name can be seen without asking. */
static void test_a_name_that_was_looked_at(void **state)
{
    struct bench *b = *state;
    bench_write(b, "kinds.lua", KINDS, "a.lua",
                "return { api = 1, rules = { ['acme.answer'] = function(mesh)\n"
                "  local m, word = mesh.acme, 'later'\n"
                "  return (pcall(function() return m[word] end))\n"
                "end } }\n",
                "later.lua",
                "return { api = 1, rules = { ['acme.later'] = function() return 1 end } }\n", NULL);
    begin(b);
    assert_non_null(strstr(served(b), "true"));
    (void)becomes(b, "later.lua", "return {}\n", "false");
}

/* A function that is made when the declaration is read, from what no table holds then. */
static void test_a_function_that_is_made_for_the_declaration(void **state)
{
    static const char a[] =
        "local words = require('words')\n"
        "return { api = 1, rules = {}, emit = { x = setmetatable({ each = 'acme.Link' }, {\n"
        "  __index = function(_, field)\n"
        "    if field ~= 'run' then return nil end\n"
        "    local word = words.word\n"
        "    words.word = ''\n"
        "    return function(_, out, _, name) out.cluster { name = name, audience = 'everyone', "
        "message = { alt_stat_name = 'x' .. word } } end\n"
        "  end }) } }\n";
    struct bench *b = *state;
    struct osm_err err = {0};
    bench_write(b, "kinds.lua", KINDS, "m.lua", a, "words.lua", "return { word = 'first' }\n",
                NULL);
    if (bench_load(b, NULL, &err))
        fail_msg("%s", err.msg);
    bench_apply(b, OBJECTS);
    assert_non_null(strstr(served(b), "xfirst"));
    (void)becomes(b, "words.lua", "return { word = 'second' }\n", "xsecond");
}

/* Rules that keep state are found again, although nothing of theirs has changed. */
static void test_rules_that_keep_state_are_found_each_time(void **state)
{
    struct bench *b = *state;
    bench_write(b, "kinds.lua", KINDS, "a.lua",
                "local n = 0\n"
                "return { api = 1, rules = { ['acme.answer'] = function() n = n + 1 return 'a' end "
                "} }\n",
                "b.lua", "return { api = 1, rules = { ['acme.b'] = function() return 1 end } }\n",
                NULL);
    begin(b);
    check_like_fresh(b);
    for (int i = 0; i < 4; i++) {
        bench_write(b, "b.lua",
                    i % 2 ? "return { api = 1, rules = { ['acme.b'] = function() return 1 end } }\n"
                          : "return { api = 1, rules = { ['acme.b'] = function() return 2 end } "
                            "}\n",
                    NULL);
        (void)rebind(b);
        check_like_fresh(b);
    }
}

/* What a header rule has said before it failed is not there for the run after the next either. */
static void test_a_header_that_fails_keeps_nothing(void **state)
{
    static const char header[] =
        "local M = { api = 1, rules = {}, emit = {} }\n"
        "M.rules['acme.answer'] = function() return 'a' end\n"
        "M.rules['acme.header'] = function(mesh)\n"
        "  local to = mesh.acme.Link('red', 'one').spec.to\n"
        "  if to ~= 'a' then error('not ' .. to) end\n"
        "  return { stat_prefix = 'h' }\n"
        "end\n"
        "M.emit.listener = { each = 'acme.Link', run = function(mesh, out, _, name)\n"
        "  out.listener { name = 'one', audience = 'everyone', alone = true, header_rule = "
        "'acme.header' }\n"
        "end }\n"
        "return M\n";
    struct bench *b = *state;
    bench_write(b, "kinds.lua", KINDS, "a.lua", header, NULL);
    begin(b);
    assert_non_null(bench_resource(b, UUID, OSM_XDS_LDS, "one"));
    osm_engine_begin_anew(b->engine);
    bench_apply(b, "apiVersion: acme.test/v1\nkind: Link\nmetadata: {name: one, namespace: red}\n"
                   "spec: {to: b}\n");
    assert_null(bench_resource(b, UUID, OSM_XDS_LDS, "one"));
    bench_apply(b, "apiVersion: acme.test/v1\nkind: Link\nmetadata: {name: one, namespace: red}\n"
                   "spec: {to: c}\n");
    assert_null(bench_resource(b, UUID, OSM_XDS_LDS, "one"));
}

/* A rule that took too long is tried again by the next run, unless it has gone meanwhile. */
static void test_a_header_rule_that_took_too_long_goes(void **state)
{
    static const char header[] =
        "local M = { api = 1, rules = {}, emit = {} }\n"
        "M.rules['acme.answer'] = function() return 'a' end\n"
        "M.rules['acme.header'] = function() return { stat_prefix = 'h' } end\n"
        "M.emit.listener = { each = 'acme.Link', run = function(mesh, out, _, name)\n"
        "  out.listener { name = 'one', audience = 'everyone', alone = true, header_rule = "
        "'acme.header' }\n"
        "end }\n"
        "return M\n";
    struct bench *b = *state;
    bench_write(b, "kinds.lua", KINDS, "a.lua", header, "wrap.lua",
                "return { api = 1, wraps = { ['acme.header'] = function(_, original, ...)\n"
                "  for i = 1, 1000000 do local _ = i * i end\n"
                "  return original(...)\n"
                "end } }\n",
                NULL);
    bench_time_step_ms = 1;
    begin(b);
    bench_time_step_ms = 0;
    assert_int_equal(json_array_size(b->snapshot->errors), 1);
    bench_write(b, "wrap.lua", "return {}\n", NULL);
    assert_true(rebind(b));
    assert_non_null(bench_resource(b, UUID, OSM_XDS_LDS, "one"));
    check_like_fresh(b);
}

/* Its keys have been asked for when the change comes that replaces it. */
static void test_an_object_that_is_taken_in_again_and_changes(void **state)
{
    static const char kinds[] =
        "return { api = 1, kinds = { ['acme.Link'] = { group = 'acme.test', versions = { 'v1' },\n"
        "    accept = function(link, reject) if link.spec.to == '%s' then reject({}, 'no') end end "
        "} },\n"
        "  indexes = { ['acme.to'] = { of = 'acme.Link', keys = function(link) return { { "
        "link.spec.to } } end } } }\n";
    struct bench *b = *state;
    char text[1024];
    (void)snprintf(text, sizeof text, kinds, "x");
    bench_write(b, "kinds.lua", text, "a.lua",
                "return { api = 1, rules = { ['acme.answer'] = function(mesh) return "
                "#mesh.acme.to('b') end } }\n",
                NULL);
    begin(b);
    (void)snprintf(text, sizeof text, kinds, "y");
    bench_write(b, "kinds.lua", text, NULL);
    bench_put(b, "apiVersion: acme.test/v1\nkind: Link\nmetadata: {name: one, namespace: red}\n"
                 "spec: {to: b}\n");
    assert_true(rebind(b));
    assert_non_null(strstr(served(b), "1"));
    check_like_fresh(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BENCH_TEST(test_a_cycle_that_ends),
        BENCH_TEST(test_a_chain_that_gets_shorter),
        BENCH_TEST(test_an_object_in_an_answer_that_is_taken_in_otherwise),
        BENCH_TEST(test_a_module_that_is_required_late),
        BENCH_TEST(test_an_extension_that_requires_late),
        BENCH_TEST(test_a_kind_that_requires_late),
        BENCH_TEST(test_a_name_that_was_looked_at),
        BENCH_TEST(test_a_function_that_is_made_for_the_declaration),
        BENCH_TEST(test_rules_that_keep_state_are_found_each_time),
        BENCH_TEST(test_a_header_that_fails_keeps_nothing),
        BENCH_TEST(test_a_header_rule_that_took_too_long_goes),
        BENCH_TEST(test_an_object_that_is_taken_in_again_and_changes),
    };
    return cmocka_run_group_tests(tests, NULL, bench_no_leak);
}
