/* The ADS server over mutual TLS, with gRPC core's own client. */
#include "ads_rig.h"

static const char ALL[] = "CDS c=1 EDS c=1 LDS l=1 RDS r=1 SDS root=1";

static void expect_text(struct rig *rig, int line, const char *want, const char *got)
{
    if (strcmp(want, got) != 0 && !rig->failure[0])
        (void)snprintf(rig->failure, sizeof rig->failure, "line %d: expected [%s], got [%s]", line,
                       want, got);
}
#define EXPECT_TEXT(rig, want, got) expect_text(rig, __LINE__, want, got)

static void expect_start(struct rig *rig, int line, const char *want, const char *got)
{
    if (strncmp(want, got, strlen(want)) != 0 && !rig->failure[0])
        (void)snprintf(rig->failure, sizeof rig->failure, "line %d: expected [%s...], got [%s]",
                       line, want, got);
}
#define EXPECT_START(rig, want, got) expect_start(rig, __LINE__, want, got)

static const char *end_of(int code, const char *text)
{
    static char out[256];
    (void)snprintf(out, sizeof out, "end %d %s", code, text);
    return out;
}

/* ---- serving ---- */

static void serve_sotw(struct rig *rig)
{
    publish(rig, UUID, ALL);
    struct client c = client_open(rig, &rig->proxy, SOTW);
    client_start(&c);
    client_ask(&c, &(struct ask){OSM_XDS_CDS, NULL, NULL, NULL});
    EXPECT_TEXT(rig, "CDS c", client_next(&c));
    client_ack(&c, NULL);
    client_ask(&c, &(struct ask){OSM_XDS_EDS, "c", NULL, NULL});
    EXPECT_TEXT(rig, "EDS c", client_next(&c));
    client_ack(&c, "c");
    json_decref(until_applied(rig, 1));
    publish(rig, UUID, "CDS c=1 d=1 EDS c=2");
    EXPECT_TEXT(rig, "CDS c d", client_next(&c));
    client_ack(&c, NULL);
    EXPECT_TEXT(rig, "EDS c", client_next(&c));
    client_ask(&c, &(struct ask){OSM_XDS_EDS, "c", c.nonce, "does not please"});
    json_t *status = until_applied(rig, 1);
    const json_t *types = json_object_get(json_array_get(status, 0), "types");
    EXPECT_TEXT(rig, "does not please",
                json_string_value(json_object_get(json_object_get(types, "EDS"), "error")));
    EXPECT(rig, json_is_string(json_object_get(json_object_get(types, "EDS"), "nacked")));
    EXPECT(rig, json_is_null(json_object_get(json_object_get(types, "CDS"), "nacked")));
    EXPECT_TEXT(rig, c.version,
                json_string_value(json_object_get(json_object_get(types, "EDS"), "nacked")));
    EXPECT_TEXT(rig, "sotw", json_string_value(json_object_get(json_array_get(status, 0), "mode")));
    EXPECT_TEXT(rig, "pod", json_string_value(json_object_get(json_array_get(status, 0), "pod")));
    EXPECT(rig, json_integer_value(json_object_get(json_array_get(status, 0), "snapshot")) == 1);
    json_decref(status);
    EXPECT(rig, rig->changes > 0);
    client_close(&c);
    json_decref(until_applied(rig, 0)); /* A-XDS-14: gone with the client */
}

static void test_a_xds_14_serves_the_state_of_the_world_and_forgets_who_leaves(void **state)
{
    (void)state;
    run(serve_sotw);
}

static void serve_delta(struct rig *rig)
{
    publish(rig, UUID, ALL);
    struct client c = client_open(rig, &rig->proxy, DELTA);
    client_start(&c);
    client_ask(&c, &(struct ask){OSM_XDS_CDS, NULL, NULL, NULL});
    EXPECT_TEXT(rig, "CDS c", client_next(&c));
    client_ack(&c, NULL);
    publish(rig, UUID, "CDS c=1 d=1");
    EXPECT_TEXT(rig, "CDS d", client_next(&c));
    client_ack(&c, NULL);
    publish(rig, UUID, "CDS d=1");
    EXPECT_TEXT(rig, "CDS -c", client_next(&c));
    client_ack(&c, NULL);
    json_t *status = until_applied(rig, 1);
    EXPECT(rig, json_integer_value(json_object_get(json_array_get(status, 0), "snapshot")) == 3);
    EXPECT_TEXT(rig, "delta",
                json_string_value(json_object_get(json_array_get(status, 0), "mode")));
    json_decref(status);
    client_close(&c);
}

