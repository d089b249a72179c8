#include "loop/loop.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>

struct fixture {
    struct osm_loop *loop;
    struct osm_timer *timer;
    int runs;
    int order[16];
    size_t len;
    pthread_t worker;
    bool terminated;
};

static struct fixture *fixture; /* of the running test: tasks get small numbers as their argument */

static int set_up(void **state)
{
    struct osm_err err = {0};
    fixture = osm_alloc(sizeof *fixture);
    assert_non_null(fixture);
    assert_int_equal(osm_loop_new(&fixture->loop, &err), 0);
    *state = fixture;
    return 0;
}

static int tear_down(void **state)
{
    osm_loop_free(fixture->loop);
    osm_free(*state);
    assert_int_equal(osm_mem_live(), 0);
    return 0;
}

static void stop(void *ud)
{
    (void)ud;
    osm_loop_stop(fixture->loop);
}

static void note(void *ud)
{
    fixture->order[fixture->len++] = (int)(intptr_t)ud;
}

static void test_posts_run_in_order(void **state)
{
    struct fixture *f = *state;
    for (intptr_t i = 0; i < 10; i++)
        assert_int_equal(osm_loop_post(f->loop, note, (void *)i), 0);
    assert_int_equal(osm_loop_post(f->loop, stop, NULL), 0);
    assert_int_equal(osm_loop_run(f->loop), 0);
    assert_int_equal(f->len, 10);
    for (int i = 0; i < 10; i++)
        assert_int_equal(f->order[i], i);
}

static void post_again(void *ud)
{
    struct fixture *f = ud;
    if (++f->runs < 5)
        assert_int_equal(osm_loop_post(f->loop, post_again, f), 0);
    else
        osm_loop_stop(f->loop);
}

static void test_a_task_may_post(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(osm_loop_post(f->loop, post_again, f), 0);
    assert_int_equal(osm_loop_run(f->loop), 0);
    assert_int_equal(f->runs, 5);
}

static void count_one(void *ud)
{
    struct fixture *f = ud;
    if (++f->runs == 4000)
        osm_loop_stop(f->loop);
}

static void *post_many(void *ud)
{
    struct fixture *f = ud;
    for (int i = 0; i < 1000; i++)
        while (osm_loop_post(f->loop, count_one, f)) {
        }
    return NULL;
}

static void test_any_thread_may_post(void **state)
{
    struct fixture *f = *state;
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, post_many, f), 0);
    assert_int_equal(osm_loop_run(f->loop), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(f->runs, 4000);
}

static void test_what_was_posted_runs_even_at_the_end(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(osm_loop_post(f->loop, note, (void *)(intptr_t)7), 0);
    osm_loop_free(f->loop);
    f->loop = NULL;
    assert_int_equal(f->len, 1);
    assert_int_equal(f->order[0], 7);
}

static void post_too_late(void *ud)
{
    struct fixture *f = ud;
    f->runs = osm_loop_post(f->loop, note, NULL);
}

static void test_posting_while_it_is_freed_is_refused(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(osm_loop_post(f->loop, post_too_late, f), 0);
    osm_loop_free(f->loop);
    f->loop = NULL;
    assert_int_equal(f->runs, OSM_ECANCELED);
    assert_int_equal(f->len, 0);
}

static void test_no_memory_is_reported(void **state)
{
    struct fixture *f = *state;
    osm_mem_fail_at(0);
    assert_int_equal(osm_loop_post(f->loop, note, NULL), OSM_ENOMEM);
    osm_mem_fail_at(0);
    assert_int_equal(osm_loop_work(f->loop, note, note, NULL), OSM_ENOMEM);
    osm_mem_fail_at(0);
    assert_null(osm_timer_new(f->loop, note, NULL));
    osm_mem_fail_at(-1);
}

static void work(void *ud)
{
    ((struct fixture *)ud)->worker = pthread_self();
}

static void work_done(void *ud)
{
    struct fixture *f = ud;
    f->runs++;
    osm_loop_stop(f->loop);
}

