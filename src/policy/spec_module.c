/* The engine for the specs: a Lua module (osm_spec.so) over the daemon's own library. The engine
 * has a Lua state of its own; answers are copied into the spec's.
 *
 *   local engine = require("osm_spec").new("policies", { mesh_name = "osm" })
 *   local engine = require("osm_spec").new({ "policies", "mine" }, {})     mine lies over policies
 *   engine:apply(yaml)               errors are raised
 *   engine:delete("Kind", "ns", "name")                          false where absent
 *   engine:ask("backends", "shop", "cart")                       a rule's error is raised
 *   engine:rejects()  engine:errors()  engine:figures()  engine:number()
 *   engine:proxies()                 { { pod = "ns/name", account = "ns/name", uuid = }, ... }
 *   engine:digests()                 "ns/pod" -> digest of the bytes it is served, names included
 *   engine:resources("ns/pod", "CDS") name -> message, or nil where there is no such proxy
 *
 * Whatever is asked sees all that was applied before. */
#include "base/log.h"
#include "base/yaml.h"
#include "model/store.h"
#include "policy/encode/proto.h"
#include "policy/engine.h"
#include "policy/memo/value.h"

#include <lauxlib.h>
#include <string.h>

struct spec {
    struct osm_engine *engine;
    struct osm_store *store;
    struct osm_store_reader *reader;
    struct osm_snapshot *snapshot;
    struct osm_map keys; /* "Kind/ns/name" -> key of the store */
};

static const char type_name[] = "osm_spec.Engine";

enum { DIRS_MAX = 8 };

static struct spec *spec_of(lua_State *L)
{
    return luaL_checkudata(L, 1, type_name);
}

static int l_free(lua_State *L)
{
    struct spec *s = spec_of(L);
    osm_engine_free(s->engine);
    osm_store_reader_free(s->reader);
    osm_store_free(s->store);
    osm_snapshot_unref(s->snapshot);
    osm_map_each (&s->keys, e)
        osm_free(e->value);
    osm_map_clear(&s->keys);
    *s = (struct spec){0};
    return 0;
}

static int fail(lua_State *L, const struct osm_err *err)
{
    lua_pushstring(L, err->msg);
    return lua_error(L);
}

/* A directory, or a list of them; the texts stay with argument 1. */
static void read_dirs(lua_State *L, const char *dirs[DIRS_MAX + 1])
{
    lua_Unsigned n = lua_istable(L, 1) ? lua_rawlen(L, 1) : 1;
    luaL_argcheck(L, n >= 1 && n <= DIRS_MAX, 1, "one to eight directories");
    for (lua_Unsigned i = 0; i < n; i++) {
        if (lua_istable(L, 1))
            lua_rawgeti(L, 1, (lua_Integer)i + 1);
        else
            lua_pushvalue(L, 1);
        dirs[i] = luaL_checkstring(L, -1);
        lua_pop(L, 1);
    }
    dirs[n] = NULL;
}

static int l_new(lua_State *L)
{
    const char *dirs[DIRS_MAX + 1];
    read_dirs(L, dirs);
    struct osm_engine_config config = {.policies_dirs = dirs, .thorough = true};
    struct osm_err err = {0};
    static const struct {
        const char *name, *otherwise;
        size_t offset;
    } fields[] = {
        {"mesh_name", "osm", offsetof(struct osm_engine_config, mesh_name)},
        {"osm_namespace", "osm-system", offsetof(struct osm_engine_config, osm_namespace)},
        {"trust_domain", "cluster.local", offsetof(struct osm_engine_config, trust_domain)},
        {"roots_pem", "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
         offsetof(struct osm_engine_config, roots_pem)},
    };
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        const char *text = NULL;
        if (lua_istable(L, 2) && lua_getfield(L, 2, fields[i].name) == LUA_TSTRING)
            text = lua_tostring(L, -1); /* the table keeps it */
        *(const char **)((char *)&config + fields[i].offset) = text ? text : fields[i].otherwise;
    }
    struct spec *s = lua_newuserdatauv(L, sizeof *s, 0);
    *s = (struct spec){0};
    luaL_setmetatable(L, type_name);
    s->store = osm_store_new();
    s->reader = s->store ? osm_store_reader_new(s->store) : NULL;
    if (!s->reader)
        return luaL_error(L, "out of memory");
    if (osm_engine_new(&s->engine, &config, &err))
        return fail(L, &err);
    if (osm_engine_watch_status(s->engine, s->reader))
        return luaL_error(L, "out of memory");
    return 1;
}

/* --- objects --- */

static int note_key(struct spec *s, const struct osm_object *o)
{
    int rc = OSM_ENOMEM;
    void *old = NULL;
    char *name = osm_strf("%s/%s/%s", o->kind, o->ns, o->name), *key = osm_strdup(o->key);
    if (name && key)
        rc = osm_map_put(&s->keys, name, key, &old);
    osm_free(rc ? key : old);
    osm_free(name);
    return rc;
}

