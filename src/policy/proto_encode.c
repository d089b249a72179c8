/* The encoder: walks a value by a message's descriptor and writes the wire format. Fields come out
 * in the order of their numbers and maps in the order of their keys, so equal values give equal
 * bytes, whatever the order of the table.
 *
 * What is known of the message under way hangs in a chain of `struct node` on the C stack; errors
 * print it as the path. */
#include "policy/proto_priv.h"
#include "xds/wire.h"

#include "envoy/config/cluster/v3/cluster.pb-c.h"

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A key of a table and its value; field is NULL in a map. */
struct entry {
    struct osm__proto_value key, value;
    const ProtobufCFieldDescriptor *field;
};

/* A message being written, and where in it we are. */
struct node {
    struct node *up;
    const ProtobufCMessageDescriptor *message;
    const char *field; /* NULL: before the first */
    int field_len;
    long index;                         /* of a list's element; -1 */
    const struct osm__proto_value *key; /* of a map's entry; NULL */
    /* What the message says about others, told when it is complete. */
    const char *name, *eds_name;
    bool is_eds, is_ads;
};

struct encoder {
    const struct osm__proto_source *source;
    struct osm_buf *out;
    osm_proto_ref_fn *on_ref;
    void *ud;
    struct osm_err *err;
    struct entry *entries; /* a stack: each level of the walk uses the part above its caller's */
    size_t entries_len, entries_cap;
};

static int encode_message(struct encoder *e, struct node *up, const struct osm__proto_value *value,
                          const ProtobufCMessageDescriptor *message, bool skip_type);

static void print_path(struct osm_buf *path, const struct node *node)
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

static int refuse(struct encoder *e, const struct node *node, int code, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
static int refuse(struct encoder *e, const struct node *node, int code, const char *fmt, ...)
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
    return code;
}

static int expected(struct encoder *e, const struct node *node, const struct osm__proto_value *got,
                    const char *what)
{
    return refuse(e, node, OSM_EINVAL, "expected %s, got %s", what, got->type_name);
}

static bool is_table(const struct osm__proto_value *v)
{
    return v->type == OSM__VALUE_MAP || v->type == OSM__VALUE_LIST || v->type == OSM__VALUE_TABLE;
}

static void truncate_to(struct osm_buf *out, size_t len)
{
    if (out->failed || out->len == len)
        return;
    out->len = len;
    out->data[len] = '\0';
}

static bool has_text(const struct osm__proto_value *v, const char *text)
{
    return v->type == OSM__VALUE_STRING && v->len == strlen(text) && !memcmp(v->s, text, v->len);
}

/* ---- entries of a table ---- */

static int add_entry(void *ud, const struct osm__proto_value *key,
                     const struct osm__proto_value *value)
{
    struct encoder *e = ud;
    if (e->entries_len == e->entries_cap) {
        size_t cap = e->entries_cap ? e->entries_cap * 2 : 64;
        struct entry *grown = osm_realloc_array(e->entries, cap, sizeof *grown);
        if (!grown)
            return OSM_ENOMEM;
        e->entries = grown;
        e->entries_cap = cap;
    }
    e->entries[e->entries_len++] = (struct entry){*key, *value, NULL};
    return 0;
}

static int read_entries(struct encoder *e, const struct node *node,
                        const struct osm__proto_value *table)
{
    int rc = e->source->entries(e->source->ctx, table, add_entry, e);
    if (rc == OSM_ELIMIT)
        return refuse(e, node, rc, "too deep or too many tables");
    return rc ? refuse(e, node, rc, "%s", osm_code_text(rc)) : 0;
}

/* ---- numbers ---- */

struct int_range {
    const char *text;
    int64_t low;
    uint64_t high;
};

static const struct int_range *range_of(ProtobufCType type)
{
    static const struct int_range i32 = {"an integer from -2147483648 to 2147483647", INT32_MIN,
                                         INT32_MAX},
                                  u32 = {"an integer from 0 to 4294967295", 0, UINT32_MAX},
                                  i64 = {"a 64-bit integer", INT64_MIN, INT64_MAX},
                                  u64 = {"an unsigned 64-bit integer", 0, UINT64_MAX};
    switch (type) {
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
        return &u32;
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
        return &i64;
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
        return &u64;
    default:
        return &i32;
    }
}

