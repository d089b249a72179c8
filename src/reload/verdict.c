/* The active generation: it takes over, is watched, and is rolled back if proxies refuse it.
 *
 * A refusal speaks against it only if the generation before says otherwise of the same resource on
 * the same objects, and if the proxy did not refuse that type already. */
#include "reload/reload_priv.h"

#include "base/log.h"

#include <stdio.h>
#include <string.h>

enum { REFUSALS_MIN = 2, PROXIES_PER_REFUSAL = 100, OVERDUE_MS = 100, FIND_MS = 30 };

void osm__reload_publish(struct osm_reload *r)
{
    struct osm_snapshot *snapshot =
        r->standing_in ? osm_standin_snapshot(r->standin, osm_generation_snapshot(r->active))
                       : osm__canary_mix(r);
    if (!snapshot)
        return; /* without memory the one before goes on serving; the next run tries again */
    snapshot->number = ++r->published;
    r->callbacks.publish(r->callbacks.ud, snapshot);
    osm_snapshot_unref(snapshot);
}

static void remember_said(struct osm_reload *r)
{
    osm_snapshot_unref(r->said);
    r->said = osm_snapshot_ref(osm_generation_snapshot(r->active));
}

void osm__reload_active_ran(struct osm_reload *r)
{
    if (r->standin && r->said)
        osm_standin_changed(r->standin, r->said, osm_generation_snapshot(r->active));
    remember_said(r);
    osm__reload_publish(r);
}

/* The newest first, each once; what one has gone back from is nothing to go back to. */
static void keep_files(struct osm_reload *r, struct osm_policy_files *files)
{
    size_t at = 0;
    if (osm__record_quarantined(r, files->digest))
        return;
    while (at < OSM__RETIRED_MAX - 1 && r->retired[at] &&
           strcmp(r->retired[at]->digest, files->digest) != 0)
        at++;
    osm_policy_files_unref(r->retired[at]);
    memmove(&r->retired[1], &r->retired[0], at * sizeof r->retired[0]);
    r->retired[0] = osm_policy_files_ref(files);
}

static void retire(struct osm_reload *r, struct osm_generation *g)
{
    keep_files(r, osm_generation_files(g));
    osm__record_note(r, g, "retired", NULL);
    osm_generation_end(g);
}

static void stop_standing_in(struct osm_reload *r)
{
    osm_timer_stop(r->back_overdue);
    r->standing_in = false;
    osm_standin_free(osm_take_ptr(&r->standin));
}

void osm__reload_end_watch(void *ud)
{
    struct osm_reload *r = ud;
    if (r->back_reason) /* it is about to serve again */
        return;
    struct osm_generation *g = osm_take_ptr(&r->previous);
    osm_timer_stop(r->watch_end);
    osm_map_clear(&r->refusing);
    stop_standing_in(r);
    if (g)
        retire(r, g);
}

static void note_rolled_back(struct osm_reload *r, struct osm_generation *refused,
                             const char *reason)
{
    osm__record_note(r, refused, "rolled back", reason);
    osm__record_rolled_back(r, osm_generation_files(refused)->digest, reason);
}

/* Another one takes over before the previous one has caught up. */
static struct osm_generation *give_up_going_back(struct osm_reload *r)
{
    struct osm_generation *refused = r->active;
    char *reason = osm_take_ptr(&r->back_reason);
    note_rolled_back(r, refused, reason);
    osm_free(reason);
    return refused;
}

void osm__reload_swap(struct osm_reload *r)
{
    struct osm_generation *refused = r->back_reason ? give_up_going_back(r) : NULL;
    struct osm_generation *before = refused ? NULL : r->active;
    osm__reload_end_watch(r);
    r->active = osm_take_ptr(&r->candidate);
    remember_said(r);
    osm__canary_stop(r, false);
    r->applied_before = r->applied;
    r->applied = r->recalled ? r->applied : r->by_command;
    r->swapped_at = r->published + 1;
    const char *digest = osm_generation_files(r->active)->digest;
    osm__record_problem(r, NULL);
    osm__record_note(r, r->active, "active", NULL);
    if (before) {
        r->previous = before;
        r->standin = osm_standin_new();
        if (r->standin)
            osm_standin_said(r->standin, osm_generation_snapshot(before),
                             osm_generation_keeps_up(before, r->active));
        osm__record_note(r, before, "standing by", NULL);
        osm_timer_start(r->watch_end, r->config.watch_ms, 0);
    }
    osm_log(OSM_LOG_POLICY, OSM_LOG_INFO, "policies in force",
            OSM_U("gen", osm_generation_id(r->active)), OSM_S("digest", digest));
    if (r->recalled) /* what do the directories say? Whoever waits, waits for that, too */
        osm_notice_look(r->notice);
    else
        osm__record_answer(r, r->active, digest, "active", NULL);
    osm__reload_publish(r);
    osm__record_store(r);
    osm_generation_end(refused);
    r->callbacks.changed(r->callbacks.ud);
}

/* --- back --- */

