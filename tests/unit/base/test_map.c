#include "base/map.h"

#include "base/check_left.h"

#include <stdio.h>

static void *number(uintptr_t n)
{
    return (void *)n;
}

static void test_puts_gets_and_replaces(void **state)
{
    (void)state;
    struct osm_map map = OSM_MAP_INIT;
    void *old = number(9);
    assert_null(osm_map_get(&map, "a"));
    assert_false(osm_map_has(&map, "a"));
    assert_null(osm_map_del(&map, "a"));
    assert_int_equal(osm_map_put(&map, "a", number(1), &old), 0);
    assert_null(old);
    assert_int_equal(osm_map_put(&map, "a", number(2), &old), 0);
    assert_ptr_equal(old, number(1));
    assert_int_equal(osm_map_put(&map, "", NULL, NULL), 0);
    assert_true(osm_map_has(&map, ""));
    assert_null(osm_map_get(&map, ""));
    assert_int_equal(map.count, 2);
    assert_ptr_equal(osm_map_del(&map, "a"), number(2));
    assert_false(osm_map_has(&map, "a"));
    osm_map_clear(&map);
    osm_map_clear(&map);
    assert_int_equal(map.count, 0);
}

static void test_borrowed_keys_stay_where_they_are(void **state)
{
    (void)state;
    char keys[40][8];
    struct osm_map map = OSM_MAP_INIT_BORROWS;
    for (size_t i = 0; i < 40; i++) {
        (void)snprintf(keys[i], sizeof keys[i], "k%zu", i % 20);
        assert_int_equal(osm_map_put(&map, keys[i], number(i + 1), NULL), 0);
    }
    assert_int_equal(map.count, 20);
    size_t n = 20;
    osm_map_each (&map, e)
        assert_ptr_equal(e->key, keys[n++]); /* the value that is there now came with it */
    keys[3][0] = 'x';                        /* the replaced one's is nobody's any more */
    assert_ptr_equal(osm_map_get(&map, "k3"), number(24));
    assert_ptr_equal(osm_map_del(&map, keys[23]), number(24));
    assert_false(osm_map_has(&map, "k3"));
    osm_map_clear(&map);
    assert_int_equal(osm_map_put(&map, keys[5], number(1), NULL), 0);
    assert_ptr_equal(map.entries[0].key, keys[5]); /* still */
    osm_map_clear(&map);
}

static void test_keys_may_hold_any_bytes(void **state)
{
    (void)state;
    struct osm_map map = OSM_MAP_INIT;
    assert_int_equal(osm_map_putn(&map, "a\0b", 3, number(1), NULL), 0);
    assert_int_equal(osm_map_putn(&map, "a", 1, number(2), NULL), 0);
    assert_ptr_equal(osm_map_getn(&map, "a\0b", 3), number(1));
    assert_ptr_equal(osm_map_getn(&map, "a\0c", 3), NULL);
    assert_ptr_equal(osm_map_get(&map, "a"), number(2));
    assert_ptr_equal(osm_map_deln(&map, "a\0b", 3), number(1));
    osm_map_clear(&map);
}

static void test_iterates_in_order_of_insertion_and_may_delete(void **state)
{
    (void)state;
    struct osm_map map = OSM_MAP_INIT;
    char key[16], seen[64] = "";
    size_t length = 0;
    for (int i = 0; i < 8; i++) {
        (void)snprintf(key, sizeof key, "%d", (i * 5) % 8);
        assert_int_equal(osm_map_put(&map, key, number(1), NULL), 0);
    }
    osm_map_each (&map, e) {
        seen[length++] = *e->key;
        if (*e->key % 2)
            (void)osm_map_del(&map, e->key);
    }
    assert_string_equal(seen, "05274163");
    assert_int_equal(map.count, 4);
    size_t n = 0;
    const char **keys = osm_map_sorted_keys(&map, &n);
    assert_int_equal(n, 4);
    assert_string_equal(keys[0], "0");
    assert_string_equal(keys[3], "6");
    osm_free(keys);
    osm_map_clear(&map);
    keys = osm_map_sorted_keys(&map, &n);
    assert_non_null(keys);
    assert_int_equal(n, 0);
    osm_free(keys);
}

/* Against a plain array: many keys, many deletions, the tables rebuilt many times. */
static void test_behaves_like_an_array(void **state)
{
    (void)state;
    enum { KEYS = 500 };
    struct osm_map map = OSM_MAP_INIT;
    uintptr_t values[KEYS] = {0};
    uint64_t random = 1;
    size_t count = 0;
    for (int i = 0; i < 40000; i++) {
        char key[16];
        random = random * 6364136223846793005u + 1442695040888963407u;
        unsigned k = (unsigned)(random >> 33) % KEYS;
        (void)snprintf(key, sizeof key, "key-%u", k);
        if (random >> 60 < 9) {
            assert_int_equal(osm_map_put(&map, key, number((uintptr_t)i + 1), NULL), 0);
            count += !values[k];
            values[k] = (uintptr_t)i + 1;
        } else {
            assert_ptr_equal(osm_map_del(&map, key), number(values[k]));
            count -= values[k] != 0;
            values[k] = 0;
        }
        assert_int_equal(map.count, count);
    }
    size_t live = 0;
    osm_map_each (&map, e)
        live++;
    assert_int_equal(live, count);
    for (unsigned k = 0; k < KEYS; k++) {
        char key[16];
        (void)snprintf(key, sizeof key, "key-%u", k);
        assert_ptr_equal(osm_map_get(&map, key), number(values[k]));
    }
    osm_map_clear(&map);
}

static void test_no_memory_leaves_the_map_as_it_was(void **state)
{
    (void)state;
    for (long n = 0; n < 3; n++) {
        struct osm_map map = OSM_MAP_INIT;
        osm_mem_fail_at(n);
        assert_int_equal(osm_map_put(&map, "a", number(1), NULL), OSM_ENOMEM);
        osm_mem_fail_at(-1);
        assert_int_equal(map.count, 0);
        assert_false(osm_map_has(&map, "a"));
        assert_int_equal(osm_map_put(&map, "a", number(1), NULL), 0);
        osm_map_clear(&map);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_puts_gets_and_replaces),
        cmocka_unit_test(test_borrowed_keys_stay_where_they_are),
        cmocka_unit_test(test_keys_may_hold_any_bytes),
        cmocka_unit_test(test_iterates_in_order_of_insertion_and_may_delete),
        cmocka_unit_test(test_behaves_like_an_array),
        cmocka_unit_test(test_no_memory_leaves_the_map_as_it_was),
    };
    return cmocka_run_group_tests(tests, NULL, nothing_is_left);
}
