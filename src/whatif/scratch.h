/* Engines for questions that the live ones must not be held up by: one question at a time, each on
 * a thread that gives way to all others, with a budget of time. Who comes meanwhile waits for its
 * turn.
 *
 * Most questions have an engine of their own, which is thrown away. Those that say so share one
 * that is kept: it has evaluated everything, and is given the rules of the next question where
 * those are others (policy/engine.h, osm_engine_rebind). One may be made ready before anybody asks.
 * Where a former question may have a part in the answer, a new engine is asked instead. Thread:
 * loop, but for `work`. */
#pragma once

#include "loop/loop.h"
#include "policy/host.h"

struct osm_scratch;

enum { OSM_SCRATCH_WAITING_MAX = 8 };

struct osm_scratch_task {
    /** Whether its turn may begin now; it is asked again at each osm_scratch_wake, and waits no
     * longer than a second. */
    bool (*ready)(void *ud);
    /** Its turn has come: *files gets a reference to the policies of its engine. Errors end it.
     * Once more where it is left to a new engine what the kept one has made of it. */
    int (*begin)(void *ud, struct osm_policy_files **files, struct osm_err *err);
    /** Whether the rules of these policies, as of `begin`, are proven (policy/engine.h). */
    bool (*proven)(void *ud, const struct osm_policy_files *files);
    /** On the engine's thread. @p canceled: true once there is no time left. @p kept: of a task
     * that keeps, what a former one has left with this engine, first NULL. */
    int (*work)(void *ud, struct osm_engine *engine, const atomic_bool *canceled, void **kept,
                struct osm_err *err);
    /** It shares the engine that is kept: with that goes what the work leaves in *kept, which this
     * frees. NULL: it has one of its own. */
    void (*drop)(void *kept);
    /** Exactly once, whatever happens; nobody uses @p ud any more. */
    void (*end)(void *ud, int rc, const struct osm_err *err);
    /** False: nobody waits for the outcome any more. */
    bool (*wanted)(void *ud);
    void *ud;
};

struct osm_scratch_config {
    struct osm_loop *loop;
    struct osm_engine_config engine; /* names and limits; borrowed */
    const char *(*roots_pem)(void *ud);
    /** Fills in a task that makes the engine that is kept ready, when nobody has asked for a while
     * (ready_ms) and there is none, or other policies are in force. False: not now; it is asked
     * again after the next osm_scratch_wake. NULL: never, and the engine that is kept goes when
     * nobody has used it for keep_ms. */
    bool (*make_ready)(void *ud, struct osm_scratch_task *task);
    void *ud;
    uint64_t budget_ms; /* of one task, from its turn to its end; 0: 10 s */
    uint64_t keep_ms;   /* 0: 60 s */
    uint64_t ready_ms;  /* 0: 2 s */
    size_t keep_bytes;  /* an engine that takes more goes after keep_ms; 0: any may stay */
};

OSM_MUST_USE struct osm_scratch *osm_scratch_new(const struct osm_scratch_config *config);
/** Ends what is under way, without waiting for more than the instruction that it is at, and all
 * that waits (OSM_ECANCELED). NULL is accepted. */
void osm_scratch_free(struct osm_scratch *scratch);
/** Whoever is not ready may be now; other policies may be in force. */
void osm_scratch_wake(struct osm_scratch *scratch);
/** Whether an engine is kept, and nobody uses it. */
bool osm_scratch_is_ready(const struct osm_scratch *scratch);
/** Errors: OSM_EBUSY too many wait already; OSM_ENOMEM. `end` is not called then. */
OSM_MUST_USE int osm_scratch_ask(struct osm_scratch *scratch, const struct osm_scratch_task *task,
                                 struct osm_err *err);
