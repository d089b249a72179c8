/* The Lua state of an engine and its limits: chosen functions only, a memory cap, an instruction
 * budget and a wall clock that no pcall of an author outlives. It contains mistakes, and keeps a
 * hostile policy from keys (no key is in the process's Lua); it is no boundary between tenants. */
#pragma once

#include "policy/engine_priv.h"

/** Makes engine->L, its library and its coroutines. Errors: OSM_ENOMEM. */
OSM_MUST_USE int osm_sandbox_open(struct osm_engine *e, struct osm_err *err);
void osm_sandbox_close(struct osm_engine *e);

/** The one way into Lua: runs fn(L) with @p ud as its light userdata argument in the frame on top
 * (which the caller has pushed), on that frame's own coroutine, with a fresh budget. What it leaves
 * on its stack is dropped. Errors: OSM_ELUA with the message ("smi/split.lua:12: ..."), and *line
 * of the innermost function of a module with its path in
 *  @p module where known (256 bytes); engine->abort is set where more than this frame ends. */
OSM_MUST_USE int osm_lua_call(struct osm_engine *e, lua_CFunction fn, void *ud, char **message,
                              char module[256], int *line);
/** The same in a frame of its own without a cell; the text goes to @p err. For loading, accept,
 * from, keys. */
OSM_MUST_USE int osm_lua_run(struct osm_engine *e, lua_CFunction fn, void *ud, struct osm_err *err);

/** Pushes a frame; NULL when OSM_NEST_MAX are in use. */
struct osm_frame *osm_frame_push(struct osm_engine *e, struct osm_cell *cell, bool running);
/** Pops the top frame; its reads keep their memory. */
void osm_frame_pop(struct osm_engine *e);

/** Nobody waits any more for what is under way. */
bool osm_sandbox_is_stopping(const struct osm_engine *e);

/** The first run, which makes everything, is over: from here on runs leave more garbage. */
void osm_sandbox_has_run(struct osm_engine *e);

/** One step of collecting what runs have left, where there is enough of it; true: there is more to
 * do. Only between runs. */
bool osm_sandbox_collect(struct osm_engine *e);

/** Takes C work from the budget of the evaluation under way; raises when it is used up. [-0, +0, v]
 */
void osm_sandbox_charge(lua_State *L, uint64_t work);
/** Lua had no memory: says whether that ends the evaluation on top or the state. */
void osm_sandbox_out_of_memory(struct osm_engine *e);
/** The value at @p index as a name in a message: never an address, at most 80 bytes. [-0, +1, m] */
const char *osm_sandbox_name(lua_State *L, int index);
/** Raises what pcall must not catch, if there is such a thing. [-0, +0, v] */
void osm_sandbox_check(lua_State *L);
/** Replaces the table on top by a read-only view. [-1, +1, m] */
void osm_sandbox_freeze(lua_State *L, const char *what);
/** The environment of a module: reads the sandbox's functions, writes raise. [-0, +1, m] */
void osm_sandbox_push_env(lua_State *L);

/* sandbox_lib.c */
/** Pushes the table of functions that a module sees, without require and print's target. [-0, +1,
 * m] */
void osm_sandbox_push_library(lua_State *L);
/* sandbox_string.c, sandbox_table.c: fill the table on top. [-0, +0, m] */
void osm_sandbox_string(lua_State *L);
void osm_sandbox_table(lua_State *L);
/** pairs in the order of the keys. */
int osm_sandbox_pairs(lua_State *L);
