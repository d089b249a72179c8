/* One stream: gRPC's batches on one side, the stream machine on the other. One read and one write
 * are out at most. */
#include "xds/ads_priv.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "xds/discovery.h"

#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/slice.h>
#include <grpc/support/alloc.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

static const char LEAF_NAME[] = "service-cert";

static void conn_free(struct osm__conn *conn)
{
    struct osm_ads *ads = conn->ads;
    OSM_DCHECK(!conn->dirty);
    if (conn->prev)
        conn->prev->next = conn->next;
    else
        ads->first = conn->next;
    if (conn->next)
        conn->next->prev = conn->prev;
    else
        ads->last = conn->prev;
    ads->conns--;
    osm_stream_free(conn->stream);
    grpc_byte_buffer_destroy(conn->incoming);
    grpc_byte_buffer_destroy(conn->outgoing);
    grpc_call_unref(conn->call);
    osm_free(conn);
    osm__ads_conn_gone(ads);
}

/* Out of the tables that say who is connected; the memory may live on until gRPC has returned every
 * op. */
static void conn_leave(struct osm__conn *conn)
{
    struct osm_ads *ads = conn->ads;
    if (conn->dirty) {
        struct osm__conn **at = &ads->dirty_first;
        while (*at != conn)
            at = &(*at)->dirty_next;
        *at = conn->dirty_next;
        if (!*at)
            ads->dirty_last = at;
        conn->dirty = false;
    }
    if (!conn->admitted)
        return;
    osm__past_left(conn);
    conn->admitted = false;
    conn->counts = NULL;
    const char *proxy = conn->peer.key;
    struct osm__conn *newest = osm_map_get(&ads->by_proxy, proxy);
    if (newest == conn) {
        if (!conn->same_proxy)
            (void)osm_map_del(&ads->by_proxy, proxy);
        else
            OSM_REQUIRE(!osm_map_put(&ads->by_proxy, proxy, conn->same_proxy,
                                     NULL)); /* replacing needs no memory */
    }
    for (; newest; newest = newest->same_proxy)
        if (newest->same_proxy == conn)
            newest->same_proxy = conn->same_proxy;
    conn->account->conns--;
    osm_log(OSM_LOG_XDS, OSM_LOG_INFO, "stream closed", OSM_S("node", conn->peer.id.uuid),
            OSM_S("namespace", conn->peer.id.ns), OSM_S("account", conn->peer.id.account),
            OSM_U("streams", ads->by_proxy.count));
    osm__ads_changed(ads);
}

/* An op has come back. Returns false when that was the last and the conn is gone. */
static bool op_back(struct osm__conn *conn)
{
    conn->ops--;
    if (conn->ops || !conn->closed)
        return true;
    conn_free(conn);
    return false;
}

static bool start(struct osm__conn *conn, struct osm__op *op, const grpc_op *ops, size_t n)
{
    grpc_call_error e = grpc_call_start_batch(conn->call, ops, n, op, NULL);
    if (e != GRPC_CALL_OK) {
        osm_log(OSM_LOG_XDS, OSM_LOG_ERROR, "gRPC refused an operation",
                OSM_S("error", grpc_call_error_to_string(e)), OSM_S("node", conn->peer.id.uuid));
        return false;
    }
    conn->ops++;
    return true;
}

static void send_status(struct osm__conn *conn)
{
    grpc_slice text = grpc_slice_from_copied_string(conn->finish.text);
    grpc_op op = {.op = GRPC_OP_SEND_STATUS_FROM_SERVER};
    op.data.send_status_from_server.status = conn->finish.code;
    op.data.send_status_from_server.status_details = &text;
    conn->finish.pending = false;
    if (!start(conn, &conn->status_op, &op, 1))
        (void)grpc_call_cancel_with_status(conn->call, conn->finish.code, conn->finish.text, NULL);
    grpc_slice_unref(text);
}

void osm__conn_finish(struct osm__conn *conn, grpc_status_code code, const char *text)
{
    if (conn->ended)
        return;
    conn_leave(conn);
    conn->ended = true;
    conn->finish.code = code;
    conn->finish.since_ms = osm_now_ms();
    (void)snprintf(conn->finish.text, sizeof conn->finish.text, "%s", text);
    if (conn->sending)
        conn->finish.pending = true;
    else
        send_status(conn);
}

