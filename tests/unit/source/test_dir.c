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
#include <sys/mman.h>
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

/* --- helpers for the rest --- */

static const char *path_of(struct fixture *f, const char *name)
{
    static char paths[4][256];
    static unsigned next;
    char *path = paths[next++ % 4];
    (void)snprintf(path, sizeof paths[0], "%s/%s", f->dir, name);
    return path;
}

static void make_dir(struct fixture *f, const char *name)
{
    assert_int_equal(mkdir(path_of(f, name), 0755), 0);
}

static void link_to(struct fixture *f, const char *target, const char *name)
{
    assert_int_equal(symlink(target, path_of(f, name)), 0);
}

static void rename_file(struct fixture *f, const char *from, const char *to)
{
    assert_int_equal(rename(path_of(f, from), path_of(f, to)), 0);
}

static void started(struct fixture *f)
{
    start(f);
    osm_source_refresh(f->source);
}

static void expect_origin(struct fixture *f, const char *key, const char *origin)
{
    assert_non_null(get(f, key));
    assert_string_equal(get(f, key)->origin, origin);
}

static void expect_state(struct fixture *f, const char *state, size_t errors)
{
    json_t *status = osm_source_status(f->source);
    assert_non_null(status);
    assert_string_equal(json_string_value(json_object_get(status, "state")), state);
    assert_int_equal(json_array_size(json_object_get(status, "errors")), errors);
    json_decref(status);
}

static void expect_error(struct fixture *f, size_t i, const char *file, int line, int column,
                         const char *what, bool kept)
{
    json_t *status = osm_source_status(f->source);
    const json_t *error = json_array_get(json_object_get(status, "errors"), i);
    assert_non_null(error);
    assert_string_equal(json_string_value(json_object_get(error, "file")), file);
    assert_int_equal(json_integer_value(json_object_get(error, "line")), line);
    assert_int_equal(json_integer_value(json_object_get(error, "column")), column);
    const char *message = json_string_value(json_object_get(error, "message"));
    if (!strstr(message, what))
        fail_msg("\"%s\" does not say \"%s\"", message, what);
    assert_int_equal(json_is_true(json_object_get(error, "kept")), kept);
    json_decref(status);
}

/* --- what is read --- */

static void test_reads_documents_json_and_directories(void **state)
{
    struct fixture *f = *state;
    make_dir(f, "shop");
    make_dir(f, "shop/deep");
    write_file(f, "two.yaml",
               "# head\n\n---\napiVersion: v1\nkind: Service\nmetadata: {name: a}\n---\n"
               "apiVersion: v1\nkind: Service\nmetadata: {name: b}\n");
    write_file(f, "shop/c.json",
               "{\"apiVersion\": \"v1\", \"kind\": \"Service\", \"metadata\": {\"name\": \"c\"}}");
    write_file(f, "shop/deep/d.yml", "{apiVersion: v1, kind: Service, metadata: {name: d}}");
    write_file(f, "shop/empty.yaml", "");
    write_file(f, "shop/.hidden.yaml", "{broken");
    write_file(f, "shop/#c.yaml", "{broken");
    write_file(f, "shop/c.yaml~", "{broken");
    write_file(f, "shop/.c.yaml.swp", "{broken");
    write_file(f, "README.md", "{broken");
    started(f);
    expect_origin(f, "/Service/default/a", "two.yaml:4");
    expect_origin(f, "/Service/default/b", "two.yaml:8");
    expect_origin(f, "/Service/default/c", "shop/c.json:1");
    expect_origin(f, "/Service/default/d", "shop/deep/d.yml:1");
    assert_int_equal(f->objects.count, 4);
    json_t *status = osm_source_status(f->source);
    char *text = json_dumps(status, JSON_COMPACT), want[256];
    (void)snprintf(want, sizeof want,
                   "{\"kind\":\"dir\",\"path\":\"%s\",\"state\":\"ok\",\"reason\":\"\",\"files\":4,"
                   "\"objects\":4,"
                   "\"generation\":1,\"errors\":[]}",
                   f->dir);
    assert_string_equal(text, want);
    osm_free(text);
    json_decref(status);
}

