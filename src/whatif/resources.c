#include "whatif/resources.h"

#include "base/map.h"
#include "policy/encode/proto.h"
#include "whatif/fields.h"
#include "xds/parts.h"

#include <string.h>

enum { KEY_MAX_BYTES = 16 * 1024 };

/* The fields of one pair of elements. */
struct element {
    json_t *fields;
    size_t more;
};

struct osm_resources {
    struct osm_resources_limits limits;
    struct osm_map places;   /* type, name, versions -> place + 1 in `told` */
    struct osm_map elements; /* hashes of both forms -> struct element */
    json_t *told;
    size_t bytes;
};

struct osm_resources *osm_resources_new(const struct osm_resources_limits *limits)
{
    struct osm_resources *r = osm_alloc(sizeof *r);
    if (!r)
        return NULL;
    r->limits = *limits;
    r->told = json_array();
    if (r->told)
        return r;
    osm_free(r);
    return NULL;
}

void osm_resources_free(struct osm_resources *r)
{
    if (!r)
        return;
    osm_map_each (&r->elements, e) {
        json_decref(((struct element *)e->value)->fields);
        osm_free(e->value);
    }
    osm_map_clear(&r->elements);
    osm_map_clear(&r->places);
    json_decref(r->told);
    osm_free(r);
}

json_t *osm_resources_told(const struct osm_resources *r)
{
    return r->told;
}

static int no_memory(struct osm_err *err)
{
    return osm_fail(err, OSM_ENOMEM, "out of memory");
}

/* Data NULL: absent, and so is the value. */
static int decode(const char *message, const void *data, size_t len, json_t **out,
                  struct osm_err *err)
{
    return data ? osm_proto_decode(osm_proto_find(message), data, len, out, err) : 0;
}

struct bytes {
    const void *data; /* NULL: absent */
    size_t len;
};

/* Appends the fields that differ to @p out. */
static int compare_messages(struct osm_resources *r, const char *message, struct bytes before,
                            struct bytes after, const char *prefix, json_t *out, size_t *more,
                            struct osm_err *err)
{
    json_t *old = NULL, *now = NULL;
    int rc = decode(message, before.data, before.len, &old, err);
    if (!rc)
        rc = decode(message, after.data, after.len, &now, err);
    size_t told = json_array_size(out), max = r->limits.fields_max;
    if (!rc && osm_fields_diff(old, now, prefix, out, max > told ? max : told, more))
        rc = no_memory(err);
    json_decref(old);
    json_decref(now);
    return rc;
}

/* --- elements of composite resources --- */

static struct bytes bytes_of(const struct osm_part *part)
{
    return part ? (struct bytes){part->data, part->len} : (struct bytes){NULL, 0};
}

static int new_element(struct osm_resources *r, enum osm_xds_type type, const char *name,
                       struct bytes before, struct bytes after, struct element **out,
                       struct osm_err *err)
{
    const char *message = NULL, *field = osm_parts_field(type, &message);
    char *prefix = osm_strf("%s[name=%s]", field, name);
    struct element *made = osm_alloc(sizeof *made);
    int rc = prefix && made && (made->fields = json_array()) ? 0 : no_memory(err);
    if (!rc)
        rc = compare_messages(r, message, before, after, prefix, made->fields, &made->more, err);
    osm_free(prefix);
    if (rc && made) {
        json_decref(made->fields);
        osm_free(made);
    } else if (!rc) {
        *out = made;
    }
    return rc;
}

/* The same chain is in the listeners of many proxies. */
static int compare_element(struct osm_resources *r, enum osm_xds_type type, const char *name,
                           struct bytes before, struct bytes after, json_t *out, size_t *more,
                           struct osm_err *err)
{
    struct osm_hash key[2] = {osm_hash_bytes(before.data ? before.data : "", before.len),
                              osm_hash_bytes(after.data ? after.data : "", after.len)};
    key[0].lo ^= (uint64_t)type; /* a name is in the bytes, the type is not */
    struct element *known = osm_map_getn(&r->elements, key, sizeof key);
    int rc = known ? 0 : new_element(r, type, name, before, after, &known, err);
    if (!rc && osm_map_putn(&r->elements, key, sizeof key, known, NULL)) {
        if (!osm_map_getn(&r->elements, key, sizeof key)) {
            json_decref(known->fields);
            osm_free(known);
        }
        rc = no_memory(err);
    }
    size_t i;
    json_t *field;
    json_array_foreach (rc ? NULL : known->fields, i, field) {
        if (json_array_size(out) >= r->limits.fields_max)
            ++*more;
        else if (json_array_append(out, field))
            rc = no_memory(err);
    }
    *more += rc ? 0 : known->more;
    return rc;
}