void osm__conn_mark(struct osm__conn *conn)
{
    struct osm_ads *ads = conn->ads;
    if (conn->dirty || conn->ended)
        return;
    conn->dirty = true;
    conn->dirty_next = NULL;
    *ads->dirty_last = conn;
    ads->dirty_last = &conn->dirty_next;
    osm_turns_ask(ads->serving);
}

/* Before all others: what it has refused may be what they are about to be told, and what comes next
 * finds out. */
static void mark_first(struct osm__conn *conn)
{
    struct osm_ads *ads = conn->ads;
    if (conn->dirty || conn->ended)
        return;
    conn->dirty = true;
    conn->dirty_next = ads->dirty_first;
    if (!ads->dirty_first)
        ads->dirty_last = &conn->dirty_next;
    ads->dirty_first = conn;
    osm_turns_ask(ads->serving);
}

/* ---- sending ---- */

static void drop_body(void *body)
{
    osm_bytes_unref(body);
}

static grpc_byte_buffer *buffer_of(const struct osm_discovery_response *r)
{
    grpc_slice *slices = osm_alloc_array(r->parts_len, sizeof *slices);
    if (!slices)
        return NULL;
    grpc_slice text = grpc_slice_from_copied_buffer(r->text.data ? r->text.data : "", r->text.len);
    for (size_t i = 0; i < r->parts_len; i++) {
        const struct osm_discovery_part *p = &r->parts[i];
        if (p->body)
            slices[i] = grpc_slice_new_with_user_data((void *)(uintptr_t)osm_bytes_data(p->body),
                                                      p->len, drop_body, osm_bytes_ref(p->body));
        else
            slices[i] = grpc_slice_sub(text, p->from, p->from + p->len);
    }
    grpc_byte_buffer *buffer = grpc_raw_byte_buffer_create(slices, r->parts_len);
    for (size_t i = 0; i < r->parts_len; i++)
        grpc_slice_unref(slices[i]);
    grpc_slice_unref(text);
    osm_free(slices);
    return buffer;
}

static int send_response(struct osm__conn *conn, const struct osm_stream_response *response)
{
    struct osm_discovery_response wire = {0};
    int rc = osm_discovery_encode(&wire, osm_stream_mode(conn->stream), response);
    if (rc)
        return rc;
    conn->outgoing = buffer_of(&wire);
    osm_discovery_response_clear(&wire);
    if (!conn->outgoing)
        return OSM_ENOMEM;
    grpc_op op = {.op = GRPC_OP_SEND_MESSAGE};
    op.data.send_message.send_message = conn->outgoing;
    conn->sending = true;
    conn->sending_type = response->type;
    conn->sent_us[response->type] = osm_now_us();
    if (!start(conn, &conn->send_op, &op, 1)) {
        conn->sending = false;
        return OSM_EIO;
    }
    osm_log(OSM_LOG_XDS, OSM_LOG_DEBUG, "sent", OSM_S("node", conn->peer.id.uuid),
            OSM_S("type", osm_xds_type_short(response->type)), OSM_S("version", response->version),
            OSM_U("resources", response->resources_len), OSM_U("removed", response->removed_len),
            OSM_U("snap", conn->view_number));
    return 0;
}

static void count_not_sent(struct osm__conn *conn, enum osm_xds_type type)
{
    osm_metric_add(OSM_METRIC_ERRORS, OSM_LABELS("E5006"), 1);
    if (conn->counts)
        conn->counts->types[type].not_sent++;
}

static void on_sent(struct osm__op *op, bool ok)
{
    struct osm__conn *conn = op->owner;
    /* A stream that cannot be written to closes, and says so on close_op. */
    if (ok)
        osm__counts_sent(conn->counts, conn->sending_type);
    else
        count_not_sent(conn, conn->sending_type);
    grpc_byte_buffer_destroy(conn->outgoing);
    conn->outgoing = NULL;
    conn->sending = false;
    if (conn->finish.pending)
        send_status(conn);
    else
        osm__conn_mark(conn);
    (void)op_back(conn);
}

