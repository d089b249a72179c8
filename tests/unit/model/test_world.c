#include "model/world.h"

#include "model/objects.h"
#include "model/store.h"

#include <stdio.h>

/* A world fed through a store, as in the daemon. */
struct fixture {
    struct osm_store *store;
    struct osm_world *world;
    int appeared, vanished, changed;
    char last[128];
};

static void on_visible(void *ud, struct osm_object *old, struct osm_object *now)
{
    struct fixture *f = ud;
    f->appeared += !old;
    f->vanished += !now;
    f->changed += old && now;
    (void)snprintf(f->last, sizeof f->last, "%s", now ? now->key : old->key);
}

static int set_up(void **state)
{
    static const struct osm_world_config config = {"osm", "osm-system"};
    struct fixture *f = osm_alloc(sizeof *f);
    assert_non_null(f);
    f->store = osm_store_new();
    f->world = osm_world_new(&config);
    assert_non_null(f->store);
    assert_non_null(f->world);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    osm_store_free(f->store);
    osm_world_free(f->world);
    osm_free(f);
    return 0;
}

static void apply(struct fixture *f)
{
    struct osm_changes *changes = osm_store_take_changes(f->store);
    f->appeared = f->vanished = f->changed = 0;
    if (changes)
        assert_int_equal(osm_world_apply(f->world, changes, on_visible, f), 0);
    osm_changes_free(changes);
}

/* Puts every document of the text, then applies one batch. */
static void put(struct fixture *f, const char *yaml)
{
    struct osm_yaml_docs docs = {NULL, 0};
    struct osm_err err = {0};
    if (osm_yaml_parse(yaml, strlen(yaml), &docs, NULL, &err))
        fail_msg("%s in:\n%s", err.msg, yaml);
    for (size_t i = 0; i < docs.len; i++) {
        struct osm_object *object = NULL;
        if (osm_object_new(&object, json_incref(docs.list[i].value), "", &err))
            fail_msg("%s in:\n%s", err.msg, yaml);
        assert_int_equal(osm_store_put(f->store, object), 0);
    }
    osm_yaml_docs_clear(&docs);
    apply(f);
}

static void del(struct fixture *f, const char *key)
{
    assert_int_equal(osm_store_delete(f->store, key), 0);
    apply(f);
}

/* Compares an answer with a JSON text and drops it. */
static void expect(json_t *answer, const char *json)
{
    assert_non_null(answer);
    char *text = json_dumps(answer, JSON_COMPACT | JSON_ENCODE_ANY);
    assert_non_null(text);
    assert_string_equal(text, json);
    osm_free(text);
    json_decref(answer);
}

static const char *endpoints_of(struct fixture *f, const char *service, int port)
{
    static char text[512];
    struct osm_endpoint *list = NULL;
    size_t n = 0;
    text[0] = '\0';
    assert_int_equal(osm_world_endpoints(f->world, "shop", service, port, &list, &n), 0);
    for (size_t i = 0; i < n; i++) {
        size_t len = strlen(text);
        (void)snprintf(text + len, sizeof text - len, "%s%s:%d=%s", i ? " " : "", list[i].address,
                       list[i].port, list[i].account);
    }
    osm_free(list);
    return text;
}

static const char monitored[] =
    "apiVersion: v1\n"
    "kind: Namespace\n"
    "metadata: {name: shop, labels: {openservicemesh.io/monitored-by: osm}}\n";
static const char web[] = "apiVersion: v1\n"
                          "kind: Service\n"
                          "metadata: {name: web, namespace: shop}\n"
                          "spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}\n";
static const char pod_a[] =
    "apiVersion: v1\n"
    "kind: Pod\n"
    "metadata:\n"
    "  name: a\n"
    "  namespace: shop\n"
    "  labels: {app: web, osm-proxy-uuid: 0ABCDEF0-0000-4000-8000-00000000000a}\n"
    "spec: {serviceAccountName: seller, containers: [{ports: [{name: http, containerPort: "
    "8081}]}]}\n"
    "status: {podIP: 10.0.0.1}\n";

static void test_only_monitored_namespaces_are_visible(void **state)
{
    struct fixture *f = *state;
    put(f, web);
    assert_int_equal(f->appeared, 0);
    assert_false(osm_world_monitored(f->world, "shop"));
    put(f, monitored);
    assert_int_equal(f->appeared, 2); /* the Service and the Namespace itself */
    assert_true(osm_world_monitored(f->world, "shop"));
    put(f, "{apiVersion: v1, kind: Namespace, metadata: {name: shop}}");
    assert_int_equal(f->vanished, 2);
    assert_false(osm_world_monitored(f->world, "shop"));
}

static void test_facts_follow_service_and_pods(void **state)
{
    struct fixture *f = *state;
    put(f, monitored);
    put(f, web);
    put(f, pod_a);
    assert_int_equal(osm_world_target_port(f->world, "shop", "web", 80), 8080);
    assert_int_equal(osm_world_target_port(f->world, "shop", "web", 81), 0);
    expect(osm_world_accounts_behind(f->world, "shop", "web"), "[\"seller\"]");
    expect(osm_world_services_of(f->world, "shop", "seller"), "[\"web\"]");
    expect(osm_world_workloads(f->world), "[[\"shop\",\"web\",\"seller\"]]");
    expect(osm_world_accounts(f->world), "[[\"shop\",\"seller\"]]");
    expect(osm_world_addresses(f->world, "shop", "web"), "[\"10.0.0.1\"]");
    expect(osm_world_members(f->world, "shop", "web"), "[]");
    assert_string_equal(endpoints_of(f, "web", 80), "10.0.0.1:8080=seller");
    del(f, "/Pod/shop/a");
    expect(osm_world_accounts_behind(f->world, "shop", "web"), "[]");
    expect(osm_world_services_of(f->world, "shop", "seller"), "[]");
    expect(osm_world_workloads(f->world), "[]");
    expect(osm_world_accounts(f->world), "[]");
    assert_string_equal(endpoints_of(f, "web", 80), "");
}

static void test_proxies_are_pods_with_a_uuid(void **state)
{
    struct fixture *f = *state;
    size_t n = 0;
    put(f, monitored);
    put(f, web);
    put(f, pod_a);
    const struct osm_world_proxy *proxies = osm_world_proxies(f->world, &n);
    assert_int_equal(n, 1);
    assert_string_equal(proxies[0].uuid, "0abcdef0-0000-4000-8000-00000000000a");
    assert_string_equal(proxies[0].account, "seller");
    assert_string_equal(proxies[0].pod, "a");
    assert_int_equal(proxies[0].services_len, 1);
    assert_string_equal(proxies[0].services[0], "web");
    assert_string_equal(proxies[0].object->key, "/Pod/shop/a");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_only_monitored_namespaces_are_visible, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_facts_follow_service_and_pods, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_proxies_are_pods_with_a_uuid, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, count_json, nothing_is_left);
}
