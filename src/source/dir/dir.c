/* A directory of manifests as a source of objects.
 *
 *   inotify --.
 *   poll -----+--> scan: walk the tree, read what changed --> settle: one owner per key --> sink
 *   refresh --'
 *
 * A scan always looks at the whole tree, so whatever woke it does not matter and a lost event is
 * made up for by the next poll. Of one object in several files the first file, by path, owns it;
 * the others are reported and stand in when it goes. A directory that cannot be read keeps what was
 * in it; when that is the root, the source has failed and holds everything. So does a root that was
 * replaced by another, empty directory: that is what a file system that was unmounted looks like.
 */
#include "base/clock.h"
#include "base/log.h"
#include "base/map.h"
#include "base/utf8.h"
#include "loop/watch.h"
#include "source/dir/files.h"
#include "source/dir/walk.h"
#include "source/source_priv.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum {
    QUIET_MS = 20,      /* no event for so long: a burst is over */
    BURST_MAX_MS = 200, /* but a burst waits no longer than this */
    POLL_MS = 3000,
    POLL_FAILED_MS = 250,    /* the root is missing */
    POLL_UNWATCHED_MS = 500, /* there is no inotify */
    WRITER_MAX_MS = 1000,    /* a file that is open for writing is read after this all the same */
};

struct dir {
    struct osm_source source; /* first: the two share their address */
    char *path;
    struct osm_source_sink sink;
    struct osm_watch *watch; /* NULL: none to be had */
    struct osm_timer *quiet, *poll;
    struct osm__files files;
    struct osm_map told;    /* key -> the object that the sink was told of; one reference */
    struct osm_map writing; /* path -> when it was last written to, struct stamp * */
    json_t *dir_errors, *conflicts;
    struct osm__file_id root;
    uint64_t burst_since_ms; /* 0: no burst */
    uint64_t scanned_ms;     /* when the last scan ended */
    unsigned scan;
    uint64_t generation;
    bool in_steps; /* the burst holds more than files that were written */
    bool scanning, synced, has_root, watch_full;
    char failure[512]; /* "" or why the source has failed */
};

struct stamp {
    uint64_t ms;
};

/* --- settling: who owns which key --- */

static json_t *error_entry(const char *file, int line, int column, const char *message, bool kept)
{
    return json_pack("{s:s, s:i, s:i, s:s, s:b}", "file", file, "line", line, "column", column,
                     "message", message, "kept", kept);
}

static int line_of(const struct osm_object *object)
{
    const char *colon = strrchr(object->origin, ':');
    int line = 0;
    for (const char *c = colon ? colon + 1 : ""; *c >= '0' && *c <= '9'; c++)
        line = line * 10 + (*c - '0');
    return line;
}

static int add_conflict(json_t *conflicts, const struct osm__file *file,
                        const struct osm_object *object, const struct osm_object *owner)
{
    char message[512];
    (void)snprintf(message, sizeof message, "%s %s%s%s (%s) is left out: %s has it already",
                   object->kind, object->ns, *object->ns ? "/" : "", object->name, object->origin,
                   owner->origin);
    return json_array_append_new(conflicts, error_entry(file->path, line_of(object), 1,
                                                        osm_utf8_repair(message), false))
               ? OSM_ENOMEM
               : 0;
}

/* Fills @p owners (key -> object, borrowed) and lists the others. */
static int find_owners(struct dir *d, struct osm_map *owners, json_t *conflicts)
{
    size_t n = 0;
    const char **paths = osm_map_sorted_keys(&d->files.map, &n);
    int rc = paths && conflicts ? 0 : OSM_ENOMEM;
    for (size_t i = 0; i < n && !rc; i++) {
        const struct osm__file *file = osm_map_get(&d->files.map, paths[i]);
        for (size_t j = 0; j < file->len && !rc; j++) {
            struct osm_object *object = file->objects[j], *owner = osm_map_get(owners, object->key);
            rc = owner ? add_conflict(conflicts, file, object, owner)
                       : osm_map_put(owners, object->key, object, NULL);
        }
    }
    osm_free(paths);
    return rc;
}

