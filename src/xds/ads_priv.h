/* What the ads*.c files share.
 *
 *   gRPC threads                       loop thread
 *   completion queue -> list of ops -> ads.c: op->fn(op, ok)
 *                                      ads_conn.c: one osm__conn per stream; "dirty" ones are
 * served in slices per loop turn handshakes -> ads_tls.c fetcher (own lock)
 *
 * An op is memory that belongs to its conn or slot and is handed to gRPC as a tag; `ops` counts
 * those that are out. A conn is freed when none is out and the stream is closed. */
#pragma once

#include "base/map.h"
#include "xds/ads.h"
#include "xds/discovery.h"
#include "xds/stream.h"

#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <pthread.h>
#include <stdatomic.h>

enum {
    OSM__ADS_SLICE = 16,            /* streams served per loop turn */
    OSM__ADS_SLOTS = 16,            /* new streams that gRPC may hand over at once */
    OSM__ADS_STREAMS_PER_PROXY = 2, /* newest win */
    OSM__ADS_SWEEP_MS = 1000,
    OSM__ADS_PATIENCE_MS = 10 * 1000, /* for the answer to a CDS, before LDS and RDS go anyway */
    OSM__ADS_UNSEEN_MS = 15 * 1000,   /* for its pod to appear in a snapshot */
    OSM__ADS_FINISH_MS = 2000,        /* for the write in progress, before a stream is cut */
    OSM__ADS_ASK_AGAIN_S = 5,         /* for a leaf that has not come */
    OSM__ADS_FORGET_S = 600,          /* an account without streams is forgotten */
};

struct osm__op {
    struct osm__op *next;
    void (*fn)(struct osm__op *op, bool ok);
    void *owner;
    bool ok;
};

/* Server certificate and roots. The fetcher runs on gRPC's threads. */
struct osm__ads_tls {
    pthread_mutex_t lock;
    char *chain_pem, *key_pem, *roots_pem;
    uint64_t generation, delivered;
    struct x509_store_st *roots; /* loop thread */
    char root_fingerprint[65];   /* loop thread; SHA-256 of the first root, hex */
    struct osm_map peers; /* loop thread; SHA-256 of a peer's certificates -> struct osm__peer:
                             those that today's roots have verified */
};

struct osm__peer {
    struct osm_proxy_id id;
    char key[OSM_PROXY_KEY_SIZE];
    int64_t not_after;
};

struct osm__account {
    char *ns, *name, *own_name; /* own_name: "service-cert:<ns>/<name>" */
    struct osm_resource *leaf, *named_leaf;
    uint64_t generation; /* of the leaf; 0: none yet */
    size_t conns;
    int64_t asked_s, renew_s, idle_s; /* wall clock; 0: not */
};

struct osm__counts {
    char uuid[OSM_UUID_SIZE];
    char *identity;
    uint64_t streams; /* ever */
    struct osm_ads_counts types[OSM_XDS_TYPE_COUNT];
    uint32_t sent_at_s[OSM_XDS_TYPE_COUNT][OSM_ADS_TIMES]; /* rings */
    uint8_t next[OSM_XDS_TYPE_COUNT];
};

struct osm__conn {
    struct osm_ads *ads;
    struct osm__conn *prev, *next; /* all, newest last */
    struct osm__conn *same_proxy;  /* the next older one */
    struct osm__conn *dirty_next;
    bool dirty, admitted, ended; /* ended: a status is on its way, nothing is served any more */
    grpc_call *call;
    struct osm__op close_op, headers_op, recv_op, send_op, status_op;
    unsigned ops;
    bool closed, sending;
    int cancelled;
    grpc_byte_buffer *incoming, *outgoing;
    struct {
        bool pending; /* waits for the write in progress */
        grpc_status_code code;
        char text[256];
        uint64_t since_ms;
    } finish;
    struct osm__peer peer;
    struct osm__account *account;
    struct osm__counts *counts; /* while it is admitted; NULL: no memory */
    struct osm_stream *stream;
    bool seen, has_node, unknown_type; /* seen: its pod was in a snapshot */
    bool asked_clusters;
    char version[OSM_AGENT_VERSION_SIZE]; /* of the proxy; "" unknown */
    enum osm_xds_type sending_type;
    uint64_t sent_us[OSM_XDS_TYPE_COUNT]; /* the newest response, until it is answered */
    uint64_t view_number, leaf_generation, applied_number;
    uint64_t refused_since[OSM_XDS_TYPE_COUNT]; /* view_number; 0: not refusing */
    uint64_t opened_ms, waits_since_ms;
};

struct osm__slot {
    struct osm_ads *ads;
    struct osm__op op;
    grpc_call *call;
    grpc_call_details details;
    grpc_metadata_array metadata;
};

struct osm_ads {
    struct osm_loop *loop;
    struct osm_ads_callbacks callbacks;
    char *trust_domain, *listen;
    uint16_t port;
    struct osm__ads_tls tls;
    grpc_server *server;
    grpc_completion_queue *queue;
    pthread_t thread;
    bool thread_runs, server_started;
    struct osm__slot slots[OSM__ADS_SLOTS];
    unsigned slots_out;

    pthread_mutex_t done_lock; /* guards the list of completed ops */
    struct osm__op *done_first, **done_last;
    bool done_posted;

