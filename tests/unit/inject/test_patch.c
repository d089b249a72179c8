/* What a pod is once it has its sidecar: whole pods, after the patch. */
#include "admission_util.h"

#define PLAIN                                                                                      \
    "metadata: {name: buyer, labels: {app: buyer}}\n"                                              \
    "spec:\n"                                                                                      \
    "  serviceAccountName: bookbuyer\n"                                                            \
    "  unknownField: {kept: [1, 2.5, null]}\n"                                                     \
    "  volumes: [{name: token, projected: {}}]\n"                                                  \
    "  initContainers: [{name: first, image: y}]\n"                                                \
    "  containers: [{name: app, image: x, unknownField: 1}]\n"

/* The parts that the mesh adds, with @p r's own uuid; json_decref. */
static json_t *expected(const struct rig *r, const char *text)
{
    struct osm_buf out = OSM_BUF_INIT(1 << 16);
    for (const char *at = text; *at; at++)
        if (*at == '@')
            (void)osm_buf_add_str(&out, r->a.id.uuid);
        else
            (void)osm_buf_add_char(&out, *at);
    json_t *made = yaml(out.data);
    osm_buf_clear(&out);
    return made;
}

static void becomes(const struct rig *r, const char *text)
{
    json_t *wanted = expected(r, text);
    if (!json_equal(r->patched, wanted)) {
        char *a = json_dumps(r->patched, JSON_INDENT(1) | JSON_SORT_KEYS);
        char *b = json_dumps(wanted, JSON_INDENT(1) | JSON_SORT_KEYS);
        fail_msg("got %s\nexpected %s", a ? a : "nothing", b);
    }
    json_decref(wanted);
}

/* The script is another test's; here only that it is one. */
static void take_script_out(struct rig *r)
{
    json_t *init = at(osm_json_at(r->patched, "spec", "initContainers", NULL), "osm-init");
    json_t *args = json_object_get(init, "args");
    assert_int_equal(json_array_size(args), 2);
    const char *script = json_string_value(json_array_get(args, 1));
    assert_true(script && !strncmp(script, "iptables-restore --noflush", 26));
    assert_int_equal(json_array_set_new(args, 1, json_string("SCRIPT")), 0);
}

#define FIELD(name, path)                                                                          \
    "{name: " name ", valueFrom: {fieldRef: {apiVersion: v1, fieldPath: " path "}}}"
#define VOLUME                                                                                     \
    "{name: envoy-bootstrap-config-volume, secret: {secretName: envoy-bootstrap-config-@}}"
#define INIT                                                                                       \
    "{name: osm-init, image: 'init:1', imagePullPolicy: Always, command: [/bin/sh], args: [-c, "   \
    "SCRIPT], env: [" FIELD(                                                                       \
        "POD_IP",                                                                                  \
        "status.podIP") "], securityContext: {capabilities: {add: "                                \
                        "[NET_ADMIN]}, privileged: false, runAsNonRoot: false, runAsUser: 0}}"
#define ENVOY_WITH(image, security, account)                                                                       \
    "{name: envoy, image: '" image "', imagePullPolicy: IfNotPresent, securityContext: " security                  \
    ", ports: [{name: proxy-admin, containerPort: 15000}, {name: proxy-inbound, containerPort: "                   \
    "15003}, {name: proxy-metrics, containerPort: 15010}], volumeMounts: [{name: "                                 \
    "envoy-bootstrap-config-volume, readOnly: true, mountPath: /etc/envoy}], command: [envoy], "                   \
    "args: [--log-level, error, --config-path, /etc/envoy/bootstrap.yaml, "                                        \
    "--service-cluster, " account                                                                                  \
    ".shop, --drain-time-s, '45', --disable-hot-restart], env: [" FIELD("POD_UID", "metadata.uid") ", " FIELD(     \
        "POD_NAME",                                                                                                \
        "metadata.name") ", " FIELD("POD_NAMESPACE",                                                               \
                                    "metadata.namespace") ", " FIELD("POD_IP",                                     \
                                                                     "status.podIP") ", " FIELD("SERVICE_ACCOUNT", \
                                                                                                "spec.serviceAccountName") "]}"
