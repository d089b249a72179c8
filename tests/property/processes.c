/* Two processes say the same of the same history, byte for byte: with addresses where they always
 * are and wherever the kernel likes, in other locales, time zones and folders for new files, with
 * memory that is never zero when it comes. */
#include "property.h"

#include <errno.h>
#include <inttypes.h>
#include <locale.h>
#include <stdio.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CHANGES_MAX = 400, LINE_BYTES = 4096 };

void print_digest(uint64_t seed, unsigned changes)
{
    struct history h = history_new(seed);
    struct ops ops = {0};
    struct replay p;
    struct osm_buf why = OSM_BUF_INIT(TEXT_MAX), all = OSM_BUF_INIT(TEXT_MAX);
    char hex[OSM_HASH_HEX_SIZE];
    bool lived = true;
    size_t done = 0;
    (void)setlocale(LC_ALL, "");
    replay_open(&p, BUNDLE_ONE);
    objects_anchor(&ops);
    for (unsigned n = 0; lived && n < changes; n++) {
        history_step(&h, &ops);
        for (; lived && done < ops.len; done++)
            lived = replay_apply(&p, &ops.list[done], &why);
        if (lived)
            (void)osm_buf_addf(&all, "%" PRIu64 " %s %zu\n", p.snapshot->number,
                               osm_hash_hex(snapshot_digest(p.snapshot), hex),
                               engine_cells(p.engine));
    }
    OSM_REQUIRE(!all.failed);
    (void)printf("digest %s of %u changes%s\n",
                 osm_hash_hex(osm_hash_bytes(all.data, all.len), hex), changes,
                 lived ? "" : ", the engine failed");
    osm_buf_clear(&all);
    osm_buf_clear(&why);
    ops_clear(&ops);
    history_clear(&h);
    replay_close(&p);
}

static void become(uint64_t seed, unsigned changes, bool odd, int output)
{
    char seed_text[32], changes_text[32], program[LINE_BYTES];
    ssize_t n = readlink("/proc/self/exe", program, sizeof program - 1);
    OSM_REQUIRE(n > 0);
    program[n] = '\0';
    (void)snprintf(seed_text, sizeof seed_text, "%" PRIu64, seed);
    (void)snprintf(changes_text, sizeof changes_text, "%u", changes);
    char *const argv[] = {program, (char[]){"--digest"}, seed_text, changes_text, NULL};
    char *const plain[] = {(char[]){"LC_ALL=C"}, (char[]){"TZ=UTC"}, NULL};
    char *const other[] = {(char[]){"LC_ALL=C.UTF-8"},
                           (char[]){"TZ=Asia/Kathmandu"},
                           (char[]){"MALLOC_PERTURB_=165"},
                           (char[]){"HOME=/nowhere"},
                           (char[]){"A_LONG_STORY=so that the stack begins somewhere else"},
                           NULL};
    OSM_REQUIRE(dup2(output, STDOUT_FILENO) >= 0);
    if (odd)
        (void)umask(0777 & ~0700);
    else
        (void)personality(ADDR_NO_RANDOMIZE); /* where it is forbidden both are random */
    (void)execve(program, argv, odd ? other : plain);
    _exit(127);
}

static bool digest_of(uint64_t seed, unsigned changes, bool odd, char line[LINE_BYTES])
{
    int pipe_ends[2], status = 0;
    OSM_REQUIRE(!pipe(pipe_ends));
    (void)fflush(stdout);
    pid_t child = fork();
    OSM_REQUIRE(child >= 0);
    if (!child)
        become(seed, changes, odd, pipe_ends[1]);
    close(pipe_ends[1]);
    size_t len = 0;
    for (;;) {
        ssize_t n = read(pipe_ends[0], line + len, LINE_BYTES - 1 - len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        len += (size_t)n;
    }
    line[len] = '\0';
    close(pipe_ends[0]);
    while (waitpid(child, &status, 0) < 0)
        OSM_REQUIRE(errno == EINTR);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 && !strncmp(line, "digest ", 7);
}

bool processes_agree(const struct task *task)
{
    char one[LINE_BYTES], two[LINE_BYTES];
    unsigned changes = task->changes < CHANGES_MAX ? task->changes : CHANGES_MAX;
    uint64_t seed = task->seed + task->worker;
    bool ended = digest_of(seed, changes, false, one);
    ended = digest_of(seed, changes, true, two) && ended;
    if (ended && !strcmp(one, two) && !strstr(one, "failed"))
        return true;
    (void)osm_buf_addf(task->report,
                       "-- two processes say of the history of seed %" PRIu64
                       ", %u changes:\n%s%s%s",
                       seed, changes, one, two, ended ? "" : "-- and one of them broke\n");
    return false;
}
