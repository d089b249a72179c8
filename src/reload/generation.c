#include "reload/generation.h"

#include "base/clock.h"
#include "base/log.h"

enum { RESTART_MS = 1000, RESTART_MAX_MS = 60 * 1000, AGAIN_MS = 200 };

struct osm_generation {
    uint64_t id;
    struct osm_generation_config config;
    struct osm_policy *policy; /* NULL: waits for its restart */
    struct osm_store_reader *reader;
    struct osm_snapshot *snapshot;
    struct osm_timer *restart;
    struct osm_timer *again; /* what there is to send was not sent for want of memory */
    char *error;
    json_t *kinds;
    unsigned failures;    /* in a row: sets how long to wait for a fresh engine */
    uint64_t sent, cover; /* revisions of the store */
    bool loaded, submitted, on_hold;
    bool roots_due, roots_sent; /* to be sent; in the run that is under way */
};

static void loaded(void *ud, const char *error);
static void done(void *ud, struct osm_snapshot *snapshot, const char *error);

static int start_engine(struct osm_generation *g, struct osm_err *err)
{
    struct osm_engine_config config = g->config.engine;
    config.files = g->config.files;
    config.roots_pem = g->config.roots_pem(g->config.ud);
    g->loaded = g->submitted = g->roots_due = g->roots_sent = false;
    return osm_policy_start(&g->policy, g->config.loop, &config,
                            &(struct osm_policy_callbacks){g, loaded, done}, err);
}

/* The engine's state is lost, or there is none: a fresh one is tried, later each time. Until that
 * has made a snapshot the last one stands: what a rule alone runs into (its budget, its memory)
 * does not come here, it withdraws what it granted. */
static void fail(struct osm_generation *g, bool at_load, const char *error)
{
    uint64_t delay_ms = RESTART_MS;
    for (unsigned i = 0; i < g->failures && delay_ms < RESTART_MAX_MS; i++)
        delay_ms *= 2;
    if (delay_ms > RESTART_MAX_MS)
        delay_ms = RESTART_MAX_MS;
    delay_ms += osm_now_us() % (delay_ms / 4); /* not all daemons of a cluster at once */
    char *text = osm_strf("%s; %s; tried again with a fresh engine, %u failed in a row", error,
                          g->snapshot ? "the last good configuration serves"
                                      : "nothing is served by these policies yet",
                          g->failures + 1);
    osm_free(g->error);
    g->error = text;
    g->failures++;
    osm_timer_start(g->restart, delay_ms, 0);
    g->config.failed(g->config.ud, g, at_load, error); /* last: may end it */
}

static void restart(void *ud)
{
    struct osm_generation *g = ud;
    struct osm_err err = {0};
    osm_policy_discard(osm_take_ptr(&g->policy));
    if (osm_store_reader_restart(g->reader) || start_engine(g, &err))
        fail(g, false, err.msg[0] ? err.msg : "out of memory");
}

static void loaded(void *ud, const char *error)
{
    struct osm_generation *g = ud;
    if (error) {
        char *text = osm_strdup(error);
        fail(g, true, text ? text : "out of memory");
        osm_free(text);
        return;
    }
    g->loaded = true;
    json_decref(g->kinds);
    g->kinds = osm_policy_kinds(g->policy);
    if (!g->kinds || osm_policy_watch_status(g->policy, g->reader)) {
        g->loaded = false;
        fail(g, false, "out of memory");
        return;
    }
    if (!g->config.loaded(g->config.ud, g))
        g->on_hold = true;
    osm_generation_flush(g);
}

static void done(void *ud, struct osm_snapshot *snapshot, const char *error)
{
    struct osm_generation *g = ud;
    if (error) {
        g->loaded = false; /* nothing is submitted to it any more */
        fail(g, false, error);
        return;
    }
    g->cover = g->sent;
    g->failures = 0;
    g->roots_sent = false;
    osm_free(osm_take_ptr(&g->error));
    if (snapshot) {
        osm_snapshot_unref(g->snapshot);
        g->snapshot = snapshot;
    }
    osm_generation_flush(g);
    g->config.ran(g->config.ud, g, snapshot != NULL); /* last: may end it */
}

