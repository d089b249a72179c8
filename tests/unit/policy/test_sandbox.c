/* Each test tries to break one guard. */
#include "policy/engine_util.h"

#include "base/log.h"

#include <fcntl.h>

/* The answer of a rule with this body, or its error. */
static const char *eval(struct bench *b, const char *body)
{
    struct osm_buf text = OSM_BUF_INIT(1 << 20);
    assert_int_equal(
        osm_buf_addf(&text, "return { api = 1, rules = { f = function(mesh)\n%s\nend } }", body),
        0);
    osm_engine_free(b->engine);
    b->engine = NULL;
    bench_load_text(b, text.data);
    osm_buf_clear(&text);
    return bench_ask(b, "f", "[]");
}

static void test_what_is_not_chosen_is_not_there(void **state)
{
    static const char *const names[] = {
        "io",       "os",        "debug",        "package",        "load",
        "loadfile", "dofile",    "loadstring",   "collectgarbage", "rawset",
        "rawget",   "rawequal",  "getmetatable", "rawlen",         "next",
        "xpcall",   "coroutine", "_G",           "warn",           "_VERSION"};
    char body[128], expected[128];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        (void)snprintf(body, sizeof body, "return %s", names[i]);
        (void)snprintf(expected, sizeof expected, "m.lua:2: there is no global \"%s\" here",
                       names[i]);
        assert_string_equal(eval(*state, body), expected);
    }
    assert_string_equal(
        eval(
            *state,
            "return { string.dump == nil, string.pack == nil, math.random == nil, math.randomseed "
            "== nil,\n"
            "string.unpack == nil, string.packsize == nil, utf8.codes == nil, table.pack == nil }"),
        "[true,true,true,true,true,true,true,true]");
}

static void test_globals_cannot_be_written(void **state)
{
    assert_string_equal(
        eval(*state, "counter = 1"),
        "m.lua:2: writes the global \"counter\"; modules have no globals: use local");
    assert_string_equal(eval(*state, "print = nil"),
                        "m.lua:2: writes the global \"print\"; modules have no globals: use local");
}

static void test_libraries_cannot_be_changed(void **state)
{
    assert_string_equal(eval(*state, "string.format = 1"), "m.lua:2: string is read-only");
    assert_string_equal(eval(*state, "require('mesh.id').fqdn = 1"),
                        "m.lua:2: mesh.id is read-only");
    assert_string_equal(eval(*state, "mesh.settings = nil"), "m.lua:2: mesh is read-only");
    assert_string_equal(eval(*state, "setmetatable(string, {})"),
                        "m.lua:2: cannot change a protected metatable");
}

static void test_string_methods_are_the_guarded_ones(void **state)
{
    assert_string_equal(eval(*state, "return ('x'):rep(1 << 40)"),
                        "m.lua:2: string.rep: more than 4 MiB");
    assert_string_equal(eval(*state, "return ('x'):dump()"),
                        "m.lua:2: attempt to call a nil value (method 'dump')");
    assert_string_equal(eval(*state, "return '10' + 1"),
                        "m.lua:2: attempt to perform arithmetic on a string value (constant '10')");
}

static void test_an_endless_loop_ends(void **state)
{
    assert_string_equal(eval(*state, "while true do end"),
                        "over its budget of 5000000 instructions; an endless loop?");
}

static void test_an_endless_loop_inside_pcall_ends(void **state)
{
    assert_string_equal(eval(*state, "while true do pcall(function() while true do end end) end"),
                        "over its budget of 5000000 instructions; an endless loop?");
    assert_string_equal(
        eval(*state, "local function again() pcall(again) return again() end return again()"),
        "over its budget of 5000000 instructions; an endless loop?");
}

static void test_an_endless_loop_when_closing_ends(void **state)
{
    assert_string_equal(
        eval(*state,
             "local x <close> = setmetatable({}, { __close = function() while true do end end })\n"
             "while true do end"),
        "over its budget of 5000000 instructions; an endless loop?");
}

static void test_endless_work_in_c_ends(void **state)
{
    static const char *const bodies[] = {
        "local s = ('x'):rep(500) while true do local t = s:find('.-b') end",
        "local t = {} for i = 1, 20000 do t[i] = i end while true do table.insert(t, 1, 1) "
        "table.remove(t, 1) end",
        "local t = {} for i = 1, 20000 do t[i] = i end while true do table.sort(t) end",
        "local t = {} for i = 1, 20000 do t[i] = i end while true do for _ in pairs(t) do break "
        "end end",
        "local t = {} for i = 1, 20000 do t[i] = 'x' end while true do local s = table.concat(t) "
        "end",
    };
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++)
        assert_string_equal(eval(*state, bodies[i]),
                            "over its budget of 5000000 instructions; an endless loop?");
}

static void test_a_huge_repetition_of_nothing_is_refused(void **state)
{
    assert_string_equal(eval(*state, "return string.rep('', 1 << 60)"),
                        "m.lua:2: string.rep: more than 4 MiB");
}

