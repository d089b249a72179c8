/* Sessions of a console: lines of text, pages, time limits, peers that stop to talk or to read,
 * events until the next line, TCP with a token. */
#include "console_rig.h"

#include <netinet/in.h>

enum { PAGE = 1000 };

static struct osm_control_request *watching;

static void stop_watching(void *ud)
{
    (void)ud;
    osm_control_reply(osm_take_ptr(&watching), NULL);
}

static void watch(void *ud, struct osm_control_request *request, const json_t *args)
{
    (void)ud;
    (void)args;
    watching = request;
    osm_control_on_cancel(request, stop_watching, NULL);
    assert_true(osm_control_tell(request, json_pack("{s:i}", "count", 1)));
}

/* Answers with as many lines as asked for. */
static void lines(void *ud, struct osm_control_request *request, const json_t *args)
{
    (void)ud;
    json_t *list = json_array();
    for (json_int_t i = 0; i < json_integer_value(json_object_get(args, "count")); i++)
        json_array_append_new(list, json_sprintf("line \"%d\" \xc3\xa9", (int)i));
    osm_control_reply(request, json_pack("{s:o}", "lines", list));
}

/* Lua-like: "(" is open. */
static void chunk(void *ud, struct osm_control_request *request, const json_t *args)
{
    const char *code = json_string_value(json_object_get(args, "code"));
    (void)ud;
    bool open = strchr(code, '(') && !strchr(code, ')');
    osm_control_reply(request, open ? json_pack("{s:b}", "incomplete", 1)
                                    : json_pack("{s:s}", "code", code));
}

static void count_kept(void *ud)
{
    ++*(int *)ud;
}

static int freed;

static void remember(void *ud, struct osm_control_request *request, const json_t *args)
{
    (void)ud;
    (void)args;
    bool had = osm_control_kept(request) != NULL;
    osm_control_keep(request, &freed, count_kept);
    osm_control_reply(request, json_pack("{s:b}", "had", had));
}

static const struct osm_control_arg lines_args[] = {
    {.name = "count", .type = OSM_ARG_INTEGER, .required = true, .help = "how many"},
    {.name = NULL},
};
static const struct osm_control_arg chunk_args[] = {
    {.name = "code", .type = OSM_ARG_LINE, .required = true, .help = "of several lines"},
    {.name = NULL},
};
static const struct osm_control_command more_commands[] = {
    {.name = "watch", .handler = watch, .deadline_ms = OSM_CONTROL_PATIENT, .help = "goes on"},
    {.name = "lines", .handler = lines, .args = lines_args, .help = "a long answer"},
    {.name = "chunk", .handler = chunk, .args = chunk_args, .continues = true, .help = "of lines"},
    {.name = "remember", .handler = remember, .help = "keeps something"},
    {.name = "late", .handler = keep, .deadline_ms = 20, .help = "answers too late"},
    {.name = NULL},
};

static int start_console(struct fixture *f, struct osm_control **out,
                         const struct osm_control_config *config)
{
    struct osm_err err = {0};
    struct osm_control_config whole = *config;
    whole.loop = f->loop;
    whole.registry = f->registry;
    whole.sessions_max = 4;
    whole.page_bytes = PAGE;
    int rc = osm_control_start(out, &whole, &err);
    if (rc)
        assert_true(strlen(err.msg) > 0);
    return rc;
}

static int setup_console(void **state)
{
    if (setup(state))
        return 1;
    struct fixture *f = *state;
    struct osm_err err = {0};
    osm_control_stop(f->control);
    turn(f);
    freed = 0;
    (void)snprintf(f->path, sizeof f->path, "%s/own/s", f->dir);
    return osm_registry_add(f->registry, more_commands, f, &err) ||
           start_console(f, &f->control,
                         &(struct osm_control_config){
                             .path = f->path, .private_dir = true, .patience_ms = 50});
}

static int teardown_console(void **state)
{
    struct fixture *f = *state;
    char own[128];
    (void)snprintf(own, sizeof own, "%s/own", f->dir);
    osm_control_stop(osm_take_ptr(&f->control));
    turn(f);
    (void)rmdir(own);
    return teardown(state);
}

