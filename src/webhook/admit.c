/* One pod: from its AdmissionReview to the patch.
 *
 *   review --(SLOTS are taken)--> waits, unread
 *     '--> read --> Namespace, MeshConfig --> signed --> Secret --> answered
 *                    '--(429, 503, no answer)----------'--> later, while the asker waits
 *
 * A Deployment of hundreds of pods asks about them at once. What is begun is little, so that the
 * API server takes what that asks of it, and memory has an end whoever asks. What cannot be done in
 * time is answered as a failure of the moment, which controllers try again. */
#include "webhook/webhook_priv.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "base/metrics.h"
#include "kube/ask.h"
#include "model/names.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>

#define MESH_CONFIG "osm-mesh-config"

enum {
    SLOTS = 32,
    RETRY_MS = 100,
    RETRY_MAX_MS = 2000,
    MARGIN_MS = 1000, /* that an answer comes before its asker has gone */
    /* Nothing renews it while the pod lives; cut to the root's end. */
    PROXY_VALIDITY_S = 87600 * 3600,
};

static const char JSON[] = "application/json";

struct osm__admission_call {
    struct osm__admission_call *next, **prev; /* of the running ones; of those that wait: next */
    struct osm_webhook *w;
    struct osm_http_request *request;
    uint64_t until_ms;
    struct osm_timer *limit, *retry;
    void (*again)(struct osm__admission_call *call); /* what is tried later */
    unsigned failures;                               /* in a row */
    struct osm_admission admission;
    json_t *ns, *mesh_config; /* what they say; NULL: there is none */
    struct osm_kube_call *reading[2], *writing;
    int awaited;                       /* of the two that are read */
    bool is_refused;                   /* one of them may not be */
    bool failed_now;                   /* one of them could not be, at present */
    int64_t retry_after_s;             /* the longest that was asked for; -1 none */
    char problem[OSM__WEBHOOK_REASON]; /* what is tried again, for when there is no time left */
    bool signing, ended;               /* ended: answered; what is being signed is still awaited */
    const struct osm_ca *ca;
    char *common_name; /* of the sidecar's certificate */
    struct osm_leaf *leaf;
    json_t *secret;
    struct osm_err err;
};

static void call_free(struct osm__admission_call *call)
{
    osm_ca_unref((struct osm_ca *)(uintptr_t)call->ca);
    osm_free(call->common_name);
    osm_leaf_unref(call->leaf);
    osm_webhook_wipe_secret(call->secret);
    json_decref(call->secret);
    json_decref(call->ns);
    json_decref(call->mesh_config);
    osm_admission_clear(&call->admission);
    osm_timer_free(call->limit);
    osm_timer_free(call->retry);
    osm_free(call);
}

static void unlink_call(struct osm__admission_call *call)
{
    *call->prev = call->next;
    if (call->next)
        call->next->prev = call->prev;
}

/* --- the answer --- */

static void count(struct osm_webhook *w, const struct osm_admission *a)
{
    bool denied = a->outcome == OSM_ADMISSION_DENY;
    char code[16];
    if (denied && osm_admission_code(a)) {
        (void)snprintf(code, sizeof code, "E%d", osm_admission_code(a));
        osm_metric_add(OSM_METRIC_ERRORS, OSM_LABELS(code), 1);
    }
    osm_metric_add(OSM_METRIC_WEBHOOK_RESPONSES, OSM_LABELS("Pod", denied ? "false" : "true"), 1);
    w->injected += a->outcome == OSM_ADMISSION_INJECT;
    w->allowed += a->outcome == OSM_ADMISSION_ALLOW;
    w->denied += denied;
    if (denied)
        osm_log(OSM_LOG_INJECT, OSM_LOG_WARN, "pod denied", OSM_S("ns", a->ns),
                OSM_S("obj", a->name), OSM_S("error", a->reason));
    else
        osm_log(OSM_LOG_INJECT, OSM_LOG_INFO,
                a->outcome == OSM_ADMISSION_INJECT ? "sidecar injected" : "no sidecar",
                OSM_S("ns", a->ns), OSM_S("obj", a->name), OSM_S("node", a->id.uuid),
                OSM_S("reason", a->reason));
}

static void start_next(struct osm_webhook *w);

static void cancel(struct osm__admission_call *call)
{
    osm_kube_cancel(call->reading[0]);
    osm_kube_cancel(call->reading[1]);
    osm_kube_cancel(call->writing);
    osm_timer_stop(call->limit);
    osm_timer_stop(call->retry);
}

/* Another takes its place, unless it is still on the thread pool. */
static void leave(struct osm__admission_call *call)
{
    struct osm_webhook *w = call->w;
    unlink_call(call);
    call_free(call);
    w->running--;
    start_next(w);
    osm__webhook_end_if_done(w);
}

