/* Two snapshots side by side: who is told together, who comes and goes, what is reported anew. */
#include "whatif/snapshots.h"

#include "base/json.h"
#include "base/mem.h"
#include "policy/encode/proto.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { CLUSTER_MAX_BYTES = 4096, PROXIES_MAX = 8 };

static struct osm_resource *cluster(const char *name, const char *timeout)
{
    struct osm_buf out = OSM_BUF_INIT(CLUSTER_MAX_BYTES);
    json_t *message = json_pack("{s:s, s:s}", "name", name, "connect_timeout", timeout);
    struct osm_err err = {0};
    if (osm_proto_encode_json(message, osm_proto_find(osm_xds_type_message(OSM_XDS_CDS)),
                              OSM_PROTO_RULES_IGNORED, &out, NULL, NULL, &err))
        fail_msg("%s", err.msg);
    json_decref(message);
    struct osm_resource *r = osm_resource_new(name, osm_bytes_new(out.data, out.len));
    osm_buf_clear(&out);
    assert_non_null(r);
    return r;
}

/* "a=1s b=2s": clusters by name, sorted. */
static struct osm_class *clusters(const char *text)
{
    struct osm_class *cls = osm_class_new();
    char copy[128], *rest = copy;
    assert_non_null(cls);
    (void)snprintf(copy, sizeof copy, "%s", text);
    cls->types[OSM_XDS_CDS].list = osm_alloc_array(8, sizeof(void *));
    for (char *word; (word = strsep(&rest, " ")) && *word;) {
        char *equals = strchr(word, '=');
        *equals = '\0';
        cls->types[OSM_XDS_CDS].list[cls->types[OSM_XDS_CDS].len++] = cluster(word, equals + 1);
    }
    return cls;
}

struct says {
    const char *pod, *clusters; /* of one text: one class */
};

static struct osm_snapshot *snapshot(const struct says *says)
{
    struct osm_snapshot *s = osm_snapshot_new();
    assert_non_null(s);
    s->proxies = osm_alloc_array(PROXIES_MAX, sizeof *s->proxies);
    for (; says->pod; says++) {
        struct osm_class *cls = NULL;
        for (size_t i = 0; i < s->proxies_len && !cls; i++)
            if (!strcmp(says[-(ptrdiff_t)(s->proxies_len - i)].clusters, says->clusters))
                cls = osm_class_ref(s->proxies[i].cls);
        s->proxies[s->proxies_len++] = (struct osm_snapshot_proxy){
            osm_strdup(says->pod), osm_strdup(says->pod), osm_strdup("ns"), osm_strdup("a"),
            cls ? cls : clusters(says->clusters)};
    }
    s->rejects = json_array();
    s->errors = json_array();
    return s;
}

/* Takes both. */
static json_t *diff_of(struct osm_snapshot *served, struct osm_snapshot *next)
{
    const struct osm_resources_limits limits = {.fields_max = 10, .bytes_max = 1 << 20};
    struct osm_err err = {0};
    json_t *out = NULL;
    if (osm_snapshots_diff(served, next, &limits, 30, &out, &err))
        fail_msg("%s", err.msg);
    osm_snapshot_unref(served);
    osm_snapshot_unref(next);
    return out;
}

static void expect(const json_t *diff, const char *name, const char *text)
{
    json_t *wanted = json_loads(text, JSON_DECODE_ANY, NULL);
    assert_non_null(wanted);
    if (!json_equal(json_object_get(diff, name), wanted)) {
        char *got = json_dumps(json_object_get(diff, name), JSON_ENCODE_ANY | JSON_COMPACT);
        fail_msg("%s: %s", name, got);
    }
    json_decref(wanted);
}

