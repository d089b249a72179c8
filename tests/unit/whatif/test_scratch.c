/* Engines to throw away, by the whole machine: a loop, threads, a bundle. One at a time, in order;
 * each ends exactly once, whatever happens to it. */
#include "whatif/scratch.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#include <cmocka.h>

enum { LOOK_MS = 1, CEILING_MS = 60 * 1000, TASKS_MAX = 16, PATH_BYTES = 128 };

/* `one` is asked; `ever` never ends by itself. */
static const char good[] = "return { api = 1, rules = { one = function() return 1 end,\n"
                           "  ever = function() while true do end end } }\n";
static const char bad[] = "return {";
static const char slow[] = "while true do end\n";

struct rig;
struct asking {
    struct rig *rig;
    const char *dir;      /* NULL: begin fails */
    const char *question; /* a rule */
    bool unready, unwanted, waits, keeps, proven;
    size_t finds; /* so many before it used its engine */
    int ends, rc;
    size_t place; /* in the order of the ends, from 1 */
    json_int_t answer;
    atomic_bool works; /* work has begun */
    char msg[512];
};

struct rig {
    struct osm_loop *loop;
    struct osm_scratch *scratch;
    struct osm_timer *look;
    bool (*until)(struct rig *rig);
    uint64_t deadline_ms;
    bool late;
    char root[32];
    struct asking asked[TASKS_MAX];
    size_t len, ended;
};

/* --- what is asked --- */

static bool ready(void *ud)
{
    const struct asking *a = ud;
    return !a->unready;
}

static bool wanted(void *ud)
{
    const struct asking *a = ud;
    return !a->unwanted;
}

static int begin(void *ud, struct osm_policy_files **files, struct osm_err *err)
{
    const struct asking *a = ud;
    char dir[PATH_BYTES];
    const char *const dirs[] = {dir, NULL};
    if (!a->dir)
        return osm_fail(err, OSM_EBUSY, "nothing is served");
    (void)snprintf(dir, sizeof dir, "%s/%s", a->rig->root, a->dir);
    return osm_policy_files_read(files, dirs, err);
}

static bool proven(void *ud, const struct osm_policy_files *files)
{
    const struct asking *a = ud;
    assert_non_null(files);
    return a->proven;
}

static atomic_bool held; /* work goes on when it is not */

static int work(void *ud, struct osm_engine *engine, const atomic_bool *canceled, void **kept,
                struct osm_err *err)
{
    struct asking *a = ud;
    json_t *keys = json_array(), *answer = NULL;
    atomic_store(&a->works, true);
    while ((a->waits && !atomic_load(canceled)) || atomic_load(&held))
        (void)usleep(100);
    if (a->keeps) {
        size_t *used = *kept ? *kept : (*kept = osm_alloc(sizeof *used));
        a->finds = (*used)++;
    }
    int rc = osm_engine_ask(engine, a->question, keys, &answer, err);
    a->answer = json_integer_value(answer);
    json_decref(answer);
    json_decref(keys);
    return rc;
}

static int dropped;

static void drop(void *kept)
{
    dropped++;
    osm_free(kept);
}

static void end(void *ud, int rc, const struct osm_err *err)
{
    struct asking *a = ud;
    a->ends++;
    a->rc = rc;
    a->place = ++a->rig->ended;
    (void)snprintf(a->msg, sizeof a->msg, "%s", rc ? err->msg : "");
}

static struct asking *ask(struct rig *rig, const char *dir, const char *question)
{
    struct asking *a = &rig->asked[rig->len++];
    *a = (struct asking){.rig = rig, .dir = dir, .question = question};
    return a;
}

static int submit(struct asking *a)
{
    const struct osm_scratch_task task = {ready, begin,  proven, work, a->keeps ? drop : NULL,
                                          end,   wanted, a};
    struct osm_err err = {0};
    return osm_scratch_ask(a->rig->scratch, &task, &err);
}

static struct asking *ask_one(struct rig *rig)
{
    struct asking *a = ask(rig, "good", "one");
    assert_int_equal(submit(a), 0);
    return a;
}

static void expect(const struct asking *a, int rc, const char *says)
{
    assert_int_equal(a->ends, 1);
    if (a->rc != rc || !strstr(a->msg, says))
        fail_msg("%d: %s", a->rc, a->msg);
}

/* --- turning the loop --- */

