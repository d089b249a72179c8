#include "inject/admission.h"

#include "base/base64.h"
#include "inject/admission_priv.h"
#include "inject/check.h"
#include "inject/review.h"
#include "model/object.h"

#include <stdio.h>
#include <string.h>

enum {
    REVIEW_MAX_BYTES = 4 << 20,
    UID_MAX_BYTES = 128,
    PATCH_MAX_BYTES = 16 << 20,
};

/* --- reading --- */

int osm__admission_coded(struct osm_admission *a, enum osm__admission_code code, int rc)
{
    if (rc)
        a->code = (int)code;
    return rc;
}

int osm_admission_code(const struct osm_admission *a)
{
    return a->outcome == OSM_ADMISSION_DENY ? a->code : 0;
}

/* What can be echoed is taken first: also a bad review is answered so that its asker knows it. */
static int read_head(struct osm_admission *a, const json_t *request, struct osm_err *err)
{
    const char *version = osm_json_str_at(a->review, "apiVersion", NULL);
    const json_t *uid = json_object_get(request, "uid");
    size_t uid_bytes = json_string_length(uid);
    if (json_is_string(uid) && uid_bytes <= UID_MAX_BYTES &&
        strlen(json_string_value(uid)) == uid_bytes)
        a->uid = json_string_value(uid);
    if (version &&
        (!strcmp(version, "admission.k8s.io/v1") || !strcmp(version, "admission.k8s.io/v1beta1")))
        a->api_version = version;
    if (!json_is_object(request))
        return osm__admission_coded(a, OSM__NIL_REQUEST,
                                    osm_fail(err, OSM_EINVAL, "nil admission request"));
    if (!a->api_version)
        return osm_fail(err, OSM_EINVAL,
                        "admission review: its apiVersion is not admission.k8s.io/v1");
    if (!a->uid)
        return osm_fail(err, OSM_EINVAL, "admission request: has no uid");
    return osm__review_texts(a->review, err);
}

/* The registration asks for pods of whatever group, as Open Service Mesh's does: what is none of
 * Kubernetes' own passes. */
static bool is_foreign(const json_t *request)
{
    const char *group = osm_json_str_at(request, "kind", "group", NULL);
    return group && *group;
}

static int read_target(const json_t *request, struct osm_err *err)
{
    const char *operation = osm_json_str_at(request, "operation", NULL);
    const char *version = osm_json_str_at(request, "kind", "version", NULL);
    const char *kind = osm_json_str_at(request, "kind", "kind", NULL);
    const char *sub = osm_json_str_at(request, "subResource", NULL);
    if (!is_foreign(request) && (!version || !kind || strcmp(version, "v1") != 0 ||
                                 strcmp(kind, "Pod") != 0 || (sub && *sub)))
        return osm_fail(
            err, OSM_EINVAL, "admission request: is for %s %s%s%s: only v1 Pods get sidecars",
            version ? version : "", kind ? kind : "", sub && *sub ? "/" : "", sub ? sub : "");
    if (!operation || strcmp(operation, "CREATE") != 0)
        return osm_fail(err, OSM_EINVAL,
                        "admission request: operation %s: pods get sidecars on CREATE only",
                        operation ? operation : "");
    return 0;
}

