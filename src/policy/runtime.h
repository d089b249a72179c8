/* The trusted runtime: Lua compiled into the program, from lua/mesh/. */
#pragma once

#include <stddef.h>

struct osm_runtime_module {
    const char *name; /* "mesh.id" */
    const char *text;
    size_t len;
};

/** Ends with a NULL name. Generated from lua/mesh/ by the build. */
extern const struct osm_runtime_module osm_runtime_modules[];

struct lua_State;
/** Pushes the native module "mesh.regex". [-0, +1, m], may raise. */
int osm_runtime_open_regex(struct lua_State *L);
