/* Allocation. Every function returns NULL when memory is out (or a size overflows) and says so to
 * nobody: the caller handles it. Nothing else in the tree calls malloc or free, so that a test can
 * make any one allocation fail. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OSM_MUST_USE __attribute__((warn_unused_result))

/** Zeroed memory. Owns: caller, osm_free. */
OSM_MUST_USE void *osm_alloc(size_t size);
/** Zeroed array; NULL also when count * size overflows. */
OSM_MUST_USE void *osm_alloc_array(size_t count, size_t size);
/** Grows or shrinks; the old block stays valid when NULL is returned. New memory is not zeroed. */
OSM_MUST_USE void *osm_realloc_array(void *ptr, size_t count, size_t size);
/** Frees; NULL is accepted. */
void osm_free(void *ptr);
/** Overwrites with zeros (not optimised away), then frees: for keys and whatever held one. */
void osm_free_secret(void *ptr, size_t size);
/** Zeroed memory of its own pages, which go back to the system at once when it is given back:
 * for large pieces that come and go with something that lives for a while. Owns: caller, by
 * osm_pages_free with the same size. */
OSM_MUST_USE void *osm_pages_alloc(size_t size);
void osm_pages_free(void *ptr, size_t size);
OSM_MUST_USE char *osm_strdup(const char *text);
OSM_MUST_USE char *osm_strndup(const char *text, size_t len);
/** printf into a new string. */
OSM_MUST_USE char *osm_strf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/** Moves a pointer out of its variable, which becomes NULL. */
#define osm_take_ptr(pp) osm__take_ptr((void **)(pp))
void *osm__take_ptr(void **pp);

/** Until it is told otherwise, this thread makes much that stays: the C library is made to grow in
 * larger steps. */
void osm_mem_grows(bool grows);

/** Tests only: the n-th allocation from now on fails, once (0 = the next). Negative: none does. Any
 * thread. */
void osm_mem_fail_at(long n);
/** Tests only: whether the allocation that was to fail has not come yet. */
bool osm_mem_fail_waits(void);
/** Live allocations made through this file. */
long osm_mem_live(void);
/** Resident bytes of the process; 0 where it cannot be read. */
size_t osm_mem_resident(void);

/** What the C library holds for everybody, not this file's callers alone. `free_bytes` counts also
 * what has been given back; `mapped_bytes`: large blocks of their own. */
struct osm_mem_heap {
    size_t used_bytes, free_bytes, mapped_bytes;
};
/** Walks over what is free. Thread: any. */
struct osm_mem_heap osm_mem_measure_heap(void);
/** Gives whole pages that are free back to the system: who allocates meanwhile may wait. */
void osm_mem_give_back(void);
