/* A simulated sidecar: one connection, one stream of the aggregated discovery service, subscribing
 * as Envoy does. CDS and LDS for everything; EDS for the clusters that want it, RDS for the tables
 * that listeners name, SDS for the secrets that both name; what nothing names any more is given up;
 * every response is accepted, unless it holds a text that is to be refused. In delta it keeps the
 * versions of what it has, and says so when it comes again.
 *
 * HTTP/2 is nghttp2's, TLS OpenSSL's, on one epoll loop: ten thousand of these cost less than the
 * server that they measure. Errors that end a sidecar are counted and the first is told. */
#pragma once

#include "base/buf.h"
#include "base/map.h"

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

enum { LOAD_CDS, LOAD_EDS, LOAD_LDS, LOAD_RDS, LOAD_SDS, LOAD_TYPES };
enum { LOAD_MESSAGE_MAX_BYTES = 64 << 20 };

struct load {
    int epoll_fd;
    bool words; /* stdin, the event without a sidecar, has something */
    struct sockaddr_storage address;
    socklen_t address_len;
    SSL_CTX *tls; /* NULL: plain */
    const char *server_name;
    bool delta;
    const char *refuse;   /* NULL; else responses that hold this text are refused */
    FILE *record;         /* NULL; else what one sidecar is sent goes there, as canned.c reads it */
    const char *recorded; /* the uuid of that one */
    /* figures, of all sidecars together */
    size_t accepted, configured, failed;
    size_t stale; /* resources that came again and were not what the sidecar had */
    uint64_t responses, acked, bytes; /* bytes: of the messages, without frames */
    /* the round: 0 until the first change, then its number; who has accepted something in it */
    size_t round, heard;
    uint64_t first_ack_us, last_ack_us; /* handed to the kernel; first: of the round, 0 = none */
    uint64_t refused, first_refusal_us; /* first: of the round, 0 = none */
    char first_error[256];
};

struct load_type {
    struct osm_map names; /* -> struct load_name */
    struct osm_buf gone;  /* names given up since the last request, each with its NUL (delta) */
    size_t missing;       /* asked for and not answered yet */
    uint32_t sweep;       /* of the last response in the state of the world */
    char *version, *nonce;
    bool asked, dirty; /* dirty: names have come or gone since the last request */
    bool refuses;      /* the next request refuses the last response */
};

struct sidecar {
    struct load *load;
    const char *uuid;
    X509 *certificate;
    EVP_PKEY *key;
    int fd;
    SSL *ssl;
    struct nghttp2_session *session;
    int32_t stream;
    enum { LOAD_IDLE, LOAD_CONNECTING, LOAD_HANDSHAKE, LOAD_OPEN, LOAD_ENDED } state;
    bool wants_write, sent_node, accepted, configured;
    struct osm_buf out, in;
    size_t out_at;
    struct load_type types[LOAD_TYPES];
    size_t round;   /* the last in which it has accepted something */
    size_t unacked; /* responses whose answer has not been handed to the kernel */
    uint64_t started_us, configured_us;
};

/* A record: headers {round, type, length}, in the machine's own order, each before its message. */
struct load_record {
    uint32_t round, type, len;
};

/** Opens the connection; it goes on in sidecar_event. */
void sidecar_start(struct sidecar *s);
/** Counts it as failed; called from within, the connection is closed when that returns. */
void sidecar_fail(struct sidecar *s, const char *what, const char *why);
void sidecar_event(struct sidecar *s, uint32_t events);
/** Closes the connection; what it has learnt stays for the next start. */
void sidecar_stop(struct sidecar *s);
/** Closes the connection and forgets all but who it is. */
void sidecar_forget(struct sidecar *s);
void sidecar_free(struct sidecar *s);
