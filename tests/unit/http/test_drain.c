/* A listener that ends gracefully: who is answered still, who is not, and when it is done. */
#include "http/tls_util.h"

static struct pair pair;
static int drains;

static void drained(void *ud)
{
    struct fixture *f = ud;
    f->listener = NULL;
    drains++;
}

static int drain_setup(void **state)
{
    drains = 0;
    return setup(state);
}

static void drain(struct fixture *f)
{
    osm_http_drain(f->listener, drained, f);
    assert_int_equal(drains, 0);
}

static void wait_drained(struct fixture *f)
{
    for (uint64_t until = osm_now_ms() + 10000; !drains && osm_now_ms() < until;)
        turn(f);
    assert_int_equal(drains, 1);
}

static void some_turns(struct fixture *f)
{
    for (int i = 0; i < 20; i++)
        turn(f);
    assert_int_equal(drains, 0);
}

static void wait_kept(struct fixture *f)
{
    for (uint64_t until = osm_now_ms() + 5000; !f->kept && osm_now_ms() < until;)
        turn(f);
    assert_non_null(f->kept);
}

static void expect_last(struct fixture *f, int fd, const char *body)
{
    struct answer a = hear(f, fd, false);
    assert_int_equal(a.status, 200);
    assert_non_null(strstr(a.head, "Connection: close\r\n"));
    assert_string_equal(a.body, body);
    free(a.body);
    expect_end(f, fd);
}

static void test_nothing_is_under_way(void **state)
{
    struct fixture *f = *state;
    int idle = client(f);
    say(f, idle, GET("/hello"));
    expect(f, idle, 200, NULL);
    drain(f);
    wait_drained(f);
    expect_end(f, idle);
    close(idle);
}

static void test_who_has_asked_is_answered(void **state)
{
    struct fixture *f = *state;
    int fd = client(f), idle = client(f);
    say(f, idle, GET("/hello"));
    expect(f, idle, 200, NULL);
    say(f, fd, GET("/keep") GET("/hello"));
    wait_kept(f);
    int late = client(f);
    drain(f);
    expect_end(f, idle);
    expect_end(f, late);
    some_turns(f);
    osm_http_reply_text(f->kept, 200, "at last");
    expect_last(f, fd, "at last\n");
    wait_drained(f);
    close(fd);
    close(idle);
    close(late);
}

static void test_nobody_comes_any_more(void **state)
{
    struct fixture *f = *state;
    int fd = client(f);
    say(f, fd, GET("/keep"));
    wait_kept(f);
    drain(f);
    some_turns(f);
    int late = client(f);
    expect_end(f, late);
    osm_http_reply_text(f->kept, 200, "at last");
    expect_last(f, fd, "at last\n");
    wait_drained(f);
    close(late);
    close(fd);
}

/* The story: "the daemon is stopping" was said just before the listener was closed, and the API
 * server saw a reset. */
static void test_what_was_just_said_arrives(void **state)
{
    struct fixture *f = *state;
    tls_listen(f, &pair, (struct osm_http_limits){0});
    struct peer peer = tls_client(f);
    size_t len;
    int end;
    char c;
    tls_say(f, &peer, GET("/keep"), strlen(GET("/keep")));
    wait_kept(f);
    osm_http_reply_text(f->kept, 503, "the daemon is stopping");
    drain(f);
    char *text = tls_answer(f, &peer, 503, &len);
    assert_string_equal(text, "the daemon is stopping\n");
    free(text);
    assert_int_equal(tls_hear(f, &peer, &c, 1, &end), 0);
    assert_int_equal(end, 0); /* with a goodbye */
    wait_drained(f);
    tls_close(&peer);
}

static void test_a_large_answer_is_written_whole(void **state)
{
    struct fixture *f = *state;
    int fd = client(f);
    say(f, fd, GET("/stream"));
    for (int i = 0; i < 1000 && !f->made; i++)
        turn(f);
    assert_true(f->made && f->made < BIG);
    drain(f);
    struct answer a = hear(f, fd, false);
    assert_int_equal(a.len, f->made);
    free(a.body);
    expect_end(f, fd);
    wait_drained(f);
    assert_int_equal(f->ended, 1);
    close(fd);
}

static void test_a_body_may_come_to_its_end(void **state)
{
    struct fixture *f = *state;
    int fd = client(f);
    say(f, fd, "POST /post HTTP/1.1\r\nContent-Length: 3\r\n\r\nab");
    for (int i = 0; i < 10; i++)
        turn(f);
    drain(f);
    some_turns(f);
    say(f, fd, "c");
    expect_last(f, fd, "none|3|abc");
    wait_drained(f);
    close(fd);
}

