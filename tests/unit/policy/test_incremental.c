/* After each of many random changes, what an engine says that has seen them all is what a fresh one
 * says that sees only the outcome: resources byte for byte, proxies, rejects, errors, and the size
 * of the memo. */
#include "policy/engine_util.h"

#include <inttypes.h>

enum { CHANGES = 500 };

static uint64_t seed;

static unsigned pick(unsigned n)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(seed >> 33) % n;
}

static const char *const spaces[] = {"red", "blue"};
static const char *const names[] = {"a", "b", "c", "d"};

static int change_namespace(char *out, size_t size)
{
    bool in = pick(4) != 0;
    return snprintf(out, size,
                    "apiVersion: v1\nkind: Namespace\nmetadata: {name: %s, labels: "
                    "{openservicemesh.io/monitored-by: %s}}\n",
                    spaces[pick(2)], in ? "osm" : "other");
}

static int change_service(char *out, size_t size)
{
    static const char *const targets[] = {"8080", "8081", "web", "gone"};
    return snprintf(out, size,
                    "apiVersion: v1\nkind: Service\nmetadata: {name: %s, namespace: %s}\n"
                    "spec: {clusterIP: 10.0.0.%u, selector: {app: %s}, ports: [{name: http, port: "
                    "8%u, targetPort: %s}]}\n",
                    names[pick(4)], spaces[pick(2)], pick(9) + 1, names[pick(4)], pick(2),
                    targets[pick(4)]);
}

static int change_pod(char *out, size_t size)
{
    unsigned i = pick(6);
    return snprintf(out, size,
                    "apiVersion: v1\nkind: Pod\n"
                    "metadata: {name: p%u, namespace: %s, labels: {app: %s, osm-proxy-uuid: "
                    "00000000-0000-4000-8000-00000000000%u}}\n"
                    "spec: {serviceAccountName: %s, containers: [{name: c, ports: [{name: web, "
                    "containerPort: 8%u}]}]}\n"
                    "status: {phase: Running, podIP: 10.1.0.%u}\n",
                    i, spaces[pick(2)], names[pick(4)], pick(8), names[pick(4)], pick(3) + 80,
                    pick(200) + 1);
}

static int change_split(char *out, size_t size)
{
    static const char *const backends[] = {
        "backends: [{name: %s, weight: 1}, {name: %s, weight: 2}]",
        "backends: [{name: %s, weight: -1}, {name: %s}]",
        "backends: [{name: %s, weight: wrong}, {name: %s}]",
        "backend: {name: %s}, other: %s",
    };
    char spec[128];
    unsigned form = pick(8) < 5 ? 0 : pick(4);
    (void)snprintf(spec, sizeof spec, backends[form], names[pick(4)], names[pick(4)]);
    return snprintf(out, size,
                    "apiVersion: test.mesh/v%u\nkind: Split\nmetadata: {name: %s, namespace: "
                    "%s}\nspec: {service: %s, %s}\n",
                    form == 3  ? 1
                    : pick(20) ? 2
                               : 3,
                    names[pick(4)], spaces[pick(2)], names[pick(4)], spec);
}

static int change_grant(char *out, size_t size)
{
    return snprintf(out, size,
                    "apiVersion: test.mesh/v1\nkind: Grant\nmetadata: {name: %s, namespace: "
                    "%s}\nspec: {to: %s, from: %s}\n",
                    names[pick(4)], spaces[pick(2)], names[pick(4)],
                    pick(8) ? names[pick(4)] : "crash");
}

static void change(struct bench *b, char *out, size_t size)
{
    static int (*const makers[])(char *out, size_t size) = {change_service, change_pod,
                                                            change_split, change_grant};
    static const char *const kinds[] = {"/Service", "/Pod", "test.mesh/Split", "test.mesh/Grant"};
    unsigned kind = pick(4);
    if (pick(3) == 0) {
        unsigned i = pick(4), pod = pick(6);
        char name[8];
        (void)snprintf(name, sizeof name, kind == 1 ? "p%u" : "%c", kind == 1 ? pod : 'a' + i);
        (void)snprintf(out, size, "%s/%s/%s", kinds[kind], spaces[pick(2)], name);
        (void)osm_store_delete(b->store, out);
        return;
    }
    (void)(pick(12) ? makers[kind](out, size) : change_namespace(out, size));
    bench_put(b, out);
}

