/* Requests with bodies: in whatever pieces they come, what is refused, and what follows them. */
#include "http/http_util.h"

#define POST(path, headers) "POST " path " HTTP/1.1\r\nHost: a\r\n" headers "\r\n"

static const struct {
    const char *text, *answer;
} bodies[] = {
    {POST("/post", "Content-Type: application/json \r\nContent-Length: 5\r\n") "abcde",
     "application/json|5|abcde"},
    {POST("/post", "content-length:\t5\r\n") "a\r\n\r\n", "none|5|a\r\n\r\n"},
    {POST("/post", "Content-Length: 0\r\n"), "none|0|"},
    {POST("/post", ""), "none|0|"},
    {POST("/post", "Transfer-Encoding: chunked\r\n") "3\r\nabc\r\n02\r\nde\r\n0\r\n\r\n",
     "none|5|abcde"},
    {POST("/post", "Transfer-Encoding: Chunked\r\n") "A;x=\"y\"\r\n0123456789\r\n0;z\r\nX-T: a\r\n"
                                                     "Content-Length: 7\r\n\r\n",
     "none|10|0123456789"},
    {POST("/post", "Transfer-Encoding: chunked\r\n") "0\r\n\r\n", "none|0|"},
};
enum { BODIES = sizeof bodies / sizeof *bodies };

static void test_a_body_comes_whole(void **state)
{
    struct fixture *f = *state;
    int fd = client(f);
    for (size_t i = 0; i < BODIES; i++) {
        say(f, fd, bodies[i].text);
        expect(f, fd, 200, bodies[i].answer);
    }
    say(f, fd, GET("/hello"));
    expect(f, fd, 200, "hello\n");
    close(fd);
}

static void test_a_body_may_be_split_anywhere(void **state)
{
    struct fixture *f = *state;
    for (size_t i = 0; i < BODIES; i++) {
        size_t len = strlen(bodies[i].text);
        int fd = client(f);
        for (size_t cut = 1; cut < len; cut++) {
            say_some(f, fd, bodies[i].text, cut);
            for (int n = 0; n < 4; n++)
                turn(f);
            say_some(f, fd, bodies[i].text + cut, len - cut);
            expect(f, fd, 200, bodies[i].answer);
        }
        for (size_t at = 0; at < len; at++)
            say_some(f, fd, bodies[i].text + at, 1);
        expect(f, fd, 200, bodies[i].answer);
        close(fd);
    }
}

static void test_requests_behind_a_body_are_answered_in_order(void **state)
{
    struct fixture *f = *state;
    struct osm_buf all = OSM_BUF_INIT(1 << 20);
    int fd = client(f);
    for (int round = 0; round < 8; round++)
        for (size_t i = 0; i < BODIES; i++)
            (void)osm_buf_add_strs(&all, bodies[i].text, GET("/hello"), NULL);
    say_some(f, fd, all.data, all.len);
    for (int round = 0; round < 8; round++)
        for (size_t i = 0; i < BODIES; i++) {
            expect(f, fd, 200, bodies[i].answer);
            expect(f, fd, 200, "hello\n");
        }
    osm_buf_clear(&all);
    close(fd);
}

static void test_a_large_body_comes_whole(void **state)
{
    struct fixture *f = *state;
    char *body = malloc(BIG + 1);
    for (size_t i = 0; i < BIG; i++)
        body[i] = (char)('a' + i % 23);
    body[BIG] = '\0';
    int fd = client(f);
    char head[128];
    (void)snprintf(head, sizeof head, "POST /large HTTP/1.1\r\nContent-Length: %d\r\n\r\n", BIG);
    say(f, fd, head);
    say_some(f, fd, body, BIG);
    struct answer a = hear(f, fd, false);
    assert_int_equal(a.status, 200);
    assert_memory_equal(a.body, "none|3145728|", 13);
    assert_int_equal(a.len, BIG + 13);
    assert_memory_equal(a.body + 13, body, BIG);
    free(a.body);
    free(body);
    say(f, fd, GET("/hello"));
    expect(f, fd, 200, "hello\n");
    close(fd);
}

