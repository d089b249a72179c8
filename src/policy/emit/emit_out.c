/* The `out` table: what an emitter says becomes an item at once, encoded and checked, so that a
 * mistake is an error of that line. */
#include "base/map.h"
#include "base/nearest.h"
#include "policy/emit/emit.h"

#include "policy/bundle/extend.h"
#include "policy/encode/proto.h"
#include "policy/memo/cells.h"
#include "policy/memo/value.h"
#include "policy/sandbox/sandbox.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum { TEXT_MAX = 253 + 64, NAMES_MAX = 10000 };

struct form {
    const char *name;
    enum osm_xds_type type;
    enum osm_item_part part;
    const char *resource;  /* field that names the resource */
    const char *element;   /* field that names the element, NULL none */
    const char *message;   /* full name of the message, NULL: C makes it */
    const char *forbidden; /* field of the message that composition fills in */
    enum osm_fill fill;
    const char *fields[9];
    const char *doc; /* for authors */
};

static const struct form forms[] = {
    {"cluster",
     OSM_XDS_CDS,
     OSM_ITEM_WHOLE,
     "name",
     NULL,
     "envoy.config.cluster.v3.Cluster",
     NULL,
     OSM_FILL_NONE,
     {"name", "audience", "message", "at"},
     "A whole cluster. The message leaves out `name`."},
    {"load_assignment",
     OSM_XDS_EDS,
     OSM_ITEM_WHOLE,
     "cluster",
     NULL,
     NULL,
     NULL,
     OSM_FILL_ENDPOINTS,
     {"cluster", "audience", "service_port", "accounts"},
     "A whole load assignment: the host fills in the addresses of the ready endpoints of the "
     "Service port whose account is listed (plain names, in the namespace of the Service)."},
    {"listener",
     OSM_XDS_LDS,
     OSM_ITEM_HEADER,
     "name",
     NULL,
     "envoy.config.listener.v3.Listener",
     "filter_chains",
     OSM_FILL_NONE,
     {"name", "audience", "message", "header_rule", "alone", "at"},
     "What is around the chains of a listener. Served when a chain of it is, or `alone`. The "
     "message leaves out `name` and `filter_chains`; `header_rule` instead of it names a "
     "rule that is asked as `rule(mesh, resource name, tags of the chains joined by \",\")` "
     "and answers the message."},
    {"filter_chain",
     OSM_XDS_LDS,
     OSM_ITEM_ELEMENT,
     "listener",
     "name",
     "envoy.config.listener.v3.FilterChain",
     NULL,
     OSM_FILL_NONE,
     {"listener", "name", "audience", "message", "tags", "authorises", "at"},
     "One chain of a listener. Its tags reach the header rule of the listener. What "
     "authorises is withdrawn when its emitter fails."},
    {"route_configuration",
     OSM_XDS_RDS,
     OSM_ITEM_HEADER,
     "name",
     NULL,
     "envoy.config.route.v3.RouteConfiguration",
     "virtual_hosts",
     OSM_FILL_NONE,
     {"name", "audience", "message", "alone", "at"},
     "What is around the virtual hosts of a route table. Served when a host of it is, or "
     "`alone`. The message leaves out `name` and `virtual_hosts`."},
    {"virtual_host",
     OSM_XDS_RDS,
     OSM_ITEM_ELEMENT,
     "route_configuration",
     "name",
     "envoy.config.route.v3.VirtualHost",
     NULL,
     OSM_FILL_NONE,
     {"route_configuration", "name", "audience", "message", "authorises", "at"},
     "One virtual host of a route table. What authorises is withdrawn when its emitter "
     "fails."},
    {"validation_context",
     OSM_XDS_SDS,
     OSM_ITEM_WHOLE,
     "name",
     NULL,
     NULL,
     NULL,
     OSM_FILL_ROOTS,
     {"name", "audience", "sans"},
     "A secret that says whom to trust: the roots of today and, with `sans`, the exact DNS "
     "names that are allowed. Every proxy is served the secret \"service-cert\", its own "
     "certificate, without being asked for."},
};

static void free_texts(char **texts)
{
    for (size_t i = 0; texts && texts[i]; i++)
        osm_free(texts[i]);
    osm_free(texts);
}

