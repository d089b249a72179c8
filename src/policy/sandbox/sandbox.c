#include "policy/sandbox/sandbox.h"

#include "base/log.h"
#include "policy/profile.h"

#include <lualib.h>
#include <stdio.h>
#include <string.h>

enum {
    BIG_BLOCK = 16 * 1024,
    /* A run collects only when memory has become this much of what the last collection left:
     * garbage is mostly collected between runs (osm_sandbox_collect), where nobody waits. */
    GC_PAUSE_PERCENT = 400,
    /* The first run makes everything and nearly all of it stays: looking for garbage on the way
     * finds little. Where the cap is met Lua collects whatever the pause. */
    GC_PAUSE_FIRST_PERCENT = 1000, /* Lua keeps no more than 1020 */
    /* Less new memory than this since the last collection is not worth walking all of it. */
    GC_WORTH_PERCENT = 10,
};

static const char BUDGET_TEXT[] = "over its budget of 5000000 instructions; an endless loop?";
static const char STUCK_TEXT[] = "the run has taken longer than 10 s";
static const char ABORT_TEXT[] = "the evaluation is being unwound";

static void hook(lua_State *L, lua_Debug *ar);

/* Sticky: from here on every instruction raises, so that no pcall of an author goes on. */
static void end_evaluation(struct osm_frame *f, enum osm_ended why)
{
    if (f->ended)
        return;
    f->ended = why;
    lua_sethook(f->co, hook, LUA_MASKCOUNT, 1);
}

static void pay(struct osm_frame *f, uint64_t work)
{
    f->budget -= work > OSM_BUDGET ? OSM_BUDGET + 1 : (int64_t)work;
    if (f->budget < 0)
        end_evaluation(f, OSM_ENDED_BUDGET);
}

static bool is_set(const atomic_bool *flag)
{
    return flag && atomic_load_explicit(flag, memory_order_relaxed);
}

bool osm_sandbox_is_stopping(const struct osm_engine *e)
{
    return is_set(e->stopping);
}

/* One evaluation is short: it is bounded by its budget. What takes long all the same (single
 * instructions on long texts) is an error of that rule, not the end of the run. */
static void look_at_clock(struct osm_engine *e, struct osm_frame *f)
{
    uint64_t now = e->now_ms();
    bool is_over = is_set(e->canceled) || is_set(e->stopping) || now > e->deadline_ms;
    if (e->abort == OSM_ABORT_NONE && is_over)
        e->abort = OSM_ABORT_STUCK;
    if (!f->since_ms)
        f->since_ms = now;
    else if (now - f->since_ms > OSM_EVALUATION_MS)
        end_evaluation(f, OSM_ENDED_TIME);
}

static void hook(lua_State *L, lua_Debug *ar)
{
    struct osm_engine *e = osm_engine_of(L);
    struct osm_frame *f = osm_top(e);
    if (!f)
        return;
    if (ar->event != LUA_HOOKCOUNT) {
        osm_profile_event(e, f, L, ar);
        return;
    }
    pay(f, (uint64_t)f->until_look);
    if (f->until_look != OSM_HOOK_COUNT && !f->ended) {
        f->until_look = OSM_HOOK_COUNT;
        lua_sethook(L, hook, LUA_MASKCOUNT | osm_profile_mask(f), OSM_HOOK_COUNT);
    }
    look_at_clock(e, f);
    osm_sandbox_check(L);
}

static const char *ended_text(const struct osm_engine *e, enum osm_ended why, char out[160])
{
    switch (why) {
    case OSM_ENDED_MEMORY:
        (void)snprintf(out, 160,
                       "allocates more than %zu bytes in one evaluation; does a table or a text "
                       "grow without end?",
                       e->memory_max / 2);
        return out;
    case OSM_ENDED_FULL:
        (void)snprintf(
            out, 160, "the policies need more than %zu bytes of memory; --policy-memory gives more",
            e->memory_max);
        return out;
    case OSM_ENDED_TEXT:
        return "makes a text of more than 4 MiB";
    case OSM_ENDED_TIME:
        return "has taken longer than 5 s for one evaluation; it works on long texts again and "
               "again?";
    case OSM_ENDED_NOT:
    case OSM_ENDED_BUDGET:
    default:
        return BUDGET_TEXT;
    }
}

void osm_sandbox_check(lua_State *L)
{
    struct osm_engine *e = osm_engine_of(L);
    struct osm_frame *f = osm_top(e);
    char made[160];
    const char *text = e->abort == OSM_ABORT_STUCK ? STUCK_TEXT
                       : e->abort                  ? ABORT_TEXT
                       : f && f->ended             ? ended_text(e, f->ended, made)
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
    pay(f, work);
    if (work >= OSM_HOOK_COUNT)
        look_at_clock(e, f);
    osm_sandbox_check(L);
}

