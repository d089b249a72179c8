#include "policy/memo/value.h"

#include <lualib.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static int set_up(void **state)
{
    *state = luaL_newstate();
    return *state ? 0 : -1;
}

static int tear_down(void **state)
{
    lua_close(*state);
    return 0;
}

/* The value that Lua gives for an expression, on the stack. */
static void push(lua_State *L, const char *expression)
{
    lua_settop(L, 0);
    lua_pushfstring(L, "return %s", expression);
    assert_int_equal(luaL_loadstring(L, lua_tostring(L, 1)), LUA_OK);
    lua_call(L, 0, 1);
}

static struct osm_hash hash(lua_State *L, const char *expression)
{
    struct osm_hash h = {0, 0};
    struct osm_err err = {0};
    push(L, expression);
    if (osm_value_hash(L, -1, "v", &h, &err))
        fail_msg("%s: %s", expression, err.msg);
    return h;
}

static void test_equal_values_have_equal_hashes(void **state)
{
    static const char *const pairs[][2] = {
        {"{ a = 1, b = { 2, 3 } }", "{ b = { 2, 3 }, a = 1 }"},
        {"'x' .. 'y'", "'xy'"},
        {"{}", "{ nil }"},
        {"{ 1, 2, x = nil }", "{ [2] = 2, [1] = 1 }"},
    };
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        assert_true(osm_hash_equal(hash(*state, pairs[i][0]), hash(*state, pairs[i][1])));
}

static void test_different_values_have_different_hashes(void **state)
{
    static const char *const values[] = {
        "nil",
        "true",
        "false",
        "0",
        "1",
        "1.0",
        "-1",
        "''",
        "'1'",
        "'true'",
        "{}",
        "{ 1 }",
        "{ 1.0 }",
        "{ {} }",
        "{ 1, 2 }",
        "{ 2, 1 }",
        "{ { 1 }, 2 }",
        "{ 1, { 2 } }",
        "{ a = 1 }",
        "{ a = 2 }",
        "{ b = 1 }",
        "{ a = { b = 1 } }",
        "{ a = 1, b = 2 }",
        "{ a = 2, b = 1 }",
        "'a\\0b'",
        "'a'",
        "{ a = {} }",
        "{ a = '' }",
        "{ ['1'] = 1 }",
        "{ 'a', 1 }",
        "0.5",
        "-0.0",
    };
    enum { N = sizeof values / sizeof *values };
    struct osm_hash hashes[N];
    for (size_t i = 0; i < N; i++)
        hashes[i] = hash(*state, values[i]);
    for (size_t i = 0; i < N; i++)
        for (size_t k = 0; k < i; k++)
            if (osm_hash_equal(hashes[i], hashes[k]))
                fail_msg("%s and %s", values[i], values[k]);
}

static void test_json_hashes_as_what_is_pushed(void **state)
{
    static const char *const texts[] = {
        "[1, 2.5, \"a\", true, null, {\"a\": null, \"b\": [[], {}]}]",
        "{}",
        "[]",
        "\"x\\u0000y\"",
        "9223372036854775807",
        "{\"a\": {\"b\": [1, {\"c\": \"d\"}]}, \"e\": false}"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct osm_hash h;
        json_t *value = json_loads(texts[i], JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
        assert_non_null(value);
        lua_settop(*state, 0);
        osm_value_push(*state, value);
        assert_int_equal(osm_value_hash(*state, -1, "v", &h, NULL), 0);
        assert_true(osm_hash_equal(h, osm_json_hash(value)));
        json_decref(value);
    }
}

static void test_values_survive_the_way_there_and_back(void **state)
{
    json_t *value = json_loads("{\"a\": [1, 2.5, \"x\", true, {\"b\": \"c\"}], \"n\": "
                               "9007199254740993, \"s\": \"\\u00e4\"}",
                               0, NULL);
    json_t *back = NULL;
    lua_settop(*state, 0);
    osm_value_push(*state, value);
    assert_int_equal(osm_value_json(*state, -1, "v", &back, NULL), 0);
    assert_true(json_equal(value, back));
    json_decref(value);
    json_decref(back);
}

static void test_what_is_no_plain_value_is_named_with_its_path(void **state)
{
    static const struct {
        const char *expression, *error;
    } cases[] = {
        {"{ a = { b = { 1, 2, print } } }",
         "v.a.b[3]: is a function; only plain data is possible here"},
        {"{ { 'a\\xff' } }", "v[1][1]: is a string that is not valid UTF-8"},
        {"{ [1.5] = 1 }", "v: has a key that is neither a string nor a place in a list"},
        {"{ [7] = 1 }", "v: is a list with a hole, or a map with an integer key"},
        {"print", "v: is a function; only plain data is possible here"},
    };
    luaL_requiref(*state, "_G", luaopen_base, 1);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct osm_err err = {0};
        json_t *out = NULL;
        push(*state, cases[i].expression);
        assert_int_equal(osm_value_json(*state, -1, "v", &out, &err), OSM_EINVAL);
        assert_string_equal(err.msg, cases[i].error);
        assert_int_equal(lua_gettop(*state), 2); /* the text and the value */
    }
}

