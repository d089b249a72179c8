/* The encoder: walks a value by a message's descriptor and writes the wire format. Fields come out
 * in the order of their numbers and maps in the order of their keys, so equal values give equal
 * bytes, whatever the order of the table. */
#include "policy/encode/proto_encode_priv.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void print_path(struct osm_buf *path, const struct osm__proto_node *node)
{
    if (!node)
        return;
    print_path(path, node->up);
    if (node->field)
        (void)osm_buf_addf(path, "%s%.*s", path->len ? "." : "", node->field_len, node->field);
    if (node->key && node->key->type == OSM__VALUE_STRING)
        (void)osm_buf_addf(path, "[\"%.*s\"]", (int)(node->key->len > 128 ? 128 : node->key->len),
                           node->key->s);
    else if (node->key)
        (void)osm_buf_addf(path, "[%" PRId64 "]", node->key->i);
    else if (node->index >= 0)
        (void)osm_buf_addf(path, "[%ld]", node->index);
}

void osm__proto_refuse_text(struct osm__proto_encoder *e, const struct osm__proto_node *node,
                            int code, const char *fmt, ...)
{
    char what[320];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    struct osm_buf path = OSM_BUF_INIT(4096);
    print_path(&path, node);
    if (path.len)
        (void)osm_fail(e->err, code, "%s: %s", path.data, what);
    else
        (void)osm_fail(e->err, code, "%s", what);
    osm_buf_clear(&path);
}

bool osm__proto_is_table(const struct osm__proto_value *v)
{
    return v->type == OSM__VALUE_MAP || v->type == OSM__VALUE_LIST || v->type == OSM__VALUE_TABLE;
}

void osm__proto_truncate_to(struct osm_buf *out, size_t len)
{
    if (out->failed || out->len == len)
        return;
    out->len = len;
    out->data[len] = '\0';
}

bool osm__proto_has_text(const struct osm__proto_value *v, const char *text)
{
    return v->type == OSM__VALUE_STRING && v->len == strlen(text) && !memcmp(v->s, text, v->len);
}

/* ---- entries of a table ---- */

static int add_entry(void *ud, const struct osm__proto_value *key,
                     const struct osm__proto_value *value)
{
    struct osm__proto_encoder *e = ud;
    if (e->entries_len == e->entries_cap) {
        size_t cap = e->entries_cap * 2;
        bool is_first = e->entries == e->first;
        struct osm__proto_entry *grown =
            osm_realloc_array(is_first ? NULL : e->entries, cap, sizeof *grown);
        if (!grown)
            return OSM_ENOMEM;
        if (is_first)
            memcpy(grown, e->first, e->entries_len * sizeof *grown);
        e->entries = grown;
        e->entries_cap = cap;
    }
    e->entries[e->entries_len++] = (struct osm__proto_entry){*key, *value, NULL};
    return 0;
}

int osm__proto_read_entries(struct osm__proto_encoder *e, const struct osm__proto_node *node,
                            const struct osm__proto_value *table)
{
    int rc = e->source->entries(e->source->ctx, table, add_entry, e);
    if (rc == OSM_ELIMIT)
        return osm__proto_refuse(e, node, rc, "too deep or too many tables");
    return rc ? osm__proto_refuse(e, node, rc, "%s", osm_code_text(rc)) : 0;
}

/* ---- fields ---- */

int osm__proto_encode_nested(struct osm__proto_encoder *e, struct osm__proto_node *node,
                             uint32_t id, const struct osm__proto_value *v,
                             const ProtobufCMessageDescriptor *message, bool skip_type)
{
    size_t mark = osm_wire_open(e->out, id);
    int rc = osm__proto_encode_message(e, node, v, message, skip_type);
    if (!rc)
        osm_wire_close(e->out, mark);
    return rc;
}

static int list_length(struct osm__proto_encoder *e, const struct osm__proto_node *node,
                       const struct osm__proto_value *v, long *out)
{
    if (!osm__proto_is_table(v))
        return osm__proto_expected(e, node, v, "a list");
    long n = e->source->length(e->source->ctx, v);
    if (n < 0)
        return osm__proto_refuse(e, node, OSM_EINVAL,
                                 n == -1 ? "expected a list, got a table with named keys"
                                         : "expected a list without holes");
    *out = n;
    return 0;
}

static int read_item(struct osm__proto_encoder *e, const struct osm__proto_node *node,
                     const struct osm__proto_value *list, long index, struct osm__proto_value *out)
{
    int rc = e->source->item(e->source->ctx, list, index, out);
    return rc ? osm__proto_refuse(e, node, rc, "too deep") : 0;
}

