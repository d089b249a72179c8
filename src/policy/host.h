/* Runs an engine on a thread of its own. At most one batch is under way; while it runs, changes
 * collect in the store. Everything here is called on the loop thread. */
#pragma once

#include "loop/loop.h"
#include "policy/engine.h"

struct osm_policy;
struct osm_store_reader;

struct osm_policy_callbacks {
    void *ud;
    /** The bundle is loaded, or @p error says why not: then there is nothing to do but to stop. */
    void (*loaded)(void *ud, const char *error);
    /** A run has ended; @p snapshot is a reference to take, or NULL when nothing differs from the
     * last. @p error: NULL, or why the run failed (the last snapshot stays). */
    void (*done)(void *ud, struct osm_snapshot *snapshot, const char *error);
};

/** Starts the thread, which loads the bundle; `loaded` says how that went. Texts of @p config are
 * copied; it gives the files, not their directories. Errors: OSM_ENOMEM, OSM_EIO no thread. */
OSM_MUST_USE int osm_policy_start(struct osm_policy **out, struct osm_loop *loop,
                                  const struct osm_engine_config *config,
                                  const struct osm_policy_callbacks *callbacks,
                                  struct osm_err *err);
/** As osm_engine_watch_status. Only while not busy. */
OSM_MUST_USE int osm_policy_watch_status(const struct osm_policy *policy,
                                         struct osm_store_reader *reader);
/** As osm_engine_kinds. Only while not busy. */
OSM_MUST_USE json_t *osm_policy_kinds(const struct osm_policy *policy);
/** Roots for validation contexts, from the next batch on. Only while not busy. Errors: OSM_ENOMEM.
 */
OSM_MUST_USE int osm_policy_set_roots(struct osm_policy *policy, const char *roots_pem);
/** Hands over a batch (taken in every case). Only while not busy. */
void osm_policy_submit(struct osm_policy *policy, struct osm_changes *changes);
/** The bundle is being loaded, or a run is under way. */
bool osm_policy_busy(const struct osm_policy *policy);
/** Asks the engine between two runs: work(ud, engine) on its thread, then done(ud) on the loop.
 * done runs exactly once, also where the policy is stopped first (work has not run then, or it
 * has). @p engine is NULL where its bundle did not load. Errors: OSM_ENOMEM. */
typedef void osm_policy_work_fn(void *ud, struct osm_engine *engine);
OSM_MUST_USE int osm_policy_ask(struct osm_policy *policy, osm_policy_work_fn *work,
                                osm_task_fn *done, void *ud);
/** Joins the thread; a run under way is cut short. No callback comes any more. NULL is accepted. */
void osm_policy_stop(struct osm_policy *policy);
/** The same without waiting: the thread is joined on the pool. Its memory goes then. */
void osm_policy_discard(struct osm_policy *policy);
/** Runs fn(ud) on a thread with the stack that an engine needs, and waits for its end: for whoever
 * uses an engine without a loop. Errors: OSM_EIO no thread. */
OSM_MUST_USE int osm_policy_call(void (*fn)(void *ud), void *ud, struct osm_err *err);
