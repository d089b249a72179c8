#include "healthcheck/healthcheck.h"

#include "base/log.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

enum {
    CONNECT_MS = 30 * 1000,
    LOOK_MS = 250, /* at whether the asker still waits */
    PORT_CHECKS =
        4, /* that wait for one port: its liveness and its readiness, and one each before */
    FRESH_MS = 1000, /* what a probe waits for at least */
};

struct osm__check {
    struct osm__check *next, **prev;
    struct osm_http_request *request; /* NULL: answered */
    uint16_t port;
    struct osm_timer *timer;
    uint64_t waited_ms, wait_max_ms;
    uv_tcp_t tcp;
    uv_connect_t connect;
};

static void freed(uv_handle_t *handle)
{
    osm_free(handle->data);
}

static void end(struct osm__check *check, int status, const char *text)
{
    if (!check->request)
        return;
    osm_log(OSM_LOG_HTTP, OSM_LOG_DEBUG, text, OSM_U("port", check->port));
    osm_http_reply_text(osm_take_ptr(&check->request), status, text);
    osm_timer_free(osm_take_ptr(&check->timer));
    *check->prev = check->next;
    if (check->next)
        check->next->prev = check->prev;
    uv_close((uv_handle_t *)&check->tcp, freed);
}

/* Also when the handle is closed first: `end` has been then. */
static void connected(uv_connect_t *connect, int status)
{
    end(connect->data, status ? 404 : 200,
        status ? "the port takes no connection" : "the port takes connections");
}

static uint64_t next_look(const struct osm__check *check)
{
    uint64_t left_ms = check->wait_max_ms - check->waited_ms;
    return left_ms < LOOK_MS ? left_ms : LOOK_MS;
}

/* A probe's timeout is known to its kubelet alone, which hangs up when it is over. */
static void look(void *ud)
{
    struct osm__check *check = ud;
    check->waited_ms += next_look(check);
    if (!osm_http_alive(check->request))
        end(check, 404, "the asker has gone before the port took a connection");
    else if (check->waited_ms >= check->wait_max_ms)
        end(check, 404, "the port takes no connection in time");
    else
        osm_timer_start(check->timer, next_look(check), 0);
}

/* Who closes its half of a connection may still read, and is not seen to go. Probes of a port
 * follow each other: the oldest of many is one that nobody waits for. */
static void give_way(struct osm_healthcheck *config, uint16_t port)
{
    struct osm__check *oldest = NULL;
    size_t n = 0;
    for (struct osm__check *c = config->checks; c; c = c->next)
        if (c->port == port) {
            oldest = c;
            n++;
        }
    if (n >= PORT_CHECKS && oldest->waited_ms >= FRESH_MS)
        end(oldest, 404, "the port takes no connection, and is asked about again");
}

/* 0: it is none. */
static uint16_t read_port(const char *text)
{
    size_t digits = text ? strspn(text, "0123456789") : 0;
    uintmax_t port = digits && digits <= 5 && !text[digits] ? strtoumax(text, NULL, 10) : 0;
    return port <= UINT16_MAX ? (uint16_t)port : 0;
}

static void ask(void *ud, struct osm_http_request *request)
{
    struct osm_healthcheck *config = ud;
    struct sockaddr_in address;
    uint16_t port = read_port(osm_http_header(request, "original-tcp-port"));
    if (!port || uv_ip4_addr(config->host, port, &address)) {
        osm_http_reply_text(request, 400, "Original-Tcp-Port: expected a port from 1 to 65535");
        return;
    }
    give_way(config, port);
    struct osm__check *check = osm_alloc(sizeof *check);
    struct osm_timer *timer = check ? osm_timer_new(config->loop, look, check) : NULL;
    if (!timer || uv_tcp_init(osm_loop_uv(config->loop), &check->tcp)) {
        osm_timer_free(timer);
        osm_free(check);
        osm_http_reply_text(request, 500, "out of memory");
        return;
    }
    check->request = request;
    check->port = port;
    check->timer = timer;
    check->tcp.data = check->connect.data = check;
    check->prev = &config->checks;
    check->next = config->checks;
    if (check->next)
        check->next->prev = &check->next;
    config->checks = check;
    check->wait_max_ms = config->connect_ms ? config->connect_ms : CONNECT_MS;
    osm_timer_start(timer, next_look(check), 0);
    if (uv_tcp_connect(&check->connect, &check->tcp, (struct sockaddr *)&address, connected))
        end(check, 404, "the port takes no connection");
}

const struct osm_http_route osm_healthcheck_routes[] = {
    {"/osm-healthcheck", ask, "whether the port in Original-Tcp-Port takes connections", 0},
    {NULL, NULL, NULL, 0},
};

void osm_healthcheck_stop(struct osm_healthcheck *healthcheck)
{
    while (healthcheck->checks)
        end(healthcheck->checks, 503, "the health check is stopping");
}
