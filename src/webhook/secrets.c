/* Whose the Secrets are. A pod has no name and no uid yet when its sidecar's Secret is made, so it
 * becomes the owner afterwards, and the API server's garbage collector deletes the one with the
 * other. A pod that was refused after us (a quota, another webhook) never comes: its Secret holds a
 * key, and a controller that tries again makes another one each time, so it is deleted.
 *
 *   made --> is there a pod with this uuid? --yes--> owner written --> forgotten
 *               ^    '--not yet--> later each time        '--404, 409: it is gone, or another's
 *               '----'                 '--not in orphan_s--> deleted
 *
 * It is looked after before it is made, since the answer may be lost. What a replica that has ended
 * had made it knows no more: the next one that starts looks at the pods of the last minutes. Only
 * those stay of pods that were refused in the minutes before: to find them would take the right to
 * list Secrets, which is the right to read all of the cluster's. One request at a time: pods come
 * faster only for moments. */
#include "webhook/webhook_priv.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "kube/ask.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

enum {
    WAITING_MAX = 50000,
    FIRST_LOOK_MS = 500,
    LOOK_MAX_MS = 60 * 1000,
    RETRY_MS = 1000,
    RETRY_MAX_MS = 60 * 1000,
    BEFORE_S = 15 * 60, /* how old a pod may be that is looked at when this begins */
    PAGE = 500,
};

static const char LABEL[] = "osm-proxy-uuid";
static const char LIST_ACCEPT[] =
    "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";

struct osm__secret {
    char ns[64], uuid[OSM_UUID_SIZE];
    char uid[64];               /* "" not known */
    char pod[254], pod_uid[64]; /* "" not known yet */
    uint64_t made_ms, next_ms, wait_ms;
    bool ours; /* made here, or it may have been: the answer was lost */
    bool last; /* it is asked whether to delete it */
};

static void look(void *ud);

static void schedule(struct osm_webhook *w)
{
    struct osm__secrets *s = &w->secrets;
    uint64_t now_ms = osm_now_ms(), next_ms = UINT64_MAX;
    if (s->call)
        return;
    if (s->listing)
        next_ms = now_ms;
    osm_map_each (&s->waiting, e) {
        const struct osm__secret *secret = e->value;
        next_ms = secret->next_ms < next_ms ? secret->next_ms : next_ms;
    }
    if (next_ms == UINT64_MAX)
        return;
    uint64_t ms = next_ms > now_ms ? next_ms - now_ms : 0, pause_ms = 0;
    if (s->failures) {
        pause_ms = (uint64_t)RETRY_MS << (s->failures < 7 ? s->failures - 1 : 6);
        pause_ms = pause_ms > RETRY_MAX_MS ? RETRY_MAX_MS : pause_ms;
    }
    osm_timer_start(s->timer, ms > pause_ms ? ms : pause_ms, 0);
}

static bool key_of(char out[160], const char *ns, const char *uuid)
{
    int n = snprintf(out, 160, "%s/%s", ns, uuid);
    return n > 0 && n < 160;
}

static void forget(struct osm_webhook *w, struct osm__secret *secret)
{
    char key[160];
    if (key_of(key, secret->ns, secret->uuid))
        (void)osm_map_del(&w->secrets.waiting, key);
    osm_free(secret);
}

/* NULL: there is no place for it. */
static struct osm__secret *add(struct osm_webhook *w, const char *ns, const char *uuid)
{
    char key[160];
    struct osm__secret *secret = NULL;
    bool fits = key_of(key, ns, uuid) && strlen(ns) < sizeof secret->ns &&
                strlen(uuid) < sizeof secret->uuid && w->secrets.waiting.count < WAITING_MAX;
    if (fits && !osm_map_get(&w->secrets.waiting, key))
        secret = osm_alloc(sizeof *secret);
    if (!secret)
        return NULL;
    memcpy(secret->ns, ns, strlen(ns) + 1);
    memcpy(secret->uuid, uuid, strlen(uuid) + 1);
    secret->made_ms = osm_now_ms();
    if (osm_map_put(&w->secrets.waiting, key, secret, NULL)) {
        osm_free(secret);
        return NULL;
    }
    return secret;
}

