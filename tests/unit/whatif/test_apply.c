/* Manifests over the objects that there are, as a table: live object, manifest, what comes of it.
 */
#include "model/objects.h"
#include "whatif/apply.h"

#include "base/buf.h"

#include <stdio.h>

#define NS                                                                                         \
    "apiVersion: v1\nkind: Namespace\nmetadata: {name: blue, labels: "                             \
    "{openservicemesh.io/monitored-by: osm}}"

static struct osm_changes *changes_of(const char *const *yaml)
{
    size_t n = 0;
    while (yaml[n])
        n++;
    struct osm_changes *changes = osm_alloc(sizeof *changes);
    changes->list = osm_alloc_array(n + 1, sizeof *changes->list);
    for (size_t i = 0; i < n; i++)
        changes->list[changes->len++].now = object_of(yaml[i]);
    return changes;
}

static json_t *manifest(const char *name, const char *text)
{
    return json_pack("{s:s, s:s}", "name", name, "text", text);
}

static const struct osm_object *find(const struct osm_changes *changes, const char *key)
{
    for (size_t i = 0; i < changes->len; i++)
        if (!strcmp(changes->list[i].now->key, key))
            return changes->list[i].now;
    return NULL;
}

struct row {
    const char *what;
    bool whole;
    const char *live, *manifest; /* of the Thing blue/t, without its identity */
    const char *result;          /* JSON of its body, without its identity */
};

#define APPLIED(json)                                                                              \
    "metadata: {annotations: {kubectl.kubernetes.io/last-applied-configuration: '" json "'}}"

static const struct row rows[] = {
    {"what is said is so, what others have set stays", false, "spec: {a: 1, b: {c: 2, d: 3}}",
     "spec: {a: 5, b: {c: 6}}", "{\"spec\": {\"a\": 5, \"b\": {\"c\": 6, \"d\": 3}}}"},
    {"what was applied and is said no more goes", false,
     APPLIED("{\"spec\": {\"a\": 1, \"b\": {\"c\": 2}}}") "\nspec: {a: 1, b: {c: 2, d: 3}, e: 4}",
     "spec: {b: {}}", "{\"spec\": {\"b\": {\"d\": 3}, \"e\": 4}}"},
    {"an annotation that is no JSON is nothing", false, APPLIED("[{") "\nspec: {a: 1}",
     "spec: {b: 1}", "{\"spec\": {\"a\": 1, \"b\": 1}}"},
    {"null takes back", false, "spec: {a: 1, b: 2}", "spec: {a: null}", "{\"spec\": {\"b\": 2}}"},
    {"lists are whole", false, "spec: {l: [1, 2, 3]}", "spec: {l: [4]}",
     "{\"spec\": {\"l\": [4]}}"},
    {"the status stays", false, "spec: {a: 1}\nstatus: {s: 1}", "spec: {a: 2}",
     "{\"spec\": {\"a\": 2}, \"status\": {\"s\": 1}}"},
    {"of a directory nothing stays", true, "spec: {a: 1, b: {c: 2, d: 3}}", "spec: {b: {c: 6}}",
     "{\"spec\": {\"b\": {\"c\": 6}}}"},
    {"but the status", true, "spec: {a: 1}\nstatus: {s: 1}", "spec: {b: 2}",
     "{\"spec\": {\"b\": 2}, \"status\": {\"s\": 1}}"},
    {"a status that is said counts", true, "status: {s: 1, t: 2}", "status: {s: 3}",
     "{\"status\": {\"s\": 3, \"t\": 2}}"},
};

/* "apiVersion: a.b/v1 ... metadata: {name, namespace}" and @p more, whose metadata are added. */
static char *thing(const char *version, const char *more)
{
    static const char metadata[] = "metadata: {";
    const char *own = strstr(more, metadata);
    char *text =
        own ? osm_strf("apiVersion: a.b/%s\nkind: Thing\n%.*smetadata: {name: t, namespace: blue, "
                       "%s",
                       version, (int)(own - more), more, own + sizeof metadata - 1)
            : osm_strf("apiVersion: a.b/%s\nkind: Thing\nmetadata: {name: t, namespace: "
                       "blue}\n%s",
                       version, more);
    assert_non_null(text);
    return text;
}

