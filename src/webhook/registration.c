/* Tells the API server of this webhook. Replicas write the same; what others have added to the
 * object (labels, an objectSelector) stays, since only what is named here is applied. It is not
 * fought for: who deletes it has turned injection off until the next start. */
#include "webhook/webhook_priv.h"

#include "base/log.h"
#include "inject/registration.h"
#include "kube/ask.h"

#include <stdio.h>
#include <string.h>
#include <sys/random.h>

enum { BACKOFF_MS = 250, BACKOFF_MAX_MS = 30 * 1000 };

static const char FOLDER[] = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";

static void try_later(struct osm_webhook *w, const char *why, const char *hint)
{
    struct osm__registration *r = &w->registration;
    char failure[sizeof r->failure];
    uint32_t random = 0;
    uint64_t ms = (uint64_t)BACKOFF_MS << (r->failures < 7 ? r->failures : 7);
    ms = ms > BACKOFF_MAX_MS ? BACKOFF_MAX_MS : ms;
    (void)snprintf(failure, sizeof failure, "MutatingWebhookConfiguration %.80s: %.340s%s",
                   w->config.name, why, hint);
    if (strcmp(failure, r->failure) != 0)
        osm_log(OSM_LOG_INJECT, OSM_LOG_ERROR, "webhook not registered, trying again",
                OSM_S("error", failure));
    memcpy(r->failure, failure, sizeof failure);
    r->failures++;
    (void)!getrandom(&random, sizeof random, 0);
    osm_timer_start(r->timer, ms / 2 + random % (ms / 2 + 1), 0);
}

static void applied(void *ud, const struct osm_kube_answer *a)
{
    struct osm_webhook *w = ud;
    struct osm__registration *r = &w->registration;
    if (a->rc == OSM_ECANCELED)
        return;
    if (a->rc || *a->why) {
        try_later(w, a->why,
                  osm_kube_lacks_right(a) ? "; its role needs create and patch of "
                                            "mutatingwebhookconfigurations"
                                          : "");
        return;
    }
    osm_log(OSM_LOG_INJECT, OSM_LOG_INFO, "webhook registered", OSM_S("obj", w->config.name));
    r->failures = 0;
    *r->failure = '\0';
    r->done = true;
    if (r->again)
        osm__registration_apply(w);
    else
        osm__webhook_registered(w);
}

/* The roots, and beside them the one that has signed what is presented still. NULL: no memory. */
static char *trusted(const struct osm_webhook *w)
{
    static const char end[] = "-----END CERTIFICATE-----\n";
    const char *roots = osm_ca_roots_pem(w->ca), *signer = osm_ca_roots_pem(w->server_ca);
    const char *behind = strstr(signer, end);
    char *alone = behind ? osm_strf("%.*s", (int)(behind + sizeof end - 1 - signer), signer) : NULL;
    char *all = alone ? osm_strf("%s%s", roots, strstr(roots, alone) ? "" : alone) : NULL;
    osm_free(alone);
    return all;
}

static void apply(void *ud)
{
    struct osm_webhook *w = ud;
    struct osm__registration *r = &w->registration;
    struct osm_err err = {0};
    char *roots = trusted(w);
    char *path = osm_strf("%s/%s?fieldManager=osm-injector&force=true", FOLDER, w->config.name);
    const struct osm_webhook_object object = {.name = w->config.name,
                                              .mesh_name = w->config.injector.mesh_name,
                                              .osm_namespace = w->config.injector.osm_namespace,
                                              .roots_pem = roots,
                                              .timeout_s = w->config.timeout_s};
    json_t *body = roots ? osm_webhook_configuration(&object) : NULL;
    int rc = path && body ? 0 : osm_fail(&err, OSM_ENOMEM, "out of memory");
    r->again = false;
    if (!rc)
        rc = osm_kube_ask(&r->call, w->config.kube,
                          &(struct osm_kube_ask){.verb = "patch",
                                                 .resource = "mutatingwebhookconfigurations",
                                                 .method = "PATCH",
                                                 .path = path,
                                                 .accept = osm__webhook_metadata,
                                                 .content_type = "application/apply-patch+yaml",
                                                 .body = body,
                                                 .ud = w,
                                                 .done = applied},
                          &err);
    json_decref(body);
    osm_free(path);
    osm_free(roots);
    if (rc)
        try_later(w, err.msg, "");
}

void osm__registration_apply(struct osm_webhook *w)
{
    if (w->registration.call)
        w->registration.again = true;
    else
        osm_timer_start(w->registration.timer, 0, 0);
}

int osm__registration_init(struct osm_webhook *w)
{
    w->registration.timer = osm_timer_new(w->config.loop, apply, w);
    return w->registration.timer ? 0 : OSM_ENOMEM;
}

void osm__registration_clear(struct osm_webhook *w)
{
    osm_kube_cancel(w->registration.call);
    osm_timer_free(w->registration.timer);
}
