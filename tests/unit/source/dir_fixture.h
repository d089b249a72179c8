/* A directory under /tmp, a source over it and a sink that records what it is told. */
#pragma once

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

static inline void on_put(void *ud, struct osm_object *object)
{
    struct fixture *f = ud;
    void *old = NULL;
    f->puts++;
    assert_int_equal(osm_map_put(&f->objects, object->key, object, &old), 0);
    osm_object_unref(old);
}

static inline void on_gone(void *ud, const char *key)
{
    struct fixture *f = ud;
    f->gones++;
    assert_true(osm_map_has(&f->objects, key));
    osm_object_unref(osm_map_del(&f->objects, key));
}

static inline void on_synced(void *ud)
{
    ((struct fixture *)ud)->synced++;
}

static inline void start(struct fixture *f)
{
    struct osm_err err = {0};
    struct osm_source_sink sink = {f, on_put, on_gone, on_synced};
    if (osm_source_dir_start(&f->source, f->loop, f->dir, &sink, &err))
        fail_msg("%s", err.msg);
}

static inline void on_tick(void *ud)
{
    struct fixture *f = ud;
    f->late = osm_now_ms() > f->deadline_ms;
    if (f->late || f->done(f))
        osm_loop_stop(f->loop);
}

/* Runs the loop until the condition holds. */
static inline void run_until(struct fixture *f, bool (*done)(struct fixture *f))
{
    f->done = done;
    f->deadline_ms = osm_now_ms() + 20000;
    osm_timer_start(f->tick, 0, 5);
    (void)osm_loop_run(f->loop);
    osm_timer_stop(f->tick);
    assert_false(f->late);
}

static inline int set_up(void **state)
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

static inline int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static inline void remove_tree(const char *path)
{
    (void)nftw(path, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

static inline int tear_down(void **state)
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
static inline void write_file(struct fixture *f, const char *name, const char *text)
{
    char path[256];
    (void)snprintf(path, sizeof path, "%s/%s", f->dir, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

static inline void remove_file(struct fixture *f, const char *name)
{
    char path[256];
    (void)snprintf(path, sizeof path, "%s/%s", f->dir, name);
    assert_int_equal(remove(path), 0);
}

__attribute__((unused)) static const char *const service_a =
    "{apiVersion: v1, kind: Service, metadata: {name: a}}\n";
__attribute__((unused)) static const char *const service_b =
    "{apiVersion: v1, kind: Service, metadata: {name: b}}\n";

static inline const struct osm_object *get(struct fixture *f, const char *key)
{
    return osm_map_get(&f->objects, key);
}

static inline bool has_both(struct fixture *f)
{
    return get(f, "/Service/default/a") && get(f, "/Service/default/b");
}

static inline bool has_only_b(struct fixture *f)
{
    return !get(f, "/Service/default/a") && get(f, "/Service/default/b");
}

static inline bool has_a(struct fixture *f)
{
    return get(f, "/Service/default/a") != NULL;
}

static inline const char *path_of(struct fixture *f, const char *name)
{
    static char paths[4][256];
    static unsigned next;
    char *path = paths[next++ % 4];
    (void)snprintf(path, sizeof paths[0], "%s/%s", f->dir, name);
    return path;
}

static inline void make_dir(struct fixture *f, const char *name)
{
    assert_int_equal(mkdir(path_of(f, name), 0755), 0);
}

static inline void link_to(struct fixture *f, const char *target, const char *name)
{
    assert_int_equal(symlink(target, path_of(f, name)), 0);
}

static inline void rename_file(struct fixture *f, const char *from, const char *to)
{
    assert_int_equal(rename(path_of(f, from), path_of(f, to)), 0);
}

static inline void started(struct fixture *f)
{
    start(f);
    osm_source_refresh(f->source, NULL, NULL);
}

static inline void expect_origin(struct fixture *f, const char *key, const char *origin)
{
    assert_non_null(get(f, key));
    assert_string_equal(get(f, key)->origin, origin);
}

static inline void expect_state(struct fixture *f, const char *state, size_t errors)
{
    json_t *status = osm_source_status(f->source);
    assert_non_null(status);
    assert_string_equal(json_string_value(json_object_get(status, "state")), state);
    assert_int_equal(json_array_size(json_object_get(status, "errors")), errors);
    json_decref(status);
}

static inline void expect_error(struct fixture *f, size_t i, const char *file, int line, int column,
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

static inline int nothing_is_left(void **state)
{
    (void)state;
    assert_int_equal(osm_mem_live(), 0);
    return 0;
}

static inline int count_json(void **state)
{
    (void)state;
    json_object_seed(1);
    json_set_alloc_funcs(osm_alloc, osm_free);
    osm_log_set_level(OSM_LOG_TOPIC_COUNT, OSM_LOG_OFF);
    return 0;
}