/* A decimal text, as JSON carries 64-bit integers. */
static bool parse_decimal(const char *s, size_t len, const struct int_range *range, uint64_t *out)
{
    bool negative = len && *s == '-';
    uint64_t value = 0, limit = negative ? (uint64_t)0 - (uint64_t)range->low : range->high;
    size_t i = negative;
    if (i == len)
        return false;
    for (; i < len; i++) {
        uint64_t digit = (uint64_t)(s[i] - '0');
        if (s[i] < '0' || s[i] > '9' || __builtin_mul_overflow(value, 10u, &value) ||
            __builtin_add_overflow(value, digit, &value))
            return false;
    }
    if (value > limit)
        return false;
    *out = negative ? (uint64_t)0 - value : value;
    return true;
}

/* The value as the two's complement of its type. */
static int read_int(struct encoder *e, const struct node *node, ProtobufCType type,
                    const struct osm__proto_value *v, uint64_t *out)
{
    const struct int_range *range = range_of(type);
    bool wide = range->high > UINT32_MAX;
    switch (v->type) {
    case OSM__VALUE_INT:
        if (v->i < range->low || (v->i > 0 && (uint64_t)v->i > range->high))
            return refuse(e, node, OSM_EINVAL, "expected %s, got %" PRId64, range->text, v->i);
        *out = (uint64_t)v->i;
        return 0;
    case OSM__VALUE_DOUBLE:
        /* 2^63 and 2^64 are exact doubles, their predecessors as integers are not. */
        if (!(floor(v->d) == v->d && v->d >= (double)range->low &&
              (wide ? v->d < (range->low ? 0x1p63 : 0x1p64) : v->d <= (double)range->high)))
            return refuse(e, node, OSM_EINVAL, "expected %s, got %.17g", range->text, v->d);
        *out = v->d < 0 ? (uint64_t)(int64_t)v->d : (uint64_t)v->d;
        return 0;
    case OSM__VALUE_STRING:
        if (wide && parse_decimal(v->s, v->len, range, out))
            return 0;
        break;
    default:
        break;
    }
    return expected(e, node, v, range->text);
}

