#include "whatif/room.h"

#include <string.h>

enum {
    BUDGET_MS = 10 * 1000,
    PATIENCE_MS = 1000,
    KEEP_MS = 60 * 1000,
    READY_MS = 2000,
    READY_MAX_MS = 10 * 60 * 1000 /* between two tries to make an engine ready */
};

/* One who waits for a turn, then has it. */
struct turn {
    struct turn *next;
    struct osm_scratch_task task;
    struct osm_scratch *scratch; /* NULL: it has been freed meanwhile */
    struct osm__room *room;      /* its engine's, while it has its turn; NULL: none yet */
    struct osm__room_terms terms;
    bool settles; /* its engine has been there before, and may have other terms */
    bool again;   /* it is for a new engine, from its beginning */
    bool asked;   /* `worked` will come, and frees it */
    bool makes_ready;
    int rc; /* of the work */
    struct osm_err err;
};

struct osm_scratch {
    struct osm_scratch_config config;
    struct turn *first, *last; /* who waits, the oldest first */
    size_t waiting;
    struct turn *current;   /* NULL: nobody has a turn */
    struct osm__room *kept; /* NULL: none */
    struct osm_timer *deadline, *next, *patience, *forget, *idle;
    bool waits, impatient; /* the first, to be ready; it has waited long enough */
    bool stale;        /* other policies may be in force than those of the engine that is kept */
    uint64_t ready_ms; /* how long to wait before the next one is made ready */
};

static uint64_t or_default(uint64_t given, uint64_t usual)
{
    return given ? given : usual;
}

static void look_for_next(struct osm_scratch *s)
{
    osm_timer_start(s->next, 0, 0); /* not in the callback of the engine that ends */
}

static void terms_clear(struct osm__room_terms *terms)
{
    osm_policy_files_unref(terms->files);
    osm_free(terms->roots_pem);
    *terms = (struct osm__room_terms){0};
}

static void turn_free(struct turn *turn)
{
    terms_clear(&turn->terms);
    osm_free(turn);
}

/* --- the engine of a turn --- */

/* No work is under way in it. */
static void leave_room(struct osm_scratch *s, struct osm__room *room)
{
    if (s->kept == room)
        s->kept = NULL;
    osm__room_discard(room);
}

static void be_idle(struct osm_scratch *s);

static void forget(void *ud)
{
    struct osm_scratch *s = ud;
    leave_room(s, s->kept);
    be_idle(s);
}

/* One that has been asked about more objects than there are, say, takes more than it should. */
static bool is_large(const struct osm_scratch *s)
{
    return s->config.keep_bytes && s->kept->bytes > s->config.keep_bytes;
}

static void be_idle(struct osm_scratch *s)
{
    if (s->kept && (!s->config.make_ready || is_large(s)))
        osm_timer_start(s->forget, or_default(s->config.keep_ms, KEEP_MS), 0);
    if (s->config.make_ready && (!s->kept || s->stale))
        osm_timer_start(s->idle, s->ready_ms, 0);
}

static void end(struct osm_scratch *s, int rc, const struct osm_err *err)
{
    struct turn *turn = osm_take_ptr(&s->current);
    osm_timer_stop(s->deadline);
    bool spoiled = turn->room && turn->room->spoiled;
    if (turn->room && (!turn->task.drop || spoiled))
        leave_room(s, turn->room);
    turn->room = NULL;
    if (turn->makes_ready) {
        s->stale = s->stale || rc;
        s->ready_ms = (rc || spoiled) && s->ready_ms < READY_MAX_MS / 2
                          ? s->ready_ms * 2
                          : or_default(s->config.ready_ms, READY_MS);
    }
    turn->task.end(turn->task.ud, rc, err);
    if (!turn->asked)
        turn_free(turn);
    be_idle(s);
    look_for_next(s);
}

/* --- on the engine's thread, and back --- */

