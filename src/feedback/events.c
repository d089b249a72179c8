/* An Event for each object that the policies refuse: core/v1, which `kubectl describe` and `kubectl
 * get events` show, and which, unlike those of events.k8s.io, may be told anew: there is one for
 * each object, it says how the object is now, and counts how often that has changed.
 *
 * Who begins to lead asks for the Events of the one before, so that none goes on saying what is no
 * longer so, and none is written again that says so already. */
#include "feedback/feedback_priv.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "base/metrics.h"
#include "kube/credentials.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

enum {
    PAGE = 500,
    PAGES_MAX = 40,
    PAGE_BYTES_MAX = 8 << 20,
    ADOPT_DEADLINE_MS = 20 * 1000,
    ADOPT_RETRY_MS = 5 * 1000,
    ADOPT_TRIES = 3,
};

static const struct osm_outbox_limits limits = {.keys_max = OSM__ABOUT_MAX,
                                                .burst = 50,
                                                .per_s = 5,
                                                .backoff_ms = 1000,
                                                .backoff_max_ms = 5 * 60 * 1000,
                                                .rest_ms = 1000,
                                                .rest_max_ms = 60 * 1000,
                                                .denied_ms = 30 * 1000,
                                                .denials = 3};

/* --- the object --- */

static void time_text(int64_t wall_s, char out[32])
{
    time_t at = (time_t)wall_s;
    struct tm tm;
    out[0] = '\0';
    if (gmtime_r(&at, &tm))
        (void)strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &tm);
}

bool osm__event_write(const struct osm_feedback *f, const struct osm__event *event,
                      struct osm_write *out)
{
    char first[32], last[32];
    time_text(event->first_s, first);
    time_text(event->last_s, last);
    out->content_type = "application/apply-patch+yaml";
    out->path = osm_strf("/api/v1/namespaces/%s/events/%s?fieldManager=osm-controller&force=true",
                         event->ns, event->name);
    out->body = json_pack(
        "{s:s, s:s, s:{s:s, s:s, s:{s:s, s:s}}, s:o, s:s, s:s, s:s, s:s, s:s, s:I, s:{s:s}, s:s, "
        "s:s}",
        "apiVersion", "v1", "kind", "Event", "metadata", "name", event->name, "namespace",
        event->ns, "labels", "app.kubernetes.io/name", "openservicemesh.io",
        "app.kubernetes.io/instance", f->config.mesh_name, "involvedObject", event->about, "reason",
        event->reason, "type", event->type, "message", event->text, "firstTimestamp", first,
        "lastTimestamp", last, "count", event->count, "source", "component", "osm-controller",
        "reportingComponent", "osm-controller", "reportingInstance", f->instance);
    return out->path && out->body;
}

void osm__feedback_count(const char *what, enum osm_outbox_outcome outcome)
{
    static const char *const words[] = {"done", "gone", "later", "denied", "busy"};
    osm_metric_add(OSM_METRIC_KUBE_WRITES, OSM_LABELS(what, words[outcome]), 1);
}

/* The parts of an object's key, "group/kind/namespace/name". */
struct parts {
    char group[256], kind[256], ns[256], name[256];
};

static bool split(const char *key, struct parts *out)
{
    char *const at[] = {out->group, out->kind, out->ns, out->name};
    for (size_t i = 0; i < 4; i++) {
        size_t n = i < 3 ? strcspn(key, "/") : strlen(key);
        if (n >= sizeof out->name || (i < 3 && !key[n]))
            return false;
        memcpy(at[i], key, n);
        at[i][n] = '\0';
        key += n + (i < 3);
    }
    return true;
}

/* Of one object, whatever it says: "shop.3f9c...". */
static void name_of(const struct osm_feedback *f, const char *key, const char *object,
                    const char *uid, char *out, size_t size)
{
    char hex[OSM_HASH_HEX_SIZE];
    char *identity = osm_strf("%s\n%s\n%s", f->config.mesh_name, key, uid);
    struct osm_hash hash =
        osm_hash_bytes(identity ? identity : "", identity ? strlen(identity) : 0);
    (void)snprintf(out, size, "%.200s.%.16s", object, osm_hash_hex(hash, hex));
    osm_free(identity);
}

