/* What is remembered of generations: history, quarantine, the stored bundle; and who waits to be
 * told. */
#include "reload/kept.h"
#include "reload/reload_priv.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"

#include <string.h>

enum { STORE_WAIT_MS = 1000, STORE_WAIT_MAX_MS = 60 * 1000 };

/* --- telling --- */

void osm__record_problem(struct osm_reload *r, char *text_taken)
{
    osm_free(r->problem);
    r->problem = text_taken;
}

void osm__record_answer(struct osm_reload *r, const struct osm_generation *g, const char *digest,
                        const char *state, const char *reason)
{
    struct osm__asking *asking = osm_take_ptr(&r->asking);
    json_t *outcome =
        json_pack("{s:s?, s:s, s:I, s:s?}", "digest", digest, "state", state, "generation",
                  (json_int_t)(g ? osm_generation_id(g) : 0), "reason", reason);
    while (asking) {
        struct osm__asking *next = asking->next;
        if (asking->reading) {
            asking->next = r->asking;
            r->asking = asking;
        } else {
            asking->answer(asking->ud, outcome);
            osm_free(asking);
        }
        asking = next;
    }
    json_decref(outcome);
}

void osm__record_refuse(osm_reload_answer_fn *answer, void *ud, const char *reason)
{
    json_t *outcome = json_pack("{s:s, s:s}", "state", "rejected", "reason", reason);
    answer(ud, outcome);
    json_decref(outcome);
}

void osm__record_ask(struct osm_reload *r, const void *reading, osm_reload_answer_fn *answer,
                     void *ud)
{
    struct osm__asking *asking = osm_alloc(sizeof *asking);
    if (!asking) {
        osm__record_refuse(answer, ud, "out of memory");
        return;
    }
    *asking = (struct osm__asking){r->asking, reading, answer, ud};
    r->asking = asking;
}

void osm__record_heard(struct osm_reload *r, const void *reading)
{
    for (struct osm__asking *asking = r->asking; asking; asking = asking->next)
        if (!reading || asking->reading == reading)
            asking->reading = NULL;
}

static json_t *entry_of(struct osm_reload *r, const struct osm_generation *g)
{
    for (size_t i = json_array_size(r->history); i-- > 0;) {
        json_t *entry = json_array_get(r->history, i);
        if (json_integer_value(json_object_get(entry, "generation")) ==
            (json_int_t)osm_generation_id(g))
            return entry;
    }
    json_t *entry = json_pack("{s:I, s:s}", "generation", (json_int_t)osm_generation_id(g),
                              "digest", osm_generation_files(g)->digest);
    if (json_array_append_new(r->history, entry))
        return NULL;
    if (json_array_size(r->history) > OSM__HISTORY_MAX)
        (void)json_array_remove(r->history, 0);
    return entry;
}

static void tell(const struct osm_reload *r, const char *digest, const char *state,
                 const char *reason)
{
    if (r->callbacks.noted)
        r->callbacks.noted(r->callbacks.ud, digest, state, reason);
}

void osm__record_refused(struct osm_reload *r, const char *digest, const char *state,
                         const char *reason)
{
    osm_metric_add(OSM_METRIC_POLICY_RELOADS, OSM_LABELS(state), 1);
    tell(r, digest, state, reason);
}

void osm__record_note(struct osm_reload *r, const struct osm_generation *g, const char *state,
                      const char *reason)
{
    json_t *entry = entry_of(r, g);
    osm_metric_add(OSM_METRIC_POLICY_RELOADS, OSM_LABELS(state), 1);
    tell(r, osm_generation_files(g)->digest, state, reason);
    if (!entry) /* out of memory: a history without it */
        return;
    (void)json_object_set_new(entry, "state", json_string(state));
    (void)json_object_set_new(entry, "at", json_integer(osm_wall_s()));
    (void)json_object_set_new(entry, "reason", reason ? json_string(reason) : json_null());
}

/* --- quarantine --- */

const char *osm__record_quarantined(const struct osm_reload *r, const char *digest)
{
    return json_string_value(json_object_get(json_object_get(r->quarantine, digest), "reason"));
}

void osm__record_quarantine(struct osm_reload *r, const char *digest, const char *reason)
{
    json_t *entry = json_pack("{s:s, s:s, s:I}", "version", OSM_VERSION, "reason", reason, "at",
                              (json_int_t)osm_wall_s());
    if (json_object_set_new(r->quarantine, digest, entry))
        osm_log(OSM_LOG_POLICY, OSM_LOG_ERROR, "not quarantined: out of memory",
                OSM_S("digest", digest));
    osm__record_store(r);
}

void osm__record_pardon(struct osm_reload *r, const char *digest)
{
    if (!json_object_del(r->quarantine, digest))
        osm__record_store(r);
}

void osm__record_rolled_back(struct osm_reload *r, const char *digest, const char *reason)
{
    osm__record_problem(r, osm_strf("%s was rolled back and is quarantined: %s", digest, reason));
}

