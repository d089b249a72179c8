#include "webhook/webhook_priv.h"

#include "base/clock.h"
#include "base/log.h"

#include <string.h>

enum {
    REVIEW_MAX_BYTES = 8 << 20, /* a pod is at most 1.5 MB in etcd; a review may hold it twice */
    CONNECTIONS = 256,
    RENEW_RETRY_MS = 60 * 1000,
};

const char osm__webhook_metadata[] = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";

static void answer_health(void *ud, struct osm_http_request *request)
{
    const struct osm_webhook *w = ud;
    const char *failure = osm_webhook_failure(w);
    osm_http_reply_text(request, failure ? 503 : 200, failure ? failure : "Health OK");
}

static const struct osm_http_route routes[] = {
    {.path = "/mutate-pod-creation",
     .handler = osm__webhook_admit,
     .about = "AdmissionReviews of new pods",
     .post_max = REVIEW_MAX_BYTES},
    {.path = "/healthz", .handler = answer_health, .about = "whether pods get their sidecars"},
    {.path = NULL},
};

/* --- the server's certificate --- */

static int issue(struct osm_webhook *w, const struct osm_ca *ca, struct osm_leaf **out,
                 struct osm_err *err)
{
    char *name = osm_strf("osm-injector.%s.svc", w->config.injector.osm_namespace);
    const struct osm_leaf_request request = {
        .kind = OSM_LEAF_WEBHOOK, .common_name = name, .validity_s = w->config.validity_s};
    int rc =
        name ? osm_ca_issue(ca, &request, out, err) : osm_fail(err, OSM_ENOMEM, "out of memory");
    osm_free(name);
    return rc;
}

static void take_leaf(struct osm_webhook *w, struct osm_leaf *leaf)
{
    osm_leaf_unref(w->leaf);
    w->leaf = leaf;
    osm_timer_start(w->renew, (uint64_t)(osm_leaf_not_after(leaf) - osm_wall_s()) * 1000 / 3 * 2,
                    0);
}

int osm_webhook_set_ca(struct osm_webhook *w, const struct osm_ca *ca, struct osm_err *err)
{
    struct osm_leaf *leaf = NULL;
    int rc = issue(w, ca, &leaf, err);
    if (!rc)
        rc = osm_http_set_tls(w->listener, osm_leaf_chain_pem(leaf), osm_leaf_key_pem(leaf), err);
    if (rc) {
        osm_leaf_unref(leaf);
        return rc;
    }
    take_leaf(w, leaf);
    bool is_other = strcmp(osm_ca_roots_pem(ca), osm_ca_roots_pem(w->ca)) != 0;
    const struct osm_ca *before = w->ca;
    w->ca = osm_ca_ref(ca);
    osm_ca_unref((struct osm_ca *)(uintptr_t)before);
    if (is_other)
        osm__registration_apply(w);
    return 0;
}

static void renew(void *ud)
{
    struct osm_webhook *w = ud;
    struct osm_err err = {0};
    if (!osm_webhook_set_ca(w, w->ca, &err))
        return;
    osm_log(OSM_LOG_CA, OSM_LOG_ERROR, "the webhook's certificate not renewed, trying again",
            OSM_S("error", err.msg));
    osm_timer_start(w->renew, RENEW_RETRY_MS, 0);
}

/* --- what it says of itself --- */

const char *osm_webhook_failure(const struct osm_webhook *w)
{
    const struct osm__registration *r = &w->registration;
    if (*r->failure)
        return r->failure;
    return r->done ? NULL : "starting: the webhook is not registered yet";
}

json_t *osm_webhook_status(const struct osm_webhook *w)
{
    const char *failure = osm_webhook_failure(w);
    return json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:I}", "address",
                     osm_http_address(w->listener), "configuration", w->config.name, "failure",
                     failure ? failure : "", "injected", (json_int_t)w->injected, "allowed",
                     (json_int_t)w->allowed, "denied", (json_int_t)w->denied, "waiting",
                     (json_int_t)w->secrets.waiting.count);
}

/* --- life --- */

int osm_webhook_start(struct osm_webhook **out, const struct osm_webhook_config *config,
                      const struct osm_ca *ca, struct osm_err *err)
{
    struct osm_webhook *w = osm_alloc(sizeof *w);
    struct osm_leaf *leaf = NULL;
    if (!w)
        return osm_fail(err, OSM_ENOMEM, "webhook");
    w->config = *config;
    w->ca = osm_ca_ref(ca);
    w->renew = osm_timer_new(config->loop, renew, w);
    int rc = w->renew && !osm__registration_init(w) && !osm__secrets_init(w)
                 ? issue(w, ca, &leaf, err)
                 : osm_fail(err, OSM_ENOMEM, "webhook");
    if (!rc) {
        take_leaf(w, leaf);
        const struct osm_http_listen listen = {
            .address = config->listen,
            .flag = "--injector-listen",
            .routes = routes,
            .ud = w,
            .limits = {.connections = CONNECTIONS},
            .tls_chain_pem = osm_leaf_chain_pem(leaf),
            .tls_key_pem = osm_leaf_key_pem(leaf),
        };
        rc = osm_http_listen(&w->listener, config->http, &listen, err);
    }
    if (rc) {
        osm_webhook_stop(w);
        return rc;
    }
    osm__registration_apply(w);
    *out = w;
    return 0;
}

void osm_webhook_stop(struct osm_webhook *w)
{
    if (!w)
        return;
    osm__webhook_end_calls(w);
    osm_http_close(w->listener);
    osm__registration_clear(w);
    osm__secrets_clear(w);
    osm_timer_free(w->renew);
    osm_leaf_unref(w->leaf);
    osm_ca_unref((struct osm_ca *)(uintptr_t)w->ca);
    osm_free(w);
}
