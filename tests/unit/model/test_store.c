#include "model/store.h"

#include "model/objects.h"

#include <stdio.h>

#define UUID "0a1b2c3d-1111-4222-8333-0123456789ab"

static struct osm_store_reader *reader; /* of the test's store */

static struct osm_object *service(const char *name, int port, const char *origin)
{
    struct osm_object *object = NULL;
    json_t *body = json_pack("{s:s, s:s, s:{s:s}, s:{s:[{s:i}]}}", "apiVersion", "v1", "kind",
                             "Service", "metadata", "name", name, "spec", "ports", "port", port);
    assert_int_equal(osm_object_new(&object, body, origin, NULL), 0);
    return object;
}

static struct osm_object *pod(const char *name, const char *uuid)
{
    char yaml[256];
    (void)snprintf(
        yaml, sizeof yaml,
        "{apiVersion: v1, kind: Pod, metadata: {name: %s, labels: {osm-proxy-uuid: '%s'}}}", name,
        uuid);
    return object_of(yaml);
}

static void put(struct osm_store *store, struct osm_object *object)
{
    assert_int_equal(osm_store_put(store, object), 0);
}

/* Takes the changes as text: "+key=port" or "-key", sorted by key since there is one in most tests.
 */
static const char *take_of(struct osm_store_reader *of)
{
    static char text[512];
    struct osm_changes *changes = osm_store_reader_take(of);
    text[0] = '\0';
    for (size_t i = 0; changes && i < changes->len; i++) {
        const struct osm_change *c = &changes->list[i];
        assert_true((c->now != NULL) != (c->gone != NULL));
        const struct osm_object *o = c->now ? c->now : c->gone;
        const json_t *ports = osm_json_at(o->body, "spec", "ports", NULL);
        size_t len = strlen(text);
        (void)snprintf(text + len, sizeof text - len, "%s%c%s=%d", len ? " " : "",
                       c->now ? '+' : '-', o->key,
                       (int)json_integer_value(json_object_get(json_array_get(ports, 0), "port")));
    }
    osm_changes_free(changes);
    return text;
}

static int set_up(void **state)
{
    *state = osm_store_new();
    reader = *state ? osm_store_reader_new(*state) : NULL;
    return reader ? 0 : -1;
}

static int tear_down(void **state)
{
    osm_store_reader_free(reader);
    osm_store_free(*state);
    return 0;
}

static void test_a_burst_becomes_one_change(void **state)
{
    struct osm_store *s = *state;
    assert_false(osm_store_reader_dirty(reader));
    put(s, service("a", 1, ""));
    put(s, service("a", 2, ""));
    put(s, service("a", 3, ""));
    assert_true(osm_store_reader_dirty(reader));
    assert_string_equal(take_of(reader), "+/Service/default/a=3");
    assert_false(osm_store_reader_dirty(reader));
    assert_string_equal(take_of(reader), "");
    assert_int_equal(osm_store_count(s), 1);
}

static void test_equal_content_is_no_change_but_is_kept(void **state)
{
    struct osm_store *s = *state;
    put(s, service("a", 1, "x.yaml:1"));
    assert_string_equal(take_of(reader), "+/Service/default/a=1");
    put(s, service("a", 1, "x.yaml:9"));
    assert_false(osm_store_reader_dirty(reader));
    assert_string_equal(osm_store_get(s, "/Service/default/a")->origin, "x.yaml:9");
}

static void test_delete_and_put_in_one_batch_is_one_change(void **state)
{
    struct osm_store *s = *state;
    put(s, service("a", 1, ""));
    (void)take_of(reader);
    assert_int_equal(osm_store_delete(s, "/Service/default/a"), 0);
    put(s, service("a", 2, ""));
    assert_string_equal(take_of(reader), "+/Service/default/a=2");
}