static void on_look(void *ud)
{
    struct rig *rig = ud;
    rig->late = osm_now_ms() > rig->deadline_ms;
    if (rig->late || rig->until(rig))
        osm_loop_stop(rig->loop);
}

static void turn(struct rig *rig, bool (*until)(struct rig *rig))
{
    rig->until = until;
    rig->deadline_ms = osm_now_ms() + CEILING_MS;
    osm_timer_start(rig->look, LOOK_MS, LOOK_MS);
    (void)osm_loop_run(rig->loop); /* handles are open: it goes on later */
    assert_false(rig->late);
}

static bool all_ended(struct rig *rig)
{
    return rig->ended >= rig->len;
}

static bool one_ended(struct rig *rig)
{
    return rig->ended > 0;
}

static bool first_works(struct rig *rig)
{
    return atomic_load(&rig->asked[0].works);
}

static const char *roots_pem(void *ud)
{
    (void)ud;
    return "roots";
}

/* --- a life --- */

static void save(const struct rig *rig, const char *name, const char *text)
{
    char path[PATH_BYTES];
    (void)snprintf(path, sizeof path, "%s/%s", rig->root, name);
    assert_int_equal(mkdir(path, 0700), 0);
    (void)snprintf(path, sizeof path, "%s/%s/m.lua", rig->root, name);
    assert_int_equal(osm_file_write(AT_FDCWD, path, text, strlen(text), 0600), 0);
}

static void begin_with(struct rig *rig, uint64_t budget_ms, uint64_t keep_ms)
{
    const struct osm_scratch_config config = {
        .loop = rig->loop,
        .engine = {.mesh_name = "osm", .osm_namespace = "o", .trust_domain = "cluster.local"},
        .roots_pem = roots_pem,
        .budget_ms = budget_ms,
        .keep_ms = keep_ms,
    };
    osm_scratch_free(rig->scratch);
    rig->scratch = osm_scratch_new(&config);
    assert_non_null(rig->scratch);
}

static int set_up(void **state)
{
    struct osm_err err = {0};
    struct rig *rig = osm_alloc(sizeof *rig);
    assert_non_null(rig);
    (void)snprintf(rig->root, sizeof rig->root, "/tmp/osm-scratch-XXXXXX");
    assert_non_null(mkdtemp(rig->root));
    save(rig, "good", good);
    save(rig, "bad", bad);
    save(rig, "slow", slow);
    assert_int_equal(osm_loop_new(&rig->loop, &err), 0);
    rig->look = osm_timer_new(rig->loop, on_look, rig);
    assert_non_null(rig->look);
    begin_with(rig, 0, 0);
    *state = rig;
    return 0;
}

static void remove_bundle(const struct rig *rig, const char *name)
{
    char path[PATH_BYTES];
    (void)snprintf(path, sizeof path, "%s/%s/m.lua", rig->root, name);
    assert_int_equal(unlink(path), 0);
    (void)snprintf(path, sizeof path, "%s/%s", rig->root, name);
    assert_int_equal(rmdir(path), 0);
}

static int tear_down(void **state)
{
    struct rig *rig = *state;
    osm_scratch_free(rig->scratch);
    osm_timer_free(rig->look);
    (void)uv_run(osm_loop_uv(rig->loop), UV_RUN_NOWAIT); /* timers go with a turn */
    osm_loop_free(rig->loop);
    for (size_t i = 0; i < rig->len; i++)
        assert_int_equal(rig->asked[i].ends, 1);
    remove_bundle(rig, "good");
    remove_bundle(rig, "bad");
    remove_bundle(rig, "slow");
    assert_int_equal(rmdir(rig->root), 0);
    osm_free(rig);
    return osm_mem_live() ? -1 : 0;
}

static void test_one_after_the_other(void **state)
{
    struct rig *rig = *state;
    for (size_t i = 0; i < 5; i++)
        (void)ask_one(rig);
    turn(rig, all_ended);
    for (size_t i = 0; i < 5; i++) {
        expect(&rig->asked[i], 0, "");
        assert_int_equal(rig->asked[i].answer, 1);
        assert_int_equal(rig->asked[i].place, i + 1);
    }
}

