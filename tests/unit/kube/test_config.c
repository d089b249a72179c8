/* kubeconfig files, and what a pod is given. */
#include "kube/config.h"
#include "kube/credentials.h"

#include "base/buf.h"
#include "base/file.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "temp.h"

static char *write_file(const char *name, const char *text)
{
    char *path = osm_strf("%s/%s", dir, name);
    assert_non_null(path);
    assert_int_equal(osm_file_write(AT_FDCWD, path, text, strlen(text), 0600), 0);
    return path;
}

static int load(struct osm_kube_config *out, const char *text, const char *context,
                struct osm_err *err)
{
    char *path = write_file("config", text);
    int rc = osm_kube_config_load(out, path, context, err);
    osm_free(path);
    return rc;
}

static const char *usual =
    "apiVersion: v1\nkind: Config\ncurrent-context: one\n"
    "contexts:\n"
    "- {name: one, context: {cluster: near, user: admin}}\n"
    "- {name: two, context: {cluster: far, user: robot, namespace: x}}\n"
    "- {name: three, context: {cluster: near, user: plugin}}\n"
    "- {name: nobody, context: {cluster: near}}\n"
    "- {name: broken, context: {cluster: near, user: gone}}\n"
    "clusters:\n"
    "- name: near\n"
    "  cluster: {server: 'https://127.0.0.1:6443/', certificate-authority-data: Q0EK}\n"
    "- name: far\n"
    "  cluster:\n"
    "    server: https://far.example:443\n"
    "    certificate-authority: pki/ca.crt\n"
    "    proxy-url: http://proxy:3128\n"
    "users:\n"
    "- name: admin\n"
    "  user: {client-certificate-data: Q0VSVAo=, client-key-data: S0VZCg==}\n"
    "- name: robot\n"
    "  user: {token: old, tokenFile: /var/token, as: jane, as-groups: [a, b]}\n"
    "- name: plugin\n"
    "  user:\n"
    "    exec:\n"
    "      apiVersion: client.authentication.k8s.io/v1\n"
    "      command: ./bin/login\n"
    "      args: [--cluster, near]\n"
    "      env: [{name: HOW, value: quietly}]\n"
    "      interactiveMode: IfAvailable\n"
    "      provideClusterInfo: true\n";

static void test_current_context_with_certificates_inline(void **state)
{
    (void)state;
    struct osm_kube_config c;
    assert_int_equal(load(&c, usual, NULL, NULL), 0);
    assert_string_equal(c.server, "https://127.0.0.1:6443");
    assert_string_equal(c.ca, "CA\n");
    assert_string_equal(c.cert, "CERT\n");
    assert_string_equal(c.key, "KEY\n");
    assert_null(c.token);
    assert_null(c.headers);
    assert_non_null(strstr(c.about, "context one of "));
    osm_kube_config_clear(&c);
}

static void test_named_context_with_files_beside_the_kubeconfig(void **state)
{
    (void)state;
    struct osm_kube_config c;
    char path[64];
    assert_int_equal(load(&c, usual, "two", NULL), 0);
    (void)snprintf(path, sizeof path, "%s/pki/ca.crt", dir);
    assert_string_equal(c.ca_file, path);
    assert_string_equal(c.token_file, "/var/token");
    assert_null(c.token); /* the file is newer */
    assert_string_equal(c.proxy, "http://proxy:3128");
    assert_string_equal(c.headers[0], "Impersonate-User: jane");
    assert_string_equal(c.headers[1], "Impersonate-Group: a");
    assert_string_equal(c.headers[2], "Impersonate-Group: b");
    assert_null(c.headers[3]);
    osm_kube_config_clear(&c);
}

static void test_context_with_a_plugin(void **state)
{
    (void)state;
    struct osm_kube_config c;
    char path[64];
    assert_int_equal(load(&c, usual, "three", NULL), 0);
    (void)snprintf(path, sizeof path, "%s/./bin/login", dir);
    assert_string_equal(c.exec.command, path);
    assert_string_equal(c.exec.args[1], "near");
    assert_string_equal(c.exec.env[0], "HOW=quietly");
    assert_true(c.exec.wants_cluster);
    osm_kube_config_clear(&c);
}

