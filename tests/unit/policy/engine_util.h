/* An engine fed through a store, as in the daemon, with bundles from a folder or written by the
 * test. */
#pragma once

#include "base/buf.h"
#include "base/yaml.h"
#include "model/store.h"
#include "policy/encode/proto.h"
#include "policy/engine.h"

#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

struct bench {
    struct osm_store *store;
    struct osm_store_reader *reader;
    struct osm_engine *engine;
    struct osm_snapshot *snapshot; /* the newest */
    bool fresh;                    /* the last run made it */
    char dir[64];                  /* written by the test; "" none */
};

/* Time stands still unless a test says otherwise, so that no outcome depends on the machine. */
static uint64_t bench_time_ms;
static uint64_t bench_time_step_ms; /* each look at the clock moves it on */

static inline uint64_t bench_now_ms(void)
{
    return bench_time_ms += bench_time_step_ms;
}

/* Good until the next call. */
static inline struct osm_engine_config bench_config(const char *dir)
{
    static const char *dirs[2];
    dirs[0] = dir;
    return (struct osm_engine_config){.policies_dirs = dirs,
                                      .mesh_name = "osm",
                                      .osm_namespace = "osm-system",
                                      .trust_domain = "cluster.local",
                                      .roots_pem = "roots",
                                      .now_ms = bench_now_ms};
}

static inline struct bench *bench_new(void)
{
    struct bench *b = osm_alloc(sizeof *b);
    assert_non_null(b);
    b->store = osm_store_new();
    b->reader = b->store ? osm_store_reader_new(b->store) : NULL;
    assert_non_null(b->store);
    assert_non_null(b->reader);
    return b;
}