#define ENVOY(account)                                                                             \
    ENVOY_WITH("envoy:1", "{allowPrivilegeEscalation: false, runAsUser: 1500}", account)

static void test_a_inj_01_a_pod_gets_all_of_the_sidecar_behind_its_own(void **state)
{
    (void)state;
    struct rig r = rig();
    ask(&r, PLAIN);
    take_script_out(&r);
    becomes(&r, "metadata: {name: buyer, labels: {app: buyer, osm-proxy-uuid: '@'}}\n"
                "spec:\n"
                "  serviceAccountName: bookbuyer\n"
                "  unknownField: {kept: [1, 2.5, null]}\n"
                "  volumes: [{name: token, projected: {}}, " VOLUME "]\n"
                "  initContainers: [{name: first, image: y}, " INIT "]\n"
                "  containers: [{name: app, image: x, unknownField: 1}, " ENVOY("bookbuyer") "]\n");
    clear(&r);
}

static void test_a_inj_01_whatever_is_absent_is_made(void **state)
{
    (void)state;
    struct rig r = rig();
    ask(&r, "{metadata: {name: a}, spec: {containers: [{name: app}]}}");
    take_script_out(&r);
    becomes(&r, "metadata: {name: a, labels: {osm-proxy-uuid: '@'}}\n"
                "spec: {volumes: [" VOLUME "], initContainers: [" INIT "], containers: [{name: "
                "app}, " ENVOY("default") "]}");
    ask(&r, "{metadata: {name: a, labels: null}, spec: {volumes: null, initContainers: null, "
            "containers: [{name: app}]}}");
    take_script_out(&r);
    becomes(&r, "metadata: {name: a, labels: {osm-proxy-uuid: '@'}}\n"
                "spec: {volumes: [" VOLUME "], initContainers: [" INIT "], containers: [{name: "
                "app}, " ENVOY("default") "]}");
    clear(&r);
}

static void test_a_uuid_that_a_pod_brings_is_replaced(void **state)
{
    (void)state;
    struct rig r = rig();
    ask(&r, "metadata: {name: a, labels: {osm-proxy-uuid: mine}}\nspec: {containers: []}");
    assert_string_equal(osm_json_str_at(r.patched, "metadata", "labels", "osm-proxy-uuid", NULL),
                        r.a.id.uuid);
    clear(&r);
}

static void test_names_of_the_sidecar_that_are_taken_deny(void **state)
{
    (void)state;
    struct rig r = rig();
    ask(&r, "metadata: {name: a}\nspec: {containers: [{name: envoy}]}");
    is_denied_with(&r, "container envoy: ");
    ask(&r, "metadata: {name: a}\nspec: {initContainers: [{name: osm-init}], containers: []}");
    is_denied_with(&r, "container osm-init: ");
    ask(&r, "metadata: {name: a}\nspec: {containers: [], volumes: [{name: "
            "envoy-bootstrap-config-volume}]}");
    is_denied_with(&r, "volume envoy-bootstrap-config-volume: ");
    clear(&r);
}

static void test_a_inj_05_a_dry_run_has_a_patch_and_no_secret(void **state)
{
    (void)state;
    struct rig r = rig();
    r.dry_run = true;
    ask(&r, PLAIN);
    assert_non_null(r.patch);
    assert_null(r.secret);
    assert_non_null(container(&r, "envoy"));
    clear(&r);
}

/* --- A-INJ-06: the Secret --- */

