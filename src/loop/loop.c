#include "loop/loop.h"

#include "base/check.h"
#include "base/log.h"

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <uv.h>

struct task {
    struct task *next;
    osm_task_fn *fn;
    void *ud;
};

struct osm_loop {
    uv_loop_t uv;
    uv_async_t wake;
    uv_signal_t signals[2];
    osm_task_fn *on_terminate;
    void *on_terminate_ud;
    pthread_mutex_t lock; /* guards what follows */
    struct task *first, **last;
    bool closing;
};

static void run_posted(uv_async_t *wake)
{
    struct osm_loop *loop = wake->data;
    pthread_mutex_lock(&loop->lock);
    struct task *task = loop->first;
    loop->first = NULL;
    loop->last = &loop->first;
    pthread_mutex_unlock(&loop->lock);
    while (task) {
        struct task *next = task->next;
        task->fn(task->ud);
        osm_free(task);
        task = next;
    }
}

int osm_loop_new(struct osm_loop **out, struct osm_err *err)
{
    struct osm_loop *loop = osm_alloc(sizeof *loop);
    if (!loop)
        return osm_fail(err, OSM_ENOMEM, "event loop");
    int rc = uv_loop_init(&loop->uv);
    if (rc) {
        osm_free(loop);
        return osm_fail(err, OSM_EIO, "event loop: %s", uv_strerror(rc));
    }
    loop->last = &loop->first;
    pthread_mutex_init(&loop->lock, NULL);
    loop->wake.data = loop;
    rc = uv_async_init(&loop->uv, &loop->wake, run_posted);
    OSM_REQUIRE(rc == 0);
    uv_unref((uv_handle_t *)&loop->wake);
    *out = loop;
    return 0;
}

uv_loop_t *osm_loop_uv(struct osm_loop *loop)
{
    return &loop->uv;
}

struct count {
    struct osm_loop *loop;
    int open;
};

static bool is_own(const struct osm_loop *loop, const uv_handle_t *handle)
{
    return handle == (const uv_handle_t *)&loop->wake ||
           handle == (const uv_handle_t *)&loop->signals[0] ||
           handle == (const uv_handle_t *)&loop->signals[1];
}

static void count_open(uv_handle_t *handle, void *ud)
{
    struct count *count = ud;
    if (is_own(count->loop, handle) || uv_is_closing(handle))
        return;
    count->open++;
    osm_log(OSM_LOG_CORE, OSM_LOG_WARN, "handle left open",
            OSM_S("type", uv_handle_type_name(handle->type)));
}

struct each {
    osm_loop_handle_fn *fn;
    void *ud;
};

static void tell_handle(uv_handle_t *handle, void *ud)
{
    const struct each *each = ud;
    each->fn(each->ud, uv_handle_type_name(handle->type), uv_is_active(handle) != 0);
}

void osm_loop_each_handle(struct osm_loop *loop, osm_loop_handle_fn *fn, void *ud)
{
    struct each each = {fn, ud};
    uv_walk(&loop->uv, tell_handle, &each);
}

int osm_loop_run(struct osm_loop *loop)
{
    uv_ref((uv_handle_t *)&loop->wake); /* posts keep it alive until osm_loop_stop */
    (void)uv_run(&loop->uv, UV_RUN_DEFAULT);
    uv_unref((uv_handle_t *)&loop->wake);
    (void)uv_run(&loop->uv, UV_RUN_NOWAIT); /* close callbacks of what the last turn closed */
    struct count count = {loop, 0};
    uv_walk(&loop->uv, count_open, &count);
    return count.open;
}

void osm_loop_stop(struct osm_loop *loop)
{
    uv_stop(&loop->uv);
}

static void close_left(uv_handle_t *handle, void *ud)
{
    (void)ud;
    if (!uv_is_closing(handle))
        uv_close(handle, NULL);
}

void osm_loop_free(struct osm_loop *loop)
{
    if (!loop)
        return;
    pthread_mutex_lock(&loop->lock);
    loop->closing = true;
    pthread_mutex_unlock(&loop->lock);
    run_posted(&loop->wake); /* what was accepted runs: its owner relies on it to free */
    uv_walk(&loop->uv, close_left, NULL);
    while (uv_run(&loop->uv, UV_RUN_DEFAULT)) {
    }
    OSM_CHECK(uv_loop_close(&loop->uv) == 0);
    pthread_mutex_destroy(&loop->lock);
    osm_free(loop);
}

