#include "policy/bundle/extend.h"

#include "base/nearest.h"
#include "policy/bundle/bundle.h"
#include "policy/emit/steps.h"
#include "policy/memo/value.h"
#include "policy/mesh_api.h"
#include "policy/sandbox/runtime.h"
#include "policy/sandbox/sandbox.h"

#include <stdlib.h>
#include <string.h>

enum { COPY_DEPTH_MAX = 64, CHAIN_MAX_BYTES = 400 };

const struct osm_point osm_points[] = {
    {"cluster", "cluster", true, "a cluster"},
    {"listener", "listener", false, "a listener without its chains"},
    {"listener_filters", "listener", false, "its listener filters, a list with methods"},
    {"filter_chain", "filter_chain", true, "a filter chain"},
    {"network_filters", "filter_chain", true, "its network filters, a list with methods"},
    {"http_connection_manager", "filter_chain", true,
     "the configuration of each HTTP connection manager in the chain"},
    {"http_filters", "filter_chain", true,
     "the HTTP filters of each connection manager, a list with methods"},
    {"route_configuration", "route_configuration", true,
     "a route configuration without its virtual hosts"},
    {"virtual_host", "virtual_host", true, "a virtual host"},
    {"route", "virtual_host", true, "each route of a virtual host"},
    {NULL, NULL, false, NULL}};

const struct osm_point *osm_point_find(const char *name)
{
    const struct osm_point *p = osm_points;
    while (p->name && strcmp(p->name, name) != 0)
        p++;
    return p->name ? p : NULL;
}

const char *osm_point_nearest(const char *name)
{
    struct osm_nearest search = osm_nearest_start(name);
    for (const struct osm_point *p = osm_points; p->name; p++)
        osm_nearest_consider(&search, p->name);
    return search.best;
}

/* --- order --- */

static bool has(char *const *names, const char *name)
{
    for (; names && *names; names++)
        if (!strcmp(*names, name))
            return true;
    return false;
}

static bool goes_before(const struct osm_join *a, const struct osm_join *b)
{
    return has(b->after, a->module->name) || has(b->requires, a->module->name) ||
           has(a->before, b->module->name);
}

static bool same_target(const struct osm_join *a, const struct osm_join *b)
{
    return a->type == b->type && !strcmp(a->target, b->target);
}

static int by_target_and_module(const void *a, const void *b)
{
    const struct osm_join *x = *(struct osm_join *const *)a, *y = *(struct osm_join *const *)b;
    if (x->type != y->type)
        return x->type < y->type ? -1 : 1;
    int order = strcmp(x->target, y->target);
    return order ? order : strcmp(x->module->name, y->module->name);
}

static const char *section(const struct osm_join *j)
{
    return j->type == OSM_JOIN_WRAPS ? "wraps" : "extends";
}

static int circle(struct osm_join *const *list, size_t n, struct osm_err *err)
{
    struct osm_buf names = OSM_BUF_INIT(CHAIN_MAX_BYTES);
    for (size_t i = 0; i < n; i++)
        (void)osm_buf_addf(&names, "%s%s", i ? ", " : "", list[i]->module->name);
    int rc = osm_fail(err, OSM_ELUA,
                      "%s:%d: %s.%s: these modules want to stand before each other in a circle: %s",
                      list[0]->module->path, list[0]->line, section(list[0]), list[0]->target,
                      names.data ? names.data : "");
    osm_buf_clear(&names);
    return rc;
}

/* Each time the first, by name, that waits for nobody. */
static int sort_group(struct osm_join **list, size_t n, struct osm_err *err)
{
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < n; k++)
            list[i]->waits += k != i && goes_before(list[k], list[i]);
    for (size_t at = 0; at < n; at++) {
        size_t next = at;
        while (next < n && list[next]->waits)
            next++;
        if (next == n)
            return circle(list + at, n - at, err);
        struct osm_join *chosen = list[next];
        memmove(list + at + 1, list + at, (next - at) * sizeof(struct osm_join *));
        list[at] = chosen;
        for (size_t k = at + 1; k < n; k++)
            list[k]->waits -= goes_before(chosen, list[k]);
    }
    return 0;
}

/* A module of `requires` must be there. One of the others may be absent, but a name that is nearly
 * that of a module is probably meant to be it. */
static int check_names(struct osm_engine *e, const struct osm_join *j, char *const *names,
                       const char *field, bool hard, struct osm_err *err)
{
    for (; names && *names; names++) {
        if (osm_map_has(&e->modules_by_name, *names))
            continue;
        const char *near = osm_nearest_in(&e->modules_by_name, *names);
        if (hard)
            return osm_fail(err, OSM_ELUA,
                            "%s:%d: %s.%s: %s: there is no module \"%s\" in the bundle%s%s%s",
                            j->module->path, j->line, section(j), j->target, field, *names,
                            near ? "; do you mean \"" : "", near ? near : "", near ? "\"?" : "");
        char *text = near ? osm_strf("%s.%s: %s: there is no module \"%s\"; do you mean \"%s\"?",
                                     section(j), j->target, field, *names, near)
                          : NULL;
        if (near && (!text || osm_bundle_warn(e, j->module->path, j->line, text))) {
            osm_free(text);
            return osm_fail(err, OSM_ENOMEM, "out of memory");
        }
        osm_free(text);
    }
    return 0;
}

