#include "source/dir/files.h"

#include "base/log.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

enum { RACY_MS = 50 /* a younger file may change without its time or size telling */ };

struct osm__file *osm__files_at(struct osm__files *files, const char *path)
{
    struct osm__file *file = osm_map_get(&files->map, path);
    if (file)
        return file;
    file = osm_alloc(sizeof *file);
    if (!file)
        return NULL;
    file->path = osm_strdup(path);
    if (!file->path || osm_map_put(&files->map, path, file, NULL)) {
        osm_free(file->path);
        osm_free(file);
        return NULL;
    }
    return file;
}

static void drop_objects(struct osm__files *files, struct osm__file *file)
{
    files->objects_len -= file->len;
    files->changed = files->changed || file->len;
    for (size_t i = 0; i < file->len; i++)
        osm_object_unref(file->objects[i]);
    osm_free(file->objects);
    file->objects = NULL;
    file->len = 0;
}

static void free_file(struct osm__files *files, struct osm__file *file)
{
    drop_objects(files, file);
    osm_free(file->path);
    osm_free(file);
}

void osm__files_drop(struct osm__files *files, struct osm__file *file)
{
    (void)osm_map_del(&files->map, file->path);
    free_file(files, file);
}

void osm__files_clear(struct osm__files *files)
{
    osm_map_each (&files->map, e)
        free_file(files, e->value);
    osm_map_clear(&files->map);
}

void osm__file_set_problem(struct osm__file *file, const struct osm__manifest_problem *problem)
{
    bool news = !file->broken || file->problem.line != problem->line ||
                strcmp(file->problem.message, problem->message) != 0;
    file->broken = true;
    file->problem = *problem;
    if (news)
        osm_log(OSM_LOG_SOURCE, OSM_LOG_WARN,
                file->ever_good ? "manifest is in error; its last good objects stay"
                                : "manifest is in error; its objects are absent",
                OSM_S("file", file->path), OSM_I("line", problem->line),
                OSM_I("column", problem->column), OSM_S("error", problem->message));
}

static void set_well(struct osm__file *file)
{
    if (file->broken)
        osm_log(OSM_LOG_SOURCE, OSM_LOG_INFO, "manifest is well again", OSM_S("file", file->path));
    file->broken = false;
}

bool osm__file_id_is_younger(const struct osm__file_id *id, int64_t age_ms)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    int64_t now_ns = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
    return now_ns - id->mtime_ns < age_ms * 1000000;
}

static void take_objects(struct osm__files *files, struct osm__file *file,
                         struct osm__manifest *manifest)
{
    drop_objects(files, file);
    file->objects = manifest->objects;
    file->len = manifest->len;
    manifest->objects = NULL;
    manifest->len = 0;
    files->objects_len += file->len;
    files->changed = true;
    file->ever_good = true;
}

int osm__files_read(struct osm__files *files, struct osm__file *file, bool *gone)
{
    struct osm__manifest manifest = {0};
    struct osm__manifest_problem problem = {0};
    char *path = osm_strf("%s/%s", files->root, file->path);
    int rc = OSM_ENOMEM;
    if (path)
        rc = osm__manifest_read(&manifest, path, file->path, file->is_read ? &file->bytes : NULL,
                                &problem);
    osm_free(path);
    if (rc == OSM_ENOMEM)
        return rc;
    *gone = rc == OSM_ENOENT;
    if (*gone)
        return 0;
    bool too_many = !rc && files->objects_len - file->len + manifest.len > OSM__FILES_OBJECTS_MAX;
    if (too_many) {
        (void)snprintf(problem.message, sizeof problem.message,
                       "with it the directory would hold more than %d objects",
                       OSM__FILES_OBJECTS_MAX);
        rc = OSM_ELIMIT;
    }
    if (manifest.id.ino) { /* it could be opened */
        file->id = manifest.id;
        file->racy = osm__file_id_is_younger(&manifest.id, RACY_MS);
    }
    file->is_read = !too_many && (manifest.bytes.hi || manifest.bytes.lo);
    file->racy = file->racy || too_many; /* another file may make room */
    file->bytes = manifest.bytes;
    if (!rc) {
        take_objects(files, file, &manifest);
        set_well(file);
    } else if (rc != OSM_EEXIST) {
        osm__file_set_problem(file, &problem);
    }
    osm__manifest_clear(&manifest);
    return 0;
}
