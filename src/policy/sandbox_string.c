/* String functions whose cost in C is paid from the evaluation's budget before they run.
 *
 * A backtracking pattern costs up to subject ^ (1 + number of * + - ?): allowed up to 2e7, which is
 * some 40 ms. Linear work is a unit per 64 bytes. `mesh.str` has linear functions for what patterns
 * are too dear for. */
#include "policy/sandbox.h"

#include <lualib.h>
#include <string.h>

enum { REP_MAX_BYTES = 16 << 20, PATTERN_POWER_MAX = 20000000, PATTERN_UNIT = 200 };

/* Each wrapper has the library's own function as its first upvalue. */
static int call_original(lua_State *L)
{
    int n = lua_gettop(L);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, n, LUA_MULTRET);
    return lua_gettop(L);
}

/* lower, upper, reverse, sub, byte, len: one pass. */
static int l_linear(lua_State *L)
{
    size_t len = 0;
    (void)luaL_checklstring(L, 1, &len);
    osm_sandbox_charge(L, len / 64);
    return call_original(L);
}

static int l_rep(lua_State *L)
{
    size_t len, separator_len;
    (void)luaL_checklstring(L, 1, &len);
    lua_Integer n = luaL_checkinteger(L, 2);
    (void)luaL_optlstring(L, 3, "", &separator_len);
    len += separator_len;
    /* Even an empty string is repeated one by one in C. */
    if (n > REP_MAX_BYTES || (n > 0 && len > REP_MAX_BYTES / (size_t)n))
        return luaL_error(L, "string.rep: more than 16 MiB");
    if (n > 0)
        osm_sandbox_charge(L, (size_t)n * len / 64 + (uint64_t)n / 8);
    return call_original(L);
}

static uint64_t pattern_power(size_t subject, const char *pattern, size_t len)
{
    unsigned items = 0;
    for (size_t i = 0; i < len; i++) {
        if (pattern[i] == '%')
            i++;
        else if (strchr("*+-?", pattern[i]) && pattern[i])
            items++;
    }
    uint64_t power = subject + 1;
    for (unsigned i = 0; i < items && power <= PATTERN_POWER_MAX; i++)
        power *= subject + 1;
    return power;
}

static void charge_pattern(lua_State *L, const char *name, size_t subject, const char *pattern,
                           size_t pattern_len)
{
    if (subject > PATTERN_POWER_MAX || pattern_len > 4096)
        luaL_error(L, "string.%s: the text or the pattern is too long", name);
    uint64_t power = pattern_power(subject, pattern, pattern_len);
    if (power > PATTERN_POWER_MAX)
        luaL_error(L,
                   "string.%s: a pattern with so many * + - ? is too dear for a text of %d bytes; "
                   "mesh.str has linear functions",
                   name, (int)subject);
    osm_sandbox_charge(L, power / PATTERN_UNIT + subject / 64);
}

/* match, gmatch, gsub */
static int l_pattern(lua_State *L)
{
    size_t len, pattern_len;
    (void)luaL_checklstring(L, 1, &len);
    const char *pattern = luaL_checklstring(L, 2, &pattern_len);
    charge_pattern(L, lua_tostring(L, lua_upvalueindex(2)), len, pattern, pattern_len);
    return call_original(L);
}

static int l_find(lua_State *L)
{
    size_t len, pattern_len;
    (void)luaL_checklstring(L, 1, &len);
    const char *pattern = luaL_checklstring(L, 2, &pattern_len);
    bool plain = lua_toboolean(L, 4) || !strpbrk(pattern, "^$*+?.([%-");
    if (plain) /* memchr and memcmp at each place: the worst text costs their product */
        osm_sandbox_charge(L, len / 64 + len / 1024 * pattern_len / 16);
    else
        charge_pattern(L, "find", len, pattern, pattern_len);
    return call_original(L);
}

static int l_format(lua_State *L)
{
    size_t len;
    const char *format = luaL_checklstring(L, 1, &len);
    for (size_t i = 0; i + 1 < len; i++) {
        if (format[i] != '%')
            continue;
        i++;
        i += strspn(format + i, "-+ #0.123456789");
        if (format[i] == 'p')
            return luaL_error(L, "string.format: %%p is an address, which differs in every run");
    }
    for (int i = 2; i <= lua_gettop(L); i++) {
        int type = lua_type(L, i);
        if (type != LUA_TNIL && type != LUA_TBOOLEAN && type != LUA_TNUMBER && type != LUA_TSTRING)
            return luaL_error(L,
                              "string.format: argument %d is a %s, which has no text that is the "
                              "same in every run",
                              i, lua_typename(L, type));
        len += type == LUA_TSTRING ? (size_t)lua_rawlen(L, i) : 0;
    }
    osm_sandbox_charge(L, len / 64);
    return call_original(L);
}

void osm_sandbox_string(lua_State *L)
{
    static const struct {
        const char *name;
        lua_CFunction wrapper;
    } chosen[] = {
        {"byte", l_linear},    {"char", NULL},      {"find", l_find},      {"format", l_format},
        {"gmatch", l_pattern}, {"gsub", l_pattern}, {"len", NULL},         {"lower", l_linear},
        {"match", l_pattern},  {"rep", l_rep},      {"reverse", l_linear}, {"sub", l_linear},
        {"upper", l_linear},
    };
    lua_pushcfunction(L, luaopen_string);
    lua_call(L, 0, 1);
    for (size_t i = 0; i < sizeof chosen / sizeof *chosen; i++) {
        lua_getfield(L, -1, chosen[i].name);
        if (chosen[i].wrapper) {
            lua_pushstring(L, chosen[i].name);
            lua_pushcclosure(L, chosen[i].wrapper, 2);
        }
        lua_setfield(L, -3, chosen[i].name);
    }
    lua_pop(L, 1);
}
