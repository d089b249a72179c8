#include "webhook/webhook_priv.h"

#include "base/clock.h"
#include "base/log.h"

#include <string.h>

enum {
    REVIEW_MAX_BYTES = 4 << 20, /* a pod is at most 1.5 MB in etcd, packed */
    CONNECTIONS = 1024,         /* the API server opens one for each review under way */
    IDLE_MS = 120 * 1000, /* longer than the API server keeps a connection (90 s): it ends them */
    LOOK_S = 10,          /* the clock may be set meanwhile */
    SPREAD_MS = 2000,     /* until each replica of the API server has heard of a change */
    GRACE_MS = 5000,
};

const char osm__webhook_metadata[] = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";

static void answer_health(void *ud, struct osm_http_request *request)
{
    const struct osm_webhook *w = ud;
    bool is_ready = osm_webhook_ready(w);
    osm_http_reply_text(request, is_ready ? 200 : 503,
                        is_ready ? "Health OK" : osm_webhook_failure(w));
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

/* Other roots come in this order, so that the API server can always verify what it is shown:
 *
 *   w->ca  --told to the API server, beside the root that has signed the leaf--> known_ca
 *                          --some time for those of its replicas that hear of it later--> server_ca
 */

static const struct osm_ca *ref(const struct osm_ca *ca)
{
    return osm_ca_ref(ca);
}

static void unref(const struct osm_ca *ca)
{
    osm_ca_unref((struct osm_ca *)(uintptr_t)ca);
}

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

static void look_later(struct osm_webhook *w)
{
    int64_t due_s = osm_leaf_due_s(w->leaf, osm_wall_s());
    due_s = due_s < 1 || due_s > LOOK_S ? LOOK_S : due_s;
    osm_timer_start(w->renew, (uint64_t)due_s * 1000, 0);
}

static void take_leaf(struct osm_webhook *w, struct osm_leaf *leaf)
{
    osm_leaf_unref(w->leaf);
    w->leaf = leaf;
    look_later(w);
}

static int present(struct osm_webhook *w, const struct osm_ca *ca, struct osm_err *err)
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
    unref(w->server_ca);
    w->server_ca = ref(ca);
    return 0;
}

static void look_at_leaf(void *ud)
{
    struct osm_webhook *w = ud;
    struct osm_err err = {0};
    bool is_known = w->known_ca == w->ca && !w->registration.call; /* not only what was before */
    const struct osm_ca *ca = is_known ? w->known_ca : w->server_ca;
    bool is_other = ca != w->server_ca;
    if (!is_other && osm_leaf_due_s(w->leaf, osm_wall_s())) {
        look_later(w);
    } else if (present(w, ca, &err)) {
        osm_log(OSM_LOG_CA, OSM_LOG_ERROR, "the webhook's certificate not renewed, trying again",
                OSM_S("error", err.msg));
        osm_timer_start(w->renew, LOOK_S * 1000, 0);
    } else if (is_other) {
        osm__registration_apply(w); /* what has signed the one before need not be trusted now */
    }
}

void osm__webhook_registered(struct osm_webhook *w)
{
    if (w->known_ca == w->ca || w->stopping)
        return;
    unref(w->known_ca);
    w->known_ca = ref(w->ca);
    if (w->known_ca != w->server_ca)
        osm_timer_start(w->renew, SPREAD_MS, 0);
}

void osm_webhook_set_ca(struct osm_webhook *w, const struct osm_ca *ca)
{
    const struct osm_ca *before = w->ca;
    w->ca = ref(ca);
    unref(before);
    osm__registration_apply(w);
}

/* --- what it says of itself --- */

const char *osm_webhook_failure(const struct osm_webhook *w)
{
    const struct osm__registration *r = &w->registration;
    if (*r->failure)
        return r->failure;
    return r->done ? NULL : "starting: the webhook is not registered yet";
}

bool osm_webhook_ready(const struct osm_webhook *w)
{
    return w->registration.done;
}

json_t *osm_webhook_status(const struct osm_webhook *w)
{
    const char *failure = osm_webhook_failure(w);
    return json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:I}", "address",
                     w->listener ? osm_http_address(w->listener) : "", "configuration",
                     w->config.name, "failure", failure ? failure : "", "injected",
                     (json_int_t)w->injected, "allowed", (json_int_t)w->allowed, "denied",
                     (json_int_t)w->denied, "waiting", (json_int_t)w->secrets.waiting.count);
}

/* --- life --- */

static void free_webhook(struct osm_webhook *w)
{
    osm__registration_clear(w);
    osm__secrets_clear(w);
    osm_timer_free(w->renew);
    osm_timer_free(w->grace);
    osm_turns_free(w->turns);
    osm_leaf_unref(w->leaf);
    unref(w->ca);
    unref(w->server_ca);
    unref(w->known_ca);
    osm_free(w);
}

static void give_up_waiting(void *ud)
{
    struct osm_webhook *w = ud;
    osm__webhook_end_calls(w);
}

int osm_webhook_start(struct osm_webhook **out, const struct osm_webhook_config *config,
                      const struct osm_ca *ca, struct osm_err *err)
{
    struct osm_webhook *w = osm_alloc(sizeof *w);
    struct osm_leaf *leaf = NULL;
    if (!w)
        return osm_fail(err, OSM_ENOMEM, "webhook");
    w->config = *config;
    w->ca = ref(ca);
    w->server_ca = ref(ca);
    w->behind = &w->waiting;
    w->renew = osm_timer_new(config->loop, look_at_leaf, w);
    w->grace = osm_timer_new(config->loop, give_up_waiting, w);
    w->turns = osm_turns_new(config->loop, osm__webhook_start_one, w);
    int rc = w->renew && w->grace && w->turns && !osm__registration_init(w) && !osm__secrets_init(w)
                 ? issue(w, ca, &leaf, err)
                 : osm_fail(err, OSM_ENOMEM, "webhook");
    if (!rc) {
        take_leaf(w, leaf);
        const struct osm_http_listen listen = {
            .address = config->listen,
            .flag = "--injector-listen",
            .routes = routes,
            .ud = w,
            .limits = {.connections = CONNECTIONS, .idle_ms = IDLE_MS},
            .tls_chain_pem = osm_leaf_chain_pem(leaf),
            .tls_key_pem = osm_leaf_key_pem(leaf),
        };
        rc = osm_http_listen(&w->listener, config->http, &listen, err);
    }
    if (rc) {
        free_webhook(w);
        return rc;
    }
    osm__registration_apply(w);
    *out = w;
    return 0;
}

void osm__webhook_end_if_done(struct osm_webhook *w)
{
    if (!w->stopping || !w->drained || w->calls || w->waiting)
        return;
    osm_task_fn *stopped = w->stopped;
    void *ud = w->stopped_ud;
    free_webhook(w);
    stopped(ud);
}

static void drained(void *ud)
{
    struct osm_webhook *w = ud;
    w->drained = true;
    w->listener = NULL;
    osm__webhook_end_if_done(w);
}

void osm_webhook_stop(struct osm_webhook *w, osm_task_fn *done, void *ud)
{
    w->stopping = true;
    osm_timer_stop(w->renew);
    w->stopped = done;
    w->stopped_ud = ud;
    osm_timer_start(w->grace, GRACE_MS, 0);
    osm_http_drain(w->listener, drained, w);
}