/* --- wraps --- */

static int put_before(struct osm_engine *e, const struct osm_join *j, struct osm_err *err)
{
    struct osm_decl *original = osm_map_get(&e->names, j->target);
    const char *near = original ? NULL : osm_nearest_in(&e->names, j->target);
    if (!original || original->type != OSM_DECL_RULE)
        return osm_fail(err, OSM_ELUA, "%s:%d: wraps.%s: %s%s%s%s", j->module->path, j->line,
                        j->target, original ? "only rules can be wrapped" : "there is no such rule",
                        near ? "; do you mean \"" : "", near ? near : "", near ? "\"?" : "");
    char *renamed = osm_strf("%s of %s", j->target, original->module->name);
    struct osm_decl *wrap = renamed ? osm_bundle_add(e, OSM_DECL_RULE, j->target, j->module) : NULL;
    if (!wrap || osm_map_put(&e->names, j->target, wrap, NULL)) {
        osm_free(renamed);
        return osm_fail(err, OSM_ENOMEM, "out of memory");
    }
    osm_free(original->name);
    original->name = renamed; /* how reports tell the two apart */
    wrap->original = original;
    wrap->fn = j->run;
    wrap->line = j->line;
    return 0;
}

int osm_extend_link(struct osm_engine *e, struct osm_err *err)
{
    int rc = 0;
    if (e->joins_len)
        qsort(e->joins, e->joins_len, sizeof(struct osm_join *), by_target_and_module);
    for (size_t i = 0, n; !rc && i < e->joins_len; i += n) {
        for (n = 1; i + n < e->joins_len && same_target(e->joins[i], e->joins[i + n]);)
            n++;
        rc = sort_group(e->joins + i, n, err);
    }
    for (size_t i = 0; !rc && i < e->joins_len; i++) {
        const struct osm_join *j = e->joins[i];
        rc = check_names(e, j, j->requires, "requires", true, err);
        if (!rc)
            rc = check_names(e, j, j->after, "after", false, err);
        if (!rc)
            rc = check_names(e, j, j->before, "before", false, err);
        if (!rc && j->type == OSM_JOIN_WRAPS)
            rc = put_before(e, j, err);
    }
    return rc;
}

static void free_names(char **names)
{
    for (size_t i = 0; names && names[i]; i++)
        osm_free(names[i]);
    osm_free(names);
}

void osm_extend_free(struct osm_engine *e)
{
    for (size_t i = 0; i < e->joins_len; i++) {
        struct osm_join *j = e->joins[i];
        free_names(j->after);
        free_names(j->before);
        free_names(j->requires);
        osm_free(j->target);
        osm_free(j);
    }
    osm_free(e->joins);
    e->joins = NULL;
    e->joins_len = 0;
}

/* --- what the runtime gets --- */

static void copy_value(lua_State *L, int index, unsigned depth)
{
    if (!lua_istable(L, index)) {
        lua_pushvalue(L, index);
        return;
    }
    if (depth > COPY_DEPTH_MAX)
        luaL_error(L, "the message is deeper than %d tables, or holds itself", COPY_DEPTH_MAX);
    luaL_checkstack(L, 6, "message");
    if (lua_getmetatable(L, index))
        luaL_error(L, "the message holds a table with a metatable; it is made of plain tables");
    osm_sandbox_charge(L, 2 + lua_rawlen(L, index) / 4);
    lua_createtable(L, (int)lua_rawlen(L, index), 0);
    int made = lua_gettop(L);
    for (lua_pushnil(L); lua_next(L, index);) {
        copy_value(L, made + 2, depth + 1);
        lua_replace(L, made + 2);
        lua_pushvalue(L, made + 1); /* the key goes on to the next */
        lua_insert(L, made + 2);
        lua_rawset(L, made);
    }
}

static int l_copy(lua_State *L)
{
    lua_settop(L, 1);
    copy_value(L, 1, 0);
    return 1;
}

/* (value, what): what is no plain value has no digest. With `what`, its name, that is an error;
 * without, of a message, the encoder says what is wrong. */
static int l_digest(lua_State *L)
{
    struct osm_hash hash = {0, 0};
    struct osm_err err = {0};
    char hex[OSM_HASH_HEX_SIZE];
    const char *what = luaL_optstring(L, 2, NULL);
    if (osm_value_hash(L, 1, what ? what : "", &hash, &err)) {
        if (what)
            return luaL_error(L, "%s", err.msg);
        hash = (struct osm_hash){0, 0};
    }
    lua_pushstring(L, osm_hash_hex(hash, hex));
    return 1;
}

