/* Lines of Lua on a throw-away copy: what they see, what they keep, what stops them. */
#include "engine_util.h"

#include "policy/console.h"
#include "policy/console/locals.h"

static const char BUNDLE[] =
    "local M = { api = 1 }\n"
    "M.kinds = { Service = { group = \"\", versions = { \"v1\" } } }\n"
    "M.indexes = { by_app = { of = \"Service\", keys = function(s)\n"
    "  return { { s.metadata.namespace, s.spec.app } } end } }\n"
    "M.rules = {}\n"
    "function M.rules.names(mesh, ns, app)\n"
    "  local out = {}\n"
    "  for _, s in ipairs(mesh.by_app(ns, app)) do out[#out + 1] = s.metadata.name end\n"
    "  return out\n"
    "end\n"
    "function M.rules.count(mesh, ns, app) return #mesh.names(ns, app) + #mesh.names(ns, app) end\n"
    "function M.rules.bad(mesh) error(\"no good\") end\n"
    "function M.rules.endless(mesh) while true do end end\n"
    "return M\n";

#define SERVICE(ns, name, app)                                                                     \
    "---\napiVersion: v1\nkind: Service\nmetadata: {namespace: " ns ", name: " name                \
    "}\nspec: {app: " app "}\n"

static void update(struct bench *b)
{
    struct osm_err err = {0};
    struct osm_changes none = {NULL, 0}, *changes = osm_store_reader_take(b->reader);
    if (osm_console_update(b->engine, changes ? changes : &none, &err))
        fail_msg("%s", err.msg);
    osm_changes_free(changes);
}

static void open_console(struct bench *b)
{
    struct osm_err err = {0};
    bench_load_text(b, BUNDLE);
    bench_put(b, NAMESPACE("a") SERVICE("a", "one", "x") SERVICE("a", "two", "x"));
    if (osm_console_open(b->engine, &(struct osm_console_limits){0}, &err))
        fail_msg("%s", err.msg);
    update(b);
}

/* What the line says; an error as its text, "..." where it goes on. Static buffer. */
static const char *eval(struct bench *b, const char *line)
{
    static char text[64 * 1024];
    struct osm_err err = {0};
    json_t *out = NULL;
    if (osm_console_eval(b->engine, line, &out, &err))
        (void)snprintf(text, sizeof text, "%s", err.msg);
    else if (json_is_true(json_object_get(out, "incomplete")))
        (void)snprintf(text, sizeof text, "...");
    else
        (void)snprintf(text, sizeof text, "%s", json_string_value(json_object_get(out, "text")));
    json_decref(out);
    return text;
}

static void expect(struct bench *b, const char *line, const char *text)
{
    assert_string_equal(eval(b, line), text);
}

static void test_expressions_and_statements(void **state)
{
    struct bench *b = *state;
    open_console(b);
    expect(b, "1 + 1", "2\n");
    expect(b, "1, 'a', nil, 2.0, true", "1\n\"a\"\nnil\n2.0\ntrue\n");
    expect(b, "mesh.names('a', 'x')", "{ \"one\", \"two\" }\n");
    expect(b, "mesh.names('a', 'x')[1]  -- the first", "\"one\"\n");
    expect(b, "for i = 1, 3 do print(i, {i}) end", "1 { 1 }\n2 { 2 }\n3 { 3 }\n");
    expect(b, "return 5", "5\n");
    expect(b, "", "");
    expect(b, "-- nothing", "");
}

static void test_lines_share_what_they_declare(void **state)
{
    struct bench *b = *state;
    open_console(b);
    expect(b, "local x = 5", "");
    expect(b, "local function f() return x end", "");
    expect(b, "x = x + 1", "");
    expect(b, "f()", "6\n"); /* one variable, not a copy */
    expect(b, "local a, b = 1, 2; local c", "");
    expect(b, "a, b, c", "1\n2\nnil\n");
    expect(b, "do local inner = 1 end", "");
    expect(b, "inner, outer, type", "nil\nnil\n(a function)\n");
}