static void answer(struct osm__admission_call *call)
{
    count(call->w, &call->admission);
    osm_http_reply_json(call->request, 200, osm_admission_response(&call->admission));
    cancel(call);
    call->ended = true;
    if (!call->signing)
        leave(call);
}

static void deny(struct osm__admission_call *call, const char *why)
{
    osm_admission_deny(&call->admission, why);
    answer(call);
}

/* A failure of the moment. */
static void deny_now(struct osm__admission_call *call, const char *why)
{
    osm_admission_deny(&call->admission, why);
    call->admission.is_transient = true;
    answer(call);
}

/* --- what is tried again --- */

static bool is_of_the_moment(const struct osm_kube_answer *a)
{
    return a->rc || a->status == 429 || a->status >= 500;
}

static void retry(void *ud)
{
    struct osm__admission_call *call = ud;
    call->again(call);
}

/* False: there is no time for it. */
static bool try_again(struct osm__admission_call *call, int64_t retry_after_s,
                      void (*what)(struct osm__admission_call *call))
{
    uint64_t now_ms = osm_now_ms(),
             ms = (uint64_t)RETRY_MS << (call->failures < 5 ? call->failures : 5);
    uint32_t random = 0;
    ms = ms > RETRY_MAX_MS ? RETRY_MAX_MS : ms;
    (void)!getrandom(&random, sizeof random, 0);
    ms = ms / 2 + random % (ms / 2 + 1); /* those of one moment do not come back in one */
    if (retry_after_s > 0 && ms < (uint64_t)retry_after_s * 1000)
        ms = (uint64_t)retry_after_s * 1000 + random % 250;
    if (now_ms + ms >= call->until_ms)
        return false;
    call->failures++;
    call->again = what;
    osm_timer_start(call->retry, ms, 0);
    return true;
}

static void out_of_time(void *ud)
{
    struct osm__admission_call *call = ud;
    deny_now(call, *call->problem ? call->problem
                                  : "no sidecar could be made in time: the API server, or this "
                                    "injector, has too much to do");
}

/* --- the Secret --- */

static void write_secret(struct osm__admission_call *call);

static void written(void *ud, const struct osm_kube_answer *a)
{
    struct osm__admission_call *call = ud;
    const struct osm_admission *admission = &call->admission;
    const char *hint =
        osm_kube_lacks_right(a) ? "; the injector's role needs create of secrets" : "";
    if (a->rc == OSM_ECANCELED)
        return;
    /* Nobody else makes one of this name: an earlier try has come through, ours or libcurl's. */
    bool is_there = a->status == 409 && !strcmp(a->reason, "AlreadyExists");
    if (!is_there && (a->rc || *a->why)) {
        (void)snprintf(call->problem, sizeof call->problem,
                       "the Secret of the sidecar cannot be made: %.400s%s", a->why, hint);
        if (is_of_the_moment(a)) {
            if (!try_again(call, a->retry_after_s, write_secret))
                deny_now(call, call->problem);
            return;
        }
        osm__secrets_refused(call->w, admission->ns, admission->id.uuid);
        deny(call, call->problem);
        return;
    }
    osm__secrets_made(call->w, admission->ns, admission->id.uuid,
                      osm_json_text(json_object_get(a->object, "metadata"), "uid"));
    answer(call);
}

static void write_secret(struct osm__admission_call *call)
{
    struct osm_err err = {0};
    char *path = osm_strf("/api/v1/namespaces/%s/secrets", call->admission.ns);
    osm__secrets_expect(call->w, call->admission.ns, call->admission.id.uuid);
    int rc = path ? osm_kube_ask(&call->writing, call->w->config.kube,
                                 &(struct osm_kube_ask){.verb = "create",
                                                        .resource = "secrets",
                                                        .method = "POST",
                                                        .path = path,
                                                        .accept = osm__webhook_metadata,
                                                        .body = call->secret,
                                                        .secret = true,
                                                        .ud = call,
                                                        .done = written},
                                 &err)
                  : osm_fail(&err, OSM_ENOMEM, "out of memory");
    osm_free(path);
    if (rc)
        deny_now(call, err.msg);
}

/* --- the certificate --- */

static void sign_on_pool(void *ud)
{
    struct osm__admission_call *call = ud;
    const struct osm_leaf_request request = {.kind = OSM_LEAF_PROXY,
                                             .common_name = call->common_name,
                                             .uuid = call->admission.id.uuid,
                                             .validity_s = PROXY_VALIDITY_S};
    if (osm_ca_issue(call->ca, &request, &call->leaf, &call->err))
        call->leaf = NULL; /* the error says why */
}

