/* What the tests of the generators share. */
#pragma once

#include "base/buf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static inline int no_leak(void **state)
{
    (void)state;
    assert_int_equal(osm_mem_live(), 0);
    return 0;
}

/* Runs a program with @p input (may be NULL) on its standard input; its output (both streams) goes
 * to @p out. Returns the exit code. The input is small enough for a pipe. */
static inline int run(const char *const argv[], const char *input, struct osm_buf *out)
{
    int in[2], back[2], status = 0;
    assert_int_equal(pipe(in), 0);
    assert_int_equal(pipe(back), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (!pid) {
        if (dup2(in[0], 0) < 0 || dup2(back[1], 1) < 0 || dup2(back[1], 2) < 0)
            _exit(126);
        for (int fd = 3; fd < 64; fd++)
            (void)close(fd);
        (void)execvp(argv[0], (char *const *)argv);
        _exit(127);
    }
    (void)close(in[0]);
    (void)close(back[1]);
    if (input)
        assert_int_equal(write(in[1], input, strlen(input)), (ssize_t)strlen(input));
    (void)close(in[1]);
    for (;;) {
        char *at = osm_buf_reserve(out, 4096);
        assert_non_null(at);
        ssize_t n = read(back[0], at, 4096);
        if (n <= 0)
            break;
        out->len += (size_t)n;
    }
    out->data[out->len] = '\0';
    (void)close(back[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}
