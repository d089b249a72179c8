/* xds-load: N simulated sidecars against an ADS server, and against the transport alone.
 *
 * First single ones, each alone, then all at once, then single ones anew while the others are idle,
 * then changes that concern all, then all of them come again. With --self-test the same against
 * canned.c, which sends what one sidecar was sent, byte for byte and change for change, so that
 * what the server costs is seen beside what its transport costs. Usage: --help. */
#include "canned.h"
#include "sidecar.h"

#include "base/clock.h"
#include "base/options.h"
#include "ca/ca.h"

#include <errno.h>
#include <jansson.h>
#include <netdb.h>
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

enum {
    EVENTS = 512,
    LINE_MAX_BYTES = 1024,
    VALIDITY_S = 24 * 3600,
    FILE_MAX_BYTES = 16 << 20,
    OTHER_FILES = 64, /* open files beside the connections */
    KINDS_MAX = 2 * OSM_OPTION_VALUES_MAX,
    NAME_MAX_BYTES = 32
};

struct options {
    const char *target, *state_dir, *trust_domain, *server_name, *proxies, *form, *server_pid,
        *changes, *singles, *connecting, *record, *serve, *output, *timeout_s, *quiet_ms;
    const char *programs[OSM_OPTION_VALUES_MAX + 1], *swaps[OSM_OPTION_VALUES_MAX + 1];
    bool self_test, help;
};

/* A kind of change: a program, or a file that takes the contents of two in turn. */
struct kind {
    char name[NAME_MAX_BYTES];
    const char *program;
    char *file, *next;
    struct osm_buf contents[2];
    size_t turn;
};

struct kind_result {
    double first_p50_ms, first_max_ms; /* until the first has accepted something */
    double all_p50_s, all_max_s;       /* until all have accepted all */
    double updates_per_s, cpu_us_per_update;
    uint64_t updates;
};

struct results {
    double alone_p50_ms, alone_p99_ms, among_p50_ms, among_p99_ms;
    double all_s, all_cpu_s, client_cpu_s, again_s, again_cpu_s;
    double rss_kb;
    uint64_t again_bytes, responses, bytes;
    struct kind_result kinds[KINDS_MAX];
};

static struct options options = {.trust_domain = "cluster.local",
                                 .form = "delta",
                                 .changes = "3",
                                 .singles = "100",
                                 .connecting = "256",
                                 .timeout_s = "300",
                                 .quiet_ms = "2000",
                                 .output = "table"};
static struct kind kinds[KINDS_MAX];
static size_t kinds_len;
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
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    if (!colon)
        give_up(target, "expected HOST:PORT");
    bool bracketed = target[0] == '[' && colon[-1] == ']';
    char *host = osm_strndup(target + bracketed, (size_t)(colon - target) - 2u * bracketed);
    int rc = getaddrinfo(host, colon + 1, &hints, &found);
    if (rc)
        give_up(target, gai_strerror(rc));
    memcpy(&l->address, found->ai_addr, found->ai_addrlen);
    l->address_len = found->ai_addrlen;
    freeaddrinfo(found);
    osm_free(host);
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
    if (seconds_since(start_us) > (double)number_of("--timeout-s", options.timeout_s))
        give_up(what, "not within --timeout-s; the server's log may say why");
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

/* Of the process, or of this one (0). */
static double cpu_s(pid_t pid)
{
    char path[64], line[LINE_MAX_BYTES];
    unsigned long user = 0, system = 0;
    struct rusage own;
    if (!pid && !getrusage(RUSAGE_SELF, &own))
        return (double)(own.ru_utime.tv_sec + own.ru_stime.tv_sec) +
               (double)(own.ru_utime.tv_usec + own.ru_stime.tv_usec) / 1e6;
    (void)snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "r");
    const char *at = file && fgets(line, sizeof line, file) ? strrchr(line, ')') : NULL;
    for (int field = 2; at && field < 14; field++)
        at = strchr(at + 1, ' ');
    if (at) {
        char *end;
        user = strtoul(at + 1, &end, 10);
        system = strtoul(end, NULL, 10);
    }
    if (file)
        (void)fclose(file);
    return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

