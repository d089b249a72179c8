/* Policies are replaced while the daemon runs, by the whole machine of reload: a loop, a store,
 * directories, engines on their threads. Whatever memory is refused to it, what serves goes on
 * serving, whoever asked is answered, and the next reload takes over. */
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
    EVERY_ONE = 300,        /* allocations that fail one by one, then one of: */
    STRIDE = 101,
    PATH_BYTES = 128,
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
    struct osm_loop *loop;
    struct osm_store *store;
    struct osm_reload *reload;
    struct osm_timer *look;
    bool (*until)(struct rig *rig);
    uint64_t deadline_ms;
    bool late;
    struct osm_snapshot *served; /* NULL: nothing yet */
    size_t published, answers;
    json_int_t known;            /* the newest generation, before something is done */
    char state[32], reason[256]; /* of the last answer; "" where it could not be put into words */
    char root[32], dir[PATH_BYTES], state_dir[PATH_BYTES];
    const char *dirs[2];
};

/* --- the daemon's part --- */

static void on_publish(void *ud, struct osm_snapshot *snapshot)
{
    struct rig *rig = ud;
    osm_snapshot_unref(rig->served);
    rig->served = osm_snapshot_ref(snapshot);
    rig->published++;
}

static void on_changed(void *ud)
{
    (void)ud;
}

static const char *on_roots(void *ud)
{
    (void)ud;
    return "roots";
}

static const char *on_version(void *ud, const char *proxy, size_t *like_it)
{
    (void)ud;
    (void)proxy;
    if (like_it)
        *like_it = 1;
    return "";
}

static bool on_connected(void *ud, const char *uuid)
{
    (void)ud;
    (void)uuid;
    return false;
}

static void on_answer(void *ud, const json_t *outcome)
{
    struct rig *rig = ud;
    const char *state = json_string_value(json_object_get(outcome, "state"));
    const char *reason = json_string_value(json_object_get(outcome, "reason"));
    rig->answers++;
    (void)snprintf(rig->state, sizeof rig->state, "%s", state ? state : "");
    (void)snprintf(rig->reason, sizeof rig->reason, "%s", reason ? reason : "");
}

static void on_answer_to_somebody_else(void *ud, const json_t *outcome)
{
    (void)ud;
    (void)outcome;
}

/* --- turning the loop --- */

static void on_look(void *ud)
{
    struct rig *rig = ud;
    rig->late = osm_now_ms() > rig->deadline_ms;
    if (rig->late || rig->until(rig))
        osm_loop_stop(rig->loop);
}

/* False: not within the ceiling. */
static bool turn(struct rig *rig, bool (*until)(struct rig *rig))
{
    rig->until = until;
    rig->deadline_ms = osm_now_ms() + CEILING_MS;
    osm_timer_start(rig->look, LOOK_MS, LOOK_MS);
    (void)osm_loop_run(rig->loop); /* handles are open: it goes on later */
    return !rig->late;
}

static bool is_settled(struct rig *rig)
{
    return osm_reload_settled(rig->reload);
}

static bool is_answered(struct rig *rig)
{
    return rig->answers > 0;
}

/* --- a life --- */

static void save_text(const struct rig *rig, const char *name, const char *text, size_t len)
{
    char path[PATH_BYTES + 16];
    (void)snprintf(path, sizeof path, "%s/%s", rig->dir, name);
    assert_int_equal(osm_file_write(AT_FDCWD, path, text, len, 0600), 0);
}

static void save(const struct rig *rig, int seconds)
{
    char text[sizeof bundle + 16];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    (void)snprintf(text, sizeof text, bundle, seconds);
#pragma GCC diagnostic pop
    save_text(rig, "m.lua", text, strlen(text));
}

static void put_objects(struct rig *rig)
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

