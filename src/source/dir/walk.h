/* One look at a directory tree: the manifests in it, sorted by path, with what tells a changed file
 * from an unchanged one. Links to files and directories are followed; a directory or file that is
 * reachable under two names is listed once, under the name that sorts first, so that no loop of
 * links is endless. Names that begin with a dot or # are passed over (editors' left-overs, and the
 * `..data` of a ConfigMap, whose files are linked beside it). */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <sys/stat.h>

enum { OSM__WALK_FILES_MAX = 20000, OSM__WALK_DEPTH_MAX = 32 };

struct osm__file_id {
    uint64_t dev, ino, size;
    int64_t mtime_ns, ctime_ns;
};

struct osm__walk_file {
    char *path; /* relative to the root */
    struct osm__file_id id;
    bool is_link; /* the name itself is a symbolic link */
    int error;    /* errno where it could not be looked at, else 0 */
};

struct osm__walk {
    struct osm__walk_file *files; /* sorted by path */
    size_t len;
    struct osm__walk_file
        *unreadable; /* directories that exist and cannot be read; only path and error */
    size_t unreadable_len;
    struct osm__file_id root;
};

/* Called for every directory before it is read; @p path is absolute or as given, @p rel "" for the
 * root. */
typedef void osm__walk_dir_fn(void *ud, const char *path, const char *rel);

/** Errors: OSM_ENOENT, OSM_EINVAL (no directory), OSM_EACCES or OSM_EIO where the root cannot be
 * read; OSM_ELIMIT too many files; OSM_ENOMEM. *out is written only on success. */
OSM_MUST_USE int osm__walk(struct osm__walk *out, const char *root, osm__walk_dir_fn *on_dir,
                           void *ud, struct osm_err *err);
void osm__walk_clear(struct osm__walk *walk);
struct osm__file_id osm__file_id(const struct stat *st);
