#include "source/kube/kube_priv.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"

#include <stdio.h>
#include <string.h>

enum { ABSENCES = 2 };

/* --- state --- */

void osm__kube_changed(struct kube *s)
{
    if (!s->stopping)
        osm_timer_start(s->turn, 0, 0);
}

/* Why nothing of it can be read; "" it can. */
static void find_failure(const struct kube *s, char *out, size_t size)
{
    size_t running = 0, failing = 0;
    const struct osm__kube_kind *first = NULL;
    for (size_t i = 0; i < s->kinds_len; i++) {
        const struct osm__kube_kind *k = s->kinds[i];
        if (k->use != OSM__KUBE_OBJECTS || !k->running || k->reflector.denied)
            continue;
        running++;
        failing += osm__kind_failing(k);
        first = first || !osm__kind_failing(k) ? first : k;
    }
    *out = '\0';
    if (!running && s->look.failing_since_ms)
        (void)snprintf(out, size, "%s", s->look.error);
    else if (running && failing == running)
        (void)snprintf(out, size, "%s", first->reflector.failure);
}

static void set_failure(struct kube *s)
{
    char why[sizeof s->failure];
    bool was = s->failed;
    find_failure(s, why, sizeof why);
    s->failed = *why;
    memcpy(s->failure, why, sizeof why);
    if (s->failed && !was) {
        s->since_s = osm_wall_s();
        s->failed_ms = osm_now_ms();
        osm_log(OSM_LOG_SOURCE, OSM_LOG_ERROR,
                "source has failed; everything it gave stays as it is",
                OSM_S("path", osm_kube_config_of(s->api)->server), OSM_S("error", s->failure));
    } else if (was && !s->failed) {
        osm_log(OSM_LOG_SOURCE, OSM_LOG_INFO, "source has recovered",
                OSM_S("path", osm_kube_config_of(s->api)->server),
                OSM_U("after_ms", osm_now_ms() - s->failed_ms));
    }
}

static bool is_complete(const struct kube *s)
{
    for (size_t i = 0; i < s->kinds_len; i++)
        if (s->kinds[i]->use == OSM__KUBE_OBJECTS && !osm__kind_settled(s->kinds[i]))
            return false;
    return true;
}

static void on_turn(void *ud)
{
    struct kube *s = ud;
    set_failure(s);
    if (!s->synced && is_complete(s)) {
        s->synced = true;
        osm_log(OSM_LOG_SOURCE, OSM_LOG_INFO, "source is complete",
                OSM_S("path", osm_kube_config_of(s->api)->server), OSM_U("objects", s->objects));
        s->sink.synced(s->sink.ud);
    }
    osm__barrier_move(s);
}

/* --- kinds --- */

static struct osm__kube_kind *find_kind(const struct kube *s, const char *group, const char *kind)
{
    for (size_t i = 0; i < s->kinds_len; i++)
        if (!strcmp(s->kinds[i]->group, group) && !strcmp(s->kinds[i]->kind, kind))
            return s->kinds[i];
    return NULL;
}

/* Errors: OSM_ENOMEM. */
static int add_kind(struct kube *s, const char *group, const char *kind,
                    const char *const *versions, struct osm__kube_kind **out)
{
    struct osm__kube_kind **grown = osm_realloc_array(s->kinds, s->kinds_len + 1, sizeof *s->kinds);
    if (!grown)
        return OSM_ENOMEM;
    s->kinds = grown;
    *out = osm__kind_new(s, group, kind, versions);
    if (!*out)
        return OSM_ENOMEM;
    s->kinds[s->kinds_len++] = *out;
    return 0;
}

static int add_base_kinds(struct kube *s)
{
    static const char *const v1[] = {"v1", NULL};
    static const char *const base[][2] = {{"", "Namespace"},
                                          {"", "Service"},
                                          {"", "Pod"},
                                          {"discovery.k8s.io", "EndpointSlice"},
                                          {"", "Endpoints"}};
    struct osm__kube_kind *k = NULL;
    int rc = 0;
    for (size_t i = 0; i < sizeof base / sizeof *base && !rc; i++) {
        rc = add_kind(s, base[i][0], base[i][1], v1, &k);
        if (!rc)
            k->base = true;
    }
    if (!rc)
        rc = add_kind(s, "apiextensions.k8s.io", "CustomResourceDefinition", v1, &k);
    if (!rc) {
        k->base = true;
        k->use = OSM__KUBE_CRDS;
    }
    return rc;
}