static void test_several_files_the_first_that_has_an_entry_counts(void **state)
{
    (void)state;
    struct osm_kube_config c;
    char *a = write_file("a", "contexts: [{name: two, context: {cluster: near, user: admin}}]\n"
                              "users: [{name: admin, user: {token: mine}}]\n");
    char *b = write_file("b", usual);
    char *paths = osm_strf("%s::/nowhere/at/all:%s", a, b);
    assert_int_equal(osm_kube_config_load(&c, paths, "two", NULL), 0);
    assert_string_equal(c.server, "https://127.0.0.1:6443");
    assert_string_equal(c.token, "mine");
    osm_kube_config_clear(&c);
    assert_int_equal(osm_kube_config_load(&c, paths, NULL, NULL), 0); /* b says which is current */
    assert_string_equal(c.token, "mine");
    osm_kube_config_clear(&c);
    osm_free(a);
    osm_free(b);
    osm_free(paths);
}

#define CLUSTER "clusters: [{name: k, cluster: {server: 'https://h'}}]\n"
#define CONTEXT "current-context: c\ncontexts: [{name: c, context: {cluster: k, user: u}}]\n"

static void test_what_is_wrong_is_named(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int code;
        const char *error; /* after the file's name */
    } rows[] = {
        {"contexts: []\n", OSM_EINVAL, "current-context is not set"},
        {"current-context: x\n", OSM_ENOENT, "there is no context x"},
        {CONTEXT, OSM_ENOENT, "context c: there is no cluster k"},
        {CONTEXT CLUSTER, OSM_ENOENT, "context c: there is no user u"},
        {CONTEXT "clusters: [{name: k, cluster: {}}]\n", OSM_EINVAL,
         "clusters[k].server: is missing"},
        {CONTEXT "clusters: [{name: k, cluster: {server: 'ftp://h'}}]\n", OSM_EINVAL,
         "clusters[k].server: must begin with https:// or http://"},
        {CONTEXT "clusters: [{name: k, cluster: {server: 'https://user:word@h'}}]\n", OSM_EINVAL,
         "clusters[k].server: must hold neither credentials, which belong under users"},
        {CONTEXT "clusters: [{name: k, cluster: {server: 'https://h/?token=word'}}]\n", OSM_EINVAL,
         "clusters[k].server: must hold neither credentials"},
        {CONTEXT "clusters: [{name: k, cluster: {server: 'https://h', tls-server-name: n}}]\n",
         OSM_EINVAL, "clusters[k].tls-server-name: is not supported"},
        {CONTEXT "clusters: [{name: k, cluster: {server: 7}}]\n", OSM_EINVAL,
         "clusters[k].server: must be a string"},
        {CONTEXT "clusters: [{name: k, cluster: {server: 'https://h', "
                 "certificate-authority-data: '%%'}}]\n",
         OSM_EPARSE, "clusters[k].certificate-authority-data: is no base64 of a text"},
        {CONTEXT "clusters: [{name: k, cluster: {server: 'https://h', "
                 "certificate-authority: /ca, insecure-skip-tls-verify: true}}]\n",
         OSM_EINVAL, "clusters[k].insecure-skip-tls-verify: cannot be true"},
        {CONTEXT CLUSTER "users: [{name: u, user: {client-key: /key}}]\n", OSM_EINVAL,
         "users[u].client-certificate: is missing"},
        {CONTEXT CLUSTER "users: [{name: u, user: {auth-provider: {name: gcp}}}]\n", OSM_ENOTSUP,
         "users[u].auth-provider: is not supported"},
        {CONTEXT CLUSTER "users: [{name: u, user: {exec: {command: x}}}]\n", OSM_ENOTSUP,
         "users[u].exec.apiVersion: expected client.authentication.k8s.io/v1"},
        {CONTEXT CLUSTER "users: [{name: u, user: {exec: {command: x, interactiveMode: Always, "
                         "apiVersion: client.authentication.k8s.io/v1}}}]\n",
         OSM_ENOTSUP, "users[u].exec.interactiveMode: there is nobody to ask"},
        {CONTEXT CLUSTER "users: [{name: u, user: {exec: {command: x, args: 7, "
                         "apiVersion: client.authentication.k8s.io/v1}}}]\n",
         OSM_EINVAL, "users[u].args: must be a list"},
        {CONTEXT CLUSTER "users: [{name: u, user: {token: \"a\\nb\"}}]\n", OSM_EINVAL,
         "users[u].token: has more than one line"},
        {CONTEXT CLUSTER "users: [{name: u, user: {as: \"a\\nb\"}}]\n", OSM_EINVAL,
         "users[u].as: is no header's value"},
        {"[1]\n", OSM_EPARSE, "is no kubeconfig"},
        {"{", OSM_EPARSE, ""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct osm_kube_config c = {0};
        struct osm_err err = {0};
        assert_int_equal(load(&c, rows[i].text, NULL, &err), rows[i].code);
        if (!strstr(err.msg, rows[i].error) || !strstr(err.msg, "/config: "))
            fail_msg("%s: %s", rows[i].text, err.msg);
        assert_null(strstr(err.msg, "word"));
        assert_null(c.server);
    }
}