static void test_errors_say_where(void **state)
{
    struct bench *b = *state;
    open_console(b);
    expect(b, "mesh.name('a')", "console:1: mesh.name: nobody declares it; do you mean names?");
    expect(b, "mesh.bad()", "m.lua:12: no good");
    expect(b, "local y = 1\nerror('here')", "console:2: here");
    expect(b, "1 +* 2", "console:1: unexpected symbol near '1'");
    expect(b, "mesh.names('a', 'x').y.z", "console:1: attempt to index a nil value (field 'y')");
    expect(b, "1", "1\n");
}

static void test_what_ends_too_early_goes_on(void **state)
{
    struct bench *b = *state;
    static const char *const open[] = {"f(",           "if true then", "x = {", "return 1 +",
                                       "for i = 1, 2", "x = [[",       "x ="};
    open_console(b);
    for (size_t i = 0; i < sizeof open / sizeof *open; i++)
        expect(b, open[i], "...");
    expect(b, "if true then\nprint(1)\nend", "1\n");
    expect(b, "x = 'open", "..."); /* as Lua's own prompt has it */
    expect(b, "x = 'open\n'", "console:1: unfinished string near ''open'");
}

/* What nobody outside sees stays inside: neither the memo nor the objects of others change. */
static void test_the_copy_follows_the_objects(void **state)
{
    struct bench *b = *state;
    open_console(b);
    expect(b, "local keep = mesh.count('a', 'x')", "");
    bench_put(b, SERVICE("a", "three", "x"));
    update(b);
    expect(b, "keep, mesh.count('a', 'x')", "4\n6\n");
}

static void test_long_answers_are_short_and_pp_is_whole(void **state)
{
    struct bench *b = *state;
    open_console(b);
    expect(b, "local t = {}; for i = 1, 12 do t[i] = i end", "");
    expect(b, "t", "{ 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, ... 2 more }\n");
    expect(b, "pp(t)", "{ 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12 }\n");
    expect(b, "{a = {b = {c = {d = 1}}}}", "{ a = { b = { c = {...} } } }\n");
    expect(b, "pp({a = {b = {c = {d = 1}}}})", "{ a = { b = { c = { d = 1 } } } }\n");
    expect(b, "{ [\"end\"] = 1, [\"a b\"] = 2, z = print, [3] = mesh }",
           "{ [3] = {}, [\"a b\"] = 2, [\"end\"] = 1, z = (a function) }\n");
    expect(b, "mesh.Service('a', 'one').spec", "{ app = \"x\" }\n");
    expect(b, "{ mesh.Service('a', 'one') }", "{ <Service a/one> }\n");
    expect(b, "('x'):rep(300)",
           "\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
           "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
           "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\"... "
           "(300 bytes)\n");
    expect(b, "local r = {}; r.r = r; return r", "{ r = { r = { r = {...} } } }\n");
    expect(b,
           "{ aaaaaaaaaaaaaaaaaaaa = 'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb', c = "
           "'dddddddddddddddddddddddddddddddddddddddddddd', e = {} }",
           "{\n  aaaaaaaaaaaaaaaaaaaa = \"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\",\n  c = "
           "\"dddddddddddddddddddddddddddddddddddddddddddd\",\n  e = {}\n}\n");
}

static void test_any_bytes_can_be_printed(void **state)
{
    struct bench *b = *state;
    open_console(b);
    expect(b, "print('a\\0b\\xff', 'é') return '\\1\\0\\xff'", "a?b? é\n\"\\x01\\x00?\"\n");
    static char text[64 * 1024];
    (void)snprintf(text, sizeof text, "%s", eval(b, "pp(('x'):rep(60000))"));
    assert_int_equal(strlen(text), 60003);
}

static void test_the_first_answer_is_json_too(void **state)
{
    struct bench *b = *state;
    struct osm_err err = {0};
    json_t *out = NULL;
    open_console(b);
    assert_int_equal(osm_console_eval(b->engine, "{ a = { 1, 'x' } }, 2", &out, &err), 0);
    char *text = json_dumps(json_object_get(out, "value"), JSON_COMPACT);
    assert_string_equal(text, "{\"a\":[1,\"x\"]}");
    free(text);
    json_decref(out);
    assert_int_equal(osm_console_eval(b->engine, "print", &out, &err), 0);
    assert_true(json_is_null(json_object_get(out, "value")));
    json_decref(out);
    json_t *keys = json_pack("[s, s]", "a", "x");
    assert_int_equal(osm_console_ask(b->engine, "names", keys, &out, &err), 0);
    text = json_dumps(out, JSON_COMPACT);
    assert_string_equal(
        text, "{\"text\":\"{ \\\"one\\\", \\\"two\\\" }\\n\",\"value\":[\"one\",\"two\"]}");
    free(text);
    json_decref(out);
    assert_int_equal(osm_console_ask(b->engine, "name", keys, &out, &err), OSM_ENOENT);
    json_decref(keys);
    keys = json_object();
    assert_int_equal(osm_console_ask(b->engine, "Service", keys, &out, &err), OSM_EINVAL);
    json_decref(keys);
}

