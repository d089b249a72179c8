/* What the mesh says back to the API server that its objects come from.
 *
 *   snapshot: rejects --> about each object --> Events on it            } of the one replica that
 *                                 '-----------> its status, if it has one }  holds the Lease
 *   reload: staged, active, held, rejected, rolled back --> Events on this replica's pod
 *
 * Nothing of the mesh waits for any of it: what cannot be written is tried again, or forgotten.
 * Of each object the newest counts, and there is one Event for it, which tells how it is now:
 * refused, with field and reason, or no longer. A status is written where the definition of the
 * kind says that it is one of ours, and differs. Thread: loop. */
#pragma once

#include "loop/loop.h"
#include "model/store.h"
#include "source/source.h"
#include "xds/snapshot.h"

struct osm_feedback;

struct osm_feedback_config {
    struct osm_loop *loop;
    struct osm_source *source; /* an API server's; borrowed, and stopped after this */
    const struct osm_store *store;
    const char *mesh_name, *osm_namespace; /* borrowed */
    const char *pod; /* this replica's in that namespace; NULL: it is in none */
    void *ud;
    /** The newest snapshot; NULL: none yet. Borrowed. */
    const struct osm_snapshot *(*snapshot)(void *ud);
    /** It covers all objects that are known. */
    bool (*settled)(void *ud);
};

/** Errors: OSM_ENOMEM. */
OSM_MUST_USE int osm_feedback_start(struct osm_feedback **out,
                                    const struct osm_feedback_config *config, struct osm_err *err);
/** Lets the Lease go, then frees it and calls @p done, once, within two seconds. */
void osm_feedback_stop(struct osm_feedback *feedback, osm_task_fn *done, void *ud);

/** The kinds that the policies read: [{"kind", "group", "versions"}]. */
void osm_feedback_kinds(struct osm_feedback *feedback, const json_t *kinds);
/** Objects or the snapshot have changed, or it may be settled now. NULL is accepted. */
void osm_feedback_changed(struct osm_feedback *feedback);
/** As of osm_reload_callbacks. NULL is accepted. */
void osm_feedback_noted(struct osm_feedback *feedback, const char *digest, const char *state,
                        const char *reason);

bool osm_feedback_leads(const struct osm_feedback *feedback);
/** What is still to be written. */
void osm_feedback_waiting(const struct osm_feedback *feedback, size_t *events, size_t *statuses);
/** {"leader": bool, "holder": who leads, "" unknown, "events_waiting", "statuses_waiting", "kinds":
 * ["IngressBackend.policy.openservicemesh.io"] that have a status of ours, "failures": [text]}.
 * NULL: no memory. Caller: json_decref. */
json_t *osm_feedback_status(const struct osm_feedback *feedback);
