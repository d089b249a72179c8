/* A connection, from one request to the next. What a turn of the loop leads to is done from its
 * watcher alone, never within a call from the parser or from a handler's answer: so a connection
 * can end at any step. */
#include "http/http_priv.h"

#include "base/clock.h"
#include "base/log.h"

#include <string.h>
#include <strings.h>
#include <unistd.h>

enum { READS_PER_TURN = 16 };

static const char CONTINUE[] = "HTTP/1.1 100 Continue\r\n\r\n";

/* --- its watcher --- */

static int events_of(const struct osm__http_conn *conn)
{
    int events = 0;
    switch (conn->stage) {
    case OSM__HTTP_HEAD:
    case OSM__HTTP_BODY:
    case OSM__HTTP_LINGER:
        events = conn->wire.writes_to_read ? UV_WRITABLE : UV_READABLE;
        return conn->eager ? UV_READABLE | UV_WRITABLE : events;
    case OSM__HTTP_READY:
        return UV_READABLE | UV_WRITABLE;
    case OSM__HTTP_ANSWER:
        if (conn->request->status)
            return UV_WRITABLE;
        return conn->half_closed ? 0 : UV_DISCONNECT;
    case OSM__HTTP_PARSER: /* for the turn or two until it has read it */
        return UV_WRITABLE;
    }
    return 0;
}

static void on_turn(uv_poll_t *poll, int status, int events);

static void watch(struct osm__http_conn *conn)
{
    int events = conn->ended ? conn->events : events_of(conn);
    if (events == conn->events)
        return;
    conn->events = events;
    if (events)
        (void)uv_poll_start(&conn->poll, events, on_turn);
    else
        (void)uv_poll_stop(&conn->poll);
}

/* --- its end --- */

static void poll_closed(uv_handle_t *handle)
{
    osm__http_leave(handle->data);
}

static void end(struct osm__http_conn *conn, bool at_once)
{
    if (conn->ended)
        return;
    conn->ended = true;
    if (conn->request)
        osm__http_end(conn->request);
    osm__http_parse_stop(conn);
    uv_close((uv_handle_t *)&conn->poll, poll_closed);
    osm__http_wire_close(&conn->wire, at_once);
    osm__http_depart(conn);
}

void osm__http_cut(struct osm__http_conn *conn)
{
    end(conn, true);
}

void osm__http_part(struct osm__http_conn *conn)
{
    end(conn, false);
}

/* Whoever is told that a body is not wanted may be sending it still. */
static void linger(struct osm__http_conn *conn)
{
    osm__http_wire_shut(&conn->wire);
    conn->stage = OSM__HTTP_LINGER;
    conn->since_ms = conn->moved_ms = osm_now_ms();
    conn->in_len = 0;
    conn->eager = true;
}

/* --- answering --- */

void osm__http_wake(struct osm__http_conn *conn)
{
    conn->stage = OSM__HTTP_ANSWER;
    watch(conn);
}

/* Answered whole: the next request, which may have come already. */
static void finish(struct osm__http_conn *conn)
{
    bool was_last = conn->request->close || osm__http_listener_is_draining(conn->listener);
    bool whole = conn->request->whole;
    osm__http_parse_stop(conn);
    osm__http_end(conn->request);
    conn->since_ms = osm_now_ms();
    if (was_last && !whole) {
        linger(conn);
    } else if (was_last) {
        end(conn, false);
    } else {
        conn->stage = OSM__HTTP_HEAD;
        conn->eager = conn->in_len || osm__http_wire_holds(&conn->wire);
    }
    osm__http_room(conn->listener);
}

static void write_on(struct osm__http_conn *conn)
{
    struct osm_http_request *r = conn->request;
    int more = osm__http_next(r);
    ssize_t n = more == 1
                    ? osm__http_wire_write(&conn->wire, r->out.data + r->sent, r->out.len - r->sent)
                    : 0;
    if (n > 0) {
        r->sent += (size_t)n;
        conn->since_ms = osm_now_ms();
    }
    if (more == 0)
        finish(conn);
    else if (more < 0 || n == OSM__HTTP_WIRE_BROKEN)
        osm__http_cut(conn);
}

/* --- a request --- */

static void discard(struct osm__http_conn *conn, size_t len)
{
    conn->in_len -= len;
    memmove(conn->in, conn->in + len, conn->in_len);
}

static void handle(struct osm__http_conn *conn)
{
    struct osm_http_request *r = conn->request;
    r->whole = r->handled = conn->served = true;
    conn->stage = OSM__HTTP_ANSWER;
    r->route->handler(osm__http_listener_ud(conn->listener), r);
}

static void take_body(struct osm__http_conn *conn)
{
    struct osm_http_request *r = conn->request;
    size_t used = 0, data;
    while (used < conn->in_len && !conn->framing.done && !conn->framing.bad) {
        used += osm__http_framing_next(&conn->framing, conn->in + used, conn->in_len - used, &data);
        if (!data)
            continue;
        if (data > r->route->post_max - r->body.len) {
            osm__http_refuse(r, 413, "the body is too large");
            return;
        }
        if (osm_buf_add(&r->body, conn->in + used, data)) {
            osm__http_cut(conn);
            return;
        }
        if (!osm__http_grown(r, data))
            return;
        used += data;
    }
    discard(conn, used);
    if (conn->framing.bad)
        osm__http_refuse(r, 400, "the body's chunks cannot be read");
    else if (conn->framing.done)
        handle(conn);
}

