/* A-PRB: what kubelets are told to ask, and what Envoy is told to answer. */
#include "admission_util.h"

/* Asks about a pod of these containers, and maybe more of a spec. */
static void ask_containers(struct rig *r, const char *containers)
{
    char text[8192];
    (void)snprintf(text, sizeof text, "metadata: {name: a}\nspec: {containers: [%s]}", containers);
    ask(r, text);
}

static const json_t *probe(const struct rig *r, const char *name, const char *field)
{
    return json_object_get(container(r, name), field);
}

/* What Envoy answers for the pod, in short: kind, way, container, port, path, timeout. */
static void answers(const struct rig *r, const char *expected)
{
    static const char *const ways[] = {"http", "through", "tls"};
    struct osm_buf out = OSM_BUF_INIT(1 << 16);
    for (size_t i = 0; i < r->a.probes_len; i++) {
        const struct osm_bootstrap_probe *p = &r->a.probes[i];
        (void)osm_buf_addf(&out, "%s %s %s %d %s %ds\n", osm_probe_name(p->kind), ways[p->way],
                           p->container, p->port, p->path, p->timeout_s);
    }
    assert_string_equal(out.data ? out.data : "", expected);
    osm_buf_clear(&out);
}

static void test_a_prb_01_http_probes_keep_all_but_path_and_port(void **state)
{
    (void)state;
    struct rig r = rig();
    ask_containers(
        &r, "{name: app, livenessProbe: {httpGet: {path: '/live?full=1', port: 8080, scheme: HTTP, "
            "httpHeaders: [{name: X, value: y}]}, timeoutSeconds: 3, periodSeconds: 7, "
            "failureThreshold: 9, unknownField: 1}, readinessProbe: {httpGet: {path: /ready, port: "
            "8080}}, startupProbe: {httpGet: {path: /up, port: 8081}, timeoutSeconds: 0}}");
    same(probe(&r, "app", "livenessProbe"),
         "{httpGet: {path: /osm-liveness-probe/app, port: 15901, scheme: HTTP, httpHeaders: "
         "[{name: X, value: y}]}, timeoutSeconds: 3, periodSeconds: 7, failureThreshold: 9, "
         "unknownField: 1}");
    same(probe(&r, "app", "readinessProbe"),
         "{httpGet: {path: /osm-readiness-probe/app, port: 15902}}");
    same(probe(&r, "app", "startupProbe"),
         "{httpGet: {path: /osm-startup-probe/app, port: 15903}, timeoutSeconds: 0}");
    answers(&r, "liveness http app 8080 /live?full=1 3s\n"
                "readiness http app 8080 /ready 1s\n"
                "startup http app 8081 /up 1s\n");
    same(json_object_get(container(&r, "envoy"), "ports"),
         "[{name: proxy-admin, containerPort: 15000}, {name: proxy-inbound, containerPort: 15003}, "
         "{name: proxy-metrics, containerPort: 15010}, {name: liveness-port, containerPort: "
         "15901}, {name: readiness-port, containerPort: 15902}, {name: startup-port, "
         "containerPort: 15903}]");
    assert_null(container(&r, "osm-healthcheck"));
    clear(&r);
}

static void test_a_prb_01_a_path_is_sent_as_a_kubelet_would(void **state)
{
    (void)state;
    struct rig r = rig();
    ask_containers(&r, "{name: a, livenessProbe: {httpGet: {path: 'x y\"\\#z', port: 1}}},"
                       "{name: b, livenessProbe: {httpGet: {path: \"/\\xe9%20\", port: 1}}},"
                       "{name: c, livenessProbe: {httpGet: {port: 1}}}");
    answers(&r, "liveness http a 1 /x%20y%22%5C 1s\n"
                "liveness http b 1 /%C3%A9%20 1s\n"
                "liveness http c 1 / 1s\n");
    clear(&r);
}

static void test_a_prb_02_a_tls_probe_keeps_path_and_scheme(void **state)
{
    (void)state;
    struct rig r = rig();
    ask_containers(&r, "{name: app, livenessProbe: {httpGet: {path: /live, port: 8443, scheme: "
                       "HTTPS}}}");
    same(probe(&r, "app", "livenessProbe"), "{httpGet: {path: /live, port: 15901, scheme: HTTPS}}");
    answers(&r, "liveness through app 8443 /live 1s\n");
    clear(&r);
}