/* What a look has found about one kind. That a kind is gone is believed when a server that is ready
 * says so twice: while one starts, it does not know all yet. */
static void place(struct kube *s, struct osm__kube_kind *k)
{
    char *others = NULL;
    const struct osm_kube_resource *resource = osm_kube_resources_find(
        &s->look.found, k->group, k->kind, (const char *const *)k->versions, &others);
    bool unsure = osm_kube_resources_stale(&s->look.found, k->group) || s->look.not_ready;
    if (s->look.by_group && k->born >= s->look.good) /* its group was not asked about */
        unsure = s->look.again = true;
    if (resource) {
        if (osm__kind_run(k, resource))
            osm_log(OSM_LOG_SOURCE, OSM_LOG_ERROR, "kind is not watched: out of memory");
        else
            k->looked = true;
        osm_free(others);
        return;
    }
    if (k->running && unsure) {
        osm_free(others);
        return;
    }
    k->absences += k->absent_at != s->look.good;
    k->absent_at = s->look.good;
    if (k->running && k->absences < ABSENCES) {
        osm_free(others);
        s->look.doubtful = true;
        return;
    }
    if (k->running)
        osm__kind_stop(k);
    osm_free(k->served_others);
    k->served_others = others;
    k->looked = k->looked || !unsure;
}

void osm__kube_looked(struct kube *s)
{
    for (size_t i = 0; i < s->kinds_len; i++)
        place(s, s->kinds[i]);
}

static void drop_kind(struct kube *s, size_t i)
{
    if (s->kinds[i]->running)
        osm__kind_stop(s->kinds[i]);
    osm__kind_free(s->kinds[i]);
    s->kinds[i] = s->kinds[--s->kinds_len];
}

/* Which versions of a wanted kind can be read. NULL: no memory. */
static const char **versions_of(const json_t *wanted)
{
    const json_t *list = json_object_get(wanted, "versions");
    const char **versions = osm_alloc_array(json_array_size(list) + 1, sizeof *versions);
    for (size_t i = 0; versions && i < json_array_size(list); i++) {
        const char *text = json_string_value(json_array_get(list, i));
        versions[i] = text ? text : "";
    }
    return versions;
}

static bool same_versions(char *const *a, const char *const *b)
{
    while (*a && *b && !strcmp(*a, *b)) {
        a++;
        b++;
    }
    return !*a && !*b;
}

static int want_kind(struct kube *s, const json_t *wanted)
{
    const char *group = osm_json_text(wanted, "group"), *kind = osm_json_text(wanted, "kind");
    struct osm__kube_kind *k = find_kind(s, group, kind);
    const char **versions = versions_of(wanted);
    int rc = versions ? 0 : OSM_ENOMEM;
    if (!rc && k && k->use == OSM__KUBE_OBJECTS && !k->base &&
        !same_versions(k->versions, versions))
        rc = osm__kind_set_versions(k, versions); /* its objects stay until they are listed anew */
    if (!rc && !k)
        rc = add_kind(s, group, kind, versions, &k);
    if (!rc && k->use == OSM__KUBE_OBJECTS) {
        bool needs_all = !k->whole && osm__kube_is_trimmed(group, kind);
        k->asked = true;
        k->whole = true;
        if (needs_all && k->running) { /* what was left out of its objects is wanted now */
            osm_kube_cancel(k->call);
            osm_reflector_list_anew(&k->reflector);
            k->reflector.step = OSM_REFLECT_LIST;
            k->reflector.synced = false;
            osm__kind_hurry(k);
        }
    }
    osm_free(versions);
    return rc;
}

