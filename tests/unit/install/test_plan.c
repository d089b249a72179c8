/* What is done with a definition, by what the API server has. */
#include "install/plan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

static const char OURS[] =
    "{'metadata': {'name': 'things.acme', 'annotations': {'openservicemesh.io/crd-revision': '3'}},"
    " 'spec': {'group': 'acme', 'scope': 'Namespaced', 'names': {'kind': 'Thing', 'plural': "
    "'things'}, 'conversion': {'strategy': 'None'}, 'versions': [{'name': 'v2', 'served': true, "
    "'storage': true, 'schema': {'a': [1]}}, {'name': 'v1', 'served': true, 'storage': false}]}}";

/* Text with ' for ". */
static json_t *parse(const char *text)
{
    char copy[4096];
    size_t n = strlen(text);
    assert_true(n < sizeof copy);
    for (size_t i = 0; i <= n; i++)
        copy[i] = (char)(text[i] == '\'' ? '"' : text[i]);
    json_t *value = json_loads(copy, JSON_DECODE_ANY, NULL);
    assert_non_null(value);
    return value;
}

/* Ours, changed: @p path is "spec.names.kind", @p value JSON. */
static json_t *changed(const char *path, const char *value)
{
    json_t *crd = parse(OURS), *at = crd;
    char key[64];
    for (size_t n = strcspn(path, "."); path[n]; path += n + 1, n = strcspn(path, ".")) {
        assert_true(n < sizeof key);
        memcpy(key, path, n);
        key[n] = '\0';
        json_t *next = json_object_get(at, key);
        if (!next) {
            next = json_object();
            assert_int_equal(json_object_set_new(at, key, next), 0);
        }
        at = next;
    }
    assert_int_equal(json_object_set_new(at, path, parse(value)), 0);
    return crd;
}

static struct osm_crd_plan plan_of(json_t *live)
{
    struct osm_crd_plan plan;
    json_t *ours = parse(OURS);
    osm_crd_plan(&plan, live, ours);
    json_decref(ours);
    json_decref(live);
    return plan;
}

static void test_what_is_absent_is_applied(void **state)
{
    (void)state;
    struct osm_crd_plan plan = plan_of(NULL);
    assert_int_equal(plan.step, OSM_CRD_APPLY);
    assert_false(plan.drop_webhook || plan.drop_unknown);
}

static void test_what_is_as_ours_is_kept_whatever_else_it_says(void **state)
{
    (void)state;
    assert_int_equal(plan_of(parse(OURS)).step, OSM_CRD_KEEP);
    assert_int_equal(plan_of(changed("metadata.labels", "{'a': 'b'}")).step, OSM_CRD_KEEP);
    assert_int_equal(plan_of(changed("spec.names.listKind", "'ThingList'")).step, OSM_CRD_KEEP);
    assert_int_equal(plan_of(changed("status.storedVersions", "['v1']")).step, OSM_CRD_KEEP);
}

static void test_what_differs_is_applied(void **state)
{
    (void)state;
    static const char *const older[][2] = {
        {"metadata.annotations", "{}"},
        {"metadata.annotations", "{'openservicemesh.io/crd-revision': '2'}"},
        {"metadata.annotations", "{'openservicemesh.io/crd-revision': '99x'}"},
        {"metadata.annotations", "{'openservicemesh.io/crd-revision': '-4'}"},
        {"metadata.annotations", "{'openservicemesh.io/crd-revision': 7}"},
        {"spec.names.plural", "'others'"},
        {"spec.versions", "[]"},
        {"spec.versions", "null"},
        {"spec.versions", "[{'name': 'v1', 'served': true, 'storage': true}]"},
        {"spec.versions",
         "[{'name': 'v2', 'served': true, 'storage': true, 'schema': {'a': [1, 2]}},"
         " {'name': 'v1', 'served': true, 'storage': false}]"},
    };
    for (size_t i = 0; i < sizeof older / sizeof *older; i++) {
        struct osm_crd_plan plan = plan_of(changed(older[i][0], older[i][1]));
        assert_int_equal(plan.step, OSM_CRD_APPLY);
        assert_false(plan.drop_webhook || plan.drop_unknown);
    }
}

static void test_a_webhook_goes_first_and_an_old_permission_is_taken_back(void **state)
{
    (void)state;
    struct osm_crd_plan plan =
        plan_of(changed("spec.conversion", "{'strategy': 'Webhook', 'webhook': {}}"));
    assert_int_equal(plan.step, OSM_CRD_APPLY);
    assert_true(plan.drop_webhook);
    json_t *live = changed("spec.preserveUnknownFields", "true");
    assert_int_equal(json_object_del(json_object_get(live, "metadata"), "annotations"), 0);
    plan = plan_of(live);
    assert_int_equal(plan.step, OSM_CRD_APPLY);
    assert_true(plan.drop_unknown);
}