/* Of the bytes of names, of which a generateName is a beginning. */
static bool is_plain(const char *name)
{
    return !name[strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-.")];
}

static int read_pod(struct osm_admission *a, const json_t *request, struct osm_err *err)
{
    const json_t *dry_run = json_object_get(request, "dryRun");
    const char *asked = osm_json_str_at(request, "namespace", NULL);
    a->pod = json_object_get(request, "object");
    int rc = osm__review_pod_texts(a->pod, err);
    if (rc)
        return rc;
    const char *own = osm_json_str_at(a->pod, "metadata", "namespace", NULL);
    const char *name = osm_json_str_at(a->pod, "metadata", "name", NULL);
    if (!name || !*name)
        name = osm_json_str_at(a->pod, "metadata", "generateName", NULL);
    a->dry_run = json_is_true(dry_run);
    (void)snprintf(a->name, sizeof a->name, "%s", name && is_plain(name) ? name : "");
    if (dry_run && !json_is_boolean(dry_run) && !json_is_null(dry_run))
        return osm_fail(err, OSM_EINVAL, "admission request: dryRun: expected true or false");
    if (!json_is_object(osm_json_at(a->pod, "metadata", NULL)) ||
        !json_is_array(osm_json_at(a->pod, "spec", "containers", NULL)))
        return osm_fail(err, OSM_EINVAL,
                        "admission request: its object has no metadata or no spec.containers");
    if (asked && *asked && own && *own && strcmp(asked, own) != 0)
        return osm_fail(err, OSM_EINVAL, "admission request: is for namespace %s, its pod is of %s",
                        asked, own);
    const char *ns = own && *own ? own : asked;
    rc = osm__check_name("admission request: namespace", ns, false, sizeof a->ns - 1, err);
    if (!rc)
        (void)snprintf(a->ns, sizeof a->ns, "%s", ns);
    return rc;
}

/* Of the head of what is no pod: the namespace, for the log. */
static int read_foreign(struct osm_admission *a, const json_t *request, struct osm_err *err)
{
    const char *ns = osm_json_str_at(request, "namespace", NULL);
    int rc = ns && *ns
                 ? osm__check_name("admission request: namespace", ns, false, sizeof a->ns - 1, err)
                 : 0;
    if (!rc)
        (void)snprintf(a->ns, sizeof a->ns, "%s", ns ? ns : "");
    (void)snprintf(a->reason, sizeof a->reason, "it is no Pod of Kubernetes but of group %.100s",
                   osm_json_str_at(request, "kind", "group", NULL));
    return rc;
}

static int read_request(struct osm_admission *a, struct osm_err *err)
{
    const json_t *request = json_object_get(a->review, "request");
    int rc = read_head(a, request, err);
    if (!rc)
        rc = read_target(request, err);
    if (!rc)
        rc = is_foreign(request) ? read_foreign(a, request, err) : read_pod(a, request, err);
    return rc;
}

static int read_review(struct osm_admission *a, const char *body, size_t len, struct osm_err *err)
{
    json_error_t where;
    if (!len)
        return osm__admission_coded(a, OSM__NIL_BODY,
                                    osm_fail(err, OSM_EINVAL, "admission review: is empty"));
    if (len > REVIEW_MAX_BYTES)
        return osm__admission_coded(a, OSM__READING_BODY,
                                    osm_fail(err, OSM_EINVAL,
                                             "admission review: has more than %d bytes",
                                             REVIEW_MAX_BYTES));
    int rc = osm__review_bounds(body, len, err);
    if (rc)
        return osm__admission_coded(a, OSM__DECODING_BODY, rc);
    a->review = json_loadb(body, len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &where);
    if (a->review)
        return read_request(a, err);
    if (json_error_code(&where) == json_error_out_of_memory)
        return osm_fail(err, OSM_ENOMEM, "admission review");
    return osm__admission_coded(a, OSM__DECODING_BODY,
                                osm_fail(err, OSM_EINVAL,
                                         "admission review: is no JSON: line %d, column %d: %s",
                                         where.line, where.column, where.text));
}

int osm_admission_read(struct osm_admission *a, const char *body, size_t len, struct osm_err *err)
{
    struct osm_err why = {0};
    *a = (struct osm_admission){.outcome = OSM_ADMISSION_ALLOW};
    int rc = read_review(a, body, len, &why);
    if (rc == OSM_ENOMEM)
        return osm_fail(err, rc, "%s", why.msg);
    if (rc)
        osm_admission_deny(a, why.msg);
    return 0;
}

void osm_admission_clear(struct osm_admission *a)
{
    json_decref(a->patch);
    json_decref(a->warnings);
    json_decref(a->probe_texts);
    osm_free(a->probes);
    json_decref(a->review);
    *a = (struct osm_admission){.outcome = OSM_ADMISSION_DENY};
}

/* --- the answer --- */

void osm_admission_deny(struct osm_admission *a, const char *why)
{
    struct osm_err cut = {0}; /* where a text may be cut */
    (void)osm_fail(&cut, OSM_EINVAL, "%s", why);
    a->outcome = OSM_ADMISSION_DENY;
    (void)snprintf(a->reason, sizeof a->reason, "%s", cut.msg);
}

static int append(const char *bytes, size_t len, void *buf)
{
    return osm_buf_add(buf, bytes, len) ? -1 : 0;
}

/* 15 digits: with more, 0.1 would be a little more, and a quantity of Kubernetes would keep that.
 */
int osm__dump(struct osm_buf *out, const json_t *value)
{
    int rc = json_dump_callback(value, append, out, JSON_COMPACT | JSON_REAL_PRECISION(15));
    return rc && !out->failed ? OSM_ENOMEM : out->failed;
}

static int add_patch(json_t *response, const struct osm_admission *a)
{
    struct osm_buf text = OSM_BUF_INIT(PATCH_MAX_BYTES), encoded = OSM_BUF_INIT(PATCH_MAX_BYTES);
    int rc = osm__dump(&text, a->patch);
    if (!rc)
        rc = osm_base64_encode(&encoded, text.data, text.len);
    if (!rc && (json_object_set_new(response, "patchType", json_string("JSONPatch")) ||
                json_object_set_new(response, "patch", json_string(encoded.data))))
        rc = OSM_ENOMEM;
    osm_buf_clear(&text);
    osm_buf_clear(&encoded);
    return rc;
}

json_t *osm_admission_response(const struct osm_admission *a)
{
    bool is_denied = a->outcome == OSM_ADMISSION_DENY;
    json_t *response = json_pack("{s:s, s:b}", "uid", a->uid ? a->uid : "", "allowed", !is_denied);
    int rc = response ? 0 : OSM_ENOMEM;
    if (!rc && is_denied)
        rc = json_object_set_new(response, "status",
                                 json_pack("{s:s, s:s, s:s, s:i}", "status", "Failure", "message",
                                           a->reason, "reason",
                                           a->is_transient ? "ServiceUnavailable" : "Forbidden",
                                           "code", a->is_transient ? 503 : 403));
    if (!rc && a->outcome == OSM_ADMISSION_INJECT)
        rc = add_patch(response, a);
    if (!rc && json_array_size(a->warnings))
        rc = json_object_set(response, "warnings", a->warnings);
    if (rc) {
        json_decref(response);
        return NULL;
    }
    return json_pack("{s:s, s:s, s:o}", "apiVersion",
                     a->api_version ? a->api_version : "admission.k8s.io/v1", "kind",
                     "AdmissionReview", "response", response);
}
