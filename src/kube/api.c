#include "kube/api.h"

#include "base/check.h"
#include "base/json.h"
#include "base/metrics.h"
#include "base/utf8.h"
#include "kube/credentials.h"

#include <stdio.h>
#include <string.h>

enum { ERROR_MAX_BYTES = 64 << 10, HEADERS = 8, IMPERSONATION_MAX = 64 };

struct osm_kube {
    struct osm_loop *loop;
    struct osm_kube_config config;
    struct osm_http_client *http;
    struct osm_kube_credentials *credentials;
    struct osm_kube_call *calls;
};

struct osm_kube_call {
    struct osm_kube *kube;
    struct osm_kube_call *next, **prev;
    struct osm_kube_request request; /* path and body: copies */
    char *url, *body_copy;
    struct osm_http_fetch *fetch; /* NULL: waits for credentials */
    struct osm_buf body;          /* of a success that is collected, or of an error */
    int status;
    bool counted;
};

/* --- the end --- */

static void count(struct osm_kube_call *call, int status)
{
    char code[16] = "none";
    if (call->counted)
        return;
    call->counted = true;
    if (status)
        (void)snprintf(code, sizeof code, "%d", status);
    osm_metric_add(OSM_METRIC_KUBE_REQUESTS,
                   OSM_LABELS(call->request.verb, call->request.resource, code), 1);
}

static void destroy(struct osm_kube_call *call)
{
    *call->prev = call->next;
    if (call->next)
        call->next->prev = call->prev;
    osm_buf_clear(&call->body);
    osm_free(call->url);
    if (call->request.secret)
        osm_free_secret(call->body_copy, call->request.body_len);
    else
        osm_free(call->body_copy);
    osm_free(call);
}

/* What the server says of an error: a Status object, a line of text, or a page for browsers. */
static void explain(struct osm_kube_result *result, const struct osm_kube_call *call,
                    const json_t *status, char *text, size_t size)
{
    const char *body = call->body.data ? call->body.data : "";
    result->reason = osm_json_text(status, "reason");
    (void)snprintf(text, size, "%s", osm_json_text(status, "message"));
    if (!*text && *body && *body != '<' && *body != '{')
        (void)snprintf(text, size, "%.*s", (int)strcspn(body, "\r\n"), body);
    result->message = osm_utf8_repair(text);
}

static void end(struct osm_kube_call *call, const struct osm_http_result *http)
{
    char text[320] = "";
    struct osm_kube_result result = {.rc = http->rc,
                                     .status = http->status,
                                     .reason = "",
                                     .message = http->error,
                                     .retry_after_s = http->retry_after_s,
                                     .body = &call->body};
    json_t *status = NULL;
    bool is_success = http->status >= 200 && http->status < 300;
    if (http->status && !is_success) {
        status = call->body.data ? json_loadb(call->body.data, call->body.len, 0, NULL) : NULL;
        explain(&result, call, status, text, sizeof text);
        if (http->status == 401)
            osm_kube_credentials_refused(call->kube->credentials);
    }
    count(call, http->status);
    call->request.done(call->request.ud, &result);
    json_decref(status);
    destroy(call);
}

static void on_done(void *ud, const struct osm_http_result *result)
{
    struct osm_kube_call *call = ud;
    call->fetch = NULL;
    end(call, result);
}

/* --- what arrives --- */

static void on_head(void *ud, struct osm_http_fetch *fetch, int status)
{
    struct osm_kube_call *call = ud;
    (void)fetch;
    call->status = status;
    count(call, status);
    if (status >= 200 && status < 300 && call->request.head)
        call->request.head(call->request.ud);
}

static int on_data(void *ud, struct osm_http_fetch *fetch, const char *bytes, size_t len)
{
    struct osm_kube_call *call = ud;
    bool is_success = call->status >= 200 && call->status < 300;
    (void)fetch;
    if (is_success && call->request.data)
        return call->request.data(call->request.ud, bytes, len);
    if (is_success)
        return osm_buf_add(&call->body, bytes, len);
    size_t room = ERROR_MAX_BYTES - call->body.len;
    (void)osm_buf_add(&call->body, bytes, len < room ? len : room);
    return 0;
}

/* --- the beginning --- */