/* --- trying a rule --- */

static void test_a_rule_can_be_tried_in_another_form(void **state)
{
    struct bench *b = *state;
    open_console(b);
    expect(b, "mesh.count('a', 'x')", "4\n");
    expect(b,
           "local old = override('names', function(mesh, ns, app)\n"
           "  local out = old(mesh, ns, app)\n  out[#out + 1] = 'more'\n  return out\nend)",
           "");
    expect(b, "mesh.count('a', 'x')", "6\n"); /* who reads it is asked again, too */
    bench_put(b, SERVICE("a", "three", "x"));
    update(b);
    expect(b, "mesh.names('a', 'x')", "{ \"one\", \"three\", \"two\", \"more\" }\n");
    expect(b, "override('names', old)", "(a function)\n");
    expect(b, "mesh.count('a', 'x')", "6\n");
    expect(b, "override('name', old)",
           "console:1: mesh.name: nobody declares it; do you mean names?");
    expect(b, "override('Service', old)", "console:1: override: Service is no rule");
    expect(b, "override('names')",
           "console:1: bad argument #2 to 'override' (function expected, got no value)");
}

static const char EMITTING[] =
    "local M = { api = 1 }\n"
    "M.rules = { all = function() return { { \"one\" } } end,\n"
    "  timeout = function(mesh, name) return 1 end }\n"
    "M.emit = { clusters = { each = \"all\", run = function(mesh, out, name)\n"
    "  out.cluster { name = name, audience = \"everyone\", message = { type = \"STATIC\",\n"
    "    connect_timeout = mesh.timeout(name) .. \"s\" } }\n"
    "end } }\n"
    "return M\n";

#define UUID "11111111-1111-4111-8111-111111111111"
#define POD                                                                                        \
    NAMESPACE("a")                                                                                 \
    "---\napiVersion: v1\nkind: Pod\nmetadata: {namespace: a, name: p, labels: "                   \
    "{osm-proxy-uuid: " UUID                                                                       \
    "}}\nspec: {serviceAccountName: s}\nstatus: {phase: Running, podIP: 10.0.0.1}\n"

static void expect_timeout(struct bench *b, const char *timeout)
{
    struct osm_err err = {0};
    struct osm_snapshot *s = NULL;
    char wanted[64];
    if (osm_console_run(b->engine, &s, &err))
        fail_msg("%s", err.msg);
    osm_snapshot_unref(b->snapshot);
    b->snapshot = s;
    assert_int_equal(s->proxies_len, 1);
    assert_int_equal(json_array_size(s->errors), 0);
    const struct osm_resource *r = osm_class_find(s->proxies[0].cls, OSM_XDS_CDS, "one");
    json_t *decoded = NULL;
    assert_int_equal(osm_proto_decode(osm_proto_find(osm_xds_type_message(OSM_XDS_CDS)),
                                      osm_bytes_data(r->body), osm_bytes_len(r->body), &decoded,
                                      &err),
                     0);
    (void)snprintf(wanted, sizeof wanted, "%s", timeout);
    assert_string_equal(json_string_value(json_object_get(decoded, "connect_timeout")), wanted);
    json_decref(decoded);
}

