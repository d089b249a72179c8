#include "policy/bundle/bundle.h"
#include "base/nearest.h"

#include "policy/bundle/extend.h"
#include "policy/kinds/kinds.h"
#include "policy/kinds/schema.h"
#include "policy/memo/cells.h"
#include "policy/sandbox/runtime.h"
#include "policy/sandbox/sandbox.h"

#include <stdio.h>
#include <string.h>

enum { CHAIN_MAX_BYTES = 300 };

static int l_require(lua_State *L);

static void push_module_env(lua_State *L)
{
    osm_sandbox_push_env(L);
}

/* "smi/split -> smi/routes -> smi/split": the modules that are being loaded; the array is in the
 * order of paths, so this is a set. */
static void cyclic(lua_State *L, struct osm_engine *e, const struct osm_module *m)
{
    char chain[CHAIN_MAX_BYTES] = "";
    size_t len = 0;
    for (size_t i = 0; i < e->modules_len; i++) {
        if (e->modules[i].state != OSM_MODULE_LOADING ||
            len + strlen(e->modules[i].name) + 3 >= sizeof chain)
            continue;
        int n =
            snprintf(chain + len, sizeof chain - len, "%s%s", len ? ", " : "", e->modules[i].name);
        len += n > 0 ? (size_t)n : 0;
    }
    luaL_error(L, "require(\"%s\"): the modules require each other in a circle: %s", m->name,
               chain);
}

/* Runs a bundle's module once; leaves what it returned on the stack. */
static void load_module(lua_State *L, struct osm_engine *e, struct osm_module *m)
{
    if (m->state == OSM_MODULE_LOADED) {
        lua_rawgeti(L, LUA_REGISTRYINDEX, m->ref);
        return;
    }
    if (m->state == OSM_MODULE_LOADING)
        cyclic(L, e, m);
    m->state = OSM_MODULE_LOADING;
    m->loading = ++e->serial;
    lua_pushfstring(L, "@%s", m->path);
    size_t mark =
        strncmp(m->text, "\xEF\xBB\xBF", 3) ? 0 : 3; /* some editors begin a file with it */
    if (luaL_loadbufferx(L, m->text + mark, m->text_len - mark, lua_tostring(L, -1), "t") != LUA_OK)
        (void)lua_error(L);
    push_module_env(L);
    lua_setupvalue(L, -2, 1);
    lua_call(L, 0, 1);
    if (lua_isnil(L, -1))
        luaL_error(L, "%s:1: the module returns nothing; it ends with `return M`", m->path);
    lua_remove(L, -2);
    lua_pushvalue(L, -1);
    m->ref = luaL_ref(L, LUA_REGISTRYINDEX);
    m->state = OSM_MODULE_LOADED;
}

void osm_runtime_push(lua_State *L, const struct osm_runtime_module *r)
{
    lua_pushfstring(L, "=%s", r->name);
    if (luaL_loadbufferx(L, r->text, r->len, lua_tostring(L, -1), "t") != LUA_OK)
        (void)lua_error(L);
    push_module_env(L);
    lua_setupvalue(L, -2, 1);
    lua_call(L, 0, 1);
    lua_remove(L, -2);
}

const struct osm_runtime_module *osm_runtime_find(const char *name)
{
    const struct osm_runtime_module *r = osm_runtime_modules;
    while (r->name && strcmp(r->name, name) != 0)
        r++;
    return r->name ? r : NULL;
}

/* The runtime's modules are read-only views, made once, kept by name in the registry. */
static bool load_runtime(lua_State *L, const char *name)
{
    static const char loaded_key;
    const struct osm_runtime_module *r = strncmp(name, "mesh.", 5) ? NULL : osm_runtime_find(name);
    bool is_regex = !strcmp(name, "mesh.regex");
    if (r || is_regex) {
        if (lua_rawgetp(L, LUA_REGISTRYINDEX, &loaded_key) != LUA_TTABLE) {
            lua_pop(L, 1);
            lua_createtable(L, 0, 4);
            lua_pushvalue(L, -1);
            lua_rawsetp(L, LUA_REGISTRYINDEX, &loaded_key);
        }
        if (lua_getfield(L, -1, name) == LUA_TNIL) {
            lua_pop(L, 1);
            if (is_regex)
                (void)osm_runtime_open_regex(L);
            else
                osm_runtime_push(L, r);
            osm_sandbox_freeze(L, name);
            lua_pushvalue(L, -1);
            lua_setfield(L, -3, name);
        }
        lua_remove(L, -2);
        return true;
    }
    return false;
}

/* What is required while rules run is not among what their functions reach (bundle/signature.h). */
static void note_late(struct osm_engine *e)
{
    const struct osm_frame *f = osm_top(e);
    if (f && f->cell)
        f->cell->decl->requires_late = true;
    else if (e->pure) /* else the bundle is being loaded */
        e->intake_requires = true;
}

/* require("smi.split"): a module of the bundle; require("mesh.id"): of the runtime. */
static int l_require(lua_State *L)
{
    struct osm_engine *e = osm_engine_of(L);
    size_t len;
    const char *name = luaL_checklstring(L, 1, &len);
    if (load_runtime(L, name))
        return 1;
    note_late(e);
    const char *path = luaL_gsub(L, name, ".", "/");
    struct osm_module *m = strchr(name, '/') ? NULL : osm_map_get(&e->modules_by_name, path);
    if (m) {
        load_module(L, e, m);
        return 1;
    }
    const char *near = osm_nearest_in(&e->modules_by_name, path);
    if (near)
        return luaL_error(L,
                          "require(\"%s\"): there is no %s.lua in the bundle; do you mean \"%s\"?",
                          name, path, luaL_gsub(L, near, "/", "."));
    return luaL_error(L, "require(\"%s\"): there is no %s.lua in the bundle", name, path);
}

