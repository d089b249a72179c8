/* A server on the loop thread and a client on another: certificates made here, gRPC core's own
 * client, a snapshot of a few names. A scenario runs on the client's thread; what it asks of the
 * server runs on the loop. */
#pragma once

#include "base/clock.h"
#include "base/mem.h"
#include "xds/ads.h"
#include "xds/discovery.h"
#include "xds/wire.h"

#include <grpc/byte_buffer_reader.h>
#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <grpc/slice.h>
#include <grpc/support/alloc.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define UUID         "11111111-1111-4111-8111-111111111111"
#define UUID_B       "22222222-2222-4222-8222-222222222222"
#define CN(uuid)     uuid ".sidecar.caller.red.cluster.local"
#define MARKER(uuid) "spiffe://cluster.local/osm/proxy/" uuid

/* ---- certificates ---- */

struct authority {
    EVP_PKEY *key;
    X509 *cert;
    char *pem;
};

struct identity {
    char *chain, *key;
};

static char *take_bio(BIO *bio)
{
    char *data;
    long n = BIO_get_mem_data(bio, &data);
    char *out = strndup(data, (size_t)n);
    BIO_free(bio);
    return out;
}

static char *cert_pem(X509 *cert)
{
    BIO *bio = BIO_new(BIO_s_mem());
    PEM_write_bio_X509(bio, cert);
    return take_bio(bio);
}

static void add_extension(X509 *cert, int nid, const char *value)
{
    X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, NULL, nid, value);
    X509_add_ext(cert, ext, -1);
    X509_EXTENSION_free(ext);
}

static X509 *new_cert(EVP_PKEY *key, const char *cn, long from_s, long until_s)
{
    static long serial = 1;
    X509 *cert = X509_new();
    X509_set_version(cert, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), serial++);
    X509_gmtime_adj(X509_getm_notBefore(cert), from_s);
    X509_gmtime_adj(X509_getm_notAfter(cert), until_s);
    X509_set_pubkey(cert, key);
    X509_NAME_add_entry_by_NID(X509_get_subject_name(cert), NID_commonName, V_ASN1_UTF8STRING,
                               (const unsigned char *)cn, -1, -1, 0);
    return cert;
}

static struct authority authority_new(void)
{
    struct authority ca = {.key = EVP_EC_gen("P-256")};
    ca.cert = new_cert(ca.key, "a root", -60, 86400);
    X509_set_issuer_name(ca.cert, X509_get_subject_name(ca.cert));
    add_extension(ca.cert, NID_basic_constraints, "critical,CA:TRUE");
    X509_sign(ca.cert, ca.key, EVP_sha256());
    ca.pem = cert_pem(ca.cert);
    return ca;
}

static void authority_clear(struct authority *ca)
{
    EVP_PKEY_free(ca->key);
    X509_free(ca->cert);
    free(ca->pem);
}

/* san and eku may be NULL. */
static struct identity identity_new(const struct authority *ca, const char *cn, const char *san,
                                    const char *eku, long from_s, long until_s)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = new_cert(key, cn, from_s, until_s);
    X509_set_issuer_name(cert, X509_get_subject_name(ca->cert));
    if (san)
        add_extension(cert, NID_subject_alt_name, san);
    if (eku)
        add_extension(cert, NID_ext_key_usage, eku);
    X509_sign(cert, ca->key, EVP_sha256());
    BIO *bio = BIO_new(BIO_s_mem());
    PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL);
    struct identity id = {cert_pem(cert), take_bio(bio)};
    X509_free(cert);
    EVP_PKEY_free(key);
    return id;
}

static struct identity proxy_new(const struct authority *ca, const char *uuid)
{
    char cn[256], san[512];
    (void)snprintf(cn, sizeof cn, "%s.sidecar.caller.red.cluster.local", uuid);
    (void)snprintf(san, sizeof san, "DNS:%s,URI:spiffe://cluster.local/osm/proxy/%s", cn, uuid);
    return identity_new(ca, cn, san, "clientAuth", -60, 3600);
}

