#include "policy/bundle/purity.h"

#include "policy/bundle/walk.h"
#include "policy/memo/value.h"
#include "policy/sandbox/sandbox.h"

#include <ctype.h>
#include <string.h>

enum { ENTRIES_MAX = 200000, STEP_MAX_BYTES = 60, PATH_MAX_BYTES = 400 };

/* A table, a function, a userdata or a variable of a function. */
struct entry {
    struct osm_hash path; /* of the steps from the root */
    size_t parent;        /* its own place: a root */
    char *step;           /* from the parent: "n", "[3]", "(metatable)" */
    bool variable;
    const struct osm_module
        *module;          /* of the function that has the variable; NULL: not the bundle's */
    struct osm_hash hash; /* of its content; of what lies below it, that it is there */
};

struct osm_purity {
    struct entry *list;
    size_t len, cap;
};

struct walk {
    struct osm_engine *e;
    struct osm_purity *to;
};

/* On the stack: place -> what is still to be looked into; thing or variable -> place. */
enum { VALUES = 2, SEEN = 3 };

void osm_purity_free(struct osm_purity *p)
{
    for (size_t i = 0; p && i < p->len; i++)
        osm_free(p->list[i].step);
    if (p)
        osm_free(p->list);
    osm_free(p);
}

/* --- the walk: throws; what it makes belongs to w->to from the first moment --- */

static size_t add_entry(lua_State *L, struct walk *w, const struct entry *made)
{
    struct osm_purity *p = w->to;
    if (p->len >= ENTRIES_MAX)
        luaL_error(L, "the modules hold more than %d tables and functions", ENTRIES_MAX);
    if (p->len == p->cap) {
        size_t cap = p->cap ? p->cap * 2 : 256;
        struct entry *grown = osm_realloc_array(p->list, cap, sizeof *grown);
        if (!grown)
            luaL_error(L, "out of memory");
        p->list = grown;
        p->cap = cap;
    }
    struct entry *entry = &p->list[p->len];
    const char *root = made->module ? made->module->path : "";
    *entry = *made;
    entry->path =
        osm_hash_fold(made->parent < p->len ? p->list[made->parent].path : osm_hash_text('m', root),
                      osm_hash_text('s', made->step));
    entry->step = osm_strndup(made->step, strnlen(made->step, STEP_MAX_BYTES));
    if (!entry->step)
        luaL_error(L, "out of memory");
    return p->len++;
}

/* The place where the thing on top has been met; SIZE_MAX: not yet. [-0, +0, m] */
static size_t place_of(lua_State *L)
{
    lua_pushvalue(L, -1);
    size_t place = lua_rawget(L, SEEN) == LUA_TNIL ? SIZE_MAX : (size_t)lua_tointeger(L, -1);
    lua_pop(L, 1);
    return place;
}

/* The value on top is what entry @p at holds: looked into later. [-0, +0, m] */
static void put_off(lua_State *L, size_t at)
{
    lua_pushvalue(L, -1);
    lua_rawseti(L, VALUES, (lua_Integer)at + 1);
    lua_pushvalue(L, -1);
    lua_pushinteger(L, (lua_Integer)at);
    lua_rawset(L, SEEN);
}

/* What the value on top adds to the hash of its holder; a thing met for the first time becomes an
 * entry of its own. [-1, +0, m] */
static struct osm_hash mark(lua_State *L, struct walk *w, size_t parent, const char *step)
{
    struct osm_hash hash;
    size_t at;
    if (!osm__walk_is_reference(L, -1)) {
        hash = osm__walk_scalar_hash(L, -1);
    } else if ((at = place_of(L)) != SIZE_MAX) {
        hash = w->to->list[at].path;
    } else {
        struct entry made = {.parent = parent, .step = (char *)(uintptr_t)step};
        at = add_entry(L, w, &made);
        put_off(L, at);
        hash = osm__walk_number_hash('r', 0);
    }
    lua_pop(L, 1);
    return hash;
}

