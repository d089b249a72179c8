/* The compiled API as LuaCATS: a class for each message, an alias for each enum, by their full
 * names. What has a form of its own (durations, wrappers, Any, Struct) is an alias for that form.
 */
#include "policy/encode/proto_annotate.h"

#include "base/map.h"
#include "policy/encode/proto_priv.h"

#include "envoy_api_index.h"

#include <string.h>

static bool is_keyword(const char *name)
{
    static const char *const words[] = {"and",   "break", "do",       "else", "elseif", "end",
                                        "false", "for",   "function", "goto", "if",     "in",
                                        "local", "nil",   "not",      "or",   "repeat", "return",
                                        "then",  "true",  "until",    "while"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (!strcmp(words[i], name))
            return true;
    return false;
}

static const char *scalar_name(ProtobufCType type)
{
    switch (type) {
    case PROTOBUF_C_TYPE_BOOL:
        return "boolean";
    case PROTOBUF_C_TYPE_FLOAT:
    case PROTOBUF_C_TYPE_DOUBLE:
        return "number";
    case PROTOBUF_C_TYPE_STRING:
        return "string";
    case PROTOBUF_C_TYPE_BYTES:
        return "google.protobuf.Bytes";
    default:
        return "integer";
    }
}

/* The type of one value of the field. */
static const char *value_type(const ProtobufCFieldDescriptor *field)
{
    if (field->type == PROTOBUF_C_TYPE_ENUM)
        return ((const ProtobufCEnumDescriptor *)field->descriptor)->name;
    if (field->type != PROTOBUF_C_TYPE_MESSAGE)
        return scalar_name(field->type);
    return ((const ProtobufCMessageDescriptor *)field->descriptor)->name;
}

static void add_type(struct osm_buf *out, const ProtobufCFieldDescriptor *field)
{
    const ProtobufCMessageDescriptor *entry = osm__proto_map_entry(field);
    if (entry)
        (void)osm_buf_addf(out, "table<%s, %s>", value_type(&entry->fields[0]),
                           value_type(&entry->fields[1]));
    else
        (void)osm_buf_addf(out, "%s%s", value_type(field),
                           field->label == PROTOBUF_C_LABEL_REPEATED ? "[]" : "");
}

/* Fields of a oneof share the place of the member that says which is set. An `optional` field is a
 * oneof by itself, which need not be told. */
static bool same_oneof(const ProtobufCFieldDescriptor *a, const ProtobufCFieldDescriptor *b)
{
    return (a->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) && (b->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) &&
           a->quantifier_offset == b->quantifier_offset;
}

static void add_oneofs(struct osm_buf *out, const ProtobufCMessageDescriptor *m)
{
    for (unsigned i = 0; i < m->n_fields; i++) {
        const ProtobufCFieldDescriptor *first = &m->fields[i];
        bool told = false;
        unsigned others = 0;
        for (unsigned k = 0; k < i && !told; k++)
            told = same_oneof(first, &m->fields[k]);
        for (unsigned k = i + 1; k < m->n_fields && !told; k++)
            others += same_oneof(first, &m->fields[k]);
        if (told || !others)
            continue;
        (void)osm_buf_addf(out, "--- At most one of: %s", first->name);
        for (unsigned k = i + 1; k < m->n_fields; k++)
            if (same_oneof(first, &m->fields[k]))
                (void)osm_buf_addf(out, ", %s", m->fields[k].name);
        (void)osm_buf_add_str(out, ".\n");
    }
}

static void add_class(struct osm_buf *out, const ProtobufCMessageDescriptor *m)
{
    add_oneofs(out, m);
    (void)osm_buf_addf(out, "---@class (exact) %s\n", m->name);
    for (unsigned i = 0; i < m->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &m->fields[i];
        if (is_keyword(field->name))
            (void)osm_buf_addf(out, "---@field [\"%s\"] nil|", field->name);
        else
            (void)osm_buf_addf(out, "---@field %s? ", field->name);
        add_type(out, field);
        if (field->flags & PROTOBUF_C_FIELD_FLAG_DEPRECATED)
            (void)osm_buf_add_str(out, " # deprecated");
        (void)osm_buf_add_char(out, '\n');
    }
    (void)osm_buf_add_char(out, '\n');
}

static void add_alias(struct osm_buf *out, const ProtobufCMessageDescriptor *m,
                      enum osm__proto_form form)
{
    static const char *const forms[] = {
        [OSM__FORM_ANY] = "{ [\"@type\"]: string, [string]: any }",
        [OSM__FORM_DURATION] = "string",
        [OSM__FORM_TIMESTAMP] = "string",
        [OSM__FORM_STRUCT] = "table<string, any>",
        [OSM__FORM_VALUE] = "any",
        [OSM__FORM_LIST] = "any[]",
    };
    static const char *const texts[] = {
        [OSM__FORM_ANY] =
            "A message with its full name: { [\"@type\"] = \"envoy.config...\", ... }",
        [OSM__FORM_DURATION] = "A duration in seconds, such as \"1.5s\".",
        [OSM__FORM_TIMESTAMP] = "A time as in RFC 3339, such as \"2024-01-31T12:00:00Z\".",
        [OSM__FORM_STRUCT] = "Plain data by name.",
        [OSM__FORM_VALUE] = "Plain data.",
        [OSM__FORM_LIST] = "A list of plain data.",
    };
    if (form == OSM__FORM_WRAPPER)
        (void)osm_buf_addf(out, "--- The plain value.\n---@alias %s %s\n\n", m->name,
                           scalar_name(m->fields[0].type));
    else
        (void)osm_buf_addf(out, "--- %s\n---@alias %s %s\n\n", texts[form], m->name, forms[form]);
}

static void add_enum(struct osm_buf *out, const ProtobufCEnumDescriptor *d)
{
    (void)osm_buf_addf(out, "---@alias %s\n", d->name);
    for (unsigned i = 0; i < d->n_values; i++)
        (void)osm_buf_addf(out, "---| \"%s\"\n", d->values[i].name);
    (void)osm_buf_add_str(out, "---| integer\n\n");
}

static int add_enums_of(struct osm_buf *out, const ProtobufCMessageDescriptor *m,
                        struct osm_map *seen)
{
    for (unsigned i = 0; i < m->n_fields; i++) {
        const ProtobufCEnumDescriptor *d = m->fields[i].descriptor;
        if (m->fields[i].type != PROTOBUF_C_TYPE_ENUM || osm_map_has(seen, d->name))
            continue;
        if (osm_map_put(seen, d->name, seen, NULL))
            return OSM_ENOMEM;
        add_enum(out, d);
    }
    return 0;
}

int osm_proto_annotate(struct osm_buf *out)
{
    struct osm_map enums = OSM_MAP_INIT;
    int rc = 0;
    (void)osm_buf_add_str(out,
                          "---@meta\n"
                          "--- Envoy's v3 API as its messages are written in a policy. Written "
                          "by `osm policy annotations`.\n\n"
                          "--- Text, or { base64 = text } for bytes that are none.\n"
                          "---@alias google.protobuf.Bytes string|{ base64: string }\n\n");
    for (size_t i = 0; i < envoy_api_messages_len && !rc; i++) {
        const ProtobufCMessageDescriptor *m = envoy_api_messages[i].descriptor;
        enum osm__proto_form form = osm__proto_form(m);
        if (envoy_api_messages[i].is_map_entry) {
            rc = add_enums_of(out, m, &enums);
            continue;
        }
        if (form == OSM__FORM_FIELDS) {
            add_class(out, m);
            rc = add_enums_of(out, m, &enums);
        } else {
            add_alias(out, m, form);
        }
    }
    osm_map_clear(&enums);
    return rc ? rc : out->failed;
}
