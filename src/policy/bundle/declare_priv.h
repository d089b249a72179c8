/* Shared by declare*.c: a module's table while it is read. All of these may raise; they run in a
 * throwing zone. */
#pragma once

#include "policy/bundle/bundle.h"

struct osm__reading {
    struct osm_engine *e;
    struct osm_module *m;
    struct osm_decl *decl; /* being filled */
    struct osm_join *join; /* being filled */
    const char *what;      /* "kind TrafficSplit" */
};

/** The line on which `word =` first stands; 1 where it is written otherwise. */
int osm__declare_line(const struct osm_module *m, const char *word);
/** Raises "smi/split.lua:12: text", with the line of @p word. */
_Noreturn void osm__declare_fail(lua_State *L, struct osm__reading *r, const char *word,
                                 const char *text);
/** Calls each(L, r, name) for every entry of the table on top, in the order of the names, with the
 * value on top; keys must be strings. [-0, +0, e] */
void osm__declare_each(lua_State *L, struct osm__reading *r, const char *what,
                       void (*each)(lua_State *L, struct osm__reading *r, const char *name));
/** Raises where @p name is none of @p known (NULL-terminated). */
void osm__declare_check_field(lua_State *L, struct osm__reading *r, const char *const *known,
                              const char *name);
/** The function on top as a reference; its line goes to *line unless NULL. [-0, +0, e] */
int osm__declare_function(lua_State *L, struct osm__reading *r, const char *what, int *line);

/* declare_join.c: entries of `extends` and `wraps`, the value on top. [-0, +0, e] */
void osm__declare_extension(lua_State *L, struct osm__reading *r, const char *name);
void osm__declare_wrap(lua_State *L, struct osm__reading *r, const char *name);
