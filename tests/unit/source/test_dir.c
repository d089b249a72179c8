/* A real directory under /tmp and a recording sink. Most tests ask for a scan (osm_source_refresh),
 * so nothing waits; those that are about noticing run the loop until the sink has what they expect,
 * and fail after a deadline. */
#include "source/source.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/map.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

struct fixture {
    char dir[64];
    struct osm_loop *loop;
    struct osm_source *source;
    struct osm_timer *tick;
    struct osm_map objects; /* key -> object, as told */
    int puts, gones, synced;
    bool (*done)(struct fixture *f);
    uint64_t deadline_ms;
    bool late;
};

static void on_put(void *ud, struct osm_object *object)
{
    struct fixture *f = ud;
    void *old = NULL;
    f->puts++;
    assert_int_equal(osm_map_put(&f->objects, object->key, object, &old), 0);
    osm_object_unref(old);
}

static void on_gone(void *ud, const char *key)
{
    struct fixture *f = ud;
    f->gones++;
    assert_true(osm_map_has(&f->objects, key));
    osm_object_unref(osm_map_del(&f->objects, key));
}

static void on_synced(void *ud)
{
    ((struct fixture *)ud)->synced++;
}

static void start(struct fixture *f)
{
    struct osm_err err = {0};
    struct osm_source_sink sink = {f, on_put, on_gone, on_synced};
    if (osm_source_dir_start(&f->source, f->loop, f->dir, &sink, &err))
        fail_msg("%s", err.msg);
}

static void on_tick(void *ud)
{
    struct fixture *f = ud;
    f->late = osm_now_ms() > f->deadline_ms;
    if (f->late || f->done(f))
        osm_loop_stop(f->loop);
}

/* Runs the loop until the condition holds. */
static void run_until(struct fixture *f, bool (*done)(struct fixture *f))
{
    f->done = done;
    f->deadline_ms = osm_now_ms() + 20000;
    osm_timer_start(f->tick, 0, 5);
    (void)osm_loop_run(f->loop);
    osm_timer_stop(f->tick);
    assert_false(f->late);
}

static int set_up(void **state)
{
    struct osm_err err = {0};
    struct fixture *f = osm_alloc(sizeof *f);
    assert_non_null(f);
    (void)snprintf(f->dir, sizeof f->dir, "/tmp/osm-source-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    assert_int_equal(osm_loop_new(&f->loop, &err), 0);
    f->tick = osm_timer_new(f->loop, on_tick, f);
    assert_non_null(f->tick);
    *state = f;
    return 0;
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static void remove_tree(const char *path)
{
    (void)nftw(path, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    osm_source_stop(f->source);
    osm_timer_free(f->tick);
    osm_loop_free(f->loop);
    osm_map_each (&f->objects, e)
        osm_object_unref(e->value);
    osm_map_clear(&f->objects);
    remove_tree(f->dir);
    osm_free(f);
    return 0;
}

/* Writes DIR/NAME the way an editor does not: in place. */
static void write_file(struct fixture *f, const char *name, const char *text)
{
    char path[256];
    (void)snprintf(path, sizeof path, "%s/%s", f->dir, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

static void remove_file(struct fixture *f, const char *name)
{
    char path[256];
    (void)snprintf(path, sizeof path, "%s/%s", f->dir, name);
    assert_int_equal(remove(path), 0);
}

static const char *const service_a = "{apiVersion: v1, kind: Service, metadata: {name: a}}\n";
static const char *const service_b = "{apiVersion: v1, kind: Service, metadata: {name: b}}\n";

static const struct osm_object *get(struct fixture *f, const char *key)
{
    return osm_map_get(&f->objects, key);
}

static void test_tells_what_is_there_then_what_changed(void **state)
{
    struct fixture *f = *state;
    write_file(f, "a.yaml", service_a);
    start(f);
    assert_int_equal(f->puts, 0); /* nothing before the caller has the source */
    osm_source_refresh(f->source);
    assert_int_equal(f->synced, 1);
    assert_non_null(get(f, "/Service/default/a"));
    assert_string_equal(get(f, "/Service/default/a")->origin, "a.yaml:1");
    write_file(f, "b.yaml", service_b);
    osm_source_refresh(f->source);
    assert_non_null(get(f, "/Service/default/b"));
    remove_file(f, "a.yaml");
    osm_source_refresh(f->source);
    assert_null(get(f, "/Service/default/a"));
    assert_int_equal(f->puts, 2);
    assert_int_equal(f->gones, 1);
    assert_int_equal(f->synced, 1);
}

static bool has_both(struct fixture *f)
{
    return get(f, "/Service/default/a") && get(f, "/Service/default/b");
}

static bool has_only_b(struct fixture *f)
{
    return !get(f, "/Service/default/a") && get(f, "/Service/default/b");
}

static bool has_a(struct fixture *f)
{
    return get(f, "/Service/default/a") != NULL;
}

static void test_notices_by_itself(void **state)
{
    struct fixture *f = *state;
    write_file(f, "a.yaml", service_a);
    start(f);
    run_until(f, has_a);
    write_file(f, "b.yaml", service_b);
    run_until(f, has_both);
    remove_file(f, "a.yaml");
    run_until(f, has_only_b);
}

static int nothing_is_left(void **state)
{
    (void)state;
    assert_int_equal(osm_mem_live(), 0);
    return 0;
}

static int count_json(void **state)
{
    (void)state;
    json_object_seed(1);
    json_set_alloc_funcs(osm_alloc, osm_free);
    osm_log_set_level(OSM_LOG_TOPIC_COUNT, OSM_LOG_OFF);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_tells_what_is_there_then_what_changed, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_notices_by_itself, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, count_json, nothing_is_left);
}
