#include "policy/engine_util.h"

/* Rules that a test steers by objects of the kind Cfg; each emits what it answers as a cluster's
 * alt_stat_name. */
#define HEAD                                                                                       \
    "local M = { api = 1, kinds = { Cfg = { group = 'test.mesh', versions = { 'v1' } } },\n"       \
    "  indexes = { cfgs_by = { of = 'Cfg', keys = function(c) return { c.spec.label or 'none' } "  \
    "end } }, rules = {}, emit = {} }\n"                                                           \
    "local function cfg(mesh, name) local c = mesh.Cfg('a', name) return c and c.spec or {} end\n" \
    "local function say(out, name, text) out.cluster({ name = name, audience = 'everyone',\n"      \
    "  message = { connect_timeout = '1s', alt_stat_name = text, type = 'STATIC' } }) end\n"       \
    "M.rules.one = function() return { 'x' } end\n"                                                \
    "local R, E = M.rules, M.emit\n"
#define TAIL "return M\n"

#define UUID "11111111-1111-4111-8111-111111111111"

static void start(struct bench *b, const char *rules)
{
    struct osm_buf text = OSM_BUF_INIT(1 << 20);
    assert_int_equal(osm_buf_addf(&text, "%s%s%s", HEAD, rules, TAIL), 0);
    bench_load_text(b, text.data);
    osm_buf_clear(&text);
    bench_apply(b, NAMESPACE("a") "---\napiVersion: v1\nkind: Pod\n"
                                  "metadata: {name: p, namespace: a, labels: {osm-proxy-uuid: " UUID
                                  "}}\n"
                                  "spec: {serviceAccountName: s, containers: [{name: c}]}\nstatus: "
                                  "{phase: Running, podIP: 10.0.0.1}\n");
}

/* Sets Cfg a/name. */
static void set(struct bench *b, const char *name, const char *spec)
{
    char yaml[512];
    (void)snprintf(
        yaml, sizeof yaml,
        "apiVersion: test.mesh/v1\nkind: Cfg\nmetadata: {name: %s, namespace: a}\nspec: %s\n", name,
        spec);
    bench_apply(b, yaml);
}

static const char *said(struct bench *b, const char *name)
{
    static char text[256];
    const char *resource = bench_resource(b, UUID, OSM_XDS_CDS, name),
               *at = resource ? strstr(resource, "alt_stat_name\":\"") : NULL;
    if (!at)
        return resource ? "" : NULL;
    (void)snprintf(text, sizeof text, "%.*s", (int)strcspn(at + 16, "\""), at + 16);
    return text;
}

static const char *error_at(struct bench *b, size_t i, const char *field)
{
    return bench_entry(b->snapshot->errors, i, field);
}

static void test_an_equal_answer_stops_the_change(void **state)
{
    struct bench *b = *state;
    start(b, "R.big = function(mesh) return (cfg(mesh, 'x').n or 0) > 10 end\n"
             "E.e = { each = 'one', run = function(mesh, out, k) say(out, k, mesh.big() and 'big' "
             "or 'small') end }\n");
    assert_string_equal(said(b, "x"), "small");
    set(b, "x", "{n: 5}");
    assert_false(b->fresh);
    set(b, "x", "{n: 11}");
    assert_string_equal(said(b, "x"), "big");
    assert_int_equal(bench_figure(b, "rules_run"), 2);
}

static void test_a_read_inside_pcall_is_a_read(void **state)
{
    struct bench *b = *state;
    start(b, "R.risky = function(mesh) local c = cfg(mesh, 'x') if c.bad then error('no') end "
             "return c.text or 'fine' end\n"
             "E.e = { each = 'one', run = function(mesh, out, k) local ok, r = pcall(mesh.risky)\n"
             "  say(out, k, ok and r or 'caught ' .. r) end }\n");
    assert_string_equal(said(b, "x"), "fine");
    set(b, "x", "{bad: true}");
    assert_string_equal(said(b, "x"), "caught m.lua:8: no");
    assert_int_equal(json_array_size(b->snapshot->errors), 1);
    assert_string_equal(error_at(b, 0, "where"), "rule risky()");
    set(b, "x", "{text: good}");
    assert_string_equal(said(b, "x"), "good");
    assert_int_equal(json_array_size(b->snapshot->errors), 0);
}

