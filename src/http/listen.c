/* Listeners: who may connect, how long they may take, and who gives way to whom. */
#include "http/http_priv.h"

#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

enum { ACCEPTS_PER_TURN = 16, SWEEP_MS = 1000 };

enum {
    LINGERS_MS = 2000,
    LINGERS_MAX_MS = 15000,
    PATIENCE_MS = 2000, /* with who has only just come, or begun to ask, where a place is wanted */
    SLOW_MS = 1000,     /* a body under way for so long gives way to others */
    PARTING_MS = 1000,  /* for whoever is asking when the listener drains */
};

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
    bool crowded;  /* somebody waits: no place is free, or no file descriptor */
    bool paused;   /* and is not looked at, until one is free, or the next sweep */
    bool draining; /* since drained_ms; `last` is open */
    bool ending;   /* `last` closes */
    uint64_t drained_ms;
    uv_idle_t last; /* never runs: its close callback calls done */
    osm_task_fn *done;
    void *done_ud;
    struct osm_http_limits limits;
    char address[OSM__HTTP_ADDRESS_SIZE];
    int fd;
    uv_poll_t poll;
    struct osm__http_conn *conns;
    size_t places_len;               /* connections that have not ended */
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

bool osm__http_listener_is_draining(const struct osm_http_listener *l)
{
    return l->draining;
}

bool osm__http_listener_keeps(const struct osm_http_listener *l)
{
    return !l->draining && !l->crowded;
}

static void end_drain(struct osm_http_listener *l);