static int put_object(struct spec *s, json_t *body, int line, struct osm_err *err)
{
    char origin[32];
    struct osm_object *object = NULL;
    (void)snprintf(origin, sizeof origin, "spec:%d", line);
    int rc = osm_object_new(&object, json_incref(body), origin, err);
    if (!rc)
        rc = note_key(s, object);
    if (!rc)
        rc = osm_store_put(s->store, osm_object_ref(object));
    osm_object_unref(object);
    return rc;
}

static int put_document(struct spec *s, const struct osm_yaml_doc *doc, struct osm_err *err)
{
    const char *kind = json_string_value(json_object_get(doc->value, "kind"));
    size_t i;
    json_t *item;
    if (!kind || strcmp(kind, "List") != 0)
        return put_object(s, doc->value, doc->line, err);
    int rc = 0;
    json_array_foreach (json_object_get(doc->value, "items"), i, item) {
        if (!rc)
            rc = put_object(s, item, doc->line, err);
    }
    return rc;
}

static int l_apply(lua_State *L)
{
    struct spec *s = spec_of(L);
    size_t len;
    const char *text = luaL_checklstring(L, 2, &len);
    struct osm_yaml_docs docs = {0};
    struct osm_err err = {0};
    int rc = osm_yaml_parse(text, len, &docs, NULL, &err);
    for (size_t i = 0; i < docs.len && !rc; i++) {
        rc = put_document(s, &docs.list[i], &err);
        if (rc)
            osm_err_prepend(&err, "document at line %d: ", docs.list[i].line);
    }
    osm_yaml_docs_clear(&docs);
    return rc ? fail(L, &err) : 0;
}

static int l_delete(lua_State *L)
{
    struct spec *s = spec_of(L);
    const char *name = lua_pushfstring(L, "%s/%s/%s", luaL_checkstring(L, 2),
                                       luaL_optstring(L, 3, ""), luaL_checkstring(L, 4));
    char *key = osm_map_del(&s->keys, name);
    lua_pushboolean(L, key && !osm_store_delete(s->store, key));
    osm_free(key);
    return 1;
}

/* --- questions --- */

/* Evaluates what has been applied. */
static struct spec *run(lua_State *L)
{
    struct spec *s = spec_of(L);
    struct osm_err err = {0};
    struct osm_snapshot *snapshot = NULL;
    if (s->snapshot && !osm_store_reader_dirty(s->reader))
        return s;
    struct osm_changes none = {NULL, 0}, *changes = osm_store_reader_take(s->reader);
    int rc = osm_engine_run(s->engine, changes ? changes : &none, &snapshot, &err);
    osm_changes_free(changes);
    if (rc)
        (void)fail(L, &err);
    if (snapshot) {
        osm_snapshot_unref(s->snapshot);
        s->snapshot = snapshot;
    }
    return s;
}

static int l_run(lua_State *L)
{
    (void)run(L);
    return 0;
}

static int l_push_json(lua_State *L)
{
    osm_value_push(L, lua_touserdata(L, 1));
    return 1;
}

/* Pushes and drops the value, whatever happens. */
static int push_json(lua_State *L, json_t *value)
{
    lua_pushcfunction(L, l_push_json);
    lua_pushlightuserdata(L, value);
    int status = lua_pcall(L, 1, 1, 0);
    json_decref(value);
    return status == LUA_OK ? 1 : lua_error(L);
}

static int l_ask(lua_State *L)
{
    struct spec *s = run(L);
    const char *name = luaL_checkstring(L, 2);
    struct osm_err err = {0};
    json_t *keys = json_array(), *answer = NULL;
    int rc = 0;
    for (int i = 3; i <= lua_gettop(L) && !rc; i++) {
        json_t *key = NULL;
        rc = osm_value_json(L, i, "key", &key, &err);
        if (!rc && json_array_append_new(keys, key))
            rc = osm_fail(&err, OSM_ENOMEM, "out of memory");
    }
    if (!rc)
        rc = osm_engine_ask(s->engine, name, keys, &answer, &err);
    json_decref(keys);
    return rc ? fail(L, &err) : push_json(L, answer);
}

static int l_rejects(lua_State *L)
{
    return push_json(L, json_incref(run(L)->snapshot->rejects));
}

static int l_errors(lua_State *L)
{
    return push_json(L, json_incref(run(L)->snapshot->errors));
}

static int l_figures(lua_State *L)
{
    return push_json(L, osm_engine_figures(run(L)->engine)); /* the snapshot's may be older */
}

static int l_number(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)run(L)->snapshot->number);
    return 1;
}

