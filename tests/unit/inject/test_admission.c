/* Which pods get a sidecar, and what the API server is told of those that do not. */
#include "admission_util.h"

#include "inject/registration.h"

#define POD "metadata: {name: a}\nspec: {containers: [{name: app, image: x}]}"

/* --- A-INJ-02, 03: the annotations --- */

static bool injects(const char *ns_word, const char *pod_word)
{
    char ns[512], pod[512];
    struct rig r = rig();
    (void)snprintf(ns, sizeof ns, MONITORED "%s%s}}",
                   ns_word ? "openservicemesh.io/sidecar-injection: " : "", ns_word ? ns_word : "");
    (void)snprintf(pod, sizeof pod,
                   "metadata: {name: a, annotations: {%s%s}}\n"
                   "spec: {containers: [{name: app, image: x}]}",
                   pod_word ? "openservicemesh.io/sidecar-injection: " : "",
                   pod_word ? pod_word : "");
    r.ns = ns;
    ask(&r, pod);
    bool made = r.patch != NULL;
    if (!is_allowed(&r))
        fail_msg("%s", r.a.reason);
    assert_int_equal(r.secret != NULL, made);
    assert_int_equal(*r.a.reason != '\0', !made);
    clear(&r);
    return made;
}

static void test_a_inj_02_the_pod_s_word_comes_before_its_namespace_s(void **state)
{
    (void)state;
    static const char *const namespaces[] = {"enabled", NULL, "disabled"};
    static const struct {
        const char *word;
        bool expected[3];
    } pods[] = {
        {"enabled", {true, true, true}},     {"'yes'", {true, true, true}},
        {"'true'", {true, true, true}},      {"disabled", {false, false, false}},
        {"'no'", {false, false, false}},     {"'false'", {false, false, false}},
        {NULL, {true, false, false}},        {"'Yes'", {true, true, true}},
        {"DISABLED", {false, false, false}},
    };
    for (size_t p = 0; p < sizeof pods / sizeof *pods; p++)
        for (size_t n = 0; n < 3; n++)
            if (injects(namespaces[n], pods[p].word) != pods[p].expected[n])
                fail_msg("namespace %s, pod %s", namespaces[n] ? namespaces[n] : "-",
                         pods[p].word ? pods[p].word : "-");
}

static void test_a_inj_03_a_word_that_is_neither_denies_with_key_and_value(void **state)
{
    (void)state;
    struct rig r = rig();
    ask(&r, "metadata: {name: a, annotations: {openservicemesh.io/sidecar-injection: maybe}}\n"
            "spec: {containers: [{name: app}]}");
    is_denied_with(&r, "'openservicemesh.io/sidecar-injection' of the pod: 'maybe'");
    r.ns = MONITORED "openservicemesh.io/sidecar-injection: 'on'}}";
    ask(&r, POD);
    is_denied_with(&r, "'openservicemesh.io/sidecar-injection' of the namespace: 'on'");
    r.ns = MONITORED "openservicemesh.io/sidecar-injection: ''}}";
    ask(&r, POD);
    is_denied_with(&r, "of the namespace: ''");
    clear(&r);
}

/* --- A-INJ-04: never --- */

static void passes(struct rig *r, const char *pod, const char *why)
{
    ask(r, pod);
    assert_true(is_allowed(r));
    assert_null(r->patch);
    assert_null(r->secret);
    if (!strstr(r->a.reason, why))
        fail_msg("expected \"%s\": %s", why, r->a.reason);
}

