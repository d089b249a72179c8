/* What earlier streams of a proxy tell of it.
 *
 * Who has refused something, and not accepted all since, names the versions that it accepted last
 * when it comes again; but Envoy applies the good parts of what it refuses, so it may hold
 * something else under them.
 *
 * Whose stream ended while endpoints were on their way to it may have a cluster that waits for
 * them, and has the same endpoints of before under the name: they are sent again.
 *
 * Who had something, goes by itself and soon comes again with nothing is another process: what it
 * was told last may have ended the one before. */
#include "xds/ads_priv.h"

#include "base/clock.h"

enum { RESTART_MAX_MS = 60 * 1000 };

struct osm__gone {
    uint64_t view_number, at_ms;
};

static uintptr_t bit(enum osm_xds_type type)
{
    return (uintptr_t)1 << type;
}

void osm__past_refused(struct osm_ads *ads, const char *proxy, enum osm_xds_type type, bool refuses)
{
    uintptr_t before = (uintptr_t)osm_map_get(&ads->refusers, proxy);
    uintptr_t now = refuses ? before | bit(type) : before & ~bit(type);
    if (before == now)
        return;
    if (!now)
        (void)osm_map_del(&ads->refusers, proxy);
    else if (osm_map_put(&ads->refusers, proxy, (void *)now, NULL))
        ads->refuser_forgotten = true;
}

static bool lacks_endpoints(const struct osm__conn *conn)
{
    return conn->view_number && osm_stream_type_state(conn->stream, OSM_XDS_EDS).due;
}

void osm__past_left(struct osm__conn *conn)
{
    if (lacks_endpoints(conn))
        osm__past_refused(conn->ads, conn->peer.key, OSM_XDS_EDS, true);
}

void osm__past_greet(const struct osm_ads *ads, struct osm__conn *conn)
{
    uintptr_t types = (uintptr_t)osm_map_get(&ads->refusers, conn->peer.key);
    if (conn->same_proxy &&
        lacks_endpoints(conn->same_proxy)) /* its end has not been heard of yet */
        types |= bit(OSM_XDS_EDS);
    for (int i = 0; i < OSM_XDS_TYPE_COUNT; i++)
        if (ads->refuser_forgotten || types & bit((enum osm_xds_type)i))
            osm_stream_distrust(conn->stream, (enum osm_xds_type)i);
}

void osm__past_went(struct osm__conn *conn)
{
    struct osm_ads *ads = conn->ads;
    const char *proxy = conn->peer.key;
    if (!conn->admitted || osm_map_get(&ads->by_proxy, proxy) != conn || !conn->view_number ||
        !osm_stream_type_state(conn->stream, OSM_XDS_CDS).acked)
        return;
    struct osm__gone *gone = osm_map_get(&ads->gone, proxy), *fresh = NULL;
    if (!gone)
        gone = fresh = osm_alloc(sizeof *gone);
    if (fresh && osm_map_put(&ads->gone, proxy, fresh, NULL)) {
        osm_free(fresh);
        gone = NULL;
    }
    if (gone) /* without memory one restart is not seen */
        *gone = (struct osm__gone){conn->view_number, osm_now_ms()};
}

void osm__past_came(struct osm__conn *conn, bool with_something)
{
    struct osm_ads *ads = conn->ads;
    struct osm__gone *gone = osm_map_del(&ads->gone, conn->peer.key);
    if (gone && !with_something && osm_now_ms() - gone->at_ms <= RESTART_MAX_MS &&
        ads->callbacks.restarted)
        ads->callbacks.restarted(ads->callbacks.ud, conn->peer.key, gone->view_number);
    osm_free(gone);
}

void osm__past_sweep(struct osm_ads *ads, uint64_t now_ms)
{
    osm_map_each (&ads->refusers, e)
        if (ads->snapshot && !osm_map_has(&ads->by_proxy, e->key) &&
            !osm_snapshot_find(ads->snapshot, e->key))
            (void)osm_map_del(&ads->refusers, e->key);
    osm_map_each (&ads->gone, e) {
        struct osm__gone *gone = e->value;
        if (now_ms - gone->at_ms > RESTART_MAX_MS) {
            (void)osm_map_del(&ads->gone, e->key);
            osm_free(gone);
        }
    }
}
