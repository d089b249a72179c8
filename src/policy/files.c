#include "policy/files_priv.h"

#include "base/buf.h"
#include "base/mem.h"
#include "base/utf8.h"

#include <dirent.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum {
    MODULES_MAX = 64,
    YAML_FILES_MAX = 64,
    BUNDLE_MAX_BYTES = 1024 * 1024, /* of modules */
    YAML_MAX_BYTES = 4 * 1024 * 1024,
    FOLDER_DEPTH_MAX = 8,
    PATH_MAX_BYTES = 4096,
    MODULE_PATH_MAX = 55, /* or Lua would shorten it in its messages */
    LAYERS_MAX = 64
};

struct shared {
    struct osm_policy_files files; /* first: what others see */
    atomic_size_t refs;
};

static struct osm_policy_files *files_new(void)
{
    struct shared *s = osm_alloc(sizeof *s);
    if (!s)
        return NULL;
    atomic_init(&s->refs, 1);
    return &s->files;
}

struct osm_policy_files *osm_policy_files_ref(struct osm_policy_files *files)
{
    atomic_fetch_add_explicit(&((struct shared *)files)->refs, 1, memory_order_relaxed);
    return files;
}

void osm_policy_files_unref(struct osm_policy_files *files)
{
    struct shared *s = (struct shared *)files;
    if (!s || atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (size_t i = 0; i < files->len; i++) {
        osm_free(files->list[i].path);
        osm_free(files->list[i].text);
    }
    osm_free(files->list);
    for (size_t i = 0; files->dirs && files->dirs[i]; i++)
        osm_free(files->dirs[i]);
    osm_free(files->dirs);
    osm_free(s);
}

static int by_path(const void *a, const void *b)
{
    return strcmp(((const struct osm_policy_file *)a)->path,
                  ((const struct osm_policy_file *)b)->path);
}

static int against_path(const void *path, const void *file)
{
    return strcmp(path, ((const struct osm_policy_file *)file)->path);
}

const struct osm_policy_file *osm_policy_files_find(const struct osm_policy_files *files,
                                                    const char *path)
{
    return files->len ? bsearch(path, files->list, files->len, sizeof *files->list, against_path)
                      : NULL;
}

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n > m && !strcmp(text + n - m, end);
}

static bool is_module(const char *path)
{
    return ends_with(path, ".lua");
}

/* --- which files there are --- */

struct reading {
    struct osm_policy_files *files;
    size_t modules, yaml, layer;
    struct osm_err *err;
};

static int out_of_memory(struct osm_err *err)
{
    return osm_fail(err, OSM_ENOMEM, "out of memory");
}

static int add_path(struct reading *r, const char *path)
{
    struct osm_policy_files *files = r->files;
    for (size_t i = 0; i < files->len; i++) {
        struct osm_policy_file *f = &files->list[i];
        if (strcmp(f->path, path) != 0)
            continue;
        f->below = true;
        f->below_layer = f->layer;
        f->layer = r->layer;
        return 0;
    }
    if (is_module(path) && strlen(path) > MODULE_PATH_MAX)
        return osm_fail(r->err, OSM_ELIMIT,
                        "%s: a path below the bundle's folder has at most %d characters", path,
                        MODULE_PATH_MAX);
    size_t *count = is_module(path) ? &r->modules : &r->yaml;
    if (++*count > (is_module(path) ? (size_t)MODULES_MAX : (size_t)YAML_FILES_MAX))
        return osm_fail(r->err, OSM_ELIMIT, "%s: more than %d %s files", path,
                        is_module(path) ? MODULES_MAX : YAML_FILES_MAX,
                        is_module(path) ? "*.lua" : "*.yaml");
    struct osm_policy_file *list = osm_realloc_array(files->list, files->len + 1, sizeof *list);
    if (!list)
        return out_of_memory(r->err);
    files->list = list;
    list[files->len] = (struct osm_policy_file){.path = osm_strdup(path), .layer = r->layer};
    return list[files->len++].path ? 0 : out_of_memory(r->err);
}

static bool is_test(const char *name)
{
    return !strcmp(name, "spec") || ends_with(name, "_spec.lua");
}