static bool kube_want(struct osm_source *source, const json_t *kinds)
{
    struct kube *s = (struct kube *)source;
    size_t i;
    const json_t *wanted;
    int rc = 0;
    for (size_t n = 0; n < s->kinds_len; n++)
        s->kinds[n]->asked = false;
    json_array_foreach ((json_t *)(uintptr_t)kinds, i, wanted) {
        if (!rc)
            rc = want_kind(s, wanted);
    }
    if (rc)
        osm_log(OSM_LOG_SOURCE, OSM_LOG_ERROR, "kinds are not watched: out of memory");
    for (size_t n = s->kinds_len; n-- > 0 && !rc;)
        if (!s->kinds[n]->asked && !s->kinds[n]->base)
            drop_kind(s, n);
    if (s->look.good && !s->look.under_way)
        osm__kube_looked(s);
    bool complete = !rc && is_complete(s);
    if (!complete) {
        s->synced = false;
        osm__look_hurry(&s->look);
    }
    osm__kube_changed(s);
    return complete && s->synced;
}

/* --- status --- */

static const char *state_of(const struct osm__kube_kind *k)
{
    if (!k->running)
        return k->looked ? "absent" : "unknown";
    if (k->reflector.denied)
        return "denied";
    if (k->reflector.failing_since_ms)
        return "failing";
    return k->reflector.synced ? "watched" : "listing";
}

static const char *reason_of(const struct osm__kube_kind *k, char *out, size_t size)
{
    *out = '\0';
    if (!k->running && k->served_others)
        (void)snprintf(out, size,
                       "the API server has it only as %s, which the policies do not read",
                       k->served_others);
    else if (!k->running && k->looked)
        (void)snprintf(out, size, "the API server does not have it");
    else if (*k->reflector.failure)
        (void)snprintf(out, size, "%s", k->reflector.failure);
    return out;
}

static json_t *kind_status(const struct osm__kube_kind *k)
{
    char reason[512];
    uint64_t since_ms = k->reflector.failing_since_ms;
    json_int_t since_s =
        since_ms ? (json_int_t)(osm_wall_s() - (int64_t)((osm_now_ms() - since_ms) / 1000)) : 0;
    return json_pack("{s:s, s:s, s:s?, s:s, s:s, s:I, s:I, s:s, s:I, s:I}", "kind", k->kind,
                     "group", k->group, "version", k->version, "state", state_of(k), "reason",
                     reason_of(k, reason, sizeof reason), "since", since_s, "objects",
                     (json_int_t)k->reflector.known.count, "resource_version",
                     k->reflector.resource_version, "lists", (json_int_t)k->reflector.lists,
                     "watches", (json_int_t)k->reflector.watches);
}

static int add_error(json_t *errors, const char *where, const char *message, bool kept)
{
    return json_array_append_new(errors,
                                 json_pack("{s:s, s:i, s:i, s:s, s:b}", "file", where, "line", 0,
                                           "column", 0, "message", message, "kept", kept));
}

/* What is left out of the objects of a kind, and why; of one that is absent that is no error where
 * none of its versions is served. */
static int add_errors(json_t *errors, const struct osm__kube_kind *k)
{
    char name[160], reason[512];
    int rc = 0;
    bool counts = k->use == OSM__KUBE_OBJECTS;
    osm__kind_name(k, name, sizeof name);
    if (counts && ((k->running && *k->reflector.failure) || (!k->running && k->served_others)))
        rc = add_error(errors, name, reason_of(k, reason, sizeof reason), k->reflector.synced);
    osm_map_each (&k->refused, e) {
        const struct osm__kube_refused *refused = e->value;
        char *where = osm_strf("%s %s", name, e->key);
        if (!rc)
            rc = where ? add_error(errors, where, refused->why, false) : -1;
        osm_free(where);
    }
    return rc;
}

static json_t *kube_status(const struct osm_source *source)
{
    const struct kube *s = (const struct kube *)source;
    const struct osm_kube_config *config = osm_kube_config_of(s->api);
    json_t *errors = json_array(), *kinds = json_array();
    int rc = errors && kinds ? 0 : -1;
    for (size_t i = 0; i < s->kinds_len && !rc; i++) {
        rc = add_errors(errors, s->kinds[i]);
        if (!rc)
            rc = json_array_append_new(kinds, kind_status(s->kinds[i]));
    }
    size_t n = json_array_size(errors);
    char reason[600] = "";
    if (s->failed)
        (void)snprintf(reason, sizeof reason, "%s", s->failure);
    else if (n)
        (void)snprintf(reason, sizeof reason, "%zu error%s", n, n == 1 ? "" : "s");
    else if (!s->synced)
        (void)snprintf(reason, sizeof reason, "not read yet");
    const char *state = s->failed ? "failed" : n || !s->synced ? "degraded" : "ok";
    json_t *status =
        rc ? NULL
           : json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:O, s:O}", "kind",
                       "kubernetes", "path", config->server, "as", config->about, "server",
                       s->look.server_version, "state", state, "reason", reason, "since",
                       (json_int_t)(s->failed ? s->since_s : 0), "objects", (json_int_t)s->objects,
                       "outside", (json_int_t)s->outside, "generation", (json_int_t)s->generation,
                       "kinds", kinds, "errors", errors);
    json_decref(errors);
    json_decref(kinds);
    return status;
}

