#include "source/dir/walk.h"

#include "base/map.h"
#include "base/utf8.h"

#include <dirent.h>
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

struct walker {
    struct osm__walk out;
    struct osm_map seen_dirs; /* device and inode */
    const char *root;
    osm__walk_dir_fn *on_dir;
    void *ud;
    struct osm_err *err;
};

struct osm__file_id osm__file_id(const struct stat *st)
{
    return (struct osm__file_id){
        .dev = st->st_dev,
        .ino = st->st_ino,
        .size = (uint64_t)st->st_size,
        .mtime_ns = (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec,
        .ctime_ns = (int64_t)st->st_ctim.tv_sec * 1000000000 + st->st_ctim.tv_nsec,
    };
}

static int no_memory(struct walker *w)
{
    return osm_fail(w->err, OSM_ENOMEM, "reading %s: %s", w->root, osm_code_text(OSM_ENOMEM));
}

static int code_of(int error)
{
    switch (error) {
    case ENOENT:
        return OSM_ENOENT;
    case ENOTDIR:
        return OSM_EINVAL;
    case EACCES:
    case EPERM:
        return OSM_EACCES;
    case ENOMEM:
        return OSM_ENOMEM;
    default:
        return OSM_EIO;
    }
}

static bool is_manifest(const char *name)
{
    static const char *const endings[] = {".yaml", ".yml", ".json"};
    size_t len = strlen(name);
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        size_t n = strlen(endings[i]);
        if (len > n && !strcmp(name + len - n, endings[i]))
            return true;
    }
    return false;
}

/* Appends to a list that doubles; takes @p path. */
static int append(struct walker *w, struct osm__walk_file **list, size_t *len,
                  struct osm__walk_file file)
{
    if (!(*len & (*len - 1))) {
        struct osm__walk_file *grown = osm_realloc_array(*list, *len ? *len * 2 : 1, sizeof *grown);
        if (!grown) {
            osm_free(file.path);
            return no_memory(w);
        }
        *list = grown;
    }
    (*list)[(*len)++] = file;
    return 0;
}

static int add_unreadable(struct walker *w, const char *rel, int error)
{
    char *copy = osm_strdup(rel);
    if (!copy)
        return no_memory(w);
    struct osm__walk_file dir = {.path = copy, .error = error};
    return append(w, &w->out.unreadable, &w->out.unreadable_len, dir);
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

struct names {
    char **list;
    size_t len;
};

static void names_clear(struct names *names)
{
    for (size_t i = 0; i < names->len; i++)
        osm_free(names->list[i]);
    osm_free(names->list);
}

/* The names worth a look, sorted. Returns an errno, 0 on success. */
static int list_names(const char *path, struct names *out)
{
    DIR *dir = opendir(path);
    if (!dir)
        return errno;
    int error = 0;
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(dir);
        if (!entry) {
            error = errno;
            break;
        }
        if (entry->d_name[0] == '.' || entry->d_name[0] == '#')
            continue;
        if (!(out->len & (out->len - 1))) {
            char **grown = osm_realloc_array(out->list, out->len ? out->len * 2 : 1, sizeof *grown);
            if (!grown) {
                error = ENOMEM;
                break;
            }
            out->list = grown;
        }
        char *name = osm_strdup(entry->d_name);
        if (!name) {
            error = ENOMEM;
            break;
        }
        out->list[out->len++] = name;
    }
    closedir(dir);
    if (out->len)
        qsort(out->list, out->len, sizeof *out->list, by_text);
    return error;
}

static int walk_dir(struct walker *w, const char *path, const char *rel, int depth);

static int visit(struct walker *w, const char *path, const char *rel, int depth)
{
    struct stat st, own;
    bool is_link = lstat(path, &own) == 0 && S_ISLNK(own.st_mode);
    int error = stat(path, &st) ? errno : 0;
    if (error == ENOENT || error == ENOTDIR)
        return 0; /* gone meanwhile, or a link to nothing */
    if (!error && S_ISDIR(st.st_mode))
        return walk_dir(w, path, rel, depth + 1);
    if (!is_manifest(rel) || (!error && !S_ISREG(st.st_mode)))
        return 0;
    if (w->out.len == OSM__WALK_FILES_MAX)
        return osm_fail(w->err, OSM_ELIMIT, "%s: more than %d manifests", w->root,
                        OSM__WALK_FILES_MAX);
    struct osm__walk_file file = {.path = osm_strdup(rel), .is_link = is_link, .error = error};
    if (!file.path)
        return no_memory(w);
    if (!osm_utf8_valid(rel, strlen(rel))) { /* it is shown in logs and in JSON */
        file.error = error = EILSEQ;
        for (char *c = file.path; *c; c++)
            *c = (char)(*c & 0x80 ? '?' : *c);
    }
    if (!error)
        file.id = osm__file_id(&st);
    return append(w, &w->out.files, &w->out.len, file);
}

