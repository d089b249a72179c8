/* Paths into JSON values, read as people type them. */
#include "whatif/fields_priv.h"

#include "base/err.h"

#include <ctype.h>
#include <string.h>

/* `["key"]`, `[3]`, `[name=shop]`; *at is behind the bracket. A name may hold brackets: the last
 * one that a path can go on behind closes. */
static int bracket(const char **at, struct osm_fields_step *out)
{
    const char *from = *at, *end = from;
    bool quoted = *from == '"';
    if (quoted) {
        end = strstr(from + 1, "\"]");
        *out = (struct osm_fields_step){OSM_FIELDS_KEY, from + 1,
                                        end ? (size_t)(end - from - 1) : 0, 0};
        *at = end ? end + 2 : from;
        return end ? 1 : OSM_EPARSE;
    }
    while ((end = strchr(end, ']')) && !strchr(".[", end[1]))
        end++;
    size_t len = end ? (size_t)(end - from) : 0, digits = strspn(from, "0123456789");
    const char *sign = len ? memchr(from, '=', len) : NULL;
    if (len && digits == len && len < 10) {
        *out = (struct osm_fields_step){OSM_FIELDS_INDEX, from, len, 0};
        for (size_t i = 0; i < len; i++)
            out->index = out->index * 10 + (size_t)(from[i] - '0');
    } else if (sign) {
        *out = (struct osm_fields_step){OSM_FIELDS_NAMED, sign + 1, (size_t)(end - sign - 1), 0};
    } else {
        return OSM_EPARSE;
    }
    *at = end + 1;
    return 1;
}

int osm_fields_step(const char **at, struct osm_fields_step *out)
{
    const char *from = *at;
    if (!*from)
        return 0;
    if (*from == '[') {
        *at = from + 1;
        return bracket(at, out);
    }
    from += *from == '.';
    size_t len = strcspn(from, ".[");
    if (!len)
        return OSM_EPARSE;
    *out = (struct osm_fields_step){OSM_FIELDS_KEY, from, len, 0};
    *at = from + len;
    return 1;
}

/* The place of the element, in a list, that has this name by any namer. */
static const json_t *named(const json_t *list, const char *name, size_t len)
{
    size_t i;
    const json_t *element;
    for (const struct osm__namer *namer = osm__namers; namer->label; namer++)
        json_array_foreach ((json_t *)(uintptr_t)list, i, element) {
            const char *own = osm__name_by(namer, element);
            if (own && strlen(own) == len && !memcmp(own, name, len))
                return element;
        }
    return NULL;
}

static const json_t *follow(const json_t *value, const struct osm_fields_step *step)
{
    const char *key;
    json_t *member;
    if (step->type == OSM_FIELDS_INDEX)
        return json_array_get(value, step->index);
    if (step->type == OSM_FIELDS_NAMED)
        return named(value, step->text, step->len);
    json_object_foreach ((json_t *)(uintptr_t)value, key, member)
        if (strlen(key) == step->len && !memcmp(key, step->text, step->len))
            return member;
    return NULL;
}

int osm_fields_at(const json_t *value, const char *path, const json_t **out)
{
    struct osm_fields_step step;
    int rc = 1;
    while (value && (rc = osm_fields_step(&path, &step)) == 1)
        value = follow(value, &step);
    if (rc < 0)
        return rc;
    if (!value)
        return OSM_ENOENT;
    *out = value;
    return 0;
}

int osm_fields_normal(const json_t *value, const char *path, struct osm_buf *out)
{
    struct osm_fields_step step;
    int rc = 1;
    for (const char *from = path; (rc = osm_fields_step(&path, &step)) == 1; from = path) {
        const struct osm__namer *namer = NULL;
        if (step.type == OSM_FIELDS_INDEX && osm__namer_of(value, NULL, &namer))
            return OSM_ENOMEM;
        value = follow(value, &step);
        if (!value)
            return OSM_ENOENT;
        const char *name = namer ? osm__name_by(namer, value) : NULL;
        if (name)
            (void)osm_buf_add_strs(out, "[", namer->label, "=", name, "]", NULL);
        else
            (void)osm_buf_add(out, from, (size_t)(path - from));
    }
    return rc ? rc : out->failed;
}

bool osm_fields_within(const char *inner, const char *outer)
{
    size_t len = strlen(outer);
    return !strncmp(inner, outer, len) && (!len || strchr(".[", inner[len]));
}
