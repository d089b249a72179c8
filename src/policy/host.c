/* The engine's thread. It loads the bundle, then takes one batch at a time; the outcome of each is
 * posted to the loop.
 *
 *   loop:   submit --> [batch] --> thread: osm_engine_run --> [outcome] --> loop: done
 *
 * While no batch waits the thread lets the engine clean up, step by step, then sleeps.
 *
 * The mutex guards `batch`, `questions` and `stopping`; everything else belongs to one side, and
 * the outcome to whoever has the batch. One that is still posted when the policy is stopped is
 * dropped when it arrives. */
#include "policy/host.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Room for OSM_NEST_MAX nested evaluations, with a sanitizer's larger frames. */
enum { STACK_BYTES = 32 << 20, YIELDING = 10 /* as of nice(1) */ };

/* One for the life of the policy, so that ending a run needs no memory. */
struct outcome {
    struct osm_policy
        *policy; /* loop thread; NULL: nobody waits any more, whoever delivers it frees it */
    bool posted; /* whoever has it: the policy thread from a submit to its post */
    bool of_load;
    struct osm_snapshot *snapshot;
    int rc;
    struct osm_err err;
};

/* Of whoever asks something between two runs. */
struct question {
    struct question *next;
    osm_policy_work_fn *work;
    osm_task_fn *done;
    void *ud;
};

struct osm_policy {
    struct osm_loop *loop;
    struct osm_policy_callbacks callbacks;
    struct osm_engine_config config; /* with texts of its own, until the load */
    char *texts[4];
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct osm_changes *batch;
    struct question *questions; /* the oldest first */
    bool stopping;
    atomic_bool ending; /* the same for the engine, in the middle of a run */
    /* loop thread */
    bool busy;
    struct outcome *outcome;
    /* policy thread; the loop's while that has nothing to do */
    struct osm_engine *engine;
};

static void deliver(void *ud)
{
    struct outcome *o = ud;
    struct osm_policy *p = o->policy;
    struct osm_snapshot *snapshot = o->snapshot;
    o->snapshot = NULL;
    if (!p) {
        osm_snapshot_unref(snapshot);
        osm_free(o);
        return;
    }
    char error[sizeof o->err.msg];
    int rc = o->rc;
    memcpy(error, o->err.msg, sizeof error);
    p->busy = false; /* the callback may submit, or stop */
    if (o->of_load)
        p->callbacks.loaded(p->callbacks.ud, rc ? error : NULL);
    else
        p->callbacks.done(p->callbacks.ud, snapshot, rc ? error : NULL);
}

static bool is_stopping(struct osm_policy *p)
{
    pthread_mutex_lock(&p->lock);
    bool stopping = p->stopping;
    pthread_mutex_unlock(&p->lock);
    return stopping;
}

static void post(struct osm_policy *p, struct outcome *o)
{
    /* A loop that never heard of the outcome would wait for ever: out of memory passes, or the
     * process ends. */
    static const struct timespec pause = {.tv_nsec = 10 * 1000 * 1000};
    o->posted = true; /* before: the loop may have it, and submit again, at once */
    int rc = osm_loop_post(p->loop, deliver, o);
    while (rc == OSM_ENOMEM && !is_stopping(p)) {
        (void)nanosleep(&pause, NULL);
        rc = osm_loop_post(p->loop, deliver, o);
    }
    if (rc)
        o->posted = false;
}

static void run_batch(struct osm_policy *p, struct osm_changes *batch, struct outcome *o)
{
    o->err = (struct osm_err){0};
    o->of_load = false;
    uint64_t begin_us = osm_now_us();
    o->rc = osm_engine_run(p->engine, batch, &o->snapshot, &o->err);
    osm_metric_observe(OSM_METRIC_POLICY_RUN_TIME, NULL, (double)(osm_now_us() - begin_us) / 1e6);
    osm_changes_free(batch);
    post(p, o);
}

static void load(struct osm_policy *p, struct outcome *o)
{
    o->of_load = true;
    o->rc = osm_engine_new(&p->engine, &p->config, &o->err);
    osm_policy_files_unref(p->config.files);
    p->config.files = NULL;
    post(p, o);
}