static void test_a_inj_06_the_secret_is_the_sidecar_s(void **state)
{
    (void)state;
    static const char *const names[] = {"bootstrap.yaml",
                                        "tls_certificate_sds_secret.yaml",
                                        "validation_context_sds_secret.yaml",
                                        "sds_cert.pem",
                                        "sds_key.pem",
                                        "cacert.pem"};
    struct rig r = rig();
    ask(&r, PLAIN);
    const json_t *data = json_object_get(r.secret, "data");
    assert_int_equal(json_object_size(data), 6);
    for (size_t i = 0; i < 6; i++) {
        struct osm_buf text = file_of(&r, names[i]);
        if (i < 3)
            json_decref(yaml(text.data));
        else
            assert_string_equal(text.data, i == 3 ? "chain\n" : i == 4 ? "key\n" : "roots\n");
        osm_buf_clear(&text);
    }
    assert_int_equal(json_object_del(r.secret, "data"), 0);
    json_t *wanted =
        expected(&r, "apiVersion: v1\nkind: Secret\ntype: Opaque\n"
                     "metadata: {name: envoy-bootstrap-config-@, namespace: shop, labels: "
                     "{app.kubernetes.io/name: openservicemesh.io, app.kubernetes.io/instance: "
                     "osm, app.kubernetes.io/version: " OSM_VERSION ", osm-proxy-uuid: '@'}}");
    assert_true(json_equal(r.secret, wanted));
    json_decref(wanted);
    clear(&r);
}

static void test_a_inj_06_the_bootstrap_names_the_proxy_and_the_control_plane(void **state)
{
    (void)state;
    struct rig r = rig();
    r.mesh_config = "spec: {sidecar: {tlsMinProtocolVersion: TLSv1_3, ecdhCurves: [P-256, bad]}}";
    ask(&r, PLAIN);
    struct osm_buf text = file_of(&r, "bootstrap.yaml");
    json_t *b = yaml(text.data);
    const json_t *cluster = json_array_get(osm_json_at(b, "static_resources", "clusters", NULL), 0);
    const json_t *tls =
        osm_json_at(cluster, "transport_socket", "typed_config", "common_tls_context", NULL);
    assert_string_equal(osm_json_str_at(b, "node", "id", NULL), r.a.id.uuid);
    assert_string_equal(osm_json_str_at(b, "node", "cluster", NULL), "bookbuyer.shop");
    same(osm_json_at(b, "admin", "address", "socket_address", NULL),
         "{address: 127.0.0.1, port_value: 15000}");
    same(osm_json_at(tls, "tls_params", NULL),
         "{tls_minimum_protocol_version: TLSv1_3, tls_maximum_protocol_version: TLSv1_3, "
         "ecdh_curves: [P-256]}");
    assert_non_null(strstr(text.data, "osm-controller.osm-system.svc.cluster.local"));
    assert_null(osm_json_at(b, "static_resources", "listeners", NULL));
    json_decref(b);
    osm_buf_clear(&text);
    clear(&r);
}

static void test_the_key_is_wiped_where_it_lay(void **state)
{
    (void)state;
    struct rig r = rig();
    ask(&r, PLAIN);
    json_t *key =
        json_incref((json_t *)(uintptr_t)osm_json_at(r.secret, "data", "sds_key.pem", NULL));
    assert_string_equal(json_string_value(key), "a2V5Cg==");
    osm_webhook_wipe_secret(r.secret);
    for (size_t i = 0; i < 8; i++)
        assert_int_equal(json_string_value(key)[i], 0);
    json_decref(key);
    osm_webhook_wipe_secret(NULL);
    clear(&r);
}

/* --- A-INJ-07: copies --- */

static void test_a_inj_07_a_copy_gets_an_identity_and_nothing_else(void **state)
{
    (void)state;
    struct rig r = rig();
    ask(&r, PLAIN);
    char first[OSM_UUID_SIZE];
    memcpy(first, r.a.id.uuid, sizeof first);
    json_t *copy = json_incref(r.patched);
    ask_json(&r, json_deep_copy(copy));
    assert_true(r.a.is_copy);
    assert_string_not_equal(first, r.a.id.uuid);
    assert_non_null(r.secret);
    take_script_out(&r);
    becomes(&r, "metadata: {name: buyer, labels: {app: buyer, osm-proxy-uuid: '@'}}\n"
                "spec:\n"
                "  serviceAccountName: bookbuyer\n"
                "  unknownField: {kept: [1, 2.5, null]}\n"
                "  volumes: [{name: token, projected: {}}, " VOLUME "]\n"
                "  initContainers: [{name: first, image: y}, " INIT "]\n"
                "  containers: [{name: app, image: x, unknownField: 1}, " ENVOY("bookbuyer") "]\n");
    json_decref(copy);
    clear(&r);
}

