/* The role "injector": the webhook that gives a new pod its sidecar.
 *
 *   API server --AdmissionReview--> admit.c: what do its Namespace and the MeshConfig say?
 *   (HTTPS)         ^                 |--> no sidecar, or a mistake: answered
 *                   |                 |--> a certificate of its own, signed on the thread pool
 *                   |                 '--> Secret envoy-bootstrap-config-<uuid> with all of it
 *                   '---JSON patch, once the Secret is there----'
 *   secrets.c       the pod becomes its Secret's owner; a Secret whose pod never came is deleted
 *   registration.c  the API server is told of this webhook, and whom it can trust there
 *
 * Namespace and MeshConfig are asked for with each pod, and not watched: who labels a namespace and
 * makes a pod the next moment finds it in the mesh. Several replicas need not know of each other:
 * each looks after the Secrets that it has made. Thread: loop. */
#pragma once

#include "ca/ca.h"
#include "http/http.h"
#include "inject/admission.h"
#include "kube/api.h"

struct osm_webhook;

struct osm_webhook_config {
    struct osm_loop *loop;
    struct osm_kube *kube;        /* borrowed for its life, like all that follows */
    struct osm_http *http;        /* must be stopped before it */
    const char *listen;           /* "0.0.0.0:9090" */
    const char *name;             /* of the MutatingWebhookConfiguration */
    struct osm_injector injector; /* what pods get */
    int64_t timeout_s;            /* how long the API server waits for an answer */
    int64_t validity_s;           /* of the server's certificate; renewed when 2/3 are over */
    int64_t orphan_s;             /* a Secret whose pod has not come by then is deleted */
};

/** Listens; then it is registered, which is tried until it succeeds. @p ca is referenced. Errors:
 * those of osm_http_listen and osm_ca_issue. */
OSM_MUST_USE int osm_webhook_start(struct osm_webhook **out,
                                   const struct osm_webhook_config *config, const struct osm_ca *ca,
                                   struct osm_err *err);
/** Other roots. They sign what pods get from now on; the server presents what they have signed once
 * the API server knows them, and what it presented before until then. */
void osm_webhook_set_ca(struct osm_webhook *webhook, const struct osm_ca *ca);
/** Takes no more questions; those that are under way are answered, for some seconds at most. Then
 * done(ud), not before it returns; the webhook is gone. */
void osm_webhook_stop(struct osm_webhook *webhook, osm_task_fn *done, void *ud);
/** What keeps the API server from knowing all of it; NULL: nothing. Borrowed until the next turn.
 */
const char *osm_webhook_failure(const struct osm_webhook *webhook);
/** Whether it has been registered since its start. One that has is asked, and answers, whatever
 * becomes of a later change. */
bool osm_webhook_ready(const struct osm_webhook *webhook);
/** {"address", "configuration", "failure", "injected", "allowed", "denied", "waiting": Secrets
 * without an owner yet}. NULL: no memory. */
json_t *osm_webhook_status(const struct osm_webhook *webhook);
