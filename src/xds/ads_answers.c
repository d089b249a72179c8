/* What a proxy's answers say: told to whoever judges policies, counted, logged, shown. */
#include "xds/ads_priv.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"

struct suspects {
    const struct osm_resource **list; /* NULL: only counts */
    size_t len;
};

static void add_suspect(void *ud, const struct osm_resource *resource)
{
    struct suspects *suspects = ud;
    if (suspects->list)
        suspects->list[suspects->len] = resource;
    suspects->len++;
}

static void note_refusal(struct osm__conn *conn, enum osm_xds_type type, const char *error)
{
    uint64_t *since = &conn->refused_since[type];
    struct suspects all = {0}, found = {0};
    if (!*since)
        *since = conn->view_number;
    if (!conn->ads->callbacks.refused)
        return;
    osm_stream_each_refused(conn->stream, type, add_suspect, &all);
    found.list = osm_alloc_array(all.len, sizeof(struct osm_resource *));
    if (!found.list)
        return; /* without memory one refusal is not heard of */
    osm_stream_each_refused(conn->stream, type, add_suspect, &found);
    const struct osm_refusal refusal = {
        .proxy = conn->peer.key,
        .type = type,
        .resources = found.list,
        .len = found.len,
        .whole = osm_stream_mode(conn->stream) == OSM_STREAM_SOTW,
        .error = error,
        .since = *since,
    };
    if (found.len)
        conn->ads->callbacks.refused(conn->ads->callbacks.ud, &refusal);
    osm_free(found.list);
}

static void count_answer(struct osm__conn *conn, enum osm_xds_type type, bool taken)
{
    const char *name = osm_xds_type_short(type);
    if (conn->sent_us[type])
        osm_metric_observe(OSM_METRIC_PROXY_UPDATE_TIME, OSM_LABELS(name, taken ? "true" : "false"),
                           (double)(osm_now_us() - conn->sent_us[type]) / 1e6);
    conn->sent_us[type] = 0;
    if (!taken)
        osm_metric_add(OSM_METRIC_NACKS, OSM_LABELS(name), 1);
}

void osm__conn_answered(struct osm__conn *conn, const struct osm_stream_request *r,
                        enum osm_stream_verdict verdict)
{
    const char *uuid = conn->peer.id.uuid;
    int type = osm_xds_type_parse(r->type_url);
    if (type >= 0 && conn->counts)
        conn->counts->types[type].requests++;
    switch (verdict) {
    case OSM_STREAM_QUIET:
        break;
    case OSM_STREAM_ACK:
        count_answer(conn, (enum osm_xds_type)type, true);
        if (!osm_stream_type_state(conn->stream, (enum osm_xds_type)type).nacked) {
            conn->refused_since[type] = 0;
            osm__past_refused(conn->ads, conn->peer.key, (enum osm_xds_type)type, false);
        }
        osm__ads_changed(conn->ads);
        break;
    case OSM_STREAM_NACK:
        osm_log(OSM_LOG_XDS, OSM_LOG_WARN, "refused by the proxy", OSM_S("node", uuid),
                OSM_S("type", r->type_url), OSM_S("nonce", r->nonce), OSM_S("error", r->error),
                OSM_U("snap", conn->view_number));
        count_answer(conn, (enum osm_xds_type)type, false);
        osm__past_refused(conn->ads, conn->peer.key, (enum osm_xds_type)type, true);
        note_refusal(conn, (enum osm_xds_type)type, r->error);
        osm__ads_changed(conn->ads);
        break;
    case OSM_STREAM_STALE:
        osm_log(OSM_LOG_XDS, OSM_LOG_DEBUG, "stale nonce ignored", OSM_S("node", uuid),
                OSM_S("type", r->type_url), OSM_S("nonce", r->nonce));
        break;
    case OSM_STREAM_UNKNOWN_TYPE:
        osm_metric_add(OSM_METRIC_ERRORS, OSM_LABELS("E5013"), 1);
        if (!conn->unknown_type)
            osm_log(OSM_LOG_XDS, OSM_LOG_WARN, "type not known, ignored", OSM_S("node", uuid),
                    OSM_S("type", r->type_url));
        conn->unknown_type = true;
        break;
    }
}

/* ---- shown ---- */

static void add_name(void *ud, const struct osm_resource *resource)
{
    json_t *names = ud;
    if (json_array_size(names) < OSM_ADS_BLAMED)
        (void)json_array_append_new(names, json_string(resource->name));
}

json_t *osm__conn_status(const struct osm__conn *conn)
{
    const struct osm_snapshot *snapshot = conn->ads->snapshot;
    const struct osm_snapshot_proxy *proxy =
        snapshot ? osm_snapshot_find(snapshot, conn->peer.key) : NULL;
    json_t *types = json_object();
    for (int i = 0; i < OSM_XDS_TYPE_COUNT; i++) {
        struct osm_stream_type_state s = osm_stream_type_state(conn->stream, (enum osm_xds_type)i);
        if (!s.subscribed && !s.due)
            continue;
        json_t *blamed = json_array();
        osm_stream_each_blamed(conn->stream, (enum osm_xds_type)i, add_name, blamed);
        (void)json_object_set_new(types, osm_xds_type_short((enum osm_xds_type)i),
                                  json_pack("{s:s?, s:s?, s:o, s:s, s:b}", "acked",
                                            s.acked ? s.acked_version : NULL, "nacked",
                                            s.nacked ? s.nacked_version : NULL, "refused", blamed,
                                            "error", s.error, "due", (int)s.due));
    }
    return json_pack(
        "{s:s, s:s?, s:s, s:s, s:s, s:I, s:I, s:o}", "uuid", conn->peer.id.uuid, "pod",
        proxy ? proxy->pod : NULL, "namespace", conn->peer.id.ns, "account", conn->peer.id.account,
        "mode", osm_stream_mode(conn->stream) == OSM_STREAM_DELTA ? "delta" : "sotw", "connected_s",
        (json_int_t)((osm_now_ms() - conn->opened_ms) / 1000), "snapshot",
        (json_int_t)(osm__conn_whole(conn) ? conn->view_number : conn->applied_number), "types",
        types);
}