static void test_a_inj_07_a_copy_without_labels_keeps_its_volume_s_mode(void **state)
{
    (void)state;
    struct rig r = rig();
    r.injector.envoy_image = r.injector.init_image = NULL; /* it has them */
    ask(&r, "metadata: {name: a}\n"
            "spec:\n"
            "  volumes: [{name: envoy-bootstrap-config-volume, secret: {secretName: "
            "envoy-bootstrap-config-1, defaultMode: 420}}]\n"
            "  containers: [{name: envoy, image: x}, {name: debugger}]\n");
    becomes(&r, "metadata: {name: a, labels: {osm-proxy-uuid: '@'}}\n"
                "spec:\n"
                "  volumes: [{name: envoy-bootstrap-config-volume, secret: {secretName: "
                "envoy-bootstrap-config-@, defaultMode: 420}}]\n"
                "  containers: [{name: envoy, image: x}, {name: debugger}]\n");
    clear(&r);
}

/* --- A-INJ-08: images --- */

static void
test_a_inj_08_an_image_that_is_given_nowhere_denies_with_field_and_variable(void **state)
{
    (void)state;
    struct rig r = rig();
    r.injector.envoy_image = "";
    ask(&r, PLAIN);
    is_denied_with(&r, "spec.sidecar.envoyImage of MeshConfig, or OSM_DEFAULT_ENVOY_IMAGE");
    r.mesh_config = "spec: {sidecar: {envoyImage: 'other:2'}}";
    ask(&r, PLAIN);
    assert_string_equal(osm_json_str_at(container(&r, "envoy"), "image", NULL), "other:2");
    r.injector.init_image = NULL;
    ask(&r, PLAIN);
    is_denied_with(&r, "spec.sidecar.initContainerImage of MeshConfig, or "
                       "OSM_DEFAULT_INIT_CONTAINER_IMAGE");
    r.mesh_config = "spec: {sidecar: {envoyImage: 'other:2', initContainerImage: 'other:3'}}";
    ask(&r, PLAIN);
    assert_string_equal(
        osm_json_str_at(at(osm_json_at(r.patched, "spec", "initContainers", NULL), "osm-init"),
                        "image", NULL),
        "other:3");
    clear(&r);
}

static void test_a_inj_08_the_health_check_s_image_is_wanted_only_where_it_is_used(void **state)
{
    (void)state;
    struct rig r = rig();
    r.injector.healthcheck_image = NULL;
    ask(&r, PLAIN);
    assert_non_null(r.patch);
    ask(&r, "metadata: {name: a}\nspec: {containers: [{name: app, livenessProbe: {tcpSocket: "
            "{port: 1}}}]}");
    is_denied_with(&r, "OSM_DEFAULT_HEALTHCHECK_CONTAINER_IMAGE");
    clear(&r);
}

/* --- A-INJ-09, 10: what namespace and MeshConfig say --- */

static void test_a_inj_09_pods_of_a_namespace_with_metrics_are_scraped(void **state)
{
    (void)state;
    struct rig r = rig();
    r.ns = MONITORED "openservicemesh.io/sidecar-injection: enabled, openservicemesh.io/metrics: "
                     "enabled}}";
    ask(&r, "metadata: {name: a, annotations: {x/y~z: kept}}\nspec: {containers: []}");
    same(osm_json_at(r.patched, "metadata", "annotations", NULL),
         "{x/y~z: kept, prometheus.io/scrape: 'true', prometheus.io/port: '15010', "
         "prometheus.io/path: /stats/prometheus}");
    ask(&r, PLAIN);
    same(osm_json_at(r.patched, "metadata", "annotations", NULL),
         "{prometheus.io/scrape: 'true', prometheus.io/port: '15010', prometheus.io/path: "
         "/stats/prometheus}");
    r.ns = ENABLED;
    ask(&r, PLAIN);
    assert_null(osm_json_at(r.patched, "metadata", "annotations", NULL));
    clear(&r);
}

