#include "policy/engine_util.h"
#include "policy/host.h"

#include <sched.h>
#include <stdatomic.h>

struct host {
    struct bench *bench;
    struct osm_loop *loop;
    struct osm_policy *policy;
    uint64_t (*now_ms)(void); /* NULL: the system's */
    int done, loaded;
    char error[256];
};

static void on_loaded(void *ud, const char *error)
{
    struct host *h = ud;
    h->loaded++;
    (void)snprintf(h->error, sizeof h->error, "%s", error ? error : "");
    osm_loop_stop(h->loop);
}

static void on_done(void *ud, struct osm_snapshot *snapshot, const char *error)
{
    struct host *h = ud;
    h->done++;
    (void)snprintf(h->error, sizeof h->error, "%s", error ? error : "");
    if (snapshot) {
        osm_snapshot_unref(h->bench->snapshot);
        h->bench->snapshot = snapshot;
    }
    assert_false(osm_policy_busy(h->policy));
    osm_loop_stop(h->loop);
}

/* Starts, and waits for the load; its error is in h->error. */
static void start(struct host *h, const char *text, size_t memory_max_bytes)
{
    struct osm_err err = {0};
    bench_write(h->bench, "m.lua", text, NULL);
    struct osm_engine_config config = bench_config(h->bench->dir);
    struct osm_policy_callbacks callbacks = {h, on_loaded, on_done};
    config.memory_max_bytes = memory_max_bytes;
    config.now_ms = h->now_ms;
    assert_int_equal(osm_policy_files_read(&config.files, config.policies_dirs, &err), 0);
    assert_int_equal(osm_policy_start(&h->policy, h->loop, &config, &callbacks, &err), 0);
    osm_policy_files_unref(config.files);
    assert_true(osm_policy_busy(h->policy));
    assert_int_equal(osm_loop_run(h->loop), 0);
    assert_int_equal(h->loaded, 1);
    assert_false(osm_policy_busy(h->policy));
}

static int set_up(void **state)
{
    struct osm_err err = {0};
    struct host *h = osm_alloc(sizeof *h);
    assert_non_null(h);
    h->bench = bench_new();
    assert_int_equal(osm_loop_new(&h->loop, &err), 0);
    *state = h;
    return 0;
}

static int tear_down(void **state)
{
    struct host *h = *state;
    osm_policy_stop(h->policy);
    osm_loop_free(h->loop);
    bench_free(h->bench);
    osm_free(h);
    return 0;
}

static void submit(struct host *h, const char *yaml)
{
    bench_put(h->bench, yaml);
    struct osm_changes *changes = osm_store_reader_take(h->bench->reader);
    assert_non_null(changes);
    osm_policy_submit(h->policy, changes);
}

static const char plain[] =
    "return { api = 1, kinds = { Service = { versions = { 'v1' }, accept = function(o, reject) "
    "reject({ 'spec' }, 'no') end } } }";
static const char service[] =
    NAMESPACE("a") "---\napiVersion: v1\nkind: Service\nmetadata: {name: s, namespace: a}\n";

static void test_a_batch_becomes_a_snapshot(void **state)
{
    struct host *h = *state;
    start(h, plain, 0);
    submit(h, service);
    assert_true(osm_policy_busy(h->policy));
    assert_int_equal(osm_loop_run(h->loop), 0);
    assert_int_equal(h->done, 1);
    assert_string_equal(h->error, "");
    assert_int_equal(json_array_size(h->bench->snapshot->rejects), 1);
}

static void test_a_bundle_that_does_not_load_says_why(void **state)
{
    struct host *h = *state;
    start(h, "return {", 0);
    assert_string_equal(h->error, "m.lua:1: unexpected symbol near <eof>");
}

static void test_a_run_that_loses_its_state_says_so(void **state)
{
    struct host *h = *state;
    start(h,
          "local kept = {}\n"
          "return { api = 1, kinds = { Service = { versions = { 'v1' }, accept = function(o)\n"
          "  kept[#kept + 1] = ('x'):rep(1000000) .. #kept\n"
          "end } } }",
          8 << 20);
    for (int i = 0; i < 12; i++) {
        char another[256];
        (void)snprintf(another, sizeof another,
                       "%s---\napiVersion: v1\nkind: Service\n"
                       "metadata: {name: s%d, namespace: a}\n",
                       service, i);
        bench_put(h->bench, another);
    }
    submit(h, service);
    assert_int_equal(osm_loop_run(h->loop), 0);
    assert_string_equal(
        h->error,
        "the policies need more than 8388608 bytes of memory; --policy-memory gives more");
    assert_null(h->bench->snapshot);
}

static void test_stopping_drops_what_is_under_way(void **state)
{
    struct host *h = *state;
    start(h, plain, 0);
    submit(h, service);
    osm_policy_stop(h->policy);
    h->policy = NULL;
    assert_int_equal(osm_loop_post(h->loop, (osm_task_fn *)osm_loop_stop, h->loop), 0);
    assert_int_equal(osm_loop_run(h->loop), 0);
    assert_int_equal(h->done, 0);
}

static atomic_uint looks;

static uint64_t count_looks(void)
{
    return 1000 + atomic_fetch_add(&looks, 1) / 1000000;
}

/* 64 objects that each use up what an evaluation may: many minutes with a sanitizer. */
static void test_stopping_cuts_a_run_short(void **state)
{
    enum { OBJECTS = 64, OF_A_WHOLE_EVALUATION = 40000 };
    struct host *h = *state;
    h->now_ms = count_looks;
    start(h,
          "return { api = 1, kinds = { Service = { versions = { 'v1' }, accept = function(o)\n"
          "  while true do end\n"
          "end } } }",
          0);
    for (int i = 0; i < OBJECTS; i++) {
        char another[256];
        (void)snprintf(another, sizeof another,
                       "apiVersion: v1\nkind: Service\nmetadata: {name: s%d, namespace: a}\n", i);
        bench_put(h->bench, another);
    }
    unsigned before = atomic_load(&looks);
    submit(h, service);
    while (atomic_load(&looks) < before + 10)
        (void)sched_yield();
    osm_policy_stop(h->policy);
    h->policy = NULL;
    assert_true(atomic_load(&looks) - before < OBJECTS / 2 * OF_A_WHOLE_EVALUATION);
    assert_int_equal(osm_loop_post(h->loop, (osm_task_fn *)osm_loop_stop, h->loop), 0);
    assert_int_equal(osm_loop_run(h->loop), 0);
    assert_int_equal(h->done, 0);
}

static void test_discarding_waits_for_nothing(void **state)
{
    struct host *h = *state;
    start(h, plain, 0);
    submit(h, service);
    osm_policy_discard(h->policy);
    h->policy = NULL;
    assert_int_equal(osm_loop_post(h->loop, (osm_task_fn *)osm_loop_stop, h->loop), 0);
    (void)osm_loop_run(h->loop);
    assert_int_equal(h->done, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_batch_becomes_a_snapshot, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_bundle_that_does_not_load_says_why, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_run_that_loses_its_state_says_so, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_stopping_drops_what_is_under_way, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_stopping_cuts_a_run_short, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_discarding_waits_for_nothing, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, bench_no_leak);
}
