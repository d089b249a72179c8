/* The files of a bundle: read whole, in the order of their paths, with limits. The bundle is the
 * union of its directories; of a path that several have, the last one's file counts. Files and
 * folders whose name begins with a dot are left out (a mounted ConfigMap keeps its versions in such
 * folders and links to them), and so are an author's tests: *_spec.lua, and folders called spec.
 *
 * A file that replaces another says which one it was written against, in a comment of its own:
 * `-- replaces: <hash of that file>`. A release that changes the file below then warns, instead of
 * losing its change in silence. */
#include "policy/bundle/bundle.h"

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

struct found {
    char *path;
    size_t layer; /* the last directory that has it */
    bool below;   /* an earlier one has it too */
    size_t below_layer;
};

struct reading {
    struct found files[FILES_MAX];
    size_t len, layer;
    struct osm_err *err;
};

static int add_path(struct reading *r, const char *below)
{
    for (size_t i = 0; i < r->len; i++) {
        struct found *f = &r->files[i];
        if (strcmp(f->path, below) != 0)
            continue;
        f->below = true;
        f->below_layer = f->layer;
        f->layer = r->layer;
        return 0;
    }
    if (strlen(below) > 55) /* or Lua would shorten it in its messages */
        return osm_fail(r->err, OSM_ELIMIT,
                        "%s: a path below the bundle's folder has at most 55 characters", below);
    if (r->len == FILES_MAX)
        return osm_fail(r->err, OSM_ELIMIT, "%s: more than %d *.lua files", below, FILES_MAX);
    r->files[r->len] = (struct found){.path = osm_strdup(below), .layer = r->layer};
    return r->files[r->len++].path ? 0 : osm_fail(r->err, OSM_ENOMEM, "out of memory");
}

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n > m && !strcmp(text + n - m, end);
}

