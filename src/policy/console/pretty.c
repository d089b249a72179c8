#include "policy/console/pretty.h"

#include "policy/bundle/lex.h"
#include "policy/memo/value.h"
#include "policy/sandbox/sandbox.h"

#include <math.h>
#include <string.h>

enum {
    WIDTH = 100,
    SHORT_DEPTH = 3,
    SHORT_MEMBERS = 10,
    SHORT_TEXT_BYTES = 200,
    WHOLE_DEPTH = 64,
    STEP_COST = 10, /* of the line's budget, per value */
};

struct pretty {
    struct osm_buf *out;
    bool whole;
    size_t start, room; /* flat: what may be added since `start`; SIZE_MAX: any */
};

static bool over(const struct pretty *p)
{
    return p->out->failed || p->out->len - p->start > p->room;
}

/* --- scalars --- */

static void put_text(struct pretty *p, const char *text, size_t len)
{
    size_t shown = p->whole || len <= SHORT_TEXT_BYTES ? len : SHORT_TEXT_BYTES;
    while (shown < len && shown && ((unsigned char)text[shown] & 0xc0) == 0x80)
        shown--;
    (void)osm_buf_add_char(p->out, '"');
    for (size_t i = 0; i < shown && !over(p); i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == '"' || c == '\\')
            (void)osm_buf_addf(p->out, "\\%c", c);
        else if (c == '\n')
            (void)osm_buf_add_str(p->out, "\\n");
        else if (c < ' ' || c == 0x7f)
            (void)osm_buf_addf(p->out, "\\x%02x", c);
        else
            (void)osm_buf_add_char(p->out, (char)c);
    }
    (void)osm_buf_add_char(p->out, '"');
    if (shown < len)
        (void)osm_buf_addf(p->out, "... (%zu bytes)", len);
}

static void put_number(struct pretty *p, lua_State *L, int index)
{
    lua_Number n = lua_tonumber(L, index);
    if (lua_isinteger(L, index))
        (void)osm_buf_addf(p->out, LUA_INTEGER_FMT, lua_tointeger(L, index));
    else if (isfinite(n) && n == floor(n) && fabs(n) < 1e15)
        (void)osm_buf_addf(p->out, "%.1f", n);
    else
        (void)osm_buf_addf(p->out, "%.14g", n);
}

static void put_scalar(struct pretty *p, lua_State *L, int index)
{
    switch (lua_type(L, index)) {
    case LUA_TNIL:
        (void)osm_buf_add_str(p->out, "nil");
        break;
    case LUA_TBOOLEAN:
        (void)osm_buf_add_str(p->out, lua_toboolean(L, index) ? "true" : "false");
        break;
    case LUA_TNUMBER:
        put_number(p, L, index);
        break;
    case LUA_TSTRING: {
        size_t len;
        const char *text = lua_tolstring(L, index, &len);
        put_text(p, text, len);
        break;
    }
    default:
        (void)osm_buf_addf(p->out, "(a %s)", luaL_typename(L, index));
    }
}

/* --- tables --- */

static bool is_name(const char *text)
{
    static const char *const keywords[] = {
        "and",      "break",  "do",   "else", "elseif", "end",   "false", "for",
        "function", "goto",   "if",   "in",   "local",  "nil",   "not",   "or",
        "repeat",   "return", "then", "true", "until",  "while", NULL};
    for (const char *const *k = keywords; *k; k++)
        if (!strcmp(text, *k))
            return false;
    if (!*text || (*text >= '0' && *text <= '9'))
        return false;
    for (; *text; text++)
        if (!osm_lex_is_word(*text))
            return false;
    return true;
}

static void put_key(struct pretty *p, lua_State *L, int index)
{
    if (lua_type(L, index) == LUA_TSTRING && is_name(lua_tostring(L, index))) {
        (void)osm_buf_add_strs(p->out, lua_tostring(L, index), " = ", NULL);
        return;
    }
    (void)osm_buf_add_char(p->out, '[');
    put_scalar(p, L, index);
    (void)osm_buf_add_str(p->out, "] = ");
}