int osm_loop_post(struct osm_loop *loop, osm_task_fn *fn, void *ud)
{
    struct task *task = osm_alloc(sizeof *task);
    if (!task)
        return OSM_ENOMEM;
    task->fn = fn;
    task->ud = ud;
    int rc = 0;
    pthread_mutex_lock(&loop->lock);
    if (loop->closing) {
        rc = OSM_ECANCELED;
    } else {
        *loop->last = task;
        loop->last = &task->next;
        (void)uv_async_send(&loop->wake);
    }
    pthread_mutex_unlock(&loop->lock);
    if (rc)
        osm_free(task);
    return rc;
}

struct work {
    uv_work_t req;
    osm_task_fn *work, *done;
    void *ud;
};

static void do_work(uv_work_t *req)
{
    struct work *w = req->data;
    w->work(w->ud);
}

static void work_done(uv_work_t *req, int status)
{
    (void)status; /* never cancelled: nobody keeps the request */
    struct work *w = req->data;
    w->done(w->ud);
    osm_free(w);
}

int osm_loop_work(struct osm_loop *loop, osm_task_fn *work, osm_task_fn *done, void *ud)
{
    struct work *w = osm_alloc(sizeof *w);
    if (!w)
        return OSM_ENOMEM;
    w->req.data = w;
    w->work = work;
    w->done = done;
    w->ud = ud;
    int rc = uv_queue_work(&loop->uv, &w->req, do_work, work_done);
    if (rc) {
        osm_free(w);
        return OSM_EIO;
    }
    return 0;
}

static void on_signal(uv_signal_t *handle, int number)
{
    (void)number;
    struct osm_loop *loop = handle->data;
    loop->on_terminate(loop->on_terminate_ud);
}

int osm_loop_on_terminate(struct osm_loop *loop, osm_task_fn *fn, void *ud)
{
    static const int numbers[2] = {SIGTERM, SIGINT};
    if (loop->on_terminate)
        return OSM_EEXIST;
    loop->on_terminate = fn;
    loop->on_terminate_ud = ud;
    for (int i = 0; i < 2; i++) {
        loop->signals[i].data = loop;
        if (uv_signal_init(&loop->uv, &loop->signals[i]) ||
            uv_signal_start(&loop->signals[i], on_signal, numbers[i]))
            return OSM_EIO;
        uv_unref((uv_handle_t *)&loop->signals[i]);
    }
    return 0;
}

struct osm_timer {
    uv_timer_t uv;
    osm_task_fn *fn;
    void *ud;
};

static void on_timer(uv_timer_t *uv)
{
    struct osm_timer *timer = uv->data;
    timer->fn(timer->ud);
}

struct osm_timer *osm_timer_new(struct osm_loop *loop, osm_task_fn *fn, void *ud)
{
    struct osm_timer *timer = osm_alloc(sizeof *timer);
    if (!timer)
        return NULL;
    timer->uv.data = timer;
    timer->fn = fn;
    timer->ud = ud;
    (void)uv_timer_init(&loop->uv, &timer->uv);
    return timer;
}

void osm_timer_start(struct osm_timer *timer, uint64_t delay_ms, uint64_t repeat_ms)
{
    (void)uv_timer_start(&timer->uv, on_timer, delay_ms, repeat_ms);
}

void osm_timer_stop(struct osm_timer *timer)
{
    (void)uv_timer_stop(&timer->uv);
}

static void timer_closed(uv_handle_t *handle)
{
    osm_free(handle->data);
}

void osm_timer_free(struct osm_timer *timer)
{
    if (timer)
        uv_close((uv_handle_t *)&timer->uv, timer_closed);
}

/* ---- turns ---- */

struct osm_turns {
    uv_idle_t uv; /* while it is active the loop does not wait for sockets */
    osm_task_fn *fn;
    void *ud;
};

static void on_turn(uv_idle_t *handle)
{
    const struct osm_turns *turns = handle->data;
    (void)uv_idle_stop(handle);
    turns->fn(turns->ud);
}

struct osm_turns *osm_turns_new(struct osm_loop *loop, osm_task_fn *fn, void *ud)
{
    struct osm_turns *turns = osm_alloc(sizeof *turns);
    if (!turns)
        return NULL;
    turns->uv.data = turns;
    turns->fn = fn;
    turns->ud = ud;
    (void)uv_idle_init(&loop->uv, &turns->uv);
    return turns;
}

void osm_turns_ask(struct osm_turns *turns)
{
    (void)uv_idle_start(&turns->uv, on_turn);
}

static void turns_closed(uv_handle_t *handle)
{
    osm_free(handle->data);
}

void osm_turns_free(struct osm_turns *turns)
{
    if (turns)
        uv_close((uv_handle_t *)&turns->uv, turns_closed);
}
