/* A profile of this process: the functions that burn time are in it, by name, in all threads. */
#include "debug/profile.h"
#include "debug/symbols.h"

#include "base/clock.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include <cmocka.h>

struct fixture {
    struct osm_loop *loop;
    char *folded;
    int code, calls;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    *state = f;
    return osm_loop_new(&f->loop, NULL);
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    osm_loop_free(f->loop);
    osm_free(f->folded);
    free(f);
    return osm_mem_live() != 0;
}

static void done(void *ud, struct osm_buf *folded, const struct osm_err *err)
{
    struct fixture *f = ud;
    f->calls++;
    f->code = err ? err->code : 0;
    if (folded)
        f->folded = osm_buf_take(folded);
}

static atomic_ulong sink;

/* Not inlined, not merged: their names are what the test looks for. */
static __attribute__((noinline)) void burn_in_the_loop(uint64_t until_us)
{
    while (osm_now_us() < until_us)
        for (int i = 0; i < 1000; i++)
            atomic_fetch_add_explicit(&sink, (unsigned long)i, memory_order_relaxed);
}

static __attribute__((noinline)) void *burn_in_a_thread(void *ud)
{
    const atomic_bool *stop = ud;
    while (!atomic_load(stop))
        for (int i = 0; i < 1000; i++)
            atomic_fetch_add_explicit(&sink, (unsigned long)i, memory_order_relaxed);
    return NULL;
}

static void turn(struct fixture *f)
{
    (void)uv_run(osm_loop_uv(f->loop), UV_RUN_NOWAIT);
}

static unsigned long samples_with(const char *folded, const char *name)
{
    unsigned long total = 0;
    for (const char *line = folded, *end; *line; line = end + 1) {
        end = strchr(line, '\n');
        const char *found = strstr(line, name);
        const char *count = end;
        while (count[-1] != ' ')
            count--;
        if (found && found < end)
            total += strtoul(count, NULL, 10);
    }
    return total;
}

static void take_profile(struct fixture *f)
{
    f->calls = 0;
    assert_int_equal(osm_profile_start(f->loop, 1, done, f, NULL), 0);
    while (!f->calls) {
        burn_in_the_loop(osm_now_us() + 20000);
        turn(f);
    }
    assert_int_equal(f->code, 0);
    assert_null(strstr(f->folded, "on_signal"));
}

/* A machine that has other things to do gives few samples at a time: several profiles then. */
static void test_what_burns_time_is_named(void **state)
{
    enum { ENOUGH = 10, ROUNDS_MAX = 30 };
    struct fixture *f = *state;
    unsigned long in_loop = 0, in_thread = 0, below_main = 0;
    atomic_bool stop = false;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, burn_in_a_thread, &stop), 0);
    for (int i = 0; i < ROUNDS_MAX && (in_loop < ENOUGH || in_thread < ENOUGH); i++) {
        take_profile(f);
        in_loop += samples_with(f->folded, "burn_in_the_loop");
        in_thread += samples_with(f->folded, "burn_in_a_thread");
        below_main += samples_with(f->folded, ";main;");
        osm_free(osm_take_ptr(&f->folded));
    }
    atomic_store(&stop, true);
    (void)pthread_join(thread, NULL);
    assert_true(in_loop >= ENOUGH && in_thread >= ENOUGH);
    assert_true(below_main >= in_loop); /* down to where the thread began */
}

static void test_one_at_a_time(void **state)
{
    struct fixture *f = *state;
    struct osm_err err = {0};
    assert_int_equal(osm_profile_start(f->loop, 60, done, f, NULL), 0);
    assert_int_equal(osm_profile_start(f->loop, 1, done, f, &err), OSM_EBUSY);
    assert_int_equal(f->calls, 0);
    osm_profile_cancel();
    assert_int_equal(f->calls, 1);
    assert_int_equal(f->code, OSM_ECANCELED);
    osm_profile_cancel();
    assert_int_equal(osm_profile_start(f->loop, 60, done, f, NULL), 0);
    osm_profile_cancel();
    assert_int_equal(f->calls, 2);
}

/* A signal that was on its way when the profile ended does not end the process. */
static void test_a_late_signal_is_harmless(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(osm_profile_start(f->loop, 60, done, f, NULL), 0);
    osm_profile_cancel();
    assert_int_equal(raise(SIGPROF), 0);
}

static void test_no_memory_is_an_error(void **state)
{
    struct fixture *f = *state;
    for (long n = 0; n < 3; n++) {
        osm_mem_fail_at(n);
        assert_int_equal(osm_profile_start(f->loop, 1, done, f, NULL), OSM_ENOMEM);
        osm_mem_fail_at(-1);
        turn(f);
    }
    assert_int_equal(f->calls, 0);
}

static void test_addresses_have_names(void **state)
{
    (void)state;
    struct osm_symbols *symbols = osm_symbols_new();
    assert_non_null(symbols);
    assert_string_equal(osm_symbols_name(symbols, (uintptr_t)burn_in_the_loop), "burn_in_the_loop");
    assert_string_equal(osm_symbols_name(symbols, (uintptr_t)burn_in_a_thread + 3),
                        "burn_in_a_thread");
    assert_string_equal(osm_symbols_name(symbols, (uintptr_t)uv_run), "uv_run");
    assert_string_equal(osm_symbols_name(symbols, 1), "0x1");
    osm_symbols_free(symbols);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        TEST(test_what_burns_time_is_named),  TEST(test_one_at_a_time),
        TEST(test_a_late_signal_is_harmless), TEST(test_no_memory_is_an_error),
        TEST(test_addresses_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