static void test_objects_are_applied_as_kubectl_does(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct osm_err err = {0};
        struct osm_applied applied;
        char *live = thing("v1", rows[i].live), *now = thing("v1", rows[i].manifest);
        struct osm_changes *changes = changes_of((const char *const[]){NS, live, NULL});
        json_t *manifests = json_pack("[o]", manifest("new.yaml", now));
        const struct osm_apply apply = {.objects = changes,
                                        .mesh_name = "osm",
                                        .osm_namespace = "osm-system",
                                        .whole = rows[i].whole};
        if (osm_apply(&apply, manifests, NULL, &applied, &err))
            fail_msg("%s: %s", rows[i].what, err.msg);
        assert_int_equal(applied.configured, 1);
        const struct osm_object *made = find(changes, "a.b/Thing/blue/t");
        json_t *body = json_deep_copy(made->body), *wanted = json_loads(rows[i].result, 0, NULL);
        (void)json_object_del(body, "apiVersion");
        (void)json_object_del(body, "kind");
        (void)json_object_del(body, "metadata");
        if (!json_equal(body, wanted)) {
            char *text = json_dumps(body, 0);
            fail_msg("%s: %s", rows[i].what, text);
        }
        assert_string_equal(made->origin, "new.yaml:1");
        json_decref(body);
        json_decref(wanted);
        json_decref(manifests);
        osm_changes_free(changes);
        osm_free(live);
        osm_free(now);
    }
}

static const char OTHER[] =
    "apiVersion: a.b/v1\nkind: Thing\nmetadata: {name: other, namespace: blue}";
static const char TWIN[] =
    "apiVersion: c.d/v1\nkind: Thing\nmetadata: {name: other, namespace: blue}";
static const char GREY[] = "apiVersion: a.b/v1\nkind: Thing\nmetadata: {name: x, namespace: grey}";

static void test_they_are_counted(void **state)
{
    (void)state;
    struct osm_err err = {0};
    struct osm_applied applied;
    char *live = thing("v1", "spec: {a: 1}"), *newer = thing("v2", "spec: {z: 1}");
    struct osm_changes *changes = changes_of((const char *const[]){NS, live, OTHER, NULL});
    json_t *manifests = json_pack("[o, o, o, o]", manifest("a", live), manifest("b", newer),
                                  manifest("c", GREY), manifest("d", OTHER));
    json_t *deletes = json_pack("[s]", "namespace/blue");
    const struct osm_apply apply = {
        .objects = changes, .mesh_name = "osm", .osm_namespace = "osm-system", .whole = true};
    assert_int_equal(osm_apply(&apply, manifests, NULL, &applied, &err), 0);
    assert_int_equal(applied.created, 1);
    assert_int_equal(applied.configured, 1); /* the last of two counts, as one */
    assert_int_equal(applied.unchanged, 1);
    assert_int_equal(applied.outside, 1);
    assert_string_equal(find(changes, "a.b/Thing/blue/t")->version, "v2");
    assert_null(osm_json_at(find(changes, "a.b/Thing/blue/t")->body, "spec", "a", NULL));
    assert_int_equal(osm_apply(&apply, NULL, deletes, &applied, &err), 0);
    assert_int_equal(applied.deleted, 1);
    assert_null(find(changes, "/Namespace//blue"));
    assert_non_null(find(changes, "a.b/Thing/grey/x"));
    json_decref(manifests);
    json_decref(deletes);
    osm_changes_free(changes);
    osm_free(live);
    osm_free(newer);
}

/* Objects of a namespace that is not in the mesh are kept aside: a manifest that names it, or one
 * that goes, finds them. */
static void test_objects_outside_are_found_when_their_namespace_is_named(void **state)
{
    (void)state;
    struct osm_err err = {0};
    struct osm_applied applied;
    struct osm_object *there = object_of(GREY);
    struct osm_packed *packed[1];
    struct osm_outside outside = {packed, 1};
    assert_int_equal(osm_packed_new(&packed[0], there), 0);
    struct osm_changes *changes = changes_of((const char *const[]){NS, OTHER, NULL});
    struct osm_apply apply = {
        .objects = changes, .mesh_name = "osm", .osm_namespace = "osm-system", .outside = &outside};
    json_t *other = json_pack("[o]", manifest("a", OTHER));
    assert_int_equal(osm_apply(&apply, other, NULL, &applied, &err), 0);
    assert_null(find(changes, "a.b/Thing/grey/x")); /* nobody named it */
    json_t *joins = json_pack(
        "[o]", manifest("b", "apiVersion: v1\nkind: Namespace\nmetadata: {name: grey, labels: "
                             "{openservicemesh.io/monitored-by: osm}}"));
    assert_int_equal(osm_apply(&apply, joins, NULL, &applied, &err), 0);
    assert_int_equal(applied.created, 1);
    const struct osm_object *found = find(changes, "a.b/Thing/grey/x");
    assert_non_null(found);
    assert_true(osm_hash_equal(found->content, there->content));
    assert_string_equal(found->origin, there->origin);
    osm_changes_free(changes);

    apply.objects = changes = changes_of((const char *const[]){NS, NULL});
    json_t *deletes = json_pack("[s]", "Thing/grey/x");
    assert_int_equal(osm_apply(&apply, NULL, deletes, &applied, &err), 0);
    assert_int_equal(applied.deleted, 1);
    osm_changes_free(changes);
    json_decref(other);
    json_decref(joins);
    json_decref(deletes);
    osm_packed_unref(packed[0]);
    osm_object_unref(there);
}

