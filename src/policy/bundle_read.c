/* The files of a bundle: read whole, in the order of their paths, with limits. Files and folders
 * whose name begins with a dot are left out (a mounted ConfigMap keeps its versions in such folders
 * and links to them). */
#include "policy/bundle.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum {
    FILES_MAX = 64,
    FILE_MAX_BYTES = 256 * 1024,
    BUNDLE_MAX_BYTES = 1024 * 1024,
    FOLDER_DEPTH_MAX = 8,
    PATH_MAX_BYTES = 4096
};

struct reading {
    char *paths[FILES_MAX];
    size_t len;
    struct osm_err *err;
};

static int add_path(struct reading *r, const char *below)
{
    if (strlen(below) > 55) /* or Lua would shorten it in its messages */
        return osm_fail(r->err, OSM_ELIMIT,
                        "%s: a path below the bundle's folder has at most 55 characters", below);
    if (r->len == FILES_MAX)
        return osm_fail(r->err, OSM_ELIMIT, "%s: more than %d *.lua files", below, FILES_MAX);
    r->paths[r->len] = osm_strdup(below);
    return r->paths[r->len++] ? 0 : osm_fail(r->err, OSM_ENOMEM, "out of memory");
}

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n > m && !strcmp(text + n - m, end);
}

/* @p below: "" or "smi/". */
static int read_folder(struct reading *r, const char *root, const char *below, unsigned depth)
{
    int rc = 0;
    struct osm_buf path = OSM_BUF_INIT(PATH_MAX_BYTES);
    if (osm_buf_addf(&path, "%s/%s", root, below))
        return osm_fail(r->err, OSM_ELIMIT, "%s/%s: the path is too long", root, below);
    DIR *dir = opendir(path.data);
    if (!dir) {
        rc = osm_fail(r->err, OSM_EIO, "%s: %s", path.data, strerror(errno));
        goto out;
    }
    struct dirent *entry;
    while (!rc && (entry = readdir(dir))) {
        struct stat st;
        if (entry->d_name[0] == '.')
            continue;
        osm_buf_reset(&path);
        if (osm_buf_addf(&path, "%s/%s%s", root, below, entry->d_name)) {
            rc = osm_fail(r->err, OSM_ELIMIT, "%s/%s: a path is too long", root, below);
            break;
        }
        if (stat(path.data, &st)) {
            rc = osm_fail(r->err, OSM_EIO, "%s: %s", path.data, strerror(errno));
            break;
        }
        const char *name = path.data + strlen(root) + 1;
        if (S_ISDIR(st.st_mode)) {
            char *inner = depth < FOLDER_DEPTH_MAX ? osm_strf("%s/", name) : NULL;
            rc = inner ? read_folder(r, root, inner, depth + 1)
                       : osm_fail(r->err, OSM_ELIMIT, "%s: folders are nested too deep", path.data);
            osm_free(inner);
        } else if (S_ISREG(st.st_mode) && ends_with(name, ".lua")) {
            rc = add_path(r, name);
        }
    }
    closedir(dir);
out:
    osm_buf_clear(&path);
    return rc;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int read_module(struct osm_engine *e, struct osm_module *m, const char *path, size_t *total,
                       struct osm_err *err)
{
    struct osm_buf text = OSM_BUF_INIT(FILE_MAX_BYTES);
    char *full = osm_strf("%s/%s", e->policies_dir, path);
    int rc =
        full ? osm_buf_read_file(&text, full, err) : osm_fail(err, OSM_ENOMEM, "out of memory");
    osm_free(full);
    if (rc) {
        osm_buf_clear(&text);
        return rc;
    }
    m->ref = LUA_NOREF;
    m->text_len = text.len;
    m->text = osm_buf_take(&text);
    m->path = osm_strdup(path);
    m->name = osm_strndup(path, strlen(path) - strlen(".lua"));
    if (!m->text || !m->path || !m->name || osm_map_put(&e->modules_by_name, m->name, m, NULL))
        return osm_fail(err, OSM_ENOMEM, "out of memory");
    *total += m->text_len;
    if (*total > BUNDLE_MAX_BYTES)
        return osm_fail(err, OSM_ELIMIT, "%s: the bundle has more than %d bytes", path,
                        BUNDLE_MAX_BYTES);
    if (strchr(m->name, '.'))
        return osm_fail(err, OSM_ELUA, "%s: a module's path has no dot but that of .lua", path);
    if (!strncmp(m->name, "mesh/", 5))
        return osm_fail(err, OSM_ELUA, "%s: the folder mesh/ belongs to the runtime", path);
    return 0;
}

int osm_bundle_read(struct osm_engine *e, struct osm_err *err)
{
    struct reading r = {.err = err};
    size_t total = 0;
    struct osm_hash digest = osm_hash_bytes("", 0);
    int rc = read_folder(&r, e->policies_dir, "", 0);
    if (rc)
        goto out;
    if (!r.len) {
        rc = osm_fail(err, OSM_ENOENT, "%s: holds no *.lua file", e->policies_dir);
        goto out;
    }
    qsort(r.paths, r.len, sizeof *r.paths, by_text);
    e->modules = osm_alloc_array(r.len, sizeof *e->modules);
    if (!e->modules) {
        rc = osm_fail(err, OSM_ENOMEM, "out of memory");
        goto out;
    }
    for (size_t i = 0; i < r.len && !rc; i++) {
        e->modules_len = i + 1;
        rc = read_module(e, &e->modules[i], r.paths[i], &total, err);
        if (rc)
            break;
        struct osm_hash parts[3] = {digest, osm_hash_bytes(r.paths[i], strlen(r.paths[i])),
                                    osm_hash_bytes(e->modules[i].text, e->modules[i].text_len)};
        digest = osm_hash_bytes(parts, sizeof parts);
    }
    (void)osm_hash_hex(digest, e->digest);
out:
    for (size_t i = 0; i < r.len; i++)
        osm_free(r.paths[i]);
    return rc;
}
