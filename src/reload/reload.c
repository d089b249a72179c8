#include "reload/reload_priv.h"

#include "base/log.h"

#include <string.h>
#include <sys/stat.h>

enum { RETRY_MS = 5000 };

static int check_dirs(const char *const *dirs, struct osm_err *err)
{
    struct stat st;
    for (size_t i = 0; dirs[i]; i++)
        if (stat(dirs[i], &st) || !S_ISDIR(st.st_mode))
            return osm_fail(err, OSM_ENOENT, "%s: no such directory", dirs[i]);
    return 0;
}

int osm_reload_start(struct osm_reload **out, const struct osm_reload_config *config,
                     const struct osm_reload_callbacks *callbacks, struct osm_err *err)
{
    struct osm_policy_files *kept = NULL;
    struct osm_reload *r = osm_alloc(sizeof *r);
    if (!r)
        return osm_fail(err, OSM_ENOMEM, "out of memory");
    r->config = *config;
    r->callbacks = *callbacks;
    r->watch_end = osm_timer_new(config->loop, osm__reload_end_watch, r);
    r->retry = osm_timer_new(config->loop, osm__reload_on_retry, r);
    r->verdict = osm_timer_new(config->loop, osm__reload_on_verdict, r);
    r->soak = osm_timer_new(config->loop, osm__canary_soaked, r);
    r->back_overdue = osm_timer_new(config->loop, osm__reload_on_back_overdue, r);
    r->store_retry = osm_timer_new(config->loop, osm__record_on_store_retry, r);
    int rc = r->watch_end && r->retry && r->verdict && r->soak && r->back_overdue && r->store_retry
                 ? check_dirs(config->dirs, err)
                 : osm_fail(err, OSM_ENOMEM, "out of memory");
    if (!rc)
        rc = osm__record_open(r, &kept, err);
    if (!rc)
        rc = osm_notice_start(&r->notice, config->loop, config->dirs, osm__reload_on_files, r, err);
    if (rc) {
        osm_policy_files_unref(kept);
        osm_reload_stop(r);
        return rc;
    }
    r->applied = r->in_dirs[0];
    if (kept)
        osm__reload_stage(r, kept, &(struct osm__staging){.forced = true, .recalled = true});
    else
        osm_notice_look(r->notice);
    *out = r;
    return 0;
}

void osm_reload_stop(struct osm_reload *r)
{
    if (!r)
        return;
    osm__record_heard(r, NULL);
    osm__record_answer(r, NULL, NULL, "stopping", NULL);
    osm_notice_stop(r->notice);
    osm__apply_stop(r);
    osm__reload_stop_comparing(r);
    osm__reload_stop_blame(r);
    osm_generation_end_now(r->candidate);
    osm_generation_end_now(r->active);
    osm_generation_end_now(r->previous);
    for (size_t i = 0; i < OSM__RETIRED_MAX; i++)
        osm_policy_files_unref(r->retired[i]);
    osm_standin_free(r->standin);
    osm_snapshot_unref(r->said);
    osm__record_close(r);
    osm_timer_free(r->watch_end);
    osm_timer_free(r->retry);
    osm_timer_free(r->verdict);
    osm_timer_free(r->soak);
    osm_timer_free(r->back_overdue);
    osm_timer_free(r->store_retry);
    osm_map_clear(&r->canary);
    osm_free((char *)(uintptr_t)r->trial.label);
    osm_free(r->refusal);
    osm_free(r->refused_name);
    osm_map_clear(&r->refusing);
    osm_free(r->back_reason);
    json_decref(r->held);
    osm_free(r);
}

void osm_reload_synced(struct osm_reload *r)
{
    r->synced = true;
    if (r->candidate)
        osm_generation_release(r->candidate);
}

void osm_reload_flush(struct osm_reload *r)
{
    struct osm_generation *all[] = {r->active, r->previous, r->candidate};
    if (!r->synced)
        return;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i])
            osm_generation_flush(all[i]);
    if (r->rejected[0] && r->rejected_at && !r->retry_due) {
        r->retry_due = true;
        osm_timer_start(r->retry, RETRY_MS, 0);
    }
}

void osm_reload_roots_changed(struct osm_reload *r)
{
    struct osm_generation *all[] = {r->active, r->previous, r->candidate};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i])
            osm_generation_roots_changed(all[i]);
}

bool osm_reload_roots_due(const struct osm_reload *r)
{
    return !r->active || osm_generation_roots_due(r->active);
}

bool osm_reload_settled(const struct osm_reload *r)
{
    return r->synced && r->active && osm_generation_settled(r->active) && !r->back_reason &&
           (!r->candidate || r->held ||
            (r->canary.count && osm_generation_settled(r->candidate))) &&
           !r->applying && !osm_notice_pending(r->notice);
}

const char *osm_reload_error(const struct osm_reload *r)
{
    const struct osm_generation *g = r->active ? r->active : r->candidate;
    const char *error = g ? osm_generation_error(g) : NULL;
    return error ? error : r->active ? NULL : r->problem;
}

void osm_reload_now(struct osm_reload *r, bool force, osm_reload_answer_fn *answer, void *ud)
{
    osm__record_ask(r, r->notice, answer, ud);
    r->force_next = r->force_next || force;
    r->look_asked = true;
    osm_notice_look(r->notice);
}

int osm_reload_ask(struct osm_reload *r, osm_policy_work_fn *work, osm_task_fn *done, void *ud)
{
    return r->active ? osm_generation_ask(r->active, work, done, ud) : OSM_EBUSY;
}

struct osm_policy_files *osm_reload_files(const struct osm_reload *r, uint64_t *generation)
{
    *generation = r->active ? osm_generation_id(r->active) : 0;
    return r->active ? osm_generation_files(r->active) : NULL;
}

static json_t *candidate_status(const struct osm_reload *r)
{
    if (!r->candidate)
        return json_null();
    const char *state = r->held                                 ? "held"
                        : r->canary.count                       ? "canary"
                        : r->comparing                          ? "being compared"
                        : osm_generation_snapshot(r->candidate) ? "checked"
                                                                : "staged";
    return json_pack("{s:I, s:s, s:s, s:O?, s:o}", "generation",
                     (json_int_t)osm_generation_id(r->candidate), "digest",
                     osm_generation_files(r->candidate)->digest, "state", state, "reasons", r->held,
                     "canary", osm__canary_status(r));
}

static json_t *layers(const struct osm_reload *r)
{
    json_t *list = json_array();
    for (size_t i = 0; list && r->config.dirs[i]; i++)
        (void)json_array_append_new(list, json_string(r->config.dirs[i]));
    return list;
}

json_t *osm_reload_status(const struct osm_reload *r)
{
    json_t *history = json_array();
    for (size_t i = json_array_size(r->history); history && i-- > 0;)
        (void)json_array_append(history, json_array_get(r->history, i));
    return json_pack("{s:I, s:s?, s:s, s:o, s:b, s:b, s:o, s:b, s:s?, s:s?, s:o, s:O}",
                     "generation", (json_int_t)(r->active ? osm_generation_id(r->active) : 0),
                     "digest", r->active ? osm_generation_files(r->active)->digest : NULL, "state",
                     r->active ? "active" : "none", "layers", layers(r), "watched",
                     r->previous != NULL, "standing_in", r->standing_in, "candidate",
                     candidate_status(r), "applied", r->applied, "problem", r->problem, "unstored",
                     r->unstored, "generations", history, "quarantine", r->quarantine);
}
