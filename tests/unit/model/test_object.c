#include "model/object.h"

#include "model/objects.h"

/* The text must be refused with a message that holds @p what. */
static void refuse(const char *yaml, int code, const char *what)
{
    struct osm_yaml_docs docs = {NULL, 0};
    struct osm_object *object = NULL;
    struct osm_err err = {0};
    assert_int_equal(osm_yaml_parse(yaml, strlen(yaml), &docs, NULL, &err), 0);
    assert_int_equal(osm_object_new(&object, json_incref(docs.list[0].value), "x", &err), code);
    assert_null(object);
    if (!strstr(err.msg, what))
        fail_msg("\"%s\" does not say \"%s\"", err.msg, what);
    osm_yaml_docs_clear(&docs);
}

static void expect_key(const char *yaml, const char *key)
{
    struct osm_object *object = object_of(yaml);
    assert_string_equal(object->key, key);
    osm_object_unref(object);
}

static void expect_same(const char *a, const char *b, bool same)
{
    struct osm_object *x = object_of(a), *y = object_of(b);
    if (osm_object_same(x, y) != same)
        fail_msg("%s\n%s", a, b);
    osm_object_unref(x);
    osm_object_unref(y);
}

#define POD "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\n"

static void test_identity_comes_from_the_manifest(void **state)
{
    (void)state;
    struct osm_object *o = object_of("{apiVersion: split.smi-spec.io/v1alpha2, kind: TrafficSplit, "
                                     "metadata: {name: s, namespace: shop}}");
    assert_string_equal(o->group, "split.smi-spec.io");
    assert_string_equal(o->version, "v1alpha2");
    assert_string_equal(o->kind, "TrafficSplit");
    assert_string_equal(o->ns, "shop");
    assert_string_equal(o->name, "s");
    assert_string_equal(o->key, "split.smi-spec.io/TrafficSplit/shop/s");
    assert_string_equal(o->origin, "test.yaml:1");
    assert_true(osm_object_is(o, "split.smi-spec.io", "TrafficSplit"));
    assert_false(osm_object_is(o, "", "TrafficSplit"));
    osm_object_unref(o);
}

static void test_namespace_is_defaulted_by_scope(void **state)
{
    (void)state;
    expect_key(POD, "/Pod/default/p");
    expect_key("{apiVersion: v1, kind: Pod, metadata: {name: p, namespace: ''}}", "/Pod/default/p");
    expect_key("{apiVersion: v1, kind: Pod, metadata: {name: p, namespace: null}}",
               "/Pod/default/p");
    expect_key("{apiVersion: v1, kind: Namespace, metadata: {name: shop}}", "/Namespace//shop");
    expect_key("{apiVersion: v1, kind: Node, metadata: {name: n, namespace: shop}}", "/Node//n");
    expect_key(
        "{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: 'a:b'}}",
        "rbac.authorization.k8s.io/ClusterRole//a:b");
    expect_key("{apiVersion: example.org/v1, kind: Namespace, metadata: {name: x}}",
               "example.org/Namespace/default/x");
}

