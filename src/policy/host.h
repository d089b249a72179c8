/* Runs an engine on a thread of its own. At most one batch is under way; while it runs, changes
 * collect in the store. */
#pragma once

#include "loop/loop.h"
#include "policy/engine.h"

struct osm_policy;

struct osm_policy_callbacks {
    void *ud;
    /** A run has ended; @p snapshot is a reference to take, or NULL when nothing differs from the
     * last. @p error: NULL, or why the run failed (the last snapshot stays). Loop thread. */
    void (*done)(void *ud, struct osm_snapshot *snapshot, const char *error);
};

/** Starts the thread, loads the bundle (waits for it: start-up only). Errors: as osm_engine_new. */
OSM_MUST_USE int osm_policy_start(struct osm_policy **out, struct osm_loop *loop,
                                  const struct osm_engine_config *config,
                                  const struct osm_policy_callbacks *callbacks,
                                  struct osm_err *err);
/** As osm_engine_watch_status. Only while not busy. Thread: loop. */
struct osm_store_reader;
OSM_MUST_USE int osm_policy_watch_status(const struct osm_policy *policy,
                                         struct osm_store_reader *reader);
/** Roots for validation contexts, from the next batch on. Only while not busy. Thread: loop.
 * Errors: OSM_ENOMEM. */
OSM_MUST_USE int osm_policy_set_roots(struct osm_policy *policy, const char *roots_pem);
/** Hands over a batch (taken in every case). Only while not busy. Thread: loop. */
void osm_policy_submit(struct osm_policy *policy, struct osm_changes *changes);
bool osm_policy_busy(const struct osm_policy *policy);
/** Joins the thread; a run under way ends first (at most its wall budget). done is not called any
 * more. NULL is accepted. */
void osm_policy_stop(struct osm_policy *policy);
/** Runs fn(ud) on a thread with the stack that an engine needs, and waits for its end: for whoever
 * uses an engine without a loop. Errors: OSM_EIO no thread. */
OSM_MUST_USE int osm_policy_call(void (*fn)(void *ud), void *ud, struct osm_err *err);
