/* 128-bit content hash (XXH3). For equality, interning and version strings of our own data; not
 * cryptographic. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct osm_hash {
    uint64_t hi, lo;
};

enum { OSM_HASH_HEX_SIZE = 33 };

struct osm_hash osm_hash_bytes(const void *data, size_t len);
static inline bool osm_hash_equal(struct osm_hash a, struct osm_hash b)
{
    return a.hi == b.hi && a.lo == b.lo;
}
/** 32 lower-case hex digits and a NUL. Returns @p out. */
char *osm_hash_hex(struct osm_hash h, char out[OSM_HASH_HEX_SIZE]);