/* Bundles are kept and sent as JSON. */
static int bad_name(const struct reading *r, const char *path)
{
    char *shown = osm_strdup(path);
    int rc = shown ? osm_fail(r->err, OSM_EINVAL, "%s: the name is not UTF-8; give it another one",
                              osm_utf8_repair(shown))
                   : out_of_memory(r->err);
    osm_free(shown);
    return rc;
}

static int read_folder(struct reading *r, const char *root, const char *below, unsigned depth);

static int take_entry(struct reading *r, const char *root, const char *path, unsigned depth)
{
    struct stat st;
    const char *name = path + strlen(root) + 1;
    if (stat(path, &st))
        return osm_fail(r->err, OSM_EIO, "%s: %s", path, strerror(errno));
    bool counts = is_module(name) || ends_with(name, ".yaml") || ends_with(name, ".yml");
    if (S_ISREG(st.st_mode) && counts && !osm_utf8_valid(name, strlen(name)))
        return bad_name(r, path);
    if (S_ISREG(st.st_mode))
        return counts ? add_path(r, name) : 0;
    if (!S_ISDIR(st.st_mode)) /* left out silently, what it denies would be allowed */
        return counts ? osm_fail(r->err, OSM_EIO, "%s: is no regular file", path) : 0;
    if (depth >= FOLDER_DEPTH_MAX)
        return osm_fail(r->err, OSM_ELIMIT, "%s: folders are nested too deep", path);
    char *inner = osm_strf("%s/", name);
    int rc = inner ? read_folder(r, root, inner, depth + 1) : out_of_memory(r->err);
    osm_free(inner);
    return rc;
}

static int bad_path(const struct reading *r, const char *root, const char *below,
                    const struct osm_buf *path)
{
    return path->failed == OSM_ENOMEM
               ? out_of_memory(r->err)
               : osm_fail(r->err, path->failed, "%s/%s: a path is too long", root, below);
}

/* @p below: "" or "smi/". */
static int read_folder(struct reading *r, const char *root, const char *below, unsigned depth)
{
    int rc = 0;
    struct osm_buf path = OSM_BUF_INIT(PATH_MAX_BYTES);
    DIR *dir = NULL;
    if (osm_buf_addf(&path, "%s/%s", root, below)) {
        rc = bad_path(r, root, below, &path);
        goto out;
    }
    dir = opendir(path.data);
    if (!dir) {
        rc = osm_fail(r->err, OSM_EIO, "%s: %s", path.data, strerror(errno));
        goto out;
    }
    struct dirent *entry;
    while (!rc && (entry = readdir(dir))) {
        if (entry->d_name[0] == '.' || is_test(entry->d_name))
            continue;
        osm_buf_reset(&path);
        if (osm_buf_addf(&path, "%s/%s%s", root, below, entry->d_name))
            rc = bad_path(r, root, below, &path);
        else
            rc = take_entry(r, root, path.data, depth);
    }
    closedir(dir);
out:
    osm_buf_clear(&path);
    return rc;
}

/* --- what is in them --- */

static int read_text(const struct osm_policy_files *files, size_t layer, const char *path,
                     struct osm_buf *out, struct osm_err *err)
{
    char *full = osm_strf("%s/%s", files->dirs[layer], path);
    int rc = full ? osm_buf_read_file(out, full, err) : out_of_memory(err);
    osm_free(full);
    return rc;
}

/* Bytes that are meant are written as escapes, "\xff". */
static int check_text(const char *path, const char *text, size_t len, struct osm_err *err)
{
    size_t line = 1, at = 0;
    if (osm_utf8_valid(text, len))
        return 0;
    for (size_t n; at < len && (n = osm_utf8_sequence(text + at, len - at)) > 0; at += n)
        line += text[at] == '\n';
    return osm_fail(err, OSM_EINVAL, "%s:%zu: the byte 0x%02x is not UTF-8; save the file as UTF-8",
                    path, line, at < len ? (unsigned)(unsigned char)text[at] : 0U);
}

