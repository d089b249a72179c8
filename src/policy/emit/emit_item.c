/* Reads one item from the table that an emitter has given to `out`: its names, its audience, its
 * message. Errors name the field; the caller adds the line. */
#include "base/map.h"
#include "policy/emit/emit_priv.h"

#include "policy/bundle/extend.h"
#include "policy/encode/proto.h"
#include "policy/memo/value.h"
#include "policy/sandbox/sandbox.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum { TEXT_MAX = 253 + 64, NAMES_MAX = 10000 };

/* --- fields of the table, at stack index 1 --- */

static const char *field_text(lua_State *L, const char *field)
{
    size_t len;
    if (lua_getfield(L, 1, field) != LUA_TSTRING)
        luaL_error(L, "%s: expected a string, got %s", field, luaL_typename(L, -1));
    const char *text = lua_tolstring(L, -1, &len);
    if (!len || len > TEXT_MAX * 4 || strlen(text) != len)
        luaL_error(L, "%s: is empty, too long, or holds a zero byte", field);
    return text; /* the table keeps it alive, and it stays on the stack */
}

static bool field_flag(lua_State *L, const char *field)
{
    int type = lua_getfield(L, 1, field);
    bool on = lua_toboolean(L, -1);
    if (type != LUA_TNIL && type != LUA_TBOOLEAN)
        luaL_error(L, "%s: expected a boolean, got %s", field, luaL_typename(L, -1));
    lua_pop(L, 1);
    return on;
}

static char *copy(lua_State *L, const char *text)
{
    char *made = osm_strdup(text);
    if (!made)
        luaL_error(L, "out of memory");
    return made;
}

/* A list of strings into *out, which the item owns from the first moment. */
static size_t take_texts(lua_State *L, int index, const char *what, char ***out)
{
    if (!lua_istable(L, index))
        luaL_error(L, "%s: expected a list of strings, got %s", what, luaL_typename(L, index));
    lua_Unsigned n = lua_rawlen(L, index);
    if (n > NAMES_MAX)
        luaL_error(L, "%s: more than %d", what, NAMES_MAX);
    char **list = *out = osm_alloc_array(n + 1, sizeof *list);
    if (!list)
        luaL_error(L, "out of memory");
    for (lua_Unsigned i = 0; i < n; i++) {
        size_t len;
        if (lua_rawgeti(L, index, (lua_Integer)i + 1) != LUA_TSTRING)
            luaL_error(L, "%s[%d]: expected a string, got %s", what, (int)i + 1,
                       luaL_typename(L, -1));
        const char *text = lua_tolstring(L, -1, &len);
        if (!len || strlen(text) != len)
            luaL_error(L, "%s[%d]: is empty or holds a zero byte", what, (int)i + 1);
        list[i] = copy(L, text);
        lua_pop(L, 1);
    }
    return (size_t)n;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Names of Kubernetes: lower case letters, digits, - and . */
static bool name_valid(const char *text, size_t len)
{
    if (!len || len > 253)
        return false;
    for (size_t i = 0; i < len; i++)
        if (!islower((unsigned char)text[i]) && !isdigit((unsigned char)text[i]) &&
            text[i] != '-' && text[i] != '.')
            return false;
    return true;
}

static bool pair_valid(const char *text)
{
    const char *slash = strchr(text, '/');
    return slash && name_valid(text, (size_t)(slash - text)) &&
           name_valid(slash + 1, strlen(slash + 1));
}

/* One field of a term; on top of the stack. */
static void take_term_field(lua_State *L, struct osm_term *term, const char *field, int i)
{
    const char **slot = !strcmp(field, "pod")         ? &term->pod
                        : !strcmp(field, "service")   ? &term->service
                        : !strcmp(field, "account")   ? &term->account
                        : !strcmp(field, "namespace") ? &term->ns
                                                      : NULL;
    if (!slot)
        luaL_error(
            L,
            "audience[%d]: there is no field \"%s\"; there are pod, service, account and namespace",
            i, field);
    const char *text = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : NULL;
    if (slot == &term->ns && (!text || !name_valid(text, strlen(text))))
        luaL_error(L, "audience[%d].namespace: expected a namespace's name", i);
    if (slot != &term->ns && (!text || !pair_valid(text)))
        luaL_error(L, "audience[%d].%s: expected \"namespace/name\", got %s", i, field,
                   text ? text : luaL_typename(L, -1));
    *slot = copy(L, text);
}

static void take_audience(lua_State *L, struct osm_item *item)
{
    int type = lua_getfield(L, 1, "audience");
    bool everyone = type == LUA_TSTRING && !strcmp(lua_tostring(L, -1), "everyone");
    if (type != LUA_TTABLE && !everyone)
        luaL_error(L,
                   "audience: expected \"everyone\" or a list of terms such as { account = "
                   "\"shop/cart\" }, got %s",
                   luaL_typename(L, -1));
    int list = lua_gettop(L);
    lua_Unsigned n = everyone ? 1 : lua_rawlen(L, list);
    if (n > NAMES_MAX)
        luaL_error(L, "audience: more than %d terms", NAMES_MAX);
    if (!everyone && !n) {
        lua_pushnil(L);
        if (lua_next(L, list))
            luaL_error(L, "audience: expected a list of terms: { { account = \"shop/cart\" } }");
    }
    item->audience = osm_alloc_array((size_t)n + 1, sizeof *item->audience);
    if (!item->audience)
        luaL_error(L, "out of memory");
    item->audience_len = (size_t)n;
    for (lua_Unsigned i = 1; !everyone && i <= n; i++) {
        if (lua_rawgeti(L, list, (lua_Integer)i) != LUA_TTABLE)
            luaL_error(L,
                       "audience[%d]: expected a term such as { account = \"shop/cart\" }, got %s",
                       (int)i, luaL_typename(L, -1));
        bool any = false;
        for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1), any = true) {
            if (lua_type(L, -2) != LUA_TSTRING)
                luaL_error(L, "audience[%d]: expected named fields", (int)i);
            take_term_field(L, &item->audience[i - 1], lua_tostring(L, -2), (int)i);
        }
        if (!any)
            luaL_error(L, "audience[%d]: is empty; for all proxies say audience = \"everyone\"",
                       (int)i);
        lua_pop(L, 1);
    }
    lua_settop(L, list - 1);
}

