/* Copies of the mesh for sessions, on a real loop with real threads: what they answer, what they
 * follow, what happens to who asks when they end. */
#include "debug/evaluator.h"

#include "base/clock.h"
#include "policy/files.h"

#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include <cmocka.h>

static const char BUNDLE[] = "local M = { api = 1 }\n"
                             "M.kinds = { Service = { group = \"\", versions = { \"v1\" } } }\n"
                             "M.rules = {\n"
                             "  count = function(mesh) return #mesh.Service() end,\n"
                             "  version = function() return %d end,\n"
                             "}\n"
                             "return M\n";

struct fixture {
    char dir[64];
    struct osm_loop *loop;
    struct osm_timer *tick; /* what is posted alone keeps no loop going */
    struct osm_store *store;
    struct osm_policy_files *files;
    uint64_t generation;
    struct osm_evaluators *all;
};

/* What has been answered. */
struct heard {
    int times;
    json_t *answer;
    struct osm_err err;
};

static struct osm_policy_files *files(void *ud, uint64_t *generation)
{
    struct fixture *f = ud;
    *generation = f->generation;
    return f->files;
}

static const char *roots(void *ud)
{
    (void)ud;
    return "roots";
}

static struct osm_snapshot *served(void *ud)
{
    (void)ud;
    return NULL;
}

static json_t *diff(const struct osm_snapshot *before, const struct osm_snapshot *after,
                    struct osm_err *err)
{
    (void)before;
    (void)after;
    (void)osm_fail(err, OSM_EBUSY, "nothing is served");
    return NULL;
}

/* Other policies are in force from now on. */
static void put_policies(struct fixture *f, int version)
{
    char path[96], text[1024];
    const char *dirs[] = {f->dir, NULL};
    struct osm_err err = {0};
    (void)snprintf(path, sizeof path, "%s/m.lua", f->dir);
    (void)snprintf(text, sizeof text, BUNDLE, version);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    (void)fputs(text, file);
    assert_int_equal(fclose(file), 0);
    osm_policy_files_unref(f->files);
    f->files = NULL;
    assert_int_equal(osm_policy_files_read(&f->files, dirs, &err), 0);
    f->generation++;
}

static void put_service(struct fixture *f, const char *name)
{
    struct osm_object *object = NULL;
    struct osm_err err = {0};
    json_t *body = json_pack("{s:s, s:s, s:{s:s, s:s}}", "apiVersion", "v1", "kind", "Service",
                             "metadata", "namespace", "a", "name", name);
    assert_int_equal(osm_object_new(&object, body, "test", &err), 0);
    assert_int_equal(osm_store_put(f->store, object), 0);
}

static void no_task(void *ud)
{
    (void)ud;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct osm_err err = {0};
    (void)snprintf(f->dir, sizeof f->dir, "/tmp/osm-evaluator-XXXXXX");
    if (!mkdtemp(f->dir) || osm_loop_new(&f->loop, &err))
        return 1;
    *state = f;
    f->tick = osm_timer_new(f->loop, no_task, f);
    osm_timer_start(f->tick, 5, 5);
    f->store = osm_store_new();
    put_policies(f, 1);
    struct osm_object *object = NULL;
    json_t *body =
        json_pack("{s:s, s:s, s:{s:s, s:{s:s}}}", "apiVersion", "v1", "kind", "Namespace",
                  "metadata", "name", "a", "labels", "openservicemesh.io/monitored-by", "osm");
    if (osm_object_new(&object, body, "test", &err) || osm_store_put(f->store, object))
        return 1;
    put_service(f, "one");
    const struct osm_evaluators_config config = {
        .loop = f->loop,
        .store = f->store,
        .engine = {.mesh_name = "osm", .osm_namespace = "s", .trust_domain = "d"},
        .files = files,
        .roots_pem = roots,
        .served = served,
        .diff = diff,
        .ud = f};
    f->all = osm_evaluators_new(&config);
    return !f->all;
}

static int unlink_it(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    osm_evaluators_free(f->all);
    osm_timer_free(f->tick);
    osm_loop_free(f->loop);
    osm_policy_files_unref(f->files);
    osm_store_free(f->store);
    (void)nftw(f->dir, unlink_it, 8, FTW_DEPTH | FTW_PHYS);
    free(f);
    return osm_mem_live() != 0;
}

