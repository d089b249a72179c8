/* What is written next, and when, whatever became of the writes before. */
#include "kube/outbox.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static const struct osm_outbox_limits limits = {.keys_max = 1000,
                                                .burst = 10,
                                                .per_s = 2,
                                                .backoff_ms = 1000,
                                                .backoff_max_ms = 60000,
                                                .rest_ms = 1000,
                                                .rest_max_ms = 8000,
                                                .denied_ms = 30000,
                                                .denials = 3};

static int setup(void **state)
{
    struct osm_outbox *o = osm_alloc(sizeof *o);
    if (!o)
        return -1;
    osm_outbox_init(o, &limits, 0);
    *state = o;
    return 0;
}

static int teardown(void **state)
{
    osm_outbox_clear(*state);
    osm_free(*state);
    return osm_mem_live() == 0 ? 0 : -1;
}

/* The next one, which must be there. */
static struct osm_outbox_slot *take(struct osm_outbox *o, uint64_t now_ms, const char *key)
{
    uint64_t wait_ms;
    struct osm_outbox_slot *slot = osm_outbox_next(o, now_ms, &wait_ms);
    assert_non_null(slot);
    assert_string_equal(slot->key, key);
    return slot;
}

/* There is none; how long. */
static uint64_t none(struct osm_outbox *o, uint64_t now_ms)
{
    uint64_t wait_ms;
    assert_null(osm_outbox_next(o, now_ms, &wait_ms));
    return wait_ms;
}

static void sent(struct osm_outbox *o, struct osm_outbox_slot *slot,
                 enum osm_outbox_outcome outcome, uint64_t now_ms)
{
    osm_outbox_sent(o, slot, outcome, -1, now_ms, 1023);
}

static void test_key_has_one_place_and_first_come_is_first_served(void **state)
{
    struct osm_outbox *o = *state;
    const char *const keys[] = {"a", "b", "a", "c", "b"};
    for (size_t i = 0; i < 5; i++)
        assert_true(osm_outbox_put(o, keys[i]));
    assert_int_equal(o->waiting, 3);
    assert_true(osm_outbox_drop(o, "b"));
    sent(o, take(o, 0, "a"), OSM_OUTBOX_DONE, 0);
    sent(o, take(o, 0, "c"), OSM_OUTBOX_DONE, 0);
    assert_int_equal(none(o, 0), UINT64_MAX);
    assert_int_equal(o->waiting, 0);
}

static void test_writes_have_a_rate(void **state)
{
    struct osm_outbox *o = *state;
    char key[16];
    uint64_t now_ms = 0, wait_ms;
    for (int i = 0; i < 100; i++) {
        (void)snprintf(key, sizeof key, "k%d", i);
        assert_true(osm_outbox_put(o, key));
    }
    int n = 0;
    for (; now_ms < 20000; now_ms += wait_ms) {
        struct osm_outbox_slot *slot;
        while ((slot = osm_outbox_next(o, now_ms, &wait_ms))) {
            sent(o, slot, OSM_OUTBOX_GONE, now_ms);
            n++;
        }
        assert_in_range(wait_ms, 1, 500);
    }
    assert_in_range(n, 10 + 39, 10 + 40); /* the burst, and two a second */
}

static void test_key_that_is_written_again_and_again_waits_longer_each_time(void **state)
{
    struct osm_outbox *o = *state;
    uint64_t now_ms = 0;
    const uint64_t rests_ms[] = {1000, 2000, 4000, 8000, 8000};
    assert_true(osm_outbox_put(o, "a"));
    for (size_t i = 0; i < 5; i++) {
        sent(o, take(o, now_ms, "a"), OSM_OUTBOX_DONE, now_ms);
        assert_true(osm_outbox_put(o, "a"));
        assert_int_equal(none(o, now_ms), rests_ms[i]);
        now_ms += rests_ms[i];
    }
    sent(o, take(o, now_ms, "a"), OSM_OUTBOX_DONE, now_ms);
    now_ms += 2 * limits.rest_max_ms; /* peace is forgotten, too */
    assert_int_equal(none(o, now_ms), UINT64_MAX);
    assert_int_equal(o->slots.count, 0);
}

static void test_newer_content_while_it_is_sent_is_sent_afterwards(void **state)
{
    struct osm_outbox *o = *state;
    assert_true(osm_outbox_put(o, "a"));
    struct osm_outbox_slot *slot = take(o, 0, "a");
    assert_true(osm_outbox_put(o, "a"));
    sent(o, slot, OSM_OUTBOX_DONE, 10);
    assert_int_equal(none(o, 10), 1000);
    sent(o, take(o, 1010, "a"), OSM_OUTBOX_DONE, 1010);
    assert_int_equal(o->waiting, 0);
}

static void test_server_that_is_busy_is_left_alone_for_longer_each_time(void **state)
{
    struct osm_outbox *o = *state;
    uint64_t now_ms = 0, before_ms = 0;
    const char *const keys[] = {"a", "b", "c"};
    for (size_t i = 0; i < 3; i++)
        assert_true(osm_outbox_put(o, keys[i]));
    for (size_t i = 0; i < 8; i++) {
        struct osm_outbox_slot *slot = take(o, now_ms, keys[i % 3]);
        sent(o, slot, OSM_OUTBOX_BUSY, now_ms);
        uint64_t wait_ms = none(o, now_ms);
        assert_true(wait_ms > before_ms || wait_ms >= limits.backoff_max_ms - 100);
        before_ms = wait_ms;
        now_ms += wait_ms;
    }
    struct osm_outbox_slot *probe = take(o, now_ms, "c");
    assert_int_equal(none(o, now_ms), UINT64_MAX); /* one at a time until one gets through */
    osm_outbox_sent(o, probe, OSM_OUTBOX_BUSY, 100, now_ms, 0);
    assert_int_equal(none(o, now_ms), 100000); /* as long as the server asked for */
    assert_int_equal(o->waiting, 3);
}

