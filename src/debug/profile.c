/* Each thread has a timer of its own CPU time, whose signal goes to that thread. The handler does
 * what a handler may: it takes the next place in memory that is there already, and lets the
 * unwinder fill it. glibc's unwinder (2.35 and later: _dl_find_object) takes no lock and allocates
 * nothing once it has been used; that is done before the first signal. Reading, sorting and naming
 * happen on the pool afterwards. */
#include "debug/profile.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/map.h"
#include "debug/symbols.h"

#include <dirent.h>
#include <errno.h>
#include <execinfo.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum {
    PERIOD_US = 9973, /* a prime: work that is done each 10 ms is not seen in step with it */
    DEPTH_MAX = 64,
    SAMPLES_MAX = 24 * 1024, /* 12 MiB */
    THREADS_MAX = 256,
    RESCAN_MS = 1000,
    HANDLER_FRAMES = 2, /* the handler, and the kernel's return from it */
    TEXT_MAX_BYTES = 16 * 1024 * 1024,
};

struct sample {
    atomic_bool whole;
    int depth;
    void *frames[DEPTH_MAX];
};

struct watched {
    pid_t tid;
    timer_t timer;
};

struct run {
    struct osm_loop *loop;
    osm_profile_done_fn *done;
    void *ud;
    struct osm_timer *tick;
    uint64_t ends_ms;
    struct watched threads[THREADS_MAX];
    size_t threads_len;
    struct sample *samples;
    size_t used, lost;
    /* the pool's */
    struct osm_buf folded;
    struct osm_err err;
};

static struct run *current; /* loop thread */
static struct {
    _Atomic(struct sample *) samples; /* NULL: none are taken */
    atomic_size_t next;
    atomic_int inside; /* handlers that are at work */
} sampling;

/* --- in whichever thread --- */

static void on_signal(int number)
{
    int saved = errno;
    (void)number;
    atomic_fetch_add(&sampling.inside, 1);
    struct sample *samples = atomic_load(&sampling.samples);
    size_t at = samples ? atomic_fetch_add(&sampling.next, 1) : SAMPLES_MAX;
    if (at < SAMPLES_MAX) {
        samples[at].depth = backtrace(samples[at].frames, DEPTH_MAX);
        atomic_store(&samples[at].whole, true);
    }
    atomic_fetch_sub(&sampling.inside, 1);
    errno = saved;
}

/* --- threads --- */

/* The clock of another thread's CPU time, as the kernel numbers them. */
static clockid_t cpu_clock_of(pid_t tid)
{
    return (clockid_t)((~(unsigned)tid << 3) | 6U);
}

static bool watch(struct run *r, pid_t tid)
{
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGPROF};
    const struct timespec period = {.tv_nsec = (long)PERIOD_US * 1000};
    const struct itimerspec each = {period, period};
    struct watched *w = &r->threads[r->threads_len];
    event._sigev_un._tid = tid;
    w->tid = tid;
    if (timer_create(cpu_clock_of(tid), &event, &w->timer))
        return false; /* it has ended */
    if (timer_settime(w->timer, 0, &each, NULL)) {
        (void)timer_delete(w->timer);
        return false;
    }
    r->threads_len++;
    return true;
}

static bool is_watched(const struct run *r, pid_t tid)
{
    for (size_t i = 0; i < r->threads_len; i++)
        if (r->threads[i].tid == tid)
            return true;
    return false;
}

static void watch_new_threads(struct run *r)
{
    DIR *dir = opendir("/proc/self/task");
    const struct dirent *entry;
    while (dir && (entry = readdir(dir)) != NULL && r->threads_len < THREADS_MAX) {
        pid_t tid = (pid_t)strtoul(entry->d_name, NULL, 10);
        if (tid > 0 && !is_watched(r, tid))
            (void)watch(r, tid);
    }
    if (dir)
        (void)closedir(dir);
}

static void unwatch_all(struct run *r)
{
    for (size_t i = 0; i < r->threads_len; i++)
        (void)timer_delete(r->threads[i].timer);
    r->threads_len = 0;
    atomic_store(&sampling.samples, NULL);
    while (atomic_load(&sampling.inside)) /* microseconds */
        (void)sched_yield();
    size_t taken = atomic_load(&sampling.next);
    r->used = taken < SAMPLES_MAX ? taken : SAMPLES_MAX;
    r->lost = taken - r->used;
}

/* --- on the pool --- */