/* And who comes next has an engine of his own. */
static void test_what_goes_wrong_is_said(void **state)
{
    struct rig *rig = *state;
    struct asking *nothing = ask(rig, NULL, "one"), *broken = ask(rig, "bad", "one"),
                  *absent = ask(rig, "good", "nobody"), *unwanted = ask(rig, "good", "one");
    unwanted->unwanted = true;
    assert_int_equal(submit(nothing), 0);
    assert_int_equal(submit(broken), 0);
    assert_int_equal(submit(absent), 0);
    assert_int_equal(submit(unwanted), 0);
    struct asking *last = ask_one(rig);
    turn(rig, all_ended);
    expect(nothing, OSM_EBUSY, "nothing is served");
    expect(broken, OSM_ELUA, "m.lua:1: unexpected symbol near <eof>");
    expect(absent, OSM_ENOENT, "nobody declares it");
    expect(unwanted, OSM_ECANCELED, "nobody waits for it");
    assert_false(atomic_load(&unwanted->works));
    expect(last, 0, "");
}

/* Loading, and a rule: the engine's own budgets would let both run for longer. */
static void test_time_is_limited(void **state)
{
    struct rig *rig = *state;
    begin_with(rig, 1000, 0); /* the last one has to end within it, on a busy machine too */
    struct asking *loading = ask(rig, "slow", "one"), *rule = ask(rig, "good", "ever"),
                  *busy = ask(rig, "good", "one");
    busy->waits = true;
    assert_int_equal(submit(loading), 0);
    assert_int_equal(submit(rule), 0);
    assert_int_equal(submit(busy), 0);
    uint64_t start = osm_now_ms();
    turn(rig, all_ended);
    assert_true(osm_now_ms() - start < 10 * 1000);
    assert_int_equal(loading->ends, 1);
    assert_int_not_equal(loading->rc, 0);
    assert_int_not_equal(rule->rc, 0);
    expect(busy, 0, ""); /* it was told, and had what it needed */
}

static void test_so_many_wait(void **state)
{
    struct rig *rig = *state;
    struct asking *busy = ask(rig, "good", "one");
    busy->waits = true;
    assert_int_equal(submit(busy), 0);
    turn(rig, first_works);
    for (size_t i = 0; i < OSM_SCRATCH_WAITING_MAX; i++)
        (void)ask_one(rig);
    struct asking *over = ask(rig, "good", "one");
    assert_int_equal(submit(over), OSM_EBUSY);
    assert_int_equal(over->ends, 0);
    rig->len--;
    osm_scratch_free(osm_take_ptr(&rig->scratch)); /* ends them all */
    for (size_t i = 0; i < rig->len; i++)
        expect(&rig->asked[i], OSM_ECANCELED, "the daemon is stopping");
}

/* Of the first that waits, until it is ready; no longer than a second. */
static void test_who_is_not_ready_waits(void **state)
{
    struct rig *rig = *state;
    struct asking *first = ask(rig, "good", "one");
    first->unready = true;
    assert_int_equal(submit(first), 0);
    struct asking *second = ask_one(rig);
    uint64_t start = osm_now_ms();
    turn(rig, all_ended);
    assert_true(osm_now_ms() - start >= 900);
    assert_true(first->place < second->place);
    expect(first, 0, "");

    struct asking *third = ask(rig, "good", "one");
    third->unready = true;
    assert_int_equal(submit(third), 0);
    third->unready = false;
    osm_scratch_wake(rig->scratch);
    turn(rig, all_ended);
    expect(third, 0, "");
}

/* At every point of a task's life. */
static void test_it_is_freed_meanwhile(void **state)
{
    struct rig *rig = *state;
    struct asking *busy = ask(rig, "good", "one");
    busy->waits = true;
    assert_int_equal(submit(busy), 0);
    osm_scratch_free(osm_take_ptr(&rig->scratch));
    expect(busy, OSM_ECANCELED, "");
    rig->len = rig->ended = 0;

    begin_with(rig, 0, 0);
    (void)ask_one(rig);
    struct asking *loading = ask(rig, "slow", "one");
    assert_int_equal(submit(loading), 0);
    turn(rig, one_ended);
    (void)uv_run(osm_loop_uv(rig->loop), UV_RUN_NOWAIT); /* it has its turn */
    osm_scratch_free(osm_take_ptr(&rig->scratch));
    expect(loading, OSM_ECANCELED, "");
    rig->len = rig->ended = 0;

    begin_with(rig, 0, 0);
    struct asking *ever = ask(rig, "good", "ever");
    assert_int_equal(submit(ever), 0);
    turn(rig, first_works);
    osm_scratch_free(osm_take_ptr(&rig->scratch));
    expect(ever, OSM_ECANCELED, "");
}