static void test_an_error_is_told_where_it_arose_and_only_there(void **state)
{
    struct bench *b = *state;
    start(b,
          "R.a = function(mesh) return mesh.b() end\nR.b = function(mesh) return mesh.c('k') end\n"
          "R.c = function(mesh, k)\n  local nothing = cfg(mesh, 'x').nothing\n  return "
          "nothing.at.all end\n"
          "E.e = { each = 'one', run = function(mesh, out, k) say(out, k, mesh.a()) end }\n");
    assert_int_equal(json_array_size(b->snapshot->errors), 1);
    assert_string_equal(error_at(b, 0, "where"), "rule c(k)");
    assert_string_equal(error_at(b, 0, "message"),
                        "m.lua:12: attempt to index a nil value (local 'nothing')");
    assert_int_equal(
        json_integer_value(json_object_get(json_array_get(b->snapshot->errors, 0), "line")), 12);
    assert_null(said(b, "x"));
}

static void test_an_item_in_error_keeps_its_last_bytes(void **state)
{
    struct bench *b = *state;
    start(b, "E.e = { each = 'one', run = function(mesh, out, k) say(out, k, cfg(mesh, 'x').text "
             "or error('gone')) end }\n");
    set(b, "x", "{text: first}");
    assert_string_equal(said(b, "x"), "first");
    bench_delete(b, "test.mesh/Cfg/a/x");
    assert_string_equal(said(b, "x"), "first");
    assert_string_equal(error_at(b, 0, "where"), "emitter m.e(x)");
    set(b, "x", "{text: second}");
    assert_string_equal(said(b, "x"), "second");
}

static void test_verification_stops_at_the_first_read_that_changed(void **state)
{
    struct bench *b = *state;
    /* guarded(k) is an error for a key that the switch no longer names; it must not be asked for
     * then. */
    start(b, "R.guarded = function(mesh, k) if cfg(mesh, 'x').to ~= k then error('asked in vain') "
             "end return k end\n"
             "R.f = function(mesh) local k = cfg(mesh, 'x').to return k and mesh.guarded(k) or "
             "'none' end\n"
             "E.e = { each = 'one', run = function(mesh, out, k) say(out, k, mesh.f()) end }\n");
    set(b, "x", "{to: left}");
    assert_string_equal(said(b, "x"), "left");
    set(b, "x", "{to: right}");
    assert_string_equal(said(b, "x"), "right");
    assert_int_equal(bench_figure(b, "rules_run"), 3); /* f, guarded(right), e: not guarded(left) */
}

static const char cycle[] =
    "R.a = function(mesh) if cfg(mesh, 'x').cut then return 'cut' end return mesh.b() end\n"
    "R.b = function(mesh) local ok, r = pcall(mesh.c) return ok and r or 'swallowed' end\n"
    "R.c = function(mesh) return mesh.a() .. (cfg(mesh, 'y').more or '') end\n"
    "R.outside = function(mesh) local ok, r = pcall(mesh.c) return ok and r or 'outside' end\n"
    "R.keys = function(mesh) return cfg(mesh, 'keys').list or { 'a', 'b', 'c', 'outside' } end\n"
    "E.e = { each = 'keys', run = function(mesh, out, k) say(out, k, mesh[k]()) end }\n";

static void test_a_cycle_is_an_error_of_its_members(void **state)
{
    struct bench *b = *state;
    start(b, cycle);
    assert_int_equal(json_array_size(b->snapshot->errors), 3);
    assert_string_equal(error_at(b, 0, "where"), "rule a()");
    assert_string_equal(error_at(b, 1, "where"), "rule b()");
    assert_string_equal(error_at(b, 2, "where"), "rule c()");
    for (size_t i = 0; i < 3; i++)
        assert_string_equal(error_at(b, i, "message"), "cycle: a() -> b() -> c() -> a()");
    assert_null(said(b, "a"));
    assert_null(said(b, "b")); /* its pcall does not swallow the cycle that it is a member of */
    assert_string_equal(said(b, "outside"), "outside");
}

static void test_a_cycle_is_mended_by_a_change_and_comes_back(void **state)
{
    struct bench *b = *state;
    start(b, cycle);
    set(b, "x", "{cut: true}");
    assert_int_equal(json_array_size(b->snapshot->errors), 0);
    assert_string_equal(said(b, "a"), "cut");
    assert_string_equal(said(b, "b"), "cut");
    set(b, "y", "{more: '!'}");
    assert_string_equal(said(b, "outside"), "cut!");
    assert_string_equal(said(b, "a"), "cut");
    bench_delete(b, "test.mesh/Cfg/a/x");
    assert_int_equal(json_array_size(b->snapshot->errors), 3);
    assert_string_equal(said(b, "outside"), "outside");
}