static void test_lists_are_taken_apart(void **state)
{
    struct fixture *f = *state;
    write_file(f, "list.yaml",
               "apiVersion: v1\nkind: List\nitems:\n"
               "- apiVersion: v1\n  kind: Service\n  metadata: {name: a}\n"
               "- {apiVersion: v1, kind: Service, metadata: {name: b}}\n");
    write_file(f, "pods.yaml", "apiVersion: v1\nkind: PodList\nitems:\n- metadata: {name: p}\n");
    write_file(f, "none.yaml", "{apiVersion: v1, kind: List, items: []}");
    started(f);
    expect_origin(f, "/Service/default/a", "list.yaml:4");
    expect_origin(f, "/Service/default/b", "list.yaml:7");
    expect_origin(f, "/Pod/default/p", "pods.yaml:4");
    expect_state(f, "ok", 0);
    write_file(f, "none.yaml", "{apiVersion: v1, kind: List, items: {}}");
    osm_source_refresh(f->source);
    expect_error(f, 0, "none.yaml", 1, 1, "items: must be a list", true);
    write_file(f, "none.yaml", "{apiVersion: v1, kind: List, items: [7]}");
    osm_source_refresh(f->source);
    expect_error(f, 0, "none.yaml", 1, 1, "", true);
}

static void test_links_are_followed_once(void **state)
{
    struct fixture *f = *state;
    make_dir(f, "real");
    make_dir(f, "real/sub");
    write_file(f, "real/sub/a.yaml", service_a);
    link_to(f, "..", "real/sub/up");
    link_to(f, ".", "real/self");
    link_to(f, "real/sub/a.yaml", "z.yaml");
    link_to(f, "nowhere.yaml", "dangling.yaml");
    started(f);
    expect_origin(f, "/Service/default/a", "real/sub/a.yaml:1");
    assert_int_equal(f->puts, 1);
    expect_state(f, "ok", 0);
}

static void test_a_fifo_does_not_block(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(mkfifo(path_of(f, "pipe.yaml"), 0644), 0);
    write_file(f, "a.yaml", service_a);
    started(f);
    assert_true(has_a(f));
    expect_state(f, "ok", 0);
}

/* --- errors --- */

static void test_a_broken_file_keeps_its_last_good_objects(void **state)
{
    struct fixture *f = *state;
    write_file(f, "a.yaml", service_a);
    started(f);
    write_file(f, "a.yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: a\nspec: x\n");
    osm_source_refresh(f->source);
    assert_true(has_a(f));
    assert_int_equal(f->gones, 0);
    expect_state(f, "degraded", 1);
    expect_error(f, 0, "a.yaml", 4, 5, "", true);
    write_file(f, "a.yaml", service_b);
    osm_source_refresh(f->source);
    assert_true(has_only_b(f));
    expect_state(f, "ok", 0);
    write_file(f, "a.yaml", "{");
    osm_source_refresh(f->source);
    remove_file(f, "a.yaml");
    osm_source_refresh(f->source);
    assert_int_equal(f->objects.count, 0);
    expect_state(f, "ok", 0);
}

static void test_a_file_that_is_broken_at_the_start_gives_nothing(void **state)
{
    struct fixture *f = *state;
    write_file(f, "a.yaml", "a: [");
    write_file(f, "b.yaml", service_b);
    started(f);
    assert_true(has_only_b(f));
    assert_int_equal(f->synced, 1);
    expect_error(f, 0, "a.yaml", 2, 1, "", false);
    write_file(f, "a.yaml", service_a);
    osm_source_refresh(f->source);
    assert_true(has_both(f));
    expect_state(f, "ok", 0);
}