static void test_work_runs_elsewhere_and_is_done_here(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(osm_loop_work(f->loop, work, work_done, f), 0);
    assert_int_equal(osm_loop_run(f->loop), 0);
    assert_int_equal(f->runs, 1);
    assert_false(pthread_equal(f->worker, pthread_self()));
}

static void tick(void *ud)
{
    struct fixture *f = ud;
    if (++f->runs == 3)
        osm_loop_stop(f->loop);
}

static void test_a_timer_repeats_until_it_is_stopped(void **state)
{
    struct fixture *f = *state;
    f->timer = osm_timer_new(f->loop, tick, f);
    osm_timer_start(f->timer, 1, 1);
    assert_int_equal(osm_loop_run(f->loop), 1); /* the timer is a handle that is open */
    assert_int_equal(f->runs, 3);
    osm_timer_stop(f->timer);
    assert_int_equal(osm_loop_post(f->loop, stop, NULL), 0);
    (void)osm_loop_run(f->loop);
    assert_int_equal(f->runs, 3);
    osm_timer_free(f->timer);
    osm_timer_free(NULL);
    assert_int_equal(osm_loop_post(f->loop, stop, NULL), 0);
    assert_int_equal(osm_loop_run(f->loop), 0);
}

static void test_a_timer_runs_once_and_starts_anew(void **state)
{
    struct fixture *f = *state;
    f->timer = osm_timer_new(f->loop, work_done, f);
    osm_timer_start(f->timer, 100000, 0);
    osm_timer_start(f->timer, 0, 0); /* the later start counts */
    (void)osm_loop_run(f->loop);
    assert_int_equal(f->runs, 1);
    osm_timer_free(f->timer);
}

static void on_terminate(void *ud)
{
    struct fixture *f = ud;
    f->terminated = true;
    osm_loop_stop(f->loop);
}

static void raise_term(void *ud)
{
    (void)ud;
    (void)raise(SIGTERM);
}

static void test_sigterm_is_told_once_asked_for(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(osm_loop_on_terminate(f->loop, on_terminate, f), 0);
    assert_int_equal(osm_loop_on_terminate(f->loop, on_terminate, f), OSM_EEXIST);
    assert_int_equal(osm_loop_post(f->loop, raise_term, NULL), 0);
    assert_int_equal(osm_loop_run(f->loop), 0);
    assert_true(f->terminated);
}

struct slices {
    struct osm_turns *turns;
    int made;
    bool posted;
};

static void make_slice(void *ud)
{
    struct slices *slices = ud;
    slices->made++;
    if (slices->posted || slices->made == 1000)
        osm_loop_stop(fixture->loop);
    else
        osm_turns_ask(slices->turns);
}

static void note_posted(void *ud)
{
    ((struct slices *)ud)->posted = true;
}

/* Work in slices holds up nothing else by more than one. */
static void test_between_two_turns_posts_run(void **state)
{
    struct fixture *f = *state;
    struct slices slices = {0};
    slices.turns = osm_turns_new(f->loop, make_slice, &slices);
    assert_non_null(slices.turns);
    osm_turns_ask(slices.turns);
    osm_turns_ask(slices.turns); /* once all the same */
    assert_int_equal(osm_loop_post(f->loop, note_posted, &slices), 0);
    (void)osm_loop_run(f->loop);
    assert_true(slices.posted);
    assert_in_range(slices.made, 1, 2);
    osm_turns_free(slices.turns);
    osm_turns_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_posts_run_in_order, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_between_two_turns_posts_run, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_task_may_post, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_any_thread_may_post, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_was_posted_runs_even_at_the_end, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_posting_while_it_is_freed_is_refused, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_no_memory_is_reported, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_work_runs_elsewhere_and_is_done_here, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_timer_repeats_until_it_is_stopped, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_timer_runs_once_and_starts_anew, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_sigterm_is_told_once_asked_for, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
