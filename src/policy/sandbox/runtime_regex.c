/* require("mesh.regex"): the one native module of the trusted runtime. It asks the library that the
 * proxies use, so no second reader of RE2's syntax is needed. Pure: text in, verdict out. */
#include "policy/sandbox/re2_shim.h"
#include "policy/sandbox/runtime.h"

#include <lauxlib.h>
#include <string.h>

enum {
    TEXT_MAX_BYTES = 1024,
    PROGRAM_SIZE_MAX = 2000 /* our bootstrap lets a proxy take 4096; its RE2 may count otherwise */
};

/* problem(text): nil where a proxy will accept the expression, else why not. [-0, +1, m] */
static int l_problem(lua_State *L)
{
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    struct osm_err err = {0};
    if (len > TEXT_MAX_BYTES)
        lua_pushfstring(L, "is longer than %d bytes", TEXT_MAX_BYTES);
    else if (strlen(text) != len)
        lua_pushliteral(L, "holds a NUL");
    else if (osm_regex_check(text, PROGRAM_SIZE_MAX, &err))
        lua_pushstring(L, err.msg);
    else
        lua_pushnil(L);
    return 1;
}

int osm_runtime_open_regex(lua_State *L)
{
    static const luaL_Reg functions[] = {{"problem", l_problem}, {NULL, NULL}};
    luaL_newlib(L, functions);
    return 1;
}
