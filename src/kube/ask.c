#include "kube/ask.h"

#include "base/buf.h"
#include "base/utf8.h"

#include <stdio.h>
#include <string.h>

enum { DEADLINE_MS = 30 * 1000, DOCUMENT_MAX_BYTES = 16 << 20, WHY_MAX = 640 };

const char osm_kube_merge_patch[] = "application/merge-patch+json";

struct asking {
    struct osm_kube_call **place;
    void *ud;
    void (*done)(void *ud, const struct osm_kube_answer *answer);
    const char *method; /* a literal */
    char path[256];     /* cut: for words only */
};

static void explain(const struct asking *a, const struct osm_kube_result *result, char *out,
                    size_t size)
{
    const char *colon = *result->message ? ": " : "";
    if (result->status)
        (void)snprintf(out, size, "%s %s: %d%s%s%s%.400s", a->method, a->path, result->status,
                       *result->reason ? " " : "", result->reason, colon, result->message);
    else
        (void)snprintf(out, size, "%s %s%s%.400s", a->method, a->path, colon, result->message);
    (void)osm_utf8_repair(out);
}

static void on_done(void *ud, const struct osm_kube_result *result)
{
    struct asking *a = ud;
    char why[WHY_MAX] = "";
    bool is_success = !result->rc && result->status >= 200 && result->status < 300;
    struct osm_kube_answer answer = {.rc = result->rc,
                                     .status = result->status,
                                     .reason = result->reason,
                                     .why = why,
                                     .retry_after_s = result->retry_after_s};
    *a->place = NULL;
    if (is_success && result->body && result->body->len) {
        answer.object = json_loadb(result->body->data, result->body->len, JSON_ALLOW_NUL, NULL);
        if (!json_is_object(answer.object)) {
            json_decref(osm_take_ptr(&answer.object));
            answer.rc = OSM_EPARSE;
            (void)snprintf(why, sizeof why, "%s %s: the answer is no JSON object", a->method,
                           a->path);
        }
    } else if (!is_success) {
        explain(a, result, why, sizeof why);
    }
    a->done(a->ud, &answer);
    json_decref(answer.object);
    osm_free(a);
}

static int append(const char *bytes, size_t len, void *buf)
{
    return osm_buf_add(buf, bytes, len) ? -1 : 0;
}

/* Not by a buffer of jansson's own, which would leave copies of a key behind. */
static int write_body(struct osm_buf *out, const json_t *body)
{
    return json_dump_callback(body, append, out, JSON_COMPACT);
}

int osm_kube_ask(struct osm_kube_call **call, struct osm_kube *kube, const struct osm_kube_ask *ask,
                 struct osm_err *err)
{
    struct asking *a = osm_alloc(sizeof *a);
    struct osm_buf body = OSM_BUF_INIT(DOCUMENT_MAX_BYTES);
    body.secret = ask->secret;
    int rc = a && (!ask->body || !write_body(&body, ask->body))
                 ? 0
                 : osm_fail(err, OSM_ENOMEM, "request");
    if (!rc) {
        *a = (struct asking){.place = call, .ud = ask->ud, .done = ask->done};
        a->method = ask->method ? ask->method : "GET";
        (void)snprintf(a->path, sizeof a->path, "%.*s", (int)strcspn(ask->path, "?"), ask->path);
        const char *type = ask->content_type ? ask->content_type : "application/json";
        const struct osm_kube_request request = {.verb = ask->verb,
                                                 .resource = ask->resource,
                                                 .method = ask->method,
                                                 .path = ask->path,
                                                 .accept = ask->accept,
                                                 .content_type = ask->body ? type : NULL,
                                                 .body = body.data,
                                                 .body_len = body.len,
                                                 .deadline_ms = DEADLINE_MS,
                                                 .body_max = DOCUMENT_MAX_BYTES,
                                                 .secret = ask->secret,
                                                 .ud = a,
                                                 .done = on_done};
        rc = osm_kube_start(call, kube, &request, err);
    }
    osm_buf_clear(&body);
    if (rc)
        osm_free(a);
    return rc;
}

/* "... is forbidden: User "x" cannot create resource "secrets" ...", of every authorizer. */
bool osm_kube_lacks_right(const struct osm_kube_answer *answer)
{
    return answer->status == 403 && strstr(answer->why, "\" cannot ");
}

void osm_kube_wipe(json_t *text)
{
    size_t n = json_string_length(text);
    if (n)
        explicit_bzero((char *)(uintptr_t)json_string_value(text), n);
}