/* Open Service Mesh could have one TLS probe of a kind in a pod. */
static void test_a_prb_02_further_tls_probes_of_a_kind_are_spoken_by_envoy(void **state)
{
    (void)state;
    struct rig r = rig();
    ask_containers(&r,
                   "{name: one, livenessProbe: {httpGet: {path: /1, port: 1, scheme: HTTPS}}},"
                   "{name: two, livenessProbe: {httpGet: {path: /2, port: 2, scheme: HTTPS}}},"
                   "{name: three, livenessProbe: {httpGet: {path: /3, port: 3}}, readinessProbe: "
                   "{httpGet: {path: /r, port: 3, scheme: HTTPS}}}");
    same(probe(&r, "one", "livenessProbe"), "{httpGet: {path: /1, port: 15901, scheme: HTTPS}}");
    same(probe(&r, "two", "livenessProbe"),
         "{httpGet: {path: /osm-liveness-probe/two, port: 15901, scheme: HTTP}}");
    answers(&r, "liveness through one 1 /1 1s\n"
                "liveness tls two 2 /2 1s\n"
                "liveness http three 3 /3 1s\n"
                "readiness through three 3 /r 1s\n");
    clear(&r);
}

static void test_a_prb_03_tcp_probes_become_requests_to_one_health_check(void **state)
{
    (void)state;
    struct rig r = rig();
    r.mesh_config = "spec: {observability: {osmLogLevel: debug}}";
    ask_containers(&r, "{name: a, livenessProbe: {tcpSocket: {port: 6379}, periodSeconds: 2}},"
                       "{name: b, readinessProbe: {tcpSocket: {port: 7000}}}");
    same(probe(&r, "a", "livenessProbe"),
         "{httpGet: {path: /osm-healthcheck, port: 15904, scheme: HTTP, httpHeaders: [{name: "
         "Original-Tcp-Port, value: '6379'}]}, periodSeconds: 2}");
    assert_null(json_object_get(probe(&r, "b", "readinessProbe"), "tcpSocket"));
    answers(&r, "");
    same(container(&r, "osm-healthcheck"),
         "{name: osm-healthcheck, image: 'healthcheck:1', imagePullPolicy: Always, command: "
         "[/osm-healthcheck], args: [--verbosity, debug], ports: [{containerPort: 15904}]}");
    assert_int_equal(json_array_size(osm_json_at(r.patched, "spec", "containers", NULL)), 4);
    r.injector.pull_policy = NULL;
    r.mesh_config = "spec: {observability: {osmLogLevel: loud}}";
    ask_containers(&r, "{name: a, livenessProbe: {tcpSocket: {port: 6379}}}");
    assert_null(json_object_get(container(&r, "osm-healthcheck"), "imagePullPolicy"));
    same(json_object_get(container(&r, "osm-healthcheck"), "args"), "[--verbosity, info]");
    clear(&r);
}

/* A kubelet would have called the container by the pod's address in any mode. */
static void
test_a_prb_03_where_containers_have_the_pod_s_address_the_health_check_calls_it(void **state)
{
    (void)state;
    struct rig r = rig();
    r.mesh_config = "spec: {sidecar: {localProxyMode: PodIP}, observability: {osmLogLevel: panic}}";
    ask_containers(&r, "{name: a, livenessProbe: {tcpSocket: {port: 6379}}}");
    const json_t *made = container(&r, "osm-healthcheck");
    same(json_object_get(made, "args"), "[--verbosity, fatal, --host, $(POD_IP)]");
    same(json_object_get(made, "env"),
         "[{name: POD_IP, valueFrom: {fieldRef: {apiVersion: v1, fieldPath: status.podIP}}}]");
    clear(&r);
}

static void test_a_prb_04_named_ports_are_the_container_s(void **state)
{
    (void)state;
    struct rig r = rig();
    ask_containers(
        &r, "{name: a, ports: [{name: web, containerPort: 8080}], livenessProbe: {httpGet: {path: "
            "/, port: web}}, readinessProbe: {tcpSocket: {port: web}}},"
            "{name: b, ports: [{name: web, containerPort: 9090}], livenessProbe: {httpGet: {path: "
            "/, port: web}}, readinessProbe: {httpGet: {path: /, port: '81'}}}");
    answers(&r, "liveness http a 8080 / 1s\n"
                "liveness http b 9090 / 1s\n"
                "readiness http b 81 / 1s\n");
    same(osm_json_at(probe(&r, "a", "readinessProbe"), "httpGet", "httpHeaders", NULL),
         "[{name: Original-Tcp-Port, value: '8080'}]");
    clear(&r);
}

