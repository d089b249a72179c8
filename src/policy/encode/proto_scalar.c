/* Numbers, enums, strings and bytes: what a value must be to stand in a field, and its bytes. */
#include "base/utf8.h"
#include "policy/encode/proto_encode_priv.h"

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

/* ---- numbers ---- */

const struct osm__proto_range *osm__proto_range_of(ProtobufCType type)
{
    static const struct osm__proto_range i32 = {"an integer from -2147483648 to 2147483647",
                                                INT32_MIN, INT32_MAX},
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
bool osm__proto_parse_decimal(const char *s, size_t len, const struct osm__proto_range *range,
                              uint64_t *out)
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
int osm__proto_read_int(struct osm__proto_encoder *e, const struct osm__proto_node *node,
                        ProtobufCType type, const struct osm__proto_value *v, uint64_t *out)
{
    const struct osm__proto_range *range = osm__proto_range_of(type);
    bool wide = range->high > UINT32_MAX;
    switch (v->type) {
    case OSM__VALUE_INT:
        if (v->i < range->low || (v->i > 0 && (uint64_t)v->i > range->high))
            return osm__proto_refuse(e, node, OSM_EINVAL, "expected %s, got %" PRId64, range->text,
                                     v->i);
        *out = (uint64_t)v->i;
        return 0;
    case OSM__VALUE_DOUBLE:
        /* 2^63 and 2^64 are exact doubles, their predecessors as integers are not. */
        if (!(floor(v->d) == v->d && v->d >= (double)range->low &&
              (wide ? v->d < (range->low ? 0x1p63 : 0x1p64) : v->d <= (double)range->high)))
            return osm__proto_refuse(e, node, OSM_EINVAL, "expected %s, got %.17g", range->text,
                                     v->d);
        *out = v->d < 0 ? (uint64_t)(int64_t)v->d : (uint64_t)v->d;
        return 0;
    case OSM__VALUE_STRING:
        if (wide && osm__proto_parse_decimal(v->s, v->len, range, out))
            return 0;
        break;
    default:
        break;
    }
    return osm__proto_expected(e, node, v, range->text);
}

static int read_enum(struct osm__proto_encoder *e, const struct osm__proto_node *node,
                     const ProtobufCEnumDescriptor *d, const struct osm__proto_value *v,
                     uint64_t *out)
{
    if (v->type == OSM__VALUE_STRING) {
        const ProtobufCEnumValue *value =
            strlen(v->s) == v->len ? protobuf_c_enum_descriptor_get_value_by_name(d, v->s) : NULL;
        if (!value) {
            const char *near = osm__proto_nearest_value(d, v->s);
            return osm__proto_refuse(e, node, OSM_EINVAL, "no value \"%.80s\" in %s%s%s%s", v->s,
                                     d->name, near ? "; did you mean \"" : "", near ? near : "",
                                     near ? "\"?" : "");
        }
        *out = (uint64_t)(int64_t)value->value;
        return 0;
    }
    if (v->type != OSM__VALUE_INT && v->type != OSM__VALUE_DOUBLE)
        return osm__proto_expected(e, node, v, "the name of an enum value");
    int rc = osm__proto_read_int(e, node, PROTOBUF_C_TYPE_INT32, v, out);
    if (!rc && !osm__proto_enum_value(d, (int)(int64_t)*out))
        return osm__proto_refuse(e, node, OSM_EINVAL, "no value %d in %s", (int)(int64_t)*out,
                                 d->name);
    return rc;
}

/* ---- scalars ---- */

/* The bits of a number, bool or enum as they stand on the wire, before their varint. */
int osm__proto_read_bits(struct osm__proto_encoder *e, const struct osm__proto_node *node,
                         const ProtobufCFieldDescriptor *f, const struct osm__proto_value *v,
                         uint64_t *bits)
{
    int rc = 0;
    switch (f->type) {
    case PROTOBUF_C_TYPE_BOOL:
        if (v->type != OSM__VALUE_BOOL)
            return osm__proto_expected(e, node, v, "a boolean");
        *bits = v->b;
        return 0;
    case PROTOBUF_C_TYPE_ENUM:
        return read_enum(e, node, f->descriptor, v, bits);
    case PROTOBUF_C_TYPE_FLOAT:
    case PROTOBUF_C_TYPE_DOUBLE: {
        if (v->type != OSM__VALUE_INT && v->type != OSM__VALUE_DOUBLE)
            return osm__proto_expected(e, node, v, "a number");
        if (!isfinite(v->d) || (f->type == PROTOBUF_C_TYPE_FLOAT && fabs(v->d) > (double)FLT_MAX))
            return osm__proto_refuse(e, node, OSM_EINVAL, "expected a finite number, got %g", v->d);
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
        rc = osm__proto_read_int(e, node, f->type, v, bits);
        break;
    }
    if (!rc && f->type == PROTOBUF_C_TYPE_SINT32)
        *bits = (uint32_t)((uint32_t)*bits << 1) ^ (uint32_t)((int64_t)*bits < 0 ? UINT32_MAX : 0);
    else if (!rc && f->type == PROTOBUF_C_TYPE_SINT64)
        *bits = *bits << 1 ^ ((int64_t)*bits < 0 ? UINT64_MAX : 0);
    return rc;
}

void osm__proto_put_bits(struct osm_buf *out, ProtobufCType type, uint64_t bits)
{
    switch (osm__proto_wire_type(type)) {
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
static int read_base64(struct osm__proto_encoder *e, const struct osm__proto_node *node,
                       const struct osm__proto_value *v, struct osm_buf *out)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t base = e->entries_len;
    int rc = osm__proto_read_entries(e, node, v);
    if (rc)
        return rc;
    bool good = e->entries_len == base + 1 &&
                osm__proto_has_text(&e->entries[base].key, "base64") &&
                e->entries[base].value.type == OSM__VALUE_STRING;
    struct osm__proto_value text = good ? e->entries[base].value : *v;
    e->entries_len = base;
    if (!good)
        return osm__proto_expected(e, node, v, "bytes as a string or as {base64 = text}");
    uint32_t bits = 0;
    unsigned have = 0;
    size_t len = text.len;
    while (len && text.len - len < 2 && text.s[len - 1] == '=')
        len--;
    for (size_t i = 0; i < len; i++) {
        const char *digit = memchr(digits, text.s[i], sizeof digits - 1);
        if (!digit)
            return osm__proto_refuse(e, node, OSM_EINVAL, "not base64");
        bits = (bits << 6 | (uint32_t)(digit - digits)) & 0xffffff;
        have += 6;
        if (have >= 8) {
            have -= 8;
            (void)osm_buf_add_char(out, (char)(uint8_t)(bits >> have));
        }
    }
    return have < 6 ? 0 : osm__proto_refuse(e, node, OSM_EINVAL, "not base64");
}

/* Writes a scalar with its tag; with @p plain, nothing where it has its type's default. */
int osm__proto_encode_scalar(struct osm__proto_encoder *e, struct osm__proto_node *node,
                             const ProtobufCFieldDescriptor *f, const struct osm__proto_value *v,
                             bool plain)
{
    uint64_t bits = 0;
    int rc;
    if (f->type == PROTOBUF_C_TYPE_BYTES && osm__proto_is_table(v)) {
        struct osm_buf bytes = OSM_BUF_INIT(e->out->max);
        rc = read_base64(e, node, v, &bytes);
        if (!rc && bytes.failed)
            rc = osm__proto_refuse(e, node, bytes.failed, "%s", osm_code_text(bytes.failed));
        if (!rc)
            rc = osm__proto_check_text(e, node, bytes.data, bytes.len);
        if (!rc && !(plain && !bytes.len))
            osm_wire_put_bytes(e->out, f->id, bytes.data, bytes.len);
        osm_buf_clear(&bytes);
        return rc;
    }
    if (f->type == PROTOBUF_C_TYPE_STRING || f->type == PROTOBUF_C_TYPE_BYTES) {
        if (v->type != OSM__VALUE_STRING)
            return osm__proto_expected(
                e, node, v, f->type == PROTOBUF_C_TYPE_STRING ? "a string" : "bytes as a string");
        if (f->type == PROTOBUF_C_TYPE_STRING && !osm_utf8_valid(v->s, v->len))
            return osm__proto_refuse(e, node, OSM_EINVAL,
                                     "expected a string, got bytes that are not UTF-8");
        rc = osm__proto_check_text(e, node, v->s, v->len);
        if (rc)
            return rc;
        /* Envoy and we would read different names: ours end there. */
        if (f->type == PROTOBUF_C_TYPE_STRING && memchr(v->s, 0, v->len))
            return osm__proto_refuse(e, node, OSM_EINVAL, "holds a zero byte");
        if (!(plain && !v->len))
            osm_wire_put_bytes(e->out, f->id, v->s, v->len);
        if (f->type == PROTOBUF_C_TYPE_STRING)
            osm__proto_note_name(e, node, f, v->s);
        return 0;
    }
    rc = osm__proto_read_bits(e, node, f, v, &bits);
    if (!rc)
        rc = osm__proto_check_number(e, node, f, bits);
    if (rc)
        return rc;
    osm__proto_note_number(node, f, bits);
    if (plain && !bits)
        return 0;
    osm_wire_put_tag(e->out, f->id, osm__proto_wire_type(f->type));
    osm__proto_put_bits(e->out, f->type, bits);
    return 0;
}
