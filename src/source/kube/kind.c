/* One kind of objects: its reflector on the network, and what becomes of what it says. */
#include "source/kube/kube_priv.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/utf8.h"

#include <stdio.h>
#include <string.h>
#include <sys/random.h>

const char osm__kube_metadata_list[] =
    "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
const char osm__kube_metadata_watch[] =
    "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";

enum { REFUSED_MAX = 1000 };

void osm__kind_name(const struct osm__kube_kind *k, char *out, size_t size)
{
    (void)snprintf(out, size, "%s%s%s", k->kind, *k->group ? "." : "", k->group);
}

/* --- what the reflector says --- */

static void forget_refused(struct osm__kube_kind *k, const char *id)
{
    osm_free(osm_map_del(&k->refused, id));
}

static void note_refused(struct osm__kube_kind *k, const char *id, const char *why)
{
    struct osm__kube_refused *refused = osm_map_get(&k->refused, id);
    char name[160];
    osm__kind_name(k, name, sizeof name);
    osm_log(OSM_LOG_SOURCE, OSM_LOG_WARN, "object left out", OSM_S("kind", name), OSM_S("obj", id),
            OSM_S("error", why));
    if (!refused && k->refused.count < REFUSED_MAX) {
        refused = osm_alloc(sizeof *refused);
        if (refused && osm_map_put(&k->refused, id, refused, NULL)) {
            osm_free(refused);
            return;
        }
    }
    if (!refused)
        return;
    refused->epoch = k->reflector.epoch;
    (void)snprintf(refused->why, sizeof refused->why, "%s", why);
    (void)osm_utf8_repair(refused->why);
}

/* After a list: what it did not tell of again. */
static void forget_old_refused(struct osm__kube_kind *k)
{
    osm_map_each (&k->refused, e) {
        struct osm__kube_refused *refused = e->value;
        if (refused->epoch == k->reflector.epoch)
            continue;
        (void)osm_map_deln(&k->refused, e->key, e->key_len);
        osm_free(refused);
    }
}

/* An object that is none of ours: its last good content would go on granting. */
static void refuse(struct osm__kube_kind *k, const char *id, const char *why, void **data)
{
    note_refused(k, id, why);
    osm__held_drop(k, osm_take_ptr(data));
}

static bool is_namespace(const struct osm__kube_kind *k)
{
    return !*k->group && !strcmp(k->kind, "Namespace");
}

static int on_put(void *ud, const char *id, json_t *body, void **data)
{
    struct osm__kube_kind *k = ud;
    struct osm_object *object = NULL;
    struct osm_err err = {0};
    if (k->use == OSM__KUBE_CRDS) {
        json_decref(body);
        k->source->definitions++;
        if (k->reflector.synced)
            osm__look_hurry(&k->source->look);
        return 0;
    }
    char origin[96];
    const char *version =
        json_string_value(json_object_get(json_object_get(body, "metadata"), "resourceVersion"));
    (void)snprintf(origin, sizeof origin, "resourceVersion %.64s", version ? version : "");
    int rc = osm__kube_trim(body, k->group, k->version, k->kind, k->whole);
    if (rc) {
        json_decref(body);
        return rc;
    }
    rc = osm_object_new(&object, body, origin, &err);
    if (rc == OSM_ENOMEM)
        return rc;
    if (!rc && !osm_object_is(object, k->group, k->kind)) {
        rc = osm_fail(&err, OSM_EMISMATCH, "is a %s of %s/%s", object->kind, object->group,
                      object->version);
        osm_object_unref(object);
    }
    if (rc) {
        refuse(k, id, err.msg, data);
        return 0;
    }
    forget_refused(k, id);
    rc = osm__held_put(k, object, data);
    if (!rc && is_namespace(k))
        osm__scope_namespace(k->source, object->name, object->body);
    osm_object_unref(object);
    return rc;
}

static void on_gone(void *ud, const char *id, void *data)
{
    struct osm__kube_kind *k = ud;
    if (!k->reflector.listing) /* else the list may hold it, and not in a form that can be used */
        forget_refused(k, id);
    if (k->use == OSM__KUBE_CRDS)
        osm__look_hurry(&k->source->look);
    if (is_namespace(k))
        osm__scope_namespace(k->source, id, NULL);
    osm__held_drop(k, data);
}

static uint32_t any_number(void *ud)
{
    uint32_t n = 0;
    (void)ud;
    (void)!getrandom(&n, sizeof n, 0);
    return n;
}

/* --- a response --- */

static int on_object(void *ud, const char *type, json_t *object)
{
    struct osm__kube_kind *k = ud;
    return osm_reflector_object(&k->reflector, type, object);
}

static int on_bad(void *ud, const char *name, const char *reason)
{
    struct osm__kube_kind *k = ud;
    note_refused(k, *name ? name : "?", reason);
    return osm_reflector_bad(&k->reflector, name, reason);
}

static void on_head(void *ud)
{
    struct osm__kube_kind *k = ud;
    osm_reflector_established(&k->reflector);
    osm__kube_changed(k->source);
}

