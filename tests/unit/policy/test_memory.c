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
    struct osm_changes *changes = osm_store_take_changes(b->store);
    assert_non_null(changes);
    return changes;
}

/* Loads, runs twice, with the n-th allocation failing. */
static int life(const struct osm_changes *const *changes, long n)
{
    struct osm_err err = {0};
    struct osm_engine_config config = bench_config("tests/unit/policy/bundles/shop");
    struct osm_engine *engine = NULL;
    osm_mem_fail_at(n);
    int rc = osm_engine_new(&engine, &config, &err);
    for (int i = 0; i < 2 && !rc; i++) {
        struct osm_snapshot *snapshot = NULL;
        rc = osm_engine_run(engine, changes[i], &snapshot, &err);
        osm_snapshot_unref(snapshot);
    }
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
    assert_int_equal(life(borrowed, -1), 0);
    /* The coroutines of the start are alike; later on every place counts. */
    for (long n = 0; n < 14000; n += n < 2000 ? 17 : 5) {
        failures += life(borrowed, n) != 0;
        assert_int_equal(osm_mem_live(), live);
    }
    assert_true(failures > 100);
    osm_changes_free(changes[0]);
    osm_changes_free(changes[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {BENCH_TEST(test_any_allocation_may_fail)};
    return cmocka_run_group_tests(tests, NULL, bench_no_leak);
}
