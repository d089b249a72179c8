/* Every way out that we know of, tried: each is stopped, named, and leaves the rest as it was. */
#include "policy/attacks.h"

#define PROXY "11111111-1111-4111-8111-111111111111"

static const char world[] =
    NAMESPACE("a") "---\napiVersion: v1\nkind: Service\n"
                   "metadata: {name: one, namespace: a}\n"
                   "---\napiVersion: v1\nkind: Pod\n"
                   "metadata: {name: p, namespace: a, labels: {osm-proxy-uuid: " PROXY "}}\n"
                   "spec: {serviceAccountName: x, containers: [{name: c}]}\n"
                   "status: {phase: Running, podIP: 10.1.0.1}\n";
static const char another[] =
    "apiVersion: v1\nkind: Service\nmetadata: {name: two, namespace: a}\n";

/* The neighbour, which has nothing to do with the attack. */
static const char good[] =
    "return { api = 1, kinds = { Service = { versions = { 'v1' } } },\n"
    "  rules = { label = function(mesh, ns, name) return ns .. '/' .. name end },\n"
    "  emit = { clusters = { each = 'Service', run = function(mesh, out, ns, name)\n"
    "    local cluster = mesh.label(ns, name)\n"
    "    out.cluster({ name = cluster, audience = 'everyone', message = { type = 'EDS' } })\n"
    "    out.load_assignment({ cluster = cluster, audience = 'everyone', accounts = 'any',\n"
    "      service_port = { ns, name, 80 } })\n"
    "  end } } }\n";
/* Whoever asks for the attack. */
static const char victim[] =
    "return { api = 1, rules = { all = function() return { 'x' } end },\n"
    "  emit = { victim = { each = 'all', run = function(mesh, out) mesh.attack() end } } }\n";

/* All attacks are tried, so that one look at the output tells which hold. */
static unsigned broken;

static void breaks(const struct attack *a, const char *what, const char *got)
{
    print_error("%s: expected %s %s, %s: %s\n", a->title, a->kind, a->expected, what, got);
    broken++;
}

struct field {
    char *alone; /* what the proxy gets where there is no attack: resource, version */
    char *both;
};

static char *served(struct bench *b)
{
    const char *names[] = {"a/one", "a/two"};
    struct osm_buf out = OSM_BUF_INIT(64 * 1024);
    const struct osm_snapshot_proxy *proxy = osm_snapshot_find(b->snapshot, PROXY ".a");
    assert_non_null(proxy);
    for (size_t i = 0; i < 2; i++) {
        struct osm_resource *r = osm_class_find(proxy->cls, OSM_XDS_CDS, names[i]);
        if (r)
            assert_int_equal(osm_buf_addf(&out, "%s %s\n", r->name, r->version), 0);
    }
    return osm_buf_take(&out);
}

static bool alike(const char *expected, const char *got)
{
    size_t n = strlen(expected);
    if (n > 3 && !strcmp(expected + n - 3, "..."))
        return !strncmp(expected, got, n - 3);
    return !strcmp(expected, got);
}

static void expect(const struct attack *a, const char *got)
{
    if (!alike(a->expected, got))
        breaks(a, "got", got);
}

/* The error of the attacking rule, or of the variable that has changed, and no other. */
static void check_errors(struct bench *b, const struct attack *a)
{
    const json_t *errors = b->snapshot->errors;
    const char *text = NULL;
    for (size_t i = 0; i < json_array_size(errors); i++) {
        const json_t *line = json_object_get(json_array_get(errors, i), "line");
        const char *message = bench_entry(errors, i, "message");
        bool state = !strcmp(bench_entry(errors, i, "where"), "bundle");
        if (state != !strcmp(a->kind, "state") || !strcmp(a->kind, "answer") || text)
            breaks(a, "reports too", message);
        if (strcmp(bench_entry(errors, i, "module"), "attack.lua") != 0 ||
            json_integer_value(line) <= 0)
            breaks(a, "names the module", bench_entry(errors, i, "module"));
        text = message;
    }
    if (strcmp(a->kind, "answer") != 0)
        expect(a, text ? text : "(no error)");
}