static void test_a_file_is_one_unit(void **state)
{
    struct fixture *f = *state;
    write_file(f, "a.yaml", service_a);
    started(f);
    /* The second document is no object: the first does not count either, and what was there stays.
     */
    write_file(
        f, "a.yaml",
        "{apiVersion: v1, kind: Service, metadata: {name: b}}\n---\n\nmetadata: {name: x}\n");
    osm_source_refresh(f->source);
    assert_true(has_a(f));
    assert_null(get(f, "/Service/default/b"));
    expect_error(f, 0, "a.yaml", 4, 1, "apiVersion: is missing", true);
}

static void test_one_object_twice_in_a_file_is_an_error(void **state)
{
    struct fixture *f = *state;
    char text[300];
    (void)snprintf(text, sizeof text, "%s---\n%s", service_a, service_a);
    write_file(f, "a.yaml", text);
    started(f);
    assert_false(has_a(f));
    expect_error(f, 0, "a.yaml", 3, 1, "Service default/a is in this file twice: also at line 1",
                 false);
}

static void test_of_one_object_in_two_files_the_first_file_wins(void **state)
{
    struct fixture *f = *state;
    write_file(f, "b.yaml", service_a);
    started(f);
    expect_origin(f, "/Service/default/a", "b.yaml:1");
    write_file(f, "a.yaml", service_a);
    write_file(f, "c.yaml",
               "\n{apiVersion: v1, kind: Service, metadata: {name: a, labels: {x: y}}}");
    osm_source_refresh(f->source);
    expect_origin(f, "/Service/default/a", "a.yaml:1");
    expect_state(f, "degraded", 2);
    expect_error(f, 0, "b.yaml", 1, 1, "Service default/a (b.yaml:1) is left out: a.yaml:1 has it",
                 false);
    expect_error(f, 1, "c.yaml", 2, 1, "(c.yaml:2) is left out: a.yaml:1 has it", false);
    remove_file(f, "a.yaml");
    remove_file(f, "b.yaml");
    osm_source_refresh(f->source);
    expect_origin(f, "/Service/default/a", "c.yaml:2");
    assert_int_equal(f->gones, 0); /* it was never gone */
    expect_state(f, "ok", 0);
}

static void test_a_file_that_is_too_large_is_refused(void **state)
{
    struct fixture *f = *state;
    write_file(f, "a.yaml", service_a);
    started(f);
    int fd = open(path_of(f, "a.yaml"), O_WRONLY);
    assert_int_equal(ftruncate(fd, (4 << 20) + 1), 0);
    close(fd);
    osm_source_refresh(f->source);
    assert_true(has_a(f));
    expect_error(f, 0, "a.yaml", 0, 0, "is larger than 4194304 bytes", true);
}

static void test_a_name_that_cannot_be_resolved_keeps_its_objects(void **state)
{
    struct fixture *f = *state;
    write_file(f, "a.yaml", service_a);
    started(f);
    remove_file(f, "a.yaml");
    link_to(f, "a.yaml", "a.yaml"); /* a link to itself */
    osm_source_refresh(f->source);
    assert_true(has_a(f));
    expect_error(f, 0, "a.yaml", 0, 0, "cannot be read", true);
}

/* Nothing is unreadable to root, so the source reads as somebody else. */
static void refresh_as_nobody(struct fixture *f)
{
    bool is_root = geteuid() == 0;
    if (is_root)
        assert_int_equal(seteuid(65534), 0);
    osm_source_refresh(f->source);
    if (is_root)
        assert_int_equal(seteuid(0), 0);
}