/* For the next question that shares it: whatever its policies are, unless there is a kind among
 * them that was not read before; and whatever went wrong, unless the engine did. */
static void test_an_engine_is_kept(void **state)
{
    static const struct {
        const char *dir, *question;
        bool keeps, proven, waits;
        json_int_t answer; /* 0: it fails */
        size_t finds;
        int dropped;
    } rows[] = {
        {"good", "one", true, false, false, 1, 0, 0},
        {"good", "one", true, false, false, 1, 1, 0},
        {"same", "one", true, false, false, 1, 2, 0},
        {"other", "one", true, false, false, 2, 3, 0},
        {"other", "one", false, false, false, 2, 0, 0},
        {"good", "one", true, false, false, 1, 4, 0},
        {"good", "nobody", true, false, false, 0, 5, 0},
        {"good", "one", true, false, false, 1, 6, 0},
        {NULL, "one", true, false, false, 0, 0, 0},
        {"bad", "one", true, false, false, 0, 0, 0},
        {"slow", "one", true, false, false, 0, 0, 0},
        {"good", "one", true, false, false, 1, 7, 0},
        {"kinds", "one", true, false, false, 3, 0, 1},
        {"good", "one", true, true, false, 1, 1, 1},
        {"good", "one", true, false, false, 1, 2, 1},
        {"good", "ever", true, false, false, 0, 3, 1},
        {"good", "one", true, false, true, 1, 4, 2}, /* until there is no time left */
        {"good", "one", true, false, false, 1, 0, 2},
    };
    struct rig *rig = *state;
    begin_with(rig, 1000, 0);
    save(rig, "same", good);
    save(rig, "other",
         "return { api = 1, rules = { one = function() return 2 end, ever = function() end } }");
    save(rig, "kinds",
         "return { api = 1, kinds = { ['acme.Link'] = { versions = { 'v1' } } },\n"
         "  rules = { one = function() return 3 end } }");
    dropped = 0;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct asking *a = &rig->asked[0];
        rig->len = rig->ended = 0;
        a = ask(rig, rows[i].dir, rows[i].question);
        a->keeps = rows[i].keeps;
        a->proven = rows[i].proven;
        a->waits = rows[i].waits;
        assert_int_equal(submit(a), 0);
        turn(rig, all_ended);
        if (a->rc && rows[i].answer)
            fail_msg("row %zu: %s", i, a->msg);
        assert_int_equal(a->rc != 0, !rows[i].answer);
        assert_int_equal(a->answer, rows[i].answer);
        assert_int_equal(a->finds, rows[i].finds);
        assert_int_equal(dropped, rows[i].dropped);
    }
    osm_scratch_free(osm_take_ptr(&rig->scratch));
    assert_int_equal(dropped, 3);
    remove_bundle(rig, "same");
    remove_bundle(rig, "other");
    remove_bundle(rig, "kinds");
}

/* What former questions have left takes no memory from the next one. */
static void test_memory_that_is_used_up(void **state)
{
    static const char *const questions[] = {"a", "b", "c", "d", "e", "f", "g", "h"};
    struct rig *rig = *state;
    const struct osm_scratch_config config = {
        .loop = rig->loop,
        .engine = {.mesh_name = "osm",
                   .osm_namespace = "o",
                   .trust_domain = "cluster.local",
                   .memory_max_bytes = 8 << 20},
        .roots_pem = roots_pem,
    };
    save(rig, "large",
         "local function large(_) return ('x'):rep(1000000) end\n"
         "local M = { api = 1, rules = {} }\n"
         "for at = 1, 8 do M.rules[('abcdefgh'):sub(at, at)] = large end\n"
         "return M\n");
    osm_scratch_free(rig->scratch);
    rig->scratch = osm_scratch_new(&config);
    assert_non_null(rig->scratch);
    dropped = 0;
    for (size_t i = 0; i < sizeof questions / sizeof *questions; i++) {
        struct asking *a = ask(rig, "large", questions[i]);
        a->keeps = true;
        assert_int_equal(submit(a), 0);
        turn(rig, all_ended);
        expect(a, 0, "");
    }
    assert_int_not_equal(dropped, 0);
    remove_bundle(rig, "large");
}

static bool is_dropped(struct rig *rig)
{
    (void)rig;
    return dropped > 0;
}

static void test_it_is_not_kept_for_ever(void **state)
{
    struct rig *rig = *state;
    dropped = 0;
    begin_with(rig, 0, 50);
    struct asking *a = ask(rig, "good", "one");
    a->keeps = true;
    assert_int_equal(submit(a), 0);
    turn(rig, is_dropped);
    expect(a, 0, "");
}

