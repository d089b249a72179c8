/* Service certificates, one per account: signed on the thread pool when a proxy first needs one,
 * renewed with jitter before they end, dropped when no proxy of the account is left. Thread: loop.
 */
#pragma once

#include "ca/ca.h"
#include "loop/loop.h"
#include "xds/snapshot.h"

#include <stdbool.h>

struct osm_leaves;

struct osm_leaves_callbacks {
    void *ud;
    /** A new certificate as the SDS resource "service-cert"; borrowed for the call. */
    void (*ready)(void *ud, const char *ns, const char *account, struct osm_resource *secret);
    /** Is there still a proxy of this account? Asked at renewal. */
    bool (*in_use)(void *ud, const char *ns, const char *account);
};

/* How certificates are made from now on; those that are there stay until their renewal. But keys of
 * another kind (RSA, P-256) are made at once: the ciphers may have changed to such as go with them.
 */
struct osm_leaves_rules {
    int64_t validity_s;
    int64_t lead_s; /* they are renewed so long before they end, earlier by some jitter; 0: a third
                       of their life */
    int rsa_bits;   /* 0: P-256 */
};

/** The kind of their keys, as it is in the versions of the secrets; static. */
const char *osm_leaves_kind(const struct osm_leaves_rules *rules);
/** Takes a reference to @p ca. */
OSM_MUST_USE struct osm_leaves *osm_leaves_new(struct osm_loop *loop, const struct osm_ca *ca,
                                               const char *trust_domain,
                                               const struct osm_leaves_rules *rules,
                                               const struct osm_leaves_callbacks *callbacks);
void osm_leaves_set_rules(struct osm_leaves *leaves, const struct osm_leaves_rules *rules);
/** Signs by another root from now on, and everything that there is anew: through `ready`, as the
 * pool gets to it. */
void osm_leaves_set_ca(struct osm_leaves *leaves, const struct osm_ca *ca);
/** Answers through `ready`, at once where there is one that is not due for renewal. */
void osm_leaves_want(struct osm_leaves *leaves, const char *ns, const char *account);
/** The current one, borrowed; NULL where there is none. */
struct osm_resource *osm_leaves_get(const struct osm_leaves *leaves, const char *ns,
                                    const char *account);

/* One certificate, without its key. */
struct osm_leaf_view {
    const char *common_name;     /* borrowed until the loop turns */
    const char *version;         /* NULL: none has been signed yet */
    int64_t not_after, renew_at; /* wall clock; 0: none yet */
    bool signing;
};
/** "ns/account" of each, sorted. NULL: no memory. */
json_t *osm_leaves_keys(const struct osm_leaves *leaves);
/** False where there is none (any more). */
bool osm_leaves_look(const struct osm_leaves *leaves, const char *key, struct osm_leaf_view *out);

/** No callback comes any more; work under way on the pool is let run out. NULL is accepted. */
void osm_leaves_free(struct osm_leaves *leaves);