/* --- what a cluster's controllers will have made --- */

#define SERVICE(selector)                                                                          \
    "apiVersion: v1\nkind: Service\nmetadata: {name: s, namespace: blue}\nspec: {clusterIP: "      \
    "10.0.0.1, selector: {app: " selector "}}"
#define POD(name, app)                                                                             \
    "apiVersion: v1\nkind: Pod\nmetadata: {name: " name ", namespace: blue, labels: {app: " app "}}"
#define SLICE(name, by)                                                                            \
    "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: " name                 \
    ", namespace: blue, labels: {kubernetes.io/service-name: s, "                                  \
    "endpointslice.kubernetes.io/managed-by: " by "}}"
#define ENDPOINTS "apiVersion: v1\nkind: Endpoints\nmetadata: {name: s, namespace: blue}"

/* The slices that are live belong to the selector and the pods as they are: with them a preview
 * said that a pod keeps its listener which loses it, and the other way round. */
static void test_endpoints_follow_what_changes(void **state)
{
    (void)state;
    static const struct {
        const char *what, *manifest, *delete_one, *other_slice;
        bool whole, gone;
    } cases[] = {
        {"the selector changes", SERVICE("b"), NULL, NULL, false, true},
        {"nothing does", SERVICE("a"), NULL, NULL, false, false},
        {"a pod leaves", NULL, "Pod/blue/one", NULL, false, true},
        {"a pod that was selected is no more", POD("one", "b"), NULL, NULL, false, true},
        {"a pod comes", POD("three", "a"), NULL, NULL, false, true},
        {"another pod comes", POD("three", "b"), NULL, NULL, false, false},
        {"another pod leaves", NULL, "Pod/blue/two", NULL, false, false},
        {"somebody else adds slices", SERVICE("b"), NULL, SLICE("own", "me"), false, false},
        {"files are all that there is", SERVICE("b"), NULL, NULL, true, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct osm_err err = {0};
        struct osm_applied applied;
        struct osm_changes *changes = changes_of((const char *const[]){
            NS, SERVICE("a"), POD("one", "a"), POD("two", "b"), ENDPOINTS,
            SLICE("s-1", "endpointslice-controller.k8s.io"), cases[i].other_slice, NULL});
        const struct osm_apply apply = {.objects = changes,
                                        .mesh_name = "osm",
                                        .osm_namespace = "osm-system",
                                        .whole = cases[i].whole};
        json_t *manifests =
            cases[i].manifest ? json_pack("[o]", manifest("m", cases[i].manifest)) : NULL;
        json_t *deletes = cases[i].delete_one ? json_pack("[s]", cases[i].delete_one) : NULL;
        if (osm_apply(&apply, manifests, deletes, &applied, &err))
            fail_msg("%s: %s", cases[i].what, err.msg);
        if (!find(changes, "discovery.k8s.io/EndpointSlice/blue/s-1") != cases[i].gone ||
            !find(changes, "/Endpoints/blue/s") != cases[i].gone)
            fail_msg("%s: the endpoints are %s", cases[i].what, cases[i].gone ? "there" : "gone");
        assert_non_null(find(changes, "/Service/blue/s"));
        json_decref(manifests);
        json_decref(deletes);
        osm_changes_free(changes);
    }
}

static void test_new_services_of_a_cluster_have_no_address_yet(void **state)
{
    (void)state;
    static const char bare[] =
        "apiVersion: v1\nkind: Service\nmetadata: {name: t, namespace: blue}\n"
        "spec: {selector: {app: a}}";
    json_t *manifests = json_pack("[o]", manifest("m", bare));
    for (int whole = 0; whole < 2; whole++) {
        struct osm_applied applied;
        struct osm_changes *changes = changes_of((const char *const[]){NS, SERVICE("a"), NULL});
        const struct osm_apply apply = {
            .objects = changes, .mesh_name = "osm", .osm_namespace = "osm-system", .whole = whole};
        assert_int_equal(osm_apply(&apply, manifests, NULL, &applied, NULL), 0);
        assert_int_equal(applied.unaddressed, whole ? 0 : 1);
        osm_changes_free(changes);
    }
    json_decref(manifests);
}

static void expect_failure(const json_t *manifests, const char *delete_one, int rc,
                           const char *says)
{
    struct osm_err err = {0};
    struct osm_applied applied;
    struct osm_changes *changes = changes_of((const char *const[]){NS, OTHER, TWIN, NULL});
    json_t *deletes = delete_one ? json_pack("[s]", delete_one) : NULL;
    const struct osm_apply apply = {
        .objects = changes, .mesh_name = "osm", .osm_namespace = "osm-system", .whole = true};
    assert_int_equal(osm_apply(&apply, manifests, deletes, &applied, &err), rc);
    if (rc && !strstr(err.msg, says))
        fail_msg("%s", err.msg);
    json_decref(deletes);
    osm_changes_free(changes);
}

static void test_what_cannot_be_applied_is_said(void **state)
{
    (void)state;
    json_t *broken = json_pack("[o]", manifest("bad.yaml", "a: [\n")),
           *nameless = json_pack("[o]", manifest("bad.yaml", "\napiVersion: v1\nkind: Pod\n"));
    expect_failure(broken, NULL, OSM_EPARSE, "bad.yaml:2:1: ");
    expect_failure(nameless, NULL, OSM_EINVAL, "bad.yaml:2:1: ");
    expect_failure(NULL, "thing/blue/nobody", OSM_ENOENT, "there is no such object");
    expect_failure(NULL, "Thing/blue/other", OSM_ENOENT,
                   "there are 2 such objects; say KIND.GROUP");
    expect_failure(NULL, "thing.a.b/blue/other", 0, "");
    expect_failure(NULL, "THING.C.D/blue/other", 0, "");
    expect_failure(NULL, "Namespace/blue", 0, "");
    expect_failure(NULL, "Namespace", OSM_ENOENT, "there is no such object");
    expect_failure(NULL, "", OSM_ENOENT, "there is no such object");
    json_decref(broken);
    json_decref(nameless);
}

/* A program that misspells a member was told that nothing would change. */
static void test_manifests_of_another_form_are_an_error(void **state)
{
    (void)state;
    static const char *const forms[] = {"{\"name\": \"x\", \"text\": \"\"}",
                                        "\"kind: Pod\"",
                                        "[5]",
                                        "[{\"name\": \"x\", \"txt\": \"kind: Pod\"}]",
                                        "[{\"name\": 5, \"text\": \"kind: Pod\"}]",
                                        "[null]"};
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        json_t *manifests = json_loads(forms[i], JSON_DECODE_ANY, NULL);
        expect_failure(manifests, NULL, OSM_EINVAL, "manifests: expected a list of ");
        json_decref(manifests);
    }
}

