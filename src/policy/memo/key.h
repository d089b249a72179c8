/* Keys: one to three scalars, and their canonical bytes. The canonical form sorts like the keys
 * themselves where the types agree, and holds its strings NUL-terminated, so that a decoded key
 * borrows from it. */
#pragma once

#include "policy/engine_priv.h"

/** Writes the canonical form; returns its length, 0 when it does not fit OSM_KEY_BYTES. */
size_t osm_key_encode(const struct osm_key *key, unsigned char out[OSM_KEY_BYTES]);
/** Strings borrow from @p bytes. */
void osm_key_decode(const unsigned char *bytes, size_t len, struct osm_key *out);
/** Booleans, then integers, then strings bytewise; a prefix is less. */
int osm_key_compare(const struct osm_key *a, const struct osm_key *b);
/** "shop, cart, 80" with @p separator ", ". */
void osm_key_text(const struct osm_key *key, const char *separator, struct osm_buf *out);
/** Reads stack slots first .. top as a key; returns NULL or why not. [-0, +0, -] */
const char *osm_key_from_args(lua_State *L, int first, struct osm_key *out);
/** Reads a scalar or a list of one to three scalars. The strings borrow from Lua values that the
 * table keeps. [-0, +0, m] */
const char *osm_key_from_value(lua_State *L, int index, struct osm_key *out);
/** Pushes each scalar; returns how many. [-0, +n, m] */
int osm_key_push(lua_State *L, const struct osm_key *key);
json_t *osm_key_json(const struct osm_key *key);
