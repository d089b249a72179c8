/* Table functions whose cost in C is bounded and paid for, a stable sort (the library's draws its
 * pivots from the clock, so that ties come out in a different order in every run), and pairs in the
 * order of the keys. */
#include "policy/sandbox/sandbox.h"

#include <lualib.h>
#include <string.h>

enum { RANGE_MAX = 1000000, LONG_TEXT = 256 };

/* As in sandbox_string.c: in this frame, for the messages. */
static int call_original(lua_State *L)
{
    return lua_tocfunction(L, lua_upvalueindex(1))(L);
}

static void charge_range(lua_State *L, lua_Integer first, lua_Integer last)
{
    if (last < first)
        return;
    lua_Unsigned n = (lua_Unsigned)last - (lua_Unsigned)first;
    if (n >= RANGE_MAX)
        luaL_error(L, "a range of more than 1,000,000 places");
    osm_sandbox_charge(L, n / 2);
}

/* concat(t, separator, first, last) */
static int l_concat(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_Integer first = luaL_optinteger(L, 3, 1);
    charge_range(L, first, luaL_optinteger(L, 4, (lua_Integer)lua_rawlen(L, 1)));
    return call_original(L);
}

/* unpack(t, first, last) */
static int l_unpack(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_Integer first = luaL_optinteger(L, 2, 1);
    charge_range(L, first, luaL_optinteger(L, 3, (lua_Integer)lua_rawlen(L, 1)));
    return call_original(L);
}

/* insert(t, [place,] value), remove(t, [place]): what lies behind the place moves */
static int l_shift(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_Integer n = (lua_Integer)lua_rawlen(L, 1);
    bool at_place = lua_gettop(L) >= (lua_toboolean(L, lua_upvalueindex(2)) ? 3 : 2);
    charge_range(L, at_place ? luaL_checkinteger(L, 2) : n, n);
    return call_original(L);
}

/* move(from, first, last, place, to) */
static int l_move(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    charge_range(L, luaL_checkinteger(L, 2), luaL_checkinteger(L, 3));
    return call_original(L);
}

/* --- sort: merge sort of places over a copy, so that a comparator may do what it likes --- */

enum { SORT_LIST = 1, SORT_LESS = 2, SORT_COPY = 3 };

/* Two texts on top are compared byte by byte in C, and what one byte costs may be a call. */
static void charge_texts(lua_State *L)
{
    if (lua_type(L, -1) != LUA_TSTRING || lua_type(L, -2) != LUA_TSTRING)
        return;
    size_t a = lua_rawlen(L, -1), b = lua_rawlen(L, -2), least = a < b ? a : b;
    if (least >= LONG_TEXT)
        osm_sandbox_charge(L, least / 8);
}

static bool goes_before(lua_State *L, int a, int b)
{
    bool before;
    if (lua_isnoneornil(L, SORT_LESS)) {
        lua_rawgeti(L, SORT_COPY, a);
        lua_rawgeti(L, SORT_COPY, b);
        charge_texts(L);
        before = lua_compare(L, -2, -1, LUA_OPLT);
        lua_pop(L, 2);
    } else {
        lua_pushvalue(L, SORT_LESS);
        lua_rawgeti(L, SORT_COPY, a);
        lua_rawgeti(L, SORT_COPY, b);
        lua_call(L, 2, 1);
        before = lua_toboolean(L, -1);
        lua_pop(L, 1);
    }
    return before;
}

static void merge(lua_State *L, int *from, int *to, lua_Integer low, lua_Integer middle,
                  lua_Integer high)
{
    lua_Integer a = low, b = middle;
    for (lua_Integer at = low; at < high; at++) {
        bool right = b < high && (a >= middle || goes_before(L, from[b], from[a]));
        to[at] = right ? from[b++] : from[a++];
    }
}