static void test_a_inj_04_pods_outside_the_mesh_pass_untouched(void **state)
{
    (void)state;
    struct rig r = rig();
    passes(&r,
           "metadata: {name: a, annotations: {openservicemesh.io/sidecar-injection: enabled}}\n"
           "spec: {hostNetwork: true, containers: [{name: app}]}",
           "hostNetwork");
    r.ns = NULL;
    passes(&r, POD, "no label openservicemesh.io/monitored-by");
    r.ns = "metadata: {annotations: {openservicemesh.io/sidecar-injection: enabled}}";
    passes(&r, POD, "no label openservicemesh.io/monitored-by");
    r.ns = "metadata: {labels: {openservicemesh.io/monitored-by: other}, annotations: "
           "{openservicemesh.io/sidecar-injection: enabled}}";
    passes(&r, POD, "of this mesh");
    r.ns = "metadata: {labels: {openservicemesh.io/monitored-by: osm, openservicemesh.io/ignore: "
           "'false'}, annotations: {openservicemesh.io/sidecar-injection: enabled}}";
    passes(&r, POD, "openservicemesh.io/ignore");
    r.ns = ENABLED;
    r.injector.osm_namespace = "shop";
    passes(&r, POD, "never");
    clear(&r);
}

static void test_a_inj_04_namespaces_of_kubernetes_never_get_sidecars(void **state)
{
    (void)state;
    static const char *const names[] = {"kube-system", "kube-public"};
    for (size_t i = 0; i < 2; i++) {
        struct rig r = rig();
        json_t *ns = yaml(ENABLED);
        char text[512];
        (void)snprintf(text, sizeof text,
                       "{\"apiVersion\": \"admission.k8s.io/v1\", \"request\": {\"uid\": \"u\", "
                       "\"kind\": {\"version\": \"v1\", \"kind\": \"Pod\"}, \"operation\": "
                       "\"CREATE\", \"namespace\": \"%s\", \"object\": {\"metadata\": {}, "
                       "\"spec\": {\"containers\": []}}}}",
                       names[i]);
        assert_int_equal(osm_admission_read(&r.a, text, strlen(text), NULL), 0);
        osm_admission_decide(&r.a, &r.injector, ns, NULL);
        assert_int_equal(r.a.outcome, OSM_ADMISSION_ALLOW);
        assert_string_equal(r.a.ns, names[i]);
        json_decref(ns);
        clear(&r);
    }
}

/* --- A-INJ-11: reviews that are none --- */

static void refuses(const char *body, const char *part)
{
    struct osm_admission a;
    const struct osm_injector injector = rig().injector;
    assert_int_equal(osm_admission_read(&a, body, strlen(body), NULL), 0);
    osm_admission_decide(&a, &injector, NULL, NULL);
    json_t *answer = osm_admission_response(&a);
    const char *message = osm_json_str_at(answer, "response", "status", "message", NULL);
    if (!message || !strstr(message, part))
        fail_msg("%s: expected \"%s\", got %s", body, part, message ? message : "no denial");
    assert_true(json_is_false(osm_json_at(answer, "response", "allowed", NULL)));
    assert_non_null(osm_json_str_at(answer, "response", "uid", NULL));
    json_decref(answer);
    osm_admission_clear(&a);
    osm_admission_clear(&a);
}

#define HEAD "{\"apiVersion\": \"admission.k8s.io/v1\", \"request\": {\"uid\": \"u\""
#define KIND ", \"kind\": {\"group\": \"\", \"version\": \"v1\", \"kind\": \"Pod\"}"
#define MADE ", \"operation\": \"CREATE\""

