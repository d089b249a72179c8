/* What a review may hold before and when it is read: so many values and levels, and NULs where
 * nobody reads. */
#include "admission_util.h"

#include "inject/review.h"

enum { VALUES_MAX = 100000, DEPTH_MAX = 128 };

static bool fits(const char *text)
{
    struct osm_err err = {0};
    return !osm__review_bounds(text, strlen(text), &err);
}

/* HEAD, then a unit as often as said, then TAIL; free() */
static char *many(const char *head, const char *unit, size_t n, const char *tail)
{
    size_t len = strlen(unit), at = strlen(head);
    char *text = malloc(at + n * len + strlen(tail) + 1);
    assert_non_null(text);
    memcpy(text, head, at);
    for (size_t i = 0; i < n; i++, at += len)
        memcpy(text + at, unit, len);
    memcpy(text + at, tail, strlen(tail) + 1);
    return text;
}

static bool fits_many(const char *head, const char *unit, size_t n, const char *tail)
{
    char *text = many(head, unit, n, tail);
    bool is = fits(text);
    free(text);
    return is;
}

static void test_values_are_counted_whatever_they_are(void **state)
{
    (void)state;
    assert_true(fits_many("[", "0,", VALUES_MAX - 2, "0]"));
    assert_false(fits_many("[", "0,", VALUES_MAX - 1, "0]"));
    assert_true(fits_many("[", "{},", VALUES_MAX / 2 - 1, "0]"));
    assert_false(fits_many("[", "{},", VALUES_MAX / 2, "0]"));
    assert_true(fits_many("{", "\"a\":1,", VALUES_MAX - 2, "\"b\":2}"));
    assert_false(fits_many("{", "\"a\":1,", VALUES_MAX - 1, "\"b\":2}"));
}

static void test_what_texts_hold_does_not_count(void **state)
{
    (void)state;
    assert_true(fits_many("[\"", "[", 2 * VALUES_MAX, "\"]"));
    assert_true(fits_many("[\"", "{},", VALUES_MAX, "\"]"));
    assert_true(fits_many("[\"", "\\\"[", VALUES_MAX, "\"]"));
    assert_true(fits_many("[\"\\\\\"", "", 0, "]"));
    assert_false(fits_many("[\"\\\\\"", ",[", DEPTH_MAX, "]")); /* the text ends at its 2nd quote */
    assert_true(fits_many("\"", "[", VALUES_MAX, ""));          /* nor at all */
    assert_true(fits("\"\\"));
}

static void test_levels_are_those_that_are_open(void **state)
{
    (void)state;
    assert_true(fits_many("", "[", DEPTH_MAX, ""));
    assert_false(fits_many("", "[", DEPTH_MAX + 1, ""));
    assert_false(fits_many("", "{\"a\":", DEPTH_MAX + 1, ""));
    assert_true(fits_many("[", "[],", 2 * DEPTH_MAX, "0]"));
    assert_false(fits_many("]]]]", "[", DEPTH_MAX + 1, ""));
}

/* A review of a stranger made 600 MB of 8 MiB. */
static void test_many_values_are_denied_before_they_take_memory(void **state)
{
    (void)state;
    struct osm_admission a;
    char *text = many("{\"request\": [", "{},", (4 << 20) / 3 - 16, "{}]}");
    long live = osm_mem_live();
    assert_int_equal(osm_admission_read(&a, text, strlen(text), NULL), 0);
    assert_int_equal(osm_mem_live(), live);
    assert_int_equal(a.outcome, OSM_ADMISSION_DENY);
    assert_non_null(strstr(a.reason, "more than 100000 values"));
    assert_int_equal(osm_admission_code(&a), 6103);
    osm_admission_clear(&a);
    free(text);
}

/* --- texts with a NUL --- */

static void ask_nul(struct rig *r, const char *pod)
{
    json_error_t where;
    json_t *made = json_loads(pod, JSON_ALLOW_NUL, &where);
    if (!made)
        fail_msg("%s: %s", where.text, pod);
    ask_json(r, made);
}

#define NUL "a\\u0000b"

/* The API server takes such a pod. It was refused, with a word about the webhook's uid. */
static void test_a_text_with_a_nul_passes_untouched(void **state)
{
    (void)state;
    struct rig r = rig();
    ask_nul(&r,
            "{\"metadata\": {\"name\": \"a\", \"annotations\": {\"note\": \"" NUL "\"}}, "
            "\"spec\": {\"containers\": [{\"name\": \"app\", \"args\": [\"" NUL "\"], \"env\": "
            "[{\"name\": \"X\", \"value\": \"" NUL "\"}], \"livenessProbe\": {\"httpGet\": "
            "{\"port\": 80, \"httpHeaders\": [{\"name\": \"Y\", \"value\": \"" NUL "\"}]}}}]}}");
    if (!is_allowed(&r))
        fail_msg("%s", r.a.reason);
    assert_non_null(r.secret);
    const json_t *app = container(&r, "app");
    const json_t *texts[] = {
        json_array_get(json_object_get(app, "args"), 0),
        json_object_get(json_array_get(json_object_get(app, "env"), 0), "value"),
        osm_json_at(r.patched, "metadata", "annotations", "note", NULL),
        json_object_get(
            json_array_get(osm_json_at(app, "livenessProbe", "httpGet", "httpHeaders", NULL), 0),
            "value"),
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        assert_int_equal(json_string_length(texts[i]), 3);
        assert_memory_equal(json_string_value(texts[i]), "a\0b", 4);
    }
    clear(&r);
}

