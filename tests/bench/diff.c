/* Figures of previews (`osm policy diff`, `osm diff`): a mesh of N Services with ten pods each, all
 * of them proxies, and what it takes to say what would change. Usage: diff_bench [SERVICES...],
 * from the repository's root; default 100 1000.
 *
 * Each time is of one whole question, as the daemon answers it: by the engine that was made ready
 * before anybody asked, by the one that the question before has left, or by a fresh one, which
 * loads its bundle and evaluates all objects first (--preview-memory=0, or no time to make one
 * ready). The snapshots are compared, the answer is written as text. What is not in it: the socket
 * and the command's own start. */
#include "engine_world.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "model/store.h"
#include "policy/host.h"
#include "whatif/preview.h"

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { RUNS = 5, REPLICAS = 10, ANSWER_MAX_BYTES = 64 << 20 };

static const char TIMEOUT[] =
    "return { api = 1, extends = { cluster = { run = function(_, cluster, at)\n"
    "  if at.direction == 'outbound' then cluster.connect_timeout = '7s' end\n"
    "end } } }\n";

static const char WEIGHTS[] = "return { api = 1, wraps = { backends = function(_, original, ...)\n"
                              "  local out = {}\n"
                              "  for at, backend in ipairs(original(...)) do\n"
                              "    out[at] = {}\n"
                              "    for name, value in pairs(backend) do out[at][name] = value end\n"
                              "    out[at].weight = backend.weight + 1\n"
                              "  end\n"
                              "  return out\n"
                              "end } }\n";

static _Noreturn void give_up(const char *what, const char *why)
{
    (void)fprintf(stderr, "bench: %s: %s\n", what, why);
    exit(1);
}

struct mesh {
    size_t n;
    struct osm_store *store;
    struct osm_snapshot *served;
    struct osm_engine *live;
};

static struct osm_engine *engine_of(const char *const *dirs, bool proven)
{
    struct osm_err err = {0};
    struct osm_engine *engine = NULL;
    struct osm_engine_config config = {.policies_dirs = dirs,
                                       .mesh_name = "osm",
                                       .osm_namespace = "osm-system",
                                       .trust_domain = "cluster.local",
                                       .roots_pem = "roots",
                                       .memory_max_bytes = (size_t)16 << 30,
                                       .proven = proven};
    if (osm_engine_new(&engine, &config, &err))
        give_up("policies", err.msg);
    return engine;
}

static void put(struct mesh *m, struct osm_object *object)
{
    if (osm_store_put(m->store, object))
        give_up("store", "out of memory");
}

static void furnish(struct mesh *m)
{
    struct osm_object **objects;
    size_t len;
    bench_world(m->n, &objects, &len);
    for (size_t i = 0; i < len; i++)
        put(m, objects[i]);
    osm_free(objects);
    for (size_t i = 0; i < m->n; i++)
        for (size_t r = 1; r < REPLICAS; r++)
            put(m, bench_replica(i, r));
}

static const char *const shipped[] = {"policies", NULL};

static void serve(struct mesh *m)
{
    struct osm_err err = {0};
    struct osm_changes *all = osm_store_all(m->store);
    m->live = engine_of(shipped, false);
    if (!all || osm_engine_run(m->live, all, &m->served, &err))
        give_up("run", err.msg);
    osm_changes_free(all);
}

/* --- one question --- */

struct times {
    double load, apply, evaluate, compare, write, all, cpu;
};

