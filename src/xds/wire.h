/* The protobuf wire format: writing into a buffer, reading from bytes that are not trusted. Pure.
 */
#pragma once

#include "base/buf.h"

#include <stdint.h>

enum osm_wire_type { OSM_WIRE_VARINT = 0, OSM_WIRE_64 = 1, OSM_WIRE_BYTES = 2, OSM_WIRE_32 = 5 };

/* A failed write is remembered in the buffer: write on, look once. */
void osm_wire_put_varint(struct osm_buf *out, uint64_t value);
void osm_wire_put_tag(struct osm_buf *out, uint32_t field, enum osm_wire_type type);
void osm_wire_put_fixed32(struct osm_buf *out, uint32_t value);
void osm_wire_put_fixed64(struct osm_buf *out, uint64_t value);
/** Tag, length and bytes. */
void osm_wire_put_bytes(struct osm_buf *out, uint32_t field, const void *data, size_t len);
/** Begins a nested message whose length is not known yet; pass what it returns to osm_wire_close,
 * which puts the length in front of what was written meanwhile. */
OSM_MUST_USE size_t osm_wire_open(struct osm_buf *out, uint32_t field);
void osm_wire_close(struct osm_buf *out, size_t mark);

struct osm_wire_reader {
    const uint8_t *at, *end;
};

struct osm_wire_field {
    uint32_t field;
    enum osm_wire_type type;
    uint64_t number;     /* varint, 64, 32 */
    const uint8_t *data; /* bytes: inside the reader's input */
    size_t len;
};

/** The next field. 1: *out is filled; 0: the end; OSM_EPARSE: malformed (truncated, over-long
 * varint, field number 0, groups). */
int osm_wire_next(struct osm_wire_reader *reader, struct osm_wire_field *out);
/** One varint (for packed fields). 1, 0 at the end, OSM_EPARSE. */
int osm_wire_next_varint(struct osm_wire_reader *reader, uint64_t *out);
/** One little-endian number of 4 or 8 bytes (for packed fields). 1, 0 at the end, OSM_EPARSE. */
int osm_wire_next_fixed(struct osm_wire_reader *reader, size_t size, uint64_t *out);