void osm_emitted_clear(struct osm_emitted *m)
{
    osm_item_free(m->item);
    osm_free(m->key);
    osm_free(m->ns);
    osm_free(m->service);
    free_texts(m->names);
    *m = (struct osm_emitted){0};
}

/* --- reading the item's table, at stack index 1 --- */

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
    struct osm_buf key = OSM_BUF_INIT(1 << 20);
    int rc = osm_buf_addf(&key, "%d %s", (int)kind, name);
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
static void push_named(lua_State *L, int message, const struct form *form, const char *name)
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

struct osm_bytes *osm_emit_encode_header(lua_State *L, int index, const char *name,
                                         struct osm_err *err)
{
    const struct form *form = &forms[2];
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

static void take_message(lua_State *L, const struct form *form, struct osm_item *item)
{
    struct osm_err err = {0};
    if (lua_getfield(L, 1, "message") != LUA_TTABLE)
        luaL_error(L, "message: expected a table, got %s", luaL_typename(L, -1));
    int message = lua_gettop(L);
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

/* --- the calls --- */

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
}

static void take_header(lua_State *L, const struct form *form, struct osm_item *item)
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

static void check_fields(lua_State *L, const struct form *form)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    for (lua_pushnil(L); lua_next(L, 1); lua_pop(L, 1)) {
        bool known = false;
        const char *field = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : NULL;
        if (!field)
            luaL_error(L, "out.%s: expected a table with named fields", form->name);
        for (size_t i = 0; form->fields[i]; i++)
            known = known || !strcmp(form->fields[i], field);
        if (known)
            continue;
        const char *near = osm_nearest_of(form->fields, field);
        if (near)
            luaL_error(L, "out.%s: there is no field \"%s\"; do you mean \"%s\"?", form->name,
                       field, near);
        luaL_error(L, "out.%s: there is no field \"%s\"", form->name, field);
    }
}

static struct osm_emission *emission_of(lua_State *L, const struct form *form)
{
    struct osm_frame *f = osm_top(osm_engine_of(L));
    if (!f || !f->emission)
        luaL_error(L, "out.%s: only an emitter can say this, while it runs", form->name);
    return f->emission;
}

/* Pushes "envoy/clusters.lua:14", the line of the emitter; "" where it has none. [-0, +1, m] */
static void push_place(lua_State *L)
{
    lua_Debug ar;
    if (!lua_getstack(L, 1, &ar) || !lua_getinfo(L, "Sl", &ar) || ar.currentline <= 0)
        lua_pushliteral(L, "");
    else
        lua_pushfstring(L, "%s:%d", ar.source[0] == '@' ? ar.source + 1 : ar.source,
                        ar.currentline);
}

/* Fills in emission->building; an error leaves it to the next call or to the end of the evaluation.
 */
static int l_build(lua_State *L)
{
    const struct form *form = lua_touserdata(L, lua_upvalueindex(1));
    struct osm_emission *emission = emission_of(L, form);
    struct osm_emitted *m = &emission->building;
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
    return 0;
}

static int keep(struct osm_emission *emission)
{
    if (emission->len == emission->cap) {
        size_t cap = emission->cap ? emission->cap * 2 : 4;
        struct osm_emitted *grown = osm_realloc_array(emission->list, cap, sizeof *grown);
        if (!grown)
            return OSM_ENOMEM;
        emission->list = grown;
        emission->cap = cap;
    }
    emission->building.order = emission->len;
    emission->list[emission->len++] = emission->building;
    emission->building = (struct osm_emitted){0};
    return 0;
}