int osm__proto_encode_list(struct osm__proto_encoder *e, struct osm__proto_node *node,
                           const ProtobufCFieldDescriptor *f, const struct osm__proto_value *v)
{
    long n;
    const struct envoy_api_check *checks = node->checks;
    int rc = list_length(e, node, v, &n);
    if (!rc)
        rc = osm__proto_check_count(e, node, (size_t)n);
    if (rc || !n)
        return rc;
    node->checks = osm__proto_checks_below(checks, ENVOY_API_ITEMS);
    bool packed = f->flags & PROTOBUF_C_FIELD_FLAG_PACKED;
    size_t mark = packed ? osm_wire_open(e->out, f->id) : 0;
    for (long i = 0; i < n && !rc; i++) {
        int level = e->source->mark(e->source->ctx);
        struct osm__proto_value item;
        uint64_t bits = 0;
        node->index = i;
        rc = read_item(e, node, v, i, &item);
        if (!rc && packed) {
            rc = osm__proto_read_bits(e, node, f, &item, &bits);
            if (!rc)
                rc = osm__proto_check_number(e, node, f, bits);
            if (!rc)
                osm__proto_put_bits(e->out, f->type, bits);
        } else if (!rc && f->type == PROTOBUF_C_TYPE_MESSAGE) {
            rc = osm__proto_encode_nested(e, node, f->id, &item, f->descriptor, false);
        } else if (!rc) {
            rc = osm__proto_encode_scalar(e, node, f, &item, false);
        }
        e->source->release(e->source->ctx, level);
    }
    if (!rc && packed)
        osm_wire_close(e->out, mark);
    if (!rc)
        node->index = -1;
    if (!rc && osm__proto_has_check(checks, ENVOY_API_UNIQUE))
        rc = osm__proto_check_unique(e, node, f, v, (size_t)n);
    return rc;
}

/* null is absent, but for a field of plain data it is one of the values. */
static bool null_is_a_value(const ProtobufCFieldDescriptor *f)
{
    return f->type == PROTOBUF_C_TYPE_MESSAGE && f->label != PROTOBUF_C_LABEL_REPEATED &&
           osm__proto_form(f->descriptor) == OSM__FORM_VALUE;
}

static int by_key(const void *a, const void *b)
{
    const struct osm__proto_value *x = &((const struct osm__proto_entry *)a)->key,
                                  *y = &((const struct osm__proto_entry *)b)->key;
    if (x->type != OSM__VALUE_STRING)
        return (x->i > y->i) - (x->i < y->i);
    size_t n = x->len < y->len ? x->len : y->len;
    int order = n ? memcmp(x->s, y->s, n) : 0;
    return order ? order : (x->len > y->len) - (x->len < y->len);
}

/* Numbers and booleans as keys may be written as text; the wire wants the number. */
static int normalise_key(struct osm__proto_encoder *e, struct osm__proto_node *node,
                         const ProtobufCFieldDescriptor *f, struct osm__proto_value *key)
{
    uint64_t bits = 0;
    int rc;
    if (f->type == PROTOBUF_C_TYPE_STRING && key->type != OSM__VALUE_STRING)
        return osm__proto_refuse(e, node, OSM_EINVAL, "expected string keys, got a %s key",
                                 key->type_name);
    if (f->type == PROTOBUF_C_TYPE_STRING) /* JSON could not show it */
        return memchr(key->s, 0, key->len)
                   ? osm__proto_refuse(e, node, OSM_EINVAL, "a key holds a zero byte")
                   : 0;
    if (f->type == PROTOBUF_C_TYPE_BOOL && key->type == OSM__VALUE_STRING &&
        (osm__proto_has_text(key, "true") || osm__proto_has_text(key, "false"))) {
        key->b = key->len == 4;
        key->type = OSM__VALUE_BOOL;
    }
    if (f->type == PROTOBUF_C_TYPE_BOOL && key->type == OSM__VALUE_BOOL) {
        key->i = key->b;
        return 0;
    }
    if (key->type == OSM__VALUE_STRING &&
        osm__proto_parse_decimal(key->s, key->len, osm__proto_range_of(f->type), &bits)) {
        key->type = OSM__VALUE_INT;
        key->i = (int64_t)bits;
        return 0;
    }
    rc = osm__proto_read_int(e, node, f->type, key, &bits);
    key->type = OSM__VALUE_INT;
    key->i = (int64_t)bits;
    return rc;
}

