/* A hash map from byte strings to pointers. Keys are copied in, unless the map borrows them; values
 * belong to the caller. One thread. Order of iteration is insertion order (deletions leave it), so
 * that nothing downstream depends on a hash. */
#pragma once

#include "base/err.h"

#include <stdbool.h>

struct osm_map_entry {
    char *key; /* NUL-terminated copy, or the caller's as it is; NULL marks a deleted slot */
    size_t key_len;
    void *value;
    uint64_t hash;
};

struct osm_map {
    struct osm_map_entry *entries; /* in insertion order, with holes */
    size_t entries_len, entries_cap;
    uint64_t *slots; /* open addressing: upper half of the hash, and index + 1 into entries */
    size_t slots_cap;
    size_t count;
    bool borrows;
};

#define OSM_MAP_INIT                                                                               \
    {                                                                                              \
        NULL, 0, 0, NULL, 0, 0, false                                                              \
    }
/* Of keys that lie in the values, mostly: each stays as it is until its entry is deleted or
 * replaced, which puts the new key in its place, or the map is cleared. */
#define OSM_MAP_INIT_BORROWS                                                                       \
    {                                                                                              \
        NULL, 0, 0, NULL, 0, 0, true                                                               \
    }

/** Frees keys and tables, not values; repeatable. */
void osm_map_clear(struct osm_map *map);
/** NULL where absent (a stored NULL looks the same). Borrowed. */
void *osm_map_get(const struct osm_map *map, const char *key);
void *osm_map_getn(const struct osm_map *map, const void *key, size_t key_len);
bool osm_map_has(const struct osm_map *map, const char *key);
/** Inserts or replaces. The old value, if any, goes to *old (may be NULL). Errors: OSM_ENOMEM, map
 * unchanged. */
OSM_MUST_USE int osm_map_put(struct osm_map *map, const char *key, void *value, void **old);
OSM_MUST_USE int osm_map_putn(struct osm_map *map, const void *key, size_t key_len, void *value,
                              void **old);
/** Removes; returns the value, NULL where absent. Safe for the current entry of an iteration. */
void *osm_map_del(struct osm_map *map, const char *key);
void *osm_map_deln(struct osm_map *map, const void *key, size_t key_len);

/** for each live entry; @p e is a struct osm_map_entry *. Inserting during the loop is not allowed,
 * deleting is. */
#define osm_map_each(map, e)                                                                       \
    for (struct osm_map_entry *e = (map)->entries; e && e < (map)->entries + (map)->entries_len;   \
         e++)                                                                                      \
        if (e->key)

/** Sorted copy of the keys (bytewise), *n of them; the strings are borrowed, the array is the
 * caller's (osm_free). */
OSM_MUST_USE const char **osm_map_sorted_keys(const struct osm_map *map, size_t *n);