static void test_nothing(void **state)
{
    (void)state;
    const struct says same[] = {{"p1", "a=1s"}, {"p2", "a=1s b=2s"}, {0}};
    json_t *diff = diff_of(snapshot(same), snapshot(same));
    expect(diff, "groups", "[]");
    expect(diff, "changes", "[]");
    expect(diff, "proxies", "2");
    expect(diff, "guards", "[]");
    expect(diff, "differs", "false");
    json_decref(diff);
}

/* p1 and p2 have other resources, but the same changes; p3 changes in one thing more. */
static void test_proxies_with_the_same_diff_are_told_together(void **state)
{
    (void)state;
    const struct says served[] = {
        {"p1", "a=1s"}, {"p2", "a=1s b=2s"}, {"p3", "a=1s b=2s c=3s"}, {"p4", "b=2s"}, {0}};
    const struct says next[] = {
        {"p1", "a=5s"}, {"p2", "a=5s b=2s"}, {"p3", "a=5s b=2s"}, {"p4", "b=2s"}, {0}};
    json_t *diff = diff_of(snapshot(served), snapshot(next));
    expect(diff, "groups",
           "[{\"proxies\": [\"ns/p1\", \"ns/p2\"], \"changes\": [0]},"
           " {\"proxies\": [\"ns/p3\"], \"changes\": [0, 1]}]");
    const json_t *changes = json_object_get(diff, "changes");
    assert_int_equal(json_array_size(changes), 2);
    expect(json_array_get(changes, 0), "name", "\"a\"");
    expect(json_array_get(changes, 0), "fields",
           "[{\"path\": \"connect_timeout\", \"change\": \"changed\", \"before\": \"1s\", "
           "\"after\": \"5s\"}]");
    expect(json_array_get(changes, 1), "name", "\"c\"");
    expect(json_array_get(changes, 1), "change", "\"removed\"");
    expect(diff, "proxies", "4");
    expect(diff, "differs", "true");
    json_decref(diff);
}

static void test_proxies_come_and_go(void **state)
{
    (void)state;
    const struct says served[] = {{"p1", "a=1s"}, {"p2", "a=1s"}, {0}};
    const struct says next[] = {{"p0", "a=1s"}, {"p2", "a=1s"}, {"p3", "a=1s"}, {0}};
    json_t *diff = diff_of(snapshot(served), snapshot(next));
    expect(diff, "groups", "[]");
    expect(diff, "appear", "[\"ns/p0\", \"ns/p3\"]");
    expect(diff, "leave", "[\"ns/p1\"]");
    expect(diff, "proxies", "1");
    expect(diff, "differs", "true");
    json_decref(diff);
}

static json_t *reject(const char *object, const char *path)
{
    return json_pack("{s:s, s:s, s:s, s:s}", "object", object, "path", path, "reason", "why",
                     "origin", "f.yaml:1");
}

static json_t *error_of(const char *message, int line)
{
    return json_pack("{s:s, s:s, s:s, s:i}", "where", "rule r()", "message", message, "module",
                     "m.lua", "line", line);
}

static void test_what_is_reported_anew_and_no_more(void **state)
{
    (void)state;
    const struct says same[] = {{"p1", "a=1s"}, {0}};
    struct osm_snapshot *served = snapshot(same), *next = snapshot(same);
    json_array_append_new(served->rejects, reject("A ns/a", "x"));
    json_array_append_new(served->rejects, reject("B ns/b", "x"));
    json_array_append_new(next->rejects, reject("B ns/b", "x"));
    json_array_append_new(next->rejects, reject("B ns/b", "y"));
    json_array_append_new(served->errors, error_of("old", 1));
    json_array_append_new(served->errors, error_of("stays", 2));
    json_array_append_new(next->errors, error_of("stays", 2));
    json_array_append_new(next->errors, error_of("new", 3));
    json_t *diff = diff_of(served, next);
    const json_t *rejected = json_object_get(diff, "rejected"),
                 *accepted = json_object_get(diff, "accepted"),
                 *errors = json_object_get(diff, "errors"), *fixed = json_object_get(diff, "fixed");
    assert_int_equal(json_array_size(rejected), 1);
    expect(json_array_get(rejected, 0), "path", "\"y\"");
    assert_int_equal(json_array_size(accepted), 1);
    expect(json_array_get(accepted, 0), "object", "\"A ns/a\"");
    assert_int_equal(json_array_size(errors), 1);
    expect(json_array_get(errors, 0), "message", "\"new\"");
    assert_int_equal(json_array_size(fixed), 1);
    expect(json_array_get(fixed, 0), "message", "\"old\"");
    expect(diff, "differs", "true");
    json_decref(diff);
}

