#include "policy/memo/value.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { NODES_MAX = 1000000, JSON_DEPTH_MAX = 64, TEXT_MAX_BYTES = 64 * 1024 };
enum { STEP_MAX_BYTES = 100 }; /* of a name in a path */

static const char identity_tag;

static struct osm_hash tagged(char tag, uint64_t content)
{
    return osm_hash_fold((struct osm_hash){(uint64_t)(unsigned char)tag, 0},
                         (struct osm_hash){0, content});
}

static struct osm_hash tagged_bytes(char tag, const char *data, size_t len)
{
    return osm_hash_fold((struct osm_hash){(uint64_t)(unsigned char)tag, len},
                         osm_hash_bytes(data, len));
}

struct osm_hash osm_hash_text(char tag, const char *text)
{
    return tagged_bytes(tag, text, strlen(text));
}

static struct osm_hash tagged_float(double d)
{
    uint64_t bits;
    memcpy(&bits, &d, sizeof bits);
    return tagged('f', bits);
}

/* With carry: a set of pairs has one sum in any order. */
struct osm_hash osm_hash_add(struct osm_hash sum, struct osm_hash next)
{
    struct osm_hash r = {sum.hi + next.hi, sum.lo + next.lo};
    if (r.lo < sum.lo)
        r.hi++;
    return r;
}

struct osm_hash osm_hash_sub(struct osm_hash sum, struct osm_hash next)
{
    struct osm_hash r = {sum.hi - next.hi, sum.lo - next.lo};
    if (r.lo > sum.lo)
        r.hi--;
    return r;
}

/* A table starts with its size; an empty list and an empty map are the same. */
static struct osm_hash table_hash(char tag, uint64_t n, struct osm_hash content)
{
    return n ? osm_hash_fold(tagged(tag, n), content) : tagged('l', 0);
}

struct osm_hash osm_hash_sum_of(uint64_t n, struct osm_hash sum)
{
    return table_hash('l', n, sum);
}

struct walk {
    lua_State *L;
    size_t nodes;
    unsigned depth, depth_max;
    bool content; /* the root counts by content though it is an object */
    struct osm_err *err;
};

/* Puts a step before the path that a failure deeper down has written. */
static int under_key(struct walk *w, const char *key, int rc)
{
    if (w->err && rc == OSM_EINVAL) {
        bool index_next = w->err->msg[0] == '[' || w->err->msg[0] == ':';
        osm_err_prepend(w->err, index_next ? "%s" : "%s.", key);
    }
    return rc;
}

static int under_index(struct walk *w, lua_Integer i, int rc)
{
    if (w->err && rc == OSM_EINVAL) {
        bool index_next = w->err->msg[0] == '[' || w->err->msg[0] == ':';
        osm_err_prepend(w->err, index_next ? "[%lld]" : "[%lld].", (long long)i);
    }
    return rc;
}

static int refuse(struct walk *w, const char *why)
{
    return osm_fail(w->err, OSM_EINVAL, ": %s", why);
}

static int may_enter(struct walk *w, int index)
{
    lua_State *L = w->L;
    if (w->depth >= w->depth_max)
        return refuse(w, "is deeper than 32 tables, or holds itself");
    if (!lua_checkstack(L, 6))
        return osm_fail(w->err, OSM_ELIMIT, "the Lua stack is full");
    if (lua_getmetatable(L, index)) {
        lua_pop(L, 1);
        if (!osm_identity_get(L, index))
            return refuse(w, "has a metatable; an answer is plain data");
    }
    return 0;
}

/* Refuses what is no plain value; *list says which form the table has. */
static int look_at_table(struct walk *w, int index, bool *list, lua_Unsigned *n)
{
    lua_State *L = w->L;
    *n = lua_rawlen(L, index);
    lua_Unsigned strings = 0, integers = 0;
    for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1)) {
        if (lua_type(L, -2) == LUA_TSTRING) {
            strings++;
        } else if (lua_isinteger(L, -2) && lua_tointeger(L, -2) >= 1 &&
                   (lua_Unsigned)lua_tointeger(L, -2) <= *n) {
            integers++;
        } else {
            bool hole = lua_isinteger(L, -2);
            lua_pop(L, 2);
            return refuse(w, hole ? "is a list with a hole, or a map with an integer key"
                                  : "has a key that is neither a string nor a place in a list");
        }
    }
    if (integers != *n)
        return refuse(w, "is a list with a hole");
    if (integers && strings)
        return refuse(w, "is both a list and a map");
    *list = !strings;
    *n = *list ? integers : strings;
    w->nodes += *n;
    if (w->nodes > NODES_MAX)
        return refuse(w, "has more than 1,000,000 values");
    return 0;
}