static void test_a_cycle_reads_alike_from_every_entry(void **state)
{
    struct bench *b = *state;
    start(b, cycle);
    set(b, "keys", "{list: [c]}");
    assert_int_equal(json_array_size(b->snapshot->errors), 3);
    for (size_t i = 0; i < 3; i++)
        assert_string_equal(error_at(b, i, "message"), "cycle: a() -> b() -> c() -> a()");
    set(b, "x", "{cut: true}");
    assert_string_equal(said(b, "c"), "cut");
}

static void test_a_cycle_that_only_shows_while_verifying(void **state)
{
    struct bench *b = *state;
    start(b, "R.p = function(mesh) return mesh.q() .. 'p' end\n"
             "R.q = function(mesh) if cfg(mesh, 'x').back then return mesh.p() end return 'q' end\n"
             "E.e = { each = 'one', run = function(mesh, out, k) say(out, k, mesh.p()) end }\n");
    assert_string_equal(said(b, "x"), "qp");
    set(b, "x", "{back: true}");
    assert_string_equal(error_at(b, 0, "message"), "cycle: p() -> q() -> p()");
    set(b, "x", "{back: false}");
    assert_int_equal(json_array_size(b->snapshot->errors), 0);
    assert_string_equal(said(b, "x"), "qp");
}

static void test_a_rule_that_asks_for_itself_is_a_cycle(void **state)
{
    struct bench *b = *state;
    start(b, "R.me = function(mesh, n) return mesh.me(n) end\n"
             "E.e = { each = 'one', run = function(mesh, out, k) say(out, k, mesh.me(1)) end }\n");
    assert_string_equal(error_at(b, 0, "message"), "cycle: me(1) -> me(1)");
}

static const char chain[] =
    "R.link = function(mesh, n) if n == 1 then return cfg(mesh, 'x').text or 'end' end\n"
    "  local ok, r = pcall(mesh.link, n - 1) if not ok then error('broken') end return r end\n"
    "R.endless = function(mesh, n) if n >= (cfg(mesh, 'x').stop or 1 << 40) then return 'stopped' "
    "end return mesh.endless(n + 1) end\n"
    "R.keys = function(mesh) return cfg(mesh, 'keys').list or {} end\n"
    "E.e = { each = 'keys', run = function(mesh, out, k) say(out, 'c' .. k, mesh.link(k)) end }\n"
    "E.f = { each = 'one', run = function(mesh, out, k) say(out, 'f', cfg(mesh, 'x').go and "
    "mesh.endless(1) or 'idle') end }\n";

static void test_the_depth_of_a_chain_is_a_property_of_the_graph(void **state)
{
    struct bench *b = *state;
    start(b, chain);
    set(b, "keys", "{list: [150]}");
    assert_string_equal(said(b, "c150"), "end");
    /* Whether the lower part is in the memo or not: 151 is one too many. */
    set(b, "keys", "{list: [150, 151]}");
    assert_string_equal(said(b, "c150"), "end");
    assert_null(said(b, "c151"));
    assert_int_equal(json_array_size(b->snapshot->errors), 1);
    assert_string_equal(error_at(b, 0, "where"), "rule link(151)");
    set(b, "keys", "{list: []}");
    set(b, "keys", "{list: [280]}");
    assert_int_equal(json_array_size(b->snapshot->errors), 1);
    assert_string_equal(error_at(b, 0, "where"), "rule link(280)");
    assert_string_equal(
        error_at(b, 0, "message"),
        "the chain of rules below is longer than 150; does it ask for ever more keys?");
    set(b, "keys", "{list: [150]}");
    assert_int_equal(json_array_size(b->snapshot->errors), 0);
}