void osm__record_explain(struct osm_reload *r, uint64_t id, const char *digest, const char *reason)
{
    size_t i;
    json_t *entry;
    json_array_foreach (r->history, i, entry)
        if (json_integer_value(json_object_get(entry, "generation")) == (json_int_t)id)
            (void)json_object_set_new(entry, "reason", json_string(reason));
    tell(r, digest, "rolled back", reason);
    if (r->problem && strstr(r->problem, digest))
        osm__record_rolled_back(r, digest, reason);
    if (json_object_get(r->quarantine, digest))
        osm__record_quarantine(r, digest, reason);
}

/* --- the state directory --- */

struct osm__storing {
    struct osm_reload *reload; /* loop thread; NULL: it has been closed */
    struct osm_policy_files *files;
    char instead_of[OSM_POLICY_DIGEST_SIZE];
    json_t *quarantine;
    char *dir;
    int rc;
    struct osm_err err;
};

static void storing_free(struct osm__storing *s)
{
    if (!s)
        return;
    osm_policy_files_unref(s->files);
    json_decref(s->quarantine);
    osm_free(s->dir);
    osm_free(s);
}

/* The one does not wait for the other: there may be room for one of them. */
static void store(void *ud)
{
    struct osm__storing *s = ud;
    if (s->files)
        s->rc = osm_kept_write_bundle(s->dir, s->files, s->instead_of, &s->err);
    int rc = osm_kept_write_quarantine(s->dir, s->quarantine, s->rc ? NULL : &s->err);
    s->rc = s->rc ? s->rc : rc;
}

/* A restart would begin with what is there: that is worth a word, and another try. */
static void not_stored(struct osm_reload *r, const char *why)
{
    if (!r->unstored || strcmp(r->unstored, why) != 0)
        osm_log(OSM_LOG_POLICY, OSM_LOG_ERROR,
                "the active policies are not stored: a restart begins with those before",
                OSM_S("error", why));
    osm_free(r->unstored);
    r->unstored = osm_strdup(why);
    r->store_wait_ms = !r->store_wait_ms                          ? STORE_WAIT_MS
                       : 2 * r->store_wait_ms < STORE_WAIT_MAX_MS ? 2 * r->store_wait_ms
                                                                  : STORE_WAIT_MAX_MS;
    osm_timer_start(r->store_retry, r->store_wait_ms, 0);
}

static void are_stored(struct osm_reload *r)
{
    if (r->unstored)
        osm_log(OSM_LOG_POLICY, OSM_LOG_INFO, "the active policies are stored");
    osm_free(r->unstored);
    r->unstored = NULL;
    r->store_wait_ms = 0;
}

static void stored(void *ud)
{
    struct osm__storing *s = ud;
    struct osm_reload *r = s->reload;
    if (r) {
        r->storing = NULL;
        if (s->rc)
            not_stored(r, s->err.msg);
        else
            are_stored(r);
    } else if (s->rc) {
        osm_log(OSM_LOG_POLICY, OSM_LOG_ERROR,
                "the active policies are not stored: a restart begins with those before",
                OSM_S("error", s->err.msg));
    }
    storing_free(s);
    if (r && r->store_again)
        osm__record_store(r);
}

void osm__record_on_store_retry(void *ud)
{
    osm__record_store(ud);
}

void osm__record_store(struct osm_reload *r)
{
    r->store_again = r->storing != NULL;
    if (r->storing)
        return;
    osm_timer_stop(r->store_retry);
    struct osm__storing *s = osm_alloc(sizeof *s);
    if (s) {
        s->reload = r;
        s->dir = osm_strdup(r->kept_dir);
        s->quarantine = json_deep_copy(r->quarantine);
        /* A restart in the middle of a roll-back must not begin with what is refused. */
        const struct osm_generation *g = r->back_reason ? r->previous : r->active;
        s->files = g ? osm_policy_files_ref(osm_generation_files(g)) : NULL;
        if (r->applied && !r->back_reason)
            memcpy(s->instead_of, r->in_dirs, sizeof s->instead_of);
    }
    if (!s || !s->dir || !s->quarantine || osm_loop_work(r->config.loop, store, stored, s)) {
        not_stored(r, "out of memory");
        storing_free(s);
        return;
    }
    r->storing = s;
}

int osm__record_open(struct osm_reload *r, struct osm_policy_files **kept, struct osm_err *err)
{
    struct osm_err why = {0};
    r->kept_dir = osm_strf("%s/policies", r->config.state_dir);
    r->history = json_array();
    if (!r->kept_dir || !r->history)
        return osm_fail(err, OSM_ENOMEM, "out of memory");
    if (osm_kept_quarantine(&r->quarantine, r->kept_dir, &why))
        osm_log(OSM_LOG_POLICY, OSM_LOG_ERROR, "the quarantine is lost: bundles may be tried again",
                OSM_S("error", why.msg));
    if (!r->quarantine)
        return osm_fail(err, OSM_ENOMEM, "out of memory");
    why = (struct osm_err){0};
    if (osm_kept_bundle(kept, r->in_dirs, r->kept_dir, &why))
        osm_log(OSM_LOG_POLICY, OSM_LOG_ERROR,
                "the stored policies are not used; those of the directories are",
                OSM_S("error", why.msg));
    return 0;
}

void osm__record_close(struct osm_reload *r)
{
    if (r->storing)
        r->storing->reload = NULL;
    osm_free(r->kept_dir);
    osm_free(r->problem);
    osm_free(r->unstored);
    json_decref(r->quarantine);
    json_decref(r->history);
}
