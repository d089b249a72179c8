/* Whether a reflector knows what a list of names and versions has shown. */
#include "kube/reflector_priv.h"

enum { GONE = 0 }; /* in pending: known, and not on the server any more */

struct osm_expect {
    struct osm_map
        pending;         /* id -> the version that has to be seen, as a pointer; GONE + 1: none */
    struct osm_map seen; /* id -> that the server has it: until the end of its list */
    struct osm_map gone; /* id -> version of its deletion: since it began, until that end */
    uint64_t version;    /* of the list; 0: it is under way */
    uint64_t began;      /* what had been seen when it began; 0: not all yet */
    uint32_t epoch;      /* of the reflector's lists then */
    bool ended, met;
};

static void *as_pointer(uint64_t version)
{
    return (void *)(uintptr_t)(version + 1);
}

static uint64_t as_version(const void *pointer)
{
    return (uint64_t)(uintptr_t)pointer - 1;
}

static void clear(struct osm_expect *e)
{
    osm_map_clear(&e->pending);
    osm_map_clear(&e->seen);
    osm_map_clear(&e->gone);
}

static void settle(struct osm_expect *e)
{
    e->met = e->met || (e->ended && !e->pending.count);
    if (e->met)
        clear(e);
}

int osm_reflector_expect(struct osm_reflector *r)
{
    osm_reflector_expect_nothing(r);
    r->expect = osm_alloc(sizeof *r->expect);
    if (!r->expect)
        return OSM_ENOMEM;
    r->expect->epoch = r->epoch;
    r->expect->began = r->step == OSM_REFLECT_WATCH ? osm_kube_version(r->resource_version) : 0;
    return 0;
}

void osm_reflector_expect_nothing(struct osm_reflector *r)
{
    if (r->expect)
        clear(r->expect);
    osm_free(osm_take_ptr(&r->expect));
}

int osm_reflector_expect_object(struct osm_reflector *r, const char *id, uint64_t version)
{
    struct osm_expect *e = r->expect;
    if (!e || e->met)
        return 0;
    const struct osm_reflector_known *known = osm_map_get(&r->known, id);
    const void *gone = osm_map_get(&e->gone, id);
    bool is_known = (known && known->version >= version) || (gone && as_version(gone) >= version);
    int rc = osm_map_put(&e->seen, id, e, NULL);
    if (!rc && !is_known)
        rc = osm_map_put(&e->pending, id, as_pointer(version), NULL);
    return rc;
}

int osm_reflector_expect_end(struct osm_reflector *r, uint64_t version)
{
    struct osm_expect *e = r->expect;
    int rc = 0;
    if (!e || e->met)
        return 0;
    osm_map_each (&r->known, entry) {
        const struct osm_reflector_known *known = entry->value;
        if (!rc && !osm_map_has(&e->seen, entry->key) && known->version <= version)
            rc = osm_map_put(&e->pending, entry->key, as_pointer(GONE), NULL);
    }
    if (rc)
        return rc;
    e->version = version;
    e->ended = true;
    osm_map_clear(&e->seen);
    osm_map_clear(&e->gone);
    osm__expect_reached(r, osm_kube_version(r->resource_version));
    settle(e);
    return 0;
}

bool osm_reflector_expect_is_past(const struct osm_reflector *r, uint64_t version)
{
    const struct osm_expect *e = r->expect;
    return e && r->step == OSM_REFLECT_WATCH && version && version < e->began;
}

bool osm_reflector_met(const struct osm_reflector *r)
{
    return !r->expect || r->expect->met;
}

void osm__expect_put(struct osm_reflector *r, const char *id, uint64_t version)
{
    struct osm_expect *e = r->expect;
    const void *wanted = e && !e->met ? osm_map_get(&e->pending, id) : NULL;
    if (wanted && as_version(wanted) != GONE && version >= as_version(wanted)) {
        (void)osm_map_del(&e->pending, id);
        settle(e);
    }
}

void osm__expect_gone(struct osm_reflector *r, const char *id, uint64_t version)
{
    struct osm_expect *e = r->expect;
    if (!e || e->met)
        return;
    const void *wanted = osm_map_get(&e->pending, id);
    if (wanted && version >= as_version(wanted)) {
        (void)osm_map_del(&e->pending, id);
        settle(e);
    }
    /* Without memory for it the list may show what is gone already; a later list corrects that. */
    if (!e->ended && !e->met)
        (void)!osm_map_put(&e->gone, id, as_pointer(version), NULL);
}

void osm__expect_reached(struct osm_reflector *r, uint64_t version)
{
    struct osm_expect *e = r->expect;
    if (!e || e->met || !e->ended || !version || version < e->version)
        return;
    e->met = true;
    clear(e);
}

void osm__expect_listed(struct osm_reflector *r)
{
    struct osm_expect *e = r->expect;
    if (!e || e->met || r->epoch == e->epoch)
        return;
    e->met = true;
    clear(e);
}
