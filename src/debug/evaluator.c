#include "debug/evaluator.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/json.h"
#include "policy/host.h"

#include <string.h>

enum {
    STUCK_MS = 10 * 1000, /* an answer that takes longer does not come: its copy is given up */
    WATCH_MS = 100,       /* between two looks of a watch */
};

struct osm_evaluators {
    struct osm_evaluators_config config;
    struct osm_evaluator *list;
    size_t len;
    struct osm_evaluator_watch *watches;
};

/* Gone when its session has ended and nothing is under way. */
struct osm_evaluator {
    struct osm_evaluators *all; /* NULL: these have ended */
    struct osm_evaluator *next, **prev;
    struct osm_policy *policy; /* NULL: none yet, or it is lost */
    struct osm_store_reader *reader;
    uint64_t generation;
    size_t under_way;
    uint64_t oldest_ms; /* when the first of those was asked */
    bool loaded, opened;
    bool ended;       /* its session */
    const char *note; /* for the next answer */
};

struct question {
    struct osm_evaluator *evaluator;
    struct osm_policy *policy; /* that it was asked of */
    enum osm_evaluation_type type;
    char *text;
    json_t *keys;
    struct osm_changes *changes;
    struct osm_snapshot *served;
    json_t *(*diff)(const struct osm_snapshot *served, const struct osm_snapshot *next,
                    struct osm_err *err);
    bool first;  /* of its engine: which is made a console by it */
    bool broken; /* that, or taking objects in, has failed */
    const char *note;
    json_t *answer;
    int rc;
    struct osm_err err;
    osm_evaluated_fn *done;
    void *ud;
};

struct osm_evaluator_watch {
    struct osm_evaluator_watch *next, **prev;
    struct osm_evaluators *all;
    struct osm_evaluator *evaluator;
    struct osm_evaluation what;
    char *text;
    json_t *keys;
    osm_watched_fn *fn;
    void *ud;
    struct osm_timer *timer;
    json_t *seen;       /* the last answer; NULL: */
    struct osm_err err; /* the last error */
    bool looking, again, stopped, first;
};

/* --- life --- */

struct osm_evaluators *osm_evaluators_new(const struct osm_evaluators_config *config)
{
    struct osm_evaluators *all = osm_alloc(sizeof *all);
    if (all)
        all->config = *config;
    return all;
}

static void give_up_copy(struct osm_evaluator *ev, bool now)
{
    if (ev->policy && now)
        osm_policy_stop(osm_take_ptr(&ev->policy));
    else if (ev->policy)
        osm_policy_discard(osm_take_ptr(&ev->policy));
    osm_store_reader_free(osm_take_ptr(&ev->reader));
}

static void free_if_done(struct osm_evaluator *ev)
{
    if (ev->ended && !ev->under_way && !ev->policy)
        osm_free(ev);
}

static void leave(struct osm_evaluator *ev)
{
    if (!ev->all)
        return;
    *ev->prev = ev->next;
    if (ev->next)
        ev->next->prev = ev->prev;
    ev->all->len--;
    ev->all = NULL;
}

void osm_evaluators_free(struct osm_evaluators *all)
{
    if (!all)
        return;
    OSM_CHECK(!all->watches); /* whoever has one has stopped it */
    while (all->list) {
        struct osm_evaluator *ev = all->list;
        leave(ev);
        give_up_copy(ev, true);
        free_if_done(ev);
    }
    osm_free(all);
}

int osm_evaluator_new(struct osm_evaluator **out, struct osm_evaluators *all, struct osm_err *err)
{
    if (all->len >= OSM_EVALUATORS_MAX)
        return osm_fail(err, OSM_EBUSY,
                        "%d sessions have a copy of the mesh already; end one of them",
                        OSM_EVALUATORS_MAX);
    struct osm_evaluator *ev = osm_alloc(sizeof *ev);
    if (!ev)
        return osm_fail(err, OSM_ENOMEM, "out of memory");
    ev->all = all;
    ev->next = all->list;
    ev->prev = &all->list;
    if (ev->next)
        ev->next->prev = &ev->next;
    all->list = ev;
    all->len++;
    *out = ev;
    return 0;
}

void osm_evaluator_end(struct osm_evaluator *ev)
{
    ev->ended = true;
    leave(ev);
    give_up_copy(ev, false);
    free_if_done(ev);
}

/* --- the copy --- */

static void loaded(void *ud, const char *error)
{
    struct osm_evaluator *ev = ud;
    ev->loaded = !error;
    /* What status has changed between the start and now is in the first batch. */
    if (ev->loaded && osm_policy_watch_status(ev->policy, ev->reader))
        ev->note = "out of memory: changes of statuses may not be seen";
}

static void no_run(void *ud, struct osm_snapshot *snapshot, const char *error)
{
    (void)ud;
    (void)error;
    osm_snapshot_unref(snapshot);
}