static int hash_at(struct walk *w, int index, struct osm_hash *out);

static int hash_list(struct walk *w, int index, lua_Unsigned n, struct osm_hash *out)
{
    struct osm_hash sum = {0, 0};
    for (lua_Integer i = 1; i <= (lua_Integer)n; i++) {
        struct osm_hash item = {0, 0};
        lua_rawgeti(w->L, index, i);
        int rc = under_index(w, i, hash_at(w, lua_gettop(w->L), &item));
        lua_pop(w->L, 1);
        if (rc)
            return rc;
        sum = osm_hash_fold(sum, item);
    }
    *out = table_hash('l', n, sum);
    return 0;
}

/* A table without a list part, in one pass where all is well. */
static int hash_map(struct walk *w, int index, lua_Unsigned *n, struct osm_hash *out)
{
    struct osm_hash sum = {0, 0};
    for (lua_pushnil(w->L); lua_next(w->L, index); lua_pop(w->L, 1)) {
        size_t len;
        if (lua_type(w->L, -2) != LUA_TSTRING) {
            lua_pop(w->L, 2);
            return OSM_EINVAL;
        }
        ++*n;
        const char *key = lua_tolstring(w->L, -2, &len);
        struct osm_hash value = {0, 0};
        int rc = under_key(w, key, hash_at(w, lua_gettop(w->L), &value));
        if (rc) {
            lua_pop(w->L, 2);
            return rc;
        }
        sum = osm_hash_add(sum, osm_hash_fold(tagged_bytes('k', key, len), value));
    }
    *out = table_hash('m', *n, sum);
    return 0;
}

static int hash_table(struct walk *w, int index, struct osm_hash *out)
{
    bool list = false, has_list_part = lua_rawlen(w->L, index) > 0;
    lua_Unsigned n = 0;
    int rc = may_enter(w, index);
    if (rc)
        return rc;
    if (has_list_part && (rc = look_at_table(w, index, &list, &n)))
        return rc;
    w->depth++;
    rc = list ? hash_list(w, index, n, out) : hash_map(w, index, &n, out);
    w->depth--;
    if (list)
        return rc;
    /* A table of a wrong form is told as that, whichever of its values is refused. */
    int form_rc = rc || w->nodes + n > NODES_MAX ? look_at_table(w, index, &list, &n) : 0;
    if (!form_rc)
        w->nodes += n;
    return form_rc ? form_rc : rc;
}

static int hash_at(struct walk *w, int index, struct osm_hash *out)
{
    lua_State *L = w->L;
    size_t len;
    switch (lua_type(L, index)) {
    case LUA_TNIL:
        *out = tagged('n', 0);
        return 0;
    case LUA_TBOOLEAN:
        *out = tagged('b', (uint64_t)lua_toboolean(L, index));
        return 0;
    case LUA_TSTRING: {
        const char *text = lua_tolstring(L, index, &len);
        *out = tagged_bytes('s', text, len);
        return 0;
    }
    case LUA_TNUMBER:
        if (lua_isinteger(L, index)) {
            *out = tagged('i', (uint64_t)lua_tointeger(L, index));
            return 0;
        }
        if (!isfinite(lua_tonumber(L, index)))
            return refuse(w, "is a number that is not finite");
        *out = tagged_float(lua_tonumber(L, index));
        return 0;
    case LUA_TTABLE: {
        const struct osm_identity *id = osm_identity_get(L, index);
        if (id && (w->depth || !w->content)) {
            *out = osm_hash_fold(tagged('o', 0), id->hash);
            return 0;
        }
        return hash_table(w, index, out);
    }
    default:
        (void)osm_fail(w->err, OSM_EINVAL, ": is a %s; an answer is plain data",
                       lua_typename(L, lua_type(L, index)));
        return OSM_EINVAL;
    }
}

int osm_value_hash(lua_State *L, int index, const char *what, struct osm_hash *out,
                   struct osm_err *err)
{
    struct walk w = {.L = L, .depth_max = OSM_VALUE_DEPTH, .err = err};
    return under_key(&w, what, hash_at(&w, lua_absindex(L, index), out));
}

int osm_value_content_hash(lua_State *L, int index, struct osm_hash *out)
{
    struct walk w = {.L = L, .depth_max = JSON_DEPTH_MAX + 1, .content = true};
    return hash_at(&w, lua_absindex(L, index), out);
}