/* Which of a sample's frames are the interrupted function and its callers. */
static void fold(struct run *r, struct osm_symbols *symbols, const struct sample *s,
                 struct osm_map *stacks)
{
    struct osm_buf line = OSM_BUF_INIT(64 * 1024);
    for (int i = s->depth; i-- > HANDLER_FRAMES;) {
        /* A caller is where it goes on, just behind its call: one byte before is still in it. */
        uintptr_t at = (uintptr_t)s->frames[i] - (i > HANDLER_FRAMES);
        (void)osm_buf_add_strs(&line, line.len ? ";" : "", osm_symbols_name(symbols, at), NULL);
    }
    size_t *count = line.len ? osm_map_get(stacks, line.data) : NULL;
    if (count) {
        ++*count;
    } else if (line.len && !line.failed) {
        count = osm_alloc(sizeof *count);
        if (count)
            *count = 1;
        if (!count || osm_map_put(stacks, line.data, count, NULL)) {
            osm_free(count);
            r->lost++;
        }
    }
    osm_buf_clear(&line);
}

static void count_on_pool(void *ud)
{
    struct run *r = ud;
    struct osm_map stacks = OSM_MAP_INIT;
    struct osm_symbols *symbols = osm_symbols_new();
    size_t n = 0;
    for (size_t i = 0; symbols && i < r->used; i++)
        if (atomic_load(&r->samples[i].whole) && r->samples[i].depth > HANDLER_FRAMES)
            fold(r, symbols, &r->samples[i], &stacks);
    const char **lines = osm_map_sorted_keys(&stacks, &n);
    for (size_t i = 0; lines && i < n; i++)
        (void)osm_buf_addf(&r->folded, "%s %zu\n", lines[i],
                           *(const size_t *)osm_map_get(&stacks, lines[i]));
    if (!symbols || (!lines && stacks.count) || r->folded.failed)
        (void)osm_fail(&r->err, OSM_ENOMEM, "the profile does not fit into memory");
    osm_free(lines);
    osm_map_each (&stacks, e)
        osm_free(e->value);
    osm_map_clear(&stacks);
    osm_symbols_free(symbols);
}

/* --- on the loop --- */

static void finish(struct run *r)
{
    osm_log(OSM_LOG_CORE, OSM_LOG_INFO, "CPU profile taken", OSM_U("samples", r->used),
            OSM_U("lost", r->lost));
    r->done(r->ud, r->err.code ? NULL : &r->folded, r->err.code ? &r->err : NULL);
    osm_buf_clear(&r->folded);
    osm_timer_free(r->tick);
    osm_free(r->samples);
    osm_free(r);
}

static void counted(void *ud)
{
    struct run *r = ud;
    if (current == r)
        current = NULL;
    finish(r);
}

static void on_tick(void *ud)
{
    struct run *r = ud;
    if (osm_now_ms() < r->ends_ms) {
        watch_new_threads(r);
        return;
    }
    osm_timer_stop(r->tick);
    unwatch_all(r);
    if (osm_loop_work(r->loop, count_on_pool, counted, r)) {
        (void)osm_fail(&r->err, OSM_ENOMEM, "out of memory");
        counted(r);
    }
}

void osm_profile_cancel(void)
{
    struct run *r = current;
    if (!r || !r->threads_len) /* none, or its samples are being counted */
        return;
    current = NULL;
    osm_timer_stop(r->tick);
    unwatch_all(r);
    (void)osm_fail(&r->err, OSM_ECANCELED, "the daemon is stopping");
    finish(r);
}

/* The handler stays: a signal that is still on its way would end the process without one. */
static int install_handler(void)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    (void)sigemptyset(&action.sa_mask);
    return sigaction(SIGPROF, &action, NULL);
}

int osm_profile_start(struct osm_loop *loop, unsigned seconds, osm_profile_done_fn *done, void *ud,
                      struct osm_err *err)
{
    void *warm[4];
    if (current)
        return osm_fail(err, OSM_EBUSY, "a profile is being taken already: wait for its end");
    struct run *r = osm_alloc(sizeof *r);
    if (r) {
        r->samples = osm_alloc_array(SAMPLES_MAX, sizeof *r->samples);
        r->tick = osm_timer_new(loop, on_tick, r);
    }
    if (!r || !r->samples || !r->tick) {
        if (r) {
            osm_free(r->samples);
            osm_timer_free(r->tick);
        }
        osm_free(r);
        return osm_fail(err, OSM_ENOMEM, "out of memory");
    }
    r->loop = loop;
    r->done = done;
    r->ud = ud;
    r->folded = (struct osm_buf)OSM_BUF_INIT(TEXT_MAX_BYTES);
    r->ends_ms = osm_now_ms() + (uint64_t)seconds * 1000;
    (void)backtrace(warm, 4); /* what it loads, it loads now */
    atomic_store(&sampling.next, 0);
    atomic_store(&sampling.samples, r->samples);
    if (!install_handler())
        watch_new_threads(r);
    if (!r->threads_len) {
        int rc = osm_fail(err, OSM_ENOTSUP, "no timer of CPU time can be had: %s", strerror(errno));
        unwatch_all(r);
        osm_timer_free(r->tick);
        osm_free(r->samples);
        osm_free(r);
        return rc;
    }
    current = r;
    osm_timer_start(r->tick, RESCAN_MS, RESCAN_MS);
    return 0;
}