/* --- ready before anybody asks --- */

static size_t made_ready;
static bool not_now;

static bool make_ready(void *ud, struct osm_scratch_task *task)
{
    struct rig *rig = ud;
    if (not_now)
        return false;
    struct asking *a = ask(rig, "good", "one");
    a->keeps = true;
    made_ready++;
    *task = (struct osm_scratch_task){ready, begin, proven, work, drop, end, wanted, a};
    return true;
}

static void begin_ready(struct rig *rig, uint64_t ready_ms, uint64_t keep_ms, size_t keep_bytes)
{
    const struct osm_scratch_config config = {
        .loop = rig->loop,
        .engine = {.mesh_name = "osm", .osm_namespace = "o", .trust_domain = "cluster.local"},
        .roots_pem = roots_pem,
        .make_ready = make_ready,
        .ud = rig,
        .budget_ms = 1000,
        .keep_ms = keep_ms,
        .keep_bytes = keep_bytes,
        .ready_ms = ready_ms,
    };
    osm_scratch_free(rig->scratch);
    rig->scratch = osm_scratch_new(&config);
    assert_non_null(rig->scratch);
    made_ready = 0;
    not_now = false;
    dropped = 0;
}

static bool two_ended(struct rig *rig)
{
    return rig->ended > 1;
}

/* When there is something to make ready for, again when that has changed, and when it is gone. */
static void test_an_engine_is_made_ready(void **state)
{
    struct rig *rig = *state;
    begin_ready(rig, 5, 1, 0);
    not_now = true;
    osm_scratch_wake(rig->scratch);
    assert_int_equal(made_ready, 0);
    not_now = false;
    osm_scratch_wake(rig->scratch);
    turn(rig, one_ended);
    assert_int_equal(made_ready, 1);
    struct asking *a = ask_one(rig);
    a->keeps = false;
    turn(rig, two_ended);
    assert_int_equal(made_ready, 1); /* one that is thrown away does not take its place */

    rig->len = rig->ended = 0;
    a = ask(rig, "good", "one");
    a->keeps = true;
    assert_int_equal(submit(a), 0);
    turn(rig, all_ended);
    assert_int_equal(a->finds, 1);

    rig->len = rig->ended = 0;
    osm_scratch_wake(rig->scratch); /* other policies */
    turn(rig, one_ended);
    assert_int_equal(made_ready, 2);
    assert_int_equal(rig->asked[0].finds, 2);

    rig->len = rig->ended = 0;
    a = ask(rig, "good", "one"); /* until there is no time left: the engine goes with it */
    a->keeps = a->waits = true;
    assert_int_equal(submit(a), 0);
    turn(rig, two_ended);
    assert_int_equal(dropped, 1);
    assert_int_equal(made_ready, 3);
    assert_int_equal(rig->asked[1].finds, 0);
}

/* Of more than it may take it is not kept for long, though nothing else takes its place. */
static void test_a_large_engine_goes(void **state)
{
    struct rig *rig = *state;
    begin_ready(rig, 5, 50, 1);
    not_now = true;
    struct asking *a = ask(rig, "good", "one");
    a->keeps = true;
    assert_int_equal(submit(a), 0);
    turn(rig, is_dropped);
    expect(a, 0, "");
    assert_int_equal(made_ready, 0);
}

/* Others come into force while an engine is made ready for those that were. */
static bool works_again(struct rig *rig)
{
    return rig->ended > 1;
}

static void test_what_changes_while_an_engine_is_made_ready(void **state)
{
    struct rig *rig = *state;
    begin_ready(rig, 5, 1, 0);
    atomic_store(&held, true);
    osm_scratch_wake(rig->scratch);
    turn(rig, first_works);
    osm_scratch_wake(rig->scratch);
    atomic_store(&held, false);
    turn(rig, works_again);
    assert_int_equal(made_ready, 2);
    assert_int_equal(rig->asked[1].finds, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_one_after_the_other, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_goes_wrong_is_said, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_time_is_limited, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_so_many_wait, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_who_is_not_ready_waits, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_it_is_freed_meanwhile, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_an_engine_is_kept, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_memory_that_is_used_up, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_it_is_not_kept_for_ever, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_an_engine_is_made_ready, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_large_engine_goes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_changes_while_an_engine_is_made_ready, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