static void begin_body(struct osm__http_conn *conn)
{
    osm__http_framing_init(&conn->framing, &conn->head);
    conn->stage = OSM__HTTP_BODY;
    conn->request->body.max = conn->request->route->post_max;
    conn->moved_ms = osm_now_ms();
    conn->eager = conn->in_len || osm__http_wire_holds(&conn->wire);
    if (conn->head.expects && !conn->in_len &&
        osm__http_wire_write(&conn->wire, CONTINUE, sizeof CONTINUE - 1) !=
            (ssize_t)sizeof CONTINUE - 1)
        end(conn, false); /* a peer that asks for leave, and has read nothing for long */
}

static void go_on(struct osm__http_conn *conn)
{
    osm__http_parse_stop(conn);
    if (conn->request->has_body)
        begin_body(conn);
    else
        handle(conn);
}

static const char *allowed(const struct osm_http_route *route)
{
    return route->post_max ? "POST" : "GET, HEAD";
}

static void refuse_method(struct osm_http_request *r)
{
    r->allow = allowed(r->route);
    osm__http_refuse(r, 405, "no such method for this path");
}

void osm__http_parsed(struct osm__http_conn *conn)
{
    struct osm_http_request *r = conn->request;
    bool posts = !strcmp(r->method, "POST");
    if (!r->route)
        osm__http_refuse(r, 404, "no such path");
    else if (!strcmp(r->method, "other") || posts != (r->route->post_max > 0))
        refuse_method(r);
    else if (r->has_body && conn->head.length > r->route->post_max)
        osm__http_refuse(r, 413, "the body is too large");
    else if (r->has_body && !posts)
        osm__http_refuse(r, 413, "no body is taken here");
    else
        conn->stage = OSM__HTTP_READY;
    watch(conn);
}

static void take_head(struct osm__http_conn *conn)
{
    char shown[OSM__HTTP_SHOWN_MAX];
    size_t blank = 0;
    while (conn->in_len - blank >= 2 && !memcmp(conn->in + blank, "\r\n", 2)) /* RFC 9112, 2.2 */
        blank += 2;
    discard(conn, blank);
    int status = osm__http_head_read(&conn->head, conn->in, conn->in_len);
    if (!status)
        return;
    size_t whole = status == 200 ? conn->head.len : 0;
    struct osm_http_request *r = osm__http_request_new(conn, conn->in, whole);
    if (!r) {
        osm__http_cut(conn);
        return;
    }
    if (!whole) {
        r->has_body = true; /* where it ends, nobody can say */
        osm__http_refuse(r, status, "the request cannot be taken");
        return;
    }
    size_t len = osm__http_head_show(&conn->head, conn->in, shown);
    discard(conn, conn->head.len);
    conn->stage = OSM__HTTP_PARSER;
    if (osm__http_parse(conn, shown, len))
        osm__http_cut(conn);
}

/* It has read all, and says nothing: to it the head goes on. */
static void look_after_parser(struct osm__http_conn *conn)
{
    if (osm__http_parse_waits(conn))
        return;
    osm__http_parse_stop(conn);
    conn->request->has_body = true;
    osm__http_refuse(conn->request, 400, "the request cannot be taken");
}

/* While a handler has its request. A plain peer may have closed its own half only, and still wait
 * for the answer; with TLS nobody does. */
static void on_left(struct osm__http_conn *conn)
{
    conn->half_closed = true;
    if (conn->wire.ssl)
        osm__http_cut(conn);
}

/* --- reading --- */

static bool reads(const struct osm__http_conn *conn)
{
    return !conn->ended && (conn->stage == OSM__HTTP_HEAD || conn->stage == OSM__HTTP_BODY ||
                            conn->stage == OSM__HTTP_LINGER);
}

static void take(struct osm__http_conn *conn)
{
    if (conn->stage == OSM__HTTP_HEAD)
        take_head(conn);
    else if (conn->stage == OSM__HTTP_BODY)
        take_body(conn);
    else
        conn->in_len = 0;
}

static void read_on(struct osm__http_conn *conn)
{
    take(conn);
    for (int i = 0; reads(conn) && (i < READS_PER_TURN || osm__http_wire_holds(&conn->wire)); i++) {
        ssize_t n = osm__http_wire_read(&conn->wire, conn->in + conn->in_len,
                                        sizeof conn->in - conn->in_len);
        if (n == OSM__HTTP_WIRE_AGAIN)
            return;
        if (n <= 0) {
            end(conn, false);
            return;
        }
        conn->moved_ms = osm_now_ms();
        if (!conn->in_len)
            conn->begun_ms = conn->moved_ms;
        conn->in_len += (size_t)n;
        take(conn);
    }
}

static void on_turn(uv_poll_t *poll, int status, int events)
{
    struct osm__http_conn *conn = poll->data;
    conn->eager = false;
    if (status)
        osm__http_cut(conn);
    else if (reads(conn))
        read_on(conn);
    else if (conn->stage == OSM__HTTP_PARSER)
        look_after_parser(conn);
    else if (conn->stage == OSM__HTTP_READY)
        go_on(conn);
    else if (conn->stage == OSM__HTTP_ANSWER && conn->request->status)
        write_on(conn);
    else if (events & UV_DISCONNECT)
        on_left(conn);
    watch(conn);
}

void osm__http_adopt(struct osm_http_listener *listener, int fd, struct ssl_ctx_st *tls)
{
    struct osm__http_conn *conn = osm_alloc(sizeof *conn);
    struct osm_http *http = osm__http_listener_http(listener);
    if (!conn || osm__http_wire_init(&conn->wire, fd, tls)) {
        (void)close(fd);
        osm_free(conn);
        return;
    }
    if (uv_poll_init(osm_loop_uv(http->loop), &conn->poll, fd)) {
        osm__http_wire_close(&conn->wire, true);
        osm_free(conn);
        return;
    }
    conn->poll.data = conn;
    conn->feed = -1;
    osm__http_join(listener, conn);
    watch(conn);
}
