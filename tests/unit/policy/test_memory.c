/* Any one allocation may fail: the engine then says so, or has got by, and nothing is lost or left.
 */
#include "policy/engine_util.h"

static const char first[] = NAMESPACE(
    "shop") "---\napiVersion: v1\nkind: Service\nmetadata: {name: cart, namespace: shop}\n"
            "spec: {clusterIP: 10.0.0.1, selector: {app: cart}, ports: [{name: http, port: 80, "
            "targetPort: 8080}]}\n"
            "---\napiVersion: v1\nkind: Pod\n"
            "metadata: {name: p, namespace: shop, labels: {app: cart, osm-proxy-uuid: "
            "11111111-1111-4111-8111-111111111111}}\n"
            "spec: {serviceAccountName: cart, containers: [{name: c}]}\nstatus: {phase: Running, "
            "podIP: 10.1.0.1}\n"
            "---\napiVersion: test.mesh/v1\nkind: Grant\nmetadata: {name: g, namespace: "
            "shop}\nspec: {to: cart, from: buyer}\n";
static const char second[] = "apiVersion: test.mesh/v1\nkind: Split\nmetadata: {name: s, "
                             "namespace: shop}\nspec: {service: cart, backend: {name: cart}}\n"
                             "---\napiVersion: test.mesh/v2\nkind: Split\nmetadata: {name: t, "
                             "namespace: shop}\nspec: {service: cart, backends: []}\n"
                             "---\napiVersion: test.mesh/v1\nkind: Grant\nmetadata: {name: h, "
                             "namespace: shop}\nspec: {to: cart, from: crash}\n";

static struct osm_changes *batch(struct bench *b, const char *yaml)
{
    bench_put(b, yaml);
    struct osm_changes *changes = osm_store_reader_take(b->reader);
    assert_non_null(changes);
    return changes;
}

/* Loads, runs twice, looks for state, with the n-th allocation failing. */
static int life(const char *dir, const struct osm_changes *const *changes, long n)
{
    struct osm_err err = {0};
    struct osm_engine_config config = bench_config(dir);
    struct osm_engine *engine = NULL;
    osm_mem_fail_at(n);
    int rc = osm_engine_new(&engine, &config, &err);
    for (int i = 0; i < 2 && !rc; i++) {
        struct osm_snapshot *snapshot = NULL;
        rc = osm_engine_run(engine, changes[i], &snapshot, &err);
        osm_snapshot_unref(snapshot);
    }
    if (!rc)
        rc = osm_engine_check_pure(engine, &err);
    osm_engine_free(engine);
    osm_mem_fail_at(-1);
    if (rc)
        assert_true(err.msg[0]);
    return rc;
}

static void test_any_allocation_may_fail(void **state)
{
    struct bench *b = *state;
    struct osm_changes *changes[] = {batch(b, first), batch(b, second)};
    const struct osm_changes *const borrowed[] = {changes[0], changes[1]};
    long live = osm_mem_live(), failures = 0;
    static const char dir[] = "tests/unit/policy/bundles/shop";
    assert_int_equal(life(dir, borrowed, -1), 0);
    /* The coroutines of the start are alike; later on every place counts. */
    for (long n = 0; n < 8000; n += n < 2000 ? 17 : 5) {
        failures += life(dir, borrowed, n) != 0;
        assert_int_equal(osm_mem_live(), live);
    }
    assert_true(failures > 100);
    osm_changes_free(changes[0]);
    osm_changes_free(changes[1]);
}

/* What is kept between calls, errors caught and limits met on the way to it. */
static const char impure[] =
    "local seen, M = { deep = {} }, { api = 1, kinds = { Service = { versions = { 'v1' } } }, "
    "rules = {} }\n"
    "function M.rules.f(mesh) return pcall(string.rep, 'x', 1 << 40) end\n"
    "function M.rules.g(mesh) local s = 'x' while true do s = s .. s end end\n"
    "M.emit = { e = { each = 'Service', run = function(mesh, out, ns, name)\n"
    "  seen.deep[name] = function() return seen end mesh.f() pcall(mesh.g) end } }\n"
    "return M\n";

static void test_any_allocation_may_fail_where_state_is_found(void **state)
{
    struct bench *b = *state;
    bench_write(b, "m.lua", impure, NULL);
    struct osm_changes *changes[] = {batch(b, first), batch(b, second)};
    const struct osm_changes *const borrowed[] = {changes[0], changes[1]};
    long live = osm_mem_live();
    /* Beyond the coroutines of the start, which the other test fails. */
    for (long n = 900; n < 2700; n += 3) {
        int rc = life(b->dir, borrowed, n);
        if (!rc)
            fail_msg("allocation %ld may fail and nobody sees it", n);
        assert_int_equal(osm_mem_live(), live);
    }
    osm_changes_free(changes[0]);
    osm_changes_free(changes[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BENCH_TEST(test_any_allocation_may_fail),
        BENCH_TEST(test_any_allocation_may_fail_where_state_is_found)};
    return cmocka_run_group_tests(tests, NULL, bench_no_leak);
}