static void test_a_huge_range_is_refused(void **state)
{
    static const char *const bodies[] = {
        "return table.concat({}, '', 1, 1 << 60)",
        "return table.unpack({}, 1, 1 << 60)",
        "return table.move({}, 1, 1 << 60, 2)",
        "return table.concat(setmetatable({}, { __index = type }), '', 1, 1 << 60)",
        "return table.unpack({}, math.mininteger, math.maxinteger)",
    };
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++)
        assert_string_equal(eval(*state, bodies[i]),
                            "m.lua:2: a range of more than 1,000,000 places");
}

static void test_a_dear_pattern_is_refused(void **state)
{
    assert_string_equal(eval(*state, "return ('x'):rep(512):find('.-.-.-b')"),
                        "m.lua:2: string.find: a pattern this long, with so many * + - ?, is too "
                        "dear for a text of 512 bytes; "
                        "mesh.str has linear functions");
    assert_string_equal(eval(*state, "return (('x'):rep(512):gsub('.-.-b', ''))"),
                        "m.lua:2: string.gsub: a pattern this long, with so many * + - ?, is too "
                        "dear for a text of 512 bytes; "
                        "mesh.str has linear functions");
    assert_string_equal(eval(*state, "return ('a.b'):find('.', 1, true)"), "2");
    assert_string_equal(eval(*state, "return ('x--'):rep(50):find('%-%-', 1)"), "2");
}

static void test_metatables_have_no_hooks_of_the_collector(void **state)
{
    static const char *const names[] = {"__gc", "__mode", "__len", "__pairs"};
    char body[128], expected[128];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        (void)snprintf(body, sizeof body, "return setmetatable({}, { %s = print })", names[i]);
        (void)snprintf(expected, sizeof expected, "m.lua:2: setmetatable: %s is not possible here",
                       names[i]);
        assert_string_equal(eval(*state, body), expected);
    }
    /* What is written into the metatable afterwards has no effect. */
    assert_string_equal(eval(*state, "local mt = {} local t = setmetatable({}, mt) mt.__len = "
                                     "function() return 1 << 60 end\n"
                                     "return table.concat(t) .. #t"),
                        "\"0\"");
    assert_string_equal(eval(*state, "local mt = { __index = { a = 1 } } mt.__index.b = 2\n"
                                     "local t = setmetatable({}, mt) return t.a + t.b"),
                        "3");
}

static void test_addresses_cannot_be_seen(void **state)
{
    assert_string_equal(eval(*state, "return tostring({})"),
                        "m.lua:2: tostring: a table has no text that is the same in every run");
    assert_string_equal(eval(*state, "return tostring(print)"),
                        "m.lua:2: tostring: a function has no text that is the same in every run");
    assert_string_equal(eval(*state, "return ('%s'):format({})"),
                        "m.lua:2: string.format: argument 2 is a table, which has no text that is "
                        "the same in every run");
    assert_string_equal(eval(*state, "return ('%5p'):format('x')"),
                        "m.lua:2: string.format: %p is an address, which differs in every run");
    assert_string_equal(eval(*state, "return ('%d %s %%'):format(1, 'a')"), "\"1 a %\"");
    assert_string_equal(
        eval(*state, "local t = { [{}] = 1 } for k in pairs(t) do return 1 end"),
        "m.lua:2: pairs: a key is a table, which has no order that is the same in every run");
}

static void test_pairs_is_sorted(void **state)
{
    assert_string_equal(
        eval(*state,
             "local r, t = {}, { b = 1, a = 1, [3] = 1, [1] = 1, [2.5] = 1, [true] = 1, c = 1 }\n"
             "for k in pairs(t) do r[#r + 1] = k end return r"),
        "[1,2.5,3,\"a\",\"b\",\"c\",true]");
    assert_string_equal(eval(*state,
                             "local r, t = {}, { a = 1, b = 2, c = 3 }\n"
                             "for k, v in pairs(t) do t.b = nil r[#r + 1] = k .. v end return r"),
                        "[\"a1\",\"c3\"]");
    assert_string_equal(eval(*state, "for k in pairs({}) do return k end return 'none'"),
                        "\"none\"");
}

static void test_sort_is_stable_and_survives_a_bad_comparator(void **state)
{
    assert_string_equal(eval(*state, "local t = {} for i = 1, 40 do t[i] = { i % 3, i } end\n"
                                     "table.sort(t, function(a, b) return a[1] < b[1] end)\n"
                                     "local r = {} for i = 1, 16 do r[i] = t[i][2] end return r"),
                        "[3,6,9,12,15,18,21,24,27,30,33,36,39,1,4,7]");
    assert_string_equal(
        eval(*state, "local t = { 3, 1, 2 } table.sort(t, function() return true end) return #t"),
        "3");
    assert_string_equal(eval(*state, "local t = { 5, 4, 3, 2, 1 } table.sort(t, function(a, b) "
                                     "t[1] = nil return a < b end) return t"),
                        "[1,2,3,4,5]");
    assert_string_equal(eval(*state, "local t = { 3, 'a' } table.sort(t)"),
                        "attempt to compare string with number");
}

