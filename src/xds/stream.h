/* One ADS stream as a pure state machine: decoded requests and views in, responses out. No
 * transport, no clock.
 *
 *   osm_stream_request --.                        .--> osm_stream_next: the next response, or none
 *                        +--> what the client has-+
 *   osm_stream_set_view -'    what it shall have  '--> osm_stream_due, osm_stream_type_state
 *
 * The transport calls osm_stream_next whenever it can write, and after each request and view. So
 * there is never a backlog: a response is made from the newest view at the moment when it can go
 * out.
 *
 * What the client has is kept per resource, in both forms of the protocol: what was sent on this
 * stream or claimed by initial_resource_versions. The state of the world claims nothing that could
 * be relied on (one version for a whole type): who comes again is told all again. A refused
 * response makes its resources unknown. The incremental form sends them again in halves until the
 * one to blame is alone (stream_suspects.c); that, and all of a refused state of the world, is not
 * sent again until the content of its type changes.
 *
 * Make before break. Sending goes in the order CDS, EDS, LDS, RDS, SDS, and
 *   - LDS and RDS wait until the client has answered the CDS that added or changed clusters (Envoy
 * answers when they are warm). A refusal is an answer: one bad cluster must not hold back a
 * revocation. The first LDS and RDS of a client that came with nothing do not wait: it has no
 * traffic that could miss a cluster.
 *   - EDS, and secrets that the client lacks or asks for, never wait: the clusters warm on them.
 *   - Clusters and endpoints that vanish stay until LDS and RDS are acknowledged; routes until LDS
 * is; secrets until all are. The state of the world then has a cluster response twice: old and new,
 * later new only. A refusal holds them until a later acknowledgement. A cluster that came after
 * the newest listeners and routes were sent goes with the next response: nothing refers to it.
 *   - A cluster that is sent makes its endpoints due again (same name), whatever the client has or
 * will claim of them: Envoy waits for them after each redefinition. */
#pragma once

#include "xds/snapshot.h"

#include <stdbool.h>

enum osm_stream_mode { OSM_STREAM_SOTW, OSM_STREAM_DELTA };

enum { OSM_VERSION_SIZE = OSM_HASH_HEX_SIZE, OSM_NONCE_SIZE = 40, OSM_STREAM_ERROR_SIZE = 512 };

struct osm_stream_claim {
    const char *name, *version;
};

/* A decoded request; all borrowed for the call. */
struct osm_stream_request {
    const char *type_url; /* strings are never NULL */
    const char *version;  /* state of the world */
    const char *nonce;
    bool refused;             /* error_detail is there */
    const char *error;        /* its message */
    const char *const *names; /* resource_names, or resource_names_subscribe */
    size_t names_len;
    const char *const *unsubscribe; /* delta */
    size_t unsubscribe_len;
    const struct osm_stream_claim *claims; /* delta: initial_resource_versions */
    size_t claims_len;
};

/* Cleared by osm_stream_response_clear. */
struct osm_stream_response {
    enum osm_xds_type type;
    char version[OSM_VERSION_SIZE]; /* hash of all that the client has of the type after it */
    char nonce[OSM_NONCE_SIZE];
    struct osm_resource **resources; /* sorted by name; a reference each */
    size_t resources_len;
    char **removed; /* delta only */
    size_t removed_len;
};
void osm_stream_response_clear(struct osm_stream_response *response);

/* A secret that is not in the class: the reader's own leaf. */
struct osm_stream_secret {
    const char *name;              /* borrowed for the call */
    struct osm_resource *resource; /* borrowed; NULL: it will come, the client waits */
    bool by_name_only;             /* not part of a wildcard */
};
enum { OSM_STREAM_SECRETS_MAX = 2 };

struct osm_stream;

/** @p tag makes the nonces of this stream differ from those of others. */
OSM_MUST_USE struct osm_stream *osm_stream_new(enum osm_stream_mode mode, uint64_t tag);
void osm_stream_free(struct osm_stream *stream);
enum osm_stream_mode osm_stream_mode(const struct osm_stream *stream);

/** What the client shall have from now on. Until the first view nothing is answered.
 *  Owns: takes references of its own. Errors: OSM_ENOMEM, the view before stays. */
OSM_MUST_USE int osm_stream_set_view(struct osm_stream *stream, struct osm_class *cls,
                                     const struct osm_stream_secret *secrets, size_t secrets_len);

enum osm_stream_verdict {
    OSM_STREAM_QUIET,
    OSM_STREAM_ACK,
    OSM_STREAM_NACK,
    OSM_STREAM_STALE,
    OSM_STREAM_UNKNOWN_TYPE
};

/** Takes a request in. *verdict (may be NULL) says what it was.
 *  Errors: OSM_EINVAL, the stream must end (no type URL); OSM_ENOMEM, OSM_ELIMIT (too many names),
 * likewise. */
OSM_MUST_USE int osm_stream_request(struct osm_stream *stream,
                                    const struct osm_stream_request *request,
                                    enum osm_stream_verdict *verdict, struct osm_err *err);

/** The next response that may go out: 1 and *out, or 0. Errors: OSM_ENOMEM, nothing has changed,
 * ask again. */
OSM_MUST_USE int osm_stream_next(struct osm_stream *stream, struct osm_stream_response *out);

/** The client has not answered its clusters for too long: what waits for that need not any more. */
void osm_stream_stop_waiting(struct osm_stream *stream);
/** What the client will claim of @p type is not believed: it refused some of it on an earlier
 * stream, and may hold parts of what it refused under a version that it had accepted before. Before
 * its first request of the type. */
void osm_stream_distrust(struct osm_stream *stream, enum osm_xds_type type);
/** This client is known to subscribe to @p type: due until it has. */
void osm_stream_expect(struct osm_stream *stream, enum osm_xds_type type);

/** Something is unsent, unanswered or held back for an answer. What a refusal holds back is not
 * due: see osm_stream_refused. */
bool osm_stream_due(struct osm_stream *stream);
/** The last answer to some type was a refusal. */
bool osm_stream_refused(const struct osm_stream *stream);
/** What may be to blame for the newest refusal of a type, as it was sent, borrowed for the call.
 * State of the world: all that the response held, changed or not. Incremental: what the response
 * held, and was not sent again since; one resource, once it is found. */
typedef void osm_stream_refused_fn(void *ud, const struct osm_resource *resource);
void osm_stream_each_refused(const struct osm_stream *stream, enum osm_xds_type type,
                             osm_stream_refused_fn *fn, void *ud);
/** What is to blame for what stands refused, likewise; incremental: as far as it has been found. */
void osm_stream_each_blamed(const struct osm_stream *stream, enum osm_xds_type type,
                            osm_stream_refused_fn *fn, void *ud);
/** LDS or RDS wait for the answer to a CDS. */
bool osm_stream_waits(struct osm_stream *stream);
/** The client subscribes to the resource, by name or by a wildcard. */
bool osm_stream_asks(const struct osm_stream *stream, enum osm_xds_type type, const char *name);
/** The version of the resource that the client has; NULL: none, or not known. Borrowed until the
 * next call. */
const char *osm_stream_has(const struct osm_stream *stream, enum osm_xds_type type,
                           const char *name);

struct osm_stream_type_state {
    bool subscribed, due;
    bool acked, nacked; /* some response was; the last answer was a refusal */
    char acked_version[OSM_VERSION_SIZE], nacked_version[OSM_VERSION_SIZE];
    const char *error; /* of the refusal; borrowed until the next request; "" none */
};
struct osm_stream_type_state osm_stream_type_state(struct osm_stream *stream,
                                                   enum osm_xds_type type);
