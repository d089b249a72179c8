/* xds-load: N simulated sidecars against an ADS server, and against the transport alone.
 *
 * First single ones, each alone, then all at once, then single ones anew while the others are idle,
 * then changes that concern all, then all of them come again. With --self-test the same against
 * canned.c, which sends what one sidecar was sent, byte for byte and change for change, so that
 * what the server costs is seen beside what its transport costs. Usage: --help. */
#include "canned.h"
#include "give_up.h"
#include "steps.h"

#include "base/mem.h"
#include "base/options.h"
#include "ca/ca.h"

#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <openssl/pem.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    LINE_MAX_BYTES = 1024,
    VALIDITY_S = 24 * 3600,
    OTHER_FILES = 64 /* open files beside the connections */
};

struct options {
    const char *target, *state_dir, *trust_domain, *server_name, *proxies, *form, *server_pid,
        *changes, *singles, *connecting, *record, *serve, *output, *timeout_s, *quiet_ms;
    const char *programs[OSM_OPTION_VALUES_MAX + 1], *swaps[OSM_OPTION_VALUES_MAX + 1];
    bool self_test, stay, help;
};

static struct options options = {.trust_domain = "cluster.local",
                                 .form = "delta",
                                 .changes = "3",
                                 .singles = "100",
                                 .connecting = "256",
                                 .timeout_s = "300",
                                 .quiet_ms = "2000",
                                 .output = "table"};
static struct changes changes;
static struct sidecar *sidecars;
static size_t count;
static struct osm_ca *ca;

static size_t number_of(const char *flag, const char *text, size_t least)
{
    char *end;
    errno = 0;
    unsigned long long n = strtoull(text, &end, 10);
    if (*end || end == text || errno || n < least || n > INT_MAX) {
        (void)fprintf(stderr, "xds-load: %s: expected a number of %zu or more\n", flag, least);
        exit(2);
    }
    return (size_t)n;
}

/* --- sidecars --- */

static void make_certificate(struct sidecar *s, const char *account, const char *ns)
{
    struct osm_err err = {0};
    struct osm_leaf *leaf = NULL;
    char *name = osm_strf("%s.sidecar.%s.%s.%s", s->uuid, account, ns, options.trust_domain);
    struct osm_leaf_request request = {
        .kind = OSM_LEAF_PROXY, .common_name = name, .uuid = s->uuid, .validity_s = VALIDITY_S};
    if (osm_ca_issue(ca, &request, &leaf, &err))
        give_up(s->uuid, err.msg);
    BIO *chain = BIO_new_mem_buf(osm_leaf_chain_pem(leaf), -1),
        *key = BIO_new_mem_buf(osm_leaf_key_pem(leaf), -1);
    s->certificate = PEM_read_bio_X509(chain, NULL, NULL, NULL);
    s->key = PEM_read_bio_PrivateKey(key, NULL, NULL, NULL);
    BIO_free(chain);
    BIO_free(key);
    osm_leaf_unref(leaf);
    osm_free(name);
    if (!s->certificate || !s->key)
        give_up(s->uuid, "its certificate cannot be read back");
}

/* "uuid account namespace" per line. */
static void read_proxies(void)
{
    char line[LINE_MAX_BYTES];
    FILE *file = fopen(options.proxies, "r");
    size_t room = 0;
    if (!file)
        give_up(options.proxies, strerror(errno));
    while (fgets(line, sizeof line, file)) {
        char *rest = NULL;
        const char *uuid = strtok_r(line, " \n", &rest), *account = strtok_r(NULL, " \n", &rest),
                   *ns = strtok_r(NULL, " \n", &rest);
        if (!uuid || !account || !ns)
            give_up(options.proxies, "expected \"uuid account namespace\" on each line");
        if (count == room) {
            room = room ? room * 2 : 1024;
            sidecars = osm_realloc_array(sidecars, room, sizeof *sidecars);
            if (!sidecars)
                give_up("sidecars", "out of memory");
        }
        struct sidecar *s = &sidecars[count++];
        memset(s, 0, sizeof *s);
        s->uuid = osm_strdup(uuid);
        if (ca)
            make_certificate(s, account, ns);
    }
    (void)fclose(file);
    if (!count)
        give_up(options.proxies, "names no proxy");
}

