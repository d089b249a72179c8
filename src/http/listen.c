/* Listening sockets, who may connect, and how long they may take. */
#include "http/http_priv.h"

#include "base/clock.h"
#include "base/log.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

enum { BACKLOG = 128, ACCEPTS_PER_TURN = 16, SWEEP_MS = 1000, ADDRESS_SIZE = 96 };

enum { LINGERS_MS = 2000, LINGERS_MAX_MS = 15000 };

static const struct osm_http_limits DEFAULTS = {
    .connections = 64,
    .idle_ms = (uint64_t)75 * 1000,
    .stalled_ms = (uint64_t)15 * 1000,
    .answer_ms = (uint64_t)300 * 1000,
    .bodies = (size_t)64 * 1024 * 1024,
};

struct osm_http_listener {
    struct osm_http_listener *next, **prev;
    struct osm_http *http;
    const struct osm_http_route *routes;
    void *ud;
    bool guarded, closed, poll_closed;
    bool paused; /* there are no file descriptors left: the sweep tries again */
    struct osm_http_limits limits;
    char address[ADDRESS_SIZE];
    int fd;
    uv_poll_t poll;
    struct osm__http_conn *conns;
    size_t conns_len;
    size_t requests_len, bodies_len; /* those that handlers have still, too */
    struct ssl_ctx_st *tls;          /* NULL: plain */
};

const struct osm_http_route *osm__http_listener_routes(const struct osm_http_listener *l)
{
    return l->routes;
}

void *osm__http_listener_ud(const struct osm_http_listener *l)
{
    return l->ud;
}

bool osm__http_listener_is_guarded(const struct osm_http_listener *l)
{
    return l->guarded;
}

struct osm_http *osm__http_listener_http(const struct osm_http_listener *l)
{
    return l->http;
}

const char *osm_http_address(const struct osm_http_listener *l)
{
    return l->address;
}

static void free_if_done(struct osm_http_listener *l)
{
    if (!l->closed || !l->poll_closed || l->conns || l->requests_len)
        return;
    osm__http_tls_free(l->tls);
    osm_free(l);
}

void osm__http_hold(struct osm_http_listener *l)
{
    l->requests_len++;
}

void osm__http_let_go(struct osm_http_listener *l, size_t body_len)
{
    l->requests_len--;
    l->bodies_len -= body_len;
    free_if_done(l);
}

bool osm__http_grown(struct osm_http_listener *l, size_t len)
{
    l->bodies_len += len;
    return l->bodies_len <= l->limits.bodies;
}

/* --- connections --- */

void osm__http_join(struct osm_http_listener *l, struct osm__http_conn *conn)
{
    conn->listener = l;
    conn->http = l->http;
    conn->since_ms = osm_now_ms();
    conn->next = l->conns;
    conn->prev = &l->conns;
    if (conn->next)
        conn->next->prev = &conn->next;
    l->conns = conn;
    l->conns_len++;
    if (!l->http->conns++)
        osm_timer_start(l->http->sweep, SWEEP_MS, SWEEP_MS);
}

void osm__http_leave(struct osm__http_conn *conn)
{
    struct osm_http_listener *l = conn->listener;
    *conn->prev = conn->next;
    if (conn->next)
        conn->next->prev = conn->prev;
    l->conns_len--;
    conn->http->conns--;
    osm_free(conn);
    free_if_done(l);
}

/* Who has all been told, and who says nothing, goes before who sends a body; 0: stays. */
static int dispensable(const struct osm__http_conn *conn)
{
    if (conn->ended)
        return 0;
    switch (conn->stage) {
    case OSM__HTTP_LINGER:
        return 3;
    case OSM__HTTP_HEAD:
        return 2;
    case OSM__HTTP_BODY:
        return 1;
    default:
        return 0;
    }
}

/* The one that waits for its next request for longest; NULL: all are being answered. */
static struct osm__http_conn *most_idle(const struct osm_http_listener *l)
{
    struct osm__http_conn *found = NULL;
    for (struct osm__http_conn *conn = l->conns; conn; conn = conn->next) {
        int than = found ? dispensable(found) : 0, so = dispensable(conn);
        if (so > than || (so && so == than && conn->since_ms <= found->since_ms))
            found = conn;
    }
    return found;
}

