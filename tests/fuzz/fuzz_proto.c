/* Messages from Lua tables, from JSON and from bytes. The first byte chooses: its lower bits the
 * type, and where the message comes from:
 *
 *   A-Z  a program that builds a Lua table, a byte a step; it knows the fields of the message, so
 *        that mutations stay near what a policy could write
 *   a-z  JSON, which is also made a Lua table
 *   0-9  bytes on the wire in hex; all others: as they are
 *
 * What is encoded can be decoded; what was decoded is encoded to the same bytes; the rules of the
 * API decide whether a message is written, never how; nothing is left on the Lua stack. */
#include "base/check.h"
#include "policy/encode/proto.h"

#include <lauxlib.h>
#include <lua.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "policy/lua_json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { OUT_MAX = 16 << 20, TABLE_DEPTH = 80 };

static bool same(const struct osm_buf *a, const struct osm_buf *b)
{
    return a->len == b->len && (!a->len || !memcmp(a->data, b->data, a->len));
}

/* What was encoded under these rules, decoded and encoded again. */
static void go_back(const ProtobufCMessageDescriptor *type, enum osm_proto_rules rules,
                    const struct osm_buf *bytes)
{
    struct osm_buf again = OSM_BUF_INIT(OUT_MAX);
    struct osm_err err = {0};
    json_t *json = NULL;
    int rc = osm_proto_decode(type, bytes->data ? bytes->data : "", bytes->len, &json, &err);
    OSM_REQUIRE(!rc);
    rc = osm_proto_encode_json(json, type, rules, &again, NULL, NULL, &err);
    char *text = json_dumps(json, JSON_ENCODE_ANY);
    /* What is redacted does not come back. */
    OSM_REQUIRE(!text || strstr(text, "[redacted]") || (!rc && same(bytes, &again)));
    free(text);
    json_decref(json);
    osm_buf_clear(&again);
}

/* Both verdicts on the value on top of the Lua stack or, without one, on the JSON. */
static void go_round(const ProtobufCMessageDescriptor *type, lua_State *L, const json_t *json)
{
    struct osm_buf out[2] = {OSM_BUF_INIT(OUT_MAX), OSM_BUF_INIT(OUT_MAX)};
    int rc[2], top = L ? lua_gettop(L) : 0;
    for (int i = 0; i < 2; i++) {
        enum osm_proto_rules rules = i ? OSM_PROTO_RULES_HOLD : OSM_PROTO_RULES_IGNORED;
        struct osm_err err = {0};
        rc[i] = L ? osm_proto_encode_lua(L, -1, type, rules, &out[i], NULL, NULL, &err)
                  : osm_proto_encode_json(json, type, rules, &out[i], NULL, NULL, &err);
        OSM_REQUIRE(!L || lua_gettop(L) == top);
        OSM_REQUIRE(!rc[i] || (err.msg[0] && !out[i].len));
        if (!rc[i])
            go_back(type, rules, &out[i]);
    }
    OSM_REQUIRE(rc[1] || (!rc[0] && same(&out[0], &out[1])));
    osm_buf_clear(&out[0]);
    osm_buf_clear(&out[1]);
}

/* ---- Lua tables ---- */

struct program {
    const uint8_t *at, *end;
};

static unsigned next(struct program *p)
{
    return p->at < p->end ? *p->at++ : 0;
}

static void push_bytes(lua_State *L, struct program *p, size_t len)
{
    size_t left = (size_t)(p->end - p->at);
    len = len < left ? len : left;
    lua_pushlstring(L, (const char *)p->at, len);
    p->at += len;
}

static void push_value(lua_State *L, struct program *p, const ProtobufCFieldDescriptor *f,
                       int depth);

/* Pairs of a field and its value, as many as the next byte says. */
static void push_message(lua_State *L, struct program *p, const ProtobufCMessageDescriptor *type,
                         int depth)
{
    lua_newtable(L);
    for (unsigned n = next(p) % 8; n && p->at < p->end; n--) {
        unsigned which = next(p);
        const ProtobufCFieldDescriptor *f =
            type->n_fields ? &type->fields[which % type->n_fields] : NULL;
        push_value(L, p, f, depth + 1);
        lua_setfield(L, -2, f ? f->name : "none");
    }
}

static void push_any(lua_State *L, struct program *p, int depth)
{
    static const char *const types[] = {
        "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "envoy.extensions.filters.http.rbac.v3.RBAC",
        "envoy.extensions.filters.http.router.v3.Router",
        "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "google.protobuf.Duration",
        "envoy.type.matcher.v3.MetadataMatcher"};
    const char *name = types[next(p) % 8];
    push_message(L, p, osm_proto_find(name), depth);
    lua_pushstring(L, name);
    lua_setfield(L, -2, "@type");
}

static void push_list(lua_State *L, struct program *p, const ProtobufCFieldDescriptor *f, int depth)
{
    lua_newtable(L);
    lua_Integer n = next(p) % 8;
    for (lua_Integer i = 1; i <= n; i++) {
        push_value(L, p, f, depth + 1);
        lua_rawseti(L, -2, i);
    }
}

