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

static char *take_slab(struct osm_pool *pool)
{
    if (!pool->chunks || pool->slabs == OSM_POOL_CHUNK / OSM_POOL_SLAB) {
        char *chunk = osm_pages_alloc(OSM_POOL_CHUNK);
        if (!chunk)
            return NULL;
        memcpy(chunk, &pool->chunks, sizeof(void *));
        pool->chunks = chunk;
        pool->slabs = 0;
    }
    return (char *)pool->chunks + OSM_POOL_SLAB * pool->slabs++;
}

/* The first block of a slab is left out: in the first slab of a chunk it chains the chunks. */
static bool add_slab(struct osm_pool *pool, size_t class)
{
    size_t size = (class + 1) * OSM_POOL_STEP;
    char *slab = take_slab(pool);
    if (!slab)
        return false;
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
    while (pool->chunks) {
        void *chunk = pool->chunks;
        memcpy(&pool->chunks, chunk, sizeof(void *));
        osm_pages_free(chunk, OSM_POOL_CHUNK);
    }
    *pool = (struct osm_pool){.plain = pool->plain};
}