static void signed_back(void *ud)
{
    struct osm__admission_call *call = ud;
    call->signing = false;
    if (call->ended) {
        leave(call);
        return;
    }
    int rc =
        call->leaf
            ? osm_admission_inject(&call->admission, &call->w->config.injector, call->mesh_config,
                                   osm_leaf_chain_pem(call->leaf), osm_leaf_key_pem(call->leaf),
                                   osm_ca_roots_pem(call->ca), &call->secret, &call->err)
            : call->err.code;
    if (rc == OSM_EINVAL) /* the MeshConfig is wrong */
        deny(call, call->err.msg);
    else if (rc)
        deny_now(call, call->err.msg);
    else if (!call->secret) /* a dry run */
        answer(call);
    else if (osm_http_alive(call->request))
        write_secret(call);
    else
        deny_now(call, "nobody waits for the answer any more");
}

static void sign(struct osm__admission_call *call)
{
    call->ca = osm_ca_ref(call->w->ca);
    call->common_name =
        osm_proxy_common_name(&call->admission.id, call->w->config.injector.trust_domain);
    call->signing =
        call->common_name && !osm_loop_work(call->w->config.loop, sign_on_pool, signed_back, call);
    if (!call->signing)
        deny_now(call, "out of memory");
}

/* --- Namespace and MeshConfig --- */

static void decide(struct osm__admission_call *call)
{
    osm_admission_decide(&call->admission, &call->w->config.injector, call->ns, call->mesh_config);
    if (call->admission.outcome == OSM_ADMISSION_INJECT)
        sign(call);
    else
        answer(call);
}

static void read_from_server(struct osm__admission_call *call);

/* Both have ended. What could not be read is no "there is none": a pod would be without a sidecar,
 * or would have one that does not know what it may. */
static void read_ended(struct osm__admission_call *call)
{
    if (--call->awaited)
        return;
    if (!call->failed_now && !call->err.code) {
        call->failures = 0;
        decide(call);
    } else if (call->err.code && call->is_refused) {
        deny(call, call->err.msg);
    } else if (call->err.code) {
        deny_now(call, call->err.msg);
    } else if (!try_again(call, call->retry_after_s, read_from_server)) {
        deny_now(call, call->problem);
    }
}

/* Something between us and the server may say 404 too, or 200 with a page of its own. Of a kind
 * that it does not know the server says no more than the text. */
static bool is_none(const struct osm_kube_answer *a, bool kind_is_known)
{
    return a->status == 404 && (!strcmp(a->reason, "NotFound") ||
                                (!kind_is_known && strstr(a->why, ": 404 page not found")));
}

static bool is_of(const json_t *object, const char *name)
{
    return !strcmp(osm_json_text(json_object_get(object, "metadata"), "name"), name);
}

static void take(struct osm__admission_call *call, const struct osm_kube_answer *a,
                 const char *name, bool kind_is_known, json_t **out)
{
    if (a->rc == OSM_ECANCELED)
        return;
    bool is_other = !a->rc && !*a->why && !is_of(a->object, name); /* no answer to what was asked */
    bool is_failure = a->rc || is_other || (*a->why && !is_none(a, kind_is_known));
    if (is_failure && (is_other || a->status == 404 || is_of_the_moment(a))) {
        call->failed_now = true;
        if (a->retry_after_s > call->retry_after_s)
            call->retry_after_s = a->retry_after_s;
        (void)snprintf(call->problem, sizeof call->problem, "cannot decide about a sidecar: %.400s",
                       is_other ? "the API server's answer is empty, or about something else"
                                : a->why);
    } else if (is_failure) {
        call->is_refused = true;
        (void)osm_fail(&call->err, OSM_EIO, "cannot decide about a sidecar: %.400s", a->why);
    } else if (a->object) {
        json_decref(*out);
        *out = json_incref(a->object);
    }
    read_ended(call);
}

static void namespace_read(void *ud, const struct osm_kube_answer *a)
{
    struct osm__admission_call *call = ud;
    take(call, a, call->admission.ns, true, &call->ns);
}

static void mesh_config_read(void *ud, const struct osm_kube_answer *a)
{
    struct osm__admission_call *call = ud;
    take(call, a, MESH_CONFIG, false, &call->mesh_config);
}

