/* Every allocation of a review's way fails once: it is answered with a denial or not at all,
 * nothing is half made, and nothing leaks. */
#include "admission_util.h"

#define POD                                                                                        \
    "{\"metadata\": {\"name\": \"a\", \"annotations\": "                                           \
    "{\"openservicemesh.io/outbound-port-exclusion-list\": \"1,2\"}}, \"spec\": {\"containers\": " \
    "[{\"name\": \"app\", \"ports\": [{\"name\": \"web\", \"containerPort\": 8080}], "             \
    "\"livenessProbe\": {\"httpGet\": {\"path\": \"/a\", \"port\": \"web\"}}, "                    \
    "\"readinessProbe\": {\"httpGet\": {\"port\": 1, \"scheme\": \"HTTPS\"}}, "                    \
    "\"startupProbe\": {\"tcpSocket\": {\"port\": 2}}}]}}"

static const char plain[] =
    "{\"apiVersion\": \"admission.k8s.io/v1\", \"request\": {\"uid\": \"u\", \"kind\": "
    "{\"version\": \"v1\", \"kind\": \"Pod\"}, \"operation\": \"CREATE\", \"namespace\": "
    "\"shop\", \"object\": " POD "}}";
static const char mesh_text[] =
    "{\"spec\": {\"sidecar\": {\"resources\": {\"limits\": {\"cpu\": 1}}, \"cipherSuites\": "
    "[\"AES128-SHA\"], \"ecdhCurves\": [\"P-384\"], \"tlsMaxProtocolVersion\": \"TLSv1_2\"}, "
    "\"traffic\": {\"networkInterfaceExclusionList\": [\"eth1\"]}}}";
static const char ns_text[] =
    "{\"metadata\": {\"labels\": {\"openservicemesh.io/monitored-by\": \"osm\"}, "
    "\"annotations\": {\"openservicemesh.io/sidecar-injection\": \"enabled\", "
    "\"openservicemesh.io/metrics\": \"enabled\"}}}";

struct given {
    struct osm_injector injector;
    json_t *ns, *mesh;
    char *body;
};

/* Whether the pod got its sidecar. */
static bool once(const struct given *g, long n)
{
    struct osm_admission a;
    struct osm_err err = {0};
    json_t *secret = NULL, *answer = NULL;
    bool got = false;
    int rc = 0;
    assert_int_equal(osm_admission_read(&a, g->body, strlen(g->body), &err), 0);
    osm_mem_fail_at(n);
    osm_admission_decide(&a, &g->injector, g->ns, g->mesh);
    if (a.outcome == OSM_ADMISSION_INJECT) {
        rc =
            osm_admission_inject(&a, &g->injector, g->mesh, "chain", "key", "roots", &secret, &err);
        assert_true(rc ? !secret && a.outcome == OSM_ADMISSION_DENY : secret != NULL);
    } else {
        assert_int_equal(a.outcome, OSM_ADMISSION_DENY);
        assert_string_not_equal(a.reason, "");
        assert_null(a.patch);
    }
    answer = osm_admission_response(&a);
    if (answer) {
        got = json_is_true(osm_json_at(answer, "response", "allowed", NULL)) && secret;
        assert_true(!got || osm_json_at(answer, "response", "patch", NULL));
    }
    json_decref(answer);
    osm_webhook_wipe_secret(secret);
    json_decref(secret);
    osm_admission_clear(&a);
    return got;
}

static void torture(const struct given *g, long least)
{
    long live = osm_mem_live();
    for (long n = 0;; n++) {
        bool got = once(g, n);
        bool is_over = osm_mem_fail_waits();
        osm_mem_fail_at(-1);
        if (osm_mem_live() != live)
            fail_msg("allocation %ld: %ld are left", n, osm_mem_live() - live);
        if (is_over) {
            assert_true(got);
            assert_true(n > least);
            return;
        }
        assert_true(n < 100000);
    }
}

static struct given given(void)
{
    struct given g = {rig().injector, json_loads(ns_text, 0, NULL), json_loads(mesh_text, 0, NULL),
                      osm_strdup(plain)};
    assert_true(g.ns && g.mesh && g.body);
    return g;
}

static void forget(struct given *g)
{
    json_decref(g->ns);
    json_decref(g->mesh);
    osm_free(g->body);
}

static void test_a_pod_without_memory_gets_a_whole_sidecar_or_none(void **state)
{
    (void)state;
    json_set_alloc_funcs(osm_alloc, osm_free);
    struct given g = given();
    torture(&g, 200);
    forget(&g);
}

/* The same of a copy, whose probes have changed; its way has a text to read. */
static void test_a_copy_without_memory_gets_a_whole_sidecar_or_none(void **state)
{
    (void)state;
    json_set_alloc_funcs(malloc, free);
    struct given g = given();
    struct osm_admission a;
    assert_int_equal(osm_admission_read(&a, g.body, strlen(g.body), NULL), 0);
    osm_admission_decide(&a, &g.injector, g.ns, g.mesh);
    assert_non_null(a.patch);
    json_t *copy = apply(a.pod, a.patch), *review = json_deep_copy(a.review);
    json_t *app = json_array_get(json_object_get(json_object_get(copy, "spec"), "containers"), 0);
    assert_int_equal(json_object_set(app, "livenessProbe", json_object_get(app, "startupProbe")),
                     0);
    assert_int_equal(json_object_set_new(json_object_get(review, "request"), "object", copy), 0);
    char *text = json_dumps(review, 0);
    osm_free(g.body);
    g.body = osm_strdup(text);
    free(text);
    json_decref(review);
    osm_admission_clear(&a);
    torture(&g, 10);
    forget(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_pod_without_memory_gets_a_whole_sidecar_or_none),
        cmocka_unit_test(test_a_copy_without_memory_gets_a_whole_sidecar_or_none),
    };
    return cmocka_run_group_tests_name("inject/torture", tests, NULL, no_leak);
}