static int read_enum(struct encoder *e, const struct node *node, const ProtobufCEnumDescriptor *d,
                     const struct osm__proto_value *v, uint64_t *out)
{
    if (v->type == OSM__VALUE_STRING) {
        const ProtobufCEnumValue *value =
            strlen(v->s) == v->len ? protobuf_c_enum_descriptor_get_value_by_name(d, v->s) : NULL;
        if (!value) {
            const char *near = osm__proto_nearest_value(d, v->s);
            return refuse(e, node, OSM_EINVAL, "no value \"%.80s\" in %s%s%s%s", v->s, d->name,
                          near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
        }
        *out = (uint64_t)(int64_t)value->value;
        return 0;
    }
    if (v->type != OSM__VALUE_INT && v->type != OSM__VALUE_DOUBLE)
        return expected(e, node, v, "the name of an enum value");
    int rc = read_int(e, node, PROTOBUF_C_TYPE_INT32, v, out);
    if (!rc && !protobuf_c_enum_descriptor_get_value(d, (int)(int64_t)*out))
        return refuse(e, node, OSM_EINVAL, "no value %d in %s", (int)(int64_t)*out, d->name);
    return rc;
}

/* ---- scalars ---- */

static enum osm_wire_type wire_type(ProtobufCType type)
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

/* The bits of a number, bool or enum as they stand on the wire, before their varint. */
static int read_bits(struct encoder *e, const struct node *node, const ProtobufCFieldDescriptor *f,
                     const struct osm__proto_value *v, uint64_t *bits)
{
    int rc = 0;
    switch (f->type) {
    case PROTOBUF_C_TYPE_BOOL:
        if (v->type != OSM__VALUE_BOOL)
            return expected(e, node, v, "a boolean");
        *bits = v->b;
        return 0;
    case PROTOBUF_C_TYPE_ENUM:
        return read_enum(e, node, f->descriptor, v, bits);
    case PROTOBUF_C_TYPE_FLOAT:
    case PROTOBUF_C_TYPE_DOUBLE: {
        if (v->type != OSM__VALUE_INT && v->type != OSM__VALUE_DOUBLE)
            return expected(e, node, v, "a number");
        if (!isfinite(v->d) || (f->type == PROTOBUF_C_TYPE_FLOAT && fabs(v->d) > (double)FLT_MAX))
            return refuse(e, node, OSM_EINVAL, "expected a finite number, got %g", v->d);
        float narrow = (float)v->d;
        uint32_t bits32;
        memcpy(&bits32, &narrow, sizeof bits32);
        if (f->type == PROTOBUF_C_TYPE_FLOAT)
            *bits = bits32;
        else
            memcpy(bits, &v->d, sizeof *bits);
        return 0;
    }
    default:
        rc = read_int(e, node, f->type, v, bits);
        break;
    }
    if (!rc && f->type == PROTOBUF_C_TYPE_SINT32)
        *bits = (uint32_t)((uint32_t)*bits << 1) ^ (uint32_t)((int64_t)*bits < 0 ? UINT32_MAX : 0);
    else if (!rc && f->type == PROTOBUF_C_TYPE_SINT64)
        *bits = *bits << 1 ^ ((int64_t)*bits < 0 ? UINT64_MAX : 0);
    return rc;
}

static void put_bits(struct osm_buf *out, ProtobufCType type, uint64_t bits)
{
    switch (wire_type(type)) {
    case OSM_WIRE_32:
        osm_wire_put_fixed32(out, (uint32_t)bits);
        break;
    case OSM_WIRE_64:
        osm_wire_put_fixed64(out, bits);
        break;
    default:
        osm_wire_put_varint(out, bits);
        break;
    }
}

/* Bytes: a string as it is, or {base64 = "..."}, which is how bytes that are no text are printed.
 */
static int read_base64(struct encoder *e, const struct node *node, const struct osm__proto_value *v,
                       struct osm_buf *out)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t base = e->entries_len;
    int rc = read_entries(e, node, v);
    if (rc)
        return rc;
    bool good = e->entries_len == base + 1 && has_text(&e->entries[base].key, "base64") &&
                e->entries[base].value.type == OSM__VALUE_STRING;
    struct osm__proto_value text = good ? e->entries[base].value : *v;
    e->entries_len = base;
    if (!good)
        return expected(e, node, v, "bytes as a string or as {base64 = text}");
    uint32_t bits = 0;
    unsigned have = 0;
    size_t len = text.len;
    while (len && text.len - len < 2 && text.s[len - 1] == '=')
        len--;
    for (size_t i = 0; i < len; i++) {
        const char *digit = memchr(digits, text.s[i], sizeof digits - 1);
        if (!digit)
            return refuse(e, node, OSM_EINVAL, "not base64");
        bits = (bits << 6 | (uint32_t)(digit - digits)) & 0xffffff;
        have += 6;
        if (have >= 8) {
            have -= 8;
            (void)osm_buf_add_char(out, (char)(uint8_t)(bits >> have));
        }
    }
    return have < 6 ? 0 : refuse(e, node, OSM_EINVAL, "not base64");
}

static void note_name(struct encoder *e, struct node *node, const ProtobufCFieldDescriptor *f,
                      const char *text)
{
    static const struct {
        const char *message, *field;
        enum osm_ref_kind kind;
    } names[] = {
        {"envoy.config.route.v3.RouteAction", "cluster", OSM_REF_CLUSTER},
        {"envoy.config.route.v3.RouteAction.RequestMirrorPolicy", "cluster", OSM_REF_CLUSTER},
        {"envoy.config.route.v3.WeightedCluster.ClusterWeight", "name", OSM_REF_CLUSTER},
        {"envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", "cluster", OSM_REF_CLUSTER},
        {"envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.WeightedCluster.ClusterWeight",
         "name", OSM_REF_CLUSTER},
        {"envoy.extensions.filters.network.http_connection_manager.v3.Rds", "route_config_name",
         OSM_REF_ROUTE_CONFIG},
    };
    if (!strcmp(f->name, "name"))
        node->name = text;
    else if (!strcmp(f->name, "service_name") &&
             !strcmp(node->message->name, "envoy.config.cluster.v3.Cluster.EdsClusterConfig") &&
             node->up)
        node->up->eds_name = text;
    if (!e->on_ref || !*text)
        return;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(f->name, names[i].field) && !strcmp(node->message->name, names[i].message))
            e->on_ref(e->ud, names[i].kind, text);
}