static int compare_parts(struct osm_resources *r, enum osm_xds_type type,
                         const struct osm_parts *before, const struct osm_parts *after, json_t *out,
                         size_t *more, struct osm_err *err)
{
    const struct osm_buf *a = &before->around, *b = &after->around;
    const struct bytes old = {a->data ? a->data : "", a->len},
                       now = {b->data ? b->data : "", b->len};
    int rc = 0;
    if (old.len != now.len || memcmp(old.data, now.data, now.len) != 0)
        rc = compare_messages(r, osm_xds_type_message(type), old, now, "", out, more, err);
    for (size_t i = 0, k = 0; !rc && (i < before->len || k < after->len);) {
        int order = i == before->len  ? 1
                    : k == after->len ? -1
                                      : strcmp(before->list[i].name, after->list[k].name);
        const struct osm_part *any = order <= 0 ? &before->list[i] : &after->list[k];
        const struct osm_part *x = order <= 0 ? any : NULL,
                              *y = order >= 0 ? &after->list[k] : NULL;
        if (order || !osm_part_same(any, &after->list[k]))
            rc = compare_element(r, type, any->name, bytes_of(x), bytes_of(y), out, more, err);
        i += order <= 0;
        k += order >= 0;
    }
    return rc;
}

static int compare_composites(struct osm_resources *r, enum osm_xds_type type,
                              const struct osm_resource *before, const struct osm_resource *after,
                              json_t *out, size_t *more, struct osm_err *err)
{
    struct osm_parts old = {0}, now = {0};
    int rc = osm_parts_of(&old, type, before->body);
    if (!rc)
        rc = osm_parts_of(&now, type, after->body);
    if (rc)
        rc = osm_fail(err, rc, "%s", osm_code_text(rc));
    else
        rc = compare_parts(r, type, &old, &now, out, more, err);
    osm_parts_clear(&old);
    osm_parts_clear(&now);
    return rc;
}

/* --- resources --- */

static struct bytes body_of(const struct osm_resource *resource)
{
    return resource ? (struct bytes){osm_bytes_data(resource->body), osm_bytes_len(resource->body)}
                    : (struct bytes){NULL, 0};
}

static int compare(struct osm_resources *r, enum osm_xds_type type,
                   const struct osm_resource *before, const struct osm_resource *after,
                   struct osm_err *err)
{
    json_t *fields = json_array();
    size_t more = 0;
    const char *name = (before ? before : after)->name;
    int rc = fields ? 0 : no_memory(err);
    if (!rc && before && after && osm_parts_field(type, NULL))
        rc = compare_composites(r, type, before, after, fields, &more, err);
    else if (!rc)
        rc = compare_messages(r, osm_xds_type_message(type), body_of(before), body_of(after), "",
                              fields, &more, err);
    if (rc) {
        osm_err_prepend(err, "%s %s: ", osm_xds_type_short(type), name);
        json_decref(fields);
        return rc;
    }
    r->bytes += json_dumpb(fields, NULL, 0, JSON_COMPACT);
    if (r->bytes > r->limits.bytes_max) {
        more += json_array_size(fields);
        (void)json_array_clear(fields);
    }
    json_t *entry = json_pack("{s:s, s:s, s:s, s:o, s:I}", "type", osm_xds_type_short(type), "name",
                              name, "change",
                              !before  ? "added"
                              : !after ? "removed"
                                       : "changed",
                              "fields", fields, "more", (json_int_t)more);
    return json_array_append_new(r->told, entry) ? no_memory(err) : 0;
}

int osm_resources_compare(struct osm_resources *r, enum osm_xds_type type,
                          const struct osm_resource *before, const struct osm_resource *after,
                          size_t *out, struct osm_err *err)
{
    struct osm_buf key = OSM_BUF_INIT(KEY_MAX_BYTES);
    (void)osm_buf_add_strs(&key, osm_xds_type_short(type), "\n", (before ? before : after)->name,
                           "\n", before ? before->version : "", "\n", after ? after->version : "",
                           NULL);
    int rc = key.failed ? osm_fail(err, key.failed, "%s", osm_code_text(key.failed)) : 0;
    uintptr_t place = rc ? 0 : (uintptr_t)osm_map_get(&r->places, key.data);
    if (!rc && !place) {
        rc = r->limits.is_late && r->limits.is_late(r->limits.ud)
                 ? osm_fail(err, OSM_ETIMEDOUT, "comparing takes too long")
                 : compare(r, type, before, after, err);
        place = json_array_size(r->told);
        if (!rc && osm_map_put(&r->places, key.data, (void *)place, NULL))
            rc = no_memory(err);
    }
    osm_buf_clear(&key);
    if (!rc)
        *out = place - 1;
    return rc;
}