/* What an Event is about; it may be in the mesh no longer. NULL: no memory. */
static json_t *involved(const struct parts *parts, const struct osm__about *about,
                        const struct osm_object *object)
{
    json_t *out = json_pack(
        "{s:s, s:s, s:s, s:s*, s:s*}", "kind", parts->kind, "name", parts->name, "uid", about->uid,
        "namespace", *parts->ns ? parts->ns : NULL, "resourceVersion",
        object ? osm_json_str_at(object->body, "metadata", "resourceVersion", NULL) : NULL);
    char *version = *parts->group ? osm_strf("%s/%s", parts->group, about->version)
                                  : osm_strdup(about->version);
    if (out && (!version || json_object_set_new(out, "apiVersion", json_string(version)))) {
        json_decref(out);
        out = NULL;
    }
    osm_free(version);
    return out;
}

static bool make(void *ud, const char *key, struct osm_write *out)
{
    struct osm_feedback *f = ud;
    struct osm__about *about = osm_map_get(&f->abouts, key);
    const struct osm_object *object = osm_store_get(f->config.store, key);
    const char *uid = object ? osm_json_str_at(object->body, "metadata", "uid", NULL) : NULL;
    struct parts parts;
    char name[256];
    bool is_there = about && uid && !strcmp(uid, about->uid);
    if (!about || (about->text && !is_there) || !split(key, &parts))
        return false;
    name_of(f, key, parts.name, about->uid, name, sizeof name);
    const char *fine = is_there ? "is not refused any more" : "is not in the mesh any more";
    int64_t now_s = osm_wall_s();
    struct osm__event event = {.ns = *parts.ns ? parts.ns : "default",
                               .name = name,
                               .about = involved(&parts, about, is_there ? object : NULL),
                               .reason = about->text ? "Rejected" : "Accepted",
                               .type = about->text ? "Warning" : "Normal",
                               .text = about->text ? about->text : fine,
                               .count = about->count + 1,
                               .first_s = about->first_s ? about->first_s : now_s,
                               .last_s = now_s};
    about->is_due = false;
    return event.about && osm__event_write(f, &event, out);
}

static void done(void *ud, const char *key, enum osm_outbox_outcome outcome)
{
    struct osm_feedback *f = ud;
    struct osm__about *about = osm_map_get(&f->abouts, key);
    osm__feedback_count("event", outcome);
    if (!about || (outcome != OSM_OUTBOX_DONE && outcome != OSM_OUTBOX_GONE))
        return;
    if (outcome == OSM_OUTBOX_DONE) {
        about->sent = true;
        about->count++;
        about->first_s = about->first_s ? about->first_s : osm_wall_s();
        about->told_ms = osm_now_ms();
    }
    if (about->text || about->is_due)
        return;
    (void)osm_map_del(&f->abouts, key); /* that it is well again has been told, or cannot be */
    osm__about_free(about);
}

void osm__events_put(struct osm_feedback *f, const char *key, struct osm__about *about)
{
    about->is_due = true;
    osm_writer_put(f->events, key);
}

bool osm__events_drop(struct osm_feedback *f, const char *key)
{
    return osm_writer_drop(f->events, key);
}

/* --- those of the one before --- */

static void adopted(struct osm_feedback *f)
{
    f->adopted = true;
    osm_free(osm_take_ptr(&f->adopt_token));
    osm__feedback_look(f);
    osm_writer_wake(f->events);
}

static void take(struct osm_feedback *f, const json_t *event)
{
    const json_t *object = json_object_get(event, "involvedObject");
    const char *api = osm_json_text(object, "apiVersion"), *slash = strchr(api, '/');
    const char *text = osm_json_text(event, "message");
    char *key = osm_strf("%.*s/%s/%s/%s", slash ? (int)(slash - api) : 0, api,
                         osm_json_text(object, "kind"), osm_json_text(object, "namespace"),
                         osm_json_text(object, "name"));
    const char *uid = osm_json_text(object, "uid");
    struct osm__about *about =
        key && *uid && strlen(text) <= OSM__TEXT_MAX ? osm__about_get(f, key, uid) : NULL;
    osm_free(key);
    if (!about)
        return;
    osm_free(about->text);
    about->text = osm_strdup(text);
    (void)snprintf(about->version, sizeof about->version, "%s", slash ? slash + 1 : api);
    about->sent = true;
    json_int_t count = json_integer_value(json_object_get(event, "count"));
    about->count = count > 0 && count < INT32_MAX ? count : 0; /* else ours would be refused */
    about->first_s = osm_kube_time(osm_json_text(event, "firstTimestamp"));
    about->first_s = about->first_s > 0 ? about->first_s : osm_wall_s();
    about->told_ms = osm_now_ms();
}