void osm_generation_flush(struct osm_generation *g)
{
    if (!g->loaded || g->on_hold || osm_policy_busy(g->policy))
        return;
    bool dirty = osm_store_reader_dirty(g->reader);
    if (!dirty && !g->roots_due && g->submitted)
        return;
    /* roots alone are a batch too, and so is nothing, once */
    struct osm_changes *changes =
        dirty ? osm_store_reader_take(g->reader) : osm_alloc(sizeof *changes);
    if (!changes) {
        osm_timer_start(g->again, AGAIN_MS, 0);
        return;
    }
    if (g->roots_due && !osm_policy_set_roots(g->policy, g->config.roots_pem(g->config.ud))) {
        g->roots_due = false;
        g->roots_sent = true;
    }
    g->submitted = true;
    g->sent = osm_store_revision(g->config.store);
    osm_policy_submit(g->policy, changes);
}

static void again(void *ud)
{
    osm_generation_flush(ud);
}

void osm_generation_hold(struct osm_generation *g)
{
    g->on_hold = true;
}

void osm_generation_release(struct osm_generation *g)
{
    g->on_hold = false;
    osm_generation_flush(g);
}

void osm_generation_roots_changed(struct osm_generation *g)
{
    g->roots_due = true;
    osm_generation_flush(g);
}

int osm_generation_start(struct osm_generation **out, uint64_t id,
                         const struct osm_generation_config *config, struct osm_err *err)
{
    struct osm_generation *g = osm_alloc(sizeof *g);
    if (!g)
        return osm_fail(err, OSM_ENOMEM, "out of memory");
    g->id = id;
    g->config = *config;
    g->config.files = osm_policy_files_ref(config->files);
    g->reader = osm_store_reader_new(config->store);
    g->restart = osm_timer_new(config->loop, restart, g);
    g->again = osm_timer_new(config->loop, again, g);
    int rc = g->reader && g->restart && g->again ? start_engine(g, err)
                                                 : osm_fail(err, OSM_ENOMEM, "out of memory");
    if (rc)
        osm_generation_end(g);
    else
        *out = g;
    return rc;
}

static void clear(struct osm_generation *g)
{
    osm_timer_free(g->restart);
    osm_timer_free(g->again);
    osm_store_reader_free(g->reader);
    osm_snapshot_unref(g->snapshot);
    osm_policy_files_unref(g->config.files);
    osm_free(g->error);
    json_decref(g->kinds);
    osm_free(g);
}

void osm_generation_end(struct osm_generation *g)
{
    if (!g)
        return;
    osm_policy_discard(g->policy);
    clear(g);
}

void osm_generation_end_now(struct osm_generation *g)
{
    if (!g)
        return;
    osm_policy_stop(g->policy);
    clear(g);
}

int osm_generation_ask(struct osm_generation *g, osm_policy_work_fn *work, osm_task_fn *answered,
                       void *ud)
{
    return g->policy && g->loaded ? osm_policy_ask(g->policy, work, answered, ud) : OSM_EBUSY;
}

uint64_t osm_generation_id(const struct osm_generation *g)
{
    return g->id;
}

struct osm_policy_files *osm_generation_files(const struct osm_generation *g)
{
    return g->config.files;
}

struct osm_snapshot *osm_generation_snapshot(const struct osm_generation *g)
{
    return g->snapshot;
}

bool osm_generation_roots_due(const struct osm_generation *g)
{
    return g->roots_due || g->roots_sent;
}

bool osm_generation_settled(const struct osm_generation *g)
{
    return g->snapshot && !g->error && !g->roots_due && g->loaded && !osm_policy_busy(g->policy) &&
           !osm_store_reader_dirty(g->reader);
}

bool osm_generation_keeps_up(const struct osm_generation *g, const struct osm_generation *other)
{
    return g->snapshot && (g->cover >= other->cover || osm_generation_settled(g)) &&
           (!osm_generation_roots_due(g) || osm_generation_roots_due(other));
}

const json_t *osm_generation_kinds(const struct osm_generation *g)
{
    return g->kinds;
}

const char *osm_generation_error(const struct osm_generation *g)
{
    return g->error;
}
