#include "source/dir/manifest.h"

#include "base/buf.h"
#include "base/map.h"
#include "base/utf8.h"
#include "base/yaml.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

__attribute__((format(printf, 5, 6))) static int
fail(struct osm__manifest_problem *problem, int code, int line, int column, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(problem->message, sizeof problem->message, fmt, ap);
    va_end(ap);
    (void)osm_utf8_repair(problem->message);
    problem->line = line;
    problem->column = column;
    return code;
}

static int fail_errno(struct osm__manifest_problem *problem, int error)
{
    bool gone = error == ENOENT || error == ENOTDIR;
    return fail(problem, gone ? OSM_ENOENT : OSM_EIO, 0, 0, "cannot be read: %s", strerror(error));
}

static int read_text(struct osm_buf *text, const char *path, struct osm__file_id *id,
                     struct osm__manifest_problem *problem)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK),
        rc = 0; /* a FIFO of this name must not stop us */
    if (fd < 0)
        return fail_errno(problem, errno);
    if (fstat(fd, &st))
        rc = fail_errno(problem, errno);
    else if (!S_ISREG(st.st_mode))
        rc = fail(problem, OSM_EINVAL, 0, 0, "is not a regular file");
    else
        *id = osm__file_id(&st);
    while (!rc) {
        char *at = osm_buf_reserve(text, 64 * 1024);
        if (!at && text->failed == OSM_ELIMIT)
            rc =
                fail(problem, OSM_ELIMIT, 0, 0, "is larger than %d bytes", OSM__MANIFEST_BYTES_MAX);
        else if (!at)
            rc = OSM_ENOMEM;
        if (rc)
            break;
        ssize_t n = read(fd, at, 64 * 1024);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            rc = fail_errno(problem, errno);
        if (n <= 0)
            break;
        text->len += (size_t)n;
    }
    close(fd);
    return rc;
}

struct reading {
    struct osm__manifest *out;
    const char *name;
    struct osm_map lines; /* key -> where in this file, as a number */
    struct osm__manifest_problem *problem;
};

/* Takes the reference to @p body. */
static int add_object(struct reading *r, json_t *body, int line)
{
    struct osm__manifest *m = r->out;
    struct osm_object *object = NULL;
    struct osm_err err = {0};
    char *origin = osm_strf("%s:%d", r->name, line);
    int rc = OSM_ENOMEM;
    if (!origin || !body) {
        json_decref(body);
        goto out;
    }
    rc = osm_object_new(&object, body, origin, &err);
    if (rc && rc != OSM_ENOMEM)
        rc = fail(r->problem, rc, line, 1, "%s", err.msg);
    if (rc)
        goto out;
    uintptr_t other = (uintptr_t)osm_map_get(&r->lines, object->key);
    if (other) {
        rc = fail(r->problem, OSM_EINVAL, line, 1,
                  "%s %s%s%s is in this file twice: also at line %d", object->kind, object->ns,
                  *object->ns ? "/" : "", object->name, (int)other);
        goto out;
    }
    if (osm_map_put(&r->lines, object->key, (void *)(uintptr_t)line, NULL)) {
        rc = OSM_ENOMEM;
        goto out;
    }
    if (!(m->len & (m->len - 1))) {
        struct osm_object **grown =
            osm_realloc_array(m->objects, m->len ? m->len * 2 : 1, sizeof *grown);
        if (!grown) {
            rc = OSM_ENOMEM;
            goto out;
        }
        m->objects = grown;
    }
    m->objects[m->len++] = osm_take_ptr(&object);
out:
    osm_object_unref(object);
    osm_free(origin);
    return rc;
}

static bool is_list(const json_t *value)
{
    const char *kind = osm_json_str_at(value, "kind", NULL);
    size_t len = kind ? strlen(kind) : 0;
    if (len < 4 || strcmp(kind + len - 4, "List") != 0)
        return false;
    return len == 4 || json_is_array(osm_json_at(value, "items", NULL));
}

/* Items of a PodList or the like may leave out what the list says for all of them. New reference,
 * NULL without memory. */