/* Any keys but those that a table cannot have. */
static void push_table(lua_State *L, struct program *p, const ProtobufCFieldDescriptor *f,
                       int depth)
{
    lua_newtable(L);
    for (unsigned n = next(p) % 8; n && p->at < p->end; n--) {
        unsigned kind = next(p) % 4;
        if (kind == 0)
            lua_pushinteger(L, (lua_Integer)next(p) - 3);
        else if (kind == 1)
            lua_pushnumber(L, (lua_Number)next(p) / 2);
        else if (kind == 2)
            lua_pushboolean(L, next(p) & 1);
        else
            push_bytes(L, p, next(p) % 16);
        push_value(L, p, f, depth + 1);
        lua_rawset(L, -3);
    }
}

static void push_text(lua_State *L, struct program *p, const ProtobufCFieldDescriptor *f)
{
    static const char *const texts[] = {"0s",    "1s",   "-0.5s", "2024-02-29T00:00:00Z",
                                        "/path", "%a%",  ":name", "GET",
                                        "",      "a\nb", "\xff",  "18446744073709551615"};
    unsigned which = next(p);
    const ProtobufCEnumDescriptor *e = f && f->type == PROTOBUF_C_TYPE_ENUM ? f->descriptor : NULL;
    lua_pushstring(L, e ? e->values[which % e->n_values].name : texts[which % 12]);
}

static void push_value(lua_State *L, struct program *p, const ProtobufCFieldDescriptor *f,
                       int depth)
{
    bool message = f && f->type == PROTOBUF_C_TYPE_MESSAGE;
    uint64_t wide = 0;
    double real;
    if (depth > TABLE_DEPTH || !lua_checkstack(L, 8)) {
        lua_pushnil(L);
        return;
    }
    switch (next(p) % 16) {
    case 0:
        lua_pushboolean(L, next(p) & 1);
        break;
    case 1:
        lua_pushinteger(L, (lua_Integer)next(p) - 8);
        break;
    case 2:
    case 3:
        for (int i = 0; i < 8; i++)
            wide = wide << 8 | next(p);
        memcpy(&real, &wide, sizeof real);
        if (wide & 1)
            lua_pushinteger(L, (lua_Integer)wide);
        else
            lua_pushnumber(L, real);
        break;
    case 4:
        push_bytes(L, p, next(p));
        break;
    case 5:
    case 6:
        push_text(L, p, f);
        break;
    case 7:
        lua_pushvalue(L, 1); /* a circle */
        break;
    case 8:
        push_table(L, p, f, depth);
        break;
    case 9:
        push_any(L, p, depth);
        break;
    case 10:
        lua_pushlightuserdata(L, L);
        break;
    case 11:
    case 12:
        push_list(L, p, f, depth);
        break;
    default:
        if (message)
            push_message(L, p, f->descriptor, depth);
        else
            push_text(L, p, f);
        break;
    }
}

static void from_lua(const ProtobufCMessageDescriptor *type, const json_t *json, struct program *p)
{
    lua_State *L = luaL_newstate();
    if (!L)
        return;
    lua_newtable(L); /* what a circle leads to */
    if (json)
        push_json(L, json);
    else
        push_message(L, p, type, 0);
    if (!json) {
        lua_pushvalue(L, -1);
        lua_setfield(L, 1, "name");
    }
    go_round(type, L, NULL);
    lua_close(L);
}

/* ---- bytes ---- */

static unsigned nibble(uint8_t c)
{
    return c >= 'a' ? c - 'a' + 10u : c - '0' + 0u;
}

static json_t *decode(const ProtobufCMessageDescriptor *type, bool hex, const uint8_t *data,
                      size_t size)
{
    struct osm_buf bytes = OSM_BUF_INIT(OUT_MAX);
    json_t *json = NULL;
    for (size_t i = 0; hex && i + 1 < size; i += 2)
        (void)osm_buf_add_char(&bytes,
                               (char)(uint8_t)(nibble(data[i]) << 4 | (nibble(data[i + 1]) & 15)));
    if (!hex)
        (void)osm_buf_add(&bytes, data, size);
    if (bytes.failed ||
        osm_proto_decode(type, bytes.data ? bytes.data : "", bytes.len, &json, NULL))
        json = NULL;
    osm_buf_clear(&bytes);
    return json;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const types[] = {"envoy.config.cluster.v3.Cluster",
                                        "envoy.config.endpoint.v3.ClusterLoadAssignment",
                                        "envoy.config.listener.v3.Listener",
                                        "envoy.config.route.v3.RouteConfiguration",
                                        "envoy.extensions.transport_sockets.tls.v3.Secret",
                                        "google.protobuf.Any",
                                        "google.protobuf.Struct",
                                        "envoy.admin.v3.CertificateDetails"};
    if (!size)
        return 0;
    const ProtobufCMessageDescriptor *type = osm_proto_find(types[data[0] & 7]);
    json_t *json = NULL;
    OSM_REQUIRE(type);
    if (data[0] >= 'A' && data[0] <= 'Z') {
        struct program p = {data + 1, data + size};
        from_lua(type, NULL, &p);
        return 0;
    }
    bool text = data[0] >= 'a' && data[0] <= 'z';
    if (text)
        json = json_loadb((const char *)data + 1, size - 1, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    else
        json = decode(type, data[0] >= '0' && data[0] <= '9', data + 1, size - 1);
    if (json)
        go_round(type, NULL, json);
    if (json && text)
        from_lua(type, json, NULL);
    json_decref(json);
    return 0;
}
