/* The HTTP server on a real loop, against sockets that say what they like. */
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

enum { BIG = 3 * 1024 * 1024 };

struct fixture {
    struct osm_loop *loop;
    struct osm_http *http;
    struct osm_http_listener *listener;
    struct osm_http_request *kept;
    int ended; /* sources */
    bool stopped;
    size_t made;
};

static void hello(void *ud, struct osm_http_request *request)
{
    (void)ud;
    osm_http_reply_text(request, 200, "hello");
}

static void keep(void *ud, struct osm_http_request *request)
{
    struct fixture *f = ud;
    f->kept = request;
}

static void echo(void *ud, struct osm_http_request *request)
{
    (void)ud;
    osm_http_reply_json(request, 200,
                        json_pack("{s:s?, s:s?}", "a", osm_http_query(request, "a"), "b",
                                  osm_http_query(request, "b")));
}

static void big(void *ud, struct osm_http_request *request)
{
    (void)ud;
    struct osm_buf body = OSM_BUF_INIT(BIG);
    char *room = osm_buf_reserve(&body, BIG);
    if (room)
        memset(room, 'x', BIG);
    body.len = BIG;
    osm_http_reply(request, 200, "text/plain", &body);
}

static int piece(void *ud, struct osm_buf *out)
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

static void ended(void *ud)
{
    struct fixture *f = ud;
    f->ended++;
}

static void stream(void *ud, struct osm_http_request *request)
{
    struct fixture *f = ud;
    f->made = 0;
    osm_http_reply_stream(request, 200, "text/plain", &(struct osm_http_source){f, piece, ended});
}

static int broken_piece(void *ud, struct osm_buf *out)
{
    struct fixture *f = ud;
    (void)osm_buf_add_str(out, "some");
    return f->made++ ? OSM_EIO : 1;
}

static void broken(void *ud, struct osm_http_request *request)
{
    struct fixture *f = ud;
    f->made = 0;
    osm_http_reply_stream(request, 200, "text/plain",
                          &(struct osm_http_source){f, broken_piece, ended});
}

static const struct osm_http_route routes[] = {
    {"/hello", hello, NULL}, {"/keep", keep, NULL},     {"/echo", echo, NULL},
    {"/big", big, NULL},     {"/stream", stream, NULL}, {"/broken", broken, NULL},
    {NULL, NULL, NULL},
};

static void listen_on(struct fixture *f, bool loopback_only, struct osm_http_limits limits)
{
    struct osm_err err = {0};
    const struct osm_http_listen config = {"127.0.0.1:0", "--x", loopback_only, routes, f, limits};
    osm_http_close(f->listener);
    f->listener = NULL;
    assert_int_equal(osm_http_listen(&f->listener, f->http, &config, &err), 0);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct osm_err err = {0};
    *state = f;
    if (osm_loop_new(&f->loop, &err) || osm_http_new(&f->http, f->loop, &err))
        return 1;
    listen_on(f, false, (struct osm_http_limits){0});
    return 0;
}

static void turn(struct fixture *f)
{
    (void)uv_run(osm_loop_uv(f->loop), UV_RUN_NOWAIT);
}

static void stopped(void *ud)
{
    struct fixture *f = ud;
    f->stopped = true;
}

static int teardown(void **state)
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

static int client(const struct fixture *f)
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

static void say_some(struct fixture *f, int fd, const char *text, size_t len)
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

static void say(struct fixture *f, int fd, const char *text)
{
    say_some(f, fd, text, strlen(text));
}

struct answer {
    int status; /* 0: the server hung up */
    char head[1024];
    char *body;
    size_t len;
};

static bool read_byte(struct fixture *f, int fd, char *c)
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

static bool read_all(struct fixture *f, int fd, char *to, size_t len)
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

static void read_chunks(struct fixture *f, int fd, struct answer *a)
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
static struct answer hear(struct fixture *f, int fd, bool head_only)
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
    a.status = (int)strtol(a.head + 9, NULL, 10);
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

