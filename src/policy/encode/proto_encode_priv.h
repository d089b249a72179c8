/* Shared by the files of the encoder. What is known of the message under way hangs in a chain of
 * nodes on the C stack; errors print it as the path. */
#pragma once

#include "policy/encode/proto_priv.h"

/* A key of a table and its value; field is NULL in a map. */
struct osm__proto_entry {
    struct osm__proto_value key, value;
    const ProtobufCFieldDescriptor *field;
};

/* A message being written, and where in it we are. */
struct osm__proto_node {
    struct osm__proto_node *up;
    const ProtobufCMessageDescriptor *message;
    const char *field; /* NULL: before the first */
    int field_len;
    long index;                           /* of a list's element; -1 */
    const struct osm__proto_value *key;   /* of a map's entry; NULL */
    const struct envoy_api_check *checks; /* of the value being written; NULL: none */
    /* What the message says about others, told when it is complete. */
    const char *name, *eds_name;
    bool is_eds, is_ads;
};

enum { OSM__PROTO_FIRST_ENTRIES = 48 };

struct osm__proto_encoder {
    const struct osm__proto_source *source;
    struct osm_buf *out;
    osm_proto_ref_fn *on_ref;
    void *ud;
    struct osm_err *err;
    bool checked; /* the rules of the API hold */
    struct osm__proto_entry
        *entries; /* a stack: each level of the walk uses the part above its caller's */
    size_t entries_len, entries_cap;
    struct osm__proto_entry first[OSM__PROTO_FIRST_ENTRIES]; /* what it starts with */
};

struct osm__proto_range {
    const char *text; /* "an integer from 0 to 4294967295" */
    int64_t low;
    uint64_t high;
};

/* Every function that takes an encoder returns 0 or an error that has been described in e->err. */

/** Describes an error, with the path to @p node in front. The macro shows its value to readers and
 * analysers alike. */
void osm__proto_refuse_text(struct osm__proto_encoder *e, const struct osm__proto_node *node,
                            int code, const char *fmt, ...) __attribute__((format(printf, 4, 5)));
#define osm__proto_refuse(e, node, code, ...)                                                      \
    (osm__proto_refuse_text((e), (node), (code), __VA_ARGS__), (code))
/** "expected <what>, got <type>" */
#define osm__proto_expected(e, node, got, what)                                                    \
    osm__proto_refuse((e), (node), OSM_EINVAL, "expected %s, got %s", (what), (got)->type_name)
bool osm__proto_is_table(const struct osm__proto_value *v);
bool osm__proto_has_text(const struct osm__proto_value *v, const char *text);
void osm__proto_truncate_to(struct osm_buf *out, size_t len);
/** Pushes the table's entries on e->entries. */
int osm__proto_read_entries(struct osm__proto_encoder *e, const struct osm__proto_node *node,
                            const struct osm__proto_value *table);

/* proto_scalar.c */
const struct osm__proto_range *osm__proto_range_of(ProtobufCType type);
/** A decimal text, as JSON carries 64-bit integers; false: none, or out of range. */
bool osm__proto_parse_decimal(const char *s, size_t len, const struct osm__proto_range *range,
                              uint64_t *out);
/** The value as the two's complement of its type. */
int osm__proto_read_int(struct osm__proto_encoder *e, const struct osm__proto_node *node,
                        ProtobufCType type, const struct osm__proto_value *v, uint64_t *out);
/** The bits of a number, bool or enum as they stand on the wire, before their varint; put_bits
 * writes them without a tag. */
int osm__proto_read_bits(struct osm__proto_encoder *e, const struct osm__proto_node *node,
                         const ProtobufCFieldDescriptor *f, const struct osm__proto_value *v,
                         uint64_t *bits);
void osm__proto_put_bits(struct osm_buf *out, ProtobufCType type, uint64_t bits);
/** Writes a scalar with its tag; with @p plain, nothing where it has its type's default. */
int osm__proto_encode_scalar(struct osm__proto_encoder *e, struct osm__proto_node *node,
                             const ProtobufCFieldDescriptor *f, const struct osm__proto_value *v,
                             bool plain);

/* proto_encode.c */
/** The content of a message, without tag and length. @p skip_type: "@type" is no field. */
int osm__proto_encode_message(struct osm__proto_encoder *e, struct osm__proto_node *up,
                              const struct osm__proto_value *v,
                              const ProtobufCMessageDescriptor *message, bool skip_type);
/** The same with tag and length. */
int osm__proto_encode_nested(struct osm__proto_encoder *e, struct osm__proto_node *node,
                             uint32_t id, const struct osm__proto_value *v,
                             const ProtobufCMessageDescriptor *message, bool skip_type);
int osm__proto_encode_list(struct osm__proto_encoder *e, struct osm__proto_node *node,
                           const ProtobufCFieldDescriptor *f, const struct osm__proto_value *v);
int osm__proto_encode_map(struct osm__proto_encoder *e, struct osm__proto_node *node,
                          const ProtobufCFieldDescriptor *f,
                          const ProtobufCMessageDescriptor *entry,
                          const struct osm__proto_value *v);

/* proto_form.c: the content of messages with a form of their own */
int osm__proto_encode_any(struct osm__proto_encoder *e, struct osm__proto_node *node,
                          const struct osm__proto_value *v);
int osm__proto_encode_time(struct osm__proto_encoder *e, struct osm__proto_node *node,
                           const struct osm__proto_value *v, bool duration);
/** A wrapper, Struct or ListValue: the one field of the message takes the value itself. */
int osm__proto_encode_only_field(struct osm__proto_encoder *e, struct osm__proto_node *node,
                                 const struct osm__proto_value *v);
int osm__proto_encode_value(struct osm__proto_encoder *e, struct osm__proto_node *node,
                            const struct osm__proto_value *v);

/* proto_rules.c: the rules of the API; all of them do nothing where node->checks is NULL */
int osm__proto_check_number(struct osm__proto_encoder *e, const struct osm__proto_node *node,
                            const ProtobufCFieldDescriptor *f, uint64_t bits);
int osm__proto_check_text(struct osm__proto_encoder *e, const struct osm__proto_node *node,
                          const char *s, size_t len);
int osm__proto_check_duration(struct osm__proto_encoder *e, const struct osm__proto_node *node,
                              struct osm__proto_time time);
/** Of a list or map. */
int osm__proto_check_count(struct osm__proto_encoder *e, const struct osm__proto_node *node,
                           size_t n);
/** Two equal items of the list, whose items have been encoded: an error of the later. */
int osm__proto_check_unique(struct osm__proto_encoder *e, struct osm__proto_node *node,
                            const ProtobufCFieldDescriptor *f, const struct osm__proto_value *list,
                            size_t n);
/** What is left out: looks at the message's entries, from @p base on, sorted by field. */
int osm__proto_check_complete(struct osm__proto_encoder *e, struct osm__proto_node *node,
                              size_t base);
/** Of items, keys or values; NULL: none. */
const struct envoy_api_check *osm__proto_checks_below(const struct envoy_api_check *checks,
                                                      enum envoy_api_check_kind kind);
bool osm__proto_has_check(const struct envoy_api_check *checks, enum envoy_api_check_kind kind);

/* proto_refs.c: notes what may be a reference, and tells it */
void osm__proto_note_name(struct osm__proto_encoder *e, struct osm__proto_node *node,
                          const ProtobufCFieldDescriptor *f, const char *text);
void osm__proto_note_number(struct osm__proto_node *node, const ProtobufCFieldDescriptor *f,
                            uint64_t bits);
void osm__proto_note_message(struct osm__proto_encoder *e, struct osm__proto_node *node);