static void test_a_inj_11_a_bad_review_is_denied_with_its_reason(void **state)
{
    (void)state;
    refuses("}", "is no JSON: line 1, column 1");
    refuses("", "is empty");
    refuses(" ", "is no JSON");
    refuses("[]", "nil admission request");
    refuses("{}", "nil admission request");
    refuses("{\"request\": null}", "nil admission request");
    refuses("{\"request\": {\"uid\": \"u\"}}", "apiVersion");
    refuses("{\"apiVersion\": \"admission.k8s.io/v1\", \"request\": {}}", "no uid");
    refuses("{\"a\": 1, \"a\": 2}", "is no JSON");
    refuses(HEAD "}}", "only v1 Pods");
    refuses(HEAD ", \"kind\": {\"version\": \"v2\", \"kind\": \"Pod\"}" MADE "}}", "is for v2 Pod");
    refuses(HEAD KIND ", \"operation\": \"UPDATE\"}}", "operation UPDATE");
    refuses(HEAD KIND MADE ", \"subResource\": \"eviction\"}}", "Pod/eviction");
    refuses(HEAD KIND MADE "}}", "no metadata");
    refuses(HEAD KIND MADE ", \"object\": {\"metadata\": {}, \"spec\": {\"containers\": []}}}}",
            "namespace");
    refuses(HEAD KIND MADE ", \"namespace\": \"a.b\", \"object\": {\"metadata\": {}, \"spec\": "
                           "{\"containers\": []}}}}",
            "namespace");
    refuses(HEAD KIND MADE ", \"namespace\": \"a\", \"object\": {\"metadata\": {\"namespace\": "
                           "\"b\"}, \"spec\": {\"containers\": []}}}}",
            "is for namespace a, its pod is of b");
    refuses(HEAD KIND MADE ", \"dryRun\": \"no\", \"namespace\": \"a\", \"object\": {\"metadata\": "
                           "{}, \"spec\": {\"containers\": []}}}}",
            "dryRun");
}

static void test_a_inj_11_deep_and_huge_reviews_are_denied(void **state)
{
    (void)state;
    char deep[2 * 1000 + 1] = "";
    memset(deep, '[', 1000);
    memset(deep + 1000, ']', 1000);
    refuses(deep, "nested deeper than");
    enum { HUGE = (4 << 20) + 1 };
    char *huge = malloc(HUGE + 1);
    assert_non_null(huge);
    memset(huge, ' ', HUGE);
    huge[HUGE] = '\0';
    refuses(huge, "more than");
    free(huge);
}

/* The registration asks for pods of all groups: one of another was denied. */
static void test_pods_of_another_group_pass(void **state)
{
    (void)state;
    static const char *const namespaces[] = {"", ", \"namespace\": \"shop\""};
    for (size_t i = 0; i < 2; i++) {
        char text[512];
        struct rig r = rig();
        json_t *ns = yaml(ENABLED);
        (void)snprintf(text, sizeof text,
                       "%s%s, \"object\": {\"metadata\": {\"name\": \"\\u0000\"}}}}",
                       HEAD ", \"kind\": {\"group\": \"example.com\", \"version\": \"v1\", "
                            "\"kind\": \"XPod\"}" MADE,
                       namespaces[i]);
        assert_int_equal(osm_admission_read(&r.a, text, strlen(text), NULL), 0);
        assert_int_equal(r.a.outcome, OSM_ADMISSION_ALLOW);
        assert_null(r.a.pod);
        osm_admission_decide(&r.a, &r.injector, ns, NULL);
        json_t *answer = osm_admission_response(&r.a);
        read_answer(&r, answer);
        assert_true(is_allowed(&r));
        assert_null(r.patch);
        assert_string_equal(osm_json_str_at(r.response, "uid", NULL), "u");
        assert_non_null(strstr(r.a.reason, "of group example.com"));
        assert_string_equal(r.a.ns, i ? "shop" : "");
        json_decref(answer);
        json_decref(ns);
        clear(&r);
    }
    refuses(HEAD ", \"kind\": {\"group\": \"example.com\"}, \"operation\": \"UPDATE\"}}",
            "operation UPDATE");
    refuses(HEAD ", \"kind\": {\"group\": \"e\"}, \"namespace\": \"a/b\"" MADE "}}", "namespace");
}

/* --- codes --- */

static int code_of(const char *body)
{
    struct osm_admission a;
    assert_int_equal(osm_admission_read(&a, body, strlen(body), NULL), 0);
    int code = osm_admission_code(&a);
    osm_admission_clear(&a);
    return code;
}

static int code_for(const char *ns, const char *pod)
{
    struct rig r = rig();
    r.ns = ns;
    ask(&r, pod);
    int code = osm_admission_code(&r.a);
    clear(&r);
    return code;
}