/* --- messages --- */

struct refs {
    struct osm_item *item;
    struct osm_map seen; /* kind and name: a table of routes may name many thousands */
    size_t cap;
    bool failed;
};

static void add_ref(void *ud, enum osm_ref_kind kind, const char *name)
{
    struct refs *r = ud;
    struct osm_item *item = r->item;
    char room[OSM_BUF_ROOM];
    struct osm_buf key = osm_buf_on(room, sizeof room, 1 << 20);
    (void)osm_buf_add_char(&key, (char)('0' + (int)kind));
    int rc = osm_buf_add_str(&key, name);
    bool seen = !rc && osm_map_getn(&r->seen, key.data, key.len);
    if (!rc && !seen)
        rc = osm_map_putn(&r->seen, key.data, key.len, item, NULL);
    osm_buf_clear(&key);
    r->failed = r->failed || rc;
    if (rc || seen)
        return;
    if (item->refs_len == r->cap) {
        size_t cap = r->cap ? r->cap * 2 : 4;
        struct osm_item_ref *grown = osm_realloc_array(item->refs, cap, sizeof *grown);
        if (!grown) {
            r->failed = true;
            return;
        }
        item->refs = grown;
        r->cap = cap;
    }
    char *made = osm_strdup(name);
    if (!made)
        r->failed = true;
    else
        item->refs[item->refs_len++] = (struct osm_item_ref){(int)kind, made};
}

/* Encodes the table at @p index. NULL: err says why. */
static struct osm_bytes *encode(lua_State *L, int index, const char *message, struct osm_item *item,
                                struct osm_err *err)
{
    struct osm_buf *out = &osm_engine_of(L)->encoded;
    struct refs refs = {.item = item, .seen = OSM_MAP_INIT};
    struct osm_bytes *bytes = NULL;
    const ProtobufCMessageDescriptor *descriptor = osm_proto_find(message);
    int rc = descriptor ? osm_proto_encode_lua(L, index, descriptor, OSM_PROTO_RULES_HOLD, out,
                                               item ? add_ref : NULL, &refs, err)
                        : osm_fail(err, OSM_ENOTSUP, "%s is not compiled in", message);
    osm_map_clear(&refs.seen);
    if (!rc && !refs.failed)
        bytes = osm_bytes_new(out->data ? out->data : "", out->len);
    if (!rc && !bytes)
        (void)osm_fail(err, OSM_ENOMEM, "out of memory");
    osm_buf_reset(out);
    return bytes;
}