static int on_data(void *ud, const char *bytes, size_t len)
{
    struct osm__kube_kind *k = ud;
    k->stream_err = (struct osm_err){0};
    bool was_listing = k->reflector.listing;
    int rc = osm_kube_stream_feed(&k->stream, bytes, len, &k->stream_err);
    if (was_listing && !k->reflector.listing) /* a streaming list has come to its end */
        forget_old_refused(k);
    osm__kube_changed(k->source);
    return rc;
}

static void ask_later(struct osm__kube_kind *k);

static void ended(struct osm__kube_kind *k, const struct osm_kube_result *result)
{
    struct osm_err err = {0};
    bool was_failing = k->reflector.failing_since_ms != 0, is_list = false;
    struct osm_reflector_end end = {.rc = result->rc,
                                    .status = result->status,
                                    .reason = result->reason,
                                    .message = result->message,
                                    .retry_after_s = result->retry_after_s};
    if (k->stream_open) {
        is_list = k->stream.form == OSM_KUBE_LIST;
        if (!end.rc && end.status == 200) {
            end.rc = osm_kube_stream_end(&k->stream, &err);
            end.message = err.msg;
        } else if (k->stream_err.code && end.rc == k->stream_err.code) {
            end.message = k->stream_err.msg;
        }
        if (is_list) {
            end.resource_version = k->stream.resource_version;
            end.continue_token = k->stream.continue_token;
        }
    }
    bool could_stream = k->reflector.can_stream, was_listing = k->reflector.listing;
    osm_reflector_ended(&k->reflector, &end, osm_now_ms());
    if (was_listing && k->reflector.step == OSM_REFLECT_WATCH)
        forget_old_refused(k);
    k->no_stream = k->no_stream || (could_stream && !k->reflector.can_stream);
    if (k->stream_open)
        osm_kube_stream_clear(&k->stream);
    k->stream_open = false;
    char name[160];
    osm__kind_name(k, name, sizeof name);
    if (k->reflector.failing_since_ms && !was_failing)
        osm_log(OSM_LOG_SOURCE, OSM_LOG_WARN, "a kind cannot be read; what is known of it stays",
                OSM_S("kind", name), OSM_S("error", k->reflector.failure));
    if (k->reflector.missing)
        osm__look_hurry(&k->source->look);
}

static void on_done(void *ud, const struct osm_kube_result *result)
{
    struct osm__kube_kind *k = ud;
    k->call = NULL;
    ended(k, result);
    if (result->rc == OSM_ECANCELED && !k->reflector.error_status && !k->reflector.in_past)
        return; /* by us, who know what follows */
    ask_later(k);
    osm__kube_changed(k->source);
}

/* --- asking --- */

static void ask(void *ud)
{
    struct osm__kube_kind *k = ud;
    struct osm_buf path = OSM_BUF_INIT(16 * 1024);
    struct osm_err err = {0};
    if (k->call)
        return;
    bool is_list = k->reflector.step == OSM_REFLECT_LIST;
    const struct osm_kube_stream_callbacks callbacks = {k, on_object, on_bad};
    (void)osm_buf_add_strs(&path, k->path, "?", NULL);
    int rc = osm_reflector_ask(&k->reflector, osm_now_ms(), &path);
    osm_kube_stream_init(&k->stream, is_list ? OSM_KUBE_LIST : OSM_KUBE_WATCH, &callbacks);
    k->stream_open = true;
    k->stream_err = (struct osm_err){0};
    const char *accept = k->use != OSM__KUBE_CRDS ? NULL
                         : is_list                ? osm__kube_metadata_list
                                                  : osm__kube_metadata_watch;
    const struct osm_kube_request request = {.verb = is_list ? "list" : "watch",
                                             .resource = k->plural,
                                             .path = path.data,
                                             .accept = accept,
                                             .idle_ms = is_list ? OSM__KUBE_DEADLINE_MS
                                                                : k->source->silence_ms,
                                             .ud = k,
                                             .head = on_head,
                                             .data = on_data,
                                             .done = on_done};
    if (!rc)
        rc = osm_kube_start(&k->call, k->source->api, &request, &err);
    osm_buf_clear(&path);
    if (rc) {
        const struct osm_kube_result result = {
            .rc = rc, .reason = "", .message = err.msg, .retry_after_s = -1};
        ended(k, &result);
        ask_later(k);
        osm__kube_changed(k->source);
    }
}

static void ask_later(struct osm__kube_kind *k)
{
    if (k->running && !k->source->stopping)
        osm_timer_start(k->timer, osm_reflector_wait(&k->reflector, osm_now_ms()), 0);
}

void osm__kind_hurry(struct osm__kube_kind *k)
{
    if (k->running && !k->call) {
        osm_reflector_hurry(&k->reflector);
        ask_later(k);
    }
}

void osm__kind_list_anew(struct osm__kube_kind *k)
{
    if (!k->running)
        return;
    osm_kube_cancel(k->call);
    osm_reflector_list_anew(&k->reflector);
    osm__kind_hurry(k);
}

/* --- life --- */