static bool is_late(const struct osm__http_conn *conn, uint64_t now_ms)
{
    const struct osm_http_limits *limits = &conn->listener->limits;
    const struct osm_http_request *r = conn->request;
    switch (conn->stage) {
    case OSM__HTTP_HEAD:
        return now_ms - conn->since_ms >= limits->idle_ms;
    case OSM__HTTP_BODY:
        return now_ms - conn->moved_ms >= limits->stalled_ms ||
               now_ms - r->started_ms >= limits->idle_ms;
    case OSM__HTTP_LINGER:
        return now_ms - conn->moved_ms >= LINGERS_MS || now_ms - conn->since_ms >= LINGERS_MAX_MS;
    case OSM__HTTP_PARSER:
    case OSM__HTTP_READY:
        return now_ms - r->started_ms >= limits->idle_ms;
    case OSM__HTTP_ANSWER:
        break;
    }
    return r->status && (now_ms - conn->since_ms >= limits->stalled_ms ||
                         now_ms - r->answered_ms >= limits->answer_ms);
}

static void start_polling(struct osm_http_listener *l);

void osm__http_sweep(void *ud)
{
    struct osm_http *http = ud;
    uint64_t now_ms = osm_now_ms();
    for (struct osm_http_listener *l = http->listeners; l; l = l->next) {
        for (struct osm__http_conn *conn = l->conns, *next; conn; conn = next) {
            next = conn->next;
            if (conn->ended || !is_late(conn, now_ms))
                continue;
            bool answers = conn->stage == OSM__HTTP_ANSWER;
            osm_log(OSM_LOG_HTTP, answers ? OSM_LOG_WARN : OSM_LOG_DEBUG,
                    answers ? "answer not read in time, connection cut"
                            : "no whole request in time, connection closed",
                    OSM_S("address", l->address));
            osm__http_cut(conn);
        }
        if (l->paused)
            start_polling(l);
    }
    if (!http->conns)
        osm_timer_stop(http->sweep);
}

/* --- sockets --- */

static void take(struct osm_http_listener *l, int fd)
{
    int yes = 1;
    if (l->conns_len >= l->limits.connections) {
        struct osm__http_conn *idle = most_idle(l);
        if (!idle) {
            osm_log(OSM_LOG_HTTP, OSM_LOG_WARN, "connection refused: too many are being answered",
                    OSM_S("address", l->address), OSM_U("connections", l->conns_len));
            (void)close(fd);
            return;
        }
        osm__http_cut(idle);
    }
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    osm__http_adopt(l, fd, l->tls);
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
    struct osm_http_listener *l = poll->data;
    (void)events;
    for (int i = 0; !status && i < ACCEPTS_PER_TURN; i++) {
        int fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            take(l, fd);
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            osm_log(OSM_LOG_HTTP, OSM_LOG_WARN, "no connection accepted, trying again",
                    OSM_S("address", l->address), OSM_S("error", strerror(errno)));
            l->paused = true; /* it stays readable: without this the loop would turn in vain */
            (void)uv_poll_stop(&l->poll);
            osm_timer_start(l->http->sweep, SWEEP_MS, SWEEP_MS);
            return;
        } else if (errno != EINTR && errno != ECONNABORTED) {
            return;
        }
    }
}

static void start_polling(struct osm_http_listener *l)
{
    l->paused = false;
    (void)uv_poll_start(&l->poll, UV_READABLE, on_readable);
}

static bool is_loopback(const struct sockaddr *address)
{
    if (address->sa_family == AF_INET)
        return ntohl(((const struct sockaddr_in *)(const void *)address)->sin_addr.s_addr) >> 24 ==
               127;
    return IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)(const void *)address)->sin6_addr);
}

/* "127.0.0.1:9091" or "[::1]:9091". */
static int parse_address(const char *text, const char *flag, struct addrinfo **out,
                         struct osm_err *err)
{
    const struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE,
                                   .ai_socktype = SOCK_STREAM};
    char host[ADDRESS_SIZE];
    const char *colon = strrchr(text, ':');
    size_t n = colon ? (size_t)(colon - text) : 0;
    bool bracketed = n > 2 && text[0] == '[' && text[n - 1] == ']';
    if (n && n < sizeof host && colon[1]) {
        memcpy(host, text + bracketed, n - 2 * (size_t)bracketed);
        host[n - 2 * (size_t)bracketed] = '\0';
        if (bracketed == (strchr(host, ':') != NULL) &&
            strspn(colon + 1, "0123456789") == strlen(colon + 1) &&
            strtoul(colon + 1, NULL, 10) <= 65535 && !getaddrinfo(host, colon + 1, &hints, out))
            return 0;
    }
    return osm_fail(err, OSM_EINVAL,
                    "%s %s: expected ADDRESS:PORT, such as 127.0.0.1:9091 or [::]:9091", flag,
                    text);
}

