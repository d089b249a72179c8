#include "base/bytes.h"

#include "base/check_left.h"

static void test_bytes_are_copied_and_hashed(void **state)
{
    (void)state;
    char text[] = "abc";
    struct osm_bytes *b = osm_bytes_new(text, 3);
    text[0] = 'x';
    assert_int_equal(osm_bytes_len(b), 3);
    assert_memory_equal(osm_bytes_data(b), "abc", 3);
    assert_true(osm_hash_equal(osm_bytes_hash(b), osm_hash_bytes("abc", 3)));
    assert_false(osm_bytes_secret(b));
    osm_bytes_unref(b);
}

static void test_the_last_reference_frees(void **state)
{
    (void)state;
    struct osm_bytes *b = osm_bytes_new_secret("key", 3);
    assert_true(osm_bytes_secret(b));
    assert_ptr_equal(osm_bytes_ref(b), b);
    osm_bytes_unref(b);
    assert_int_equal(osm_mem_live(), 1);
    assert_memory_equal(osm_bytes_data(b), "key", 3);
    osm_bytes_unref(b);
    assert_int_equal(osm_mem_live(), 0);
    osm_bytes_unref(NULL);
}

static void test_empty_and_absurd_sizes(void **state)
{
    (void)state;
    struct osm_bytes *b = osm_bytes_new(NULL, 0);
    assert_int_equal(osm_bytes_len(b), 0);
    osm_bytes_unref(b);
    assert_null(osm_bytes_new("", SIZE_MAX));
    osm_mem_fail_at(0);
    assert_null(osm_bytes_new("x", 1));
    osm_mem_fail_at(-1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes_are_copied_and_hashed),
        cmocka_unit_test(test_the_last_reference_frees),
        cmocka_unit_test(test_empty_and_absurd_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, nothing_is_left);
}
