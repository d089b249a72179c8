#include "steps.h"

#include "base/clock.h"
#include "base/mem.h"
#include "give_up.h"

#include <errno.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

enum { EVENTS = 512, LINE_MAX_BYTES = 1024, TURN_MS = 100 };

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

static void turn(struct load *l, int wait_ms)
{
    struct epoll_event events[EVENTS];
    int n = epoll_wait(l->epoll_fd, events, EVENTS, wait_ms);
    for (int i = 0; i < n; i++)
        if (events[i].data.ptr)
            sidecar_event(events[i].data.ptr, events[i].events);
        else
            l->words = true;
}

static double seconds_since(uint64_t start_us)
{
    return (double)(osm_now_us() - start_us) / 1e6;
}

static void check(const struct steps_config *c, const struct load *l, uint64_t start_us,
                  const char *what)
{
    if (l->failed)
        give_up(what, l->first_error);
    if (seconds_since(start_us) > (double)c->timeout_s)
        give_up(what, "not within --timeout-s; the server's log may say why");
}

/* Starts all, a bounded number of handshakes at once; until all have what @p done counts. */
static double start_all(const struct steps_config *c, struct load *l, const size_t *done,
                        const char *what)
{
    size_t next = 0;
    uint64_t start_us = osm_now_us();
    while (*done < c->count) {
        while (next < c->count && next - l->accepted < c->connecting) {
            c->sidecars[next].load = l;
            sidecar_start(&c->sidecars[next++]);
        }
        turn(l, TURN_MS);
        check(c, l, start_us, what);
    }
    return seconds_since(start_us);
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
    if (!pid)
        return 0;
    (void)snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    FILE *file = fopen(path, "r");
    if (!file)
        give_up("--server-pid", "no such process");
    while (fgets(line, sizeof line, file))
        if (!strncmp(line, "VmRSS:", 6))
            kb = strtod(line + 6, NULL);
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
static void run_singles(const struct steps_config *c, struct load *l, size_t n, bool stay,
                        double *p50_ms, double *p99_ms)
{
    double *ms = osm_alloc_array(n ? n : 1, sizeof *ms);
    if (!ms)
        give_up("singles", "out of memory");
    for (size_t i = 0; i < n; i++) {
        struct sidecar *s = &c->sidecars[i % c->count];
        if (stay)
            sidecar_forget(s);
        s->load = l;
        uint64_t start_us = osm_now_us();
        sidecar_start(s);
        while (!s->configured) {
            turn(l, TURN_MS);
            check(c, l, start_us, "a single sidecar");
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

static void quiet(const struct steps_config *c, struct load *l)
{
    uint64_t last = l->responses, start_us = osm_now_us(), since_us = start_us;
    while (seconds_since(since_us) * 1000 < (double)c->quiet_ms) {
        turn(l, TURN_MS / 2);
        if (l->responses != last)
            since_us = osm_now_us();
        last = l->responses;
        check(c, l, start_us, "until nothing more comes");
    }
}

/* Every sidecar hears of each change once at least. One is over when nothing more comes: two that
 * undo each other would otherwise be one that changes nothing. @p push: the canned server instead.
 */
static void run_changes(const struct steps_config *c, struct load *l, struct kind_result *r,
                        struct change *change)
{
    size_t n = c->repeats;
    double *first_ms = osm_alloc_array(n, sizeof *first_ms),
           *all_s = osm_alloc_array(n, sizeof *all_s), total_s = 0;
    if (!first_ms || !all_s)
        give_up("changes", "out of memory");
    uint64_t acked = l->acked;
    double before_s = cpu_s(c->pid);
    for (size_t k = 0; k < n; k++) {
        if (!c->canned)
            change_prepare(change);
        l->round++;
        l->heard = 0;
        l->first_ack_us = 0;
        uint64_t start_us = osm_now_us();
        if (!c->canned)
            change_make(change);
        else if (kill(c->pid, SIGUSR1))
            give_up("the canned server", strerror(errno));
        while (l->heard < c->count) {
            turn(l, TURN_MS);
            check(c, l, start_us, change->name);
        }
        quiet(c, l);
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
    r->cpu_us_per_update = c->pid ? (cpu_s(c->pid) - before_s) * 1e6 / (double)r->updates : 0;
    osm_free(first_ms);
    osm_free(all_s);
}

static struct load load_of(const struct steps_config *c)
{
    struct load l = {.epoll_fd = epoll_create1(EPOLL_CLOEXEC),
                     .delta = c->delta,
                     .server_name = c->server_name,
                     .tls = c->tls};
    set_target(&l, c->target);
    if (l.epoll_fd < 0)
        give_up("epoll", strerror(errno));
    return l;
}

/* --- as they are told --- */

static void tell_counts(const struct load *l)
{
    (void)printf("{\"configured\": %zu, \"responses\": %llu, \"acked\": %llu, \"refused\": %llu, "
                 "\"first_ack_us\": %llu, \"last_ack_us\": %llu, \"first_refusal_us\": %llu}\n",
                 l->configured, (unsigned long long)l->responses, (unsigned long long)l->acked,
                 (unsigned long long)l->refused, (unsigned long long)l->first_ack_us,
                 (unsigned long long)l->last_ack_us, (unsigned long long)l->first_refusal_us);
}

static void obey(const struct steps_config *c, struct load *l, char *line)
{
    static char refuse[LINE_MAX_BYTES];
    line[strcspn(line, "\n")] = '\0';
    if (!strncmp(line, "singles ", 8)) {
        double p50_ms = 0, p99_ms = 0;
        run_singles(c, l, strtoul(line + 8, NULL, 10), true, &p50_ms, &p99_ms);
        (void)printf("{\"p50_ms\": %.3f, \"p99_ms\": %.3f}\n", p50_ms, p99_ms);
        return;
    }
    if (!strncmp(line, "refuse", 6)) {
        (void)snprintf(refuse, sizeof refuse, "%s", line[6] ? line + 7 : "");
        l->refuse = refuse[0] ? refuse : NULL;
    } else if (!strcmp(line, "round")) {
        l->first_ack_us = l->last_ack_us = l->first_refusal_us = 0;
    } else if (strcmp(line, "count") != 0) {
        give_up(line, "expected count, round, refuse or singles");
    }
    tell_counts(l);
}

void steps_stay(const struct steps_config *c)
{
    char line[LINE_MAX_BYTES];
    size_t len = 0;
    struct load l = load_of(c);
    (void)start_all(c, &l, &l.configured, "all sidecars");
    quiet(c, &l);
    struct epoll_event words = {.events = EPOLLIN, .data.ptr = NULL};
    if (epoll_ctl(l.epoll_fd, EPOLL_CTL_ADD, STDIN_FILENO, &words))
        give_up("stdin", strerror(errno));
    tell_counts(&l);
    (void)fflush(stdout);
    for (;;) {
        l.words = false;
        turn(&l, TURN_MS);
        if (l.failed)
            give_up("a sidecar", l.first_error);
        if (!l.words)
            continue;
        ssize_t n = read(STDIN_FILENO, line + len, sizeof line - 1 - len);
        if (n <= 0)
            break;
        len += (size_t)n;
        line[len] = '\0';
        if (!strchr(line, '\n'))
            continue;
        len = 0; /* who asks waits for the answer: there is one line at a time */
        obey(c, &l, line);
        (void)fflush(stdout);
    }
    for (size_t i = 0; i < c->count; i++) {
        sidecar_forget(&c->sidecars[i]);
        c->sidecars[i].load = NULL;
    }
    (void)close(l.epoll_fd);
}

/* --- as a whole --- */

struct results steps_run(const struct steps_config *c)
{
    struct results r = {0};
    struct load l = load_of(c);
    if (c->record && !(l.record = fopen(c->record, "wb")))
        give_up(c->record, strerror(errno));
    if (c->record) {
        l.recorded = c->sidecars[0].uuid;
        run_singles(c, &l, 1, false, &r.alone_p50_ms, &r.alone_p99_ms);
        l.recorded = NULL;
    }
    run_singles(c, &l, c->singles, false, &r.alone_p50_ms, &r.alone_p99_ms);
    quiet(c, &l);
    double before_kb = resident_kb(c->pid), before_s = cpu_s(c->pid), own_s = cpu_s(0);
    uint64_t responses = l.responses, bytes = l.bytes;
    r.all_s = start_all(c, &l, &l.configured, "all sidecars");
    r.all_cpu_s = c->pid ? cpu_s(c->pid) - before_s : 0;
    r.client_cpu_s = cpu_s(0) - own_s;
    quiet(c, &l);
    r.responses = l.responses - responses;
    r.bytes = l.bytes - bytes;
    r.rss_kb = (resident_kb(c->pid) - before_kb) / (double)c->count;
    run_singles(c, &l, c->singles, true, &r.among_p50_ms, &r.among_p99_ms);
    quiet(c, &l);
    l.recorded = c->record ? c->sidecars[0].uuid : NULL;
    for (size_t i = 0; i < c->changes->len && c->repeats; i++)
        run_changes(c, &l, &r.kinds[i], &c->changes->list[i]);
    l.recorded = NULL;
    for (size_t i = 0; i < c->count; i++)
        sidecar_stop(&c->sidecars[i]);
    l.stale = 0;
    bytes = l.bytes;
    before_s = cpu_s(c->pid);
    r.again_s = start_all(c, &l, &l.accepted, "all sidecars again");
    quiet(c, &l);
    r.again_cpu_s = c->pid ? cpu_s(c->pid) - before_s : 0;
    r.again_bytes = l.bytes - bytes;
    if (l.failed)
        give_up("after the last", l.first_error);
    if (l.stale && !c->canned) { /* canned.c begins with the first configuration again */
        char *what = osm_strf("%zu resources had changed unheard", l.stale);
        give_up("a change was lost", what);
    }
    for (size_t i = 0; i < c->count; i++) {
        sidecar_forget(&c->sidecars[i]);
        c->sidecars[i].load = NULL;
    }
    if (l.record && fclose(l.record))
        give_up(c->record, strerror(errno));
    (void)close(l.epoll_fd);
    return r;
}
