/* What is read and what is reported. Every test asks for its scans, so nothing waits. */
#include "source/dir_fixture.h"

static void test_tells_what_is_there_then_what_changed(void **state)
{
    struct fixture *f = *state;
    write_file(f, "a.yaml", service_a);
    start(f);
    assert_int_equal(f->puts, 0); /* nothing before the caller has the source */
    osm_source_refresh(f->source, NULL, NULL);
    assert_int_equal(f->synced, 1);
    assert_non_null(get(f, "/Service/default/a"));
    assert_string_equal(get(f, "/Service/default/a")->origin, "a.yaml:1");
    write_file(f, "b.yaml", service_b);
    osm_source_refresh(f->source, NULL, NULL);
    assert_non_null(get(f, "/Service/default/b"));
    remove_file(f, "a.yaml");
    osm_source_refresh(f->source, NULL, NULL);
    assert_null(get(f, "/Service/default/a"));
    assert_int_equal(f->puts, 2);
    assert_int_equal(f->gones, 1);
    assert_int_equal(f->synced, 1);
}

/* --- what is read --- */

static void test_reads_documents_json_and_directories(void **state)
{
    struct fixture *f = *state;
    make_dir(f, "shop");
    make_dir(f, "shop/deep");
    write_file(f, "two.yaml",
               "# head\n\n---\napiVersion: v1\nkind: Service\nmetadata: {name: a}\n---\n"
               "apiVersion: v1\nkind: Service\nmetadata: {name: b}\n");
    write_file(f, "shop/c.json",
               "{\"apiVersion\": \"v1\", \"kind\": \"Service\", \"metadata\": {\"name\": \"c\"}}");
    write_file(f, "shop/deep/d.yml", "{apiVersion: v1, kind: Service, metadata: {name: d}}");
    write_file(f, "shop/empty.yaml", "");
    write_file(f, "shop/.hidden.yaml", "{broken");
    write_file(f, "shop/#c.yaml", "{broken");
    write_file(f, "shop/c.yaml~", "{broken");
    write_file(f, "shop/.c.yaml.swp", "{broken");
    write_file(f, "README.md", "{broken");
    started(f);
    expect_origin(f, "/Service/default/a", "two.yaml:4");
    expect_origin(f, "/Service/default/b", "two.yaml:8");
    expect_origin(f, "/Service/default/c", "shop/c.json:1");
    expect_origin(f, "/Service/default/d", "shop/deep/d.yml:1");
    assert_int_equal(f->objects.count, 4);
    json_t *status = osm_source_status(f->source);
    char *text = json_dumps(status, JSON_COMPACT), want[256];
    (void)snprintf(want, sizeof want,
                   "{\"kind\":\"dir\",\"path\":\"%s\",\"state\":\"ok\",\"reason\":\"\",\"files\":4,"
                   "\"objects\":4,"
                   "\"generation\":1,\"errors\":[]}",
                   f->dir);
    assert_string_equal(text, want);
    osm_free(text);
    json_decref(status);
}

static void test_lists_are_taken_apart(void **state)
{
    struct fixture *f = *state;
    write_file(f, "list.yaml",
               "apiVersion: v1\nkind: List\nitems:\n"
               "- apiVersion: v1\n  kind: Service\n  metadata: {name: a}\n"
               "- {apiVersion: v1, kind: Service, metadata: {name: b}}\n");
    write_file(f, "pods.yaml", "apiVersion: v1\nkind: PodList\nitems:\n- metadata: {name: p}\n");
    write_file(f, "none.yaml", "{apiVersion: v1, kind: List, items: []}");
    started(f);
    expect_origin(f, "/Service/default/a", "list.yaml:4");
    expect_origin(f, "/Service/default/b", "list.yaml:7");
    expect_origin(f, "/Pod/default/p", "pods.yaml:4");
    expect_state(f, "ok", 0);
    write_file(f, "none.yaml", "{apiVersion: v1, kind: List, items: {}}");
    osm_source_refresh(f->source, NULL, NULL);
    expect_error(f, 0, "none.yaml", 1, 1, "items: must be a list", true);
    write_file(f, "none.yaml", "{apiVersion: v1, kind: List, items: [7]}");
    osm_source_refresh(f->source, NULL, NULL);
    expect_error(f, 0, "none.yaml", 1, 1, "", true);
}

