#include "policy/sandbox/sandbox_pool.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

enum { BLOCKS = 3000, CHUNK_SLABS = OSM_POOL_CHUNK / OSM_POOL_SLAB };

static void fill(unsigned char *block, size_t size, size_t seed)
{
    for (size_t i = 0; i < size; i++)
        block[i] = (unsigned char)(seed * 31 + i);
}

static void expect(const unsigned char *block, size_t size, size_t seed)
{
    for (size_t i = 0; i < size; i++)
        assert_int_equal(block[i], (unsigned char)(seed * 31 + i));
}

/* Blocks of all sizes grow, shrink and go in an order without pattern; none shares a byte with
 * another. */
static void blocks_keep_their_bytes(bool plain)
{
    static unsigned char *blocks[BLOCKS];
    static size_t sizes[BLOCKS];
    struct osm_pool pool = {.plain = plain};
    uint64_t random = 7;
    for (size_t i = 0; i < BLOCKS; i++)
        sizes[i] = 0;
    for (size_t step = 0; step < (size_t)BLOCKS * 20; step++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        size_t i = (size_t)(random >> 33) % BLOCKS, old = sizes[i],
               size = (size_t)(random >> 13) % 700;
        unsigned char *made = osm_pool_resize(&pool, old ? blocks[i] : NULL, old, size);
        if (size) {
            assert_non_null(made);
            expect(made, old < size ? old : size, i);
            fill(made, size, i);
        }
        blocks[i] = made;
        sizes[i] = size;
    }
    for (size_t i = 0; i < BLOCKS; i++) {
        expect(blocks[i], sizes[i], i);
        if (sizes[i])
            (void)osm_pool_resize(&pool, blocks[i], sizes[i], 0);
    }
    osm_pool_clear(&pool);
    assert_int_equal(osm_mem_live(), 0);
}

static void test_blocks_of_slabs_keep_their_bytes(void **state)
{
    (void)state;
    blocks_keep_their_bytes(false);
}

static void test_plain_blocks_keep_their_bytes(void **state)
{
    (void)state;
    blocks_keep_their_bytes(true);
}

static void test_what_is_freed_is_used_again(void **state)
{
    (void)state;
    struct osm_pool pool = {.plain = false};
    void *first = osm_pool_resize(&pool, NULL, 0, 40);
    long live = osm_mem_live();
    for (int i = 0; i < 10000; i++) {
        void *block = osm_pool_resize(&pool, NULL, 0, 40);
        assert_non_null(block);
        (void)osm_pool_resize(&pool, block, 40, 0);
    }
    assert_int_equal(osm_mem_live(), live);
    (void)osm_pool_resize(&pool, first, 40, 0);
    osm_pool_clear(&pool);
    assert_int_equal(osm_mem_live(), 0);
}

static void test_a_block_that_cannot_grow_stays_as_it_was(void **state)
{
    (void)state;
    struct osm_pool pool = {.plain = false};
    unsigned char *block = osm_pool_resize(&pool, NULL, 0, 40);
    fill(block, 40, 3);
    osm_mem_fail_at(0);
    assert_null(osm_pool_resize(&pool, block, 40, 4000));
    for (size_t i = 0; i < CHUNK_SLABS - 1; i++) /* the rest of the chunk */
        for (size_t k = 0; k < OSM_POOL_SLAB / OSM_POOL_MAX - 1; k++)
            assert_non_null(osm_pool_resize(&pool, NULL, 0, OSM_POOL_MAX));
    osm_mem_fail_at(0);
    assert_null(osm_pool_resize(&pool, block, 40, 400));
    osm_mem_fail_at(-1);
    expect(block, 40, 3);
    (void)osm_pool_resize(&pool, block, 40, 0);
    osm_pool_clear(&pool);
    assert_int_equal(osm_mem_live(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_blocks_of_slabs_keep_their_bytes),
        cmocka_unit_test(test_plain_blocks_keep_their_bytes),
        cmocka_unit_test(test_what_is_freed_is_used_again),
        cmocka_unit_test(test_a_block_that_cannot_grow_stays_as_it_was),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
