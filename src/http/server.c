/* libwebsockets on our loop: its context, and what it calls back. It reads and parses; answers are
 * written here, by a watcher of ours on the same socket. The two take turns: while a request is
 * being answered, its own watcher is stopped.
 *
 * Read against version 4.1, of Debian 12:
 *   - while a request is being answered it neither reads nor lets be what comes: the loop would
 * turn in vain. Its flow control, which is for that, stops writing too. Hence the two watchers;
 *   - a request with a body that comes behind another one, in one piece with it, makes it go round
 *     for ever: no body is ever let near it;
 *   - it limits every request to some seconds after its headers: that is taken away, the limits are
 *     our own;
 *   - an upgrade that it does not know is answered, and then offered to us with a pointer to what
 *     may be gone: not looked at;
 *   - a method that it does not know it answers itself, with 403; headers over the limit end the
 *     connection without an answer. */
#include "http/http_priv.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <libwebsockets.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

enum {
    CONTEXT_CONNECTIONS = 512, /* of all listeners; their own limits are far below */
    OURS_S = 24 * 3600,        /* limits of theirs that ours are to come before */
    CLOSE_ROUNDS = 4,
    DRAINS_MAX = 16,
};

/* --- requests --- */

static bool has(struct lws *wsi, enum lws_token_indexes header)
{
    return lws_hdr_total_length(wsi, header) > 0;
}

/* True where the header is there and says just this. */
static bool says(struct lws *wsi, enum lws_token_indexes header, const char *text)
{
    char value[32];
    return lws_hdr_copy(wsi, value, sizeof value, header) > 0 && !strcasecmp(value, text);
}

static bool has_body(struct lws *wsi)
{
    return has(wsi, WSI_TOKEN_HTTP_TRANSFER_ENCODING) ||
           (has(wsi, WSI_TOKEN_HTTP_CONTENT_LENGTH) &&
            !says(wsi, WSI_TOKEN_HTTP_CONTENT_LENGTH, "0"));
}

/* False where a page of elsewhere may have made a browser of this machine ask: by a name of its
 * own that it lets point here. */
static bool is_of_this_machine(struct lws *wsi)
{
    char host[128];
    int n = lws_hdr_copy(wsi, host, sizeof host, WSI_TOKEN_HOST);
    if (n <= 0)
        return !has(wsi, WSI_TOKEN_HOST);
    char *port = strrchr(host, ':');
    if (port && !strchr(port, ']'))
        *port = '\0';
    return !strcasecmp(host, "localhost") || !strcmp(host, "[::1]") ||
           (!strncmp(host, "127.", 4) && strspn(host, "0123456789.") == strlen(host));
}

/* 414 where it is too long. */
static int take_query(struct osm_http_request *r, struct lws *wsi)
{
    size_t used = 0;
    int fragment = 0, n;
    while ((n = lws_hdr_fragment_length(wsi, WSI_TOKEN_HTTP_URI_ARGS, fragment)) > 0) {
        if (r->parameters_len == OSM__HTTP_PARAMETERS || used + (size_t)n + 1 > sizeof r->query ||
            lws_hdr_copy_fragment(wsi, r->query + used, (int)(sizeof r->query - used),
                                  WSI_TOKEN_HTTP_URI_ARGS, fragment) < 0)
            return 414;
        r->parameters[r->parameters_len++] = r->query + used;
        used += strlen(r->query + used) + 1;
        fragment++;
    }
    return 0;
}

static const struct osm_http_route *find_route(const struct osm_http_route *routes,
                                               const char *path, size_t len)
{
    for (; routes->path; routes++)
        if (strlen(routes->path) == len && !memcmp(routes->path, path, len))
            return routes;
    return NULL;
}

/* NULL: another than ours. */
static const char *method_of(struct lws *wsi)
{
    char *path;
    int len;
    switch (lws_http_get_uri_and_method(wsi, &path, &len)) {
    case LWSHUMETH_GET:
        return "GET";
    case LWSHUMETH_HEAD:
        return "HEAD";
    default:
        return NULL;
    }
}

