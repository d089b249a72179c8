/* See wire.h. Lengths and counts of the input are checked against what is left before anything is
 * read. */
#include "xds/wire.h"

#include <string.h>

enum { VARINT_MAX = 10 };

static size_t varint(uint8_t out[VARINT_MAX], uint64_t value)
{
    size_t n = 0;
    while (value >= 0x80) {
        out[n++] = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    out[n++] = (uint8_t)value;
    return n;
}

void osm_wire_put_varint(struct osm_buf *out, uint64_t value)
{
    uint8_t bytes[VARINT_MAX];
    (void)osm_buf_add(out, bytes, varint(bytes, value));
}

void osm_wire_put_tag(struct osm_buf *out, uint32_t field, enum osm_wire_type type)
{
    osm_wire_put_varint(out, (uint64_t)field << 3 | (uint64_t)type);
}

static void put_fixed(struct osm_buf *out, uint64_t value, size_t size)
{
    uint8_t bytes[8];
    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)(value >> (8 * i));
    (void)osm_buf_add(out, bytes, size);
}

void osm_wire_put_fixed32(struct osm_buf *out, uint32_t value)
{
    put_fixed(out, value, 4);
}

void osm_wire_put_fixed64(struct osm_buf *out, uint64_t value)
{
    put_fixed(out, value, 8);
}

void osm_wire_put_bytes(struct osm_buf *out, uint32_t field, const void *data, size_t len)
{
    osm_wire_put_tag(out, field, OSM_WIRE_BYTES);
    osm_wire_put_varint(out, len);
    (void)osm_buf_add(out, data, len);
}

size_t osm_wire_open(struct osm_buf *out, uint32_t field)
{
    osm_wire_put_tag(out, field, OSM_WIRE_BYTES);
    return out->len;
}

void osm_wire_close(struct osm_buf *out, size_t mark)
{
    if (out->failed)
        return;
    uint8_t bytes[VARINT_MAX];
    size_t len = out->len - mark, n = varint(bytes, len);
    if (!osm_buf_reserve(out, n))
        return;
    memmove(out->data + mark + n, out->data + mark, len);
    memcpy(out->data + mark, bytes, n);
    out->len += n;
    out->data[out->len] = 0;
}

int osm_wire_next_varint(struct osm_wire_reader *reader, uint64_t *out)
{
    if (reader->at == reader->end)
        return 0;
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        if (reader->at == reader->end)
            return OSM_EPARSE;
        uint8_t byte = *reader->at++;
        if (shift == 63 && byte > 1)
            return OSM_EPARSE;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80)) {
            *out = value;
            return 1;
        }
    }
    return OSM_EPARSE;
}

int osm_wire_next_fixed(struct osm_wire_reader *reader, size_t size, uint64_t *out)
{
    if (reader->at == reader->end)
        return 0;
    if ((size_t)(reader->end - reader->at) < size)
        return OSM_EPARSE;
    uint64_t value = 0;
    for (size_t i = 0; i < size; i++)
        value |= (uint64_t)reader->at[i] << (8 * i);
    reader->at += size;
    *out = value;
    return 1;
}

int osm_wire_next(struct osm_wire_reader *reader, struct osm_wire_field *out)
{
    uint64_t tag, value = 0;
    int rc = osm_wire_next_varint(reader, &tag);
    if (rc <= 0)
        return rc;
    if (tag >> 3 == 0 || tag >> 3 > 0x1fffffff)
        return OSM_EPARSE;
    *out = (struct osm_wire_field){.field = (uint32_t)(tag >> 3)};
    switch (tag & 7) {
    case OSM_WIRE_VARINT:
        out->type = OSM_WIRE_VARINT;
        rc = osm_wire_next_varint(reader, &value);
        break;
    case OSM_WIRE_64:
        out->type = OSM_WIRE_64;
        rc = osm_wire_next_fixed(reader, 8, &value);
        break;
    case OSM_WIRE_32:
        out->type = OSM_WIRE_32;
        rc = osm_wire_next_fixed(reader, 4, &value);
        break;
    case OSM_WIRE_BYTES:
        out->type = OSM_WIRE_BYTES;
        rc = osm_wire_next_varint(reader, &value);
        if (rc == 1) {
            if (value > (uint64_t)(reader->end - reader->at))
                return OSM_EPARSE;
            out->data = reader->at;
            out->len = (size_t)value;
            reader->at += value;
            return 1;
        }
        break;
    default:
        return OSM_EPARSE;
    }
    out->number = value;
    return rc == 1 ? 1 : OSM_EPARSE; /* a tag with nothing behind it is truncated */
}
