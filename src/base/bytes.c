#include "base/bytes.h"

#include <stdatomic.h>
#include <string.h>

struct osm_bytes {
    atomic_size_t refs;
    struct osm_hash hash;
    size_t len;
    bool secret;
    unsigned char data[];
};

static struct osm_bytes *make(const void *data, size_t len, bool secret)
{
    size_t size;
    if (__builtin_add_overflow(sizeof(struct osm_bytes), len, &size))
        return NULL;
    struct osm_bytes *b = osm_alloc(size);
    if (!b)
        return NULL;
    atomic_init(&b->refs, 1);
    b->len = len;
    b->secret = secret;
    b->hash = osm_hash_bytes(data, len);
    if (len)
        memcpy(b->data, data, len);
    return b;
}

struct osm_bytes *osm_bytes_new(const void *data, size_t len)
{
    return make(data, len, false);
}

struct osm_bytes *osm_bytes_new_secret(const void *data, size_t len)
{
    return make(data, len, true);
}

struct osm_bytes *osm_bytes_ref(struct osm_bytes *b)
{
    atomic_fetch_add_explicit(&b->refs, 1, memory_order_relaxed);
    return b;
}

void osm_bytes_unref(struct osm_bytes *b)
{
    if (!b || atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel) != 1)
        return;
    if (b->secret)
        osm_free_secret(b, sizeof *b + b->len);
    else
        osm_free(b);
}

const void *osm_bytes_data(const struct osm_bytes *b)
{
    return b->data;
}

size_t osm_bytes_len(const struct osm_bytes *b)
{
    return b->len;
}

struct osm_hash osm_bytes_hash(const struct osm_bytes *b)
{
    return b->hash;
}

bool osm_bytes_secret(const struct osm_bytes *b)
{
    return b->secret;
}