/* Tells the sink the difference; what is gone goes first, so that nothing lives longer than it has
 * to. */
static int tell_sink(struct dir *d, const struct osm_map *owners)
{
    bool news = false;
    osm_map_each (&d->told, e) {
        struct osm_object *object = e->value;
        if (osm_map_has(owners, e->key))
            continue;
        (void)osm_map_del(&d->told, object->key);
        d->sink.gone(d->sink.ud, object->key);
        osm_object_unref(object);
        news = true;
    }
    int rc = 0;
    osm_map_each (owners, e) {
        struct osm_object *object = e->value;
        void *old = NULL;
        if (rc || osm_map_get(&d->told, e->key) == object)
            continue;
        rc = osm_map_put(&d->told, e->key, object, &old);
        if (rc)
            continue;
        (void)osm_object_ref(object);
        d->sink.put(d->sink.ud, osm_object_ref(object));
        osm_object_unref(old);
        news = true;
    }
    d->generation += news;
    return rc;
}

static int settle(struct dir *d)
{
    struct osm_map owners = OSM_MAP_INIT;
    json_t *conflicts = json_array();
    size_t before = json_array_size(d->conflicts);
    int rc = find_owners(d, &owners, conflicts);
    if (!rc) {
        json_decref(d->conflicts);
        d->conflicts = json_incref(conflicts);
        if (json_array_size(conflicts) > before)
            osm_log(OSM_LOG_SOURCE, OSM_LOG_WARN,
                    "objects are in more than one file; the first file has them",
                    OSM_U("objects", json_array_size(conflicts)));
        rc = tell_sink(d, &owners);
    }
    osm_map_clear(&owners);
    json_decref(conflicts);
    d->files.changed = rc != 0;
    return rc;
}

/* --- scanning --- */

/* Forgets who has not written for so long. */
static void forget_writers(struct dir *d, uint64_t age_ms)
{
    uint64_t now_ms = osm_now_ms();
    osm_map_each (&d->writing, e) {
        struct stamp *stamp = e->value;
        if (now_ms - stamp->ms < age_ms)
            continue;
        (void)osm_map_deln(&d->writing, e->key, e->key_len);
        osm_free(stamp);
    }
}

static void watch_path(void *ud, const char *path, const char *rel)
{
    struct dir *d = ud;
    int rc = d->watch ? osm_watch_add(d->watch, path, rel) : 0;
    if (rc == OSM_ELIMIT && !d->watch_full) {
        osm_log(
            OSM_LOG_SOURCE, OSM_LOG_WARN,
            "no watch left (fs.inotify.max_user_watches); some changes are seen by polling only",
            OSM_S("path", path));
        d->watch_full = true;
    }
}

/* Is somebody in the middle of writing this file? Its first step is often to make the file empty.
 */
static bool is_being_written(struct dir *d, const struct osm__file *file,
                             const struct osm__file_id *id)
{
    if (osm_map_has(&d->writing, file->path))
        return true;
    return file->len && !id->size && osm__file_id_is_younger(id, WRITER_MAX_MS);
}

static bool same_id(const struct osm__file_id *a, const struct osm__file_id *b)
{
    return a->dev == b->dev && a->ino == b->ino && a->size == b->size &&
           a->mtime_ns == b->mtime_ns && a->ctime_ns == b->ctime_ns;
}

