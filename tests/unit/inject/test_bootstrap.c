/* The bootstrap: the values that matter, no value that breaks out of its place, and the real
 * Envoy's own verdict. */
#include "inject_util.h"

#include "base/log.h"
#include "ca/ca.h"
#include "inject/bootstrap.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#define UUID "1f3b0b5e-7d0c-4c55-9a5e-0d9b8a7c6f01"

static const struct osm_bootstrap_config good = {
    .uuid = UUID,
    .account = "bookbuyer",
    .ns = "bookbuyer",
    .osm_namespace = "osm-system",
    .trust_domain = "cluster.local",
    .ads_port = 15128,
    .mount_path = "/etc/envoy",
};

typedef int writer_fn(struct osm_buf *out, const struct osm_bootstrap_config *config,
                      struct osm_err *err);
static writer_fn *const writers[] = {osm_bootstrap_yaml, osm_bootstrap_tls_sds_yaml,
                                     osm_bootstrap_validation_sds_yaml, osm_bootstrap_args};
enum { WRITERS = sizeof writers / sizeof *writers };

static void holds(writer_fn *write, const struct osm_bootstrap_config *c, const char *const *parts,
                  size_t parts_len)
{
    struct osm_buf out = OSM_BUF_INIT(65536);
    struct osm_err err = {0};
    if (write(&out, c, &err))
        fail_msg("%s", err.msg);
    for (size_t i = 0; i < parts_len; i++)
        if (!strstr(out.data, parts[i]))
            fail_msg("missing: %s\n%s", parts[i], out.data);
    osm_buf_clear(&out);
}
#define HOLDS(write, config, ...)                                                                  \
    holds((write), (config), (const char *const[]){__VA_ARGS__},                                   \
          sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *))

static void test_bootstrap_names_the_proxy_and_asks_for_delta(void **state)
{
    (void)state;
    HOLDS(osm_bootstrap_yaml, &good, "  id: \"" UUID "\"\n", "  cluster: \"bookbuyer.bookbuyer\"\n",
          "api_type: DELTA_GRPC\n", "transport_api_version: V3\n",
          "set_node_on_first_message_only: true\n");
}

static void test_bootstrap_reaches_ads_over_pinned_tls_without_sessions(void **state)
{
    (void)state;
    HOLDS(osm_bootstrap_yaml, &good, "address: \"osm-controller.osm-system.svc.cluster.local\"\n",
          "port_value: 15128\n", "tls_minimum_protocol_version: \"TLSv1_2\"\n",
          "tls_maximum_protocol_version: \"TLSv1_3\"\n", "max_session_keys: 0\n",
          "path: \"/etc/envoy/tls_certificate_sds_secret.yaml\"\n",
          "path: \"/etc/envoy/validation_context_sds_secret.yaml\"\n");
    HOLDS(osm_bootstrap_validation_sds_yaml, &good, "san_type: DNS\n",
          "exact: \"ads.cluster.local\"\n", "filename: \"/etc/envoy/cacert.pem\"\n");
    HOLDS(osm_bootstrap_tls_sds_yaml, &good, "filename: \"/etc/envoy/sds_cert.pem\"\n",
          "filename: \"/etc/envoy/sds_key.pem\"\n");
}

static void test_admin_listens_on_loopback_only(void **state)
{
    (void)state;
    HOLDS(osm_bootstrap_yaml, &good,
          "admin:\n  address:\n    socket_address: {address: 127.0.0.1, port_value: 15000}\n");
}

static void test_arguments_are_the_reference_s_and_the_drain_time(void **state)
{
    (void)state;
    struct osm_buf out = OSM_BUF_INIT(4096);
    struct osm_bootstrap_config c = good;
    assert_int_equal(osm_bootstrap_args(&out, &c, NULL), 0);
    assert_string_equal(
        out.data,
        "--log-level\nerror\n--config-path\n/etc/envoy/bootstrap.yaml\n"
        "--service-cluster\nbookbuyer.bookbuyer\n--drain-time-s\n45\n--disable-hot-restart\n");
    osm_buf_reset(&out);
    c.drain_time_s = 7;
    assert_int_equal(osm_bootstrap_args(&out, &c, NULL), 0);
    assert_non_null(strstr(out.data, "--drain-time-s\n7\n"));
    osm_buf_clear(&out);
}

static void test_account_with_dots_keeps_them(void **state)
{
    (void)state;
    struct osm_bootstrap_config c = good;
    c.account = "a.b.c";
    HOLDS(osm_bootstrap_yaml, &c, "  cluster: \"a.b.c.bookbuyer\"\n");
}

