/* xds-load: N simulated sidecars against an ADS server, and against the transport alone.
 *
 * First single ones, each alone, then all at once, then changes that concern all, then all of them
 * come again. With --self-test the same against canned.c, with the bytes that the first sidecar was
 * sent, so that what the server costs is seen beside what its transport costs. Usage: --help. */
#include "canned.h"
#include "sidecar.h"

#include "base/clock.h"
#include "base/options.h"
#include "ca/ca.h"

#include <arpa/inet.h>
#include <errno.h>
#include <jansson.h>
#include <openssl/pem.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { EVENTS = 512, LINE_MAX_BYTES = 1024, VALIDITY_S = 24 * 3600 };

struct options {
    const char *target, *state_dir, *trust_domain, *proxies, *form, *server_pid, *change, *changes,
        *singles, *connecting, *record, *serve, *output, *timeout, *quiet_ms;
    bool self_test, help;
};

struct results {
    double single_p50_ms, single_p99_ms, all_s, change_s, updates_per_s, again_s;
    double rss_kb;
    uint64_t again_bytes, responses, bytes;
};

static struct options options = {.trust_domain = "cluster.local",
                                 .form = "delta",
                                 .changes = "3",
                                 .singles = "100",
                                 .connecting = "256",
                                 .timeout = "300",
                                 .quiet_ms = "2000",
                                 .output = "table"};
static struct sidecar *sidecars;
static size_t count;
static struct osm_ca *ca;

static void give_up(const char *what, const char *why)
{
    (void)fprintf(stderr, "xds-load: %s: %s\n", what, why);
    exit(1);
}