/* Any allocation may fail: it is an error then, and nothing is lost. */
static void test_no_memory_is_an_error(void **state)
{
    (void)state;
    char *live = thing("v1", "spec: {a: 1}"), *now = thing("v1", "spec: {b: 2}");
    json_t *manifests = json_pack("[o, o]", manifest("a", now), manifest("c", GREY));
    json_t *deletes = json_pack("[s]", "thing/blue/other");
    long live_count = osm_mem_live(), failures = 0;
    for (long n = 0; n < 2000; n++) {
        struct osm_err err = {0};
        struct osm_applied applied;
        struct osm_changes *changes = changes_of((const char *const[]){NS, live, OTHER, NULL});
        const struct osm_apply apply = {
            .objects = changes, .mesh_name = "osm", .osm_namespace = "osm-system", .whole = true};
        osm_mem_fail_at(n);
        int rc = osm_apply(&apply, manifests, deletes, &applied, &err);
        osm_mem_fail_at(-1);
        failures += rc != 0;
        if (!rc)
            assert_int_equal(applied.created + applied.configured + applied.deleted, 3);
        osm_changes_free(changes);
        if (osm_mem_live() != live_count)
            fail_msg("allocation %ld: something is lost", n);
    }
    assert_true(failures > 50);
    json_decref(manifests);
    json_decref(deletes);
    osm_free(live);
    osm_free(now);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_objects_are_applied_as_kubectl_does),
        cmocka_unit_test(test_they_are_counted),
        cmocka_unit_test(test_objects_outside_are_found_when_their_namespace_is_named),
        cmocka_unit_test(test_what_cannot_be_applied_is_said),
        cmocka_unit_test(test_manifests_of_another_form_are_an_error),
        cmocka_unit_test(test_endpoints_follow_what_changes),
        cmocka_unit_test(test_new_services_of_a_cluster_have_no_address_yet),
        cmocka_unit_test(test_no_memory_is_an_error),
    };
    return cmocka_run_group_tests(tests, count_json, nothing_is_left);
}