static int walk_dir(struct walker *w, const char *path, const char *rel, int depth)
{
    struct names names = {NULL, 0};
    struct stat st;
    bool is_root = !*rel;
    int rc = 0, error = stat(path, &st) ? errno : 0;
    if (!error && !S_ISDIR(st.st_mode))
        error = ENOTDIR;
    if (!error) {
        uint64_t id[2] = {st.st_dev, st.st_ino};
        if (osm_map_getn(&w->seen_dirs, id, sizeof id))
            return 0;
        if (osm_map_putn(&w->seen_dirs, id, sizeof id, w, NULL))
            return no_memory(w);
        if (depth > OSM__WALK_DEPTH_MAX)
            return add_unreadable(w, rel, EMLINK); /* this branch only: all else is read */
        if (is_root)
            w->out.root = osm__file_id(&st);
        if (w->on_dir) /* before reading: what changes from here on is seen or told */
            w->on_dir(w->ud, path, rel);
        error = list_names(path, &names);
    }
    if (error == ENOMEM)
        rc = no_memory(w);
    else if (error && is_root)
        rc = osm_fail(w->err, code_of(error), "%s: %s", path, strerror(error));
    else if (error && error != ENOENT && error != ENOTDIR)
        rc = add_unreadable(w, rel, error);
    for (size_t i = 0; i < names.len && !rc && !error; i++) {
        char *child = osm_strf("%s/%s", path, names.list[i]);
        char *child_rel = osm_strf("%s%s%s", rel, is_root ? "" : "/", names.list[i]);
        rc = child && child_rel ? visit(w, child, child_rel, depth) : no_memory(w);
        osm_free(child);
        osm_free(child_rel);
    }
    names_clear(&names);
    return rc;
}

static int by_path(const void *a, const void *b)
{
    return strcmp(((const struct osm__walk_file *)a)->path,
                  ((const struct osm__walk_file *)b)->path);
}

static int drop_second_names(struct walker *w)
{
    struct osm_map seen = OSM_MAP_INIT;
    size_t n = 0;
    int rc = 0;
    for (size_t i = 0; i < w->out.len; i++) {
        struct osm__walk_file *file = &w->out.files[i];
        uint64_t id[2] = {file->id.dev, file->id.ino};
        bool twice = !file->error && osm_map_getn(&seen, id, sizeof id);
        if (twice) {
            osm_free(file->path);
            continue;
        }
        if (!rc && !file->error && osm_map_putn(&seen, id, sizeof id, w, NULL))
            rc = no_memory(w);
        w->out.files[n++] = *file;
    }
    w->out.len = n;
    osm_map_clear(&seen);
    return rc;
}

int osm__walk(struct osm__walk *out, const char *root, osm__walk_dir_fn *on_dir, void *ud,
              struct osm_err *err)
{
    struct walker w = {.root = root, .on_dir = on_dir, .ud = ud, .err = err};
    int rc = walk_dir(&w, root, "", 0);
    if (!rc && w.out.len) {
        qsort(w.out.files, w.out.len, sizeof *w.out.files, by_path);
        rc = drop_second_names(&w);
    }
    osm_map_clear(&w.seen_dirs);
    if (rc)
        osm__walk_clear(&w.out);
    else
        *out = w.out;
    return rc;
}

void osm__walk_clear(struct osm__walk *walk)
{
    for (size_t i = 0; i < walk->len; i++)
        osm_free(walk->files[i].path);
    for (size_t i = 0; i < walk->unreadable_len; i++)
        osm_free(walk->unreadable[i].path);
    osm_free(walk->files);
    osm_free(walk->unreadable);
    *walk = (struct osm__walk){0};
}
