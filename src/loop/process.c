#include "loop/process.h"

#include "base/utf8.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

enum { ERRORS_MAX = 4096, HANDLES = 3 };

struct osm_process {
    uv_process_t uv;
    uv_pipe_t pipes[2]; /* its output, its errors */
    struct osm_timer *deadline;
    struct osm_buf out, errors;
    char piece[16 * 1024];
    void *ud;
    void (*done)(void *ud, const struct osm_process_result *result);
    int open; /* pipes that have not ended, and the process itself */
    int closing;
    int rc, status;
    bool told;
};

static void closed(uv_handle_t *handle)
{
    struct osm_process *p = handle->data;
    if (--p->closing)
        return;
    osm_buf_clear(&p->out);
    osm_buf_clear(&p->errors);
    osm_free(p);
}

static void finish(struct osm_process *p)
{
    char error[160] = "";
    if (p->told)
        return;
    p->told = true;
    if (!p->rc && p->status)
        p->rc = OSM_EREJECTED;
    if (p->rc == OSM_EREJECTED)
        (void)snprintf(error, sizeof error, "ended with status %d%s%.100s", p->status,
                       p->errors.len ? ": " : "", p->errors.len ? p->errors.data : "");
    else if (p->rc)
        (void)snprintf(error, sizeof error, "%s", osm_code_text(p->rc));
    struct osm_process_result result = {p->rc, p->status, &p->out, &p->errors,
                                        osm_utf8_repair(error)};
    osm_timer_free(osm_take_ptr(&p->deadline));
    p->done(p->ud, &result);
    p->closing = HANDLES;
    uv_close((uv_handle_t *)&p->uv, closed);
    uv_close((uv_handle_t *)&p->pipes[0], closed);
    uv_close((uv_handle_t *)&p->pipes[1], closed);
}

static void one_ended(struct osm_process *p)
{
    if (!--p->open)
        finish(p);
}

static void on_exit_status(uv_process_t *uv, int64_t status, int signal_number)
{
    struct osm_process *p = uv->data;
    p->status = signal_number ? -1 : (int)status;
    one_ended(p);
}

static void kill_it(struct osm_process *p, int rc)
{
    if (!p->rc)
        p->rc = rc;
    (void)uv_process_kill(&p->uv, SIGKILL);
}

/* Whoever has inherited its output may hold it open for ever. */
static void on_deadline(void *ud)
{
    struct osm_process *p = ud;
    kill_it(p, OSM_ETIMEDOUT);
    finish(p);
}

static void give_piece(uv_handle_t *handle, size_t size, uv_buf_t *out)
{
    struct osm_process *p = handle->data;
    (void)size;
    *out = uv_buf_init(p->piece, sizeof p->piece);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *piece)
{
    struct osm_process *p = stream->data;
    bool is_output = stream == (uv_stream_t *)&p->pipes[0];
    if (n > 0 && is_output && osm_buf_add(&p->out, piece->base, (size_t)n))
        kill_it(p, p->out.failed);
    size_t room = p->errors.max - p->errors.len;
    if (n > 0 && !is_output)
        (void)osm_buf_add(&p->errors, piece->base, (size_t)n < room ? (size_t)n : room);
    if (n < 0) {
        (void)uv_read_stop(stream);
        one_ended(p);
    }
    if (p->out.secret)
        explicit_bzero(p->piece, sizeof p->piece);
}

/* Ours and those that are added; only the array is new. */
static const char **environment(const char *const *more)
{
    size_t n = 0, added = 0;
    while (environ[n])
        n++;
    while (more && more[added])
        added++;
    const char **all = osm_alloc_array(n + added + 1, sizeof *all);
    for (size_t i = 0; all && i < added; i++) /* the first of a name counts */
        all[i] = more[i];
    for (size_t i = 0; all && i < n; i++)
        all[added + i] = environ[i];
    return all;
}

int osm_process_start(struct osm_process **out, struct osm_loop *loop,
                      const struct osm_process_config *config, struct osm_err *err)
{
    struct osm_process *p = osm_alloc(sizeof *p);
    const char **env = environment(config->env);
    if (p) {
        p->out = (struct osm_buf)OSM_BUF_INIT(config->output_max);
        p->out.secret = config->secret;
        p->errors = (struct osm_buf)OSM_BUF_INIT(ERRORS_MAX);
        p->deadline = osm_timer_new(loop, on_deadline, p);
    }
    if (!p || !env || !p->deadline) {
        osm_free(p);
        osm_free(env);
        return osm_fail(err, OSM_ENOMEM, "%s: %s", config->argv[0], osm_code_text(OSM_ENOMEM));
    }
    p->ud = config->ud;
    p->done = config->done;
    p->uv.data = p->pipes[0].data = p->pipes[1].data = p;
    (void)uv_pipe_init(osm_loop_uv(loop), &p->pipes[0], 0);
    (void)uv_pipe_init(osm_loop_uv(loop), &p->pipes[1], 0);
    uv_stdio_container_t stdio[3] = {{.flags = UV_IGNORE}};
    for (int i = 0; i < 2; i++)
        stdio[i + 1] = (uv_stdio_container_t){.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE,
                                              .data.stream = (uv_stream_t *)&p->pipes[i]};
    uv_process_options_t options = {
        .exit_cb = on_exit_status,
        .file = config->argv[0],
        .args = (char **)(uintptr_t)config->argv,
        .env = (char **)(uintptr_t)env,
        .stdio_count = 3,
        .stdio = stdio,
    };
    int rc = uv_spawn(osm_loop_uv(loop), &p->uv, &options);
    osm_free(env);
    if (rc) {
        p->told = true;
        p->closing = HANDLES;
        osm_timer_free(p->deadline);
        uv_close((uv_handle_t *)&p->uv, closed);
        uv_close((uv_handle_t *)&p->pipes[0], closed);
        uv_close((uv_handle_t *)&p->pipes[1], closed);
        return osm_fail(err, rc == UV_ENOENT ? OSM_ENOENT : OSM_EIO, "%.200s: %s", config->argv[0],
                        uv_strerror(rc));
    }
    p->open = HANDLES;
    (void)uv_read_start((uv_stream_t *)&p->pipes[0], give_piece, on_read);
    (void)uv_read_start((uv_stream_t *)&p->pipes[1], give_piece, on_read);
    osm_timer_start(p->deadline, config->deadline_ms, 0);
    *out = p;
    return 0;
}

void osm_process_cancel(struct osm_process *process)
{
    kill_it(process, OSM_ECANCELED);
    process->rc = OSM_ECANCELED;
    finish(process);
}