static void set_pod(struct osm__secret *secret, const json_t *metadata)
{
    (void)snprintf(secret->pod, sizeof secret->pod, "%s", osm_json_text(metadata, "name"));
    (void)snprintf(secret->pod_uid, sizeof secret->pod_uid, "%s", osm_json_text(metadata, "uid"));
}

/* --- an answer --- */

/* What is the server's fault, or that of our rights, is tried again: all of it later, and @p secret
 * (NULL: it is about none) after the others. */
static bool has_failed(struct osm_webhook *w, struct osm__secret *secret,
                       const struct osm_kube_answer *a, const char *what)
{
    struct osm__secrets *s = &w->secrets;
    if (!a->rc && !*a->why) {
        s->failures = 0;
        return false;
    }
    if (!s->failures++)
        osm_log(OSM_LOG_INJECT, OSM_LOG_WARN, what, OSM_S("error", a->why));
    if (secret)
        secret->next_ms = osm_now_ms() + RETRY_MS;
    return true;
}

static void ask(struct osm_webhook *w, const char *verb, const char *resource, const char *method,
                char *path, const json_t *body,
                void (*done)(void *ud, const struct osm_kube_answer *a))
{
    struct osm_err err = {0};
    bool is_list = !strcmp(verb, "list"), is_patch = !strcmp(verb, "patch");
    int rc = path ? osm_kube_ask(&w->secrets.call, w->config.kube,
                                 &(struct osm_kube_ask){
                                     .verb = verb,
                                     .resource = resource,
                                     .method = method,
                                     .path = path,
                                     .accept = is_list ? LIST_ACCEPT : osm__webhook_metadata,
                                     .content_type = is_patch ? osm_kube_merge_patch : NULL,
                                     .body = body,
                                     .ud = w,
                                     .done = done},
                                 &err)
                  : osm_fail(&err, OSM_ENOMEM, "out of memory");
    osm_free(path);
    if (!rc)
        return;
    if (!w->secrets.failures++)
        osm_log(OSM_LOG_INJECT, OSM_LOG_WARN, "Secrets of sidecars not looked after, trying again",
                OSM_S("error", err.msg));
    schedule(w);
}

/* The write about the current one has ended. @p done: what to log when it was ours that counted;
 * NULL: nothing. */
static void written(struct osm_webhook *w, const struct osm_kube_answer *a, const char *failed,
                    const char *done)
{
    struct osm__secret *secret = osm_take_ptr(&w->secrets.current);
    bool is_gone = a->status == 404 || a->status == 409; /* or another's of that name */
    if (is_gone) {                                       /* it works, and has answered */
        w->secrets.failures = 0;
    } else if (has_failed(w, secret, a, failed)) {
        schedule(w);
        return;
    }
    if (done)
        osm_log(OSM_LOG_INJECT, OSM_LOG_INFO, done, OSM_S("ns", secret->ns),
                OSM_S("node", secret->uuid));
    forget(w, secret);
    schedule(w);
}

/* Takes @p body; NULL: no memory. */
static void write(struct osm_webhook *w, const char *verb, const char *method, json_t *body,
                  void (*done)(void *ud, const struct osm_kube_answer *a))
{
    const struct osm__secret *secret = w->secrets.current;
    char *path = body ? osm_strf("/api/v1/namespaces/%s/secrets/envoy-bootstrap-config-%s",
                                 secret->ns, secret->uuid)
                      : NULL;
    ask(w, verb, "secrets", method, path, body, done);
    json_decref(body);
}

