/* What a module adds to other modules' work: `extends` and `wraps`. Both are joins: a function, the
 * name of what it joins, and where it wants to stand among the others that do the same.
 *
 *   M.extends = { route = { after = { "smi/routes" }, vary = function, run = function } }
 *   M.wraps = { reachers = function }     or { reachers = { after = {...}, run = function } } */
#include "policy/bundle/declare_priv.h"

#include "policy/bundle/extend.h"
#include "policy/sandbox/sandbox.h"

#include "base/nearest.h"

#include <string.h>

enum { NAMES_MAX = 32 };

static struct osm_join *add_join(lua_State *L, struct osm__reading *r, enum osm_join_type type,
                                 const char *target)
{
    struct osm_engine *e = r->e;
    struct osm_join **grown =
        osm_realloc_array(e->joins, e->joins_len + 1, sizeof(struct osm_join *));
    if (!grown)
        luaL_error(L, "out of memory");
    e->joins = grown;
    struct osm_join *join = e->joins[e->joins_len] = osm_alloc(sizeof *join);
    if (!join)
        luaL_error(L, "out of memory");
    e->joins_len++;
    join->type = type;
    join->module = r->m;
    join->run = join->vary = LUA_NOREF;
    join->line = osm__declare_line(r->m, target);
    join->target = osm_strdup(target);
    if (!join->target)
        luaL_error(L, "out of memory");
    return join;
}

/* A list of module names, on top. */
static void take_names(lua_State *L, struct osm__reading *r, const char *field, char ***out)
{
    lua_Unsigned n = lua_istable(L, -1) ? lua_rawlen(L, -1) : 0;
    if (!lua_istable(L, -1) || n > NAMES_MAX)
        osm__declare_fail(
            L, r, field,
            lua_pushfstring(L, "%s: %s must be a list of modules, such as { \"smi/routes\" }",
                            r->what, field));
    *out = osm_alloc_array(n + 1, sizeof **out);
    if (!*out)
        luaL_error(L, "out of memory");
    for (lua_Unsigned i = 0; i < n; i++) {
        if (lua_rawgeti(L, -1, (lua_Integer)i + 1) != LUA_TSTRING)
            osm__declare_fail(L, r, field,
                              lua_pushfstring(L, "%s: %s[%d] must be a module's name, got %s",
                                              r->what, field, (int)i + 1, luaL_typename(L, -1)));
        (*out)[i] = osm_strdup(lua_tostring(L, -1));
        if (!(*out)[i])
            luaL_error(L, "out of memory");
        lua_pop(L, 1);
    }
}

static void take_order(lua_State *L, struct osm__reading *r, int table)
{
    struct {
        const char *field;
        char ***names;
    } lists[] = {
        {"after", &r->join->after}, {"before", &r->join->before}, {"requires", &r->join->requires}};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        if (lua_getfield(L, table, lists[i].field) != LUA_TNIL)
            take_names(L, r, lists[i].field, lists[i].names);
        lua_pop(L, 1);
    }
}

static void check_extension_field(lua_State *L, struct osm__reading *r, const char *name)
{
    static const char *const known[] = {"after", "before", "requires", "vary", "run", NULL};
    osm__declare_check_field(L, r, known, name);
}

void osm__declare_extension(lua_State *L, struct osm__reading *r, const char *name)
{
    int table = lua_gettop(L);
    r->what = lua_pushfstring(L, "extends.%s", name);
    const struct osm_point *point = osm_point_find(name);
    if (!point) {
        const char *near = osm_point_nearest(name);
        osm__declare_fail(
            L, r, name,
            near ? lua_pushfstring(L, "%s: there is no such extension point; do you mean \"%s\"?",
                                   r->what, near)
                 : lua_pushfstring(L, "%s: there is no such extension point", r->what));
    }
    lua_pushvalue(L, table);
    osm__declare_each(L, r, r->what, check_extension_field);
    r->join = add_join(L, r, OSM_JOIN_EXTENDS, name);
    r->join->point = point;
    take_order(L, r, table);
    if (lua_getfield(L, table, "vary") != LUA_TNIL) {
        if (!point->varies)
            osm__declare_fail(
                L, r, "vary",
                lua_pushfstring(L,
                                "%s: vary is not possible here: a listener's outside is one for "
                                "all, and any change of it drains its connections",
                                r->what));
        r->join->vary = osm__declare_function(L, r, "vary", NULL);
    }
    lua_getfield(L, table, "run");
    r->join->run = osm__declare_function(L, r, "run", &r->join->line);
}

static void check_wrap_field(lua_State *L, struct osm__reading *r, const char *name)
{
    static const char *const known[] = {"after", "before", "requires", "run", NULL};
    osm__declare_check_field(L, r, known, name);
}

void osm__declare_wrap(lua_State *L, struct osm__reading *r, const char *name)
{
    int value = lua_gettop(L);
    r->what = lua_pushfstring(L, "wraps.%s", name);
    r->join = add_join(L, r, OSM_JOIN_WRAPS, name);
    if (lua_istable(L, value)) {
        lua_pushvalue(L, value);
        osm__declare_each(L, r, r->what, check_wrap_field);
        take_order(L, r, value);
        lua_getfield(L, value, "run");
    } else {
        lua_pushvalue(L, value);
    }
    r->join->run =
        osm__declare_function(L, r, lua_istable(L, value) ? "run" : name, &r->join->line);
}