static void test_what_comes_and_goes_unseen_is_no_change(void **state)
{
    struct osm_store *s = *state;
    put(s, service("a", 1, ""));
    assert_int_equal(osm_store_delete(s, "/Service/default/a"), 0);
    assert_false(osm_store_reader_dirty(reader));
    put(s, service("b", 1, ""));
    (void)take_of(reader);
    put(s, service("b", 2, ""));
    put(s, service("b", 1, ""));
    assert_false(osm_store_reader_dirty(reader));
    assert_int_equal(osm_store_delete(s, "/Service/default/b"), 0);
    put(s, service("b", 1, ""));
    assert_false(osm_store_reader_dirty(reader));
    assert_string_equal(take_of(reader), "");
}

static void test_delete_hands_over_the_last_object(void **state)
{
    struct osm_store *s = *state;
    put(s, service("a", 1, ""));
    (void)take_of(reader);
    put(s, service("a", 2, ""));
    assert_int_equal(osm_store_delete(s, "/Service/default/a"), 0);
    assert_int_equal(osm_store_delete(s, "/Service/default/a"), OSM_ENOENT);
    assert_string_equal(take_of(reader), "-/Service/default/a=2");
    assert_null(osm_store_get(s, "/Service/default/a"));
    assert_int_equal(osm_store_count(s), 0);
}

static void test_putting_the_very_same_object_is_safe(void **state)
{
    struct osm_store *s = *state;
    struct osm_object *a = service("a", 1, "");
    put(s, osm_object_ref(a));
    (void)take_of(reader);
    put(s, a);
    assert_false(osm_store_reader_dirty(reader));
    assert_string_equal(osm_store_get(s, "/Service/default/a")->name, "a");
}

static void test_a_pods_readiness_is_a_change(void **state)
{
    struct osm_store *s = *state;
    put(s, object_of("{apiVersion: v1, kind: Pod, metadata: {name: p}}"));
    (void)take_of(reader);
    put(s,
        object_of("{apiVersion: v1, kind: Pod, metadata: {name: p}, status: {podIP: 10.0.0.1}}"));
    assert_true(osm_store_reader_dirty(reader));
    assert_string_equal(take_of(reader), "+/Pod/default/p=0");
}

static void test_pods_are_found_by_uuid_in_lower_case(void **state)
{
    struct osm_store *s = *state;
    put(s, pod("p", "0A1B2C3D-1111-4222-8333-0123456789AB"));
    assert_string_equal(osm_store_pod_of_proxy(s, UUID ".default")->name, "p");
    assert_null(osm_store_pod_of_proxy(s, "0a1b2c3d-1111-4222-8333-000000000000.default"));
    put(s, pod("p", "11111111-1111-4222-8333-0123456789ab"));
    assert_null(osm_store_pod_of_proxy(s, UUID ".default"));
    assert_string_equal(
        osm_store_pod_of_proxy(s, "11111111-1111-4222-8333-0123456789ab.default")->name, "p");
    put(s, pod("p", "no uuid"));
    assert_null(osm_store_pod_of_proxy(s, "11111111-1111-4222-8333-0123456789ab.default"));
}

static void test_two_pods_with_one_uuid_are_nobody(void **state)
{
    struct osm_store *s = *state;
    put(s, pod("p", UUID));
    put(s, pod("q", UUID));
    assert_null(osm_store_pod_of_proxy(s, UUID ".default"));
    assert_int_equal(osm_store_delete(s, "/Pod/default/p"), 0);
    assert_string_equal(osm_store_pod_of_proxy(s, UUID ".default")->name, "q");
    assert_int_equal(osm_store_delete(s, "/Pod/default/q"), 0);
    assert_null(osm_store_pod_of_proxy(s, UUID ".default"));
}

/* A label can be copied by whoever may write pods somewhere. */
static void test_a_uuid_of_another_namespace_is_none_of_ours(void **state)
{
    struct osm_store *s = *state;
    put(s, pod("p", UUID));
    put(s, object_of("{apiVersion: v1, kind: Pod, metadata: {name: thief, namespace: other, "
                     "labels: {osm-proxy-uuid: " UUID "}}}"));
    assert_string_equal(osm_store_pod_of_proxy(s, UUID ".default")->name, "p");
    assert_string_equal(osm_store_pod_of_proxy(s, UUID ".other")->name, "thief");
}

