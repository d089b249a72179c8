#include "loop/watch.h"

#include "base/map.h"

#include <errno.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>
#include <uv.h>

enum {
    EVENTS = IN_MODIFY | IN_CLOSE_WRITE | IN_CREATE | IN_MOVED_FROM | IN_MOVED_TO | IN_DELETE |
             IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF
};

struct target {
    char *rel;
    unsigned round;
};

struct osm_watch {
    uv_poll_t poll;
    int fd;
    osm_watch_fn *fn; /* NULL once closing */
    void *ud;
    struct osm_map targets; /* watch descriptor -> struct target * */
    unsigned round;
};

static void drop_target(struct osm_watch *watch, int wd)
{
    struct target *target = osm_map_deln(&watch->targets, &wd, sizeof wd);
    if (target)
        osm_free(target->rel);
    osm_free(target);
}

static enum osm_watch_event event_of(uint32_t mask)
{
    if (mask & (IN_ISDIR | IN_DELETE_SELF | IN_MOVE_SELF | IN_IGNORED))
        return OSM_WATCH_TREE;
    if (mask & IN_MODIFY)
        return OSM_WATCH_WRITING;
    return mask & (IN_CLOSE_WRITE | IN_MOVED_TO) ? OSM_WATCH_DONE : OSM_WATCH_CHANGED;
}

static void tell(struct osm_watch *watch, const struct inotify_event *event)
{
    int wd = event->wd;
    const struct target *target = osm_map_getn(&watch->targets, &wd, sizeof wd);
    if (event->mask & IN_Q_OVERFLOW) {
        watch->fn(watch->ud, OSM_WATCH_LOST, "");
        return;
    }
    if (!target)
        return;
    const char *name = event->len ? event->name : "";
    char *rel = osm_strf("%s%s%s", target->rel, *target->rel && *name ? "/" : "", name);
    if (event->mask & IN_IGNORED)
        drop_target(watch, wd);
    /* Without memory for the name it is still known that something changed. */
    if (!rel)
        watch->fn(watch->ud, OSM_WATCH_LOST, "");
    else
        watch->fn(watch->ud, event_of(event->mask), rel);
    osm_free(rel);
}

void osm_watch_drain(struct osm_watch *watch)
{
    union {
        struct inotify_event event; /* for its alignment */
        char bytes[16 * 1024];
    } buffer;
    ssize_t n;
    while (watch->fn && (n = read(watch->fd, &buffer, sizeof buffer)) > 0)
        for (ssize_t at = 0; at < n && watch->fn;) {
            const struct inotify_event *event = (const void *)(buffer.bytes + at);
            at += (ssize_t)sizeof *event + (ssize_t)event->len;
            tell(watch, event);
        }
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    osm_watch_drain(poll->data);
}

int osm_watch_new(struct osm_watch **out, struct osm_loop *loop, osm_watch_fn *fn, void *ud,
                  struct osm_err *err)
{
    struct osm_watch *watch = osm_alloc(sizeof *watch);
    if (!watch)
        return osm_fail(err, OSM_ENOMEM, "file watch: %s", osm_code_text(OSM_ENOMEM));
    watch->fn = fn;
    watch->ud = ud;
    watch->poll.data = watch;
    watch->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    int error = watch->fd < 0 ? errno : 0;
    if (!error && uv_poll_init(osm_loop_uv(loop), &watch->poll, watch->fd))
        error = EIO;
    if (error) {
        if (watch->fd >= 0)
            close(watch->fd);
        osm_free(watch);
        return osm_fail(err, OSM_EIO, "file watch: %s", strerror(error));
    }
    (void)uv_poll_start(&watch->poll, UV_READABLE, on_readable);
    *out = watch;
    return 0;
}

static void on_closed(uv_handle_t *handle)
{
    struct osm_watch *watch = handle->data;
    close(watch->fd);
    osm_free(watch);
}

void osm_watch_free(struct osm_watch *watch)
{
    if (!watch)
        return;
    watch->fn = NULL;
    osm_map_each (&watch->targets, e) {
        osm_free(((struct target *)e->value)->rel);
        osm_free(e->value);
    }
    osm_map_clear(&watch->targets);
    uv_close((uv_handle_t *)&watch->poll, on_closed);
}

void osm_watch_begin(struct osm_watch *watch)
{
    watch->round++;
}

int osm_watch_add(struct osm_watch *watch, const char *path, const char *rel)
{
    int wd = inotify_add_watch(watch->fd, path, EVENTS);
    if (wd < 0)
        return errno == ENOENT || errno == ENOTDIR ? OSM_ENOENT
               : errno == ENOSPC                   ? OSM_ELIMIT
                                                   : OSM_EIO;
    struct target *target = osm_map_getn(&watch->targets, &wd, sizeof wd);
    if (!target) {
        target = osm_alloc(sizeof *target);
        if (!target || osm_map_putn(&watch->targets, &wd, sizeof wd, target, NULL)) {
            osm_free(target);
            return OSM_ENOMEM;
        }
    }
    target->round = watch->round;
    if (target->rel && !strcmp(target->rel, rel))
        return 0;
    osm_free(target->rel);
    target->rel = osm_strdup(rel);
    if (target->rel)
        return 0;
    drop_target(watch, wd);
    return OSM_ENOMEM;
}

void osm_watch_end(struct osm_watch *watch)
{
    osm_map_each (&watch->targets, e) {
        const struct target *target = e->value;
        int wd;
        if (target->round == watch->round)
            continue;
        memcpy(&wd, e->key, sizeof wd);
        (void)inotify_rm_watch(watch->fd, wd);
        drop_target(watch, wd);
    }
}
