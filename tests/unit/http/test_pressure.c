/* A listener that is full: who waits, and who gives way to whom. */
#include "http/tls_util.h"

#include <sys/resource.h>

enum { HELD_MAX = 8, GET_MS = 500 };

static struct pair pair;

static struct {
    struct osm_http_request *requests[HELD_MAX];
    size_t len;
} held;

static void hold(void *ud, struct osm_http_request *request)
{
    (void)ud;
    assert_true(held.len < HELD_MAX);
    held.requests[held.len++] = request;
}

static const struct osm_http_route holding[] = {
    {"/hello", hello, NULL, 0},
    {"/hold", hold, NULL, 0},
    {"/post", post, NULL, POST_MAX},
    {NULL, NULL, NULL, 0},
};

static void listen_full(struct fixture *f, struct osm_http_limits limits)
{
    struct osm_err err = {0};
    const struct osm_http_listen config = {"127.0.0.1:0", "--x", false, holding, f,
                                           limits,        NULL,  NULL};
    held.len = 0;
    osm_http_close(f->listener);
    f->listener = NULL;
    assert_int_equal(osm_http_listen(&f->listener, f->http, &config, &err), 0);
}

static void wait_ms(struct fixture *f, uint64_t ms)
{
    for (uint64_t until = osm_now_ms() + ms; osm_now_ms() < until;)
        turn(f);
}

static bool hears_nothing(int fd)
{
    char c;
    return recv(fd, &c, 1, MSG_PEEK) < 0 && errno == EAGAIN;
}

/* That is held by its handler. */
static int holder(struct fixture *f)
{
    size_t before = held.len;
    int fd = client(f);
    say(f, fd, GET("/hold"));
    for (uint64_t until = osm_now_ms() + 5000; held.len == before && osm_now_ms() < until;)
        turn(f);
    assert_int_equal(held.len, before + 1);
    return fd;
}

/* That was served, and is kept. */
static int kept(struct fixture *f)
{
    int fd = client(f);
    say(f, fd, GET("/hello"));
    expect(f, fd, 200, "hello\n");
    return fd;
}

static int stranger(struct fixture *f)
{
    int fd = client(f);
    wait_ms(f, 20);
    return fd;
}

static void ask(struct fixture *f, int fd)
{
    say(f, fd, GET("/hello"));
    expect(f, fd, 200, "hello\n");
}

static int turns_within(struct fixture *f, uint64_t ms)
{
    int turns = 0;
    for (uint64_t until = osm_now_ms() + ms; osm_now_ms() < until; turns++)
        (void)uv_run(osm_loop_uv(f->loop), UV_RUN_ONCE);
    return turns;
}

/* The story: the API server has a connection for each review, and at a burst of new pods those that
 * came when all places were taken were reset; each denied a pod. */
static void test_newcomers_wait_while_all_are_answered(void **state)
{
    struct fixture *f = *state;
    int fds[3], more[20];
    listen_full(f, (struct osm_http_limits){.connections = 3});
    for (size_t i = 0; i < 3; i++)
        fds[i] = holder(f);
    for (size_t i = 0; i < 20; i++) {
        more[i] = client(f);
        say(f, more[i], GET("/hello"));
    }
    assert_true(turns_within(f, GET_MS) < 50); /* it does not turn in vain */
    for (size_t i = 0; i < 20; i++)
        assert_true(hears_nothing(more[i]));
    osm_http_reply_text(held.requests[1], 200, "held");
    struct answer a = hear(f, fds[1], false);
    assert_int_equal(a.status, 200);
    assert_non_null(strstr(a.head, "Connection: close\r\n"));
    free(a.body);
    expect_end(f, fds[1]);
    for (size_t i = 0; i < 20; i++)
        expect(f, more[i], 200, "hello\n");
    osm_http_reply_text(held.requests[0], 200, "held");
    osm_http_reply_text(held.requests[2], 200, "held");
    expect(f, fds[0], 200, "held\n");
    expect(f, fds[2], 200, "held\n");
    for (size_t i = 0; i < 20; i++)
        close(more[i]);
    for (size_t i = 0; i < 3; i++)
        close(fds[i]);
}

/* More than the listener takes, all there before it first looks. */
static void test_a_burst_is_answered_whole(void **state)
{
    struct fixture *f = *state;
    enum { BURST = 1300, FILES = 8 * 1024 };
    struct rlimit before, many;
    int *fds = calloc(BURST, sizeof *fds);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    many = (struct rlimit){.rlim_cur = FILES, .rlim_max = before.rlim_max};
    if (before.rlim_max < FILES || setrlimit(RLIMIT_NOFILE, &many)) {
        free(fds);
        skip();
    }
    listen_full(f, (struct osm_http_limits){.connections = 1024});
    for (size_t i = 0; i < BURST; i++) {
        fds[i] = client(f);
        (void)send(fds[i], GET("/hello"), strlen(GET("/hello")), MSG_NOSIGNAL);
    }
    for (size_t i = 0; i < BURST; i++)
        expect(f, fds[i], 200, "hello\n");
    for (size_t i = 0; i < BURST; i++)
        close(fds[i]);
    free(fds);
    for (int i = 0; i < 20; i++)
        turn(f);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
}

