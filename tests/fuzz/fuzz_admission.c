/* A Pod, or a whole AdmissionReview, as whoever may create pods can write them: JSON, and behind a
 * NUL maybe a MeshConfig. Whatever they are, there is an answer; a patch applies to the pod and
 * leaves its containers first; the Secret's files can be read; and the pod that comes out of it is
 * taken for a copy, whose Envoy answers for the same probes. */
#include "base/base64.h"
#include "base/check.h"
#include "base/yaml.h"
#include "inject/admission.h"
#include "inject/json_patch.h"
#include "model/object.h"

#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct osm_injector injector = {.mesh_name = "osm",
                                             .osm_namespace = "osm-system",
                                             .trust_domain = "cluster.local",
                                             .envoy_image = "envoy",
                                             .envoy_windows_image = "windows",
                                             .init_image = "init",
                                             .healthcheck_image = "healthcheck",
                                             .ads_port = 15128};

static json_t *monitored(void)
{
    static json_t *ns;
    if (!ns)
        ns = json_pack("{s:{s:{s:s}, s:{s:s, s:s}}}", "metadata", "labels",
                       "openservicemesh.io/monitored-by", "osm", "annotations",
                       "openservicemesh.io/sidecar-injection", "enabled",
                       "openservicemesh.io/metrics", "enabled");
    return ns;
}

/* A review of this pod; the text is free()'s. */
static char *review_of(json_t *pod)
{
    json_t *review =
        json_pack("{s:s, s:{s:s, s:{s:s, s:s}, s:s, s:s, s:O}}", "apiVersion",
                  "admission.k8s.io/v1", "request", "uid", "u", "kind", "version", "v1", "kind",
                  "Pod", "operation", "CREATE", "namespace", "red", "object", pod);
    char *text = json_dumps(review, JSON_COMPACT);
    json_decref(review);
    return text;
}

static void check_secret(const json_t *secret)
{
    static const char *const names[] = {"bootstrap.yaml", "tls_certificate_sds_secret.yaml",
                                        "validation_context_sds_secret.yaml"};
    for (size_t i = 0; i < 3; i++) {
        struct osm_buf text = OSM_BUF_INIT(1 << 20);
        struct osm_yaml_docs docs = {NULL, 0};
        const char *value = osm_json_str_at(secret, "data", names[i], NULL);
        OSM_REQUIRE(value && !osm_base64_decode(&text, value, strlen(value)));
        OSM_REQUIRE(!osm_yaml_parse(text.data, text.len, &docs, NULL, NULL) && docs.len == 1);
        osm_yaml_docs_clear(&docs);
        osm_buf_clear(&text);
    }
}

static void check_first(const json_t *before, const json_t *after, const char *list)
{
    const json_t *was = osm_json_at(before, "spec", list, NULL);
    const json_t *is = osm_json_at(after, "spec", list, NULL);
    size_t i;
    json_t *each;
    json_array_foreach ((json_t *)(uintptr_t)was, i, each) {
        const json_t *name = json_object_get(each, "name");
        const json_t *name_now = json_object_get(json_array_get(is, i), "name");
        OSM_REQUIRE(name ? json_equal(name, name_now) : !name_now);
    }
}

/* Decides, and returns the pod with its sidecar; NULL: it gets none. */
static json_t *inject(struct osm_admission *a, const char *text, size_t len, const json_t *mesh)
{
    json_t *secret = NULL, *made = NULL;
    char why[JSON_PATCH_WHY];
    OSM_REQUIRE(!osm_admission_read(a, text, len, NULL));
    osm_admission_decide(a, &injector, monitored(), mesh);
    if (a->outcome == OSM_ADMISSION_INJECT &&
        !osm_admission_inject(a, &injector, mesh, "chain", "key", "roots", &secret, NULL)) {
        OSM_REQUIRE(a->dry_run == !secret);
        if (secret)
            check_secret(secret);
        made = json_patch(a->pod, a->patch, why);
        OSM_REQUIRE(made);
        check_first(a->pod, made, "containers");
        check_first(a->pod, made, "initContainers");
    }
    json_t *answer = osm_admission_response(a);
    OSM_REQUIRE(answer);
    OSM_REQUIRE(made != NULL == (osm_json_at(answer, "response", "patch", NULL) != NULL));
    OSM_REQUIRE((a->outcome == OSM_ADMISSION_DENY) ==
                (osm_json_at(answer, "response", "status", NULL) != NULL));
    json_decref(answer);
    osm_webhook_wipe_secret(secret);
    json_decref(secret);
    return made;
}

static void check_copy(const struct osm_admission *first, json_t *made, const json_t *mesh)
{
    struct osm_admission a;
    char *text = review_of(made);
    json_t *copy = inject(&a, text, strlen(text), mesh);
    OSM_REQUIRE(copy && a.is_copy && a.probes_len == first->probes_len);
    OSM_REQUIRE(strcmp(a.id.uuid, first->id.uuid) != 0);
    for (size_t i = 0; i < a.probes_len; i++) {
        const struct osm_bootstrap_probe *x = &a.probes[i], *y = &first->probes[i];
        OSM_REQUIRE(x->kind == y->kind && x->way == y->way && x->port == y->port &&
                    !strcmp(x->container, y->container) && !strcmp(x->path, y->path));
    }
    json_decref(copy);
    osm_admission_clear(&a);
    free(text);
}

static void check(const char *text, size_t len, const json_t *mesh)
{
    struct osm_admission a;
    json_t *made = inject(&a, text, len, mesh);
    if (made && !strcmp(a.ns, "red"))
        check_copy(&a, made, mesh);
    json_decref(made);
    osm_admission_clear(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    const char *split = size ? memchr(text, 0, size) : NULL;
    size_t len = split ? (size_t)(split - text) : size;
    json_t *mesh = split ? json_loadb(split + 1, size - len - 1, 0, NULL) : NULL;
    json_t *pod = json_loadb(text, len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
    if (json_object_get(pod, "spec")) {
        char *review = review_of(pod);
        check(review, strlen(review), mesh);
        free(review);
    } else {
        check(text, len, mesh);
    }
    json_decref(pod);
    json_decref(mesh);
    return 0;
}