static void test_links_are_followed_once(void **state)
{
    struct fixture *f = *state;
    make_dir(f, "real");
    make_dir(f, "real/sub");
    write_file(f, "real/sub/a.yaml", service_a);
    link_to(f, "..", "real/sub/up");
    link_to(f, ".", "real/self");
    link_to(f, "real/sub/a.yaml", "z.yaml");
    link_to(f, "nowhere.yaml", "dangling.yaml");
    started(f);
    expect_origin(f, "/Service/default/a", "real/sub/a.yaml:1");
    assert_int_equal(f->puts, 1);
    expect_state(f, "ok", 0);
}

static void test_a_fifo_does_not_block(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(mkfifo(path_of(f, "pipe.yaml"), 0644), 0);
    write_file(f, "a.yaml", service_a);
    started(f);
    assert_true(has_a(f));
    expect_state(f, "ok", 0);
}

/* --- errors --- */

static void test_a_broken_file_keeps_its_last_good_objects(void **state)
{
    struct fixture *f = *state;
    write_file(f, "a.yaml", service_a);
    started(f);
    write_file(f, "a.yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: a\nspec: x\n");
    osm_source_refresh(f->source, NULL, NULL);
    assert_true(has_a(f));
    assert_int_equal(f->gones, 0);
    expect_state(f, "degraded", 1);
    expect_error(f, 0, "a.yaml", 4, 5, "", true);
    write_file(f, "a.yaml", service_b);
    osm_source_refresh(f->source, NULL, NULL);
    assert_true(has_only_b(f));
    expect_state(f, "ok", 0);
    write_file(f, "a.yaml", "{");
    osm_source_refresh(f->source, NULL, NULL);
    remove_file(f, "a.yaml");
    osm_source_refresh(f->source, NULL, NULL);
    assert_int_equal(f->objects.count, 0);
    expect_state(f, "ok", 0);
}

static void test_a_file_that_is_broken_at_the_start_gives_nothing(void **state)
{
    struct fixture *f = *state;
    write_file(f, "a.yaml", "a: [");
    write_file(f, "b.yaml", service_b);
    started(f);
    assert_true(has_only_b(f));
    assert_int_equal(f->synced, 1);
    expect_error(f, 0, "a.yaml", 2, 1, "", false);
    write_file(f, "a.yaml", service_a);
    osm_source_refresh(f->source, NULL, NULL);
    assert_true(has_both(f));
    expect_state(f, "ok", 0);
}

static void test_a_file_is_one_unit(void **state)
{
    struct fixture *f = *state;
    write_file(f, "a.yaml", service_a);
    started(f);
    /* The second document is no object: the first does not count either, and what was there stays.
     */
    write_file(
        f, "a.yaml",
        "{apiVersion: v1, kind: Service, metadata: {name: b}}\n---\n\nmetadata: {name: x}\n");
    osm_source_refresh(f->source, NULL, NULL);
    assert_true(has_a(f));
    assert_null(get(f, "/Service/default/b"));
    expect_error(f, 0, "a.yaml", 4, 1, "apiVersion: is missing", true);
}

static void test_one_object_twice_in_a_file_is_an_error(void **state)
{
    struct fixture *f = *state;
    char text[300];
    (void)snprintf(text, sizeof text, "%s---\n%s", service_a, service_a);
    write_file(f, "a.yaml", text);
    started(f);
    assert_false(has_a(f));
    expect_error(f, 0, "a.yaml", 3, 1, "Service default/a is in this file twice: also at line 1",
                 false);
}

static void test_of_one_object_in_two_files_the_first_file_wins(void **state)
{
    struct fixture *f = *state;
    write_file(f, "b.yaml", service_a);
    started(f);
    expect_origin(f, "/Service/default/a", "b.yaml:1");
    write_file(f, "a.yaml", service_a);
    write_file(f, "c.yaml",
               "\n{apiVersion: v1, kind: Service, metadata: {name: a, labels: {x: y}}}");
    osm_source_refresh(f->source, NULL, NULL);
    expect_origin(f, "/Service/default/a", "a.yaml:1");
    expect_state(f, "degraded", 2);
    expect_error(f, 0, "b.yaml", 1, 1, "Service default/a (b.yaml:1) is left out: a.yaml:1 has it",
                 false);
    expect_error(f, 1, "c.yaml", 2, 1, "(c.yaml:2) is left out: a.yaml:1 has it", false);
    remove_file(f, "a.yaml");
    remove_file(f, "b.yaml");
    osm_source_refresh(f->source, NULL, NULL);
    expect_origin(f, "/Service/default/a", "c.yaml:2");
    assert_int_equal(f->gones, 0); /* it was never gone */
    expect_state(f, "ok", 0);
}

