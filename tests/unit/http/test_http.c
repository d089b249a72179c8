/* Requests, in whatever pieces they come, and their answers. */
#include "http/http_util.h"

static void test_routes_answer(void **state)
{
    struct fixture *f = *state;
    int fd = client(f);
    say(f, fd, GET("/hello"));
    expect(f, fd, 200, "hello\n");
    say(f, fd, "\r\n\r\n" GET("/hello"));
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
        int status;
        bool goes_on; /* the connection: nobody can take what follows for something else */
    } cases[] = {
        {"POST /hello HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", 405, false},
        {"POST /hello HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", 405, true},
        {"POST /hello HTTP/1.1\r\nHost: a\r\n\r\n", 405, true},
        {"PUT /hello HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", 405, false},
        {"PATCH /hello HTTP/1.1\r\nHost: a\r\n\r\n", 405, true},
        {"DELETE /hello HTTP/1.1\r\nHost: a\r\n\r\n", 405, true},
        {"OPTIONS /hello HTTP/1.1\r\nHost: a\r\n\r\n", 405, true},
        {"GET /hello HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", 413, false},
        {"GET /hello HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 413,
         false},
        {"GET /hello HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", 501,
         false},
        {"GET /hello HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
         "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n",
         501, false},
        {"GET /echo?a=%0a HTTP/1.1\r\nHost: a\r\n\r\n", 400, false},
        {"GET /echo?a=%0D HTTP/1.1\r\n\r\n", 400, false},
        {"GET /hello%0d%0a HTTP/1.1\r\nHost: a\r\n\r\n", 400, false},
        {"GET /hello%1f HTTP/1.1\r\nHost: a\r\n\r\n", 400, false},
        {"GET /hello%7F HTTP/1.1\r\nHost: a\r\n\r\n", 400, false},
        {"GET /hello%00 HTTP/1.1\r\nHost: a\r\n\r\n", 400, false},
        {"GET /hello%zz HTTP/1.1\r\nHost: a\r\n\r\n", 400, false},
        {"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 400, false},
        {"TRACE /hello HTTP/1.1\r\nHost: a\r\n\r\n", 405, true},
        {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, false},
        {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int fd = client(f);
        say(f, fd, cases[i].text);
        struct answer a = hear(f, fd, false);
        assert_int_equal(a.status, cases[i].status);
        if (a.status == 405)
            assert_non_null(strstr(a.head, "\r\nAllow: GET, HEAD\r\n"));
        if (cases[i].goes_on) {
            say(f, fd, GET("/hello"));
            expect(f, fd, 200, "hello\n");
        } else {
            expect_end(f, fd);
        }
        free(a.body);
        close(fd);
    }
}

/* Behind another request, in one piece with it. */
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

/* Behind some of them libwebsockets, which parses, does not see the end of the head. */
static void test_headers_that_nobody_knows(void **state)
{
    struct fixture *f = *state;
    static const char *const headers[] = {"st: a",        "s: a",  "Traceparent: 00-ab-cd-01",
                                          "Contenttype:", "a:b",   "If-None-Match: *",
                                          "X-A: a\xff",   "~: ~~", "Sec-WebSocket-Key: a"};
    int fd = client(f);
    for (size_t i = 0; i < sizeof headers / sizeof *headers; i++) {
        char text[128];
        (void)snprintf(text, sizeof text, "GET /hello HTTP/1.1\r\n%s\r\nHost: a\r\n%s\r\n\r\n",
                       headers[i], headers[i]);
        say(f, fd, text);
        expect(f, fd, 200, "hello\n");
    }
    close(fd);
}

/* On a connection that has been kept alive, too. */
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
        assert_non_null(strstr(all, "HTTP/1.1 501"));
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

/* It has said all that it says, and waits for the answer. */
static void test_a_peer_may_close_its_half(void **state)
{
    struct fixture *f = *state;
    int fd = client(f);
    say(f, fd, GET("/keep"));
    (void)shutdown(fd, SHUT_WR);
    for (int i = 0; i < 1000 && !f->kept; i++)
        turn(f);
    assert_non_null(f->kept);
    for (int i = 0; i < 50; i++)
        turn(f);
    assert_true(osm_http_alive(f->kept));
    assert_int_equal(uv_backend_timeout(osm_loop_uv(f->loop)) != 0, true);
    osm_http_reply_text(f->kept, 200, "later");
    expect(f, fd, 200, "later\n");
    expect_end(f, fd);
    close(fd);
}

static void test_a_peer_that_breaks_off_is_noticed(void **state)
{
    struct fixture *f = *state;
    const struct linger at_once = {.l_onoff = 1, .l_linger = 0};
    int fd = client(f);
    say(f, fd, GET("/keep"));
    for (int i = 0; i < 1000 && !f->kept; i++)
        turn(f);
    assert_non_null(f->kept);
    (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    close(fd);
    for (uint64_t until = osm_now_ms() + 5000; osm_http_alive(f->kept) && osm_now_ms() < until;)
        turn(f);
    assert_false(osm_http_alive(f->kept));
    osm_http_reply_text(f->kept, 200, "to nobody");
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

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        TEST(test_routes_answer),
        TEST(test_head_has_no_body),
        TEST(test_other_methods_and_bodies_are_refused),
        TEST(test_a_body_behind_a_request),
        TEST(test_headers_that_nobody_knows),
        TEST(test_an_upgrade_on_a_used_connection_ends_it),
        TEST(test_requests_may_be_split_anywhere),
        TEST(test_pipelined_requests_are_answered_in_order),
        TEST(test_a_request_is_answered_later),
        TEST(test_the_peer_of_a_kept_request_leaves),
        TEST(test_a_peer_may_close_its_half),
        TEST(test_a_peer_that_breaks_off_is_noticed),
        TEST(test_a_large_answer_comes_whole),
        TEST(test_a_stream_is_made_as_it_is_read),
        TEST(test_http_1_0_gets_a_stream_without_chunks),
        TEST(test_a_stream_that_fails_is_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