static int on_request(struct osm__http_conn *conn, const char *path, size_t len)
{
    struct lws *wsi = conn->wsi;
    const struct osm_http_listener *listener = conn->listener;
    struct osm_http_request *r = conn->request ? NULL : osm_alloc(sizeof *r);
    if (!r)
        return -1;
    lws_set_timeout(wsi, NO_PENDING_TIMEOUT, 0);
    (void)uv_poll_stop(conn->reader);
    r->conn = conn;
    r->out = (struct osm_buf)OSM_BUF_INIT(OSM__HTTP_BODY_MAX);
    r->routes = osm__http_listener_routes(listener);
    r->route = find_route(r->routes, path, len);
    r->method = method_of(wsi);
    r->head_only = !strcmp(r->method, "HEAD");
    r->http_1_0 = !says(wsi, WSI_TOKEN_HTTP, "HTTP/1.1");
    r->close = r->http_1_0 ? !says(wsi, WSI_TOKEN_CONNECTION, "keep-alive")
                           : says(wsi, WSI_TOKEN_CONNECTION, "close");
    r->started_ms = osm_now_ms();
    conn->request = r;

    if (osm__http_listener_is_guarded(listener) && !is_of_this_machine(wsi))
        osm_http_reply_text(r, 403,
                            "the Host is not of this machine: ask for 127.0.0.1 or localhost");
    else if (!r->route)
        osm_http_reply_text(r, 404, "no such path");
    else if (take_query(r, wsi))
        osm_http_reply_text(r, 414, "too many parameters, or too long ones");
    else
        r->route->handler(osm__http_listener_ud(listener), r);
    return 0;
}

/* --- the end of a connection --- */

static void writer_closed(uv_handle_t *handle)
{
    struct osm__http_conn *conn = handle->data;
    conn->writer_closed = true;
    if (conn->let_go)
        osm__http_leave(conn);
}

static void end_conn(struct osm__http_conn *conn)
{
    if (!conn->wsi)
        return;
    conn->wsi = NULL;
    if (conn->request)
        osm__http_end(conn->request);
    uv_close((uv_handle_t *)&conn->writer, writer_closed);
}

void osm__http_cut(struct osm__http_conn *conn)
{
    const struct linger now = {.l_onoff = 1, .l_linger = 0};
    struct lws *wsi = conn->wsi;
    if (!wsi)
        return;
    end_conn(conn);
    /* It would first wait for what the peer has not read: without a socket it does not. */
    (void)setsockopt(lws_get_socket_fd(wsi), SOL_SOCKET, SO_LINGER, &now, sizeof now);
    (void)shutdown(lws_get_socket_fd(wsi), SHUT_RDWR);
    lws_set_timeout(wsi, PENDING_TIMEOUT_USER_OK, LWS_TO_KILL_SYNC);
}

/* Whoever is told that a body is not wanted may have sent it: what is left unread would reset the
 * connection, and the answer with it. */
static void drain(int fd)
{
    char unread[4096];
    for (int i = 0; i < DRAINS_MAX && recv(fd, unread, sizeof unread, MSG_DONTWAIT) > 0; i++) {
    }
}

static void end(struct osm__http_conn *conn)
{
    struct lws *wsi = conn->wsi;
    drain(lws_get_socket_fd(wsi));
    end_conn(conn);
    lws_set_timeout(wsi, PENDING_TIMEOUT_USER_OK, LWS_TO_KILL_SYNC);
}

/* --- answers --- */

/* Answered whole: the next request, which may have come already. */
static void finish(struct osm__http_conn *conn)
{
    bool was_last = conn->request->close;
    (void)uv_poll_stop(&conn->writer);
    osm__http_end(conn->request);
    conn->since_ms = osm_now_ms();
    if (was_last || lws_http_transaction_completed(conn->wsi)) /* starts its watcher again */
        end(conn);
}

