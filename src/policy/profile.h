/* What rules and emitters cost. Of each it is always counted how often it ran and was answered from
 * the memo, and how many instructions and how much time its own evaluations took, without those of
 * whom it asked: two looks at the clock an evaluation. Lines are looked at only while somebody
 * wants to know (osm_engine_profile_begin), and then of each rule the first runs and one in
 * several: what is followed counts for what is not.
 *
 *   A runs .......| asks B |....... goes on ....... ends
 *                 enter(B) leave(B)                 leave(A)
 *   A pays ------>          -----------------------> and its line that asks, too
 *   B pays         -------->
 *
 * Thread: the engine's. */
#pragma once

#include "policy/engine_priv.h"

/** The evaluation in @p f begins; who pays now pays up to here. The answer is for leave. */
struct osm_frame *osm_profile_enter(struct osm_engine *e, struct osm_frame *f);
/** It has ended, with all that belongs to it. */
void osm_profile_leave(struct osm_engine *e, struct osm_frame *f, struct osm_frame *caller);
/** The hooks that the evaluation needs: a new line, a return. 0: it is not followed. */
int osm_profile_mask(const struct osm_frame *f);
/** One of these. [-0, +0, -] */
void osm_profile_event(struct osm_engine *e, struct osm_frame *f, lua_State *L, lua_Debug *ar);
/** So many instructions until the first look: anything up to OSM_HOOK_COUNT, by the key alone.
 * Instructions are counted at looks, so short evaluations are counted right on average, and a
 * budget ends the same way whoever asks. */
int osm_profile_first_look(const struct osm_cell *cell);
void osm_profile_free(struct osm_engine *e);