static void refused(const struct osm_bootstrap_config *c, const char *part)
{
    for (int i = 0; i < WRITERS; i++) {
        struct osm_buf out = OSM_BUF_INIT(65536);
        struct osm_err err = {0};
        int rc = writers[i](&out, c, &err);
        if (rc != OSM_EINVAL || !strstr(err.msg, part))
            fail_msg("writer %d: expected a refusal with \"%s\", got %d: %s", i, part, rc, err.msg);
        assert_int_equal(out.len, 0);
        osm_buf_clear(&out);
    }
}

static void test_values_that_are_no_names_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {NULL, "",   "a b", "a\nb",  "a\"", "a: b",
                                      "A",  "-a", "a-",  "$(id)", "a/b", "a#"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct osm_bootstrap_config c = good;
        c.uuid = bad[i];
        refused(&c, "proxy uuid: ");
        c = good;
        c.account = bad[i];
        refused(&c, "service account: ");
        c = good;
        c.ns = bad[i];
        refused(&c, "namespace: ");
        c = good;
        c.osm_namespace = bad[i];
        refused(&c, "control plane namespace: ");
        c = good;
        c.trust_domain = bad[i];
        refused(&c, "trust domain: ");
    }
    struct osm_bootstrap_config c = good;
    c.ns = "a.b"; /* a namespace holds no dot: the name could not be read back */
    refused(&c, "namespace: ");
}

static void test_numbers_and_paths_out_of_range_are_refused(void **state)
{
    (void)state;
    static const int ports[] = {0, -1, 65536};
    for (int i = 0; i < 3; i++) {
        struct osm_bootstrap_config c = good;
        c.ads_port = ports[i];
        refused(&c, "ADS port: ");
    }
    static const char *const paths[] = {NULL, "", "etc/envoy", "/etc\nx"};
    for (int i = 0; i < 4; i++) {
        struct osm_bootstrap_config c = good;
        c.mount_path = paths[i];
        refused(&c, "mount path: ");
    }
    struct osm_bootstrap_config c = good;
    c.drain_time_s = -1;
    refused(&c, "drain time: ");
}

static void test_probes_that_are_none_are_refused(void **state)
{
    (void)state;
    static const struct {
        struct osm_bootstrap_probe probe;
        const char *part;
    } bad[] = {
        {{OSM_PROBE_LIVENESS, OSM_PROBE_HTTP, "a\"", 1, "/", 1}, "name of the container: "},
        {{OSM_PROBE_LIVENESS, OSM_PROBE_HTTP, "a", 0, "/", 1}, "container a: 0 is not a port"},
        {{OSM_PROBE_LIVENESS, OSM_PROBE_HTTP, "a", 1, NULL, 1}, "path of the liveness probe"},
        {{OSM_PROBE_READINESS, OSM_PROBE_HTTP, "a", 1, "x", 1}, "path of the readiness probe"},
        {{OSM_PROBE_STARTUP, OSM_PROBE_HTTP, "a", 1, "/\n", 1}, "is not encoded"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct osm_bootstrap_config c = good;
        c.probes = &bad[i].probe;
        c.probes_len = 1;
        refused(&c, bad[i].part);
    }
}

/* --- probes --- */

static const struct osm_bootstrap_probe probes[] = {
    {OSM_PROBE_LIVENESS, OSM_PROBE_HTTP, "app", 8080, "/x\"\\:{}%20?a=b", 3},
    {OSM_PROBE_LIVENESS, OSM_PROBE_TLS_THROUGH, "two", 8443, "/", 1},
    {OSM_PROBE_LIVENESS, OSM_PROBE_TLS_FROM_HERE, "three", 8444, "/t", 1},
    {OSM_PROBE_READINESS, OSM_PROBE_TLS_THROUGH, "app", 8443, "/", 1},
    {OSM_PROBE_STARTUP, OSM_PROBE_HTTP, "app", 8080, "/up", 86400},
};

static struct osm_bootstrap_config with_probes(void)
{
    struct osm_bootstrap_config c = good;
    c.probes = probes;
    c.probes_len = sizeof probes / sizeof *probes;
    return c;
}

static void test_a_prb_01_02_a_container_is_known_by_its_path(void **state)
{
    (void)state;
    const struct osm_bootstrap_config c = with_probes();
    HOLDS(osm_bootstrap_yaml, &c, "name: liveness_listener\n", "port_value: 15901}\n",
          "name: readiness_listener\n", "port_value: 15902}\n", "name: startup_listener\n",
          "port_value: 15903}\n", "match: {path: \"/osm-liveness-probe/app\"}\n",
          "cluster: \"app_liveness_cluster\"\n", "prefix_rewrite: \"/x\\\"\\\\:{}%20?a=b\"\n",
          "timeout: 3s\n", "stat_prefix: health_probes_http\n",
          "stat_prefix: health_probes_https\n", "cluster: \"two_liveness_cluster\"\n",
          "socket_address: {address: 127.0.0.1, port_value: 8444}\n");
}

static void test_text_over_the_ceiling_is_an_error(void **state)
{
    (void)state;
    for (int i = 0; i < WRITERS; i++) {
        struct osm_buf out = OSM_BUF_INIT(50);
        assert_int_equal(writers[i](&out, &good, NULL), OSM_ELIMIT);
        osm_buf_clear(&out);
    }
}

/* --- the real Envoy --- */

/* The data plane is a package of the tests' Python environment. */
static bool envoy_path(char *out, size_t size)
{
    const char *python = getenv("OSM_PYTHON");
    const char *slash = python ? strrchr(python, '/') : NULL;
    if (!slash)
        return false;
    (void)snprintf(out, size, "%.*s/envoy", (int)(slash - python), python);
    return access(out, X_OK) == 0;
}

static void put(const char *dir, const char *name, const char *text)
{
    char path[256];
    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "we");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static void put_written(const char *dir, const char *name, writer_fn *write,
                        const struct osm_bootstrap_config *c)
{
    struct osm_buf out = OSM_BUF_INIT(65536);
    assert_int_equal(write(&out, c, NULL), 0);
    put(dir, name, out.data);
    osm_buf_clear(&out);
}

static void remove_dir(const char *path)
{
    DIR *d = opendir(path);
    for (struct dirent *e = d ? readdir(d) : NULL; e; e = readdir(d))
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 &&
            unlinkat(dirfd(d), e->d_name, 0)) {
            char sub[512];
            (void)snprintf(sub, sizeof sub, "%s/%s", path, e->d_name);
            remove_dir(sub);
        }
    if (d)
        (void)closedir(d);
    (void)rmdir(path);
}