/* What growing by @p more bytes costs the evaluation on top; false: it must not. Large blocks are
 * paid for from the budget too (a doubling text is few instructions). @p type: Lua's, of a new
 * object. */
static bool may_grow(struct osm_engine *e, size_t more, int type)
{
    struct osm_frame *f = osm_top(e);
    if (!f || !f->running)
        return e->memory + more <= e->memory_max;
    if (type == LUA_TSTRING && more > OSM_TEXT_MAX + 64) {
        end_evaluation(f, OSM_ENDED_TEXT);
        return false;
    }
    f->memory += more;
    if (f->memory > e->memory_max / 2) {
        end_evaluation(f, OSM_ENDED_MEMORY);
        return false;
    }
    if (e->memory + more > e->memory_max) {
        f->full = true;
        return false;
    }
    if (more >= BIG_BLOCK)
        pay(f, more / 64);
    return true;
}

static void *allocate(void *ud, void *ptr, size_t old_size, size_t size)
{
    struct osm_engine *e = ud;
    int type = LUA_TNIL;
    if (!ptr) {
        type = (int)old_size; /* holds a type tag then */
        old_size = 0;
    }
    if (!size) {
        e->memory -= old_size;
        return osm_pool_resize(&e->pool, ptr, old_size, 0);
    }
    if (size > old_size && !may_grow(e, size - old_size, type))
        return NULL;
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
    if (e->nest)
        osm_top(e)->since_ms = 0;
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
    entry->message = osm_strndup(text, strnlen(text, OSM_ERROR_TEXT_MAX));
    return 0;
}

void osm_sandbox_out_of_memory(struct osm_engine *e)
{
    struct osm_frame *f = osm_top(e);
    if (f->ended == OSM_ENDED_MEMORY || f->ended == OSM_ENDED_TEXT || e->abort >= OSM_ABORT_NOMEM)
        return;
    /* Lua stays whole; what this evaluation held is garbage now. So where there is something to go
     * on serving, the rules that need memory fail one by one, which withdraws what authorises. */
    if (e->last && f->cell && f->full)
        end_evaluation(f, OSM_ENDED_FULL);
    else
        e->abort = OSM_ABORT_LUA_MEMORY;
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
    f->memory = 0;
    f->since_ms = 0;
    f->full = false;
    f->ended = OSM_ENDED_NOT;
    f->until_look = f->cell ? osm_profile_first_look(f->cell) : OSM_HOOK_COUNT;
    lua_sethook(co, hook, LUA_MASKCOUNT | osm_profile_mask(f), f->until_look);
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
    if (entry.status == LUA_ERRMEM)
        osm_sandbox_out_of_memory(e);
    if (!entry.message)
        e->abort = OSM_ABORT_NOMEM;
    *message = entry.message;
    if (f->ended && !e->abort) { /* where a limit was met says little */
        char made[160];
        osm_free(entry.message);
        *message = osm_strdup(ended_text(e, f->ended, made));
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

const char *osm_sandbox_name(lua_State *L, int index)
{
    enum { NAME_MAX_BYTES = 80 };
    if (lua_type(L, index) != LUA_TSTRING)
        return lua_pushfstring(L, "(a %s)", luaL_typename(L, index));
    const char *text = lua_tostring(L, index);
    size_t len = strlen(text);
    return lua_pushlstring(L, text, len < NAME_MAX_BYTES ? len : NAME_MAX_BYTES);
}

static int l_no_global(lua_State *L)
{
    return luaL_error(L, "there is no global \"%s\" here", osm_sandbox_name(L, 2));
}

static int l_global_write(lua_State *L)
{
    return luaL_error(L, "writes the global \"%s\"; modules have no globals: use local",
                      osm_sandbox_name(L, 2));
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
    (void)lua_gc(e->L, LUA_GCINC, GC_PAUSE_FIRST_PERCENT, 0, 0);
    lua_pushcfunction(e->L, l_open);
    if (lua_pcall(e->L, 0, 0, 0) != LUA_OK) {
        lua_settop(e->L, 0);
        return osm_fail(err, OSM_ENOMEM, "out of memory for the Lua library");
    }
    return 0;
}

void osm_sandbox_has_run(struct osm_engine *e)
{
    (void)lua_gc(e->L, LUA_GCINC, GC_PAUSE_PERCENT, 0, 0);
}

bool osm_sandbox_collect(struct osm_engine *e)
{
    if (!e->collecting && e->memory < e->collected + e->collected / 100 * GC_WORTH_PERCENT)
        return false;
    e->collecting = !lua_gc(e->L, LUA_GCSTEP, 0);
    if (!e->collecting)
        e->collected = e->memory;
    return e->collecting;
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