/* Pushes the extensions of a form. [-0, +1, m] */
static void push_extensions(lua_State *L, struct osm_engine *e, const char *form)
{
    lua_Integer n = 0;
    lua_createtable(L, 4, 0);
    for (const struct osm_point *p = osm_points; p->name; p++) {
        for (size_t i = 0; !strcmp(p->form, form) && i < e->joins_len; i++) {
            const struct osm_join *j = e->joins[i];
            if (j->type != OSM_JOIN_EXTENDS || j->point != p)
                continue;
            lua_createtable(L, 0, 5);
            lua_pushstring(L, p->name);
            lua_setfield(L, -2, "point");
            lua_pushfstring(L, "%s.%s", j->module->name, p->name);
            lua_setfield(L, -2, "name");
            lua_pushfstring(L, "%s:%d", j->module->path, j->line);
            lua_setfield(L, -2, "place");
            lua_rawgeti(L, LUA_REGISTRYINDEX, j->run);
            lua_setfield(L, -2, "run");
            if (j->vary != LUA_NOREF) {
                lua_rawgeti(L, LUA_REGISTRYINDEX, j->vary);
                lua_setfield(L, -2, "vary");
            }
            lua_rawseti(L, -2, ++n);
        }
    }
}

void osm_extend_make(lua_State *L)
{
    static const luaL_Reg host[] = {{"copy", l_copy}, {"digest", l_digest}, {NULL, NULL}};
    struct osm_engine *e = osm_engine_of(L);
    e->extend_ref = LUA_NOREF;
    if (!e->joins_len || e->joins[0]->type != OSM_JOIN_EXTENDS)
        return;
    osm_runtime_push(L, osm_runtime_find("host.extend"));
    lua_createtable(L, 0, 2);
    luaL_setfuncs(L, host, 0);
    if (e->notes_steps) {
        lua_pushcfunction(L, osm_steps_note);
        lua_setfield(L, -2, "note");
    }
    lua_setfield(L, -2, "host");
    lua_createtable(L, 0, 4);
    for (const struct osm_point *p = osm_points; p->name; p++) {
        push_extensions(L, e, p->form);
        lua_setfield(L, -2, p->form);
    }
    lua_setfield(L, -2, "extensions");
    e->extend_ref = luaL_ref(L, LUA_REGISTRYINDEX);
}

bool osm_extend_has(const struct osm_engine *e, const char *form)
{
    for (size_t i = 0; i < e->joins_len && e->joins[i]->type == OSM_JOIN_EXTENDS; i++)
        if (!strcmp(e->joins[i]->point->form, form))
            return true;
    return false;
}

/* Pushes a function of the runtime. [-0, +1, m] */
static void push_runtime(lua_State *L, const char *name)
{
    lua_rawgeti(L, LUA_REGISTRYINDEX, osm_engine_of(L)->extend_ref);
    lua_getfield(L, -1, name);
    lua_remove(L, -2);
}

/* Pushes the last two arguments: the extensions of the form, and what the host lends. [-0, +2, m]
 */
static void push_host(lua_State *L, const char *form)
{
    push_runtime(L, "extensions");
    lua_getfield(L, -1, form);
    lua_remove(L, -2);
    push_runtime(L, "host");
}

void osm_extend_push(lua_State *L, const char *form, int index)
{
    push_runtime(L, "apply");
    lua_rawgeti(L, LUA_REGISTRYINDEX, osm_engine_of(L)->mesh_ref);
    lua_pushvalue(L, index);
    push_host(L, form);
    lua_call(L, 4, 1);
}

/* --- headers --- */

/* (mesh, original, name of the listener, tags): a wrap that the host has written. */
static int l_extended_header(lua_State *L)
{
    lua_settop(L, 4);
    push_runtime(L, "apply_header");
    lua_pushvalue(L, 1);
    lua_pushvalue(L, 3);
    lua_pushvalue(L, 4);
    lua_pushvalue(L, 2);
    lua_pushvalue(L, 3);
    lua_pushvalue(L, 4);
    lua_call(L, 2, 1);
    if (!lua_istable(L, -1))
        return 1; /* whoever encodes it says so */
    push_host(L, "listener");
    lua_call(L, 6, 1);
    return 1;
}

struct osm_decl *osm_extend_header_rule(lua_State *L, struct osm_decl *rule)
{
    struct osm_engine *e = osm_engine_of(L);
    if (rule->extended || !osm_extend_has(e, "listener"))
        return rule->extended ? rule->extended : rule;
    struct osm_err err = {0};
    lua_pushfstring(L, "%s, extended", rule->name); /* no module can ask for such a name */
    lua_pushcfunction(L, l_extended_header);
    int fn = luaL_ref(L, LUA_REGISTRYINDEX);
    struct osm_decl *made =
        osm_bundle_declare(e, OSM_DECL_RULE, lua_tostring(L, -1), rule->module, &err);
    lua_pop(L, 1);
    if (!made)
        return NULL;
    made->fn = fn;
    made->original = rule;
    made->line = rule->line;
    return rule->extended = made;
}