static void owned(void *ud, const struct osm_kube_answer *a)
{
    if (a->rc != OSM_ECANCELED)
        written(ud, a, "the owner of a sidecar's Secret is not written, trying again", NULL);
}

static void give_owner(struct osm_webhook *w)
{
    const struct osm__secret *secret = w->secrets.current;
    json_t *body =
        json_pack("{s:{s:[{s:s, s:s, s:s, s:s}]}}", "metadata", "ownerReferences", "apiVersion",
                  "v1", "kind", "Pod", "name", secret->pod, "uid", secret->pod_uid);
    json_t *metadata = json_object_get(body, "metadata");
    if (metadata && *secret->uid) /* else 409 */
        (void)json_object_set_new(metadata, "uid", json_string(secret->uid));
    write(w, "patch", "PATCH", body, owned);
}

static void deleted(void *ud, const struct osm_kube_answer *a)
{
    if (a->rc != OSM_ECANCELED)
        written(ud, a, "the Secret of a pod that never came is not deleted, trying again",
                "Secret deleted: its pod never came");
}

static void delete_orphan(struct osm_webhook *w)
{
    const char *uid = w->secrets.current->uid;
    write(w, "delete", "DELETE",
          json_pack("{s:s, s:s, s:{s:s*}}", "kind", "DeleteOptions", "apiVersion", "v1",
                    "preconditions", "uid", *uid ? uid : NULL),
          deleted);
}

static void looked(void *ud, const struct osm_kube_answer *a)
{
    struct osm_webhook *w = ud;
    struct osm__secrets *s = &w->secrets;
    struct osm__secret *secret = s->current;
    if (a->rc == OSM_ECANCELED)
        return;
    const json_t *pod = json_array_get(json_object_get(a->object, "items"), 0);
    if (has_failed(w, secret, a,
                   "the pod of a sidecar's Secret cannot be looked for, trying again")) {
        s->current = NULL;
    } else if (pod) {
        set_pod(secret, json_object_get(pod, "metadata"));
        give_owner(w);
        return;
    } else if (secret->last && secret->ours) {
        delete_orphan(w);
        return;
    } else if (secret->last) {
        forget(w, secret);
    }
    s->current = NULL;
    schedule(w);
}

/* From what the server remembers, which is cheap; before one is deleted, from what is stored. */
static void look_for_pod(struct osm_webhook *w, struct osm__secret *secret)
{
    uint64_t now_ms = osm_now_ms();
    secret->last = now_ms - secret->made_ms >= (uint64_t)w->config.orphan_s * 1000;
    secret->wait_ms = secret->wait_ms ? secret->wait_ms * 2 : FIRST_LOOK_MS;
    if (secret->wait_ms > LOOK_MAX_MS)
        secret->wait_ms = LOOK_MAX_MS;
    secret->next_ms = now_ms + secret->wait_ms;
    ask(w, "list", "pods", "GET",
        osm_strf("/api/v1/namespaces/%s/pods?labelSelector=%s%%3D%s&limit=1%s", secret->ns, LABEL,
                 secret->uuid, secret->last ? "" : "&resourceVersion=0"),
        NULL, looked);
}

/* --- what was there before --- */

/* "2026-01-31T23:59:59Z"; 0: it is none. */
static int64_t seconds_of(const char *text)
{
    struct tm tm = {0};
    const char *end = strptime(text, "%Y-%m-%dT%H:%M:%SZ", &tm);
    return end && !*end ? (int64_t)timegm(&tm) : 0;
}