static void test_serves_delta(void **state)
{
    (void)state;
    run(serve_delta);
}

/* ---- who may ---- */

static void expect_refused(struct rig *rig, int line, const struct identity *id, int code,
                           const char *text)
{
    struct client c = client_open(rig, id, SOTW);
    client_start(&c);
    client_ask(&c, &(struct ask){OSM_XDS_CDS, NULL, NULL, NULL});
    expect_start(rig, line, end_of(code, text), client_end(&c));
    client_close(&c);
}

static void refuse_streams(struct rig *rig)
{
    struct authority other = authority_new();
    struct identity list[] = {
        proxy_new(&other, UUID),
        identity_new(&rig->ca, CN(UUID), "URI:" MARKER(UUID), "clientAuth", -3600, -5),
        identity_new(&rig->ca, CN(UUID), "URI:" MARKER(UUID), "clientAuth", 600, 3600),
        identity_new(&rig->ca, "caller.red.cluster.local", "DNS:caller.red.cluster.local",
                     "serverAuth,clientAuth", -60, 3600),
        identity_new(&rig->ca, CN(UUID), "URI:" MARKER(UUID_B), "clientAuth", -60, 3600),
        identity_new(&rig->ca, CN(UUID), "URI:" MARKER(UUID) ",URI:" MARKER(UUID_B), "clientAuth",
                     -60, 3600),
        identity_new(&rig->ca, CN(UUID), "URI:spiffe://cluster.local/caller/red", "clientAuth", -60,
                     3600),
        identity_new(&rig->ca, CN(UUID), "URI:" MARKER(UUID), "clientAuth,serverAuth", -60, 3600),
        identity_new(&rig->ca, CN(UUID), "URI:" MARKER(UUID), NULL, -60, 3600),
        identity_new(&rig->ca, UUID ".sidecar.caller.red.other.domain", NULL, "clientAuth", -60,
                     3600),
    };
    publish(rig, UUID, ALL);
    for (size_t i = 0; i < 3; i++) /* another root, expired, not yet valid: not even a connection */
        expect_refused(rig, __LINE__, &list[i], GRPC_STATUS_UNAVAILABLE, "");
    expect_refused(rig, __LINE__, NULL, GRPC_STATUS_UNAVAILABLE, "");
    expect_refused(rig, __LINE__, &list[3], GRPC_STATUS_PERMISSION_DENIED,
                   "client certificate is not a proxy's");
    for (size_t i = 4; i < 7; i++)
        expect_refused(rig, __LINE__, &list[i], GRPC_STATUS_PERMISSION_DENIED,
                       "client certificate: its URI is not the one of proxy " UUID);
    expect_refused(rig, __LINE__, &list[7], GRPC_STATUS_PERMISSION_DENIED,
                   "client certificate: a proxy's must not be for servers");
    expect_refused(rig, __LINE__, &list[8], GRPC_STATUS_PERMISSION_DENIED,
                   "client certificate: it is not for clients");
    expect_refused(rig, __LINE__, &list[9], GRPC_STATUS_PERMISSION_DENIED,
                   "client certificate is not a proxy's: trust domain");
    rig->refuse_admission = true;
    expect_refused(rig, __LINE__, &rig->proxy, GRPC_STATUS_PERMISSION_DENIED, "no such pod");
    json_decref(until_applied(rig, 0));
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++)
        identity_clear(&list[i]);
    authority_clear(&other);
}

static void test_refuses_whoever_is_not_a_live_proxy(void **state)
{
    (void)state;
    run(refuse_streams);
}

static void accept_old(struct rig *rig)
{
    struct identity old =
        identity_new(&rig->ca, CN(UUID), "DNS:" CN(UUID), "serverAuth,clientAuth", -60, 3600);
    publish(rig, UUID, ALL);
    struct client c = client_open(rig, &old, SOTW);
    client_start(&c);
    client_ask(&c, &(struct ask){OSM_XDS_CDS, NULL, NULL, NULL});
    EXPECT_TEXT(rig, "CDS c", client_next(&c));
    client_close(&c);
    identity_clear(&old);
}

static void test_accepts_the_certificate_of_an_old_bootstrap(void **state)
{
    (void)state;
    run(accept_old);
}

