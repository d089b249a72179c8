#include "reload/kept.h"

#include "base/buf.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The texts of a bundle, escaped. */
enum { KEPT_MAX_BYTES = 32 * 1024 * 1024 };

static const char bundle_name[] = "active.json", quarantine_name[] = "quarantine.json";

/* What is there decides who may call whom after a restart: nobody else may have written it; and a
 * FIFO of that name must not hang the start. */
static int check_path(const char *path, bool folder, struct osm_err *err)
{
    struct stat st;
    if (stat(path, &st))
        return osm_fail(err, errno == ENOENT ? OSM_ENOENT : OSM_EIO, "%s: %s", path,
                        strerror(errno));
    if (folder ? !S_ISDIR(st.st_mode) : !S_ISREG(st.st_mode))
        return osm_fail(err, OSM_EIO, "%s: is no %s", path, folder ? "directory" : "regular file");
    if ((st.st_uid != geteuid() && st.st_uid) || st.st_mode & (S_IWGRP | S_IWOTH))
        return osm_fail(err, OSM_EACCES, "%s: others may change it (uid %u, mode %04o)", path,
                        (unsigned)st.st_uid, (unsigned)st.st_mode & 07777U);
    return 0;
}

static int read_json(json_t **out, const char *dir, const char *name, struct osm_err *err)
{
    struct osm_buf text = OSM_BUF_INIT(KEPT_MAX_BYTES);
    struct osm_err why = {0};
    json_error_t where;
    *out = NULL;
    char *path = osm_strf("%s/%s", dir, name);
    int rc = path ? check_path(dir, true, &why) : OSM_ENOMEM;
    if (!rc)
        rc = check_path(path, false, &why);
    if (!rc)
        rc = osm_buf_read_file(&text, path, &why);
    if (rc == OSM_ENOENT) {
        rc = 0;
    } else if (rc) {
        rc = osm_fail(err, rc, "%s", path ? why.msg : "out of memory");
    } else {
        *out = json_loadb(text.data ? text.data : "", text.len, 0, &where);
        if (!*out)
            rc = osm_fail(err, OSM_EINVAL, "%s: line %d: %s", path, where.line, where.text);
    }
    osm_buf_clear(&text);
    osm_free(path);
    return rc;
}

/* Aside, to the disk, then under its name. */
static int replace(int dir, const char *aside, const char *name, const char *text, size_t len)
{
    int error = osm_file_write(dir, aside, text, len, S_IRUSR | S_IWUSR);
    if (!error && (renameat(dir, aside, dir, name) || fsync(dir)))
        error = errno;
    return error;
}

static int write_json(const char *dir, const char *name, const json_t *json, struct osm_err *err)
{
    char *text = json ? json_dumps(json, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
    char *aside = osm_strf("%s.new", name);
    int rc = text && aside ? 0 : osm_fail(err, OSM_ENOMEM, "out of memory");
    if (!rc && mkdir(dir, S_IRWXU) && errno != EEXIST)
        rc = osm_fail(err, OSM_EIO, "%s: %s", dir, strerror(errno));
    int fd = rc ? -1 : open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (!rc && fd < 0)
        rc = osm_fail(err, OSM_EIO, "%s: %s", dir, strerror(errno));
    int error = rc ? 0 : replace(fd, aside, name, text, strlen(text));
    if (error)
        rc = osm_fail(err, OSM_EIO, "%s/%s: %s", dir, name, strerror(error));
    if (fd >= 0)
        (void)close(fd);
    osm_free(text);
    osm_free(aside);
    return rc;
}

int osm_kept_bundle(struct osm_policy_files **out, char instead_of[OSM_POLICY_DIGEST_SIZE],
                    const char *dir, struct osm_err *err)
{
    json_t *json = NULL;
    *out = NULL;
    instead_of[0] = '\0';
    int rc = read_json(&json, dir, bundle_name, err);
    if (!rc && json) {
        const char *digest = osm_json_text(json, "instead_of");
        rc = osm_policy_files_from_json(out, json, err);
        if (rc)
            osm_err_prepend(err, "%s/%s: ", dir, bundle_name);
        else if (strlen(digest) < OSM_POLICY_DIGEST_SIZE)
            memcpy(instead_of, digest, strlen(digest) + 1);
    }
    json_decref(json);
    return rc;
}

int osm_kept_write_bundle(const char *dir, const struct osm_policy_files *files,
                          const char *instead_of, struct osm_err *err)
{
    json_t *json = osm_policy_files_json(files);
    if (json && json_object_set_new(json, "instead_of", json_string(instead_of))) {
        json_decref(json);
        json = NULL;
    }
    int rc = write_json(dir, bundle_name, json, err);
    json_decref(json);
    return rc;
}

int osm_kept_quarantine(json_t **out, const char *dir, struct osm_err *err)
{
    int rc = read_json(out, dir, quarantine_name, err);
    const char *digest;
    const json_t *entry;
    bool good = !*out || json_is_object(*out);
    json_object_foreach (*out, digest, entry)
        good = good && json_is_string(json_object_get(entry, "reason"));
    if (!rc && !good)
        rc = osm_fail(err, OSM_EINVAL, "%s/%s: is not what was stored there", dir, quarantine_name);
    if (rc || !*out) {
        json_decref(*out);
        *out = json_object();
    }
    return !*out ? osm_fail(err, OSM_ENOMEM, "out of memory") : rc;
}

int osm_kept_write_quarantine(const char *dir, const json_t *quarantine, struct osm_err *err)
{
    return write_json(dir, quarantine_name, quarantine, err);
}