struct osm_hash osm_json_hash(const json_t *value)
{
    struct osm_hash sum = {0, 0};
    uint64_t n = 0;
    switch (value ? json_typeof(value) : JSON_NULL) {
    case JSON_NULL:
        return tagged('n', 0);
    case JSON_TRUE:
    case JSON_FALSE:
        return tagged('b', json_is_true(value));
    case JSON_STRING:
        return tagged_bytes('s', json_string_value(value), json_string_length(value));
    case JSON_INTEGER:
        return tagged('i', (uint64_t)json_integer_value(value));
    case JSON_REAL:
        return tagged_float(json_real_value(value));
    case JSON_ARRAY: {
        size_t i;
        json_t *item;
        json_array_foreach (value, i, item) {
            if (json_is_null(item))
                continue;
            sum = osm_hash_fold(sum, osm_json_hash(item));
            n++;
        }
        return table_hash('l', n, sum);
    }
    case JSON_OBJECT:
    default: {
        const char *key;
        json_t *item;
        json_object_foreach ((json_t *)(uintptr_t)value, key, item) {
            if (json_is_null(item))
                continue;
            sum = osm_hash_add(
                sum, osm_hash_fold(tagged_bytes('k', key, strlen(key)), osm_json_hash(item)));
            n++;
        }
        return table_hash('m', n, sum);
    }
    }
}

static void push(lua_State *L, const json_t *value, unsigned depth)
{
    if (depth > JSON_DEPTH_MAX)
        luaL_error(L, "an object is deeper than %d", JSON_DEPTH_MAX);
    luaL_checkstack(L, 4, "object");
    switch (value ? json_typeof(value) : JSON_NULL) {
    case JSON_NULL:
        lua_pushnil(L);
        break;
    case JSON_TRUE:
    case JSON_FALSE:
        lua_pushboolean(L, json_is_true(value));
        break;
    case JSON_STRING:
        lua_pushlstring(L, json_string_value(value), json_string_length(value));
        break;
    case JSON_INTEGER:
        lua_pushinteger(L, json_integer_value(value));
        break;
    case JSON_REAL:
        lua_pushnumber(L, json_real_value(value));
        break;
    case JSON_ARRAY: {
        size_t i;
        json_t *item;
        lua_Integer n = 0;
        lua_createtable(L, (int)json_array_size(value), 0);
        json_array_foreach (value, i, item) {
            if (json_is_null(item))
                continue;
            push(L, item, depth + 1);
            lua_rawseti(L, -2, ++n);
        }
        break;
    }
    case JSON_OBJECT:
    default: {
        const char *key;
        json_t *item;
        lua_createtable(L, 0, (int)json_object_size(value));
        json_object_foreach ((json_t *)(uintptr_t)value, key, item) {
            if (json_is_null(item))
                continue;
            lua_pushstring(L, key);
            push(L, item, depth + 1);
            lua_rawset(L, -3);
        }
        break;
    }
    }
}

void osm_value_push(lua_State *L, const json_t *value)
{
    push(L, value, 0);
}

static int json_at(struct walk *w, int index, json_t **out);

static int json_of_table(struct walk *w, int index, json_t **out)
{
    lua_State *L = w->L;
    bool list = false;
    lua_Unsigned n = 0;
    int rc = may_enter(w, index);
    if (!rc)
        rc = look_at_table(w, index, &list, &n);
    if (rc)
        return rc;
    json_t *table = list ? json_array() : json_object();
    if (!table)
        return osm_fail(w->err, OSM_ENOMEM, "out of memory");
    w->depth++;
    if (list) {
        for (lua_Integer i = 1; !rc && i <= (lua_Integer)n; i++) {
            json_t *item = NULL;
            lua_rawgeti(L, index, i);
            rc = under_index(w, i, json_at(w, lua_gettop(L), &item));
            lua_pop(L, 1);
            if (!rc && json_array_append_new(table, item))
                rc = osm_fail(w->err, OSM_ENOMEM, "out of memory");
        }
    } else {
        for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1)) {
            json_t *item = NULL;
            const char *key = lua_tostring(L, -2);
            rc = under_key(w, key, json_at(w, lua_gettop(L), &item));
            if (!rc && json_object_set_new(table, key, item))
                rc = under_key(w, key, refuse(w, "is a key that is not valid UTF-8"));
            if (rc) {
                lua_pop(L, 2);
                break;
            }
        }
    }
    w->depth--;
    if (rc)
        json_decref(table);
    else
        *out = table;
    return rc;
}