static void test_a_place_is_free_when_its_peer_leaves(void **state)
{
    struct fixture *f = *state;
    tls_listen(f, &pair, (struct osm_http_limits){.connections = 1});
    struct peer first = tls_client(f);
    tls_say(f, &first, GET("/keep"), strlen(GET("/keep")));
    for (uint64_t until = osm_now_ms() + 5000; !f->kept && osm_now_ms() < until;)
        turn(f);
    struct peer second = tls_peer(f, NULL, NULL, 0);
    wait_ms(f, 20);
    assert_true(hears_nothing(second.fd));
    tls_close(&first);
    assert_true(tls_greet(f, &second));
    tls_ask(f, &second);
    osm_http_reply_text(f->kept, 200, "to nobody");
    tls_close(&second);
}

static void test_strangers_give_way_before_who_was_served(void **state)
{
    struct fixture *f = *state;
    listen_full(f, (struct osm_http_limits){.connections = 3});
    int served = kept(f), silent = stranger(f), sender = stranger(f), fourth, fifth;
    say(f, sender, "POST /post HTTP/1.1\r\nContent-Length: 3\r\n\r\nab");
    wait_ms(f, 20);
    fourth = client(f);
    expect_end(f, silent); /* who came first */
    assert_true(hears_nothing(sender));
    fifth = client(f);
    expect_end(f, sender);
    ask(f, fourth);
    ask(f, fifth);
    ask(f, served);
    close(served);
    close(silent);
    close(sender);
    close(fourth);
    close(fifth);
}

static void test_who_only_says_what_is_refused_stays_a_stranger(void **state)
{
    struct fixture *f = *state;
    listen_full(f, (struct osm_http_limits){.connections = 2});
    int served = kept(f), refused = client(f), third;
    say(f, refused, GET("/nothing"));
    expect(f, refused, 404, NULL);
    third = client(f);
    expect_end(f, refused);
    ask(f, third);
    ask(f, served);
    close(served);
    close(refused);
    close(third);
}

/* They are the whole burst: cutting one would gain nothing. */
static void test_who_has_just_come_is_given_time(void **state)
{
    struct fixture *f = *state;
    listen_full(f, (struct osm_http_limits){.connections = 2});
    int first = stranger(f), second = stranger(f), third = client(f);
    say(f, third, GET("/hello"));
    wait_ms(f, 50);
    ask(f, first);
    ask(f, second);
    expect(f, third, 200, "hello\n");
    close(first);
    close(second);
    close(third);
}

static void give_way_last(struct fixture *f, const char *beginning)
{
    listen_full(f, (struct osm_http_limits){.connections = 2});
    int slow = kept(f), idle = kept(f), third, fourth;
    say(f, slow, beginning);
    wait_ms(f, 20);
    third = client(f);
    ask(f, third);
    expect_end(f, idle);
    assert_true(hears_nothing(slow));
    say(f, third, GET("/hold"));
    wait_ms(f, 20);
    fourth = client(f);
    ask(f, fourth);
    expect_end(f, slow);
    osm_http_reply_text(held.requests[0], 200, "held");
    expect(f, third, 200, "held\n");
    close(slow);
    close(idle);
    close(third);
    close(fourth);
}

static void test_a_kept_one_that_is_slow_gives_way_last(void **state)
{
    give_way_last(*state, "POST /post HTTP/1.1\r\nContent-Length: 3\r\n\r\nab");
    give_way_last(*state, "GET /hel");
}

static void test_silent_strangers_do_not_push_out_who_was_served_with_tls(void **state)
{
    struct fixture *f = *state;
    int silent[6];
    tls_listen(f, &pair, (struct osm_http_limits){.connections = 3});
    struct peer served = tls_client(f);
    tls_ask(f, &served);
    for (size_t i = 0; i < 6; i++)
        silent[i] = stranger(f);
    for (size_t i = 0; i < 4; i++)
        expect_end(f, silent[i]);
    tls_ask(f, &served);
    tls_close(&served);
    for (size_t i = 0; i < 6; i++)
        close(silent[i]);
}

/* The story: a request that met the end of the idle time was reset, and the API server does not
 * say it again. */
