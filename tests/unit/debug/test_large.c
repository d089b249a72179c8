/* Requests over the ceiling of all others: of the commands that may have them, on sockets that let
 * them, one at a time. */
#include "console_rig.h"

#include <signal.h>

enum { MIB = 1 << 20 };

static void take_large(void *ud, struct osm_control_request *request, const json_t *args)
{
    const char *text = json_string_value(json_object_get(args, "text"));
    char *answer = osm_strf("{\"bytes\":%zu}", text ? strlen(text) : 0);
    (void)ud;
    osm_control_reply_text(request, answer, strlen(answer));
}

static const struct osm_control_arg take_args[] = {
    {.name = "text", .type = OSM_ARG_DATA, .help = "as long as it likes"},
    {.name = NULL},
};
static const struct osm_control_command large_commands[] = {
    {.name = "take", .handler = take_large, .args = take_args, .large = true, .help = "counts"},
    {.name = NULL},
};

static int start_with(struct fixture *f, bool large, uint32_t patience_ms)
{
    struct osm_err err = {0};
    const struct osm_control_config config = {.loop = f->loop,
                                              .path = f->path,
                                              .registry = f->registry,
                                              .role = OSM_ROLE_OPERATE,
                                              .large = large,
                                              .patience_ms = patience_ms,
                                              .sessions_max = SESSIONS_MAX};
    osm_control_stop(osm_take_ptr(&f->control));
    turn(f);
    return osm_control_start(&f->control, &config, &err);
}

static int setup_large(void **state)
{
    struct osm_err err = {0};
    if (setup(state))
        return 1;
    struct fixture *f = *state;
    return osm_registry_add(f->registry, large_commands, f, &err) || start_with(f, true, 0);
}

/* {"cmd": cmd, "args": {name: "xxx..."}} with a newline and len x. */
static char *request_of(const char *cmd, const char *name, size_t len)
{
    struct osm_buf out = OSM_BUF_INIT(len + 256);
    (void)osm_buf_addf(&out, "{\"id\":1,\"cmd\":\"%s\",\"args\":{\"%s\":\"", cmd, name);
    for (size_t i = 0; i < len; i++)
        (void)osm_buf_add_char(&out, 'x');
    (void)osm_buf_add_str(&out, "\"}}\n");
    return osm_buf_take(&out);
}

static void ask_of(struct fixture *f, int fd, size_t len)
{
    char *line = request_of("take", "text", len), answer[80];
    (void)snprintf(answer, sizeof answer, "{\"data\":{\"bytes\":%zu},\"id\":1,\"ok\":true}", len);
    ask(f, fd, line, answer);
    osm_free(line);
}

static void test_a_session_may_ask_large_and_small(void **state)
{
    struct fixture *f = *state;
    int fd = client(f);
    ask_of(f, fd, 10);
    ask_of(f, fd, 65 * 1024);
    ask(f, fd, "{\"id\":2,\"cmd\":\"act\"}\n", "{\"data\":{},\"id\":2,\"ok\":true}");
    ask_of(f, fd, 8 * MIB);
    ask_of(f, fd, 10);
    close(fd);
}

/* Two requests in one piece: the second is not lost while the first is parsed elsewhere. */
static void test_what_comes_behind_a_large_request_waits_for_it(void **state)
{
    struct fixture *f = *state;
    int fd = client(f);
    char *line = request_of("take", "text", 100 * 1024);
    char *both = osm_strf("%s{\"id\":2,\"cmd\":\"act\"}\n", line);
    say(f, fd, both, strlen(both));
    expect_text(hear(f, fd), "{\"data\":{\"bytes\":102400},\"id\":1,\"ok\":true}");
    expect_text(hear(f, fd), "{\"data\":{},\"id\":2,\"ok\":true}");
    osm_free(line);
    osm_free(both);
    close(fd);
}

static void expect_over(struct fixture *f, int fd, const char *says)
{
    json_t *answer = hear(f, fd);
    const char *msg = json_string_value(json_object_get(json_object_get(answer, "err"), "msg"));
    assert_non_null(msg);
    if (!strstr(msg, says))
        fail_msg("%s", msg);
    json_decref(answer);
}

static void test_other_commands_have_their_ceiling(void **state)
{
    struct fixture *f = *state;
    int fd = client(f);
    char *line = request_of("echo", "a", 65 * 1024);
    say(f, fd, line, strlen(line));
    expect_over(f, fd, "a request of echo has at most 65536 bytes");
    ask_of(f, fd, 10); /* the session goes on */
    osm_free(line);
    close(fd);
}

static void test_large_requests_have_one_too(void **state)
{
    struct fixture *f = *state;
    int fd = client(f);
    char *line = request_of("take", "text", 16 * MIB);
    say(f, fd, line, strlen(line));
    expect_over(f, fd, "a request of more than 16 MiB");
    assert_int_equal(hear_byte(f, fd), -1);
    osm_free(line);
    close(fd);
}

static void test_a_socket_need_not_let_them(void **state)
{
    struct fixture *f = *state;
    char *line = request_of("take", "text", 65 * 1024);
    assert_int_equal(start_with(f, false, 0), 0);
    int fd = client(f);
    say(f, fd, line, strlen(line));
    expect_over(f, fd, "a request of more than 64 KiB");
    osm_free(line);
    close(fd);
}