static void test_a_file_that_is_too_large_is_refused(void **state)
{
    struct fixture *f = *state;
    write_file(f, "a.yaml", service_a);
    started(f);
    int fd = open(path_of(f, "a.yaml"), O_WRONLY);
    assert_int_equal(ftruncate(fd, (4 << 20) + 1), 0);
    close(fd);
    osm_source_refresh(f->source, NULL, NULL);
    assert_true(has_a(f));
    expect_error(f, 0, "a.yaml", 0, 0, "is larger than 4194304 bytes", true);
}

static void test_a_name_that_cannot_be_resolved_keeps_its_objects(void **state)
{
    struct fixture *f = *state;
    write_file(f, "a.yaml", service_a);
    started(f);
    remove_file(f, "a.yaml");
    link_to(f, "a.yaml", "a.yaml"); /* a link to itself */
    osm_source_refresh(f->source, NULL, NULL);
    assert_true(has_a(f));
    expect_error(f, 0, "a.yaml", 0, 0, "cannot be read", true);
}

/* Nothing is unreadable to root, so the source reads as somebody else. */
static void refresh_as_nobody(struct fixture *f)
{
    bool is_root = geteuid() == 0;
    if (is_root)
        assert_int_equal(seteuid(65534), 0);
    osm_source_refresh(f->source, NULL, NULL);
    if (is_root)
        assert_int_equal(seteuid(0), 0);
}

static void test_what_may_not_be_read_keeps_its_objects(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(chmod(f->dir, 0755), 0);
    make_dir(f, "sub");
    write_file(f, "sub/a.yaml", service_a);
    write_file(f, "b.yaml", service_b);
    start(f);
    refresh_as_nobody(f);
    assert_true(has_both(f));
    assert_int_equal(chmod(path_of(f, "sub"), 0), 0);
    assert_int_equal(chmod(path_of(f, "b.yaml"), 0), 0);
    refresh_as_nobody(f);
    assert_true(has_both(f));
    assert_int_equal(f->gones, 0);
    expect_state(f, "degraded", 2);
    expect_error(f, 0, "b.yaml", 0, 0, "Permission denied", true);
    expect_error(f, 1, "sub", 0, 0, "directory cannot be read", true);
    assert_int_equal(chmod(path_of(f, "sub"), 0755), 0);
    assert_int_equal(chmod(path_of(f, "b.yaml"), 0644), 0);
    refresh_as_nobody(f);
    expect_state(f, "ok", 0);
    assert_int_equal(f->gones, 0);
}

static void test_a_file_name_that_is_no_text_is_reported(void **state)
{
    struct fixture *f = *state;
    write_file(f, "\xff.yaml", service_a);
    started(f);
    assert_int_equal(f->objects.count, 0);
    expect_error(f, 0, "?.yaml", 0, 0, "cannot be read", false);
}

static void test_start_needs_a_directory(void **state)
{
    struct fixture *f = *state;
    struct osm_err err = {0};
    struct osm_source_sink sink = {f, on_put, on_gone, on_synced};
    write_file(f, "file", "");
    assert_int_equal(osm_source_dir_start(&f->source, f->loop, path_of(f, "file"), &sink, &err),
                     OSM_EINVAL);
    assert_int_equal(osm_source_dir_start(&f->source, f->loop, path_of(f, "none"), &sink, &err),
                     OSM_ENOENT);
    assert_non_null(strstr(err.msg, "none"));
    assert_null(f->source);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_tells_what_is_there_then_what_changed, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_reads_documents_json_and_directories, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_lists_are_taken_apart, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_links_are_followed_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_fifo_does_not_block, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_broken_file_keeps_its_last_good_objects, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_file_that_is_broken_at_the_start_gives_nothing,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_file_is_one_unit, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_one_object_twice_in_a_file_is_an_error, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_of_one_object_in_two_files_the_first_file_wins, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_file_that_is_too_large_is_refused, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_name_that_cannot_be_resolved_keeps_its_objects,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_may_not_be_read_keeps_its_objects, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_file_name_that_is_no_text_is_reported, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_start_needs_a_directory, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, count_json, nothing_is_left);
}
