/* Plain values on the border between C, JSON and Lua: a 128-bit hash for equality, and conversion.
 *
 * An answer is a boolean, string, integer, finite float, list without holes or string-keyed map, up
 * to OSM_VALUE_DEPTH deep: no functions, no metatables but an object's own, no cycles. 1 and 1.0
 * differ, [] and {} do not (Lua has one empty table). An object inside an answer counts as (kind,
 * key, content). A map's hash is the sum of its pairs' hashes, so nothing has to be sorted. */
#pragma once

#include "policy/engine_priv.h"

/** Hash of the value at @p index. Does not raise. [-0, +0, -]
 *  Errors: OSM_EINVAL "answer.backends[1].weight: is a function, ..."; @p what names the root. */
OSM_MUST_USE int osm_value_hash(lua_State *L, int index, const char *what, struct osm_hash *out,
                                struct osm_err *err);
/** Of an object's table by content, not by identity, to see whether somebody wrote into it. Does
 * not raise. [-0, +0, -] */
OSM_MUST_USE int osm_value_content_hash(lua_State *L, int index, struct osm_hash *out);
/** The same for JSON; equal to the hash of what osm_value_push makes of it. */
struct osm_hash osm_json_hash(const json_t *value);
/** Folds @p next into @p sum, order matters. */
struct osm_hash osm_hash_text(char tag, const char *text);
/** Sums of hashes: a set has one sum in any order. */
struct osm_hash osm_hash_add(struct osm_hash sum, struct osm_hash next);
struct osm_hash osm_hash_sub(struct osm_hash sum, struct osm_hash next);
/** Of a set of that many members with that sum. */
struct osm_hash osm_hash_sum_of(uint64_t n, struct osm_hash sum);

/** Pushes JSON as Lua: integers stay integers, null in a map is absent, null in a list is left out.
 * [-0, +1, m] */
void osm_value_push(lua_State *L, const json_t *value);
/** Lua to JSON; an empty table becomes []. Does not raise. Errors as osm_value_hash; OSM_ENOMEM.
 * [-0, +0, -] */
OSM_MUST_USE int osm_value_json(lua_State *L, int index, const char *what, json_t **out,
                                struct osm_err *err);
/** A text from Lua as JSON; bytes that are not UTF-8 become U+FFFD. NULL: no memory. */
OSM_MUST_USE json_t *osm_text_json(const char *text);
/** A field path as Kubernetes prints it: { "spec", "backends", 1 } -> "spec.backends[0]". Names
 * over 100 bytes are cut, those with dots and the like are quoted: ["a.b/c"]. Returns NULL or why
 * not. [-0, +0, -] */
const char *osm_value_path(lua_State *L, int index, struct osm_buf *out);

/* What marks a table as an object: its metatable holds this block, which lives as long as the
 * table. */
struct osm_identity {
    struct osm_hash hash; /* kind, key, content */
    const char *label;    /* "TrafficTarget blue/t1" */
    const char *origin;
};
/** Gives the table on top of the stack an identity; a write of a new key into it raises. [-0, +0,
 * m] */
void osm_identity_set(lua_State *L, struct osm_hash hash, const char *label, const char *origin);
/** NULL where the value is no object. Borrowed while the table lives. [-0, +0, -] */
const struct osm_identity *osm_identity_get(lua_State *L, int index);
