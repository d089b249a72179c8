/* What the files of http share. socket.c listens; listen.c accepts and holds to the limits; conn.c
 * leads a connection from one request to the next; wire.c and tls.c are its socket, plain or TLS;
 * head.c says where a request ends; parser.c has libwebsockets read what the head says; request.c
 * answers. */
#pragma once

#include "http/http.h"

#include <sys/types.h>
#include <uv.h>

struct lws;
struct lws_context;
struct lws_vhost;
struct ssl_st;
struct ssl_ctx_st;

enum {
    OSM__HTTP_HEADERS_MAX = 4096, /* bytes of a request before its body */
    OSM__HTTP_SHOWN_MAX = OSM__HTTP_HEADERS_MAX + 4,
    OSM__HTTP_READ_MAX = 16 * 1024, /* that are read before they are looked at */
    OSM__HTTP_QUERY_MAX = 1024,
    OSM__HTTP_PARAMETERS = 8,
    OSM__HTTP_BODY_MAX = 64 * 1024 * 1024,
    OSM__HTTP_ADDRESS_SIZE = 96,
};

/* --- head.c --- */

struct osm__http_head {
    size_t len;         /* with the empty line behind it */
    const char *method; /* "GET", "HEAD", "POST"; "other" */
    size_t target, target_len;
    bool http_1_0, has_host, expects, has_length, chunked;
    uint64_t length;
};

/** Of the bytes that have come: 0 the head is not whole yet; 200 it is; otherwise the status that
 * refuses it. */
int osm__http_head_read(struct osm__http_head *head, const char *text, size_t len);
/** The head as a GET, with those headers alone that the parser is asked for: its length. */
size_t osm__http_head_show(const struct osm__http_head *head, const char *text,
                           char shown[OSM__HTTP_SHOWN_MAX]);
/** Ends each value with a NUL, for osm__http_head_find. */
void osm__http_head_split(char *text, size_t len);
/** The value of the first header of this name; NULL: none. */
const char *osm__http_head_find(const char *split, size_t len, const char *name);

/* Where a body ends. */
struct osm__http_framing {
    bool chunked, done, bad;
    int state;
    uint64_t left; /* of the body, or of a chunk */
    size_t line, trailers;
};

void osm__http_framing_init(struct osm__http_framing *framing, const struct osm__http_head *head);
/** Goes on to the next data: returns how many bytes lie before it; @p data_len are data. */
size_t osm__http_framing_next(struct osm__http_framing *framing, const char *in, size_t len,
                              size_t *data_len);

/* --- tls.c --- */

OSM_MUST_USE int osm__http_tls_new(struct ssl_ctx_st **out, const char *chain_pem,
                                   const char *key_pem, struct osm_err *err);
void osm__http_tls_free(struct ssl_ctx_st *tls);

/* --- wire.c: a peer's socket --- */

enum { OSM__HTTP_WIRE_END = 0, OSM__HTTP_WIRE_AGAIN = -1, OSM__HTTP_WIRE_BROKEN = -2 };

struct osm__http_wire {
    int fd;
    struct ssl_st *ssl;  /* NULL: plain */
    bool writes_to_read; /* a handshake has something to say before it reads on */
    bool broken;         /* TLS must say nothing more */
};

/** @p tls: NULL plain. Takes @p fd where 0 is returned. */
OSM_MUST_USE int osm__http_wire_init(struct osm__http_wire *wire, int fd, struct ssl_ctx_st *tls);
/** Bytes, or one of the codes above. The handshake is done on the way. */
ssize_t osm__http_wire_read(struct osm__http_wire *wire, char *to, size_t len);
ssize_t osm__http_wire_write(struct osm__http_wire *wire, const char *from, size_t len);
/** Has read from the socket what it has not given out yet: the socket need not become readable. */
bool osm__http_wire_holds(const struct osm__http_wire *wire);
/** Something has come that has not been read. */
bool osm__http_wire_readable(const struct osm__http_wire *wire);
/** The same, or a part of a record: of which the rest may never come. */
bool osm__http_wire_unread(const struct osm__http_wire *wire);
/** Tells the peer that this side has said all. */
void osm__http_wire_shut(struct osm__http_wire *wire);
/** @p at_once: with whatever the peer has not read. */
void osm__http_wire_close(struct osm__http_wire *wire, bool at_once);

/* --- conn.c --- */

/*   head --> parser --> ready --> body --> answer --> head
 *     |                   '-----------------^  |
 *     '---- (refused) -------------------------'--> linger --> ended */
enum osm__http_stage {
    OSM__HTTP_HEAD,   /* a request is awaited */
    OSM__HTTP_PARSER, /* libwebsockets has the head */
    OSM__HTTP_READY,  /* the route is known */
    OSM__HTTP_BODY,
    OSM__HTTP_ANSWER, /* its handler has it, or it is being written */
    OSM__HTTP_LINGER, /* all is said; what the peer still says is thrown away */
};