/* Looks at one file of the walk; *wait is set where it has to be looked at again soon. */
static int look_at(struct dir *d, const struct osm__walk_file *seen, bool force, bool *wait)
{
    struct osm__manifest_problem problem = {0};
    bool gone = false;
    struct osm__file *file = osm__files_at(&d->files, seen->path);
    if (!file)
        return OSM_ENOMEM;
    file->scan = d->scan;
    if (seen->error) {
        (void)snprintf(problem.message, sizeof problem.message, "cannot be read: %s",
                       strerror(seen->error));
        osm__file_set_problem(file, &problem);
        file->id = (struct osm__file_id){0};
        file->is_read = false;
        return 0;
    }
    if (seen->is_link && d->watch) {
        /* its own directory does not tell when what it points to is written */
        char *path = osm_strf("%s/%s", d->path, seen->path);
        if (path)
            watch_path(d, path, seen->path);
        osm_free(path);
    }
    if (!force && is_being_written(d, file, &seen->id)) {
        *wait = true;
        return 0;
    }
    if (!force && !file->racy && same_id(&file->id, &seen->id))
        return 0;
    int rc = osm__files_read(&d->files, file, &gone);
    if (gone)
        file->scan = d->scan - 1;
    else if (!rc && file->broken && !file->is_read)
        file->id = seen->id; /* it could not even be opened: no use trying before it changes */
    return rc;
}

static bool is_inside(const char *path, const char *dir)
{
    size_t len = strlen(dir);
    return !strncmp(path, dir, len) && path[len] == '/';
}

/* Files of a directory that cannot be read are as they were. */
static int hold_unreadable(struct dir *d, const struct osm__walk *walk)
{
    json_t *errors = json_array();
    int rc = errors ? 0 : OSM_ENOMEM;
    for (size_t i = 0; i < walk->unreadable_len && !rc; i++) {
        const struct osm__walk_file *dir = &walk->unreadable[i];
        char message[200];
        bool kept = false;
        osm_map_each (&d->files.map, e) {
            struct osm__file *file = e->value;
            if (is_inside(file->path, dir->path)) {
                file->scan = d->scan;
                kept = kept || file->len;
            }
        }
        if (dir->error == EMLINK)
            (void)snprintf(message, sizeof message,
                           "nested deeper than %d directories; nothing in it is read",
                           OSM__WALK_DEPTH_MAX);
        else
            (void)snprintf(message, sizeof message, "directory cannot be read: %s",
                           strerror(dir->error));
        if (json_array_append_new(errors, error_entry(dir->path, 0, 0, message, kept)))
            rc = OSM_ENOMEM;
    }
    if (rc) {
        json_decref(errors);
        return rc;
    }
    json_decref(d->dir_errors);
    d->dir_errors = errors;
    return 0;
}

static void forget_unseen(struct dir *d)
{
    osm_map_each (&d->files.map, e) {
        struct osm__file *file = e->value;
        if (file->scan == d->scan)
            continue;
        osm__files_drop(&d->files, file);
    }
}

static void set_failure(struct dir *d, const char *reason)
{
    if (strcmp(d->failure, reason) != 0) {
        if (*reason)
            osm_log(OSM_LOG_SOURCE, OSM_LOG_ERROR,
                    "source has failed; everything it gave stays as it is", OSM_S("path", d->path),
                    OSM_S("error", reason));
        else
            osm_log(OSM_LOG_SOURCE, OSM_LOG_INFO, "source has recovered", OSM_S("path", d->path));
    }
    (void)snprintf(d->failure, sizeof d->failure, "%s", reason);
    (void)osm_utf8_repair(d->failure);
}

static int scan_walk(struct dir *d, const struct osm__walk *walk, bool force, bool *wait,
                     struct osm_err *err)
{
    bool replaced = d->has_root && (walk->root.dev != d->root.dev || walk->root.ino != d->root.ino);
    if (replaced && !walk->len && !walk->unreadable_len && d->told.count)
        return osm_fail(err, OSM_EMISMATCH, "%s: was replaced by an empty directory (unmounted?)",
                        d->path);
    int rc = 0;
    for (size_t i = 0; i < walk->len && !rc; i++)
        rc = look_at(d, &walk->files[i], force, wait);
    if (!rc)
        rc = hold_unreadable(d, walk);
    if (rc)
        return osm_fail(err, rc, "%s: %s", d->path, osm_code_text(rc));
    d->root = walk->root;
    d->has_root = true;
    forget_unseen(d);
    return 0;
}