/* ---- the view ---- */

static bool needs_leaf(const struct osm__conn *conn)
{
    const char *names[] = {LEAF_NAME, conn->account->own_name};
    for (size_t i = 0; i < 2; i++)
        if (osm_stream_asks(conn->stream, OSM_XDS_SDS, names[i])) {
            const char *has = osm_stream_has(conn->stream, OSM_XDS_SDS, names[i]);
            if (!has || !osm__leaf_current(conn->ads, has, osm_wall_s()))
                return true;
        }
    return false;
}

static int update_view(struct osm__conn *conn)
{
    struct osm_ads *ads = conn->ads;
    const struct osm__account *account = conn->account;
    const struct osm_snapshot *snapshot = ads->snapshot;
    if (!snapshot ||
        (conn->view_number == snapshot->number && conn->leaf_generation == account->generation))
        return 0;
    const struct osm_snapshot_proxy *proxy = osm_snapshot_find(snapshot, conn->peer.key);
    if (!proxy) {
        if (conn->seen)
            osm__conn_finish(conn, GRPC_STATUS_PERMISSION_DENIED, "the proxy's pod is gone");
        return 0;
    }
    if (strcmp(proxy->ns, conn->peer.id.ns) != 0 ||
        strcmp(proxy->account, conn->peer.id.account) != 0) {
        osm__conn_finish(conn, GRPC_STATUS_PERMISSION_DENIED,
                         "the certificate is not of the pod's account");
        return 0;
    }
    struct osm_stream_secret secrets[] = {{LEAF_NAME, account->leaf, false},
                                          {account->own_name, account->named_leaf, true}};
    int rc = osm_stream_set_view(conn->stream, proxy->cls, secrets, 2);
    if (rc)
        return rc;
    conn->seen = true;
    conn->view_number = snapshot->number;
    conn->leaf_generation = account->generation;
    return 0;
}

bool osm__conn_whole(const struct osm__conn *conn)
{
    return !osm__conn_due(conn) && !osm_stream_refused(conn->stream);
}

static int send_next(struct osm__conn *conn)
{
    struct osm_stream_response response;
    int rc = osm_stream_next(conn->stream, &response);
    if (rc != 1)
        return rc;
    rc = send_response(conn, &response);
    if (rc)
        count_not_sent(conn, response.type);
    osm_stream_response_clear(&response);
    return rc;
}

void osm__conn_serve(struct osm__conn *conn)
{
    int rc = update_view(conn);
    if (conn->ended)
        return;
    if (needs_leaf(conn))
        osm__account_want(conn->ads, conn->account);
    if (!rc && !conn->sending)
        rc = send_next(conn);
    if (rc) /* the machine may believe that it has sent: begin anew */
        osm__conn_finish(conn, GRPC_STATUS_RESOURCE_EXHAUSTED, osm_code_text(rc));
    if (!conn->ended && osm__conn_whole(conn) && conn->applied_number != conn->view_number) {
        conn->applied_number = conn->view_number;
        osm__ads_changed(conn->ads);
    }
}

/* ---- receiving ---- */

static void receive(struct osm__conn *conn)
{
    grpc_op op = {.op = GRPC_OP_RECV_MESSAGE};
    op.data.recv_message.recv_message = &conn->incoming;
    (void)start(conn, &conn->recv_op, &op, 1);
}

static void note_node(struct osm__conn *conn, const struct osm_discovery_request *r)
{
    if (conn->has_node || !r->has_node)
        return;
    conn->has_node = true;
    memcpy(conn->version, r->version, sizeof conn->version);
    if (r->node_id[0] && strcasecmp(r->node_id, conn->peer.id.uuid) != 0)
        osm_log(OSM_LOG_XDS, OSM_LOG_WARN,
                "node id is not of the certificate; the certificate counts",
                OSM_S("node", conn->peer.id.uuid), OSM_S("node_id", r->node_id));
    if (!strcmp(r->user_agent, "envoy")) {
        osm_stream_expect(conn->stream, OSM_XDS_CDS);
        osm_stream_expect(conn->stream, OSM_XDS_LDS);
    }
}