static void test_a_request_in_the_last_moment_is_answered(void **state)
{
    struct fixture *f = *state;
    listen_full(f, (struct osm_http_limits){.idle_ms = 300});
    int fd = kept(f), other = kept(f);
    for (uint64_t until = osm_now_ms() + 1500; osm_now_ms() < until;)
        ; /* busy with other things: both timers and sockets have something for the next turn */
    assert_int_equal(send(fd, GET("/hello"), strlen(GET("/hello")), MSG_NOSIGNAL),
                     strlen(GET("/hello")));
    expect(f, fd, 200, "hello\n");
    expect_end(f, other);
    close(fd);
    close(other);
}

static void test_without_descriptors_it_waits(void **state)
{
    struct fixture *f = *state;
    struct rlimit before, few;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    int fd = client(f);
    few = (struct rlimit){.rlim_cur = (rlim_t)fd + 1, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    int turns = turns_within(f, GET_MS);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_true(turns < 50);
    ask(f, fd);
    close(fd);
}

/* --- bodies --- */

#define POST_1000 "POST /post HTTP/1.1\r\nContent-Length: 1000\r\n\r\n"

static char body[POST_MAX];

static int sender(struct fixture *f, size_t len)
{
    int fd = client(f);
    say(f, fd, POST_1000);
    say_some(f, fd, body, len);
    wait_ms(f, 20);
    return fd;
}

/* The story: nine strangers who stopped just before the end held all bodies, and nobody got a pod.
 */
static void test_slow_bodies_give_way(void **state)
{
    struct fixture *f = *state;
    listen_on(f, false, (struct osm_http_limits){.bodies = 2500});
    int slow = sender(f, 900), next = sender(f, 900);
    wait_ms(f, 1100);
    int fresh = sender(f, 600), honest = sender(f, 1000);
    expect(f, honest, 200, NULL);
    expect(f, slow, 408, "the body is too slow, and others need its place\n");
    expect_end(f, slow);
    say_some(f, fresh, body, 400);
    expect(f, fresh, 200, NULL);
    say_some(f, next, body, 100);
    expect(f, next, 200, NULL);
    close(slow);
    close(next);
    close(fresh);
    close(honest);
}

static void test_where_none_is_slow_the_largest_gives_way(void **state)
{
    struct fixture *f = *state;
    listen_on(f, false, (struct osm_http_limits){.bodies = 1500});
    int small = sender(f, 300), large = sender(f, 950), honest = sender(f, 400);
    expect(f, large, 503, "too many bodies at once\n");
    expect_end(f, large);
    say_some(f, honest, body, 600);
    expect(f, honest, 200, NULL);
    say_some(f, small, body, 700);
    expect(f, small, 200, NULL);
    assert_int_equal(f->posts, 2);
    close(small);
    close(large);
    close(honest);
}

/* Kept with TLS, and begins a record whose end never comes. */
static void test_who_says_part_of_a_record_gives_way(void **state)
{
    struct fixture *f = *state;
    tls_listen(f, &pair, (struct osm_http_limits){.connections = 2});
    struct peer a = tls_client(f), b = tls_client(f);
    tls_ask(f, &a);
    tls_ask(f, &b);
    assert_int_equal(send(a.fd, "\x17", 1, MSG_NOSIGNAL), 1);
    assert_int_equal(send(b.fd, "\x17", 1, MSG_NOSIGNAL), 1);
    struct peer newcomer = tls_peer(f, NULL, NULL, 0);
    int rc = SSL_do_handshake(newcomer.ssl);
    while (rc != 1 && tls_wait(f, &newcomer, rc) > 0)
        rc = SSL_do_handshake(newcomer.ssl);
    assert_int_equal(rc, 1);
    tls_close(&a);
    tls_close(&b);
    tls_close(&newcomer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        TEST(test_newcomers_wait_while_all_are_answered),
        TEST(test_a_burst_is_answered_whole),
        TEST(test_a_place_is_free_when_its_peer_leaves),
        TEST(test_strangers_give_way_before_who_was_served),
        TEST(test_who_only_says_what_is_refused_stays_a_stranger),
        TEST(test_who_has_just_come_is_given_time),
        TEST(test_a_kept_one_that_is_slow_gives_way_last),
        TEST(test_silent_strangers_do_not_push_out_who_was_served_with_tls),
        TEST(test_a_request_in_the_last_moment_is_answered),
        TEST(test_who_says_part_of_a_record_gives_way),
        TEST(test_without_descriptors_it_waits),
        TEST(test_slow_bodies_give_way),
        TEST(test_where_none_is_slow_the_largest_gives_way),
    };
    memset(body, 'b', sizeof body);
    pair = make_pair("localhost");
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    free_pair(&pair);
    return failed;
}