static void test_a_replaced_pod_is_the_one_that_is_found(void **state)
{
    struct osm_store *s = *state;
    put(s, pod("p", UUID));
    struct osm_object *again = pod("p", UUID);
    put(s, again);
    assert_ptr_equal(osm_store_pod_of_proxy(s, UUID ".default"), again);
}

static void test_each_reader_has_changes_of_its_own(void **state)
{
    struct osm_store *s = *state;
    put(s, service("a", 1, ""));
    assert_string_equal(take_of(reader), "+/Service/default/a=1");
    uint64_t revision = osm_store_revision(s);
    struct osm_store_reader *late = osm_store_reader_new(s);
    assert_non_null(late);
    assert_string_equal(take_of(late), "+/Service/default/a=1");
    put(s, service("a", 2, ""));
    assert_true(osm_store_revision(s) > revision);
    assert_string_equal(take_of(reader), "+/Service/default/a=2");
    put(s, service("a", 1, ""));
    assert_string_equal(take_of(reader), "+/Service/default/a=1");
    assert_false(osm_store_reader_dirty(late)); /* it never saw the other */
    assert_int_equal(osm_store_delete(s, "/Service/default/a"), 0);
    assert_string_equal(take_of(late), "-/Service/default/a=1");
    osm_store_reader_free(late);
    assert_string_equal(take_of(reader), "-/Service/default/a=1");
}

/* Fails each allocation of a put, a delete and a take in turn: an error changes nothing, and
 * nothing is lost. */
static void test_no_memory_changes_nothing(void **state)
{
    (void)state;
    int failures = 0;
    for (long n = 0; n < 60; n++) {
        struct osm_store *s = osm_store_new();
        assert_non_null(s);
        struct osm_store_reader *of_s = osm_store_reader_new(s), *second = osm_store_reader_new(s);
        assert_non_null(of_s);
        assert_non_null(second);
        put(s, pod("p", UUID));
        (void)take_of(of_s);
        struct osm_object *next = pod("p", "11111111-1111-4222-8333-0123456789ab"),
                          *other = pod("q", UUID);
        osm_mem_fail_at(n);
        int put_rc = osm_store_put(s, next), other_rc = osm_store_put(s, other);
        struct osm_changes *changes = osm_store_reader_take(of_s);
        int delete_rc = osm_store_delete(s, "/Pod/default/p");
        osm_mem_fail_at(-1);
        failures += put_rc || other_rc || !changes || delete_rc;
        const struct osm_object *found = osm_store_pod_of_proxy(s, UUID ".default");
        if (!delete_rc)
            assert_null(osm_store_get(s, "/Pod/default/p"));
        else
            assert_non_null(osm_store_get(s, "/Pod/default/p"));
        if (!other_rc && (!put_rc || !delete_rc))
            assert_string_equal(found->name, "q");
        osm_changes_free(changes);
        changes = osm_store_reader_take(of_s);
        osm_changes_free(changes);
        assert_false(osm_store_reader_dirty(of_s));
        changes = osm_store_reader_take(second);
        osm_changes_free(changes);
        osm_store_reader_free(second);
        osm_store_reader_free(of_s);
        osm_store_free(s);
    }
    assert_true(failures > 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_burst_becomes_one_change, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_equal_content_is_no_change_but_is_kept, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_delete_and_put_in_one_batch_is_one_change, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_what_comes_and_goes_unseen_is_no_change, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_delete_hands_over_the_last_object, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_putting_the_very_same_object_is_safe, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_each_reader_has_changes_of_its_own, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_pods_readiness_is_a_change, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_pods_are_found_by_uuid_in_lower_case, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_two_pods_with_one_uuid_are_nobody, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_uuid_of_another_namespace_is_none_of_ours, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_replaced_pod_is_the_one_that_is_found, set_up,
                                        tear_down),
        cmocka_unit_test(test_no_memory_changes_nothing),
    };
    return cmocka_run_group_tests(tests, count_json, nothing_is_left);
}