/* @p n times one of them comes as if for the first time; the times of p50 and p99. */
static void run_singles(struct load *l, size_t n, bool stay, double *p50_ms, double *p99_ms)
{
    double *ms = osm_alloc_array(n ? n : 1, sizeof *ms);
    if (!ms)
        give_up("singles", "out of memory");
    for (size_t i = 0; i < n; i++) {
        struct sidecar *s = &sidecars[i % count];
        if (stay)
            sidecar_forget(s);
        s->load = l;
        uint64_t start_us = osm_now_us();
        sidecar_start(s);
        while (!s->configured) {
            turn(l, 100);
            check(l, start_us, "a single sidecar");
        }
        ms[i] = (double)(s->configured_us - s->started_us) / 1e3;
        if (!stay)
            sidecar_forget(s);
    }
    if (n) {
        qsort(ms, n, sizeof *ms, by_value);
        *p50_ms = ms[n / 2];
        *p99_ms = ms[(n * 99 + 99) / 100 - 1];
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

static void add_kind(const char *name, size_t len, struct kind kind)
{
    if (len >= sizeof kind.name || kinds_len == KINDS_MAX)
        give_up("--change, --swap", "the names are too long or too many");
    memcpy(kind.name, name, len);
    kinds[kinds_len++] = kind;
}

static void read_kinds(void)
{
    for (size_t i = 0; options.programs[i]; i++) {
        const char *slash = strrchr(options.programs[i], '/'),
                   *name = slash ? slash + 1 : options.programs[i];
        add_kind(name, strcspn(name, "."), (struct kind){.program = options.programs[i]});
    }
    for (size_t i = 0; options.swaps[i]; i++) {
        struct osm_err err = {0};
        const char *colon = strchr(options.swaps[i], ':');
        if (!colon)
            give_up(options.swaps[i], "expected FILE:OTHER");
        struct kind kind = {.file =
                                osm_strndup(options.swaps[i], (size_t)(colon - options.swaps[i])),
                            .next = osm_strf("%s.next", colon + 1)};
        const char *slash = strrchr(kind.file, '/'), *name = slash ? slash + 1 : kind.file;
        const char *from[2] = {colon + 1, kind.file};
        for (int k = 0; k < 2; k++) {
            kind.contents[k] = (struct osm_buf)OSM_BUF_INIT(FILE_MAX_BYTES);
            if (osm_buf_read_file(&kind.contents[k], from[k], &err))
                give_up("--swap", err.msg);
        }
        add_kind(name, strcspn(name, "."), kind);
    }
}

static void prepare(struct kind *k)
{
    if (!k->file)
        return;
    const struct osm_buf *contents = &k->contents[k->turn++ % 2];
    FILE *file = fopen(k->next, "w");
    if (!file || fwrite(contents->data, 1, contents->len, file) != contents->len || fclose(file))
        give_up(k->next, strerror(errno));
}

static void make_change(const struct kind *k)
{
    if (k->program && run_program(k->program))
        give_up(k->program, "failed; it makes the change, so its own words say why");
    if (k->file && rename(k->next, k->file))
        give_up(k->file, strerror(errno));
}

/* Every sidecar hears of each change once at least. One is over when nothing more comes: two that
 * undo each other would otherwise be one that changes nothing. @p push: the canned server instead.
 */
static void run_changes(struct load *l, struct kind_result *r, struct kind *kind, size_t n,
                        pid_t pid, pid_t push)
{
    double *first_ms = osm_alloc_array(n, sizeof *first_ms),
           *all_s = osm_alloc_array(n, sizeof *all_s), total_s = 0;
    if (!first_ms || !all_s)
        give_up("changes", "out of memory");
    uint64_t acked = l->acked;
    double before_s = cpu_s(pid);
    for (size_t k = 0; k < n; k++) {
        if (!push)
            prepare(kind);
        l->round++;
        l->heard = 0;
        l->first_ack_us = 0;
        uint64_t start_us = osm_now_us();
        if (!push)
            make_change(kind);
        else if (kill(push, SIGUSR1))
            give_up("the canned server", strerror(errno));
        while (l->heard < count) {
            turn(l, 100);
            check(l, start_us, kind->name);
        }
        quiet(l);
        first_ms[k] = (double)(l->first_ack_us - start_us) / 1e3;
        all_s[k] = (double)(l->last_ack_us - start_us) / 1e6;
        total_s += all_s[k];
    }
    qsort(first_ms, n, sizeof *first_ms, by_value);
    qsort(all_s, n, sizeof *all_s, by_value);
    r->first_p50_ms = first_ms[n / 2];
    r->first_max_ms = first_ms[n - 1];
    r->all_p50_s = all_s[n / 2];
    r->all_max_s = all_s[n - 1];
    r->updates = l->acked - acked;
    r->updates_per_s = (double)r->updates / total_s;
    r->cpu_us_per_update = pid ? (cpu_s(pid) - before_s) * 1e6 / (double)r->updates : 0;
    osm_free(first_ms);
    osm_free(all_s);
}

static struct results run(const char *target, pid_t pid, pid_t push, const char *record)
{
    struct results r = {0};
    struct load l = {.epoll_fd = epoll_create1(EPOLL_CLOEXEC),
                     .delta = !strcmp(options.form, "delta")};
    size_t singles = number_of("--singles", options.singles),
           changes = number_of("--changes", options.changes);
    char *server_name = osm_strf("ads.%s", options.trust_domain);
    l.server_name = options.server_name ? options.server_name : server_name;
    l.tls = ca ? client_tls() : NULL;
    set_target(&l, target);
    if (record && !(l.record = fopen(record, "wb")))
        give_up(record, strerror(errno));
    if (record) {
        l.recorded = sidecars[0].uuid;
        run_singles(&l, 1, false, &r.alone_p50_ms, &r.alone_p99_ms);
        l.recorded = NULL;
    }
    run_singles(&l, singles, false, &r.alone_p50_ms, &r.alone_p99_ms);
    quiet(&l);
    double before_kb = resident_kb(pid), before_s = cpu_s(pid), own_s = cpu_s(0);
    uint64_t responses = l.responses, bytes = l.bytes;
    r.all_s = start_all(&l, &l.configured, "all sidecars");
    r.all_cpu_s = pid ? cpu_s(pid) - before_s : 0;
    r.client_cpu_s = cpu_s(0) - own_s;
    quiet(&l);
    r.responses = l.responses - responses;
    r.bytes = l.bytes - bytes;
    r.rss_kb = (resident_kb(pid) - before_kb) / (double)count;
    run_singles(&l, singles, true, &r.among_p50_ms, &r.among_p99_ms);
    quiet(&l);
    l.recorded = record ? sidecars[0].uuid : NULL;
    for (size_t i = 0; i < kinds_len && changes; i++)
        run_changes(&l, &r.kinds[i], &kinds[i], changes, pid, push);
    l.recorded = NULL;
    stop_all();
    bytes = l.bytes;
    before_s = cpu_s(pid);
    r.again_s = start_all(&l, &l.accepted, "all sidecars again");
    quiet(&l);
    r.again_cpu_s = pid ? cpu_s(pid) - before_s : 0;
    r.again_bytes = l.bytes - bytes;
    if (l.failed)
        give_up("after the last", l.first_error);
    for (size_t i = 0; i < count; i++) {
        sidecar_forget(&sidecars[i]);
        sidecars[i].load = NULL;
    }
    if (l.record && fclose(l.record))
        give_up(record, strerror(errno));
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
    int ends[2];
    char target[64] = "";
    if (pipe(ends))
        give_up("pipe", strerror(errno));
    pid_t child = fork();
    if (!child) {
        (void)dup2(ends[1], STDOUT_FILENO);
        (void)close(ends[0]);
        const char *state = options.state_dir ? options.state_dir : "";
        (void)execl(self, self, "--serve", "127.0.0.1:0", "--record", record, "--trust-domain",
                    options.trust_domain, state[0] ? "--state-dir" : (char *)NULL, state,
                    (char *)NULL);
        _exit(127);
    }
    (void)close(ends[1]);
    FILE *words = fdopen(ends[0], "r");
    if (child < 0 || !words || !fgets(target, sizeof target, words))
        give_up("the canned server", "does not start");
    target[strcspn(target, "\n")] = '\0';
    struct results r = run(target, child, child, NULL);
    (void)kill(child, SIGTERM);
    (void)waitpid(child, NULL, 0);
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
    for (size_t i = 0; i < kinds_len; i++) {
        const struct kind_result *k = &r->kinds[i];
        char *prefix = osm_strf("%s_", kinds[i].name);
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
    read_kinds();
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
    for (size_t i = 0; i < kinds_len; i++) {
        osm_free(kinds[i].file);
        osm_free(kinds[i].next);
        osm_buf_clear(&kinds[i].contents[0]);
        osm_buf_clear(&kinds[i].contents[1]);
    }
    osm_ca_unref(ca);
    return 0;
}
