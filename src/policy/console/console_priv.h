/* What the files of the console share. */
#pragma once

#include "policy/console.h"
#include "policy/engine_priv.h"
#include "policy/memo/cells.h"

/* Part of an engine that is one. Lines are evaluated as if they were a rule, which nobody asks for
 * and of which nothing is kept. */
struct osm_console {
    struct osm_console_limits limits;
    struct osm_module module;
    struct osm_decl decl;
    struct osm_cell *cell;
    int env;                /* reference: what lines define */
    struct osm_buf printed; /* of the line under way */
    size_t copy_bytes;      /* of Lua memory, for the bundle and the objects */
    bool wants_diff;        /* the line under way has asked for one */
};

/** Begins something that a line's limits hold for: a run of its own. */
void osm__console_begin(struct osm_engine *e);
/** The cell of `mesh.name(keys...)`. Errors: OSM_ENOENT, OSM_EINVAL, OSM_ELIMIT. */
OSM_MUST_USE int osm__console_cell(struct osm_engine *e, const char *name, const json_t *keys,
                                   struct osm_cell **out, struct osm_err *err);
/** What a cell that is not in error answers, as of osm_console_eval. */
OSM_MUST_USE int osm__console_answer(struct osm_engine *e, struct osm_cell *cell, json_t **out,
                                     struct osm_err *err);
/** Why the engine is lost, as an error. */
int osm__console_lost(const struct osm_engine *e, struct osm_err *err);