static void complete(struct osm_reload *r)
{
    struct osm_generation *refused = r->active;
    char *reason = osm_take_ptr(&r->back_reason);
    osm_timer_stop(r->watch_end);
    osm_map_clear(&r->refusing);
    stop_standing_in(r);
    r->active = osm_take_ptr(&r->previous);
    remember_said(r);
    r->applied = r->applied_before;
    note_rolled_back(r, refused, reason);
    osm__record_note(r, r->active, "active", NULL);
    osm_log(OSM_LOG_POLICY, OSM_LOG_ERROR, "policies rolled back",
            OSM_U("gen", osm_generation_id(refused)),
            OSM_S("digest", osm_generation_files(refused)->digest),
            OSM_U("to_gen", osm_generation_id(r->active)), OSM_S("reason", reason));
    osm__reload_publish(r);
    osm__record_store(r);
    osm__reload_blame(r, refused, reason);
    osm_free(reason);
    r->callbacks.changed(r->callbacks.ud);
}

void osm__reload_previous_ran(struct osm_reload *r)
{
    if (r->standin)
        osm_standin_said(r->standin, osm_generation_snapshot(r->previous),
                         osm_generation_keeps_up(r->previous, r->active));
    if (r->back_reason && osm_generation_keeps_up(r->previous, r->active))
        complete(r);
    else if (r->standing_in)
        osm__reload_publish(r);
}

void osm__reload_on_back_overdue(void *ud)
{
    struct osm_reload *r = ud;
    if (!r->back_reason || !r->standin)
        return;
    r->standing_in = true;
    osm_log(OSM_LOG_POLICY, OSM_LOG_WARN,
            "the policies before do not answer: what they said last serves, without what has been "
            "granted or revoked since",
            OSM_U("gen", osm_generation_id(r->previous)), OSM_S("reason", r->back_reason));
    osm__record_problem(r, osm_strf("being rolled back: %s; the policies before do not answer, so "
                                    "what they said last serves, without what has been granted or "
                                    "revoked since",
                                    r->back_reason));
    osm__reload_publish(r);
    osm__reload_check(r); /* what waited for the roll-back */
    r->callbacks.changed(r->callbacks.ud);
}

/* What is behind the active one on the objects may still grant what has been revoked since: it
 * serves once it has caught up. The proxies keep what they accepted last until then. */
static void go_back(struct osm_reload *r, const char *reason)
{
    r->back_reason = osm_strdup(reason);
    if (!r->back_reason)
        return; /* the next refusal tries again */
    osm__record_quarantine(r, osm_generation_files(r->active)->digest, reason);
    osm_timer_start(r->back_overdue, OVERDUE_MS, 0);
    osm_generation_flush(r->previous);
    osm__reload_previous_ran(r);
}

static struct osm_policy_files *older_files(const struct osm_reload *r)
{
    const char *active = osm_generation_files(r->active)->digest;
    for (size_t i = 0; i < OSM__RETIRED_MAX; i++)
        if (r->retired[i] && strcmp(r->retired[i]->digest, active) != 0 &&
            !osm__record_quarantined(r, r->retired[i]->digest))
            return r->retired[i];
    return NULL;
}

int osm_reload_roll_back(struct osm_reload *r, const char *reason, struct osm_err *err)
{
    if (r->canary.count) {
        osm_free(osm_take_ptr(&r->refused_name));
        osm__canary_back(r, reason);
        return 0;
    }
    if (r->previous && r->active && !r->back_reason) {
        osm_free(osm_take_ptr(&r->refused_name)); /* it was not refused: nobody is to blame */
        go_back(r, reason);
        return 0;
    }
    struct osm_policy_files *older = r->active && !r->back_reason ? older_files(r) : NULL;
    if (!older)
        return osm_fail(err, OSM_ENOENT, "there is no generation to go back to");
    osm__record_quarantine(r, osm_generation_files(r->active)->digest, reason);
    osm__reload_stage(r, osm_policy_files_ref(older),
                      &(struct osm__staging){.forced = true, .recalled = true});
    return 0;
}

/* --- verdicts --- */

/* The generation on trial and the one that it is compared with: a canary and the active one, or the
 * active one and the one before it; *since: the first snapshot of it. NULL: none is on trial. */
static struct osm_generation *on_trial(const struct osm_reload *r, const char *proxy,
                                       struct osm_generation **other, uint64_t *since)
{
    bool canary = osm_map_has(&r->canary, proxy);
    bool watched = r->previous && !r->back_reason && osm_generation_snapshot(r->previous);
    if (!canary && !watched)
        return NULL;
    *other = canary ? r->active : r->previous;
    *since = canary ? r->canary_since : r->swapped_at;
    return canary ? r->candidate : r->active;
}

/* The other one says something else of it to this proxy. */
static bool says_otherwise(const struct osm_snapshot_proxy *other, enum osm_xds_type type,
                           const struct osm_resource *r)
{
    const struct osm_resource *before = osm_class_find(other->cls, type, r->name);
    return !before || strcmp(before->version, r->version) != 0;
}