static void expire(struct rig *rig)
{
    struct identity brief =
        identity_new(&rig->ca, CN(UUID), "URI:" MARKER(UUID), "clientAuth", -60, 2);
    publish(rig, UUID, ALL);
    struct client c = client_open(rig, &brief, SOTW);
    client_start(&c);
    client_ask(&c, &(struct ask){OSM_XDS_CDS, NULL, NULL, NULL});
    EXPECT_TEXT(rig, "CDS c", client_next(&c));
    EXPECT_TEXT(rig, end_of(GRPC_STATUS_UNAUTHENTICATED, "the client certificate has expired"),
                client_next(&c));
    client_close(&c);
    identity_clear(&brief);
}

static void test_stream_ends_when_its_certificate_does(void **state)
{
    (void)state;
    run(expire);
}

static void change_tls(struct rig *rig, void *arg)
{
    const struct authority *other = arg;
    osm_ads_set_tls(rig->ads, rig->server.chain, rig->server.key, other->pem);
}

static void break_tls(struct rig *rig, void *arg)
{
    osm_ads_set_tls(rig->ads, rig->server.chain, arg, rig->ca.pem);
}

static void new_stream_on(struct rig *rig, struct client *first, struct client *second)
{
    grpc_slice path = grpc_slice_from_static_string(SOTW);
    *second = (struct client){.queue = first->queue, .channel = first->channel};
    second->call =
        grpc_channel_create_call(first->channel, NULL, GRPC_PROPAGATE_DEFAULTS, first->queue, path,
                                 NULL, gpr_inf_future(GPR_CLOCK_REALTIME), NULL);
    client_start(second);
    EXPECT(rig, second->call);
}

static void rotate(struct rig *rig)
{
    struct authority other = authority_new();
    struct identity fresh = proxy_new(&other, UUID);
    publish(rig, UUID, ALL);
    on_loop(rig, break_tls, rig->proxy.key); /* does not match: the old material stays */
    struct client c = client_open(rig, &rig->proxy, SOTW), again, d;
    client_start(&c);
    client_ask(&c, &(struct ask){OSM_XDS_CDS, NULL, NULL, NULL});
    EXPECT_TEXT(rig, "CDS c", client_next(&c));
    on_loop(rig, change_tls, &other);
    /* A new stream on the old connection is judged by the new roots. */
    new_stream_on(rig, &c, &again);
    EXPECT_START(rig, end_of(GRPC_STATUS_PERMISSION_DENIED, "client certificate: "),
                 client_end(&again));
    grpc_call_unref(again.call);
    grpc_metadata_array_destroy(&again.initial);
    grpc_metadata_array_destroy(&again.trailing);
    grpc_slice_unref(again.details);
    d = client_open(rig, &fresh, SOTW);
    client_start(&d);
    client_ask(&d, &(struct ask){OSM_XDS_CDS, NULL, NULL, NULL});
    EXPECT_TEXT(rig, "CDS c", client_next(&d));
    client_close(&d);
    client_close(&c);
    identity_clear(&fresh);
    authority_clear(&other);
}

static void test_new_roots_count_at_the_next_stream(void **state)
{
    (void)state;
    run(rotate);
}

static void look_at_contexts(struct rig *rig)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    EXPECT(rig, ctx && SSL_CTX_get_num_tickets(ctx) == 0);
    EXPECT(rig, ctx && (SSL_CTX_get_options(ctx) & SSL_OP_NO_TICKET));
    SSL_CTX_free(ctx);
}

static void test_no_session_tickets(void **state)
{
    (void)state;
    run(look_at_contexts);
}

/* ---- life of streams ---- */

static void replace_streams(struct rig *rig)
{
    struct client c[3];
    publish(rig, UUID, ALL);
    for (int i = 0; i < 3; i++) {
        c[i] = client_open(rig, &rig->proxy, SOTW);
        client_start(&c[i]);
        client_ask(&c[i], &(struct ask){OSM_XDS_CDS, NULL, NULL, NULL});
        EXPECT_TEXT(rig, "CDS c", client_next(&c[i]));
        client_ack(&c[i], NULL);
    }
    EXPECT_START(rig, end_of(GRPC_STATUS_ABORTED, "replaced"), client_next(&c[0]));
    json_decref(until_applied(rig, 2));
    for (int i = 0; i < 3; i++)
        client_close(&c[i]);
    json_decref(until_applied(rig, 0));
}

static void test_newest_two_streams_of_a_proxy_stay(void **state)
{
    (void)state;
    run(replace_streams);
}