int osm__proto_encode_map(struct osm__proto_encoder *e, struct osm__proto_node *node,
                          const ProtobufCFieldDescriptor *f,
                          const ProtobufCMessageDescriptor *entry, const struct osm__proto_value *v)
{
    const ProtobufCFieldDescriptor *key_field = &entry->fields[0], *value_field = &entry->fields[1];
    if (v->type != OSM__VALUE_MAP && v->type != OSM__VALUE_TABLE)
        return osm__proto_expected(e, node, v, "a map");
    int level = e->source->mark(e->source->ctx);
    size_t base = e->entries_len, given = 0;
    const struct envoy_api_check *checks = node->checks;
    int rc = osm__proto_read_entries(e, node, v);
    for (size_t i = base; checks && i < e->entries_len; i++)
        given += e->entries[i].value.type != OSM__VALUE_NONE || null_is_a_value(value_field);
    if (!rc)
        rc = osm__proto_check_count(e, node, given);
    for (size_t i = base; !rc && i < e->entries_len; i++)
        rc = normalise_key(e, node, key_field, &e->entries[i].key);
    size_t n = e->entries_len - base;
    if (!rc && n)
        qsort(e->entries + base, n, sizeof *e->entries, by_key);
    for (size_t i = base; !rc && i < base + n; i++) {
        struct osm__proto_entry at = e->entries[i]; /* the array may move below */
        if (i > base && !by_key(&e->entries[i - 1], &at)) {
            rc = osm__proto_refuse(e, node, OSM_EINVAL, "a key is given twice");
            break;
        }
        if (at.value.type == OSM__VALUE_NONE && !null_is_a_value(value_field))
            continue;
        node->key = &at.key;
        node->checks = osm__proto_checks_below(checks, ENVOY_API_KEYS);
        size_t mark = osm_wire_open(e->out, f->id);
        rc = osm__proto_encode_scalar(e, node, key_field, &at.key, false);
        node->checks = osm__proto_checks_below(checks, ENVOY_API_VALUES);
        if (!rc && value_field->type == PROTOBUF_C_TYPE_MESSAGE)
            rc = osm__proto_encode_nested(e, node, value_field->id, &at.value,
                                          value_field->descriptor, false);
        else if (!rc)
            rc = osm__proto_encode_scalar(e, node, value_field, &at.value, false);
        if (!rc) {
            osm_wire_close(e->out, mark);
            node->key = NULL;
        } else {
            break; /* the path of the error has been printed: at.key may go */
        }
    }
    node->key = NULL;
    e->entries_len = base;
    e->source->release(e->source->ctx, level);
    return rc;
}

static int encode_field(struct osm__proto_encoder *e, struct osm__proto_node *node,
                        const ProtobufCFieldDescriptor *f, const struct osm__proto_value *v)
{
    const struct envoy_api_rules *rules = e->checked ? osm__proto_rules(node->message) : NULL;
    node->field = f->name;
    node->field_len = (int)strlen(f->name);
    node->checks = rules ? rules->of_field[f - node->message->fields] : NULL;
    if (f->label == PROTOBUF_C_LABEL_REPEATED) {
        const ProtobufCMessageDescriptor *entry = osm__proto_map_entry(f);
        return entry ? osm__proto_encode_map(e, node, f, entry, v)
                     : osm__proto_encode_list(e, node, f, v);
    }
    if (f->type == PROTOBUF_C_TYPE_MESSAGE) {
        bool outer = e->checked;
        e->checked = outer && !osm__proto_has_check(node->checks, ENVOY_API_SKIP);
        int rc = osm__proto_encode_nested(e, node, f->id, v, f->descriptor, false);
        e->checked = outer;
        return rc;
    }
    return osm__proto_encode_scalar(e, node, f, v,
                                    f->label == PROTOBUF_C_LABEL_NONE &&
                                        !(f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF));
}

