/* A Lease (kube/lease.h) on the network: asks for it, renews it, lets it go. Thread: loop. */
#pragma once

#include "kube/api.h"

struct osm_elector;

struct osm_elector_config {
    struct osm_loop *loop;
    struct osm_kube *kube; /* borrowed */
    const char *ns, *name; /* of the Lease; copied */
    const char *identity;  /* the beginning of ours, such as the pod's name: what makes it unique is
                              added; copied */
    void *ud;
    /** Leading has begun, or is over. Not from osm_elector_start. */
    void (*changed)(void *ud, bool leads);
    /** The version of the Lease is lower than it was: the server's store is a copy of its past. */
    void (*set_back)(void *ud);
};

/** Errors: OSM_ENOMEM. */
OSM_MUST_USE int osm_elector_start(struct osm_elector **out,
                                   const struct osm_elector_config *config, struct osm_err *err);
/** Whether this process leads at this moment; to be asked before each thing that only one may do.
 */
bool osm_elector_leads(const struct osm_elector *elector);
/** Who holds the Lease, as far as is known: "" nobody. Borrowed until the next turn. */
const char *osm_elector_holder(const struct osm_elector *elector);
/** Why that is not known; "" it is. Borrowed until the next turn. */
const char *osm_elector_failure(const struct osm_elector *elector);
/** Leads no longer, and lets the Lease go; @p done runs once, within two seconds. changed() is not
 * called any more. */
void osm_elector_stop(struct osm_elector *elector, osm_task_fn *done, void *ud);
/** At once. NULL is accepted. */
void osm_elector_free(struct osm_elector *elector);