static int too_late(struct osm_err *err)
{
    return osm_fail(err, OSM_ETIMEDOUT, "has taken too long and was ended");
}

/* Rules that keep state or write into answers may have done so for another question, and what is
 * there of former questions may take the memory that this one needs: a new engine says what there
 * is to it. */
static void work(void *ud, struct osm_engine *engine)
{
    struct turn *turn = ud;
    struct osm__room *room = turn->room;
    bool fits = true;
    if (atomic_load(&room->canceled))
        turn->rc = too_late(&turn->err);
    else if (turn->settles)
        turn->rc = osm__room_settle(room, engine, &turn->terms, &fits, &turn->err);
    if (!turn->rc && fits)
        turn->rc = turn->task.work(turn->task.ud, engine, &room->canceled, &room->kept, &turn->err);
    bool late = atomic_load(&room->canceled), bad = osm__room_look(room, engine);
    turn->again = turn->settles && !late && ((!turn->rc && !fits) || bad);
    room->spoiled = late || bad || turn->rc == OSM_ENOMEM;
}

static int take_terms(struct osm_scratch *s, struct turn *turn, struct osm_err *err);
static int enter_room(struct osm_scratch *s, struct turn *turn, struct osm_err *err);

static void worked(void *ud)
{
    struct turn *turn = ud;
    struct osm_scratch *s = turn->scratch;
    if (!s) {
        turn_free(turn);
        return;
    }
    if (!turn->again) {
        end(s, turn->rc, &turn->err);
        turn_free(turn);
        return;
    }
    struct osm_err err = {0};
    bool late = atomic_load(&turn->room->canceled); /* only now: nobody would end the next one */
    leave_room(s, osm_take_ptr(&turn->room));
    turn->asked = false;
    turn->rc = 0;
    turn->err = (struct osm_err){0};
    int rc = late ? too_late(&err) : take_terms(s, turn, &err);
    if (!rc)
        rc = enter_room(s, turn, &err);
    if (rc)
        end(s, rc, &err);
}

static void ask_engine(struct osm_scratch *s)
{
    struct turn *turn = s->current;
    struct osm_err err = {0};
    turn->asked = osm_policy_ask(turn->room->policy, work, worked, turn) == 0;
    if (!turn->asked)
        end(s, osm_fail(&err, OSM_ENOMEM, "out of memory"), &err);
}

