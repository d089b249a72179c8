/* Noticing changes, and a root that goes and comes. The loop runs until the sink has what is
 * expected, and a test fails after a deadline. */
#include "source/dir_fixture.h"

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
    osm_source_refresh(f->source, NULL, NULL);
    assert_true(has_a(f));
    assert_int_equal(f->gones, 0);
    expect_state(f, "failed", 0);
    move_root(f, false);
    osm_source_refresh(f->source, NULL, NULL);
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
    osm_source_refresh(f->source, NULL, NULL);
    assert_true(has_a(f));
    expect_state(f, "failed", 0);
    write_file(f, "b.yaml", service_b); /* it is a directory of manifests after all */
    osm_source_refresh(f->source, NULL, NULL);
    assert_true(has_only_b(f));
    expect_state(f, "ok", 0);
    remove_file(f, "b.yaml"); /* the same directory emptied is meant */
    osm_source_refresh(f->source, NULL, NULL);
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
    osm_source_refresh(f->source, NULL, NULL);
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
        osm_source_refresh(f->source, NULL, NULL);
        assert_true(i % 2 ? has_a(f) && f->objects.count == 1 : has_only_b(f));
    }
}

static void test_unchanged_files_are_told_once(void **state)
{
    struct fixture *f = *state;
    write_file(f, "a.yaml", service_a);
    write_file(f, "b.yaml", service_b);
    started(f);
    osm_source_refresh(f->source, NULL, NULL);
    osm_source_refresh(f->source, NULL, NULL);
    write_file(f, "a.yaml", service_a); /* written again, the same bytes */
    osm_source_refresh(f->source, NULL, NULL);
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
        osm_source_refresh(f->source, NULL, NULL);
        osm_mem_fail_at(-1);
        failed += is_failed(f);
        assert_true(has_a(f));
    }
    assert_true(failed > 3);
    osm_source_refresh(f->source, NULL, NULL);
    assert_true(has_both(f));
    expect_state(f, "ok", 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_notices_by_itself, set_up, tear_down),
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
