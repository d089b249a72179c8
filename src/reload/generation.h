/* One bundle and the engine that evaluates it on the live objects, from its load to its end.
 *
 * It reads the object store by a reader of its own, so several generations follow the same objects
 * independently. An engine whose state is lost is replaced by a fresh one, later each time, unless
 * the owner gives the generation up. Thread: loop. */
#pragma once

#include "loop/loop.h"
#include "model/store.h"
#include "policy/host.h"

struct osm_generation;

struct osm_generation_config {
    struct osm_loop *loop;
    struct osm_store *store;
    struct osm_policy_files *files;  /* a reference is taken */
    struct osm_engine_config engine; /* but for the files and the roots; borrowed for its life */
    const char *(*roots_pem)(void *ud);
    /** Its engine is loaded, and osm_generation_kinds says what it reads. True: the store has all
     * of it, and it begins; else it is held. */
    bool (*loaded)(void *ud, struct osm_generation *generation);
    /** The bundle does not load (@p at_load), or a run has lost the engine's state; a fresh engine
     * follows by itself after the latter. The owner may end the generation in it. */
    void (*failed)(void *ud, struct osm_generation *generation, bool at_load, const char *error);
    /** A run has ended; @p news: its snapshot differs from the last. The owner may end it. */
    void (*ran)(void *ud, struct osm_generation *generation, bool news);
    void *ud;
};

/** Loads, then translates all objects. Errors: OSM_ENOMEM, OSM_EIO. */
OSM_MUST_USE int osm_generation_start(struct osm_generation **out, uint64_t id,
                                      const struct osm_generation_config *config,
                                      struct osm_err *err);
/** Ends it without waiting for a run that is under way. NULL is accepted. */
void osm_generation_end(struct osm_generation *generation);
/** The same, waiting: when the loop is about to stop. */
void osm_generation_end_now(struct osm_generation *generation);
/** Nothing is sent to the engine until it is released: the source does not hold everything yet. */
void osm_generation_hold(struct osm_generation *generation);
void osm_generation_release(struct osm_generation *generation);
/** Sends what has changed to the engine, unless it is busy (then it is sent when the run ends). */
void osm_generation_flush(struct osm_generation *generation);
/** It asks for the roots anew with its next batch, which this causes. */
void osm_generation_roots_changed(struct osm_generation *generation);

/** The newest roots are not in its snapshot yet. */
bool osm_generation_roots_due(const struct osm_generation *generation);

/** As osm_policy_ask. Errors: OSM_EBUSY its engine is being replaced; OSM_ENOMEM. */
OSM_MUST_USE int osm_generation_ask(struct osm_generation *generation, osm_policy_work_fn *work,
                                    osm_task_fn *done, void *ud);

uint64_t osm_generation_id(const struct osm_generation *generation);
struct osm_policy_files *osm_generation_files(const struct osm_generation *generation);
/** The newest; borrowed until the next run; NULL before the first. */
struct osm_snapshot *osm_generation_snapshot(const struct osm_generation *generation);
/** Its snapshot is of the same objects and roots as the other's, or of newer ones: it may take its
 * place. */
bool osm_generation_keeps_up(const struct osm_generation *generation,
                             const struct osm_generation *other);
/** All objects and roots of now are in the snapshot. */
bool osm_generation_settled(const struct osm_generation *generation);
/** As osm_engine_kinds, of the bundle; borrowed; NULL before it is loaded. */
const json_t *osm_generation_kinds(const struct osm_generation *generation);
/** Why its last run failed, with what happens next; NULL: it did not. Borrowed. */
const char *osm_generation_error(const struct osm_generation *generation);
