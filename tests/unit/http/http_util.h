/* An HTTP server on a real loop with a few routes, and sockets that say what they like to it. */
#pragma once

#include "http/http.h"

#include "base/clock.h"
#include "base/metrics.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#include <cmocka.h>

enum { BIG = 3 * 1024 * 1024, POST_MAX = 1000 };

struct fixture {
    struct osm_loop *loop;
    struct osm_http *http;
    struct osm_http_listener *listener;
    struct osm_http_request *kept;
    int ended; /* sources */
    int posts;
    bool stopped;
    size_t made;
};

static inline void hello(void *ud, struct osm_http_request *request)
{
    (void)ud;
    osm_http_reply_text(request, 200, "hello");
}

static inline void keep(void *ud, struct osm_http_request *request)
{
    struct fixture *f = ud;
    f->kept = request;
}

static inline void echo(void *ud, struct osm_http_request *request)
{
    (void)ud;
    osm_http_reply_json(request, 200,
                        json_pack("{s:s?, s:s?}", "a", osm_http_query(request, "a"), "b",
                                  osm_http_query(request, "b")));
}

static inline void big(void *ud, struct osm_http_request *request)
{
    (void)ud;
    struct osm_buf body = OSM_BUF_INIT(BIG);
    char *room = osm_buf_reserve(&body, BIG);
    if (room)
        memset(room, 'x', BIG);
    body.len = BIG;
    osm_http_reply(request, 200, "text/plain", &body);
}

static inline int piece(void *ud, struct osm_buf *out)
{
    struct fixture *f = ud;
    char *room = osm_buf_reserve(out, 10000);
    if (!room)
        return OSM_ENOMEM;
    memset(room, 'y', 10000);
    out->len = 10000;
    f->made += 10000;
    return f->made < BIG;
}

static inline void ended(void *ud)
{
    struct fixture *f = ud;
    f->ended++;
}

static inline void stream(void *ud, struct osm_http_request *request)
{
    struct fixture *f = ud;
    f->made = 0;
    osm_http_reply_stream(request, 200, "text/plain", &(struct osm_http_source){f, piece, ended});
}

static inline int broken_piece(void *ud, struct osm_buf *out)
{
    struct fixture *f = ud;
    (void)osm_buf_add_str(out, "some");
    return f->made++ ? OSM_EIO : 1;
}

static inline void broken(void *ud, struct osm_http_request *request)
{
    struct fixture *f = ud;
    f->made = 0;
    osm_http_reply_stream(request, 200, "text/plain",
                          &(struct osm_http_source){f, broken_piece, ended});
}

/* What came, as "type|length|body". */
static inline void post(void *ud, struct osm_http_request *request)
{
    struct fixture *f = ud;
    struct osm_buf text = OSM_BUF_INIT(BIG * 2);
    size_t len;
    const char *body = osm_http_body(request, &len);
    const char *type = osm_http_header(request, "content-type");
    f->posts++;
    assert_int_equal(body[len], '\0');
    (void)osm_buf_addf(&text, "%s|%zu|", type ? type : "none", len);
    (void)osm_buf_add(&text, body, len);
    osm_http_reply(request, 200, "text/plain", &text);
}

static const struct osm_http_route routes[] = {
    {"/hello", hello, NULL, 0},
    {"/keep", keep, NULL, 0},
    {"/echo", echo, NULL, 0},
    {"/big", big, NULL, 0},
    {"/stream", stream, NULL, 0},
    {"/broken", broken, NULL, 0},
    {"/post", post, NULL, POST_MAX},
    {"/large", post, NULL, BIG},
    {"/post/keep", keep, NULL, POST_MAX},
    {NULL, NULL, NULL, 0},
};

static inline void listen_on(struct fixture *f, bool loopback_only, struct osm_http_limits limits)
{
    struct osm_err err = {0};
    const struct osm_http_listen config = {"127.0.0.1:0", "--x", loopback_only, routes, f,
                                           limits,        NULL,  NULL};
    osm_http_close(f->listener);
    f->listener = NULL;
    assert_int_equal(osm_http_listen(&f->listener, f->http, &config, &err), 0);
}

static inline int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct osm_err err = {0};
    *state = f;
    if (osm_loop_new(&f->loop, &err) || osm_http_new(&f->http, f->loop, &err))
        return 1;
    listen_on(f, false, (struct osm_http_limits){0});
    return 0;
}

static inline void turn(struct fixture *f)
{
    (void)uv_run(osm_loop_uv(f->loop), UV_RUN_NOWAIT);
}