static void fold(struct walk *w, size_t at, struct osm_hash more)
{
    w->to->list[at].hash = osm_hash_fold(w->to->list[at].hash, more);
}

/* --- tables --- */

/* Pairs whose key is itself a thing: told apart by address, which is good for one process. */
static void fold_odd_pair(lua_State *L, struct osm_hash *sum)
{
    uint64_t value = osm__walk_is_reference(L, -1) ? (uint64_t)(uintptr_t)lua_topointer(L, -1) : 0;
    struct osm_hash pair =
        osm_hash_fold(osm__walk_number_hash('k', (uint64_t)(uintptr_t)lua_topointer(L, -2)),
                      value ? osm__walk_number_hash('v', value) : osm__walk_scalar_hash(L, -1));
    sum->hi += pair.hi;
    sum->lo += pair.lo;
}

static void look_into_table(lua_State *L, struct walk *w, size_t at)
{
    int table = lua_gettop(L);
    size_t n, others;
    struct osm_hash odd = {0, 0};
    const struct osm__walk_key *keys = osm__walk_keys(L, table, &n, &others);
    fold(w, at, osm__walk_number_hash('t', n));
    for (size_t i = 0; i < n; i++) {
        osm__walk_push_key(L, &keys[i]);
        fold(w, at, osm__walk_scalar_hash(L, -1));
        const char *step = keys[i].rank == 2 ? lua_pushstring(L, keys[i].text)
                           : keys[i].rank == 1
                               ? lua_pushfstring(L, "[%f]", keys[i].number)
                               : lua_pushstring(L, keys[i].integer ? "[true]" : "[false]");
        lua_insert(L, -2);
        lua_rawget(L, table);
        fold(w, at, mark(L, w, at, step));
        lua_pop(L, 1);
    }
    if (others) {
        for (lua_pushnil(L); lua_next(L, table); lua_pop(L, 1))
            if (osm__walk_is_reference(L, -2) || lua_isthread(L, -2) || lua_islightuserdata(L, -2))
                fold_odd_pair(L, &odd);
        fold(w, at, osm__walk_number_hash('o', others));
        fold(w, at, odd);
    }
    if (lua_getmetatable(L, table))
        fold(w, at, mark(L, w, at, "(metatable)"));
    lua_settop(L, table);
}

/* --- functions --- */

static const struct osm_module *module_of(const struct osm_engine *e, const char *source)
{
    for (size_t i = 0; source[0] == '@' && i < e->modules_len; i++)
        if (!strcmp(e->modules[i].path, source + 1))
            return &e->modules[i];
    return NULL;
}

/* A variable that several functions share is met once. [-1, +0, m]: its value is on top. */
static void look_at_variable(lua_State *L, struct walk *w, size_t at, void *id, const char *name,
                             const struct osm_module *module)
{
    lua_pushlightuserdata(L, id);
    size_t place = place_of(L);
    if (place != SIZE_MAX) {
        lua_pop(L, 2);
        fold(w, at, w->to->list[place].path);
        return;
    }
    struct entry made = {.parent = at,
                         .step = (char *)(uintptr_t)(name[0] ? name : "(upvalue)"),
                         .variable = name[0] != '\0',
                         .module = module};
    place = add_entry(L, w, &made);
    lua_pushinteger(L, (lua_Integer)place);
    lua_rawset(L, SEEN);
    if (!osm__walk_is_reference(L, -1)) {
        fold(w, place, osm__walk_scalar_hash(L, -1));
    } else if (place_of(L) != SIZE_MAX) {
        fold(w, place, w->to->list[place_of(L)].path);
    } else {
        put_off(L, place);
    }
    lua_pop(L, 1);
    fold(w, at, osm__walk_number_hash('u', 0));
}

