/* What is asked of a composition beside its resources: of which items one is made. */
#include "xds/compose_priv.h"

#include <stdlib.h>
#include <string.h>

static int key_against(const void *key, const void *at)
{
    const struct osm__reader *reader = *(void *const *)at;
    return strcmp(key, reader->key);
}

static const struct osm__reader *reader_of(const struct osm_compose *compose, const char *key)
{
    const struct osm__ptrs *readers = &compose->readers;
    void *const *at =
        readers->len ? bsearch(key, readers->list, readers->len, sizeof *readers->list, key_against)
                     : NULL;
    return at ? *at : NULL;
}

static bool reads(const struct osm__group *group, const struct osm__entry *entry)
{
    for (size_t i = 0; i < entry->links_len; i++)
        for (size_t k = 0; k < group->terms_len; k++)
            if (entry->links[i].term == group->terms[k])
                return true;
    return false;
}

int osm_compose_items_of(const struct osm_compose *compose, const char *proxy,
                         enum osm_xds_type type, const char *name, osm_compose_item_fn *fn,
                         void *ud)
{
    const struct osm__reader *reader = proxy ? reader_of(compose, proxy) : NULL;
    char *key = osm__target_key(type, name);
    if (!key)
        return OSM_ENOMEM;
    const struct osm__target *target = osm_map_get(&compose->targets, key);
    osm_free(key);
    int rc = OSM_ENOENT;
    for (size_t i = 0; target && (!proxy || reader) && i < target->entries.len; i++) {
        const struct osm__entry *entry = target->entries.list[i];
        if (reader && (!reader->group || !reads(reader->group, entry)))
            continue;
        rc = 0;
        fn(ud, entry->item);
    }
    return rc;
}