static void test_what_may_not_be_read_keeps_its_objects(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(chmod(f->dir, 0755), 0);
    make_dir(f, "sub");
    write_file(f, "sub/a.yaml", service_a);
    write_file(f, "b.yaml", service_b);
    start(f);
    refresh_as_nobody(f);
    assert_true(has_both(f));
    assert_int_equal(chmod(path_of(f, "sub"), 0), 0);
    assert_int_equal(chmod(path_of(f, "b.yaml"), 0), 0);
    refresh_as_nobody(f);
    assert_true(has_both(f));
    assert_int_equal(f->gones, 0);
    expect_state(f, "degraded", 2);
    expect_error(f, 0, "b.yaml", 0, 0, "Permission denied", true);
    expect_error(f, 1, "sub", 0, 0, "directory cannot be read", true);
    assert_int_equal(chmod(path_of(f, "sub"), 0755), 0);
    assert_int_equal(chmod(path_of(f, "b.yaml"), 0644), 0);
    refresh_as_nobody(f);
    expect_state(f, "ok", 0);
    assert_int_equal(f->gones, 0);
}

static void test_a_file_name_that_is_no_text_is_reported(void **state)
{
    struct fixture *f = *state;
    write_file(f, "\xff.yaml", service_a);
    started(f);
    assert_int_equal(f->objects.count, 0);
    expect_error(f, 0, "?.yaml", 0, 0, "cannot be read", false);
}

static void test_start_needs_a_directory(void **state)
{
    struct fixture *f = *state;
    struct osm_err err = {0};
    struct osm_source_sink sink = {f, on_put, on_gone, on_synced};
    write_file(f, "file", "");
    assert_int_equal(osm_source_dir_start(&f->source, f->loop, path_of(f, "file"), &sink, &err),
                     OSM_EINVAL);
    assert_int_equal(osm_source_dir_start(&f->source, f->loop, path_of(f, "none"), &sink, &err),
                     OSM_ENOENT);
    assert_non_null(strstr(err.msg, "none"));
    assert_null(f->source);
}

/* --- the root --- */

static void move_root(struct fixture *f, bool away)
{
    char aside[80];
    (void)snprintf(aside, sizeof aside, "%s.aside", f->dir);
    assert_int_equal(away ? rename(f->dir, aside) : rename(aside, f->dir), 0);
}

static void test_a_missing_root_holds_everything(void **state)
{
    struct fixture *f = *state;
    write_file(f, "a.yaml", service_a);
    started(f);
    move_root(f, true);
    osm_source_refresh(f->source);
    assert_true(has_a(f));
    assert_int_equal(f->gones, 0);
    expect_state(f, "failed", 0);
    move_root(f, false);
    osm_source_refresh(f->source);
    expect_state(f, "ok", 0);
    assert_int_equal(f->puts, 1);
}

static void test_a_root_replaced_by_an_empty_one_holds_everything(void **state)
{
    struct fixture *f = *state;
    write_file(f, "a.yaml", service_a);
    started(f);
    move_root(f, true);
    assert_int_equal(mkdir(f->dir, 0755), 0);
    osm_source_refresh(f->source);
    assert_true(has_a(f));
    expect_state(f, "failed", 0);
    write_file(f, "b.yaml", service_b); /* it is a directory of manifests after all */
    osm_source_refresh(f->source);
    assert_true(has_only_b(f));
    expect_state(f, "ok", 0);
    remove_file(f, "b.yaml"); /* the same directory emptied is meant */
    osm_source_refresh(f->source);
    assert_int_equal(f->objects.count, 0);
    expect_state(f, "ok", 0);
    assert_int_equal(rmdir(f->dir), 0);
    move_root(f, false);
}

static bool is_failed(struct fixture *f)
{
    json_t *status = osm_source_status(f->source);
    bool failed = !strcmp(json_string_value(json_object_get(status, "state")), "failed");
    json_decref(status);
    return failed;
}

static bool has_recovered(struct fixture *f)
{
    return !is_failed(f) && has_both(f);
}

static void test_a_root_that_comes_back_is_noticed(void **state)
{
    struct fixture *f = *state;
    write_file(f, "a.yaml", service_a);
    start(f);
    run_until(f, has_a);
    move_root(f, true);
    run_until(f, is_failed);
    assert_true(has_a(f));
    move_root(f, false);
    write_file(f, "b.yaml", service_b);
    run_until(f, has_recovered);
    assert_int_equal(f->gones, 0);
}