static void test_a_chain_without_end_is_contained_and_mended(void **state)
{
    struct bench *b = *state;
    start(b, chain);
    set(b, "x", "{go: true}");
    assert_int_equal(json_array_size(b->snapshot->errors), 1);
    assert_string_equal(error_at(b, 0, "where"), "rule endless(1)");
    assert_string_equal(said(b, "f"), "idle"); /* its last bytes */
    json_int_t cells = bench_figure(b, "cells");
    for (int i = 0; i < 5; i++) {
        char spec[64];
        (void)snprintf(spec, sizeof spec, "{go: true, text: t%d}", i);
        set(b, "x", spec);
        set(b, "keys", i % 2 ? "{list: []}" : "{list: [3]}");
    }
    assert_true(bench_figure(b, "cells") <= cells + 8);
    set(b, "x", "{go: true, stop: 100}");
    assert_string_equal(said(b, "f"), "stopped");
    assert_int_equal(json_array_size(b->snapshot->errors), 0);
}

static void test_the_rejects_of_one_rule_are_bounded(void **state)
{
    struct bench *b = *state;
    start(b, "R.many = function(mesh) local c = mesh.Cfg('a', 'x') for i = 1, c and c.spec.n or 0 "
             "do mesh.reject(c, { 'spec', i }, 'r' .. i) end return 'told' end\n"
             "E.e = { each = 'one', run = function(mesh, out) say(out, 'many', mesh.many()) end "
             "}\n");
    set(b, "x", "{n: 10000}");
    assert_int_equal(json_array_size(b->snapshot->rejects), 10000);
    assert_int_equal(json_array_size(b->snapshot->errors), 0);
    set(b, "x", "{n: 10001}");
    assert_int_equal(json_array_size(b->snapshot->rejects), 10000);
    assert_int_equal(json_array_size(b->snapshot->errors), 1);
    assert_string_equal(error_at(b, 0, "where"), "rule many()");
    assert_non_null(strstr(error_at(b, 0, "message"), "mesh.reject: more than 10000 for one key"));
    set(b, "x", "{n: 1}");
    assert_int_equal(json_array_size(b->snapshot->rejects), 1);
    assert_int_equal(json_array_size(b->snapshot->errors), 0);
    assert_string_equal(said(b, "many"), "told");
}

/* The object is left out by the first of them: bad data is no error of a rule, however bad. */
static void test_the_reasons_against_one_object_are_bounded(void **state)
{
    struct bench *b = *state;
    start(b, "M.kinds.Bad = { group = 'test.mesh', versions = { 'v1' }, accept = function(o, "
             "reject) for i = 1, o.spec.n do reject({ 'spec', i }, 'r' .. i) end end }\n");
    bench_apply(b, "apiVersion: test.mesh/v1\nkind: Bad\nmetadata: {name: x, namespace: a}\n"
                   "spec: {n: 10001}\n");
    assert_int_equal(json_array_size(b->snapshot->rejects), 10000);
    assert_int_equal(json_array_size(b->snapshot->errors), 0);
}

static void test_what_nothing_reaches_is_dropped(void **state)
{
    struct bench *b = *state;
    start(b, "R.deep = function(mesh, n) return n end\nR.keys = function(mesh) return cfg(mesh, "
             "'x').list or {} end\n"
             "E.e = { each = 'keys', run = function(mesh, out, k) say(out, 'c' .. k, "
             "tostring(mesh.deep(k))) end }\n");
    json_int_t cells = bench_figure(b, "cells");
    for (int i = 0; i < 20; i++) {
        char spec[64];
        (void)snprintf(spec, sizeof spec, "{list: [%d, %d]}", i, i + 100);
        set(b, "x", spec);
        assert_int_equal(bench_figure(b, "cells"), cells + 4);
    }
    bench_delete(b, "test.mesh/Cfg/a/x");
    assert_int_equal(bench_figure(b, "cells"), cells);
}

