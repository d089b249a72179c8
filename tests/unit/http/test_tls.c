/* A listener with TLS: what it agrees to, peers that break off or say something else, limits, and
 * a certificate that changes. */
#include "http/tls_util.h"

#include <sys/wait.h>

static struct pair first, second;

#define POST_3 "POST /post HTTP/1.1\r\nContent-Type: a/b\r\nContent-Length: 3\r\n\r\nabc"

static int tls_setup(void **state)
{
    int rc = setup(state);
    if (rc)
        return rc;
    tls_listen(*state, &first, (struct osm_http_limits){0});
    for (int i = 0; i < 10; i++) /* until the plain one is gone */
        turn(*state);
    return 0;
}

static void wait_ms(struct fixture *f, uint64_t ms)
{
    for (uint64_t until = osm_now_ms() + ms; osm_now_ms() < until;)
        turn(f);
}

static void test_requests_and_bodies(void **state)
{
    struct fixture *f = *state;
    struct peer peer = tls_client(f);
    for (int i = 0; i < 3; i++) {
        tls_ask(f, &peer);
        tls_say(f, &peer, POST_3, strlen(POST_3));
        tls_expect(f, &peer, 200, "a/b|3|abc");
    }
    tls_close(&peer);
}

/* In one record: the socket tells of it once, and TLS has the rest. */
static void test_requests_in_one_record_are_answered_in_order(void **state)
{
    struct fixture *f = *state;
    struct osm_buf all = OSM_BUF_INIT(16000);
    struct peer peer = tls_client(f);
    for (int i = 0; i < 100; i++)
        (void)osm_buf_add_strs(&all, POST_3, GET("/hello"), NULL);
    assert_int_equal(all.failed, 0);
    tls_say(f, &peer, all.data, all.len);
    for (int i = 0; i < 100; i++) {
        tls_expect(f, &peer, 200, "a/b|3|abc");
        tls_expect(f, &peer, 200, "hello\n");
    }
    osm_buf_clear(&all);
    tls_close(&peer);
}

static void test_a_record_for_each_byte(void **state)
{
    struct fixture *f = *state;
    struct peer peer = tls_client(f);
    for (size_t i = 0; i < strlen(POST_3); i++) {
        tls_say(f, &peer, POST_3 + i, 1);
        turn(f);
    }
    tls_expect(f, &peer, 200, "a/b|3|abc");
    tls_close(&peer);
}

static void test_large_bodies_and_answers(void **state)
{
    struct fixture *f = *state;
    static const char head[] = "POST /large HTTP/1.1\r\nContent-Length: 3145728\r\n\r\n";
    char *body = malloc(BIG);
    size_t len;
    for (size_t i = 0; i < BIG; i++)
        body[i] = (char)('a' + i % 23);
    struct peer peer = tls_client(f);
    tls_say(f, &peer, head, strlen(head));
    tls_say(f, &peer, body, BIG);
    char *heard = tls_answer(f, &peer, 200, &len);
    assert_int_equal(len, BIG + 13);
    assert_memory_equal(heard + 13, body, BIG);
    free(heard);
    free(body);
    tls_ask(f, &peer);
    tls_close(&peer);
}

static void test_the_last_answer_ends_with_a_goodbye(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *text;
        int status;
    } cases[] = {
        {"GET /hello HTTP/1.1\r\nConnection: close\r\n\r\n", 200},
        {"POST /post HTTP/1.1\r\nContent-Length: 2000\r\n\r\n", 413},
        {"GET /\x01 HTTP/1.1\r\n\r\n", 400},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct peer peer = tls_client(f);
        char c;
        int end;
        tls_say(f, &peer, cases[i].text, strlen(cases[i].text));
        tls_expect(f, &peer, cases[i].status, NULL);
        assert_int_equal(tls_hear(f, &peer, &c, 1, &end), 0);
        assert_int_equal(end, 0);
        tls_close(&peer);
    }
}