static void take_page(struct osm_feedback *f, const struct osm_kube_result *result)
{
    json_t *list =
        result->body->data ? json_loadb(result->body->data, result->body->len, 0, NULL) : NULL;
    size_t i;
    const json_t *event;
    json_array_foreach (json_object_get(list, "items"), i, event)
        take(f, event);
    osm_free(f->adopt_token);
    const char *token = osm_json_text(json_object_get(list, "metadata"), "continue");
    f->adopt_token = *token ? osm_strdup(token) : NULL;
    json_decref(list);
}

static void on_page(void *ud, const struct osm_kube_result *result)
{
    struct osm_feedback *f = ud;
    f->adopting = NULL;
    if (result->rc == OSM_ECANCELED)
        return;
    bool is_success = !result->rc && result->status == 200;
    if (is_success)
        take_page(f, result);
    else
        osm_log(OSM_LOG_SOURCE, OSM_LOG_WARN,
                "Events of the replica that led before are not known; they may be written again",
                OSM_I("status", result->status), OSM_S("error", result->message));
    f->adopt_pages++;
    bool again = is_success
                     ? f->adopt_token && f->adopt_pages < PAGES_MAX
                     : osm_outbox_outcome_of(result->status, result->message) == OSM_OUTBOX_BUSY &&
                           f->adopt_pages < ADOPT_TRIES;
    if (again)
        osm_timer_start(f->adopt_retry, is_success ? 0 : ADOPT_RETRY_MS, 0);
    else
        adopted(f);
}

/* A token is the server's, and holds what a query must not. */
static void add_escaped(struct osm_buf *out, const char *text)
{
    for (const char *p = text; *p; p++) {
        bool is_plain = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') ||
                        (*p >= '0' && *p <= '9') || *p == '-' || *p == '_';
        if (is_plain)
            (void)osm_buf_add_char(out, *p);
        else
            (void)osm_buf_addf(out, "%%%02X", (unsigned char)*p);
    }
}

static void ask_page(void *ud)
{
    struct osm_feedback *f = ud;
    struct osm_err err = {0};
    struct osm_buf path = OSM_BUF_INIT(16 * 1024);
    if (f->adopting || !f->leads)
        return;
    (void)osm_buf_addf(&path,
                       "/api/v1/events?limit=%d&fieldSelector=reason%%3DRejected&labelSelector="
                       "app.kubernetes.io%%2Fname%%3Dopenservicemesh.io%%2C"
                       "app.kubernetes.io%%2Finstance%%3D%s",
                       PAGE, f->config.mesh_name);
    if (f->adopt_token) {
        (void)osm_buf_add_str(&path, "&continue=");
        add_escaped(&path, f->adopt_token);
    }
    const struct osm_kube_request request = {.verb = "list",
                                             .resource = "events",
                                             .path = path.data,
                                             .deadline_ms = ADOPT_DEADLINE_MS,
                                             .body_max = PAGE_BYTES_MAX,
                                             .ud = f,
                                             .done = on_page};
    int rc = path.failed ? path.failed : osm_kube_start(&f->adopting, f->kube, &request, &err);
    osm_buf_clear(&path);
    if (rc)
        adopted(f);
}

void osm__events_adopt(struct osm_feedback *f)
{
    f->adopted = false;
    f->adopt_pages = 0;
    osm_free(osm_take_ptr(&f->adopt_token));
    osm_timer_start(f->adopt_retry, 0, 0);
}

void osm__events_stop_adopting(struct osm_feedback *f)
{
    f->adopted = false;
    osm_timer_stop(f->adopt_retry);
    osm_kube_cancel(f->adopting);
}

/* --- life --- */

static bool may(void *ud)
{
    const struct osm_feedback *f = ud;
    return f->adopted && !f->stopping && f->leads && osm_elector_leads(f->elector);
}

int osm__events_init(struct osm_feedback *f, struct osm_err *err)
{
    const struct osm_writer_config config = {.loop = f->config.loop,
                                             .kube = f->kube,
                                             .limits = &limits,
                                             .resource = "events",
                                             .what = "Events about objects",
                                             .ud = f,
                                             .may = may,
                                             .make = make,
                                             .done = done};
    f->adopt_retry = osm_timer_new(f->config.loop, ask_page, f);
    return f->adopt_retry ? osm_writer_new(&f->events, &config, err)
                          : osm_fail(err, OSM_ENOMEM, "feedback");
}

void osm__events_clear(struct osm_feedback *f)
{
    osm__events_stop_adopting(f);
    osm_timer_free(f->adopt_retry);
    osm_free(f->adopt_token);
    osm_writer_free(f->events);
}
