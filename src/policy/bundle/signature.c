#include "policy/bundle/signature.h"

#include "policy/bundle/walk.h"
#include "policy/sandbox/sandbox.h"

#include <string.h>

enum { DEPTH_MAX = 150, THINGS_MAX = 200000 };

/* On the stack: function -> hash of its code, for all walks; thing -> number, for this one. */
enum { CODES = 2, SEEN = 3 };

struct walk {
    struct osm_engine *e;
    lua_Integer seen;
    bool odd; /* there is something that cannot be told from others */
};

static struct osm_hash of_value(lua_State *L, struct walk *w, unsigned depth);

static int add_code(lua_State *L, const void *part, size_t len, void *ud)
{
    struct osm_hash *sum = ud;
    (void)L;
    *sum = osm_hash_fold(*sum, osm_hash_bytes(part, len));
    return 0;
}

/* Of the function on top, without what it reaches. [-0, +0, m] */
static struct osm_hash code_of(lua_State *L)
{
    struct osm_hash hash = {0, 0};
    lua_CFunction native = lua_tocfunction(L, -1);
    if (native)
        return osm__walk_number_hash('c', (uint64_t)(uintptr_t)native);
    lua_pushvalue(L, -1);
    if (lua_rawget(L, CODES) == LUA_TSTRING) {
        memcpy(&hash, lua_tostring(L, -1), sizeof hash);
        lua_pop(L, 1);
        return hash;
    }
    lua_pop(L, 1);
    (void)lua_dump(L, add_code, &hash, 0);
    lua_pushvalue(L, -1);
    lua_pushlstring(L, (const char *)&hash, sizeof hash);
    lua_rawset(L, CODES);
    return hash;
}

static struct osm_hash of_function(lua_State *L, struct walk *w, unsigned depth)
{
    int function = lua_gettop(L);
    struct osm_hash sum = osm_hash_fold(osm__walk_number_hash('f', 0), code_of(L));
    for (int i = 1; lua_getupvalue(L, function, i); i++)
        sum = osm_hash_fold(sum, of_value(L, w, depth + 1));
    return sum;
}

static struct osm_hash of_table(lua_State *L, struct walk *w, unsigned depth)
{
    int table = lua_gettop(L);
    size_t n, others;
    const struct osm__walk_key *keys = osm__walk_keys(L, table, &n, &others);
    struct osm_hash sum = osm__walk_number_hash('t', n);
    w->odd = w->odd || others;
    for (size_t i = 0; i < n; i++) {
        osm__walk_push_key(L, &keys[i]);
        sum = osm_hash_fold(sum, osm__walk_scalar_hash(L, -1));
        lua_rawget(L, table);
        sum = osm_hash_fold(sum, of_value(L, w, depth + 1));
    }
    if (lua_getmetatable(L, table))
        sum = osm_hash_fold(osm_hash_fold(sum, osm__walk_number_hash('m', 0)),
                            of_value(L, w, depth + 1));
    lua_settop(L, table);
    return sum;
}

/* Takes the value on top. A thing is looked into where the walk meets it first, and is its number
 * from then on. [-1, +0, m] */
static struct osm_hash of_value(lua_State *L, struct walk *w, unsigned depth)
{
    int type = lua_type(L, -1);
    struct osm_hash hash;
    luaL_checkstack(L, 10, "signature");
    if (type != LUA_TTABLE && type != LUA_TFUNCTION) {
        w->odd = w->odd || type == LUA_TUSERDATA || type == LUA_TTHREAD;
        hash = osm__walk_scalar_hash(L, -1);
        lua_pop(L, 1);
        return hash;
    }
    lua_pushvalue(L, -1);
    if (lua_rawget(L, SEEN) != LUA_TNIL) {
        hash = osm__walk_number_hash('r', (uint64_t)lua_tointeger(L, -1));
        lua_pop(L, 2);
        return hash;
    }
    lua_pop(L, 1);
    if (depth > DEPTH_MAX || w->seen >= THINGS_MAX) {
        w->odd = true;
        lua_pop(L, 1);
        return (struct osm_hash){0, 0};
    }
    lua_pushvalue(L, -1);
    lua_pushinteger(L, ++w->seen);
    lua_rawset(L, SEEN);
    hash = type == LUA_TTABLE ? of_table(L, w, depth) : of_function(L, w, depth);
    lua_pop(L, 1);
    return hash;
}

/* Begins a walk. What all modules see is the host's, and the same in every bundle. */
static void begin(lua_State *L, struct walk *w)
{
    w->seen = 0;
    w->odd = false;
    lua_createtable(L, 0, 64);
    lua_replace(L, SEEN);
    lua_rawgeti(L, LUA_REGISTRYINDEX, w->e->base_ref);
    lua_pushinteger(L, 0);
    lua_rawset(L, SEEN);
}

static struct osm_hash of_reference(lua_State *L, struct walk *w, int ref)
{
    if (ref == LUA_NOREF)
        return osm__walk_number_hash('n', 0);
    lua_rawgeti(L, LUA_REGISTRYINDEX, ref);
    return of_value(L, w, 0);
}

/* What it returned, and what was made for its declarations when they were read. */
static void take_module(lua_State *L, struct walk *w, struct osm_module *m)
{
    begin(L, w);
    struct osm_hash sum = of_reference(L, w, m->ref);
    for (size_t i = 0; i < w->e->decls_len; i++) {
        const struct osm_decl *d = w->e->decls[i];
        bool made = d->original && d->original->extended == d; /* when asked for; the host's */
        if (d->module == m && !made)
            sum = osm_hash_fold(sum, of_reference(L, w, d->fn));
    }
    m->signature = (struct osm_signature){!w->odd, sum};
}

static void take_decl(lua_State *L, struct walk *w, struct osm_decl *d)
{
    if (d->type != OSM_DECL_KIND && d->type != OSM_DECL_INDEX)
        return;
    begin(L, w);
    struct osm_hash sum = osm_hash_fold(of_reference(L, w, d->fn), of_reference(L, w, d->accept));
    for (size_t i = 0; d->versions && d->versions[i]; i++)
        sum = osm_hash_fold(sum, of_reference(L, w, d->from[i]));
    d->signature = (struct osm_signature){!w->odd, sum};
}

static void take_join(lua_State *L, struct walk *w, struct osm_join *j)
{
    begin(L, w);
    j->signature.hash = osm_hash_fold(of_reference(L, w, j->run), of_reference(L, w, j->vary));
    j->signature.known = !w->odd;
}

static int l_take(lua_State *L)
{
    struct walk w = {.e = lua_touserdata(L, 1)};
    lua_settop(L, 1);
    lua_createtable(L, 0, 256);
    lua_pushnil(L);
    for (size_t i = 0; i < w.e->modules_len; i++)
        take_module(L, &w, &w.e->modules[i]);
    for (size_t i = 0; i < w.e->decls_len; i++)
        take_decl(L, &w, w.e->decls[i]);
    for (size_t i = 0; i < w.e->joins_len; i++)
        take_join(L, &w, w.e->joins[i]);
    return 0;
}

int osm_signatures_take(struct osm_engine *e, struct osm_err *err)
{
    return osm_lua_run(e, l_take, e, err);
}
