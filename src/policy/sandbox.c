#include "policy/sandbox.h"

#include "base/clock.h"
#include "base/log.h"

#include <lualib.h>
#include <stdio.h>
#include <string.h>

enum { BIG_BLOCK = 16 * 1024 };

static const char BUDGET_TEXT[] = "over its budget of 5000000 instructions; an endless loop?";
static const char STUCK_TEXT[] = "the run has taken longer than 10 s";
static const char ABORT_TEXT[] = "the evaluation is being unwound";

static void count_hook(lua_State *L, lua_Debug *ar);

static void exhaust(struct osm_frame *f)
{
    f->exhausted = true;
    lua_sethook(f->co, count_hook, LUA_MASKCOUNT, 1);
}

static void count_hook(lua_State *L, lua_Debug *ar)
{
    (void)ar;
    struct osm_engine *e = osm_engine_of(L);
    struct osm_frame *f = osm_top(e);
    if (!f)
        return;
    f->budget -= OSM_HOOK_COUNT;
    if (f->budget < 0 && !f->exhausted)
        exhaust(f);
    if (e->abort == OSM_ABORT_NONE && osm_now_ms() > e->deadline_ms)
        e->abort = OSM_ABORT_STUCK;
    osm_sandbox_check(L);
}

void osm_sandbox_check(lua_State *L)
{
    struct osm_engine *e = osm_engine_of(L);
    struct osm_frame *f = osm_top(e);
    const char *text = e->abort == OSM_ABORT_STUCK ? STUCK_TEXT
                       : e->abort                  ? ABORT_TEXT
                       : f && f->exhausted         ? BUDGET_TEXT
                                                   : NULL;
    if (!text)
        return;
    lua_pushstring(L, text);
    (void)lua_error(L);
}

void osm_sandbox_charge(lua_State *L, uint64_t work)
{
    struct osm_engine *e = osm_engine_of(L);
    struct osm_frame *f = osm_top(e);
    if (!f)
        return;
    f->budget -= work > OSM_BUDGET ? OSM_BUDGET + 1 : (int64_t)work;
    if (f->budget < 0 && !f->exhausted)
        exhaust(f);
    if (e->abort == OSM_ABORT_NONE && work >= OSM_HOOK_COUNT && osm_now_ms() > e->deadline_ms)
        e->abort = OSM_ABORT_STUCK;
    osm_sandbox_check(L);
}

/* Large blocks are paid for from the budget (a doubling string is few instructions), small ones are
 * not, so that the memory of earlier evaluations does not show in what a later one may do. */
static void *allocate(void *ud, void *ptr, size_t old_size, size_t size)
{
    struct osm_engine *e = ud;
    if (!ptr)
        old_size = 0; /* holds a type tag then */
    if (!size) {
        e->memory -= old_size;
        return osm_pool_resize(&e->pool, ptr, old_size, 0);
    }
    if (size > old_size) {
        size_t more = size - old_size;
        if (e->memory + more > e->memory_max)
            return NULL;
        struct osm_frame *f = osm_top(e);
        if (more >= BIG_BLOCK && f && f->co) {
            f->budget -= (int64_t)(more / 64);
            if (f->budget < 0 && !f->exhausted)
                exhaust(f);
        }
    }
    void *p = osm_pool_resize(&e->pool, ptr, old_size, size);
    if (p)
        e->memory = e->memory - old_size + size;
    else if (size <= old_size)
        return ptr; /* Lua relies on shrinking to succeed */
    return p;
}

/* --- frames --- */

struct osm_frame *osm_frame_push(struct osm_engine *e, struct osm_cell *cell, bool running)
{
    if (e->nest >= OSM_NEST_MAX)
        return NULL;
    struct osm_frame *f = &e->frames[e->nest++];
    lua_State *co = f->co;
    struct osm_reads reads = {f->reads.list, 0, f->reads.cap};
    *f = (struct osm_frame){
        .cell = cell, .running = running, .reads = reads, .co = co, .serial = ++e->serial};
    f->new_ref = LUA_NOREF;
    return f;
}

void osm_frame_pop(struct osm_engine *e)
{
    struct osm_frame *f = &e->frames[--e->nest];
    json_decref(f->rejects);
    f->rejects = NULL;
    f->cell = NULL;
}

/* --- entering --- */

struct entry {
    lua_CFunction fn;
    void *ud;
    char *message;
    char *module; /* 256 bytes */
    int line;
    int status;
};

/* Runs with hooks off when the error came from the hook, so it only looks: the innermost function
 * of a module. */
static int l_handler(lua_State *L)
{
    struct entry *entry = lua_touserdata(L, lua_upvalueindex(1));
    lua_Debug ar;
    for (int level = 0; lua_getstack(L, level, &ar); level++) {
        if (!lua_getinfo(L, "Sl", &ar) || ar.currentline <= 0 || ar.source[0] != '@')
            continue;
        (void)snprintf(entry->module, 256, "%s", ar.source + 1);
        entry->line = ar.currentline;
        break;
    }
    return 1;
}

/* The pcall is inside the coroutine: an error that reaches lua_resume would leave a thread whose
 * hooks stay off. */
static int l_enter(lua_State *L)
{
    struct entry *entry = lua_touserdata(L, 1);
    lua_settop(L, 0);
    lua_pushlightuserdata(L, entry);
    lua_pushcclosure(L, l_handler, 1);
    lua_pushcfunction(L, entry->fn);
    lua_pushlightuserdata(L, entry->ud);
    entry->status = lua_pcall(L, 1, 0, 1);
    if (entry->status == LUA_OK)
        return 0;
    char typed[64];
    const char *text = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : NULL;
    if (!text) {
        (void)snprintf(typed, sizeof typed, "error() with a %s instead of a text",
                       luaL_typename(L, -1));
        text = typed;
    }
    entry->message = osm_strdup(text);
    return 0;
}

