/* An HTTP/1.1 server on the loop, plain or with TLS, for what operators and machines ask now and
 * then: health, figures, debugging (GET and HEAD), and webhooks (POST).
 *
 *   listener --accepts--> connection --head: libwebsockets parses--> request --> handler
 *   (address, routes,     (TLS, where    body, where the route                     |
 *    certificate)          one ends)     takes one              answered now or later
 *                                            body at once, or piece by piece as the peer takes it
 *
 * libwebsockets runs on our loop by its libuv plugin. Sockets are ours, and it is shown heads: a
 * listener can come and go while others serve, and its certificate change. Every peer is bounded:
 * how many there are, how much they say, alone and together, and how long they may take for a
 * handshake, to say it or to read. A request that could be read in two ways is refused, and its
 * connection closed.
 *
 * Where all places are taken, one is freed for who comes: first by whoever has not said a whole
 * request yet, and takes longest for it (more than two seconds), then by whoever was served and
 * idles longest. Where nobody can go, because all are being answered, newcomers wait in the
 * kernel's queue, and who is answered meanwhile is not kept. Thread: loop. */
#pragma once

#include "base/buf.h"
#include "loop/loop.h"

#include <jansson.h>
#include <stdbool.h>

struct osm_http;
struct osm_http_listener;
struct osm_http_request;

/** Must answer the request exactly once, now or later. */
typedef void osm_http_handler_fn(void *ud, struct osm_http_request *request);

struct osm_http_route {
    const char *path; /* "/health/ready", exactly; NULL ends a table */
    osm_http_handler_fn *handler;
    const char *about; /* for an index; may be NULL */
    /* 0: GET and HEAD, without a body. Otherwise POST alone, with a body of at most so many bytes:
     * the handler is called when it is there whole. */
    size_t post_max;
};

/* 0: the default. */
struct osm_http_limits {
    unsigned connections; /* of a listener: 64 */
    uint64_t idle_ms;     /* from a connection's begin (with TLS, its handshake too) or its last
                             answer to the next request, and from there to its body's end: 75 s */
    uint64_t stalled_ms;  /* a peer that sends nothing of its body, or reads nothing of its answer:
                             15 s */
    uint64_t answer_ms;   /* for the whole answer to be read: 5 min */
    size_t bodies;        /* bytes of all requests' bodies that are not answered: 64 MiB. On top of
                             them, bodies that are not whole yet are refused: those that have
                             taken longest, if more than a second (408), else the largest (503) */
};

struct osm_http_listen {
    const char *address; /* "127.0.0.1:9091", "[::1]:0"; copied */
    const char *flag;    /* that it was given by, for errors: "--http-address" */
    bool loopback_only; /* refuses other addresses, and requests that a page of elsewhere could make
                           a browser send: the Host must be of this machine */
    const struct osm_http_route *routes; /* borrowed until the listener is closed */
    void *ud;
    struct osm_http_limits limits;
    /* PEM; both NULL: plain. Read at once, and no copy is kept of the key's text. TLS 1.2 or 1.3,
     * HTTP/1.1 alone. */
    const char *tls_chain_pem, *tls_key_pem;
};

OSM_MUST_USE int osm_http_new(struct osm_http **out, struct osm_loop *loop, struct osm_err *err);
/** Errors: OSM_EINVAL the address; OSM_EACCES it is not of the loopback; OSM_EIO in use or not
 * permitted; OSM_ENOTSUP libwebsockets does not run; those of osm_http_set_tls. */
OSM_MUST_USE int osm_http_listen(struct osm_http_listener **out, struct osm_http *http,
                                 const struct osm_http_listen *config, struct osm_err *err);
/** HOST:PORT as it is: with the port that was chosen where 0 was asked for. Borrowed. */
const char *osm_http_address(const struct osm_http_listener *listener);
/** For connections to come; those that are there go on with what they have. After an error all
 * stays as it was. Errors: OSM_EPARSE, OSM_EREJECTED, OSM_EMISMATCH the key is not the
 * certificate's; OSM_EINVAL the listener is plain, or one of the two is missing; OSM_ECRYPTO. */
OSM_MUST_USE int osm_http_set_tls(struct osm_http_listener *listener, const char *chain_pem,
                                  const char *key_pem, struct osm_err *err);
/** Cuts its connections. NULL is accepted. */
void osm_http_close(struct osm_http_listener *listener);
/** Accepts no more, ends connections that wait for a request, and lets those that are under way be
 * answered; then the listener is closed and done(ud) called, never from inside. Who does not come
 * to the end of its request within a second is cut; for handlers it waits. Once for a listener.
 * osm_http_close meanwhile cuts at once, and done is called all the same. */
void osm_http_drain(struct osm_http_listener *listener, osm_task_fn *done, void *ud);
/** Closes all listeners and frees the server; then done(ud), some turns of the loop later: the loop
 * must go on until then. Requests that are kept must be answered all the same. */
void osm_http_stop(struct osm_http *http, osm_task_fn *done, void *ud);

/** A parameter of the query, decoded: "" where it has no value, NULL where it is absent. Borrowed
 * until the request is answered. */
const char *osm_http_query(const struct osm_http_request *request, const char *name);
/** The first header of this name in small letters ("content-type"); NULL where it is absent.
 * Borrowed until the request is answered. */
const char *osm_http_header(const struct osm_http_request *request, const char *name);
/** The body, with a NUL behind it that is not of @p len; "" where there is none. Borrowed until the
 * request is answered. */
const char *osm_http_body(const struct osm_http_request *request, size_t *len);
const struct osm_http_route *osm_http_routes(const struct osm_http_request *request);
/** False once the peer has left: whoever works for it may stop. */
bool osm_http_alive(const struct osm_http_request *request);

/** Answers; the buffer's content moves out. @p type: a Content-Type, borrowed for ever. A buffer
 * that has failed is a 500. */
void osm_http_reply(struct osm_http_request *request, int status, const char *type,
                    struct osm_buf *body);
/** One line of plain text. */
void osm_http_reply_text(struct osm_http_request *request, int status, const char *text);
/** Takes @p value; NULL (no memory) is a 500. */
void osm_http_reply_json(struct osm_http_request *request, int status, json_t *value);

/* A body that is made while the peer reads it. */
struct osm_http_source {
    void *ud;
    /** Appends some kilobytes to @p out: 1 there is more, 0 that was all, an error cuts the
     * connection. */
    int (*more)(void *ud, struct osm_buf *out);
    /** Frees ud: after the last piece, or when the peer has left. */
    void (*end)(void *ud);
};
void osm_http_reply_stream(struct osm_http_request *request, int status, const char *type,
                           const struct osm_http_source *source);