static void on_writable(uv_poll_t *writer, int status, int events)
{
    struct osm__http_conn *conn = writer->data;
    struct osm_http_request *r = conn->request;
    (void)events;
    int more = status ? OSM_EIO : osm__http_next(r);
    ssize_t n = more == 1 ? send(lws_get_socket_fd(conn->wsi), r->out.data + r->sent,
                                 r->out.len - r->sent, MSG_NOSIGNAL | MSG_DONTWAIT)
                          : 0;
    if (n > 0) {
        r->sent += (size_t)n;
        conn->since_ms = osm_now_ms();
    }
    if (more == 0)
        finish(conn);
    else if (more < 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
        osm__http_cut(conn);
}

void osm__http_wake(struct osm__http_conn *conn)
{
    if (conn->wsi)
        (void)uv_poll_start(&conn->writer, UV_WRITABLE, on_writable);
}

/* --- connections --- */

/* Answered and ended within this call: the library goes no further with such a request. */
static int refuse(const struct osm__http_conn *conn, int status, const char *reason,
                  const char *header)
{
    char text[256];
    int fd = lws_get_socket_fd(conn->wsi);
    int len = snprintf(text, sizeof text,
                       "HTTP/1.1 %d %s\r\n%sContent-Length: 0\r\nConnection: close\r\n\r\n", status,
                       reason, header);
    drain(fd);
    (void)send(fd, text, (size_t)len, MSG_NOSIGNAL | MSG_DONTWAIT);
    osm__http_count(status, "other", NULL, 0);
    return -1;
}

static int on_headers(const struct osm__http_conn *conn)
{
    if (!method_of(conn->wsi))
        return refuse(conn, 405, "Method Not Allowed", "Allow: GET, HEAD\r\n");
    return has_body(conn->wsi) ? refuse(conn, 413, "Content Too Large", "") : 0;
}

static int on_upgrade(const struct osm__http_conn *conn)
{
    /* Without the header it has been answered already. */
    return has(conn->wsi, WSI_TOKEN_UPGRADE) ? refuse(conn, 501, "Not Implemented", "") : -1;
}

static int on_event(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in,
                    size_t len)
{
    struct osm__http_conn *conn = lws_get_opaque_user_data(wsi);
    (void)user;
    if (!conn) /* of the library's own */
        return 0;
    if (reason == LWS_CALLBACK_WSI_DESTROY) {
        end_conn(conn);
        lws_set_opaque_user_data(wsi, NULL);
        conn->let_go = true;
        if (conn->writer_closed)
            osm__http_leave(conn);
        return 0;
    }
    if (!conn->wsi) /* it is being closed */
        return reason == LWS_CALLBACK_HTTP ? -1 : 0;
    switch (reason) {
    case LWS_CALLBACK_FILTER_HTTP_CONNECTION:
        return on_headers(conn);
    case LWS_CALLBACK_HTTP:
        return on_request(conn, in, len);
    case LWS_CALLBACK_HTTP_CONFIRM_UPGRADE:
        return on_upgrade(conn);
    case LWS_CALLBACK_RAW_ADOPT: /* CONNECT turns a connection into this */
    case LWS_CALLBACK_RAW_RX:
        return -1;
    case LWS_CALLBACK_CLOSED_HTTP:
        end_conn(conn);
        return 0;
    default:
        return 0;
    }
}

struct search {
    const struct osm__http_conn *conn;
    int fd;
    uv_poll_t *found;
};

static void look_at(uv_handle_t *handle, void *ud)
{
    struct search *search = ud;
    uv_os_fd_t fd;
    if (handle->type == UV_POLL && handle != (const uv_handle_t *)&search->conn->writer &&
        !uv_is_closing(handle) && !uv_fileno(handle, &fd) && fd == search->fd)
        search->found = (uv_poll_t *)handle;
}

/* The watcher that libwebsockets has made for the socket, which it keeps to itself. */
static uv_poll_t *find_reader(const struct osm__http_conn *conn)
{
    struct search search = {conn, lws_get_socket_fd(conn->wsi), NULL};
    uv_walk(osm_loop_uv(conn->http->loop), look_at, &search);
    OSM_REQUIRE(search.found);
    return search.found;
}

void osm__http_adopt(struct osm_http_listener *listener, int fd)
{
    struct osm__http_conn *conn = osm_alloc(sizeof *conn);
    struct osm_http *http = osm__http_listener_http(listener);
    if (!conn || uv_poll_init(osm_loop_uv(http->loop), &conn->writer, fd)) {
        (void)close(fd);
        osm_free(conn);
        return;
    }
    conn->writer.data = conn;
    osm__http_join(listener, conn);
    const lws_adopt_desc_t description = {
        .vh = http->vhost,
        .type = LWS_ADOPT_SOCKET | LWS_ADOPT_HTTP,
        .fd.sockfd = fd,
    };
    conn->wsi = lws_adopt_descriptor_vhost_via_info(&description);
    if (conn->wsi) {
        lws_set_opaque_user_data(conn->wsi, conn);
        conn->reader = find_reader(conn);
    } else {
        conn->let_go = true;
        uv_close((uv_handle_t *)&conn->writer, writer_closed);
    }
}

/* --- life --- */

static void on_log(int level, const char *line)
{
    char text[256]; /* without its newline */
    (void)level;    /* what a peer says wrong is an error to it */
    (void)snprintf(text, sizeof text, "%.*s", (int)strcspn(line, "\n"), line);
    osm_log(OSM_LOG_HTTP, OSM_LOG_DEBUG, "libwebsockets", OSM_S("text", text));
}

int osm__http_run(struct osm_http *http, struct osm_err *err)
{
    static const struct lws_protocols protocols[] = {
        {.name = "http", .callback = on_event, .per_session_data_size = 1},
        {.name = NULL},
    };
    void *loops[] = {osm_loop_uv(http->loop)};
    const struct lws_context_creation_info info = {
        .port = CONTEXT_PORT_NO_LISTEN_SERVER,
        .options = LWS_SERVER_OPTION_LIBUV | LWS_SERVER_OPTION_EXPLICIT_VHOSTS |
                   LWS_SERVER_OPTION_SKIP_SERVER_CANONICAL_NAME |
                   LWS_SERVER_OPTION_UV_NO_SIGSEGV_SIGFPE_SPIN,
        .foreign_loops = loops,
        .protocols = protocols,
        .vhost_name = "osm",
        .fd_limit_per_thread = CONTEXT_CONNECTIONS,
        .max_http_header_data = OSM__HTTP_HEADERS_MAX,
        .max_http_header_pool = CONTEXT_CONNECTIONS,
        .keepalive_timeout = OURS_S,
        .timeout_secs_ah_idle = OURS_S,
    };
    if (http->context)
        return 0;
    lws_set_log_level(LLL_ERR | LLL_WARN, on_log);
    http->context = lws_create_context(&info);
    if (http->context)
        http->vhost = lws_create_vhost(http->context, &info);
    if (!http->vhost)
        return osm_fail(err, OSM_ENOTSUP,
                        "libwebsockets does not run on the event loop: is its libuv plugin "
                        "installed (libwebsockets-evlib-uv)?");
    return 0;
}

/* libwebsockets sees its handles closed before it can be freed: those of connections in this turn
 * of the loop, those of its own in the next. */
struct closing {
    uv_idle_t handle;
    struct osm_http *http;
    int rounds;
    osm_task_fn *done;
    void *ud;
};

static void on_round(uv_handle_t *handle);

static void next_round(struct closing *closing)
{
    closing->handle.data = closing;
    (void)uv_idle_init(osm_loop_uv(closing->http->loop), &closing->handle);
    uv_close((uv_handle_t *)&closing->handle, on_round);
}

static void on_round(uv_handle_t *handle)
{
    struct closing *closing = handle->data;
    struct osm_http *http = closing->http;
    if (++closing->rounds < CLOSE_ROUNDS) {
        next_round(closing);
        return;
    }
    if (http->context)
        lws_context_destroy(http->context);
    OSM_CHECK(!http->conns);
    osm_free(http);
    closing->done(closing->ud);
    osm_free(closing);
}

void osm_http_stop(struct osm_http *http, osm_task_fn *done, void *ud)
{
    while (http->listeners)
        osm_http_close(http->listeners);
    osm_timer_free(http->sweep);
    if (http->context)
        lws_context_destroy(http->context);
    http->closing->http = http;
    http->closing->done = done;
    http->closing->ud = ud;
    next_round(http->closing);
}

int osm_http_new(struct osm_http **out, struct osm_loop *loop, struct osm_err *err)
{
    struct osm_http *http = osm_alloc(sizeof *http);
    struct closing *closing = osm_alloc(sizeof *closing);
    struct osm_timer *sweep = osm_timer_new(loop, osm__http_sweep, http);
    if (!http || !closing || !sweep) {
        osm_timer_free(sweep);
        osm_free(closing);
        osm_free(http);
        return osm_fail(err, OSM_ENOMEM, "HTTP server");
    }
    *http = (struct osm_http){.loop = loop, .sweep = sweep, .closing = closing};
    *out = http;
    return 0;
}
