#include "whatif/scratch.h"

#include <string.h>

enum { BUDGET_MS = 10 * 1000, READY_MS = 1000, KEEP_MS = 60 * 1000 };

/* An engine on its thread. */
struct room {
    struct osm_policy *policy;
    char digest[OSM_POLICY_DIGEST_SIZE]; /* of its policies */
    char *roots_pem;
    bool proven;
    atomic_bool canceled; /* read by the engine's thread */
    void *kept;
    void (*drop)(void *kept);
};

/* One who waits for a turn, then has it. */
struct turn {
    struct turn *next;
    struct osm_scratch_task task;
    struct osm_scratch *scratch; /* NULL: it has been freed meanwhile */
    struct room *room;           /* its engine's, while it has its turn */
    bool asked;                  /* `worked` will come, and frees it */
    int rc;                      /* of the work */
    struct osm_err err;
};

struct osm_scratch {
    struct osm_scratch_config config;
    struct turn *first, *last; /* who waits, the oldest first */
    size_t waiting;
    struct turn *current; /* NULL: nobody has a turn */
    struct room *room;    /* of the current turn, or kept; NULL: none */
    struct osm_timer *deadline, *next, *patience, *forget;
    bool waits, impatient; /* the first, to be ready; it has waited long enough */
};

static void look_for_next(struct osm_scratch *s)
{
    osm_timer_start(s->next, 0, 0); /* not in the callback of the engine that ends */
}

static void room_free(struct room *room)
{
    if (room->kept)
        room->drop(room->kept);
    osm_free(room->roots_pem);
    osm_free(room);
}

/* No work is under way in it. */
static void leave_room(struct osm_scratch *s)
{
    struct room *room = osm_take_ptr(&s->room);
    if (!room)
        return;
    osm_policy_discard(room->policy);
    room_free(room);
}

static void forget(void *ud)
{
    leave_room(ud);
}

static void end(struct osm_scratch *s, int rc, const struct osm_err *err)
{
    struct turn *turn = osm_take_ptr(&s->current);
    osm_timer_stop(s->deadline);
    if (rc || !turn->task.drop)
        leave_room(s);
    else
        osm_timer_start(s->forget, s->config.keep_ms ? s->config.keep_ms : KEEP_MS, 0);
    turn->task.end(turn->task.ud, rc, err);
    if (!turn->asked)
        osm_free(turn);
    look_for_next(s);
}

static void work(void *ud, struct osm_engine *engine)
{
    struct turn *turn = ud;
    struct room *room = turn->room;
    turn->rc =
        atomic_load(&room->canceled)
            ? osm_fail(&turn->err, OSM_ETIMEDOUT, "has taken too long and was ended")
            : turn->task.work(turn->task.ud, engine, &room->canceled, &room->kept, &turn->err);
}

static void worked(void *ud)
{
    struct turn *turn = ud;
    if (turn->scratch)
        end(turn->scratch, turn->rc, &turn->err);
    osm_free(turn);
}

static void ask_engine(struct osm_scratch *s)
{
    struct turn *turn = s->current;
    struct osm_err err = {0};
    turn->room = s->room;
    turn->asked = osm_policy_ask(s->room->policy, work, worked, turn) == 0;
    if (!turn->asked)
        end(s, osm_fail(&err, OSM_ENOMEM, "out of memory"), &err);
}

static void loaded(void *ud, const char *error)
{
    struct osm_scratch *s = ud;
    struct osm_err err = {0};
    if (error) {
        bool late = atomic_load(&s->room->canceled);
        int rc = osm_fail(&err, late ? OSM_ETIMEDOUT : OSM_ELUA, "%s%s",
                          late ? "loading has taken too long: " : "", error);
        end(s, rc, &err);
        return;
    }
    ask_engine(s);
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
        atomic_store(&s->room->canceled, true);
}

/* Whether the engine that was kept is the one that the turn needs. */
static bool fits(const struct osm_scratch *s, const struct turn *turn,
                 const struct osm_policy_files *files)
{
    return s->room && s->room->drop == turn->task.drop && !strcmp(s->room->digest, files->digest) &&
           (!s->room->proven || turn->task.proven(turn->task.ud, files)) &&
           !strcmp(s->room->roots_pem, s->config.roots_pem(s->config.ud));
}

static int enter_room(struct osm_scratch *s, struct osm_policy_files *files, struct osm_err *err)
{
    struct osm_engine_config config = s->config.engine;
    struct room *room = osm_alloc(sizeof *room);
    char *roots_pem = room ? osm_strdup(s->config.roots_pem(s->config.ud)) : NULL;
    if (!roots_pem) {
        osm_free(room);
        return osm_fail(err, OSM_ENOMEM, "out of memory");
    }
    room->roots_pem = roots_pem;
    room->drop = s->current->task.drop;
    room->proven = s->current->task.proven(s->current->task.ud, files);
    memcpy(room->digest, files->digest, sizeof room->digest);
    atomic_init(&room->canceled, false);
    config.files = files;
    config.roots_pem = roots_pem;
    config.yields = true;
    config.proven = room->proven;
    config.canceled = &room->canceled;
    int rc = osm_policy_start(&room->policy, s->config.loop, &config,
                              &(struct osm_policy_callbacks){s, loaded, done}, err);
    if (rc)
        room_free(room);
    else
        s->room = room;
    return rc;
}

static void begin(struct osm_scratch *s)
{
    struct osm_err err = {0};
    struct turn *turn = s->current;
    struct osm_policy_files *files = NULL;
    int rc = turn->task.begin(turn->task.ud, &files, &err);
    bool there = !rc && fits(s, turn, files);
    osm_timer_stop(s->forget);
    if (!there)
        leave_room(s);
    if (!rc && !there)
        rc = enter_room(s, files, &err);
    osm_policy_files_unref(files);
    if (rc) {
        end(s, rc, &err);
        return;
    }
    osm_timer_start(s->deadline, s->config.budget_ms ? s->config.budget_ms : BUDGET_MS, 0);
    atomic_store(&s->room->canceled, false);
    if (there)
        ask_engine(s);
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
    s->forget = osm_timer_new(config->loop, forget, s);
    if (s->deadline && s->next && s->patience && s->forget)
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
    struct osm_scratch_task task = turn ? turn->task : (struct osm_scratch_task){0};
    struct turn *waiting = turn && !turn->asked ? turn : NULL; /* else it goes with the engine */
    if (turn)
        turn->scratch = NULL;
    if (s->room) {
        atomic_store(&s->room->canceled, true);
        osm_policy_stop(s->room->policy);
        room_free(s->room);
    }
    if (turn)
        task.end(task.ud, rc, &err);
    osm_free(waiting);
    while ((turn = take_first(s))) {
        turn->task.end(turn->task.ud, rc, &err);
        osm_free(turn);
    }
    osm_timer_free(s->deadline);
    osm_timer_free(s->next);
    osm_timer_free(s->patience);
    osm_timer_free(s->forget);
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
    if (s->last)
        s->last->next = turn;
    else
        s->first = turn;
    s->last = turn;
    s->waiting++;
    look_for_next(s);
    return 0;
}