static inline void stopped(void *ud)
{
    struct fixture *f = ud;
    f->stopped = true;
}

static inline int teardown(void **state)
{
    struct fixture *f = *state;
    osm_http_stop(f->http, stopped, f);
    while (!f->stopped)
        turn(f);
    osm_loop_free(f->loop);
    osm_metrics_clear();
    free(f);
    return osm_mem_live() != 0;
}

static inline int client(const struct fixture *f)
{
    const char *at = osm_http_address(f->listener);
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                  .sin_port =
                                      htons((uint16_t)strtoul(strrchr(at, ':') + 1, NULL, 10))};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (connect(fd, (struct sockaddr *)&address, sizeof address))
        assert_int_equal(errno, EINPROGRESS);
    return fd;
}

static inline void say_some(struct fixture *f, int fd, const char *text, size_t len)
{
    for (int turns = 0; len && turns < 100000; turns++) {
        ssize_t n = send(fd, text, len, MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN)
            return; /* the server has hung up: the test looks at that */
        if (n > 0) {
            text += n;
            len -= (size_t)n;
        }
        turn(f);
    }
}

static inline void say(struct fixture *f, int fd, const char *text)
{
    say_some(f, fd, text, strlen(text));
}

struct answer {
    int status; /* 0: the server hung up */
    char head[1024];
    char *body;
    size_t len;
};

static inline bool read_byte(struct fixture *f, int fd, char *c)
{
    for (uint64_t until = osm_now_ms() + 5000; osm_now_ms() < until;) {
        ssize_t n = recv(fd, c, 1, 0);
        if (n == 1)
            return true;
        if (n == 0 || errno != EAGAIN)
            return false;
        turn(f);
    }
    fail_msg("no answer within 5 s");
    return false;
}

static inline bool read_all(struct fixture *f, int fd, char *to, size_t len)
{
    uint64_t until = osm_now_ms() + 20000;
    while (len && osm_now_ms() < until) {
        ssize_t n = recv(fd, to, len, 0);
        if (n == 0 || (n < 0 && errno != EAGAIN))
            return false;
        if (n < 0) {
            turn(f);
            continue;
        }
        to += n;
        len -= (size_t)n;
    }
    return len == 0;
}

static inline void read_chunks(struct fixture *f, int fd, struct answer *a)
{
    for (;;) {
        char size[16], end[2];
        size_t n = 0;
        do
            assert_true(n < sizeof size - 1 && read_byte(f, fd, &size[n]));
        while (size[n++] != '\n');
        size_t len = strtoul(size, NULL, 16);
        a->body = realloc(a->body, a->len + len + 1);
        assert_true(read_all(f, fd, a->body + a->len, len));
        assert_true(read_all(f, fd, end, 2));
        assert_memory_equal(end, "\r\n", 2);
        a->len += len;
        a->body[a->len] = '\0';
        if (!len)
            return;
    }
}

/* The next answer. */
static inline struct answer hear(struct fixture *f, int fd, bool head_only)
{
    struct answer a = {0};
    size_t n = 0;
    while (n < 4 || memcmp(a.head + n - 4, "\r\n\r\n", 4) != 0) {
        assert_true(n < sizeof a.head - 1);
        if (!read_byte(f, fd, &a.head[n])) {
            assert_int_equal(n, 0);
            return a;
        }
        n++;
    }
    assert_memory_equal(a.head, "HTTP/1.", 7);
    for (size_t i = 9; i < 12; i++)
        a.status = a.status * 10 + a.head[i] - '0';
    const char *length = strcasestr(a.head, "Content-Length: ");
    if (length && !head_only) {
        a.len = strtoul(length + 16, NULL, 10);
        a.body = calloc(1, a.len + 1);
        assert_true(read_all(f, fd, a.body, a.len));
    } else if (!head_only) {
        assert_non_null(strstr(a.head, "Transfer-Encoding: chunked\r\n"));
        read_chunks(f, fd, &a);
    }
    return a;
}

static inline void expect(struct fixture *f, int fd, int status, const char *body)
{
    struct answer a = hear(f, fd, false);
    assert_int_equal(a.status, status);
    if (body)
        assert_string_equal(a.body, body);
    free(a.body);
}

static inline void expect_end(struct fixture *f, int fd)
{
    char c;
    assert_false(read_byte(f, fd, &c));
}

#define GET(path) "GET " path " HTTP/1.1\r\nHost: localhost\r\n\r\n"
