/* String functions whose cost in C is paid from the evaluation's budget before they run.
 *
 * A backtracking pattern costs up to subject ^ (1 + number of * + - ?): allowed up to 2e7, which is
 * some 40 ms. Linear work is a unit per 64 bytes. `mesh.str` has linear functions for what patterns
 * are too dear for. */
#include "policy/sandbox/sandbox.h"

#include <lualib.h>
#include <string.h>

enum { REP_MAX_BYTES = OSM_TEXT_MAX, PATTERN_POWER_MAX = 20000000, PATTERN_UNIT = 50 };

/* Each wrapper has the library's own function as its first upvalue. It runs in the wrapper's frame,
 * so that its messages name the line of the module and the function as it is called there. */
static int call_original(lua_State *L)
{
    return lua_tocfunction(L, lua_upvalueindex(1))(L);
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
        return luaL_error(L, "string.rep: more than 4 MiB");
    if (n > 0)
        osm_sandbox_charge(L, (size_t)n * len / 64 + (uint64_t)n / 8);
    return call_original(L);
}

/* Past the set that begins at pattern[i] == '['. */
static size_t set_end(const char *pattern, size_t len, size_t i)
{
    i += i + 1 < len && pattern[i + 1] == '^' ? 2 : 1;
    for (bool first = true; i < len && (first || pattern[i] != ']'); i++, first = false)
        if (pattern[i] == '%')
            i++;
    return i < len ? i + 1 : len;
}

/* What repeats (* + - ?), what scans on by itself (%b) and what compares a text again (%1) each
 * multiply by the subject; at each place as much as the whole pattern may be compared. */
static uint64_t pattern_power(size_t subject, const char *pattern, size_t len)
{
    unsigned items = 0;
    for (size_t i = 0; i < len; i++) {
        if (pattern[i] == '%') {
            i++;
            if (i < len && (pattern[i] == 'b' || (pattern[i] >= '0' && pattern[i] <= '9')))
                items++;
        } else if (pattern[i] == '[') {
            i = set_end(pattern, len, i) - 1;
        } else if (pattern[i] && strchr("*+-?", pattern[i])) {
            items++;
        }
    }
    uint64_t power = (subject + 1) * (len < 16 ? 1 : len / 8);
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
                   "string.%s: a pattern this long, with so many * + - ?, is too dear for a text "
                   "of %d bytes; "
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

/* The offset that the library's `init` means: from 1, or backwards from the end. */
static size_t start_of(lua_Integer init, size_t len)
{
    if (init > 0)
        return (size_t)init - 1;
    return init == 0 || init < -(lua_Integer)len ? 0 : (size_t)((lua_Integer)len + init);
}

static int l_find(lua_State *L)
{
    size_t len, pattern_len;
    (void)luaL_checklstring(L, 1, &len);
    const char *pattern = luaL_checklstring(L, 2, &pattern_len);
    bool plain = lua_toboolean(L, 4) || !strpbrk(pattern, "^$*+?.([%-");
    if (!plain) {
        charge_pattern(L, "find", len, pattern, pattern_len);
        return call_original(L);
    }
    /* The library's own takes the product of both lengths where they are much alike; this is one
     * pass. Paid for afterwards, by how far it went, so that going through a text from match to
     * match costs no more than one pass. */
    size_t from = start_of(luaL_optinteger(L, 3, 1), len);
    if (from > len) {
        lua_pushnil(L);
        return 1;
    }
    const char *text = lua_tostring(L, 1),
               *at = pattern_len ? memmem(text + from, len - from, pattern, pattern_len)
                                 : text + from;
    size_t end = at ? (size_t)(at - text) + pattern_len : len;
    osm_sandbox_charge(L, (end - from) / 8);
    if (!at) {
        lua_pushnil(L);
        return 1;
    }
    lua_pushinteger(L, (lua_Integer)(at - text) + 1);
    lua_pushinteger(L, (lua_Integer)end);
    return 2;
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