static void test_context_without_a_user_is_nobody(void **state)
{
    (void)state;
    struct osm_kube_config c;
    struct osm_err err = {0};
    assert_int_equal(load(&c, usual, "nobody", NULL), 0);
    assert_null(c.token);
    osm_kube_config_clear(&c);
    assert_int_equal(load(&c, usual, "broken", &err), OSM_ENOENT);
}

static void test_no_memory_at_any_point_leaves_nothing(void **state)
{
    (void)state;
    static const char *const contexts[] = {"one", "two", "three"};
    char *path = write_file("config", usual);
    for (size_t i = 0; i < 3; i++) {
        for (long n = 0;; n++) {
            struct osm_kube_config c = {0};
            long before = osm_mem_live();
            osm_mem_fail_at(n);
            int rc = osm_kube_config_load(&c, path, contexts[i], NULL);
            bool waits = osm_mem_fail_waits();
            osm_mem_fail_at(-1);
            osm_kube_config_clear(&c);
            assert_int_equal(osm_mem_live(), before);
            assert_int_equal(rc, waits ? 0 : OSM_ENOMEM);
            if (waits)
                break;
        }
    }
    osm_free(path);
}

static void test_pod_finds_its_account_in_files(void **state)
{
    (void)state;
    struct osm_kube_config c;
    struct osm_err err = {0};
    char path[64];
    (void)unsetenv("KUBERNETES_SERVICE_HOST");
    assert_int_equal(osm_kube_config_in_cluster(&c, dir, &err), OSM_ENOENT);
    (void)setenv("KUBERNETES_SERVICE_HOST", "fd00::1", 1);
    (void)setenv("KUBERNETES_SERVICE_PORT", "443", 1);
    (void)snprintf(path, sizeof path, "%s/token", dir);
    (void)unlink(path);
    assert_int_equal(osm_kube_config_in_cluster(&c, dir, &err), OSM_ENOENT);
    osm_free(write_file("token", "t"));
    assert_int_equal(osm_kube_config_in_cluster(&c, dir, &err), 0);
    assert_string_equal(c.server, "https://[fd00::1]:443");
    assert_string_equal(c.token_file, path);
    osm_kube_config_clear(&c);
}

static void test_times_of_credentials(void **state)
{
    (void)state;
    assert_int_equal(osm_kube_time("1970-01-01T00:00:00Z"), 0);
    assert_int_equal(osm_kube_time("2030-01-31T23:59:59.123456Z"), 1896134399);
    assert_int_equal(osm_kube_time("2030-02-01T01:59:59+02:00"), 1896134399);
    assert_int_equal(osm_kube_time("2030-01-31T20:29:59-03:30"), 1896134399);
    static const char *const none[] = {"",
                                       "2030-01-31",
                                       "2030-01-31T23:59:59",
                                       "2030-01-31 23:59:59Z",
                                       "tomorrow",
                                       "2030-01-31T23:59:59+2",
                                       "2030-01-31T23:59:59Zx"};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++)
        assert_int_equal(osm_kube_time(none[i]), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_current_context_with_certificates_inline),
        cmocka_unit_test(test_named_context_with_files_beside_the_kubeconfig),
        cmocka_unit_test(test_context_with_a_plugin),
        cmocka_unit_test(test_several_files_the_first_that_has_an_entry_counts),
        cmocka_unit_test(test_what_is_wrong_is_named),
        cmocka_unit_test(test_context_without_a_user_is_nobody),
        cmocka_unit_test(test_no_memory_at_any_point_leaves_nothing),
        cmocka_unit_test(test_pod_finds_its_account_in_files),
        cmocka_unit_test(test_times_of_credentials),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