static void tell_answer(void *ud)
{
    struct question *q = ud;
    q->done(q->ud);
    osm_free(q);
}

static void answer_question(struct osm_policy *p, struct question *q)
{
    static const struct timespec pause = {.tv_nsec = 10 * 1000 * 1000};
    q->work(q->ud, p->engine);
    while (osm_loop_post(p->loop, tell_answer, q) == OSM_ENOMEM)
        (void)nanosleep(&pause, NULL);
}

static void *serve(void *ud)
{
    struct osm_policy *p = ud;
    if (p->config.yields) /* of this thread alone; where it may not, it does not */
        (void)setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), YIELDING);
    load(p, p->outcome);
    pthread_mutex_lock(&p->lock);
    while (!p->stopping) {
        if (!p->batch && p->questions) {
            struct question *q = p->questions;
            p->questions = q->next;
            pthread_mutex_unlock(&p->lock);
            answer_question(p, q);
            pthread_mutex_lock(&p->lock);
            continue;
        }
        if (!p->batch) {
            pthread_mutex_unlock(&p->lock);
            bool more = p->engine && osm_engine_rest(p->engine);
            pthread_mutex_lock(&p->lock);
            if (!more && !p->batch && !p->questions && !p->stopping)
                pthread_cond_wait(&p->wake, &p->lock);
            continue;
        }
        struct osm_changes *batch = p->batch;
        p->batch = NULL;
        pthread_mutex_unlock(&p->lock);
        run_batch(p, batch, p->outcome);
        pthread_mutex_lock(&p->lock);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

static int start_thread(pthread_t *thread, void *(*fn)(void *), void *ud, struct osm_err *err)
{
    pthread_attr_t attr;
    int rc = pthread_attr_init(&attr);
    if (!rc) {
        rc = pthread_attr_setstacksize(&attr, STACK_BYTES);
        if (!rc)
            rc = pthread_create(thread, &attr, fn, ud);
        (void)pthread_attr_destroy(&attr);
    }
    return rc ? osm_fail(err, OSM_EIO, "policy thread: %s", strerror(rc)) : 0;
}

/* What a load needs outlives whoever asked for it. */
static int keep_config(struct osm_policy *p, const struct osm_engine_config *config)
{
    const char **fields[] = {&p->config.mesh_name, &p->config.osm_namespace,
                             &p->config.trust_domain, &p->config.roots_pem};
    p->config = *config;
    p->config.stopping = &p->ending;
    p->config.files = osm_policy_files_ref(config->files);
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        if (!*fields[i])
            continue;
        p->texts[i] = osm_strdup(*fields[i]);
        *fields[i] = p->texts[i];
        if (!p->texts[i])
            return OSM_ENOMEM;
    }
    return 0;
}

static void release(struct osm_policy *p)
{
    osm_policy_files_unref(p->config.files);
    for (size_t i = 0; i < sizeof p->texts / sizeof *p->texts; i++)
        osm_free(p->texts[i]);
    (void)pthread_cond_destroy(&p->wake);
    (void)pthread_mutex_destroy(&p->lock);
    osm_free(p);
}

int osm_policy_start(struct osm_policy **out, struct osm_loop *loop,
                     const struct osm_engine_config *config,
                     const struct osm_policy_callbacks *callbacks, struct osm_err *err)
{
    OSM_REQUIRE(config->files);
    struct osm_policy *p = osm_alloc(sizeof *p);
    if (!p)
        return osm_fail(err, OSM_ENOMEM, "out of memory");
    (void)pthread_mutex_init(&p->lock, NULL);
    (void)pthread_cond_init(&p->wake, NULL);
    p->loop = loop;
    p->callbacks = *callbacks;
    p->busy = true;
    p->outcome = osm_alloc(sizeof *p->outcome);
    int rc = p->outcome && !keep_config(p, config) ? 0 : osm_fail(err, OSM_ENOMEM, "out of memory");
    if (!rc) {
        p->outcome->policy = p;
        rc = start_thread(&p->thread, serve, p, err);
    }
    if (!rc) {
        *out = p;
        return 0;
    }
    osm_free(p->outcome);
    release(p);
    return rc;
}

