/* libwebsockets on our loop, as the parser of heads: for each one there is a pair of sockets, of
 * which the library holds the far end. It is shown a head that head.c has found sound, all of it,
 * and it never sees a body, TLS or an answer: the peer's own socket is conn.c's.
 *
 * Read against version 4.1, of Debian 12:
 *   - a request with a body that comes behind another one, in one piece with it, makes it go round
 *     for ever, and of chunks it knows nothing: no body is ever let near it;
 *   - of a POST it awaits a body itself, and methods that it does not know it answers: it is shown
 *     a GET each time;
 *   - behind some headers that it does not know ("st: a") it does not see the end: it is shown no
 *     headers but those that it is asked for;
 *   - an escaped line end ends a line to it: head.c lets none by;
 *   - it limits every request to some seconds after its head: that is taken away, the limits are
 *     our own;
 *   - what it does not take it answers to its own end of the pair, or says nothing: the peer hears
 *     400 instead. */
#include "http/http_priv.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <libwebsockets.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

enum {
    CONTEXT_CONNECTIONS = 2048, /* of all listeners, while their heads are read */
    OURS_S = 24 * 3600,         /* limits of theirs that ours are to come before */
    CLOSE_ROUNDS = 4,
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

static int on_request(struct osm__http_conn *conn, const char *path, size_t len)
{
    struct lws *wsi = conn->wsi;
    struct osm_http_request *r = conn->request;
    if (conn->stage != OSM__HTTP_PARSER)
        return -1;
    lws_set_timeout(wsi, NO_PENDING_TIMEOUT, 0);
    r->route = find_route(r->routes, path, len);
    r->close = r->http_1_0 ? !says(wsi, WSI_TOKEN_CONNECTION, "keep-alive")
                           : says(wsi, WSI_TOKEN_CONNECTION, "close");
    if (osm__http_listener_is_guarded(conn->listener) && !is_of_this_machine(wsi))
        osm__http_refuse(r, 403, "the Host is not of this machine: ask for 127.0.0.1 or localhost");
    else if (take_query(r, wsi))
        osm__http_refuse(r, 414, "too many parameters, or too long ones");
    else
        osm__http_parsed(conn);
    return 0;
}

/* By the library's own will, or by ours, which conn is no more told of then. */
static void on_gone(struct osm__http_conn *conn)
{
    conn->wsi = NULL;
    (void)close(conn->feed);
    conn->feed = -1;
    if (conn->stage != OSM__HTTP_PARSER)
        return;
    conn->request->close = true;
    osm__http_refuse(conn->request, 400, "the request cannot be taken");
}

static int on_event(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in,
                    size_t len)
{
    struct osm__http_conn *conn = lws_get_opaque_user_data(wsi);
    (void)user;
    if (!conn) /* of the library's own, or let go of */
        return reason == LWS_CALLBACK_HTTP ? -1 : 0;
    switch (reason) {
    case LWS_CALLBACK_HTTP:
        return on_request(conn, in, len);
    case LWS_CALLBACK_HTTP_CONFIRM_UPGRADE:
    case LWS_CALLBACK_RAW_ADOPT:
    case LWS_CALLBACK_RAW_RX:
        return -1;
    case LWS_CALLBACK_WSI_DESTROY:
        lws_set_opaque_user_data(wsi, NULL);
        on_gone(conn);
        return 0;
    default:
        return 0;
    }
}

/* --- its end of the pair --- */

static int open_pair(struct osm__http_conn *conn)
{
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends))
        return OSM_EIO;
    const lws_adopt_desc_t description = {
        .vh = conn->http->vhost,
        .type = LWS_ADOPT_SOCKET | LWS_ADOPT_HTTP,
        .fd.sockfd = ends[1],
    };
    conn->wsi = lws_adopt_descriptor_vhost_via_info(&description); /* takes its end in any case */
    if (!conn->wsi) {
        (void)close(ends[0]);
        return OSM_EIO;
    }
    lws_set_opaque_user_data(conn->wsi, conn);
    conn->feed = ends[0];
    return 0;
}

int osm__http_parse(struct osm__http_conn *conn, const char *shown, size_t len)
{
    int rc = open_pair(conn);
    if (rc)
        return rc;
    return send(conn->feed, shown, len, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)len ? 0 : OSM_EIO;
}

bool osm__http_parse_waits(const struct osm__http_conn *conn)
{
    int unread = 0;
    return !ioctl(lws_get_socket_fd(conn->wsi), FIONREAD, &unread) && unread > 0;
}

void osm__http_parse_stop(struct osm__http_conn *conn)
{
    struct lws *wsi = conn->wsi;
    if (!wsi)
        return;
    conn->wsi = NULL;
    lws_set_opaque_user_data(wsi, NULL);
    /* It would first wait for what is not read: without a socket it does not. */
    (void)shutdown(lws_get_socket_fd(wsi), SHUT_RDWR);
    lws_set_timeout(wsi, PENDING_TIMEOUT_USER_OK, LWS_TO_KILL_SYNC);
    (void)close(conn->feed);
    conn->feed = -1;
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
        .max_http_header_data = OSM__HTTP_SHOWN_MAX,
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
