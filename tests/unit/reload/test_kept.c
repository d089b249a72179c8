#include "reload/kept.h"

#include "base/buf.h"
#include "base/file.h"
#include "base/mem.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char root[] = "/tmp/osm-kept-XXXXXX";

static const char *at(const char *name)
{
    static char path[256];
    (void)snprintf(path, sizeof path, "%s/%s", root, name);
    return path;
}

static void put(const char *name, const char *text)
{
    assert_int_equal(osm_file_write(AT_FDCWD, at(name), text, strlen(text), 0600), 0);
}

static struct osm_policy_files *read_dirs(void)
{
    struct osm_policy_files *files = NULL;
    struct osm_err err = {0};
    char one[64], two[64];
    (void)snprintf(one, sizeof one, "%s/one", root);
    (void)snprintf(two, sizeof two, "%s/two", root);
    const char *dirs[] = {one, two, NULL};
    if (osm_policy_files_read(&files, dirs, &err))
        fail_msg("%s", err.msg);
    return files;
}

static int set_up(void **state)
{
    (void)state;
    if (!mkdtemp(root))
        return -1;
    assert_int_equal(mkdir(at("one"), 0700), 0);
    assert_int_equal(mkdir(at("two"), 0700), 0);
    put("one/a.lua", "return {} -- \xc3\xa9");
    put("one/b.lua", "return 1");
    put("two/b.lua", "return 2");
    put("two/crd.yaml", "kind: X");
    put("two/notes.txt", "no");
    put("two/b_spec.lua", "no");
    put("two/.hidden.lua", "no");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    static const char *const names[] = {
        "one/a.lua",       "one/b.lua",        "two/b.lua",
        "two/crd.yaml",    "two/notes.txt",    "two/b_spec.lua",
        "two/.hidden.lua", "kept/active.json", "kept/quarantine.json"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        (void)unlink(at(names[i]));
    (void)rmdir(at("one"));
    (void)rmdir(at("two"));
    (void)rmdir(at("kept"));
    return rmdir(root);
}

static void test_a_bundle_comes_back_as_it_was(void **state)
{
    (void)state;
    struct osm_policy_files *files = read_dirs(), *back = NULL;
    char instead_of[OSM_POLICY_DIGEST_SIZE];
    struct osm_err err = {0};
    assert_int_equal(osm_kept_bundle(&back, instead_of, at("kept"), &err), 0);
    assert_null(back);
    assert_int_equal(files->len, 3);
    const struct osm_policy_file *b = osm_policy_files_find(files, "b.lua");
    assert_string_equal(b->text, "return 2");
    assert_true(b->below && b->layer == 1 && b->below_layer == 0 && b->below_hash[0]);
    assert_int_equal(osm_kept_write_bundle(at("kept"), files, "0123", &err), 0);
    assert_int_equal(osm_kept_write_bundle(at("kept"), files, "0123", &err),
                     0); /* over the old one */
    assert_int_equal(osm_kept_bundle(&back, instead_of, at("kept"), &err), 0);
    assert_string_equal(back->digest, files->digest);
    assert_string_equal(instead_of, "0123");
    assert_int_equal(back->len, files->len);
    for (size_t i = 0; i < files->len; i++) {
        assert_string_equal(back->list[i].path, files->list[i].path);
        assert_string_equal(back->list[i].text, files->list[i].text);
        assert_string_equal(back->list[i].below_hash, files->list[i].below_hash);
        assert_int_equal(back->list[i].layer, files->list[i].layer);
    }
    assert_string_equal(back->dirs[1], files->dirs[1]);
    osm_policy_files_unref(files);
    osm_policy_files_unref(back);
}

/* What was written by somebody else, or half: never a bundle. */
static void test_a_damaged_bundle_is_none(void **state)
{
    (void)state;
    struct osm_policy_files *files = read_dirs(), *back = NULL;
    char instead_of[OSM_POLICY_DIGEST_SIZE];
    struct osm_err err = {0};
    struct osm_buf text = OSM_BUF_INIT(65536);
    assert_int_equal(osm_kept_write_bundle(at("kept"), files, "0123", &err), 0);
    assert_int_equal(osm_buf_read_file(&text, at("kept/active.json"), &err), 0);
    for (size_t cut = 0; cut < text.len; cut += 7) {
        char *half = osm_strndup(text.data, cut);
        put("kept/active.json", half);
        assert_int_not_equal(osm_kept_bundle(&back, instead_of, at("kept"), &err), 0);
        assert_null(back);
        osm_free(half);
    }
    char *digit = strstr(text.data, "return 2");
    assert_non_null(digit);
    digit[7] = '3';
    put("kept/active.json", text.data);
    assert_int_equal(osm_kept_bundle(&back, instead_of, at("kept"), &err), OSM_EINVAL);
    assert_non_null(strstr(err.msg, "do not have the digest"));
    osm_buf_clear(&text);
    osm_policy_files_unref(files);
}

/* A FIFO hung the start for good; and whoever can write there could say who may call whom. */
static void test_what_is_no_file_of_ours_is_not_used(void **state)
{
    (void)state;
    struct osm_policy_files *files = read_dirs(), *back = NULL;
    char instead_of[OSM_POLICY_DIGEST_SIZE];
    struct osm_err err = {0};
    assert_int_equal(osm_kept_write_bundle(at("kept"), files, "0123", &err), 0);
    for (int i = 0; i < 3; i++) {
        if (i == 0)
            assert_int_equal(chmod(at("kept"), 0770), 0);
        if (i == 1)
            assert_int_equal(chmod(at("kept/active.json"), 0602), 0);
        if (i == 2) {
            assert_int_equal(unlink(at("kept/active.json")), 0);
            assert_int_equal(mkfifo(at("kept/active.json"), 0600), 0);
        }
        err = (struct osm_err){0};
        assert_int_equal(osm_kept_bundle(&back, instead_of, at("kept"), &err),
                         i == 2 ? OSM_EIO : OSM_EACCES);
        assert_null(back);
        assert_non_null(strstr(err.msg, i == 2 ? "is no regular file" : "others may change it"));
        assert_int_equal(chmod(at("kept"), 0700), 0);
    }
    assert_int_equal(osm_kept_write_bundle(at("kept"), files, "0123", &err), 0); /* over it */
    assert_int_equal(osm_kept_bundle(&back, instead_of, at("kept"), &err), 0);
    osm_policy_files_unref(files);
    osm_policy_files_unref(back);
}

/* Left out silently, what such a module denies would be allowed. */
static void test_a_module_that_is_no_file_is_an_error(void **state)
{
    (void)state;
    static const char *const names[] = {"two/c.lua", "two/d.yaml"};
    struct osm_policy_files *files = NULL;
    char two[64];
    (void)snprintf(two, sizeof two, "%s/two", root);
    const char *dirs[] = {two, NULL};
    for (size_t i = 0; i < 2; i++) {
        struct osm_err err = {0};
        assert_int_equal(mkfifo(at(names[i]), 0600), 0);
        assert_int_equal(osm_policy_files_read(&files, dirs, &err), OSM_EIO);
        if (!strstr(err.msg, names[i]) || !strstr(err.msg, "is no regular file"))
            fail_msg("%s", err.msg);
        assert_int_equal(unlink(at(names[i])), 0);
    }
    assert_int_equal(mkfifo(at("two/notes"), 0600), 0); /* nobody's business */
    assert_int_equal(osm_policy_files_read(&files, dirs, NULL), 0);
    assert_int_equal(unlink(at("two/notes")), 0);
    osm_policy_files_unref(files);
}

static void test_the_quarantine_comes_back(void **state)
{
    (void)state;
    struct osm_err err = {0};
    json_t *got = NULL, *put_in = json_pack("{s:{s:s, s:s}}", "d1", "reason", "no", "version", "2");
    assert_int_equal(osm_kept_quarantine(&got, at("kept"), &err), 0);
    assert_int_equal(json_object_size(got), 0);
    json_decref(got);
    assert_int_equal(osm_kept_write_quarantine(at("kept"), put_in, &err), 0);
    assert_int_equal(osm_kept_quarantine(&got, at("kept"), &err), 0);
    assert_true(json_equal(got, put_in));
    json_decref(got);
    put("kept/quarantine.json", "{\"d1\": 1}");
    assert_int_equal(osm_kept_quarantine(&got, at("kept"), &err), OSM_EINVAL);
    assert_int_equal(json_object_size(got), 0);
    json_decref(got);
    json_decref(put_in);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_bundle_comes_back_as_it_was),
        cmocka_unit_test(test_what_is_no_file_of_ours_is_not_used),
        cmocka_unit_test(test_a_module_that_is_no_file_is_an_error),
        cmocka_unit_test(test_a_damaged_bundle_is_none),
        cmocka_unit_test(test_the_quarantine_comes_back),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
