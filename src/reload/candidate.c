/* A bundle on its way to be active: read, staged, checked against what is served.
 *
 * It is run once on the live objects, not twice to compare: nothing that could make two runs differ
 * is left to a policy (clocks, random numbers, addresses, the order of pairs, state between calls,
 * which is looked for in every run that checks), and a second run would double the time until a
 * correction is in force. That two runs agree is a property test (tests/property), over changes. */
#include "reload/reload_priv.h"

#include "base/log.h"
#include "base/metrics.h"

#include <stdio.h>
#include <string.h>

/* Of who would be let in, so many are named. */
enum { REASONS_MAX = 10 };

void osm__reload_reject(struct osm_reload *r, bool whatever_the_objects, const char *reason)
{
    struct osm_generation *g = osm_take_ptr(&r->candidate);
    osm__canary_stop(r, true);
    const char *digest = osm_generation_files(g)->digest;
    osm_log(OSM_LOG_POLICY, OSM_LOG_ERROR,
            r->active ? "policies rejected; the ones before stay in force"
                      : "policies rejected; none are in force, nothing is served",
            OSM_U("gen", osm_generation_id(g)), OSM_S("digest", digest), OSM_S("error", reason));
    osm__record_note(r, g, "rejected", reason);
    osm__record_problem(r, osm_strf("rejected: %s", reason));
    memcpy(r->rejected, digest, sizeof r->rejected);
    r->rejected_at = whatever_the_objects ? 0 : osm_store_revision(r->config.store);
    if (r->recalled) /* now the directories, else nothing */
        osm_notice_look(r->notice);
    else
        osm__record_answer(r, g, digest, "rejected", reason);
    osm_generation_end(g);
    json_decref(osm_take_ptr(&r->held));
    r->callbacks.changed(r->callbacks.ud);
}

void osm__reload_drop_candidate(struct osm_reload *r, const char *reason)
{
    struct osm_generation *g = osm_take_ptr(&r->candidate);
    if (!g)
        return;
    osm__canary_stop(r, true);
    osm__record_note(r, g, "superseded", reason);
    osm_generation_end(g);
    json_decref(osm_take_ptr(&r->held));
}

/* --- staging --- */

static void failed(void *ud, struct osm_generation *g, bool at_load, const char *error)
{
    struct osm_reload *r = ud;
    if (g == r->candidate && !at_load && !r->active) {
        /* Nothing is served yet, so it goes on trying, unless the directories hold another one. */
        r->recalled = false;
        osm_log(OSM_LOG_POLICY, OSM_LOG_ERROR,
                "policy run failed; none are in force, nothing is served until a fresh engine has "
                "made a configuration",
                OSM_U("gen", osm_generation_id(g)), OSM_S("error", error));
        osm_notice_look(r->notice);
    } else if (g == r->candidate) {
        osm__reload_reject(r, at_load, error);
    } else if (g == r->active) {
        osm_log(OSM_LOG_POLICY, OSM_LOG_ERROR,
                "policy run failed; the last good configuration serves until a fresh engine has "
                "made a new one",
                OSM_U("gen", osm_generation_id(g)), OSM_S("error", error));
    }
    r->callbacks.changed(r->callbacks.ud);
}

static void ran(void *ud, struct osm_generation *g, bool news)
{
    struct osm_reload *r = ud;
    if (g == r->active && news)
        osm__reload_active_ran(r);
    if (g == r->previous)
        osm__reload_previous_ran(r);
    if (g == r->candidate && r->canary.count)
        osm__canary_ran(r, news);
    if (news)
        osm__canary_compare(r);
    osm__reload_check(r);
    r->callbacks.changed(r->callbacks.ud);
}

static const char *roots_pem(void *ud)
{
    const struct osm_reload *r = ud;
    return r->callbacks.roots_pem(r->callbacks.ud);
}

