/* Where the process spends its CPU time: every thread is interrupted once in so much CPU time of
 * its own, and its stack noted. The outcome is text, a line per stack, outermost function first, as
 * flame graphs are made of ("folded"):
 *
 *   osm-controller;uv_run;run_posted;osm__conn_serve 12
 *
 * Needs no privilege. What a thread waits for is not seen, and a thread that begins meanwhile is
 * noticed within a second. One at a time. */
#pragma once

#include "base/buf.h"
#include "loop/loop.h"

enum { OSM_PROFILE_DEFAULT_S = 10, OSM_PROFILE_MAX_S = 60 };

/** @p folded may be taken; NULL where @p err says why there is none. */
typedef void osm_profile_done_fn(void *ud, struct osm_buf *folded, const struct osm_err *err);

/** Takes @p seconds, then calls done(ud) on the loop, once. Thread: loop. Errors: OSM_EBUSY one is
 * under way; OSM_ENOMEM; OSM_ENOTSUP no timer is to be had. */
OSM_MUST_USE int osm_profile_start(struct osm_loop *loop, unsigned seconds,
                                   osm_profile_done_fn *done, void *ud, struct osm_err *err);
/** Ends one that is under way, before the loop does: done is called with an error, unless the
 * samples are being counted already. */
void osm_profile_cancel(void);
