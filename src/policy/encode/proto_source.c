/* The two sources of messages: a Lua stack and a JSON tree. No Lua call here can raise: tables are
 * read raw, strings are only taken where the value is one already, and stack growth is asked for.
 */
#include "policy/encode/proto_priv.h"

#include <lua.h>

/* [-0, +0, -] */
static void load(lua_State *L, int index, struct osm__proto_value *out)
{
    int type = lua_type(L, index);
    *out = (struct osm__proto_value){.type = OSM__VALUE_OTHER, .type_name = lua_typename(L, type)};
    switch (type) {
    case LUA_TNIL:
        out->type = OSM__VALUE_NONE;
        break;
    case LUA_TBOOLEAN:
        out->type = OSM__VALUE_BOOL;
        out->b = lua_toboolean(L, index);
        break;
    case LUA_TNUMBER:
        out->type = lua_isinteger(L, index) ? OSM__VALUE_INT : OSM__VALUE_DOUBLE;
        out->i = lua_tointegerx(L, index, NULL);
        out->d = lua_tonumberx(L, index, NULL);
        break;
    case LUA_TSTRING:
        out->type = OSM__VALUE_STRING;
        out->s = lua_tolstring(L, index, &out->len);
        break;
    case LUA_TTABLE:
        out->at.index = lua_absindex(L, index);
        if (lua_getmetatable(L, index)) { /* what __index has would be lost in silence */
            lua_settop(L, -2);
            out->type_name = "a table with a metatable";
        } else {
            out->type = OSM__VALUE_TABLE;
        }
        break;
    default:
        break;
    }
}

static int lua_mark(void *L)
{
    return lua_gettop(L);
}

static void lua_release(void *L, int mark)
{
    lua_settop(L, mark);
}

/* Leaves tables among the values on the stack, until release. */
static int lua_entries(void *ctx, const struct osm__proto_value *table, osm__proto_entry_fn *fn,
                       void *ud)
{
    lua_State *L = ctx;
    if (!lua_checkstack(L, 3))
        return OSM_ELIMIT;
    lua_pushnil(L);
    while (lua_next(L, table->at.index)) {
        struct osm__proto_value key, value;
        load(L, -2, &key);
        load(L, -1, &value);
        if (value.type == OSM__VALUE_TABLE) {
            lua_insert(L, -2);
            value.at.index--;
            if (!lua_checkstack(L, 3))
                return OSM_ELIMIT;
        } else {
            lua_settop(L, -2);
        }
        int rc = fn(ud, &key, &value);
        if (rc)
            return rc;
    }
    return 0;
}

static long lua_length(void *ctx, const struct osm__proto_value *table)
{
    lua_State *L = ctx;
    long count = 0;
    lua_Integer max = 0;
    if (!lua_checkstack(L, 3))
        return -1;
    lua_pushnil(L);
    while (lua_next(L, table->at.index)) {
        lua_settop(L, -2);
        if (!lua_isinteger(L, -1) || lua_tointegerx(L, -1, NULL) < 1) {
            lua_settop(L, -2);
            return -1;
        }
        lua_Integer key = lua_tointegerx(L, -1, NULL);
        max = key > max ? key : max;
        count++;
    }
    return max == count ? count : -2;
}

static int lua_item(void *ctx, const struct osm__proto_value *table, long index,
                    struct osm__proto_value *out)
{
    lua_State *L = ctx;
    if (!lua_checkstack(L, 3))
        return OSM_ELIMIT;
    lua_rawgeti(L, table->at.index, index + 1);
    load(L, -1, out);
    return 0;
}

int osm_proto_encode_lua(struct lua_State *L, int index,
                         const ProtobufCMessageDescriptor *descriptor, enum osm_proto_rules rules,
                         struct osm_buf *out, osm_proto_ref_fn *on_ref, void *ud,
                         struct osm_err *err)
{
    static const struct osm__proto_source lua = {NULL,        lua_mark,   lua_release,
                                                 lua_entries, lua_length, lua_item};
    struct osm__proto_source source = lua;
    source.ctx = L;
    struct osm__proto_value value;
    int top = lua_gettop(L);
    load(L, index, &value);
    int rc = osm__proto_encode(&source, &value, descriptor, rules, out, on_ref, ud, err);
    lua_settop(L, top);
    return rc;
}

static void load_json(const json_t *json, struct osm__proto_value *out)
{
    *out = (struct osm__proto_value){.type = OSM__VALUE_NONE, .type_name = "null"};
    out->at.json = json;
    switch (json_typeof(json)) {
    case JSON_OBJECT:
        out->type = OSM__VALUE_MAP;
        out->type_name = "object";
        break;
    case JSON_ARRAY:
        out->type = OSM__VALUE_LIST;
        out->type_name = "list";
        break;
    case JSON_STRING:
        out->type = OSM__VALUE_STRING;
        out->type_name = "string";
        out->s = json_string_value(json);
        out->len = json_string_length(json);
        break;
    case JSON_INTEGER:
        out->type = OSM__VALUE_INT;
        out->type_name = "number";
        out->i = json_integer_value(json);
        out->d = (double)out->i;
        break;
    case JSON_REAL:
        out->type = OSM__VALUE_DOUBLE;
        out->type_name = "number";
        out->d = json_real_value(json);
        break;
    case JSON_TRUE:
    case JSON_FALSE:
        out->type = OSM__VALUE_BOOL;
        out->type_name = "boolean";
        out->b = json_is_true(json);
        break;
    case JSON_NULL:
        break;
    }
}

static int json_mark(void *ctx)
{
    (void)ctx;
    return 0;
}

static void json_release(void *ctx, int mark)
{
    (void)ctx;
    (void)mark;
}

static int json_entries(void *ctx, const struct osm__proto_value *table, osm__proto_entry_fn *fn,
                        void *ud)
{
    (void)ctx;
    json_t *object =
        (json_t *)(uintptr_t)table->at.json; /* jansson iterates through a pointer to non-const */
    for (void *at = json_object_iter(object); at; at = json_object_iter_next(object, at)) {
        struct osm__proto_value key = {.type = OSM__VALUE_STRING, .type_name = "string"}, value;
        key.s = json_object_iter_key(at);
        key.len = json_object_iter_key_len(at);
        load_json(json_object_iter_value(at), &value);
        int rc = fn(ud, &key, &value);
        if (rc)
            return rc;
    }
    return 0;
}

static long json_length(void *ctx, const struct osm__proto_value *table)
{
    (void)ctx;
    return json_is_array(table->at.json) ? (long)json_array_size(table->at.json) : -1;
}

static int json_item(void *ctx, const struct osm__proto_value *table, long index,
                     struct osm__proto_value *out)
{
    (void)ctx;
    load_json(json_array_get(table->at.json, (size_t)index), out);
    return 0;
}

int osm_proto_encode_json(const json_t *json, const ProtobufCMessageDescriptor *descriptor,
                          enum osm_proto_rules rules, struct osm_buf *out, osm_proto_ref_fn *on_ref,
                          void *ud, struct osm_err *err)
{
    static const struct osm__proto_source source = {NULL,         json_mark,   json_release,
                                                    json_entries, json_length, json_item};
    struct osm__proto_value value;
    load_json(json, &value);
    return osm__proto_encode(&source, &value, descriptor, rules, out, on_ref, ud, err);
}
