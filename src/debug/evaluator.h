/* Lines of Lua for the sessions of consoles. A session that asks for the first time gets a copy of
 * the policies in force, with an engine and a thread of its own, and of all objects, which it
 * follows; what its lines define lives until the session ends, the policies in force are others, or
 * a line has run into a limit. The engine that serves is never asked.
 *
 *   request --> objects that changed since the last --> [copy's thread] osm_console_... --> answer
 *
 * Thread: loop. */
#pragma once

#include "loop/loop.h"
#include "model/store.h"
#include "policy/console.h"

#include <jansson.h>

struct osm_evaluators;
struct osm_evaluator;

enum { OSM_EVALUATORS_MAX = 4 };

struct osm_evaluators_config {
    struct osm_loop *loop;
    struct osm_store *store;
    struct osm_engine_config engine; /* but for the files and roots; borrowed */
    /** The policies in force; borrowed, and the number of their generation. NULL: none are. */
    struct osm_policy_files *(*files)(void *ud, uint64_t *generation);
    const char *(*roots_pem)(void *ud);
    /** What is served; borrowed; NULL: nothing is. */
    struct osm_snapshot *(*served)(void *ud);
    /** What differs between two snapshots, for the member "diff" of an answer; NULL: @p err.
     * Thread: a copy's. */
    json_t *(*diff)(const struct osm_snapshot *served, const struct osm_snapshot *next,
                    struct osm_err *err);
    void *ud;
};

OSM_MUST_USE struct osm_evaluators *osm_evaluators_new(const struct osm_evaluators_config *config);
/** Ends all copies; whoever still waits is answered. Watches have been stopped. NULL is accepted.
 */
void osm_evaluators_free(struct osm_evaluators *evaluators);
/** Objects or policies have changed: watches look again. */
void osm_evaluators_changed(struct osm_evaluators *evaluators);

/** For one session. Errors: OSM_EBUSY as many as there may be; OSM_ENOMEM. */
OSM_MUST_USE int osm_evaluator_new(struct osm_evaluator **out, struct osm_evaluators *evaluators,
                                   struct osm_err *err);
/** Its session has ended. What is under way is still answered. */
void osm_evaluator_end(struct osm_evaluator *evaluator);

struct osm_evaluation {
    enum osm_evaluation_type {
        OSM_EVALUATE_LINE,  /* osm_console_eval */
        OSM_EVALUATE_ASK,   /* osm_console_ask */
        OSM_EVALUATE_TRACE, /* osm_console_trace */
        OSM_EVALUATE_NAMES, /* osm_console_names */
    } type;
    const char *text;   /* the line, or the name; copied */
    const json_t *keys; /* of a name; a reference is taken; NULL: none */
};

/** @p answer is taken, with a member "note" where the session should know something; NULL: @p err.
 * Called exactly once, from the loop. */
typedef void osm_evaluated_fn(void *ud, json_t *answer, const struct osm_err *err);
/** Errors: OSM_EBUSY no policies are in force; OSM_ENOMEM, OSM_EIO. Nothing is called then. */
OSM_MUST_USE int osm_evaluator_ask(struct osm_evaluator *evaluator,
                                   const struct osm_evaluation *what, osm_evaluated_fn *done,
                                   void *ud, struct osm_err *err);

/* An expression whose answer is looked at again whenever something has changed. */
struct osm_evaluator_watch;
/** fn(ud, answer, err) with each answer or error that differs from the one before; both are
 * borrowed. Errors: as osm_evaluator_ask, of the first look. */
typedef void osm_watched_fn(void *ud, const json_t *answer, const struct osm_err *err);
OSM_MUST_USE int osm_evaluator_watch(struct osm_evaluator_watch **out,
                                     struct osm_evaluator *evaluator,
                                     const struct osm_evaluation *what, osm_watched_fn *fn,
                                     void *ud, struct osm_err *err);
/** Nothing is called any more. */
void osm_evaluator_watch_stop(struct osm_evaluator_watch *watch);