/* Adds what @p kinds has; of one kind, the versions that are new. */
static int add_kinds(json_t *all, const json_t *kinds)
{
    size_t i, n;
    json_t *kind, *known, *version;
    int rc = 0;
    json_array_foreach ((json_t *)(uintptr_t)kinds, i, kind) {
        json_t *same = NULL;
        json_array_foreach (all, n, known)
            if (json_equal(json_object_get(known, "kind"), json_object_get(kind, "kind")) &&
                json_equal(json_object_get(known, "group"), json_object_get(kind, "group")))
                same = json_object_get(known, "versions");
        if (!same) {
            rc |= json_array_append_new(all, json_deep_copy(kind));
            continue;
        }
        json_array_foreach (json_object_get(kind, "versions"), n, version) {
            bool has = false;
            for (size_t k = 0; k < json_array_size(same); k++)
                has = has || json_equal(json_array_get(same, k), version);
            if (!has)
                rc |= json_array_append(same, version);
        }
    }
    return rc;
}

/* A candidate is looked at on all objects of the kinds that it reads, or not yet. */
static bool loaded(void *ud, struct osm_generation *g)
{
    struct osm_reload *r = ud;
    struct osm_generation *all[] = {r->active, r->previous, r->candidate};
    json_t *kinds = json_array();
    int rc = kinds ? 0 : -1;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i] && osm_generation_kinds(all[i]))
            rc |= add_kinds(kinds, osm_generation_kinds(all[i]));
    bool has_all = !rc && r->callbacks.kinds(r->callbacks.ud, kinds);
    json_decref(kinds);
    return g != r->candidate || (has_all && r->synced);
}

static void take_trial(struct osm_reload *r, const struct osm_reload_canary *canary)
{
    osm_free((char *)(uintptr_t)r->trial.label);
    r->trial = canary ? *canary : (struct osm_reload_canary){0};
    if (!r->trial.label)
        return;
    r->trial.label = osm_strdup(r->trial.label);
    if (!r->trial.label)
        r->trial.percent = 1; /* without memory: few, rather than all at once */
}

void osm__reload_stage(struct osm_reload *r, struct osm_policy_files *files,
                       const struct osm__staging *how)
{
    struct osm_err err = {0};
    const struct osm_generation_config config = {.loop = r->config.loop,
                                                 .store = r->config.store,
                                                 .files = files,
                                                 .engine = r->config.engine,
                                                 .roots_pem = roots_pem,
                                                 .loaded = loaded,
                                                 .failed = failed,
                                                 .ran = ran,
                                                 .ud = r};
    osm__reload_drop_candidate(r, "another bundle took its place");
    r->forced = how->forced;
    r->recalled = how->recalled;
    r->by_command = how->by_command;
    r->was_compared = r->soaked = false;
    take_trial(r, how->canary);
    r->rejected[0] = '\0';
    if (osm_generation_start(&r->candidate, ++r->next_id, &config, &err)) {
        osm_log(OSM_LOG_POLICY, OSM_LOG_ERROR, "policies not staged", OSM_S("error", err.msg));
        osm__record_problem(r, osm_strf("not staged: %s", err.msg));
        osm__record_refused(r, files->digest, "rejected", err.msg);
        osm__record_answer(r, NULL, files->digest, "rejected", err.msg);
    } else {
        osm__record_note(r, r->candidate, "staged", NULL);
        osm_log(OSM_LOG_POLICY, OSM_LOG_INFO, "policies staged", OSM_U("gen", r->next_id),
                OSM_S("digest", files->digest));
        if (!r->synced)
            osm_generation_hold(r->candidate);
    }
    osm_policy_files_unref(files);
}