static void test_bad_identity_is_refused_with_its_field(void **state)
{
    (void)state;
    refuse("[1]", OSM_EINVAL, "not an object");
    refuse("text", OSM_EINVAL, "not an object");
    refuse("{kind: Pod, metadata: {name: p}}", OSM_EINVAL, "apiVersion: is missing");
    refuse("{apiVersion: 1, kind: Pod, metadata: {name: p}}", OSM_EINVAL,
           "apiVersion: must be a string");
    refuse("{apiVersion: '', kind: Pod, metadata: {name: p}}", OSM_EINVAL, "apiVersion: is empty");
    refuse("{apiVersion: a/b/c, kind: Pod, metadata: {name: p}}", OSM_EINVAL, "apiVersion: ");
    refuse("{apiVersion: /v1, kind: Pod, metadata: {name: p}}", OSM_EINVAL, "apiVersion: ");
    refuse("{apiVersion: g/, kind: Pod, metadata: {name: p}}", OSM_EINVAL, "apiVersion: ");
    refuse("{apiVersion: v1, metadata: {name: p}}", OSM_EINVAL, "kind: is missing");
    refuse("{apiVersion: v1, kind: [Pod], metadata: {name: p}}", OSM_EINVAL,
           "kind: must be a string");
    refuse("{apiVersion: v1, kind: a/b, metadata: {name: p}}", OSM_EINVAL, "kind: ");
    refuse("{apiVersion: v1, kind: Pod}", OSM_EINVAL, "metadata: is missing");
    refuse("{apiVersion: v1, kind: Pod, metadata: []}", OSM_EINVAL, "metadata: must be an object");
    refuse("{apiVersion: v1, kind: Pod, metadata: {generateName: p-}}", OSM_EINVAL,
           "metadata.name: is missing");
    refuse("{apiVersion: v1, kind: Pod, metadata: {name: 7}}", OSM_EINVAL,
           "metadata.name: must be a string");
    refuse("{apiVersion: v1, kind: Pod, metadata: {name: a/b}}", OSM_EINVAL, "metadata.name: ");
    refuse("{apiVersion: v1, kind: Pod, metadata: {name: ..}}", OSM_EINVAL, "metadata.name: ");
    refuse("{apiVersion: v1, kind: Pod, metadata: {name: p, namespace: 1}}", OSM_EINVAL,
           "metadata.namespace: ");
    refuse("{apiVersion: v1, kind: Pod, metadata: {name: p, namespace: a.b}}", OSM_EINVAL,
           "metadata.namespace: ");
    refuse("{apiVersion: v1, kind: Pod, metadata: {name: p, namespace: a/b}}", OSM_EINVAL,
           "metadata.namespace: ");
    refuse("{apiVersion: v1, kind: Pod, metadata: {name: p, namespace: Shop}}", OSM_EINVAL,
           "metadata.namespace: ");
    refuse("{apiVersion: v1, kind: Pod, metadata: {name: p, namespace: shop-}}", OSM_EINVAL,
           "metadata.namespace: ");
    refuse("{apiVersion: v1, kind: Namespace, metadata: {name: -shop}}", OSM_EINVAL,
           "metadata.name: ");
    refuse("{apiVersion: v1, kind: Namespace, metadata: {name: None}}", OSM_EINVAL,
           "metadata.name: ");
}

static void test_overlong_names_are_refused(void **state)
{
    (void)state;
    char name[300];
    memset(name, 'a', sizeof name);
    name[254] = '\0';
    json_t *body = json_pack("{s:s, s:s, s:{s:s}}", "apiVersion", "v1", "kind", "Pod", "metadata",
                             "name", name);
    struct osm_object *object = NULL;
    assert_int_equal(osm_object_new(&object, body, "", NULL), OSM_EINVAL);
    name[253] = '\0';
    body = json_pack("{s:s, s:s, s:{s:s}}", "apiVersion", "v1", "kind", "Pod", "metadata", "name",
                     name);
    assert_int_equal(osm_object_new(&object, body, NULL, NULL), 0);
    assert_string_equal(object->origin, "");
    osm_object_unref(object);
}

static void test_content_ignores_order_and_bookkeeping(void **state)
{
    (void)state;
    expect_same(POD "spec: {a: 1, b: [x]}", POD "spec: {b: [x], a: 1}", true);
    expect_same(POD,
                "{kind: Pod, apiVersion: v1, metadata: {resourceVersion: '9', generation: 3, "
                "managedFields: [{}], name: p}}",
                true);
    expect_same("{apiVersion: v1, kind: Service, metadata: {name: s}}",
                "{apiVersion: v1, kind: Service, metadata: {name: s}, status: {loadBalancer: {}}}",
                true);
}

static void test_content_sees_every_other_difference(void **state)
{
    (void)state;
    expect_same(POD "spec: {a: 1}", POD "spec: {a: 1.0}", false);
    expect_same(POD "spec: {a: 1}", POD "spec: {a: '1'}", false);
    expect_same(POD "spec: {a: true}", POD "spec: {a: 'true'}", false);
    expect_same(POD "spec: {a: [1, 2]}", POD "spec: {a: [2, 1]}", false);
    expect_same(POD "spec: {a: []}", POD "spec: {a: {}}", false);
    expect_same(POD "spec: {a: [[1], []]}", POD "spec: {a: [[], [1]]}", false);
    expect_same(POD "spec: {ab: c}", POD "spec: {a: bc}", false);
    expect_same(POD "spec: {status: a, generation: 1}", POD "spec: {status: b, generation: 2}",
                false);
    expect_same("{apiVersion: v1, kind: Pod, metadata: {name: p, labels: {a: b}}}", POD, false);
    expect_same("{apiVersion: v1, kind: Pod, metadata: {name: p, metadata: {generation: 1}}}",
                "{apiVersion: v1, kind: Pod, metadata: {name: p, metadata: {generation: 2}}}",
                false);
}