static void type(struct fixture *f, int fd, const char *line, const char *answer)
{
    say(f, fd, line, strlen(line));
    heard(f, fd, answer);
}

static void test_lines_of_text_are_answered_in_text(void **state)
{
    struct fixture *f = *state;
    int fd = client(f);
    type(f, fd, "echo one 'two words'\r\n", "a:\n  - one\n  - two words\nview> ");
    type(f, fd, "\n", "view> ");
    type(f, fd, "ehco x\n", "error: no such command: ehco x; did you mean echo?\nview> ");
    type(f, fd, "act\n",
         "error: refused: act needs the role operate; this session has view\nview> ");
    type(f, fd, "lines\n", "error: lines: count is missing: how many\nview> ");
    type(f, fd, "lines x\n", "error: count: expected a whole number\nview> ");
    type(f, fd, "help lines\n",
         "lines COUNT  view     a long answer\n  count      integer  how many\nview> ");
    type(f, fd, "quit\n", "");
    assert_int_equal(hear_byte(f, fd), -1);
    close(fd);
}

/* What is behind it was neither looked at nor logged. */
static void test_a_zero_byte_is_an_error(void **state)
{
    struct fixture *f = *state;
    static const char line[] = "echo a\0 and more\necho b\n";
    int fd = client(f);
    say(f, fd, line, sizeof line - 1);
    heard(f, fd, "error: the line holds a zero byte\nview> a:\n  - b\nview> ");
    close(fd);
}

/* However the bytes come, the conversation is the same. */
static void test_text_split_at_every_byte(void **state)
{
    struct fixture *f = *state;
    const char *talk = "echo a\nchunk (\nb )\necho b\n";
    const char *answer = "a:\n  - a\nview> >> code:\n  (\n  b )\nview> a:\n  - b\nview> ";
    for (size_t at = 1; at < strlen(talk); at++) {
        int fd = client(f);
        say(f, fd, talk, at);
        say(f, fd, talk + at, strlen(talk) - at);
        heard(f, fd, answer);
        close(fd);
        turn(f);
    }
}

static void test_a_line_that_goes_on_is_given_up_with_a_dot(void **state)
{
    struct fixture *f = *state;
    int fd = client(f);
    type(f, fd, "chunk (\n", ">> ");
    type(f, fd, "\n", ">> ");
    type(f, fd, ".\n", "view> ");
    type(f, fd, "chunk x\n", "code: x\nview> ");
    close(fd);
}

static void test_json_may_be_typed_and_rendered(void **state)
{
    struct fixture *f = *state;
    int fd = client(f);
    ask(f, fd, "{\"id\":1,\"line\":\"echo x\"}\n",
        "{\"data\":{\"a\":[\"x\"]},\"id\":1,\"ok\":true}");
    ask(f, fd, "{\"id\":2,\"line\":\"echo x\",\"render\":true}\n",
        "{\"id\":2,\"ok\":true,\"text\":\"a:\\n  - x\\n\"}");
    ask(f, fd, "{\"id\":3,\"line\":\"chunk (\",\"render\":true}\n",
        "{\"data\":{\"incomplete\":true},\"id\":3,\"ok\":true}");
    ask(f, fd, "{\"id\":4,\"line\":\"chunk (\\n)\"}\n",
        "{\"data\":{\"code\":\"(\\n)\"},\"id\":4,\"ok\":true}");
    ask(f, fd, "{\"id\":5,\"line\":\"echo\",\"cmd\":\"echo\"}\n",
        "{\"err\":{\"code\":\"OSM_EPARSE\",\"msg\":\"not a request: expected one JSON object per "
        "line "
        "with \\\"cmd\\\" and \\\"args\\\", or with \\\"line\\\"\"},\"id\":5,\"ok\":false}");
    close(fd);
}

