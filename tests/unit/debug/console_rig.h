/* A console's server with a few commands, and clients of it on the same loop. */
#pragma once

#include "debug/control.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <uv.h>

#include <cmocka.h>

enum { SESSIONS_MAX = 16 };

struct fixture {
    char dir[64], path[96];
    struct osm_loop *loop;
    struct osm_registry *registry;
    struct osm_control *control;
    struct osm_control_request *kept;
    int calls;
};

static inline void echo(void *ud, struct osm_control_request *request, const json_t *args)
{
    struct fixture *f = ud;
    f->calls++;
    osm_control_reply(request, json_deep_copy(args));
}

static inline void keep(void *ud, struct osm_control_request *request, const json_t *args)
{
    (void)args;
    struct fixture *f = ud;
    f->kept = request;
}

static inline void refuse(void *ud, struct osm_control_request *request, const json_t *args)
{
    (void)ud;
    (void)args;
    struct osm_err err;
    (void)osm_fail(&err, OSM_ENOENT, "no such pod");
    osm_control_fail(request, &err);
}

static const struct osm_control_arg echo_args[] = {
    {.name = "a", .type = OSM_ARG_TEXTS, .help = "whatever"},
    {.name = NULL},
};
static const struct osm_control_command commands[] = {
    {.name = "echo", .handler = echo, .args = echo_args, .help = "says it again"},
    {.name = "keep", .handler = keep, .help = "does not answer"},
    {.name = "refuse", .handler = refuse, .secret = true, .help = "fails"},
    {.name = "act", .handler = echo, .role = OSM_ROLE_OPERATE, .help = "changes something"},
    {.name = NULL},
};

static inline int start(struct fixture *f, struct osm_control **out, const char *path,
                        enum osm_role role, struct osm_err *err)
{
    const struct osm_control_config config = {.loop = f->loop,
                                              .path = path,
                                              .registry = f->registry,
                                              .role = role,
                                              .sessions_max = SESSIONS_MAX};
    return osm_control_start(out, &config, err);
}

static inline int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct osm_err err = {0};
    (void)snprintf(f->dir, sizeof f->dir, "/tmp/osm-control-XXXXXX");
    if (!mkdtemp(f->dir))
        return 1;
    (void)snprintf(f->path, sizeof f->path, "%s/s", f->dir);
    *state = f;
    f->registry = osm_registry_new();
    return !f->registry || osm_registry_add(f->registry, commands, f, &err) ||
           osm_loop_new(&f->loop, &err) || start(f, &f->control, f->path, OSM_ROLE_OPERATE, &err);
}

static inline int teardown(void **state)
{
    struct fixture *f = *state;
    osm_control_stop(f->control);
    osm_loop_free(f->loop);
    osm_registry_free(f->registry);
    int left = access(f->path, F_OK) == 0;
    (void)rmdir(f->dir);
    free(f);
    return left || osm_mem_live() != 0;
}

static inline int client_of(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

static inline int client(const struct fixture *f)
{
    return client_of(f->path);
}

static inline void turn(struct fixture *f)
{
    (void)uv_run(osm_loop_uv(f->loop), UV_RUN_NOWAIT);
}

static inline void say(struct fixture *f, int fd, const char *text, size_t len)
{
    while (len) {
        ssize_t n = send(fd, text, len, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) {
            turn(f);
            continue;
        }
        if (n < 0)
            return; /* the server has hung up: the test looks at that */
        text += n;
        len -= (size_t)n;
    }
    turn(f);
}

/* The next byte; -1 when the server has closed. It is waited for as long as it takes, up to the
 * test's own limit. */
static inline int hear_byte(struct fixture *f, int fd)
{
    for (uint64_t end = osm_now_ms() + 20000; osm_now_ms() < end;) {
        unsigned char c;
        ssize_t n = recv(fd, &c, 1, 0);
        if (n == 1)
            return c;
        if (n == 0 || errno != EAGAIN)
            return -1;
        turn(f);
    }
    fail_msg("the server says nothing");
    return -1;
}

/* The next line, or NULL when the server has closed. */
static inline json_t *hear(struct fixture *f, int fd)
{
    struct osm_buf line = OSM_BUF_INIT(8 << 20);
    int c;
    while ((c = hear_byte(f, fd)) >= 0 && c != '\n')
        assert_int_equal(osm_buf_add_char(&line, (char)c), 0);
    json_t *value = c == '\n' ? json_loads(line.data ? line.data : "", 0, NULL) : NULL;
    osm_buf_clear(&line);
    return value;
}

/* Exactly these bytes come next. */
static inline void heard(struct fixture *f, int fd, const char *text)
{
    struct osm_buf got = OSM_BUF_INIT(1 << 20);
    for (int c; got.len < strlen(text) && (c = hear_byte(f, fd)) >= 0;)
        assert_int_equal(osm_buf_add_char(&got, (char)c), 0);
    assert_string_equal(got.data ? got.data : "", text);
    osm_buf_clear(&got);
}

static inline void expect_text(json_t *answer, const char *text)
{
    assert_non_null(answer);
    char *got = json_dumps(answer, JSON_COMPACT | JSON_SORT_KEYS);
    assert_string_equal(got, text);
    free(got);
    json_decref(answer);
}

static inline void ask(struct fixture *f, int fd, const char *line, const char *answer)
{
    say(f, fd, line, strlen(line));
    expect_text(hear(f, fd), answer);
}