/* --- noticing --- */

static void test_an_editor_that_writes_aside_and_renames(void **state)
{
    struct fixture *f = *state;
    write_file(f, "a.yaml", service_a);
    start(f);
    run_until(f, has_a);
    char text[300];
    (void)snprintf(text, sizeof text, "%s---\n%s", service_a, service_b);
    write_file(f, "a.yaml.tmp", text);
    rename_file(f, "a.yaml.tmp", "a.yaml");
    run_until(f, has_both);
    /* and one that moves the old file away first */
    rename_file(f, "a.yaml", "a.yaml~");
    write_file(f, "a.yaml", service_b);
    run_until(f, has_only_b);
    assert_int_equal(f->gones, 1);
}

static bool has_b(struct fixture *f)
{
    return get(f, "/Service/default/b") != NULL;
}

static bool has_c(struct fixture *f)
{
    return get(f, "/Service/default/c") != NULL;
}

static void test_a_writer_is_waited_for(void **state)
{
    struct fixture *f = *state;
    char text[300];
    (void)snprintf(text, sizeof text, "%s---\n%s", service_a, service_b);
    write_file(f, "ab.yaml", text);
    start(f);
    run_until(f, has_both);
    /* It stands half-written, and well formed at that, while something else wakes the source. */
    int fd = open(path_of(f, "ab.yaml"), O_WRONLY | O_TRUNC);
    assert_true(write(fd, service_b, strlen(service_b)) > 0);
    write_file(f, "c.yaml", "{apiVersion: v1, kind: Service, metadata: {name: c}}");
    run_until(f, has_c);
    assert_true(has_both(f));
    assert_true(write(fd, "---\n", 4) == 4);
    assert_true(write(fd, service_a, strlen(service_a)) > 0);
    close(fd);
    osm_source_refresh(f->source);
    assert_true(has_both(f));
    assert_int_equal(f->gones, 0);
}

static void test_a_file_made_empty_is_given_time(void **state)
{
    struct fixture *f = *state;
    write_file(f, "a.yaml", service_a);
    start(f);
    run_until(f, has_a);
    write_file(f, "a.yaml", "");
    write_file(f, "b.yaml", service_b);
    run_until(f, has_b);
    assert_true(has_a(f));
    run_until(f, has_only_b); /* but it was meant */
}

static void test_directories_come_and_go(void **state)
{
    struct fixture *f = *state;
    write_file(f, "b.yaml", service_b);
    start(f);
    make_dir(f, "x");
    make_dir(f, "x/y");
    write_file(f, "x/y/a.yaml", service_a);
    run_until(f, has_both);
    remove_tree(path_of(f, "x"));
    run_until(f, has_only_b);
    make_dir(f, "x");
    run_until(f, has_only_b);
    make_dir(f, "x/z");
    write_file(f, "x/z/a.yaml", service_a);
    run_until(f, has_both);
}

static void test_a_config_map_swap(void **state)
{
    struct fixture *f = *state;
    make_dir(f, "..1");
    write_file(f, "..1/m.yaml", service_a);
    link_to(f, "..1", "..data");
    link_to(f, "..data/m.yaml", "m.yaml");
    start(f);
    run_until(f, has_a);
    expect_origin(f, "/Service/default/a", "m.yaml:1");
    make_dir(f, "..2");
    write_file(f, "..2/m.yaml", service_b);
    link_to(f, "..2", "..data_tmp");
    rename_file(f, "..data_tmp", "..data");
    run_until(f, has_only_b);
    assert_int_equal(f->gones, 1);
}

