#include "whatif/scratch.h"

#include <string.h>

enum { BUDGET_MS = 10 * 1000, READY_MS = 1000 };

/* One who waits for a turn, then has it. */
struct turn {
    struct turn *next;
    struct osm_scratch_task task;
    struct osm_scratch *scratch; /* NULL: it has been freed meanwhile */
    atomic_bool canceled;        /* read by the engine's thread */
    bool asked;                  /* `worked` will come, and frees it */
    int rc;                      /* of the work */
    struct osm_err err;
};

struct osm_scratch {
    struct osm_scratch_config config;
    struct turn *first, *last; /* who waits, the oldest first */
    size_t waiting;
    struct turn *current; /* NULL: nobody has a turn */
    struct osm_policy *policy;
    struct osm_timer *deadline, *next, *patience;
    bool waits, impatient; /* the first, to be ready; it has waited long enough */
};

static void look_for_next(struct osm_scratch *s)
{
    osm_timer_start(s->next, 0, 0); /* not in the callback of the engine that ends */
}

static void end(struct osm_scratch *s, int rc, const struct osm_err *err)
{
    struct turn *turn = osm_take_ptr(&s->current);
    osm_timer_stop(s->deadline);
    osm_policy_discard(osm_take_ptr(&s->policy));
    turn->task.end(turn->task.ud, rc, err);
    if (!turn->asked)
        osm_free(turn);
    look_for_next(s);
}

static void work(void *ud, struct osm_engine *engine)
{
    struct turn *turn = ud;
    turn->rc = atomic_load(&turn->canceled)
                   ? osm_fail(&turn->err, OSM_ETIMEDOUT, "has taken too long and was ended")
                   : turn->task.work(turn->task.ud, engine, &turn->canceled, &turn->err);
}

static void worked(void *ud)
{
    struct turn *turn = ud;
    if (turn->scratch)
        end(turn->scratch, turn->rc, &turn->err);
    osm_free(turn);
}

static void loaded(void *ud, const char *error)
{
    struct osm_scratch *s = ud;
    struct turn *turn = s->current;
    struct osm_err err = {0};
    if (error) {
        bool late = atomic_load(&turn->canceled);
        int rc = osm_fail(&err, late ? OSM_ETIMEDOUT : OSM_ELUA, "%s%s",
                          late ? "loading has taken too long: " : "", error);
        end(s, rc, &err);
        return;
    }
    turn->asked = osm_policy_ask(s->policy, work, worked, turn) == 0;
    if (!turn->asked)
        end(s, osm_fail(&err, OSM_ENOMEM, "out of memory"), &err);
}

/* No batch is ever submitted: the work runs the engine itself. */
static void done(void *ud, struct osm_snapshot *snapshot, const char *error)
{
    (void)ud;
    (void)error;
    osm_snapshot_unref(snapshot);
}

static void cancel(void *ud)
{
    struct osm_scratch *s = ud;
    if (s->current)
        atomic_store(&s->current->canceled, true);
}

static void begin(struct osm_scratch *s)
{
    struct osm_err err = {0};
    struct turn *turn = s->current;
    struct osm_engine_config config = s->config.engine;
    int rc = turn->task.begin(turn->task.ud, &config.files, &err);
    if (!rc) {
        config.roots_pem = s->config.roots_pem(s->config.ud);
        config.yields = true;
        config.canceled = &turn->canceled;
        rc = osm_policy_start(&s->policy, s->config.loop, &config,
                              &(struct osm_policy_callbacks){s, loaded, done}, &err);
        osm_policy_files_unref(config.files);
    }
    if (rc)
        end(s, rc, &err);
    else
        osm_timer_start(s->deadline, s->config.budget_ms ? s->config.budget_ms : BUDGET_MS, 0);
}

static struct turn *take_first(struct osm_scratch *s)
{
    struct turn *turn = s->first;
    if (!turn)
        return NULL;
    s->first = turn->next;
    s->last = s->first ? s->last : NULL;
    s->waiting--;
    return turn;
}

static bool may_begin(struct osm_scratch *s, const struct turn *turn)
{
    if (s->impatient || !turn->task.wanted(turn->task.ud) || turn->task.ready(turn->task.ud))
        return true;
    if (!s->waits)
        osm_timer_start(s->patience, READY_MS, 0);
    s->waits = true;
    return false;
}

static void take_turn(void *ud)
{
    struct osm_scratch *s = ud;
    struct osm_err err = {0};
    struct turn *turn;
    while (!s->current && s->first && may_begin(s, s->first)) {
        turn = take_first(s);
        s->waits = s->impatient = false;
        osm_timer_stop(s->patience);
        if (turn->task.wanted(turn->task.ud)) {
            s->current = turn;
            begin(s);
        } else {
            int rc = osm_fail(&err, OSM_ECANCELED, "nobody waits for it");
            turn->task.end(turn->task.ud, rc, &err);
            osm_free(turn);
        }
    }
}

static void lose_patience(void *ud)
{
    struct osm_scratch *s = ud;
    s->impatient = true;
    take_turn(s);
}

void osm_scratch_wake(struct osm_scratch *s)
{
    if (s->first && !s->current)
        look_for_next(s);
}

struct osm_scratch *osm_scratch_new(const struct osm_scratch_config *config)
{
    struct osm_scratch *s = osm_alloc(sizeof *s);
    if (!s)
        return NULL;
    s->config = *config;
    s->deadline = osm_timer_new(config->loop, cancel, s);
    s->next = osm_timer_new(config->loop, take_turn, s);
    s->patience = osm_timer_new(config->loop, lose_patience, s);
    if (s->deadline && s->next && s->patience)
        return s;
    osm_scratch_free(s);
    return NULL;
}

void osm_scratch_free(struct osm_scratch *s)
{
    if (!s)
        return;
    struct osm_err err = {0};
    int rc = osm_fail(&err, OSM_ECANCELED, "the daemon is stopping");
    struct turn *turn = osm_take_ptr(&s->current);
    if (turn) {
        struct osm_scratch_task task = turn->task;
        bool asked = turn->asked;
        turn->scratch = NULL;
        atomic_store(&turn->canceled, true);
        osm_policy_stop(osm_take_ptr(&s->policy)); /* the turn is gone then, or will be */
        task.end(task.ud, rc, &err);
        if (!asked)
            osm_free(turn);
    }
    while ((turn = take_first(s))) {
        turn->task.end(turn->task.ud, rc, &err);
        osm_free(turn);
    }
    osm_timer_free(s->deadline);
    osm_timer_free(s->next);
    osm_timer_free(s->patience);
    osm_free(s);
}

int osm_scratch_ask(struct osm_scratch *s, const struct osm_scratch_task *task, struct osm_err *err)
{
    if (s->waiting >= OSM_SCRATCH_WAITING_MAX)
        return osm_fail(err, OSM_EBUSY, "%d others wait already; one is answered at a time",
                        OSM_SCRATCH_WAITING_MAX);
    struct turn *turn = osm_alloc(sizeof *turn);
    if (!turn)
        return osm_fail(err, OSM_ENOMEM, "out of memory");
    turn->task = *task;
    turn->scratch = s;
    atomic_init(&turn->canceled, false);
    if (s->last)
        s->last->next = turn;
    else
        s->first = turn;
    s->last = turn;
    s->waiting++;
    look_for_next(s);
    return 0;
}
