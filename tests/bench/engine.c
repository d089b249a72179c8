/* Figures of the policy engine alone: the shipped policies on a mesh in memory, without files,
 * network or Envoy. Each size is measured in a process of its own, so that its memory is its own.
 * Usage: engine_bench [SERVICES...], from the repository's root; default 100 1000 10000.
 *
 * Times are of osm_engine_run alone: batch in, snapshot out. The floor (engine_floor.h) runs over
 * the same objects in the same process; its answers are compared with the engine's. */
#include "engine_floor.h"
#include "engine_world.h"

#include "base/clock.h"
#include "base/log.h"
#include "model/store.h"
#include "policy/engine.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { RUNS_MAX = 2000, SIZES_MAX = 8 };

static _Noreturn void give_up(const char *what, const char *why)
{
    (void)fprintf(stderr, "bench: %s: %s\n", what, why);
    exit(1);
}

/* What a size has taken, for the fit over all sizes. */
struct outcome {
    double scratch_ms, target_ms, floor_ms, bytes;
};

struct times {
    double ms[RUNS_MAX], cpu[RUNS_MAX], rest_cpu[RUNS_MAX]; /* rest: collecting garbage after it */
    size_t n;
};

static int by_number(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(struct times *t)
{
    qsort(t->ms, t->n, sizeof *t->ms, by_number);
    return t->ms[t->n / 2];
}

/* Of this process; on a machine that others use too it says more than the wall clock. */
static double cpu_ms(void)
{
    struct timespec now = {0};
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static void say(const char *what, struct times *t, const char *more)
{
    double middle = median(t);
    qsort(t->cpu, t->n, sizeof *t->cpu, by_number);
    double rest = 0;
    for (size_t i = 0; i < t->n; i++)
        rest += t->rest_cpu[i];
    (void)printf("  %-42s median %9.3f ms  min %9.3f  p99 %9.3f  max %9.3f  CPU median %9.3f  "
                 "min %9.3f  (%zu runs)%s; between runs CPU mean %.3f\n",
                 what, middle, t->ms[0], t->ms[(t->n * 99) / 100], t->ms[t->n - 1],
                 t->cpu[t->n / 2], t->cpu[0], t->n, more, rest / (double)t->n);
    (void)fflush(stdout);
}

static double resident_bytes(void)
{
    FILE *file = fopen("/proc/self/statm", "r");
    unsigned long long total = 0, resident = 0;
    if (!file || fscanf(file, "%llu %llu", &total, &resident) != 2)
        give_up("memory", "/proc/self/statm cannot be read");
    (void)fclose(file);
    return (double)resident * (double)sysconf(_SC_PAGESIZE);
}

/* --- the engine --- */

struct mesh {
    size_t n;
    struct osm_object **objects;
    size_t objects_len;
    struct osm_store *store;
    struct osm_store_reader *reader;
    struct osm_engine *engine;
};

static struct osm_engine *fresh_engine(void)
{
    struct osm_err err = {0};
    struct osm_engine *engine = NULL;
    static const char *const dirs[] = {"policies", NULL};
    struct osm_engine_config config = {.policies_dirs = dirs,
                                       .mesh_name = "osm",
                                       .osm_namespace = "osm-system",
                                       .trust_domain = "cluster.local",
                                       .roots_pem = "roots",
                                       .memory_max_bytes = (size_t)16 << 30};
    if (osm_engine_new(&engine, &config, &err))
        give_up("policies", err.msg);
    return engine;
}

/* Runs what the store holds. */
static void run(struct mesh *m, struct times *t)
{
    struct osm_err err = {0};
    struct osm_snapshot *snapshot = NULL;
    struct osm_changes none = {NULL, 0}, *changes = osm_store_reader_take(m->reader);
    double cpu = cpu_ms();
    uint64_t start = osm_now_us();
    if (osm_engine_run(m->engine, changes ? changes : &none, &snapshot, &err))
        give_up("run", err.msg);
    t->ms[t->n] = (double)(osm_now_us() - start) / 1000.0;
    t->cpu[t->n] = cpu_ms() - cpu;
    osm_changes_free(changes);
    osm_snapshot_unref(snapshot);
    cpu = cpu_ms();
    while (osm_engine_rest(m->engine))
        ;
    t->rest_cpu[t->n++] = cpu_ms() - cpu;
}

static void put(struct mesh *m, struct osm_object *object)
{
    if (osm_store_put(m->store, object))
        give_up("store", "out of memory");
}

static json_int_t figure(const struct mesh *m, const char *name)
{
    json_t *all = osm_engine_figures(m->engine);
    json_int_t value = json_integer_value(json_object_get(all, name));
    json_decref(all);
    return value;
}

static void from_scratch(struct mesh *m, size_t runs, struct times *t)
{
    for (size_t r = 0; r < runs; r++) {
        osm_engine_free(m->engine);
        m->engine = fresh_engine();
        if (osm_store_reader_restart(m->reader))
            give_up("store", "out of memory");
        run(m, t);
    }
}

/* --- changes --- */

typedef void change_fn(struct mesh *m, size_t i, size_t turn);

static void another_source(struct mesh *m, size_t i, size_t turn)
{
    put(m, bench_target(i, 2, (bench_source(m->n, i, 2) + 1 + turn + turn / m->n) % m->n, NULL, 1));
}

static void another_weight(struct mesh *m, size_t i, size_t turn)
{
    put(m, bench_split(i - i % BENCH_SPLIT_EVERY, 91 + turn % 1000));
}

static void another_service_address(struct mesh *m, size_t i, size_t turn)
{
    put(m, bench_service(i, 100000 + turn, NULL));
}

static void another_pod_address(struct mesh *m, size_t i, size_t turn)
{
    put(m, bench_pod(i, 100000 + turn));
}

static void another_label(struct mesh *m, size_t i, size_t turn)
{
    char note[32];
    (void)snprintf(note, sizeof note, "%zu", turn);
    put(m, bench_service(i, i, note));
}

static void another_annotation(struct mesh *m, size_t i, size_t turn)
{
    char note[32];
    (void)snprintf(note, sizeof note, "%zu", turn);
    put(m, bench_target(i, 1, bench_source(m->n, i, 1), note, 1));
}

static void another_resource_version(struct mesh *m, size_t i, size_t turn)
{
    put(m, bench_target(i, 0, bench_source(m->n, i, 0), NULL, 2 + turn));
}

static double changes(struct mesh *m, const char *what, size_t runs, change_fn *change)
{
    struct times t = {.n = 0};
    json_int_t rules = 0, verified = 0;
    char more[128];
    for (size_t r = 0; r < runs; r++) {
        change(m, (r * 37 + 5) % m->n, r);
        run(m, &t);
        json_int_t ran = figure(m, "rules_run"), looked = figure(m, "cells_verified");
        rules = ran > rules ? ran : rules;
        verified = looked > verified ? looked : verified;
    }
    (void)snprintf(more, sizeof more, "; at most %lld rules run, %lld cells verified",
                   (long long)rules, (long long)verified);
    say(what, &t, more);
    return median(&t);
}

/* --- the floor beside it --- */

static void compare(struct mesh *m, const struct bench_floor *floor)
{
    for (size_t i = 0; i < m->n; i++) {
        char ns[32], name[32];
        json_t *answer = NULL;
        struct osm_err err = {0};
        (void)snprintf(ns, sizeof ns, "n%zu", i / BENCH_SPACE);
        (void)snprintf(name, sizeof name, "s%zu", i);
        json_t *key = json_pack("[ssi]", ns, name, BENCH_POD_PORT),
               *expected = bench_floor_callers(floor, ns, name);
        if (osm_engine_ask(m->engine, "callers", key, &answer, &err))
            give_up("callers", err.msg);
        if (!json_equal(answer, expected))
            give_up("callers", "the floor and the engine do not agree");
        json_decref(answer);
        json_decref(expected);
        json_decref(key);
    }
    if (bench_floor_items(floor) != (size_t)figure(m, "items"))
        give_up("items", "the floor and the engine do not emit the same number");
}

static double run_floor(struct mesh *m, size_t runs)
{
    struct times t = {.n = 0};
    struct bench_floor *floor = NULL;
    for (size_t r = 0; r < runs; r++) {
        if (floor)
            bench_floor_free(floor);
        double cpu = cpu_ms();
        uint64_t start = osm_now_us();
        floor = bench_floor_run(m->objects, m->objects_len);
        t.ms[t.n] = (double)(osm_now_us() - start) / 1000.0;
        t.cpu[t.n++] = cpu_ms() - cpu;
    }
    say("floor: the same answers by a loop in C", &t, "; callers and number of items agree");
    compare(m, floor);
    bench_floor_free(floor);
    return median(&t);
}

/* --- one size --- */

static struct outcome measure(size_t n)
{
    struct mesh m = {.n = n, .store = osm_store_new()};
    struct outcome out = {0};
    size_t scratch = n >= 10000  ? 3
                     : n >= 1000 ? 10
                                 : 20,
           floors = n >= 10000 ? 10 : 30, runs = n >= 10000 ? 150 : 300;
    struct times t = {.n = 0};
    m.reader = m.store ? osm_store_reader_new(m.store) : NULL;
    if (!m.reader)
        give_up("store", "out of memory");
    bench_world(n, &m.objects, &m.objects_len);
    for (size_t i = 0; i < m.objects_len; i++)
        put(&m, osm_object_ref(m.objects[i]));
    (void)printf("%zu services, %zu accounts, %zu pods, %zu targets:\n", n, n, n,
                 n * BENCH_TARGETS);
    double before = resident_bytes();
    from_scratch(&m, 1, &t);
    double grown = resident_bytes() - before, lua = (double)figure(&m, "lua_bytes");
    (void)printf("  %lld rules run, %lld cells, %lld items: %.1f cells per service; %.1f kB of Lua "
                 "per service, %.1f kB resident in all\n",
                 (long long)figure(&m, "rules_run"), (long long)figure(&m, "cells"),
                 (long long)figure(&m, "items"), (double)figure(&m, "cells") / (double)n,
                 lua / 1000 / (double)n, grown / 1000 / (double)n);
    out.bytes = grown;
    from_scratch(&m, scratch - 1, &t);
    say("from scratch", &t, "");
    out.scratch_ms = median(&t);
    out.floor_ms = run_floor(&m, floors);
    struct times unused = {.n = 0};
    run(&m, &unused); /* what the comparison has asked for goes again */
    (void)changes(&m, "nothing: another label of a service", runs, another_label);
    (void)changes(&m, "nothing: another annotation of a target", runs, another_annotation);
    (void)changes(&m, "nothing: another resourceVersion", runs, another_resource_version);
    out.target_ms = changes(&m, "one target: another source", runs, another_source);
    (void)changes(&m, "one split: another weight", runs, another_weight);
    (void)changes(&m, "one service: another address", runs, another_service_address);
    (void)changes(&m, "one pod: another address", runs, another_pod_address);
    osm_engine_free(m.engine);
    osm_store_reader_free(m.reader);
    osm_store_free(m.store);
    for (size_t i = 0; i < m.objects_len; i++)
        osm_object_unref(m.objects[i]);
    osm_free(m.objects);
    return out;
}

static struct outcome measure_apart(size_t n)
{
    int ends[2];
    struct outcome out = {0};
    (void)fflush(stdout);
    if (pipe(ends))
        give_up("pipe", "cannot be made");
    pid_t child = fork();
    if (child < 0)
        give_up("fork", "cannot be made");
    if (!child) {
        (void)close(ends[0]);
        out = measure(n);
        bool told = write(ends[1], &out, sizeof out) == (ssize_t)sizeof out;
        (void)fflush(stdout);
        _exit(told ? 0 : 1);
    }
    (void)close(ends[1]);
    bool heard = read(ends[0], &out, sizeof out) == (ssize_t)sizeof out;
    int status = 0;
    (void)close(ends[0]);
    if (waitpid(child, &status, 0) != child || status || !heard)
        give_up("a size", "its process has failed");
    return out;
}

/* --- over all sizes --- */

/* Slope of the least-squares line through the logarithms. */
static double exponent(const size_t *sizes, const double *values, size_t n)
{
    double x = 0, y = 0, xx = 0, xy = 0;
    for (size_t i = 0; i < n; i++) {
        double u = log((double)sizes[i]), v = log(values[i]);
        x += u;
        y += v;
        xx += u * u;
        xy += u * v;
    }
    return ((double)n * xy - x * y) / ((double)n * xx - x * x);
}

int main(int argc, char **argv)
{
    size_t sizes[SIZES_MAX] = {100, 1000, 10000}, n = 3;
    double scratch[SIZES_MAX], target[SIZES_MAX], floors[SIZES_MAX], bytes[SIZES_MAX];
    osm_log_set_level(OSM_LOG_TOPIC_COUNT, OSM_LOG_ERROR); /* not each run that takes long */
    for (int i = 1; i < argc && i <= SIZES_MAX; i++) {
        sizes[i - 1] = (size_t)strtoul(argv[i], NULL, 10);
        n = (size_t)i;
        if (!sizes[i - 1])
            give_up(argv[i], "is no number of services");
    }
    for (size_t i = 0; i < n; i++) {
        struct outcome out = measure_apart(sizes[i]);
        scratch[i] = out.scratch_ms;
        target[i] = out.target_ms;
        floors[i] = out.floor_ms;
        bytes[i] = out.bytes;
    }
    if (n < 2)
        return 0;
    (void)printf("growth as services^k, fitted over the medians: from scratch k = %.2f, one target "
                 "k = %.2f, memory k = %.2f, floor k = %.2f\n",
                 exponent(sizes, scratch, n), exponent(sizes, target, n), exponent(sizes, bytes, n),
                 exponent(sizes, floors, n));
    (void)printf("from scratch against the floor:");
    for (size_t i = 0; i < n; i++)
        (void)printf(" %zu: %.0f to 1%s", sizes[i], scratch[i] / floors[i], i + 1 < n ? "," : "\n");
    return 0;
}
