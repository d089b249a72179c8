/* A review from its bytes to the pod that the API server would store: what the tests of injection
 * share. */
#pragma once

#include "inject_util.h"
#include "json_patch.h"

#include "base/base64.h"
#include "base/yaml.h"
#include "inject/admission.h"
#include "model/object.h"

/* Texts of the tests are YAML. The caller owns it. */
static inline json_t *yaml(const char *text)
{
    struct osm_yaml_docs docs = {NULL, 0};
    struct osm_err err = {0};
    if (osm_yaml_parse(text, strlen(text), &docs, NULL, &err) || docs.len != 1)
        fail_msg("%s: %s", err.msg, text);
    json_t *value = json_incref(docs.list[0].value);
    osm_yaml_docs_clear(&docs);
    return value;
}

static inline json_t *apply(const json_t *doc, const json_t *ops)
{
    char why[JSON_PATCH_WHY] = "";
    json_t *made = json_patch(doc, ops, why);
    if (!made)
        fail_msg("patch: %s", why);
    return made;
}

/* --- a review and its answer --- */

struct rig {
    struct osm_injector injector;
    const char *ns;          /* its body as YAML; NULL: there is none */
    const char *mesh_config; /* the same */
    bool dry_run;
    /* filled by ask() */
    struct osm_admission a;
    json_t *pod, *response, *patch, *patched, *secret;
};

#define MONITORED                                                                                  \
    "metadata: {name: shop, labels: {openservicemesh.io/monitored-by: osm}, annotations: {"
#define ENABLED MONITORED "openservicemesh.io/sidecar-injection: enabled}}"

static inline struct rig rig(void)
{
    return (struct rig){.injector = {.mesh_name = "osm",
                                     .osm_namespace = "osm-system",
                                     .trust_domain = "cluster.local",
                                     .envoy_image = "envoy:1",
                                     .envoy_windows_image = "envoy-windows:1",
                                     .init_image = "init:1",
                                     .healthcheck_image = "healthcheck:1",
                                     .pull_policy = "Always",
                                     .ads_port = 15128},
                        .ns = ENABLED};
}

static inline void clear(struct rig *r)
{
    osm_admission_clear(&r->a);
    osm_webhook_wipe_secret(r->secret);
    json_t **const all[] = {&r->pod, &r->response, &r->patch, &r->patched, &r->secret};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        json_decref(*all[i]);
        *all[i] = NULL;
    }
}

static inline void read_answer(struct rig *r, const json_t *answer)
{
    struct osm_buf text = OSM_BUF_INIT(1 << 20);
    r->response = json_incref(json_object_get(answer, "response"));
    assert_non_null(r->response);
    const json_t *patch = json_object_get(r->response, "patch");
    if (!patch)
        return;
    assert_string_equal(json_string_value(json_object_get(r->response, "patchType")), "JSONPatch");
    assert_int_equal(osm_base64_decode(&text, json_string_value(patch), json_string_length(patch)),
                     0);
    r->patch = json_loadb(text.data, text.len, JSON_ALLOW_NUL, NULL);
    assert_non_null(r->patch);
    osm_buf_clear(&text);
    r->patched = apply(r->pod, r->patch);
}

/* Asks about @p pod, which the rig takes. What there was before is gone. */
static inline void ask_json(struct rig *r, json_t *pod)
{
    json_t *ns = r->ns ? yaml(r->ns) : NULL, *mesh = r->mesh_config ? yaml(r->mesh_config) : NULL;
    clear(r);
    r->pod = pod;
    json_t *review =
        json_pack("{s:s, s:s, s:{s:s, s:{s:s, s:s, s:s}, s:s, s:s, s:b, s:O}}", "apiVersion",
                  "admission.k8s.io/v1", "kind", "AdmissionReview", "request", "uid", "uid-1",
                  "kind", "group", "", "version", "v1", "kind", "Pod", "operation", "CREATE",
                  "namespace", "shop", "dryRun", r->dry_run, "object", pod);
    char *text = json_dumps(review, 0);
    assert_non_null(text);
    assert_int_equal(osm_admission_read(&r->a, text, strlen(text), NULL), 0);
    osm_admission_decide(&r->a, &r->injector, ns, mesh);
    if (r->a.outcome == OSM_ADMISSION_INJECT)
        assert_int_equal(osm_admission_inject(&r->a, &r->injector, mesh, "chain\n", "key\n",
                                              "roots\n", &r->secret, NULL),
                         0);
    json_t *answer = osm_admission_response(&r->a);
    assert_non_null(answer);
    assert_string_equal(osm_json_str_at(answer, "kind", NULL), "AdmissionReview");
    assert_string_equal(osm_json_str_at(answer, "response", "uid", NULL), "uid-1");
    read_answer(r, answer);
    json_decref(answer);
    free(text);
    json_decref(review);
    json_decref(ns);
    json_decref(mesh);
}

static inline void ask(struct rig *r, const char *pod)
{
    ask_json(r, yaml(pod));
}

static inline bool is_allowed(const struct rig *r)
{
    return json_is_true(json_object_get(r->response, "allowed"));
}

static inline void is_denied_with(struct rig *r, const char *part)
{
    const char *message = osm_json_str_at(r->response, "status", "message", NULL);
    if (is_allowed(r) || !message || !strstr(message, part))
        fail_msg("expected a denial with \"%s\", got: %s", part, message ? message : "none");
    assert_null(r->patch);
    assert_null(r->secret);
    assert_int_equal(json_integer_value(osm_json_at(r->response, "status", "code", NULL)), 403);
}

/* Equal as JSON, or both texts are shown. */
static inline void same(const json_t *got, const char *expected)
{
    json_t *wanted = yaml(expected);
    if (!json_equal(got, wanted)) {
        char *a = json_dumps(got, JSON_INDENT(1) | JSON_SORT_KEYS | JSON_ENCODE_ANY);
        char *b = json_dumps(wanted, JSON_INDENT(1) | JSON_SORT_KEYS | JSON_ENCODE_ANY);
        fail_msg("got %s\nexpected %s", a ? a : "nothing", b);
    }
    json_decref(wanted);
}

static inline json_t *at(const json_t *list, const char *name)
{
    size_t i;
    json_t *item;
    json_array_foreach ((json_t *)(uintptr_t)list, i, item)
        if (!strcmp(osm_json_str_at(item, "name", NULL), name))
            return item;
    return NULL;
}

/* Of the patched pod's spec. */
static inline json_t *container(const struct rig *r, const char *name)
{
    return at(osm_json_at(r->patched, "spec", "containers", NULL), name);
}

/* A file of the Secret; osm_buf_clear. */
static inline struct osm_buf file_of(const struct rig *r, const char *name)
{
    struct osm_buf out = OSM_BUF_INIT(1 << 20);
    const char *text = osm_json_str_at(r->secret, "data", name, NULL);
    assert_non_null(text);
    assert_int_equal(osm_base64_decode(&out, text, strlen(text)), 0);
    return out;
}