/* Text for people is never large. */
static void test_typed_lines_are_never_large(void **state)
{
    struct fixture *f = *state;
    int fd = client(f);
    char *line = request_of("take", "text", 65 * 1024);
    line[0] = 't';
    say(f, fd, line, strlen(line));
    heard(f, fd, "error: a request of more than 64 KiB\n");
    osm_free(line);
    close(fd);
}

/* Whoever came second was refused, and every preview of a bundle is large: two at once failed. */
static void test_one_at_a_time_and_the_others_wait(void **state)
{
    struct fixture *f = *state;
    static const char answer[] = "{\"data\":{\"bytes\":102400},\"id\":1,\"ok\":true}";
    char *line = request_of("take", "text", 100 * 1024);
    int first = client(f), second = client(f), third = client(f), fourth = client(f);
    say(f, first, line, 70 * 1024);
    for (int i = 0; i < 50; i++)
        turn(f); /* all of it is read */
    say(f, second, line, 70 * 1024);
    say(f, third, line, 70 * 1024);
    say(f, fourth, line, 70 * 1024);
    for (int i = 0; i < 50; i++)
        turn(f);
    close(third); /* it has given up */
    say(f, first, line + 70 * 1024, strlen(line) - 70 * 1024);
    expect_text(hear(f, first), answer);
    say(f, second, line + 70 * 1024, strlen(line) - 70 * 1024);
    expect_text(hear(f, second), answer);
    say(f, fourth, line + 70 * 1024, strlen(line) - 70 * 1024);
    expect_text(hear(f, fourth), answer);
    ask_of(f, first, 100 * 1024); /* the place is free again */
    close(first);
    close(second);
    close(fourth);
    osm_free(line);
}

/* The one who holds them up is dropped, and its place goes on. */
static void test_who_waits_goes_on_when_the_first_is_dropped(void **state)
{
    struct fixture *f = *state;
    char *line = request_of("take", "text", 100 * 1024);
    assert_int_equal(start_with(f, true, 200), 0);
    int first = client(f), second = client(f);
    say(f, first, line, 70 * 1024);
    for (int i = 0; i < 50; i++)
        turn(f);
    say(f, second, line, strlen(line));
    expect_text(hear(f, second), "{\"data\":{\"bytes\":102400},\"id\":1,\"ok\":true}");
    assert_int_equal(hear_byte(f, first), -1);
    close(first);
    close(second);
    osm_free(line);
}

/* One who stops, or goes, half way holds up nobody for long. */
static void test_who_does_not_go_on_is_dropped(void **state)
{
    struct fixture *f = *state;
    char *line = request_of("take", "text", 100 * 1024);
    assert_int_equal(start_with(f, true, 50), 0);
    int first = client(f);
    say(f, first, line, 70 * 1024);
    assert_int_equal(hear_byte(f, first), -1);
    close(first);
    assert_int_equal(start_with(f, true, 0), 0);
    first = client(f);
    say(f, first, line, 70 * 1024);
    close(first);
    for (int i = 0; i < 50; i++)
        turn(f);
    int second = client(f);
    ask_of(f, second, 100 * 1024);
    close(second);
    osm_free(line);
}

/* While its request is parsed on the pool. */
static void test_a_session_ends_while_its_request_is_parsed(void **state)
{
    struct fixture *f = *state;
    char *line = request_of("take", "text", 4 * MIB);
    int fd = client(f);
    say(f, fd, line, strlen(line));
    close(fd);
    for (int i = 0; i < 50; i++)
        turn(f);
    fd = client(f);
    say(f, fd, line, strlen(line));
    osm_control_stop(osm_take_ptr(&f->control));
    turn(f);
    close(fd);
    osm_free(line);
}

/* The client, and then the server, have gone meanwhile. */
static void test_an_answer_that_nobody_hears(void **state)
{
    struct fixture *f = *state;
    for (int stopped = 0; stopped < 2; stopped++) {
        int fd = client(f);
        say(f, fd, "{\"cmd\":\"keep\"}\n", 15);
        while (!f->kept)
            turn(f);
        close(fd);
        if (stopped)
            osm_control_stop(osm_take_ptr(&f->control));
        for (int i = 0; i < 50; i++)
            turn(f);
        osm_control_reply_text(osm_take_ptr(&f->kept), osm_strdup("{}"), 2);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_session_may_ask_large_and_small, setup_large,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_what_comes_behind_a_large_request_waits_for_it,
                                        setup_large, teardown),
        cmocka_unit_test_setup_teardown(test_other_commands_have_their_ceiling, setup_large,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_large_requests_have_one_too, setup_large, teardown),
        cmocka_unit_test_setup_teardown(test_a_socket_need_not_let_them, setup_large, teardown),
        cmocka_unit_test_setup_teardown(test_typed_lines_are_never_large, setup_large, teardown),
        cmocka_unit_test_setup_teardown(test_one_at_a_time_and_the_others_wait, setup_large,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_who_waits_goes_on_when_the_first_is_dropped,
                                        setup_large, teardown),
        cmocka_unit_test_setup_teardown(test_who_does_not_go_on_is_dropped, setup_large, teardown),
        cmocka_unit_test_setup_teardown(test_a_session_ends_while_its_request_is_parsed,
                                        setup_large, teardown),
        cmocka_unit_test_setup_teardown(test_an_answer_that_nobody_hears, setup_large, teardown),
    };
    (void)signal(SIGPIPE, SIG_IGN); /* as in the daemon: who has gone is answered too */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