static void identity_clear(struct identity *id)
{
    free(id->chain);
    free(id->key);
}

/* ---- the server ---- */

struct rig {
    struct osm_loop *loop;
    struct osm_ads *ads;
    struct authority ca;
    struct identity server, proxy;
    void (*scenario)(struct rig *rig);
    pthread_t thread;
    char failure[512]; /* of the scenario */
    unsigned wanted, changes;
    bool refuse_admission;
    uint64_t number, stop_began_ms, stop_took_ms;
};

/* In scenarios, which are not on cmocka's thread: remembers the first failure. */
#define EXPECT(rig, ok)                                                                            \
    do {                                                                                           \
        if (!(ok) && !(rig)->failure[0])                                                           \
            (void)snprintf((rig)->failure, sizeof(rig)->failure, "%s:%d: %s", __FILE__, __LINE__,  \
                           #ok);                                                                   \
    } while (0)

static int rig_admit(void *ud, const struct osm_proxy_id *id, struct osm_err *err)
{
    const struct rig *rig = ud;
    (void)id;
    return rig->refuse_admission ? osm_fail(err, OSM_EACCES, "no such pod") : 0;
}

static void rig_want_leaf(void *ud, const char *ns, const char *account)
{
    struct rig *rig = ud;
    rig->wanted += !strcmp(ns, "red") && !strcmp(account, "caller");
}

static void rig_changed(void *ud)
{
    ((struct rig *)ud)->changes++;
}

struct errand {
    void (*fn)(struct rig *rig, void *arg);
    struct rig *rig;
    void *arg;
    sem_t done;
};

static void run_errand(void *ud)
{
    struct errand *e = ud;
    e->fn(e->rig, e->arg);
    sem_post(&e->done);
}

/* From the scenario: runs fn on the loop and waits. */
static void on_loop(struct rig *rig, void (*fn)(struct rig *rig, void *arg), void *arg)
{
    struct errand e = {fn, rig, arg, {{0}}};
    sem_init(&e.done, 0, 0);
    EXPECT(rig, osm_loop_post(rig->loop, run_errand, &e) == 0);
    while (sem_wait(&e.done)) {
    }
    sem_destroy(&e.done);
}

/* "CDS a=1 b=1 LDS l=1", for the given uuids (separated by a space); an empty list of uuids: no
 * proxy. */
struct content {
    const char *uuids, *resources;
};

static struct osm_class *parse_class(const char *text)
{
    struct osm_class *cls = osm_class_new();
    char copy[512], *save = NULL;
    int type = -1;
    (void)snprintf(copy, sizeof copy, "%s", text);
    for (int t = 0; t < OSM_XDS_TYPE_COUNT; t++)
        cls->types[t].list = osm_alloc_array(16, sizeof *cls->types[t].list);
    for (char *word = strtok_r(copy, " ", &save); word; word = strtok_r(NULL, " ", &save)) {
        char *eq = strchr(word, '=');
        if (!eq) {
            for (type = 0; strcmp(osm_xds_type_short((enum osm_xds_type)type), word) != 0;)
                type++;
            continue;
        }
        struct osm_buf b = OSM_BUF_INIT(256);
        *eq = '\0';
        osm_wire_put_bytes(&b, 1, word, strlen(word));
        osm_wire_put_bytes(&b, 2, eq + 1, strlen(eq + 1));
        cls->types[type].list[cls->types[type].len++] =
            osm_resource_new(word, osm_bytes_new(b.data, b.len));
        osm_buf_clear(&b);
    }
    return cls;
}

static void publish_now(struct rig *rig, void *arg)
{
    const struct content *content = arg;
    struct osm_snapshot *s = osm_snapshot_new();
    struct osm_class *cls = parse_class(content->resources);
    char uuids[128], *save = NULL;
    (void)snprintf(uuids, sizeof uuids, "%s", content->uuids);
    s->number = ++rig->number;
    s->proxies = osm_alloc_array(4, sizeof *s->proxies);
    for (char *uuid = strtok_r(uuids, " ", &save); uuid; uuid = strtok_r(NULL, " ", &save))
        s->proxies[s->proxies_len++] = (struct osm_snapshot_proxy){
            osm_strf("%s.red", uuid), osm_strdup("pod"), osm_strdup("red"), osm_strdup("caller"),
            osm_class_ref(cls)};
    osm_class_unref(cls);
    osm_ads_publish(rig->ads, s);
    osm_snapshot_unref(s);
}

static void publish(struct rig *rig, const char *uuids, const char *resources)
{
    struct content content = {uuids, resources};
    on_loop(rig, publish_now, &content);
}

static void set_leaf_now(struct rig *rig, void *arg)
{
    struct osm_buf b = OSM_BUF_INIT(256);
    osm_wire_put_bytes(&b, 1, "service-cert", 12);
    osm_wire_put_bytes(&b, 2, arg, strlen(arg));
    struct osm_resource *secret =
        osm_resource_new_versioned("service-cert", arg, osm_bytes_new_secret(b.data, b.len));
    osm_ads_set_leaf(rig->ads, "red", "caller", secret);
    osm_resource_unref(secret);
    osm_buf_clear(&b);
}

struct question {
    bool applied;
    size_t streams, nacked;
    json_t *status;
};

static void ask_now(struct rig *rig, void *arg)
{
    struct question *q = arg;
    q->applied = osm_ads_applied(rig->ads, &q->streams, &q->nacked);
    q->status = osm_ads_status(rig->ads);
}

/* Waits until everything is applied on that many streams, ten seconds at most; the last status,
 * json_decref. */
static json_t *until_applied(struct rig *rig, size_t streams)
{
    uint64_t begin_ms = osm_now_ms();
    for (;;) {
        struct question q = {0};
        on_loop(rig, ask_now, &q);
        bool there = q.applied && q.streams == streams;
        if (there || osm_now_ms() - begin_ms > 10000) {
            EXPECT(rig, there);
            return q.status;
        }
        json_decref(q.status);
        (void)usleep(2000);
    }
}

/* Waits until there are that many streams; is everything applied? */
static bool applied_on(struct rig *rig, size_t streams)
{
    uint64_t begin_ms = osm_now_ms();
    for (;;) {
        struct question q = {0};
        on_loop(rig, ask_now, &q);
        json_decref(q.status);
        if (q.streams == streams || osm_now_ms() - begin_ms > 10000) {
            EXPECT(rig, q.streams == streams);
            return q.applied;
        }
        (void)usleep(2000);
    }
}

/* ---- the client ---- */

struct client {
    grpc_completion_queue *queue;
    grpc_channel *channel;
    grpc_call *call;
    grpc_status_code code;
    grpc_slice details;
    grpc_metadata_array initial, trailing;
    grpc_byte_buffer *incoming;
    bool delta, ended;
    char url[128], nonce[64], version[64];
};

enum { TAG_STATUS = 1, TAG_HEADERS, TAG_SEND, TAG_RECEIVE };
static const char SOTW[] =
    "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources";
static const char DELTA[] =
    "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";

/* Waits for that completion, ten seconds at most. */
static void wait_tag(struct client *c, intptr_t tag)
{
    gpr_timespec deadline =
        gpr_time_add(gpr_now(GPR_CLOCK_REALTIME), gpr_time_from_seconds(10, GPR_TIMESPAN));
    for (grpc_event event;
         (event = grpc_completion_queue_next(c->queue, deadline, NULL)).type == GRPC_OP_COMPLETE;) {
        c->ended = c->ended || (intptr_t)event.tag == TAG_STATUS;
        if ((intptr_t)event.tag == tag)
            return;
    }
}

static struct client client_open(const struct rig *rig, const struct identity *id,
                                 const char *method)
{
    char target[32];
    struct client c = {.queue = grpc_completion_queue_create_for_next(NULL),
                       .delta = !strcmp(method, DELTA)};
    grpc_ssl_pem_key_cert_pair pair = {id ? id->key : NULL, id ? id->chain : NULL};
    grpc_channel_credentials *credentials =
        grpc_ssl_credentials_create(rig->ca.pem, id ? &pair : NULL, NULL, NULL);
    grpc_arg args[] = {
        {.type = GRPC_ARG_STRING, .key = (char *)(uintptr_t)GRPC_SSL_TARGET_NAME_OVERRIDE_ARG},
        {.type = GRPC_ARG_INTEGER, .key = (char *)(uintptr_t)GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL}};
    args[0].value.string = (char *)(uintptr_t) "ads.cluster.local";
    args[1].value.integer = 1; /* a connection of its own */
    (void)snprintf(target, sizeof target, "127.0.0.1:%u", osm_ads_port(rig->ads));
    c.channel = grpc_channel_create(target, credentials, &(grpc_channel_args){2, args});
    grpc_channel_credentials_release(credentials);
    grpc_slice path = grpc_slice_from_static_string(method);
    c.call = grpc_channel_create_call(c.channel, NULL, GRPC_PROPAGATE_DEFAULTS, c.queue, path, NULL,
                                      gpr_inf_future(GPR_CLOCK_REALTIME), NULL);
    return c;
}

/* After client_open has been stored where it stays. */
static void client_start(struct client *c)
{
    grpc_metadata_array_init(&c->initial);
    grpc_metadata_array_init(&c->trailing);
    c->details = grpc_empty_slice();
    grpc_op status = {.op = GRPC_OP_RECV_STATUS_ON_CLIENT};
    status.data.recv_status_on_client.trailing_metadata = &c->trailing;
    status.data.recv_status_on_client.status = &c->code;
    status.data.recv_status_on_client.status_details = &c->details;
    (void)grpc_call_start_batch(c->call, &status, 1, (void *)TAG_STATUS, NULL);
    grpc_op begin[] = {{.op = GRPC_OP_SEND_INITIAL_METADATA},
                       {.op = GRPC_OP_RECV_INITIAL_METADATA}};
    begin[1].data.recv_initial_metadata.recv_initial_metadata = &c->initial;
    (void)grpc_call_start_batch(c->call, begin, 1, (void *)TAG_SEND, NULL);
    (void)grpc_call_start_batch(c->call, begin + 1, 1, (void *)TAG_HEADERS, NULL);
    wait_tag(c, TAG_SEND);
}

static void client_send(struct client *c, const struct osm_buf *message)
{
    grpc_slice slice =
        grpc_slice_from_copied_buffer(message->data ? message->data : "", message->len);
    grpc_byte_buffer *buffer = grpc_raw_byte_buffer_create(&slice, 1);
    grpc_op op = {.op = GRPC_OP_SEND_MESSAGE};
    op.data.send_message.send_message = buffer;
    if (grpc_call_start_batch(c->call, &op, 1, (void *)TAG_SEND, NULL) == GRPC_CALL_OK)
        wait_tag(c, TAG_SEND);
    grpc_byte_buffer_destroy(buffer);
    grpc_slice_unref(slice);
}

struct ask {
    enum osm_xds_type type;
    const char *names; /* separated by spaces */
    const char *nonce, *error;
};

static void client_ask(struct client *c, const struct ask *ask)
{
    struct osm_buf b = OSM_BUF_INIT(4096);
    char url[128], names[256], *save = NULL;
    (void)snprintf(url, sizeof url, "type.googleapis.com/%s", osm_xds_type_message(ask->type));
    (void)snprintf(names, sizeof names, "%s", ask->names ? ask->names : "");
    osm_wire_put_bytes(&b, c->delta ? 2 : 4, url, strlen(url));
    for (char *name = strtok_r(names, " ", &save); name; name = strtok_r(NULL, " ", &save))
        osm_wire_put_bytes(&b, 3, name, strlen(name));
    if (ask->nonce)
        osm_wire_put_bytes(&b, c->delta ? 6 : 5, ask->nonce, strlen(ask->nonce));
    if (ask->nonce && !c->delta)
        osm_wire_put_bytes(&b, 1, c->version, strlen(c->version));
    if (ask->error) {
        size_t status = osm_wire_open(&b, c->delta ? 7 : 6);
        osm_wire_put_bytes(&b, 2, ask->error, strlen(ask->error));
        osm_wire_close(&b, status);
    }
    client_send(c, &b);
    osm_buf_clear(&b);
}

static void append(char *out, size_t size, const char *prefix, const struct osm_wire_field *f)
{
    size_t n = strlen(out);
    (void)snprintf(out + n, size - n, " %s%.*s", prefix, (int)f->len, (const char *)f->data);
}

/* The first field with that number inside @p in. */
static bool inside(const struct osm_wire_field *in, uint32_t field, struct osm_wire_field *out)
{
    struct osm_wire_reader r = {in->data, in->data + in->len};
    while (osm_wire_next(&r, out) > 0)
        if (out->field == field)
            return true;
    return false;
}

static void describe(struct client *c, const char *data, size_t len, char *out, size_t size)
{
    struct osm_wire_reader r = {(const uint8_t *)data, (const uint8_t *)data + len};
    struct osm_wire_field f, any, body, name;
    char list[512] = "";
    while (osm_wire_next(&r, &f) > 0) {
        if (f.field == 1)
            (void)snprintf(c->version, sizeof c->version, "%.*s", (int)f.len, (const char *)f.data);
        if (f.field == 4)
            (void)snprintf(c->url, sizeof c->url, "%.*s", (int)f.len, (const char *)f.data);
        if (f.field == 5)
            (void)snprintf(c->nonce, sizeof c->nonce, "%.*s", (int)f.len, (const char *)f.data);
        if (f.field == 6 && c->delta)
            append(list, sizeof list, "-", &f);
        any = f;
        if (f.field == 2 && (!c->delta || inside(&f, 2, &any)) && inside(&any, 2, &body) &&
            inside(&body, 1, &name))
            append(list, sizeof list, "", &name);
    }
    int type = osm_xds_type_parse(c->url);
    (void)snprintf(out, size, "%s%s", type < 0 ? "?" : osm_xds_type_short((enum osm_xds_type)type),
                   list);
}

/* Waits for the next response: "CDS a b -c"; or for the end: "end CODE text". */
static const char *client_next(struct client *c)
{
    static char out[1024]; /* one client thread */
    grpc_op op = {.op = GRPC_OP_RECV_MESSAGE};
    op.data.recv_message.recv_message = &c->incoming;
    (void)snprintf(out, sizeof out, "nothing");
    if (grpc_call_start_batch(c->call, &op, 1, (void *)TAG_RECEIVE, NULL) == GRPC_CALL_OK)
        wait_tag(c, TAG_RECEIVE);
    if (!c->incoming && !c->ended)
        wait_tag(c, TAG_STATUS);
    if (!c->incoming) {
        char *text = grpc_slice_to_c_string(c->details);
        (void)snprintf(out, sizeof out, "end %d %s", (int)c->code, text);
        gpr_free(text);
        return out;
    }
    grpc_byte_buffer_reader reader;
    (void)grpc_byte_buffer_reader_init(&reader, c->incoming);
    grpc_slice all = grpc_byte_buffer_reader_readall(&reader);
    describe(c, (const char *)GRPC_SLICE_START_PTR(all), GRPC_SLICE_LENGTH(all), out, sizeof out);
    grpc_slice_unref(all);
    grpc_byte_buffer_reader_destroy(&reader);
    grpc_byte_buffer_destroy(c->incoming);
    c->incoming = NULL;
    return out;
}

/* The end of the stream, whatever comes before. */
static const char *client_end(struct client *c)
{
    for (int i = 0; i < 10; i++) {
        const char *got = client_next(c);
        if (!strncmp(got, "end", 3))
            return got;
    }
    return "no end";
}

static void client_ack(struct client *c, const char *names)
{
    client_ask(c, &(struct ask){(enum osm_xds_type)osm_xds_type_parse(c->url),
                                c->delta ? NULL : names, c->nonce, NULL});
}

static void client_close(struct client *c)
{
    (void)grpc_call_cancel(c->call, NULL);
    grpc_call_unref(c->call);
    grpc_channel_destroy(c->channel);
    grpc_completion_queue_shutdown(c->queue);
    while (grpc_completion_queue_next(c->queue, gpr_inf_future(GPR_CLOCK_REALTIME), NULL).type !=
           GRPC_QUEUE_SHUTDOWN) {
    }
    grpc_completion_queue_destroy(c->queue);
    grpc_byte_buffer_destroy(c->incoming);
    grpc_metadata_array_destroy(&c->initial);
    grpc_metadata_array_destroy(&c->trailing);
    grpc_slice_unref(c->details);
}

/* ---- one run ---- */

static void rig_stopped(void *ud)
{
    struct rig *rig = ud;
    rig->stop_took_ms = osm_now_ms() - rig->stop_began_ms;
    osm_loop_stop(rig->loop);
}

static void rig_stop(void *ud)
{
    struct rig *rig = ud;
    rig->stop_began_ms = osm_now_ms();
    osm_ads_stop(rig->ads, rig_stopped, rig);
}

static void *run_scenario(void *ud)
{
    struct rig *rig = ud;
    rig->scenario(rig);
    while (osm_loop_post(rig->loop, rig_stop, rig)) {
    }
    return NULL;
}

static struct osm_ads_config rig_config(const struct rig *rig)
{
    return (struct osm_ads_config){.listen = "127.0.0.1:0",
                                   .trust_domain = "cluster.local",
                                   .chain_pem = rig->server.chain,
                                   .key_pem = rig->server.key,
                                   .roots_pem = rig->ca.pem};
}

static void run(void (*scenario)(struct rig *rig))
{
    struct rig rig = {.scenario = scenario, .ca = authority_new()};
    struct osm_err err = {0};
    rig.server = identity_new(&rig.ca, "ads.cluster.local", "DNS:ads.cluster.local", "serverAuth",
                              -60, 3600);
    rig.proxy = proxy_new(&rig.ca, UUID);
    assert_int_equal(0, osm_loop_new(&rig.loop, &err));
    struct osm_ads_config config = rig_config(&rig);
    struct osm_ads_callbacks callbacks = {&rig, rig_admit, rig_want_leaf, NULL, NULL, rig_changed};
    if (osm_ads_start(&rig.ads, rig.loop, &config, &callbacks, &err))
        fail_msg("%s", err.msg);
    grpc_init(); /* the client's, so that it may outlive the server's */
    assert_int_equal(0, pthread_create(&rig.thread, NULL, run_scenario, &rig));
    int open = osm_loop_run(rig.loop);
    assert_int_equal(0, pthread_join(rig.thread, NULL));
    grpc_shutdown_blocking();
    osm_loop_free(rig.loop);
    identity_clear(&rig.server);
    identity_clear(&rig.proxy);
    authority_clear(&rig.ca);
    if (rig.failure[0])
        fail_msg("%s", rig.failure);
    assert_int_equal(0, open);
    assert_true(rig.stop_took_ms < 3000);
}
