/* Who of several replicas does what only one may do: a coordination.k8s.io/v1 Lease. A state
 * machine without network and clock.
 *
 *   GET --404--> CREATE --.             holder's time is over, or it has let go
 *    |                    +--> ours: UPDATE each retry_ms      |
 *    '--> somebody else's: GET each retry_ms ---> UPDATE ------'
 *
 * No clock of another machine counts, and no wall clock: times in the Lease are for people. A
 * holder leads until renew_ms after it *sent* the last renewal that was taken; the others take over
 * when they have seen no change for the Lease's duration, which is longer, since they first *saw*
 * the last one, which is later. Every write names the resourceVersion that was seen, so of two that
 * take over at once one is refused. Times are of a monotonic clock. */
#pragma once

#include "base/buf.h"

#include <jansson.h>

struct osm_lease_limits {
    uint64_t duration_ms; /* the others wait so long before they take over */
    uint64_t renew_ms;    /* without a renewal for so long nobody leads; less than the duration */
    uint64_t retry_ms;    /* between two looks, or renewals */
    uint64_t denied_ms;   /* after 401 and 403 */
};
extern const struct osm_lease_limits osm_lease_defaults; /* 15, 10, 2, 30 s */

enum osm_lease_step { OSM_LEASE_GET, OSM_LEASE_CREATE, OSM_LEASE_UPDATE, OSM_LEASE_RELEASE };

struct osm_lease {
    const struct osm_lease_limits *limits;
    const char *identity; /* borrowed; unique to this process */
    enum osm_lease_step step;
    /* what was seen last */
    char resource_version[64]; /* "" nothing */
    char holder[256];          /* "" nobody */
    uint64_t seen_ms;          /* since when it is so */
    uint64_t others_ms;        /* how long it counts without a change */
    json_int_t transitions;
    uint64_t version; /* resource_version as a number; 0 none was seen, or it is none */
    bool set_back;    /* it was lower than before: the store is a copy of its past. To be cleared by
                         who has acted on it */
    /* ours */
    bool held;           /* the last renewal was taken, and nothing else has been seen since */
    uint64_t renewed_ms; /* when it was sent */
    unsigned conflicts;  /* 409s since then */
    uint64_t asked_ms, not_before_ms;
    bool denied;
    char failure[320]; /* why nothing is known of it; "" something is */
};

void osm_lease_init(struct osm_lease *lease, const struct osm_lease_limits *limits,
                    const char *identity);
/** Whether this process leads now. */
bool osm_lease_leads(const struct osm_lease *lease, uint64_t now_ms);
/** When it would lead no longer if nothing came; only while it leads. */
uint64_t osm_lease_until(const struct osm_lease *lease);
/** Milliseconds until the next request. */
uint64_t osm_lease_wait(const struct osm_lease *lease, uint64_t now_ms);
/** The request is made now; its body goes to @p body: of CREATE the object, of UPDATE and RELEASE a
 * merge patch, of GET nothing. Patches leave alone what others keep in it. @p wall_us: for people.
 * Errors: OSM_ENOMEM. */
OSM_MUST_USE int osm_lease_ask(struct osm_lease *lease, const char *ns, const char *name,
                               uint64_t now_ms, int64_t wall_us, struct osm_buf *body);
/** The answer to it. @p status: HTTP, 0 none; @p object: the Lease of a success, NULL it is none.
 * @p random spreads the replicas. */
void osm_lease_answered(struct osm_lease *lease, int status, const json_t *object,
                        const char *message, int64_t retry_after_s, uint64_t now_ms,
                        uint32_t random);
/** It lets go, so that another need not wait. False: there is nothing to let go. */
bool osm_lease_release(struct osm_lease *lease, uint64_t now_ms);