static void put_certificates(const char *dir, const char *account)
{
    struct osm_ca *ca = NULL;
    struct osm_leaf *leaf = NULL;
    char state_dir[256];
    (void)snprintf(state_dir, sizeof state_dir, "%s/ca", dir);
    assert_int_equal(osm_ca_open(&ca, &(struct osm_ca_config){state_dir, "cluster.local"}, NULL),
                     0);
    char *cn = osm_strf(UUID ".sidecar.%s.bookbuyer.cluster.local", account);
    assert_int_equal(osm_ca_issue(ca, &(struct osm_leaf_request){OSM_LEAF_PROXY, cn, UUID, 3600, 0},
                                  &leaf, NULL),
                     0);
    put(dir, "sds_cert.pem", osm_leaf_chain_pem(leaf));
    put(dir, "sds_key.pem", osm_leaf_key_pem(leaf));
    put(dir, "cacert.pem", osm_ca_roots_pem(ca));
    osm_free(cn);
    osm_leaf_unref(leaf);
    osm_ca_unref(ca);
}

static int validate(const char *envoy, const struct osm_bootstrap_config *c, struct osm_buf *said)
{
    char config[300];
    put_written(c->mount_path, "bootstrap.yaml", osm_bootstrap_yaml, c);
    put_written(c->mount_path, "tls_certificate_sds_secret.yaml", osm_bootstrap_tls_sds_yaml, c);
    put_written(c->mount_path, "validation_context_sds_secret.yaml",
                osm_bootstrap_validation_sds_yaml, c);
    (void)snprintf(config, sizeof config, "%s/bootstrap.yaml", c->mount_path);
    const char *const argv[] = {
        envoy, "--mode", "validate", "-l", "warning", "--disable-hot-restart", "-c", config, NULL};
    return run(argv, NULL, said);
}

static void test_envoy_accepts_the_bootstrap_and_finds_nothing_deprecated(void **state)
{
    (void)state;
    char envoy[512], dir[] = "/tmp/osm-bootstrap-test-XXXXXX";
    if (!envoy_path(envoy, sizeof envoy))
        skip(); /* needs OSM_PYTHON and its Envoy */
    assert_non_null(mkdtemp(dir));
    struct osm_bootstrap_config c = good;
    c.mount_path = dir;
    put_certificates(dir, "bookbuyer");
    struct osm_buf said = OSM_BUF_INIT(1 << 20);
    int rc = validate(envoy, &c, &said);
    bool complains = strstr(said.data, "deprecated") || strstr(said.data, "Deprecated") ||
                     strstr(said.data, "[error]") || strstr(said.data, "[critical]");
    remove_dir(dir);
    if (rc || complains)
        fail_msg("envoy: exit %d: %s", rc, said.data);
    osm_buf_clear(&said);
}