/* Each ends its connection: what follows could be taken for another request. */
static void test_what_is_no_sound_body_is_refused(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *text;
        int status;
    } cases[] = {
        {POST("/post", "Content-Length: 5\r\nContent-Length: 5\r\n") "abcde", 400},
        {POST("/post", "Content-Length: 5\r\nContent-Length: 6\r\n") "abcde", 400},
        {POST("/post", "Content-Length: 5, 5\r\n") "abcde", 400},
        {POST("/post", "Content-Length: +5\r\n") "abcde", 400},
        {POST("/post", "Content-Length: -1\r\n"), 400},
        {POST("/post", "Content-Length: 0x5\r\n") "abcde", 400},
        {POST("/post", "Content-Length:\r\n") "abcde", 400},
        {POST("/post", "Content-Length : 5\r\n") "abcde", 400},
        {POST("/post", " Content-Length: 5\r\n") "abcde", 400},
        {POST("/post", "X: a\r\n Content-Length: 5\r\n") "abcde", 400},
        {POST("/post", "Content-Length: 5\nX: y\r\n") "abcde", 400},
        {POST("/post", "Content-Length: 5\rX: y\r\n") "abcde", 400},
        {POST("/post", "Content-Length: 18446744073709551617\r\n") "a", 413},
        {POST("/post", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n") "0\r\n\r\n", 400},
        {POST("/post", "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n") "0\r\n\r\n", 400},
        {POST("/post", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), 400},
        {POST("/post", "Transfer-Encoding: gzip, chunked\r\n") "0\r\n\r\n", 501},
        {POST("/post", "Transfer-Encoding: xchunked\r\n") "0\r\n\r\n", 501},
        {POST("/post", "Transfer-Encoding: identity\r\n") "0\r\n\r\n", 501},
        {"POST /post HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
        {POST("/post", "Host: b\r\nContent-Length: 5\r\n") "abcde", 400},
        {POST("/post", "Expect: tea\r\nContent-Length: 5\r\n") "abcde", 417},
        {POST("/post", "Transfer-Encoding: chunked\r\n") "x\r\n", 400},
        {POST("/post", "Transfer-Encoding: chunked\r\n") "\r\n", 400},
        {POST("/post", "Transfer-Encoding: chunked\r\n") "-1\r\n", 400},
        {POST("/post", "Transfer-Encoding: chunked\r\n") "0x3\r\nabc\r\n", 400},
        {POST("/post", "Transfer-Encoding: chunked\r\n") "3\nabc\r\n", 400},
        {POST("/post", "Transfer-Encoding: chunked\r\n") "3\r\nabcd\r\n", 400},
        {POST("/post", "Transfer-Encoding: chunked\r\n") "3\r\nabc\n0\r\n\r\n", 400},
        {POST("/post", "Transfer-Encoding: chunked\r\n") "000000003\r\nabc\r\n", 400},
        {POST("/post", "Transfer-Encoding: chunked\r\n") "0\r\nX: a\n\r\n", 400},
        {POST("/post", "Content-Length: 1001\r\n"), 413},
        {POST("/post", "Content-Length: 1001\r\nExpect: 100-continue\r\n"), 413},
        {POST("/post", "Transfer-Encoding: chunked\r\n") "3\r\nabc\r\n3e9\r\na", 0},
        {"PUT /post HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", 405},
        {"GET /post HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", 405},
        {POST("/hello", "Content-Length: 3\r\n") "abc", 405},
        {POST("/nothing", "Content-Length: 3\r\n") "abc", 404},
        {"POST post HTTP/1.1\r\n\r\n", 400},
        {"POST  /post HTTP/1.1\r\n\r\n", 400},
        {"POST /post\r\n\r\n", 400},
        {"POST /post HTTP/1.1 \r\n\r\n", 400},
        {"POST /post HTTP/2.0\r\n\r\n", 505},
        {"POST /post HTTP/1.1\r\n: a\r\n\r\n", 400},
        {"POST /post HTTP/1.1\r\nA\r\n\r\n", 400},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int fd = client(f);
        say(f, fd, cases[i].text);
        if (!cases[i].status) /* goes on over its limit */
            for (int n = 0; n < 1000; n++)
                say(f, fd, "a");
        struct answer a = hear(f, fd, false);
        if (a.status != (cases[i].status ? cases[i].status : 413))
            fail_msg("row %zu: %d", i, a.status);
        assert_non_null(strstr(a.head, "\r\nConnection: close\r\n"));
        free(a.body);
        expect_end(f, fd);
        close(fd);
    }
    assert_int_equal(f->posts, 0);
}

static void test_a_route_says_which_methods_it_takes(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *text, *allow;
    } cases[] = {
        {GET("/post"), "\r\nAllow: POST\r\n"},
        {"PATCH /post HTTP/1.1\r\n\r\n", "\r\nAllow: POST\r\n"},
        {POST("/hello", ""), "\r\nAllow: GET, HEAD\r\n"},
    };
    int fd = client(f);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        say(f, fd, cases[i].text);
        struct answer a = hear(f, fd, false);
        assert_int_equal(a.status, 405);
        assert_non_null(strstr(a.head, cases[i].allow));
        free(a.body);
    }
    say(f, fd, GET("/hello"));
    expect(f, fd, 200, "hello\n");
    close(fd);
}