static void test_the_target_of_a_link_is_watched(void **state)
{
    struct fixture *f = *state;
    char outside[] = "/tmp/osm-source-target-XXXXXX";
    int fd = mkstemp(outside);
    assert_int_equal(write(fd, service_a, strlen(service_a)), (ssize_t)strlen(service_a));
    link_to(f, outside, "m.yaml");
    start(f);
    run_until(f, has_a);
    assert_int_equal(ftruncate(fd, 0), 0);
    assert_int_equal(pwrite(fd, service_b, strlen(service_b), 0), (ssize_t)strlen(service_b));
    close(fd);
    run_until(f, has_only_b);
    (void)remove(outside);
}

/* A write through a mapping tells inotify nothing. */
static void test_a_change_without_an_event_is_polled(void **state)
{
    struct fixture *f = *state;
    write_file(f, "a.yaml", service_a);
    start(f);
    run_until(f, has_a);
    int fd = open(path_of(f, "a.yaml"), O_RDWR);
    size_t len = strlen(service_a);
    char *map = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_ptr_not_equal(map, MAP_FAILED);
    memcpy(map, service_b, len);
    assert_int_equal(msync(map, len, MS_SYNC), 0);
    munmap(map, len);
    run_until(f, has_only_b);
    close(fd);
}

static void test_refresh_sees_what_was_just_written(void **state)
{
    struct fixture *f = *state;
    started(f);
    for (int i = 0; i < 50; i++) { /* same size, and often the same time stamp */
        write_file(f, "m.yaml", i % 2 ? service_a : service_b);
        osm_source_refresh(f->source);
        assert_true(i % 2 ? has_a(f) && f->objects.count == 1 : has_only_b(f));
    }
}

static void test_unchanged_files_are_told_once(void **state)
{
    struct fixture *f = *state;
    write_file(f, "a.yaml", service_a);
    write_file(f, "b.yaml", service_b);
    started(f);
    osm_source_refresh(f->source);
    osm_source_refresh(f->source);
    write_file(f, "a.yaml", service_a); /* written again, the same bytes */
    osm_source_refresh(f->source);
    assert_int_equal(f->puts, 2);
    json_t *status = osm_source_status(f->source);
    assert_int_equal(json_integer_value(json_object_get(status, "generation")), 1);
    json_decref(status);
}

/* Memory runs out at every point of a scan: everything is held, and the next scan makes up for it.
 */
static void test_no_memory_holds_and_recovers(void **state)
{
    struct fixture *f = *state;
    write_file(f, "a.yaml", service_a);
    started(f);
    write_file(f, "b.yaml", service_b);
    int failed = 0;
    for (long n = 0; n < 400; n += 3) {
        osm_mem_fail_at(n);
        osm_source_refresh(f->source);
        osm_mem_fail_at(-1);
        failed += is_failed(f);
        assert_true(has_a(f));
    }
    assert_true(failed > 3);
    osm_source_refresh(f->source);
    assert_true(has_both(f));
    expect_state(f, "ok", 0);
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
        cmocka_unit_test_setup_teardown(test_reads_documents_json_and_directories, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_lists_are_taken_apart, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_links_are_followed_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_fifo_does_not_block, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_broken_file_keeps_its_last_good_objects, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_file_that_is_broken_at_the_start_gives_nothing,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_file_is_one_unit, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_one_object_twice_in_a_file_is_an_error, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_of_one_object_in_two_files_the_first_file_wins, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_file_that_is_too_large_is_refused, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_name_that_cannot_be_resolved_keeps_its_objects,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_may_not_be_read_keeps_its_objects, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_file_name_that_is_no_text_is_reported, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_start_needs_a_directory, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_missing_root_holds_everything, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_root_replaced_by_an_empty_one_holds_everything,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_root_that_comes_back_is_noticed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_an_editor_that_writes_aside_and_renames, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_writer_is_waited_for, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_file_made_empty_is_given_time, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_directories_come_and_go, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_config_map_swap, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_the_target_of_a_link_is_watched, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_change_without_an_event_is_polled, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_refresh_sees_what_was_just_written, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_unchanged_files_are_told_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_no_memory_holds_and_recovers, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, count_json, nothing_is_left);
}
