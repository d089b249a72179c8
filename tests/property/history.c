/* Random histories: objects come, change, go, come back under their names; whole namespaces join
 * and leave; an object is broken in one place and mended; the bundle is swapped. */
#include "property.h"

#include <string.h>

struct history history_new(uint64_t seed)
{
    return (struct history){random_of(seed), OSM_MAP_INIT, OSM_MAP_INIT};
}

static void clear(struct osm_map *map)
{
    osm_map_each (map, e)
        json_decref(e->value);
    osm_map_clear(map);
}

void history_clear(struct history *h)
{
    clear(&h->present);
    clear(&h->gone);
}

static void store(struct osm_map *map, const char *key, json_t *body)
{
    void *old = NULL;
    OSM_REQUIRE(!osm_map_put(map, key, json_incref(body), &old));
    json_decref(old);
}

/* Takes the body. */
static void put(struct history *h, struct ops *ops, json_t *body)
{
    struct osm_object *object = object_of(body);
    if (object) {
        store(&h->present, object->key, body);
        json_decref(osm_map_del(&h->gone, object->key));
        ops_put(ops, body);
    } else {
        json_decref(body);
    }
    osm_object_unref(object);
}

/* A key of the map, borrowed; NULL: it is empty. */
static const char *some_key(struct history *h, const struct osm_map *map)
{
    size_t n;
    const char **keys = osm_map_sorted_keys(map, &n);
    OSM_REQUIRE(keys);
    const char *key = n ? keys[pick(&h->random, (unsigned)n)] : NULL;
    osm_free(keys);
    return key;
}

static void delete_one(struct history *h, struct ops *ops)
{
    const char *key = some_key(h, &h->present);
    if (key && !strncmp(key, "/Namespace/", 11) && pick(&h->random, 4))
        key = some_key(h, &h->present); /* it takes so much along */
    if (!key)
        return;
    json_t *body = osm_map_get(&h->present, key);
    ops_delete(ops, key);
    store(&h->gone, key, body);
    json_decref(osm_map_del(&h->present, key));
}

static void bring_back(struct history *h, struct ops *ops)
{
    const char *key = some_key(h, &h->gone);
    if (key)
        put(h, ops, json_incref(osm_map_get(&h->gone, key)));
}

/* What nobody should notice: a label, a new resourceVersion. */
static void touch(struct history *h, struct ops *ops)
{
    const char *key = some_key(h, &h->present);
    json_t *body = key ? json_deep_copy(osm_map_get(&h->present, key)) : NULL;
    json_t *metadata = json_object_get(body, "metadata");
    if (!body)
        return;
    if (pick(&h->random, 2))
        (void)json_object_set_new(metadata, "resourceVersion",
                                  json_sprintf("%u", pick(&h->random, 1000)));
    else
        (void)json_object_set_new(metadata, "annotations",
                                  json_pack("{s:i}", "at", (int)pick(&h->random, 9)));
    put(h, ops, body);
}

static void break_one(struct history *h, struct ops *ops)
{
    struct mutation m;
    const char *key = some_key(h, &h->present);
    if (key && !strncmp(key, "/Namespace/", 11))
        return;
    const json_t *body = key ? osm_map_get(&h->present, key) : NULL;
    if (!body)
        return;
    unsigned spot = pick(&h->random, (unsigned)mutate_spots(body));
    json_t *broken = mutate(body, spot, pick(&h->random, VARIANTS), NULL, &m);
    if (broken)
        put(h, ops, broken);
}

static void one_change(struct history *h, struct ops *ops)
{
    static const struct {
        enum kind kind;
        unsigned weight;
    } kinds[] = {{KIND_NAMESPACE, 1}, {KIND_SERVICE, 4}, {KIND_POD, 6},   {KIND_SLICE, 1},
                 {KIND_ENDPOINTS, 1}, {KIND_TARGET, 3},  {KIND_GROUP, 2}, {KIND_TCPROUTE, 1},
                 {KIND_SPLIT, 2},     {KIND_CONFIG, 1},  {KIND_LINK, 5}};
    unsigned at = 0, left = pick(&h->random, 27);
    while (left >= kinds[at].weight)
        left -= kinds[at++].weight;
    unsigned what = pick(&h->random, 100);
    if (what < 25)
        delete_one(h, ops);
    else if (what < 33)
        bring_back(h, ops);
    else if (what < 39)
        touch(h, ops);
    else if (what < 47)
        break_one(h, ops);
    else
        put(h, ops, object_random(&h->random, kinds[at].kind, false));
}

void history_step(struct history *h, struct ops *ops)
{
    unsigned batch = pick(&h->random, 5) ? 1 : 2 + pick(&h->random, 6);
    while (batch--)
        one_change(h, ops);
    if (!pick(&h->random, 150))
        ops_add(ops, OP_SWAP);
    ops_add(ops, OP_RUN);
}