/* One peer. It lives from its acceptance until libuv has let go of its socket. */
struct osm__http_conn {
    struct osm__http_conn *next, **prev;
    struct osm_http_listener *listener;
    struct osm_http *http;
    enum osm__http_stage stage;
    bool ended, half_closed; /* half_closed: by the peer */
    bool served;             /* a handler has had a request of it */
    bool eager; /* something may be there to go on with that the socket does not tell */
    struct osm__http_wire wire;
    uv_poll_t poll;
    int events;                       /* that it watches for */
    struct lws *wsi;                  /* the parser; NULL: none now */
    int feed;                         /* to it */
    struct osm_http_request *request; /* NULL: the next one is awaited */
    struct osm__http_head head;       /* of `request` */
    struct osm__http_framing framing;
    uint64_t came_ms;
    uint64_t since_ms; /* it waits for a request, or has last read of the answer, since then */
    uint64_t moved_ms; /* something came from the peer */
    uint64_t begun_ms; /* what is in `in` began to come */
    size_t in_len;
    char in[OSM__HTTP_READ_MAX]; /* that has come, and is not dealt with */
};

struct osm_http_request {
    struct osm__http_conn *conn;         /* NULL: the peer has left */
    struct osm_http_listener *listener;  /* lives as long */
    const struct osm_http_route *route;  /* NULL: none has this path */
    const struct osm_http_route *routes; /* of the listener */
    const char *method;
    bool head_only, http_1_0, close;
    bool has_body; /* says its head */
    bool whole;    /* has come with all of its body */
    bool handled;  /* by its handler, who answers then */
    char *head;    /* split */
    size_t head_len;
    struct osm_buf body;
    char query[OSM__HTTP_QUERY_MAX];
    const char *parameters[OSM__HTTP_PARAMETERS]; /* "name=value", in `query` */
    size_t parameters_len;
    uint64_t started_ms, answered_ms;
    /* the answer */
    int status;         /* 0: not yet */
    const char *allow;  /* methods; NULL: not told */
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

/** Takes @p fd in any case. @p tls: NULL plain. */
void osm__http_adopt(struct osm_http_listener *listener, int fd, struct ssl_ctx_st *tls);
/** Ends it at once, with whatever it has not read. */
void osm__http_cut(struct osm__http_conn *conn);
/** Ends it with a goodbye. */
void osm__http_part(struct osm__http_conn *conn);
/** The answer has begun. */
void osm__http_wake(struct osm__http_conn *conn);
/** What the head says is in the request. */
void osm__http_parsed(struct osm__http_conn *conn);

/* --- parser.c --- */
OSM_MUST_USE int osm__http_run(struct osm_http *http, struct osm_err *err);
/** Shows a head to a new one; osm__http_parsed comes later, or an answer with 400. Errors: OSM_EIO.
 */
OSM_MUST_USE int osm__http_parse(struct osm__http_conn *conn, const char *shown, size_t len);
/** Whether it has not read all of what it was shown. */
bool osm__http_parse_waits(const struct osm__http_conn *conn);
/** Lets go of the parser, where there is one. Not within a call from it. */
void osm__http_parse_stop(struct osm__http_conn *conn);

/* --- socket.c --- */
/** @p name: where it listens. Errors: OSM_EINVAL, OSM_EACCES, OSM_EIO. */
OSM_MUST_USE int osm__http_socket_open(int *out, char name[OSM__HTTP_ADDRESS_SIZE],
                                       const struct osm_http_listen *config, struct osm_err *err);

/* --- listen.c --- */
void osm__http_sweep(void *http);
const struct osm_http_route *osm__http_listener_routes(const struct osm_http_listener *listener);
void *osm__http_listener_ud(const struct osm_http_listener *listener);
bool osm__http_listener_is_guarded(const struct osm_http_listener *listener);
bool osm__http_listener_is_draining(const struct osm_http_listener *listener);
/** Whether a connection goes on after its answer: not where others wait for its place. */
bool osm__http_listener_keeps(const struct osm_http_listener *listener);
struct osm_http *osm__http_listener_http(const struct osm_http_listener *listener);
void osm__http_join(struct osm_http_listener *listener, struct osm__http_conn *conn);
/** It has ended: its place is free, though libuv has not let go of it yet. */
void osm__http_depart(struct osm__http_conn *conn);
/** Somebody may have become ready to give way: those who wait for a place are looked at again. */
void osm__http_room(struct osm_http_listener *listener);
/** Frees it. */
void osm__http_leave(struct osm__http_conn *conn);
/** A request keeps its listener, and its body counts among the listener's. */
void osm__http_hold(struct osm_http_listener *listener);
void osm__http_let_go(struct osm_http_listener *listener, size_t body_len);
/** A body has grown; where all are too much together, others that are not whole are refused. False:
 * it is, itself. */
bool osm__http_grown(struct osm_http_request *request, size_t len);
void osm__http_drop_body(struct osm_http_request *request);

/* --- request.c --- */
/** Of the connection's head, whose text is @p head. NULL: no memory. */
OSM_MUST_USE struct osm_http_request *osm__http_request_new(struct osm__http_conn *conn,
                                                            const char *head, size_t head_len);
/** Answers before a handler has it. */
void osm__http_refuse(struct osm_http_request *request, int status, const char *text);
/** Makes the next piece of the answer in `out`, where that is empty: 1 it has some, 0 the answer
 * has been given whole; an error: it cannot be. */
int osm__http_next(struct osm_http_request *request);
/** Answered, or its peer has left: frees it, unless its handler still has it. */
void osm__http_end(struct osm_http_request *request);
