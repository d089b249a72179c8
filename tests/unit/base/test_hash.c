#include "base/hash.h"

#include "base/check_left.h"

static void test_equal_bytes_have_equal_hashes(void **state)
{
    (void)state;
    char a[] = "text", b[] = "text";
    assert_true(osm_hash_equal(osm_hash_bytes(a, 4), osm_hash_bytes(b, 4)));
    assert_false(osm_hash_equal(osm_hash_bytes(a, 4), osm_hash_bytes(a, 3)));
    assert_false(osm_hash_equal(osm_hash_bytes("a\0b", 3), osm_hash_bytes("a\0c", 3)));
    assert_true(osm_hash_equal(osm_hash_bytes(NULL, 0), osm_hash_bytes("", 0)));
}

static void test_equality_needs_both_halves(void **state)
{
    (void)state;
    struct osm_hash a = {1, 2}, b = {1, 3}, c = {2, 2};
    assert_false(osm_hash_equal(a, b));
    assert_false(osm_hash_equal(a, c));
}

/* Versions that proxies keep are made of this: it must be the same in every build. */
static void test_hex_is_stable(void **state)
{
    (void)state;
    char hex[OSM_HASH_HEX_SIZE];
    assert_string_equal(osm_hash_hex((struct osm_hash){1, 0xabcdef}, hex),
                        "00000000000000010000000000abcdef");
    assert_string_equal(osm_hash_hex(osm_hash_bytes("", 0), hex),
                        "99aa06d3014798d86001c324468d497f");
}

/* Nothing is lost in a chain, and neither order nor a bit of either side is. */
static void test_fold_tells_its_arguments_apart(void **state)
{
    (void)state;
    struct osm_hash zero = {0, 0}, seen[4 * 128 + 1];
    size_t n = 0;
    seen[n++] = osm_hash_fold(zero, zero);
    for (unsigned bit = 0; bit < 128; bit++) {
        struct osm_hash one = bit < 64 ? (struct osm_hash){0, UINT64_C(1) << bit}
                                       : (struct osm_hash){UINT64_C(1) << (bit - 64), 0};
        seen[n++] = osm_hash_fold(one, zero);
        seen[n++] = osm_hash_fold(zero, one);
        seen[n++] = osm_hash_fold(osm_hash_fold(zero, one), zero);
        seen[n++] = osm_hash_fold(osm_hash_fold(zero, zero), one);
    }
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < i; k++) {
            assert_true(seen[i].hi != seen[k].hi); /* each half alone is good */
            assert_true(seen[i].lo != seen[k].lo);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equal_bytes_have_equal_hashes),
        cmocka_unit_test(test_equality_needs_both_halves),
        cmocka_unit_test(test_hex_is_stable),
        cmocka_unit_test(test_fold_tells_its_arguments_apart),
    };
    return cmocka_run_group_tests(tests, NULL, nothing_is_left);
}
