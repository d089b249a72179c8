#include "cli/manifests.h"

#include "base/buf.h"
#include "base/map.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct reading {
    json_t *out;
    size_t bytes; /* so far */
    struct osm_err *err;
};

static int add(struct reading *r, const char *name, struct osm_buf *text)
{
    json_t *string = json_stringn(text->data ? text->data : "", text->len);
    r->bytes += text->len;
    if (r->bytes > OSM_MANIFESTS_MAX_BYTES)
        return osm_fail(r->err, OSM_ELIMIT, "%s: the manifests have more than %d bytes together",
                        name, OSM_MANIFESTS_MAX_BYTES);
    if (!string)
        return osm_fail(r->err, OSM_EINVAL, "%s: is no text in UTF-8", name);
    return json_array_append_new(r->out, json_pack("{s:s, s:o}", "name", name, "text", string))
               ? osm_fail(r->err, OSM_ENOMEM, "out of memory")
               : 0;
}

static int read_input(struct reading *r)
{
    struct osm_buf text = OSM_BUF_INIT(OSM_MANIFESTS_MAX_BYTES);
    int rc = 0;
    for (;;) {
        char *at = osm_buf_reserve(&text, 64 * 1024);
        ssize_t n = at ? read(STDIN_FILENO, at, 64 * 1024) : -1;
        if (!at && text.failed == OSM_ELIMIT)
            rc = osm_fail(r->err, OSM_ELIMIT, "standard input: more than %d bytes",
                          OSM_MANIFESTS_MAX_BYTES);
        else if (!at)
            rc = osm_fail(r->err, OSM_ENOMEM, "out of memory");
        else if (n < 0 && errno == EINTR)
            continue;
        else if (n < 0)
            rc = osm_fail(r->err, OSM_EIO, "standard input: %s", strerror(errno));
        if (n <= 0)
            break;
        text.len += (size_t)n;
    }
    if (!rc)
        rc = add(r, "stdin", &text);
    osm_buf_clear(&text);
    return rc;
}

static int read_file(struct reading *r, const char *path)
{
    struct osm_buf text = OSM_BUF_INIT(OSM_MANIFESTS_MAX_BYTES);
    int rc = osm_buf_read_file(&text, path, r->err);
    if (!rc)
        rc = add(r, path, &text);
    osm_buf_clear(&text);
    return rc;
}

static bool is_manifest(const char *name)
{
    const char *dot = strrchr(name, '.');
    return name[0] != '.' && dot &&
           (!strcmp(dot, ".yaml") || !strcmp(dot, ".yml") || !strcmp(dot, ".json"));
}

static int list_dir(struct reading *r, const char *path, struct osm_map *names)
{
    DIR *dir = opendir(path);
    struct dirent *entry;
    int rc = dir ? 0 : osm_fail(r->err, OSM_EIO, "%s: %s", path, strerror(errno));
    while (!rc && (entry = readdir(dir)))
        if (is_manifest(entry->d_name) && osm_map_put(names, entry->d_name, r, NULL))
            rc = osm_fail(r->err, OSM_ENOMEM, "out of memory");
    if (dir)
        closedir(dir);
    if (!rc && !names->count)
        rc = osm_fail(r->err, OSM_ENOENT, "%s: holds no *.yaml, *.yml or *.json", path);
    return rc;
}

static int read_dir(struct reading *r, const char *path)
{
    struct osm_map names = OSM_MAP_INIT;
    size_t n = 0, len = strlen(path);
    while (len > 1 && path[len - 1] == '/')
        len--;
    int rc = list_dir(r, path, &names);
    const char **sorted = rc ? NULL : osm_map_sorted_keys(&names, &n);
    for (size_t i = 0; i < n && !rc; i++) {
        char *file = osm_strf("%.*s/%s", (int)len, path, sorted[i]);
        rc = file ? read_file(r, file) : osm_fail(r->err, OSM_ENOMEM, "out of memory");
        osm_free(file);
    }
    if (!rc && !sorted)
        rc = osm_fail(r->err, OSM_ENOMEM, "out of memory");
    osm_free(sorted);
    osm_map_clear(&names);
    return rc;
}

int osm_manifests_read(json_t **out, const char *const *from, struct osm_err *err)
{
    struct reading r = {json_array(), 0, err};
    int rc = r.out ? 0 : osm_fail(err, OSM_ENOMEM, "out of memory");
    for (size_t i = 0; from[i] && !rc; i++) {
        struct stat st;
        if (!strcmp(from[i], "-"))
            rc = read_input(&r);
        else if (stat(from[i], &st))
            rc = osm_fail(err, OSM_ENOENT, "%s: %s", from[i], strerror(errno));
        else
            rc = S_ISDIR(st.st_mode) ? read_dir(&r, from[i]) : read_file(&r, from[i]);
    }
    if (rc)
        json_decref(r.out);
    else
        *out = r.out;
    return rc;
}