/* A secret is asked of us only where its config source is ADS; a cluster's type stands behind its
 * name. */
static void note_message(struct encoder *e, struct node *node)
{
    const char *type = node->message->name;
    if (!e->on_ref)
        return;
    if (node->is_ads && node->name && *node->name &&
        !strcmp(type, "envoy.extensions.transport_sockets.tls.v3.SdsSecretConfig"))
        e->on_ref(e->ud, OSM_REF_SECRET, node->name);
    if (node->is_eds && !strcmp(type, "envoy.config.cluster.v3.Cluster"))
        e->on_ref(e->ud, OSM_REF_EDS,
                  node->eds_name && *node->eds_name ? node->eds_name
                  : node->name                      ? node->name
                                                    : "");
    if (!strcmp(type, "envoy.config.core.v3.AggregatedConfigSource") && node->up && node->up->up &&
        !strcmp(node->up->message->name, "envoy.config.core.v3.ConfigSource"))
        node->up->up->is_ads = true;
}

static void note_number(struct node *node, const ProtobufCFieldDescriptor *f, uint64_t bits)
{
    if (bits == ENVOY__CONFIG__CLUSTER__V3__CLUSTER__DISCOVERY_TYPE__EDS &&
        f->type == PROTOBUF_C_TYPE_ENUM && !strcmp(f->name, "type") &&
        !strcmp(node->message->name, "envoy.config.cluster.v3.Cluster"))
        node->is_eds = true;
}

/* Writes a scalar with its tag; with @p plain, nothing where it has its type's default. */
static int encode_scalar(struct encoder *e, struct node *node, const ProtobufCFieldDescriptor *f,
                         const struct osm__proto_value *v, bool plain)
{
    uint64_t bits;
    int rc;
    if (f->type == PROTOBUF_C_TYPE_BYTES && is_table(v)) {
        struct osm_buf bytes = OSM_BUF_INIT(e->out->max);
        rc = read_base64(e, node, v, &bytes);
        if (!rc && bytes.failed)
            rc = refuse(e, node, bytes.failed, "%s", osm_code_text(bytes.failed));
        if (!rc && !(plain && !bytes.len))
            osm_wire_put_bytes(e->out, f->id, bytes.data, bytes.len);
        osm_buf_clear(&bytes);
        return rc;
    }
    if (f->type == PROTOBUF_C_TYPE_STRING || f->type == PROTOBUF_C_TYPE_BYTES) {
        if (v->type != OSM__VALUE_STRING)
            return expected(e, node, v,
                            f->type == PROTOBUF_C_TYPE_STRING ? "a string" : "bytes as a string");
        if (f->type == PROTOBUF_C_TYPE_STRING && !osm__proto_utf8(v->s, v->len))
            return refuse(e, node, OSM_EINVAL, "expected a string, got bytes that are not UTF-8");
        if (!(plain && !v->len))
            osm_wire_put_bytes(e->out, f->id, v->s, v->len);
        if (f->type == PROTOBUF_C_TYPE_STRING)
            note_name(e, node, f, v->s);
        return 0;
    }
    rc = read_bits(e, node, f, v, &bits);
    if (rc)
        return rc;
    note_number(node, f, bits);
    if (plain && !bits)
        return 0;
    osm_wire_put_tag(e->out, f->id, wire_type(f->type));
    put_bits(e->out, f->type, bits);
    return 0;
}

/* ---- fields ---- */

static int encode_nested(struct encoder *e, struct node *node, uint32_t id,
                         const struct osm__proto_value *v,
                         const ProtobufCMessageDescriptor *message, bool skip_type)
{
    size_t mark = osm_wire_open(e->out, id);
    int rc = encode_message(e, node, v, message, skip_type);
    if (!rc)
        osm_wire_close(e->out, mark);
    return rc;
}

static int list_length(struct encoder *e, const struct node *node, const struct osm__proto_value *v,
                       long *out)
{
    if (!is_table(v))
        return expected(e, node, v, "a list");
    long n = e->source->length(e->source->ctx, v);
    if (n < 0)
        return refuse(e, node, OSM_EINVAL,
                      n == -1 ? "expected a list, got a table with named keys"
                              : "expected a list without holes");
    *out = n;
    return 0;
}

