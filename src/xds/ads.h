/* The aggregated discovery service on gRPC core's C API (ads*.c are the only files of the tree that
 * include grpc headers), over the pure state machine of xds/stream.h. The completion-queue thread
 * only waits and posts; everything else is on the loop thread. */
#pragma once

#include "loop/loop.h"
#include "model/names.h"
#include "xds/refusal.h"

struct osm_ads;

struct osm_ads_callbacks {
    void *ud;
    /** A stream has opened with a certificate that verifies against the roots and is not expired. 0
     * admits; an error ends the stream with PERMISSION_DENIED and the text. Must check that a live
     * pod has this uuid, account and namespace. */
    int (*admit)(void *ud, const struct osm_proxy_id *id, struct osm_err *err);
    /** The proxy needs the leaf certificate of its account: answer with osm_ads_set_leaf, now or
     * later. Called again when it is near its renewal. */
    void (*want_leaf)(void *ud, const char *ns, const char *account);
    /** A proxy has refused a response. Streams must not be touched in it: nothing may be published.
     * May be NULL. */
    void (*refused)(void *ud, const struct osm_refusal *refusal);
    /** A proxy that went by itself has come again with nothing: its process began anew. @p since:
     * number of the snapshot that it was served when it went. As `refused`. May be NULL. */
    void (*restarted)(void *ud, const char *proxy, uint64_t since);
    /** A proxy has acknowledged, refused, come or gone: whoever waits may look again. */
    void (*changed)(void *ud);
};

struct osm_ads_config {
    const char *listen; /* "0.0.0.0:15128" */
    const char *trust_domain;
    /* Material at the start; osm_ads_set_tls replaces it. Copied. */
    const char *chain_pem, *key_pem, *roots_pem;
    int64_t
        leaf_lead_s; /* a client's own claim of a leaf that ends sooner is not believed; 0: 1 h */
    size_t memory_max_bytes;   /* further proxies are refused, with RESOURCE_EXHAUSTED, while the
                                  process   holds more than this; 0: no limit */
    uint32_t connection_age_s; /* connections must reconnect after about this long; 0: 6 hours */
};

/** Errors: OSM_EIO "cannot listen on HOST:PORT: in use or not permitted..."; OSM_ECRYPTO. */
OSM_MUST_USE int osm_ads_start(struct osm_ads **out, struct osm_loop *loop,
                               const struct osm_ads_config *config,
                               const struct osm_ads_callbacks *callbacks, struct osm_err *err);
/** At most so many proxies at once; 0: any number. Who is connected stays; a further proxy is
 * refused with RESOURCE_EXHAUSTED. */
void osm_ads_set_limit(struct osm_ads *ads, uint32_t proxies_max);
/** The port that it listens on (where the configuration says 0). */
uint16_t osm_ads_port(const struct osm_ads *ads);
/** New server certificate and roots, for connections and streams from now on. Copied. What cannot
 * be used is logged, and the old ones stay. */
void osm_ads_set_tls(struct osm_ads *ads, const char *chain_pem, const char *key_pem,
                     const char *roots_pem);
/** Serves @p snapshot (takes a reference of its own) to all streams, in slices. Streams whose pod
 * is not in it any more are ended. */
void osm_ads_publish(struct osm_ads *ads, struct osm_snapshot *snapshot);
/** The leaf of an account, as a complete SDS resource named "service-cert" (bytes secret), replaced
 * for all streams of that account. Takes a reference of its own. Its version should be
 * "<root fingerprint>.<kind>.<serial>.<notAfter>": then a client that comes with a current one is
 * left alone. */
void osm_ads_set_leaf(struct osm_ads *ads, const char *ns, const char *account,
                      struct osm_resource *secret);
/** Leaves of another kind are not current from now on: a client that comes with one gets a new one.
 * @p kind: a text that stays; no dot. NULL (the default): any kind is, and versions need name none.
 */
void osm_ads_set_leaf_kind(struct osm_ads *ads, const char *kind);
/** How many proxies are connected. */
size_t osm_ads_proxies(const struct osm_ads *ads);
bool osm_ads_connected(const struct osm_ads *ads, const char *proxy);
/** The version that a connected proxy says of itself, "1.36.4"; "" unknown, or it is not connected.
 * *like_it (may be NULL): how many connected proxies say the same. Borrowed until the next turn of
 * the loop. */
const char *osm_ads_version(const struct osm_ads *ads, const char *proxy, size_t *like_it);
/** One of them, of the proxy's newest stream; NULL: it has none. */
json_t *osm_ads_proxy_status(const struct osm_ads *ads, const char *proxy);
/** Ends all streams of a proxy, with a reason that is logged and sent. */
void osm_ads_drop(struct osm_ads *ads, const char *proxy, const char *reason);
enum { OSM_ADS_BLAMED = 8 };
/** Every stream, sorted by namespace/pod:
 * [{"uuid","pod","namespace","account","mode":"delta"|"sotw","connected_s","snapshot": n (the
 * newest that it has applied whole), "types": {"CDS": {"acked": version or null, "nacked": version
 * or null, "refused": [name] (what is to blame, as far as it is known; at most OSM_ADS_BLAMED),
 * "error": text, "due": bool}}}]. */
json_t *osm_ads_status(const struct osm_ads *ads);

enum { OSM_ADS_TIMES = 20 };

/* Of one proxy, over all its streams. */
struct osm_ads_figures {
    const char *uuid;
    const char *identity; /* "account.namespace" */
    struct osm_ads_counts {
        uint64_t sent, not_sent, requests;
    } types[OSM_XDS_TYPE_COUNT];
    uint32_t sent_at_s[OSM_XDS_TYPE_COUNT][OSM_ADS_TIMES]; /* since 1970, newest first; 0: none */
};
/** The osm_proxy_key of each proxy that there are figures of, in no order: those that are
 * connected, and those that were and whose pods are there; *n of them. osm_free; NULL: no memory.
 */
OSM_MUST_USE char (*osm_ads_known(const struct osm_ads *ads, size_t *n))[OSM_PROXY_KEY_SIZE];
/** False where there are none (any more). Strings are borrowed until the loop turns. */
bool osm_ads_figures(const struct osm_ads *ads, const char *proxy, struct osm_ads_figures *out);

/** Every connected proxy has accepted the roots that it was told to trust, and the certificate that
 * it asks for is of the root that signs now. */
bool osm_ads_secrets_applied(const struct osm_ads *ads);
/** True when each proxy's newest stream has ACKed all that the current snapshot has for it and
 * nothing is due. A stream whose pod is in no snapshot holds nobody up. A NACK counts as an answer;
 * *nacked says how many streams have one outstanding. */
bool osm_ads_applied(const struct osm_ads *ads, size_t *streams, size_t *nacked);
/** Stops listening, ends streams, joins the thread; then done(ud) on the loop. At most 3 s. */
void osm_ads_stop(struct osm_ads *ads, osm_task_fn *done, void *ud);
