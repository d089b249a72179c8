#include "base/hash.h"

#define XXH_INLINE_ALL /* most of what is hashed is shorter than a call is long */
#include <xxhash.h>

struct osm_hash osm_hash_bytes(const void *data, size_t len)
{
    XXH128_hash_t h = XXH3_128bits(len ? data : "", len);
    return (struct osm_hash){h.high64, h.low64};
}

char *osm_hash_hex(struct osm_hash h, char out[OSM_HASH_HEX_SIZE])
{
    static const char digits[] = "0123456789abcdef";
    for (unsigned i = 0; i < 16; i++) {
        out[i] = digits[h.hi >> (60 - 4 * i) & 15];
        out[16 + i] = digits[h.lo >> (60 - 4 * i) & 15];
    }
    out[32] = '\0';
    return out;
}
