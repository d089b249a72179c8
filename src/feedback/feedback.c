#include "feedback/feedback_priv.h"

#include "base/clock.h"
#include "base/log.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum {
    LOOK_MS = 300,
    UNSETTLED_MAX_MS = 10 * 1000, /* in a mesh that never rests what is there counts */
    REFRESH_MS = 60 * 1000,
    TELL_AGAIN_MS = 30 * 60 * 1000, /* an API server keeps Events for an hour */
    MANY = 100,                     /* Events that wait: then one says so of all */
};

static const char lease_name[] = "osm-controller";

/* --- looking --- */

void osm__feedback_look(struct osm_feedback *f)
{
    if (f->look_due || f->stopping || !f->leads || !f->adopted)
        return;
    f->look_due = true;
    osm_timer_start(f->look, LOOK_MS, 0);
}

void osm_feedback_changed(struct osm_feedback *f)
{
    if (!f)
        return;
    osm__feedback_look(f);
    if (osm_writer_waiting(f->own))
        osm_writer_wake(f->own);
}

static bool wait_for_rest(struct osm_feedback *f)
{
    uint64_t now_ms = osm_now_ms();
    if (f->config.settled(f->config.ud)) {
        f->unsettled_since_ms = 0;
        return false;
    }
    if (!f->unsettled_since_ms)
        f->unsettled_since_ms = now_ms;
    return now_ms - f->unsettled_since_ms < UNSETTLED_MAX_MS;
}

/* Thousands of Events take their time; until then one says where to look. */
static void tell_many(struct osm_feedback *f, size_t refused)
{
    char text[160];
    if (!f->many && (osm_writer_waiting(f->events) > MANY || f->not_told)) {
        f->many = true;
        (void)snprintf(text, sizeof text,
                       "%zu reasons to refuse objects: their Events follow slowly, `osm status` "
                       "lists them all",
                       refused);
        osm__notes_add(f, "objects", "ObjectsRejected", "Warning", text);
    } else if (f->many && !refused) {
        f->many = false;
        osm__notes_add(f, "objects", "ObjectsAccepted", "Normal", "no object is refused any more");
    }
}

static void look(void *ud)
{
    struct osm_feedback *f = ud;
    f->look_due = false;
    const struct osm_snapshot *snapshot = f->config.snapshot(f->config.ud);
    if (f->stopping || !f->leads || !f->adopted || !snapshot)
        return;
    if (wait_for_rest(f)) {
        osm__feedback_look(f);
        return;
    }
    osm__rejects_look(f, snapshot);
    tell_many(f, json_array_size(snapshot->rejects));
    osm__status_look(f);
}

/* What lasts is told again before the server forgets it. */
static void refresh(void *ud)
{
    struct osm_feedback *f = ud;
    uint64_t now_ms = osm_now_ms();
    osm_map_each (&f->abouts, e) {
        struct osm__about *about = e->value;
        if (about->sent && about->text && now_ms - about->told_ms >= TELL_AGAIN_MS)
            osm__events_put(f, e->key, about);
    }
    osm__feedback_look(f);
    osm_writer_wake(f->own);
}

/* --- leading --- */

static void leads_changed(void *ud, bool leads)
{
    struct osm_feedback *f = ud;
    f->leads = leads;
    if (leads) {
        osm__events_adopt(f);
        return;
    }
    osm__events_stop_adopting(f);
    osm_writer_drop_all(f->events);
    osm__status_drop_all(f);
    osm__rejects_clear(f);
}

/* A watch of a version that the store has yet to reach is told nothing until then, and never what
 * has happened on the way. The Lease is the one object that is read again and again. */
static void set_back(void *ud)
{
    const struct osm_feedback *f = ud;
    osm_source_kube_set_back(f->config.source);
}

/* --- from outside --- */

void osm_feedback_kinds(struct osm_feedback *f, const json_t *kinds)
{
    osm__rejects_kinds(f, kinds);
    osm__status_kinds(f, kinds);
    osm__feedback_look(f);
}

bool osm_feedback_leads(const struct osm_feedback *f)
{
    return f->leads && osm_elector_leads(f->elector);
}

