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

static inline uint64_t osm__hash_rotate(uint64_t x, unsigned by)
{
    return x << by | x >> (64 - by);
}

static inline uint64_t osm__hash_scatter(uint64_t x)
{
    x = (x ^ x >> 33) * UINT64_C(0xff51afd7ed558ccd);
    x = (x ^ x >> 33) * UINT64_C(0xc4ceb9fe1a85ec53);
    return x ^ x >> 33;
}

/** Of two hashes in this order: one block of MurmurHash3 (128 bits, x64) and its finish. For either
 * argument alone it is one to one, so nothing is lost by chaining; inline, for where whole tables
 * are hashed a value at a time it takes a fifth of what osm_hash_bytes would. */
static inline struct osm_hash osm_hash_fold(struct osm_hash sum, struct osm_hash next)
{
    const uint64_t c1 = UINT64_C(0x87c37b91114253d5), c2 = UINT64_C(0x4cf5ad432745937f);
    uint64_t a = sum.lo, b = sum.hi;
    a ^= osm__hash_rotate(next.lo * c1, 31) * c2;
    a = (osm__hash_rotate(a, 27) + b) * 5 + 0x52dce729;
    b ^= osm__hash_rotate(next.hi * c2, 33) * c1;
    b = (osm__hash_rotate(b, 31) + a) * 5 + 0x38495ab5;
    a += b;
    b += a;
    a = osm__hash_scatter(a);
    b = osm__hash_scatter(b);
    a += b;
    return (struct osm_hash){.hi = a + b, .lo = a};
}
static inline bool osm_hash_equal(struct osm_hash a, struct osm_hash b)
{
    return a.hi == b.hi && a.lo == b.lo;
}
/** 32 lower-case hex digits and a NUL. Returns @p out. */
char *osm_hash_hex(struct osm_hash h, char out[OSM_HASH_HEX_SIZE]);