static int json_at(struct walk *w, int index, json_t **out)
{
    lua_State *L = w->L;
    json_t *made = NULL;
    switch (lua_type(L, index)) {
    case LUA_TNIL:
        made = json_null();
        break;
    case LUA_TBOOLEAN:
        made = json_boolean(lua_toboolean(L, index));
        break;
    case LUA_TSTRING: {
        size_t len;
        const char *text = lua_tolstring(L, index, &len);
        made = json_stringn(text, len);
        if (!made)
            return refuse(w, "is a string that is not valid UTF-8");
        break;
    }
    case LUA_TNUMBER:
        if (lua_isinteger(L, index))
            made = json_integer(lua_tointeger(L, index));
        else if (isfinite(lua_tonumber(L, index)))
            made = json_real(lua_tonumber(L, index));
        else
            return refuse(w, "is a number that is not finite");
        break;
    case LUA_TTABLE:
        return json_of_table(w, index, out);
    default:
        return osm_fail(w->err, OSM_EINVAL, ": is a %s; only plain data is possible here",
                        lua_typename(L, lua_type(L, index)));
    }
    if (!made)
        return osm_fail(w->err, OSM_ENOMEM, "out of memory");
    *out = made;
    return 0;
}

int osm_value_json(lua_State *L, int index, const char *what, json_t **out, struct osm_err *err)
{
    struct walk w = {.L = L, .depth_max = OSM_VALUE_DEPTH, .err = err};
    return under_key(&w, what, json_at(&w, lua_absindex(L, index), out));
}

json_t *osm_text_json(const char *text)
{
    size_t len = strlen(text);
    if (len > OSM_ERROR_TEXT_MAX) { /* not within a character */
        len = OSM_ERROR_TEXT_MAX;
        while (len && ((unsigned char)text[len] & 0xc0) == 0x80)
            len--;
    }
    json_t *made = json_stringn(text, len);
    if (made)
        return made;
    struct osm_buf quoted = OSM_BUF_INIT(TEXT_MAX_BYTES);
    (void)osm_buf_add_json_string(&quoted, text);
    if (!quoted.failed)
        made = json_loads(quoted.data, JSON_DECODE_ANY, NULL);
    else if (quoted.failed == OSM_ELIMIT)
        made = json_string("(a text that is too long)");
    osm_buf_clear(&quoted);
    return made;
}

/* Keys of maps are from outside and may hold anything, at any length. */
static void add_step(struct osm_buf *out, const char *name)
{
    const char *more = strlen(name) > STEP_MAX_BYTES ? "..." : "";
    if (name[0] && !name[strcspn(name, "./[]\" ")])
        (void)osm_buf_addf(out, "%s%.*s%s", out->len ? "." : "", (int)STEP_MAX_BYTES, name, more);
    else
        (void)osm_buf_addf(out, "[\"%.*s%s\"]", (int)STEP_MAX_BYTES, name, more);
}

const char *osm_value_path(lua_State *L, int index, struct osm_buf *out)
{
    if (lua_isnoneornil(L, index))
        return NULL;
    if (lua_type(L, index) != LUA_TTABLE)
        return "a path is a list, such as { \"spec\", \"backends\", 1 }";
    lua_Unsigned n = lua_rawlen(L, index);
    for (lua_Unsigned i = 1; i <= n; i++) {
        const char *why = NULL;
        lua_rawgeti(L, index, (lua_Integer)i);
        if (lua_isinteger(L, -1))
            (void)osm_buf_addf(out, "[%lld]", (long long)lua_tointeger(L, -1) - 1);
        else if (lua_type(L, -1) == LUA_TSTRING)
            add_step(out, lua_tostring(L, -1));
        else
            why = "a path holds field names and places in lists only";
        lua_pop(L, 1);
        if (why)
            return why;
    }
    return out->failed ? "the path is too long" : NULL;
}

static int l_read_only(lua_State *L)
{
    return luaL_error(L, "an object is read-only");
}

void osm_identity_set(lua_State *L, struct osm_hash hash, const char *label, const char *origin)
{
    size_t label_size = strlen(label) + 1, origin_size = strlen(origin) + 1;
    lua_createtable(L, 0, 3);
    struct osm_identity *id = lua_newuserdatauv(L, sizeof *id + label_size + origin_size, 0);
    char *text = (char *)(id + 1);
    memcpy(text, label, label_size);
    memcpy(text + label_size, origin, origin_size);
    *id = (struct osm_identity){hash, text, text + label_size};
    lua_rawsetp(L, -2, &identity_tag);
    lua_pushcfunction(L, l_read_only);
    lua_setfield(L, -2, "__newindex");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_setmetatable(L, -2);
}

const struct osm_identity *osm_identity_get(lua_State *L, int index)
{
    if (lua_type(L, index) != LUA_TTABLE || !lua_getmetatable(L, index))
        return NULL;
    lua_rawgetp(L, -1, &identity_tag);
    const struct osm_identity *id = lua_touserdata(L, -1);
    lua_pop(L, 2);
    return id;
}