static void test_a_prb_04_ports_that_cannot_be_asked_deny(void **state)
{
    (void)state;
    static const char *const wrong[][2] = {
        {"web", "container a: livenessProbe: there is no port named 'web'"},
        {"'70000'", "expected a port"},
        {"0", "expected a port"},
        {"-1", "expected a port"},
        {"70000", "expected a port"},
        {"1.5", "expected a port"},
        {"''", "no port named ''"},
        {"15901", "one of the sidecar's own"},
        {"15003", "one of the sidecar's own"},
    };
    struct rig r = rig();
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char text[256];
        (void)snprintf(text, sizeof text,
                       "{name: a, livenessProbe: {httpGet: {path: /, port: %s}}}", wrong[i][0]);
        ask_containers(&r, text);
        is_denied_with(&r, wrong[i][1]);
        (void)snprintf(text, sizeof text, "{name: a, livenessProbe: {tcpSocket: {port: %s}}}",
                       wrong[i][0]);
        ask_containers(&r, text);
        is_denied_with(&r, wrong[i][1]);
    }
    ask_containers(&r, "{name: 'a\"b', livenessProbe: {httpGet: {path: /, port: 1}}}");
    is_denied_with(&r, "name of a container");
    ask_containers(&r, "{name: a, livenessProbe: {httpGet: {port: 1}}}, {name: a, livenessProbe: "
                       "{httpGet: {port: 2}}}");
    is_denied_with(&r, "there is another container of this name");
    ask_containers(&r, "{name: a, livenessProbe: {httpGet: {path: 7, port: 1}}}");
    is_denied_with(&r, "httpGet.path: expected a text");
    clear(&r);
}

static void test_a_prb_05_kinds_are_mixed_freely(void **state)
{
    (void)state;
    struct rig r = rig();
    ask_containers(&r, "{name: a, livenessProbe: {httpGet: {path: /a, port: 1}}, readinessProbe: "
                       "{exec: {command: [x]}}},"
                       "{name: b, livenessProbe: {tcpSocket: {port: 2}}, readinessProbe: {httpGet: "
                       "{path: /b, port: 2, scheme: HTTPS}}, startupProbe: {grpc: {port: 3}}}");
    answers(&r, "liveness http a 1 /a 1s\n"
                "readiness through b 2 /b 1s\n");
    assert_non_null(container(&r, "osm-healthcheck"));
    clear(&r);
}

#define UNTOUCHED                                                                                  \
    "{name: a, livenessProbe: {exec: {command: [x]}}, readinessProbe: {grpc: {port: 5}}, "         \
    "startupProbe: {httpGet: {host: example.org, path: /x, port: 80}}, lifecycle: {preStop: "      \
    "{httpGet: {path: /stop, port: 80}}}}"
#define UNTOUCHED_TCP "{name: b, livenessProbe: {tcpSocket: {host: 10.0.0.1, port: 80}}}"

static void test_a_prb_06_what_does_not_ask_the_pod_stays(void **state)
{
    (void)state;
    struct rig r = rig();
    ask_containers(&r, UNTOUCHED ", " UNTOUCHED_TCP);
    same(container(&r, "a"), UNTOUCHED);
    same(container(&r, "b"), UNTOUCHED_TCP);
    answers(&r, "");
    clear(&r);
}

/* --- init containers that stay --- */

static void test_probes_of_init_containers_that_stay_are_rewritten_but_the_first(void **state)
{
    (void)state;
    struct rig r = rig();
    ask(&r,
        "metadata: {name: a}\n"
        "spec: {containers: [], initContainers: [{name: proxy, restartPolicy: Always, "
        "livenessProbe: {httpGet: {path: /, port: 1}}, startupProbe: {tcpSocket: {port: 2}}}]}");
    const json_t *proxy = at(osm_json_at(r.patched, "spec", "initContainers", NULL), "proxy");
    same(json_object_get(proxy, "livenessProbe"),
         "{httpGet: {path: /osm-liveness-probe/proxy, port: 15901}}");
    same(json_object_get(proxy, "startupProbe"), "{tcpSocket: {port: 2}}");
    const char *warning =
        json_string_value(json_array_get(json_object_get(r.response, "warnings"), 0));
    assert_true(warning && strstr(warning, "container proxy: startupProbe: stays as it is"));
    clear(&r);
}

/* --- copies --- */

#define COPIED                                                                                     \
    "{name: app, ports: [{name: web, containerPort: 8080}], livenessProbe: {httpGet: {path: /a, "  \
    "port: web}}, readinessProbe: {httpGet: {path: /r, port: 8443, scheme: HTTPS}}, "              \
    "startupProbe: {tcpSocket: {port: 1}}},"                                                       \
    "{name: two, readinessProbe: {httpGet: {path: /t, port: 2, scheme: HTTPS}}}"