static void drop_it(struct rig *rig, void *arg)
{
    osm_ads_drop(rig->ads, UUID ".red", arg);
}

static void come_and_go(struct rig *rig)
{
    struct client c = client_open(rig, &rig->proxy, SOTW);
    client_start(&c);
    client_ask(&c, &(struct ask){OSM_XDS_CDS, NULL, NULL, NULL});
    publish(rig, UUID_B, "CDS other=1");
    EXPECT(rig, applied_on(rig, 1)); /* admitted and not served: it holds nobody up */
    publish(rig, UUID " " UUID_B, ALL);
    EXPECT_TEXT(rig, "CDS c", client_next(&c));
    publish(rig, UUID_B, ALL);
    EXPECT_TEXT(rig, end_of(GRPC_STATUS_PERMISSION_DENIED, "the proxy's pod is gone"),
                client_next(&c));
    client_close(&c);
    publish(rig, UUID, ALL);
    c = client_open(rig, &rig->proxy, DELTA);
    client_start(&c);
    client_ask(&c, &(struct ask){OSM_XDS_CDS, NULL, NULL, NULL});
    EXPECT_TEXT(rig, "CDS c", client_next(&c));
    on_loop(rig, drop_it, (void *)(uintptr_t) "by hand");
    EXPECT_TEXT(rig, end_of(GRPC_STATUS_PERMISSION_DENIED, "by hand"), client_next(&c));
    client_close(&c);
}

static void test_stream_waits_for_its_pod_and_ends_with_it(void **state)
{
    (void)state;
    run(come_and_go);
}

static void misbehave(struct rig *rig)
{
    struct identity second = proxy_new(&rig->ca, UUID_B);
    publish(rig, UUID " " UUID_B, ALL);
    struct client good = client_open(rig, &second, SOTW), bad;
    client_start(&good);
    client_ask(&good, &(struct ask){OSM_XDS_CDS, NULL, NULL, NULL});
    EXPECT_TEXT(rig, "CDS c", client_next(&good));
    client_ack(&good, NULL);

    struct osm_buf garbage = OSM_BUF_INIT(16), untyped = OSM_BUF_INIT(256);
    (void)osm_buf_add(&garbage, "\xff\xff\xff", 3);
    bad = client_open(rig, &rig->proxy, DELTA);
    client_start(&bad);
    client_send(&bad, &garbage);
    EXPECT_START(rig, end_of(GRPC_STATUS_INVALID_ARGUMENT, "the request is not"), client_end(&bad));
    client_close(&bad);

    bad = client_open(rig, &rig->proxy, SOTW); /* A-XDS-13 */
    client_start(&bad);
    client_send(&bad, &untyped);
    EXPECT_START(rig, end_of(GRPC_STATUS_INVALID_ARGUMENT, "the request has no type_url"),
                 client_end(&bad));
    client_close(&bad);

    bad = client_open(rig, &rig->proxy,
                      "/envoy.service.discovery.v3.AggregatedDiscoveryService/Other");
    client_start(&bad);
    EXPECT_START(rig, end_of(GRPC_STATUS_UNIMPLEMENTED, ""), client_end(&bad));
    client_close(&bad);

    osm_wire_put_bytes(&untyped, 4, "type.googleapis.com/unknown.Type",
                       32); /* on the same stream as known ones */
    client_send(&good, &untyped);
    publish(rig, UUID " " UUID_B, "CDS c=2");
    EXPECT_TEXT(rig, "CDS c", client_next(&good));
    client_ack(&good, NULL);
    json_t *status = until_applied(rig, 1);
    EXPECT(rig, json_array_size(status) == 1);
    json_decref(status);
    client_close(&good);
    osm_buf_clear(&garbage);
    osm_buf_clear(&untyped);
    identity_clear(&second);
}

static void test_a_bad_request_ends_its_own_stream_only(void **state)
{
    (void)state;
    run(misbehave);
}

/* ---- secrets ---- */