/* Everything that a snapshot says, as text. */
static char *text_of(const struct osm_snapshot *s)
{
    struct osm_buf out = OSM_BUF_INIT(16 << 20);
    for (size_t i = 0; i < s->proxies_len; i++) {
        const struct osm_snapshot_proxy *p = &s->proxies[i];
        (void)osm_buf_addf(&out, "%s %s/%s %s\n", p->key, p->ns, p->pod, p->account);
        for (int t = 0; t < OSM_XDS_TYPE_COUNT; t++)
            for (size_t k = 0; k < p->cls->types[t].len; k++)
                (void)osm_buf_addf(&out, "  %s %s %s\n", osm_xds_type_short((enum osm_xds_type)t),
                                   p->cls->types[t].list[k]->name,
                                   p->cls->types[t].list[k]->version);
    }
    const json_t *lists[] = {s->rejects, s->errors};
    for (size_t i = 0; i < 2; i++) {
        char *dumped = json_dumps(lists[i], JSON_INDENT(1) | JSON_SORT_KEYS);
        assert_non_null(dumped);
        (void)osm_buf_addf(&out, "%s\n", dumped);
        free(dumped);
    }
    (void)osm_buf_addf(&out, "%" JSON_INTEGER_FORMAT " cells\n",
                       json_integer_value(json_object_get(s->policy, "cells")));
    return osm_buf_take(&out);
}

/* What a fresh engine says of the objects that the store holds. */
static char *from_scratch(struct bench *b)
{
    struct osm_err err = {0};
    struct osm_engine_config config = bench_config("tests/unit/policy/bundles/shop");
    struct osm_engine *engine = NULL;
    struct osm_snapshot *snapshot = NULL;
    assert_int_equal(osm_store_reader_restart(b->reader), 0);
    struct osm_changes none = {NULL, 0}, *all = osm_store_reader_take(b->reader);
    assert_int_equal(osm_engine_new(&engine, &config, &err), 0);
    assert_int_equal(osm_engine_run(engine, all ? all : &none, &snapshot, &err), 0);
    char *text = text_of(snapshot);
    osm_snapshot_unref(snapshot);
    osm_engine_free(engine);
    osm_changes_free(all);
    return text;
}

/* The newest snapshot's figures are of the run that made it, not of later ones without a
 * difference: the memo is asked for by name. */
static void test_increments_equal_a_run_from_scratch(void **state)
{
    struct bench *b = *state;
    struct osm_err err = {0};
    size_t rejects = 0, errors = 0, circles = 0, proxies = 0;
    assert_int_equal(bench_load(b, "tests/unit/policy/bundles/shop", &err), 0);
    bench_apply(b, NAMESPACE("red") NAMESPACE("blue"));
    for (int i = 0; i < CHANGES; i++) {
        char what[1024];
        uint64_t began = seed;
        for (unsigned n = pick(8) ? 1 : 6; n; n--)
            change(b, what, sizeof what);
        bench_run(b);
        char *fresh = from_scratch(b), *grown = text_of(b->snapshot);
        assert_non_null(fresh);
        assert_non_null(grown);
        /* Cells are compared only where the run made a snapshot. */
        char *cells = strrchr(grown, '\n');
        while (!b->fresh && cells > grown && cells[-1] != '\n')
            cells--;
        size_t len = b->fresh ? strlen(grown) : (size_t)(cells - grown);
        if (strncmp(grown, fresh, len) != 0)
            fail_msg("change %d, seed %" PRIu64 ", after\n%s\nincremental:\n%s\nfrom scratch:\n%s",
                     i, began, what, grown, fresh);
        rejects += json_array_size(b->snapshot->rejects) > 0;
        errors += strstr(grown, "that no program can bear") != NULL;
        circles += strstr(grown, "cycle: leaves") != NULL;
        proxies += b->snapshot->proxies_len > 0;
        osm_free(fresh);
        osm_free(grown);
    }
    /* The walk has been where it is meant to go. */
    assert_true(rejects > 20 && errors > 20 && circles > 20 && proxies > 100);
}

static void test_increments_equal_scratch_1(void **state)
{
    seed = 1;
    test_increments_equal_a_run_from_scratch(state);
}

static void test_increments_equal_scratch_2(void **state)
{
    seed = 20240607;
    test_increments_equal_a_run_from_scratch(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BENCH_TEST(test_increments_equal_scratch_1),
        BENCH_TEST(test_increments_equal_scratch_2),
    };
    return cmocka_run_group_tests(tests, NULL, bench_no_leak);
}
