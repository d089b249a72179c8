/* The whole machine of reload for unit tests: a loop, a store, directories, engines on their
 * threads. One monitored namespace "a" with one proxy, and one object "Cfg a/c" of a kind of the
 * bundle's. */
#pragma once

#include "reload/reload.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/yaml.h"

#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

enum {
    LOOK_MS = 1,
    CEILING_MS = 60 * 1000, /* far above what anything here takes */
    PATH_BYTES = 128,
    BUNDLE_BYTES = 4096,
};

static const char objects[] =
    "apiVersion: v1\nkind: Namespace\n"
    "metadata: {name: a, labels: {openservicemesh.io/monitored-by: osm}}\n"
    "---\napiVersion: v1\nkind: Pod\n"
    "metadata: {name: p, namespace: a, labels: {osm-proxy-uuid: "
    "11111111-1111-4111-8111-111111111111}}\n"
    "spec: {serviceAccountName: x}\n"
    "---\napiVersion: test.mesh/v1\nkind: Cfg\nmetadata: {name: c, namespace: a}\nspec: {v: one}\n";

static const char bundle[] =
    "local M = { api = 1, rules = {}, emit = {}, kinds = { Cfg = { group = 'test.mesh',\n"
    "  versions = { 'v1' } } } }\n"
    "function M.rules.seconds(mesh, ns, name) return '%d' .. (mesh.Cfg(ns, name) and 's' or 'm') "
    "end\n"
    "M.emit.e = { each = 'Cfg', run = function(mesh, out, ns, name)\n"
    "  out.cluster { name = name, audience = 'everyone', message = { connect_timeout =\n"
    "    mesh.seconds(ns, name), type = 'STATIC' } } end }\n"
    "return M\n";

struct rig {
    const char *bundle; /* its %d is the seconds */
    struct osm_loop *loop;
    struct osm_store *store;
    struct osm_reload *reload;
    struct osm_timer *look;
    bool (*until)(struct rig *rig);
    uint64_t deadline_ms;
    bool late;
    struct osm_snapshot *served;    /* NULL: nothing yet */
    struct osm_snapshot *at_answer; /* what was served when the last answer came */
    size_t published, answers;
    json_int_t known;            /* the newest generation, before something is done */
    char noted[1024];            /* states that were told, with commas behind */
    char state[32], reason[256]; /* of the last answer; "" where it could not be put into words */
    char root[32], dir[PATH_BYTES], state_dir[PATH_BYTES];
    const char *dirs[2];
};

/* --- the daemon's part --- */

static inline void on_publish(void *ud, struct osm_snapshot *snapshot)
{
    struct rig *rig = ud;
    osm_snapshot_unref(rig->served);
    rig->served = osm_snapshot_ref(snapshot);
    rig->published++;
}

static inline void on_changed(void *ud)
{
    (void)ud;
}

static inline const char *on_roots(void *ud)
{
    (void)ud;
    return "roots";
}

static inline const char *on_version(void *ud, const char *proxy, size_t *like_it)
{
    (void)ud;
    (void)proxy;
    if (like_it)
        *like_it = 1;
    return "";
}

static inline bool on_kinds(void *ud, const json_t *kinds)
{
    (void)ud;
    (void)kinds;
    return true;
}

static inline bool on_connected(void *ud, const char *uuid)
{
    (void)ud;
    (void)uuid;
    return false;
}

static inline void on_noted(void *ud, const char *digest, const char *state, const char *reason)
{
    struct rig *rig = ud;
    size_t n = strlen(rig->noted);
    (void)snprintf(rig->noted + n, sizeof rig->noted - n, "%s%s%s,", state, *digest ? "" : "?",
                   reason ? "!" : "");
}

static inline void on_answer(void *ud, const json_t *outcome)
{
    struct rig *rig = ud;
    const char *state = json_string_value(json_object_get(outcome, "state"));
    const char *reason = json_string_value(json_object_get(outcome, "reason"));
    rig->answers++;
    osm_snapshot_unref(rig->at_answer);
    rig->at_answer = rig->served ? osm_snapshot_ref(rig->served) : NULL;
    (void)snprintf(rig->state, sizeof rig->state, "%s", state ? state : "");
    (void)snprintf(rig->reason, sizeof rig->reason, "%s", reason ? reason : "");
}

static inline void on_answer_to_somebody_else(void *ud, const json_t *outcome)
{
    (void)ud;
    (void)outcome;
}

/* --- turning the loop --- */

static inline void on_look(void *ud)
{
    struct rig *rig = ud;
    rig->late = osm_now_ms() > rig->deadline_ms;
    if (rig->late || rig->until(rig))
        osm_loop_stop(rig->loop);
}

/* False: not within the ceiling. */
static inline bool turn(struct rig *rig, bool (*until)(struct rig *rig))
{
    rig->until = until;
    rig->deadline_ms = osm_now_ms() + CEILING_MS;
    osm_timer_start(rig->look, LOOK_MS, LOOK_MS);
    (void)osm_loop_run(rig->loop); /* handles are open: it goes on later */
    return !rig->late;
}

static inline bool is_settled(struct rig *rig)
{
    return osm_reload_settled(rig->reload);
}

static inline bool is_answered(struct rig *rig)
{
    return rig->answers > 0;
}

/* --- a life --- */

