#include "whatif/field_why.h"

#include "base/buf.h"
#include "base/json.h"
#include "policy/encode/proto.h"
#include "whatif/fields.h"
#include "xds/parts.h"

#include <string.h>

enum { NAMES_MAX_BYTES = 300 };

static int no_memory(struct osm_err *err)
{
    return osm_fail(err, OSM_ENOMEM, "out of memory");
}

bool osm_field_is_path(enum osm_xds_type type, const char *text)
{
    const ProtobufCMessageDescriptor *message = osm_proto_find(osm_xds_type_message(type));
    struct osm_fields_step step;
    if (osm_fields_step(&text, &step) != 1 || step.type != OSM_FIELDS_KEY)
        return false;
    for (unsigned i = 0; i < message->n_fields; i++)
        if (strlen(message->fields[i].name) == step.len &&
            !memcmp(message->fields[i].name, step.text, step.len))
            return true;
    return false;
}

/* --- the field in what is served --- */

/* "there are name, filters": what one could have meant. */
static void add_names(struct osm_buf *out, const json_t *value)
{
    const char *key;
    json_t *member;
    if (json_is_array(value))
        (void)osm_buf_addf(out, "; it has %zu elements", json_array_size(value));
    else if (json_is_object(value))
        (void)osm_buf_add_str(out, "; there are");
    json_object_foreach ((json_t *)(uintptr_t)value, key, member)
        (void)osm_buf_add_strs(out, " ", key, NULL);
}

static int no_such_field(const json_t *resource, const char *path, struct osm_err *err)
{
    struct osm_buf prefix = OSM_BUF_INIT(OSM_FIELDS_PATH_MAX_BYTES),
                   names = OSM_BUF_INIT(NAMES_MAX_BYTES);
    struct osm_fields_step step;
    const json_t *value = resource, *next;
    for (const char *at = path; osm_fields_step(&at, &step) == 1;) {
        osm_buf_reset(&prefix);
        (void)osm_buf_add(&prefix, path, (size_t)(at - path));
        if (!prefix.data || osm_fields_at(resource, prefix.data, &next))
            break;
        value = next;
    }
    add_names(&names, value);
    int rc = osm_fail(err, OSM_ENOENT, "the resource has no field %.200s%s", path,
                      names.data ? names.data : "");
    osm_buf_clear(&prefix);
    osm_buf_clear(&names);
    return rc;
}

/* Where in the resource: an element of it (name NULL: not in one), and the path from there. */
struct place {
    const char *element, *rest;
};

static int place_of(const struct osm_field_question *q, const json_t *resource, struct place *out,
                    struct osm_err *err)
{
    const char *field = osm_parts_field(q->type, NULL), *at = q->path;
    struct osm_fields_step step;
    const json_t *list = json_object_get(resource, field ? field : "");
    *out = (struct place){NULL, q->path};
    if (!field || osm_fields_step(&at, &step) != 1 || step.len != strlen(field) ||
        strncmp(step.text, field, step.len) != 0)
        return 0;
    const json_t *element = NULL;
    size_t list_len = (size_t)(at - q->path);
    if (osm_fields_step(&at, &step) == 1) {
        char *path = osm_strndup(q->path, (size_t)(at - q->path));
        int rc = path ? osm_fields_at(resource, path, &element) : OSM_ENOMEM;
        osm_free(path);
        if (rc)
            return rc == OSM_ENOMEM ? no_memory(err) : no_such_field(resource, q->path, err);
    }
    if (!element)
        return osm_fail(err, OSM_ENOENT, "which of the %zu? %.*s[name=%s], for example",
                        json_array_size(list), (int)list_len, q->path,
                        osm_json_text(json_array_get(list, 0), "name"));
    out->element = osm_json_text(element, "name");
    out->rest = at + (*at == '.');
    return 0;
}

/* --- the item that has it --- */

/* Hash of the bytes that the item has given. */
static int hash_of(const struct osm_field_question *q, const struct place *place,
                   char out[OSM_HASH_HEX_SIZE], struct osm_err *err)
{
    const struct osm_bytes *body = q->resource->body;
    struct osm_parts parts = {0};
    struct osm_hash hash = osm_hash_bytes(osm_bytes_data(body), osm_bytes_len(body));
    if (osm_parts_field(q->type, NULL)) {
        int rc = osm_parts_of(&parts, q->type, body);
        if (rc)
            return osm_fail(err, rc, "%s: %s", q->resource->name, osm_code_text(rc));
        const struct osm_part *part =
            place->element ? osm_parts_find(&parts, place->element) : NULL;
        hash = part ? osm_hash_bytes(part->data, part->len)
                    : osm_hash_bytes(parts.around.data ? parts.around.data : "", parts.around.len);
    }
    (void)osm_hash_hex(hash, out);
    osm_parts_clear(&parts);
    return 0;
}

