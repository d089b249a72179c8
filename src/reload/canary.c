/* A candidate on trial: some proxies are served by it, the others by the active one. */
#include "reload/reload_priv.h"

#include "base/clock.h"
#include "base/log.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum { NAMES_SHOWN = 100 };

int osm_reload_canary_parse(struct osm_reload_canary *out, const char *text, struct osm_err *err)
{
    char *end = NULL;
    unsigned long percent = isdigit((unsigned char)text[0]) ? strtoul(text, &end, 10) : 0;
    *out = (struct osm_reload_canary){.soak_ms = OSM_RELOAD_SOAK_MS};
    if (end && !strcmp(end, "%") && percent >= 1 && percent <= 100) {
        out->percent = (unsigned)percent;
        return 0;
    }
    const char *label = strncmp(text, "label=", 6) == 0 && strchr(text + 6, '=') ? text + 6 : text;
    const char *equals = strchr(label, '=');
    if (equals && equals != label && equals[1]) {
        out->label = label;
        return 0;
    }
    return osm_fail(err, OSM_EINVAL,
                    "canary %.64s: expected a share of the connected proxies such as 5%%, or a "
                    "label of their pods such as label=app=shop",
                    text);
}

/* --- whom --- */

struct choice {
    const char *proxy;
    struct osm_hash place;
};

static int by_place(const void *a, const void *b)
{
    const struct osm_hash *x = &((const struct choice *)a)->place,
                          *y = &((const struct choice *)b)->place;
    if (x->hi != y->hi)
        return x->hi < y->hi ? -1 : 1;
    return x->lo == y->lo ? 0 : x->lo < y->lo ? -1 : 1;
}

/* Another share with each bundle, spread over all namespaces. */
static int choose_share(struct osm_reload *r, const struct osm_snapshot *served)
{
    const char *digest = osm_generation_files(r->candidate)->digest;
    const struct osm_hash salt = osm_hash_bytes(digest, strlen(digest));
    struct choice *choices = osm_alloc_array(served->proxies_len, sizeof *choices);
    size_t n = 0;
    int rc = choices ? 0 : OSM_ENOMEM;
    for (size_t i = 0; !rc && i < served->proxies_len; i++) {
        const char *proxy = served->proxies[i].key;
        if (r->callbacks.connected(r->callbacks.ud, proxy))
            choices[n++] =
                (struct choice){proxy, osm_hash_fold(salt, osm_hash_bytes(proxy, strlen(proxy)))};
    }
    if (n)
        qsort(choices, n, sizeof *choices, by_place);
    size_t share = (n * r->trial.percent + 99) / 100;
    for (size_t i = 0; !rc && i < share; i++)
        rc = osm_map_put(&r->canary, choices[i].proxy, r, NULL);
    osm_free(choices);
    return rc;
}

static bool has_label(const struct osm_reload *r, const struct osm_snapshot_proxy *p)
{
    const char *equals = strchr(r->trial.label, '=');
    char *key = osm_strf("/Pod/%s/%s", p->ns, p->pod);
    char *name = osm_strndup(r->trial.label, (size_t)(equals - r->trial.label));
    const struct osm_object *pod = key && name ? osm_store_get(r->config.store, key) : NULL;
    const char *value = pod ? osm_json_str_at(pod->body, "metadata", "labels", name, NULL) : NULL;
    osm_free(key);
    osm_free(name);
    return value && !strcmp(value, equals + 1);
}

static int choose_labelled(struct osm_reload *r, const struct osm_snapshot *served)
{
    int rc = 0;
    for (size_t i = 0; !rc && i < served->proxies_len; i++)
        if (has_label(r, &served->proxies[i]))
            rc = osm_map_put(&r->canary, served->proxies[i].key, r, NULL);
    return rc;
}

/* Those of them that are connected, and so can speak against it. */
static size_t witnesses(const struct osm_reload *r)
{
    size_t n = 0;
    osm_map_each (&r->canary, e)
        n += r->callbacks.connected(r->callbacks.ud, e->key);
    return n;
}

/* --- its way --- */

static void hold_for_want_of_witnesses(struct osm_reload *r)
{
    char *reason =
        r->trial.percent
            ? osm_strf("a canary of %u %% serves nobody: no proxy is connected", r->trial.percent)
            : osm_strf("a canary of label %s serves nobody: no proxy that is connected "
                       "has it",
                       r->trial.label);
    json_t *reasons = reason ? json_pack("[s]", reason) : NULL;
    osm_free(reason);
    osm_map_clear(&r->canary);
    if (reasons)
        osm__reload_hold(r, reasons);
    else
        osm__reload_reject(r, false, "out of memory");
}

