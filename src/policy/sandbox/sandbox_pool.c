#include "policy/sandbox/sandbox_pool.h"

#include <string.h>

static bool is_small(const struct osm_pool *pool, size_t size)
{
    return !pool->plain && size && size <= OSM_POOL_MAX;
}

static size_t class_of(size_t size)
{
    return (size - 1) / OSM_POOL_STEP;
}

static void put_back(struct osm_pool *pool, void *block, size_t class)
{
    memcpy(block, &pool->free[class], sizeof(void *));
    pool->free[class] = block;
}

/* The first block of a slab chains the slabs; the others are free. */
static bool add_slab(struct osm_pool *pool, size_t class)
{
    size_t size = (class + 1) * OSM_POOL_STEP;
    char *slab = osm_realloc_array(NULL, 1, OSM_POOL_SLAB);
    if (!slab)
        return false;
    memcpy(slab, &pool->slabs, sizeof(void *));
    pool->slabs = slab;
    for (size_t at = OSM_POOL_SLAB / size; at > 1; at--)
        put_back(pool, slab + (at - 1) * size, class);
    return true;
}

static void *take(struct osm_pool *pool, size_t size)
{
    size_t class = class_of(size);
    if (!pool->free[class] && !add_slab(pool, class))
        return NULL;
    void *block = pool->free[class];
    memcpy(&pool->free[class], block, sizeof(void *));
    return block;
}

static void drop(struct osm_pool *pool, void *block, size_t size)
{
    if (is_small(pool, size))
        put_back(pool, block, class_of(size));
    else
        osm_free(block);
}

void *osm_pool_resize(struct osm_pool *pool, void *ptr, size_t old_size, size_t size)
{
    if (!size) {
        if (ptr)
            drop(pool, ptr, old_size);
        return NULL;
    }
    bool was_small = is_small(pool, old_size), small = is_small(pool, size);
    if (!was_small && !small)
        return osm_realloc_array(ptr, 1, size);
    if (was_small && small && class_of(old_size) == class_of(size))
        return ptr;
    void *made = small ? take(pool, size) : osm_realloc_array(NULL, 1, size);
    if (made && ptr) {
        memcpy(made, ptr, old_size < size ? old_size : size);
        drop(pool, ptr, old_size);
    }
    return made;
}

void osm_pool_clear(struct osm_pool *pool)
{
    while (pool->slabs) {
        void *slab = pool->slabs;
        memcpy(&pool->slabs, slab, sizeof(void *));
        osm_free(slab);
    }
    *pool = (struct osm_pool){.plain = pool->plain};
}