static void give_leaf(struct rig *rig)
{
    struct client c[2];
    publish(rig, UUID, ALL);
    for (int i = 0; i < 2; i++) {
        c[i] = client_open(rig, &rig->proxy, DELTA);
        client_start(&c[i]);
        client_ask(&c[i],
                   &(struct ask){OSM_XDS_SDS,
                                 "root service-cert service-cert:red/caller service-cert:red/other",
                                 NULL, NULL});
        EXPECT_TEXT(rig, "SDS -service-cert:red/other root", client_next(&c[i]));
        client_ack(&c[i], NULL);
    }
    EXPECT(rig, rig->wanted == 1); /* once for the account */
    on_loop(rig, set_leaf_now, (void *)(uintptr_t) "fp.1");
    for (int i = 0; i < 2; i++) {
        EXPECT_TEXT(rig, "SDS service-cert service-cert:red/caller", client_next(&c[i]));
        client_ack(&c[i], NULL);
    }
    json_decref(until_applied(rig, 2));
    on_loop(rig, set_leaf_now, (void *)(uintptr_t) "fp.2");
    for (int i = 0; i < 2; i++) {
        EXPECT_TEXT(rig, "SDS service-cert service-cert:red/caller", client_next(&c[i]));
        client_ack(&c[i], NULL);
        client_close(&c[i]);
    }
}

static void test_leaf_is_asked_for_once_and_given_to_all(void **state)
{
    (void)state;
    run(give_leaf);
}

/* ---- start and stop ---- */

static void try_bad_starts(struct rig *rig, void *arg)
{
    struct osm_ads_callbacks callbacks = {rig, rig_admit, rig_want_leaf, NULL, NULL, rig_changed};
    struct osm_ads_config config = rig_config(rig);
    struct osm_ads *ads = NULL;
    struct osm_err err = {0};
    char taken[32];
    (void)arg;
    (void)snprintf(taken, sizeof taken, "127.0.0.1:%u", osm_ads_port(rig->ads));
    config.listen = taken;
    EXPECT(rig, osm_ads_start(&ads, rig->loop, &config, &callbacks, &err) == OSM_EIO);
    EXPECT(rig, strstr(err.msg, taken) && strstr(err.msg, "in use"));
    config = rig_config(rig);
    config.key_pem = rig->proxy.key;
    EXPECT(rig, osm_ads_start(&ads, rig->loop, &config, &callbacks, &err) == OSM_ECRYPTO);
    EXPECT(rig, strstr(err.msg, "does not match"));
    config = rig_config(rig);
    config.roots_pem = "nothing";
    EXPECT(rig, osm_ads_start(&ads, rig->loop, &config, &callbacks, &err) == OSM_ECRYPTO);
    EXPECT(rig, strstr(err.msg, "roots"));
    EXPECT(rig, !ads);
}

static void start_badly(struct rig *rig)
{
    on_loop(rig, try_bad_starts, NULL);
}

static void test_a_port_in_use_and_bad_material_are_clear_errors(void **state)
{
    (void)state;
    run(start_badly);
}

static struct client left_open;

static void leave_open(struct rig *rig)
{
    publish(rig, UUID, ALL);
    left_open = client_open(rig, &rig->proxy, SOTW);
    client_start(&left_open);
    client_ask(&left_open, &(struct ask){OSM_XDS_CDS, NULL, NULL, NULL});
    EXPECT_TEXT(rig, "CDS c", client_next(&left_open));
}

static void test_stop_ends_open_streams(void **state)
{
    (void)state;
    grpc_init();
    run(leave_open);
    assert_string_equal(end_of(GRPC_STATUS_UNAVAILABLE, "stopping"), client_next(&left_open));
    client_close(&left_open);
    grpc_shutdown_blocking();
}

static int no_memory_left_behind(void **state)
{
    (void)state;
    return osm_mem_live() == 0 ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_xds_14_serves_the_state_of_the_world_and_forgets_who_leaves),
        cmocka_unit_test(test_serves_delta),
        cmocka_unit_test(test_refuses_whoever_is_not_a_live_proxy),
        cmocka_unit_test(test_accepts_the_certificate_of_an_old_bootstrap),
        cmocka_unit_test(test_stream_ends_when_its_certificate_does),
        cmocka_unit_test(test_new_roots_count_at_the_next_stream),
        cmocka_unit_test(test_no_session_tickets),
        cmocka_unit_test(test_newest_two_streams_of_a_proxy_stay),
        cmocka_unit_test(test_stream_waits_for_its_pod_and_ends_with_it),
        cmocka_unit_test(test_a_bad_request_ends_its_own_stream_only),
        cmocka_unit_test(test_leaf_is_asked_for_once_and_given_to_all),
        cmocka_unit_test(test_a_port_in_use_and_bad_material_are_clear_errors),
        cmocka_unit_test(test_stop_ends_open_streams),
    };
    return cmocka_run_group_tests(tests, NULL, no_memory_left_behind);
}