static void free_if_done(struct osm_http_listener *l)
{
    if (l->ending || !l->poll_closed || l->conns || l->requests_len)
        return;
    if (l->draining) {
        end_drain(l);
    } else if (l->closed) {
        osm__http_tls_free(l->tls);
        osm_free(l);
    }
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

/* --- bodies --- */

void osm__http_drop_body(struct osm_http_request *r)
{
    r->listener->bodies_len -= r->body.len;
    osm_buf_clear(&r->body);
}

static bool is_slow(const struct osm_http_request *r, uint64_t now_ms)
{
    return now_ms - r->started_ms >= SLOW_MS;
}

static bool yields_before(const struct osm_http_request *a, const struct osm_http_request *b,
                          uint64_t now_ms)
{
    if (is_slow(a, now_ms) != is_slow(b, now_ms))
        return is_slow(a, now_ms);
    return is_slow(a, now_ms) ? a->started_ms < b->started_ms : a->body.len > b->body.len;
}

/* Of those that are not whole yet: the slowest one; where none is slow, the largest. */
static struct osm_http_request *most_burdening(const struct osm_http_listener *l, uint64_t now_ms)
{
    struct osm_http_request *found = NULL;
    for (struct osm__http_conn *conn = l->conns; conn; conn = conn->next) {
        if (conn->ended || conn->stage != OSM__HTTP_BODY || !conn->request->body.len)
            continue;
        if (!found || yields_before(conn->request, found, now_ms))
            found = conn->request;
    }
    return found;
}

bool osm__http_grown(struct osm_http_request *r, size_t len)
{
    struct osm_http_listener *l = r->listener;
    uint64_t now_ms = osm_now_ms();
    l->bodies_len += len;
    while (!r->status && l->bodies_len > l->limits.bodies) {
        struct osm_http_request *yields = most_burdening(l, now_ms);
        if (is_slow(yields, now_ms))
            osm__http_refuse(yields, 408, "the body is too slow, and others need its place");
        else
            osm__http_refuse(yields, 503, "too many bodies at once");
    }
    return !r->status;
}

/* --- connections --- */

void osm__http_join(struct osm_http_listener *l, struct osm__http_conn *conn)
{
    conn->listener = l;
    conn->http = l->http;
    conn->came_ms = conn->since_ms = osm_now_ms();
    conn->next = l->conns;
    conn->prev = &l->conns;
    if (conn->next)
        conn->next->prev = &conn->next;
    l->conns = conn;
    l->places_len++;
    if (!l->http->conns++)
        osm_timer_start(l->http->sweep, SWEEP_MS, SWEEP_MS);
}

static void start_polling(struct osm_http_listener *l);

void osm__http_room(struct osm_http_listener *l)
{
    if (l->paused && !l->closed && !l->draining)
        start_polling(l);
}

void osm__http_depart(struct osm__http_conn *conn)
{
    conn->listener->places_len--;
    osm__http_room(conn->listener);
}

void osm__http_leave(struct osm__http_conn *conn)
{
    struct osm_http_listener *l = conn->listener;
    *conn->prev = conn->next;
    if (conn->next)
        conn->next->prev = conn->prev;
    conn->http->conns--;
    osm_free(conn);
    free_if_done(l);
}

/* Of a kept connection: a request has begun to come. */
static bool is_asked(const struct osm__http_conn *conn)
{
    return conn->in_len || osm__http_wire_unread(&conn->wire);
}

enum { STAYS, ASKS, IDLES, STRANGER, TOLD };

/* Who goes first: who has all been told; who has never asked anything whole; who is kept, and asks
 * nothing now; at last, who is kept and does not come to the end of what it asks. */
static int dispensable(const struct osm__http_conn *conn)
{
    if (conn->ended || conn->stage == OSM__HTTP_ANSWER)
        return STAYS;
    if (conn->stage == OSM__HTTP_LINGER)
        return TOLD;
    if (!conn->served)
        return STRANGER;
    if (conn->stage != OSM__HTTP_HEAD || conn->in_len)
        return ASKS;
    if (osm__http_wire_readable(&conn->wire))
        return STAYS; /* the loop has not come to it yet */
    return osm__http_wire_holds(&conn->wire) ? ASKS : IDLES;
}

static uint64_t waits_since(const struct osm__http_conn *conn, int rank)
{
    if (rank == STRANGER)
        return conn->came_ms;
    if (rank == ASKS)
        return conn->request  ? conn->request->started_ms
               : conn->in_len ? conn->begun_ms
                              : conn->since_ms;
    return conn->since_ms;
}

/* In a burst all have only just come, and cutting one would gain nothing; nor is it the peer that
 * is slow while something of it waits to be read. */
static bool has_had_time(const struct osm__http_conn *conn, int rank, uint64_t now_ms)
{
    uint64_t so_far_ms = now_ms - waits_since(conn, rank);
    if (rank == TOLD || rank == IDLES)
        return true;
    return so_far_ms >= 3 * (uint64_t)PATIENCE_MS ||
           (so_far_ms >= PATIENCE_MS && !osm__http_wire_unread(&conn->wire));
}

/* Who gives its place to another; NULL: nobody now, which may be for one who has not had its time,
 * and goes before all others then. */
static struct osm__http_conn *most_dispensable(const struct osm_http_listener *l)
{
    struct osm__http_conn *found = NULL;
    int rank = STAYS;
    uint64_t now_ms = osm_now_ms();
    for (struct osm__http_conn *conn = l->conns; conn; conn = conn->next) {
        int is = dispensable(conn);
        if (!is || is < rank)
            continue;
        if (!has_had_time(conn, is, now_ms))
            found = is > rank ? NULL : found;
        else if (is > rank || !found || waits_since(conn, is) <= waits_since(found, is))
            found = conn;
        rank = is;
    }
    return found;
}

/* Its listener drains. */
static bool has_parted(const struct osm__http_conn *conn, uint64_t now_ms)
{
    uint64_t drained_ms = conn->listener->drained_ms;
    switch (conn->stage) {
    case OSM__HTTP_HEAD:
        if (conn->served && !is_asked(conn))
            return true;
        return now_ms - (conn->served ? drained_ms : conn->came_ms) >= PARTING_MS;
    case OSM__HTTP_PARSER:
    case OSM__HTTP_READY:
    case OSM__HTTP_BODY:
        return now_ms - drained_ms >= PARTING_MS;
    case OSM__HTTP_LINGER:
        return now_ms - conn->since_ms >= PARTING_MS;
    case OSM__HTTP_ANSWER:
        break;
    }
    return false;
}

/* What comes on a kept connection in its last moment is waited for, but not for ever. */
static bool idles_too_long(const struct osm__http_conn *conn, uint64_t now_ms)
{
    uint64_t idle_ms = conn->listener->limits.idle_ms, so_far_ms = now_ms - conn->since_ms;
    bool is_spared = conn->served && osm__http_wire_unread(&conn->wire);
    return so_far_ms >= idle_ms + (is_spared ? 2 * SWEEP_MS : 0);
}

static bool is_late(const struct osm__http_conn *conn, uint64_t now_ms)
{
    const struct osm_http_limits *limits = &conn->listener->limits;
    const struct osm_http_request *r = conn->request;
    switch (conn->stage) {
    case OSM__HTTP_HEAD:
        return idles_too_long(conn, now_ms);
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

/* Of a peer that was served: it may be asking just now, and must not take the end for a failure. */
static void dismiss(struct osm__http_conn *conn)
{
    if (conn->served && conn->stage == OSM__HTTP_HEAD)
        osm__http_part(conn);
    else
        osm__http_cut(conn);
}

static void sweep(struct osm_http_listener *l)
{
    uint64_t now_ms = osm_now_ms();
    for (struct osm__http_conn *conn = l->conns; conn; conn = conn->next) {
        bool is_over = !conn->ended && l->draining && has_parted(conn, now_ms);
        if (conn->ended || (!is_over && !is_late(conn, now_ms)))
            continue;
        bool answers = conn->stage == OSM__HTTP_ANSWER;
        osm_log(OSM_LOG_HTTP, answers ? OSM_LOG_WARN : OSM_LOG_DEBUG,
                answers   ? "answer not read in time, connection cut"
                : is_over ? "no whole request before the end, connection closed"
                          : "no whole request in time, connection closed",
                OSM_S("address", l->address));
        dismiss(conn);
    }
}

void osm__http_sweep(void *ud)
{
    struct osm_http *http = ud;
    for (struct osm_http_listener *l = http->listeners; l; l = l->next) {
        sweep(l);
        osm__http_room(l);
    }
    if (!http->conns)
        osm_timer_stop(http->sweep);
}

/* --- sockets --- */

/* The rest waits in the kernel's queue; it stays readable, and the loop would turn in vain. */
static void pause_polling(struct osm_http_listener *l, const char *why)
{
    if (!l->crowded)
        osm_log(OSM_LOG_HTTP, OSM_LOG_WARN, "new connections wait", OSM_S("address", l->address),
                OSM_S("why", why), OSM_U("connections", l->places_len));
    l->crowded = l->paused = true;
    (void)uv_poll_stop(&l->poll);
    if (!l->http->conns) /* otherwise it runs, and must not be put off */
        osm_timer_start(l->http->sweep, SWEEP_MS, SWEEP_MS);
}

static bool is_full(const struct osm_http_listener *l)
{
    return l->places_len >= l->limits.connections;
}

/* One waits: false, nobody gives way to it. */
static bool make_place(const struct osm_http_listener *l)
{
    struct osm__http_conn *yields = most_dispensable(l);
    if (yields)
        dismiss(yields);
    return yields != NULL;
}

/* False: nothing more comes in this turn. */
static bool take(struct osm_http_listener *l)
{
    int yes = 1, fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) {
        l->crowded = false;
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        osm__http_adopt(l, fd, l->tls);
        return true;
    }
    int why = errno;
    bool is_out = why == EMFILE || why == ENFILE || why == ENOBUFS || why == ENOMEM;
    if (is_out && !make_place(l))
        pause_polling(l, strerror(why));
    return why == EINTR || why == ECONNABORTED;
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
    struct osm_http_listener *l = poll->data;
    bool goes_on = !status;
    (void)events;
    if (goes_on && is_full(l) && !make_place(l)) {
        pause_polling(l, "no place is free");
        return;
    }
    for (int i = 0; goes_on && i < ACCEPTS_PER_TURN && !is_full(l); i++)
        goes_on = take(l);
}

static void start_polling(struct osm_http_listener *l)
{
    l->paused = false;
    (void)uv_poll_start(&l->poll, UV_READABLE, on_readable);
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
    if (config->tls_chain_pem || config->tls_key_pem)
        rc = osm__http_tls_new(&l->tls, config->tls_chain_pem, config->tls_key_pem, err);
    if (!rc)
        rc = osm__http_socket_open(&l->fd, l->address, config, err);
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

/* --- the end --- */

static void take_out(struct osm_http_listener *l)
{
    *l->prev = l->next;
    if (l->next)
        l->next->prev = l->prev;
    l->closed = true;
}

static void last_closed(uv_handle_t *handle)
{
    struct osm_http_listener *l = handle->data;
    osm_task_fn *done = l->done;
    void *ud = l->done_ud;
    l->ending = false;
    free_if_done(l);
    done(ud);
}

static void end_drain(struct osm_http_listener *l)
{
    take_out(l);
    l->draining = false;
    l->ending = true;
    uv_close((uv_handle_t *)&l->last, last_closed);
}

void osm_http_drain(struct osm_http_listener *l, osm_task_fn *done, void *ud)
{
    l->draining = true;
    l->drained_ms = osm_now_ms();
    l->done = done;
    l->done_ud = ud;
    l->last.data = l;
    (void)uv_idle_init(osm_loop_uv(l->http->loop), &l->last);
    uv_close((uv_handle_t *)&l->poll, poll_closed);
    sweep(l);
}

void osm_http_close(struct osm_http_listener *l)
{
    if (!l || l->closed)
        return;
    if (l->draining) {
        end_drain(l);
    } else {
        take_out(l);
        uv_close((uv_handle_t *)&l->poll, poll_closed);
    }
    for (struct osm__http_conn *conn = l->conns; conn; conn = conn->next)
        osm__http_cut(conn);
}
