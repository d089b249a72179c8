#include "base/check_left.h"

static void test_memory_is_zeroed_and_counted(void **state)
{
    (void)state;
    unsigned char *p = osm_alloc(64);
    assert_non_null(p);
    for (int i = 0; i < 64; i++)
        assert_int_equal(p[i], 0);
    assert_int_equal(osm_mem_live(), 1);
    p = osm_realloc_array(p, 128, 2);
    assert_non_null(p);
    assert_int_equal(osm_mem_live(), 1);
    osm_free(p);
    osm_free(NULL);
    assert_int_equal(osm_mem_live(), 0);
}

static void test_sizes_that_overflow_are_refused(void **state)
{
    (void)state;
    assert_null(osm_alloc_array(SIZE_MAX / 2, 3));
    char *p = osm_alloc(1);
    assert_null(osm_realloc_array(p, SIZE_MAX / 2, 3));
    osm_free(p); /* the old block is still there */
}

static void test_nothing_is_something(void **state)
{
    (void)state;
    char *p = osm_alloc_array(0, 8), *q = osm_realloc_array(NULL, 0, 8);
    assert_non_null(p);
    assert_non_null(q);
    osm_free(p);
    osm_free(q);
}

static void test_texts(void **state)
{
    (void)state;
    char *a = osm_strdup("one"), *b = osm_strndup("two three", 3), *c = osm_strf("%s-%d", "x", 7);
    assert_string_equal(a, "one");
    assert_string_equal(b, "two");
    assert_string_equal(c, "x-7");
    char *moved = osm_take_ptr(&a);
    assert_null(a);
    assert_string_equal(moved, "one");
    osm_free(moved);
    osm_free(b);
    osm_free_secret(c, strlen(c));
}

static void test_the_nth_allocation_fails_once(void **state)
{
    (void)state;
    osm_mem_fail_at(1);
    char *a = osm_alloc(1), *b = osm_alloc(1), *c = osm_alloc(1);
    assert_non_null(a);
    assert_null(b);
    assert_non_null(c);
    osm_mem_fail_at(0);
    assert_null(osm_strf("%d", 1));
    osm_mem_fail_at(-1);
    osm_free(a);
    osm_free(c);
}

static void test_pages_are_zeroed_counted_and_can_fail(void **state)
{
    (void)state;
    enum { SIZE = 1 << 20 };
    osm_mem_fail_at(0);
    assert_null(osm_pages_alloc(SIZE));
    unsigned char *pages = osm_pages_alloc(SIZE);
    assert_non_null(pages);
    assert_int_equal(osm_mem_live(), 1);
    for (size_t i = 0; i < SIZE; i++)
        assert_int_equal(pages[i], 0);
    pages[SIZE - 1] = 1;
    osm_pages_free(pages, SIZE);
    osm_pages_free(NULL, SIZE);
    assert_int_equal(osm_mem_live(), 0);
}

/* In which steps memory grows changes nothing of what is allocated meanwhile. */
static void test_blocks_of_a_thread_that_grows_keep_their_bytes(void **state)
{
    enum { BLOCKS = 8000 };
    static char *blocks[BLOCKS];
    (void)state;
    osm_mem_grows(true);
    for (int i = 0; i < BLOCKS; i++) {
        blocks[i] = osm_strf("the text of block %d", i);
        assert_non_null(blocks[i]);
    }
    osm_mem_grows(false);
    assert_int_equal(osm_mem_live(), BLOCKS);
    for (int i = 0; i < BLOCKS; i++) {
        char *want = osm_strf("the text of block %d", i);
        assert_string_equal(blocks[i], want);
        osm_free(want);
        osm_free(blocks[i]);
    }
    assert_int_equal(osm_mem_live(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory_is_zeroed_and_counted),
        cmocka_unit_test(test_sizes_that_overflow_are_refused),
        cmocka_unit_test(test_nothing_is_something),
        cmocka_unit_test(test_texts),
        cmocka_unit_test(test_the_nth_allocation_fails_once),
        cmocka_unit_test(test_pages_are_zeroed_counted_and_can_fail),
        cmocka_unit_test(test_blocks_of_a_thread_that_grows_keep_their_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, nothing_is_left);
}
