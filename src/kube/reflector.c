#include "kube/reflector_priv.h"

#include "base/utf8.h"

#include <stdio.h>
#include <string.h>

enum { SHORT_WATCHES = 2 }; /* in a row that are no failure: a server may end all it has */

const struct osm_reflector_limits osm_reflector_defaults = {
    .backoff_ms = 250,
    .backoff_max_ms = 30 * 1000,
    .denied_ms = 15 * 1000,
    .retry_after_max_ms = 300 * 1000,
    .too_short_ms = 1000,
    .page = 500,
    .watch_s = 300,
};

uint64_t osm_kube_version(const char *text)
{
    uint64_t n = 0;
    for (const char *c = text; *c; c++) {
        if (*c < '0' || *c > '9' || n > (UINT64_MAX - 9) / 10)
            return 0;
        n = n * 10 + (uint64_t)(*c - '0');
    }
    return n;
}

static const char *metadata_text(const json_t *object, const char *member)
{
    const char *text =
        json_string_value(json_object_get(json_object_get(object, "metadata"), member));
    return text ? text : "";
}

bool osm_kube_id(const json_t *object, char out[OSM_KUBE_ID_SIZE])
{
    const char *ns = metadata_text(object, "namespace"), *name = metadata_text(object, "name");
    int n = snprintf(out, OSM_KUBE_ID_SIZE, "%s%s%s", ns, *ns ? "/" : "", name);
    return *name && n > 0 && n < OSM_KUBE_ID_SIZE;
}

void osm_reflector_init(struct osm_reflector *r, const struct osm_reflector_limits *limits,
                        const struct osm_reflector_callbacks *callbacks)
{
    *r = (struct osm_reflector){.callbacks = *callbacks, .limits = limits};
}

static void forget(struct osm_reflector *r, struct osm_map_entry *e, uint64_t version)
{
    struct osm_reflector_known *known = e->value;
    osm__expect_gone(r, e->key, version);
    r->callbacks.gone(r->callbacks.ud, e->key, known->data);
    (void)osm_map_deln(&r->known, e->key, e->key_len);
    osm_free(known);
}

void osm_reflector_clear(struct osm_reflector *r)
{
    osm_reflector_expect_nothing(r);
    osm_map_each (&r->known, e)
        forget(r, e, 0);
    osm_map_clear(&r->known);
    osm_free(osm_take_ptr(&r->continue_token));
}

/* --- asking --- */

uint64_t osm_reflector_wait(const struct osm_reflector *r, uint64_t now_ms)
{
    return r->not_before_ms > now_ms ? r->not_before_ms - now_ms : 0;
}

void osm_reflector_hurry(struct osm_reflector *r)
{
    r->not_before_ms = 0;
}