static int start_fetch(struct osm_kube_call *call, struct osm_err *err)
{
    struct osm_kube *kube = call->kube;
    struct osm_kube_identity identity;
    int rc = osm_kube_credentials_get(kube->credentials, &identity, err);
    if (rc)
        return rc;
    const char *headers[HEADERS + IMPERSONATION_MAX];
    char accept[160], type[96];
    size_t n = 0;
    (void)snprintf(accept, sizeof accept, "Accept: %s",
                   call->request.accept ? call->request.accept : "application/json");
    headers[n++] = accept;
    if (call->request.content_type) {
        (void)snprintf(type, sizeof type, "Content-Type: %s", call->request.content_type);
        headers[n++] = type;
    }
    if (identity.authorization)
        headers[n++] = identity.authorization;
    for (char **more = kube->config.headers; more && *more && n < HEADERS + IMPERSONATION_MAX - 1;)
        headers[n++] = *more++;
    headers[n] = NULL;
    const struct osm_http_fetch_config fetch = {.method = call->request.method,
                                                .url = call->url,
                                                .headers = headers,
                                                .body = call->body_copy,
                                                .body_len = call->request.body_len,
                                                .tls = &identity.tls,
                                                .proxy = kube->config.proxy,
                                                .deadline_ms = call->request.deadline_ms,
                                                .idle_ms = call->request.idle_ms,
                                                .ud = call,
                                                .head = on_head,
                                                .data = on_data,
                                                .done = on_done};
    return osm_http_fetch_start(&call->fetch, kube->http, &fetch, err);
}

static void credentials_changed(void *ud)
{
    struct osm_kube *kube = ud;
    for (struct osm_kube_call *call = kube->calls, *next; call; call = next) {
        struct osm_err err = {0};
        next = call->next;
        int rc = call->fetch ? 0 : start_fetch(call, &err);
        if (!rc || rc == OSM_EBUSY)
            continue;
        const struct osm_http_result result = {.rc = rc, .retry_after_s = -1, .error = err.msg};
        end(call, &result);
        next = kube->calls; /* its owner may have ended others; those that go on are passed over */
    }
}

int osm_kube_start(struct osm_kube_call **out, struct osm_kube *kube,
                   const struct osm_kube_request *request, struct osm_err *err)
{
    struct osm_kube_call *call = osm_alloc(sizeof *call);
    if (!call)
        return osm_fail(err, OSM_ENOMEM, "%s", osm_code_text(OSM_ENOMEM));
    call->kube = kube;
    call->request = *request;
    call->request.path = NULL;
    call->request.body = NULL;
    size_t max = request->body_max > ERROR_MAX_BYTES ? request->body_max : ERROR_MAX_BYTES;
    call->body = (struct osm_buf)OSM_BUF_INIT(max);
    call->body.secret = request->secret;
    call->url = osm_strf("%s%s", kube->config.server, request->path);
    call->body_copy = request->body ? osm_strndup(request->body, request->body_len) : NULL;
    call->next = kube->calls;
    call->prev = &kube->calls;
    if (call->next)
        call->next->prev = &call->next;
    kube->calls = call;
    int rc = call->url && (call->body_copy || !request->body)
                 ? start_fetch(call, err)
                 : osm_fail(err, OSM_ENOMEM, "%s", osm_code_text(OSM_ENOMEM));
    if (rc && rc != OSM_EBUSY) {
        destroy(call);
        return rc;
    }
    *out = call;
    return 0;
}

void osm_kube_cancel(struct osm_kube_call *call)
{
    if (!call)
        return;
    if (call->fetch) {
        osm_http_fetch_cancel(call->fetch);
        return;
    }
    const struct osm_http_result result = {
        .rc = OSM_ECANCELED, .retry_after_s = -1, .error = osm_code_text(OSM_ECANCELED)};
    end(call, &result);
}

/* --- life --- */

int osm_kube_new(struct osm_kube **out, struct osm_loop *loop, struct osm_kube_config *config,
                 struct osm_err *err)
{
    struct osm_kube *kube = osm_alloc(sizeof *kube);
    if (!kube)
        return osm_fail(err, OSM_ENOMEM, "API server");
    kube->loop = loop;
    kube->config = *config;
    const struct osm_http_client_config http = {.loop = loop,
                                                .user_agent = "osm-controller/" OSM_VERSION};
    int rc = osm_http_client_new(&kube->http, &http, err);
    if (!rc)
        rc = osm_kube_credentials_new(&kube->credentials, loop, &kube->config, credentials_changed,
                                      kube, err);
    if (rc) {
        osm_http_client_free(kube->http);
        osm_free(kube);
        return rc;
    }
    *config = (struct osm_kube_config){0};
    *out = kube;
    return 0;
}

void osm_kube_free(struct osm_kube *kube)
{
    if (!kube)
        return;
    while (kube->calls)
        osm_kube_cancel(kube->calls);
    osm_http_client_free(kube->http);
    osm_kube_credentials_free(kube->credentials);
    osm_kube_config_clear(&kube->config);
    osm_free(kube);
}

const struct osm_kube_config *osm_kube_config_of(const struct osm_kube *kube)
{
    return &kube->config;
}
