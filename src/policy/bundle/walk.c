#include "policy/bundle/walk.h"

#include <stdlib.h>
#include <string.h>

struct osm_hash osm__walk_number_hash(char tag, uint64_t number)
{
    uint64_t both[2] = {(uint64_t)(unsigned char)tag, number};
    return osm_hash_bytes(both, sizeof both);
}

bool osm__walk_is_reference(lua_State *L, int index)
{
    int type = lua_type(L, index);
    return type == LUA_TTABLE || type == LUA_TFUNCTION || type == LUA_TUSERDATA;
}

struct osm_hash osm__walk_scalar_hash(lua_State *L, int index)
{
    size_t len = 0;
    lua_Number number;
    uint64_t bits;
    switch (lua_type(L, index)) {
    case LUA_TSTRING: {
        const char *text = lua_tolstring(L, index, &len);
        return osm_hash_fold(osm__walk_number_hash('s', len), osm_hash_bytes(text, len));
    }
    case LUA_TNUMBER:
        if (lua_isinteger(L, index))
            return osm__walk_number_hash('i', (uint64_t)lua_tointeger(L, index));
        number = lua_tonumber(L, index);
        memcpy(&bits, &number, sizeof bits);
        return osm__walk_number_hash('f', bits);
    case LUA_TBOOLEAN:
        return osm__walk_number_hash('b', (uint64_t)lua_toboolean(L, index));
    default: /* nil, light userdata */
        return osm__walk_number_hash('p', (uint64_t)(uintptr_t)lua_touserdata(L, index));
    }
}

static int by_key(const void *a, const void *b)
{
    const struct osm__walk_key *x = a, *y = b;
    if (x->rank != y->rank)
        return x->rank < y->rank ? -1 : 1;
    if (x->rank == 2) {
        size_t least = x->len < y->len ? x->len : y->len;
        int order = memcmp(x->text, y->text, least);
        return order ? order : (x->len > y->len) - (x->len < y->len);
    }
    if (x->number < y->number || x->number > y->number)
        return x->number < y->number ? -1 : 1;
    return (x->integer > y->integer) - (x->integer < y->integer);
}

struct osm__walk_key *osm__walk_keys(lua_State *L, int table, size_t *n, size_t *others)
{
    size_t room = 0;
    *n = *others = 0;
    for (lua_pushnil(L); lua_next(L, table); lua_pop(L, 1))
        room++;
    struct osm__walk_key *keys = lua_newuserdatauv(L, (room + 1) * sizeof *keys, 0);
    for (lua_pushnil(L); lua_next(L, table); lua_pop(L, 1)) {
        struct osm__walk_key *key = &keys[*n];
        *key = (struct osm__walk_key){0};
        if (lua_type(L, -2) == LUA_TSTRING) {
            key->rank = 2;
            key->text = lua_tolstring(L, -2, &key->len);
        } else if (lua_type(L, -2) == LUA_TNUMBER) {
            key->rank = 1;
            key->number = lua_tonumber(L, -2);
            key->integer = lua_isinteger(L, -2) ? lua_tointeger(L, -2) : 0;
        } else if (lua_type(L, -2) == LUA_TBOOLEAN) {
            key->integer = lua_toboolean(L, -2);
        } else {
            ++*others;
            continue;
        }
        ++*n;
    }
    qsort(keys, *n, sizeof *keys, by_key);
    return keys;
}

void osm__walk_push_key(lua_State *L, const struct osm__walk_key *key)
{
    if (key->rank == 2)
        lua_pushlstring(L, key->text, key->len);
    else if (key->rank == 0)
        lua_pushboolean(L, (int)key->integer);
    else if ((lua_Number)key->integer == key->number)
        lua_pushinteger(L, key->integer);
    else
        lua_pushnumber(L, key->number);
}