static json_t *copy_of(struct rig *r)
{
    ask_containers(r, COPIED);
    json_t *copy = json_deep_copy(r->patched);
    /* what kubectl leaves out */
    assert_int_equal(json_object_del(json_object_get(copy, "metadata"), "labels"), 0);
    return copy;
}

static void test_a_inj_07_a_copy_s_envoy_answers_for_the_same_probes(void **state)
{
    (void)state;
    static const char all[] = "liveness http app 8080 /a 1s\n"
                              "readiness through app 8443 /r 1s\n"
                              "readiness tls two 2 /t 1s\n";
    struct rig r = rig();
    json_t *copy = copy_of(&r);
    answers(&r, all);
    ask_json(&r, json_deep_copy(copy));
    answers(&r, all);
    assert_int_equal(json_array_size(r.patch), 3); /* labels, label, secretName */
    json_t *again = json_deep_copy(r.patched);
    ask_json(&r, again);
    answers(&r, all);
    json_decref(copy);
    clear(&r);
}

static json_t *first_container(json_t *pod)
{
    return json_array_get(json_object_get(json_object_get(pod, "spec"), "containers"), 0);
}

static void test_a_inj_07_probes_that_a_copy_changed_are_known_to_the_next(void **state)
{
    (void)state;
    struct rig r = rig();
    json_t *copy = copy_of(&r);
    assert_int_equal(json_object_set_new(first_container(copy), "livenessProbe",
                                         yaml("{httpGet: {path: /new, port: 9}}")),
                     0);
    assert_int_equal(json_object_del(first_container(copy), "readinessProbe"), 0);
    ask_json(&r, copy);
    answers(&r, "liveness http app 9 /new 1s\n"
                "readiness through two 2 /t 1s\n");
    same(probe(&r, "two", "readinessProbe"), "{httpGet: {path: /t, port: 15902, scheme: HTTPS}}");
    clear(&r);
}

static void test_a_inj_07_a_probe_of_which_nothing_is_known_is_left_out_with_a_warning(void **state)
{
    (void)state;
    struct rig r = rig();
    json_t *copy = copy_of(&r);
    json_t *envoy = at(osm_json_at(copy, "spec", "containers", NULL), "envoy");
    assert_int_equal(json_object_del(envoy, "env"), 0);
    ask_json(&r, copy);
    answers(&r, "");
    assert_null(probe(&r, "app", "livenessProbe"));
    assert_non_null(probe(&r, "app", "startupProbe")); /* osm-healthcheck needs no more */
    const json_t *warnings = json_object_get(r.response, "warnings");
    assert_int_equal(json_array_size(warnings), 3);
    assert_string_equal(json_string_value(json_array_get(warnings, 0)),
                        "container app: livenessProbe: left out of this copy: what it was before "
                        "the sidecar came is not known");
    clear(&r);
}

/* --- many --- */

/* Containers c0, c1 ... with the three probes each, as BODY says. */
static json_t *pod_of(size_t containers, const char *handler, json_t *body)
{
    json_t *list = json_array();
    for (size_t i = 0; i < containers; i++) {
        char name[24];
        (void)snprintf(name, sizeof name, "c%zu", i);
        json_t *probe = json_pack("{s:O}", handler, body);
        assert_int_equal(
            json_array_append_new(list,
                                  json_pack("{s:s, s:O, s:O, s:o}", "name", name, "livenessProbe",
                                            probe, "readinessProbe", probe, "startupProbe", probe)),
            0);
    }
    json_decref(body);
    return json_pack("{s:{s:s}, s:{s:o}}", "metadata", "name", "a", "spec", "containers", list);
}

static json_t *http_body(size_t path_bytes)
{
    char path[1024] = "/";
    memset(path + 1, 'p', path_bytes - 1);
    path[path_bytes] = '\0';
    return json_pack("{s:i, s:s}", "port", 80, "path", path);
}

/* The bootstrap of such a pod was "over 262144 bytes". */
static void test_a_hundred_containers_with_probes_fit(void **state)
{
    (void)state;
    struct rig r = rig();
    ask_json(&r, pod_of(100, "httpGet", http_body(300)));
    assert_true(is_allowed(&r));
    assert_int_equal(r.a.probes_len, 300);
    struct osm_buf file = file_of(&r, "bootstrap.yaml");
    assert_in_range(file.len, 256 * 1024, 1 << 20);
    osm_buf_clear(&file);
    clear(&r);
}