static void look_into_function(lua_State *L, struct walk *w, size_t at)
{
    lua_Debug ar;
    int function = lua_gettop(L);
    const struct osm_module *module = NULL;
    lua_CFunction native = lua_tocfunction(L, function);
    if (native) {
        fold(w, at, osm__walk_number_hash('c', (uint64_t)(uintptr_t)native));
    } else {
        lua_pushvalue(L, function);
        if (lua_getinfo(L, ">S", &ar)) {
            module = module_of(w->e, ar.source);
            fold(w, at, osm_hash_bytes(ar.source, ar.srclen));
            fold(w, at, osm__walk_number_hash('l', (uint64_t)ar.linedefined));
        }
    }
    const char *name;
    for (int i = 1; (name = lua_getupvalue(L, function, i)); i++)
        look_at_variable(L, w, at, lua_upvalueid(L, function, i), name, module);
}

static void look_into(lua_State *L, struct walk *w, size_t at)
{
    if (lua_rawgeti(L, VALUES, (lua_Integer)at + 1) == LUA_TTABLE) {
        look_into_table(L, w, at);
    } else if (lua_isfunction(L, -1)) {
        look_into_function(L, w, at);
    } else if (lua_type(L, -1) == LUA_TUSERDATA) {
        /* The state of an iterator such as string.gmatch returns: it does not move in memory. */
        fold(w, at, osm_hash_bytes(lua_touserdata(L, -1), lua_rawlen(L, -1)));
    }
    lua_pop(L, 1);
    lua_pushnil(L);
    lua_rawseti(L, VALUES, (lua_Integer)at + 1);
}

static void add_root(lua_State *L, struct walk *w, int ref, const char *step,
                     const struct osm_module *module)
{
    if (ref == LUA_NOREF)
        return;
    lua_rawgeti(L, LUA_REGISTRYINDEX, ref);
    if (osm__walk_is_reference(L, -1) && place_of(L) == SIZE_MAX) {
        struct entry made = {
            .parent = w->to->len, .step = (char *)(uintptr_t)step, .module = module};
        put_off(L, add_entry(L, w, &made));
    }
    lua_pop(L, 1);
}

/* What a module returned first, so that a change is named by the module that owns the table. */
static void add_roots(lua_State *L, struct walk *w)
{
    struct osm_engine *e = w->e;
    for (size_t i = 0; i < e->modules_len; i++)
        add_root(L, w, e->modules[i].ref, "M", &e->modules[i]);
    for (size_t i = 0; i < e->decls_len; i++) {
        const struct osm_decl *d = e->decls[i];
        add_root(L, w, d->fn, d->name, d->module);
        add_root(L, w, d->accept, d->name, d->module);
        for (size_t k = 0; d->versions && d->versions[k]; k++)
            add_root(L, w, d->from[k], d->name, d->module);
    }
    for (size_t i = 0; i < e->joins_len; i++) {
        const struct osm_join *j = e->joins[i];
        add_root(L, w, j->run, j->target, j->module);
        add_root(L, w, j->vary, j->target, j->module);
    }
}

static int l_walk(lua_State *L)
{
    struct walk *w = lua_touserdata(L, 1);
    lua_settop(L, 1);
    luaL_checkstack(L, 40, "purity");
    lua_createtable(L, 256, 0);
    lua_createtable(L, 0, 256);
    add_roots(L, w);
    for (size_t i = 0; i < w->to->len; i++)
        look_into(L, w, i);
    return 0;
}

int osm_purity_take(struct osm_engine *e, struct osm_purity **out, struct osm_err *err)
{
    struct walk w = {.e = e, .to = osm_alloc(sizeof *w.to)};
    if (!w.to)
        return osm_fail(err, OSM_ENOMEM, "out of memory");
    int rc = osm_lua_run(e, l_walk, &w, err);
    if (rc)
        osm_purity_free(w.to);
    else
        *out = w.to;
    return rc;
}

/* --- telling what differs --- */

