#include "policy/engine_util.h"

static void test_declarations_are_checked_with_their_places(void **state)
{
    static const struct {
        const char *text, *error;
    } cases[] = {
        {"return { api = 1, rule = {} }",
         "m.lua:1: the module: there is no field \"rule\"; do you mean \"rules\"?"},
        {"return { rules = {} }", "m.lua:1: a module that declares something says api = 1"},
        {"return { api = 2 }", "m.lua:1: this host speaks api = 1 only"},
        {"return { api = 1, rules = {\n ['acme.quota.x'] = print } }",
         "m.lua:2: \"acme.quota.x\" cannot be a name here: letters, digits and _, with at most one "
         "dot, at most 60"},
        {"return { api = 1, rules = { acme = print, ['acme.quota'] = print } }",
         "m.lua:1: acme.quota: \"acme\" is a name of its own, in m.lua"},
        {"return { api = 1, rules = {\n f = 7 } }",
         "m.lua:2: rule f: f must be a function, got number"},
        {"return { api = 1, emit = { e = { each = 'x', run = print,\n vary = print } } }",
         "m.lua:2: emitter e: there is no field \"vary\""},
        {"return { api = 1, emit = { e = { each = 'Servce', run = print } },\n kinds = { Service = "
         "{ versions = { 'v1' } } } }",
         "m.lua:1: m.e: each = \"Servce\": nobody declares it; do you mean Service?"},
        {"return { api = 1, emit = { e = { each = 'members', run = print } } }",
         "m.lua:1: m.e: each = \"members\": this fact takes a key"},
        {"return { api = 1, indexes = { i = { of = 'settings', keys = print } } }",
         "m.lua:1: index i: of = \"settings\" is no kind"},
        {"return { api = 1, kinds = { K = { version = { 'v1' } } } }",
         "m.lua:1: kind K: there is no field \"version\"; do you mean \"versions\"?"},
        {"return { api = 1, kinds = { K = {} } }",
         "m.lua:1: kind K: versions must be a list of one to eight versions, preferred first"},
        {"return { api = 1, kinds = { K = {\n versions = { 'v2', 'v1' } } } }",
         "m.lua:2: kind K: versions lists v1, but from.v1 is missing: a function that lifts it to "
         "v2"},
        {"return { api = 1, kinds = { K = { versions = { 'v1' }, schema = 'crds/none.yaml' } } }",
         NULL},
        {"return { api = 1, kinds = { K = { versions = { 'v1' }, schema = '../x.yaml' } } }",
         "m.lua:1: kind K: schema: ../x.yaml: is not below the bundle's folder"},
        {"return { api = 1, rules = { settings = print } }",
         "m.lua: \"settings\" is declared already, in the host (a fact)"},
        {"return { api = 1, rules = { reject = print } }",
         "m.lua: \"reject\" is declared already, in the host (a fact)"},
        {"return { api = 1 ", "m.lua:1: '}' expected near <eof>"},
        {"local x = nothing_there", "m.lua:1: there is no global \"nothing_there\" here"},
        {"", "m.lua:1: the module returns nothing; it ends with `return M`"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct bench *b = *state;
        struct osm_err err = {0};
        bench_write(b, "m.lua", cases[i].text, NULL);
        assert_int_not_equal(bench_load(b, NULL, &err), 0);
        if (cases[i].error)
            assert_string_equal(err.msg, cases[i].error);
        else
            assert_non_null(strstr(err.msg, "crds/none.yaml: no such file in the bundle"));
    }
}

static void test_a_byte_order_mark_is_no_part_of_a_module(void **state)
{
    struct bench *b = *state;
    struct osm_err err = {0};
    bench_write(b, "m.lua", "\xEF\xBB\xBFreturn { api = 1, rules = { f = print } }", NULL);
    assert_int_equal(bench_load(b, NULL, &err), 0);
}

/* Bundles are stored and sent as JSON: what does not fit in there is found when it is read. */
static void test_what_is_not_utf_8_is_refused_with_its_place(void **state)
{
    struct bench *b = *state;
    char expected[512];
    bench_write(b, "m.lua", "return { api = 1 }\n-- caf\xe9\n", NULL);
    bench_refuse(b, "m.lua:2: the byte 0xe9 is not UTF-8; save the file as UTF-8");
    bench_write(b, "m.lua", "return { api = 1 } -- caf\xc3\xa9", "acme/\xff.lua", "return {}",
                NULL);
    (void)snprintf(expected, sizeof expected,
                   "%s/acme/?.lua: the name is not UTF-8; give it another one", b->dir);
    bench_refuse(b, expected);
}

static void test_a_name_declared_twice_names_both_places(void **state)
{
    struct bench *b = *state;
    bench_write(b, "a/x.lua", "return { api = 1, rules = { f = print } }", "b/y.lua",
                "return { api = 1, indexes = { f = { of = 'K', keys = print } }, kinds = { K = { "
                "versions = { 'v1' } } } }",
                NULL);
    bench_refuse(b, "b/y.lua: \"f\" is declared already, in a/x.lua");
}

static void test_unknown_names_are_found_in_the_source(void **state)
{
    struct bench *b = *state;
    bench_write(
        b, "m.lua",
        "-- mesh.comment\n--[[ mesh.long\n]] local s = \"mesh.string\" .. [==[ mesh.more ]] ]==]\n"
        "return { api = 1, rules = { known = function(mesh)\n"
        "  local t = { mesh = { field = 1 } }\n  local x = t.mesh.field .. 'a'..mesh.known()\n"
        "  return mesh . knwon() end } }",
        NULL);
    bench_refuse(b, "m.lua:7: mesh.knwon: nobody declares it; do you mean known?");
}

static void test_require_finds_modules_of_the_bundle_and_of_the_runtime(void **state)
{
    struct bench *b = *state;
    struct osm_err err = {0};
    bench_write(
        b, "lib/names.lua", "local M = {} function M.twice(s) return s .. s end return M", "m.lua",
        "local names, id, str = require('lib.names'), require('mesh.id'), require('mesh.str')\n"
        "return { api = 1, rules = { f = function(mesh, s)\n"
        "  local ns, name = id.service(s, 'here')\n"
        "  return { names.twice(s), ns or 'no', name or 'no', id.cluster('a', 'b', 80), str.trim(' "
        " x '), \n"
        "    str.split('a.b..c', '.'), str.ends_with('abc', 'bc'), id.fqdn('n', 's'), "
        "id.principal('td', 'n', 'a') } end } }",
        NULL);
    assert_int_equal(bench_load(b, NULL, &err), 0);
    assert_string_equal(bench_ask(b, "f", "[\"cart.shop.svc\"]"),
                        "[\"cart.shop.svccart.shop.svc\",\"shop\",\"cart\",\"a/"
                        "b|80\",\"x\",[\"a\",\"b\",\"\",\"c\"],true,"
                        "\"s.n.svc.cluster.local\",\"a.n.td\"]");
    assert_non_null(strstr(bench_ask(b, "f", "[\"cart\"]"), "\"here\",\"cart\""));
    assert_non_null(strstr(bench_ask(b, "f", "[\"cart.shop.example.com\"]"), "\"no\",\"no\""));
    assert_non_null(strstr(bench_ask(b, "f", "[\"cart..svc\"]"), "\"no\",\"no\""));
}

static void test_modules_in_a_circle_are_refused(void **state)
{
    struct bench *b = *state;
    bench_write(b, "a.lua", "local b = require('b') return {}", "b.lua",
                "local a = require('a') return {}", NULL);
    bench_refuse(b, "b.lua:1: require(\"a\"): the modules require each other in a circle: a, b");
}

static void test_a_missing_module_is_named_with_the_nearest(void **state)
{
    struct bench *b = *state;
    bench_write(b, "lib/names.lua", "return {}", "m.lua", "return require('lib.name')", NULL);
    bench_refuse(b, "m.lua:1: require(\"lib.name\"): there is no lib/name.lua in the bundle; do "
                    "you mean \"lib.names\"?");
}

static void test_limits_of_a_bundle(void **state)
{
    struct bench *b = *state;
    struct osm_err err = {0};
    char *large = osm_alloc(300 * 1024);
    assert_non_null(large);
    memset(large, '-', 300 * 1024 - 1);
    bench_write(b, "m.lua", large, NULL);
    osm_free(large);
    assert_int_equal(bench_load(b, NULL, &err), OSM_ELIMIT);
    bench_write(b, "m.lua", "return {}", NULL);
    for (int i = 0; i < 64; i++) {
        char name[32];
        (void)snprintf(name, sizeof name, "x%d.lua", i);
        bench_write(b, name, "return {}", NULL);
    }
    assert_int_equal(bench_load(b, NULL, &err), OSM_ELIMIT);
    assert_non_null(strstr(err.msg, "more than 64 *.lua files"));
}

static void test_an_empty_folder_is_no_bundle(void **state)
{
    struct bench *b = *state;
    struct osm_err err = {0};
    bench_write(b, "readme.txt", "", ".hidden/m.lua", "error('not loaded')", NULL);
    assert_int_equal(bench_load(b, NULL, &err), OSM_ENOENT);
}

/* The digest stands for the text of all files, whatever their order on disk. */
static void test_the_digest_follows_the_text(void **state)
{
    struct bench *b = *state;
    char before[OSM_POLICY_DIGEST_SIZE];
    bench_load_text(b, "return { api = 1 }");
    bench_run(b);
    (void)snprintf(before, sizeof before, "%s",
                   json_string_value(json_object_get(b->snapshot->policy, "digest")));
    osm_engine_free(b->engine);
    b->engine = NULL;
    bench_load_text(b, "return { api = 1 }");
    bench_run(b);
    assert_string_equal(json_string_value(json_object_get(b->snapshot->policy, "digest")), before);
    osm_engine_free(b->engine);
    b->engine = NULL;
    bench_load_text(b, "return { api = 1 } ");
    bench_run(b);
    assert_string_not_equal(json_string_value(json_object_get(b->snapshot->policy, "digest")),
                            before);
}

static void test_a_schema_checks_and_fills_in_defaults(void **state)
{
    struct bench *b = *state;
    struct osm_err err = {0};
    bench_write(
        b, "crds/k.yaml",
        "type: object\nproperties:\n  spec:\n    type: object\n    required: [n]\n    properties:\n"
        "      n: {type: integer}\n      mode: {type: string, default: plain}\n",
        "m.lua",
        "return { api = 1, kinds = { K = { group = 'test.mesh', versions = { 'v1' }, schema = "
        "'crds/k.yaml' },\n"
        "  L = { group = 'test.mesh', versions = { 'v1' }, schema = { type = 'object', properties "
        "= { spec = {\n"
        "    type = 'object', properties = { flag = { type = 'boolean' } } } } } } } }",
        NULL);
    if (bench_load(b, NULL, &err))
        fail_msg("%s", err.msg);
    bench_apply(b, NAMESPACE("a") "---\napiVersion: test.mesh/v1\nkind: K\nmetadata: {name: good, "
                                  "namespace: a}\nspec: {n: 1}\n"
                                  "---\napiVersion: test.mesh/v1\nkind: K\nmetadata: {name: bad, "
                                  "namespace: a}\nspec: {n: x}\n"
                                  "---\napiVersion: test.mesh/v1\nkind: L\nmetadata: {name: l, "
                                  "namespace: a}\nspec: {flag: 7}\n");
    assert_string_equal(bench_ask(b, "K", "[]"), "[[\"a\",\"good\"]]");
    assert_non_null(strstr(bench_ask(b, "K", "[\"a\",\"good\"]"), "\"mode\":\"plain\""));
    assert_int_equal(json_array_size(b->snapshot->rejects), 2);
    assert_string_equal(bench_entry(b->snapshot->rejects, 0, "object"), "K a/bad");
    assert_string_equal(bench_entry(b->snapshot->rejects, 0, "path"), "spec.n");
    assert_string_equal(bench_entry(b->snapshot->rejects, 1, "path"), "spec.flag");
}

/* A definition has a schema for each version; what is lifted is checked in both forms. */
static void test_each_version_has_its_own_schema(void **state)
{
    struct bench *b = *state;
    struct osm_err err = {0};
    bench_write(
        b, "crds/k.yaml",
        "kind: CustomResourceDefinition\nspec:\n  versions:\n"
        "  - {name: v1, schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, "
        "properties: {old: "
        "{type: integer}}}}}}}\n"
        "  - {name: v2, schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, "
        "required: [new], "
        "properties: {new: {type: integer}}}}}}}\n",
        "m.lua",
        "return { api = 1, kinds = { K = { group = 'test.mesh', versions = { 'v2', 'v1' }, schema "
        "= 'crds/k.yaml',\n"
        "  from = { v1 = function(k) if k.spec.old == 13 then return nil, 'is unlucky' end\n"
        "    return { apiVersion = 'x', kind = k.kind, metadata = k.metadata, spec = { new = "
        "k.spec.old } } end } } } }",
        NULL);
    if (bench_load(b, NULL, &err))
        fail_msg("%s", err.msg);
    bench_apply(b, NAMESPACE("a") "---\napiVersion: test.mesh/v1\nkind: K\nmetadata: {name: a, "
                                  "namespace: a}\nspec: {old: 1}\n"
                                  "---\napiVersion: test.mesh/v1\nkind: K\nmetadata: {name: b, "
                                  "namespace: a}\nspec: {old: x}\n"
                                  "---\napiVersion: test.mesh/v1\nkind: K\nmetadata: {name: c, "
                                  "namespace: a}\nspec: {}\n"
                                  "---\napiVersion: test.mesh/v1\nkind: K\nmetadata: {name: d, "
                                  "namespace: a}\nspec: {old: 13}\n");
    assert_string_equal(bench_ask(b, "K", "[]"), "[[\"a\",\"a\"]]");
    assert_non_null(strstr(bench_ask(b, "K", "[\"a\",\"a\"]"), "\"apiVersion\":\"test.mesh/v2\""));
    assert_int_equal(json_array_size(b->snapshot->rejects), 3);
    assert_string_equal(bench_entry(b->snapshot->rejects, 0, "path"), "spec.old");
    assert_string_equal(bench_entry(b->snapshot->rejects, 1, "path"), "spec.new");
    assert_string_equal(bench_entry(b->snapshot->rejects, 2, "reason"), "is unlucky");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BENCH_TEST(test_declarations_are_checked_with_their_places),
        BENCH_TEST(test_a_byte_order_mark_is_no_part_of_a_module),
        BENCH_TEST(test_what_is_not_utf_8_is_refused_with_its_place),
        BENCH_TEST(test_a_name_declared_twice_names_both_places),
        BENCH_TEST(test_unknown_names_are_found_in_the_source),
        BENCH_TEST(test_require_finds_modules_of_the_bundle_and_of_the_runtime),
        BENCH_TEST(test_modules_in_a_circle_are_refused),
        BENCH_TEST(test_a_missing_module_is_named_with_the_nearest),
        BENCH_TEST(test_limits_of_a_bundle),
        BENCH_TEST(test_an_empty_folder_is_no_bundle),
        BENCH_TEST(test_the_digest_follows_the_text),
        BENCH_TEST(test_a_schema_checks_and_fills_in_defaults),
        BENCH_TEST(test_each_version_has_its_own_schema),
    };
    return cmocka_run_group_tests(tests, NULL, bench_no_leak);
}