static SSL_CTX *client_tls(void)
{
    SSL_CTX *tls = SSL_CTX_new(TLS_client_method());
    BIO *bio = BIO_new_mem_buf(osm_ca_roots_pem(ca), -1);
    X509 *root = bio ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;
    if (!tls || !root || X509_STORE_add_cert(SSL_CTX_get_cert_store(tls), root) != 1)
        give_up("TLS", "cannot be set up");
    SSL_CTX_set_verify(tls, SSL_VERIFY_PEER, NULL);
    (void)SSL_CTX_set_mode(tls, SSL_MODE_ENABLE_PARTIAL_WRITE |
                                    SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
    X509_free(root);
    BIO_free(bio);
    return tls;
}

/* --- the floor --- */

static int serve_canned(void)
{
    struct osm_err err = {0};
    struct osm_leaf *leaf = NULL;
    struct canned_config config = {.listen = options.serve, .record = options.record};
    struct osm_leaf_request request = {.kind = OSM_LEAF_ADS, .validity_s = VALIDITY_S};
    if (ca && osm_ca_issue(ca, &request, &leaf, &err))
        give_up("certificate", err.msg);
    if (leaf) {
        config.chain_pem = osm_leaf_chain_pem(leaf);
        config.key_pem = osm_leaf_key_pem(leaf);
        config.roots_pem = osm_ca_roots_pem(ca);
    }
    int rc = canned_serve(&config);
    osm_leaf_unref(leaf);
    return rc;
}

static struct steps_config plan(const char *target, pid_t pid)
{
    return (struct steps_config){
        .target = target,
        .delta = !strcmp(options.form, "delta"),
        .sidecars = sidecars,
        .count = count,
        .singles = number_of("--singles", options.singles, 0),
        .connecting = number_of("--connecting", options.connecting, 1),
        .timeout_s = number_of("--timeout-s", options.timeout_s, 1),
        .quiet_ms = number_of("--quiet-ms", options.quiet_ms, 1),
        .changes = &changes,
        .repeats = number_of("--changes", options.changes, 0),
        .pid = pid,
    };
}

/* The child, which dies with this one; @p target: where it listens, of @p size bytes. */
static pid_t start_canned(char *target, size_t size, FILE **words)
{
    int ends[2];
    pid_t parent = getpid(), child;
    if (pipe(ends) || (child = fork()) < 0)
        give_up("the canned server", strerror(errno));
    if (!child) {
        const char *state = options.state_dir ? options.state_dir : "";
        (void)dup2(ends[1], STDOUT_FILENO);
        (void)close(ends[0]);
        (void)close(ends[1]);
        if (prctl(PR_SET_PDEATHSIG, SIGKILL) || getppid() != parent)
            _exit(127);
        (void)execl("/proc/self/exe", "xds-load", "--serve", "127.0.0.1:0", "--record",
                    options.record, "--trust-domain", options.trust_domain,
                    state[0] ? "--state-dir" : (char *)NULL, state, (char *)NULL);
        _exit(127);
    }
    (void)close(ends[1]);
    *words = fdopen(ends[0], "r");
    if (!*words || !fgets(target, (int)size, *words))
        give_up("the canned server", "does not start");
    target[strcspn(target, "\n")] = '\0';
    return child;
}

static struct results run_floor(struct steps_config config)
{
    char target[64] = "";
    FILE *words = NULL;
    int status = 0;
    config.pid = start_canned(target, sizeof target, &words);
    config.target = target;
    config.canned = true;
    config.record = NULL;
    struct results r = steps_run(&config);
    if (kill(config.pid, SIGTERM) || waitpid(config.pid, &status, 0) != config.pid || status)
        give_up("the canned server", "has failed");
    (void)fclose(words);
    return r;
}

/* --- telling --- */

static void put(json_t *to, const char *prefix, const char *key, double value)
{
    char *name = osm_strf("%s%s", prefix, key);
    if (!name || json_object_set_new(to, name, json_real(value)))
        give_up("figures", "out of memory");
    osm_free(name);
}

static json_t *as_json(const struct results *r)
{
    json_t *to = json_object();
    put(to, "", "alone_p50_ms", r->alone_p50_ms);
    put(to, "", "alone_p99_ms", r->alone_p99_ms);
    put(to, "", "among_p50_ms", r->among_p50_ms);
    put(to, "", "among_p99_ms", r->among_p99_ms);
    put(to, "", "all_s", r->all_s);
    put(to, "", "all_cpu_s", r->all_cpu_s);
    put(to, "", "all_client_cpu_s", r->client_cpu_s);
    put(to, "", "all_responses", (double)r->responses);
    put(to, "", "all_bytes", (double)r->bytes);
    put(to, "", "rss_kb_per_proxy", r->rss_kb);
    for (size_t i = 0; i < changes.len; i++) {
        const struct kind_result *k = &r->kinds[i];
        char *prefix = osm_strf("%s_", changes.list[i].name);
        put(to, prefix, "first_p50_ms", k->first_p50_ms);
        put(to, prefix, "first_max_ms", k->first_max_ms);
        put(to, prefix, "all_p50_s", k->all_p50_s);
        put(to, prefix, "all_max_s", k->all_max_s);
        put(to, prefix, "updates", (double)k->updates);
        put(to, prefix, "updates_per_s", k->updates_per_s);
        put(to, prefix, "cpu_us_per_update", k->cpu_us_per_update);
        osm_free(prefix);
    }
    put(to, "", "again_s", r->again_s);
    put(to, "", "again_cpu_s", r->again_cpu_s);
    put(to, "", "again_bytes", (double)r->again_bytes);
    return to;
}

static void tell(const struct results *server, const struct results *floor)
{
    json_t *s = as_json(server), *f = floor ? as_json(floor) : NULL;
    const char *key;
    json_t *value;
    if (!strcmp(options.output, "json")) {
        json_t *out =
            json_pack("{s:I, s:s, s:s, s:O, s:O?}", "sidecars", (json_int_t)count, "form",
                      options.form, "transport", ca ? "mtls" : "plain", "server", s, "floor", f);
        (void)json_dumpf(out, stdout, JSON_INDENT(2));
        (void)putchar('\n');
        json_decref(out);
    } else {
        (void)printf("%zu sidecars, %s, %s\n", count, options.form, ca ? "mTLS" : "plain");
        (void)printf("  %-28s %12s %12s %8s\n", "", "server", floor ? "floor" : "",
                     floor ? "ratio" : "");
        json_object_foreach (s, key, value) {
            double at = json_number_value(value), on = json_number_value(json_object_get(f, key));
            (void)printf("  %-28s %12.2f", key, at);
            if (f)
                (void)printf(" %12.2f", on);
            if (f && on > 0)
                (void)printf(" %8.2f", at / on);
            (void)putchar('\n');
        }
    }
    json_decref(s);
    json_decref(f);
}

static void parse(int argc, char **argv)
{
    const struct osm_option list[] = {
        {"target", 0, "HOST:PORT", "the server", &options.target, NULL, false},
        {"proxies", 0, "FILE", "who they are: \"uuid account namespace\" per line",
         &options.proxies, NULL, false},
        {"state-dir", 0, "DIR",
         "holds the mesh's root, which signs their certificates; without it: plain",
         &options.state_dir, NULL, false},
        {"trust-domain", 0, "DOMAIN", "(default cluster.local)", &options.trust_domain, NULL,
         false},
        {"server-name", 0, "NAME", "in the server's certificate (default ads.<trust domain>)",
         &options.server_name, NULL, false},
        {"form", 0, "FORM", "delta or sotw (default delta)", &options.form, NULL, false},
        {"server-pid", 0, "PID", "whose memory is measured", &options.server_pid, NULL, false},
        {"singles", 0, "N", "how many times one comes alone (default 100)", &options.singles, NULL,
         false},
        {"change", 0, "PROGRAM...", "makes a change that concerns all of them", options.programs,
         NULL, false},
        {"swap", 0, "FILE:OTHER...",
         "a change that concerns all of them: FILE gets the contents of OTHER by one rename, its "
         "own the next time; OTHER lies on the same file system, where the server does not look",
         options.swaps, NULL, false},
        {"changes", 0, "N", "how often each (default 3)", &options.changes, NULL, false},
        {"connecting", 0, "N", "handshakes at once (default 256)", &options.connecting, NULL,
         false},
        {"timeout-s", 0, "N", "of each step (default 300)", &options.timeout_s, NULL, false},
        {"quiet-ms", 0, "N", "a step is over when nothing has come for so long (default 2000)",
         &options.quiet_ms, NULL, false},
        {"self-test", 0, NULL, "also against the transport alone, side by side", NULL,
         &options.self_test, false},
        {"stay", 0, NULL, "connect all, and do as the lines of stdin say (steps.h)", NULL,
         &options.stay, false},
        {"record", 0, "FILE", "what one is sent goes there; needed by --self-test", &options.record,
         NULL, false},
        {"serve", 0, "HOST:PORT",
         "be that transport: answers from --record, prints where, pushes on SIGUSR1",
         &options.serve, NULL, false},
        {"output", 'o', "FORMAT", "table or json", &options.output, NULL, false},
        {"help", 'h', NULL, "print this and end", NULL, &options.help, false},
        {NULL, 0, NULL, NULL, NULL, NULL, false},
    };
    struct osm_err err = {0};
    const char **words = NULL;
    size_t n = 0;
    if (osm_options_parse(list, argc, argv, &words, &n, &err) || n) {
        (void)fprintf(stderr, "xds-load: %s\n", n ? "only flags are expected" : err.msg);
        exit(2);
    }
    osm_free(words);
    if (options.help) {
        (void)printf("xds-load: simulated sidecars against an ADS server\n\n");
        osm_options_help(list, stdout);
        (void)printf("\nExit status: 0 measured, 1 something failed (said on stderr), 2 wrong "
                     "flags.\nTimes end when the answers have been handed to the kernel.\n");
        exit(0);
    }
    bool told = !strcmp(options.output, "json") || !strcmp(options.output, "table");
    if (!told) {
        (void)fprintf(stderr, "xds-load: --output: expected table or json\n");
        exit(2);
    }
    bool known = !strcmp(options.form, "delta") || !strcmp(options.form, "sotw");
    if (!known || (!options.serve && (!options.target || !options.proxies)) ||
        ((options.serve || options.self_test) && !options.record)) {
        (void)fprintf(stderr, "xds-load: %s\n",
                      known ? "--target and --proxies, or --serve and --record; --self-test needs "
                              "--record"
                            : "--form: expected delta or sotw");
        exit(2);
    }
}

static void make_room(void)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files))
        give_up("open files", strerror(errno));
    files.rlim_cur = files.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &files);
    if (files.rlim_max < count + OTHER_FILES) {
        char *why =
            osm_strf("one for each of %zu sidecars and %d more are needed, %llu allowed; raise "
                     "the limit (ulimit -Hn)",
                     count, OTHER_FILES, (unsigned long long)files.rlim_max);
        give_up("open files", why);
    }
}

