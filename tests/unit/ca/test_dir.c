/* The state directory: the failures of a real file system, and two processes that start at once.
 * Mounts are made in a mount namespace of a child's own, so nothing is left behind. */
#include "ca_util.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>

static int in_child(int (*fn)(const struct tmp *), const struct tmp *t)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (!pid)
        _exit(fn(t));
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

enum { PASSED = 0, FAILED = 1, SKIPPED = 77 };

/* The child says on stderr what it saw, since cmocka is its parent's. */
static int refused(const char *dir, int code, const char *part)
{
    struct osm_ca *ca = NULL;
    struct osm_err err = {0};
    int rc = open_ca(&ca, dir, &err);
    osm_ca_unref(ca);
    if (rc == code && strstr(err.msg, part))
        return PASSED;
    (void)fprintf(stderr, "expected %s with \"%s\", got %s: %s\n", osm_code_name(code), part,
                  rc ? osm_code_name(rc) : "success", err.msg);
    return FAILED;
}

static bool own_mounts(void)
{
    return !unshare(CLONE_NEWNS) && !mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL);
}

static int read_only(const struct tmp *t)
{
    if (!own_mounts() || mount("none", t->root, "tmpfs", 0, "size=1m"))
        return SKIPPED;
    if (mkdir(t->state, 0700) || mount("none", t->root, "tmpfs", MS_REMOUNT | MS_RDONLY, "size=1m"))
        return FAILED;
    int rc = refused(t->state, OSM_EACCES, "Read-only file system");
    return rc ? rc
              : refused(in(t->root, "absent"), OSM_EACCES,
                        "cannot be created: Read-only file system");
}

static int read_only_with_root(const struct tmp *t)
{
    if (!own_mounts() || mount("none", t->root, "tmpfs", 0, "size=1m"))
        return SKIPPED;
    struct osm_ca *ca = NULL;
    if (open_ca(&ca, t->state, NULL))
        return FAILED;
    osm_ca_unref(ca);
    if (mount("none", t->root, "tmpfs", MS_REMOUNT | MS_RDONLY, "size=1m"))
        return FAILED;
    return refused(t->state, OSM_EACCES, "cannot be written");
}

static int full(const struct tmp *t)
{
    if (!own_mounts() || mount("none", t->root, "tmpfs", 0, "size=16k"))
        return SKIPPED;
    if (mkdir(t->state, 0700))
        return FAILED;
    static char block[4096];
    int fd = open(in(t->root, "ballast"), O_WRONLY | O_CREAT, 0600);
    while (write(fd, block, sizeof block) > 0)
        ;
    (void)close(fd);
    int rc = refused(t->state, OSM_EIO, "No space left on device");
    if (rc)
        return rc;
    /* Nothing half-made is in the way once there is room. */
    DIR *d = opendir(t->state);
    int entries = 0;
    for (struct dirent *e = readdir(d); e; e = readdir(d))
        entries++;
    (void)closedir(d);
    if (entries != 2 || unlink(in(t->root, "ballast")))
        return FAILED;
    struct osm_ca *ca = NULL;
    int opened = open_ca(&ca, t->state, NULL);
    osm_ca_unref(ca);
    return opened ? FAILED : PASSED;
}

static int short_write(const struct tmp *t)
{
    (void)signal(SIGXFSZ, SIG_IGN);
    if (setrlimit(RLIMIT_FSIZE, &(struct rlimit){100, 100}))
        return SKIPPED;
    return refused(t->state, OSM_EIO, "cannot be written: File too large");
}

static void check(int (*fn)(const struct tmp *), const struct tmp *t)
{
    int rc = in_child(fn, t);
    if (rc == SKIPPED)
        skip(); /* needs CAP_SYS_ADMIN */
    assert_int_equal(rc, PASSED);
}

static void test_read_only_directory_is_refused(void **state)
{
    check(read_only, *state);
}

static void test_read_only_directory_is_refused_with_a_root_in_it(void **state)
{
    check(read_only_with_root, *state);
}

static void test_full_directory_is_refused_and_left_clean(void **state)
{
    check(full, *state);
}

static void test_short_write_is_refused_and_left_clean(void **state)
{
    struct tmp *t = *state;
    check(short_write, t);
    assert_int_equal(access(in(t->state, "private.key"), F_OK), -1);
    assert_int_equal(access(in(t->state, ".private.key.new"), F_OK), -1);
    osm_ca_unref(must_open(t->state));
}

static void test_directory_below_a_file_is_refused(void **state)
{
    struct tmp *t = *state;
    spit(in(t->root, "file"), "x", 1, 0600);
    expect_refused(in(t->root, "file/state"), OSM_EIO, "Not a directory");
    expect_refused(in(t->root, "file"), OSM_EIO, "Not a directory");
    expect_refused(in(t->root, "no/state"), OSM_EIO, "No such file or directory");
}