    struct osm__conn *first, *last;
    size_t conns;
    struct osm_map by_proxy; /* osm_proxy_key -> newest conn */
    struct osm_map accounts; /* "ns/name" -> struct osm__account */
    struct osm_map
        refusers; /* osm_proxy_key -> bits of the types of which its proxy refused something and
                     has not accepted all since: not believed when it comes again */
    bool refuser_forgotten; /* for want of memory: nobody is believed */
    struct osm_map
        gone; /* osm_proxy_key -> struct osm__gone: proxies that went by themselves just now */
    struct osm_map counts; /* osm_proxy_key -> struct osm__counts */
    uint64_t counts_looked_ms;
    struct osm__conn *dirty_first, **dirty_last;
    struct osm_turns *serving;
    struct osm_timer *sweep_timer, *changed_timer;
    uint64_t next_tag;
    struct osm_snapshot *snapshot;
    uint32_t proxies_max;                  /* 0: any number */
    size_t memory_max_bytes, memory_bytes; /* what is held, as of the last sweep */
    int64_t leaf_lead_s;
    const char *leaf_kind; /* NULL: any */

    bool stopping;
    struct osm__op shutdown_op;
    bool shutdown_done;
    struct osm_timer *stop_timer;
    uint64_t stop_since_ms;
    osm_task_fn *stop_done;
    void *stop_ud;
};

/* ads.c */
/** A server with the settings of ours: for the benchmark's floor too. @p age_s: 0 is the default.
 */
OSM_MUST_USE grpc_server *osm__ads_make_server(uint32_t age_s);

/* ads_tls.c */
OSM_MUST_USE int osm__ads_tls_init(struct osm__ads_tls *tls);
void osm__ads_tls_clear(struct osm__ads_tls *tls);
OSM_MUST_USE int osm__ads_tls_set(struct osm__ads_tls *tls, const char *chain_pem,
                                  const char *key_pem, const char *roots_pem, struct osm_err *err);
OSM_MUST_USE grpc_server_credentials *osm__ads_tls_credentials(struct osm__ads_tls *tls);
/** Switches off session tickets for every TLS context that this process makes from now on. Once per
 * process. */
OSM_MUST_USE int osm__ads_tls_no_tickets(struct osm_err *err);
/** Who is at the other end: verifies its certificate against today's roots and the clock. Errors:
 * OSM_EACCES and why. */
OSM_MUST_USE int osm__ads_tls_peer(struct osm__ads_tls *tls, grpc_call *call,
                                   const char *trust_domain, struct osm__peer *out,
                                   struct osm_err *err);

/* ads_conn.c */
void osm__conn_open(struct osm_ads *ads, grpc_call *call, enum osm_stream_mode mode,
                    const char *unknown_method);
void osm__conn_finish(struct osm__conn *conn, grpc_status_code code, const char *text);
void osm__conn_mark(struct osm__conn *conn);
/** Brings the view up to date and sends what may go. */
void osm__conn_serve(struct osm__conn *conn);
void osm__conn_sweep(struct osm__conn *conn, uint64_t now_ms, int64_t now_s);
/** Whether it says what its proxy has: the newest stream of a pod that is in the snapshot. */
bool osm__conn_counts(const struct osm__conn *conn);
bool osm__conn_has_secrets(const struct osm__conn *conn);
bool osm__conn_due(const struct osm__conn *conn);
/** The client has accepted all of the current snapshot. */
bool osm__conn_whole(const struct osm__conn *conn);

/* --- ads_answers.c --- */
/** A request has been taken in, and was that. */
void osm__conn_answered(struct osm__conn *conn, const struct osm_stream_request *request,
                        enum osm_stream_verdict verdict);
json_t *osm__conn_status(const struct osm__conn *conn);

/* ads_account.c */
struct osm__account *osm__account_get(struct osm_ads *ads, const char *ns, const char *name);
void osm__account_free(struct osm__account *account);
void osm__account_sweep(struct osm_ads *ads, int64_t now_s);
/** Asks for the account's leaf, unless there is one or the question is open. */
void osm__account_want(struct osm_ads *ads, struct osm__account *account);
/** Is a leaf with this version from today's root, but of keys that are not asked for any more? */
bool osm__leaf_of_other_kind(const struct osm_ads *ads, const char *version);
/** Is a leaf with this version from today's root, of today's kind, with time left? */
bool osm__leaf_current(const struct osm_ads *ads, const char *version, int64_t now_s);

/* ads_past.c */
/** The proxy refuses something of the type now, or has accepted all of it. */
void osm__past_refused(struct osm_ads *ads, const char *proxy, enum osm_xds_type type,
                       bool refuses);
/** A new stream: what its proxy refuses, or may wait for, is not believed. */
void osm__past_greet(const struct osm_ads *ads, struct osm__conn *conn);
/** The stream of an admitted proxy has ended, whoever ended it. */
void osm__past_left(struct osm__conn *conn);
/** A stream has ended, not by us. Before it leaves the tables. */
void osm__past_went(struct osm__conn *conn);
/** Its first request for clusters; @p with_something: its proxy has some. */
void osm__past_came(struct osm__conn *conn, bool with_something);
/** Forgets those whose pod is gone, and what is long ago. */
void osm__past_sweep(struct osm_ads *ads, uint64_t now_ms);
/* ads_counts.c */
/** NULL: no memory. */
struct osm__counts *osm__counts_get(struct osm_ads *ads, const struct osm__peer *peer);
void osm__counts_free(struct osm__counts *counts);
void osm__counts_sent(struct osm__counts *counts, enum osm_xds_type type);
/** Forgets proxies that have neither a stream nor a pod. */
void osm__counts_sweep(struct osm_ads *ads, uint64_t now_ms);

/* ads.c */
bool osm__ads_memory_full(const struct osm_ads *ads);
void osm__ads_changed(struct osm_ads *ads);
void osm__ads_conn_gone(struct osm_ads *ads);

/* ads_absl.cc */
void osm__absl_tune(void);