static void test_denials_have_open_service_mesh_s_codes(void **state)
{
    (void)state;
    assert_int_equal(code_of(""), 6112);
    assert_int_equal(code_of("}"), 6103);
    assert_int_equal(code_of("{}"), 6107);
    assert_int_equal(code_of(HEAD "}}"), 0);
    assert_int_equal(code_for(ENABLED, POD), 0);
    assert_int_equal(code_for(ENABLED, "metadata: {annotations: "
                                       "{openservicemesh.io/sidecar-injection: maybe}}\n"
                                       "spec: {containers: []}"),
                     6108);
    assert_int_equal(code_for(MONITORED "openservicemesh.io/sidecar-injection: maybe}}", POD),
                     6109);
    assert_int_equal(code_for(ENABLED, "metadata: {annotations: "
                                       "{openservicemesh.io/inbound-port-exclusion-list: x}}\n"
                                       "spec: {containers: []}"),
                     6110);
}

static void test_an_answer_has_the_version_that_was_asked_in(void **state)
{
    (void)state;
    static const char body[] = "{\"apiVersion\": \"admission.k8s.io/v1beta1\", \"request\": "
                               "{\"uid\": \"u-7\"}}";
    struct osm_admission a;
    assert_int_equal(osm_admission_read(&a, body, strlen(body), NULL), 0);
    json_t *answer = osm_admission_response(&a);
    assert_string_equal(osm_json_str_at(answer, "apiVersion", NULL), "admission.k8s.io/v1beta1");
    assert_string_equal(osm_json_str_at(answer, "response", "uid", NULL), "u-7");
    json_decref(answer);
    osm_admission_clear(&a);
}

static void test_names_for_the_log_are_the_pod_s_or_its_generator_s(void **state)
{
    (void)state;
    struct rig r = rig();
    ask(&r, "metadata: {generateName: web-}\nspec: {containers: []}");
    assert_string_equal(r.a.name, "web-");
    ask(&r, "metadata: {name: web, generateName: x-}\nspec: {containers: []}");
    assert_string_equal(r.a.name, "web");
    assert_string_equal(r.a.ns, "shop");
    ask(&r, "metadata: {name: \"a\\nb\"}\nspec: {containers: []}");
    assert_string_equal(r.a.name, "");
    clear(&r);
}

static void test_a_denial_comes_after_whatever_was_decided(void **state)
{
    (void)state;
    struct rig r = rig();
    ask(&r, POD);
    assert_int_equal(r.a.outcome, OSM_ADMISSION_INJECT);
    osm_admission_deny(&r.a, "the authority is not ready");
    json_t *answer = osm_admission_response(&r.a);
    assert_null(osm_json_at(answer, "response", "patch", NULL));
    assert_string_equal(osm_json_str_at(answer, "response", "status", "message", NULL),
                        "the authority is not ready");
    assert_string_equal(osm_json_str_at(answer, "response", "status", "reason", NULL), "Forbidden");
    json_decref(answer);
    clear(&r);
}

/* --- identity --- */

static void test_the_account_is_the_pod_s_or_default(void **state)
{
    (void)state;
    struct rig r = rig();
    ask(&r, POD);
    assert_string_equal(r.a.id.account, "default");
    assert_string_equal(r.a.id.ns, "shop");
    assert_true(osm_uuid_valid(r.a.id.uuid));
    assert_int_equal(r.a.id.uuid[14], '4');
    char first[OSM_UUID_SIZE];
    memcpy(first, r.a.id.uuid, sizeof first);
    ask(&r, "metadata: {name: a}\nspec: {serviceAccountName: a.b, containers: []}");
    assert_string_equal(r.a.id.account, "a.b");
    assert_string_not_equal(first, r.a.id.uuid);
    ask(&r, "metadata: {name: a}\nspec: {serviceAccountName: '', serviceAccount: old, containers: "
            "[]}");
    assert_string_equal(r.a.id.account, "old");
    ask(&r, "metadata: {name: a}\nspec: {serviceAccountName: A/b, containers: []}");
    is_denied_with(&r, "'A/b'");
    char text[512], name[65];
    memset(name, 'x', 64);
    name[64] = '\0';
    (void)snprintf(text, sizeof text,
                   "metadata: {name: a}\nspec: {serviceAccountName: a.%s, containers: []}", name);
    ask(&r, text);
    is_denied_with(&r, "has 64 bytes without a dot: it becomes a DNS name of the sidecar's "
                       "certificate, which has at most 63");
    (void)snprintf(text, sizeof text,
                   "metadata: {name: a}\nspec: {serviceAccountName: a.%s, containers: []}",
                   name + 1);
    ask(&r, text);
    assert_true(is_allowed(&r));
    clear(&r);
}