static double cpu_ms(void)
{
    struct timespec now = {0};
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static double ms_of(const json_t *diff, const char *name)
{
    return (double)json_integer_value(json_object_get(json_object_get(diff, "times_us"), name)) /
           1000.0;
}

static int append(const char *text, size_t len, void *buf)
{
    return osm_buf_add(buf, text, len);
}

/* An engine that a former question has left. */
struct room {
    struct osm_engine *engine;
    void *kept;
};

static void leave(struct room *room)
{
    if (room->kept)
        osm_preview_drop(room->kept);
    osm_engine_free(room->engine);
    *room = (struct room){0};
}

static struct osm_policy_files *files_of(const char *const *dirs)
{
    struct osm_err err = {0};
    struct osm_policy_files *files = NULL;
    if (osm_policy_files_read(&files, dirs, &err))
        give_up("policies", err.msg);
    return files;
}

/* As whatif/room.c does. */
static void settle(struct room *room, const char *const *dirs)
{
    struct osm_err err = {0};
    struct osm_policy_files *files = files_of(dirs);
    bool done = osm_policy_files_same(osm_engine_files(room->engine), files);
    if (!done && (osm_engine_rebind(room->engine, files, dirs == shipped, &done, &err) || !done))
        give_up("other policies", err.msg);
    osm_policy_files_unref(files);
}

/* Before anybody asks. */
static void prepare(const struct mesh *m, struct room *room)
{
    struct osm_err err = {0};
    const struct osm_preview preview = {
        .objects = osm_store_all(m->store), .in_force = true, .kept = &room->kept};
    room->engine = engine_of(shipped, true);
    if (!preview.objects || osm_preview_prepare(&preview, room->engine, &err))
        give_up("preparation", err.msg);
    osm_changes_free(preview.objects);
    while (osm_engine_rest(room->engine)) {
    }
}

static void ask(const struct mesh *m, const char *const *dirs, const json_t *manifests,
                struct room *room, struct times *t, char *about, size_t about_len)
{
    struct osm_err err = {0};
    json_t *diff = NULL;
    struct osm_preview preview = {.objects = osm_store_all(m->store),
                                  .served = m->served,
                                  .manifests = manifests,
                                  .mesh_name = "osm",
                                  .osm_namespace = "osm-system",
                                  .whole = true,
                                  .in_force = dirs == shipped,
                                  .guard_percent = 30,
                                  .kept = &room->kept};
    struct osm_buf text = OSM_BUF_INIT(ANSWER_MAX_BYTES);
    double cpu = cpu_ms();
    uint64_t start = osm_now_us();
    if (room->engine)
        settle(room, dirs);
    else
        room->engine = engine_of(dirs, dirs == shipped);
    t->load = (double)(osm_now_us() - start) / 1000.0;
    if (!preview.objects || osm_preview_run(&preview, room->engine, &diff, &err))
        give_up("preview", err.msg);
    uint64_t write = osm_now_us();
    if (json_dump_callback(diff, append, &text, JSON_COMPACT))
        give_up("answer", "is too long");
    t->write = (double)(osm_now_us() - write) / 1000.0;
    t->all = (double)(osm_now_us() - start) / 1000.0;
    t->cpu = cpu_ms() - cpu;
    t->apply = ms_of(diff, "apply");
    t->evaluate = ms_of(diff, "evaluate");
    t->compare = ms_of(diff, "compare");
    size_t groups = json_array_size(json_object_get(diff, "groups"));
    (void)snprintf(about, about_len, "%zu changes in %zu groups, %zu bytes",
                   json_array_size(json_object_get(diff, "changes")), groups, text.len);
    osm_buf_clear(&text);
    json_decref(diff);
    osm_changes_free(preview.objects);
}

static int by_all(const void *a, const void *b)
{
    double x = ((const struct times *)a)->all, y = ((const struct times *)b)->all;
    return (x > y) - (x < y);
}

/* By whom a question is answered. */
enum by { BY_FRESH, BY_READY, BY_LAST };

/* @p before: BY_LAST, the manifests of the question before it. */
static void measure(const struct mesh *m, const char *what, const char *const *dirs,
                    const json_t *manifests, enum by by, const json_t *before)
{
    struct times times[RUNS];
    struct room room = {0};
    char about[128];
    for (size_t i = 0; i < RUNS; i++) {
        if (by == BY_READY)
            prepare(m, &room);
        if (by == BY_LAST)
            ask(m, dirs, before, &room, &times[i], about, sizeof about);
        ask(m, dirs, manifests, &room, &times[i], about, sizeof about);
        if (by != BY_LAST)
            leave(&room);
    }
    leave(&room);
    qsort(times, RUNS, sizeof *times, by_all);
    const struct times *t = &times[RUNS / 2];
    (void)printf("  %-34s median %8.1f ms (CPU %.1f): load %.1f, apply %.1f, evaluate %.1f, "
                 "compare %.1f, write %.1f; min %.1f (%d runs); %s\n",
                 what, t->all, t->cpu, t->load, t->apply, t->evaluate, t->compare, t->write,
                 times[0].all, RUNS, about);
    (void)fflush(stdout);
}

static json_t *manifests_of(struct osm_object *object)
{
    char *text = json_dumps(object->body, JSON_COMPACT);
    json_t *out = json_pack("[{s:s, s:s}]", "name", "bench.yaml", "text", text);
    osm_free(text);
    osm_object_unref(object);
    if (!out)
        give_up("manifest", "out of memory");
    return out;
}

/* One file below a directory. */
static void write_file(const char *dir, const char *name, const char *first, const char *text)
{
    char path[256];
    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    *strrchr(path, '/') = '\0';
    if (mkdir(path, 0700) && errno != EEXIST)
        give_up(path, "cannot be made");
    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *file = fopen(path, "w");
    if (!file || fputs(first, file) < 0 || fputs(text, file) < 0 || fclose(file))
        give_up(path, "cannot be written");
}

/* Every shipped module, one line further down: no function is where it was. */
static void write_all(const char *dir)
{
    struct osm_policy_files *files = files_of(shipped);
    for (size_t i = 0; i < files->len; i++)
        if (strstr(files->list[i].path, ".lua"))
            write_file(dir, files->list[i].path, "\n", files->list[i].text);
    osm_policy_files_unref(files);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

/* --- one size --- */

/* Of an engine that is ready, and what it says that it takes. */
static void say_memory(const struct mesh *m)
{
    struct room room = {0};
    double before = (double)osm_mem_resident();
    prepare(m, &room);
    double grown = (double)osm_mem_resident() - before;
    json_t *figures = osm_engine_figures(room.engine);
    (void)printf(" the ready engine: %.0f MiB resident, %.0f MiB by its own estimate\n",
                 grown / (1 << 20),
                 (double)json_integer_value(json_object_get(figures, "bytes")) / (1 << 20));
    json_decref(figures);
    leave(&room);
}

static void measure_size(void *ud)
{
    struct mesh m = {.n = *(const size_t *)ud, .store = osm_store_new()};
    char root[] = "/tmp/osm-bench-XXXXXX", dirs[3][64];
    if (!m.store)
        give_up("store", "out of memory");
    furnish(&m);
    serve(&m);
    if (!mkdtemp(root))
        give_up(root, "cannot be made");
    for (size_t i = 0; i < 3; i++) {
        (void)snprintf(dirs[i], sizeof dirs[i], "%s/%zu", root, i);
        if (mkdir(dirs[i], 0700))
            give_up(dirs[i], "cannot be made");
    }
    write_file(dirs[0], "acme/timeout.lua", TIMEOUT, "");
    write_file(dirs[1], "acme/weights.lua", WEIGHTS, "");
    write_all(dirs[2]);
    (void)printf("%zu services, %zu targets, %zu proxies:\n", m.n, m.n * BENCH_TARGETS,
                 m.served->proxies_len);
    say_memory(&m);
    const char *const timeout[] = {"policies", dirs[0], NULL},
                      *const weights[] = {"policies", dirs[1], NULL},
                      *const all[] = {"policies", dirs[2], NULL};
    json_t *split = manifests_of(bench_split(0, 50)), *target = NULL;
    target = manifests_of(bench_target(1, 2, 7 % m.n, NULL, 1));
    const struct {
        const char *name;
        enum by by;
    } answers[] = {{"ready", BY_READY}, {"fresh", BY_FRESH}};
    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
        (void)printf(" by %s engine:\n", answers[i].by == BY_READY ? "the ready" : "a fresh");
        measure(&m, "the same rules", shipped, NULL, answers[i].by, NULL);
        measure(&m, "rules: a timeout for all clusters", timeout, NULL, answers[i].by, NULL);
        measure(&m, "rules: a wrap of all backends", weights, NULL, answers[i].by, NULL);
        measure(&m, "rules: a line more in all modules", all, NULL, answers[i].by, NULL);
        measure(&m, "objects: one split, other weights", shipped, split, answers[i].by, NULL);
        measure(&m, "objects: one target, other source", shipped, target, answers[i].by, NULL);
    }
    (void)printf(" by the engine of the question before:\n");
    measure(&m, "the split, right after the target", shipped, split, BY_LAST, target);
    measure(&m, "the target, right after the split", shipped, target, BY_LAST, split);
    json_decref(split);
    json_decref(target);
    (void)nftw(root, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    osm_snapshot_unref(m.served);
    osm_engine_free(m.live);
    osm_store_free(m.store);
}

int main(int argc, char **argv)
{
    size_t sizes[] = {100, 1000};
    struct osm_err err = {0};
    json_set_alloc_funcs(osm_alloc, osm_free);
    osm_log_set_level(OSM_LOG_TOPIC_COUNT, OSM_LOG_ERROR);
    for (int i = 1; i < argc || (argc == 1 && i <= 2); i++) {
        size_t n = argc == 1 ? sizes[i - 1] : (size_t)strtoul(argv[i], NULL, 10);
        if (!n)
            give_up(argv[i], "is no number of services");
        if (osm_policy_call(measure_size, &n, &err))
            give_up("thread", err.msg);
    }
    return 0;
}