static void expect(struct fixture *f, int fd, int status, const char *body)
{
    struct answer a = hear(f, fd, false);
    assert_int_equal(a.status, status);
    if (body)
        assert_string_equal(a.body, body);
    free(a.body);
}

static void expect_end(struct fixture *f, int fd)
{
    char c;
    assert_false(read_byte(f, fd, &c));
}

#define GET(path) "GET " path " HTTP/1.1\r\nHost: localhost\r\n\r\n"

static void test_routes_answer(void **state)
{
    struct fixture *f = *state;
    int fd = client(f);
    say(f, fd, GET("/hello"));
    expect(f, fd, 200, "hello\n");
    say(f, fd, GET("/nothing"));
    expect(f, fd, 404, "no such path\n");
    say(f, fd, GET("/hello/"));
    expect(f, fd, 404, NULL);
    say(f, fd, GET("/echo?a=1%202&b"));
    expect(f, fd, 200, "{\n  \"a\": \"1 2\",\n  \"b\": \"\"\n}\n");
    say(f, fd, GET("/echo?ab=1"));
    expect(f, fd, 200, "{\n  \"a\": null,\n  \"b\": null\n}\n");
    close(fd);
}

static void test_head_has_no_body(void **state)
{
    struct fixture *f = *state;
    int fd = client(f);
    const char *const paths[] = {"/hello", "/stream"};
    for (size_t i = 0; i < 2; i++) {
        char text[64];
        (void)snprintf(text, sizeof text, "HEAD %s HTTP/1.1\r\n\r\n", paths[i]);
        say(f, fd, text);
        struct answer a = hear(f, fd, true);
        assert_int_equal(a.status, 200);
        assert_int_equal(strstr(a.head, "Content-Length: 6\r\n") != NULL, i == 0);
        say(f, fd, GET("/hello")); /* nothing of a body came between */
        expect(f, fd, 200, "hello\n");
    }
    assert_int_equal(f->ended, 1);
    close(fd);
}

