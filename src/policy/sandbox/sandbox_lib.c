/* The functions that a module sees, chosen one by one; what is not named here is not there. */
#include "policy/sandbox/sandbox.h"

#include "base/log.h"

#include <lualib.h>
#include <string.h>

enum { PRINTS_PER_RUN = 100, PRINT_MAX_BYTES = 1000, PCALL_WORK = 20 };

/* pcall that does not stop what ends the whole evaluation: an exhausted budget, memory, a cycle's
 * unwinding. */
static int l_pcall(lua_State *L)
{
    luaL_checkany(L, 1);
    osm_sandbox_charge(L, PCALL_WORK); /* what a caught error costs in C */
    lua_pushboolean(L, 1);
    lua_insert(L, 1);
    int status = lua_pcall(L, lua_gettop(L) - 2, LUA_MULTRET, 0);
    struct osm_engine *e = osm_engine_of(L);
    if (status == LUA_ERRMEM)
        osm_sandbox_out_of_memory(e);
    osm_sandbox_check(L);
    if (status != LUA_OK) {
        lua_pushboolean(L, 0);
        lua_insert(L, -2);
        return 2;
    }
    return lua_gettop(L);
}

static int l_tostring(lua_State *L)
{
    luaL_checkany(L, 1);
    int type = lua_type(L, 1);
    if (type != LUA_TNIL && type != LUA_TBOOLEAN && type != LUA_TNUMBER && type != LUA_TSTRING)
        return luaL_error(L, "tostring: a %s has no text that is the same in every run",
                          lua_typename(L, type));
    luaL_tolstring(L, 1, NULL);
    return 1;
}

static int l_setmetatable(lua_State *L)
{
    static const char *const refused[] = {"__gc", "__mode", "__len", "__pairs", NULL};
    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_argexpected(L, lua_isnil(L, 2) || lua_istable(L, 2), 2, "nil or table");
    for (int i = 0; lua_istable(L, 2) && refused[i]; i++) {
        lua_pushstring(L, refused[i]);
        if (lua_rawget(L, 2) != LUA_TNIL)
            return luaL_error(L, "setmetatable: %s is not possible here", refused[i]);
        lua_pop(L, 1);
    }
    if (luaL_getmetafield(L, 1, "__metatable") != LUA_TNIL)
        return luaL_error(L, "cannot change a protected metatable");
    lua_settop(L, 2);
    if (lua_istable(L, 2)) { /* a copy, so that nothing can be written into it afterwards */
        lua_createtable(L, 0, 4);
        for (lua_pushnil(L); lua_next(L, 2); lua_pop(L, 1)) {
            lua_pushvalue(L, -2);
            lua_pushvalue(L, -2);
            lua_rawset(L, 3);
        }
    }
    lua_setmetatable(L, 1);
    lua_settop(L, 1);
    return 1;
}

static int l_print(lua_State *L)
{
    struct osm_engine *e = osm_engine_of(L);
    int n = lua_gettop(L);
    if (e->prints++ >= PRINTS_PER_RUN)
        return 0;
    luaL_Buffer text;
    luaL_buffinit(L, &text);
    for (int i = 1; i <= n; i++) {
        if (i > 1)
            luaL_addchar(&text, ' ');
        if (lua_type(L, i) == LUA_TSTRING || lua_type(L, i) == LUA_TNUMBER) {
            lua_pushvalue(L, i);
            luaL_addvalue(&text);
        } else if (lua_type(L, i) == LUA_TBOOLEAN) {
            luaL_addstring(&text, lua_toboolean(L, i) ? "true" : "false");
        } else {
            luaL_addstring(&text, luaL_typename(L, i));
        }
    }
    luaL_pushresult(&text);
    lua_pushlstring(L, lua_tostring(L, -1),
                    lua_rawlen(L, -1) < PRINT_MAX_BYTES ? (size_t)lua_rawlen(L, -1)
                                                        : PRINT_MAX_BYTES);
    luaL_where(L, 1);
    osm_log(OSM_LOG_POLICY, OSM_LOG_INFO, "print", OSM_S("text", lua_tostring(L, -2)),
            OSM_S("at", lua_tostring(L, -1)));
    return 0;
}

/* utf8.len, utf8.codepoint, tonumber: one pass over a text, in C. Upvalue: the library's own. */
static int l_one_pass(lua_State *L)
{
    if (lua_type(L, 1) == LUA_TSTRING)
        osm_sandbox_charge(L, lua_rawlen(L, 1) / 16);
    return lua_tocfunction(L, lua_upvalueindex(1))(L);
}

/* Wraps functions of the table on top. */
static void wrap(lua_State *L, const char *const *names)
{
    for (; *names; names++) {
        lua_getfield(L, -1, *names);
        lua_pushcclosure(L, l_one_pass, 1);
        lua_setfield(L, -2, *names);
    }
}

/* Copies named functions of the library table on top into the table below it. */
static void choose(lua_State *L, const char *const *names)
{
    for (; *names; names++) {
        lua_getfield(L, -1, *names);
        lua_setfield(L, -3, *names);
    }
}

static void push_math(lua_State *L)
{
    static const char *const chosen[] = {"abs",       "ceil",       "floor",      "fmod",
                                         "max",       "min",        "type",       "huge",
                                         "tointeger", "maxinteger", "mininteger", NULL};
    lua_createtable(L, 0, 16);
    lua_pushcfunction(L, luaopen_math);
    lua_call(L, 0, 1);
    choose(L, chosen);
    lua_pop(L, 1);
}

static void push_utf8(lua_State *L)
{
    static const char *const chosen[] = {"char", "codepoint", "len", NULL};
    static const char *const one_pass[] = {"codepoint", "len", NULL};
    lua_createtable(L, 0, 4);
    lua_pushcfunction(L, luaopen_utf8);
    lua_call(L, 0, 1);
    choose(L, chosen);
    lua_pop(L, 1);
    wrap(L, one_pass);
}

void osm_sandbox_push_library(lua_State *L)
{
    static const char *const chosen[] = {"assert",   "error", "ipairs", "select",
                                         "tonumber", "type",  NULL};
    static const char *const one_pass[] = {"tonumber", NULL};
    static const luaL_Reg own[] = {
        {"pcall", l_pcall},       {"pairs", osm_sandbox_pairs}, {"setmetatable", l_setmetatable},
        {"tostring", l_tostring}, {"print", l_print},           {NULL, NULL}};
    lua_createtable(L, 0, 32);
    lua_pushcfunction(L, luaopen_base);
    lua_call(L, 0, 1);
    choose(L, chosen);
    lua_pop(L, 1);
    wrap(L, one_pass);
    luaL_setfuncs(L, own, 0);
    push_math(L);
    osm_sandbox_freeze(L, "math");
    lua_setfield(L, -2, "math");
    push_utf8(L);
    osm_sandbox_freeze(L, "utf8");
    lua_setfield(L, -2, "utf8");
    lua_createtable(L, 0, 16);
    osm_sandbox_table(L);
    osm_sandbox_freeze(L, "table");
    lua_setfield(L, -2, "table");
    /* Methods of strings go to a table that nobody can reach otherwise. */
    lua_createtable(L, 0, 16);
    osm_sandbox_string(L);
    lua_pushstring(L, "");
    lua_createtable(L, 0, 2);
    lua_pushvalue(L, -3);
    lua_setfield(L, -2, "__index");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_setmetatable(L, -2);
    lua_pop(L, 1);
    osm_sandbox_freeze(L, "string");
    lua_setfield(L, -2, "string");
}