static void add_escaped(struct osm_buf *out, const char *text)
{
    static const char plain[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";
    for (const char *c = text; *c; c++) {
        if (strchr(plain, *c))
            (void)osm_buf_add_char(out, *c);
        else
            (void)osm_buf_addf(out, "%%%02X", (unsigned char)*c);
    }
}

int osm_reflector_ask(struct osm_reflector *r, uint64_t now_ms, struct osm_buf *query)
{
    unsigned watch_s = r->limits->watch_s;
    r->asked_ms = now_ms;
    r->established = r->in_past = false;
    r->events = 0;
    r->error_status = 0;
    r->error_retry_s = -1;
    r->error_reason[0] = r->error_message[0] = '\0';
    if (r->step != OSM_REFLECT_LIST)
        watch_s += r->callbacks.random(r->callbacks.ud) % watch_s;
    if (r->step == OSM_REFLECT_WATCH) {
        r->watches++;
        (void)osm_buf_addf(
            query, "watch=1&allowWatchBookmarks=true&timeoutSeconds=%u&resourceVersion=", watch_s);
        add_escaped(query, r->resource_version);
        return query->failed;
    }
    if (!r->continue_token) { /* from its beginning */
        r->epoch++;
        r->listing = true;
        r->bad[0] = '\0';
        r->lists++;
    }
    if (r->step == OSM_REFLECT_STREAM)
        return osm_buf_addf(query,
                            "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&"
                            "allowWatchBookmarks=true&timeoutSeconds=%u",
                            watch_s);
    (void)osm_buf_addf(query, "limit=%u", r->limits->page);
    if (r->continue_token) {
        (void)osm_buf_add_str(query, "&continue=");
        add_escaped(query, r->continue_token);
    }
    return query->failed;
}

static void recovered(struct osm_reflector *r)
{
    r->failing_since_ms = 0;
    r->failure[0] = '\0';
    r->denied = r->missing = r->busy = false;
}

void osm_reflector_established(struct osm_reflector *r)
{
    r->established = true;
    if (r->step == OSM_REFLECT_WATCH)
        recovered(r);
}

/* --- what arrives --- */

static int put(struct osm_reflector *r, const char *id, json_t *object)
{
    uint64_t version = osm_kube_version(metadata_text(object, "resourceVersion"));
    struct osm_reflector_known *known = osm_map_get(&r->known, id);
    bool is_new = !known;
    if (is_new) {
        known = osm_alloc(sizeof *known);
        if (!known || osm_map_put(&r->known, id, known, NULL)) {
            osm_free(known);
            json_decref(object);
            return OSM_ENOMEM;
        }
    }
    int rc = r->callbacks.put(r->callbacks.ud, id, object, &known->data);
    if (rc) {
        if (is_new) {
            (void)osm_map_del(&r->known, id);
            osm_free(known);
        }
        return rc;
    }
    known->version = version;
    known->epoch = r->epoch;
    osm__expect_put(r, id, version);
    return 0;
}

static int keep_version(struct osm_reflector *r, const char *version)
{
    if (!*version || strlen(version) >= sizeof r->resource_version)
        return OSM_EMISMATCH;
    memcpy(r->resource_version, version, strlen(version) + 1);
    return 0;
}

/* All that there is has been told: what was not told is gone. */
static int listed(struct osm_reflector *r, const char *version)
{
    int rc = keep_version(r, version);
    if (rc)
        return rc;
    uint64_t number = osm_kube_version(version);
    osm_map_each (&r->known, e) {
        const struct osm_reflector_known *known = e->value;
        if (known->epoch != r->epoch)
            forget(r, e, number);
    }
    osm_free(osm_take_ptr(&r->continue_token));
    r->listing = false;
    r->synced = true;
    r->failures = 0;
    r->step = OSM_REFLECT_WATCH;
    recovered(r);
    osm__expect_listed(r);
    osm__expect_reached(r, number);
    return 0;
}

/* A Status object, as an event. */
static int error_event(struct osm_reflector *r, const json_t *status)
{
    const char *reason = json_string_value(json_object_get(status, "reason"));
    const char *message = json_string_value(json_object_get(status, "message"));
    const json_t *retry = json_object_get(json_object_get(status, "details"), "retryAfterSeconds");
    json_int_t code = json_integer_value(json_object_get(status, "code"));
    r->error_status = code >= 100 && code <= 599 ? (int)code : 500;
    r->error_retry_s = json_is_integer(retry) ? json_integer_value(retry) : -1;
    (void)snprintf(r->error_reason, sizeof r->error_reason, "%s", reason ? reason : "");
    (void)snprintf(r->error_message, sizeof r->error_message, "%s",
                   message ? message : "the watch has failed");
    (void)osm_utf8_repair(r->error_message);
    return OSM_ECANCELED;
}

static bool ends_initial_events(const json_t *object)
{
    const json_t *annotations = json_object_get(json_object_get(object, "metadata"), "annotations");
    const char *end = json_string_value(json_object_get(annotations, "k8s.io/initial-events-end"));
    return end && !strcmp(end, "true");
}

/* The server may have been set back to a copy of its past. What it has said since is then no
 * continuation of what we know. */
static bool is_past(const struct osm_reflector *r, const char *version)
{
    uint64_t now = osm_kube_version(version), before = osm_kube_version(r->resource_version);
    return now && before && now < before;
}

static int event(struct osm_reflector *r, const char *type, json_t *object)
{
    char id[OSM_KUBE_ID_SIZE], version[sizeof r->resource_version];
    int length = snprintf(version, sizeof version, "%s", metadata_text(object, "resourceVersion"));
    bool is_bookmark = !strcmp(type, "BOOKMARK"), is_deleted = !strcmp(type, "DELETED");
    bool is_put = !strcmp(type, "ADDED") || !strcmp(type, "MODIFIED");
    int rc = 0;
    if (length <= 0 || length >= (int)sizeof version || !(is_bookmark || is_deleted || is_put) ||
        (!is_bookmark && !osm_kube_id(object, id)))
        rc = OSM_EMISMATCH;
    else if (!r->listing && is_past(r, version)) {
        r->in_past = true;
        rc = OSM_ECANCELED;
    }
    if (!rc && is_put) {
        rc = put(r, id, json_incref(object));
    } else if (!rc && is_deleted) {
        struct osm_reflector_known *known = osm_map_get(&r->known, id);
        if (known) {
            r->callbacks.gone(r->callbacks.ud, id, known->data);
            (void)osm_map_del(&r->known, id);
            osm_free(known);
        }
        osm__expect_gone(r, id, osm_kube_version(version));
    } else if (!rc && r->listing && ends_initial_events(object)) {
        rc = listed(r, version);
    }
    json_decref(object);
    if (rc || r->listing) /* until the end of the list no version covers all */
        return rc;
    r->events++;
    r->failures = r->restarts = 0;
    osm__expect_reached(r, osm_kube_version(version));
    return keep_version(r, version);
}

int osm_reflector_object(struct osm_reflector *r, const char *type, json_t *object)
{
    char id[OSM_KUBE_ID_SIZE];
    int rc;
    if (type && strcmp(type, "ERROR") != 0)
        return event(r, type, object);
    if (type) {
        rc = error_event(r, object);
    } else if (!osm_kube_id(object, id)) {
        rc = OSM_EMISMATCH;
    } else {
        return put(r, id, object);
    }
    json_decref(object);
    return rc;
}

int osm_reflector_bad(struct osm_reflector *r, const char *name, const char *reason)
{
    r->objects_bad++;
    (void)snprintf(r->bad, sizeof r->bad, "%.120s%s%.180s", name, *name ? ": " : "", reason);
    (void)osm_utf8_repair(r->bad);
    return r->listing ? 0 : OSM_EMISMATCH;
}

/* --- the end of a response --- */

static uint64_t backoff(struct osm_reflector *r, unsigned n)
{
    uint64_t span_ms = r->limits->backoff_ms;
    while (n-- > 1 && span_ms < r->limits->backoff_max_ms)
        span_ms *= 2;
    if (span_ms > r->limits->backoff_max_ms)
        span_ms = r->limits->backoff_max_ms;
    return span_ms / 2 + r->callbacks.random(r->callbacks.ud) % (span_ms / 2 + 1);
}

/* It is only the time to wait: what is known is as new as it can be. */
static void wait_longer(struct osm_reflector *r, uint64_t now_ms)
{
    r->not_before_ms = now_ms + backoff(r, ++r->failures);
}

static void fail(struct osm_reflector *r, uint64_t now_ms, const char *text, int64_t retry_after_s)
{
    uint64_t wait_ms = backoff(r, ++r->failures), asked_ms = 0;
    if (retry_after_s > 0)
        asked_ms = (uint64_t)retry_after_s > r->limits->retry_after_max_ms / 1000
                       ? r->limits->retry_after_max_ms
                       : (uint64_t)retry_after_s * 1000;
    if (r->denied && wait_ms < r->limits->denied_ms)
        wait_ms = r->limits->denied_ms;
    if (wait_ms < asked_ms)
        wait_ms = asked_ms + wait_ms % 250; /* not all clients at once */
    r->not_before_ms = now_ms + wait_ms;
    if (!r->failing_since_ms)
        r->failing_since_ms = now_ms ? now_ms : 1;
    (void)snprintf(r->failure, sizeof r->failure, "%s", text);
    (void)osm_utf8_repair(r->failure);
}

void osm_reflector_list_anew(struct osm_reflector *r)
{
    osm_free(osm_take_ptr(&r->continue_token));
    r->listing = false;
    r->step = r->can_stream ? OSM_REFLECT_STREAM : OSM_REFLECT_LIST;
}

/* What we know ends too far back for the server. The first time that is nobody's fault. */
static void restart(struct osm_reflector *r, uint64_t now_ms, const char *text)
{
    osm_reflector_list_anew(r);
    if (r->restarts++)
        fail(r, now_ms, text, -1);
    else
        r->not_before_ms = 0;
}

static void watch_ended(struct osm_reflector *r, uint64_t now_ms)
{
    r->not_before_ms = 0;
    bool too_short = !r->events && now_ms - r->asked_ms < r->limits->too_short_ms;
    if (too_short && r->failures < SHORT_WATCHES)
        wait_longer(r, now_ms);
    else if (too_short)
        fail(r, now_ms, "the watch ends as soon as it has begun", -1);
    else
        r->failures = r->restarts = 0;
}

static void page_ended(struct osm_reflector *r, const struct osm_reflector_end *end,
                       uint64_t now_ms)
{
    r->not_before_ms = 0;
    if (end->continue_token) {
        char *token = osm_strdup(end->continue_token);
        if (!token) {
            fail(r, now_ms, osm_code_text(OSM_ENOMEM), -1);
            return;
        }
        osm_free(r->continue_token);
        r->continue_token = token;
        r->failures = 0;
    } else if (listed(r, end->resource_version ? end->resource_version : "")) {
        fail(r, now_ms, "the list has no resourceVersion", -1);
    }
}

/* Whether the server has refused the form of the question, not the question. */
static bool is_refused_form(int status)
{
    return status == 400 || status == 405 || status == 406 || status == 422 || status == 501;
}

static void describe(char *out, size_t size, const struct osm_reflector_end *end, int status,
                     const char *message)
{
    if (status && status != 200)
        (void)snprintf(out, size, "HTTP %d%s%.240s", status, *message ? ": " : "", message);
    else
        (void)snprintf(out, size, "%.280s", *message ? message : osm_code_text(end->rc));
}

void osm_reflector_ended(struct osm_reflector *r, const struct osm_reflector_end *end,
                         uint64_t now_ms)
{
    bool by_event = r->error_status != 0;
    int status = by_event ? r->error_status : end->status;
    const char *reason = by_event ? r->error_reason : end->reason;
    const char *message = by_event ? r->error_message : end->message;
    int64_t retry_s = by_event ? r->error_retry_s : end->retry_after_s;
    bool was_stream = r->step == OSM_REFLECT_STREAM;
    char text[sizeof r->failure];
    describe(text, sizeof text, end, status, message ? message : "");
    if (!by_event && r->in_past) {
        restart(r, now_ms, "the server has gone back in time");
    } else if (!by_event && end->rc == OSM_ECANCELED) {
        if (r->step == OSM_REFLECT_STREAM)
            osm_reflector_list_anew(r);
    } else if (status == 410 ||
               (reason && (!strcmp(reason, "Expired") || !strcmp(reason, "Gone")))) {
        restart(r, now_ms, text);
    } else if (end->rc == OSM_EMISMATCH && !by_event) { /* of whom it told is not known */
        osm_reflector_list_anew(r);
        fail(r, now_ms, *r->bad ? r->bad : "an event that is none", -1);
    } else if (r->established && r->step == OSM_REFLECT_WATCH && !by_event && !r->failures &&
               (end->rc == OSM_EIO || end->rc == OSM_ETIMEDOUT)) {
        wait_longer(r,
                    now_ms); /* a connection that breaks; whether the server is away shows next */
    } else if (status == 200 && !end->rc && !was_stream) {
        if (r->step == OSM_REFLECT_LIST)
            page_ended(r, end, now_ms);
        else
            watch_ended(r, now_ms);
    } else if (was_stream && (is_refused_form(status) || r->established)) {
        r->can_stream = false; /* it says no, or does not come to an end */
        osm_reflector_list_anew(r);
        r->not_before_ms = 0;
    } else {
        r->denied = status == 403;
        r->busy = status == 429;
        r->missing = status == 404;
        fail(r, now_ms, text, retry_s);
        if (r->missing && !r->continue_token && r->step == OSM_REFLECT_WATCH)
            osm_reflector_list_anew(r);
    }
}

bool osm_reflector_settled(const struct osm_reflector *r)
{
    return r->synced || r->denied;
}