/* A resource that the other one says otherwise, where whatever is to blame is such; NULL: it may be
 * none of them. The state of the world does not tell what was new: one such is enough there. */
static const struct osm_resource *speaks_against(const struct osm_generation *other,
                                                 const struct osm_refusal *f)
{
    const struct osm_snapshot_proxy *proxy =
        osm_snapshot_find(osm_generation_snapshot(other), f->proxy);
    const struct osm_resource *found = NULL;
    size_t n = 0;
    for (size_t i = 0; proxy && i < f->len; i++)
        if (says_otherwise(proxy, f->type, f->resources[i])) {
            found = found ? found : f->resources[i];
            n++;
        }
    return f->whole || n == f->len ? found : NULL;
}

static bool differ(const struct osm_generation *a, const struct osm_generation *b,
                   const char *proxy)
{
    const struct osm_snapshot_proxy *p = osm_snapshot_find(osm_generation_snapshot(a), proxy),
                                    *q = osm_snapshot_find(osm_generation_snapshot(b), proxy);
    for (int t = 0; p && q && t < OSM_XDS_TYPE_COUNT; t++) {
        if (p->cls->types[t].len != q->cls->types[t].len)
            return true;
        for (size_t i = 0; i < p->cls->types[t].len; i++) {
            const struct osm_resource *x = p->cls->types[t].list[i], *y = q->cls->types[t].list[i];
            if (strcmp(x->name, y->name) != 0 || strcmp(x->version, y->version) != 0)
                return true;
        }
    }
    return false;
}

static size_t refusals_needed(const struct osm_reload *r, size_t proxies)
{
    size_t needed = (proxies + PROXIES_PER_REFUSAL - 1) / PROXIES_PER_REFUSAL;
    if (r->canary.count)
        return 1;
    needed = needed < REFUSALS_MIN ? REFUSALS_MIN : needed;
    return needed > proxies && proxies ? proxies : needed;
}

/* One proxy more speaks against what is on trial. True: they are enough, of those of one version.
 * *of: how many have that. */
static bool count_against(struct osm_reload *r, const char *proxy, size_t *against, size_t *of)
{
    char version[64];
    (void)snprintf(version, sizeof version, "%s", r->callbacks.version(r->callbacks.ud, proxy, of));
    if (osm_map_put(&r->refusing, proxy, r, NULL))
        return false; /* without memory the next one counts */
    *against = 0;
    osm_map_each (&r->refusing, e)
        *against += !strcmp(r->callbacks.version(r->callbacks.ud, e->key, NULL), version);
    if (r->canary.count)
        *of = r->canary.count;
    return *against >= refusals_needed(r, *of);
}

/* Whoever tells of it is in the middle of a stream. */
static void decide(struct osm_reload *r, uint64_t after_ms, char *refusal_taken)
{
    osm_free(r->refusal);
    r->refusal = refusal_taken;
    r->undecided = after_ms > 0;
    if (r->refusal)
        osm_timer_start(r->verdict, after_ms, 0);
}

/* Which of several it was, is told soon: the roll-back waits for that, so that it names the right
 * one, but not long. */
void osm_reload_refused(struct osm_reload *r, const struct osm_refusal *f)
{
    struct osm_generation *other;
    uint64_t since;
    size_t against, of;
    bool found = f->len == 1 || f->whole, awaited = r->refusal && r->undecided && found;
    if ((r->refusal && !awaited) || !on_trial(r, f->proxy, &other, &since) || f->since < since)
        return;
    const struct osm_resource *resource = speaks_against(other, f);
    if (!resource || !count_against(r, f->proxy, &against, &of))
        return;
    osm_free(r->refused_name);
    r->refused_name = osm_strdup(resource->name);
    r->refused_type = f->type;
    decide(r, found ? 0 : FIND_MS,
           osm_strf("%zu of %zu proxies refuse %s \"%s\"%s: %s", against, of,
                    osm_xds_type_short(f->type), resource->name,
                    found ? "" : " or another of the same response", f->error));
}

void osm_reload_restarted(struct osm_reload *r, const char *proxy, uint64_t since)
{
    struct osm_generation *other, *tried;
    uint64_t first;
    size_t against, of;
    if (r->refusal || !(tried = on_trial(r, proxy, &other, &first)) || since < first ||
        !differ(tried, other, proxy) || !count_against(r, proxy, &against, &of))
        return;
    osm_free(osm_take_ptr(&r->refused_name));
    decide(r, 0,
           osm_strf("%zu of %zu proxies refuse or began anew right after they were told, "
                    "the last is %s",
                    against, of, proxy));
}

void osm__reload_on_verdict(void *ud)
{
    struct osm_reload *r = ud;
    char *reason = osm_take_ptr(&r->refusal);
    osm_map_clear(&r->refusing);
    if (r->canary.count)
        osm__canary_back(r, reason);
    else if (r->previous && !r->back_reason)
        go_back(r, reason);
    osm_free(reason);
    r->callbacks.changed(r->callbacks.ud);
}
