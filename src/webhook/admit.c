/* One pod: from its AdmissionReview to the patch. */
#include "webhook/webhook_priv.h"

#include "base/json.h"
#include "base/log.h"
#include "base/metrics.h"
#include "kube/ask.h"
#include "model/names.h"

#include <stdio.h>
#include <string.h>

enum {
    /* Nothing renews it while the pod lives; cut to the root's end. */
    PROXY_VALIDITY_S = 87600 * 3600,
};

static const char JSON[] = "application/json";

struct osm__admission_call {
    struct osm__admission_call *next, **prev;
    struct osm_webhook *w; /* NULL: it has been stopped; only what is signed is still awaited */
    struct osm_http_request *request;
    struct osm_admission admission;
    json_t *ns, *mesh_config; /* what they say; NULL: there is none */
    struct osm_kube_call *reading[2], *writing;
    int awaited; /* of the two that are read */
    bool signing;
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

static void answer(struct osm__admission_call *call)
{
    count(call->w, &call->admission);
    osm_http_reply_json(call->request, 200, osm_admission_response(&call->admission));
    unlink_call(call);
    call_free(call);
}

static void deny(struct osm__admission_call *call, const char *why)
{
    osm_admission_deny(&call->admission, why);
    answer(call);
}

/* --- the Secret --- */

static void written(void *ud, const struct osm_kube_answer *a)
{
    struct osm__admission_call *call = ud;
    const struct osm_admission *admission = &call->admission;
    char why[OSM__WEBHOOK_REASON];
    if (a->rc == OSM_ECANCELED)
        return;
    if (a->rc || *a->why) {
        (void)snprintf(why, sizeof why, "the Secret of the sidecar cannot be made: %.400s%s",
                       a->why,
                       a->status == 403 ? "; the injector's role needs create of secrets" : "");
        deny(call, why);
        return;
    }
    osm__secrets_made(call->w, admission->ns, admission->id.uuid,
                      osm_json_text(json_object_get(a->object, "metadata"), "uid"));
    answer(call);
}

static void write_secret(struct osm__admission_call *call)
{
    char *path = osm_strf("/api/v1/namespaces/%s/secrets", call->admission.ns);
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
                                 &call->err)
                  : osm_fail(&call->err, OSM_ENOMEM, "out of memory");
    osm_free(path);
    if (rc)
        deny(call, call->err.msg);
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
    if (!call->w) {
        call_free(call);
        return;
    }
    int rc =
        call->leaf
            ? osm_admission_inject(&call->admission, &call->w->config.injector, call->mesh_config,
                                   osm_leaf_chain_pem(call->leaf), osm_leaf_key_pem(call->leaf),
                                   osm_ca_roots_pem(call->ca), &call->secret, &call->err)
            : call->err.code;
    if (rc)
        deny(call, call->err.msg);
    else if (call->secret && osm_http_alive(call->request))
        write_secret(call);
    else
        answer(call); /* a dry run, or nobody waits any more */
}

static void sign(struct osm__admission_call *call)
{
    call->ca = osm_ca_ref(call->w->ca);
    call->common_name =
        osm_proxy_common_name(&call->admission.id, call->w->config.injector.trust_domain);
    call->signing =
        call->common_name && !osm_loop_work(call->w->config.loop, sign_on_pool, signed_back, call);
    if (!call->signing)
        deny(call, "out of memory");
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

/* Both have ended. What could not be read is no "there is none": a pod would be without a sidecar,
 * or would have one that does not know what it may. */
static void read_ended(struct osm__admission_call *call)
{
    if (--call->awaited)
        return;
    if (call->err.code)
        deny(call, call->err.msg);
    else
        decide(call);
}

static void take(struct osm__admission_call *call, const struct osm_kube_answer *a, json_t **out)
{
    if (a->rc == OSM_ECANCELED)
        return;
    if (a->rc || (*a->why && a->status != 404))
        (void)osm_fail(&call->err, OSM_EIO, "cannot decide about a sidecar: %.400s", a->why);
    else if (a->object)
        *out = json_incref(a->object);
    read_ended(call);
}

static void namespace_read(void *ud, const struct osm_kube_answer *a)
{
    struct osm__admission_call *call = ud;
    take(call, a, &call->ns);
}

static void mesh_config_read(void *ud, const struct osm_kube_answer *a)
{
    struct osm__admission_call *call = ud;
    take(call, a, &call->mesh_config);
}

static void read_from_server(struct osm__admission_call *call)
{
    char *paths[2] = {osm_strf("/api/v1/namespaces/%s", call->admission.ns),
                      osm_strf("/apis/config.openservicemesh.io/v1alpha2/namespaces/%s/meshconfigs/"
                               "osm-mesh-config",
                               call->w->config.injector.osm_namespace)};
    const char *resources[2] = {"namespaces", "meshconfigs"};
    void (*done[2])(void *ud, const struct osm_kube_answer *a) = {namespace_read, mesh_config_read};
    call->awaited = 1; /* this */
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

void osm__webhook_admit(void *ud, struct osm_http_request *request)
{
    struct osm_webhook *w = ud;
    size_t len = 0;
    const char *body = osm_http_body(request, &len);
    if (!is_json(osm_http_header(request, "content-type"))) {
        osm_http_reply_text(request, 415, "Content-Type: expected application/json");
        return;
    }
    if (!len) {
        osm_http_reply_text(request, 400, "expected an AdmissionReview");
        return;
    }
    struct osm__admission_call *call = osm_alloc(sizeof *call);
    if (!call || osm_admission_read(&call->admission, body, len, &call->err)) {
        if (call)
            call_free(call);
        osm_http_reply_text(request, 500, "out of memory");
        return;
    }
    call->w = w;
    call->request = request;
    call->prev = &w->calls;
    call->next = w->calls;
    if (call->next)
        call->next->prev = &call->next;
    w->calls = call;
    if (call->admission.outcome == OSM_ADMISSION_DENY)
        answer(call);
    else
        read_from_server(call);
}

void osm__webhook_end_calls(struct osm_webhook *w)
{
    while (w->calls) {
        struct osm__admission_call *call = w->calls;
        osm_kube_cancel(call->reading[0]);
        osm_kube_cancel(call->reading[1]);
        osm_kube_cancel(call->writing);
        osm_http_reply_text(call->request, 503, "the daemon is stopping");
        unlink_call(call);
        call->w = NULL;
        if (!call->signing)
            call_free(call);
    }
}