/* What would be served can be made at any time, and lines go on after that. */
static void test_what_would_be_served_is_made_when_asked_for(void **state)
{
    struct bench *b = *state;
    struct osm_err err = {0};
    json_t *out = NULL;
    bench_load_text(b, EMITTING);
    bench_put(b, POD);
    assert_int_equal(osm_console_open(b->engine, &(struct osm_console_limits){0}, &err), 0);
    update(b);
    expect(b, "local x = 5", "");
    expect_timeout(b, "1s");
    expect(b, "local old = override('timeout', function() return x end)", "");
    expect_timeout(b, "5s");
    expect(b, "x = 6; override('timeout', function() return x end)", "");
    expect_timeout(b, "6s");
    expect(b, "override('timeout', old)", "(a function)\n");
    expect_timeout(b, "1s");
    assert_int_equal(osm_console_eval(b->engine, "diff()", &out, &err), 0);
    assert_true(json_is_true(json_object_get(out, "diff")));
    json_decref(out);
    assert_int_equal(osm_console_eval(b->engine, "1", &out, &err), 0);
    assert_null(json_object_get(out, "diff"));
    json_decref(out);
}

/* --- limits --- */

static void test_a_line_that_takes_too_long_is_stopped(void **state)
{
    struct bench *b = *state;
    struct osm_err err = {0};
    json_t *out = NULL;
    open_console(b);
    bench_time_step_ms = 1; /* the clock is looked at every 100 instructions */
    assert_int_equal(osm_console_eval(b->engine, "while true do pcall(error) end", &out, &err),
                     OSM_ELIMIT);
    bench_time_step_ms = 0;
    assert_string_equal(err.msg, "stopped after 1000 ms; a console's line may take no longer. What "
                                 "its lines have defined is gone");
}

static void test_an_endless_rule_is_its_own_error(void **state)
{
    struct bench *b = *state;
    open_console(b);
    expect(b, "mesh.endless()", "over its budget of 5000000 instructions; an endless loop?");
    expect(b, "1", "1\n");
}

static void test_memory_has_a_limit(void **state)
{
    struct bench *b = *state;
    struct osm_err err = {0};
    json_t *out = NULL;
    open_console(b);
    expect(b, "local keep = {}", "");
    /* Lines that each keep a little: all of them together are within the limit. */
    int rc = 0, lines = 0;
    for (; !rc && lines < 100; lines++) {
        rc = osm_console_eval(b->engine, "keep[#keep + 1] = ('x'):rep(1000000)", &out, &err);
        if (!rc)
            json_decref(out);
    }
    assert_int_equal(rc, OSM_ELIMIT);
    assert_in_range(lines, 10, 18);
    assert_non_null(strstr(err.msg, "more than 16 MiB beyond the copy"));
}

/* --- trace --- */

static json_t *trace(struct bench *b, const char *name, const char *app)
{
    struct osm_err err = {0};
    json_t *out = NULL, *keys = json_pack("[s, s]", "a", app);
    if (osm_console_trace(b->engine, name, keys, &out, &err))
        fail_msg("%s", err.msg);
    json_decref(keys);
    return out;
}

/* "name:how[reads ...]" of a node and what is below. */
static void outline(const json_t *node, struct osm_buf *out)
{
    size_t i;
    json_t *read;
    (void)osm_buf_addf(out, "%s:%s", json_string_value(json_object_get(node, "name")),
                       json_string_value(json_object_get(node, "how")));
    if (json_object_get(node, "times"))
        (void)osm_buf_addf(out, " x%d", (int)json_integer_value(json_object_get(node, "times")));
    assert_true(json_integer_value(json_object_get(node, "own_us")) <=
                json_integer_value(json_object_get(node, "us")));
    json_array_foreach (json_object_get(node, "reads"), i, read) {
        (void)osm_buf_add_str(out, i ? ", " : " [");
        outline(read, out);
    }
    (void)osm_buf_add_str(out, i ? "]" : "");
}

static void expect_trace(struct bench *b, const char *name, const char *app, const char *tree,
                         const char *answer)
{
    struct osm_buf out = OSM_BUF_INIT(64 * 1024);
    json_t *t = trace(b, name, app);
    outline(json_object_get(t, "run"), &out);
    assert_string_equal(out.data, tree);
    const json_t *said = json_object_get(t, "answer");
    assert_string_equal(json_string_value(json_object_get(said, "text")), answer);
    osm_buf_clear(&out);
    json_decref(t);
}