static void set_path(struct osm__kube_kind *k, char *version, char *plural, char *path)
{
    osm_free(k->version);
    osm_free(k->plural);
    osm_free(k->path);
    k->version = version;
    k->plural = plural;
    k->path = path;
}

int osm__kind_run(struct osm__kube_kind *k, const struct osm_kube_resource *resource)
{
    char *path = osm_kube_path(resource), *version = osm_strdup(resource->version);
    char *plural = osm_strdup(resource->plural), name[160];
    if (!path || !version || !plural) {
        osm_free(path);
        osm_free(version);
        osm_free(plural);
        return OSM_ENOMEM;
    }
    k->absences = 0;
    osm_free(osm_take_ptr(&k->served_others));
    k->reflector.can_stream = k->source->look.can_stream && !k->no_stream;
    if (k->running && !strcmp(path, k->path)) {
        osm_free(path);
        osm_free(version);
        osm_free(plural);
        return 0;
    }
    osm__kind_name(k, name, sizeof name);
    osm_log(OSM_LOG_SOURCE, OSM_LOG_INFO, "kind is watched", OSM_S("kind", name),
            OSM_S("version", version));
    osm_kube_cancel(k->call);
    set_path(k, version, plural, path);
    /* Objects of another version stay until they have been listed in this one. */
    k->reflector.step = k->reflector.can_stream ? OSM_REFLECT_STREAM : OSM_REFLECT_LIST;
    k->reflector.listing = false;
    osm_free(osm_take_ptr(&k->reflector.continue_token));
    osm_reflector_hurry(&k->reflector);
    k->running = true;
    ask_later(k);
    return 0;
}

static void drop_probe(struct osm__kube_kind *k)
{
    if (k->probe_again)
        osm_timer_stop(k->probe_again);
    osm_kube_cancel(k->probe);
    osm_free(osm_take_ptr(&k->probe_token));
    osm_reflector_expect_nothing(&k->reflector);
}

void osm__kind_stop(struct osm__kube_kind *k)
{
    struct osm_reflector_callbacks callbacks = k->reflector.callbacks;
    char name[160];
    osm__kind_name(k, name, sizeof name);
    osm_log(OSM_LOG_SOURCE, OSM_LOG_WARN, "the API server has this kind no longer",
            OSM_S("kind", name), OSM_U("objects", k->reflector.known.count));
    k->running = false;
    k->absences = 0;
    osm_timer_stop(k->timer);
    drop_probe(k);
    osm_kube_cancel(k->call);
    osm_reflector_clear(&k->reflector);
    osm_reflector_init(&k->reflector, &osm_reflector_defaults, &callbacks);
}

bool osm__kind_settled(const struct osm__kube_kind *k)
{
    return k->looked && (!k->running || osm_reflector_settled(&k->reflector));
}

bool osm__kind_failing(const struct osm__kube_kind *k)
{
    return k->running && k->reflector.failing_since_ms && !k->reflector.denied;
}

static void free_versions(char **versions)
{
    for (char **version = versions; version && *version; version++)
        osm_free(*version);
    osm_free(versions);
}

int osm__kind_set_versions(struct osm__kube_kind *k, const char *const *versions)
{
    size_t n = 0;
    while (versions[n])
        n++;
    char **copy = osm_alloc_array(n + 1, sizeof *copy);
    bool ok = copy != NULL;
    for (size_t i = 0; ok && i < n; i++)
        ok = (copy[i] = osm_strdup(versions[i])) != NULL;
    if (!ok) {
        free_versions(copy);
        return OSM_ENOMEM;
    }
    free_versions(k->versions);
    k->versions = copy;
    return 0;
}

struct osm__kube_kind *osm__kind_new(struct kube *source, const char *group, const char *kind,
                                     const char *const *versions)
{
    struct osm__kube_kind *k = osm_alloc(sizeof *k);
    if (!k)
        return NULL;
    k->source = source;
    k->born = source->look.began;
    k->group = osm_strdup(group);
    k->kind = osm_strdup(kind);
    k->timer = osm_timer_new(source->loop, ask, k);
    k->probe_again = osm_timer_new(source->loop, osm__barrier_probe_again, k);
    bool ok =
        k->group && k->kind && k->timer && k->probe_again && !osm__kind_set_versions(k, versions);
    const struct osm_reflector_callbacks callbacks = {k, on_put, on_gone, any_number};
    osm_reflector_init(&k->reflector, &osm_reflector_defaults, &callbacks);
    if (ok)
        return k;
    osm__kind_free(k);
    return NULL;
}

void osm__kind_free(struct osm__kube_kind *k)
{
    if (!k)
        return;
    k->running = false;
    drop_probe(k);
    osm_kube_cancel(k->call);
    osm_timer_free(k->timer);
    osm_timer_free(k->probe_again);
    osm_reflector_clear(&k->reflector);
    osm_map_each (&k->refused, e)
        osm_free(e->value);
    osm_map_clear(&k->refused);
    free_versions(k->versions);
    osm_free(k->group);
    osm_free(k->kind);
    osm_free(k->served_others);
    set_path(k, NULL, NULL, NULL);
    osm_free(k);
}