static bool is_test(const char *name)
{
    return !strcmp(name, "spec") || ends_with(name, "_spec.lua");
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
        if (entry->d_name[0] == '.' || is_test(entry->d_name))
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

static int by_path(const void *a, const void *b)
{
    return strcmp(((const struct found *)a)->path, ((const struct found *)b)->path);
}

static int read_file(struct osm_engine *e, size_t layer, const char *path, struct osm_buf *out,
                     struct osm_err *err)
{
    char *full = osm_strf("%s/%s", e->policies_dirs[layer], path);
    int rc = full ? osm_buf_read_file(out, full, err) : osm_fail(err, OSM_ENOMEM, "out of memory");
    osm_free(full);
    return rc;
}

/* --- what a replacing file says of the one below --- */

enum { REPLACES_SIZE = 64, REPLACES_LINES = 20 };

/* The word after "replaces:" in a comment of the first lines; "" where there is none. */
static void written_against(const char *text, char out[REPLACES_SIZE])
{
    static const char marker[] = "replaces:";
    out[0] = '\0';
    for (int line = 0; *text && line < REPLACES_LINES; line++) {
        size_t n = strcspn(text, "\n"), at = strspn(text, " \t");
        size_t dashes = strspn(text + at, "-#");
        at += dashes;
        at += strspn(text + at, " \t");
        if (dashes && !strncmp(text + at, marker, sizeof marker - 1)) {
            const char *word = text + at + sizeof marker - 1;
            word += strspn(word, " \t");
            size_t len = strcspn(word, " \t\r\n");
            if (len >= REPLACES_SIZE)
                len = REPLACES_SIZE - 1;
            memcpy(out, word, len);
            out[len] = '\0';
            return;
        }
        text += n + (text[n] == '\n');
    }
}

int osm_bundle_warn(struct osm_engine *e, const char *module, int line, const char *message)
{
    json_t *warning = json_pack("{s:s, s:s, s:s, s:i}", "where", module, "message", message,
                                "module", module, "line", line);
    if (!e->warnings)
        e->warnings = json_array();
    return json_array_append_new(e->warnings, warning) ? OSM_ENOMEM : 0;
}

int osm_bundle_check_replaced(struct osm_engine *e, size_t layer, const char *path,
                              const char *text, const struct osm_buf *below, struct osm_err *err)
{
    char said[REPLACES_SIZE], now[OSM_HASH_HEX_SIZE] = "", *message = NULL;
    written_against(text, said);
    if (below)
        (void)osm_hash_hex(osm_hash_bytes(below->data ? below->data : "", below->len), now);
    if (!below && said[0])
        message = osm_strf("says that it replaces %s, but no directory below has this file any "
                           "more; it is loaded as a file of its own",
                           said);
    else if (below && !said[0])
        message = osm_strf("replaces the file of %s; write \"-- replaces: %s\" at its top, so that "
                           "a release that changes that file is noticed",
                           e->policies_dirs[layer], now);
    else if (below && strcmp(said, now) != 0)
        message = osm_strf("was written to replace version %s of the file in %s, which is %s now: "
                           "take over what has changed there, then write the new one down",
                           said, e->policies_dirs[layer], now);
    else
        return 0;
    int rc = message ? osm_bundle_warn(e, path, 1, message) : OSM_ENOMEM;
    osm_free(message);
    return rc ? osm_fail(err, rc, "out of memory") : 0;
}

static int check_replaced(struct osm_engine *e, const struct osm_module *m, const struct found *f,
                          struct osm_err *err)
{
    if (!f->below)
        return f->layer ? osm_bundle_check_replaced(e, f->layer, m->path, m->text, NULL, err) : 0;
    struct osm_buf below = OSM_BUF_INIT(FILE_MAX_BYTES);
    int rc = read_file(e, f->below_layer, f->path, &below, err);
    if (!rc)
        rc = osm_bundle_check_replaced(e, f->below_layer, m->path, m->text, &below, err);
    osm_buf_clear(&below);
    return rc;
}

/* --- modules --- */

static int read_module(struct osm_engine *e, struct osm_module *m, const struct found *f,
                       size_t *total, struct osm_err *err)
{
    struct osm_buf text = OSM_BUF_INIT(FILE_MAX_BYTES);
    const char *path = f->path;
    int rc = read_file(e, f->layer, path, &text, err);
    if (rc) {
        osm_buf_clear(&text);
        return rc;
    }
    m->ref = LUA_NOREF;
    m->added = f->layer > 0 && !f->below;
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
    return check_replaced(e, m, f, err);
}

int osm_bundle_read(struct osm_engine *e, struct osm_err *err)
{
    struct reading r = {.err = err};
    size_t total = 0;
    int rc = 0;
    struct osm_hash digest = osm_hash_bytes("", 0);
    for (; !rc && e->policies_dirs[r.layer]; r.layer++)
        rc = read_folder(&r, e->policies_dirs[r.layer], "", 0);
    if (rc)
        goto out;
    if (!r.len) {
        rc = osm_fail(err, OSM_ENOENT, "%s: holds no *.lua file", e->policies_dirs[0]);
        goto out;
    }
    qsort(r.files, r.len, sizeof *r.files, by_path);
    e->modules = osm_alloc_array(r.len, sizeof *e->modules);
    if (!e->modules) {
        rc = osm_fail(err, OSM_ENOMEM, "out of memory");
        goto out;
    }
    for (size_t i = 0; i < r.len && !rc; i++) {
        e->modules_len = i + 1;
        rc = read_module(e, &e->modules[i], &r.files[i], &total, err);
        if (rc)
            break;
        struct osm_hash parts[3] = {digest,
                                    osm_hash_bytes(r.files[i].path, strlen(r.files[i].path)),
                                    osm_hash_bytes(e->modules[i].text, e->modules[i].text_len)};
        digest = osm_hash_bytes(parts, sizeof parts);
    }
    (void)osm_hash_hex(digest, e->digest);
out:
    for (size_t i = 0; i < r.len; i++)
        osm_free(r.files[i].path);
    return rc;
}
