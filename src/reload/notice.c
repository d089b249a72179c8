#include "reload/notice.h"

#include "base/clock.h"
#include "base/log.h"
#include "loop/watch.h"

#include <dirent.h>
#include <string.h>
#include <sys/stat.h>

enum { QUIET_MS = 200, BURST_MAX_MS = 2000, POLL_MS = 60 * 1000, DEPTH_MAX = 8 };

struct reading {
    struct osm_notice *notice; /* loop thread; NULL: nobody waits any more */
    struct osm_policy_files *files;
    const char *const *dirs; /* outlive the daemon's threads */
    struct osm_err err;
};

struct osm_notice {
    struct osm_loop *loop;
    const char *const *dirs;
    osm_notice_fn *fn;
    void *ud;
    struct osm_watch *watch; /* NULL: polling only */
    struct osm_timer *quiet, *poll;
    struct reading *reading; /* under way; NULL: none */
    bool again;              /* something has changed since that began */
    uint64_t burst_since_ms; /* 0: quiet */
};

static bool is_bundle_folder(const char *path, const char *name)
{
    struct stat st;
    return name[0] != '.' && !stat(path, &st) && S_ISDIR(st.st_mode);
}

static void watch_folder(struct osm_notice *n, const char *path, unsigned depth)
{
    if (osm_watch_add(n->watch, path, path) || depth > DEPTH_MAX)
        return; /* what is not watched is polled */
    DIR *dir = opendir(path);
    struct dirent *entry;
    while (dir && (entry = readdir(dir))) {
        char *inner = osm_strf("%s/%s", path, entry->d_name);
        if (inner && is_bundle_folder(inner, entry->d_name))
            watch_folder(n, inner, depth + 1);
        osm_free(inner);
    }
    if (dir)
        (void)closedir(dir);
}

static void watch_all(struct osm_notice *n)
{
    if (!n->watch)
        return;
    osm_watch_begin(n->watch);
    for (size_t i = 0; n->dirs[i]; i++)
        watch_folder(n, n->dirs[i], 0);
    osm_watch_end(n->watch);
}

/* --- reading --- */

static void read_files(void *ud)
{
    struct reading *r = ud;
    if (osm_policy_files_read(&r->files, r->dirs, &r->err))
        r->files = NULL;
}

static void files_read(void *ud)
{
    struct reading *r = ud;
    struct osm_notice *n = r->notice;
    if (!n) {
        osm_policy_files_unref(r->files);
        osm_free(r);
        return;
    }
    n->reading = NULL;
    bool again = n->again;
    if (again) { /* perhaps half of it is old */
        osm_policy_files_unref(r->files);
        osm_notice_look(n);
    } else {
        n->fn(n->ud, r->files, r->files ? NULL : r->err.msg);
    }
    osm_free(r);
}

void osm_notice_look(struct osm_notice *n)
{
    n->burst_since_ms = 0;
    osm_timer_stop(n->quiet);
    osm_timer_start(n->poll, POLL_MS, 0);
    n->again = n->reading != NULL;
    if (n->again)
        return;
    watch_all(n); /* before the reading: what is written from here on is an event */
    struct reading *r = osm_alloc(sizeof *r);
    if (r)
        *r = (struct reading){.notice = n, .dirs = n->dirs};
    if (!r || osm_loop_work(n->loop, read_files, files_read, r)) {
        osm_log(OSM_LOG_POLICY, OSM_LOG_ERROR, "policy files not read: out of memory");
        osm_free(r);
        osm_timer_start(n->quiet, BURST_MAX_MS, 0);
        return;
    }
    n->reading = r;
}

bool osm_notice_pending(const struct osm_notice *n)
{
    return n->reading || n->burst_since_ms;
}

static void on_time(void *ud)
{
    osm_notice_look(ud);
}

static void on_event(void *ud, enum osm_watch_event event, const char *rel)
{
    struct osm_notice *n = ud;
    uint64_t now_ms = osm_now_ms();
    (void)event;
    (void)rel;
    if (!n->burst_since_ms)
        n->burst_since_ms = now_ms;
    uint64_t age_ms = now_ms - n->burst_since_ms;
    uint64_t left_ms = age_ms < BURST_MAX_MS ? BURST_MAX_MS - age_ms : 0;
    osm_timer_start(n->quiet, left_ms < QUIET_MS ? left_ms : QUIET_MS, 0);
}

int osm_notice_start(struct osm_notice **out, struct osm_loop *loop, const char *const *dirs,
                     osm_notice_fn *fn, void *ud, struct osm_err *err)
{
    struct osm_err why = {0};
    struct osm_notice *n = osm_alloc(sizeof *n);
    if (!n)
        return osm_fail(err, OSM_ENOMEM, "out of memory");
    *n = (struct osm_notice){.loop = loop, .dirs = dirs, .fn = fn, .ud = ud};
    n->quiet = osm_timer_new(loop, on_time, n);
    n->poll = osm_timer_new(loop, on_time, n);
    if (!n->quiet || !n->poll) {
        osm_notice_stop(n);
        return osm_fail(err, OSM_ENOMEM, "out of memory");
    }
    if (osm_watch_new(&n->watch, loop, on_event, n, &why))
        osm_log(OSM_LOG_POLICY, OSM_LOG_WARN, "changes of policies are seen by polling only",
                OSM_S("error", why.msg));
    watch_all(n);
    osm_timer_start(n->poll, POLL_MS, 0);
    *out = n;
    return 0;
}

void osm_notice_stop(struct osm_notice *n)
{
    if (!n)
        return;
    if (n->reading)
        n->reading->notice = NULL;
    osm_watch_free(n->watch);
    osm_timer_free(n->quiet);
    osm_timer_free(n->poll);
    osm_free(n);
}