/* Each kind of listener that there can be: both protocols, TLS alone, HTTP alone. */
static void test_envoy_accepts_the_probes_and_finds_nothing_deprecated(void **state)
{
    (void)state;
    char envoy[512], dir[] = "/tmp/osm-bootstrap-test-XXXXXX";
    if (!envoy_path(envoy, sizeof envoy))
        skip();
    assert_non_null(mkdtemp(dir));
    struct osm_bootstrap_config c = with_probes();
    c.mount_path = dir;
    put_certificates(dir, "bookbuyer");
    struct osm_buf said = OSM_BUF_INIT(1 << 20);
    int rc = validate(envoy, &c, &said);
    bool complains = strstr(said.data, "deprecated") || strstr(said.data, "Deprecated") ||
                     strstr(said.data, "[error]") || strstr(said.data, "[critical]");
    remove_dir(dir);
    if (rc || complains)
        fail_msg("envoy: exit %d: %s", rc, said.data);
    osm_buf_clear(&said);
}

/* A common name over X.509's 64 bytes must not keep a sidecar from starting. */
static void test_envoy_accepts_a_certificate_of_a_very_long_account(void **state)
{
    (void)state;
    char envoy[512], dir[] = "/tmp/osm-bootstrap-test-XXXXXX", account[151];
    if (!envoy_path(envoy, sizeof envoy))
        skip();
    memset(account, 'a', sizeof account - 1);
    account[sizeof account - 1] = '\0';
    assert_non_null(mkdtemp(dir));
    struct osm_bootstrap_config c = good;
    c.mount_path = dir;
    c.account = account;
    put_certificates(dir, account);
    struct osm_buf said = OSM_BUF_INIT(1 << 20);
    int rc = validate(envoy, &c, &said);
    remove_dir(dir);
    if (rc)
        fail_msg("envoy: exit %d: %s", rc, said.data);
    osm_buf_clear(&said);
}

/* The verdict of the two tests above means something only if Envoy would refuse a bad file. */
static void test_envoy_refuses_a_bootstrap_with_an_unknown_field(void **state)
{
    (void)state;
    char envoy[512], dir[] = "/tmp/osm-bootstrap-test-XXXXXX", path[256];
    if (!envoy_path(envoy, sizeof envoy))
        skip();
    assert_non_null(mkdtemp(dir));
    struct osm_bootstrap_config c = good;
    c.mount_path = dir;
    struct osm_buf text = OSM_BUF_INIT(65536), said = OSM_BUF_INIT(1 << 20);
    assert_int_equal(osm_bootstrap_yaml(&text, &c, NULL), 0);
    (void)osm_buf_add_str(&text, "no_such_field: 1\n");
    put(dir, "bootstrap.yaml", text.data);
    (void)snprintf(path, sizeof path, "%s/bootstrap.yaml", dir);
    const char *const argv[] = {envoy, "--mode", "validate", "--disable-hot-restart",
                                "-c",  path,     NULL};
    int rc = run(argv, NULL, &said);
    remove_dir(dir);
    assert_int_not_equal(rc, 0);
    assert_non_null(strstr(said.data, "no_such_field"));
    osm_buf_clear(&text);
    osm_buf_clear(&said);
}

static int quiet(void **state)
{
    (void)state;
    osm_log_set_level(OSM_LOG_TOPIC_COUNT, OSM_LOG_OFF);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bootstrap_names_the_proxy_and_asks_for_delta),
        cmocka_unit_test(test_bootstrap_reaches_ads_over_pinned_tls_without_sessions),
        cmocka_unit_test(test_admin_listens_on_loopback_only),
        cmocka_unit_test(test_arguments_are_the_reference_s_and_the_drain_time),
        cmocka_unit_test(test_account_with_dots_keeps_them),
        cmocka_unit_test(test_values_that_are_no_names_are_refused),
        cmocka_unit_test(test_numbers_and_paths_out_of_range_are_refused),
        cmocka_unit_test(test_probes_that_are_none_are_refused),
        cmocka_unit_test(test_a_prb_01_02_a_container_is_known_by_its_path),
        cmocka_unit_test(test_text_over_the_ceiling_is_an_error),
        cmocka_unit_test(test_envoy_accepts_the_bootstrap_and_finds_nothing_deprecated),
        cmocka_unit_test(test_envoy_accepts_the_probes_and_finds_nothing_deprecated),
        cmocka_unit_test(test_envoy_accepts_a_certificate_of_a_very_long_account),
        cmocka_unit_test(test_envoy_refuses_a_bootstrap_with_an_unknown_field),
    };
    return cmocka_run_group_tests_name("inject/bootstrap", tests, quiet, no_leak);
}