static void hear(void *ud, json_t *answer, const struct osm_err *err)
{
    struct heard *h = ud;
    h->times++;
    json_decref(h->answer);
    h->answer = answer;
    h->err = err ? *err : (struct osm_err){0};
}

static void turn_until(struct fixture *f, const int *times, int wanted)
{
    for (uint64_t end = osm_now_ms() + 20000; *times < wanted && osm_now_ms() < end;)
        (void)uv_run(osm_loop_uv(f->loop), UV_RUN_ONCE);
    assert_int_equal(*times, wanted);
}

static struct osm_evaluator *evaluator(struct fixture *f)
{
    struct osm_evaluator *ev = NULL;
    struct osm_err err = {0};
    assert_int_equal(osm_evaluator_new(&ev, f->all, &err), 0);
    return ev;
}

static void ask(struct osm_evaluator *ev, const char *line, struct heard *h)
{
    struct osm_err err = {0};
    const struct osm_evaluation what = {.type = OSM_EVALUATE_LINE, .text = line};
    if (osm_evaluator_ask(ev, &what, hear, h, &err))
        fail_msg("%s", err.msg);
}

/* @p text: what the line says; an error as its text. */
static void expect(struct fixture *f, struct osm_evaluator *ev, const char *line, const char *text)
{
    struct heard h = {0};
    ask(ev, line, &h);
    turn_until(f, &h.times, 1);
    assert_string_equal(h.answer ? json_string_value(json_object_get(h.answer, "text")) : h.err.msg,
                        text);
    json_decref(h.answer);
}

static void test_a_copy_follows_objects_and_policies(void **state)
{
    struct fixture *f = *state;
    struct osm_evaluator *ev = evaluator(f);
    struct heard h = {0};
    expect(f, ev, "local x = mesh.count(); return x", "1\n");
    expect(f, ev, "local x = mesh.count()", "");
    put_service(f, "two");
    expect(f, ev, "x, mesh.count(), mesh.version()", "1\n2\n1\n");
    put_policies(f, 2);
    ask(ev, "x, mesh.version()", &h);
    turn_until(f, &h.times, 1);
    assert_string_equal(json_string_value(json_object_get(h.answer, "text")), "nil\n2\n");
    assert_non_null(strstr(json_string_value(json_object_get(h.answer, "note")), "is gone"));
    json_decref(h.answer);
    osm_evaluator_end(ev);
}

static void test_sessions_do_not_see_each_other(void **state)
{
    struct fixture *f = *state;
    struct osm_evaluator *one = evaluator(f), *two = evaluator(f);
    expect(f, one, "local x = 1", "");
    expect(f, two, "x", "nil\n");
    expect(f, one, "x", "1\n");
    osm_evaluator_end(one);
    expect(f, two, "1", "1\n");
    osm_evaluator_end(two);
}

static void test_a_copy_that_met_a_limit_is_replaced(void **state)
{
    struct fixture *f = *state;
    struct osm_evaluator *ev = evaluator(f);
    struct heard h = {0};
    expect(f, ev, "local keep = {}", "");
    for (int lines = 0; !h.err.code && lines < 100; lines++) {
        ask(ev, "keep[#keep + 1] = ('x'):rep(1000000)", &h);
        turn_until(f, &h.times, lines + 1);
    }
    json_decref(h.answer);
    assert_int_equal(h.err.code, OSM_ELIMIT);
    expect(f, ev, "keep", "nil\n");
    osm_evaluator_end(ev);
}

static void test_there_are_only_so_many(void **state)
{
    struct fixture *f = *state;
    struct osm_evaluator *list[OSM_EVALUATORS_MAX], *more;
    struct osm_err err = {0};
    for (int i = 0; i < OSM_EVALUATORS_MAX; i++)
        list[i] = evaluator(f);
    assert_int_equal(osm_evaluator_new(&more, f->all, &err), OSM_EBUSY);
    osm_evaluator_end(list[0]);
    list[0] = evaluator(f);
    for (int i = 0; i < OSM_EVALUATORS_MAX; i++)
        osm_evaluator_end(list[i]);
}