static void read_from_server(struct osm__admission_call *call)
{
    char *paths[2] = {
        osm_strf("/api/v1/namespaces/%s", call->admission.ns),
        osm_strf("/apis/config.openservicemesh.io/v1alpha2/namespaces/%s/meshconfigs/" MESH_CONFIG,
                 call->w->config.injector.osm_namespace)};
    const char *resources[2] = {"namespaces", "meshconfigs"};
    void (*done[2])(void *ud, const struct osm_kube_answer *a) = {namespace_read, mesh_config_read};
    call->awaited = 1; /* this */
    call->failed_now = false;
    call->retry_after_s = -1;
    for (size_t i = 0; i < 2; i++) {
        int rc = paths[i] ? osm_kube_ask(&call->reading[i], call->w->config.kube,
                                         &(struct osm_kube_ask){.verb = "get",
                                                                .resource = resources[i],
                                                                .path = paths[i],
                                                                .ud = call,
                                                                .done = done[i]},
                                         &call->err)
                          : osm_fail(&call->err, OSM_ENOMEM, "out of memory");
        osm_free(paths[i]);
        call->awaited += !rc;
    }
    read_ended(call);
}

/* --- the request --- */

/* "application/json", whatever follows a semicolon. */
static bool is_json(const char *type)
{
    size_t n = type ? strcspn(type, "; ") : 0;
    return n == sizeof JSON - 1 && !strncasecmp(type, JSON, n);
}

static void begin(struct osm__admission_call *call)
{
    struct osm_webhook *w = call->w;
    size_t len = 0;
    const char *body = osm_http_body(call->request, &len);
    uint64_t now_ms = osm_now_ms();
    w->running++;
    call->prev = &w->calls;
    call->next = w->calls;
    if (call->next)
        call->next->prev = &call->next;
    w->calls = call;
    osm_timer_start(call->limit, call->until_ms > now_ms ? call->until_ms - now_ms : 0, 0);
    if (osm_admission_read(&call->admission, body, len, &call->err))
        deny_now(call, call->err.msg);
    else if (call->admission.outcome == OSM_ADMISSION_DENY || !call->admission.pod)
        answer(call); /* a review that is none, or not about a pod */
    else
        read_from_server(call);
}

static struct osm__admission_call *take_waiting(struct osm_webhook *w)
{
    struct osm__admission_call *call = w->waiting;
    w->waiting = call->next;
    if (!w->waiting)
        w->behind = &w->waiting;
    call->next = NULL;
    return call;
}

/* Unread, since reading takes time: the asker counts that as a failure. */
static void turn_away(struct osm__admission_call *call, const char *why)
{
    osm_http_reply_text(call->request, 503, why);
    call_free(call);
}

void osm__webhook_start_one(void *ud)
{
    struct osm_webhook *w = ud;
    if (!w->waiting || w->running >= SLOTS)
        return;
    struct osm__admission_call *call = take_waiting(w);
    if (w->waiting && w->running + 1 < SLOTS)
        osm_turns_ask(w->turns);
    if (!osm_http_alive(call->request) || osm_now_ms() >= call->until_ms) {
        turn_away(call, "too many pods at once");
        start_next(w);
        osm__webhook_end_if_done(w);
    } else {
        begin(call);
    }
}

/* One in each turn: others of the loop have theirs. */
static void start_next(struct osm_webhook *w)
{
    if (w->waiting && w->running < SLOTS)
        osm_turns_ask(w->turns);
}

static struct osm__admission_call *new_call(struct osm_webhook *w, struct osm_http_request *request)
{
    struct osm__admission_call *call = osm_alloc(sizeof *call);
    if (!call)
        return NULL;
    uint64_t timeout_ms = (uint64_t)w->config.timeout_s * 1000;
    call->w = w;
    call->request = request;
    call->until_ms =
        osm_now_ms() + timeout_ms - (timeout_ms / 4 < MARGIN_MS ? timeout_ms / 4 : MARGIN_MS);
    call->limit = osm_timer_new(w->config.loop, out_of_time, call);
    call->retry = osm_timer_new(w->config.loop, retry, call);
    if (call->limit && call->retry)
        return call;
    call_free(call);
    return NULL;
}

void osm__webhook_admit(void *ud, struct osm_http_request *request)
{
    struct osm_webhook *w = ud;
    size_t len = 0;
    (void)osm_http_body(request, &len);
    if (!is_json(osm_http_header(request, "content-type"))) {
        osm_http_reply_text(request, 415, "Content-Type: expected application/json");
        return;
    }
    if (!len) {
        osm_http_reply_text(request, 400, "expected an AdmissionReview");
        return;
    }
    struct osm__admission_call *call = new_call(w, request);
    if (!call) {
        osm_http_reply_text(request, 500, "out of memory");
        return;
    }
    *w->behind = call;
    w->behind = &call->next;
    start_next(w);
}

void osm__webhook_end_calls(struct osm_webhook *w)
{
    while (w->waiting)
        turn_away(take_waiting(w), "this injector is stopping");
    if (!w->calls) {
        osm__webhook_end_if_done(w);
        return;
    }
    for (struct osm__admission_call *call = w->calls, *next; call; call = next) {
        next = call->next;
        if (!call->ended)
            deny_now(call, "this injector is stopping");
    }
}