static void test_a_pods_live_status_counts(void **state)
{
    (void)state;
    expect_same(POD, POD "status: {podIP: 10.0.0.1}", false);
    expect_same(POD "status: {podIP: 10.0.0.1}", POD "status: {podIP: 10.0.0.2}", false);
    expect_same(POD "status: {phase: Running}", POD "status: {phase: Failed}", false);
    expect_same(POD "status: {podIPs: [{ip: 10.0.0.1}]}", POD "status: {podIPs: []}", false);
    expect_same(POD "status: {conditions: [{type: Ready, status: 'True'}]}",
                POD "status: {conditions: [{type: Ready, status: 'False'}]}", false);
    expect_same(
        POD "status: {conditions: [{type: Ready, status: 'True', lastProbeTime: a}]}",
        POD "status: {hostIP: x, conditions: [{type: Initialized}, {type: Ready, status: 'True'}]}",
        true);
    struct osm_object *a = object_of(POD), *b = object_of(POD "status: {podIP: 10.0.0.1}");
    assert_true(osm_hash_equal(a->content, b->content));
    osm_object_unref(a);
    osm_object_unref(b);
}

static void test_too_deep_a_body_is_refused(void **state)
{
    (void)state;
    json_t *deep = json_array();
    for (int i = 0; i < 200; i++) {
        json_t *outer = json_array();
        (void)json_array_append_new(outer, deep);
        deep = outer;
    }
    json_t *body = json_pack("{s:s, s:s, s:{s:s}, s:o}", "apiVersion", "v1", "kind", "Pod",
                             "metadata", "name", "p", "spec", deep);
    struct osm_object *object = NULL;
    assert_int_equal(osm_object_new(&object, body, "", NULL), OSM_ELIMIT);
}

static void test_paths_end_where_a_step_is_missing(void **state)
{
    (void)state;
    struct osm_object *o = object_of(POD "spec: {a: {b: text}, n: 1}");
    assert_string_equal(osm_json_str_at(o->body, "spec", "a", "b", NULL), "text");
    assert_null(osm_json_str_at(o->body, "spec", "n", NULL));
    assert_null(osm_json_str_at(o->body, "spec", "n", "x", NULL));
    assert_null(osm_json_str_at(o->body, "spec", "x", "y", "z", NULL));
    assert_null(osm_json_at(NULL, "spec", NULL));
    assert_true(json_is_object(osm_json_at(o->body, "spec", NULL)));
    osm_object_unref(o);
}

static void test_no_memory_leaks_nothing(void **state)
{
    (void)state;
    json_t *body = json_pack("{s:s, s:s, s:{s:s}, s:{s:s}}", "apiVersion", "v1", "kind", "Pod",
                             "metadata", "name", "p", "status", "phase", "Running");
    long before = osm_mem_live();
    int rc = OSM_ENOMEM;
    for (long n = 0; rc == OSM_ENOMEM; n++) {
        struct osm_object *object = NULL;
        osm_mem_fail_at(n);
        rc = osm_object_new(&object, json_incref(body), "o", NULL);
        osm_mem_fail_at(-1);
        osm_object_unref(object);
        assert_int_equal(osm_mem_live(), before);
    }
    assert_int_equal(rc, 0);
    json_decref(body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_identity_comes_from_the_manifest),
        cmocka_unit_test(test_namespace_is_defaulted_by_scope),
        cmocka_unit_test(test_bad_identity_is_refused_with_its_field),
        cmocka_unit_test(test_overlong_names_are_refused),
        cmocka_unit_test(test_content_ignores_order_and_bookkeeping),
        cmocka_unit_test(test_content_sees_every_other_difference),
        cmocka_unit_test(test_a_pods_live_status_counts),
        cmocka_unit_test(test_too_deep_a_body_is_refused),
        cmocka_unit_test(test_paths_end_where_a_step_is_missing),
        cmocka_unit_test(test_no_memory_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, count_json, nothing_is_left);
}
