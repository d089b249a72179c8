/* What the files of http share: server.c is libwebsockets' side, listen.c accepts and holds to the
 * limits, request.c answers. */
#pragma once

#include "http/http.h"

#include <uv.h>

struct lws;
struct lws_context;
struct lws_vhost;

enum {
    OSM__HTTP_HEADERS_MAX = 4096, /* bytes of a request before its body */
    OSM__HTTP_QUERY_MAX = 1024,
    OSM__HTTP_PARAMETERS = 8,
    OSM__HTTP_BODY_MAX = 64 * 1024 * 1024,
};

/* One peer. It lives from its acceptance until libwebsockets has let go of it. */
struct osm__http_conn {
    struct osm__http_conn *next, **prev;
    struct osm_http_listener *listener; /* NULL: closed meanwhile */
    struct osm_http *http;
    struct lws *wsi;                  /* NULL: ended */
    uv_poll_t writer;                 /* active while there is an answer to write; */
    uv_poll_t *reader;                /* libwebsockets' own, while there is none */
    bool writer_closed, let_go;       /* let_go: by libwebsockets */
    struct osm_http_request *request; /* NULL: the next one is awaited */
    uint64_t since_ms; /* it waits for a request, or has last read of the answer, since then */
};

struct osm_http_request {
    struct osm__http_conn *conn;         /* NULL: the peer has left */
    const struct osm_http_route *route;  /* NULL: none has this path */
    const struct osm_http_route *routes; /* of the listener */
    const char *method;
    bool head_only, http_1_0, close;
    char query[OSM__HTTP_QUERY_MAX];
    const char *parameters[OSM__HTTP_PARAMETERS]; /* "name=value", in `query` */
    size_t parameters_len;
    uint64_t started_ms, answered_ms;
    /* the answer */
    int status;         /* 0: not yet */
    struct osm_buf out; /* of which the socket has taken `sent` bytes */
    size_t sent;
    struct osm_http_source source; /* more NULL: all is in `out` */
    bool chunked;
};

struct osm_http {
    struct osm_loop *loop;
    struct lws_context *context; /* NULL: nothing has ever listened */
    struct lws_vhost *vhost;
    struct osm_http_listener *listeners;
    size_t conns; /* of all listeners, and of those that were closed */
    struct osm_timer *sweep;
    struct closing *closing; /* for its end, which must not need memory */
};

/* --- server.c --- */
OSM_MUST_USE int osm__http_run(struct osm_http *http, struct osm_err *err);
/** Takes @p fd in any case. */
void osm__http_adopt(struct osm_http_listener *listener, int fd);
/** Ends it at once, with whatever it has not read. */
void osm__http_cut(struct osm__http_conn *conn);
/** The answer has begun, or has grown. */
void osm__http_wake(struct osm__http_conn *conn);

/* --- listen.c --- */
void osm__http_sweep(void *http);
const struct osm_http_route *osm__http_listener_routes(const struct osm_http_listener *listener);
void *osm__http_listener_ud(const struct osm_http_listener *listener);
bool osm__http_listener_is_guarded(const struct osm_http_listener *listener);
struct osm_http *osm__http_listener_http(const struct osm_http_listener *listener);
void osm__http_join(struct osm_http_listener *listener, struct osm__http_conn *conn);
/** Frees it. */
void osm__http_leave(struct osm__http_conn *conn);

/* --- request.c --- */
/** Makes the next piece of the answer in `out`, where that is empty: 1 it has some, 0 the answer
 * has been given whole; an error: it cannot be. */
int osm__http_next(struct osm_http_request *request);
/** Answered, or its peer has left: frees it, unless its handler still has it. */
void osm__http_end(struct osm_http_request *request);
/** @p route: NULL none of ours. */
void osm__http_count(int status, const char *method, const struct osm_http_route *route,
                     double seconds);
