/* The HTTP client against a server that says what it likes. */
#include "http/client.h"

#include "base/buf.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

/* --- the server: a thread per connection --- */

struct server {
    int fd, port;
    pthread_t thread;
    atomic_int connections;
};

static void say(int fd, const void *bytes, size_t len)
{
    (void)!send(fd, bytes, len, MSG_NOSIGNAL);
}

static void say_text(int fd, const char *text)
{
    say(fd, text, strlen(text));
}

static const unsigned char gzip_hello[] = {0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02,
                                           0xff, 0xcb, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x86,
                                           0xa6, 0x10, 0x36, 0x05, 0x00, 0x00, 0x00};

static void say_gzip(int fd, size_t len)
{
    char head[128];
    (void)snprintf(head, sizeof head,
                   "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %zu\r\n\r\n", len);
    say_text(fd, head);
    say(fd, gzip_hello, len);
}

/* Returns false where the connection is over. */
static bool answer(int fd, const char *request)
{
    char text[600];
    const char *path = strchr(request, ' ') + 1;
    if (!strncmp(path, "/hello", 6)) {
        say_text(fd, "HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nContent-Length: 5\r\n\r\nhello");
    } else if (!strncmp(path, "/bytes", 6)) {
        say_text(fd, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        for (const char *c = "hello"; *c; c++) {
            (void)snprintf(text, sizeof text, "1\r\n%c\r\n", *c);
            say_text(fd, text);
        }
        say_text(fd, "0\r\n\r\n");
    } else if (!strncmp(path, "/gzip", 5)) {
        say_gzip(fd, sizeof gzip_hello);
    } else if (!strncmp(path, "/notgzip", 8)) {
        say_text(fd, "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello");
    } else if (!strncmp(path, "/silent", 7)) {
        say_text(fd, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe");
    } else if (!strncmp(path, "/mute", 5)) {
        return true;
    } else if (!strncmp(path, "/half", 5)) {
        say_text(fd, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe");
        return false;
    } else if (!strncmp(path, "/garbage", 8)) {
        say_text(fd, "220 smtp.example ready\r\n\r\n");
        return false;
    } else if (!strncmp(path, "/busy", 5)) {
        say_text(fd, "HTTP/1.1 429 Busy\r\nRetry-After: 7\r\nContent-Length: 4\r\n\r\nwait");
    } else if (!strncmp(path, "/moved", 6)) {
        say_text(fd, "HTTP/1.1 302 Found\r\nLocation: /hello\r\nContent-Length: 0\r\n\r\n");
    } else {
        const char *header = strstr(request, "X-Mine: ");
        const char *body = strstr(request, "\r\n\r\n") + 4;
        (void)snprintf(text, sizeof text, "%.4s %.8s %s", request, header ? header + 8 : "none",
                       body);
        char head[128];
        (void)snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n",
                       strlen(text));
        say_text(fd, head);
        say_text(fd, text);
    }
    return true;
}

static void *serve_one(void *arg)
{
    int fd = (int)(intptr_t)arg;
    char request[4096];
    size_t len = 0;
    for (;;) {
        ssize_t n = recv(fd, request + len, sizeof request - 1 - len, 0);
        if (n <= 0)
            break;
        len += (size_t)n;
        request[len] = '\0';
        const char *end = strstr(request, "\r\n\r\n");
        if (!end || (strstr(request, "Content-Length: 4") && strlen(end) < 8))
            continue;
        len = 0;
        if (!answer(fd, request))
            break;
    }
    (void)close(fd);
    return NULL;
}

static void *serve(void *arg)
{
    struct server *s = arg;
    int fd;
    while ((fd = accept(s->fd, NULL, NULL)) >= 0) {
        pthread_t thread;
        s->connections++;
        if (pthread_create(&thread, NULL, serve_one, (void *)(intptr_t)fd) == 0)
            (void)pthread_detach(thread);
    }
    return NULL;
}

/* --- the client --- */

struct rig {
    struct server server;
    struct osm_loop *loop;
    struct osm_http_client *client;
    int waiting; /* for so many ends */
    bool running;
};

struct ask {
    struct rig *rig;
    struct osm_http_fetch *fetch;
    struct osm_buf body;
    int rc, status, head, ends, data_code;
    int64_t retry_after_s;
    char error[200], type[32];
    struct ask *cancels, *starts; /* when data comes */
};

static int setup(void **state)
{
    struct rig *rig = osm_alloc(sizeof *rig);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof at;
    rig->server.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(rig->server.fd, (struct sockaddr *)&at, sizeof at) || listen(rig->server.fd, 64) ||
        getsockname(rig->server.fd, (struct sockaddr *)&at, &size))
        return -1;
    rig->server.port = ntohs(at.sin_port);
    const struct osm_http_client_config config = {.user_agent = "test"};
    struct osm_http_client_config with_loop = config;
    if (pthread_create(&rig->server.thread, NULL, serve, &rig->server) ||
        osm_loop_new(&rig->loop, NULL))
        return -1;
    with_loop.loop = rig->loop;
    *state = rig;
    return osm_http_client_new(&rig->client, &with_loop, NULL);
}

static int teardown(void **state)
{
    struct rig *rig = *state;
    osm_http_client_free(rig->client);
    osm_loop_free(rig->loop);
    (void)shutdown(rig->server.fd, SHUT_RDWR);
    (void)pthread_join(rig->server.thread, NULL);
    (void)close(rig->server.fd);
    osm_free(rig);
    return osm_mem_live() == 0 ? 0 : -1;
}

static void start(struct rig *rig, struct ask *ask, const char *path);

static void on_head(void *ud, struct osm_http_fetch *fetch, int status)
{
    struct ask *ask = ud;
    assert_int_equal(osm_http_fetch_status(fetch), status);
    ask->head = status;
}

static int on_data(void *ud, struct osm_http_fetch *fetch, const char *bytes, size_t len)
{
    struct ask *ask = ud;
    (void)fetch;
    if (ask->cancels) {
        struct ask *other = ask->cancels;
        ask->cancels = NULL;
        osm_http_fetch_cancel(other->fetch);
    }
    if (ask->starts) {
        struct ask *other = ask->starts;
        ask->starts = NULL;
        start(ask->rig, other, "/hello");
    }
    (void)osm_buf_add(&ask->body, bytes, len);
    return ask->data_code;
}

static void on_done(void *ud, const struct osm_http_result *result)
{
    struct ask *ask = ud;
    ask->rc = result->rc;
    ask->status = result->status;
    ask->retry_after_s = result->retry_after_s;
    ask->ends++;
    (void)snprintf(ask->error, sizeof ask->error, "%s", result->error);
    (void)snprintf(ask->type, sizeof ask->type, "%s", result->content_type);
    if (--ask->rig->waiting <= 0 && ask->rig->running)
        osm_loop_stop(ask->rig->loop);
}

static struct osm_http_fetch_config config_of(struct rig *rig, struct ask *ask, const char *path,
                                              char url[128])
{
    (void)snprintf(url, 128, "http://127.0.0.1:%d%s", rig->server.port, path);
    *ask = (struct ask){.rig = rig,
                        .body = OSM_BUF_INIT(1 << 20),
                        .cancels = ask->cancels,
                        .starts = ask->starts,
                        .data_code = ask->data_code};
    return (struct osm_http_fetch_config){
        .url = url, .ud = ask, .head = on_head, .data = on_data, .done = on_done};
}

static void start_with(struct rig *rig, struct ask *ask, const struct osm_http_fetch_config *config)
{
    rig->waiting++;
    assert_int_equal(osm_http_fetch_start(&ask->fetch, rig->client, config, NULL), 0);
    assert_int_equal(ask->ends, 0);
}

static void start(struct rig *rig, struct ask *ask, const char *path)
{
    char url[128];
    struct osm_http_fetch_config config = config_of(rig, ask, path, url);
    start_with(rig, ask, &config);
}

static void run(struct rig *rig)
{
    rig->running = true;
    (void)osm_loop_run(rig->loop);
    rig->running = false;
}

static void expect_body(struct ask *ask, const char *body)
{
    assert_int_equal(ask->rc, 0);
    assert_int_equal(ask->ends, 1);
    assert_string_equal(ask->body.data, body);
    osm_buf_clear(&ask->body);
}

static void test_bodies_however_they_come(void **state)
{
    struct rig *rig = *state;
    static const char *const paths[] = {"/hello", "/bytes", "/gzip"};
    for (size_t i = 0; i < 3; i++) {
        struct ask ask = {0};
        start(rig, &ask, paths[i]);
        run(rig);
        assert_int_equal(ask.head, 200);
        assert_int_equal(ask.status, 200);
        assert_string_equal(ask.type, i ? "" : "a/b");
        expect_body(&ask, "hello");
    }
    assert_int_equal(rig->server.connections, 1); /* one after the other, on one connection */
}

static void test_method_headers_and_body_are_sent(void **state)
{
    struct rig *rig = *state;
    struct ask ask = {0};
    char url[128];
    const char *const headers[] = {"X-Mine: Bearer x", NULL};
    struct osm_http_fetch_config config = config_of(rig, &ask, "/echo", url);
    config.method = "PATCH";
    config.headers = headers;
    config.body = "body";
    config.body_len = 4;
    start_with(rig, &ask, &config);
    run(rig);
    expect_body(&ask, "PATC Bearer x body");
}

static void test_what_goes_wrong_has_a_code(void **state)
{
    struct rig *rig = *state;
    static const struct {
        const char *path;
        int rc, status;
    } rows[] = {
        {"/half", OSM_EIO, 200}, {"/garbage", OSM_EPARSE, 0}, {"/notgzip", OSM_EPARSE, 200},
        {"/busy", 0, 429},       {"/moved", 0, 302},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct ask ask = {0};
        start(rig, &ask, rows[i].path);
        run(rig);
        if (ask.rc != rows[i].rc || ask.status != rows[i].status)
            fail_msg("%s: %d, HTTP %d, %s", rows[i].path, ask.rc, ask.status, ask.error);
        assert_int_equal(!ask.rc, !*ask.error);
        assert_int_equal(ask.retry_after_s, i == 3 ? 7 : -1);
        osm_buf_clear(&ask.body);
    }
}

static void test_nobody_listens(void **state)
{
    struct rig *rig = *state;
    struct ask ask = {0};
    char url[128];
    struct osm_http_fetch_config config = config_of(rig, &ask, "", url);
    config.url = "http://127.0.0.1:1/";
    start_with(rig, &ask, &config);
    run(rig);
    assert_int_equal(ask.rc, OSM_EIO);
    assert_int_equal(ask.status, 0);
    assert_int_equal(ask.head, 0);
}

/* The library quotes a proxy's URL that it cannot use, and the text of an error goes to logs, to
 * status and to whoever asks for the health. */
static void test_no_error_holds_the_password_of_a_proxy(void **state)
{
    struct rig *rig = *state;
    static const char *const proxies[] = {"foo://user:word@h:2", "http://user:word@[::bad",
                                          "http://user:word@h:99999999", "user:word@",
                                          "http://user:word@127.0.0.1:1"};
    for (size_t i = 0; i < sizeof proxies / sizeof *proxies; i++) {
        struct ask ask = {0};
        char url[128];
        struct osm_http_fetch_config config = config_of(rig, &ask, "/hello", url);
        config.proxy = proxies[i];
        start_with(rig, &ask, &config);
        run(rig);
        if (!ask.rc || !*ask.error || strstr(ask.error, "word@"))
            fail_msg("%s: %d, %s", proxies[i], ask.rc, ask.error);
        osm_buf_clear(&ask.body);
    }
}

static void test_silence_and_slowness_end(void **state)
{
    struct rig *rig = *state;
    static const char *const paths[] = {"/silent", "/mute"};
    for (size_t i = 0; i < 4; i++) {
        struct ask ask = {0};
        char url[128];
        struct osm_http_fetch_config config = config_of(rig, &ask, paths[i % 2], url);
        if (i < 2)
            config.idle_ms = 60;
        else
            config.deadline_ms = 60;
        start_with(rig, &ask, &config);
        run(rig);
        assert_int_equal(ask.rc, OSM_ETIMEDOUT);
        if (i < 2)
            assert_string_equal(ask.error, "nothing was heard for 60 ms");
        osm_buf_clear(&ask.body);
    }
}

static void test_body_over_its_ceiling_ends(void **state)
{
    struct rig *rig = *state;
    struct ask ask = {0};
    char url[128];
    struct osm_http_fetch_config config = config_of(rig, &ask, "/gzip", url);
    config.body_max = 4;
    start_with(rig, &ask, &config);
    run(rig);
    assert_int_equal(ask.rc, OSM_ELIMIT);
    assert_null(ask.body.data);
}

static void test_code_of_the_reader_ends_it(void **state)
{
    struct rig *rig = *state;
    struct ask ask = {.data_code = OSM_EMISMATCH};
    start(rig, &ask, "/hello");
    run(rig);
    assert_int_equal(ask.rc, OSM_EMISMATCH);
    osm_buf_clear(&ask.body);
}

static void test_cancel_calls_back_at_once(void **state)
{
    struct rig *rig = *state;
    struct ask ask = {0}, other = {0};
    start(rig, &ask, "/silent");
    osm_http_fetch_cancel(ask.fetch);
    assert_int_equal(ask.ends, 1);
    assert_int_equal(ask.rc, OSM_ECANCELED);
    start(rig, &other, "/hello");
    run(rig);
    expect_body(&other, "hello");
    assert_int_equal(ask.ends, 1);
}

static void test_data_may_cancel_and_start_others(void **state)
{
    struct rig *rig = *state;
    struct ask third = {0}, second = {0}, first = {.cancels = &second, .starts = &third};
    start(rig, &second, "/mute");
    start(rig, &first, "/hello");
    run(rig);
    expect_body(&first, "hello");
    assert_int_equal(second.rc, OSM_ECANCELED);
    assert_int_equal(second.ends, 1);
    expect_body(&third, "hello");
}

static void test_what_is_no_url_is_refused(void **state)
{
    struct rig *rig = *state;
    static const char *const urls[] = {"", "ftp://127.0.0.1/", "file:///etc/passwd", "http://a b/",
                                       "/path"};
    for (size_t i = 0; i < sizeof urls / sizeof *urls; i++) {
        struct ask ask = {0};
        struct osm_err err = {0};
        char url[128];
        struct osm_http_fetch_config config = config_of(rig, &ask, "", url);
        config.url = urls[i];
        assert_int_equal(osm_http_fetch_start(&ask.fetch, rig->client, &config, &err), OSM_EINVAL);
        assert_int_equal(ask.ends, 0);
    }
}

static void test_free_ends_what_is_under_way(void **state)
{
    struct rig *rig = *state;
    struct ask asks[3] = {{0}};
    start(rig, &asks[0], "/silent");
    start(rig, &asks[1], "/mute");
    start(rig, &asks[2], "/hello");
    rig->waiting = 1; /* hello first, the others hang */
    run(rig);
    osm_http_client_free(osm_take_ptr(&rig->client));
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(asks[i].ends, 1);
        assert_int_equal(asks[i].rc, i < 2 ? OSM_ECANCELED : 0);
        osm_buf_clear(&asks[i].body);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_bodies_however_they_come),
        TEST(test_method_headers_and_body_are_sent),
        TEST(test_what_goes_wrong_has_a_code),
        TEST(test_nobody_listens),
        TEST(test_silence_and_slowness_end),
        TEST(test_body_over_its_ceiling_ends),
        TEST(test_code_of_the_reader_ends_it),
        TEST(test_cancel_calls_back_at_once),
        TEST(test_no_error_holds_the_password_of_a_proxy),
        TEST(test_data_may_cancel_and_start_others),
        TEST(test_what_is_no_url_is_refused),
        TEST(test_free_ends_what_is_under_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
