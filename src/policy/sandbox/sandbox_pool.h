/* Memory for the small blocks of a Lua state: a free list per size, cut from slabs. Lua says the
 * size of what it frees, so a block needs no head, and freeing joins nothing: a run makes and drops
 * millions of blocks of a few sizes.
 *
 *   chunk [ slab | slab | slab | ... ]
 *   slab  [ 48 | 48 | 48 | ... ]     a slab holds blocks of one size
 *           |    ^    |
 *   free ---'    '----'              what is free is chained through its own first bytes
 *
 * Chunks are pages of their own and given back with the pool only: what a state needed once it may
 * need again, and when it goes nothing else keeps them from the system. A plain pool
 * leaves every block to malloc, so that a sanitizer and the tests that make allocations fail see
 * each; the engine of a debug build has one. */
#pragma once

#include "base/mem.h"

#include <stdbool.h>

enum {
    OSM_POOL_STEP = 16,
    OSM_POOL_MAX = 512,
    OSM_POOL_SLAB = 32 * 1024,
    OSM_POOL_CHUNK = 1 << 20
};

struct osm_pool {
    void *free[OSM_POOL_MAX / OSM_POOL_STEP];
    void *chunks; /* chained through their first bytes */
    size_t slabs; /* cut from the first of them */
    bool plain;   /* every block is one of malloc's */
};

/** As lua_Alloc: @p size 0 frees; NULL: no memory, and the old block is as it was. @p ptr NULL:
 * old_size is 0. */
void *osm_pool_resize(struct osm_pool *pool, void *ptr, size_t old_size, size_t size);
void osm_pool_clear(struct osm_pool *pool);