static void test_a_inj_10_resources_and_level_are_mesh_config_s(void **state)
{
    (void)state;
    struct rig r = rig();
    r.mesh_config = "spec: {sidecar: {logLevel: warn, enablePrivilegedInitContainer: true, "
                    "resources: {limits: {cpu: '1'}, requests: {memory: 64M}}}}";
    ask(&r, PLAIN);
    const json_t *envoy = container(&r, "envoy");
    same(json_object_get(envoy, "resources"), "{limits: {cpu: '1'}, requests: {memory: 64M}}");
    assert_string_equal(json_string_value(json_array_get(json_object_get(envoy, "args"), 1)),
                        "warning");
    assert_true(json_is_true(
        osm_json_at(at(osm_json_at(r.patched, "spec", "initContainers", NULL), "osm-init"),
                    "securityContext", "privileged", NULL)));
    r.injector.drain_time_s = 9;
    ask(&r, PLAIN);
    assert_string_equal(
        json_string_value(json_array_get(json_object_get(container(&r, "envoy"), "args"), 7)), "9");
    clear(&r);
}

static void test_a_inj_10_a_quantity_that_is_a_number_is_the_same_in_the_patch(void **state)
{
    (void)state;
    struct rig r = rig();
    struct osm_buf text = OSM_BUF_INIT(1 << 20);
    r.mesh_config = "spec: {sidecar: {resources: {limits: {cpu: 0.1, memory: 64000000}}}}";
    ask(&r, PLAIN);
    const char *patch = osm_json_str_at(r.response, "patch", NULL);
    assert_int_equal(osm_base64_decode(&text, patch, strlen(patch)), 0);
    assert_non_null(strstr(text.data, "{\"limits\":{\"cpu\":0.1,\"memory\":64000000}}"));
    osm_buf_clear(&text);
    clear(&r);
}

static void test_values_of_mesh_config_that_are_wrong_deny_with_their_field(void **state)
{
    (void)state;
    static const char *const wrong[][2] = {
        {"{sidecar: {logLevel: loud}}", "spec.sidecar.logLevel"},
        {"{sidecar: {envoyImage: 7}}", "spec.sidecar.envoyImage"},
        {"{sidecar: {tlsMinProtocolVersion: SSLv3}}", "spec.sidecar.tlsMinProtocolVersion"},
        {"{sidecar: {cipherSuites: [7]}}", "spec.sidecar.cipherSuites[0]"},
        {"{sidecar: {ecdhCurves: P-256}}", "spec.sidecar.ecdhCurves"},
        {"{sidecar: {resources: []}}", "spec.sidecar.resources"},
        {"{sidecar: {resources: {limits: {cpu: abc}}}}",
         "MeshConfig: spec.sidecar.resources.limits.cpu"},
        {"{sidecar: {localProxyMode: Both}}", "spec.sidecar.localProxyMode"},
        {"{traffic: {outboundIPRangeExclusionList: [x]}}",
         "spec.traffic.outboundIPRangeExclusionList[0]"},
    };
    struct rig r = rig();
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char text[256];
        (void)snprintf(text, sizeof text, "spec: %s", wrong[i][0]);
        r.mesh_config = text;
        ask(&r, PLAIN);
        is_denied_with(&r, wrong[i][1]);
    }
    clear(&r);
}

/* --- A-ANN: lists of the pod's annotations --- */

static const char *script(const struct rig *r)
{
    const json_t *init = at(osm_json_at(r->patched, "spec", "initContainers", NULL), "osm-init");
    return json_string_value(json_array_get(json_object_get(init, "args"), 1));
}