static void test_what_is_newer_is_left(void **state)
{
    (void)state;
    struct osm_crd_plan plan =
        plan_of(changed("metadata.annotations", "{'openservicemesh.io/crd-revision': '4'}"));
    assert_int_equal(plan.step, OSM_CRD_LEAVE);
    assert_non_null(strstr(plan.why, "revision 4, ours of 3"));
    plan = plan_of(changed("spec.versions", "[{'name': 'v3'}, {'name': 'v2'}, {'name': 'v1'}]"));
    assert_int_equal(plan.step, OSM_CRD_LEAVE);
    assert_non_null(strstr(plan.why, "v3"));
}

static void test_what_is_another_thing_is_refused(void **state)
{
    (void)state;
    assert_int_equal(plan_of(changed("spec.names.kind", "'Other'")).step, OSM_CRD_REFUSE);
    struct osm_crd_plan plan = plan_of(changed("spec.scope", "'Cluster'"));
    assert_int_equal(plan.step, OSM_CRD_REFUSE);
    assert_non_null(strstr(plan.why, "scope Cluster"));
}

static void test_what_is_going_is_waited_for_whatever_it_is(void **state)
{
    (void)state;
    json_t *live = changed("spec.names.kind", "'Other'");
    json_t *metadata = json_object_get(live, "metadata");
    assert_int_equal(
        json_object_set_new(metadata, "deletionTimestamp", json_string("2026-01-31T00:00:00Z")), 0);
    struct osm_crd_plan plan = plan_of(live);
    assert_int_equal(plan.step, OSM_CRD_WAIT);
    assert_non_null(strstr(plan.why, "2026-01-31T00:00:00Z"));
    assert_non_null(strstr(plan.why, "kubectl get things.acme -A"));
}

static void test_state_is_what_the_conditions_say(void **state)
{
    (void)state;
    static const struct {
        const char *conditions;
        enum osm_crd_state state;
        const char *why;
    } rows[] = {
        {"[]", OSM_CRD_PENDING, ""},
        {"null", OSM_CRD_PENDING, ""},
        {"[{'type': 'Established', 'status': 'True', 'message': 'x'}]", OSM_CRD_READY, ""},
        {"[{'type': 'Established', 'status': 'False', 'message': 'soon'}]", OSM_CRD_PENDING,
         "soon"},
        {"[{'type': 'NonStructuralSchema', 'status': 'True', 'message': 'bad'}]", OSM_CRD_PENDING,
         "bad"},
        {"[{'type': 'NamesAccepted', 'status': 'False', 'message': 'taken'}]", OSM_CRD_CONFLICT,
         "taken"},
        {"[{'type': 'NamesAccepted', 'status': 'False', 'message': 'taken'},"
         " {'type': 'Established', 'status': 'True'}]",
         OSM_CRD_READY, "taken"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char why[OSM_CRD_WHY_SIZE];
        json_t *live = changed("status.conditions", rows[i].conditions);
        assert_int_equal(osm_crd_state(live, why), rows[i].state);
        if (*rows[i].why)
            assert_non_null(strstr(why, rows[i].why));
        else
            assert_string_equal(why, "");
        json_decref(live);
    }
}

static void test_old_objects_are_those_of_another_version_than_the_one_that_stores(void **state)
{
    (void)state;
    static const struct {
        const char *stored;
        bool old;
    } rows[] = {{"['v2']", false}, {"['v1', 'v2']", true}, {"['v1']", true},
                {"[]", false},     {"null", false},        {"[7]", true}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        json_t *live = changed("status.storedVersions", rows[i].stored);
        assert_string_equal(osm_crd_storage(live), "v2");
        assert_int_equal(osm_crd_has_old_objects(live), rows[i].old);
        json_decref(live);
    }
    json_t *none = changed("spec.versions", "[]");
    assert_string_equal(osm_crd_storage(none), "");
    assert_false(osm_crd_has_old_objects(none));
    json_decref(none);
}

static void test_ours_are_whole(void **state)
{
    (void)state;
    size_t n = 0;
    for (const struct osm_crd_file *file = osm_crd_files; file->name; file++, n++) {
        json_t *crd = json_loads(file->json, JSON_REJECT_DUPLICATES, NULL), *again;
        assert_non_null(crd);
        assert_string_not_equal(osm_crd_storage(crd), "");
        struct osm_crd_plan plan;
        again = json_deep_copy(crd);
        osm_crd_plan(&plan, again, crd);
        assert_int_equal(plan.step, OSM_CRD_KEEP);
        json_decref(again);
        json_decref(crd);
    }
    assert_true(n > 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_absent_is_applied),
        cmocka_unit_test(test_what_is_as_ours_is_kept_whatever_else_it_says),
        cmocka_unit_test(test_what_differs_is_applied),
        cmocka_unit_test(test_a_webhook_goes_first_and_an_old_permission_is_taken_back),
        cmocka_unit_test(test_what_is_newer_is_left),
        cmocka_unit_test(test_what_is_another_thing_is_refused),
        cmocka_unit_test(test_what_is_going_is_waited_for_whatever_it_is),
        cmocka_unit_test(test_state_is_what_the_conditions_say),
        cmocka_unit_test(test_old_objects_are_those_of_another_version_than_the_one_that_stores),
        cmocka_unit_test(test_ours_are_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