static bool is_root(const struct osm_purity *p, size_t at)
{
    return p->list[at].parent == at;
}

/* The variable through which the entry is reached: itself, or the nearest above it; else the root.
 */
static size_t holder_of(const struct osm_purity *p, size_t at)
{
    while (!is_root(p, at) && !p->list[at].variable)
        at = p->list[at].parent;
    return at;
}

/* "M.rules.f", "cache.x[3]": from the holder down. */
static void add_path(const struct osm_purity *p, size_t from, size_t at, struct osm_buf *out)
{
    if (at != from)
        add_path(p, from, p->list[at].parent, out);
    const char *step = p->list[at].step;
    (void)osm_buf_addf(out, "%s%s", at != from && step[0] != '[' && step[0] != '(' ? "." : "",
                       step);
}

/* Where the module declares the local; 1 where it is written otherwise. */
static int line_of_local(const struct osm_module *m, const char *name)
{
    size_t n = strlen(name);
    int line = 1;
    for (const char *p = m->text; *p; p++) {
        if (*p == '\n')
            line++;
        bool starts = p == m->text || isspace((unsigned char)p[-1]);
        if (!starts || strncmp(p, "local ", 6) != 0)
            continue;
        const char *at = p + 6 + strspn(p + 6, " ");
        if (!strncmp(at, "function ", 9))
            at += 9;
        /* `local a, b <const> = ...` */
        for (; *at && *at != '\n' && *at != '='; at++) {
            bool whole = !isalnum((unsigned char)at[-1]) && at[-1] != '_' &&
                         !isalnum((unsigned char)at[n]) && at[n] != '_';
            if (!strncmp(at, name, n) && whole)
                return line;
        }
    }
    return 1;
}

static int tell(const struct osm_purity *p, size_t at, json_t *changes)
{
    size_t holder = holder_of(p, at);
    const struct entry *h = &p->list[holder];
    const char *module = h->module ? h->module->path : "the host";
    struct osm_buf text = OSM_BUF_INIT(PATH_MAX_BYTES + 200), path = OSM_BUF_INIT(PATH_MAX_BYTES);
    add_path(p, holder, at, &path);
    if (h->variable)
        (void)osm_buf_addf(&text, "the local \"%s\"", h->step);
    else
        (void)osm_buf_add_str(&text, "the table that the module returns");
    if (at != holder && path.data)
        (void)osm_buf_addf(&text, " (%s)", path.data);
    (void)osm_buf_add_str(&text, " changed while rules ran; rules keep no state between calls");
    json_t *made = text.data
                       ? json_pack("{s:s, s:s, s:s, s:i}", "where", "bundle", "message", text.data,
                                   "module", module, "line",
                                   h->module && h->variable ? line_of_local(h->module, h->step) : 1)
                       : NULL;
    osm_buf_clear(&text);
    osm_buf_clear(&path);
    return made && !json_array_append_new(changes, made) ? 0 : OSM_ENOMEM;
}

int osm_purity_compare(struct osm_engine *e, const struct osm_purity *then, json_t *changes,
                       struct osm_err *err)
{
    struct osm_purity *now = NULL;
    size_t told = SIZE_MAX;
    int rc = osm_purity_take(e, &now, err);
    if (rc || !now)
        return rc;
    for (size_t i = 0; i < then->len && i < now->len && !rc; i++) {
        const struct entry *a = &then->list[i], *b = &now->list[i];
        if (a->parent != b->parent || strcmp(a->step, b->step) != 0)
            break; /* behind a difference of shape, which has been told */
        if (osm_hash_equal(a->hash, b->hash))
            continue;
        size_t holder = holder_of(then, i);
        if (holder != told) /* one line for a variable, not one for each table in it */
            rc = tell(then, i, changes);
        told = holder;
    }
    osm_purity_free(now);
    return rc ? osm_fail(err, rc, "out of memory") : 0;
}