static void listed(void *ud, const struct osm_kube_answer *a)
{
    struct osm_webhook *w = ud;
    struct osm__secrets *s = &w->secrets;
    int64_t from_s = osm_wall_s() - BEFORE_S;
    size_t i;
    json_t *pod;
    if (a->rc == OSM_ECANCELED)
        return;
    osm_free(osm_take_ptr(&s->page));
    if (a->status != 410 && has_failed(w, NULL, a, "the pods cannot be listed, trying again")) {
        schedule(w);
        return;
    }
    json_array_foreach (json_object_get(a->object, "items"), i, pod) {
        const json_t *metadata = json_object_get(pod, "metadata");
        const char *uuid = osm_json_text(json_object_get(metadata, "labels"), LABEL);
        if (!osm_uuid_valid(uuid) ||
            seconds_of(osm_json_text(metadata, "creationTimestamp")) < from_s)
            continue;
        struct osm__secret *secret = add(w, osm_json_text(metadata, "namespace"), uuid);
        if (secret)
            set_pod(secret, metadata);
    }
    const char *page = osm_json_text(json_object_get(a->object, "metadata"), "continue");
    s->listing = a->status == 410 || *page;
    s->page = *page ? osm_strdup(page) : NULL;
    schedule(w);
}

static void list(struct osm_webhook *w)
{
    const char *page = w->secrets.page;
    ask(w, "list", "pods", "GET",
        osm_strf("/api/v1/pods?labelSelector=%s&limit=%d%s%s", LABEL, PAGE,
                 page ? "&continue=" : "", page ? page : ""),
        NULL, listed);
}

/* --- the next --- */

static void look(void *ud)
{
    struct osm_webhook *w = ud;
    struct osm__secrets *s = &w->secrets;
    uint64_t now_ms = osm_now_ms();
    struct osm__secret *next = NULL;
    if (s->call)
        return;
    if (s->listing) {
        list(w);
        return;
    }
    osm_map_each (&s->waiting, e) {
        struct osm__secret *secret = e->value;
        if (secret->next_ms <= now_ms && (!next || secret->next_ms < next->next_ms))
            next = secret;
    }
    s->current = next;
    if (!next)
        schedule(w);
    else if (*next->pod_uid)
        give_owner(w);
    else
        look_for_pod(w, next);
}

static struct osm__secret *find(const struct osm_webhook *w, const char *ns, const char *uuid)
{
    char key[160];
    return key_of(key, ns, uuid) ? osm_map_get(&w->secrets.waiting, key) : NULL;
}

void osm__secrets_expect(struct osm_webhook *w, const char *ns, const char *uuid)
{
    if (find(w, ns, uuid)) /* it is tried again */
        return;
    struct osm__secret *secret = add(w, ns, uuid);
    if (!secret) {
        w->secrets.lost++;
        osm_log(OSM_LOG_INJECT, OSM_LOG_WARN,
                "a sidecar's Secret is not looked after: too many wait, or no memory",
                OSM_S("ns", ns), OSM_S("node", uuid));
        return;
    }
    secret->ours = true;
    secret->next_ms = osm_now_ms() + FIRST_LOOK_MS;
    schedule(w);
}

void osm__secrets_made(struct osm_webhook *w, const char *ns, const char *uuid, const char *uid)
{
    struct osm__secret *secret = find(w, ns, uuid);
    if (secret)
        (void)snprintf(secret->uid, sizeof secret->uid, "%s", uid);
}

void osm__secrets_refused(struct osm_webhook *w, const char *ns, const char *uuid)
{
    struct osm__secret *secret = find(w, ns, uuid);
    if (secret && secret != w->secrets.current)
        forget(w, secret);
}

int osm__secrets_init(struct osm_webhook *w)
{
    w->secrets.timer = osm_timer_new(w->config.loop, look, w);
    if (!w->secrets.timer)
        return OSM_ENOMEM;
    w->secrets.listing = true;
    osm_timer_start(w->secrets.timer, 0, 0);
    return 0;
}

void osm__secrets_clear(struct osm_webhook *w)
{
    struct osm__secrets *s = &w->secrets;
    osm_kube_cancel(s->call);
    osm_timer_free(s->timer);
    osm_map_each (&s->waiting, e)
        osm_free(e->value);
    osm_map_clear(&s->waiting);
    osm_free(s->page);
}
