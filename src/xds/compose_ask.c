/* What is asked of a composition beside its resources: of which items one is made. */
#include "xds/compose_priv.h"

#include <string.h>

static int uuid_against(const void *uuid, const void *reader)
{
    return strcmp(uuid, (*(struct osm__reader *const *)reader)->uuid);
}

static const struct osm__reader *reader_of(const struct osm_compose *compose, const char *uuid)
{
    struct osm__reader **found = NULL;
    size_t low = 0, high = compose->readers.len;
    while (!found && low < high) {
        size_t middle = low + (high - low) / 2;
        struct osm__reader **at = (struct osm__reader **)(void *)&compose->readers.list[middle];
        int order = uuid_against(uuid, at);
        if (!order)
            found = at;
        else if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return found ? *found : NULL;
}

static bool reads(const struct osm__group *group, const struct osm__entry *entry)
{
    for (size_t i = 0; i < entry->links_len; i++)
        for (size_t k = 0; k < group->terms_len; k++)
            if (entry->links[i].term == group->terms[k])
                return true;
    return false;
}

bool osm_compose_items_of(const struct osm_compose *compose, const char *uuid,
                          enum osm_xds_type type, const char *name, osm_compose_item_fn *fn,
                          void *ud)
{
    const struct osm__reader *reader = uuid ? reader_of(compose, uuid) : NULL;
    bool any = false;
    if (uuid && (!reader || !reader->group))
        return false;
    osm_map_each (&compose->targets, e) {
        const struct osm__target *target = e->value;
        if (target->type != type || strcmp(target->name, name) != 0)
            continue;
        for (size_t i = 0; i < target->entries.len; i++) {
            const struct osm__entry *entry = target->entries.list[i];
            if (reader && !reads(reader->group, entry))
                continue;
            any = true;
            fn(ud, entry->item);
        }
    }
    return any;
}
