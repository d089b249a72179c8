/* Proxies that have refused something and not accepted it since. One that comes again names the
 * versions that it accepted last; but Envoy applies the good parts of what it refuses, so it may
 * hold something else under them. */
#include "xds/ads_priv.h"

static uintptr_t bit(enum osm_xds_type type)
{
    return (uintptr_t)1 << type;
}

void osm__refusers_note(struct osm_ads *ads, const char *uuid, enum osm_xds_type type, bool refuses)
{
    uintptr_t before = (uintptr_t)osm_map_get(&ads->refusers, uuid);
    uintptr_t now = refuses ? before | bit(type) : before & ~bit(type);
    if (before == now)
        return;
    if (!now)
        (void)osm_map_del(&ads->refusers, uuid);
    else if (osm_map_put(&ads->refusers, uuid, (void *)now, NULL))
        ads->refuser_forgotten = true;
}

void osm__refusers_greet(const struct osm_ads *ads, struct osm__conn *conn)
{
    uintptr_t types = (uintptr_t)osm_map_get(&ads->refusers, conn->peer.id.uuid);
    for (int i = 0; i < OSM_XDS_TYPE_COUNT; i++)
        if (ads->refuser_forgotten || types & bit((enum osm_xds_type)i))
            osm_stream_distrust(conn->stream, (enum osm_xds_type)i);
}

void osm__refusers_sweep(struct osm_ads *ads)
{
    osm_map_each (&ads->refusers, e)
        if (ads->snapshot && !osm_map_has(&ads->by_uuid, e->key) &&
            !osm_snapshot_find(ads->snapshot, e->key))
            (void)osm_map_del(&ads->refusers, e->key);
}