static int l_sort(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    if (!lua_isnoneornil(L, 2))
        luaL_checktype(L, 2, LUA_TFUNCTION);
    lua_settop(L, 2);
    lua_Integer n = (lua_Integer)lua_rawlen(L, 1);
    if (n > RANGE_MAX)
        return luaL_error(L, "table.sort: more than 1,000,000 places");
    uint64_t work = 0;
    for (lua_Integer width = 1; width < n; width *= 2)
        work += (uint64_t)n;
    osm_sandbox_charge(L, work);
    lua_createtable(L, (int)n, 0);
    int *places = lua_newuserdatauv(L, (size_t)(2 * n + 2) * sizeof *places, 0),
        *other = places + n + 1;
    for (lua_Integer i = 1; i <= n; i++) {
        if (lua_geti(L, SORT_LIST, i) == LUA_TNIL)
            return luaL_error(L, "table.sort: place %d is nil", (int)i);
        lua_rawseti(L, SORT_COPY, i);
        places[i - 1] = (int)i;
    }
    for (lua_Integer width = 1; width < n; width *= 2) {
        for (lua_Integer low = 0; low < n; low += 2 * width) {
            lua_Integer middle = low + width < n ? low + width : n,
                        high = low + 2 * width < n ? low + 2 * width : n;
            merge(L, places, other, low, middle, high);
        }
        int *swap = places;
        places = other;
        other = swap;
    }
    for (lua_Integer i = 1; i <= n; i++) {
        lua_rawgeti(L, SORT_COPY, places[i - 1]);
        lua_seti(L, SORT_LIST, i);
    }
    return 0;
}

/* --- pairs --- */

/* Upvalues: the table, its keys in order, the place. */
static int l_next_pair(lua_State *L)
{
    lua_Integer at = lua_tointeger(L, lua_upvalueindex(3));
    for (;;) {
        at++;
        if (lua_rawgeti(L, lua_upvalueindex(2), at) == LUA_TNIL)
            return 1;
        lua_pushvalue(L, -1);
        if (lua_rawget(L, lua_upvalueindex(1)) != LUA_TNIL)
            break;
        lua_pop(L, 2); /* removed since */
    }
    lua_pushinteger(L, at);
    lua_replace(L, lua_upvalueindex(3));
    return 2;
}

static int type_rank(int type)
{
    return type == LUA_TNUMBER ? 0 : type == LUA_TSTRING ? 1 : 2;
}

static int l_key_less(lua_State *L)
{
    int a = lua_type(L, 1), b = lua_type(L, 2);
    charge_texts(L);
    bool less = a != b              ? type_rank(a) < type_rank(b)
                : a == LUA_TBOOLEAN ? lua_toboolean(L, 1) < lua_toboolean(L, 2)
                                    : lua_compare(L, 1, 2, LUA_OPLT);
    lua_pushboolean(L, less);
    return 1;
}

int osm_sandbox_pairs(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    lua_Integer n = 0;
    bool strings_only = true;
    lua_createtable(L, (int)lua_rawlen(L, 1), 0);
    for (lua_pushnil(L); lua_next(L, 1); lua_pop(L, 1)) {
        int type = lua_type(L, -2);
        if (type != LUA_TSTRING && type != LUA_TNUMBER && type != LUA_TBOOLEAN)
            return luaL_error(
                L, "pairs: a key is a %s, which has no order that is the same in every run",
                lua_typename(L, type));
        strings_only = strings_only && type == LUA_TSTRING;
        lua_pushvalue(L, -2);
        lua_rawseti(L, 2, ++n);
    }
    lua_pushcfunction(L, l_sort);
    lua_pushvalue(L, 2);
    if (strings_only)
        lua_pushnil(L);
    else
        lua_pushcfunction(L, l_key_less);
    lua_call(L, 2, 0);
    lua_pushvalue(L, 1);
    lua_insert(L, 2);
    lua_pushinteger(L, 0);
    lua_pushcclosure(L, l_next_pair, 3);
    return 1;
}

void osm_sandbox_table(lua_State *L)
{
    static const struct {
        const char *name;
        lua_CFunction wrapper;
    } chosen[] = {{"concat", l_concat},
                  {"insert", l_shift},
                  {"remove", l_shift},
                  {"unpack", l_unpack},
                  {"move", l_move}};
    lua_pushcfunction(L, luaopen_table);
    lua_call(L, 0, 1);
    for (size_t i = 0; i < sizeof chosen / sizeof *chosen; i++) {
        lua_getfield(L, -1, chosen[i].name);
        lua_pushboolean(L, !strcmp(chosen[i].name, "insert"));
        lua_pushcclosure(L, chosen[i].wrapper, 2);
        lua_setfield(L, -3, chosen[i].name);
    }
    lua_pop(L, 1);
    lua_pushcfunction(L, l_sort);
    lua_setfield(L, -2, "sort");
}