static void start(struct rig *rig)
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
    const struct osm_reload_callbacks callbacks = {rig,      on_publish,   on_changed,
                                                   on_roots, on_connected, on_version};
    if (osm_reload_start(&rig->reload, &config, &callbacks, &err))
        fail_msg("%s", err.msg);
    osm_reload_synced(rig->reload);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static int set_up(void **state)
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

static int tear_down(void **state)
{
    struct rig *rig = *state;
    osm_reload_stop(rig->reload);
    osm_timer_free(rig->look);
    osm_loop_free(rig->loop);
    osm_snapshot_unref(rig->served);
    osm_store_free(rig->store);
    assert_int_equal(nftw(rig->root, remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
    osm_free(rig);
    osm_metrics_clear();
    return osm_mem_live() ? -1 : 0;
}

/* --- what is served --- */

static bool holds(const struct osm_bytes *body, const unsigned char *piece, size_t len)
{
    const unsigned char *data = (const unsigned char *)osm_bytes_data(body);
    for (size_t i = 0; i + len <= osm_bytes_len(body); i++)
        if (!memcmp(data + i, piece, len))
            return true;
    return false;
}

/* The only proxy's only cluster has this connect_timeout (field 4: a Duration with field 1, the
 * seconds, below 128). */
static bool serves(const struct rig *rig, int seconds)
{
    const unsigned char piece[] = {0x22, 0x02, 0x08, (unsigned char)seconds};
    assert_non_null(rig->served);
    assert_int_equal(rig->served->proxies_len, 1);
    const struct osm_snapshot_proxy *proxy = &rig->served->proxies[0];
    assert_int_equal(proxy->cls->types[OSM_XDS_CDS].len, 1);
    return holds(proxy->cls->types[OSM_XDS_CDS].list[0]->body, piece, sizeof piece);
}

/* Asks for what has been saved; the outcome is in rig->state. False: no answer comes. */
static bool ask(struct rig *rig)
{
    rig->answers = 0;
    osm_reload_now(rig->reload, false, on_answer, rig);
    return turn(rig, is_answered);
}

static bool reload(struct rig *rig, int seconds, long fail_at)
{
    save(rig, seconds);
    osm_mem_fail_at(fail_at);
    return ask(rig);
}

static void test_what_is_asked_for_takes_over(void **state)
{
    struct rig *rig = *state;
    start(rig);
    assert_true(turn(rig, is_settled));
    assert_true(serves(rig, 1));
    assert_true(reload(rig, 2, -1));
    assert_string_equal(rig->state, "active");
    assert_true(serves(rig, 2));
    assert_int_equal(rig->answers, 1);
}

/* An editor or a copy that has got so far when somebody looks: nothing of it takes over, and what
 * is served is not even published again. */
static void test_a_bundle_that_is_cut_off_never_takes_over(void **state)
{
    struct rig *rig = *state;
    char text[sizeof bundle + 16], path[PATH_BYTES + 8];
    start(rig);
    assert_true(turn(rig, is_settled));
    save(rig, 2);
    (void)snprintf(path, sizeof path, "%s/m.lua", rig->dir);
    FILE *file = fopen(path, "re");
    assert_non_null(file);
    size_t len = fread(text, 1, sizeof text, file);
    assert_int_equal(fclose(file), 0);
    size_t published = rig->published;
    for (size_t cut = 0; cut + strlen("return M\n") <= len; cut += 13) {
        save_text(rig, "m.lua", text, cut);
        assert_true(ask(rig));
        assert_string_equal(rig->state, "rejected");
        assert_true(serves(rig, 1));
    }
    assert_int_equal(rig->published, published);
    save_text(rig, "m.lua", text, len);
    assert_true(ask(rig));
    assert_string_equal(rig->state, "active");
    assert_true(serves(rig, 2));
}

/* The same with files instead of bytes. */
static void test_a_bundle_that_lacks_a_file_never_takes_over(void **state)
{
    static const char whole[] = "local names = require('names')\n"
                                "local M = { api = 1, rules = {} }\n"
                                "function M.rules.name() return names.text end\n"
                                "return M\n";
    static const char names[] = "return { text = 'x' }\n";
    struct rig *rig = *state;
    start(rig);
    assert_true(turn(rig, is_settled));
    save(rig, 2);
    save_text(rig, "more.lua", whole, sizeof whole - 1);
    assert_true(ask(rig));
    assert_string_equal(rig->state, "rejected");
    assert_non_null(strstr(rig->reason, "names"));
    assert_true(serves(rig, 1));
    save_text(rig, "names.lua", names, sizeof names - 1);
    assert_true(ask(rig));
    if (strcmp(rig->state, "active") != 0)
        fail_msg("%s: %s", rig->state, rig->reason);
    assert_true(serves(rig, 2));
}

static json_int_t newest(const struct rig *rig)
{
    json_t *status = osm_reload_status(rig->reload);
    const json_t *first = json_array_get(json_object_get(status, "generations"), 0);
    json_int_t id = json_integer_value(json_object_get(first, "generation"));
    json_decref(status);
    return id;
}

static bool is_another_staged(struct rig *rig)
{
    return newest(rig) > rig->known;
}

/* A bundle that is on its way when somebody saves another and asks: its outcome is no answer. It
 * was one once: "in force", while what had been saved was not. */
static void test_an_answer_is_about_what_was_saved_before_the_question(void **state)
{
    struct rig *rig = *state;
    start(rig);
    assert_true(turn(rig, is_settled));
    for (int seconds = 2; seconds < 42; seconds += 2) {
        rig->known = newest(rig);
        save(rig, seconds);
        osm_reload_now(rig->reload, false, on_answer_to_somebody_else, NULL);
        assert_true(turn(rig, is_another_staged));
        assert_true(reload(rig, seconds + 1, -1));
        assert_string_equal(rig->state, "active");
        assert_true(serves(rig, seconds + 1));
    }
}

/* One reload with the n-th allocation refused, then one with all. False: it was over before. */
static bool torture(struct rig *rig, long n)
{
    int before = 2 + (int)(n % 50) * 2, next = before + 1;
    if (!reload(rig, before, -1) || strcmp(rig->state, "active") != 0)
        fail_msg("before allocation %ld: %s: %s", n, rig->state, rig->reason);
    assert_true(serves(rig, before));
    if (!reload(rig, next, n))
        fail_msg("allocation %ld: nobody answers", n);
    bool was_over = osm_mem_fail_waits();
    osm_mem_fail_at(-1);
    assert_int_equal(rig->answers, 1);
    if (!strcmp(rig->state, "active")) {
        assert_true(serves(rig, next));
    } else if (strcmp(rig->state, "rejected") != 0 && rig->state[0]) {
        fail_msg("allocation %ld: %s: %s", n, rig->state, rig->reason);
    } else if (rig->state[0]) {
        assert_true(serves(rig, before));
        if (!strstr(rig->reason, "memory"))
            fail_msg("allocation %ld: rejected for another reason: %s", n, rig->reason);
    }
    return !was_over;
}

static void test_any_allocation_of_a_reload_may_fail(void **state)
{
    struct rig *rig = *state;
    long n = 0;
    start(rig);
    assert_true(turn(rig, is_settled));
    while (torture(rig, n))
        n += n < EVERY_ONE ? 1 : STRIDE;
    assert_true(n > 1000); /* a reload is more than that */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_what_is_asked_for_takes_over, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_bundle_that_is_cut_off_never_takes_over, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_bundle_that_lacks_a_file_never_takes_over, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_an_answer_is_about_what_was_saved_before_the_question,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_any_allocation_of_a_reload_may_fail, set_up,
                                        tear_down),
    };
    json_set_alloc_funcs(osm_alloc, osm_free);
    osm_log_set_level(OSM_LOG_TOPIC_COUNT, OSM_LOG_FATAL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
