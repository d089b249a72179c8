/* Credentials that rotate, and plugins that make them; with real files and real processes. */
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
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "temp.h"

struct rig {
    struct osm_loop *loop;
    struct osm_kube_config config;
    struct osm_kube_credentials *credentials;
    int answers;
};

static void on_changed(void *ud)
{
    struct rig *rig = ud;
    rig->answers++;
    osm_loop_stop(rig->loop);
}

static void write_text(const char *name, const char *text, mode_t mode)
{
    char path[128];
    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    assert_int_equal(osm_file_write(AT_FDCWD, path, text, strlen(text), mode), 0);
}

static char *in_dir(const char *name)
{
    char *path = osm_strf("%s/%s", dir, name);
    assert_non_null(path);
    return path;
}

static int setup(void **state)
{
    struct rig *rig = osm_alloc(sizeof *rig);
    if (!rig || osm_loop_new(&rig->loop, NULL))
        return -1;
    rig->config.server = osm_strdup("https://h");
    *state = rig;
    return 0;
}

static int teardown(void **state)
{
    struct rig *rig = *state;
    osm_kube_credentials_free(rig->credentials);
    osm_loop_free(rig->loop);
    osm_kube_config_clear(&rig->config);
    osm_free(rig);
    return osm_mem_live() == 0 ? 0 : -1;
}

static void begin(struct rig *rig)
{
    assert_int_equal(
        osm_kube_credentials_new(&rig->credentials, rig->loop, &rig->config, on_changed, rig, NULL),
        0);
}

static void test_token_file_is_read_again_when_it_is_refused(void **state)
{
    struct rig *rig = *state;
    struct osm_kube_identity id;
    write_text("token", "first\n", 0600);
    write_text("ca", "CA1", 0600);
    rig->config.token_file = in_dir("token");
    rig->config.ca_file = in_dir("ca");
    begin(rig);
    assert_int_equal(osm_kube_credentials_get(rig->credentials, &id, NULL), 0);
    assert_string_equal(id.authorization, "Authorization: Bearer first");
    assert_string_equal(id.tls.ca, "CA1");
    write_text("token", "second\n", 0600);
    write_text("ca", "CA2", 0600);
    assert_int_equal(osm_kube_credentials_get(rig->credentials, &id, NULL), 0);
    assert_string_equal(id.authorization, "Authorization: Bearer first"); /* not at each request */
    osm_kube_credentials_refused(rig->credentials);
    assert_int_equal(osm_kube_credentials_get(rig->credentials, &id, NULL), 0);
    assert_string_equal(id.authorization, "Authorization: Bearer second");
    assert_string_equal(id.tls.ca, "CA2");
}

static void test_file_that_vanishes_leaves_what_was_read(void **state)
{
    struct rig *rig = *state;
    struct osm_kube_identity id;
    struct osm_err err = {0};
    rig->config.token_file = in_dir("absent");
    begin(rig);
    assert_int_equal(osm_kube_credentials_get(rig->credentials, &id, &err), OSM_ENOENT);
    assert_non_null(strstr(err.msg, "absent"));
    write_text("absent", "t", 0600);
    assert_int_equal(osm_kube_credentials_get(rig->credentials, &id, &err), 0);
    assert_int_equal(unlink(rig->config.token_file), 0);
    osm_kube_credentials_refused(rig->credentials);
    assert_int_equal(osm_kube_credentials_get(rig->credentials, &id, &err), 0);
    assert_string_equal(id.authorization, "Authorization: Bearer t");
}

static void test_token_with_two_lines_is_none(void **state)
{
    struct rig *rig = *state;
    struct osm_kube_identity id;
    struct osm_err err = {0};
    write_text("lines", "a\r\nHost: evil", 0600);
    rig->config.token_file = in_dir("lines");
    begin(rig);
    assert_int_equal(osm_kube_credentials_get(rig->credentials, &id, &err), OSM_EPARSE);
    write_text("lines", "", 0600);
    assert_int_equal(osm_kube_credentials_get(rig->credentials, &id, &err), OSM_EPARSE);
}

/* A plugin that prints this. */
static void use_plugin(struct rig *rig, const char *script)
{
    write_text("plugin", script, 0700);
    rig->config.exec.command = in_dir("plugin");
    rig->config.exec.api_version = osm_strdup("client.authentication.k8s.io/v1");
    rig->config.exec.env = osm_alloc_array(2, sizeof(char *));
    rig->config.exec.env[0] = osm_strdup("HOW=quietly");
    rig->config.exec.args = osm_alloc_array(2, sizeof(char *));
    rig->config.exec.args[0] = osm_strdup("an argument");
    begin(rig);
}

#define HEAD "#!/bin/sh\n"
#define ANSWER(status)                                                                             \
    "echo '{\"apiVersion\":\"client.authentication.k8s.io/v1\",\"kind\":\"ExecCredential\","       \
    "\"status\":" status "}'\n"