static int read_file(const struct osm_policy_files *files, struct osm_policy_file *f,
                     struct osm_err *err)
{
    struct osm_buf text = OSM_BUF_INIT(OSM_POLICY_FILE_MAX_BYTES);
    int rc = read_text(files, f->layer, f->path, &text, err);
    if (rc == OSM_ELIMIT && !is_module(f->path)) {
        *err = (struct osm_err){0}; /* perhaps no schema at all; who names it as one is told */
        osm_buf_clear(&text);
        return 0;
    }
    if (!rc)
        rc = check_text(f->path, text.data ? text.data : "", text.len, err);
    if (!rc) {
        f->len = text.len;
        f->text = osm_buf_take(&text);
        rc = f->text ? 0 : out_of_memory(err);
    }
    osm_buf_clear(&text);
    if (rc || !f->below)
        return rc;
    struct osm_buf below = OSM_BUF_INIT(OSM_POLICY_FILE_MAX_BYTES);
    rc = read_text(files, f->below_layer, f->path, &below, err);
    if (!rc)
        (void)osm_hash_hex(osm_hash_bytes(below.data ? below.data : "", below.len), f->below_hash);
    osm_buf_clear(&below);
    return rc;
}

static int check_sizes(const struct osm_policy_files *files, struct osm_err *err)
{
    size_t modules = 0, yaml = 0;
    for (size_t i = 0; i < files->len; i++) {
        const struct osm_policy_file *f = &files->list[i];
        *(is_module(f->path) ? &modules : &yaml) += f->len;
        if (modules > BUNDLE_MAX_BYTES || yaml > YAML_MAX_BYTES)
            return osm_fail(err, OSM_ELIMIT, "%s: the bundle has more than %d bytes of %s", f->path,
                            is_module(f->path) ? BUNDLE_MAX_BYTES : YAML_MAX_BYTES,
                            is_module(f->path) ? "modules" : "YAML");
    }
    return 0;
}

static int copy_dirs(struct osm_policy_files *files, const char *const *dirs, size_t n)
{
    files->dirs = osm_alloc_array(n + 1, sizeof *files->dirs);
    for (size_t i = 0; files->dirs && i < n; i++) {
        files->dirs[i] = osm_strdup(dirs[i]);
        if (!files->dirs[i])
            return OSM_ENOMEM;
    }
    return files->dirs ? 0 : OSM_ENOMEM;
}

int osm_policy_files_read(struct osm_policy_files **out, const char *const *dirs,
                          struct osm_err *err)
{
    struct osm_policy_files *files = files_new();
    struct reading r = {.files = files, .err = err};
    size_t n = 0;
    while (dirs[n])
        n++;
    int rc = files && !copy_dirs(files, dirs, n) ? 0 : out_of_memory(err);
    for (; !rc && r.layer < n; r.layer++)
        rc = osm_utf8_valid(dirs[r.layer], strlen(dirs[r.layer]))
                 ? read_folder(&r, dirs[r.layer], "", 0)
                 : bad_name(&r, dirs[r.layer]);
    if (!rc && !r.modules)
        rc = osm_fail(err, OSM_ENOENT, "%s: holds no *.lua file", dirs[0]);
    if (!rc)
        qsort(files->list, files->len, sizeof *files->list, by_path);
    for (size_t i = 0; !rc && i < files->len; i++)
        rc = read_file(files, &files->list[i], err);
    if (!rc)
        rc = check_sizes(files, err);
    if (!rc && osm__policy_files_digest(files))
        rc = out_of_memory(err);
    if (rc) {
        osm_policy_files_unref(files);
        return rc;
    }
    *out = files;
    return 0;
}

/* --- kept as JSON --- */

static bool same_layer(const struct osm_policy_file *a, const struct osm_policy_file *b)
{
    return a->layer == b->layer && a->below == b->below && a->below_layer == b->below_layer &&
           !strcmp(a->below_hash, b->below_hash);
}

bool osm_policy_files_same(const struct osm_policy_files *a, const struct osm_policy_files *b)
{
    bool same = a == b || (!strcmp(a->digest, b->digest) && a->len == b->len);
    for (size_t i = 0; same && a != b && i < a->len; i++)
        same = same_layer(&a->list[i], &b->list[i]);
    size_t dirs = 0;
    for (; same && a->dirs[dirs] && b->dirs[dirs]; dirs++)
        same = !strcmp(a->dirs[dirs], b->dirs[dirs]); /* warnings name them */
    return same && !a->dirs[dirs] && !b->dirs[dirs];
}