/* The items that lose to a more specific one are among them, and have other bytes. */
static json_t *item_of(const struct osm_field_question *q, const struct place *place,
                       const char *hash)
{
    size_t i;
    json_t *item;
    json_array_foreach ((json_t *)(uintptr_t)q->items, i, item) {
        const char *element = json_string_value(json_object_get(item, "element"));
        bool meant = place->element ? element && !strcmp(element, place->element) : !element;
        if (meant && !strcmp(osm_json_text(item, "hash"), hash))
            return item;
    }
    return NULL;
}

/* --- what has become of it --- */

/* The field in the message of a step; NULL: absent. */
static json_t *field_in(const json_t *step, const char *rest)
{
    const json_t *message = json_object_get(step, "message"), *value = NULL;
    if (!json_is_object(message) || osm_fields_at(message, rest, &value))
        return NULL;
    return (json_t *)(uintptr_t)value;
}

static bool same(const json_t *a, const json_t *b)
{
    return a == b || (a && b && json_equal(a, b));
}

/* The steps that have changed the field, the first in any case. NULL: no memory. */
static json_t *steps_of(const json_t *trace, const json_t *item, const char *rest)
{
    json_t *out = json_array(), *before = NULL;
    size_t i;
    const json_t *step;
    bool failed = !out;
    json_array_foreach ((json_t *)(uintptr_t)trace, i, step) {
        json_t *after = field_in(step, rest);
        const json_t *place = json_object_get(step, "place");
        if (i && same(before, after))
            continue;
        json_t *entry =
            json_pack("{s:O?, s:O, s:O*, s:O*}", "by", json_object_get(step, "by"), "place",
                      json_is_string(place) ? place : json_object_get(item, "place"), "before",
                      i ? before : NULL, "after", after);
        failed = json_array_append_new(out, entry) || failed;
        before = after;
    }
    if (!failed)
        return out;
    json_decref(out);
    return NULL;
}

static int trace_item(const struct osm_field_question *q, const json_t *item,
                      struct osm_engine *engine, json_t **out, struct osm_err *err)
{
    const struct osm_steps_question question = {
        json_string_value(json_object_get(item, "emitter")), osm_json_text(item, "rule"),
        json_object_get(item, "keys"), osm_json_text(item, "item")};
    return osm_engine_steps(engine, q->objects, &question, out, err);
}

static int answer(const struct osm_field_question *q, const json_t *resource, const json_t *value,
                  struct osm_engine *engine, json_t **out, struct osm_err *err)
{
    struct place place;
    char hash[OSM_HASH_HEX_SIZE];
    struct osm_buf path = OSM_BUF_INIT(OSM_FIELDS_PATH_MAX_BYTES), rest = path;
    json_t *item = NULL, *trace = NULL, *steps = NULL;
    int rc = place_of(q, resource, &place, err);
    if (!rc)
        rc = hash_of(q, &place, hash, err);
    if (!rc && !(item = item_of(q, &place, hash)))
        rc = osm_fail(err, OSM_EBUSY,
                      "the policies are at work on it: what is served is not what they say now");
    if (!rc)
        rc = trace_item(q, item, engine, &trace, err);
    if (!rc && osm_fields_normal(resource, q->path, &path))
        rc = no_memory(err);
    if (!rc) {
        /* the same steps, without those that lead to the element */
        const char *at = path.data ? path.data : "";
        struct osm_fields_step step;
        for (int i = 0; i < 2 && place.element; i++)
            (void)osm_fields_step(&at, &step);
        rc = osm_buf_add_str(&rest, at + (*at == '.')) ? no_memory(err) : 0;
    }
    if (!rc && !(steps = steps_of(trace, item, rest.data ? rest.data : "")))
        rc = no_memory(err);
    if (!rc) {
        const json_t *last = json_array_get(trace, json_array_size(trace) - 1);
        const json_t *made = last ? field_in(last, rest.data ? rest.data : "") : NULL;
        bool host = !made && (!last || !strcmp(rest.data ? rest.data : "", "name"));
        *out =
            json_pack("{s:s, s:O, s:O, s:O, s:b, s:b}", "path", path.data, "value", value, "item",
                      item, "steps", steps, "host", host, "changed", !host && !same(made, value));
        rc = *out ? 0 : no_memory(err);
    }
    osm_buf_clear(&path);
    osm_buf_clear(&rest);
    json_decref(trace);
    json_decref(steps);
    return rc;
}

int osm_field_why(const struct osm_field_question *q, struct osm_engine *engine, json_t **out,
                  struct osm_err *err)
{
    json_t *resource = NULL;
    const json_t *value = NULL;
    int rc = osm_proto_decode(osm_proto_find(osm_xds_type_message(q->type)),
                              osm_bytes_data(q->resource->body), osm_bytes_len(q->resource->body),
                              &resource, err);
    if (rc)
        return rc;
    rc = osm_fields_at(resource, q->path, &value);
    if (rc == OSM_EPARSE)
        rc = osm_fail(err, OSM_EINVAL, "%.200s: is no path of fields", q->path);
    else if (rc)
        rc = no_such_field(resource, q->path, err);
    else
        rc = answer(q, resource, value, engine, out, err);
    json_decref(resource);
    return rc;
}
