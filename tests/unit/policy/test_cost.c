/* What a change costs, counted: rules that run, answers that are verified, cells that stay. */
#include "policy/engine_util.h"

#define HEAD                                                                                       \
    "local M = { api = 1, kinds = { Cfg = { group = 'test.mesh', versions = { 'v1' }, labels = "   \
    "false },\n"                                                                                   \
    "  Seen = { group = 'test.mesh', versions = { 'v1' } } },\n"                                   \
    "  indexes = { cfgs_by = { of = 'Cfg', keys = function(c) return { c.spec.label or 'none' } "  \
    "end } }, rules = {}, emit = {} }\n"                                                           \
    "local R, E = M.rules, M.emit\n"                                                               \
    "local function say(out, name, text) out.cluster({ name = name, audience = 'everyone',\n"      \
    "  message = { connect_timeout = '1s', alt_stat_name = text, type = 'STATIC' } }) end\n"       \
    "local function spec(c) return c and c.spec or {} end\n"                                       \
    "R.one = function() return { 'x' } end\n"
#define TAIL "return M\n"

static void start(struct bench *b, const char *rules)
{
    struct osm_buf text = OSM_BUF_INIT(1 << 20);
    assert_int_equal(osm_buf_addf(&text, "%s%s%s", HEAD, rules, TAIL), 0);
    bench_load_text(b, text.data);
    osm_buf_clear(&text);
    bench_apply(b, NAMESPACE("a"));
}

static void set(struct bench *b, const char *kind, const char *metadata, const char *spec)
{
    char yaml[512];
    (void)snprintf(yaml, sizeof yaml,
                   "apiVersion: test.mesh/v1\nkind: %s\nmetadata: {namespace: a, %s}\nspec: %s\n",
                   kind, metadata, spec);
    bench_apply(b, yaml);
}

/* Of the last run, whether a snapshot came of it or not. */
static json_int_t figure(struct bench *b, const char *name)
{
    json_t *all = osm_engine_figures(b->engine);
    json_int_t value = json_integer_value(json_object_get(all, name));
    json_decref(all);
    return value;
}

static const char chains[] =
    "R.leaf = function(mesh, n) return spec(mesh.Cfg('a', n)).v or 'none' end\n"
    "R.middle = function(mesh, n) return #mesh.leaf(n) end\n"
    "R.keys = function(mesh) return spec(mesh.Cfg('a', 'keys')).list or {} end\n"
    "E.e = { each = 'keys', run = function(mesh, out, n) say(out, n, tostring(mesh.middle(n))) end "
    "}\n";

static void test_only_what_may_have_changed_is_verified(void **state)
{
    struct bench *b = *state;
    start(b, chains);
    set(b, "Cfg", "name: keys", "{list: [p, q, r, s, t]}");
    set(b, "Cfg", "name: q", "{v: one}");
    assert_int_equal(figure(b, "rules_run"), 3);
    assert_int_equal(figure(b, "cells_verified"), 3);
    /* An answer of equal length: verified up to the emitter, evaluated up to middle(q). */
    set(b, "Cfg", "name: q", "{v: two}");
    assert_int_equal(figure(b, "rules_run"), 2);
    assert_int_equal(figure(b, "cells_verified"), 3);
    set(b, "Cfg", "name: unread", "{v: two}");
    assert_int_equal(figure(b, "rules_run"), 0);
    assert_int_equal(figure(b, "cells_verified"), 0);
}

static void test_what_rules_do_not_see_is_no_change(void **state)
{
    struct bench *b = *state;
    start(b, chains);
    set(b, "Cfg", "name: keys", "{list: [p]}");
    set(b, "Cfg", "name: p", "{v: one}");
    uint64_t number = b->snapshot->number;
    static const char *const metadata[] = {
        "name: p, labels: {a: b}", "name: p, labels: {a: c}, annotations: {x: y}",
        "name: p, resourceVersion: '7', generation: 3", "name: p, managedFields: [{manager: m}]"};
    for (size_t i = 0; i < sizeof metadata / sizeof *metadata; i++) {
        set(b, "Cfg", metadata[i], "{v: one}");
        assert_false(b->fresh);
        assert_int_equal(figure(b, "rules_run"), 0);
        assert_int_equal(figure(b, "cells_verified"), 0);
    }
    assert_int_equal(b->snapshot->number, number);
    assert_string_equal(bench_ask(b, "Cfg", "[\"a\",\"p\"]"),
                        "{\"apiVersion\":\"test.mesh/v1\",\"kind\":\"Cfg\",\"metadata\":{\"name\":"
                        "\"p\",\"namespace\":\"a\"},\"spec\":{\"v\":\"one\"}}");
}

