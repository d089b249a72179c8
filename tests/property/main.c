/* property_tests [NAME...]: every property, or those whose name holds a NAME. Run in the
 * repository's root.
 *
 *   OSM_PROPERTY_SEED=N|random   (1)     where the random histories begin
 *   OSM_PROPERTY_CHANGES=N       (2000)  how long they are
 *   OSM_PROPERTY_WORKERS=N       (all processors)
 *
 * Exit code: 0 all passed, 1 not all did, 5 no property has such a name.
 *
 * A failure prints the seed to replay it with, and the least history that still fails, as a spec
 * would write it. The work is shared among processes, each with a thread whose stack is the policy
 * thread's. */
#include "base/log.h"
#include "property.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    STACK_BYTES = 64 << 20,
    WORKERS_MAX = 16,
    CHANGES_DEFAULT = 2000,
    NOTHING_SELECTED = 5 /* exit code */
};

struct property {
    const char *name;
    bool (*run)(const struct task *task);
};

static const struct property properties[] = {
    {"incremental_equals_scratch", incremental_equals_scratch},
    {"order_does_not_matter", order_does_not_matter},
    {"breaking_grants_nothing", breaking_grants_nothing},
    {"processes_agree", processes_agree},
    {"changed_rules_equal_scratch", changed_rules_equal_scratch},
    {"a_lost_change_is_found_and_shrunk", a_lost_change_is_found_and_shrunk},
    {"an_open_bundle_is_found_and_shrunk", an_open_bundle_is_found_and_shrunk},
};

const char *property_program;

struct job {
    const struct property *property;
    struct task task;
    bool fine;
};

static void *work(void *ud)
{
    struct job *job = ud;
    if (job->property)
        job->fine = job->property->run(&job->task);
    else
        print_digest(job->task.seed, job->task.changes);
    return NULL;
}

/* On a stack of its own. */
static void run_job(struct job *job)
{
    pthread_attr_t attr;
    pthread_t thread;
    OSM_REQUIRE(!pthread_attr_init(&attr) && !pthread_attr_setstacksize(&attr, STACK_BYTES));
    OSM_REQUIRE(!pthread_create(&thread, &attr, work, job));
    OSM_REQUIRE(!pthread_join(thread, NULL));
    (void)pthread_attr_destroy(&attr);
}

/* In a child: the report to the file, the outcome as its exit code. */
static int child_main(const struct property *property, struct task task, FILE *report)
{
    struct osm_buf text = OSM_BUF_INIT(TEXT_MAX);
    struct job job = {property, task, false};
    job.task.report = &text;
    run_job(&job);
    if (text.len)
        (void)fwrite(text.data, 1, text.len, report);
    osm_buf_clear(&text);
    if (osm_mem_live()) {
        (void)fprintf(report, "-- %ld allocations are left\n", osm_mem_live());
        job.fine = false;
    }
    return fclose(report) || !job.fine ? 1 : 0;
}

static void print_file(FILE *file)
{
    char part[4096];
    size_t n;
    rewind(file);
    while ((n = fread(part, 1, sizeof part, file)) > 0)
        (void)fwrite(part, 1, n, stdout);
    (void)fclose(file);
}

static bool run_property(const struct property *property, struct task task)
{
    FILE *reports[WORKERS_MAX];
    pid_t children[WORKERS_MAX];
    struct timespec from, to;
    bool fine = true;
    (void)clock_gettime(CLOCK_MONOTONIC, &from);
    (void)fflush(stdout);
    for (unsigned i = 0; i < task.workers; i++) {
        reports[i] = tmpfile();
        OSM_REQUIRE(reports[i]);
        children[i] = fork();
        OSM_REQUIRE(children[i] >= 0);
        task.worker = i;
        if (!children[i])
            _exit(child_main(property, task, reports[i]));
    }
    for (unsigned i = 0; i < task.workers; i++) {
        int status = 0;
        while (waitpid(children[i], &status, 0) < 0)
            OSM_REQUIRE(errno == EINTR);
        fine = fine && WIFEXITED(status) && WEXITSTATUS(status) == 0;
    }
    (void)clock_gettime(CLOCK_MONOTONIC, &to);
    (void)printf("%-6s %s, seed %" PRIu64 ", %u changes, %.1f s\n", fine ? "ok" : "FAILED",
                 property->name, task.seed, task.changes,
                 (double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) / 1e9);
    for (unsigned i = 0; i < task.workers; i++)
        print_file(reports[i]);
    return fine;
}

/* Digits only. */
static uint64_t number(const char *text, uint64_t otherwise, const char *what)
{
    char *end = NULL;
    if (!text || !*text)
        return otherwise;
    errno = 0;
    unsigned long long n = strtoull(text, &end, 10);
    if (errno || *end || *text < '0' || *text > '9') {
        (void)fprintf(stderr, "%s: expected a number, got \"%s\"\n", what, text);
        _exit(2);
    }
    return n;
}

static uint64_t seed_from_environment(void)
{
    uint64_t seed = 0;
    const char *text = getenv("OSM_PROPERTY_SEED");
    if (!text || strcmp(text, "random") != 0)
        return number(text, SEED_DEFAULT, "OSM_PROPERTY_SEED");
    OSM_REQUIRE(getrandom(&seed, sizeof seed, 0) == sizeof seed);
    return seed % 1000000000000;
}

static bool wanted(const char *name, int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (strstr(name, argv[i]))
            return true;
    return argc < 2;
}

int main(int argc, char **argv)
{
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    unsigned passed = 0, failed = 0;
    property_program = argv[0];
    osm_log_set_level(OSM_LOG_TOPIC_COUNT, OSM_LOG_ERROR); /* malformed objects are the point */
    if (argc == 4 && !strcmp(argv[1], "--digest")) {
        struct job job = {.task = {.seed = number(argv[2], 1, "seed"),
                                   .changes = (unsigned)number(argv[3], 1, "changes")}};
        run_job(&job);
        return 0;
    }
    struct task task = {.seed = seed_from_environment()};
    task.changes =
        (unsigned)number(getenv("OSM_PROPERTY_CHANGES"), CHANGES_DEFAULT, "OSM_PROPERTY_CHANGES");
    task.workers =
        (unsigned)number(getenv("OSM_PROPERTY_WORKERS"), processors > 0 ? (uint64_t)processors : 1,
                         "OSM_PROPERTY_WORKERS");
    if (task.workers < 1 || task.workers > WORKERS_MAX)
        task.workers = task.workers ? WORKERS_MAX : 1;
    for (size_t i = 0; i < sizeof properties / sizeof *properties; i++) {
        if (!wanted(properties[i].name, argc, argv))
            continue;
        if (run_property(&properties[i], task))
            passed++;
        else
            failed++;
    }
    (void)printf("%u passed, %u failed\n", passed, failed);
    return failed ? 1 : passed ? 0 : NOTHING_SELECTED;
}