int osm_lua_call(struct osm_engine *e, lua_CFunction fn, void *ud, char **message, char module[256],
                 int *line)
{
    struct osm_frame *f = osm_top(e);
    struct entry entry = {.fn = fn, .ud = ud, .module = module};
    int results = 0;
    lua_State *co = f->co;
    *message = NULL;
    module[0] = '\0';
    f->budget = OSM_BUDGET;
    f->exhausted = false;
    lua_sethook(co, count_hook, LUA_MASKCOUNT, OSM_HOOK_COUNT);
    lua_pushcfunction(co, l_enter);
    lua_pushlightuserdata(co, &entry);
    int status = lua_resume(co, NULL, 1, &results);
    lua_sethook(co, NULL, 0, 0);
    if (status != LUA_OK) { /* only for memory: l_enter itself contains the rest */
        e->abort = OSM_ABORT_LUA_MEMORY;
        return OSM_ELUA;
    }
    lua_settop(co, 0);
    *line = entry.line;
    if (entry.status == LUA_OK)
        return 0;
    if (entry.status == LUA_ERRMEM && e->abort < OSM_ABORT_NOMEM)
        e->abort = OSM_ABORT_LUA_MEMORY;
    if (!entry.message)
        e->abort = OSM_ABORT_NOMEM;
    *message = entry.message;
    if (f->exhausted && !e->abort) { /* where the budget ended says little */
        osm_free(entry.message);
        *message = osm_strdup(BUDGET_TEXT);
        if (!*message)
            e->abort = OSM_ABORT_NOMEM;
        module[0] = '\0';
        *line = 0;
    }
    return OSM_ELUA;
}

int osm_lua_run(struct osm_engine *e, lua_CFunction fn, void *ud, struct osm_err *err)
{
    char *message = NULL, module[256];
    int line;
    if (!osm_frame_push(e, NULL, true))
        return osm_fail(err, OSM_ELIMIT, "nested too deep");
    int rc = osm_lua_call(e, fn, ud, &message, module, &line);
    osm_frame_pop(e);
    if (rc)
        (void)osm_fail(err, rc, "%s", message ? message : "out of memory");
    osm_free(message);
    return rc;
}

/* --- the state --- */

static int l_frozen_write(lua_State *L)
{
    return luaL_error(L, "%s is read-only", lua_tostring(L, lua_upvalueindex(1)));
}

void osm_sandbox_freeze(lua_State *L, const char *what)
{
    lua_createtable(L, 0, 0);
    lua_createtable(L, 0, 3);
    lua_pushvalue(L, -3);
    lua_setfield(L, -2, "__index");
    lua_pushstring(L, what);
    lua_pushcclosure(L, l_frozen_write, 1);
    lua_setfield(L, -2, "__newindex");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_setmetatable(L, -2);
    lua_remove(L, -2);
}

static int l_no_global(lua_State *L)
{
    return luaL_error(L, "there is no global \"%s\" here", luaL_tolstring(L, 2, NULL));
}

static int l_global_write(lua_State *L)
{
    return luaL_error(L, "writes the global \"%s\"; modules have no globals: use local",
                      luaL_tolstring(L, 2, NULL));
}

void osm_sandbox_push_env(lua_State *L)
{
    lua_createtable(L, 0, 0);
    lua_createtable(L, 0, 3);
    lua_rawgeti(L, LUA_REGISTRYINDEX, osm_engine_of(L)->base_ref);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, l_global_write);
    lua_setfield(L, -2, "__newindex");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_setmetatable(L, -2);
}

static int l_open(lua_State *L)
{
    struct osm_engine *e = osm_engine_of(L);
    osm_sandbox_push_library(L);
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, l_no_global);
    lua_setfield(L, -2, "__index");
    lua_setmetatable(L, -2);
    e->base_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    /* The coroutines of the frames; the array keeps them alive. */
    lua_createtable(L, OSM_NEST_MAX, 0);
    for (int i = 0; i < OSM_NEST_MAX; i++) {
        e->frames[i].co = lua_newthread(L);
        lua_rawseti(L, -2, i + 1);
    }
    (void)luaL_ref(L, LUA_REGISTRYINDEX);
    /* Whatever the libraries have put into the state's own globals is reachable for nobody. */
    lua_createtable(L, 0, 0);
    lua_rawseti(L, LUA_REGISTRYINDEX, LUA_RIDX_GLOBALS);
    lua_createtable(L, 0, 0);
    lua_setfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
    return 0;
}

int osm_sandbox_open(struct osm_engine *e, struct osm_err *err)
{
#ifdef OSM_DEBUG
    e->pool.plain = true;
#endif
    e->L = lua_newstate(allocate, e);
    if (!e->L)
        return osm_fail(err, OSM_ENOMEM, "out of memory for the Lua state");
    *(struct osm_engine **)lua_getextraspace(e->L) = e;
    lua_pushcfunction(e->L, l_open);
    if (lua_pcall(e->L, 0, 0, 0) != LUA_OK) {
        lua_settop(e->L, 0);
        return osm_fail(err, OSM_ENOMEM, "out of memory for the Lua library");
    }
    return 0;
}

void osm_sandbox_close(struct osm_engine *e)
{
    if (e->L)
        lua_close(e->L);
    e->L = NULL;
    osm_pool_clear(&e->pool);
    for (size_t i = 0; i < OSM_NEST_MAX; i++) {
        osm_free(e->frames[i].reads.list);
        e->frames[i].reads = (struct osm_reads){0};
    }
}