static int read_item(struct encoder *e, const struct node *node,
                     const struct osm__proto_value *list, long index, struct osm__proto_value *out)
{
    int rc = e->source->item(e->source->ctx, list, index, out);
    return rc ? refuse(e, node, rc, "too deep") : 0;
}

static int encode_list(struct encoder *e, struct node *node, const ProtobufCFieldDescriptor *f,
                       const struct osm__proto_value *v)
{
    long n;
    int rc = list_length(e, node, v, &n);
    if (rc || !n)
        return rc;
    bool packed = f->flags & PROTOBUF_C_FIELD_FLAG_PACKED;
    size_t mark = packed ? osm_wire_open(e->out, f->id) : 0;
    for (long i = 0; i < n && !rc; i++) {
        int level = e->source->mark(e->source->ctx);
        struct osm__proto_value item;
        uint64_t bits;
        node->index = i;
        rc = read_item(e, node, v, i, &item);
        if (!rc && packed) {
            rc = read_bits(e, node, f, &item, &bits);
            if (!rc)
                put_bits(e->out, f->type, bits);
        } else if (!rc && f->type == PROTOBUF_C_TYPE_MESSAGE) {
            rc = encode_nested(e, node, f->id, &item, f->descriptor, false);
        } else if (!rc) {
            rc = encode_scalar(e, node, f, &item, false);
        }
        e->source->release(e->source->ctx, level);
    }
    if (!rc && packed)
        osm_wire_close(e->out, mark);
    if (!rc)
        node->index = -1;
    return rc;
}

static int by_key(const void *a, const void *b)
{
    const struct osm__proto_value *x = &((const struct entry *)a)->key,
                                  *y = &((const struct entry *)b)->key;
    if (x->type != OSM__VALUE_STRING)
        return (x->i > y->i) - (x->i < y->i);
    size_t n = x->len < y->len ? x->len : y->len;
    int order = n ? memcmp(x->s, y->s, n) : 0;
    return order ? order : (x->len > y->len) - (x->len < y->len);
}

/* Numbers and booleans as keys may be written as text; the wire wants the number. */
static int normalise_key(struct encoder *e, struct node *node, const ProtobufCFieldDescriptor *f,
                         struct osm__proto_value *key)
{
    uint64_t bits;
    int rc;
    if (f->type == PROTOBUF_C_TYPE_STRING)
        return key->type == OSM__VALUE_STRING
                   ? 0
                   : refuse(e, node, OSM_EINVAL, "expected string keys, got a %s key",
                            key->type_name);
    if (f->type == PROTOBUF_C_TYPE_BOOL && key->type == OSM__VALUE_STRING &&
        (has_text(key, "true") || has_text(key, "false"))) {
        key->b = key->len == 4;
        key->type = OSM__VALUE_BOOL;
    }
    if (f->type == PROTOBUF_C_TYPE_BOOL && key->type == OSM__VALUE_BOOL) {
        key->i = key->b;
        return 0;
    }
    if (key->type == OSM__VALUE_STRING &&
        parse_decimal(key->s, key->len, range_of(f->type), &bits)) {
        key->type = OSM__VALUE_INT;
        key->i = (int64_t)bits;
        return 0;
    }
    rc = read_int(e, node, f->type, key, &bits);
    key->type = OSM__VALUE_INT;
    key->i = (int64_t)bits;
    return rc;
}