static const char *kube_failure(const struct osm_source *source)
{
    const struct kube *s = (const struct kube *)source;
    return s->failed ? s->failure : NULL;
}

/* --- life --- */

static void kube_refresh(struct osm_source *source, osm_source_refreshed_fn *done, void *ud)
{
    struct kube *s = (struct kube *)source;
    osm__barrier_ask(s, done, ud);
}

static void kube_forget(struct osm_source *source, void *ud)
{
    osm__barrier_forget((struct kube *)source, ud);
}

static struct osm_outside *kube_outside(const struct osm_source *source)
{
    return osm__scope_outside((const struct kube *)source);
}

static void kube_stop(struct osm_source *source)
{
    struct kube *s = (struct kube *)source;
    s->stopping = true;
    osm__barrier_clear(s);
    osm__look_clear(&s->look);
    for (size_t i = 0; i < s->kinds_len; i++)
        osm__kind_free(s->kinds[i]);
    osm_free(s->kinds);
    osm_kube_free(s->api);
    osm_timer_free(s->turn);
    osm_map_clear(&s->joined);
    osm_free(s->mesh_name);
    osm_free(s->osm_namespace);
    osm_free(s);
}

int osm_source_kube_start(struct osm_source **out, struct osm_loop *loop,
                          struct osm_kube_config *config,
                          const struct osm_source_kube_options *options,
                          const struct osm_source_sink *sink, struct osm_err *err)
{
    struct kube *s = osm_alloc(sizeof *s);
    if (!s)
        return osm_fail(err, OSM_ENOMEM, "source");
    s->source = (struct osm_source){.stop = kube_stop,
                                    .status = kube_status,
                                    .refresh = kube_refresh,
                                    .forget = kube_forget,
                                    .want = kube_want,
                                    .outside = kube_outside,
                                    .failure = kube_failure};
    s->loop = loop;
    s->sink = *sink;
    int rc = osm_kube_new(&s->api, loop, config, err);
    if (rc) {
        osm_free(s);
        return rc;
    }
    s->turn = osm_timer_new(loop, on_turn, s);
    s->mesh_name = osm_strdup(options->mesh_name);
    s->osm_namespace = osm_strdup(options->osm_namespace);
    s->silence_ms = options->silence_ms;
    if (!s->turn || !s->mesh_name || !s->osm_namespace || osm__look_init(&s->look, s) ||
        add_base_kinds(s)) {
        kube_stop(&s->source);
        return osm_fail(err, OSM_ENOMEM, "source");
    }
    *out = &s->source;
    return 0;
}

/* --- for who writes --- */

struct osm_kube *osm_source_kube_api(struct osm_source *source)
{
    return ((struct kube *)source)->api;
}

const char *osm_source_kube_path(const struct osm_source *source, const char *group,
                                 const char *kind)
{
    const struct osm__kube_kind *k = find_kind((const struct kube *)source, group, kind);
    return k && k->running ? k->path : NULL;
}

void osm_source_kube_set_back(struct osm_source *source)
{
    struct kube *s = (struct kube *)source;
    osm_log(OSM_LOG_SOURCE, OSM_LOG_WARN,
            "the API server has gone back in time: everything is listed anew",
            OSM_S("path", osm_kube_config_of(s->api)->server));
    for (size_t i = 0; i < s->kinds_len; i++)
        osm__kind_list_anew(s->kinds[i]);
}

uint64_t osm_source_kube_definitions(const struct osm_source *source)
{
    return ((const struct kube *)source)->definitions;
}