static void test_the_body_at_its_limit(void **state)
{
    struct fixture *f = *state;
    char body[POST_MAX + 1], text[POST_MAX + 200], want[POST_MAX + 50];
    memset(body, 'b', POST_MAX);
    body[POST_MAX] = '\0';
    (void)snprintf(want, sizeof want, "none|1000|%s", body);
    int fd = client(f);
    (void)snprintf(text, sizeof text, "POST /post HTTP/1.1\r\nContent-Length: 1000\r\n\r\n%s",
                   body);
    say(f, fd, text);
    expect(f, fd, 200, want);
    (void)snprintf(
        text, sizeof text,
        "POST /post HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3e8\r\n%s\r\n0\r\n\r\n", body);
    say(f, fd, text);
    expect(f, fd, 200, want);
    (void)snprintf(text, sizeof text,
                   "POST /post HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3e8\r\n%s\r\n1\r\n",
                   body);
    say(f, fd, text);
    say(f, fd, "x");
    expect(f, fd, 413, NULL);
    expect_end(f, fd);
    close(fd);
}

/* The peer sends all of a body that nobody wants, and hears why all the same. */
static void test_who_sends_on_hears_the_refusal(void **state)
{
    struct fixture *f = *state;
    char *body = calloc(1, BIG);
    int fd = client(f);
    say(f, fd, "POST /post HTTP/1.1\r\nContent-Length: 3145728\r\n\r\n");
    say_some(f, fd, body, BIG);
    expect(f, fd, 413, NULL);
    expect_end(f, fd);
    free(body);
    close(fd);
}

static void test_leave_to_send_is_given(void **state)
{
    struct fixture *f = *state;
    static const char leave[] = "HTTP/1.1 100 Continue\r\n\r\n";
    char heard[sizeof leave] = "";
    int fd = client(f);
    for (int round = 0; round < 2; round++) {
        say(f, fd, POST("/post", "Expect: 100-Continue\r\nContent-Length: 3\r\n"));
        assert_true(read_all(f, fd, heard, sizeof leave - 1));
        assert_string_equal(heard, leave);
        say(f, fd, "abc");
        expect(f, fd, 200, "none|3|abc");
    }
    /* None is asked for by who sends already, or speaks HTTP/1.0. */
    say(f, fd, POST("/post", "Expect: 100-continue\r\nContent-Length: 3\r\n") "abc");
    expect(f, fd, 200, "none|3|abc");
    say(f, fd, "POST /post HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n");
    say(f, fd, "abc");
    expect(f, fd, 200, "none|3|abc");
    expect_end(f, fd);
    close(fd);
}

static void test_who_sends_no_body_is_let_go(void **state)
{
    struct fixture *f = *state;
    listen_on(f, false, (struct osm_http_limits){.stalled_ms = 300});
    int fd = client(f), chunks = client(f);
    say(f, fd, POST("/post", "Content-Length: 3\r\n") "ab");
    say(f, chunks, POST("/post", "Transfer-Encoding: chunked\r\n") "3\r\nab");
    expect_end(f, fd);
    expect_end(f, chunks);
    assert_int_equal(f->posts, 0);
    close(fd);
    close(chunks);
}

/* A peer that sends, but so slowly that it never ends. */
static void test_a_body_has_its_time(void **state)
{
    struct fixture *f = *state;
    listen_on(f, false, (struct osm_http_limits){.idle_ms = 500});
    int fd = client(f);
    char c;
    say(f, fd, POST("/post", "Content-Length: 1000\r\n"));
    uint64_t until = osm_now_ms() + 5000, next = 0;
    ssize_t n;
    while ((n = recv(fd, &c, 1, 0)) < 0 && errno == EAGAIN && osm_now_ms() < until) {
        if (osm_now_ms() >= next) {
            (void)send(fd, "a", 1, MSG_NOSIGNAL);
            next = osm_now_ms() + 20;
        }
        turn(f);
    }
    assert_true(osm_now_ms() < until);
    assert_true(n == 0 || errno == ECONNRESET);
    close(fd);
}