void osm__reload_on_files(void *ud, struct osm_policy_files *files, const char *error)
{
    struct osm_reload *r = ud;
    bool force = r->force_next;
    const char *digest = files ? files->digest : NULL;
    const char *locked = files ? osm__record_quarantined(r, digest) : NULL;
    bool later = r->candidate && r->recalled; /* its outcome first: they are looked at then */
    if (later || !osm__apply_is_news(r, files)) {
        osm_policy_files_unref(files);
        r->callbacks.changed(r->callbacks.ud);
        return;
    }
    r->force_next = false;
    osm__record_heard(r, r->notice);
    if (!files) {
        osm_log(OSM_LOG_POLICY, OSM_LOG_ERROR, "policies cannot be read", OSM_S("error", error));
        osm__record_problem(r, osm_strf("the directories cannot be read: %s", error));
        osm__record_refused(r, "", "unreadable", error);
        osm__record_answer(r, NULL, NULL, "rejected", error);
    } else if (r->active && !strcmp(digest, osm_generation_files(r->active)->digest)) {
        osm__reload_drop_candidate(r, "the directories hold the active policies again");
        r->applied = false;
        osm__record_problem(r, NULL);
        osm__record_answer(r, r->active, digest, "active", NULL);
    } else if (r->candidate && !strcmp(digest, osm_generation_files(r->candidate)->digest)) {
        if (r->held)
            osm__record_answer(r, r->candidate, digest, "held",
                               json_string_value(json_array_get(r->held, 0)));
    } else if (locked && !force) {
        osm__reload_drop_candidate(r, "the directories hold quarantined policies");
        osm__record_problem(r, osm_strf("%s is quarantined: %s", digest, locked));
        osm__record_refused(r, digest, "quarantined", locked);
        osm__record_answer(r, NULL, digest, "quarantined", locked);
    } else if (!force && !strcmp(digest, r->rejected) &&
               (!r->rejected_at || r->rejected_at == osm_store_revision(r->config.store))) {
        osm__record_answer(r, NULL, digest, "rejected", r->problem);
    } else {
        if (locked)
            osm__record_pardon(r, digest);
        const struct osm__staging how = {.forced = force, .canary = &r->config.canary};
        osm__reload_stage(r, osm_policy_files_ref(files), &how);
    }
    osm_policy_files_unref(files);
    r->callbacks.changed(r->callbacks.ud);
}

/* What was rejected on other objects than those of now. */
void osm__reload_on_retry(void *ud)
{
    struct osm_reload *r = ud;
    r->retry_due = false;
    if (r->rejected[0] && r->rejected_at && r->rejected_at != osm_store_revision(r->config.store))
        osm_notice_look(r->notice);
}

/* --- checking --- */

static bool has_error(const json_t *errors, const char *where)
{
    size_t i;
    const json_t *error;
    json_array_foreach ((json_t *)(uintptr_t)errors, i, error) {
        const char *other = json_string_value(json_object_get(error, "where"));
        if (other && !strcmp(other, where))
            return true;
    }
    return false;
}

char *osm__reload_new_error(const struct osm_snapshot *candidate, const struct osm_snapshot *served)
{
    size_t i;
    const json_t *error;
    json_array_foreach (candidate->errors, i, error) {
        const char *where = json_string_value(json_object_get(error, "where"));
        const char *module = json_string_value(json_object_get(error, "module"));
        const char *message = json_string_value(json_object_get(error, "message"));
        if (where && has_error(served->errors, where))
            continue;
        return osm_strf("%s:%d: %s (%s; %zu errors)", module ? module : "?",
                        (int)json_integer_value(json_object_get(error, "line")),
                        message ? message : "?", where ? where : "?",
                        json_array_size(candidate->errors));
    }
    return NULL;
}

struct osm__comparing {
    struct osm_reload *reload; /* loop thread; NULL: it has been stopped */
    uint64_t candidate;        /* its id */
    struct osm_snapshot *served, *next;
    struct osm_comparison found;
    int rc;
    struct osm_err err;
};

static void compare(void *ud)
{
    struct osm__comparing *c = ud;
    c->rc = osm_compare(&c->found, c->served, c->next, &c->err);
}

static void comparing_free(struct osm__comparing *c)
{
    osm_snapshot_unref(c->served);
    osm_snapshot_unref(c->next);
    if (!c->rc)
        osm_comparison_clear(&c->found);
    osm_free(c);
}

void osm__reload_stop_comparing(struct osm_reload *r)
{
    if (r->comparing)
        r->comparing->reload = NULL;
    r->comparing = NULL;
}