static int get_after_plugin(struct rig *rig, struct osm_kube_identity *id, struct osm_err *err)
{
    assert_int_equal(osm_kube_credentials_get(rig->credentials, id, err), OSM_EBUSY);
    assert_int_equal(osm_kube_credentials_get(rig->credentials, id, err), OSM_EBUSY);
    (void)osm_loop_run(rig->loop);
    return osm_kube_credentials_get(rig->credentials, id, err);
}

static void test_plugin_gives_a_token(void **state)
{
    struct rig *rig = *state;
    struct osm_kube_identity id;
    use_plugin(rig,
               HEAD "case $KUBERNETES_EXEC_INFO in *ExecCredential*) ;; *) exit 9;; esac\n" ANSWER(
                   "{\"token\":\"from '\"$HOW $1\"'\"}"));
    assert_int_equal(get_after_plugin(rig, &id, NULL), 0);
    assert_string_equal(id.authorization, "Authorization: Bearer from quietly an argument");
    assert_int_equal(rig->answers, 1);
}

static void test_plugin_gives_a_certificate_that_has_ended_and_is_asked_again(void **state)
{
    struct rig *rig = *state;
    struct osm_kube_identity id;
    use_plugin(rig, HEAD ANSWER("{\"clientCertificateData\":\"C\",\"clientKeyData\":\"K\","
                                "\"expirationTimestamp\":\"2001-01-01T00:00:00Z\"}"));
    assert_int_equal(get_after_plugin(rig, &id, NULL), OSM_EBUSY);
    (void)osm_loop_run(rig->loop);
    assert_int_equal(rig->answers, 2);
}

static void test_what_is_wrong_with_a_plugin_is_said(void **state)
{
    struct rig *rig = *state;
    static const struct {
        const char *script, *error;
    } rows[] = {
        {HEAD "echo not today >&2; exit 3\n", "ended with status 3: not today"},
        {HEAD "echo hello\n", "has printed no JSON"},
        {HEAD "echo '{}'\n", "has printed no ExecCredential"},
        {HEAD ANSWER("{}"), "has given neither a token nor a certificate"},
        {HEAD ANSWER("{\"clientKeyData\":\"K\",\"token\":\"t\"}"),
         "has given half of a certificate and its key"},
        {HEAD ANSWER("{\"token\":\"t\",\"expirationTimestamp\":\"soon\"}"),
         "status.expirationTimestamp: soon is no time"},
        {HEAD "echo '{\"apiVersion\":\"client.authentication.k8s.io/v1beta1\","
              "\"kind\":\"ExecCredential\",\"status\":{\"token\":\"t\"}}'\n",
         "has printed another apiVersion than client.authentication.k8s.io/v1"},
        {HEAD "head -c 3000000 /dev/zero\n", "over a limit"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct osm_kube_identity id;
        struct osm_err err = {0};
        if (i) {
            osm_kube_credentials_free(osm_take_ptr(&rig->credentials));
            write_text("plugin", rows[i].script, 0700);
            begin(rig);
        } else {
            use_plugin(rig, rows[i].script);
        }
        assert_int_equal(get_after_plugin(rig, &id, &err), OSM_EACCES);
        if (!strstr(err.msg, rows[i].error))
            fail_msg("%s: %s", rows[i].script, err.msg);
    }
}

static void test_plugin_that_is_not_there_is_said_with_its_hint(void **state)
{
    struct rig *rig = *state;
    struct osm_kube_identity id;
    struct osm_err err = {0};
    rig->config.exec.command = osm_strdup("osm-no-such-program");
    rig->config.exec.api_version = osm_strdup("client.authentication.k8s.io/v1");
    rig->config.exec.hint = osm_strdup("install it");
    begin(rig);
    assert_int_equal(osm_kube_credentials_get(rig->credentials, &id, &err), OSM_ENOENT);
    assert_non_null(strstr(err.msg, "osm-no-such-program"));
    assert_non_null(strstr(err.msg, "(install it)"));
}

static void test_plugin_at_work_is_ended_with_its_user(void **state)
{
    struct rig *rig = *state;
    struct osm_kube_identity id;
    use_plugin(rig, HEAD "exec sleep 1000\n");
    assert_int_equal(osm_kube_credentials_get(rig->credentials, &id, NULL), OSM_EBUSY);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_token_file_is_read_again_when_it_is_refused),
        TEST(test_file_that_vanishes_leaves_what_was_read),
        TEST(test_token_with_two_lines_is_none),
        TEST(test_plugin_gives_a_token),
        TEST(test_plugin_gives_a_certificate_that_has_ended_and_is_asked_again),
        TEST(test_what_is_wrong_with_a_plugin_is_said),
        TEST(test_plugin_that_is_not_there_is_said_with_its_hint),
        TEST(test_plugin_at_work_is_ended_with_its_user),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