static void test_directory_that_others_may_write_is_refused(void **state)
{
    struct tmp *t = *state;
    assert_int_equal(mkdir(t->state, 0700), 0);
    assert_int_equal(chmod(t->state, 0770), 0);
    expect_refused(t->state, OSM_EACCES, "others may write to it (mode 0770)");
    assert_int_equal(chmod(t->state, 0757), 0);
    expect_refused(t->state, OSM_EACCES, "others may write to it (mode 0757)");
    assert_int_equal(chmod(t->state, 0755), 0);
    osm_ca_unref(must_open(t->state));
}

static void test_directory_of_another_user_is_refused(void **state)
{
    struct tmp *t = *state;
    assert_int_equal(mkdir(t->state, 0700), 0);
    if (chown(t->state, 12345, (gid_t)-1))
        skip(); /* needs root */
    expect_refused(t->state, OSM_EACCES, "belongs to uid 12345");
}

static void test_processes_that_start_at_once_get_one_root(void **state)
{
    enum { PROCESSES = 6 };
    struct tmp *t = *state;
    int gate[2], result[2];
    pid_t pids[PROCESSES];
    assert_int_equal(pipe(gate), 0);
    assert_int_equal(pipe(result), 0);
    for (int i = 0; i < PROCESSES; i++) {
        pids[i] = fork();
        assert_true(pids[i] >= 0);
        if (!pids[i]) {
            char c;
            struct osm_ca *ca = NULL;
            (void)close(gate[1]);
            (void)!read(gate[0], &c, 1); /* returns when the parent closes */
            if (open_ca(&ca, t->state, NULL))
                _exit(1);
            bool ok = write(result[1], osm_ca_fingerprint(ca), 64) == 64;
            osm_ca_unref(ca);
            _exit(ok ? 0 : 1);
        }
    }
    (void)close(gate[0]);
    (void)close(gate[1]);
    (void)close(result[1]);
    char first[64], next[64];
    assert_int_equal(read(result[0], first, 64), 64);
    for (int i = 1; i < PROCESSES; i++) {
        assert_int_equal(read(result[0], next, 64), 64);
        assert_memory_equal(first, next, 64);
    }
    (void)close(result[0]);
    for (int i = 0; i < PROCESSES; i++) {
        int status = 0;
        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
}

static void test_lock_is_held_while_open_and_given_back(void **state)
{
    struct tmp *t = *state;
    struct osm_ca_dir dir;
    assert_int_equal(osm__ca_dir_open(&dir, t->state, NULL), 0);
    int fd = open(t->state, O_RDONLY | O_DIRECTORY);
    assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), -1);
    assert_int_equal(errno, EWOULDBLOCK);
    osm__ca_dir_close(&dir);
    osm__ca_dir_close(&dir);
    assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), 0);
    (void)close(fd);
}

static void test_failed_second_step_leaves_the_certificate_aside(void **state)
{
    struct tmp *t = *state;
    struct osm_ca_dir dir;
    assert_int_equal(osm__ca_dir_open(&dir, t->state, NULL), 0);
    /* A directory of the certificate's name: the rename onto it fails after the key has its name.
     */
    assert_int_equal(mkdir(in(t->state, "ca.crt"), 0700), 0);
    struct osm_err err = {0};
    assert_int_equal(osm__ca_dir_publish(&dir, "key", "cert", &err), OSM_EIO);
    assert_int_equal(access(in(t->state, "private.key"), F_OK), 0);
    assert_int_equal(access(in(t->state, osm__ca_cert_aside), F_OK), 0);
    assert_int_equal(rmdir(in(t->state, "ca.crt")), 0);
    assert_int_equal(osm__ca_dir_finish(&dir, &err), 0);
    assert_int_equal(access(in(t->state, "ca.crt"), F_OK), 0);
    osm__ca_dir_close(&dir);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, tmp_setup, tmp_teardown)
    const struct CMUnitTest tests[] = {
        T(test_read_only_directory_is_refused),
        T(test_read_only_directory_is_refused_with_a_root_in_it),
        T(test_full_directory_is_refused_and_left_clean),
        T(test_short_write_is_refused_and_left_clean),
        T(test_directory_below_a_file_is_refused),
        T(test_directory_that_others_may_write_is_refused),
        T(test_directory_of_another_user_is_refused),
        T(test_processes_that_start_at_once_get_one_root),
        T(test_lock_is_held_while_open_and_given_back),
        T(test_failed_second_step_leaves_the_certificate_aside),
    };
    return cmocka_run_group_tests_name("ca/dir", tests, quiet, no_leak);
}