static void test_more_than_a_secret_holds_denies_with_both_sizes(void **state)
{
    (void)state;
    struct rig r = rig();
    struct osm_err err = {0};
    json_t *ns = yaml(ENABLED);
    json_t *review = json_pack("{s:s, s:{s:s, s:{s:s, s:s}, s:s, s:s, s:o}}", "apiVersion",
                               "admission.k8s.io/v1", "request", "uid", "u", "kind", "version",
                               "v1", "kind", "Pod", "operation", "CREATE", "namespace", "shop",
                               "object", pod_of(340, "httpGet", http_body(80)));
    char *text = json_dumps(review, 0);
    assert_int_equal(osm_admission_read(&r.a, text, strlen(text), NULL), 0);
    osm_admission_decide(&r.a, &r.injector, ns, NULL);
    assert_int_equal(r.a.outcome, OSM_ADMISSION_INJECT);
    char *chain = malloc(1 << 20);
    assert_non_null(chain);
    memset(chain, 'c', (1 << 20) - 1);
    chain[(1 << 20) - 1] = '\0';
    assert_int_equal(
        osm_admission_inject(&r.a, &r.injector, NULL, chain, "key", "roots", &r.secret, &err),
        OSM_ELIMIT);
    assert_null(r.secret);
    assert_int_equal(r.a.outcome, OSM_ADMISSION_DENY);
    assert_non_null(strstr(r.a.reason, "a Secret, which holds 1048576 bytes: sds_cert.pem has "
                                       "1048575"));
    free(chain);
    free(text);
    json_decref(review);
    json_decref(ns);
    clear(&r);
}

static void test_paths_that_no_variable_holds_deny(void **state)
{
    (void)state;
    struct rig r = rig();
    ask_json(&r, pod_of(100, "httpGet", http_body(600)));
    is_denied_with(&r, "a variable of the sidecar that keeps them would have ");
    is_denied_with(&r, "place for 131071");
    clear(&r);
}

static void test_probes_of_all_kinds_are_counted(void **state)
{
    (void)state;
    static const char *const handlers[] = {"httpGet", "tcpSocket"};
    struct rig r = rig();
    for (size_t i = 0; i < 2; i++) {
        ask_json(&r, pod_of(341, handlers[i], json_pack("{s:i}", "port", 80)));
        if (!is_allowed(&r))
            fail_msg("%s", r.a.reason);
        ask_json(&r, pod_of(342, handlers[i], json_pack("{s:i}", "port", 80)));
        is_denied_with(&r, "more than 1024 probes");
    }
    clear(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_prb_01_http_probes_keep_all_but_path_and_port),
        cmocka_unit_test(test_a_prb_01_a_path_is_sent_as_a_kubelet_would),
        cmocka_unit_test(test_a_prb_02_a_tls_probe_keeps_path_and_scheme),
        cmocka_unit_test(test_a_prb_02_further_tls_probes_of_a_kind_are_spoken_by_envoy),
        cmocka_unit_test(test_a_prb_03_tcp_probes_become_requests_to_one_health_check),
        cmocka_unit_test(
            test_a_prb_03_where_containers_have_the_pod_s_address_the_health_check_calls_it),
        cmocka_unit_test(test_a_prb_04_named_ports_are_the_container_s),
        cmocka_unit_test(test_a_prb_04_ports_that_cannot_be_asked_deny),
        cmocka_unit_test(test_a_prb_05_kinds_are_mixed_freely),
        cmocka_unit_test(test_a_prb_06_what_does_not_ask_the_pod_stays),
        cmocka_unit_test(test_probes_of_init_containers_that_stay_are_rewritten_but_the_first),
        cmocka_unit_test(test_a_inj_07_a_copy_s_envoy_answers_for_the_same_probes),
        cmocka_unit_test(test_a_inj_07_probes_that_a_copy_changed_are_known_to_the_next),
        cmocka_unit_test(
            test_a_inj_07_a_probe_of_which_nothing_is_known_is_left_out_with_a_warning),
        cmocka_unit_test(test_a_hundred_containers_with_probes_fit),
        cmocka_unit_test(test_more_than_a_secret_holds_denies_with_both_sizes),
        cmocka_unit_test(test_paths_that_no_variable_holds_deny),
        cmocka_unit_test(test_probes_of_all_kinds_are_counted),
    };
    return cmocka_run_group_tests_name("inject/probes", tests, NULL, no_leak);
}
