#include "base/map.h"

#include "base/check.h"
#include "base/hash.h"

#include <stdlib.h>
#include <string.h>

void osm_map_clear(struct osm_map *map)
{
    for (size_t i = 0; i < map->entries_len && !map->borrows; i++)
        osm_free(map->entries[i].key);
    osm_free(map->entries);
    osm_free(map->slots);
    *map = (struct osm_map){.borrows = map->borrows};
}

/* The upper half of the hash in the slot spares a look at the entry, which is seldom in the
 * processor's cache, for nearly all keys that only share a chain. */
enum { INDEX_BITS = 32 };

static uint64_t slot_of(uint64_t hash, size_t index)
{
    return hash >> INDEX_BITS << INDEX_BITS | (index + 1);
}

static struct osm_map_entry *entry_at(const struct osm_map *map, uint64_t slot)
{
    return &map->entries[(uint32_t)slot - 1];
}

/* The slot that holds the key, or the first free one for it. slots_cap > 0. */
static size_t find_slot(const struct osm_map *map, const void *key, size_t key_len, uint64_t hash)
{
    size_t i = hash & (map->slots_cap - 1);
    for (;; i = (i + 1) & (map->slots_cap - 1)) {
        uint64_t slot = map->slots[i];
        if (!slot || !map->entries)
            return i;
        if (slot >> INDEX_BITS != hash >> INDEX_BITS)
            continue;
        const struct osm_map_entry *e = entry_at(map, slot);
        if (e->key && e->hash == hash && e->key_len == key_len && !memcmp(e->key, key, key_len))
            return i;
    }
}

/* Rebuilds both tables without holes, with room for one more entry. */
static int rebuild(struct osm_map *map)
{
    size_t cap = 4; /* many hold one or two */
    while (cap < (map->count + 1) * 2)
        cap *= 2;
    if (cap >= UINT32_MAX)
        return OSM_ELIMIT;
    struct osm_map fresh = {.slots_cap = cap, .entries_cap = cap * 3 / 4, .borrows = map->borrows};
    fresh.slots = osm_alloc_array(cap, sizeof *fresh.slots);
    fresh.entries = osm_alloc_array(fresh.entries_cap, sizeof *fresh.entries);
    if (!fresh.slots || !fresh.entries) {
        osm_free(fresh.slots);
        osm_free(fresh.entries);
        return OSM_ENOMEM;
    }
    for (size_t i = 0; map->entries && i < map->entries_len; i++) {
        struct osm_map_entry *e = &map->entries[i];
        if (!e->key)
            continue;
        fresh.entries[fresh.entries_len++] = *e;
        fresh.slots[find_slot(&fresh, e->key, e->key_len, e->hash)] =
            slot_of(e->hash, fresh.entries_len - 1);
    }
    fresh.count = map->count;
    osm_free(map->entries);
    osm_free(map->slots);
    *map = fresh;
    return 0;
}

static struct osm_map_entry *find(const struct osm_map *map, const void *key, size_t key_len)
{
    if (!map->slots_cap)
        return NULL;
    uint64_t slot = map->slots[find_slot(map, key, key_len, osm_hash_bytes(key, key_len).lo)];
    return slot ? entry_at(map, slot) : NULL;
}

void *osm_map_getn(const struct osm_map *map, const void *key, size_t key_len)
{
    const struct osm_map_entry *e = find(map, key, key_len);
    return e ? e->value : NULL;
}

void *osm_map_get(const struct osm_map *map, const char *key)
{
    return osm_map_getn(map, key, strlen(key));
}

bool osm_map_has(const struct osm_map *map, const char *key)
{
    return find(map, key, strlen(key)) != NULL;
}

static void replace(const struct osm_map *map, struct osm_map_entry *e, const void *key,
                    void *value, void **old)
{
    if (old)
        *old = e->value;
    e->value = value;
    if (map->borrows)
        e->key = (char *)(uintptr_t)key;
}

int osm_map_putn(struct osm_map *map, const void *key, size_t key_len, void *value, void **old)
{
    if (old)
        *old = NULL;
    uint64_t hash = osm_hash_bytes(key, key_len).lo;
    size_t at = map->slots_cap ? find_slot(map, key, key_len, hash) : 0;
    if (map->slots_cap && map->slots[at]) {
        replace(map, entry_at(map, map->slots[at]), key, value, old);
        return 0;
    }
    char *kept = map->borrows ? (char *)(uintptr_t)key : osm_strndup(key, key_len);
    if (!kept)
        return OSM_ENOMEM;
    if (map->entries_len >= map->entries_cap) {
        int rc = rebuild(map);
        if (rc) {
            if (!map->borrows)
                osm_free(kept);
            return rc;
        }
        at = find_slot(map, key, key_len, hash);
    }
    OSM_DCHECK(map->entries && map->entries_len < map->entries_cap);
    map->entries[map->entries_len++] = (struct osm_map_entry){kept, key_len, value, hash};
    map->slots[at] = slot_of(hash, map->entries_len - 1);
    map->count++;
    return 0;
}

int osm_map_put(struct osm_map *map, const char *key, void *value, void **old)
{
    return osm_map_putn(map, key, strlen(key), value, old);
}

void *osm_map_deln(struct osm_map *map, const void *key, size_t key_len)
{
    struct osm_map_entry *e = find(map, key, key_len);
    if (!e)
        return NULL;
    /* The slot keeps pointing at the hole, so that probe chains stay whole until the next rebuild.
     */
    void *value = e->value;
    if (!map->borrows)
        osm_free(e->key);
    e->key = NULL;
    e->value = NULL;
    map->count--;
    return value;
}

void *osm_map_del(struct osm_map *map, const char *key)
{
    return osm_map_deln(map, key, strlen(key));
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

const char **osm_map_sorted_keys(const struct osm_map *map, size_t *n)
{
    const char **keys = osm_alloc_array(map->count, sizeof *keys);
    *n = 0;
    if (!keys)
        return NULL;
    osm_map_each (map, e)
        keys[(*n)++] = e->key;
    qsort(keys, *n, sizeof *keys, by_text);
    return keys;
}