/* A peer that has only stopped to talk still gets all its answers. */
static void test_a_half_closed_session_is_answered_to_its_end(void **state)
{
    struct fixture *f = *state;
    int fd = client(f);
    say(f, fd, "echo a\necho b", 13); /* the last line has no end */
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    heard(f, fd, "a:\n  - a\nview> a:\n  - b\n");
    assert_int_equal(hear_byte(f, fd), -1);
    close(fd);
    fd = client(f);
    say(f, fd, "{\"id\":1,\"cmd\":\"keep\"}", 21);
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    while (!f->kept)
        turn(f);
    for (int i = 0; i < 100; i++)
        turn(f);
    assert_true(osm_control_alive(f->kept));
    osm_control_reply(osm_take_ptr(&f->kept), NULL);
    expect_text(hear(f, fd), "{\"data\":{},\"id\":1,\"ok\":true}");
    assert_int_equal(hear_byte(f, fd), -1);
    close(fd);
}

static void test_long_answers_come_in_pages(void **state)
{
    struct fixture *f = *state;
    struct osm_buf whole = OSM_BUF_INIT(1 << 20);
    int fd = client(f), pages = 0;
    const char *line = "{\"id\":1,\"cmd\":\"lines\",\"args\":{\"count\":500}}\n";
    for (bool more = true; more; pages++, line = "{\"id\":2,\"cmd\":\"more\"}\n") {
        say(f, fd, line, strlen(line));
        json_t *answer = hear(f, fd);
        char *text = json_dumps(answer, JSON_COMPACT);
        assert_true(strlen(text) < PAGE + 100); /* the page, and what is around it */
        free(text);
        assert_true(json_is_true(json_object_get(answer, "ok")));
        more = json_is_true(json_object_get(answer, "more"));
        assert_int_equal(
            osm_buf_add_str(&whole, json_string_value(json_object_get(answer, "page"))), 0);
        json_decref(answer);
    }
    json_t *data = json_loads(whole.data, 0, NULL);
    assert_int_equal(json_array_size(json_object_get(data, "lines")), 500);
    assert_true(pages > 5);
    json_decref(data);
    ask(f, fd, "{\"id\":3,\"cmd\":\"more\"}\n",
        "{\"err\":{\"code\":\"OSM_ENOENT\",\"msg\":\"there is no more of the last "
        "answer\"},\"id\":3,"
        "\"ok\":false}");
    osm_buf_clear(&whole);
    close(fd);

    fd = client(f);
    say(f, fd, "lines 100\n", 10);
    heard(f, fd, "lines:\n  - line \"0\" \xc3\xa9\n");
    for (int c; (c = hear_byte(f, fd)) != '-' || (c = hear_byte(f, fd)) != '-';)
        assert_true(c > 0);
    heard(f, fd, " 1000 of 1697 bytes; `more` says the next --\nview> ");
    close(fd);
}

static void test_an_answer_has_a_deadline(void **state)
{
    struct fixture *f = *state;
    int fd = client(f);
    type(f, fd, "late\n",
         "error: no answer in 0 s: what it asks is busy or stuck; other commands still "
         "work\nview> ");
    assert_false(osm_control_alive(f->kept));
    type(f, fd, "echo x\n", "a:\n  - x\nview> ");
    osm_control_reply(osm_take_ptr(&f->kept), json_pack("{s:s}", "too", "late"));
    type(f, fd, "echo y\n", "a:\n  - y\nview> ");
    close(fd);
}

static void test_events_come_until_the_next_line(void **state)
{
    struct fixture *f = *state;
    int fd = client(f);
    type(f, fd, "watch\n", "count: 1\n");
    assert_true(osm_control_tell(watching, json_pack("{s:i}", "count", 2)));
    heard(f, fd, "count: 2\n");
    type(f, fd, "\n", "view> ");
    assert_null(watching);
    type(f, fd, "watch\n", "count: 1\n");
    type(f, fd, "echo x\n", "view> a:\n  - x\nview> ");
    assert_null(watching);
    type(f, fd, "watch\n", "count: 1\n");
    close(fd);
    for (int i = 0; i < 1000 && watching; i++)
        turn(f);
    assert_null(watching);

    fd = client(f);
    ask(f, fd, "{\"id\":7,\"cmd\":\"watch\"}\n", "{\"event\":{\"count\":1},\"id\":7}");
    say(f, fd, "{\"id\":8,\"cmd\":\"echo\"}\n", 22);
    expect_text(hear(f, fd), "{\"data\":{},\"id\":7,\"ok\":true}");
    expect_text(hear(f, fd), "{\"data\":{},\"id\":8,\"ok\":true}");
    close(fd);
}