static void annotated(struct rig *r, const char *key, const char *value)
{
    char text[512];
    (void)snprintf(text, sizeof text,
                   "metadata: {name: a, annotations: {openservicemesh.io/%s: '%s'}}\n"
                   "spec: {containers: [{name: app}]}",
                   key, value);
    ask(r, text);
}

static void test_a_ann_01_02_port_lists_reach_the_script_or_deny(void **state)
{
    (void)state;
    static const char *const keys[] = {"outbound-port-exclusion-list",
                                       "inbound-port-exclusion-list"};
    static const char *const wrong[] = {"-7070", "abc", "70000", "6379,", ""};
    struct rig r = rig();
    for (size_t k = 0; k < 2; k++) {
        annotated(&r, keys[k], "6379, 7000");
        assert_non_null(strstr(script(&r), "--dports 6379,7000"));
        for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
            annotated(&r, keys[k], wrong[i]);
            is_denied_with(&r, "Invalid port value '");
            is_denied_with(&r, keys[k]);
        }
    }
    clear(&r);
}

static void test_a_ann_03_ip_lists_reach_the_script_or_deny(void **state)
{
    (void)state;
    static const char *const keys[] = {"outbound-ip-range-exclusion-list",
                                       "outbound-ip-range-inclusion-list"};
    struct rig r = rig();
    for (size_t k = 0; k < 2; k++) {
        annotated(&r, keys[k], "1.1.1.1/32,2.2.2.0/24");
        assert_non_null(strstr(script(&r), "-d 2.2.2.0/24"));
        annotated(&r, keys[k], "foobar");
        is_denied_with(&r, "Invalid IP range 'foobar' specified for annotation "
                           "'openservicemesh.io/outbound-ip-range-");
    }
    clear(&r);
}

static void test_a_ann_04_lists_of_pod_and_mesh_config_are_merged(void **state)
{
    (void)state;
    struct rig r = rig();
    r.mesh_config = "spec: {traffic: {outboundPortExclusionList: [10, 20]}}";
    annotated(&r, "outbound-port-exclusion-list", "20,30");
    assert_non_null(strstr(script(&r), "--dports 10,20,30 "));
    clear(&r);
}

/* --- users --- */

static void test_whoever_runs_as_the_sidecar_s_user_is_warned(void **state)
{
    (void)state;
    struct rig r = rig();
    ask(&r, "metadata: {name: a}\nspec: {containers: [{name: app, securityContext: {runAsUser: "
            "1500}}, {name: other}]}");
    same(json_object_get(r.response, "warnings"),
         "['container app: securityContext.runAsUser: is the user of the sidecar: what the "
         "container sends does not go through the mesh']");
    ask(&r, "metadata: {name: a}\nspec: {securityContext: {runAsUser: 1500}, containers: [{name: "
            "app}, {name: other, securityContext: {runAsUser: 7}}]}");
    assert_int_equal(json_array_size(json_object_get(r.response, "warnings")), 1);
    ask(&r, PLAIN);
    assert_null(json_object_get(r.response, "warnings"));
    clear(&r);
}

static void test_what_the_kubelet_asks_without_tls_is_warned_of(void **state)
{
    (void)state;
    struct rig r = rig();
    static const char pod[] =
        "metadata: {name: a, annotations: {openservicemesh.io/inbound-port-exclusion-list: '%s'}}\n"
        "spec: {containers: [{name: app, ports: [{name: end, containerPort: 9}], livenessProbe: "
        "{grpc: {port: 8}}, readinessProbe: {exec: {command: [a]}}, lifecycle: {postStart: "
        "{httpGet: {port: 7, host: elsewhere}}, preStop: {httpGet: {port: end}}}}]}";
    char text[1024];
    (void)snprintf(text, sizeof text, pod, "1");
    ask(&r, text);
    same(json_object_get(r.response, "warnings"),
         "['container app: livenessProbe.grpc: comes without TLS, which the sidecar refuses: use "
         "exec, or exclude the port from the redirection', 'container app: "
         "lifecycle.preStop.httpGet: comes without TLS, which the sidecar refuses: use exec, or "
         "exclude the port from the redirection']");
    (void)snprintf(text, sizeof text, pod, "8,9");
    ask(&r, text);
    assert_null(json_object_get(r.response, "warnings"));
    clear(&r);
}