static int l_proxies(lua_State *L)
{
    const struct osm_snapshot *snapshot = run(L)->snapshot;
    lua_createtable(L, (int)snapshot->proxies_len, 0);
    for (size_t i = 0; i < snapshot->proxies_len; i++) {
        const struct osm_snapshot_proxy *p = &snapshot->proxies[i];
        lua_createtable(L, 0, 3);
        lua_pushfstring(L, "%s/%s", p->ns, p->pod);
        lua_setfield(L, -2, "pod");
        lua_pushfstring(L, "%s/%s", p->ns, p->account);
        lua_setfield(L, -2, "account");
        lua_pushlstring(L, p->key, strcspn(p->key, "."));
        lua_setfield(L, -2, "uuid");
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    return 1;
}

static const struct osm_snapshot_proxy *find_proxy(const struct osm_snapshot *snapshot,
                                                   const char *pod)
{
    const char *slash = strchr(pod, '/');
    for (size_t i = 0; slash && i < snapshot->proxies_len; i++) {
        const struct osm_snapshot_proxy *p = &snapshot->proxies[i];
        if (!strcmp(p->pod, slash + 1) && strlen(p->ns) == (size_t)(slash - pod) &&
            !strncmp(p->ns, pod, (size_t)(slash - pod)))
            return p;
    }
    return NULL;
}

static int l_resources(lua_State *L)
{
    const struct osm_snapshot *snapshot = run(L)->snapshot;
    const struct osm_snapshot_proxy *proxy = find_proxy(snapshot, luaL_checkstring(L, 2));
    const char *wanted = luaL_checkstring(L, 3);
    int type = 0;
    while (type < OSM_XDS_TYPE_COUNT &&
           strcmp(osm_xds_type_short((enum osm_xds_type)type), wanted) != 0)
        type++;
    if (type == OSM_XDS_TYPE_COUNT)
        return luaL_error(L, "there is no type %s; there are CDS, EDS, LDS, RDS and SDS", wanted);
    if (!proxy)
        return 0;
    const ProtobufCMessageDescriptor *message =
        osm_proto_find(osm_xds_type_message((enum osm_xds_type)type));
    lua_createtable(L, 0, (int)proxy->cls->types[type].len);
    for (size_t i = 0; i < proxy->cls->types[type].len; i++) {
        const struct osm_resource *r = proxy->cls->types[type].list[i];
        struct osm_err err = {0};
        json_t *decoded = NULL;
        if (osm_proto_decode(message, osm_bytes_data(r->body), osm_bytes_len(r->body), &decoded,
                             &err))
            return fail(L, &err);
        (void)push_json(L, decoded);
        lua_setfield(L, -2, r->name);
    }
    return 1;
}

static int l_digests(lua_State *L)
{
    const struct osm_snapshot *snapshot = run(L)->snapshot;
    lua_createtable(L, 0, (int)snapshot->proxies_len);
    for (size_t i = 0; i < snapshot->proxies_len; i++) {
        const struct osm_snapshot_proxy *p = &snapshot->proxies[i];
        struct osm_hash sum = {0, 0};
        char hex[OSM_HASH_HEX_SIZE];
        for (int type = 0; type < OSM_XDS_TYPE_COUNT; type++)
            for (size_t k = 0; k < p->cls->types[type].len; k++) {
                const struct osm_resource *r = p->cls->types[type].list[k];
                sum = osm_hash_fold(sum, osm_hash_text('0' + (char)type, r->name));
                sum = osm_hash_fold(
                    sum, osm_hash_bytes(osm_bytes_data(r->body), osm_bytes_len(r->body)));
            }
        lua_pushfstring(L, "%s/%s", p->ns, p->pod);
        lua_pushstring(L, osm_hash_hex(sum, hex));
        lua_rawset(L, -3);
    }
    return 1;
}

int luaopen_osm_spec(lua_State *L);

__attribute__((visibility("default"))) int luaopen_osm_spec(lua_State *L)
{
    static const luaL_Reg methods[] = {{"apply", l_apply},
                                       {"delete", l_delete},
                                       {"run", l_run},
                                       {"ask", l_ask},
                                       {"rejects", l_rejects},
                                       {"errors", l_errors},
                                       {"figures", l_figures},
                                       {"number", l_number},
                                       {"proxies", l_proxies},
                                       {"resources", l_resources},
                                       {"digests", l_digests},
                                       {"__gc", l_free},
                                       {NULL, NULL}};
    osm_log_set_level(OSM_LOG_TOPIC_COUNT,
                      OSM_LOG_ERROR); /* specs look at rejects and errors themselves */
    luaL_newmetatable(L, type_name);
    luaL_setfuncs(L, methods, 0);
    lua_pushvalue(L, -1);
    lua_setfield(L, -2, "__index");
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, l_new);
    lua_setfield(L, -2, "new");
    return 1;
}