static int start_copy(struct osm_evaluator *ev, struct osm_policy_files *files, uint64_t generation,
                      struct osm_err *err)
{
    const struct osm_evaluators_config *config = &ev->all->config;
    struct osm_engine_config engine = config->engine;
    engine.files = files;
    engine.roots_pem = config->roots_pem(config->ud);
    ev->loaded = ev->opened = false;
    ev->generation = generation;
    ev->reader = osm_store_reader_new(config->store);
    if (!ev->reader)
        return osm_fail(err, OSM_ENOMEM, "out of memory");
    int rc = osm_policy_start(&ev->policy, config->loop, &engine,
                              &(struct osm_policy_callbacks){ev, loaded, no_run}, err);
    if (rc)
        osm_store_reader_free(osm_take_ptr(&ev->reader));
    return rc;
}

/* One of the policies in force is there, or is being made. */
static int have_copy(struct osm_evaluator *ev, struct osm_err *err)
{
    uint64_t generation = 0;
    const struct osm_evaluators_config *config = ev->all ? &ev->all->config : NULL;
    struct osm_policy_files *files = config ? config->files(config->ud, &generation) : NULL;
    if (!files)
        return osm_fail(err, OSM_EBUSY, "no policies are in force; `policy list` says why");
    bool stuck = ev->under_way && osm_now_ms() - ev->oldest_ms > STUCK_MS;
    if (ev->policy && (generation != ev->generation || stuck)) {
        ev->note = stuck ? "the copy was stuck, this is a new one; what lines defined is gone"
                         : "other policies are in force now, this is a new copy; what lines "
                           "defined is gone";
        give_up_copy(ev, false);
    }
    return ev->policy ? 0 : start_copy(ev, files, generation, err);
}

/* --- asking --- */

/* The line has asked what would be served. */
static int add_diff(struct question *q, struct osm_engine *engine)
{
    struct osm_snapshot *next = NULL;
    if (!json_is_true(json_object_get(q->answer, "diff")))
        return 0;
    if (!q->served)
        return osm_fail(&q->err, OSM_EBUSY, "diff: nothing is served yet");
    int rc = osm_console_run(engine, &next, &q->err);
    q->broken = rc != 0;
    json_t *diff = rc ? NULL : q->diff(q->served, next, &q->err);
    osm_snapshot_unref(next);
    if (!rc && !diff)
        rc = q->err.code;
    if (!rc && json_object_set_new(q->answer, "diff", diff))
        rc = osm_fail(&q->err, OSM_ENOMEM, "out of memory");
    return rc;
}

static int evaluate(struct question *q, struct osm_engine *engine)
{
    const struct osm_console_limits limits = {0};
    struct osm_changes none = {NULL, 0};
    int rc = q->first ? osm_console_open(engine, &limits, &q->err) : 0;
    if (!rc && (q->first || q->changes))
        rc = osm_console_update(engine, q->changes ? q->changes : &none, &q->err);
    q->broken = rc != 0;
    if (rc)
        return rc;
    switch (q->type) {
    case OSM_EVALUATE_LINE:
        rc = osm_console_eval(engine, q->text, &q->answer, &q->err);
        return rc ? rc : add_diff(q, engine);
    case OSM_EVALUATE_ASK:
        return osm_console_ask(engine, q->text, q->keys, &q->answer, &q->err);
    case OSM_EVALUATE_TRACE:
        return osm_console_trace(engine, q->text, q->keys, &q->answer, &q->err);
    case OSM_EVALUATE_NAMES:
    default:
        q->answer = osm_console_names(engine);
        return q->answer ? 0 : osm_fail(&q->err, OSM_ENOMEM, "out of memory");
    }
}

/* Policy thread. */
static void work(void *ud, struct osm_engine *engine)
{
    struct question *q = ud;
    q->rc = engine ? evaluate(q, engine)
                   : osm_fail(&q->err, OSM_ELUA, "the policies in force do not load in a copy");
}

static void answered(void *ud)
{
    struct question *q = ud;
    struct osm_evaluator *ev = q->evaluator;
    bool lost = q->broken || q->rc == OSM_ELIMIT || q->rc == OSM_ENOMEM;
    ev->oldest_ms = osm_now_ms();
    if (lost && ev->policy == q->policy)
        give_up_copy(ev, false);
    if (!q->rc && q->note && json_is_object(q->answer))
        (void)json_object_set_new(q->answer, "note", json_string(q->note));
    if (q->rc)
        json_decref(osm_take_ptr(&q->answer));
    q->done(q->ud, q->answer, q->rc ? &q->err : NULL); /* may end its session */
    ev->under_way--;
    free_if_done(ev);
    osm_changes_free(q->changes);
    osm_snapshot_unref(q->served);
    json_decref(q->keys);
    osm_free(q->text);
    osm_free(q);
}