static void note_coming(struct osm__conn *conn, const struct osm_stream_request *r)
{
    if (conn->asked_clusters || osm_xds_type_parse(r->type_url) != OSM_XDS_CDS)
        return;
    conn->asked_clusters = true;
    osm__past_came(conn, r->version[0] || r->claims_len);
}

static int take_request(struct osm__conn *conn, const void *data, size_t len, struct osm_err *err)
{
    struct osm_discovery_request w;
    enum osm_stream_verdict verdict;
    int rc = osm_discovery_decode(&w, osm_stream_mode(conn->stream), data, len, err);
    if (rc)
        return rc;
    note_node(conn, &w);
    note_coming(conn, &w.request);
    rc = osm_stream_request(conn->stream, &w.request, &verdict, err);
    if (!rc) {
        osm__conn_answered(conn, &w.request, verdict);
        if (verdict == OSM_STREAM_NACK)
            mark_first(conn);
        else
            osm__conn_mark(conn);
    }
    osm_discovery_request_clear(&w);
    return rc;
}

static void take_message(struct osm__conn *conn)
{
    struct osm_err err = {0};
    grpc_byte_buffer_reader reader;
    if (!grpc_byte_buffer_reader_init(&reader, conn->incoming)) {
        osm__conn_finish(conn, GRPC_STATUS_INVALID_ARGUMENT, "the request cannot be decompressed");
        return;
    }
    grpc_slice all = grpc_byte_buffer_reader_readall(&reader);
    int rc = take_request(conn, GRPC_SLICE_START_PTR(all), GRPC_SLICE_LENGTH(all), &err);
    grpc_slice_unref(all);
    grpc_byte_buffer_reader_destroy(&reader);
    if (!rc)
        return;
    osm_log(OSM_LOG_XDS, OSM_LOG_WARN, "bad request, stream ended",
            OSM_S("node", conn->peer.id.uuid), OSM_S("error", err.msg));
    osm__conn_finish(
        conn, rc == OSM_ENOMEM ? GRPC_STATUS_RESOURCE_EXHAUSTED : GRPC_STATUS_INVALID_ARGUMENT,
        err.msg);
}

static void on_received(struct osm__op *op, bool ok)
{
    struct osm__conn *conn = op->owner;
    bool message = ok && conn->incoming;
    if (message && !conn->ended)
        take_message(conn);
    grpc_byte_buffer_destroy(conn->incoming);
    conn->incoming = NULL;
    if (!conn->ended && message) {
        receive(conn);
    } else if (!conn->ended) {
        osm__past_went(conn);
        osm__conn_finish(conn, GRPC_STATUS_OK, "");
    }
    (void)op_back(conn);
}

/* ---- life ---- */

static void on_closed(struct osm__op *op, bool ok)
{
    struct osm__conn *conn = op->owner;
    (void)ok;
    conn->closed = true;
    if (!conn->ended) { /* the client or the connection has gone: nobody reads a status */
        osm__past_went(conn);
        conn_leave(conn);
        conn->ended = true;
        /* What is still out comes back soon after this. */
        (void)grpc_call_cancel_with_status(conn->call, GRPC_STATUS_CANCELLED, "closed", NULL);
    }
    (void)op_back(conn);
}

static void on_op(struct osm__op *op, bool ok)
{
    (void)ok;
    (void)op_back(op->owner);
}

static void limit_streams(struct osm__conn *newest)
{
    unsigned n = 0;
    for (struct osm__conn *conn = newest, *older; conn; conn = older) {
        older = conn->same_proxy;
        if (++n > OSM__ADS_STREAMS_PER_PROXY)
            osm__conn_finish(conn, GRPC_STATUS_ABORTED, "replaced by a newer stream of this proxy");
    }
}

