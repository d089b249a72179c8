/* Buckets and key lists: membership, kept up to date object by object, and what they give to rules.
 *
 * The order of both is that of their keys, so their hash may be a sum over the members in any
 * order: it costs one addition where an object comes or goes, however many there are. */
#include "policy/kinds/kinds.h"

#include "policy/memo/cells.h"
#include "policy/memo/key.h"
#include "policy/memo/value.h"

#include <stdlib.h>
#include <string.h>

/* --- key lists --- */

static void keys_change(struct osm_engine *e, struct osm_decl *decl, const unsigned char *key,
                        size_t len, bool comes)
{
    static const struct osm_key none = {0};
    unsigned char list[OSM_KEY_BYTES];
    struct osm_hash h = osm_hash_bytes(key, len);
    decl->keys_len += comes ? 1 : (uint64_t)-1;
    decl->keys_sum = comes ? osm_hash_add(decl->keys_sum, h) : osm_hash_sub(decl->keys_sum, h);
    osm_cells_touch(e, decl, list, osm_key_encode(&none, list));
}

void osm__keys_add(struct osm_engine *e, struct osm_decl *decl, const unsigned char *key,
                   size_t len)
{
    keys_change(e, decl, key, len, true);
}

void osm__keys_remove(struct osm_engine *e, struct osm_decl *decl, const unsigned char *key,
                      size_t len)
{
    keys_change(e, decl, key, len, false);
}

/* --- buckets --- */

static int by_name(const struct osm_thing *a, const struct osm_thing *b)
{
    int order = strcmp(a->object->ns, b->object->ns);
    return order ? order : strcmp(a->object->name, b->object->name);
}