static json_t *item_of(const json_t *list, json_t *item)
{
    const char *kind = osm_json_str_at(list, "kind", NULL);
    size_t len = strlen(kind) - 4;
    if (!len || !json_is_object(item) ||
        (json_object_get(item, "kind") && json_object_get(item, "apiVersion")))
        return json_incref(item);
    json_t *copy = json_copy(item), *api = json_object_get(list, "apiVersion");
    bool failed = !copy;
    if (!failed && !json_object_get(copy, "kind"))
        failed = json_object_set_new(copy, "kind", json_stringn(kind, len));
    if (!failed && api && !json_object_get(copy, "apiVersion"))
        failed = json_object_set(copy, "apiVersion", api);
    if (failed) {
        json_decref(copy);
        return NULL;
    }
    return copy;
}

static int add_document(struct reading *r, const struct osm_yaml_doc *doc)
{
    if (!is_list(doc->value))
        return add_object(r, json_incref(doc->value), doc->line);
    const json_t *items = osm_json_at(doc->value, "items", NULL);
    size_t i;
    json_t *item;
    int rc = 0;
    if (items && !json_is_null(items) && !json_is_array(items))
        return fail(r->problem, OSM_EINVAL, doc->line, 1, "items: must be a list");
    json_array_foreach (items, i, item) {
        int line = i < doc->item_lines_len ? doc->item_lines[i] : doc->line;
        rc = add_object(r, item_of(doc->value, item), line);
        if (rc)
            break;
    }
    return rc;
}

static int read_objects(struct reading *r, const char *text, size_t len)
{
    struct osm_yaml_docs docs = {NULL, 0};
    struct osm_yaml_place place = {0, 0};
    struct osm_err err = {0};
    int rc = osm_yaml_parse(len ? text : "", len, &docs, &place, &err);
    if (rc && rc != OSM_ENOMEM) {
        const char *what =
            place.line ? strstr(err.msg, ": ") : NULL; /* the place has fields of its own */
        rc = fail(r->problem, rc, place.line, place.column, "%s", what ? what + 2 : err.msg);
    }
    for (size_t i = 0; i < docs.len && !rc; i++)
        rc = add_document(r, &docs.list[i]);
    osm_yaml_docs_clear(&docs);
    return rc;
}

int osm__manifest_read(struct osm__manifest *out, const char *path, const char *name,
                       const struct osm_hash *known, struct osm__manifest_problem *problem)
{
    struct osm__manifest manifest = {0};
    struct reading r = {&manifest, name, OSM_MAP_INIT, problem};
    struct osm_buf text = OSM_BUF_INIT(OSM__MANIFEST_BYTES_MAX + 64 * 1024);
    *problem = (struct osm__manifest_problem){0};
    int rc = read_text(&text, path, &manifest.id, problem);
    if (!rc && text.len > OSM__MANIFEST_BYTES_MAX)
        rc = fail(problem, OSM_ELIMIT, 0, 0, "is larger than %d bytes", OSM__MANIFEST_BYTES_MAX);
    if (!rc) {
        manifest.bytes = osm_hash_bytes(text.data, text.len);
        rc = known && osm_hash_equal(*known, manifest.bytes)
                 ? OSM_EEXIST
                 : read_objects(&r, text.data, text.len);
    }
    osm_map_clear(&r.lines);
    osm_buf_clear(&text);
    if (rc && rc != OSM_EEXIST) {
        /* A broken text is remembered too, so that it is not parsed and reported again while it
         * stays the same. */
        struct osm__file_id id = manifest.id;
        struct osm_hash bytes = manifest.bytes;
        osm__manifest_clear(&manifest);
        manifest.id = id;
        manifest.bytes = bytes;
    }
    *out = manifest;
    return rc;
}

int osm__manifest_parse(struct osm__manifest *out, const char *text, size_t len, const char *name,
                        struct osm__manifest_problem *problem)
{
    struct osm__manifest manifest = {0};
    struct reading r = {&manifest, name, OSM_MAP_INIT, problem};
    *problem = (struct osm__manifest_problem){0};
    int rc = read_objects(&r, text, len);
    osm_map_clear(&r.lines);
    if (rc)
        osm__manifest_clear(&manifest);
    else
        *out = manifest;
    return rc;
}

void osm__manifest_clear(struct osm__manifest *manifest)
{
    for (size_t i = 0; i < manifest->len; i++)
        osm_object_unref(manifest->objects[i]);
    osm_free(manifest->objects);
    *manifest = (struct osm__manifest){0};
}