/* Who is it, and may it? Registers the stream. */
static int admit(struct osm__conn *conn, struct osm_err *err)
{
    struct osm_ads *ads = conn->ads;
    const struct osm_proxy_id *id = &conn->peer.id;
    int rc = osm__ads_tls_peer(&ads->tls, conn->call, ads->trust_domain, &conn->peer, err);
    if (rc)
        osm_metric_add(OSM_METRIC_ERRORS, OSM_LABELS("E5001"), 1);
    else
        rc = ads->callbacks.admit(ads->callbacks.ud, id, err);
    if (rc)
        return rc;
    if (osm__ads_memory_full(ads) && !osm_map_has(&ads->by_proxy, conn->peer.key))
        return osm_fail(err, OSM_ELIMIT,
                        "the control plane's memory is full (%zu of %zu MiB): another replica, or "
                        "later",
                        ads->memory_bytes >> 20, ads->memory_max_bytes >> 20);
    if (ads->proxies_max && ads->by_proxy.count >= ads->proxies_max &&
        !osm_map_has(&ads->by_proxy, conn->peer.key))
        return osm_fail(
            err, OSM_ELIMIT,
            "too many connections: %zu proxies are connected, and maxDataPlaneConnections "
            "is %u",
            ads->by_proxy.count, ads->proxies_max);
    struct osm__account *account = osm__account_get(ads, id->ns, id->account);
    conn->same_proxy = osm_map_get(&ads->by_proxy, conn->peer.key);
    if (!account || osm_map_put(&ads->by_proxy, conn->peer.key, conn, NULL))
        return osm_fail(err, OSM_ENOMEM, "stream");
    conn->account = account;
    account->conns++;
    conn->admitted = true;
    osm__past_greet(ads, conn);
    conn->counts = osm__counts_get(ads, &conn->peer);
    if (conn->counts && conn->counts->streams++)
        osm_metric_add(OSM_METRIC_PROXY_RECONNECTS, NULL, 1);
    limit_streams(conn);
    return 0;
}

static void log_refusal(struct osm__conn *conn, const char *why)
{
    char *peer = grpc_call_get_peer(conn->call);
    osm_log(OSM_LOG_XDS, OSM_LOG_WARN, "stream refused", OSM_S("peer", peer), OSM_S("error", why));
    gpr_free(peer);
}

static void greet(struct osm__conn *conn, const char *unknown_method)
{
    struct osm_ads *ads = conn->ads;
    struct osm_err err = {0};
    if (unknown_method) {
        log_refusal(conn, "no such method");
        osm__conn_finish(conn, GRPC_STATUS_UNIMPLEMENTED,
                         "only AggregatedDiscoveryService is served here");
        return;
    }
    if (ads->stopping) {
        osm__conn_finish(conn, GRPC_STATUS_UNAVAILABLE, "stopping");
        return;
    }
    int rc = admit(conn, &err);
    if (rc) {
        log_refusal(conn, err.msg);
        if (rc == OSM_ELIMIT)
            osm_metric_add(OSM_METRIC_PROXIES_REJECTED, NULL, 1);
        osm__conn_finish(conn,
                         rc == OSM_ENOMEM || rc == OSM_ELIMIT ? GRPC_STATUS_RESOURCE_EXHAUSTED
                                                              : GRPC_STATUS_PERMISSION_DENIED,
                         err.msg);
        return;
    }
    osm_log(OSM_LOG_XDS, OSM_LOG_INFO, "stream opened", OSM_S("node", conn->peer.id.uuid),
            OSM_S("namespace", conn->peer.id.ns), OSM_S("account", conn->peer.id.account),
            OSM_S("mode", osm_stream_mode(conn->stream) == OSM_STREAM_DELTA ? "delta" : "sotw"),
            OSM_U("streams", ads->by_proxy.count));
    receive(conn);
    osm__conn_mark(conn);
    osm__ads_changed(ads);
}