/* --- A-INJ-12: the registration --- */

static void test_a_inj_12_the_configuration_is_open_service_mesh_s(void **state)
{
    (void)state;
    const struct osm_webhook_object object = {"osm-webhook-osm", "osm", "osm-system", "ROOTS\n",
                                              20};
    json_t *made = osm_webhook_configuration(&object);
    same(made,
         "apiVersion: admissionregistration.k8s.io/v1\n"
         "kind: MutatingWebhookConfiguration\n"
         "metadata:\n"
         "  name: osm-webhook-osm\n"
         "  labels:\n"
         "    app.kubernetes.io/name: openservicemesh.io\n"
         "    app.kubernetes.io/instance: osm\n"
         "    app.kubernetes.io/version: " OSM_VERSION "\n"
         "    app: osm-injector\n"
         "webhooks:\n"
         "- name: osm-inject.k8s.io\n"
         "  clientConfig:\n"
         "    service: {name: osm-injector, namespace: osm-system, path: /mutate-pod-creation, "
         "port: 9090}\n"
         "    caBundle: Uk9PVFMK\n"
         "  rules:\n"
         "  - {operations: [CREATE], apiGroups: ['*'], apiVersions: [v1], resources: [pods]}\n"
         "  failurePolicy: Fail\n"
         "  matchPolicy: Exact\n"
         "  namespaceSelector:\n"
         "    matchLabels: {openservicemesh.io/monitored-by: osm}\n"
         "    matchExpressions:\n"
         "    - {key: openservicemesh.io/ignore, operator: DoesNotExist}\n"
         "    - {key: kubernetes.io/metadata.name, operator: NotIn, values: [osm-system]}\n"
         "    - {key: control-plane, operator: DoesNotExist}\n"
         "  sideEffects: NoneOnDryRun\n"
         "  timeoutSeconds: 20\n"
         "  admissionReviewVersions: [v1]\n");
    json_decref(made);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_inj_02_the_pod_s_word_comes_before_its_namespace_s),
        cmocka_unit_test(test_a_inj_03_a_word_that_is_neither_denies_with_key_and_value),
        cmocka_unit_test(test_a_inj_04_pods_outside_the_mesh_pass_untouched),
        cmocka_unit_test(test_a_inj_04_namespaces_of_kubernetes_never_get_sidecars),
        cmocka_unit_test(test_a_inj_11_a_bad_review_is_denied_with_its_reason),
        cmocka_unit_test(test_a_inj_11_deep_and_huge_reviews_are_denied),
        cmocka_unit_test(test_pods_of_another_group_pass),
        cmocka_unit_test(test_denials_have_open_service_mesh_s_codes),
        cmocka_unit_test(test_an_answer_has_the_version_that_was_asked_in),
        cmocka_unit_test(test_names_for_the_log_are_the_pod_s_or_its_generator_s),
        cmocka_unit_test(test_a_denial_comes_after_whatever_was_decided),
        cmocka_unit_test(test_the_account_is_the_pod_s_or_default),
        cmocka_unit_test(test_a_inj_12_the_configuration_is_open_service_mesh_s),
    };
    return cmocka_run_group_tests_name("inject/admission", tests, NULL, no_leak);
}