static void test_versions_and_protocols(void **state)
{
    struct fixture *f = *state;
    static const struct {
        int max_version;
        const char *alpn, *chosen; /* chosen NULL: refused */
    } cases[] = {
        {TLS1_1_VERSION, NULL, NULL},
        {TLS1_2_VERSION, NULL, ""},
        {TLS1_3_VERSION, NULL, ""},
        {TLS1_2_VERSION, "\x02h2\x08http/1.1", "http/1.1"},
        {TLS1_3_VERSION, "\x02h2\x08http/1.1", "http/1.1"},
        {TLS1_3_VERSION, "\x08http/1.1", "http/1.1"},
        {TLS1_3_VERSION, "\x02h2", NULL},
        {TLS1_3_VERSION, "\x08http/1.0", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const unsigned char *chosen;
        unsigned len;
        struct peer peer = tls_peer(f, first.chain, cases[i].alpn, cases[i].max_version);
        assert_int_equal(tls_greet(f, &peer), cases[i].chosen != NULL);
        if (cases[i].chosen) {
            SSL_get0_alpn_selected(peer.ssl, &chosen, &len);
            assert_int_equal(len, strlen(cases[i].chosen));
            assert_memory_equal(chosen ? (const char *)chosen : "", cases[i].chosen, len);
            assert_int_equal(SSL_version(peer.ssl), cases[i].max_version);
            tls_ask(f, &peer);
            assert_false(SSL_SESSION_has_ticket(SSL_get0_session(peer.ssl)));
        }
        tls_close(&peer);
    }
}

/* It is not heard, and nothing breaks. */
static void test_who_does_not_speak_tls_is_cut(void **state)
{
    struct fixture *f = *state;
    static const char *const texts[] = {GET("/hello"),
                                        POST_3,
                                        "\x16\x03\x01\xff\xff\x01",
                                        "\x15\x03\x03\x01\x02\x02\x28",
                                        "\x16\x03\x01\x01\x05\x01\x01\x01\xfc\x03\x03",
                                        "\x80\x2e\x01\x03\x01",
                                        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"};
    long live = osm_mem_live();
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        int fd = client(f);
        char some[512];
        say(f, fd, texts[i]);
        (void)shutdown(fd, SHUT_WR);
        ssize_t n;
        for (uint64_t until = osm_now_ms() + 5000;
             (n = recv(fd, some, sizeof some, 0)) > 0 || (n < 0 && errno == EAGAIN);) {
            assert_true(osm_now_ms() < until);
            if (n > 0)
                assert_int_not_equal(some[0], 'H');
            turn(f);
        }
        close(fd);
    }
    for (int i = 0; i < 1000 && osm_mem_live() > live; i++)
        turn(f);
    assert_int_equal(osm_mem_live(), live);
    struct peer peer = tls_client(f);
    tls_ask(f, &peer);
    tls_close(&peer);
}

/* After each possible step of the handshake. */
static void test_who_leaves_within_the_handshake_leaves_nothing(void **state)
{
    struct fixture *f = *state;
    long live = osm_mem_live();
    for (int steps = 0; steps < 12; steps++)
        for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
            struct peer peer = tls_peer(f, NULL, NULL, version);
            for (int i = 0; i < steps; i++) {
                ERR_clear_error();
                (void)SSL_do_handshake(peer.ssl);
                turn(f);
            }
            tls_close(&peer);
        }
    for (int i = 0; i < 1000 && osm_mem_live() > live; i++)
        turn(f);
    assert_int_equal(osm_mem_live(), live);
}

static void test_who_does_not_finish_the_handshake_is_let_go(void **state)
{
    struct fixture *f = *state;
    tls_listen(f, &first, (struct osm_http_limits){.idle_ms = 300});
    int silent = client(f);
    struct peer half = tls_peer(f, NULL, NULL, 0);
    (void)SSL_do_handshake(half.ssl); /* its first word, and no other */
    char some[4096];
    ssize_t n;
    expect_end(f, silent);
    for (uint64_t until = osm_now_ms() + 5000;
         (n = recv(half.fd, some, sizeof some, 0)) > 0 || (n < 0 && errno == EAGAIN); turn(f))
        assert_true(osm_now_ms() < until);
    tls_close(&half);
    close(silent);
}

static void test_who_does_not_finish_the_handshake_gives_way(void **state)
{
    struct fixture *f = *state;
    tls_listen(f, &first, (struct osm_http_limits){.connections = 3});
    int silent[9];
    for (int i = 0; i < 9; i++) {
        silent[i] = client(f);
        for (int n = 0; n < 5; n++)
            turn(f);
    }
    for (int i = 0; i < 6; i++)
        expect_end(f, silent[i]);
    struct peer peer = tls_client(f);
    tls_ask(f, &peer);
    tls_close(&peer);
    for (int i = 0; i < 9; i++)
        close(silent[i]);
}

static void test_a_slow_reader_is_dropped(void **state)
{
    struct fixture *f = *state;
    tls_listen(f, &first, (struct osm_http_limits){.stalled_ms = 300});
    struct peer peer = tls_client(f);
    tls_say(f, &peer, GET("/stream"), strlen(GET("/stream")));
    for (uint64_t until = osm_now_ms() + 10000; !f->ended && osm_now_ms() < until;)
        turn(f);
    assert_int_equal(f->ended, 1);
    assert_true(f->made < BIG);
    tls_close(&peer);
}