static inline int bench_remove(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static inline void bench_free(struct bench *b)
{
    osm_snapshot_unref(b->snapshot);
    osm_engine_free(b->engine);
    osm_store_reader_free(b->reader);
    osm_store_free(b->store);
    if (b->dir[0])
        assert_int_equal(nftw(b->dir, bench_remove, 8, FTW_DEPTH | FTW_PHYS), 0);
    osm_free(b);
}

/* Writes files ("path", "text", ..., NULL) below a new folder. */
static inline void bench_write(struct bench *b, const char *path, ...)
{
    va_list ap;
    if (!b->dir[0]) {
        (void)snprintf(b->dir, sizeof b->dir, "/tmp/osm-bundle-XXXXXX");
        assert_non_null(mkdtemp(b->dir));
    }
    va_start(ap, path);
    for (; path; path = va_arg(ap, const char *)) {
        char full[512];
        (void)snprintf(full, sizeof full, "%s/%s", b->dir, path);
        for (char *p = full + strlen(b->dir) + 1; (p = strchr(p, '/')); p++) {
            *p = '\0';
            (void)mkdir(full, 0700);
            *p = '/';
        }
        FILE *file = fopen(full, "w");
        assert_non_null(file);
        const char *text = va_arg(ap, const char *);
        assert_int_equal(fwrite(text, 1, strlen(text), file), strlen(text));
        assert_int_equal(fclose(file), 0);
    }
    va_end(ap);
}

static inline int bench_load(struct bench *b, const char *dir, struct osm_err *err)
{
    struct osm_engine_config config = bench_config(dir ? dir : b->dir);
    return osm_engine_new(&b->engine, &config, err);
}

/* A bundle in one file. */
static inline void bench_load_text(struct bench *b, const char *text)
{
    struct osm_err err = {0};
    bench_write(b, "m.lua", text, NULL);
    if (bench_load(b, NULL, &err))
        fail_msg("%s", err.msg);
}

/* The load must fail with exactly this text. */
static inline void bench_refuse(struct bench *b, const char *expected)
{
    struct osm_err err = {0};
    assert_int_not_equal(bench_load(b, NULL, &err), 0);
    assert_string_equal(err.msg, expected);
}

static inline void bench_put(struct bench *b, const char *yaml)
{
    struct osm_yaml_docs docs = {0};
    struct osm_err err = {0};
    if (osm_yaml_parse(yaml, strlen(yaml), &docs, NULL, &err))
        fail_msg("%s", err.msg);
    for (size_t i = 0; i < docs.len; i++) {
        struct osm_object *object = NULL;
        if (osm_object_new(&object, json_incref(docs.list[i].value), "test", &err))
            fail_msg("%s", err.msg);
        assert_int_equal(osm_store_put(b->store, object), 0);
    }
    osm_yaml_docs_clear(&docs);
}

static inline int bench_try_run(struct bench *b, struct osm_err *err)
{
    struct osm_snapshot *made = NULL;
    struct osm_changes none = {NULL, 0}, *changes = osm_store_reader_take(b->reader);
    int rc = osm_engine_run(b->engine, changes ? changes : &none, &made, err);
    osm_changes_free(changes);
    b->fresh = made != NULL;
    if (!made)
        return rc;
    osm_snapshot_unref(b->snapshot);
    b->snapshot = made;
    return rc;
}

static inline void bench_run(struct bench *b)
{
    struct osm_err err = {0};
    if (bench_try_run(b, &err))
        fail_msg("%s", err.msg);
}

static inline void bench_apply(struct bench *b, const char *yaml)
{
    bench_put(b, yaml);
    bench_run(b);
}

static inline void bench_delete(struct bench *b, const char *key)
{
    assert_int_equal(osm_store_delete(b->store, key), 0);
    bench_run(b);
}

/* Asks; the answer as compact JSON in a static buffer, an error as its text. @p keys is JSON. */
static inline const char *bench_ask(struct bench *b, const char *name, const char *keys)
{
    static char text[16 * 1024];
    struct osm_err err = {0};
    json_t *answer = NULL, *parsed = json_loads(keys, 0, NULL);
    assert_non_null(parsed);
    int rc = osm_engine_ask(b->engine, name, parsed, &answer, &err);
    json_decref(parsed);
    if (rc) {
        (void)snprintf(text, sizeof text, "%s", err.msg);
        return text;
    }
    char *dumped = json_dumps(answer, JSON_COMPACT | JSON_ENCODE_ANY | JSON_SORT_KEYS);
    assert_non_null(dumped);
    (void)snprintf(text, sizeof text, "%s", dumped);
    free(dumped);
    json_decref(answer);
    return text;
}

static inline json_int_t bench_figure(struct bench *b, const char *name)
{
    return json_integer_value(json_object_get(b->snapshot->policy, name));
}

/* Entry @p i of the errors or rejects, member @p field; "" where absent. */
static inline const char *bench_entry(const json_t *list, size_t i, const char *field)
{
    const char *text = json_string_value(json_object_get(json_array_get(list, i), field));
    return text ? text : "";
}

/* A resource of the proxy, decoded, compact; NULL where it is not served. Static buffer. */
static inline const char *bench_resource(struct bench *b, const char *uuid, enum osm_xds_type type,
                                         const char *name)
{
    static char text[64 * 1024];
    struct osm_err err = {0};
    json_t *decoded = NULL;
    const struct osm_snapshot_proxy *proxy = NULL;
    for (size_t i = 0; b->snapshot && i < b->snapshot->proxies_len; i++)
        if (!strncmp(b->snapshot->proxies[i].key, uuid, strlen(uuid)))
            proxy = &b->snapshot->proxies[i];
    struct osm_resource *r = proxy ? osm_class_find(proxy->cls, type, name) : NULL;
    if (!r)
        return NULL;
    if (osm_proto_decode(osm_proto_find(osm_xds_type_message(type)), osm_bytes_data(r->body),
                         osm_bytes_len(r->body), &decoded, &err))
        fail_msg("%s", err.msg);
    char *dumped = json_dumps(decoded, JSON_COMPACT | JSON_SORT_KEYS);
    assert_non_null(dumped);
    (void)snprintf(text, sizeof text, "%s", dumped);
    free(dumped);
    json_decref(decoded);
    return text;
}

static inline int bench_set_up(void **state)
{
    *state = bench_new();
    return 0;
}

static inline int bench_tear_down(void **state)
{
    bench_free(*state);
    return 0;
}

static inline int bench_no_leak(void **state)
{
    (void)state;
    return osm_mem_live() ? -1 : 0;
}

#define BENCH_TEST(f) cmocka_unit_test_setup_teardown(f, bench_set_up, bench_tear_down)

/* A monitored namespace. */
#define NAMESPACE(name)                                                                            \
    "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: " name                                 \
    ", labels: {openservicemesh.io/monitored-by: osm}}\n"