static void loaded(void *ud, const char *error)
{
    struct osm_scratch *s = ud;
    struct osm_err err = {0};
    if (error) {
        struct osm__room *room = s->current->room;
        bool late = atomic_load(&room->canceled);
        room->spoiled = true;
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
        atomic_store(&s->current->room->canceled, true);
}

/* --- turns --- */

/* A new engine. */
static int enter_room(struct osm_scratch *s, struct turn *turn, struct osm_err *err)
{
    bool keeps = turn->task.drop != NULL;
    if (keeps)
        leave_room(s, s->kept);
    turn->settles = false;
    int rc = osm__room_new(&turn->room, &s->config, turn->terms.files, turn->terms.proven,
                           turn->task.drop, &(struct osm_policy_callbacks){s, loaded, done}, err);
    if (!rc && keeps)
        s->kept = turn->room;
    return rc;
}

/* The engine that is kept; false: it is none for this task. */
static bool enter_kept(struct osm_scratch *s, struct turn *turn)
{
    if (!s->kept || s->kept->drop != turn->task.drop)
        return false;
    turn->room = s->kept;
    turn->settles = true;
    atomic_store(&turn->room->canceled, false);
    return true;
}

static int take_terms(struct osm_scratch *s, struct turn *turn, struct osm_err *err)
{
    struct osm__room_terms *terms = &turn->terms;
    terms_clear(terms);
    if (turn->makes_ready)
        s->stale = false; /* from here on others may come into force */
    int rc = turn->task.begin(turn->task.ud, &terms->files, err);
    if (rc)
        return rc;
    terms->proven = turn->task.proven(turn->task.ud, terms->files);
    terms->roots_pem = osm_strdup(s->config.roots_pem(s->config.ud));
    return terms->roots_pem ? 0 : osm_fail(err, OSM_ENOMEM, "out of memory");
}

static void begin(struct osm_scratch *s)
{
    struct osm_err err = {0};
    struct turn *turn = s->current;
    osm_timer_stop(s->forget);
    osm_timer_stop(s->idle);
    int rc = take_terms(s, turn, &err);
    bool there = !rc && enter_kept(s, turn);
    if (!rc && !there)
        rc = enter_room(s, turn, &err);
    if (rc) {
        end(s, rc, &err);
        return;
    }
    osm_timer_start(s->deadline, or_default(s->config.budget_ms, BUDGET_MS), 0);
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
        osm_timer_start(s->patience, PATIENCE_MS, 0);
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
            turn_free(turn);
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
    s->stale = true;
    if (s->first && !s->current)
        look_for_next(s);
    else if (!s->current)
        be_idle(s);
}

static int enqueue(struct osm_scratch *s, const struct osm_scratch_task *task, bool makes_ready,
                   struct osm_err *err)
{
    struct turn *turn = osm_alloc(sizeof *turn);
    if (!turn)
        return osm_fail(err, OSM_ENOMEM, "out of memory");
    turn->task = *task;
    turn->scratch = s;
    turn->makes_ready = makes_ready;
    if (s->last)
        s->last->next = turn;
    else
        s->first = turn;
    s->last = turn;
    s->waiting++;
    look_for_next(s);
    return 0;
}

static void make_ready(void *ud)
{
    struct osm_scratch *s = ud;
    struct osm_scratch_task task;
    struct osm_err err = {0};
    if (s->current || s->first || !s->config.make_ready(s->config.ud, &task))
        return;
    if (enqueue(s, &task, true, &err))
        task.end(task.ud, err.code, &err);
}

bool osm_scratch_is_ready(const struct osm_scratch *s)
{
    return s->kept && (!s->current || s->current->room != s->kept);
}

int osm_scratch_ask(struct osm_scratch *s, const struct osm_scratch_task *task, struct osm_err *err)
{
    if (s->waiting >= OSM_SCRATCH_WAITING_MAX)
        return osm_fail(err, OSM_EBUSY, "%d others wait already; one is answered at a time",
                        OSM_SCRATCH_WAITING_MAX);
    return enqueue(s, task, false, err);
}

/* --- life --- */

struct osm_scratch *osm_scratch_new(const struct osm_scratch_config *config)
{
    struct osm_scratch *s = osm_alloc(sizeof *s);
    if (!s)
        return NULL;
    s->config = *config;
    s->ready_ms = or_default(config->ready_ms, READY_MS);
    s->deadline = osm_timer_new(config->loop, cancel, s);
    s->next = osm_timer_new(config->loop, take_turn, s);
    s->patience = osm_timer_new(config->loop, lose_patience, s);
    s->forget = osm_timer_new(config->loop, forget, s);
    s->idle = osm_timer_new(config->loop, make_ready, s);
    if (s->deadline && s->next && s->patience && s->forget && s->idle)
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
    struct osm__room *own = turn && turn->room != s->kept ? turn->room : NULL;
    if (turn)
        turn->scratch = NULL;
    osm__room_stop(own);
    osm__room_stop(s->kept);
    if (task.end)
        task.end(task.ud, rc, &err);
    if (waiting)
        turn_free(waiting);
    while ((turn = take_first(s))) {
        turn->task.end(turn->task.ud, rc, &err);
        turn_free(turn);
    }
    osm_timer_free(s->deadline);
    osm_timer_free(s->next);
    osm_timer_free(s->patience);
    osm_timer_free(s->forget);
    osm_timer_free(s->idle);
    osm_free(s);
}
