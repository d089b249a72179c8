/* What is counted of each proxy, over all its streams, for as long as it has a stream or a pod. */
#include "xds/ads_priv.h"

#include "base/clock.h"

#include <string.h>

enum { LOOK_MS = 60 * 1000 };

void osm__counts_free(struct osm__counts *counts)
{
    if (!counts)
        return;
    osm_free(counts->identity);
    osm_free(counts);
}

struct osm__counts *osm__counts_get(struct osm_ads *ads, const struct osm__peer *peer)
{
    struct osm__counts *counts = osm_map_get(&ads->counts, peer->key);
    if (counts)
        return counts;
    counts = osm_alloc(sizeof *counts);
    if (counts)
        counts->identity = osm_strf("%s.%s", peer->id.account, peer->id.ns);
    if (!counts || !counts->identity || osm_map_put(&ads->counts, peer->key, counts, NULL)) {
        osm__counts_free(counts);
        return NULL;
    }
    memcpy(counts->uuid, peer->id.uuid, sizeof counts->uuid);
    return counts;
}

void osm__counts_sent(struct osm__counts *counts, enum osm_xds_type type)
{
    if (!counts)
        return;
    counts->types[type].sent++;
    counts->sent_at_s[type][counts->next[type]] = (uint32_t)osm_wall_s();
    counts->next[type] = (uint8_t)((counts->next[type] + 1) % OSM_ADS_TIMES);
}

void osm__counts_sweep(struct osm_ads *ads, uint64_t now_ms)
{
    if (now_ms - ads->counts_looked_ms < LOOK_MS || !ads->snapshot)
        return;
    ads->counts_looked_ms = now_ms;
    osm_map_each (&ads->counts, e) {
        if (osm_map_has(&ads->by_proxy, e->key) || osm_snapshot_find(ads->snapshot, e->key))
            continue;
        osm__counts_free(osm_map_del(&ads->counts, e->key));
    }
}

char (*osm_ads_known(const struct osm_ads *ads, size_t *n))[OSM_PROXY_KEY_SIZE]
{
    char(*keys)[OSM_PROXY_KEY_SIZE] = osm_alloc_array(ads->counts.count + 1, OSM_PROXY_KEY_SIZE);
    *n = 0;
    osm_map_each (&ads->counts, e)
        if (keys)
            memcpy(keys[(*n)++], e->key, e->key_len + 1);
    return keys;
}

bool osm_ads_figures(const struct osm_ads *ads, const char *proxy, struct osm_ads_figures *out)
{
    const struct osm__counts *counts = osm_map_get(&ads->counts, proxy);
    if (!counts)
        return false;
    *out = (struct osm_ads_figures){.uuid = counts->uuid, .identity = counts->identity};
    memcpy(out->types, counts->types, sizeof out->types);
    for (int t = 0; t < OSM_XDS_TYPE_COUNT; t++)
        for (unsigned i = 1; i <= OSM_ADS_TIMES; i++) /* the newest is before the next */
            out->sent_at_s[t][i - 1] =
                counts->sent_at_s[t][(counts->next[t] + OSM_ADS_TIMES - i) % OSM_ADS_TIMES];
    return true;
}

json_t *osm_ads_proxy_status(const struct osm_ads *ads, const char *proxy)
{
    const struct osm__conn *conn = osm_map_get(&ads->by_proxy, proxy);
    return conn ? osm__conn_status(conn) : NULL;
}
