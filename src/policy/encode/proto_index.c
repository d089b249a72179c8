/* Looking things up in the compiled descriptors: messages, fields, special forms, and what a
 * misspelt name may have meant. */
#include "base/nearest.h"
#include "policy/encode/proto_priv.h"

#include <stdlib.h>
#include <string.h>

static const char TYPE_PREFIX[] = "type.googleapis.com/";

static int name_against(const void *name, const void *row)
{
    return strcmp(name, ((const struct envoy_api_message *)row)->name);
}

static const struct envoy_api_message *find(const char *name)
{
    return bsearch(name, envoy_api_messages, envoy_api_messages_len, sizeof *envoy_api_messages,
                   name_against);
}

const ProtobufCMessageDescriptor *osm_proto_find(const char *name)
{
    if (!strncmp(name, TYPE_PREFIX, sizeof TYPE_PREFIX - 1))
        name += sizeof TYPE_PREFIX - 1;
    const struct envoy_api_message *row = find(name);
    return row ? row->descriptor : NULL;
}

bool osm_proto_is_map_entry(const ProtobufCMessageDescriptor *descriptor)
{
    return osm__proto_row(descriptor)->is_map_entry;
}

const ProtobufCMessageDescriptor *osm__proto_map_entry(const ProtobufCFieldDescriptor *field)
{
    if (field->type != PROTOBUF_C_TYPE_MESSAGE || field->label != PROTOBUF_C_LABEL_REPEATED)
        return NULL;
    return osm_proto_is_map_entry(field->descriptor) ? field->descriptor : NULL;
}

enum osm_wire_type osm__proto_wire_type(ProtobufCType type)
{
    switch (type) {
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_FLOAT:
        return OSM_WIRE_32;
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
        return OSM_WIRE_64;
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_BYTES:
    case PROTOBUF_C_TYPE_MESSAGE:
        return OSM_WIRE_BYTES;
    default:
        return OSM_WIRE_VARINT;
    }
}

enum osm__proto_form osm__proto_form(const ProtobufCMessageDescriptor *descriptor)
{
    static const struct {
        const char *name;
        enum osm__proto_form form;
    } forms[] = {
        {"Any", OSM__FORM_ANY},
        {"Duration", OSM__FORM_DURATION},
        {"Timestamp", OSM__FORM_TIMESTAMP},
        {"Struct", OSM__FORM_STRUCT},
        {"Value", OSM__FORM_VALUE},
        {"ListValue", OSM__FORM_LIST},
        {"BoolValue", OSM__FORM_WRAPPER},
        {"BytesValue", OSM__FORM_WRAPPER},
        {"DoubleValue", OSM__FORM_WRAPPER},
        {"FloatValue", OSM__FORM_WRAPPER},
        {"Int32Value", OSM__FORM_WRAPPER},
        {"Int64Value", OSM__FORM_WRAPPER},
        {"StringValue", OSM__FORM_WRAPPER},
        {"UInt32Value", OSM__FORM_WRAPPER},
        {"UInt64Value", OSM__FORM_WRAPPER},
    };
    if (descriptor->package_name[0] != 'g' || strcmp(descriptor->package_name, "google.protobuf"))
        return OSM__FORM_FIELDS;
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++)
        if (!strcmp(descriptor->short_name, forms[i].name))
            return forms[i].form;
    return OSM__FORM_FIELDS;
}

const ProtobufCFieldDescriptor *osm__proto_field(const ProtobufCMessageDescriptor *descriptor,
                                                 const char *name, size_t len)
{
    unsigned low = 0, high = descriptor->n_fields;
    while (low < high) {
        unsigned middle = low + (high - low) / 2;
        const ProtobufCFieldDescriptor *field =
            &descriptor->fields[descriptor->fields_sorted_by_name[middle]];
        int order = strncmp(name, field->name, len);
        if (!order && field->name[len])
            order = -1;
        if (!order)
            return strlen(field->name) == len ? field
                                              : NULL; /* a NUL inside the name is no match */
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

static int value_against(const void *number, const void *value)
{
    int x = *(const int *)number, y = ((const ProtobufCEnumValue *)value)->value;
    return (x > y) - (x < y);
}

const ProtobufCEnumValue *osm__proto_enum_value(const ProtobufCEnumDescriptor *descriptor,
                                                int value)
{
    return bsearch(&value, descriptor->values, descriptor->n_values, sizeof *descriptor->values,
                   value_against);
}

const char *osm__proto_nearest_field(const ProtobufCMessageDescriptor *descriptor, const char *name)
{
    struct osm_nearest search = osm_nearest_start(name);
    for (unsigned i = 0; i < descriptor->n_fields; i++)
        osm_nearest_consider(&search, descriptor->fields[i].name);
    return search.best;
}

const char *osm__proto_nearest_value(const ProtobufCEnumDescriptor *descriptor, const char *name)
{
    struct osm_nearest search = osm_nearest_start(name);
    for (unsigned i = 0; i < descriptor->n_value_names; i++)
        osm_nearest_consider(&search, descriptor->values_by_name[i].name);
    return search.best;
}
