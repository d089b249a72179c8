#include "model/packed.h"

#include "base/buf.h"

#include <stdatomic.h>
#include <string.h>

enum { TEXT_MAX_BYTES = 64 << 20 };

struct osm_packed {
    atomic_size_t refs;
    size_t body; /* where its text begins: behind namespace and origin */
    size_t len;  /* of that text */
    char text[];
};

static int append(const char *text, size_t len, void *buf)
{
    return osm_buf_add(buf, text, len);
}

int osm_packed_new(struct osm_packed **out, const struct osm_object *object)
{
    struct osm_buf text = OSM_BUF_INIT(TEXT_MAX_BYTES);
    struct osm_packed *packed = NULL;
    int rc = osm_buf_add(&text, object->ns, strlen(object->ns) + 1);
    if (!rc)
        rc = osm_buf_add(&text, object->origin, strlen(object->origin) + 1);
    size_t body = text.len;
    if (rc || json_dump_callback(object->body, append, &text, JSON_COMPACT)) {
        osm_buf_clear(&text);
        return OSM_ENOMEM;
    }
    packed = osm_alloc(sizeof *packed + text.len);
    if (packed) {
        atomic_init(&packed->refs, 1);
        packed->body = body;
        packed->len = text.len - body;
        memcpy(packed->text, text.data, text.len);
        *out = packed;
    }
    osm_buf_clear(&text);
    return packed ? 0 : OSM_ENOMEM;
}

struct osm_packed *osm_packed_ref(struct osm_packed *packed)
{
    atomic_fetch_add_explicit(&packed->refs, 1, memory_order_relaxed);
    return packed;
}

void osm_packed_unref(struct osm_packed *packed)
{
    if (packed && atomic_fetch_sub_explicit(&packed->refs, 1, memory_order_acq_rel) == 1)
        osm_free(packed);
}

const char *osm_packed_ns(const struct osm_packed *packed)
{
    return packed->text;
}

int osm_packed_open(struct osm_object **out, const struct osm_packed *packed)
{
    json_t *body = json_loadb(packed->text + packed->body, packed->len, JSON_ALLOW_NUL, NULL);
    /* It was an object before: only memory can lack. */
    return body && !osm_object_new(out, body, packed->text + strlen(packed->text) + 1, NULL)
               ? 0
               : OSM_ENOMEM;
}

void osm_outside_free(struct osm_outside *outside)
{
    if (!outside)
        return;
    for (size_t i = 0; i < outside->len; i++)
        osm_packed_unref(outside->list[i]);
    osm_free(outside->list);
    osm_free(outside);
}

int osm_outside_open(const struct osm_outside *outside, const char *ns, struct osm_changes *changes)
{
    size_t n = 0;
    int rc = 0;
    for (size_t i = 0; outside && i < outside->len; i++)
        n += !strcmp(osm_packed_ns(outside->list[i]), ns);
    if (!n)
        return 0;
    struct osm_change *grown =
        osm_realloc_array(changes->list, changes->len + n, sizeof *changes->list);
    if (!grown)
        return OSM_ENOMEM;
    changes->list = grown;
    for (size_t i = 0; i < outside->len && !rc; i++) {
        struct osm_object *object = NULL;
        if (strcmp(osm_packed_ns(outside->list[i]), ns) != 0)
            continue;
        rc = osm_packed_open(&object, outside->list[i]);
        if (!rc)
            changes->list[changes->len++] = (struct osm_change){object, NULL};
    }
    return rc;
}