json_t *osm_policy_files_json(const struct osm_policy_files *files)
{
    json_t *list = json_array(), *dirs = json_array();
    bool failed = !list || !dirs;
    for (size_t i = 0; !failed && i < files->len; i++) {
        const struct osm_policy_file *f = &files->list[i];
        json_t *text = f->text ? json_stringn_nocheck(f->text, f->len) : json_null();
        failed =
            !text || json_array_append_new(
                         list, json_pack("{s:s, s:o, s:I, s:I, s:s}", "path", f->path, "text", text,
                                         "layer", (json_int_t)f->layer, "below_layer",
                                         (json_int_t)(f->below ? (json_int_t)f->below_layer : -1),
                                         "below_hash", f->below_hash)) != 0;
    }
    for (size_t i = 0; !failed && files->dirs[i]; i++)
        failed = json_array_append_new(dirs, json_string(files->dirs[i])) != 0;
    if (failed) {
        json_decref(list);
        json_decref(dirs);
        return NULL;
    }
    return json_pack("{s:s, s:o, s:o}", "digest", files->digest, "dirs", dirs, "files", list);
}

static int take_file(struct osm_policy_file *f, const json_t *json, size_t layers)
{
    const json_t *text = json_object_get(json, "text");
    const char *path = json_string_value(json_object_get(json, "path"));
    const char *below_hash = json_string_value(json_object_get(json, "below_hash"));
    json_int_t layer = json_integer_value(json_object_get(json, "layer"));
    json_int_t below = json_integer_value(json_object_get(json, "below_layer"));
    if (!path || !below_hash || strlen(below_hash) >= sizeof f->below_hash || layer < 0 ||
        below < -1 || (size_t)layer >= layers || below >= layer ||
        (!json_is_string(text) && (!json_is_null(text) || is_module(path))) ||
        json_string_length(text) > OSM_POLICY_FILE_MAX_BYTES)
        return OSM_EINVAL;
    f->path = osm_strdup(path);
    f->layer = (size_t)layer;
    f->below = below >= 0;
    f->below_layer = f->below ? (size_t)below : 0;
    memcpy(f->below_hash, below_hash, strlen(below_hash) + 1);
    f->len = json_string_length(text);
    f->text = json_is_string(text) ? osm_strndup(json_string_value(text), f->len) : NULL;
    return f->path && (f->text || json_is_null(text)) ? 0 : OSM_ENOMEM;
}

static int take_dirs(struct osm_policy_files *files, const json_t *dirs)
{
    const char *names[LAYERS_MAX] = {NULL};
    size_t n = json_array_size(dirs), i;
    const json_t *dir;
    if (!n || n > LAYERS_MAX)
        return OSM_EINVAL;
    json_array_foreach ((json_t *)(uintptr_t)dirs, i, dir) {
        names[i] = json_string_value(dir);
        if (!names[i])
            return OSM_EINVAL;
    }
    return copy_dirs(files, names, n);
}

int osm_policy_files_from_json(struct osm_policy_files **out, const json_t *json,
                               struct osm_err *err)
{
    struct osm_policy_files *files = files_new();
    const json_t *list = json_object_get(json, "files"), *dirs = json_object_get(json, "dirs");
    const char *digest = json_string_value(json_object_get(json, "digest"));
    size_t n = json_array_size(list), i;
    const json_t *file;
    int rc = !files                                              ? OSM_ENOMEM
             : !digest || !n || n > MODULES_MAX + YAML_FILES_MAX ? OSM_EINVAL
                                                                 : take_dirs(files, dirs);
    if (!rc) {
        files->list = osm_alloc_array(n, sizeof *files->list);
        rc = files->list ? 0 : OSM_ENOMEM;
    }
    json_array_foreach ((json_t *)(uintptr_t)list, i, file) {
        if (rc)
            break;
        files->len = i + 1;
        rc = take_file(&files->list[i], file, json_array_size(dirs));
        if (!rc && i && by_path(&files->list[i - 1], &files->list[i]) >= 0)
            rc = OSM_EINVAL;
    }
    if (rc) {
        osm_policy_files_unref(files);
        return rc == OSM_ENOMEM ? out_of_memory(err)
                                : osm_fail(err, rc, "is not what was stored here");
    }
    rc = check_sizes(files, err);
    if (!rc && osm__policy_files_digest(files))
        rc = out_of_memory(err);
    if (!rc && strcmp(files->digest, digest) != 0)
        rc = osm_fail(err, OSM_EINVAL, "its files do not have the digest %.64s", digest);
    if (rc) {
        osm_policy_files_unref(files);
        return rc;
    }
    *out = files;
    return 0;
}