/* 2^32 values in 32 tables: refused by their number, not walked. */
static void test_a_value_that_shares_its_parts_is_bounded(void **state)
{
    lua_State *L = *state;
    struct osm_hash h;
    struct osm_err err = {0};
    lua_settop(L, 0);
    lua_pushinteger(L, 1);
    for (int i = 0; i < 30; i++) {
        lua_createtable(L, 2, 0);
        lua_pushvalue(L, 1);
        lua_rawseti(L, -2, 1);
        lua_pushvalue(L, 1);
        lua_rawseti(L, -2, 2);
        lua_replace(L, 1);
    }
    assert_int_equal(osm_value_hash(L, 1, "v", &h, &err), OSM_EINVAL);
    assert_non_null(strstr(err.msg, "has more than 1,000,000 values"));
}

#define N10  "nnnnnnnnnn"
#define N100 N10 N10 N10 N10 N10 N10 N10 N10 N10 N10

static void test_paths_are_printed_as_kubernetes_does(void **state)
{
    static const struct {
        const char *expression, *text;
    } cases[] = {
        {"{ 'spec', 'backends', 1, 'weight' }", "spec.backends[0].weight"},
        {"{ 'spec' }", "spec"},
        {"{ 'metadata', 'labels', 'a.b/c' }", "metadata.labels[\"a.b/c\"]"},
        {"{ 'spec', '' }", "spec[\"\"]"},
        {"{ '" N100 "nn' }", N100 "..."},
        {"{}", ""},
        {"nil", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct osm_buf out = OSM_BUF_INIT(256);
        push(*state, cases[i].expression);
        assert_null(osm_value_path(*state, -1, &out));
        assert_string_equal(out.data ? out.data : "", cases[i].text);
        osm_buf_clear(&out);
    }
    struct osm_buf out = OSM_BUF_INIT(256);
    push(*state, "'spec'");
    assert_non_null(osm_value_path(*state, -1, &out));
    push(*state, "{ {} }");
    assert_non_null(osm_value_path(*state, -1, &out));
    osm_buf_clear(&out);
}

static void test_an_object_counts_by_its_identity(void **state)
{
    lua_State *L = *state;
    struct osm_hash a, b, content_a, content_b;
    lua_settop(L, 0);
    for (int i = 0; i < 2; i++) {
        json_t *body = json_pack("{s:{s:i}}", "spec", "n", i);
        osm_value_push(L, body);
        osm_identity_set(L, (struct osm_hash){7, 7}, "K a/b", "x.yaml:1");
        json_decref(body);
    }
    assert_int_equal(osm_value_hash(L, 1, "v", &a, NULL), 0);
    assert_int_equal(osm_value_hash(L, 2, "v", &b, NULL), 0);
    assert_true(osm_hash_equal(a, b));
    assert_int_equal(osm_value_content_hash(L, 1, &content_a), 0);
    assert_int_equal(osm_value_content_hash(L, 2, &content_b), 0);
    assert_false(osm_hash_equal(content_a, content_b));
    assert_string_equal(osm_identity_get(L, 1)->label, "K a/b");
    assert_string_equal(osm_identity_get(L, 1)->origin, "x.yaml:1");
    lua_getfield(L, 1, "spec");
    assert_null(osm_identity_get(L, -1));
}

static void test_a_sum_of_hashes_has_no_order_and_can_be_taken_back(void **state)
{
    (void)state;
    struct osm_hash a = {1, UINT64_MAX}, b = {UINT64_MAX, 2}, none = {0, 0};
    assert_true(osm_hash_equal(osm_hash_add(osm_hash_add(none, a), b),
                               osm_hash_add(osm_hash_add(none, b), a)));
    assert_true(osm_hash_equal(osm_hash_sub(osm_hash_add(osm_hash_add(none, a), b), a), b));
    assert_false(osm_hash_equal(osm_hash_sum_of(1, a), osm_hash_sum_of(2, a)));
}

static int no_leak(void **state)
{
    (void)state;
    return osm_mem_live() ? -1 : 0;
}

#define VALUE_TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        VALUE_TEST(test_equal_values_have_equal_hashes),
        VALUE_TEST(test_different_values_have_different_hashes),
        VALUE_TEST(test_json_hashes_as_what_is_pushed),
        VALUE_TEST(test_values_survive_the_way_there_and_back),
        VALUE_TEST(test_what_is_no_plain_value_is_named_with_its_path),
        VALUE_TEST(test_a_value_that_shares_its_parts_is_bounded),
        VALUE_TEST(test_paths_are_printed_as_kubernetes_does),
        VALUE_TEST(test_an_object_counts_by_its_identity),
        VALUE_TEST(test_a_sum_of_hashes_has_no_order_and_can_be_taken_back),
    };
    return cmocka_run_group_tests(tests, NULL, no_leak);
}