void osm__conn_open(struct osm_ads *ads, grpc_call *call, enum osm_stream_mode mode,
                    const char *unknown_method)
{
    struct osm__conn *conn = osm_alloc(sizeof *conn);
    struct osm_stream *stream = osm_stream_new(mode, ++ads->next_tag);
    if (!conn || !stream) {
        osm_free(conn);
        osm_stream_free(stream);
        (void)grpc_call_cancel_with_status(call, GRPC_STATUS_RESOURCE_EXHAUSTED, "out of memory",
                                           NULL);
        grpc_call_unref(call);
        return;
    }
    *conn = (struct osm__conn){
        .ads = ads, .call = call, .stream = stream, .opened_ms = osm_now_ms(), .prev = ads->last};
    conn->close_op = (struct osm__op){.fn = on_closed, .owner = conn};
    conn->headers_op = (struct osm__op){.fn = on_op, .owner = conn};
    conn->status_op = (struct osm__op){.fn = on_op, .owner = conn};
    conn->recv_op = (struct osm__op){.fn = on_received, .owner = conn};
    conn->send_op = (struct osm__op){.fn = on_sent, .owner = conn};
    *(ads->last ? &ads->last->next : &ads->first) = conn;
    ads->last = conn;
    ads->conns++;

    grpc_op close = {.op = GRPC_OP_RECV_CLOSE_ON_SERVER};
    close.data.recv_close_on_server.cancelled = &conn->cancelled;
    if (!start(conn, &conn->close_op, &close, 1)) {
        conn->ended = true;
        conn_free(conn);
        return;
    }
    grpc_op headers = {.op = GRPC_OP_SEND_INITIAL_METADATA};
    (void)start(conn, &conn->headers_op, &headers, 1);
    greet(conn, unknown_method);
}

void osm__conn_sweep(struct osm__conn *conn, uint64_t now_ms, int64_t now_s)
{
    if (conn->finish.pending && now_ms - conn->finish.since_ms >= OSM__ADS_FINISH_MS) {
        conn->finish.since_ms = now_ms;
        (void)grpc_call_cancel_with_status(conn->call, conn->finish.code, conn->finish.text, NULL);
    }
    if (conn->ended)
        return;
    if (conn->peer.not_after <= now_s) {
        osm__conn_finish(conn, GRPC_STATUS_UNAUTHENTICATED, "the client certificate has expired");
        return;
    }
    /* It comes again, and by then its pod may be there: until then it must not take the place of
     * one that is. */
    if (conn->ads->snapshot && !conn->seen && now_ms - conn->opened_ms >= OSM__ADS_UNSEEN_MS &&
        !osm_snapshot_find(conn->ads->snapshot, conn->peer.key)) { /* or it is served soon */
        osm__conn_finish(conn, GRPC_STATUS_PERMISSION_DENIED, "no pod of the mesh has this uuid");
        return;
    }
    if (!conn->account->leaf && needs_leaf(conn))
        osm__account_want(conn->ads, conn->account);
    if (!osm_stream_waits(conn->stream)) {
        conn->waits_since_ms = 0;
    } else if (!conn->waits_since_ms) {
        conn->waits_since_ms = now_ms;
    } else if (now_ms - conn->waits_since_ms >= OSM__ADS_PATIENCE_MS) {
        osm_log(OSM_LOG_XDS, OSM_LOG_WARN, "clusters not answered, listeners and routes go without",
                OSM_S("node", conn->peer.id.uuid), OSM_U("snap", conn->view_number));
        conn->waits_since_ms = 0;
        osm_stream_stop_waiting(conn->stream);
        osm__conn_mark(conn);
    }
}

bool osm__conn_counts(const struct osm__conn *conn)
{
    const struct osm_ads *ads = conn->ads;
    if (!conn->admitted || osm_map_get(&ads->by_proxy, conn->peer.key) != conn)
        return false;
    return conn->seen || !ads->snapshot || osm_snapshot_find(ads->snapshot, conn->peer.key);
}

bool osm__conn_has_secrets(const struct osm__conn *conn)
{
    const struct osm_snapshot *snapshot = conn->ads->snapshot;
    return snapshot && conn->view_number == snapshot->number && !needs_leaf(conn) &&
           !osm_stream_type_state(conn->stream, OSM_XDS_SDS).due;
}

/* The leaf that it asks for is being signed with a key of another kind. */
static bool awaits_other_key(const struct osm__conn *conn)
{
    const struct osm_resource *leaf = conn->account->leaf;
    return leaf && osm__leaf_of_other_kind(conn->ads, leaf->version) && needs_leaf(conn);
}

bool osm__conn_due(const struct osm__conn *conn)
{
    const struct osm_snapshot *snapshot = conn->ads->snapshot;
    return !snapshot || conn->view_number != snapshot->number ||
           conn->leaf_generation != conn->account->generation || awaits_other_key(conn) ||
           osm_stream_due(conn->stream);
}