/* --- Windows --- */

static void test_a_windows_pod_has_no_init_container_and_another_image(void **state)
{
    (void)state;
    static const char *const ways[] = {"nodeSelector: {kubernetes.io/os: Windows}",
                                       "os: {name: windows}"};
    struct rig r = rig();
    for (size_t i = 0; i < 2; i++) {
        char pod[256], wanted[4096];
        (void)snprintf(pod, sizeof pod,
                       "metadata: {name: a}\nspec: {%s, containers: [{name: app}]}", ways[i]);
        (void)snprintf(
            wanted, sizeof wanted,
            "metadata: {name: a, labels: {osm-proxy-uuid: '@'}}\n"
            "spec: {%s, volumes: [" VOLUME "], containers: [{name: app}, " ENVOY_WITH(
                "envoy-windows:1", "{windowsOptions: {runAsUserName: EnvoyUser}}", "default") "]}",
            ways[i]);
        r.injector.envoy_windows_image = "envoy-windows:1";
        ask(&r, pod);
        becomes(&r, wanted);
        r.injector.envoy_windows_image = NULL;
        ask(&r, pod);
        is_denied_with(&r, "spec.sidecar.envoyWindowsImage");
    }
    clear(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_inj_01_a_pod_gets_all_of_the_sidecar_behind_its_own),
        cmocka_unit_test(test_a_inj_01_whatever_is_absent_is_made),
        cmocka_unit_test(test_a_uuid_that_a_pod_brings_is_replaced),
        cmocka_unit_test(test_names_of_the_sidecar_that_are_taken_deny),
        cmocka_unit_test(test_a_inj_05_a_dry_run_has_a_patch_and_no_secret),
        cmocka_unit_test(test_a_inj_06_the_secret_is_the_sidecar_s),
        cmocka_unit_test(test_a_inj_06_the_bootstrap_names_the_proxy_and_the_control_plane),
        cmocka_unit_test(test_the_key_is_wiped_where_it_lay),
        cmocka_unit_test(test_a_inj_07_a_copy_gets_an_identity_and_nothing_else),
        cmocka_unit_test(test_a_inj_07_a_copy_without_labels_keeps_its_volume_s_mode),
        cmocka_unit_test(
            test_a_inj_08_an_image_that_is_given_nowhere_denies_with_field_and_variable),
        cmocka_unit_test(test_a_inj_08_the_health_check_s_image_is_wanted_only_where_it_is_used),
        cmocka_unit_test(test_a_inj_09_pods_of_a_namespace_with_metrics_are_scraped),
        cmocka_unit_test(test_a_inj_10_resources_and_level_are_mesh_config_s),
        cmocka_unit_test(test_a_inj_10_a_quantity_that_is_a_number_is_the_same_in_the_patch),
        cmocka_unit_test(test_values_of_mesh_config_that_are_wrong_deny_with_their_field),
        cmocka_unit_test(test_a_ann_01_02_port_lists_reach_the_script_or_deny),
        cmocka_unit_test(test_a_ann_03_ip_lists_reach_the_script_or_deny),
        cmocka_unit_test(test_a_ann_04_lists_of_pod_and_mesh_config_are_merged),
        cmocka_unit_test(test_whoever_runs_as_the_sidecar_s_user_is_warned),
        cmocka_unit_test(test_what_the_kubelet_asks_without_tls_is_warned_of),
        cmocka_unit_test(test_a_windows_pod_has_no_init_container_and_another_image),
    };
    return cmocka_run_group_tests_name("inject/patch", tests, NULL, no_leak);
}