static void test_denied_by_one_namespace_holds_up_nobody_else(void **state)
{
    struct osm_outbox *o = *state;
    assert_true(osm_outbox_put(o, "secret/a"));
    assert_true(osm_outbox_put(o, "b"));
    sent(o, take(o, 0, "secret/a"), OSM_OUTBOX_DENIED, 0);
    sent(o, take(o, 0, "b"), OSM_OUTBOX_DONE, 0);
    uint64_t wait_ms = none(o, 0);
    assert_in_range(wait_ms, limits.denied_ms / 2, limits.denied_ms);
    (void)take(o, wait_ms, "secret/a");
}

static void test_denied_throughout_is_probed_now_and_then(void **state)
{
    struct osm_outbox *o = *state;
    char key[16];
    unsigned asked = 0;
    uint64_t wait_ms;
    for (int i = 0; i < 500; i++) {
        (void)snprintf(key, sizeof key, "k%d", i);
        assert_true(osm_outbox_put(o, key));
    }
    for (uint64_t now_ms = 0; now_ms < 600000; now_ms += wait_ms) {
        struct osm_outbox_slot *slot = osm_outbox_next(o, now_ms, &wait_ms);
        wait_ms = slot ? 0 : wait_ms;
        if (slot) {
            sent(o, slot, OSM_OUTBOX_DENIED, now_ms);
            asked++;
        }
    }
    assert_in_range(asked, 20, 25);
}

static void test_refused_key_is_tried_again_alone(void **state)
{
    struct osm_outbox *o = *state;
    uint64_t now_ms = 0;
    assert_true(osm_outbox_put(o, "a"));
    for (int i = 0; i < 12; i++) {
        sent(o, take(o, now_ms, "a"), OSM_OUTBOX_LATER, now_ms);
        assert_true(osm_outbox_put(o, "b"));
        sent(o, take(o, now_ms, "b"), OSM_OUTBOX_GONE, now_ms);
        now_ms += none(o, now_ms);
    }
    assert_in_range(now_ms, 5 * limits.backoff_max_ms, 12 * limits.backoff_max_ms);
}

static void test_places_have_an_end_and_those_at_rest_make_room(void **state)
{
    struct osm_outbox *o = *state;
    char key[16];
    for (unsigned i = 0; i < limits.keys_max; i++) {
        (void)snprintf(key, sizeof key, "k%u", i);
        assert_true(osm_outbox_put(o, key));
    }
    assert_false(osm_outbox_put(o, "more"));
    assert_int_equal(o->lost, 1);
    sent(o, take(o, 0, "k0"), OSM_OUTBOX_DONE, 0);
    assert_true(osm_outbox_put(o, "more"));
    assert_int_equal(o->slots.count, limits.keys_max);
}

static void test_dropped_while_it_is_sent_is_not_sent_again(void **state)
{
    struct osm_outbox *o = *state;
    assert_true(osm_outbox_put(o, "a"));
    struct osm_outbox_slot *slot = take(o, 0, "a");
    assert_false(osm_outbox_drop(o, "a"));
    sent(o, slot, OSM_OUTBOX_BUSY, 0);
    assert_int_equal(o->slots.count, 0);
    assert_true(osm_outbox_put(o, "b"));
    osm_outbox_unsent(o, take(o, 5000, "b"));
    assert_int_equal(o->slots.count, 0);
}

static void test_answers_mean(void **state)
{
    (void)state;
    static const struct {
        int status;
        const char *message;
        enum osm_outbox_outcome outcome;
    } answers[] = {
        {201, "", OSM_OUTBOX_DONE},
        {404, "namespaces \"red\" not found", OSM_OUTBOX_GONE},
        {403,
         "events \"e\" is forbidden: unable to create new content in namespace red because it is "
         "being terminated",
         OSM_OUTBOX_GONE},
        {403, "events \"e\" is forbidden: exceeded quota: q, requested: count/events=1",
         OSM_OUTBOX_LATER},
        {403, "events is forbidden: User \"u\" cannot patch resource \"events\"",
         OSM_OUTBOX_DENIED},
        {401, "Unauthorized", OSM_OUTBOX_DENIED},
        {409, "Precondition failed: UID in precondition", OSM_OUTBOX_LATER},
        {422, "is invalid", OSM_OUTBOX_LATER},
        {429, "", OSM_OUTBOX_BUSY},
        {500, "", OSM_OUTBOX_BUSY},
        {0, "cannot connect", OSM_OUTBOX_BUSY},
    };
    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++)
        assert_int_equal(osm_outbox_outcome_of(answers[i].status, answers[i].message),
                         answers[i].outcome);
}

int main(void)
{
#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_key_has_one_place_and_first_come_is_first_served),
        TEST(test_writes_have_a_rate),
        TEST(test_key_that_is_written_again_and_again_waits_longer_each_time),
        TEST(test_newer_content_while_it_is_sent_is_sent_afterwards),
        TEST(test_server_that_is_busy_is_left_alone_for_longer_each_time),
        TEST(test_denied_by_one_namespace_holds_up_nobody_else),
        TEST(test_denied_throughout_is_probed_now_and_then),
        TEST(test_refused_key_is_tried_again_alone),
        TEST(test_places_have_an_end_and_those_at_rest_make_room),
        TEST(test_dropped_while_it_is_sent_is_not_sent_again),
        TEST(test_answers_mean),
    };
#undef TEST
    return cmocka_run_group_tests(tests, NULL, NULL);
}