static void run_steps(struct steps_config config, const char *server_name)
{
    struct results server = steps_run(&config), floor;
    if (options.self_test) {
        config.server_name = server_name;
        floor = run_floor(config);
    }
    tell(&server, options.self_test ? &floor : NULL);
}

int main(int argc, char **argv)
{
    struct osm_err err = {0};
    parse(argc, argv);
    (void)signal(SIGPIPE, SIG_IGN);
    struct osm_ca_config where = {options.state_dir, options.trust_domain};
    if (options.state_dir && osm_ca_open(&ca, &where, &err))
        give_up("--state-dir", err.msg);
    if (options.serve) {
        make_room();
        return serve_canned();
    }
    read_proxies();
    make_room();
    changes_read(&changes, options.programs, options.swaps);
    pid_t pid = options.server_pid ? (pid_t)number_of("--server-pid", options.server_pid, 1) : 0;
    char *server_name = osm_strf("ads.%s", options.trust_domain);
    struct steps_config config = plan(options.target, pid);
    config.tls = ca ? client_tls() : NULL;
    config.server_name = options.server_name ? options.server_name : server_name;
    config.record = options.record;
    if (options.stay)
        steps_stay(&config);
    else
        run_steps(config, server_name);
    for (size_t i = 0; i < count; i++) {
        sidecar_free(&sidecars[i]);
        osm_free((void *)(uintptr_t)sidecars[i].uuid);
    }
    osm_free(sidecars);
    changes_clear(&changes);
    SSL_CTX_free(config.tls);
    osm_free(server_name);
    osm_ca_unref(ca);
    return 0;
}
