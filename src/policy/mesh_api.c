#include "policy/mesh_api.h"
#include "base/nearest.h"

#include "policy/cells.h"
#include "policy/facts.h"
#include "policy/key.h"
#include "policy/sandbox.h"
#include "policy/value.h"

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
    const char *reason = luaL_checkstring(L, 3);
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

static int l_unknown(lua_State *L)
{
    struct osm_engine *e = osm_engine_of(L);
    const char *name = luaL_tolstring(L, 2, NULL);
    const char *near = osm_nearest_in(&e->names, name);
    if (near)
        return luaL_error(L, "mesh.%s: nobody declares it; do you mean %s?", name, near);
    return luaL_error(L, "mesh.%s: nobody declares it", name);
}

void osm_mesh_api_make(lua_State *L)
{
    struct osm_engine *e = osm_engine_of(L);
    lua_createtable(L, 0, (int)e->names.count + 1);
    osm_map_each (&e->names, entry) {
        lua_pushlightuserdata(L, entry->value);
        lua_pushcclosure(L, l_ask, 1);
        lua_setfield(L, -2, entry->key);
    }
    lua_pushcfunction(L, l_reject);
    lua_setfield(L, -2, "reject");
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, l_unknown);
    lua_setfield(L, -2, "__index");
    lua_setmetatable(L, -2);
    osm_sandbox_freeze(L, "mesh");
    e->mesh_ref = luaL_ref(L, LUA_REGISTRYINDEX);
}