void osm_feedback_waiting(const struct osm_feedback *f, size_t *events, size_t *statuses)
{
    *events = osm_writer_waiting(f->events) + osm_writer_waiting(f->own);
    *statuses = osm_writer_waiting(f->statuses);
}

static int add_failure(json_t *list, const char *what, const char *why)
{
    return *why ? json_array_append_new(list, json_sprintf("%s: %s", what, why)) : 0;
}

json_t *osm_feedback_status(const struct osm_feedback *f)
{
    json_t *kinds = json_array(), *failures = json_array();
    size_t events, statuses;
    int rc = kinds && failures ? 0 : -1;
    osm_feedback_waiting(f, &events, &statuses);
    osm_map_each (&f->kinds, e) {
        const struct osm__status_kind *k = e->value;
        if (k->has == OSM__STATUS_YES)
            rc |= json_array_append_new(kinds, json_sprintf("%s.%s", k->kind, k->group));
    }
    rc |= add_failure(failures, "Lease", osm_elector_failure(f->elector));
    rc |= add_failure(failures, "Events about objects", osm_writer_failure(f->events));
    rc |= add_failure(failures, "Events about this replica", osm_writer_failure(f->own));
    rc |= add_failure(failures, "statuses", osm_writer_failure(f->statuses));
    json_t *status = rc ? NULL
                        : json_pack("{s:b, s:s, s:I, s:I, s:O, s:O}", "leader",
                                    osm_feedback_leads(f), "holder", osm_elector_holder(f->elector),
                                    "events_waiting", (json_int_t)events, "statuses_waiting",
                                    (json_int_t)statuses, "kinds", kinds, "failures", failures);
    json_decref(kinds);
    json_decref(failures);
    return status;
}

/* --- life --- */

static void destroy(struct osm_feedback *f)
{
    f->stopping = true;
    osm_elector_free(f->elector);
    osm__events_clear(f);
    osm__notes_clear(f);
    osm__status_clear(f);
    osm__rejects_clear(f);
    osm_map_each (&f->groups, e)
        osm_free(e->value);
    osm_map_clear(&f->groups);
    osm_timer_free(f->look);
    osm_timer_free(f->refresh);
    osm_free(f);
}

static void let_go(void *ud)
{
    struct osm_feedback *f = ud;
    osm_task_fn *stopped = f->stopped;
    void *stopped_ud = f->stopped_ud;
    destroy(f);
    stopped(stopped_ud);
}

void osm_feedback_stop(struct osm_feedback *f, osm_task_fn *done, void *ud)
{
    f->stopping = true;
    f->stopped = done;
    f->stopped_ud = ud;
    osm_writer_drop_all(f->events);
    osm_writer_drop_all(f->statuses);
    osm_elector_stop(f->elector, let_go, f);
}

int osm_feedback_start(struct osm_feedback **out, const struct osm_feedback_config *config,
                       struct osm_err *err)
{
    struct osm_feedback *f = osm_alloc(sizeof *f);
    if (!f)
        return osm_fail(err, OSM_ENOMEM, "feedback");
    f->config = *config;
    f->kube = osm_source_kube_api(config->source);
    char host[sizeof f->instance] = "";
    (void)gethostname(host, sizeof host - 1);
    (void)snprintf(f->instance, sizeof f->instance, "%s", config->pod ? config->pod : host);
    f->look = osm_timer_new(config->loop, look, f);
    f->refresh = osm_timer_new(config->loop, refresh, f);
    const struct osm_elector_config elector = {.loop = config->loop,
                                               .kube = f->kube,
                                               .ns = config->osm_namespace,
                                               .name = lease_name,
                                               .identity = f->instance,
                                               .ud = f,
                                               .changed = leads_changed,
                                               .set_back = set_back};
    int rc = f->look && f->refresh ? 0 : osm_fail(err, OSM_ENOMEM, "feedback");
    if (!rc)
        rc = osm__events_init(f, err);
    if (!rc)
        rc = osm__notes_init(f, err);
    if (!rc)
        rc = osm__status_init(f, err);
    if (!rc)
        rc = osm_elector_start(&f->elector, &elector, err);
    if (rc) {
        destroy(f);
        return rc;
    }
    osm_timer_start(f->refresh, REFRESH_MS, REFRESH_MS);
    *out = f;
    return 0;
}