static int bind_socket(int fd, const struct addrinfo *address)
{
    int yes = 1, no = 0;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (address->ai_family == AF_INET6)
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof no);
    return bind(fd, address->ai_addr, address->ai_addrlen) || listen(fd, BACKLOG);
}

static void name_socket(struct osm_http_listener *l)
{
    struct sockaddr_storage bound;
    socklen_t len = sizeof bound;
    char host[INET6_ADDRSTRLEN], port[8];
    if (getsockname(l->fd, (struct sockaddr *)&bound, &len) ||
        getnameinfo((struct sockaddr *)&bound, len, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV))
        return; /* as it was asked for */
    (void)snprintf(l->address, sizeof l->address, strchr(host, ':') ? "[%s]:%s" : "%s:%s", host,
                   port);
}

static int open_socket(struct osm_http_listener *l, const struct osm_http_listen *config,
                       struct osm_err *err)
{
    struct addrinfo *address;
    int rc = parse_address(config->address, config->flag, &address, err);
    if (rc)
        return rc;
    if (config->loopback_only && !is_loopback(address->ai_addr)) {
        freeaddrinfo(address);
        return osm_fail(err, OSM_EACCES,
                        "%s %s: only an address of the loopback is allowed, such as "
                        "127.0.0.1:9092; reach it by kubectl port-forward or ssh -L",
                        config->flag, config->address);
    }
    l->fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (l->fd < 0 || bind_socket(l->fd, address)) {
        rc = osm_fail(err, OSM_EIO, "cannot listen on %s: %s; choose another with %s",
                      config->address, strerror(errno), config->flag);
        if (l->fd >= 0)
            (void)close(l->fd);
    } else {
        name_socket(l);
    }
    freeaddrinfo(address);
    return rc;
}

static struct osm_http_limits limits_of(const struct osm_http_limits *asked)
{
    return (struct osm_http_limits){
        asked->connections ? asked->connections : DEFAULTS.connections,
        asked->idle_ms ? asked->idle_ms : DEFAULTS.idle_ms,
        asked->stalled_ms ? asked->stalled_ms : DEFAULTS.stalled_ms,
        asked->answer_ms ? asked->answer_ms : DEFAULTS.answer_ms,
        asked->bodies ? asked->bodies : DEFAULTS.bodies,
    };
}

int osm_http_listen(struct osm_http_listener **out, struct osm_http *http,
                    const struct osm_http_listen *config, struct osm_err *err)
{
    int rc = osm__http_run(http, err);
    if (rc)
        return rc;
    struct osm_http_listener *l = osm_alloc(sizeof *l);
    if (!l)
        return osm_fail(err, OSM_ENOMEM, "out of memory");
    l->http = http;
    l->routes = config->routes;
    l->ud = config->ud;
    l->guarded = config->loopback_only;
    l->limits = limits_of(&config->limits);
    (void)snprintf(l->address, sizeof l->address, "%s", config->address);
    if (config->tls_chain_pem || config->tls_key_pem)
        rc = osm__http_tls_new(&l->tls, config->tls_chain_pem, config->tls_key_pem, err);
    if (!rc)
        rc = open_socket(l, config, err);
    if (rc) {
        osm__http_tls_free(l->tls);
        osm_free(l);
        return rc;
    }
    l->poll.data = l;
    (void)uv_poll_init(osm_loop_uv(http->loop), &l->poll, l->fd);
    l->next = http->listeners;
    l->prev = &http->listeners;
    if (l->next)
        l->next->prev = &l->next;
    http->listeners = l;
    start_polling(l);
    *out = l;
    return 0;
}

int osm_http_set_tls(struct osm_http_listener *l, const char *chain_pem, const char *key_pem,
                     struct osm_err *err)
{
    struct ssl_ctx_st *tls;
    if (!l->tls)
        return osm_fail(err, OSM_EINVAL, "TLS: %s speaks without", l->address);
    int rc = osm__http_tls_new(&tls, chain_pem, key_pem, err);
    if (rc)
        return rc;
    osm__http_tls_free(l->tls); /* connections have a reference each */
    l->tls = tls;
    return 0;
}

static void poll_closed(uv_handle_t *handle)
{
    struct osm_http_listener *l = handle->data;
    (void)close(l->fd);
    l->poll_closed = true;
    free_if_done(l);
}

void osm_http_close(struct osm_http_listener *l)
{
    if (!l)
        return;
    *l->prev = l->next;
    if (l->next)
        l->next->prev = l->prev;
    l->closed = true;
    for (struct osm__http_conn *conn = l->conns; conn; conn = conn->next)
        osm__http_cut(conn);
    uv_close((uv_handle_t *)&l->poll, poll_closed);
}