static void check_served(struct bench *b, const struct attack *a, const char *expected)
{
    char *now = served(b);
    if (strcmp(now, expected) != 0)
        breaks(a, "serves", now);
    osm_free(now);
}

static void try_run(struct bench *b, const struct attack *a, const struct field *f)
{
    struct osm_err err = {0};
    bench_put(b, world);
    int rc = bench_try_run(b, &err);
    if (!strcmp(a->kind, "lost")) {
        expect(a, rc ? err.msg : "(it goes on)");
        if (rc && !bench_try_run(b, &err))
            breaks(a, "runs", "again");
        return;
    }
    if (rc) {
        breaks(a, "is lost", err.msg);
        return;
    }
    check_errors(b, a);
    check_served(b, a, f->alone);
    bench_put(b, another); /* the next run works */
    if (bench_try_run(b, &err)) {
        breaks(a, "is lost later", err.msg);
        return;
    }
    check_errors(b, a);
    check_served(b, a, f->both);
    if (!strcmp(a->kind, "answer"))
        expect(a, bench_ask(b, "attack", "[]"));
}

static void try_attack(void *ud, const struct attack *a)
{
    struct bench *b = bench_new();
    struct osm_err err = {0};
    struct osm_buf module = OSM_BUF_INIT(64 * 1024);
    attack_module(a, &module);
    bench_write(b, "good.lua", good, "victim.lua", victim, "attack.lua", module.data, NULL);
    osm_buf_clear(&module);
    struct osm_engine_config config = bench_config(b->dir);
    config.memory_max_bytes = 256 << 20;
    int rc = osm_engine_new(&b->engine, &config, &err);
    if (!strcmp(a->kind, "load"))
        expect(a, rc ? err.msg : "(it loads)");
    else if (rc)
        breaks(a, "does not load", err.msg);
    else
        try_run(b, a, ud);
    bench_free(b);
}

static void try_all(const char *name, size_t least)
{
    struct field f;
    struct bench *b = bench_new();
    struct osm_err err = {0};
    broken = 0;
    bench_write(b, "good.lua", good, NULL);
    assert_int_equal(bench_load(b, NULL, &err), 0);
    bench_apply(b, world);
    assert_string_equal(bench_entry(b->snapshot->errors, 0, "message"), "");
    f.alone = served(b);
    bench_apply(b, another);
    f.both = served(b);
    assert_string_not_equal(f.alone, f.both);
    bench_free(b);
    assert_true(attacks_each(name, try_attack, &f) >= least);
    osm_free(f.alone);
    osm_free(f.both);
    assert_int_equal(broken, 0);
}

static void test_nothing_absent_can_be_reached(void **state)
{
    (void)state;
    try_all("absent", 30);
}

static void test_no_guard_can_be_taken_off(void **state)
{
    (void)state;
    try_all("guards", 15);
}

static void test_nothing_runs_away(void **state)
{
    (void)state;
    try_all("endless", 25);
}

static void test_nothing_grows_away(void **state)
{
    (void)state;
    try_all("memory", 10);
}

static void test_no_clock_and_no_address_can_be_seen(void **state)
{
    (void)state;
    try_all("impure", 15);
}

static void test_no_state_is_kept_unseen(void **state)
{
    (void)state;
    try_all("state", 10);
}

static void test_what_is_said_has_limits(void **state)
{
    (void)state;
    try_all("output", 5);
}

static void test_source_has_limits(void **state)
{
    (void)state;
    try_all("source", 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_absent_can_be_reached),
        cmocka_unit_test(test_no_guard_can_be_taken_off),
        cmocka_unit_test(test_nothing_runs_away),
        cmocka_unit_test(test_nothing_grows_away),
        cmocka_unit_test(test_no_clock_and_no_address_can_be_seen),
        cmocka_unit_test(test_no_state_is_kept_unseen),
        cmocka_unit_test(test_what_is_said_has_limits),
        cmocka_unit_test(test_source_has_limits),
    };
    return cmocka_run_group_tests(tests, NULL, bench_no_leak);
}
