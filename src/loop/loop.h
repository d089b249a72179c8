/* The loop thread: libuv behind a narrow interface. One loop owns every mutable object of the
 * runtime; other threads reach it only through osm_loop_post. */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

struct osm_loop;
struct uv_loop_s;
typedef void osm_task_fn(void *ud);

OSM_MUST_USE int osm_loop_new(struct osm_loop **out, struct osm_err *err);
/** Runs until osm_loop_stop. Returns the number of handles that were still open (0 = clean); each
 * is logged by type. */
int osm_loop_run(struct osm_loop *loop);
/** Ends osm_loop_run after the current callback. Thread: loop. */
void osm_loop_stop(struct osm_loop *loop);
/** After osm_loop_run has returned. Closes what is left. NULL is accepted. */
void osm_loop_free(struct osm_loop *loop);
/** For modules that need a libuv handle of their own. */
struct uv_loop_s *osm_loop_uv(struct osm_loop *loop);

/** Calls fn for each open handle: its libuv type ("tcp", "timer", ...), and whether it waits for
 * something. Thread: loop. */
typedef void osm_loop_handle_fn(void *ud, const char *type, bool active);
void osm_loop_each_handle(struct osm_loop *loop, osm_loop_handle_fn *fn, void *ud);

/** Runs fn(ud) on the loop thread, in the order of posting. Thread: any. Errors: OSM_ENOMEM (fn
 * will not run); OSM_ECANCELED after osm_loop_free has begun. */
OSM_MUST_USE int osm_loop_post(struct osm_loop *loop, osm_task_fn *fn, void *ud);

/** Runs work(ud) on the thread pool, then done(ud) on the loop. done runs exactly once. */
OSM_MUST_USE int osm_loop_work(struct osm_loop *loop, osm_task_fn *work, osm_task_fn *done,
                               void *ud);

/** Calls fn(ud) on the loop when the process gets SIGTERM or SIGINT. At most one per loop. */
OSM_MUST_USE int osm_loop_on_terminate(struct osm_loop *loop, osm_task_fn *fn, void *ud);

/* Work that goes on in slices: one in each turn of the loop, between which sockets, posts and
 * timers have theirs. A timer of 0 ms that starts itself again is no such thing: libuv before 1.48
 * runs it again in the same turn. */
struct osm_turns;
/** Not running yet. Thread: loop. */
OSM_MUST_USE struct osm_turns *osm_turns_new(struct osm_loop *loop, osm_task_fn *fn, void *ud);
/** fn(ud) runs once in the next turn; it may ask for another. */
void osm_turns_ask(struct osm_turns *turns);
/** Stops and frees, as osm_timer_free. NULL is accepted. */
void osm_turns_free(struct osm_turns *turns);

struct osm_timer;
/** Not running yet. Thread: loop. */
OSM_MUST_USE struct osm_timer *osm_timer_new(struct osm_loop *loop, osm_task_fn *fn, void *ud);
/** (Re)starts; repeat_ms 0 = once. */
void osm_timer_start(struct osm_timer *timer, uint64_t delay_ms, uint64_t repeat_ms);
void osm_timer_stop(struct osm_timer *timer);
/** Stops and frees (the memory goes in libuv's close callback). NULL is accepted. */
void osm_timer_free(struct osm_timer *timer);