/* Pushes pairs(t): iterator, state, first. A table with keys that have no order gives false. */
static bool push_pairs(lua_State *L, int table)
{
    for (lua_pushnil(L); lua_next(L, table); lua_pop(L, 1))
        if (lua_type(L, -2) != LUA_TSTRING && lua_type(L, -2) != LUA_TNUMBER &&
            lua_type(L, -2) != LUA_TBOOLEAN) {
            lua_pop(L, 2);
            return false;
        }
    lua_pushcfunction(L, osm_sandbox_pairs);
    lua_pushvalue(L, table);
    lua_call(L, 1, 1);
    return true;
}

static void put(struct pretty *p, lua_State *L, int index, int depth, int indent);

static void line_break(struct pretty *p, bool flat, int indent)
{
    if (flat) {
        (void)osm_buf_add_char(p->out, ' ');
        return;
    }
    (void)osm_buf_add_char(p->out, '\n');
    for (int i = 0; i < indent; i++)
        (void)osm_buf_add_str(p->out, "  ");
}

/* The members, each on a line of its own unless `flat`. */
static void put_members(struct pretty *p, lua_State *L, int table, int depth, int indent, bool flat)
{
    lua_Integer n = (lua_Integer)lua_rawlen(L, table);
    size_t count = 0, left_out = 0;
    if (!push_pairs(L, table)) {
        (void)osm_buf_add_str(p->out, "... keys that have no order");
        return;
    }
    int next = lua_gettop(L);
    for (;;) {
        lua_pushvalue(L, next);
        lua_call(L, 0, 2);
        if (lua_isnil(L, -2) || over(p))
            break;
        if (!p->whole && count >= SHORT_MEMBERS) {
            left_out++;
            lua_pop(L, 2);
            continue;
        }
        if (count++)
            (void)osm_buf_add_char(p->out, ',');
        line_break(p, flat, indent + 1);
        if (!lua_isinteger(L, -2) || lua_tointeger(L, -2) < 1 || lua_tointeger(L, -2) > n)
            put_key(p, L, next + 1);
        put(p, L, next + 2, depth + 1, indent + 1);
        lua_settop(L, next);
    }
    lua_settop(L, next - 1);
    if (left_out) {
        (void)osm_buf_add_char(p->out, ',');
        line_break(p, flat, indent + 1);
        (void)osm_buf_addf(p->out, "... %zu more", left_out);
    }
    if (count)
        line_break(p, flat, indent);
}

static void put_table(struct pretty *p, lua_State *L, int index, int depth, int indent)
{
    const struct osm_identity *id = osm_identity_get(L, index);
    bool is_flat = p->room != SIZE_MAX;
    if (id)
        (void)osm_buf_addf(p->out, "<%s>", id->label);
    if (depth >= (p->whole ? WHOLE_DEPTH : SHORT_DEPTH) || (id && depth && !p->whole)) {
        (void)osm_buf_add_str(p->out, id ? "" : "{...}");
        return;
    }
    (void)osm_buf_add_str(p->out, id ? " {" : "{");
    struct osm_buf mark = *p->out;
    if (!is_flat) { /* on one line, if it fits */
        int used = indent * 2;
        p->start = p->out->len;
        p->room = (size_t)(WIDTH > used + 20 ? WIDTH - used : 20);
        put_members(p, L, index, depth, indent, true);
        bool fits = !over(p);
        p->start = 0;
        p->room = SIZE_MAX;
        if (!fits && !p->out->failed) {
            p->out->len = mark.len;
            p->out->data[mark.len] = '\0';
            put_members(p, L, index, depth, indent, false);
        }
    } else {
        put_members(p, L, index, depth, indent, true);
    }
    (void)osm_buf_add_char(p->out, '}');
}

static void put(struct pretty *p, lua_State *L, int index, int depth, int indent)
{
    luaL_checkstack(L, 8, "a value that is nested too deep");
    osm_sandbox_charge(L, STEP_COST);
    if (lua_istable(L, index))
        put_table(p, L, index, depth, indent);
    else
        put_scalar(p, L, index);
}

void osm_console_pretty(lua_State *L, int index, bool whole, struct osm_buf *out)
{
    struct pretty p = {out, whole, 0, SIZE_MAX};
    put(&p, L, lua_absindex(L, index), 0, 0);
}