/* (item, by): one item as it is to be; upvalues: the form, and the line of the emitter. */
static int l_say(lua_State *L)
{
    const struct form *form = lua_touserdata(L, lua_upvalueindex(1));
    const char *place = lua_tostring(L, lua_upvalueindex(2)), *by = lua_tostring(L, 2);
    struct osm_emission *emission = emission_of(L, form);
    osm_emitted_clear(&emission->building);
    if (emission->len >= OSM_ITEMS_MAX)
        return luaL_error(L, "%s%sout.%s: more than %d items for one key", place,
                          *place ? ": " : "", form->name, OSM_ITEMS_MAX);
    struct osm_item *item = emission->building.item = osm_alloc(sizeof *item);
    if (!item)
        return luaL_error(L, "out of memory");
    item->type = form->type;
    item->part = form->part;
    emission->building.fill = form->fill;
    item->place = osm_strdup(place);
    item->extended = by ? osm_strdup(by) : NULL;
    osm_sandbox_charge(L, 100);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_pushcclosure(L, l_build, 1);
    lua_pushvalue(L, 1);
    int status = lua_pcall(L, 1, 0, 0);
    if (status != LUA_OK) {
        if (status == LUA_ERRMEM || lua_type(L, -1) != LUA_TSTRING)
            return lua_error(L);
        const char *name = item->element ? item->element : item->resource ? item->resource : "?";
        lua_pushfstring(L, "%s%s%s \"%s\": %s%s%s%s", place, *place ? ": " : "", form->name, name,
                        lua_tostring(L, -1), by ? " (changed by " : "", by ? by : "",
                        by ? ")" : "");
        return lua_error(L);
    }
    size_t bytes = item->body ? osm_bytes_len(item->body) : 0;
    if (bytes > OSM_EMISSION_MAX - emission->bytes)
        return luaL_error(L, "%s%sout.%s: more than %d MiB of messages for one key", place,
                          *place ? ": " : "", form->name, OSM_EMISSION_MAX >> 20);
    emission->bytes += bytes;
    osm_sandbox_charge(L, bytes / 64);
    emission->building.authorises = item->authorises;
    if (!item->place || (by && !item->extended) || keep(emission))
        return luaL_error(L, "out of memory");
    return 0;
}

/* out.<form>{ ... } */
static int l_out(lua_State *L)
{
    const struct form *form = lua_touserdata(L, lua_upvalueindex(1));
    (void)emission_of(L, form);
    check_fields(L, form);
    lua_settop(L, 1);
    int at = lua_getfield(L, 1, "at");
    if (at != LUA_TNIL && at != LUA_TTABLE)
        return luaL_error(L, "out.%s: at: expected a table, got %s", form->name,
                          luaL_typename(L, -1));
    lua_settop(L, 1);
    push_place(L);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, -2);
    lua_pushcclosure(L, l_say, 2);
    if (!osm_extend_has(osm_engine_of(L), form->name)) {
        lua_pushvalue(L, 1);
        lua_call(L, 1, 0);
        return 0;
    }
    osm_extend_push(L, form->name, 1);
    lua_Unsigned n = lua_rawlen(L, 3);
    for (lua_Unsigned i = 1; i <= n; i++) {
        lua_pushvalue(L, 2);
        lua_rawgeti(L, 3, (lua_Integer)i);
        lua_getfield(L, -1, "item");
        lua_getfield(L, -2, "by");
        lua_remove(L, -3);
        lua_call(L, 2, 0);
    }
    return 0;
}

static int l_unknown_out(lua_State *L)
{
    const char *names[sizeof forms / sizeof *forms + 1] = {NULL};
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++)
        names[i] = forms[i].name;
    const char *name = osm_sandbox_name(L, 2);
    const char *near = osm_nearest_of(names, name);
    if (near)
        return luaL_error(L, "there is no out.%s; do you mean out.%s?", name, near);
    return luaL_error(L, "there is no out.%s", name);
}

void osm_emit_make_out(lua_State *L)
{
    lua_createtable(L, 0, (int)(sizeof forms / sizeof *forms));
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        lua_pushlightuserdata(L, (void *)(uintptr_t)&forms[i]);
        lua_pushcclosure(L, l_out, 1);
        lua_setfield(L, -2, forms[i].name);
    }
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, l_unknown_out);
    lua_setfield(L, -2, "__index");
    lua_setmetatable(L, -2);
    osm_sandbox_freeze(L, "out");
    osm_engine_of(L)->out_ref = luaL_ref(L, LUA_REGISTRYINDEX);
}

json_t *osm_emit_describe(void)
{
    json_t *list = json_array();
    for (size_t i = 0; list && i < sizeof forms / sizeof *forms; i++) {
        json_t *fields = json_array();
        bool failed = !fields;
        for (size_t k = 0; !failed && forms[i].fields[k]; k++)
            failed = json_array_append_new(fields, json_string(forms[i].fields[k])) != 0;
        if (failed ||
            json_array_append_new(list, json_pack("{s:s, s:s, s:s?, s:O}", "name", forms[i].name,
                                                  "text", forms[i].doc, "message", forms[i].message,
                                                  "fields", fields))) {
            json_decref(list);
            list = NULL;
        }
        json_decref(fields);
    }
    return list;
}
