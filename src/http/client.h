/* Requests to HTTP servers, on the loop: libcurl's multi interface on libuv. Connections are kept
 * and shared; where the server offers HTTP/2 all requests to it share one.
 *
 *   start --> curl --head, data...--> data() as it arrives --> done(), exactly once
 *                                                                ^
 *   cancel ------------------------------------------------------'
 *
 * Bodies are streams: nothing is collected here, and what is compressed (gzip) is expanded. A
 * response may be bounded in its length, in time as a whole and in silence. No redirect is
 * followed. Thread: loop. */
#pragma once

#include "base/err.h"
#include "loop/loop.h"

struct osm_http_client;
struct osm_http_fetch;

struct osm_http_client_config {
    struct osm_loop *loop;
    const char *user_agent;   /* copied; NULL: none is told */
    uint64_t connect_ms;      /* to establish a connection, TLS included; 0: 10 s */
    unsigned connections_max; /* to one server; 0: 64. More requests wait for their turn */
};

/* Whom to trust, and who asks; PEM. */
struct osm_http_tls {
    const char *ca;         /* NULL: what the system trusts */
    const char *cert, *key; /* NULL: no client certificate */
    bool insecure;          /* whoever answers */
};

struct osm_http_result {
    int rc;                   /* 0: the response is complete, whatever its status */
    int status;               /* 0: there was none */
    const char *content_type; /* "" none */
    int64_t retry_after_s;    /* -1: not told */
    bool http2;
    const char *error; /* what rc means here; "" where it is 0 */
};

/* All texts are copied or used up by the start. */
struct osm_http_fetch_config {
    const char *method;         /* NULL: GET */
    const char *url;            /* http: or https: */
    const char *const *headers; /* "Name: value", NULL-terminated; may be NULL */
    const void *body;
    size_t body_len;
    const struct osm_http_tls *tls; /* NULL: all defaults */
    const char *proxy;              /* a URL; NULL: as the environment says */
    uint64_t deadline_ms;           /* for the whole response; 0: none */
    uint64_t idle_ms;               /* without a byte; 0: none */
    uint64_t body_max;              /* bytes, expanded; 0: no limit */
    void *ud;
    /** The head of the response is here. May be NULL. */
    void (*head)(void *ud, struct osm_http_fetch *fetch, int status);
    /** A piece of the body. Not 0: the fetch ends with that code. It may not cancel its own fetch.
     */
    int (*data)(void *ud, struct osm_http_fetch *fetch, const char *bytes, size_t len);
    /** The end; the fetch is gone when it returns. Texts of @p result: borrowed. Codes: those of
     * data(); OSM_ETIMEDOUT; OSM_ELIMIT the body is too long; OSM_EPARSE it cannot be expanded, or
     * this is no HTTP; OSM_EACCES the server's certificate is not trusted, or ours not taken;
     * OSM_ECANCELED; OSM_ENOMEM; OSM_EIO all else. */
    void (*done)(void *ud, const struct osm_http_result *result);
};

OSM_MUST_USE int osm_http_client_new(struct osm_http_client **out,
                                     const struct osm_http_client_config *config,
                                     struct osm_err *err);
/** Cancels what is under way. Not from a callback of its own. NULL is accepted. */
void osm_http_client_free(struct osm_http_client *client);

/** Nothing is called back before it returns. Errors: OSM_EINVAL the URL, the method or the TLS
 * material is none; OSM_ENOMEM. */
OSM_MUST_USE int osm_http_fetch_start(struct osm_http_fetch **out, struct osm_http_client *client,
                                      const struct osm_http_fetch_config *config,
                                      struct osm_err *err);
/** Ends it: done() is called with OSM_ECANCELED before this returns. */
void osm_http_fetch_cancel(struct osm_http_fetch *fetch);
/** As of the head of the response, for data(). */
int osm_http_fetch_status(const struct osm_http_fetch *fetch);
