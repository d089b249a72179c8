/* Shared by proto_*.c: which messages have a form of their own, and the sources that a message is
 * read from. */
#pragma once

#include "policy/encode/proto.h"
#include "xds/wire.h"

#include "envoy_api_index.h"

/* Messages that are not written as a table of their fields. */
enum osm__proto_form {
    OSM__FORM_FIELDS,
    OSM__FORM_ANY,
    OSM__FORM_DURATION,
    OSM__FORM_TIMESTAMP,
    OSM__FORM_WRAPPER,
    OSM__FORM_STRUCT,
    OSM__FORM_VALUE,
    OSM__FORM_LIST
};
static inline const struct envoy_api_message *
osm__proto_row(const ProtobufCMessageDescriptor *descriptor)
{
    return descriptor->reserved1; /* proto/envoy_api.py --attach put it there */
}
static inline const struct envoy_api_rules *
osm__proto_rules(const ProtobufCMessageDescriptor *descriptor)
{
    return osm__proto_row(descriptor)->rules;
}
enum osm__proto_form osm__proto_form(const ProtobufCMessageDescriptor *descriptor);
/** The field, NULL where there is none. @p name needs no NUL behind it. */
const ProtobufCFieldDescriptor *osm__proto_field(const ProtobufCMessageDescriptor *descriptor,
                                                 const char *name, size_t len);
/** The value, of aliases the first; NULL where there is none. (protobuf-c's own search misses
 * INT32_MAX.) */
const ProtobufCEnumValue *osm__proto_enum_value(const ProtobufCEnumDescriptor *descriptor,
                                                int value);
/** A map field's entry type; NULL: not a map. */
const ProtobufCMessageDescriptor *osm__proto_map_entry(const ProtobufCFieldDescriptor *field);
enum osm_wire_type osm__proto_wire_type(ProtobufCType type);
/** The name in the list that is nearest to @p name by edits; NULL where none comes near. */
const char *osm__proto_nearest_field(const ProtobufCMessageDescriptor *descriptor,
                                     const char *name);
const char *osm__proto_nearest_value(const ProtobufCEnumDescriptor *descriptor, const char *name);

/* A duration or timestamp as the API's text, e.g. "1.5s". */
struct osm__proto_time {
    int64_t seconds;
    int32_t nanos;
};
enum { OSM__PROTO_TIME_SIZE = 48 };
/** false: not in that form or out of its range. */
bool osm__proto_parse_duration(const char *text, size_t len, struct osm__proto_time *out);
bool osm__proto_parse_timestamp(const char *text, size_t len, struct osm__proto_time *out);
bool osm__proto_print_duration(struct osm__proto_time time, char out[OSM__PROTO_TIME_SIZE]);
bool osm__proto_print_timestamp(struct osm__proto_time time, char out[OSM__PROTO_TIME_SIZE]);

/* A value of a source. Strings are borrowed from the source and stay while it does. */
struct osm__proto_value {
    enum {
        OSM__VALUE_NONE, /* nil, null */
        OSM__VALUE_BOOL,
        OSM__VALUE_INT,
        OSM__VALUE_DOUBLE,
        OSM__VALUE_STRING,
        OSM__VALUE_MAP,   /* JSON object */
        OSM__VALUE_LIST,  /* JSON array */
        OSM__VALUE_TABLE, /* Lua: either */
        OSM__VALUE_OTHER
    } type;
    const char *type_name; /* "table", for messages */
    bool b;
    int64_t i;
    double d;
    const char *s;
    size_t len;
    union {
        int index; /* Lua stack */
        const json_t *json;
    } at; /* table, map, list */
};

typedef int osm__proto_entry_fn(void *ud, const struct osm__proto_value *key,
                                const struct osm__proto_value *value);

/* Where values come from: a Lua stack or a JSON tree. What entries() and item() hand out stays
 * until release(). */
struct osm__proto_source {
    void *ctx;
    int (*mark)(void *ctx);
    void (*release)(void *ctx, int mark);
    /** Calls @p fn for each key of a map or table, in no order. Errors: OSM_ELIMIT (stack); those
     * of fn. */
    int (*entries)(void *ctx, const struct osm__proto_value *table, osm__proto_entry_fn *fn,
                   void *ud);
    /** Elements of a list; -1: not a list (keys that are not 1..n); -2: a list with holes. */
    long (*length)(void *ctx, const struct osm__proto_value *table);
    int (*item)(void *ctx, const struct osm__proto_value *table, long index,
                struct osm__proto_value *out);
};

/** Errors: as osm_proto_encode_lua. */
OSM_MUST_USE int osm__proto_encode(const struct osm__proto_source *source,
                                   const struct osm__proto_value *value,
                                   const ProtobufCMessageDescriptor *descriptor,
                                   enum osm_proto_rules rules, struct osm_buf *out,
                                   osm_proto_ref_fn *on_ref, void *ud, struct osm_err *err);

enum { OSM__PROTO_DEPTH = 64 };
