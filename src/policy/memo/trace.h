/* Who wants to see what an evaluation does. Cells tell, in the order of time, each with its end;
 * what happens in between is nested. */
#pragma once

#include "policy/memo/cells.h"

struct osm_trace;

/** @p good: its value is right without a look. */
void osm_trace_enter(struct osm_trace *trace, const struct osm_cell *cell, bool good);
/** It was evaluated, since it was last entered. @p instructions: its own, in steps of
 * OSM_HOOK_COUNT, and what C work counts as. */
void osm_trace_ran(struct osm_trace *trace, const struct osm_cell *cell, int64_t instructions);
void osm_trace_leave(struct osm_trace *trace, const struct osm_cell *cell);