static int unknown_field(struct osm__proto_encoder *e, struct osm__proto_node *node,
                         const struct osm__proto_value *key)
{
    if (key->type != OSM__VALUE_STRING)
        return osm__proto_refuse(e, node, OSM_EINVAL, "expected a table of fields (%s), got a list",
                                 node->message->name);
    const char *near = osm__proto_nearest_field(node->message, key->s);
    node->field = key->s;
    node->field_len = (int)(key->len > 80 ? 80 : key->len);
    return osm__proto_refuse(e, node, OSM_EINVAL, "no such field in %s%s%s%s", node->message->name,
                             near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
}

static int by_field(const void *a, const void *b)
{
    const ProtobufCFieldDescriptor *x = ((const struct osm__proto_entry *)a)->field,
                                   *y = ((const struct osm__proto_entry *)b)->field;
    return (x > y) - (x < y); /* an array sorted by number */
}

/* Finds the field of each entry from @p base on and sorts them; null and what @p skip_type skips is
 * dropped. */
static int match_fields(struct osm__proto_encoder *e, struct osm__proto_node *node, size_t base,
                        bool skip_type)
{
    size_t kept = base;
    for (size_t i = base; i < e->entries_len; i++) {
        struct osm__proto_entry *at = &e->entries[i];
        if (skip_type && osm__proto_has_text(&at->key, "@type"))
            continue;
        at->field = at->key.type == OSM__VALUE_STRING
                        ? osm__proto_field(node->message, at->key.s, at->key.len)
                        : NULL;
        if (!at->field)
            return unknown_field(e, node, &at->key);
        if (at->value.type != OSM__VALUE_NONE || null_is_a_value(at->field))
            e->entries[kept++] = *at;
    }
    e->entries_len = kept;
    if (kept > base)
        qsort(e->entries + base, kept - base, sizeof *e->entries, by_field);
    for (size_t i = base; i < kept; i++)
        for (size_t k = i + 1; k < kept && e->entries[i].field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF;
             k++)
            if (e->entries[k].field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF &&
                e->entries[k].field->quantifier_offset == e->entries[i].field->quantifier_offset)
                return osm__proto_refuse(e, node, OSM_EINVAL,
                                         "only one of \"%s\" and \"%s\" may be set",
                                         e->entries[i].field->name, e->entries[k].field->name);
    return 0;
}

static int encode_fields(struct osm__proto_encoder *e, struct osm__proto_node *node,
                         const struct osm__proto_value *v, bool skip_type)
{
    if (v->type != OSM__VALUE_MAP && v->type != OSM__VALUE_TABLE)
        return osm__proto_refuse(e, node, OSM_EINVAL, "expected a table (%s), got %s",
                                 node->message->name, v->type_name);
    int level = e->source->mark(e->source->ctx);
    size_t base = e->entries_len;
    int rc = osm__proto_read_entries(e, node, v);
    if (!rc)
        rc = match_fields(e, node, base, skip_type);
    size_t end = e->entries_len;
    for (size_t i = base; !rc && i < end; i++) {
        struct osm__proto_entry at = e->entries[i];
        rc = encode_field(e, node, at.field, &at.value);
    }
    if (!rc)
        rc = osm__proto_check_complete(e, node, base);
    if (!rc)
        osm__proto_note_message(e, node);
    e->entries_len = base;
    e->source->release(e->source->ctx, level);
    return rc;
}

/* The content of a message, without tag and length. */
int osm__proto_encode_message(struct osm__proto_encoder *e, struct osm__proto_node *up,
                              const struct osm__proto_value *v,
                              const ProtobufCMessageDescriptor *message, bool skip_type)
{
    struct osm__proto_node node = {.up = up, .message = message, .index = -1};
    int depth = 0;
    for (const struct osm__proto_node *n = up; n; n = n->up)
        depth++;
    if (depth >= OSM__PROTO_DEPTH)
        return osm__proto_refuse(e, up, OSM_ELIMIT, "more than %d messages deep", OSM__PROTO_DEPTH);
    int rc;
    switch (osm__proto_form(message)) {
    case OSM__FORM_ANY:
        rc = osm__proto_encode_any(e, &node, v);
        break;
    case OSM__FORM_DURATION:
        rc = osm__proto_encode_time(e, &node, v, true);
        break;
    case OSM__FORM_TIMESTAMP:
        rc = osm__proto_encode_time(e, &node, v, false);
        break;
    case OSM__FORM_WRAPPER:
    case OSM__FORM_STRUCT:
    case OSM__FORM_LIST:
        rc = osm__proto_encode_only_field(e, &node, v);
        break;
    case OSM__FORM_VALUE:
        rc = osm__proto_encode_value(e, &node, v);
        break;
    default:
        rc = encode_fields(e, &node, v, skip_type);
        break;
    }
    if (!rc && e->out->failed)
        rc = osm__proto_refuse(e, up, e->out->failed, "%s (at most %zu bytes)",
                               osm_code_text(e->out->failed), e->out->max);
    return rc;
}

int osm__proto_encode(const struct osm__proto_source *source, const struct osm__proto_value *value,
                      const ProtobufCMessageDescriptor *descriptor, enum osm_proto_rules rules,
                      struct osm_buf *out, osm_proto_ref_fn *on_ref, void *ud, struct osm_err *err)
{
    struct osm__proto_encoder e; /* its entries need no value yet */
    e.source = source;
    e.out = out;
    e.on_ref = on_ref;
    e.ud = ud;
    e.err = err;
    e.entries = e.first;
    e.entries_len = 0;
    e.entries_cap = OSM__PROTO_FIRST_ENTRIES;
    e.checked = rules == OSM_PROTO_RULES_HOLD;
    size_t start = out->len;
    int rc = osm__proto_encode_message(&e, NULL, value, descriptor, false);
    if (rc)
        osm__proto_truncate_to(out, start);
    if (e.entries != e.first)
        osm_free(e.entries);
    return rc;
}
