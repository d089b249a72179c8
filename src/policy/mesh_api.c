#include "policy/mesh_api.h"
#include "base/nearest.h"

#include "policy/kinds/facts.h"
#include "policy/memo/cells.h"
#include "policy/memo/key.h"
#include "policy/memo/value.h"
#include "policy/sandbox/sandbox.h"

#include <string.h>

enum { PATH_MAX_BYTES = 1024 };

const char *osm_mesh_check_key(const struct osm_decl *decl, const struct osm_key *key)
{
    if (decl->type == OSM_DECL_FACT)
        return osm_fact_check(decl, key);
    if (decl->type != OSM_DECL_KIND)
        return NULL;
    for (size_t i = 0; i < key->n; i++)
        if (key->at[i].type != OSM_SCALAR_STR)
            return "takes a namespace and a name (a name alone where the kind has no namespace)";
    return key->n > 2
               ? "takes a namespace and a name (a name alone where the kind has no namespace)"
               : NULL;
}

static struct osm_frame *evaluating(lua_State *L, const char *name)
{
    struct osm_frame *f = osm_top(osm_engine_of(L));
    if (!f || !f->cell || !f->running)
        luaL_error(L, "mesh.%s: mesh answers only while a rule or an emitter runs", name);
    return f;
}

/* mesh.name(key, ...): the C state is whole before anything can raise. */
static int l_ask(lua_State *L)
{
    struct osm_decl *decl = lua_touserdata(L, lua_upvalueindex(1));
    struct osm_engine *e = osm_engine_of(L);
    struct osm_frame *f = evaluating(L, decl->name);
    struct osm_key key;
    const char *why = osm_key_from_args(L, 1, &key);
    if (!why)
        why = osm_mesh_check_key(decl, &key);
    if (why)
        return luaL_error(L, "mesh.%s: %s", decl->name, why);
    if (f->reads.len >= OSM_READS_MAX)
        return luaL_error(L, "mesh.%s: one evaluation asks for more than %d keys", decl->name,
                          OSM_READS_MAX);
    struct osm_cell *cell = osm_cells_get(e, decl, &key, &why);
    if (!cell && !e->abort)
        return luaL_error(L, "mesh.%s: %s", decl->name, why);
    if (!cell || !osm_cells_read(e, cell))
        osm_sandbox_check(L);
    if (e->abort)
        return luaL_error(L, "unwound");
    if (cell->failed) {
        f->raised = cell;
        lua_pushstring(L, cell->error);
        return lua_error(L);
    }
    osm_cells_push(L, cell);
    return 1;
}

/* mesh.reject(object, path, reason) */
static int l_reject(lua_State *L)
{
    struct osm_frame *f = evaluating(L, "reject");
    const struct osm_identity *id = osm_identity_get(L, 1);
    if (!id)
        return luaL_error(L,
                          "mesh.reject: the first argument is the object itself, as mesh gave it");
    size_t reason_len;
    const char *reason = luaL_checklstring(L, 3, &reason_len);
    osm_sandbox_charge(L, 10 + reason_len / 16);
    if (json_array_size(f->rejects) >= OSM_REJECTS_MAX)
        return luaL_error(L, "mesh.reject: more than %d for one key", OSM_REJECTS_MAX);
    struct osm_buf path = OSM_BUF_INIT(PATH_MAX_BYTES);
    const char *why = osm_value_path(L, 2, &path);
    json_t *reject = NULL;
    if (!why)
        reject =
            json_pack("{s:s, s:o, s:o, s:o, s:s}", "object", id->label, "path",
                      osm_text_json(path.data ? path.data : ""), "reason", osm_text_json(reason),
                      "origin", osm_text_json(id->origin), "by", f->cell->decl->name);
    osm_buf_clear(&path);
    if (why)
        return luaL_error(L, "mesh.reject: %s", why);
    if (!f->rejects)
        f->rejects = json_array();
    if (!reject || json_array_append_new(f->rejects, reject))
        return luaL_error(L, "out of memory");
    return 0;
}

void osm_mesh_api_push_ask(lua_State *L, struct osm_decl *decl)
{
    lua_pushlightuserdata(L, decl);
    lua_pushcclosure(L, l_ask, 1);
}

/* Upvalue: "" or "acme." */
static int l_unknown(lua_State *L)
{
    struct osm_engine *e = osm_engine_of(L);
    e->asked_unknown = true;
    const char *name =
        lua_pushfstring(L, "%s%s", lua_tostring(L, lua_upvalueindex(1)), osm_sandbox_name(L, 2));
    const char *near = osm_nearest_in(&e->names, name);
    if (near)
        return luaL_error(L, "mesh.%s: nobody declares it; do you mean %s?", name, near);
    return luaL_error(L, "mesh.%s: nobody declares it", name);
}

/* Pushes an empty table that knows no other names than those that it gets. [-0, +1, m] */
static void push_names(lua_State *L, const char *prefix, int size)
{
    lua_createtable(L, 0, size);
    lua_createtable(L, 0, 1);
    lua_pushstring(L, prefix);
    lua_pushcclosure(L, l_unknown, 1);
    lua_setfield(L, -2, "__index");
    lua_setmetatable(L, -2);
}

/* Pushes the table of what begins with "acme.", which the table at @p mesh gets. [-0, +1, m] */
static void push_prefixed(lua_State *L, int mesh, const char *name, size_t first)
{
    const char *word = lua_pushlstring(L, name, first);
    lua_pushvalue(L, -1);
    if (lua_rawget(L, mesh) != LUA_TTABLE) {
        lua_pop(L, 1);
        push_names(L, lua_pushfstring(L, "%s.", word), 4);
        lua_remove(L, -2); /* the text with the dot */
        lua_pushvalue(L, -2);
        lua_pushvalue(L, -2);
        lua_rawset(L, mesh);
    }
    lua_remove(L, -2);
}

/* Puts read-only views in the place of the tables in @p mesh. [-0, +0, m] */
static void freeze_prefixed(lua_State *L, int mesh)
{
    for (lua_pushnil(L); lua_next(L, mesh);) {
        const char *word = lua_tostring(L, mesh + 1);
        if (!lua_istable(L, -1)) {
            lua_pop(L, 1);
            continue;
        }
        const char *what = lua_pushfstring(L, "mesh.%s", word);
        lua_insert(L, -2);
        osm_sandbox_freeze(L, what);
        lua_setfield(L, mesh, word); /* an entry that is there: the walk goes on */
        lua_pop(L, 1);
    }
}

void osm_mesh_api_make(lua_State *L)
{
    struct osm_engine *e = osm_engine_of(L);
    push_names(L, "", (int)e->names.count + 1);
    int mesh = lua_gettop(L);
    osm_map_each (&e->names, entry) {
        size_t first = strcspn(entry->key, ".");
        const char *own = entry->key + first;
        if (*own)
            push_prefixed(L, mesh, entry->key, first);
        osm_mesh_api_push_ask(L, entry->value);
        lua_setfield(L, *own ? -2 : mesh, *own ? own + 1 : entry->key);
        lua_settop(L, mesh);
    }
    lua_pushcfunction(L, l_reject);
    lua_setfield(L, mesh, "reject");
    freeze_prefixed(L, mesh);
    osm_sandbox_freeze(L, "mesh");
    e->mesh_ref = luaL_ref(L, LUA_REGISTRYINDEX);
}