/* A peer that reads, but so slowly that it never ends. */
static void test_an_answer_has_its_time(void **state)
{
    struct fixture *f = *state;
    tls_listen(f, &first, (struct osm_http_limits){.answer_ms = 500});
    struct peer peer = tls_client(f);
    char some[1000];
    tls_say(f, &peer, GET("/stream"), strlen(GET("/stream")));
    for (int i = 0; i < 250 && !f->ended; i++) {
        (void)SSL_read(peer.ssl, some, sizeof some);
        wait_ms(f, 10);
    }
    assert_int_equal(f->ended, 1);
    assert_true(f->made < BIG);
    tls_close(&peer);
}

static void test_a_certificate_changes_for_new_connections(void **state)
{
    struct fixture *f = *state;
    struct osm_err err = {0};
    struct peer old = tls_client(f);
    tls_ask(f, &old);
    assert_true(tls_is_served(f, &first));
    assert_false(tls_is_served(f, &second));
    assert_int_equal(osm_http_set_tls(f->listener, second.chain, second.key, &err), 0);
    tls_ask(f, &old);
    assert_true(tls_is_served(f, &second));
    assert_false(tls_is_served(f, &first));
    tls_close(&old);
}

static void test_a_bad_certificate_changes_nothing(void **state)
{
    struct fixture *f = *state;
    char half[4096], none[] = "";
    (void)snprintf(half, sizeof half, "%s%.*s", second.chain, 100, second.chain);
    const struct {
        const char *chain, *key;
        int code;
        const char *part;
    } cases[] = {
        {second.chain, first.key, OSM_EMISMATCH, "the private key is not the certificate's"},
        {none, second.key, OSM_EPARSE, "the certificate chain cannot be read"},
        {"nonsense", second.key, OSM_EPARSE, "the certificate chain cannot be read"},
        {half, second.key, OSM_EPARSE, "the certificate chain cannot be read whole"},
        {second.chain, none, OSM_EPARSE, "the private key cannot be read"},
        {second.chain, second.chain, OSM_EPARSE, "the private key cannot be read"},
        {second.chain, NULL, OSM_EINVAL, "needs its key"},
        {NULL, second.key, OSM_EINVAL, "needs its key"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct osm_err err = {0};
        struct osm_http_listener *other = NULL;
        assert_int_equal(osm_http_set_tls(f->listener, cases[i].chain, cases[i].key, &err),
                         cases[i].code);
        assert_non_null(strstr(err.msg, cases[i].part));
        const struct osm_http_listen config = {"127.0.0.1:0",  "--x",       false, routes, f, {0},
                                               cases[i].chain, cases[i].key};
        assert_int_equal(osm_http_listen(&other, f->http, &config, &err), cases[i].code);
        assert_null(other);
        assert_true(tls_is_served(f, &first));
    }
    struct osm_err err = {0};
    listen_on(f, false, (struct osm_http_limits){0});
    assert_int_equal(osm_http_set_tls(f->listener, first.chain, first.key, &err), OSM_EINVAL);
}

/* Handshakes, requests and answers are all under way when it does. */
static void test_a_certificate_changes_under_load(void **state)
{
    struct fixture *f = *state;
    enum { PEERS = 16, ROUNDS = 30 };
    struct peer peers[PEERS];
    struct peer reader = tls_client(f);
    tls_say(f, &reader, GET("/stream"), strlen(GET("/stream")));
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < PEERS; i++) {
            const struct pair *next = i % 2 ? &first : &second;
            peers[i] = tls_peer(f, NULL, NULL, i % 3 ? TLS1_3_VERSION : TLS1_2_VERSION);
            for (int n = 0; n < i % 5; n++) {
                (void)SSL_do_handshake(peers[i].ssl);
                turn(f);
            }
            assert_int_equal(osm_http_set_tls(f->listener, next->chain, next->key, NULL), 0);
        }
        for (int i = 0; i < PEERS; i++) {
            assert_true(tls_greet(f, &peers[i]));
            tls_ask(f, &peers[i]);
            tls_close(&peers[i]);
        }
    }
    char *all = malloc((size_t)BIG * 2);
    int end;
    tls_say(f, &reader, "GET /hello HTTP/1.1\r\nConnection: close\r\n\r\n", 42);
    size_t len = tls_hear(f, &reader, all, (size_t)BIG * 2, &end);
    assert_true(len > BIG);
    assert_memory_equal(all + len - 6, "hello\n", 6);
    free(all);
    tls_close(&reader);
}