/* Pushes a copy of the message with its name filled in, so that name and fields are encoded in one
 * order and checked together. */
static void push_named(lua_State *L, int message, const struct osm__form *form, const char *name)
{
    lua_createtable(L, 0, 8);
    for (lua_pushnil(L); lua_next(L, message); lua_pop(L, 1)) {
        const char *field = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "";
        if (!strcmp(field, "name") || (form->forbidden && !strcmp(field, form->forbidden)))
            luaL_error(L, "message.%s: is filled in by the host; leave it out", field);
        lua_pushvalue(L, -2);
        lua_pushvalue(L, -2);
        lua_rawset(L, message + 1);
    }
    lua_pushstring(L, name);
    lua_setfield(L, message + 1, "name");
}

struct osm_bytes *osm__item_encode_header(lua_State *L, const struct osm__form *form, int index,
                                          const char *name, struct osm_err *err)
{
    lua_pushvalue(L, index);
    push_named(L, lua_gettop(L), form, name);
    return encode(L, lua_gettop(L), form->message, NULL, err);
}

/* A chain's match bytes are what no other chain of the listener may have. */
static void take_match(lua_State *L, int message, struct osm_item *item)
{
    struct osm_err err = {0};
    char hex[OSM_HASH_HEX_SIZE];
    struct osm_hash hash = osm_hash_bytes("", 0);
    if (lua_getfield(L, message, "filter_chain_match") != LUA_TNIL) {
        struct osm_bytes *bytes =
            encode(L, lua_gettop(L), "envoy.config.listener.v3.FilterChainMatch", NULL, &err);
        if (!bytes)
            luaL_error(L, "filter_chain_match.%s", err.msg);
        hash = osm_bytes_hash(bytes);
        osm_bytes_unref(bytes);
    }
    lua_pop(L, 1);
    item->unique = copy(L, osm_hash_hex(hash, hex));
}

static void take_message(lua_State *L, const struct osm__form *form, struct osm_item *item)
{
    struct osm_err err = {0};
    if (lua_getfield(L, 1, "message") != LUA_TTABLE)
        luaL_error(L, "message: expected a table, got %s", luaL_typename(L, -1));
    int message = lua_gettop(L);
    if (lua_getmetatable(L, message))
        luaL_error(L, "message: expected a plain table, got a table with a metatable");
    push_named(L, message, form, item->element ? item->element : item->resource);
    item->body = encode(L, message + 1, form->message, item, &err);
    if (!item->body)
        luaL_error(L, "%s", err.msg);
    if (form->type == OSM_XDS_LDS && form->part == OSM_ITEM_ELEMENT)
        take_match(L, message, item);
    if (form->type == OSM_XDS_RDS && form->part == OSM_ITEM_ELEMENT) {
        lua_getfield(L, message, "domains");
        if (!take_texts(L, lua_gettop(L), "domains", (char ***)(uintptr_t)&item->domains))
            luaL_error(L, "domains: a virtual host needs at least one");
    }
    lua_settop(L, message - 1);
}

/* --- an item --- */