static void test_labels_are_seen_unless_the_kind_hides_them(void **state)
{
    struct bench *b = *state;
    start(b,
          "R.f = function(mesh) local o = mesh.Seen('a', 'p') return o and o.metadata.labels and "
          "o.metadata.labels.a or 'none' end\n"
          "E.e = { each = 'one', run = function(mesh, out, k) say(out, k, mesh.f()) end }\n");
    set(b, "Seen", "name: p, labels: {a: b}", "{}");
    assert_string_equal(bench_ask(b, "f", "[]"), "\"b\"");
    set(b, "Seen", "name: p, labels: {a: c}", "{}");
    assert_int_equal(figure(b, "rules_run"), 2);
    assert_string_equal(bench_ask(b, "f", "[]"), "\"c\"");
}

static void test_labels_of_a_kind_must_be_said_plainly(void **state)
{
    struct bench *b = *state;
    bench_write(b, "m.lua",
                "local M = { api = 1, kinds = { Cfg = { group = 'test.mesh', versions = { 'v1' },\n"
                "  labels = 'yes' } } }\nreturn M\n",
                NULL);
    bench_refuse(b, "m.lua:2: kind Cfg: labels must be true or false, got string");
}

/* A cell goes with its last reader, whatever led to it: an answer, a cycle, a chain that is too
 * deep, or a question from outside. */
static void test_the_memo_holds_what_is_read_and_no_more(void **state)
{
    struct bench *b = *state;
    start(b, "R.keys = function(mesh) return spec(mesh.Cfg('a', 'keys')).list or {} end\n"
             "R.a = function(mesh) return mesh.b() end\nR.b = function(mesh) return mesh.c() end\n"
             "R.c = function(mesh) return spec(mesh.Cfg('a', 'x')).cut or mesh.a() end\n"
             "R.endless = function(mesh, n) return mesh.endless((n or 0) + 1) end\n"
             "E.e = { each = 'keys', run = function(mesh, out, k)\n"
             "  if k == 'endless' then pcall(mesh.endless, 0) else pcall(mesh[k]) end\n"
             "  say(out, k, 'x') end }\n");
    json_int_t empty = figure(b, "cells");
    static const char *const lists[] = {"[a]", "[b]", "[c]", "[endless]", "[a, b, c, endless]"};
    for (int cut = 0; cut < 2; cut++)
        for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
            char spec[64];
            (void)snprintf(spec, sizeof spec, "{list: %s}", lists[i]);
            set(b, "Cfg", "name: keys", spec);
            json_int_t grown = figure(b, "cells");
            assert_true(grown > empty);
            (void)bench_ask(b, "cfgs_by", "[\"nobody\"]");
            set(b, "Cfg", "name: x", "{cut: mended}");
            set(b, "Cfg", "name: x", "{}");
            assert_int_equal(figure(b, "cells"), grown);
            set(b, "Cfg", "name: keys", "{list: []}");
            assert_int_equal(figure(b, "cells"), empty);
        }
}

static void test_a_cycle_that_is_left_by_one_key_is_whole_for_the_next(void **state)
{
    struct bench *b = *state;
    start(b, "R.keys = function(mesh) return spec(mesh.Cfg('a', 'keys')).list or {} end\n"
             "R.a = function(mesh) return mesh.b() end\n"
             "R.b = function(mesh) local ok, r = pcall(mesh.a) return ok and r or 'caught' end\n"
             "E.e = { each = 'keys', run = function(mesh, out, k) say(out, k, mesh[k]()) end }\n");
    set(b, "Cfg", "name: keys", "{list: [a]}");
    assert_int_equal(json_array_size(b->snapshot->errors), 2);
    set(b, "Cfg", "name: keys", "{list: [b]}");
    assert_int_equal(json_array_size(b->snapshot->errors), 2);
    set(b, "Cfg", "name: keys", "{list: [a, b]}");
    assert_int_equal(json_array_size(b->snapshot->errors), 2);
    set(b, "Cfg", "name: keys", "{list: []}");
    assert_int_equal(json_array_size(b->snapshot->errors), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BENCH_TEST(test_only_what_may_have_changed_is_verified),
        BENCH_TEST(test_what_rules_do_not_see_is_no_change),
        BENCH_TEST(test_labels_are_seen_unless_the_kind_hides_them),
        BENCH_TEST(test_labels_of_a_kind_must_be_said_plainly),
        BENCH_TEST(test_the_memo_holds_what_is_read_and_no_more),
        BENCH_TEST(test_a_cycle_that_is_left_by_one_key_is_whole_for_the_next),
    };
    return cmocka_run_group_tests(tests, NULL, bench_no_leak);
}