static void test_the_peer_of_a_kept_request_leaves(void **state)
{
    struct fixture *f = *state;
    struct peer peer = tls_client(f);
    tls_say(f, &peer, GET("/keep"), strlen(GET("/keep")));
    for (uint64_t until = osm_now_ms() + 5000; !f->kept && osm_now_ms() < until;)
        turn(f);
    assert_non_null(f->kept);
    for (int i = 0; i < 50; i++)
        turn(f);
    assert_true(osm_http_alive(f->kept));
    tls_close(&peer);
    for (uint64_t until = osm_now_ms() + 5000; osm_http_alive(f->kept) && osm_now_ms() < until;)
        turn(f);
    assert_false(osm_http_alive(f->kept));
    for (int i = 0; i < 20; i++)
        turn(f);
    osm_http_reply_text(f->kept, 200, "to nobody");
}

/* In the middle of an answer: what is written to it then harms nobody. */
static void test_the_peer_leaves_within_its_answer(void **state)
{
    struct fixture *f = *state;
    for (int i = 1; i <= 5; i++) {
        struct peer peer = tls_client(f);
        char some[20000];
        int end;
        tls_say(f, &peer, GET("/stream"), strlen(GET("/stream")));
        (void)tls_hear(f, &peer, some, sizeof some, &end);
        if (i % 2)
            (void)SSL_shutdown(peer.ssl);
        tls_close(&peer);
        for (uint64_t until = osm_now_ms() + 5000; f->ended < i && osm_now_ms() < until;)
            turn(f);
        assert_int_equal(f->ended, i);
    }
}

static void test_no_memory_ends_one_connection(void **state)
{
    struct fixture *f = *state;
    for (long n = 0; n < 12; n++) {
        struct peer peer = tls_peer(f, NULL, NULL, 0);
        osm_mem_fail_at(n);
        if (tls_greet(f, &peer))
            tls_say(f, &peer, POST_3, strlen(POST_3));
        wait_ms(f, 5);
        osm_mem_fail_at(-1);
        tls_close(&peer);
    }
    assert_true(tls_is_served(f, &first));
}

/* curl: it offers HTTP/2, verifies the name, and asks before it sends over a megabyte. */
static void test_curl_posts_a_large_body(void **state)
{
    struct fixture *f = *state;
    char dir[] = "/tmp/osm-tls-test-XXXXXX", ca[64], body[64], data[80], url[128], to[64];
    const char *port = strrchr(osm_http_address(f->listener), ':');
    assert_non_null(mkdtemp(dir));
    (void)snprintf(ca, sizeof ca, "%s/ca", dir);
    (void)snprintf(body, sizeof body, "%s/body", dir);
    (void)snprintf(data, sizeof data, "@%s", body);
    (void)snprintf(url, sizeof url, "https://injector.mesh.svc%s/large", port);
    (void)snprintf(to, sizeof to, "injector.mesh.svc%s:127.0.0.1", port);
    FILE *file = fopen(ca, "w");
    assert_true(fputs(first.chain, file) >= 0);
    (void)fclose(file);
    file = fopen(body, "w");
    for (int i = 0; i < 2000000; i++)
        assert_int_equal(fputc('z', file), 'z');
    (void)fclose(file);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (!pid) {
        (void)freopen("/dev/null", "w", stdout);
        (void)execlp("curl", "curl", "-sS", "--fail", "--max-time", "20", "--cacert", ca,
                     "--resolve", to, "-H", "Content-Type: application/json", "-H",
                     "Expect: 100-continue", "--expect100-timeout", "30", "--data-binary", data,
                     url, (char *)NULL);
        _exit(127);
    }
    int status = 0;
    while (!waitpid(pid, &status, WNOHANG))
        turn(f);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_int_equal(f->posts, 1);
    (void)unlink(ca);
    (void)unlink(body);
    (void)rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, tls_setup, teardown)
        TEST(test_requests_and_bodies),
        TEST(test_requests_in_one_record_are_answered_in_order),
        TEST(test_a_record_for_each_byte),
        TEST(test_large_bodies_and_answers),
        TEST(test_the_last_answer_ends_with_a_goodbye),
        TEST(test_versions_and_protocols),
        TEST(test_who_does_not_speak_tls_is_cut),
        TEST(test_who_leaves_within_the_handshake_leaves_nothing),
        TEST(test_who_does_not_finish_the_handshake_is_let_go),
        TEST(test_who_does_not_finish_the_handshake_gives_way),
        TEST(test_a_slow_reader_is_dropped),
        TEST(test_an_answer_has_its_time),
        TEST(test_a_certificate_changes_for_new_connections),
        TEST(test_a_bad_certificate_changes_nothing),
        TEST(test_a_certificate_changes_under_load),
        TEST(test_the_peer_of_a_kept_request_leaves),
        TEST(test_the_peer_leaves_within_its_answer),
        TEST(test_no_memory_ends_one_connection),
        TEST(test_curl_posts_a_large_body),
    };
    first = make_pair("injector.mesh.svc");
    second = make_pair("injector.mesh.svc");
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    free_pair(&first);
    free_pair(&second);
    return failed;
}
