#include "policy/memo/key.h"

#include <inttypes.h>
#include <string.h>

/* A scalar is a tag and its content: booleans one byte, integers eight, big end first with the sign
 * bit turned, strings with their NUL. */
size_t osm_key_encode(const struct osm_key *key, unsigned char out[OSM_KEY_BYTES])
{
    size_t len = 0;
    for (size_t k = 0; k < key->n; k++) {
        const struct osm_scalar *s = &key->at[k];
        size_t need = s->type == OSM_SCALAR_STR ? strlen(s->str) + 2 : 9;
        if (len + need > OSM_KEY_BYTES - 1)
            return 0;
        out[len++] = (unsigned char)('a' + s->type);
        if (s->type == OSM_SCALAR_STR) {
            memcpy(out + len, s->str, need - 1);
            len += need - 1;
            continue;
        }
        uint64_t u = (uint64_t)s->i ^ ((uint64_t)1 << 63);
        for (int shift = 56; shift >= 0; shift -= 8)
            out[len++] = (unsigned char)(u >> shift);
    }
    out[len++] = '.'; /* so that the key without scalars has bytes too */
    return len;
}

void osm_key_decode(const unsigned char *bytes, size_t len, struct osm_key *out)
{
    *out = (struct osm_key){0};
    for (size_t at = 0; at + 1 < len && out->n < OSM_KEYS_MAX;) {
        struct osm_scalar *s = &out->at[out->n++];
        s->type = (enum osm_scalar_type)(bytes[at++] - 'a');
        if (s->type == OSM_SCALAR_STR) {
            s->str = (const char *)bytes + at;
            at += strlen(s->str) + 1;
            continue;
        }
        uint64_t u = 0;
        for (int i = 0; i < 8; i++)
            u = u << 8 | bytes[at++];
        s->i = (int64_t)(u ^ ((uint64_t)1 << 63));
    }
}

int osm_key_compare(const struct osm_key *a, const struct osm_key *b)
{
    for (size_t i = 0; i < a->n && i < b->n; i++) {
        const struct osm_scalar *x = &a->at[i], *y = &b->at[i];
        if (x->type != y->type)
            return x->type < y->type ? -1 : 1;
        int order =
            x->type == OSM_SCALAR_STR ? strcmp(x->str, y->str) : (x->i > y->i) - (x->i < y->i);
        if (order)
            return order;
    }
    return (a->n > b->n) - (a->n < b->n);
}

void osm_key_text(const struct osm_key *key, const char *separator, struct osm_buf *out)
{
    for (size_t i = 0; i < key->n; i++) {
        const struct osm_scalar *s = &key->at[i];
        if (i)
            (void)osm_buf_add_str(out, separator);
        if (s->type == OSM_SCALAR_STR)
            (void)osm_buf_add_str(out, s->str);
        else if (s->type == OSM_SCALAR_INT)
            (void)osm_buf_add_int(out, s->i);
        else
            (void)osm_buf_add_str(out, s->i ? "true" : "false");
    }
}

static const char *scalar_at(lua_State *L, int index, struct osm_scalar *out)
{
    switch (lua_type(L, index)) {
    case LUA_TBOOLEAN:
        *out = (struct osm_scalar){.type = OSM_SCALAR_BOOL, .i = lua_toboolean(L, index)};
        return NULL;
    case LUA_TNUMBER:
        if (!lua_isinteger(L, index))
            return "a key is a string, an integer or a boolean, got a float";
        *out = (struct osm_scalar){.type = OSM_SCALAR_INT, .i = lua_tointeger(L, index)};
        return NULL;
    case LUA_TSTRING: {
        size_t len;
        const char *text = lua_tolstring(L, index, &len);
        if (strlen(text) != len)
            return "a key holds a zero byte";
        *out = (struct osm_scalar){.type = OSM_SCALAR_STR, .str = text};
        return NULL;
    }
    case LUA_TNIL:
        return "a key is a string, an integer or a boolean, got nil";
    default:
        return "a key is a string, an integer or a boolean";
    }
}

const char *osm_key_from_args(lua_State *L, int first, struct osm_key *out)
{
    int top = lua_gettop(L);
    *out = (struct osm_key){0};
    if (top - first + 1 > OSM_KEYS_MAX)
        return "a key has at most three parts";
    for (int i = first; i <= top; i++) {
        const char *why = scalar_at(L, i, &out->at[out->n]);
        if (why)
            return why;
        out->n++;
    }
    return NULL;
}

const char *osm_key_from_value(lua_State *L, int index, struct osm_key *out)
{
    *out = (struct osm_key){0};
    if (lua_type(L, index) != LUA_TTABLE) {
        const char *why = scalar_at(L, index, &out->at[0]);
        out->n = why ? 0 : 1;
        return why;
    }
    lua_Unsigned n = lua_rawlen(L, index);
    if (n < 1 || n > OSM_KEYS_MAX)
        return "a key is a scalar or a list of one to three scalars";
    index = lua_absindex(L, index);
    for (lua_Unsigned i = 1; i <= n; i++) {
        lua_rawgeti(L, index, (lua_Integer)i);
        const char *why = scalar_at(L, -1, &out->at[i - 1]);
        lua_pop(L, 1);
        if (why)
            return why;
    }
    out->n = (size_t)n;
    return NULL;
}

int osm_key_push(lua_State *L, const struct osm_key *key)
{
    for (size_t i = 0; i < key->n; i++) {
        const struct osm_scalar *s = &key->at[i];
        if (s->type == OSM_SCALAR_STR)
            lua_pushstring(L, s->str);
        else if (s->type == OSM_SCALAR_INT)
            lua_pushinteger(L, s->i);
        else
            lua_pushboolean(L, s->i != 0);
    }
    return (int)key->n;
}

json_t *osm_key_json(const struct osm_key *key)
{
    json_t *list = json_array();
    for (size_t i = 0; list && i < key->n; i++) {
        const struct osm_scalar *s = &key->at[i];
        json_t *v = s->type == OSM_SCALAR_STR   ? json_string(s->str)
                    : s->type == OSM_SCALAR_INT ? json_integer(s->i)
                                                : json_boolean(s->i);
        if (json_array_append_new(list, v)) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}