void osm__reload_hold(struct osm_reload *r, json_t *reasons)
{
    const char *first = json_string_value(json_array_get(reasons, 0));
    const char *digest = osm_generation_files(r->candidate)->digest;
    r->held = reasons;
    osm_log(OSM_LOG_POLICY, OSM_LOG_WARN,
            "policies held: `osm policy activate` lets them take over",
            OSM_U("gen", osm_generation_id(r->candidate)), OSM_S("digest", digest),
            OSM_S("reason", first), OSM_U("reasons", json_array_size(reasons)));
    osm__record_note(r, r->candidate, "held", first);
    osm__record_answer(r, r->candidate, digest, "held", first);
}

static void compared(void *ud)
{
    struct osm__comparing *c = ud;
    struct osm_reload *r = c->reload;
    if (r) {
        r->comparing = NULL;
        bool current = r->candidate && osm_generation_id(r->candidate) == c->candidate;
        json_t *reasons =
            current && !c->rc
                ? osm_comparison_reasons(&c->found, r->config.guard_percent, REASONS_MAX)
                : NULL;
        if (current && !reasons) {
            osm__reload_reject(r, false, c->rc ? c->err.msg : "out of memory");
        } else if (current && json_array_size(reasons)) {
            osm__canary_stop(r, true);
            osm__reload_hold(r, json_incref(reasons));
        } else if (current) {
            r->was_compared = true;
        }
        bool behind = r->canary.count && (c->next != osm_generation_snapshot(r->candidate) ||
                                          c->served != osm_generation_snapshot(r->active));
        json_decref(reasons);
        if (current && behind)
            osm__canary_compare(r);
        osm__reload_check(r);
        r->callbacks.changed(r->callbacks.ud);
    }
    comparing_free(c);
}

void osm__reload_compare(struct osm_reload *r)
{
    if (r->comparing)
        return;
    struct osm__comparing *c = osm_alloc(sizeof *c);
    if (c)
        *c = (struct osm__comparing){
            .reload = r,
            .candidate = osm_generation_id(r->candidate),
            .served = osm_snapshot_ref(osm_generation_snapshot(r->active)),
            .next = osm_snapshot_ref(osm_generation_snapshot(r->candidate)),
            .rc = OSM_ECANCELED,
        };
    if (!c || osm_loop_work(r->config.loop, compare, compared, c)) {
        if (c)
            comparing_free(c);
        osm__reload_reject(r, false, "out of memory");
        return;
    }
    r->comparing = c;
}

void osm__reload_check(struct osm_reload *r)
{
    struct osm_generation *g = r->candidate;
    if (!g || !osm_generation_snapshot(g) || r->comparing || r->held ||
        (r->back_reason && !r->standing_in) || (r->canary.count && !r->soaked))
        return;
    if (!r->active || !osm_generation_snapshot(r->active)) {
        osm__reload_swap(r);
        return;
    }
    if (!osm_generation_keeps_up(g, r->active))
        return; /* its next run brings it further */
    char *error =
        osm__reload_new_error(osm_generation_snapshot(g), osm_generation_snapshot(r->active));
    if (error)
        osm__reload_reject(r, false, error);
    else if (!r->was_compared && !r->forced)
        osm__reload_compare(r);
    else if ((r->trial.percent || r->trial.label) && !r->soaked && !r->standing_in)
        osm__canary_start(r);
    else
        osm__reload_swap(r);
    osm_free(error);
}

int osm_reload_activate(struct osm_reload *r, const char *digest, struct osm_err *err)
{
    const char *waits =
        r->held || r->canary.count ? osm_generation_files(r->candidate)->digest : NULL;
    if (!waits)
        return osm_fail(err, OSM_ENOENT, "no policies are held, and no canary runs");
    if (digest && (!*digest || strncmp(waits, digest, strlen(digest)) != 0))
        return osm_fail(err, OSM_ENOENT, "what %s is %s, not %.64s",
                        r->held ? "is held" : "serves a canary", waits, digest);
    json_decref(osm_take_ptr(&r->held));
    r->forced = r->soaked = true;
    osm__reload_check(r);
    return 0;
}