static int l_load(lua_State *L)
{
    struct osm_module *m = lua_touserdata(L, 1);
    load_module(L, osm_engine_of(L), m);
    return 0;
}

static int l_set_require(lua_State *L)
{
    lua_rawgeti(L, LUA_REGISTRYINDEX, osm_engine_of(L)->base_ref);
    lua_pushcfunction(L, l_require);
    lua_setfield(L, -2, "require");
    return 0;
}

struct osm_decl *osm_bundle_add(struct osm_engine *e, enum osm_decl_type type, const char *name,
                                const struct osm_module *module)
{
    struct osm_decl *d = osm_alloc(sizeof *d);
    if (e->decls_len == e->decls_cap) {
        size_t cap = e->decls_cap ? e->decls_cap * 2 : 32;
        struct osm_decl **grown = osm_realloc_array(e->decls, cap, sizeof(struct osm_decl *));
        if (grown) {
            e->decls = grown;
            e->decls_cap = cap;
        }
    }
    if (d)
        d->name = osm_strdup(name);
    if (!d || !d->name || e->decls_len == e->decls_cap) {
        if (d)
            osm_free(d->name);
        osm_free(d);
        return NULL;
    }
    d->type = type;
    d->module = module;
    d->fn = d->accept = LUA_NOREF;
    d->id = e->next_decl_id++;
    e->decls[e->decls_len++] = d;
    return d;
}

struct osm_decl *osm_bundle_declare(struct osm_engine *e, enum osm_decl_type type, const char *name,
                                    const struct osm_module *module, struct osm_err *err)
{
    struct osm_decl *taken = type == OSM_DECL_EMIT ? NULL : osm_map_get(&e->names, name);
    if (taken || (type != OSM_DECL_EMIT && !strcmp(name, "reject"))) {
        (void)osm_fail(err, OSM_ELUA, "%s: \"%s\" is declared already, in %s",
                       module ? module->path : "host", name,
                       taken && taken->module ? taken->module->path : "the host (a fact)");
        return NULL;
    }
    struct osm_decl *d = osm_bundle_add(e, type, name, module);
    /* Where the name cannot be kept, the declaration goes with the engine. */
    if (!d || (type != OSM_DECL_EMIT && osm_map_put(&e->names, name, d, NULL))) {
        (void)osm_fail(err, OSM_ENOMEM, "out of memory");
        return NULL;
    }
    return d;
}

/* A limit's message has no place, nor has the reader's on what is no source: the module that was
 * being loaded, the innermost of several. */
static void name_module(const struct osm_engine *e, struct osm_err *err)
{
    const struct osm_module *at = NULL;
    for (size_t i = 0; i < e->modules_len; i++) {
        size_t n = strlen(e->modules[i].path);
        if (!strncmp(err->msg, e->modules[i].path, n) && err->msg[n] == ':')
            return;
        if (e->modules[i].state == OSM_MODULE_LOADING &&
            (!at || e->modules[i].loading > at->loading))
            at = &e->modules[i];
    }
    if (at && !strcmp(err->msg, "C stack overflow"))
        (void)osm_fail(err, OSM_ELUA, "%s:1: brackets, tables or functions are nested too deep",
                       at->path);
    else if (at)
        osm_err_prepend(err, "%s:1: ", at->path);
}

int osm_bundle_load(struct osm_engine *e, struct osm_err *err)
{
    int rc = osm_lua_run(e, l_set_require, NULL, err);
    if (!rc)
        rc = osm_bundle_read(e, err);
    for (size_t i = 0; i < e->modules_len && !rc; i++) {
        rc = osm_lua_run(e, l_load, &e->modules[i], err);
        if (rc && !e->abort)
            name_module(e, err);
    }
    for (size_t i = 0; i < e->modules_len && !rc; i++)
        rc = osm_bundle_declare_module(e, &e->modules[i], err);
    if (!rc)
        rc = osm_bundle_link(e, err);
    for (size_t i = 0; i < e->modules_len && !rc; i++)
        rc = osm_scan_names(e, &e->modules[i], err);
    return rc;
}

static void free_decl(struct osm_decl *d)
{
    size_t n = 0;
    osm_kinds_clear(d);
    for (; d->versions && d->versions[n]; n++) {
        if (d->schemas)
            osm_schema_free(d->schemas[n]);
        osm_free(d->versions[n]);
    }
    osm_free(d->versions);
    osm_free(d->schemas);
    osm_free(d->from);
    osm_free(d->indexes);
    osm_free(d->group);
    osm_free(d->name);
    osm_free(d->each_name);
    osm_free(d->each_error);
    osm_free(d->emit_cells);
    osm_free(d);
}

void osm_bundle_free(struct osm_engine *e)
{
    osm_extend_free(e);
    for (size_t i = 0; i < e->decls_len; i++)
        free_decl(e->decls[i]);
    osm_free(e->decls);
    for (size_t i = 0; i < e->modules_len; i++) {
        osm_free(e->modules[i].name);
        osm_free(e->modules[i].path);
        osm_free(e->modules[i].text);
    }
    osm_free(e->modules);
    osm_map_clear(&e->modules_by_name);
    osm_map_clear(&e->names);
    osm_map_clear(&e->kinds_by_type);
}