static void test_what_the_policies_ask_of_the_daemon(void **state)
{
    (void)state;
    const struct says same[] = {{"p1", "a=1s"}, {0}};
    struct osm_snapshot *served = snapshot(same), *next = snapshot(same);
    served->host = json_pack("{s:s}", "log_level", "info");
    next->host = json_pack("{s:s}", "log_level", "debug");
    json_t *diff = diff_of(served, next);
    expect(diff, "daemon",
           "[{\"path\": \"log_level\", \"change\": \"changed\", \"before\": \"info\", "
           "\"after\": \"debug\"}]");
    expect(diff, "differs", "true");
    json_decref(diff);
}

static void test_guards_are_told_and_are_no_difference(void **state)
{
    (void)state;
    const struct says served[] = {{"p1", "a=1s b=1s c=1s"}, {0}}, next[] = {{"p1", "a=1s"}, {0}};
    json_t *diff = diff_of(snapshot(served), snapshot(next));
    expect(diff, "guards", "[\"takes away 2 of 3 resources, more than 30 %\"]");
    json_decref(diff);
}

static bool at_once(void *ud)
{
    (void)ud;
    return true;
}

static void test_too_late_and_no_memory(void **state)
{
    (void)state;
    const struct says served[] = {{"p1", "a=1s"}, {"p2", "a=1s b=2s"}, {"p4", "c=1s"}, {0}};
    const struct says next[] = {{"p1", "a=5s"}, {"p2", "a=5s"}, {"p3", "a=5s"}, {0}};
    struct osm_snapshot *a = snapshot(served), *b = snapshot(next);
    struct osm_resources_limits limits = {10, 1 << 20, at_once, NULL};
    struct osm_err err = {0};
    json_t *out = NULL;
    long live = osm_mem_live();
    assert_int_equal(osm_snapshots_diff(a, b, &limits, 30, &out, &err), OSM_ETIMEDOUT);
    assert_null(out);
    assert_int_equal(osm_mem_live(), live);
    limits.is_late = NULL;
    for (long n = 0, rc = OSM_ENOMEM; rc; n++) {
        osm_mem_fail_at(n);
        rc = osm_snapshots_diff(a, b, &limits, 30, &out, &err);
        osm_mem_fail_at(-1);
        assert_true(rc == 0 || rc == OSM_ENOMEM);
        if (rc)
            assert_int_equal(osm_mem_live(), live);
    }
    json_decref(out);
    osm_snapshot_unref(a);
    osm_snapshot_unref(b);
}

static int nothing_is_left(void **state)
{
    (void)state;
    return osm_mem_live() ? -1 : 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_nothing, nothing_is_left),
        cmocka_unit_test_teardown(test_proxies_with_the_same_diff_are_told_together,
                                  nothing_is_left),
        cmocka_unit_test_teardown(test_proxies_come_and_go, nothing_is_left),
        cmocka_unit_test_teardown(test_what_is_reported_anew_and_no_more, nothing_is_left),
        cmocka_unit_test_teardown(test_what_the_policies_ask_of_the_daemon, nothing_is_left),
        cmocka_unit_test_teardown(test_guards_are_told_and_are_no_difference, nothing_is_left),
        cmocka_unit_test_teardown(test_too_late_and_no_memory, nothing_is_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
