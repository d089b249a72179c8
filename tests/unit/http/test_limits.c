/* Who may ask, how much, and for how long; listeners that come and go. */
#include "http/http_util.h"

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
        expect(f, fd, 431, NULL);
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
    /* An escaped line end would hide the Host from the parser. */
    static const char *const hidden[] = {"/hello?x=%0a", "/hello?x=%0A&y=1", "/hello?%0d"};
    for (size_t i = 0; i < sizeof hidden / sizeof *hidden; i++) {
        char text[128];
        int fd = client(f);
        (void)snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: evil.example\r\n\r\n",
                       hidden[i]);
        say(f, fd, text);
        expect(f, fd, 400, NULL);
        close(fd);
    }
    const struct osm_http_listen wide = {"0.0.0.0:0", "--debug-address", true, routes, f, {0}, NULL,
                                         NULL};
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
        const struct osm_http_listen config = {
            bad[i], "--http-address", false, routes, f, {0}, NULL, NULL};
        assert_int_equal(osm_http_listen(&other, f->http, &config, &err), OSM_EINVAL);
        assert_non_null(strstr(err.msg, "expected ADDRESS:PORT"));
    }
    struct osm_err err = {0};
    const struct osm_http_listen taken = {
        osm_http_address(f->listener), "--http-address", false, routes, f, {0}, NULL, NULL};
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
        const struct osm_http_listen config = {before, "--x", false, routes, f, {0}, NULL, NULL};
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

/* Without memory a connection ends, or is answered; the next one is served. */
static void test_no_memory_ends_one_connection(void **state)
{
    struct fixture *f = *state;
    static const char *const texts[] = {GET("/echo?a=1"), GET("/stream"), GET("/nothing")};
    for (size_t i = 0; i < 3; i++)
        for (long n = 0; n < 30; n++) {
            char some[4096];
            int fd = client(f);
            osm_mem_fail_at(n);
            say(f, fd, texts[i]);
            for (int turns = 0; turns < 50; turns++) {
                turn(f);
                (void)recv(fd, some, sizeof some, 0);
            }
            osm_mem_fail_at(-1);
            close(fd);
        }
    int fd = client(f);
    say(f, fd, GET("/hello"));
    expect(f, fd, 200, "hello\n");
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
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
        TEST(test_no_memory_ends_one_connection),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