static void test_who_asks_is_answered_also_at_the_end(void **state)
{
    struct fixture *f = *state;
    struct osm_evaluator *ev = evaluator(f), *other = evaluator(f);
    struct heard h = {0}, of_other = {0};
    for (int i = 0; i < 5; i++)
        ask(ev, "for i = 1, 100 do mesh.count() end", &h);
    osm_evaluator_end(ev);
    turn_until(f, &h.times, 5);
    json_decref(h.answer);
    for (int i = 0; i < 5; i++)
        ask(other, "1", &of_other);
    osm_evaluators_free(osm_take_ptr(&f->all));
    turn_until(f, &of_other.times, 5);
    json_decref(of_other.answer);
    osm_evaluator_end(other);
}

static void test_nothing_is_asked_before_policies_are_in_force(void **state)
{
    struct fixture *f = *state;
    struct osm_evaluator *ev = evaluator(f);
    struct osm_err err = {0};
    struct heard h = {0};
    const struct osm_evaluation what = {.type = OSM_EVALUATE_LINE, .text = "1"};
    osm_policy_files_unref(osm_take_ptr(&f->files));
    assert_int_equal(osm_evaluator_ask(ev, &what, hear, &h, &err), OSM_EBUSY);
    assert_int_equal(h.times, 0);
    osm_evaluator_end(ev);
}

static void test_a_diff_needs_something_that_is_served(void **state)
{
    struct fixture *f = *state;
    struct osm_evaluator *ev = evaluator(f);
    expect(f, ev, "diff()", "diff: nothing is served yet");
    expect(f, ev, "1", "1\n");
    osm_evaluator_end(ev);
}

/* --- watches --- */

struct seen {
    int times;
    char last[600];
};

static void note(void *ud, const json_t *answer, const struct osm_err *err)
{
    struct seen *s = ud;
    s->times++;
    (void)snprintf(s->last, sizeof s->last, "%s",
                   err ? err->msg : json_string_value(json_object_get(answer, "text")));
}

static void test_a_watch_tells_what_has_changed(void **state)
{
    struct fixture *f = *state;
    struct osm_evaluator *ev = evaluator(f);
    struct osm_evaluator_watch *watch;
    struct osm_err err = {0};
    struct seen s = {0};
    const struct osm_evaluation what = {.type = OSM_EVALUATE_LINE, .text = "mesh.count() > 1"};
    assert_int_equal(osm_evaluator_watch(&watch, ev, &what, note, &s, &err), 0);
    turn_until(f, &s.times, 1);
    assert_string_equal(s.last, "false\n");
    put_service(f, "two");
    osm_evaluators_changed(f->all);
    turn_until(f, &s.times, 2);
    assert_string_equal(s.last, "true\n");
    put_service(f, "three"); /* the answer stays */
    osm_evaluators_changed(f->all);
    struct heard h = {0};
    for (int i = 1; i <= 3; i++) { /* it has had its turn by then */
        ask(ev, "1", &h);
        turn_until(f, &h.times, i);
    }
    json_decref(h.answer);
    assert_int_equal(s.times, 2);
    osm_policy_files_unref(osm_take_ptr(&f->files));
    osm_evaluators_changed(f->all);
    turn_until(f, &s.times, 3);
    assert_non_null(strstr(s.last, "no policies are in force"));
    osm_evaluator_watch_stop(watch);
    osm_evaluator_end(ev);
}

static void test_a_watch_is_stopped_while_it_looks(void **state)
{
    struct fixture *f = *state;
    struct osm_evaluator *ev = evaluator(f);
    struct osm_evaluator_watch *watch;
    struct osm_err err = {0};
    struct seen s = {0};
    const struct osm_evaluation what = {.type = OSM_EVALUATE_LINE, .text = "1"};
    assert_int_equal(osm_evaluator_watch(&watch, ev, &what, note, &s, &err), 0);
    osm_evaluator_watch_stop(watch);
    expect(f, ev, "2", "2\n");
    assert_int_equal(s.times, 0);
    osm_evaluator_end(ev);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_a_copy_follows_objects_and_policies),
        TEST(test_sessions_do_not_see_each_other),
        TEST(test_a_copy_that_met_a_limit_is_replaced),
        TEST(test_there_are_only_so_many),
        TEST(test_who_asks_is_answered_also_at_the_end),
        TEST(test_nothing_is_asked_before_policies_are_in_force),
        TEST(test_a_diff_needs_something_that_is_served),
        TEST(test_a_watch_tells_what_has_changed),
        TEST(test_a_watch_is_stopped_while_it_looks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