int osm_evaluator_ask(struct osm_evaluator *ev, const struct osm_evaluation *what,
                      osm_evaluated_fn *done, void *ud, struct osm_err *err)
{
    int rc = have_copy(ev, err);
    if (rc)
        return rc;
    struct question *q = osm_alloc(sizeof *q);
    char *text = osm_strdup(what->text ? what->text : "");
    if (q)
        *q = (struct question){.evaluator = ev,
                               .policy = ev->policy,
                               .type = what->type,
                               .text = text,
                               .keys = json_incref((json_t *)(uintptr_t)what->keys),
                               .first = !ev->opened,
                               .note = ev->note,
                               .rc = OSM_ECANCELED,
                               .done = done,
                               .ud = ud};
    if (q) { /* what is answered where the copy is stopped first */
        (void)osm_fail(&q->err, OSM_ECANCELED, "the session's copy of the mesh has ended");
        struct osm_snapshot *served = ev->all->config.served(ev->all->config.ud);
        q->changes = osm_store_reader_take(ev->reader);
        q->served = served ? osm_snapshot_ref(served) : NULL;
        q->diff = ev->all->config.diff;
    }
    if (!q || !text || osm_policy_ask(ev->policy, work, answered, q)) {
        /* the changes are lost to this copy */
        if (q) {
            osm_changes_free(q->changes);
            osm_snapshot_unref(q->served);
            json_decref(q->keys);
        }
        osm_free(text);
        osm_free(q);
        give_up_copy(ev, false);
        return osm_fail(err, OSM_ENOMEM, "out of memory");
    }
    if (!ev->under_way++)
        ev->oldest_ms = osm_now_ms();
    ev->opened = true;
    ev->note = NULL;
    return 0;
}

/* --- watches --- */

static void watch_free(struct osm_evaluator_watch *w)
{
    osm_timer_free(w->timer);
    json_decref(w->seen);
    json_decref(w->keys);
    osm_free(w->text);
    osm_free(w);
}

static bool is_news(const struct osm_evaluator_watch *w, const json_t *answer,
                    const struct osm_err *err)
{
    if (w->first)
        return true;
    return err ? strcmp(err->msg, w->err.msg) != 0
               : strcmp(osm_json_text(answer, "text"), osm_json_text(w->seen, "text")) != 0 ||
                     w->err.code;
}

static void look(void *ud);

static void looked(void *ud, json_t *answer, const struct osm_err *err)
{
    struct osm_evaluator_watch *w = ud;
    w->looking = false;
    if (w->stopped) {
        json_decref(answer);
        watch_free(w);
        return;
    }
    bool news = is_news(w, answer, err);
    w->first = false;
    w->err = err ? *err : (struct osm_err){0};
    json_decref(w->seen);
    w->seen = answer;
    if (w->again)
        osm_timer_start(w->timer, WATCH_MS, 0);
    if (news)
        w->fn(w->ud, answer, err); /* last: may stop it */
}

static void look(void *ud)
{
    struct osm_evaluator_watch *w = ud;
    struct osm_err err = {0};
    w->again = false;
    w->looking = true;
    if (osm_evaluator_ask(w->evaluator, &w->what, looked, w, &err))
        looked(w, NULL, &err);
}

void osm_evaluators_changed(struct osm_evaluators *all)
{
    for (struct osm_evaluator_watch *w = all ? all->watches : NULL; w; w = w->next) {
        if (!w->looking && !w->again)
            osm_timer_start(w->timer, WATCH_MS, 0);
        w->again = true;
    }
}

int osm_evaluator_watch(struct osm_evaluator_watch **out, struct osm_evaluator *ev,
                        const struct osm_evaluation *what, osm_watched_fn *fn, void *ud,
                        struct osm_err *err)
{
    struct osm_evaluators *all = ev->all;
    struct osm_evaluator_watch *w = osm_alloc(sizeof *w);
    if (!w)
        return osm_fail(err, OSM_ENOMEM, "out of memory");
    w->text = osm_strdup(what->text ? what->text : "");
    w->keys = json_incref((json_t *)(uintptr_t)what->keys);
    w->timer = all ? osm_timer_new(all->config.loop, look, w) : NULL;
    w->evaluator = ev;
    w->fn = fn;
    w->ud = ud;
    w->first = w->looking = true;
    w->what = (struct osm_evaluation){what->type, w->text, w->keys};
    int rc = w->text && w->timer ? osm_evaluator_ask(ev, &w->what, looked, w, err)
                                 : osm_fail(err, OSM_ENOMEM, "out of memory");
    if (rc) {
        watch_free(w);
        return rc;
    }
    w->next = all->watches;
    w->prev = &all->watches;
    if (w->next)
        w->next->prev = &w->next;
    all->watches = w;
    *out = w;
    return 0;
}

void osm_evaluator_watch_stop(struct osm_evaluator_watch *w)
{
    *w->prev = w->next;
    if (w->next)
        w->next->prev = w->prev;
    w->stopped = true;
    osm_timer_stop(w->timer);
    if (!w->looking)
        watch_free(w);
}