static void test_other_methods_and_bodies_are_refused(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *text;
        int status; /* 0: no answer */
    } cases[] = {
        {"POST /hello HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", 405},
        {"POST /hello HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", 405},
        {"POST /hello HTTP/1.1\r\nHost: a\r\n\r\n", 405},
        {"PUT /hello HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", 405},
        {"PATCH /hello HTTP/1.1\r\nHost: a\r\n\r\n", 405},
        {"DELETE /hello HTTP/1.1\r\nHost: a\r\n\r\n", 405},
        {"OPTIONS /hello HTTP/1.1\r\nHost: a\r\n\r\n", 405},
        {"GET /hello HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", 413},
        {"GET /hello HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 413},
        {"GET /hello HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
         501},
        {"GET /hello HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
         "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n",
         501},
        {"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 0},
        {"TRACE /hello HTTP/1.1\r\nHost: a\r\n\r\n", 403},
        {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 403},
        {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 403},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int fd = client(f);
        say(f, fd, cases[i].text);
        struct answer a = hear(f, fd, false);
        assert_int_equal(a.status, cases[i].status);
        if (a.status == 405)
            assert_non_null(strstr(a.head, "\r\nAllow: GET, HEAD\r\n"));
        if (a.status)
            expect_end(f, fd);
        free(a.body);
        close(fd);
    }
}

/* Behind another request, in one piece with it: the library would go round for ever. */
static void test_a_body_behind_a_request(void **state)
{
    struct fixture *f = *state;
    int fd = client(f);
    say(f, fd, GET("/hello") "POST /hello HTTP/1.1\r\nContent-Length: 5\r\n\r\nabcde");
    expect(f, fd, 200, "hello\n");
    expect(f, fd, 405, NULL);
    expect_end(f, fd);
    close(fd);
}

/* On a connection that has been kept alive, too: there the library offers an upgrade that it has
 * refused itself, with a pointer to what it has let go. */
static void test_an_upgrade_on_a_used_connection_ends_it(void **state)
{
    struct fixture *f = *state;
    static const char *const kinds[] = {"websocket", "h2c", "foo"};
    for (size_t i = 0; i < 3; i++) {
        char text[128];
        int fd = client(f);
        say(f, fd, GET("/hello"));
        expect(f, fd, 200, "hello\n");
        (void)snprintf(text, sizeof text,
                       "GET /hello HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n",
                       kinds[i]);
        say(f, fd, text);
        char all[1024];
        size_t n = 0;
        while (n < sizeof all - 1 && read_byte(f, fd, &all[n]))
            n++;
        all[n] = '\0';
        assert_non_null(strstr(all, i < 2 ? "HTTP/1.1 501" : "HTTP/1.1 403"));
        close(fd);
    }
}

static void test_requests_may_be_split_anywhere(void **state)
{
    struct fixture *f = *state;
    static const char text[] = GET("/echo?a=%41&b=c") "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n";
    for (size_t cut = 1; cut < sizeof text - 1; cut++) {
        int fd = client(f);
        say_some(f, fd, text, cut);
        for (int i = 0; i < 5; i++)
            turn(f);
        say_some(f, fd, text + cut, sizeof text - 1 - cut);
        expect(f, fd, 200, "{\n  \"a\": \"A\",\n  \"b\": \"c\"\n}\n");
        expect(f, fd, 200, "hello\n");
        close(fd);
    }
    int fd = client(f);
    for (size_t i = 0; i < sizeof text - 1; i++)
        say_some(f, fd, text + i, 1);
    expect(f, fd, 200, NULL);
    expect(f, fd, 200, "hello\n");
    close(fd);
}

static void test_pipelined_requests_are_answered_in_order(void **state)
{
    struct fixture *f = *state;
    int fd = client(f);
    for (int i = 0; i < 20; i++) {
        char text[96];
        (void)snprintf(text, sizeof text, "GET /echo?a=%d HTTP/1.1\r\nHost: a\r\n\r\n", i);
        ssize_t n = send(fd, text, strlen(text), MSG_NOSIGNAL);
        while (n < 0 && (errno == EAGAIN || errno == ENOTCONN)) {
            turn(f);
            n = send(fd, text, strlen(text), MSG_NOSIGNAL);
        }
    }
    for (int i = 0; i < 20; i++) {
        char body[64];
        (void)snprintf(body, sizeof body, "{\n  \"a\": \"%d\",\n  \"b\": null\n}\n", i);
        expect(f, fd, 200, body);
    }
    close(fd);
}

/* What comes behind a request that is answered later waits, and costs the loop nothing. */
static void test_a_request_is_answered_later(void **state)
{
    struct fixture *f = *state;
    int fd = client(f);
    say(f, fd, GET("/keep") GET("/hello"));
    for (int i = 0; i < 1000 && !f->kept; i++)
        turn(f);
    assert_non_null(f->kept);
    for (int i = 0; i < 50; i++)
        turn(f);
    assert_int_equal(uv_backend_timeout(osm_loop_uv(f->loop)) != 0, true);
    char c;
    assert_int_equal(recv(fd, &c, 1, 0), -1);
    assert_true(osm_http_alive(f->kept));
    osm_http_reply_text(f->kept, 503, "later");
    expect(f, fd, 503, "later\n");
    expect(f, fd, 200, "hello\n");
    close(fd);
}

/* Whose peer has left while its handler had it: nobody hears the answer, and nothing breaks. */
static void test_the_peer_of_a_kept_request_leaves(void **state)
{
    struct fixture *f = *state;
    for (int with_listener = 0; with_listener < 2; with_listener++) {
        int fd = client(f);
        f->kept = NULL;
        say(f, fd, GET("/keep"));
        for (int i = 0; i < 1000 && !f->kept; i++)
            turn(f);
        assert_non_null(f->kept);
        close(fd);
        if (with_listener) {
            listen_on(f, false, (struct osm_http_limits){0});
            assert_false(osm_http_alive(f->kept));
        }
        for (int i = 0; i < 20; i++)
            turn(f);
        osm_http_reply_text(f->kept, 200, "to nobody");
        for (int i = 0; i < 20; i++)
            turn(f);
    }
}

static void test_a_large_answer_comes_whole(void **state)
{
    struct fixture *f = *state;
    int fd = client(f);
    say(f, fd, GET("/big") GET("/hello"));
    struct answer a = hear(f, fd, false);
    assert_int_equal(a.len, BIG);
    for (size_t i = 0; i < a.len; i++)
        assert_int_equal(a.body[i], 'x');
    free(a.body);
    expect(f, fd, 200, "hello\n");
    close(fd);
}

static void test_a_stream_is_made_as_it_is_read(void **state)
{
    struct fixture *f = *state;
    int fd = client(f);
    say(f, fd, GET("/stream") GET("/hello"));
    for (int i = 0; i < 2000; i++)
        turn(f);
    assert_true(f->made > 0 && f->made < BIG); /* the socket is full */
    struct answer a = hear(f, fd, false);
    assert_int_equal(a.len, (BIG + 9999) / 10000 * 10000);
    free(a.body);
    assert_int_equal(f->ended, 1);
    expect(f, fd, 200, "hello\n");
    close(fd);
}

static void test_http_1_0_gets_a_stream_without_chunks(void **state)
{
    struct fixture *f = *state;
    int fd = client(f);
    say(f, fd, "GET /stream HTTP/1.0\r\n\r\n");
    size_t n = 0;
    char c;
    char *all = calloc(1, BIG + 20000);
    while (n < BIG + 20000 && read_byte(f, fd, &c))
        all[n++] = c;
    const char *body = strstr(all, "\r\n\r\n") + 4;
    assert_null(strstr(all, "chunked"));
    assert_int_equal(n - (size_t)(body - all), (BIG + 9999) / 10000 * 10000);
    free(all);
    close(fd);
}

static void test_a_stream_that_fails_is_cut(void **state)
{
    struct fixture *f = *state;
    int fd = client(f);
    say(f, fd, GET("/broken"));
    char all[2048];
    size_t n = 0;
    while (n < sizeof all - 1 && read_byte(f, fd, &all[n]))
        n++;
    all[n] = '\0';
    assert_non_null(strstr(all, "some"));
    assert_null(strstr(all, "\r\n0\r\n")); /* so that it is seen to be cut */
    assert_int_equal(f->ended, 1);
    close(fd);
}

static void test_headers_over_the_limit_end_the_connection(void **state)
{
    struct fixture *f = *state;
    char value[9000];
    memset(value, 'a', sizeof value - 1);
    value[sizeof value - 1] = '\0';
    for (int kind = 0; kind < 4; kind++) {
        static const char *const begins[] = {
            "GET /hello HTTP/1.1\r\nX-A: ", "GET /hello HTTP/1.1\r\nHost: ", "GET /",
            "GET /echo?a="};
        int fd = client(f);
        say(f, fd, begins[kind]);
        say(f, fd, value);
        say(f, fd, kind < 2 ? "\r\n\r\n" : " HTTP/1.1\r\n\r\n");
        expect_end(f, fd);
        close(fd);
    }
    int fd = client(f);
    say(f, fd, GET("/hello"));
    expect(f, fd, 200, "hello\n");
    close(fd);
}

static void test_too_many_parameters(void **state)
{
    struct fixture *f = *state;
    int fd = client(f);
    say(f, fd, GET("/echo?a=1&b=2&c&d&e&f&g&h&i"));
    expect(f, fd, 414, NULL);
    say(f, fd, GET("/echo?a=1&b=2&c&d&e&f&g&h"));
    expect(f, fd, 200, NULL);
    close(fd);
}

static void wait_ms(struct fixture *f, uint64_t ms)
{
    for (uint64_t until = osm_now_ms() + ms; osm_now_ms() < until;)
        turn(f);
}

static void test_who_says_nothing_is_let_go(void **state)
{
    struct fixture *f = *state;
    listen_on(f, false, (struct osm_http_limits){.idle_ms = 300});
    int silent = client(f), half = client(f), used = client(f);
    say(f, half, "GET /hel");
    say(f, used, GET("/hello"));
    expect(f, used, 200, "hello\n");
    expect_end(f, silent);
    expect_end(f, half);
    expect_end(f, used);
    close(silent);
    close(half);
    close(used);
}

static void test_a_slow_reader_is_dropped(void **state)
{
    struct fixture *f = *state;
    listen_on(f, false, (struct osm_http_limits){.stalled_ms = 300});
    int fd = client(f);
    say(f, fd, GET("/stream"));
    wait_ms(f, 2500);
    assert_int_equal(f->ended, 1);
    assert_true(f->made < BIG);
    close(fd);
}

/* A peer that reads, but so slowly that it never ends. */
static void test_an_answer_has_its_time(void **state)
{
    struct fixture *f = *state;
    listen_on(f, false, (struct osm_http_limits){.answer_ms = 500});
    int fd = client(f);
    say(f, fd, GET("/stream"));
    char some[1000];
    for (int i = 0; i < 250 && !f->ended; i++) {
        (void)recv(fd, some, sizeof some, 0);
        wait_ms(f, 10);
    }
    assert_int_equal(f->ended, 1);
    assert_true(f->made < BIG);
    close(fd);
}

static void test_who_idles_longest_gives_way(void **state)
{
    struct fixture *f = *state;
    listen_on(f, false, (struct osm_http_limits){.connections = 3});
    int fds[4];
    for (int i = 0; i < 3; i++) {
        fds[i] = client(f);
        say(f, fds[i], GET("/hello"));
        expect(f, fds[i], 200, "hello\n");
        wait_ms(f, 5);
    }
    say(f, fds[0], GET("/hello")); /* now the second one has been idle for longest */
    expect(f, fds[0], 200, "hello\n");
    fds[3] = client(f);
    say(f, fds[3], GET("/hello"));
    expect(f, fds[3], 200, "hello\n");
    expect_end(f, fds[1]);
    say(f, fds[0], GET("/hello"));
    expect(f, fds[0], 200, "hello\n");
    say(f, fds[2], GET("/hello"));
    expect(f, fds[2], 200, "hello\n");
    for (int i = 0; i < 4; i++)
        close(fds[i]);
}

static void test_only_this_machine_asks_a_guarded_listener(void **state)
{
    struct fixture *f = *state;
    struct osm_err err = {0};
    struct osm_http_listener *other;
    static const struct {
        const char *host;
        int status;
    } cases[] = {
        {"localhost", 200},
        {"localhost:9092", 200},
        {"127.0.0.1:1", 200},
        {"[::1]:9092", 200},
        {"[::1]", 200},
        {"127.0.0.2", 200},
        {"evil.example", 403},
        {"10.0.0.1", 403},
        {"127.evil.example", 403},
        {"localhost.evil.example:9092", 403},
    };
    listen_on(f, true, (struct osm_http_limits){0});
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[128];
        int fd = client(f);
        (void)snprintf(text, sizeof text, "GET /hello HTTP/1.1\r\nHost: %s\r\n\r\n", cases[i].host);
        say(f, fd, text);
        expect(f, fd, cases[i].status, NULL);
        close(fd);
    }
    const struct osm_http_listen wide = {"0.0.0.0:0", "--debug-address", true, routes, f, {0}};
    assert_int_equal(osm_http_listen(&other, f->http, &wide, &err), OSM_EACCES);
    assert_non_null(strstr(err.msg, "--debug-address 0.0.0.0:0: only an address of the loopback"));
}