static void test_a_text_with_a_nul_that_is_read_denies_with_its_field(void **state)
{
    (void)state;
    static const char *const wrong[][3] = {
        {"\"name\": \"" NUL "\"", "", "metadata.name"},
        {"\"generateName\": \"" NUL "\"", "", "metadata.generateName"},
        {"\"namespace\": \"shop\\u0000\"", "", "metadata.namespace"},
        {"\"annotations\": {\"openservicemesh.io/sidecar-injection\": \"enabled\\u0000\"}", "",
         "metadata.annotations.openservicemesh.io/sidecar-injection"},
        {"\"annotations\": {\"openservicemesh.io/inbound-port-exclusion-list\": \"1\\u0000\"}", "",
         "openservicemesh.io/inbound-port-exclusion-list"},
        {"", "\"serviceAccountName\": \"" NUL "\"", "spec.serviceAccountName"},
        {"", "\"serviceAccount\": \"" NUL "\"", "spec.serviceAccount"},
        {"", "\"os\": {\"name\": \"windows\\u0000\"}", "spec.os.name"},
        {"", "\"volumes\": [{\"name\": \"" NUL "\"}]", "spec.volumes.*.name"},
        {"", "\"initContainers\": [{\"name\": \"i\"}, {\"name\": \"" NUL "\"}]",
         "spec.initContainers[1].name"},
        {"", "\"containers\": [{\"name\": \"envoy\\u0000\"}]", "spec.containers[0].name"},
        {"", "\"containers\": [{\"name\": \"i\", \"image\": \"" NUL "\"}]",
         "spec.containers[0].image"},
        {"", "\"containers\": [{\"ports\": [{\"name\": \"" NUL "\"}]}]",
         "spec.containers[0].ports.*.name"},
        {"", "\"containers\": [{\"env\": [{\"name\": \"OSM_ORIGINAL_PROBES\\u0000\"}]}]",
         "spec.containers[0].env.*.name"},
        {"", "\"containers\": [{\"livenessProbe\": {\"httpGet\": {\"path\": \"" NUL "\"}}}]",
         "spec.containers[0].livenessProbe.httpGet.path"},
        {"", "\"containers\": [{\"startupProbe\": {\"httpGet\": {\"scheme\": \"HTTPS\\u0000\"}}}]",
         "spec.containers[0].startupProbe.httpGet.scheme"},
        {"", "\"containers\": [{\"readinessProbe\": {\"tcpSocket\": {\"port\": \"1\\u0000\"}}}]",
         "spec.containers[0].readinessProbe.tcpSocket.port"},
    };
    struct rig r = rig();
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char text[512];
        (void)snprintf(text, sizeof text, "{\"metadata\": {%s}, \"spec\": {%s}}", wrong[i][0],
                       wrong[i][1]);
        ask_nul(&r, text); /* has the uid, which ask looks at */
        is_denied_with(&r, "has a NUL in its text");
        is_denied_with(&r, wrong[i][2]);
    }
    clear(&r);
}

/* A copy's variable is read no further than it is text, or not at all. */
static void test_a_variable_with_a_nul_says_nothing_of_a_copy(void **state)
{
    (void)state;
    struct rig r = rig();
    ask_nul(&r,
            "{\"metadata\": {}, \"spec\": {\"volumes\": [{\"name\": "
            "\"envoy-bootstrap-config-volume\", \"secret\": {}}], \"containers\": [{\"name\": "
            "\"app\", \"livenessProbe\": {\"httpGet\": {\"port\": 15901}}}, {\"name\": \"envoy\", "
            "\"env\": [{\"name\": \"OSM_ORIGINAL_PROBES\", \"value\": \"{\\\"app\\\": "
            "{\\\"livenessProbe\\\": {\\\"port\\\": 80}}}\\u0000\"}]}]}}");
    assert_true(is_allowed(&r));
    assert_true(r.a.is_copy);
    assert_null(osm_json_at(container(&r, "app"), "livenessProbe", NULL));
    assert_int_equal(json_array_size(json_object_get(r.response, "warnings")), 1);
    clear(&r);
}

static void test_a_uid_with_a_nul_is_none(void **state)
{
    (void)state;
    static const char text[] = "{\"apiVersion\": \"admission.k8s.io/v1\", \"request\": {\"uid\": "
                               "\"u\\u0000v\"}}";
    struct osm_admission a;
    assert_int_equal(osm_admission_read(&a, text, strlen(text), NULL), 0);
    assert_int_equal(a.outcome, OSM_ADMISSION_DENY);
    assert_null(a.uid);
    osm_admission_clear(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values_are_counted_whatever_they_are),
        cmocka_unit_test(test_what_texts_hold_does_not_count),
        cmocka_unit_test(test_levels_are_those_that_are_open),
        cmocka_unit_test(test_many_values_are_denied_before_they_take_memory),
        cmocka_unit_test(test_a_text_with_a_nul_passes_untouched),
        cmocka_unit_test(test_a_text_with_a_nul_that_is_read_denies_with_its_field),
        cmocka_unit_test(test_a_variable_with_a_nul_says_nothing_of_a_copy),
        cmocka_unit_test(test_a_uid_with_a_nul_is_none),
    };
    return cmocka_run_group_tests_name("inject/review", tests, NULL, no_leak);
}