static int by_number(const void *a, const void *b)
{
    const uint16_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

/* Ports of pods, which the item owns from the first moment. */
static void take_targets(lua_State *L, struct osm_emitted *m)
{
    int type = lua_getfield(L, 1, "targets");
    if (type != LUA_TNIL && type != LUA_TTABLE)
        luaL_error(L, "targets: expected a list of ports, got %s", luaL_typename(L, -1));
    lua_Unsigned n = type == LUA_TTABLE ? lua_rawlen(L, -1) : 0;
    if (n > UINT16_MAX)
        luaL_error(L, "targets: more than %d", UINT16_MAX);
    if (type == LUA_TTABLE && !(m->ports = osm_alloc_array((size_t)n + 1, sizeof *m->ports)))
        luaL_error(L, "out of memory");
    for (lua_Unsigned i = 0; i < n; i++) {
        if (lua_rawgeti(L, -1, (lua_Integer)i + 1) != LUA_TNUMBER || !lua_isinteger(L, -1) ||
            lua_tointeger(L, -1) < 1 || lua_tointeger(L, -1) > UINT16_MAX)
            luaL_error(L, "targets[%d]: expected a port from 1 to 65535", (int)i + 1);
        m->ports[m->ports_len++] = (uint16_t)lua_tointeger(L, -1);
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    if (m->ports_len)
        qsort(m->ports, m->ports_len, sizeof *m->ports, by_number);
}

static void take_assignment(lua_State *L, struct osm_emitted *m)
{
    if (lua_getfield(L, 1, "service_port") != LUA_TTABLE)
        luaL_error(L, "service_port: expected { namespace, service, port }, got %s",
                   luaL_typename(L, -1));
    int list = lua_gettop(L);
    int types = lua_rawgeti(L, list, 1) == LUA_TSTRING && lua_rawgeti(L, list, 2) == LUA_TSTRING;
    lua_rawgeti(L, list, 3);
    if (!types || !lua_isinteger(L, -1) || lua_tointeger(L, -1) < 0 || lua_tointeger(L, -1) > 65535)
        luaL_error(L, "service_port: expected { namespace, service, port }");
    m->ns = copy(L, lua_tostring(L, list + 1));
    m->service = copy(L, lua_tostring(L, list + 2));
    m->port = (int)lua_tointeger(L, list + 3);
    lua_settop(L, list - 1);
    int type = lua_getfield(L, 1, "accounts");
    m->any_account = type == LUA_TSTRING && !strcmp(lua_tostring(L, -1), "any");
    if (!m->any_account && type != LUA_TTABLE)
        luaL_error(L, "accounts: expected a list of account names or \"any\", got %s",
                   luaL_typename(L, -1));
    if (!m->any_account) {
        m->names_len = take_texts(L, lua_gettop(L), "accounts", &m->names);
        qsort(m->names, m->names_len, sizeof *m->names, by_text);
    }
    lua_pop(L, 1);
    take_targets(L, m);
}

static void take_header(lua_State *L, const struct osm__form *form, struct osm_item *item)
{
    bool rule = form->type == OSM_XDS_LDS && lua_getfield(L, 1, "header_rule") != LUA_TNIL;
    item->alone = field_flag(L, "alone");
    if (!rule) {
        lua_settop(L, 1);
        take_message(L, form, item);
        return;
    }
    const char *name = field_text(L, "header_rule");
    struct osm_decl *d = osm_map_get(&osm_engine_of(L)->names, name);
    if (!d || d->type != OSM_DECL_RULE)
        luaL_error(L, "header_rule: there is no rule \"%s\"", name);
    if (lua_getfield(L, 1, "message") != LUA_TNIL)
        luaL_error(L, "message and header_rule: only one of them");
    d = osm_extend_header_rule(L, d);
    if (!d)
        luaL_error(L, "out of memory");
    item->header_rule = copy(L, d->name);
}

void osm__item_read(lua_State *L, const struct osm__form *form, struct osm_emitted *m)
{
    struct osm_item *item = m->item;
    item->resource = copy(L, field_text(L, form->resource));
    if (form->element)
        item->element = copy(L, field_text(L, form->element));
    lua_settop(L, 1);
    take_audience(L, item);
    if (form->fill == OSM_FILL_ENDPOINTS) {
        take_assignment(L, m);
    } else if (form->fill == OSM_FILL_ROOTS) {
        if (lua_getfield(L, 1, "sans") != LUA_TNIL)
            m->names_len = take_texts(L, lua_gettop(L), "sans", &m->names);
        item->authorises = true; /* it says whom to believe */
    } else if (form->part == OSM_ITEM_HEADER) {
        take_header(L, form, item);
    } else {
        take_message(L, form, item);
    }
    lua_settop(L, 1);
    if (form->part == OSM_ITEM_ELEMENT)
        item->authorises = field_flag(L, "authorises");
    if (form->part == OSM_ITEM_ELEMENT && form->type == OSM_XDS_LDS &&
        lua_getfield(L, 1, "tags") != LUA_TNIL)
        (void)take_texts(L, lua_gettop(L), "tags", (char ***)(uintptr_t)&item->tags);
}