static size_t number_of(const char *flag, const char *text)
{
    char *end;
    errno = 0;
    unsigned long long n = strtoull(text, &end, 10);
    if (*end || end == text || errno || n > 1000000)
        give_up(flag, "expected a number");
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

static void set_target(struct load *l, const char *target)
{
    const char *colon = strrchr(target, ':');
    struct sockaddr_in *in = (struct sockaddr_in *)&l->address;
    char host[64];
    if (!colon || (size_t)(colon - target) >= sizeof host)
        give_up(target, "expected HOST:PORT");
    memcpy(host, target, (size_t)(colon - target));
    host[colon - target] = '\0';
    in->sin_family = AF_INET;
    in->sin_port = htons((uint16_t)number_of(target, colon + 1));
    l->address_len = sizeof *in;
    if (inet_pton(AF_INET, host, &in->sin_addr) != 1)
        give_up(target, "expected an IPv4 address");
}

/* --- the loop --- */

static void turn(struct load *l, int wait_ms)
{
    struct epoll_event events[EVENTS];
    int n = epoll_wait(l->epoll_fd, events, EVENTS, wait_ms);
    for (int i = 0; i < n; i++)
        sidecar_event(events[i].data.ptr, events[i].events);
}

static double seconds_since(uint64_t start_us)
{
    return (double)(osm_now_us() - start_us) / 1e6;
}

static void check(const struct load *l, uint64_t start_us, const char *what)
{
    if (l->failed)
        give_up(what, l->first_error);
    if (seconds_since(start_us) > (double)number_of("--timeout", options.timeout))
        give_up(what, "not within --timeout");
}

/* Starts all, a bounded number of handshakes at once; until all have what @p done counts. */
static double start_all(struct load *l, const size_t *done, const char *what)
{
    size_t connecting = number_of("--connecting", options.connecting), next = 0;
    uint64_t start_us = osm_now_us();
    while (*done < count) {
        while (next < count && next - l->accepted < connecting) {
            sidecars[next].load = l;
            sidecar_start(&sidecars[next++]);
        }
        turn(l, 100);
        check(l, start_us, what);
    }
    return seconds_since(start_us);
}

static void stop_all(void)
{
    for (size_t i = 0; i < count; i++)
        sidecar_stop(&sidecars[i]);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double resident_kb(pid_t pid)
{
    char path[64], line[256];
    double kb = 0;
    (void)snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    FILE *file = pid ? fopen(path, "r") : NULL;
    while (file && fgets(line, sizeof line, file))
        if (!strncmp(line, "VmRSS:", 6))
            kb = strtod(line + 6, NULL);
    if (file)
        (void)fclose(file);
    return kb;
}

static void forget(void)
{
    for (size_t i = 0; i < count; i++) {
        struct sidecar *s = &sidecars[i];
        X509 *certificate = s->certificate;
        EVP_PKEY *key = s->key;
        const char *uuid = s->uuid;
        s->certificate = NULL;
        s->key = NULL;
        if (s->load)
            sidecar_free(s);
        *s = (struct sidecar){.uuid = uuid, .certificate = certificate, .key = key};
    }
}

static void run_singles(struct load *l, struct results *r, size_t n)
{
    double *ms = osm_alloc_array(n ? n : 1, sizeof *ms);
    if (!ms)
        give_up("singles", "out of memory");
    for (size_t i = 0; i < n; i++) {
        struct sidecar *s = &sidecars[i % count];
        s->load = l;
        uint64_t start_us = osm_now_us();
        sidecar_start(s);
        while (!s->configured) {
            turn(l, 100);
            check(l, start_us, "a single sidecar");
        }
        ms[i] = (double)(s->configured_us - s->started_us) / 1e3;
        forget();
        if (l->record) {
            (void)fclose(l->record);
            l->record = NULL;
        }
    }
    if (n) {
        qsort(ms, n, sizeof *ms, by_value);
        r->single_p50_ms = ms[n / 2];
        r->single_p99_ms = ms[(n * 99 + 99) / 100 - 1];
    }
    osm_free(ms);
}

static void quiet(struct load *l)
{
    double quiet_ms = (double)number_of("--quiet-ms", options.quiet_ms);
    uint64_t last = l->responses, since_us = osm_now_us();
    while (seconds_since(since_us) * 1000 < quiet_ms) {
        turn(l, 50);
        if (l->responses != last)
            since_us = osm_now_us();
        last = l->responses;
    }
}

/* Its exit status; -1 where it cannot be run. */
static int run_program(const char *path)
{
    pid_t child;
    int status;
    char *const arguments[] = {(char *)(uintptr_t)path, NULL};
    if (posix_spawn(&child, path, NULL, NULL, arguments, environ) ||
        waitpid(child, &status, 0) != child)
        return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* Every sidecar hears of each change once at least. One is over when nothing more comes: two that
 * undo each other would otherwise be one that changes nothing. */
static void run_changes(struct load *l, struct results *r, size_t n, const char *command,
                        pid_t push)
{
    double total_s = 0;
    uint64_t *before = osm_alloc_array(count, sizeof *before);
    if (!before)
        give_up("changes", "out of memory");
    uint64_t responses = l->responses;
    for (size_t k = 0; k < n && (command || push); k++) {
        for (size_t i = 0; i < count; i++)
            before[i] = sidecars[i].responses;
        uint64_t start_us = osm_now_us();
        if (push ? kill(push, SIGUSR1) : run_program(command))
            give_up("--change", "the program failed");
        for (size_t behind = 1; behind;) {
            turn(l, 100);
            check(l, start_us, "a change");
            behind = 0;
            for (size_t i = 0; i < count; i++)
                behind += sidecars[i].responses == before[i];
        }
        quiet(l);
        total_s += (double)(l->last_response_us - start_us) / 1e6;
    }
    if (n && total_s > 0) {
        r->change_s = total_s / (double)n;
        r->updates_per_s = (double)(l->responses - responses) / total_s;
    }
    osm_free(before);
}

static struct results run(const char *target, pid_t pid, pid_t push, const char *record)
{
    struct results r = {0};
    struct load l = {.epoll_fd = epoll_create1(EPOLL_CLOEXEC),
                     .delta = !strcmp(options.form, "delta"),
                     .server_name = "ads.cluster.local"};
    char *server_name = osm_strf("ads.%s", options.trust_domain);
    l.server_name = server_name;
    l.tls = ca ? client_tls() : NULL;
    set_target(&l, target);
    if (record && !(l.record = fopen(record, "wb")))
        give_up(record, strerror(errno));
    run_singles(&l, &r, number_of("--singles", options.singles));
    quiet(&l);
    double before_kb = resident_kb(pid);
    uint64_t responses = l.responses, bytes = l.bytes;
    r.all_s = start_all(&l, &l.configured, "all sidecars");
    r.responses = l.responses - responses;
    r.bytes = l.bytes - bytes;
    quiet(&l);
    r.rss_kb = (resident_kb(pid) - before_kb) / (double)count;
    run_changes(&l, &r, number_of("--changes", options.changes), options.change, push);
    quiet(&l);
    stop_all();
    bytes = l.bytes;
    r.again_s = start_all(&l, &l.accepted, "all sidecars again");
    quiet(&l);
    r.again_bytes = l.bytes - bytes;
    if (l.failed)
        give_up("after the last", l.first_error);
    forget();
    SSL_CTX_free(l.tls);
    (void)close(l.epoll_fd);
    osm_free(server_name);
    return r;
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

static struct results run_floor(const char *self, const char *record)
{
    int ends[2], port = 20000 + (int)(getpid() % 20000);
    char target[64], ready[16] = "";
    (void)snprintf(target, sizeof target, "127.0.0.1:%d", port);
    if (pipe(ends))
        give_up("pipe", strerror(errno));
    pid_t child = fork();
    if (!child) {
        (void)dup2(ends[1], STDOUT_FILENO);
        (void)close(ends[0]);
        const char *state = options.state_dir ? options.state_dir : "";
        (void)execl(self, self, "--serve", target, "--record", record, "--trust-domain",
                    options.trust_domain, state[0] ? "--state-dir" : (char *)NULL, state,
                    (char *)NULL);
        _exit(127);
    }
    (void)close(ends[1]);
    if (child < 0 || read(ends[0], ready, sizeof ready - 1) <= 0)
        give_up("the canned server", "does not start");
    struct results r = run(target, child, child, NULL);
    (void)kill(child, SIGTERM);
    (void)waitpid(child, NULL, 0);
    (void)close(ends[0]);
    return r;
}

/* --- telling --- */

static json_t *as_json(const struct results *r)
{
    return json_pack("{s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:I, s:I, s:I}", "first_p50_ms",
                     r->single_p50_ms, "first_p99_ms", r->single_p99_ms, "all_s", r->all_s,
                     "change_s", r->change_s, "updates_per_s", r->updates_per_s, "again_s",
                     r->again_s, "rss_kb_per_proxy", r->rss_kb, "again_bytes",
                     (json_int_t)r->again_bytes, "responses", (json_int_t)r->responses, "bytes",
                     (json_int_t)r->bytes);
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
        (void)printf("  %-18s %12s %12s %8s\n", "", "server", floor ? "floor" : "",
                     floor ? "ratio" : "");
        json_object_foreach (s, key, value) {
            double at = json_number_value(value), on = json_number_value(json_object_get(f, key));
            (void)printf("  %-18s %12.2f", key, at);
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
        {"target", 0, "HOST:PORT", "the server (IPv4)", &options.target, NULL, false},
        {"proxies", 0, "FILE", "who they are: \"uuid account namespace\" per line",
         &options.proxies, NULL, false},
        {"state-dir", 0, "DIR",
         "holds the mesh's root, which signs their certificates; without it: plain",
         &options.state_dir, NULL, false},
        {"trust-domain", 0, "DOMAIN", "(default cluster.local)", &options.trust_domain, NULL,
         false},
        {"form", 0, "FORM", "delta or sotw (default delta)", &options.form, NULL, false},
        {"server-pid", 0, "PID", "whose memory is measured", &options.server_pid, NULL, false},
        {"singles", 0, "N", "how many times one comes alone (default 100)", &options.singles, NULL,
         false},
        {"change", 0, "PROGRAM", "makes a change that concerns all of them", &options.change, NULL,
         false},
        {"changes", 0, "N", "how often (default 3)", &options.changes, NULL, false},
        {"connecting", 0, "N", "handshakes at once (default 256)", &options.connecting, NULL,
         false},
        {"timeout", 0, "SECONDS", "of each step (default 300)", &options.timeout, NULL, false},
        {"quiet-ms", 0, "N", "a step is over when nothing has come for so long (default 2000)",
         &options.quiet_ms, NULL, false},
        {"self-test", 0, NULL, "also against the transport alone, side by side", NULL,
         &options.self_test, false},
        {"record", 0, "FILE", "what one is sent goes there; needed by --self-test", &options.record,
         NULL, false},
        {"serve", 0, "HOST:PORT", "be that transport: answers from --record", &options.serve, NULL,
         false},
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
        exit(0);
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

int main(int argc, char **argv)
{
    struct osm_err err = {0};
    struct rlimit files;
    parse(argc, argv);
    (void)signal(SIGPIPE, SIG_IGN);
    if (!getrlimit(RLIMIT_NOFILE, &files)) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
    struct osm_ca_config where = {options.state_dir, options.trust_domain};
    if (options.state_dir && osm_ca_open(&ca, &where, &err))
        give_up("--state-dir", err.msg);
    if (options.serve)
        return serve_canned();
    read_proxies();
    pid_t pid = options.server_pid ? (pid_t)number_of("--server-pid", options.server_pid) : 0;
    struct results server = run(options.target, pid, 0, options.record), floor;
    if (options.self_test)
        floor = run_floor("/proc/self/exe", options.record);
    tell(&server, options.self_test ? &floor : NULL);
    for (size_t i = 0; i < count; i++) {
        sidecar_free(&sidecars[i]);
        osm_free((void *)(uintptr_t)sidecars[i].uuid);
    }
    osm_free(sidecars);
    osm_ca_unref(ca);
    return 0;
}
