#include "policy/memo/key.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define STR(s)                                                                                     \
    {                                                                                              \
        .type = OSM_SCALAR_STR, .str = (s)                                                         \
    }
#define INT(n)                                                                                     \
    {                                                                                              \
        .type = OSM_SCALAR_INT, .i = (n)                                                           \
    }
#define BOOL(v)                                                                                    \
    {                                                                                              \
        .type = OSM_SCALAR_BOOL, .i = (v)                                                          \
    }

static const struct osm_key keys[] = {
    /* in their order */
    {0, {{0}}},
    {1, {BOOL(0)}},
    {1, {BOOL(1)}},
    {1, {INT(INT64_MIN)}},
    {1, {INT(-1)}},
    {1, {INT(0)}},
    {1, {INT(INT64_MAX)}},
    {1, {STR("")}},
    {1, {STR("a")}},
    {2, {STR("a"), INT(80)}},
    {2, {STR("a"), STR("")}},
    {3, {STR("a"), STR("b"), BOOL(1)}},
    {2, {STR("a"), STR("bc")}},
    {2, {STR("ab"), STR("c")}},
};
enum { KEYS = sizeof keys / sizeof *keys };

static void test_a_key_survives_its_canonical_form(void **state)
{
    (void)state;
    for (size_t i = 0; i < KEYS; i++) {
        unsigned char bytes[OSM_KEY_BYTES];
        struct osm_key back;
        size_t len = osm_key_encode(&keys[i], bytes);
        assert_true(len > 0);
        osm_key_decode(bytes, len, &back);
        assert_int_equal(back.n, keys[i].n);
        assert_int_equal(osm_key_compare(&keys[i], &back), 0);
    }
}

static void test_order_and_difference(void **state)
{
    (void)state;
    for (size_t i = 0; i < KEYS; i++)
        for (size_t k = 0; k < KEYS; k++) {
            unsigned char a[OSM_KEY_BYTES], b[OSM_KEY_BYTES];
            size_t la = osm_key_encode(&keys[i], a), lb = osm_key_encode(&keys[k], b);
            int order = osm_key_compare(&keys[i], &keys[k]);
            assert_int_equal((order > 0) - (order < 0), (i > k) - (i < k));
            assert_int_equal(la == lb && !memcmp(a, b, la), i == k);
        }
}

static void test_a_key_that_is_too_long_has_no_canonical_form(void **state)
{
    (void)state;
    unsigned char bytes[OSM_KEY_BYTES];
    char text[OSM_KEY_BYTES + 1];
    memset(text, 'x', sizeof text - 1);
    for (size_t len = OSM_KEY_BYTES - 8; len <= OSM_KEY_BYTES; len++) {
        text[len] = '\0';
        struct osm_key key = {1, {STR(text)}};
        assert_int_equal(osm_key_encode(&key, bytes) > 0, len + 2 <= OSM_KEY_BYTES - 1);
        text[len] = 'x';
    }
}

static void test_text_and_json(void **state)
{
    (void)state;
    struct osm_buf out = OSM_BUF_INIT(256);
    struct osm_key key = {3, {STR("a"), INT(-5), BOOL(1)}};
    osm_key_text(&key, ", ", &out);
    assert_string_equal(out.data, "a, -5, true");
    osm_buf_clear(&out);
    json_t *json = osm_key_json(&key), *expected = json_pack("[s, i, b]", "a", -5, 1);
    assert_true(json_equal(json, expected));
    json_decref(json);
    json_decref(expected);
}

static int no_leak(void **state)
{
    (void)state;
    return osm_mem_live() ? -1 : 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_key_survives_its_canonical_form),
        cmocka_unit_test(test_order_and_difference),
        cmocka_unit_test(test_a_key_that_is_too_long_has_no_canonical_form),
        cmocka_unit_test(test_text_and_json),
    };
    return cmocka_run_group_tests(tests, NULL, no_leak);
}
