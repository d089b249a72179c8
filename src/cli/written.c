#include "cli/written.h"

#include "base/buf.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILE_MAX_BYTES = 64 << 20 };

static const char LIST[] = ".osm/written.json", HIDDEN[] = ".osm/";

static int out_of_memory(struct osm_err *err)
{
    return osm_fail(err, OSM_ENOMEM, "out of memory");
}

/* The folders on the way to a file. */
static int make_folders(const char *path, struct osm_err *err)
{
    for (const char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        char *folder = osm_strndup(path, (size_t)(slash - path));
        int rc = !folder ? out_of_memory(err)
                 : !mkdir(folder, 0755) || errno == EEXIST
                     ? 0
                     : osm_fail(err, OSM_EIO, "%s: %s", folder, strerror(errno));
        osm_free(folder);
        if (rc)
            return rc;
    }
    return 0;
}

/* What there is under this name; "" for nothing. */
static int hash_of_file(const char *path, char out[OSM_HASH_HEX_SIZE], struct osm_err *err)
{
    struct osm_buf text = OSM_BUF_INIT(FILE_MAX_BYTES);
    int rc = osm_buf_read_file(&text, path, err);
    out[0] = '\0';
    if (!rc)
        (void)osm_hash_hex(osm_hash_bytes(text.data ? text.data : "", text.len), out);
    osm_buf_clear(&text);
    if (rc == OSM_ENOENT) {
        *err = (struct osm_err){0};
        rc = 0;
    }
    return rc;
}

int osm__written_open(struct osm__written *w, const char *dir, struct osm_err *err)
{
    struct osm_buf text = OSM_BUF_INIT(FILE_MAX_BYTES);
    *w = (struct osm__written){.dir = osm_strdup(dir), .now = json_object(), .kept = json_array()};
    char *path = osm_strf("%s/%s", dir, LIST);
    int rc = w->dir && w->now && w->kept && path ? 0 : out_of_memory(err);
    if (!rc)
        rc = osm_buf_read_file(&text, path, err);
    if (!rc)
        w->before = json_loadb(text.data ? text.data : "", text.len, 0, NULL);
    if (rc == OSM_ENOENT) {
        *err = (struct osm_err){0};
        rc = 0;
    }
    osm_buf_clear(&text);
    osm_free(path);
    return rc;
}

static int replace(const char *path, const char *text, size_t len, struct osm_err *err)
{
    char *aside = osm_strf("%s.new", path);
    int error = aside ? osm_file_write(AT_FDCWD, aside, text, len, 0644) : 0;
    int rc = !aside  ? out_of_memory(err)
             : error ? osm_fail(err, OSM_EIO, "%s: %s", aside, strerror(error))
                     : 0;
    if (!rc && rename(aside, path)) {
        rc = osm_fail(err, OSM_EIO, "%s: %s", path, strerror(errno));
        (void)unlink(aside);
    }
    osm_free(aside);
    return rc;
}

int osm__written_put(struct osm__written *w, const char *path, const char *text, size_t len,
                     struct osm_err *err)
{
    char there[OSM_HASH_HEX_SIZE], hash[OSM_HASH_HEX_SIZE];
    const char *before = osm_json_text(w->before, path);
    char *full = osm_strf("%s/%s", w->dir, path);
    int rc = full ? make_folders(full, err) : out_of_memory(err);
    if (!rc)
        rc = hash_of_file(full, there, err);
    if (rc)
        goto out;
    (void)osm_hash_hex(osm_hash_bytes(text, len), hash);
    if (there[0] && strcmp(there, hash) != 0 && strcmp(there, before) != 0) {
        /* remembered as it was written, should the author go back to that */
        if (json_array_append_new(w->kept, json_string(path)) ||
            (*before && json_object_set_new(w->now, path, json_string(before))))
            rc = out_of_memory(err);
        goto out;
    }
    if (strcmp(there, hash) != 0)
        rc = replace(full, text, len, err);
    if (!rc && json_object_set_new(w->now, path, json_string(hash)))
        rc = out_of_memory(err);
    w->count += !rc;
out:
    osm_free(full);
    return rc;
}

/* A file of ours that nobody needs any more. Those of the author's are remembered as they are. */
static int drop(struct osm__written *w, const char *path, const char *before, struct osm_err *err)
{
    char there[OSM_HASH_HEX_SIZE];
    char *full = osm_strf("%s/%s", w->dir, path);
    int rc = full ? hash_of_file(full, there, err) : out_of_memory(err);
    bool ours = !strncmp(path, HIDDEN, sizeof HIDDEN - 1) && !strstr(path, "..");
    if (!rc && ours && !strcmp(there, before) && unlink(full) && errno != ENOENT)
        rc = osm_fail(err, OSM_EIO, "%s: %s", full, strerror(errno));
    if (!rc && !ours && there[0] && json_object_set_new(w->now, path, json_string(before)))
        rc = out_of_memory(err);
    osm_free(full);
    return rc;
}

int osm__written_finish(struct osm__written *w, struct osm_err *err)
{
    const char *path;
    const json_t *before;
    int rc = 0;
    json_object_foreach (w->before, path, before) {
        if (!rc && !json_object_get(w->now, path) && json_is_string(before))
            rc = drop(w, path, json_string_value(before), err);
    }
    char *text = json_dumps(w->now, JSON_INDENT(2) | JSON_SORT_KEYS);
    char *full = osm_strf("%s/%s", w->dir, LIST);
    if (!rc)
        rc = text && full ? make_folders(full, err) : out_of_memory(err);
    if (!rc)
        rc = replace(full, text, strlen(text), err);
    osm_free(text);
    osm_free(full);
    return rc;
}

void osm__written_clear(struct osm__written *w)
{
    osm_free(w->dir);
    json_decref(w->before);
    json_decref(w->now);
    json_decref(w->kept);
    *w = (struct osm__written){0};
}