static void scan(struct dir *d, bool force)
{
    struct osm__walk walk = {0};
    struct osm_err err = {0};
    bool wait = false;
    if (d->scanning) /* asked for by the sink: what it is being told is what there is */
        return;
    d->scanning = true;
    d->scan++;
    d->burst_since_ms = 0;
    d->in_steps = false;
    forget_writers(d, WRITER_MAX_MS);
    osm_timer_stop(d->quiet);
    if (d->watch)
        osm_watch_begin(d->watch);
    int rc = osm__walk(&walk, d->path, watch_path, d, &err);
    if (!rc)
        rc = scan_walk(d, &walk, force, &wait, &err);
    if (!rc && d->watch)
        osm_watch_end(d->watch);
    if (!rc && d->files.changed && settle(d))
        rc = osm_fail(&err, OSM_ENOMEM, "%s: %s", d->path, osm_code_text(OSM_ENOMEM));
    osm__walk_clear(&walk);
    set_failure(d, rc ? err.msg : "");
    d->scanning = false;
    d->scanned_ms = osm_now_ms();
    if (!rc && !d->synced) {
        d->synced = true;
        d->sink.synced(d->sink.ud);
    }
    if (wait)
        osm_timer_start(d->quiet, BURST_MAX_MS, 0);
    osm_timer_start(d->poll, rc ? POLL_FAILED_MS : d->watch ? POLL_MS : POLL_UNWATCHED_MS, 0);
}

/* --- what wakes it --- */

static void on_time(void *ud)
{
    scan(ud, false);
}

static void note_writing(struct dir *d, const char *rel)
{
    struct stamp *stamp = osm_map_get(&d->writing, rel);
    if (!stamp) {
        stamp = osm_alloc(sizeof *stamp);
        if (!stamp || osm_map_put(&d->writing, rel, stamp, NULL)) {
            osm_free(stamp); /* then it may be read half-written; the next event mends that */
            return;
        }
    }
    stamp->ms = osm_now_ms();
}

static void on_event(void *ud, enum osm_watch_event event, const char *rel)
{
    struct dir *d = ud;
    uint64_t now_ms = osm_now_ms();
    if (event == OSM_WATCH_WRITING)
        note_writing(d, rel);
    else if (event == OSM_WATCH_LOST)
        forget_writers(d, 0);
    else
        osm_free(osm_map_del(&d->writing, rel));

    if (!d->burst_since_ms)
        d->burst_since_ms = now_ms;
    if (event == OSM_WATCH_TREE || event == OSM_WATCH_LOST ||
        (event == OSM_WATCH_CHANGED && osm_map_has(&d->files.map, rel)))
        d->in_steps = true;
    uint64_t age_ms = now_ms - d->burst_since_ms;
    uint64_t delay_ms = age_ms < BURST_MAX_MS ? BURST_MAX_MS - age_ms : 0;
    if (delay_ms > QUIET_MS)
        delay_ms = QUIET_MS;
    /* A finished file out of the blue is read at once. After anything else more may follow: a name
     * that vanishes is often about to be written anew. */
    if (event == OSM_WATCH_DONE && !d->in_steps && now_ms - d->scanned_ms >= QUIET_MS)
        delay_ms = 0;
    osm_timer_start(d->quiet, delay_ms, 0);
}

/* Everything is read again, whatever inotify said. */
static void dir_refresh(struct osm_source *source, osm_source_refreshed_fn *done, void *ud)
{
    struct dir *d = (struct dir *)source;
    if (d->watch)
        osm_watch_drain(d->watch);
    scan(d, true);
    if (done)
        done(ud, *d->failure ? d->failure : NULL);
}

/* --- status and life --- */

static json_t *dir_errors(const struct dir *d)
{
    size_t n = 0;
    const char **paths = osm_map_sorted_keys(&d->files.map, &n);
    json_t *errors = paths ? json_array() : NULL;
    bool failed = !errors;
    for (size_t i = 0; i < n && !failed; i++) {
        const struct osm__file *file = osm_map_get(&d->files.map, paths[i]);
        if (file->broken)
            failed = json_array_append_new(
                errors, error_entry(file->path, file->problem.line, file->problem.column,
                                    file->problem.message, file->ever_good));
    }
    if (!failed)
        failed = (d->conflicts && json_array_extend(errors, d->conflicts)) ||
                 (d->dir_errors && json_array_extend(errors, d->dir_errors));
    osm_free(paths);
    if (failed) {
        json_decref(errors);
        errors = NULL;
    }
    return errors;
}