/* The first place whose thing is not less. */
static size_t place_of(const struct osm_bucket *b, const struct osm_thing *t)
{
    size_t low = 0, high = b->len;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (by_name(b->list[middle], t) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

int osm__bucket_add(struct osm_engine *e, struct osm_decl *index, const unsigned char *key,
                    size_t len, struct osm_thing *t)
{
    struct osm_bucket *b = osm_map_getn(&index->buckets, key, len);
    if (!b) {
        b = osm_alloc(sizeof *b + len);
        if (!b || osm_map_putn(&index->buckets, key, len, b, NULL)) {
            osm_free(b);
            return OSM_ENOMEM;
        }
        b->index = index;
        b->key_len = len;
        memcpy(b->key, key, len);
        osm__keys_add(e, index, key, len);
    }
    size_t at = place_of(b, t);
    if (at < b->len && b->list[at] == t)
        return 0; /* the same key twice */
    if (b->len == b->cap) {
        size_t cap = b->cap ? b->cap * 2 : 4;
        struct osm_thing **grown = osm_realloc_array(b->list, cap, sizeof(struct osm_thing *));
        if (!grown)
            return OSM_ENOMEM;
        b->list = grown;
        b->cap = cap;
    }
    if (t->buckets_len == t->buckets_cap) {
        size_t cap = t->buckets_cap ? t->buckets_cap * 2 : 4;
        struct osm_bucket **grown = osm_realloc_array(t->buckets, cap, sizeof(struct osm_bucket *));
        if (!grown)
            return OSM_ENOMEM;
        t->buckets = grown;
        t->buckets_cap = cap;
    }
    memmove(b->list + at + 1, b->list + at, (b->len - at) * sizeof(struct osm_thing *));
    b->list[at] = t;
    b->len++;
    b->sum = osm_hash_add(b->sum, t->hash);
    t->buckets[t->buckets_len++] = b;
    osm_cells_touch(e, index, key, len);
    return 0;
}

void osm__bucket_free(struct osm_bucket *b)
{
    if (b)
        osm_free(b->list);
    osm_free(b);
}

void osm__buckets_leave(struct osm_engine *e, struct osm_thing *t)
{
    for (size_t i = 0; i < t->buckets_len; i++) {
        struct osm_bucket *b = t->buckets[i];
        size_t at = place_of(b, t);
        osm_cells_touch(e, b->index, b->key, b->key_len);
        if (at < b->len && b->list[at] == t) {
            memmove(b->list + at, b->list + at + 1, (b->len - at - 1) * sizeof(struct osm_thing *));
            b->len--;
            b->sum = osm_hash_sub(b->sum, t->hash);
        }
        if (b->len)
            continue;
        osm__keys_remove(e, b->index, b->key, b->key_len);
        (void)osm_map_deln(&b->index->buckets, b->key, b->key_len);
        osm__bucket_free(b);
    }
    t->buckets_len = 0;
}

/* --- hashes and values of input cells --- */

static struct osm_thing *present(struct osm_decl *kind, const unsigned char *key, size_t len)
{
    struct osm_thing *t = osm_map_getn(&kind->objects, key, len);
    return t && t->present ? t : NULL;
}

struct osm_hash osm_kinds_object_hash(struct osm_decl *kind, const unsigned char *key, size_t len)
{
    struct osm_thing *t = present(kind, key, len);
    return t ? t->hash : osm_hash_text('n', "");
}

struct osm_hash osm_kinds_bucket_hash(struct osm_decl *index, const unsigned char *key, size_t len)
{
    struct osm_bucket *b = osm_map_getn(&index->buckets, key, len);
    if (!b)
        return osm_hash_text('n', "");
    return osm_hash_sum_of(b->len, b->sum);
}

struct key_list {
    struct osm_key *keys;
    size_t len;
};

static int by_key(const void *a, const void *b)
{
    return osm_key_compare(a, b);
}

/* NULL keys: no memory. The keys borrow from the maps. */
static struct key_list sorted_keys(struct osm_decl *decl)
{
    const struct osm_map *map = decl->type == OSM_DECL_KIND ? &decl->objects : &decl->buckets;
    struct key_list list = {osm_alloc_array(map->count, sizeof *list.keys), 0};
    if (!list.keys)
        return list;
    osm_map_each (map, entry) {
        if (decl->type == OSM_DECL_KIND && !((struct osm_thing *)entry->value)->present)
            continue;
        osm_key_decode((const unsigned char *)entry->key, entry->key_len, &list.keys[list.len++]);
    }
    if (list.len)
        qsort(list.keys, list.len, sizeof *list.keys, by_key);
    return list;
}

struct osm_hash osm_kinds_keys_hash(struct osm_decl *decl)
{
    return osm_hash_sum_of(decl->keys_len, decl->keys_sum);
}

void osm_kinds_push_object(lua_State *L, struct osm_decl *kind, const unsigned char *key,
                           size_t len)
{
    struct osm_thing *t = present(kind, key, len);
    if (t)
        osm__thing_push(L, t);
    else
        lua_pushnil(L);
}

void osm_kinds_push_bucket(lua_State *L, struct osm_decl *index, const unsigned char *key,
                           size_t len)
{
    struct osm_bucket *b = osm_map_getn(&index->buckets, key, len);
    lua_createtable(L, b ? (int)b->len : 0, 0);
    for (size_t i = 0; b && i < b->len; i++) {
        osm__thing_push(L, b->list[i]);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
}

void osm_kinds_bucket_handed(struct osm_engine *e, struct osm_decl *index, const unsigned char *key,
                             size_t len)
{
    struct osm_bucket *b = osm_map_getn(&index->buckets, key, len);
    for (size_t i = 0; b && i < b->len; i++)
        osm__thing_handed(e, b->list[i]);
}

static int l_push_keys(lua_State *L)
{
    const struct key_list *list = lua_touserdata(L, 1);
    lua_createtable(L, (int)list->len, 0);
    for (size_t i = 0; i < list->len; i++) {
        lua_createtable(L, (int)list->keys[i].n, 0);
        int table = lua_gettop(L);
        int n = osm_key_push(L, &list->keys[i]);
        for (int k = n; k >= 1; k--)
            lua_rawseti(L, table, k);
        lua_rawseti(L, table - 1, (lua_Integer)i + 1);
    }
    return 1;
}

/* The array of keys is C memory: an error on the way must not lose it. */
void osm_kinds_push_keys(lua_State *L, struct osm_decl *decl)
{
    struct key_list list = sorted_keys(decl);
    if (!list.keys)
        luaL_error(L, "out of memory");
    lua_pushcfunction(L, l_push_keys);
    lua_pushlightuserdata(L, &list);
    int status = lua_pcall(L, 1, 1, 0);
    osm_free(list.keys);
    if (status != LUA_OK)
        (void)lua_error(L);
}