static void test_bad_addresses_are_named(void **state)
{
    struct fixture *f = *state;
    static const char *const bad[] = {
        "",          "9091",     ":9091",         "127.0.0.1",    "127.0.0.1:",  "127.0.0.1:99999",
        "example:1", "::1:9091", "[127.0.0.1]:1", "127.0.0.1:+1", "127.0.0.1: 1"};
    struct osm_http_listener *other;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct osm_err err = {0};
        const struct osm_http_listen config = {bad[i], "--http-address", false, routes, f, {0}};
        assert_int_equal(osm_http_listen(&other, f->http, &config, &err), OSM_EINVAL);
        assert_non_null(strstr(err.msg, "expected ADDRESS:PORT"));
    }
    struct osm_err err = {0};
    const struct osm_http_listen taken = {
        osm_http_address(f->listener), "--http-address", false, routes, f, {0}};
    assert_int_equal(osm_http_listen(&other, f->http, &taken, &err), OSM_EIO);
    assert_non_null(strstr(err.msg, "Address already in use; choose another with --http-address"));
}

static void test_a_listener_comes_and_goes(void **state)
{
    struct fixture *f = *state;
    char before[64];
    for (int i = 0; i < 20; i++) {
        int reading = client(f), idle = client(f);
        f->made = 0;
        say(f, reading, GET("/stream"));
        for (int n = 0; n < 1000 && !f->made; n++)
            turn(f);
        (void)snprintf(before, sizeof before, "%s", osm_http_address(f->listener));
        osm_http_close(f->listener);
        f->listener = NULL;
        expect_end(f, idle);
        for (int n = 0; n < 10; n++)
            turn(f);
        struct osm_err err = {0};
        const struct osm_http_listen config = {before, "--x", false, routes, f, {0}};
        assert_int_equal(osm_http_listen(&f->listener, f->http, &config, &err), 0);
        close(reading);
        close(idle);
    }
    assert_int_equal(f->ended, 20);
}