static json_t *dir_status(const struct osm_source *source)
{
    const struct dir *d = (const struct dir *)source;
    json_t *errors = dir_errors(d);
    if (!errors)
        return NULL;
    size_t n = json_array_size(errors);
    char reason[560] = "";
    if (*d->failure)
        (void)snprintf(reason, sizeof reason, "%s", d->failure);
    else if (n)
        (void)snprintf(reason, sizeof reason, "%zu error%s in its files", n, n == 1 ? "" : "s");
    else if (!d->synced)
        (void)snprintf(reason, sizeof reason, "not read yet");
    const char *state = *d->failure ? "failed" : n || !d->synced ? "degraded" : "ok";
    char *path = osm_strdup(d->path);
    json_t *status =
        json_pack("{s:s, s:s?, s:s, s:s, s:I, s:I, s:I, s:o}", "kind", "dir", "path",
                  path ? osm_utf8_repair(path) : NULL, "state", state, "reason", reason, "files",
                  (json_int_t)d->files.map.count, "objects", (json_int_t)d->told.count,
                  "generation", (json_int_t)d->generation, "errors", errors);
    osm_free(path);
    return status;
}

static const char *dir_failure(const struct osm_source *source)
{
    const struct dir *d = (const struct dir *)source;
    return *d->failure ? d->failure : NULL;
}

static void dir_stop(struct osm_source *source)
{
    struct dir *d = (struct dir *)source;
    osm_watch_free(d->watch);
    osm_timer_free(d->quiet);
    osm_timer_free(d->poll);
    osm_map_each (&d->told, e)
        osm_object_unref(e->value);
    forget_writers(d, 0);
    osm_map_clear(&d->writing);
    osm__files_clear(&d->files);
    osm_map_clear(&d->told);
    json_decref(d->dir_errors);
    json_decref(d->conflicts);
    osm_free(d->path);
    osm_free(d);
}

int osm_source_dir_start(struct osm_source **out, struct osm_loop *loop, const char *path,
                         const struct osm_source_sink *sink, struct osm_err *err)
{
    struct stat st;
    struct osm_err watch_err = {0};
    if (stat(path, &st))
        return osm_fail(err, OSM_ENOENT, "%s: no such directory", path);
    if (!S_ISDIR(st.st_mode))
        return osm_fail(err, OSM_EINVAL, "%s: is not a directory", path);
    struct dir *d = osm_alloc(sizeof *d);
    if (!d)
        return osm_fail(err, OSM_ENOMEM, "%s: %s", path, osm_code_text(OSM_ENOMEM));
    size_t len = strlen(path);
    while (len > 1 && path[len - 1] == '/')
        len--;
    d->source.stop = dir_stop;
    d->source.status = dir_status;
    d->source.refresh = dir_refresh;
    d->source.failure = dir_failure;
    d->sink = *sink;
    d->path = osm_strndup(path, len);
    d->files.root = d->path;
    d->quiet = osm_timer_new(loop, on_time, d);
    d->poll = osm_timer_new(loop, on_time, d);
    if (!d->path || !d->quiet || !d->poll) {
        dir_stop(&d->source);
        return osm_fail(err, OSM_ENOMEM, "%s: %s", path, osm_code_text(OSM_ENOMEM));
    }
    if (osm_watch_new(&d->watch, loop, on_event, d, &watch_err))
        osm_log(OSM_LOG_SOURCE, OSM_LOG_WARN, "changes are seen by polling only",
                OSM_S("error", watch_err.msg));
    osm_timer_start(d->poll, 0, 0); /* not now: the caller has nothing in its hands yet */
    *out = &d->source;
    return 0;
}