static void test_who_does_not_come_to_an_end_is_not_waited_for(void **state)
{
    struct fixture *f = *state;
    uint64_t began_ms = osm_now_ms();
    int silent = client(f), head = client(f), sender = client(f), refused = client(f);
    say(f, head, "GET /hel");
    say(f, sender, "POST /post HTTP/1.1\r\nContent-Length: 3\r\n\r\nab");
    say(f, refused, "POST /hello HTTP/1.1\r\nContent-Length: 3\r\n\r\nab");
    expect(f, refused, 405, NULL);
    drain(f);
    wait_drained(f);
    assert_true(osm_now_ms() - began_ms < 9000);
    expect_end(f, silent);
    expect_end(f, head);
    expect_end(f, sender);
    close(silent);
    close(head);
    close(sender);
    close(refused);
}

static void test_a_request_whose_peer_has_left_is_waited_for(void **state)
{
    struct fixture *f = *state;
    int fd = client(f);
    say(f, fd, "POST /post/keep HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc");
    wait_kept(f);
    close(fd);
    drain(f);
    some_turns(f);
    size_t len;
    assert_string_equal(osm_http_body(f->kept, &len), "abc");
    osm_http_reply_text(f->kept, 200, "to nobody");
    assert_int_equal(drains, 0); /* not from inside */
    wait_drained(f);
}

static void test_a_drain_may_be_cut_short(void **state)
{
    struct fixture *f = *state;
    int fd = client(f), sender = client(f);
    say(f, fd, GET("/keep"));
    say(f, sender, "POST /post HTTP/1.1\r\nContent-Length: 3\r\n\r\nab");
    wait_kept(f);
    drain(f);
    some_turns(f);
    osm_http_close(f->listener);
    assert_int_equal(drains, 0);
    wait_drained(f);
    expect_end(f, fd);
    expect_end(f, sender);
    assert_false(osm_http_alive(f->kept));
    osm_http_reply_text(f->kept, 200, "to nobody");
    for (int i = 0; i < 20; i++)
        turn(f);
    assert_int_equal(drains, 1);
    close(fd);
    close(sender);
}

/* In the turn that it has ended in, and that done is not called in yet. */
static void test_a_drain_may_be_cut_at_any_turn(void **state)
{
    struct fixture *f = *state;
    for (int turns = 0; turns < 8; turns++) {
        int fd = client(f);
        drains = 0;
        say(f, fd, GET("/hello"));
        expect(f, fd, 200, NULL);
        say(f, fd, GET("/hello"));
        drain(f);
        for (int i = 0; i < turns; i++)
            turn(f);
        osm_http_close(f->listener);
        wait_drained(f);
        close(fd);
        listen_on(f, false, (struct osm_http_limits){0});
    }
}

static void test_the_server_stops_meanwhile(void **state)
{
    struct fixture *f = *state;
    int fd = client(f);
    say(f, fd, GET("/keep"));
    wait_kept(f);
    drain(f);
    osm_http_stop(f->http, stopped, f);
    osm_http_reply_text(f->kept, 200, "to nobody");
    while (!f->stopped)
        turn(f);
    assert_int_equal(drains, 1);
    expect_end(f, fd);
    close(fd);
    struct osm_err err = {0};
    f->stopped = false;
    assert_int_equal(osm_http_new(&f->http, f->loop, &err), 0);
}

static void test_no_memory_does_not_hold_it_up(void **state)
{
    struct fixture *f = *state;
    for (long n = 0; n < 6; n++) {
        int fd = client(f);
        f->kept = NULL;
        drains = 0;
        say(f, fd, GET("/keep"));
        wait_kept(f);
        osm_mem_fail_at(n);
        osm_http_reply_text(f->kept, 200, "at last");
        osm_http_drain(f->listener, drained, f);
        wait_drained(f);
        osm_mem_fail_at(-1);
        close(fd);
        listen_on(f, false, (struct osm_http_limits){0});
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, drain_setup, teardown)
        TEST(test_nothing_is_under_way),
        TEST(test_who_has_asked_is_answered),
        TEST(test_nobody_comes_any_more),
        TEST(test_what_was_just_said_arrives),
        TEST(test_a_large_answer_is_written_whole),
        TEST(test_a_body_may_come_to_its_end),
        TEST(test_who_does_not_come_to_an_end_is_not_waited_for),
        TEST(test_a_request_whose_peer_has_left_is_waited_for),
        TEST(test_a_drain_may_be_cut_short),
        TEST(test_a_drain_may_be_cut_at_any_turn),
        TEST(test_the_server_stops_meanwhile),
        TEST(test_no_memory_does_not_hold_it_up),
    };
    pair = make_pair("localhost");
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    free_pair(&pair);
    return failed;
}