static void test_a_trace_shows_reads_and_memo_hits(void **state)
{
    struct bench *b = *state;
    open_console(b);
    expect_trace(b, "count", "x",
                 "rule count(a, x):ran [rule names(a, x):ran [index by_app(a, x):read], "
                 "rule names(a, x):memo]",
                 "4\n");
    expect_trace(b, "count", "x", "rule count(a, x):ran [rule names(a, x):memo x2]", "4\n");
    bench_put(b, SERVICE("a", "other", "y"));
    update(b);
    expect_trace(b, "count", "x", "rule count(a, x):ran [rule names(a, x):memo x2]", "4\n");
    bench_put(b, SERVICE("a", "three", "x"));
    update(b);
    expect_trace(b, "count", "x",
                 "rule count(a, x):ran [rule names(a, x):ran [index by_app(a, x):read x2], "
                 "rule names(a, x):memo]",
                 "6\n");
}

static void test_a_trace_shows_errors(void **state)
{
    struct bench *b = *state;
    struct osm_err err = {0};
    json_t *out = NULL;
    open_console(b);
    assert_int_equal(osm_console_trace(b->engine, "bad", NULL, &out, &err), 0);
    assert_string_equal(json_string_value(json_object_get(out, "error")), "m.lua:12: no good");
    assert_true(json_is_null(json_object_get(out, "answer")));
    const json_t *run = json_object_get(out, "run");
    assert_string_equal(json_string_value(json_object_get(run, "error")), "m.lua:12: no good");
    json_decref(out);
    assert_int_equal(osm_console_trace(b->engine, "nothing", NULL, &out, &err), OSM_ENOENT);
}

/* --- locals --- */

static void test_outer_locals_are_shared(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"local x = 1", "      x = 1"},
        {"local x", "      x = nil"},
        {"local x, y; local z=2", "      x, y = nil;       z=2"},
        {"local function f() local y = 1 end", "      function f() local y = 1 end"},
        {"do local x = 1 end local y", "do local x = 1 end       y = nil"},
        {"for i = 1, 2 do local x end", "for i = 1, 2 do local x end"},
        {"while a do local x end repeat local y until y local z = 1",
         "while a do local x end repeat local y until y       z = 1"},
        {"if a then local x elseif b then local y else local z end local w = 1",
         "if a then local x elseif b then local y else local z end       w = 1"},
        {"local x <const> = 1", "local x <const> = 1"},
        {"local x <close>, y = 1, 2", "local x <close>, y = 1, 2"},
        {"a.local_ = 1 -- local x", "a.local_ = 1 -- local x"},
        {"s = 'local x' local y = [[\nlocal z]]", "s = 'local x'       y = [[\nlocal z]]"},
        {"local t = { f = function() local x end }", "      t = { f = function() local x end }"},
        {"local -- why\n  x", "      -- why\n  x = nil"},
        {"local", "local"},
        {"local 5", "      5 = nil"},
        {"a['end'] = 1 local x = t['end']", "a['end'] = 1       x = t['end']"},
        {"::out:: local x = 1 goto out", "::out::       x = 1 goto out"},
        {"x = a.b .. c local y = 1", "x = a.b .. c       y = 1"},
        {"", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *shared = osm_console_share_locals(cases[i][0]);
        assert_string_equal(shared, cases[i][1]);
        osm_free(shared);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BENCH_TEST(test_expressions_and_statements),
        BENCH_TEST(test_lines_share_what_they_declare),
        BENCH_TEST(test_errors_say_where),
        BENCH_TEST(test_what_ends_too_early_goes_on),
        BENCH_TEST(test_the_copy_follows_the_objects),
        BENCH_TEST(test_long_answers_are_short_and_pp_is_whole),
        BENCH_TEST(test_any_bytes_can_be_printed),
        BENCH_TEST(test_the_first_answer_is_json_too),
        BENCH_TEST(test_a_rule_can_be_tried_in_another_form),
        BENCH_TEST(test_what_would_be_served_is_made_when_asked_for),
        BENCH_TEST(test_a_line_that_takes_too_long_is_stopped),
        BENCH_TEST(test_an_endless_rule_is_its_own_error),
        BENCH_TEST(test_memory_has_a_limit),
        BENCH_TEST(test_a_trace_shows_reads_and_memo_hits),
        BENCH_TEST(test_a_trace_shows_errors),
        cmocka_unit_test(test_outer_locals_are_shared),
    };
    return cmocka_run_group_tests(tests, NULL, bench_no_leak);
}
