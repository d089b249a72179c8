/* Kinds: whose status counts, and what a lift to the newest version may do. */
#include "policy/engine_util.h"

#define OBJECT(kind, name, rest)                                                                   \
    "---\napiVersion: test.mesh/v1\nkind: " kind "\nmetadata: {name: " name                        \
    ", namespace: a}\n" rest "\n"

static void load(struct bench *b, const char *text)
{
    bench_load_text(b, text);
    assert_int_equal(osm_engine_watch_status(b->engine, b->reader), 0);
}

static json_int_t rules_run(struct bench *b)
{
    return bench_figure(b, "rules_run");
}

/* Both kinds have a rule that an emitter asks for each object, and counts what it sees. */
static const char two_kinds[] =
    "local M = { api = 1 }\n"
    "M.kinds = { Loud = { group = 'test.mesh', versions = { 'v1' }, status = true },\n"
    "  Quiet = { group = 'test.mesh', versions = { 'v1' } } }\n"
    "M.rules = {\n"
    "  loud = function(mesh, ns, name) local o = mesh.Loud(ns, name)\n"
    "    local phase = o and o.status and o.status.phase or 'none'\n"
    "    if o then mesh.reject(o, { 'status', 'phase' }, phase) end return phase end,\n"
    "  quiet = function(mesh, ns, name) local o = mesh.Quiet(ns, name) return o and o.status and "
    "o.status.phase or 'none' end }\n"
    "M.emit = { a = { each = 'Loud', run = function(mesh, out, ns, name) mesh.loud(ns, name) end "
    "},\n"
    "  b = { each = 'Quiet', run = function(mesh, out, ns, name) mesh.quiet(ns, name) end } }\n"
    "return M";

static void test_a_status_counts_only_for_the_kind_that_declares_it(void **state)
{
    struct bench *b = *state;
    load(b, two_kinds);
    bench_apply(b, NAMESPACE("a") OBJECT("Loud", "l", "status: {phase: one}")
                       OBJECT("Quiet", "q", "status: {phase: one}"));
    assert_string_equal(bench_ask(b, "loud", "[\"a\",\"l\"]"), "\"one\"");
    assert_string_equal(bench_ask(b, "quiet", "[\"a\",\"q\"]"), "\"none\"");

    bench_put(b, OBJECT("Quiet", "q", "status: {phase: two}"));
    assert_false(osm_store_reader_dirty(b->reader));

    bench_put(b, OBJECT("Loud", "l", "status: {phase: two}"));
    assert_true(osm_store_reader_dirty(b->reader));
    bench_run(b);
    assert_string_equal(bench_ask(b, "loud", "[\"a\",\"l\"]"), "\"two\"");
    bench_put(b, OBJECT("Loud", "l", "status: {phase: two}")); /* the same again */
    assert_false(osm_store_reader_dirty(b->reader));
    bench_apply(b, OBJECT("Loud", "l", ""));
    assert_string_equal(bench_ask(b, "loud", "[\"a\",\"l\"]"), "\"none\"");
}

/* Also where the store lets the status through: rules run for the kind that declares it alone. */
static void test_a_status_of_another_kind_runs_no_rule(void **state)
{
    struct bench *b = *state;
    load(b, two_kinds);
    assert_int_equal(osm_store_reader_watch_status(b->reader, "test.mesh/Quiet"), 0);
    bench_apply(b, NAMESPACE("a") OBJECT("Loud", "l", "status: {phase: one}")
                       OBJECT("Quiet", "q", "status: {phase: one}"));
    bench_apply(b, OBJECT("Loud", "l", "status: {phase: two}"));
    assert_true(b->fresh);
    json_int_t for_loud = rules_run(b);
    assert_true(for_loud > 0);

    bench_put(b, OBJECT("Quiet", "q", "status: {phase: two}"));
    assert_true(osm_store_reader_dirty(b->reader));
    bench_run(b);
    assert_false(b->fresh);
    bench_apply(b, OBJECT("Loud", "l", "status: {phase: three}")
                       OBJECT("Quiet", "q", "status: {phase: three}"));
    assert_true(b->fresh);
    assert_int_equal(rules_run(b), for_loud);
    assert_string_equal(bench_ask(b, "quiet", "[\"a\",\"q\"]"), "\"none\"");
}

static void test_status_is_true_or_false(void **state)
{
    struct bench *b = *state;
    bench_write(b, "m.lua",
                "return { api = 1, kinds = { K = { group = 'test.mesh', versions = { 'v1' },\n"
                "  status = 'yes' } } }",
                NULL);
    bench_refuse(b, "m.lua:2: kind K: status must be true or false, got string");
}

static void test_a_definition_has_a_schema_for_each_version_that_is_read(void **state)
{
    struct bench *b = *state;
    bench_write(
        b, "k.yaml",
        "kind: CustomResourceDefinition\nspec:\n  versions:\n"
        "  - {name: v2, schema: {openAPIV3Schema: {type: object}}}\n",
        "m.lua",
        "return { api = 1, kinds = { K = { group = 'test.mesh', versions = { 'v2', 'v1' },\n"
        "  schema = 'k.yaml', from = { v1 = function(k) return k end } } } }",
        NULL);
    bench_refuse(b, "m.lua:2: kind K: schema: the definition has no schema for version v1");
}

