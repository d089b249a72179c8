/* Policies are replaced while the daemon runs. Whatever memory is refused to it, what serves goes
 * on serving, whoever asked is answered, and the next reload takes over. */
#include "reload/life.h"

enum {
    EVERY_ONE = 300, /* allocations that fail one by one, then one of: */
    STRIDE = 101,
};

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
    char text[BUNDLE_BYTES], path[PATH_BYTES + 8];
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
        assert_non_null(strstr(rig->noted, "rejected!,"));
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
    } else if (rig->state[0]) { /* what was saved may be noticed and tried again at any time */
        assert_true(snapshot_says(rig->at_answer, before));
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
