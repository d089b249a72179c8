/* The `mesh` table: one function per declared name, and `reject`. */
#pragma once

#include "policy/engine_priv.h"

/** Makes the table for all declared names; engine->mesh_ref. [-0, +0, m] */
void osm_mesh_api_make(lua_State *L);
/** Pushes the function that asks for the declaration: mesh.<its name>, or the `original` of a wrap.
 * [-0, +1, m] */
void osm_mesh_api_push_ask(lua_State *L, struct osm_decl *decl);
/** Checks a key against what the name takes; NULL or what is wrong. */
const char *osm_mesh_check_key(const struct osm_decl *decl, const struct osm_key *key);