void osm__canary_start(struct osm_reload *r)
{
    const struct osm_snapshot *served = osm_generation_snapshot(r->active);
    int rc = r->trial.percent ? choose_share(r, served) : choose_labelled(r, served);
    if (rc) {
        osm_map_clear(&r->canary);
        osm__reload_reject(r, false, "out of memory");
        return;
    }
    if (!witnesses(r)) {
        hold_for_want_of_witnesses(r);
        return;
    }
    osm__reload_end_watch(r); /* one trial at a time */
    r->canary_since = r->published + 1;
    r->canary_until_ms = osm_now_ms() + r->trial.soak_ms;
    osm_timer_start(r->soak, r->trial.soak_ms, 0);
    osm__record_note(r, r->candidate, "canary", NULL);
    osm_log(OSM_LOG_POLICY, OSM_LOG_INFO, "policies serve a canary",
            OSM_U("gen", osm_generation_id(r->candidate)),
            OSM_S("digest", osm_generation_files(r->candidate)->digest),
            OSM_U("proxies", r->canary.count), OSM_U("soak_ms", r->trial.soak_ms));
    osm__reload_publish(r);
    r->callbacks.changed(r->callbacks.ud);
}

static bool serves(void *ud, const char *proxy)
{
    const struct osm_reload *r = ud;
    return osm_map_has(&r->canary, proxy);
}

struct osm_snapshot *osm__canary_mix(const struct osm_reload *r)
{
    struct osm_snapshot *served = osm_generation_snapshot(r->active);
    struct osm_snapshot *mixed =
        r->canary.count ? osm_snapshot_mix(served, osm_generation_snapshot(r->candidate), serves,
                                           (void *)(uintptr_t)r)
                        : NULL;
    /* Without memory the canary's proxies go back to the active one's until the next time. */
    return mixed ? mixed : osm_snapshot_ref(served);
}

void osm__canary_stop(struct osm_reload *r, bool tell)
{
    bool served = r->canary.count > 0;
    osm_timer_stop(r->soak);
    osm_map_clear(&r->canary);
    if (served && tell)
        osm__reload_publish(r);
}

void osm__canary_back(struct osm_reload *r, const char *reason)
{
    struct osm_generation *g = osm_take_ptr(&r->candidate);
    const char *digest = osm_generation_files(g)->digest;
    osm_log(OSM_LOG_POLICY, OSM_LOG_ERROR, "policies rolled back, which served a canary",
            OSM_U("gen", osm_generation_id(g)), OSM_S("digest", digest),
            OSM_U("proxies", r->canary.count), OSM_S("reason", reason));
    osm__canary_stop(r, true);
    osm__record_note(r, g, "rolled back", reason);
    osm__record_rolled_back(r, digest, reason);
    osm__record_quarantine(r, digest, reason);
    osm__record_answer(r, g, digest, "rolled back", reason);
    osm__reload_blame(r, g, reason);
    r->callbacks.changed(r->callbacks.ud);
}

void osm__canary_ran(struct osm_reload *r, bool news)
{
    struct osm_generation *g = r->candidate;
    char *error =
        osm_generation_keeps_up(g, r->active)
            ? osm__reload_new_error(osm_generation_snapshot(g), osm_generation_snapshot(r->active))
            : NULL;
    if (error) {
        osm_free(osm_take_ptr(&r->refused_name));
        osm__canary_back(r, error);
    } else if (news) {
        osm__reload_publish(r);
    }
    osm_free(error);
}

/* On other objects it may let in others. Where one of the two is behind they differ by that alone.
 */
void osm__canary_compare(struct osm_reload *r)
{
    if (r->canary.count && !r->forced && osm_generation_keeps_up(r->candidate, r->active) &&
        osm_generation_keeps_up(r->active, r->candidate))
        osm__reload_compare(r);
}

void osm__canary_soaked(void *ud)
{
    struct osm_reload *r = ud;
    if (!r->canary.count)
        return;
    if (!witnesses(r)) {
        osm__canary_stop(r, true);
        hold_for_want_of_witnesses(r);
        return;
    }
    r->soaked = true;
    osm__reload_check(r);
    r->callbacks.changed(r->callbacks.ud);
}

json_t *osm__canary_status(const struct osm_reload *r)
{
    const struct osm_snapshot *served = r->active ? osm_generation_snapshot(r->active) : NULL;
    if (!r->canary.count || !served)
        return json_null();
    uint64_t now_ms = osm_now_ms();
    json_t *names = json_array();
    for (size_t i = 0; i < served->proxies_len && json_array_size(names) < NAMES_SHOWN; i++) {
        const struct osm_snapshot_proxy *p = &served->proxies[i];
        if (osm_map_has(&r->canary, p->key))
            (void)json_array_append_new(names, json_sprintf("%s/%s", p->ns, p->pod));
    }
    return json_pack("{s:o, s:I, s:I}", "proxies", names, "count", (json_int_t)r->canary.count,
                     "soak_left_ms",
                     (json_int_t)(r->canary_until_ms > now_ms ? r->canary_until_ms - now_ms : 0));
}
