/* The engine's thread. It takes one batch at a time; the outcome is posted to the loop.
 *
 *   loop:   submit --> [batch] --> thread: osm_engine_run --> [outcome] --> loop: done
 *
 * While no batch waits the thread lets the engine clean up, step by step, then sleeps.
 *
 * The mutex guards `batch`, `stopping` and how the start went; everything else belongs to one side,
 * and the outcome to whoever has the batch. One that is still posted when the policy is stopped is
 * dropped when it arrives. */
#include "policy/host.h"

#include "base/check.h"
#include "base/log.h"

#include <pthread.h>
#include <string.h>
#include <time.h>

/* Room for OSM_NEST_MAX nested evaluations, with a sanitizer's larger frames. */
enum { STACK_BYTES = 32 << 20 };

/* One for the life of the policy, so that ending a run needs no memory. */
struct outcome {
    struct osm_policy
        *policy; /* loop thread; NULL: nobody waits any more, whoever delivers it frees it */
    bool posted; /* policy thread, and the loop after the join */
    struct osm_snapshot *snapshot;
    int rc;
    struct osm_err err;
};

struct osm_policy {
    struct osm_loop *loop;
    struct osm_policy_callbacks callbacks;
    const struct osm_engine_config *config; /* during start only */
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct osm_changes *batch;
    bool stopping;
    bool started;
    int start_rc;
    struct osm_err start_err;
    /* loop thread */
    bool busy;
    struct outcome *outcome;
    /* policy thread */
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
    p->busy = false; /* done may submit, or stop */
    p->callbacks.done(p->callbacks.ud, snapshot, rc ? error : NULL);
}

static bool is_stopping(struct osm_policy *p)
{
    pthread_mutex_lock(&p->lock);
    bool stopping = p->stopping;
    pthread_mutex_unlock(&p->lock);
    return stopping;
}

static void run_batch(struct osm_policy *p, struct osm_changes *batch, struct outcome *o)
{
    o->err = (struct osm_err){0};
    o->rc = osm_engine_run(p->engine, batch, &o->snapshot, &o->err);
    osm_changes_free(batch);
    /* A loop that never heard of the outcome would wait for ever: out of memory passes, or the
     * process ends. */
    static const struct timespec pause = {.tv_nsec = 10 * 1000 * 1000};
    int rc = osm_loop_post(p->loop, deliver, o);
    while (rc == OSM_ENOMEM && !is_stopping(p)) {
        (void)nanosleep(&pause, NULL);
        rc = osm_loop_post(p->loop, deliver, o);
    }
    o->posted = rc == 0;
}

static void *serve(void *ud)
{
    struct osm_policy *p = ud;
    struct osm_engine *engine = NULL;
    struct osm_err err = {0};
    int rc = osm_engine_new(&engine, p->config, &err);
    pthread_mutex_lock(&p->lock);
    p->engine = engine;
    p->start_rc = rc;
    p->start_err = err;
    p->started = true;
    pthread_cond_broadcast(&p->wake);
    while (!rc && !p->stopping) {
        if (!p->batch) {
            pthread_mutex_unlock(&p->lock);
            bool more = osm_engine_rest(engine);
            pthread_mutex_lock(&p->lock);
            if (!more && !p->batch && !p->stopping)
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
    osm_engine_free(engine);
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

int osm_policy_start(struct osm_policy **out, struct osm_loop *loop,
                     const struct osm_engine_config *config,
                     const struct osm_policy_callbacks *callbacks, struct osm_err *err)
{
    struct osm_policy *p = osm_alloc(sizeof *p);
    if (!p)
        return osm_fail(err, OSM_ENOMEM, "out of memory");
    p->outcome = osm_alloc(sizeof *p->outcome);
    if (!p->outcome) {
        osm_free(p);
        return osm_fail(err, OSM_ENOMEM, "out of memory");
    }
    p->outcome->policy = p;
    p->loop = loop;
    p->callbacks = *callbacks;
    p->config = config;
    (void)pthread_mutex_init(&p->lock, NULL);
    (void)pthread_cond_init(&p->wake, NULL);
    int rc = start_thread(&p->thread, serve, p, err);
    if (rc)
        goto fail;
    pthread_mutex_lock(&p->lock);
    while (!p->started)
        pthread_cond_wait(&p->wake, &p->lock);
    rc = p->start_rc;
    pthread_mutex_unlock(&p->lock);
    p->config = NULL;
    if (!rc) {
        *out = p;
        return 0;
    }
    (void)pthread_join(p->thread, NULL);
    (void)osm_fail(err, rc, "%s", p->start_err.msg);
fail:
    (void)pthread_cond_destroy(&p->wake);
    (void)pthread_mutex_destroy(&p->lock);
    osm_free(p->outcome);
    osm_free(p);
    return rc;
}

/* The bundle does not change after its load, which osm_policy_start has waited for. */
int osm_policy_watch_status(const struct osm_policy *p, struct osm_store_reader *reader)
{
    return osm_engine_watch_status(p->engine, reader);
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

bool osm_policy_busy(const struct osm_policy *p)
{
    return p->busy;
}

void osm_policy_stop(struct osm_policy *p)
{
    if (!p)
        return;
    pthread_mutex_lock(&p->lock);
    p->stopping = true;
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
    (void)pthread_join(p->thread, NULL);
    osm_changes_free(p->batch); /* never begun */
    if (p->busy && p->outcome->posted) {
        p->outcome->policy = NULL;
    } else {
        osm_snapshot_unref(p->outcome->snapshot);
        osm_free(p->outcome);
    }
    (void)pthread_cond_destroy(&p->wake);
    (void)pthread_mutex_destroy(&p->lock);
    osm_free(p);
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