static void test_all_bodies_have_a_limit_together(void **state)
{
    struct fixture *f = *state;
    listen_on(f, false, (struct osm_http_limits){.bodies = 1500});
    char body[POST_MAX + 1];
    memset(body, 'b', POST_MAX);
    body[POST_MAX] = '\0';
    int keeper = client(f), other = client(f);
    say(f, keeper, POST("/post/keep", "Content-Length: 1000\r\n"));
    say(f, keeper, body);
    for (int i = 0; i < 1000 && !f->kept; i++)
        turn(f);
    assert_non_null(f->kept);
    close(keeper); /* its body is there as long as its handler has it */
    say(f, other, POST("/post", "Content-Length: 1000\r\n"));
    say(f, other, body);
    expect(f, other, 503, "too many bodies at once\n");
    expect_end(f, other);
    close(other);
    osm_http_reply_text(f->kept, 200, "at last");
    for (int i = 0; i < 20; i++)
        turn(f);
    other = client(f);
    for (int i = 0; i < 5; i++) {
        say(f, other, POST("/post", "Content-Length: 1000\r\n"));
        say(f, other, body);
        expect(f, other, 200, NULL);
    }
    close(other);
}

static void test_the_peer_leaves_within_its_body(void **state)
{
    struct fixture *f = *state;
    long live = osm_mem_live();
    for (int i = 0; i < 50; i++) {
        int fd = client(f);
        say(f, fd, POST("/post", "Content-Length: 30\r\n") "abc");
        for (int n = 0; n < i % 10; n++)
            turn(f);
        close(fd);
    }
    for (int i = 0; i < 1000 && osm_mem_live() > live; i++)
        turn(f);
    assert_int_equal(osm_mem_live(), live);
    assert_int_equal(f->posts, 0);
}

/* Its listener is closed while a handler has the request: body and headers stay readable. */
static void test_a_kept_body_outlives_its_listener(void **state)
{
    struct fixture *f = *state;
    int fd = client(f);
    say(f, fd, POST("/post/keep", "Content-Type: a/b\r\nContent-Length: 3\r\n") "abc");
    for (int i = 0; i < 1000 && !f->kept; i++)
        turn(f);
    assert_non_null(f->kept);
    osm_http_close(f->listener);
    f->listener = NULL;
    for (int i = 0; i < 20; i++)
        turn(f);
    size_t len;
    assert_false(osm_http_alive(f->kept));
    assert_string_equal(osm_http_body(f->kept, &len), "abc");
    assert_int_equal(len, 3);
    assert_string_equal(osm_http_header(f->kept, "content-type"), "a/b");
    assert_null(osm_http_header(f->kept, "content"));
    assert_null(osm_http_header(f->kept, "accept"));
    osm_http_reply_text(f->kept, 200, "to nobody");
    close(fd);
}

static void test_no_memory_ends_one_connection(void **state)
{
    struct fixture *f = *state;
    for (size_t i = 0; i < BODIES; i++)
        for (long n = 0; n < 20; n++) {
            char some[4096];
            int fd = client(f);
            osm_mem_fail_at(n);
            say(f, fd, bodies[i].text);
            for (int turns = 0; turns < 50; turns++) {
                turn(f);
                (void)recv(fd, some, sizeof some, 0);
            }
            osm_mem_fail_at(-1);
            close(fd);
        }
    int fd = client(f);
    say(f, fd, bodies[0].text);
    expect(f, fd, 200, bodies[0].answer);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        TEST(test_a_body_comes_whole),
        TEST(test_a_body_may_be_split_anywhere),
        TEST(test_requests_behind_a_body_are_answered_in_order),
        TEST(test_a_large_body_comes_whole),
        TEST(test_what_is_no_sound_body_is_refused),
        TEST(test_a_route_says_which_methods_it_takes),
        TEST(test_the_body_at_its_limit),
        TEST(test_who_sends_on_hears_the_refusal),
        TEST(test_leave_to_send_is_given),
        TEST(test_who_sends_no_body_is_let_go),
        TEST(test_a_body_has_its_time),
        TEST(test_all_bodies_have_a_limit_together),
        TEST(test_the_peer_leaves_within_its_body),
        TEST(test_a_kept_body_outlives_its_listener),
        TEST(test_no_memory_ends_one_connection),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