/* It has its time for reading, and the others are served meanwhile. */
static void test_a_peer_that_does_not_read_is_dropped(void **state)
{
    struct fixture *f = *state;
    int fd = client(f), other = client(f), log = open("/dev/null", O_WRONLY);
    osm_log_set_fd(log);
    const char *line = "{\"id\":1,\"cmd\":\"lines\",\"args\":{\"count\":20}}\n";
    bool gone = false;
    for (uint64_t end = osm_now_ms() + 20000; !gone && osm_now_ms() < end;) {
        gone = send(fd, line, strlen(line), MSG_NOSIGNAL) < 0 && errno != EAGAIN;
        turn(f);
    }
    osm_log_set_fd(2);
    close(log);
    assert_true(gone);
    type(f, other, "echo x\n", "a:\n  - x\nview> ");
    close(fd);
    close(other);
}

static void test_what_a_module_keeps_goes_with_the_session(void **state)
{
    struct fixture *f = *state;
    int fd = client(f);
    type(f, fd, "remember\n", "had: false\nview> ");
    type(f, fd, "remember\n", "had: true\nview> ");
    assert_int_equal(freed, 0);
    close(fd);
    for (int i = 0; i < 1000 && !freed; i++)
        turn(f);
    assert_int_equal(freed, 1);
}

static void test_the_fifth_session_is_refused(void **state)
{
    struct fixture *f = *state;
    int sessions[5];
    for (int i = 0; i < 4; i++) {
        sessions[i] = client(f);
        type(f, sessions[i], "echo x\n", "a:\n  - x\nview> ");
    }
    sessions[4] = client(f);
    expect_text(
        hear(f, sessions[4]),
        "{\"err\":{\"code\":\"OSM_ELIMIT\",\"msg\":\"too many sessions on this socket; end one "
        "and try again\"},\"id\":null,\"ok\":false}");
    assert_int_equal(hear_byte(f, sessions[4]), -1);
    close(sessions[0]);
    turn(f);
    int again = client(f);
    type(f, again, "echo x\n", "a:\n  - x\nview> ");
    for (int i = 1; i < 5; i++)
        close(sessions[i]);
    close(again);
}

static void test_a_directory_that_others_may_enter_is_refused(void **state)
{
    struct fixture *f = *state;
    char dir[128], path[160];
    struct osm_control *second;
    struct osm_err err = {0};
    (void)snprintf(dir, sizeof dir, "%s/open", f->dir);
    (void)snprintf(path, sizeof path, "%s/s", dir);
    assert_int_equal(mkdir(dir, 0755), 0);
    struct osm_control_config config = {
        .loop = f->loop, .path = path, .private_dir = true, .registry = f->registry};
    assert_int_equal(osm_control_start(&second, &config, &err), OSM_EACCES);
    assert_non_null(strstr(err.msg, "chmod 700"));
    turn(f);
    assert_int_not_equal(access(path, F_OK), 0);
    assert_int_equal(rmdir(dir), 0);
}

/* --- TCP --- */

static const char TOKEN[] = "a-token-of-some-length";

static int start_tcp(struct fixture *f, struct osm_control **out, const char *address,
                     const char *token)
{
    return start_console(f, out, &(struct osm_control_config){.address = address, .token = token});
}

/* A port that nobody has. */
static int free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
    close(fd);
    return ntohs(address.sin_port);
}

static int tcp_client(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    return fd;
}