/* The bundle does not change after its load. */
int osm_policy_watch_status(const struct osm_policy *p, struct osm_store_reader *reader)
{
    OSM_REQUIRE(!p->busy);
    return osm_engine_watch_status(p->engine, reader);
}

json_t *osm_policy_kinds(const struct osm_policy *p)
{
    OSM_REQUIRE(!p->busy);
    return osm_engine_kinds(p->engine);
}

/* The thread cleans up at most, which does not look at them; a batch brings them over. */
int osm_policy_set_roots(struct osm_policy *p, const char *roots_pem)
{
    OSM_REQUIRE(!p->busy);
    return osm_engine_set_roots(p->engine, roots_pem);
}

void osm_policy_submit(struct osm_policy *p, struct osm_changes *changes)
{
    if (!OSM_CHECK(!p->busy)) {
        osm_changes_free(changes);
        return;
    }
    p->busy = true;
    p->outcome->posted = false;
    pthread_mutex_lock(&p->lock);
    p->batch = changes;
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
}

int osm_policy_ask(struct osm_policy *p, osm_policy_work_fn *work, osm_task_fn *done, void *ud)
{
    struct question *q = osm_alloc(sizeof *q);
    if (!q)
        return OSM_ENOMEM;
    *q = (struct question){NULL, work, done, ud};
    pthread_mutex_lock(&p->lock);
    struct question **last = &p->questions;
    while (*last)
        last = &(*last)->next;
    *last = q;
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
    return 0;
}

bool osm_policy_busy(const struct osm_policy *p)
{
    return p->busy;
}

/* --- its end --- */

static void ask_to_stop(struct osm_policy *p)
{
    pthread_mutex_lock(&p->lock);
    p->stopping = true;
    atomic_store(&p->ending, true);
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
}

/* A large engine takes a while to free: by whoever waits for that, not by a thread that gives way
 * to all others. */
static void join(struct osm_policy *p)
{
    (void)pthread_join(p->thread, NULL);
    osm_engine_free(osm_take_ptr(&p->engine));
}

/* After the join, on the loop thread. */
static void clear(struct osm_policy *p)
{
    while (p->questions) {
        struct question *q = p->questions;
        p->questions = q->next;
        tell_answer(q);
    }
    osm_changes_free(p->batch); /* never begun */
    if (p->busy && p->outcome->posted) {
        p->outcome->policy = NULL;
    } else {
        osm_snapshot_unref(p->outcome->snapshot);
        osm_free(p->outcome);
    }
    release(p);
}

void osm_policy_stop(struct osm_policy *p)
{
    if (!p)
        return;
    ask_to_stop(p);
    join(p);
    clear(p);
}

static void no_load(void *ud, const char *error)
{
    (void)ud;
    (void)error;
}

static void no_run(void *ud, struct osm_snapshot *snapshot, const char *error)
{
    (void)ud;
    (void)error;
    osm_snapshot_unref(snapshot);
}

static void join_on_pool(void *ud)
{
    join(ud);
}

static void joined(void *ud)
{
    clear(ud);
}

void osm_policy_discard(struct osm_policy *p)
{
    if (!p)
        return;
    ask_to_stop(p);
    p->callbacks = (struct osm_policy_callbacks){NULL, no_load, no_run};
    if (osm_loop_work(p->loop, join_on_pool, joined, p))
        osm_policy_stop(p); /* without memory it is waited for */
}

/* --- an engine without a loop --- */

struct call {
    void (*fn)(void *ud);
    void *ud;
};

static void *run_call(void *ud)
{
    const struct call *call = ud;
    call->fn(call->ud);
    return NULL;
}

int osm_policy_call(void (*fn)(void *ud), void *ud, struct osm_err *err)
{
    pthread_t thread;
    struct call call = {fn, ud};
    int rc = start_thread(&thread, run_call, &call, err);
    if (!rc)
        (void)pthread_join(thread, NULL);
    return rc;
}