static inline void save_text(const struct rig *rig, const char *name, const char *text, size_t len)
{
    char path[PATH_BYTES + 16];
    (void)snprintf(path, sizeof path, "%s/%s", rig->dir, name);
    assert_int_equal(osm_file_write(AT_FDCWD, path, text, len, 0600), 0);
}

static inline void save(const struct rig *rig, int seconds)
{
    char text[BUNDLE_BYTES];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    (void)snprintf(text, sizeof text, rig->bundle, seconds);
#pragma GCC diagnostic pop
    save_text(rig, "m.lua", text, strlen(text));
}

static inline void put_objects(struct rig *rig)
{
    struct osm_yaml_docs docs = {0};
    struct osm_err err = {0};
    assert_int_equal(osm_yaml_parse(objects, strlen(objects), &docs, NULL, &err), 0);
    for (size_t i = 0; i < docs.len; i++) {
        struct osm_object *object = NULL;
        assert_int_equal(osm_object_new(&object, json_incref(docs.list[i].value), "t.yaml:1", &err),
                         0);
        assert_int_equal(osm_store_put(rig->store, object), 0);
    }
    osm_yaml_docs_clear(&docs);
}

static inline void start(struct rig *rig)
{
    struct osm_err err = {0};
    const struct osm_reload_config config = {
        .loop = rig->loop,
        .store = rig->store,
        .dirs = rig->dirs,
        .state_dir = rig->state_dir,
        .guard_percent = 30,
        .watch_ms = 1000,
        .engine = {.mesh_name = "osm",
                   .osm_namespace = "osm-system",
                   .trust_domain = "cluster.local"},
    };
    const struct osm_reload_callbacks callbacks = {rig,      on_publish,   on_changed, on_roots,
                                                   on_kinds, on_connected, on_version, on_noted};
    if (osm_reload_start(&rig->reload, &config, &callbacks, &err))
        fail_msg("%s", err.msg);
    osm_reload_synced(rig->reload);
}

static inline int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static inline int set_up(void **state)
{
    struct osm_err err = {0};
    struct rig *rig = osm_alloc(sizeof *rig);
    assert_non_null(rig);
    (void)snprintf(rig->root, sizeof rig->root, "/tmp/osm-reload-XXXXXX");
    assert_non_null(mkdtemp(rig->root));
    (void)snprintf(rig->dir, sizeof rig->dir, "%s/policies", rig->root);
    (void)snprintf(rig->state_dir, sizeof rig->state_dir, "%s/state", rig->root);
    assert_int_equal(mkdir(rig->dir, 0700), 0);
    assert_int_equal(mkdir(rig->state_dir, 0700), 0);
    rig->dirs[0] = rig->dir;
    rig->bundle = bundle;
    assert_int_equal(osm_loop_new(&rig->loop, &err), 0);
    rig->store = osm_store_new();
    rig->look = osm_timer_new(rig->loop, on_look, rig);
    assert_non_null(rig->store);
    assert_non_null(rig->look);
    put_objects(rig);
    save(rig, 1);
    *state = rig;
    return 0;
}

static inline int tear_down(void **state)
{
    struct rig *rig = *state;
    osm_reload_stop(rig->reload);
    osm_timer_free(rig->look);
    osm_loop_free(rig->loop);
    osm_snapshot_unref(rig->served);
    osm_snapshot_unref(rig->at_answer);
    osm_store_free(rig->store);
    assert_int_equal(nftw(rig->root, remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
    osm_free(rig);
    osm_metrics_clear();
    return osm_mem_live() ? -1 : 0;
}

/* --- what is served --- */

static inline bool holds(const struct osm_bytes *body, const unsigned char *piece, size_t len)
{
    const unsigned char *data = (const unsigned char *)osm_bytes_data(body);
    for (size_t i = 0; i + len <= osm_bytes_len(body); i++)
        if (!memcmp(data + i, piece, len))
            return true;
    return false;
}

/* The only proxy's only cluster has this connect_timeout (field 4: a Duration with field 1, the
 * seconds, below 128). */
static inline bool snapshot_says(const struct osm_snapshot *snapshot, int seconds)
{
    const unsigned char piece[] = {0x22, 0x02, 0x08, (unsigned char)seconds};
    assert_non_null(snapshot);
    assert_int_equal(snapshot->proxies_len, 1);
    const struct osm_snapshot_proxy *proxy = &snapshot->proxies[0];
    assert_int_equal(proxy->cls->types[OSM_XDS_CDS].len, 1);
    return holds(proxy->cls->types[OSM_XDS_CDS].list[0]->body, piece, sizeof piece);
}

static inline bool serves(const struct rig *rig, int seconds)
{
    return snapshot_says(rig->served, seconds);
}

/* Asks for what has been saved; the outcome is in rig->state. False: no answer comes. */
static inline bool ask(struct rig *rig)
{
    rig->answers = 0;
    osm_reload_now(rig->reload, false, on_answer, rig);
    return turn(rig, is_answered);
}

static inline bool reload(struct rig *rig, int seconds, long fail_at)
{
    save(rig, seconds);
    osm_mem_fail_at(fail_at);
    return ask(rig);
}

static inline json_int_t newest(const struct rig *rig)
{
    json_t *status = osm_reload_status(rig->reload);
    const json_t *first = json_array_get(json_object_get(status, "generations"), 0);
    json_int_t id = json_integer_value(json_object_get(first, "generation"));
    json_decref(status);
    return id;
}