#define LIFT(body)                                                                                 \
    "return { api = 1, kinds = { K = { group = 'test.mesh', versions = { 'v2', 'v1' },\n"          \
    "  from = { v1 = function(k, reject) " body " end } } } }"

static void test_a_lift_cannot_change_who_the_object_is(void **state)
{
    struct bench *b = *state;
    load(b, LIFT("return { apiVersion = 'x/y', kind = 'Other', metadata = { name = 'z', namespace "
                 "= 'b' }, spec = { new = k.spec.old } }"));
    bench_apply(b, NAMESPACE("a") OBJECT("K", "k", "spec: {old: 1}"));
    assert_string_equal(bench_ask(b, "K", "[]"), "[[\"a\",\"k\"]]");
    assert_string_equal(bench_ask(b, "K", "[\"a\",\"k\"]"),
                        "{\"apiVersion\":\"test.mesh/v2\",\"kind\":\"K\",\"metadata\":{\"name\":"
                        "\"k\",\"namespace\":\"a\"},\"spec\":{\"new\":1}}");
}

static void test_a_lift_may_reject_with_the_path_of_the_original(void **state)
{
    struct bench *b = *state;
    load(b, LIFT("if k.spec.port then reject({ 'spec', 'ports', 1 }, 'is not supported') end "
                 "return { spec = k.spec }"));
    bench_apply(b, NAMESPACE("a") OBJECT("K", "bad", "spec: {port: 1}")
                       OBJECT("K", "good", "spec: {}"));
    assert_string_equal(bench_ask(b, "K", "[]"), "[[\"a\",\"good\"]]");
    assert_int_equal(json_array_size(b->snapshot->rejects), 1);
    assert_string_equal(bench_entry(b->snapshot->rejects, 0, "object"), "K a/bad");
    assert_string_equal(bench_entry(b->snapshot->rejects, 0, "path"), "spec.ports[0]");
    assert_string_equal(bench_entry(b->snapshot->rejects, 0, "reason"), "is not supported");
    assert_int_equal(json_array_size(b->snapshot->errors), 0);
}

/* The reject of one object must not work on another, nor later. */
static void test_a_reject_that_was_kept_is_refused(void **state)
{
    struct bench *b = *state;
    load(b, "local kept\n"
            "return { api = 1, kinds = { K = { group = 'test.mesh', versions = { 'v1' },\n"
            "  accept = function(k, reject) if kept then kept({ 'spec' }, 'no') end kept = reject "
            "end } } }");
    bench_apply(b, NAMESPACE("a") OBJECT("K", "one", ""));
    bench_apply(b, OBJECT("K", "two", ""));
    assert_int_equal(json_array_size(b->snapshot->rejects), 0);
    assert_int_equal(json_array_size(b->snapshot->errors), 1);
    assert_non_null(strstr(bench_entry(b->snapshot->errors, 0, "message"),
                           "reject can only be called within what it was given to"));
    assert_string_equal(bench_ask(b, "K", "[]"), "[[\"a\",\"one\"]]");
}

static void test_a_lift_that_answers_no_object_is_an_error_of_its_own(void **state)
{
    struct bench *b = *state;
    load(b, LIFT("if k.spec.n == 1 then return 'x' end if k.spec.n == 2 then return { 1 } end "
                 "if k.spec.n == 3 then error('no') end return {}"));
    bench_apply(b,
                NAMESPACE("a") OBJECT("K", "k1", "spec: {n: 1}") OBJECT("K", "k2", "spec: {n: 2}")
                    OBJECT("K", "k3", "spec: {n: 3}") OBJECT("K", "k4", "spec: {n: 4}"));
    assert_string_equal(bench_ask(b, "K", "[]"), "[[\"a\",\"k4\"]]");
    assert_int_equal(json_array_size(b->snapshot->errors), 3);
    for (size_t i = 0; i < 3; i++)
        assert_non_null(strstr(bench_entry(b->snapshot->errors, i, "where"), "from of K a/k"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BENCH_TEST(test_a_status_counts_only_for_the_kind_that_declares_it),
        BENCH_TEST(test_a_status_of_another_kind_runs_no_rule),
        BENCH_TEST(test_status_is_true_or_false),
        BENCH_TEST(test_a_definition_has_a_schema_for_each_version_that_is_read),
        BENCH_TEST(test_a_lift_cannot_change_who_the_object_is),
        BENCH_TEST(test_a_lift_may_reject_with_the_path_of_the_original),
        BENCH_TEST(test_a_reject_that_was_kept_is_refused),
        BENCH_TEST(test_a_lift_that_answers_no_object_is_an_error_of_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, bench_no_leak);
}