static void test_answers_are_counted(void **state)
{
    struct fixture *f = *state;
    int fd = client(f);
    say(f, fd, GET("/hello") GET("/hello") GET("/some/path/of/the/peer"));
    expect(f, fd, 200, NULL);
    expect(f, fd, 200, NULL);
    expect(f, fd, 404, NULL);
    assert_int_equal(osm_metric_get(OSM_METRIC_HTTP_RESPONSES, OSM_LABELS("200", "GET", "/hello")),
                     2);
    assert_int_equal(osm_metric_get(OSM_METRIC_HTTP_RESPONSES, OSM_LABELS("404", "GET", "other")),
                     1);
    assert_int_equal(osm_metric_get(OSM_METRIC_HTTP_DURATION, OSM_LABELS("200", "GET", "/hello")),
                     2);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        TEST(test_routes_answer),
        TEST(test_head_has_no_body),
        TEST(test_other_methods_and_bodies_are_refused),
        TEST(test_a_body_behind_a_request),
        TEST(test_an_upgrade_on_a_used_connection_ends_it),
        TEST(test_requests_may_be_split_anywhere),
        TEST(test_pipelined_requests_are_answered_in_order),
        TEST(test_a_request_is_answered_later),
        TEST(test_the_peer_of_a_kept_request_leaves),
        TEST(test_a_large_answer_comes_whole),
        TEST(test_a_stream_is_made_as_it_is_read),
        TEST(test_http_1_0_gets_a_stream_without_chunks),
        TEST(test_a_stream_that_fails_is_cut),
        TEST(test_headers_over_the_limit_end_the_connection),
        TEST(test_too_many_parameters),
        TEST(test_who_says_nothing_is_let_go),
        TEST(test_a_slow_reader_is_dropped),
        TEST(test_an_answer_has_its_time),
        TEST(test_who_idles_longest_gives_way),
        TEST(test_only_this_machine_asks_a_guarded_listener),
        TEST(test_bad_addresses_are_named),
        TEST(test_a_listener_comes_and_goes),
        TEST(test_answers_are_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
