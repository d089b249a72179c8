/* How what functions reach is walked in an order that is the same in every state: the keys of a
 * table sorted, scalars by content. For purity.c and signature.c; all of these run in a throwing
 * zone. */
#pragma once

#include "policy/engine_priv.h"

/* A key that has an order: booleans, then numbers, then texts. */
struct osm__walk_key {
    int rank;
    lua_Number number;
    lua_Integer integer;
    const char *text; /* the table keeps it alive */
    size_t len;
};

/** The keys of the table at @p table that have an order, sorted, in a userdata that is pushed;
 * *others: how many have none, being tables or functions themselves. [-0, +1, m] */
struct osm__walk_key *osm__walk_keys(lua_State *L, int table, size_t *n, size_t *others);
void osm__walk_push_key(lua_State *L, const struct osm__walk_key *key);
/** Whether the value at @p index holds others: a table, a function, a userdata. */
bool osm__walk_is_reference(lua_State *L, int index);
struct osm_hash osm__walk_number_hash(char tag, uint64_t number);
/** Of anything else. */
struct osm_hash osm__walk_scalar_hash(lua_State *L, int index);
