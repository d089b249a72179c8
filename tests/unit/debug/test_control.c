/* A console's socket against a real client on a real loop: frames split anywhere, pipelined,
 * oversize, garbage, a peer that leaves; who may do what. */
#include "console_rig.h"

static void test_socket_is_for_its_owner_only(void **state)
{
    struct fixture *f = *state;
    struct stat info;
    assert_int_equal(stat(f->path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
}

static void test_answers_a_frame_split_at_every_byte(void **state)
{
    struct fixture *f = *state;
    const char *line = "{\"id\":7,\"cmd\":\"echo\",\"args\":{\"a\":[\"1\",\"2\"]}}\n";
    for (size_t at = 1; at < strlen(line); at++) {
        int fd = client(f);
        say(f, fd, line, at);
        say(f, fd, line + at, strlen(line) - at);
        expect_text(hear(f, fd), "{\"data\":{\"a\":[\"1\",\"2\"]},\"id\":7,\"ok\":true}");
        close(fd);
        turn(f);
    }
}

static void test_answers_pipelined_requests_and_blank_lines(void **state)
{
    struct fixture *f = *state;
    const char *lines = "\n{\"id\":1,\"cmd\":\"echo\"}\n{\"id\":2,\"cmd\":\"refuse\"}\n{\"id\":3,"
                        "\"cmd\":\"nothing\"}\n";
    int fd = client(f);
    say(f, fd, lines, strlen(lines));
    expect_text(hear(f, fd), "{\"data\":{},\"id\":1,\"ok\":true}");
    expect_text(
        hear(f, fd),
        "{\"err\":{\"code\":\"OSM_ENOENT\",\"msg\":\"no such pod\"},\"id\":2,\"ok\":false}");
    expect_text(hear(f, fd), "{\"err\":{\"code\":\"OSM_ENOENT\",\"msg\":\"no such command: "
                             "nothing\"},\"id\":3,\"ok\":false}");
    close(fd);
}

static void test_garbage_is_answered_and_the_session_goes_on(void **state)
{
    struct fixture *f = *state;
    const char *lines = "{GET / HTTP/1.1\n[1]\n{\"cmd\":5}\n"
                        "{\"id\":9,\"cmd\":\"echo\",\"args\":[]}\n{\"id\":4,\"cmd\":\"echo\"}\n";
    int fd = client(f);
    say(f, fd, lines, strlen(lines));
    for (int i = 0; i < 4; i++) {
        json_t *answer = hear(f, fd);
        assert_false(json_is_true(json_object_get(answer, "ok")));
        assert_string_equal(
            json_string_value(json_object_get(json_object_get(answer, "err"), "code")),
            "OSM_EPARSE");
        json_decref(answer);
    }
    expect_text(hear(f, fd), "{\"data\":{},\"id\":4,\"ok\":true}");
    close(fd);
}

/* A name that is cut in the middle of a character must not cost the answer. */
static void test_a_long_name_that_is_not_ascii_is_answered(void **state)
{
    struct fixture *f = *state;
    struct osm_buf line = OSM_BUF_INIT(4096);
    for (int lead = 0; lead < 2; lead++) {
        int fd = client(f);
        osm_buf_reset(&line);
        (void)osm_buf_addf(&line, "{\"id\":1,\"cmd\":\"%s", lead ? "a" : "");
        for (int i = 0; i < 200; i++)
            (void)osm_buf_add_str(&line, "\xc3\xa9");
        assert_int_equal(osm_buf_add_str(&line, "\"}\n"), 0);
        say(f, fd, line.data, line.len);
        json_t *answer = hear(f, fd);
        assert_non_null(answer);
        assert_false(json_is_true(json_object_get(answer, "ok")));
        json_decref(answer);
        close(fd);
    }
    osm_buf_clear(&line);
}

static void test_one_session_too_many_is_told_so(void **state)
{
    struct fixture *f = *state;
    int sessions[SESSIONS_MAX];
    for (int i = 0; i < SESSIONS_MAX; i++) {
        sessions[i] = client(f);
        say(f, sessions[i], "{\"id\":1,\"cmd\":\"echo\"}\n", 22);
        expect_text(hear(f, sessions[i]), "{\"data\":{},\"id\":1,\"ok\":true}");
    }
    int more = client(f);
    json_t *answer = hear(f, more);
    assert_non_null(
        strstr(json_string_value(json_object_get(json_object_get(answer, "err"), "msg")),
               "too many sessions"));
    json_decref(answer);
    assert_null(hear(f, more));
    close(more);
    for (int i = 0; i < SESSIONS_MAX; i++)
        close(sessions[i]);
}

/* A session that reads nothing is not served without bound, and gets everything once it reads. */
static void test_a_session_that_does_not_read_is_paused(void **state)
{
    struct fixture *f = *state;
    enum { REQUESTS = 1000 };
    struct osm_buf line = OSM_BUF_INIT(60000);
    (void)osm_buf_add_str(&line, "{\"id\":1,\"cmd\":\"echo\",\"args\":{\"a\":[\"");
    for (int i = 0; i < 40000; i++)
        (void)osm_buf_add_char(&line, 'x');
    assert_int_equal(osm_buf_add_str(&line, "\"]}}\n"), 0);
    int fd = client(f), sent = 0;
    size_t at = 0;
    for (int idle = 0; idle < 100 && sent < REQUESTS;) {
        ssize_t n = send(fd, line.data + at, line.len - at, MSG_NOSIGNAL);
        idle = n > 0 ? 0 : idle + 1;
        at += n > 0 ? (size_t)n : 0;
        if (at == line.len) {
            at = 0;
            sent++;
        }
        turn(f);
    }
    assert_true(f->calls < REQUESTS / 2);
    int answered = 0, called = f->calls;
    for (; answered < called; answered++) {
        json_t *answer = hear(f, fd);
        assert_non_null(answer);
        json_decref(answer);
    }
    for (int i = 0; i < 1000; i++)
        turn(f);
    assert_true(f->calls > called); /* it goes on */
    close(fd);
    osm_buf_clear(&line);
}

static void test_an_endless_line_ends_the_session(void **state)
{
    struct fixture *f = *state;
    int fd = client(f);
    char chunk[8192];
    memset(chunk, 'x', sizeof chunk);
    for (int i = 0; i < 10; i++)
        say(f, fd, chunk, sizeof chunk);
    heard(f, fd, "error: a request of more than 64 KiB\n");
    assert_null(hear(f, fd));
    close(fd);
    int again = client(f);
    say(f, again, "{\"id\":1,\"cmd\":\"echo\"}\n", 22);
    expect_text(hear(f, again), "{\"data\":{},\"id\":1,\"ok\":true}");
    close(again);
}

static void test_a_session_lowers_its_role_and_never_raises_it(void **state)
{
    struct fixture *f = *state;
    int fd = client(f), other = client(f);
    ask(f, fd, "{\"id\":1,\"cmd\":\"act\"}\n", "{\"data\":{},\"id\":1,\"ok\":true}");
    ask(f, fd, "{\"id\":2,\"cmd\":\"role\",\"args\":{\"role\":\"view\"}}\n",
        "{\"data\":{\"role\":\"view\",\"socket\":\"operate\"},\"id\":2,\"ok\":true}");
    ask(f, fd, "{\"id\":3,\"cmd\":\"act\"}\n",
        "{\"err\":{\"code\":\"OSM_EACCES\",\"msg\":\"refused: act needs the role operate; this "
        "session has view, lowered by itself\"},\"id\":3,\"ok\":false}");
    ask(f, fd, "{\"id\":4,\"cmd\":\"role\",\"args\":{\"role\":\"operate\"}}\n",
        "{\"err\":{\"code\":\"OSM_EACCES\",\"msg\":\"a session may lower its role, never raise "
        "it: it is view\"},\"id\":4,\"ok\":false}");
    ask(f, fd, "{\"id\":5,\"cmd\":\"act\"}\n",
        "{\"err\":{\"code\":\"OSM_EACCES\",\"msg\":\"refused: act needs the role operate; this "
        "session has view, lowered by itself\"},\"id\":5,\"ok\":false}");
    ask(f, other, "{\"id\":6,\"cmd\":\"act\"}\n", "{\"data\":{},\"id\":6,\"ok\":true}");
    assert_int_equal(f->calls, 2);
    close(fd);
    close(other);
}

/* Each command of the registry, on a socket of each role. */
static void test_every_command_is_refused_to_a_lesser_role(void **state)
{
    struct fixture *f = *state;
    struct osm_control *looking;
    struct osm_err err = {0};
    char path[128];
    (void)snprintf(path, sizeof path, "%s/view", f->dir);
    assert_int_equal(start(f, &looking, path, OSM_ROLE_VIEW, &err), 0);
    json_t *list = osm_registry_describe_all(f->registry), *command;
    size_t i, refused = 0;
    assert_int_equal(json_array_size(list), 9); /* with those of every session */
    json_array_foreach (list, i, command) {
        const char *name = json_string_value(json_object_get(command, "name"));
        bool operates = !strcmp(json_string_value(json_object_get(command, "role")), "operate");
        char line[128];
        if (!strcmp(name, "keep") || !strcmp(name, "quit"))
            continue;
        (void)snprintf(line, sizeof line, "{\"id\":1,\"cmd\":\"%s\"}\n", name);
        int fd = client_of(path);
        say(f, fd, line, strlen(line));
        json_t *answer = hear(f, fd);
        const char *code =
            json_string_value(json_object_get(json_object_get(answer, "err"), "code"));
        assert_int_equal(operates, code && !strcmp(code, "OSM_EACCES"));
        refused += operates;
        json_decref(answer);
        close(fd);
        turn(f);
    }
    assert_int_equal(refused, 1);
    json_decref(list);
    osm_control_stop(looking);
    turn(f);
}

static void test_arguments_are_checked_before_the_handler(void **state)
{
    struct fixture *f = *state;
    int fd = client(f);
    ask(f, fd, "{\"id\":1,\"cmd\":\"echo\",\"args\":{\"a\":\"x\"}}\n",
        "{\"err\":{\"code\":\"OSM_EINVAL\",\"msg\":\"a: expected an array of texts\"},\"id\":1,"
        "\"ok\":false}");
    ask(f, fd, "{\"id\":2,\"cmd\":\"keep\",\"args\":{\"a\":[]}}\n",
        "{\"err\":{\"code\":\"OSM_EINVAL\",\"msg\":\"keep takes no argument a\"},\"id\":2,"
        "\"ok\":false}");
    assert_int_equal(f->calls, 0);
    assert_null(f->kept);
    close(fd);
}

static void test_help_says_what_there_is(void **state)
{
    struct fixture *f = *state;
    int fd = client(f);
    ask(f, fd, "{\"id\":1,\"cmd\":\"help\",\"args\":{\"command\":\"echo\"}}\n",
        "{\"data\":{\"commands\":[{\"args\":[{\"help\":\"whatever\",\"name\":\"a\",\"required\":"
        "false,\"type\":\"texts\"}],\"help\":\"says it again\",\"name\":\"echo\",\"role\":"
        "\"view\"}]},\"id\":1,\"ok\":true}");
    ask(f, fd, "{\"id\":2,\"cmd\":\"ecko\"}\n",
        "{\"err\":{\"code\":\"OSM_ENOENT\",\"msg\":\"no such command: ecko; did you mean "
        "echo?\"},\"id\":2,\"ok\":false}");
    close(fd);
}

/* Who asked what, in which role, and how it went; of a secret command not with what arguments. */
static void test_every_command_is_logged(void **state)
{
    struct fixture *f = *state;
    char path[128], records[8192], expected[256];
    (void)snprintf(path, sizeof path, "%s/log", f->dir);
    int log = open(path, O_RDWR | O_CREAT | O_APPEND, 0600);
    osm_log_set_fd(log);
    int fd = client(f);
    for (int i = 0; i < 50; i++) /* none is held back as a repeat */
        ask(f, fd, "{\"id\":1,\"cmd\":\"act\"}\n", "{\"data\":{},\"id\":1,\"ok\":true}");
    ask(f, fd, "{\"id\":2,\"cmd\":\"refuse\"}\n",
        "{\"err\":{\"code\":\"OSM_ENOENT\",\"msg\":\"no such pod\"},\"id\":2,\"ok\":false}");
    ask(f, fd, "{\"id\":3,\"cmd\":\"echo\",\"args\":{\"a\":[\"b\"]}}\n",
        "{\"data\":{\"a\":[\"b\"]},\"id\":3,\"ok\":true}");
    osm_log_set_fd(2);
    close(fd);
    size_t lines = 0;
    FILE *in = fopen(path, "r");
    assert_non_null(in);
    while (fgets(records, sizeof records, in))
        if (++lines > 50) {
            (void)snprintf(expected, sizeof expected,
                           lines == 51
                               ? "\"message\":\"command\",\"cmd\":\"refuse\",\"args\":null,"
                                 "\"result\":\"OSM_ENOENT\",\"error\":\"no such pod\""
                               : "\"cmd\":\"echo\",\"args\":\"{\\\"a\\\":[\\\"b\\\"]}\",\"result\":"
                                 "\"ok\",\"error\":null");
            assert_non_null(strstr(records, expected));
            (void)snprintf(expected, sizeof expected, "\"role\":\"operate\",\"uid\":%d,\"pid\":%d,",
                           (int)getuid(), (int)getpid());
            assert_non_null(strstr(records, expected));
        }
    (void)fclose(in);
    close(log);
    assert_int_equal(lines, 52);
    assert_int_equal(unlink(path), 0);
}

static void test_an_answer_after_its_client_left_is_dropped(void **state)
{
    struct fixture *f = *state;
    int fd = client(f);
    say(f, fd, "{\"id\":1,\"cmd\":\"keep\"}\n", 22);
    for (int i = 0; i < 1000 && !f->kept; i++)
        turn(f);
    assert_non_null(f->kept);
    assert_true(osm_control_alive(f->kept));
    close(fd);
    for (int i = 0; i < 1000 && osm_control_alive(f->kept); i++)
        turn(f);
    assert_false(osm_control_alive(f->kept));
    osm_control_reply(f->kept, NULL);
}

static void test_a_second_daemon_on_the_same_socket_is_refused(void **state)
{
    struct fixture *f = *state;
    struct osm_control *second;
    struct osm_err err = {0};
    assert_int_equal(start(f, &second, f->path, OSM_ROLE_VIEW, &err), OSM_EBUSY);
    assert_non_null(strstr(err.msg, "another daemon answers there"));
}

static void test_a_stale_socket_is_replaced(void **state)
{
    struct fixture *f = *state;
    char stale[128];
    struct osm_err err = {0};
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    (void)snprintf(stale, sizeof stale, "%s/stale", f->dir);
    memcpy(address.sun_path, stale, strlen(stale) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    close(fd);
    struct osm_control *second;
    assert_int_equal(start(f, &second, stale, OSM_ROLE_VIEW, &err), 0);
    osm_control_stop(second);
    turn(f);
    assert_int_not_equal(access(stale, F_OK), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_socket_is_for_its_owner_only, setup, teardown),
        cmocka_unit_test_setup_teardown(test_answers_a_frame_split_at_every_byte, setup, teardown),
        cmocka_unit_test_setup_teardown(test_answers_pipelined_requests_and_blank_lines, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_garbage_is_answered_and_the_session_goes_on, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_a_long_name_that_is_not_ascii_is_answered, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_one_session_too_many_is_told_so, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_session_that_does_not_read_is_paused, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_an_endless_line_ends_the_session, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_session_lowers_its_role_and_never_raises_it, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_every_command_is_refused_to_a_lesser_role, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_arguments_are_checked_before_the_handler, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_help_says_what_there_is, setup, teardown),
        cmocka_unit_test_setup_teardown(test_every_command_is_logged, setup, teardown),
        cmocka_unit_test_setup_teardown(test_an_answer_after_its_client_left_is_dropped, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_a_second_daemon_on_the_same_socket_is_refused, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_a_stale_socket_is_replaced, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
