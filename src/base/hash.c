#include "base/hash.h"

#include <stdio.h>
#include <xxhash.h>

struct osm_hash osm_hash_bytes(const void *data, size_t len)
{
    XXH128_hash_t h = XXH3_128bits(len ? data : "", len);
    return (struct osm_hash){h.high64, h.low64};
}

char *osm_hash_hex(struct osm_hash h, char out[OSM_HASH_HEX_SIZE])
{
    (void)snprintf(out, OSM_HASH_HEX_SIZE, "%016llx%016llx", (unsigned long long)h.hi,
                   (unsigned long long)h.lo);
    return out;
}
