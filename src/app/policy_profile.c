/* A profile of the active policies, from a question to its answer:
 *
 *   request --> [begin, between two runs] --> seconds go by --> [end, between two runs] --> reply
 *
 * What is in brackets is on the policies' thread. Where another generation takes over in between,
 * it has no profile to end, and the answer says so. */
#include "app/policy_profile.h"

#include "base/json.h"

enum { TICK_MS = 1000, FOLLOW_EVERY = 8 };

struct osm_profiling {
    struct osm_app *app; /* NULL: the daemon is stopping */
    struct osm_control_request *request;
    struct osm_timer *tick;
    unsigned left_s;
    bool began; /* something waits for its end */
    uint64_t generation;
    char *digest;
    json_t *profile;
    int rc;
    struct osm_err err;
};

static void finish(struct osm_profiling *p)
{
    if (p->app && p->app->profiling == p)
        p->app->profiling = NULL;
    if (p->rc)
        osm_control_fail(p->request, &p->err);
    else
        osm_control_reply(p->request, json_pack("{s:I, s:s?, s:O*, s:O*, s:O*}", "generation",
                                                (json_int_t)p->generation, "digest", p->digest,
                                                "us", json_object_get(p->profile, "us"), "rules",
                                                json_object_get(p->profile, "rules"), "lines",
                                                json_object_get(p->profile, "lines")));
    osm_timer_free(p->tick);
    json_decref(p->profile);
    osm_free(p->digest);
    osm_free(p);
}

static void finish_answered(void *ud)
{
    finish(ud);
}

/* --- on the policies' thread --- */

static void work_costs(void *ud, struct osm_engine *engine)
{
    struct osm_profiling *p = ud;
    p->profile = engine ? osm_engine_costs(engine) : NULL;
    p->rc = p->profile ? 0 : osm_fail(&p->err, OSM_EBUSY, "the policies cannot be asked now");
}

static void work_begin(void *ud, struct osm_engine *engine)
{
    struct osm_profiling *p = ud;
    if (engine) /* of policies that were replaced while it was taken, and came back */
        json_decref(osm_engine_profile_end(engine));
    p->rc = engine ? osm_engine_profile_begin(engine, FOLLOW_EVERY, &p->err)
                   : osm_fail(&p->err, OSM_EBUSY, "the policies cannot be asked now");
}

static int replaced(struct osm_profiling *p)
{
    return osm_fail(&p->err, OSM_ECANCELED,
                    "other policies have taken over meanwhile; again, please");
}

static void work_end(void *ud, struct osm_engine *engine)
{
    struct osm_profiling *p = ud;
    p->profile = engine ? osm_engine_profile_end(engine) : NULL;
    p->rc = p->profile ? 0 : replaced(p);
}

/* --- on the loop --- */

static int ask(struct osm_profiling *p, osm_policy_work_fn *work, osm_task_fn *done)
{
    p->rc = osm_fail(&p->err, OSM_ECANCELED, "the daemon is stopping"); /* unless the work runs */
    int rc = osm_reload_ask(p->app->reload, work, done, p);
    if (rc)
        p->rc = osm_fail(&p->err, rc, "the policies cannot be asked now: %s", osm_code_text(rc));
    return rc;
}

static bool is_active(const struct osm_profiling *p)
{
    json_t *status = osm_reload_status(p->app->reload);
    json_int_t now = json_integer_value(json_object_get(status, "generation"));
    json_decref(status);
    return (uint64_t)now == p->generation;
}

static void tick(void *ud)
{
    struct osm_profiling *p = ud;
    bool goes_on = is_active(p);
    if (goes_on && --p->left_s && osm_control_alive(p->request))
        return;
    osm_timer_stop(p->tick);
    p->began = false;
    if (!goes_on)
        p->rc = replaced(p);
    if (!goes_on || ask(p, work_end, finish_answered))
        finish(p);
}

static void began(void *ud)
{
    struct osm_profiling *p = ud;
    if (!p->app && !p->rc)
        p->rc = osm_fail(&p->err, OSM_ECANCELED, "the daemon is stopping");
    if (p->rc) {
        finish(p);
        return;
    }
    p->began = true;
    osm_timer_start(p->tick, TICK_MS, TICK_MS);
}

void osm_policy_profile_command(void *ud, struct osm_control_request *request, const json_t *args)
{
    struct osm_app *app = ud;
    struct osm_err err = {0};
    const json_t *wanted = json_object_get(args, "seconds");
    json_int_t seconds = json_integer_value(wanted);
    json_t *status = app->reload && app->synced ? osm_reload_status(app->reload) : NULL;
    struct osm_profiling *p = NULL;
    if (!status)
        (void)osm_fail(&err, OSM_EBUSY, "the daemon is starting: its source has not been read yet");
    else if (wanted && (seconds <= 0 || seconds > OSM_PROFILE_MAX_S))
        (void)osm_fail(&err, OSM_EINVAL, "seconds: expected 1 to %d", OSM_PROFILE_MAX_S);
    else if (wanted && app->profiling)
        (void)osm_fail(&err, OSM_EBUSY, "a profile is being taken already");
    else if (!(p = osm_alloc(sizeof *p)) || !(p->tick = osm_timer_new(app->loop, tick, p)) ||
             !(p->digest = osm_strdup(osm_json_text(status, "digest"))))
        (void)osm_fail(&err, OSM_ENOMEM, "out of memory");
    if (err.code) {
        json_decref(status);
        if (p) {
            osm_timer_free(p->tick);
            osm_free(p);
        }
        osm_control_fail(request, &err);
        return;
    }
    p->app = app;
    p->request = request;
    p->left_s = (unsigned)seconds;
    p->generation = (uint64_t)json_integer_value(json_object_get(status, "generation"));
    json_decref(status);
    if (wanted)
        app->profiling = p;
    if (ask(p, wanted ? work_begin : work_costs, wanted ? began : finish_answered))
        finish(p);
}

void osm_policy_profile_stop(struct osm_app *app)
{
    struct osm_profiling *p = osm_take_ptr(&app->profiling);
    if (!p)
        return;
    p->app = NULL; /* what has been asked of the policies is answered when they stop */
    if (!p->began)
        return;
    p->rc = osm_fail(&p->err, OSM_ECANCELED, "the daemon is stopping");
    finish(p);
}