static void test_deep_recursion_ends(void **state)
{
    assert_non_null(
        strstr(eval(*state, "local function f() return 1 + f() end return f()"), "stack overflow"));
    assert_string_equal(
        eval(*state, "local t = {} for i = 1, 100 do t = { t } end return t"),
        "m.lua:1: the "
        "answer[1][1][1][1][1][1][1][1][1][1][1][1][1][1][1][1][1][1][1][1][1][1][1][1][1][1][1][1]"
        "[1][1][1][1]: is deeper than 32 tables, or holds itself" +
            9);
}

static void test_memory_is_capped_and_the_engine_is_lost(void **state)
{
    struct bench *b = *state;
    struct osm_err err = {0};
    json_t *answer = NULL, *keys = json_array();
    bench_write(b, "m.lua",
                "return { api = 1, rules = {\n"
                "f = function(mesh) for i = 1, 20 do pcall(mesh.g, i) end return 'swallowed' end,\n"
                "g = function(mesh, i) return ('x'):rep(1000000) .. i end } }",
                NULL);
    struct osm_engine_config config = bench_config(b->dir);
    config.memory_max_bytes = 8 << 20;
    assert_int_equal(osm_engine_new(&b->engine, &config, &err), 0);
    assert_int_equal(osm_engine_ask(b->engine, "f", keys, &answer, &err), OSM_ELUA);
    assert_string_equal(
        err.msg, "the policies need more than 8388608 bytes of memory; --policy-memory gives more");
    assert_int_equal(osm_engine_ask(b->engine, "f", keys, &answer, &err), OSM_ELUA);
    json_decref(keys);
}

static void test_bytecode_is_refused(void **state)
{
    struct bench *b = *state;
    bench_write(b, "m.lua", "\033Lua\x54", NULL);
    bench_refuse(b, "m.lua:1: attempt to load a binary chunk (mode is 't')");
}

static void test_an_endless_module_does_not_load(void **state)
{
    struct bench *b = *state;
    bench_write(b, "m.lua", "while true do end", NULL);
    bench_refuse(b, "m.lua:1: over its budget of 5000000 instructions; an endless loop?");
}

static void test_an_error_that_is_no_text_is_contained(void **state)
{
    assert_string_equal(eval(*state, "error({})"), "error() with a table instead of a text");
    assert_string_equal(eval(*state, "error()"), "error() with a nil instead of a text");
    assert_string_equal(eval(*state, "local ok, e = pcall(error, { code = 7 }) return e.code"),
                        "7");
}

static void test_callees_have_budgets_of_their_own(void **state)
{
    struct bench *b = *state;
    bench_load_text(
        b, "local function work() local n = 0 for i = 1, 1500000 do n = n + 1 end return n end\n"
           "return { api = 1, rules = {\n"
           "  leaf = function(mesh, i) return work() end,\n"
           "  f = function(mesh) local n = 0 for i = 1, 8 do n = n + mesh.leaf(i) end return n end "
           "} }");
    assert_string_equal(bench_ask(b, "f", "[]"), "12000000");
}

static void test_print_goes_to_the_log(void **state)
{
    int fds[2];
    char text[2048] = "";
    assert_int_equal(pipe(fds), 0);
    osm_log_set_fd(fds[1]);
    (void)eval(*state, "print('hello', 1, {}, true)");
    osm_log_set_fd(2);
    close(fds[1]);
    ssize_t n = read(fds[0], text, sizeof text - 1);
    close(fds[0]);
    assert_true(n > 0);
    assert_non_null(strstr(text, "\"text\":\"hello 1 table true\""));
    assert_non_null(strstr(text, "m.lua:2"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BENCH_TEST(test_what_is_not_chosen_is_not_there),
        BENCH_TEST(test_globals_cannot_be_written),
        BENCH_TEST(test_libraries_cannot_be_changed),
        BENCH_TEST(test_string_methods_are_the_guarded_ones),
        BENCH_TEST(test_an_endless_loop_ends),
        BENCH_TEST(test_an_endless_loop_inside_pcall_ends),
        BENCH_TEST(test_an_endless_loop_when_closing_ends),
        BENCH_TEST(test_endless_work_in_c_ends),
        BENCH_TEST(test_a_huge_repetition_of_nothing_is_refused),
        BENCH_TEST(test_a_huge_range_is_refused),
        BENCH_TEST(test_a_dear_pattern_is_refused),
        BENCH_TEST(test_metatables_have_no_hooks_of_the_collector),
        BENCH_TEST(test_addresses_cannot_be_seen),
        BENCH_TEST(test_pairs_is_sorted),
        BENCH_TEST(test_sort_is_stable_and_survives_a_bad_comparator),
        BENCH_TEST(test_deep_recursion_ends),
        BENCH_TEST(test_memory_is_capped_and_the_engine_is_lost),
        BENCH_TEST(test_bytecode_is_refused),
        BENCH_TEST(test_an_endless_module_does_not_load),
        BENCH_TEST(test_an_error_that_is_no_text_is_contained),
        BENCH_TEST(test_callees_have_budgets_of_their_own),
        BENCH_TEST(test_print_goes_to_the_log),
    };
    return cmocka_run_group_tests(tests, NULL, bench_no_leak);
}