static void test_tcp_begins_with_the_token(void **state)
{
    struct fixture *f = *state;
    struct osm_control *tcp;
    char address[32];
    int port = free_port(), log = open("/dev/null", O_WRONLY);
    osm_log_set_fd(log);
    (void)snprintf(address, sizeof address, "127.0.0.1:%d", port);
    assert_int_equal(start_tcp(f, &tcp, address, TOKEN), 0);
    static const char *const wrong[] = {
        "a-token-of-some-lengtX\necho x\n",  "a-token-of-some-lengt\necho x\n",
        "a-token-of-some-length \necho x\n", "echo x\n",
        "{\"id\":1,\"cmd\":\"echo\"}\n",     "GET / HTTP/1.1\r\n",
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        int fd = tcp_client(port);
        say(f, fd, wrong[i], strlen(wrong[i]));
        expect_text(hear(f, fd),
                    "{\"err\":{\"code\":\"OSM_EACCES\",\"msg\":\"the first line must be "
                    "the console's token, and this is not it\"},\"id\":null,\"ok\":false}");
        assert_int_equal(hear_byte(f, fd), -1);
        close(fd);
        turn(f);
    }
    assert_int_equal(f->calls, 0);
    for (size_t at = 0; at <= strlen(TOKEN); at++) { /* split anywhere */
        int fd = tcp_client(port);
        say(f, fd, TOKEN, at);
        say(f, fd, TOKEN + at, strlen(TOKEN) - at);
        type(f, fd, "\necho x\n", "a:\n  - x\nview> ");
        close(fd);
        turn(f);
    }
    osm_control_stop(tcp);
    turn(f);
    osm_log_set_fd(2);
    close(log);
}

static void test_tcp_is_for_loopback_and_needs_a_token(void **state)
{
    struct fixture *f = *state;
    struct osm_control *tcp;
    static const char *const refused[] = {"0.0.0.0:15300",   "10.0.0.1:15300", "[::]:15300",
                                          "example.com:80",  "127.0.0.1",      "127.0.0.1:x",
                                          "127.0.0.1:70000", ":15300",         ""};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        assert_int_equal(start_tcp(f, &tcp, refused[i], TOKEN), OSM_EINVAL);
    assert_int_equal(start_tcp(f, &tcp, "127.0.0.1:15300", "short"), OSM_EINVAL);
    assert_int_equal(start_tcp(f, &tcp, "127.0.0.1:15300", NULL), OSM_EINVAL);
    turn(f);
}

static void test_a_token_file_is_for_its_owner(void **state)
{
    struct fixture *f = *state;
    char path[128], *token = NULL;
    struct osm_err err = {0};
    static const struct {
        const char *text;
        mode_t mode;
        int rc;
    } cases[] = {
        {"a-token-of-some-length\n", 0600, 0},
        {"a-token-of-some-length", 0400, 0},
        {"a-token-of-some-length\n", 0640, OSM_EACCES},
        {"a-token-of-some-length\n", 0604, OSM_EACCES},
        {"short\n", 0600, OSM_EINVAL},
        {"", 0600, OSM_EINVAL},
        {"a-token-of-some-length\nanother\n", 0600, OSM_EINVAL},
        {"a token of some length\n", 0600, OSM_EINVAL},
    };
    (void)snprintf(path, sizeof path, "%s/token", f->dir);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
        assert_int_equal(write(fd, cases[i].text, strlen(cases[i].text)), strlen(cases[i].text));
        assert_int_equal(fchmod(fd, cases[i].mode), 0);
        close(fd);
        assert_int_equal(osm_control_read_token(&token, path, &err), cases[i].rc);
        if (!cases[i].rc) {
            assert_string_equal(token, "a-token-of-some-length");
            osm_free_secret(token, strlen(token));
        }
        assert_int_equal(unlink(path), 0);
    }
    assert_int_equal(osm_control_read_token(&token, path, &err), OSM_EIO);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup_console, teardown_console)
    const struct CMUnitTest tests[] = {
        TEST(test_lines_of_text_are_answered_in_text),
        TEST(test_text_split_at_every_byte),
        TEST(test_a_zero_byte_is_an_error),
        TEST(test_a_line_that_goes_on_is_given_up_with_a_dot),
        TEST(test_json_may_be_typed_and_rendered),
        TEST(test_a_half_closed_session_is_answered_to_its_end),
        TEST(test_long_answers_come_in_pages),
        TEST(test_an_answer_has_a_deadline),
        TEST(test_events_come_until_the_next_line),
        TEST(test_a_peer_that_does_not_read_is_dropped),
        TEST(test_what_a_module_keeps_goes_with_the_session),
        TEST(test_the_fifth_session_is_refused),
        TEST(test_a_directory_that_others_may_enter_is_refused),
        TEST(test_tcp_begins_with_the_token),
        TEST(test_tcp_is_for_loopback_and_needs_a_token),
        TEST(test_a_token_file_is_for_its_owner),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