static void test_a_rule_that_writes_into_an_object_is_named(void **state)
{
    struct bench *b = *state;
    start(b, "R.vandal = function(mesh) local c = mesh.Cfg('a', 'x') if c then c.spec.n = 7 end "
             "return 1 end\n"
             "R.writer = function(mesh) local l = mesh.cfgs_by('t') table.sort(l, function() "
             "return false end) l[3] = 1 return 1 end\n"
             "R.list = function(mesh) return { 2, 1 } end\n"
             "R.sorter = function(mesh) local l = mesh.list() table.sort(l) return l[1] end\n"
             "R.honest = function(mesh) return mesh.list()[1] end\n"
             "E.e = { each = 'one', run = function(mesh, out, k)\n"
             "  mesh.vandal() mesh.writer() say(out, k, mesh.sorter() .. mesh.honest()) end }\n");
    set(b, "x", "{n: 1}");
    bool vandal = false, writer = false, sorter = false;
    for (size_t i = 0; i < json_array_size(b->snapshot->errors); i++) {
        const char *where = error_at(b, i, "where"), *message = error_at(b, i, "message");
        vandal = vandal || (!strcmp(where, "rule vandal()") &&
                            strstr(message, "Cfg a/x was changed by one of its readers"));
        writer = writer ||
                 (!strcmp(where, "rule writer()") && strstr(message, "cfgs_by(t) was changed"));
        sorter =
            sorter || (!strcmp(where, "rule sorter()") && strstr(message, "list() was changed"));
    }
    assert_true(vandal);
    assert_true(writer);
    assert_true(sorter);
    assert_string_equal(bench_ask(b, "Cfg", "[\"a\",\"x\"]"),
                        "{\"apiVersion\":\"test.mesh/"
                        "v1\",\"kind\":\"Cfg\",\"metadata\":{\"name\":\"x\",\"namespace\":\"a\"},"
                        "\"spec\":{\"n\":1}}");
}

static void test_a_new_field_of_an_object_is_refused_at_once(void **state)
{
    struct bench *b = *state;
    start(b, "R.f = function(mesh) mesh.Cfg('a', 'x').mine = 1 end\n");
    set(b, "x", "{n: 1}");
    assert_string_equal(bench_ask(b, "f", "[]"), "m.lua:8: an object is read-only");
}

static void test_mesh_answers_only_while_something_runs(void **state)
{
    struct bench *b = *state;
    start(
        b,
        "local kept\nR.keep = function(mesh) kept = mesh return 1 end\n"
        "M.kinds.Late = { group = 'test.mesh', versions = { 'v1' }, accept = function(o) if kept "
        "then kept.keep() end end }\n"
        "E.e = { each = 'one', run = function(mesh, out, k) mesh.keep() say(out, k, 'x') end }\n");
    bench_apply(b, "apiVersion: test.mesh/v1\nkind: Late\nmetadata: {name: l, namespace: a}\n");
    assert_string_equal(error_at(b, 0, "where"), "accept of Late a/l");
    assert_string_equal(error_at(b, 0, "message"),
                        "m.lua:10: mesh.keep: mesh answers only while a rule or an emitter runs");
}

static void test_keys_are_checked(void **state)
{
    struct bench *b = *state;
    start(b, "R.id = function(mesh, a, b, c) return { a, b, c } end\n"
             "R.ask = function(mesh, how)\n  if how == 'float' then return mesh.id(1.5) end if how "
             "== 'table' then return mesh.id({}) end\n"
             "  if how == 'many' then return mesh.id(1, 2, 3, 4) end if how == 'nil' then return "
             "mesh.id(nil) end\n"
             "  if how == 'zero' then return mesh.id('a\\0b') end if how == 'long' then return "
             "mesh.id(('x'):rep(2000)) end\n"
             "  if how == 'kind' then return mesh.Cfg(1) end if how == 'fact' then return "
             "mesh.target_ports('a', 'b', 'c') end\n"
             "  if how == 'name' then return mesh['id' .. 's']() end\n"
             "  return mesh.id('a', 1, true) end\n");
    assert_string_equal(bench_ask(b, "ask", "[\"\"]"), "[\"a\",1,true]");
    assert_string_equal(
        bench_ask(b, "ask", "[\"float\"]"),
        "m.lua:10: mesh.id: a key is a string, an integer or a boolean, got a float");
    assert_string_equal(bench_ask(b, "ask", "[\"table\"]"),
                        "m.lua:10: mesh.id: a key is a string, an integer or a boolean");
    assert_string_equal(bench_ask(b, "ask", "[\"many\"]"),
                        "m.lua:11: mesh.id: a key has at most three parts");
    assert_string_equal(bench_ask(b, "ask", "[\"nil\"]"),
                        "m.lua:11: mesh.id: a key is a string, an integer or a boolean, got nil");
    assert_string_equal(bench_ask(b, "ask", "[\"zero\"]"),
                        "m.lua:12: mesh.id: a key holds a zero byte");
    assert_string_equal(bench_ask(b, "ask", "[\"long\"]"),
                        "m.lua:12: mesh.id: a key is longer than 1,000 bytes");
    assert_string_equal(bench_ask(b, "ask", "[\"kind\"]"),
                        "m.lua:13: mesh.Cfg: takes a namespace and a name (a name alone where the "
                        "kind has no namespace)");
    assert_string_equal(
        bench_ask(b, "ask", "[\"fact\"]"),
        "m.lua:13: mesh.target_ports: takes a namespace, a service and a port number");
    assert_string_equal(bench_ask(b, "ask", "[\"name\"]"),
                        "m.lua:14: mesh.ids: nobody declares it; do you mean id?");
}