static int encode_map(struct encoder *e, struct node *node, const ProtobufCFieldDescriptor *f,
                      const ProtobufCMessageDescriptor *entry, const struct osm__proto_value *v)
{
    const ProtobufCFieldDescriptor *key_field = &entry->fields[0], *value_field = &entry->fields[1];
    if (v->type != OSM__VALUE_MAP && v->type != OSM__VALUE_TABLE)
        return expected(e, node, v, "a map");
    int level = e->source->mark(e->source->ctx);
    size_t base = e->entries_len;
    int rc = read_entries(e, node, v);
    for (size_t i = base; !rc && i < e->entries_len; i++)
        rc = normalise_key(e, node, key_field, &e->entries[i].key);
    size_t n = e->entries_len - base;
    if (!rc && n)
        qsort(e->entries + base, n, sizeof *e->entries, by_key);
    for (size_t i = base; !rc && i < base + n; i++) {
        struct entry at = e->entries[i]; /* the array may move below */
        if (i > base && !by_key(&e->entries[i - 1], &at)) {
            rc = refuse(e, node, OSM_EINVAL, "a key is given twice");
            break;
        }
        if (at.value.type == OSM__VALUE_NONE)
            continue;
        node->key = &at.key;
        size_t mark = osm_wire_open(e->out, f->id);
        rc = encode_scalar(e, node, key_field, &at.key, false);
        if (!rc && value_field->type == PROTOBUF_C_TYPE_MESSAGE)
            rc = encode_nested(e, node, value_field->id, &at.value, value_field->descriptor, false);
        else if (!rc)
            rc = encode_scalar(e, node, value_field, &at.value, false);
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

static int encode_field(struct encoder *e, struct node *node, const ProtobufCFieldDescriptor *f,
                        const struct osm__proto_value *v)
{
    node->field = f->name;
    node->field_len = (int)strlen(f->name);
    if (f->label == PROTOBUF_C_LABEL_REPEATED) {
        const ProtobufCMessageDescriptor *entry = osm__proto_map_entry(f);
        return entry ? encode_map(e, node, f, entry, v) : encode_list(e, node, f, v);
    }
    if (f->type == PROTOBUF_C_TYPE_MESSAGE)
        return encode_nested(e, node, f->id, v, f->descriptor, false);
    return encode_scalar(e, node, f, v,
                         f->label == PROTOBUF_C_LABEL_NONE &&
                             !(f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF));
}

static int unknown_field(struct encoder *e, struct node *node, const struct osm__proto_value *key)
{
    if (key->type != OSM__VALUE_STRING)
        return refuse(e, node, OSM_EINVAL, "expected a table of fields (%s), got a list",
                      node->message->name);
    const char *near = osm__proto_nearest_field(node->message, key->s);
    node->field = key->s;
    node->field_len = (int)(key->len > 80 ? 80 : key->len);
    return refuse(e, node, OSM_EINVAL, "no such field in %s%s%s%s", node->message->name,
                  near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
}

static int by_field(const void *a, const void *b)
{
    const ProtobufCFieldDescriptor *x = ((const struct entry *)a)->field,
                                   *y = ((const struct entry *)b)->field;
    return (x > y) - (x < y); /* an array sorted by number */
}

/* Finds the field of each entry from @p base on and sorts them; null and what @p skip_type skips is
 * dropped. */
static int match_fields(struct encoder *e, struct node *node, size_t base, bool skip_type)
{
    size_t kept = base;
    for (size_t i = base; i < e->entries_len; i++) {
        struct entry *at = &e->entries[i];
        if (skip_type && has_text(&at->key, "@type"))
            continue;
        at->field = at->key.type == OSM__VALUE_STRING
                        ? osm__proto_field(node->message, at->key.s, at->key.len)
                        : NULL;
        if (!at->field)
            return unknown_field(e, node, &at->key);
        bool is_value = at->field->type == PROTOBUF_C_TYPE_MESSAGE &&
                        at->field->label != PROTOBUF_C_LABEL_REPEATED &&
                        osm__proto_form(at->field->descriptor) == OSM__FORM_VALUE;
        if (at->value.type != OSM__VALUE_NONE || is_value)
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
                return refuse(e, node, OSM_EINVAL, "only one of \"%s\" and \"%s\" may be set",
                              e->entries[i].field->name, e->entries[k].field->name);
    return 0;
}

static int encode_fields(struct encoder *e, struct node *node, const struct osm__proto_value *v,
                         bool skip_type)
{
    if (v->type != OSM__VALUE_MAP && v->type != OSM__VALUE_TABLE)
        return refuse(e, node, OSM_EINVAL, "expected a table (%s), got %s", node->message->name,
                      v->type_name);
    int level = e->source->mark(e->source->ctx);
    size_t base = e->entries_len;
    int rc = read_entries(e, node, v);
    if (!rc)
        rc = match_fields(e, node, base, skip_type);
    for (size_t i = base, end = e->entries_len; !rc && i < end; i++) {
        struct entry at = e->entries[i];
        rc = encode_field(e, node, at.field, &at.value);
    }
    if (!rc)
        note_message(e, node);
    e->entries_len = base;
    e->source->release(e->source->ctx, level);
    return rc;
}

/* ---- messages with a form of their own ---- */

static int encode_any(struct encoder *e, struct node *node, const struct osm__proto_value *v)
{
    if (v->type != OSM__VALUE_MAP && v->type != OSM__VALUE_TABLE)
        return expected(e, node, v, "a table with \"@type\"");
    int level = e->source->mark(e->source->ctx);
    size_t base = e->entries_len;
    struct osm__proto_value type = {0}, content = {0};
    const ProtobufCMessageDescriptor *message = NULL;
    struct osm_buf url = OSM_BUF_INIT(1024);
    int rc = read_entries(e, node, v);
    if (rc || e->entries_len == base) /* {} is the empty Any */
        goto out;
    for (size_t i = base; i < e->entries_len; i++) {
        if (has_text(&e->entries[i].key, "@type"))
            type = e->entries[i].value;
        else if (has_text(&e->entries[i].key, "value"))
            content = e->entries[i].value;
    }
    node->field = "@type";
    node->field_len = 5;
    if (type.type != OSM__VALUE_STRING) {
        rc = refuse(e, node, OSM_EINVAL,
                    "expected the full name of a message, such as "
                    "\"envoy.config.cluster.v3.Cluster\", got %s",
                    type.type_name ? type.type_name : "nothing");
        goto out;
    }
    message = strlen(type.s) == type.len ? osm_proto_find(type.s) : NULL;
    if (!message) {
        rc = refuse(e, node, OSM_EINVAL, "no message \"%.200s\" is known", type.s);
        goto out;
    }
    (void)osm_buf_addf(&url, "type.googleapis.com/%s", message->name);
    if (url.failed) {
        rc = refuse(e, node, url.failed, "%s", osm_code_text(url.failed));
        goto out;
    }
    osm_wire_put_bytes(e->out, 1, url.data, url.len);
    node->field = NULL;
    size_t mark = osm_wire_open(e->out, 2), start = e->out->len;
    if (osm__proto_form(message) == OSM__FORM_FIELDS) {
        rc = encode_message(e, node, v, message, true);
    } else {
        node->field = "value";
        node->field_len = 5;
        for (size_t i = base; !rc && i < e->entries_len; i++)
            if (!has_text(&e->entries[i].key, "@type") && !has_text(&e->entries[i].key, "value"))
                rc = refuse(e, node, OSM_EINVAL, "a %s in an Any has \"value\" and nothing else",
                            message->name);
        if (!rc)
            rc = encode_message(e, node, &content, message, false);
    }
    if (!rc && e->out->len > start)
        osm_wire_close(e->out, mark);
    else if (!rc)
        truncate_to(e->out, mark - 1); /* an empty value is left out: its tag is one byte */
out:
    osm_buf_clear(&url);
    e->entries_len = base;
    e->source->release(e->source->ctx, level);
    return rc;
}

static int encode_time(struct encoder *e, struct node *node, const struct osm__proto_value *v,
                       bool duration)
{
    const char *what =
        duration ? "a duration such as \"1s\"" : "a timestamp such as \"2024-01-31T12:00:00Z\"";
    struct osm__proto_time t;
    if (v->type != OSM__VALUE_STRING)
        return expected(e, node, v, what);
    if (duration ? !osm__proto_parse_duration(v->s, v->len, &t)
                 : !osm__proto_parse_timestamp(v->s, v->len, &t))
        return refuse(e, node, OSM_EINVAL, "expected %s, got \"%.*s\"", what,
                      (int)(v->len > 60 ? 60 : v->len), v->s);
    if (t.seconds) {
        osm_wire_put_tag(e->out, 1, OSM_WIRE_VARINT);
        osm_wire_put_varint(e->out, (uint64_t)t.seconds);
    }
    if (t.nanos) {
        osm_wire_put_tag(e->out, 2, OSM_WIRE_VARINT);
        osm_wire_put_varint(e->out, (uint64_t)(int64_t)t.nanos);
    }
    return 0;
}

/* A wrapper, Struct or ListValue around a plain value: the one field of the message takes the value
 * itself. */
static int encode_only_field(struct encoder *e, struct node *node, const struct osm__proto_value *v)
{
    const ProtobufCFieldDescriptor *f = &node->message->fields[0];
    if (f->label == PROTOBUF_C_LABEL_REPEATED) {
        const ProtobufCMessageDescriptor *entry = osm__proto_map_entry(f);
        return entry ? encode_map(e, node, f, entry, v) : encode_list(e, node, f, v);
    }
    return encode_scalar(e, node, f, v, true);
}

static int encode_value(struct encoder *e, struct node *node, const struct osm__proto_value *v)
{
    uint64_t bits;
    switch (v->type) {
    case OSM__VALUE_NONE:
        osm_wire_put_tag(e->out, 1, OSM_WIRE_VARINT);
        osm_wire_put_varint(e->out, 0);
        return 0;
    case OSM__VALUE_INT:
    case OSM__VALUE_DOUBLE:
        if (!isfinite(v->d))
            return refuse(e, node, OSM_EINVAL, "expected a finite number, got %g", v->d);
        osm_wire_put_tag(e->out, 2, OSM_WIRE_64);
        memcpy(&bits, &v->d, sizeof bits);
        osm_wire_put_fixed64(e->out, bits);
        return 0;
    case OSM__VALUE_STRING:
        if (!osm__proto_utf8(v->s, v->len))
            return refuse(e, node, OSM_EINVAL, "expected a string, got bytes that are not UTF-8");
        osm_wire_put_bytes(e->out, 3, v->s, v->len);
        return 0;
    case OSM__VALUE_BOOL:
        osm_wire_put_tag(e->out, 4, OSM_WIRE_VARINT);
        osm_wire_put_varint(e->out, v->b);
        return 0;
    case OSM__VALUE_MAP:
    case OSM__VALUE_LIST:
    case OSM__VALUE_TABLE: {
        bool list = v->type == OSM__VALUE_LIST || e->source->length(e->source->ctx, v) > 0;
        const ProtobufCFieldDescriptor *f =
            osm__proto_field(node->message, list ? "list_value" : "struct_value", list ? 10 : 12);
        return encode_nested(e, node, f->id, v, f->descriptor, false);
    }
    default:
        return expected(e, node, v, "plain data");
    }
}

/* The content of a message, without tag and length. */
static int encode_message(struct encoder *e, struct node *up, const struct osm__proto_value *v,
                          const ProtobufCMessageDescriptor *message, bool skip_type)
{
    struct node node = {.up = up, .message = message, .index = -1};
    int depth = 0;
    for (const struct node *n = up; n; n = n->up)
        depth++;
    if (depth >= OSM__PROTO_DEPTH)
        return refuse(e, up, OSM_ELIMIT, "more than %d messages deep", OSM__PROTO_DEPTH);
    int rc;
    switch (osm__proto_form(message)) {
    case OSM__FORM_ANY:
        rc = encode_any(e, &node, v);
        break;
    case OSM__FORM_DURATION:
        rc = encode_time(e, &node, v, true);
        break;
    case OSM__FORM_TIMESTAMP:
        rc = encode_time(e, &node, v, false);
        break;
    case OSM__FORM_WRAPPER:
    case OSM__FORM_STRUCT:
    case OSM__FORM_LIST:
        rc = encode_only_field(e, &node, v);
        break;
    case OSM__FORM_VALUE:
        rc = encode_value(e, &node, v);
        break;
    default:
        rc = encode_fields(e, &node, v, skip_type);
        break;
    }
    if (!rc && e->out->failed)
        rc = refuse(e, up, e->out->failed, "%s (at most %zu bytes)", osm_code_text(e->out->failed),
                    e->out->max);
    return rc;
}

int osm__proto_encode(const struct osm__proto_source *source, const struct osm__proto_value *value,
                      const ProtobufCMessageDescriptor *descriptor, struct osm_buf *out,
                      osm_proto_ref_fn *on_ref, void *ud, struct osm_err *err)
{
    struct encoder e = {.source = source, .out = out, .on_ref = on_ref, .ud = ud, .err = err};
    size_t start = out->len;
    int rc = encode_message(&e, NULL, value, descriptor, false);
    if (rc)
        truncate_to(out, start);
    osm_free(e.entries);
    return rc;
}