static void test_an_answer_is_plain_data(void **state)
{
    struct bench *b = *state;
    start(b, "R.f = function(mesh, how)\n"
             "  if how == 'function' then return { a = { print } } end if how == 'hole' then "
             "return { 1, nil, 3 } end\n"
             "  if how == 'both' then return { 1, a = 2 } end if how == 'meta' then return { x = "
             "setmetatable({}, {}) } end\n"
             "  if how == 'inf' then return { a = { b = 1 / 0 } } end if how == 'self' then local "
             "t = {} t.t = t return t end\n"
             "  return { n = 1, f = 1.5, s = 's', l = { true, false }, m = {} } end\n");
    assert_string_equal(bench_ask(b, "f", "[\"\"]"),
                        "{\"f\":1.5,\"l\":[true,false],\"m\":[],\"n\":1,\"s\":\"s\"}");
    assert_string_equal(bench_ask(b, "f", "[\"function\"]"),
                        "the answer.a[1]: is a function; an answer is plain data");
    assert_string_equal(bench_ask(b, "f", "[\"hole\"]"), "the answer: is a list with a hole");
    assert_string_equal(bench_ask(b, "f", "[\"both\"]"), "the answer: is both a list and a map");
    assert_string_equal(bench_ask(b, "f", "[\"meta\"]"),
                        "the answer.x: has a metatable; an answer is plain data");
    assert_string_equal(bench_ask(b, "f", "[\"inf\"]"),
                        "the answer.a.b: is a number that is not finite");
    assert_non_null(
        strstr(bench_ask(b, "f", "[\"self\"]"), "is deeper than 32 tables, or holds itself"));
}

static void test_nil_is_an_answer_and_is_memoised(void **state)
{
    struct bench *b = *state;
    start(b, "R.none = function(mesh) local c = cfg(mesh, 'x') return nil end\n"
             "E.e = { each = 'one', run = function(mesh, out, k) say(out, k, "
             "tostring(mesh.none())) end }\n");
    assert_string_equal(said(b, "x"), "nil");
    set(b, "x", "{n: 1}");
    assert_false(b->fresh);
    set(b, "y", "{n: 1}");
    bench_run(b);
    assert_string_equal(bench_ask(b, "none", "[]"), "null");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BENCH_TEST(test_an_equal_answer_stops_the_change),
        BENCH_TEST(test_a_read_inside_pcall_is_a_read),
        BENCH_TEST(test_an_error_is_told_where_it_arose_and_only_there),
        BENCH_TEST(test_an_item_in_error_keeps_its_last_bytes),
        BENCH_TEST(test_verification_stops_at_the_first_read_that_changed),
        BENCH_TEST(test_a_cycle_is_an_error_of_its_members),
        BENCH_TEST(test_a_cycle_is_mended_by_a_change_and_comes_back),
        BENCH_TEST(test_a_cycle_reads_alike_from_every_entry),
        BENCH_TEST(test_a_cycle_that_only_shows_while_verifying),
        BENCH_TEST(test_a_rule_that_asks_for_itself_is_a_cycle),
        BENCH_TEST(test_the_depth_of_a_chain_is_a_property_of_the_graph),
        BENCH_TEST(test_a_chain_without_end_is_contained_and_mended),
        BENCH_TEST(test_the_rejects_of_one_rule_are_bounded),
        BENCH_TEST(test_the_reasons_against_one_object_are_bounded),
        BENCH_TEST(test_what_nothing_reaches_is_dropped),
        BENCH_TEST(test_a_rule_that_writes_into_an_object_is_named),
        BENCH_TEST(test_a_new_field_of_an_object_is_refused_at_once),
        BENCH_TEST(test_mesh_answers_only_while_something_runs),
        BENCH_TEST(test_keys_are_checked),
        BENCH_TEST(test_an_answer_is_plain_data),
        BENCH_TEST(test_nil_is_an_answer_and_is_memoised),
    };
    return cmocka_run_group_tests(tests, NULL, bench_no_leak);
}
