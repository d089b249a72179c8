#include "canned.h"

#include "base/mem.h"
#include "sidecar.h"
#include "xds/ads_priv.h"
#include "xds/wire.h"

#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <grpc/slice.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TYPES = LOAD_TYPES, RESPONSES_MAX = 4096, SLOTS = 16, QUEUE_MAX = 256 };

struct recorded {
    uint32_t round; /* 0: the first configuration, then of each change */
    int type;
    grpc_slice body;
};

struct stream;

struct op {
    void (*fn)(struct op *op, bool ok);
    struct stream *stream;
};

struct stream {
    grpc_call *call;
    grpc_call_details details;
    grpc_metadata_array metadata;
    struct op accept, close, headers, receive, send, status;
    grpc_byte_buffer *in, *out;
    int queue[QUEUE_MAX]; /* recorded responses to send */
    size_t first, last;
    bool asked[TYPES], sending, ended, delta;
    int cancelled, ops;
    struct stream *next, *prev;
};

static grpc_server *server;
static grpc_completion_queue *queue;
static struct recorded recorded[RESPONSES_MAX];
static size_t recorded_len;
static struct stream *streams;
static char urls[TYPES][128];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* over all of the above */

/* A floor that leaves something out would be too low. */
_Noreturn static void end(const char *why)
{
    (void)fprintf(stderr, "xds-load: canned server: %s\n", why);
    _exit(1);
}

static bool start(struct stream *s, struct op *op, const grpc_op *what)
{
    s->ops++;
    if (grpc_call_start_batch(s->call, what, 1, op, NULL) == GRPC_CALL_OK)
        return true;
    s->ops--;
    return false;
}

static void free_if_over(struct stream *s)
{
    if (!s->ended || s->ops)
        return;
    if (s->prev)
        s->prev->next = s->next;
    else
        streams = s->next;
    if (s->next)
        s->next->prev = s->prev;
    grpc_byte_buffer_destroy(s->in);
    grpc_byte_buffer_destroy(s->out);
    grpc_call_unref(s->call);
    osm_free(s);
}

static void send_next(struct stream *s)
{
    if (s->sending || s->ended || s->first == s->last)
        return;
    s->out = grpc_raw_byte_buffer_create(&recorded[s->queue[s->first++ % QUEUE_MAX]].body, 1);
    grpc_op op = {.op = GRPC_OP_SEND_MESSAGE};
    op.data.send_message.send_message = s->out;
    s->sending = start(s, &s->send, &op);
}

static void on_sent(struct op *op, bool ok)
{
    struct stream *s = op->stream;
    (void)ok;
    grpc_byte_buffer_destroy(s->out);
    s->out = NULL;
    s->sending = false;
    s->ops--;
    send_next(s);
    free_if_over(s);
}

/* What was recorded of the type (any: negative) in the round. */
static void answer(struct stream *s, int type, uint32_t round)
{
    for (size_t i = 0; i < recorded_len; i++) {
        if (recorded[i].round != round || (type >= 0 && recorded[i].type != type))
            continue;
        if (s->last - s->first == QUEUE_MAX)
            end("a stream has more responses waiting than there is room for");
        s->queue[s->last++ % QUEUE_MAX] = (int)i;
    }
    send_next(s);
}

/* The first request of each type is answered, but of one who has it all already. */
static void take(struct stream *s, const uint8_t *data, size_t len)
{
    struct osm_wire_reader r = {data, data + len};
    struct osm_wire_field f;
    int type = -1;
    bool has = false;
    while (osm_wire_next(&r, &f) == 1) {
        if (f.field == (s->delta ? 2u : 4u) && f.type == OSM_WIRE_BYTES)
            for (int i = 0; i < TYPES; i++)
                if (strlen(urls[i]) == f.len && !memcmp(urls[i], f.data, f.len))
                    type = i;
        has = has || (s->delta && f.field == 5);
    }
    if (type < 0 || s->asked[type])
        return;
    s->asked[type] = true;
    if (!has)
        answer(s, type, 0);
}

static void receive(struct stream *s)
{
    grpc_op op = {.op = GRPC_OP_RECV_MESSAGE};
    op.data.recv_message.recv_message = &s->in;
    (void)start(s, &s->receive, &op);
}

static void on_received(struct op *op, bool ok)
{
    struct stream *s = op->stream;
    s->ops--;
    if (ok && s->in && !s->ended) {
        grpc_byte_buffer_reader reader;
        if (grpc_byte_buffer_reader_init(&reader, s->in)) {
            grpc_slice all = grpc_byte_buffer_reader_readall(&reader);
            take(s, GRPC_SLICE_START_PTR(all), GRPC_SLICE_LENGTH(all));
            grpc_slice_unref(all);
            grpc_byte_buffer_reader_destroy(&reader);
        }
        grpc_byte_buffer_destroy(s->in);
        s->in = NULL;
        receive(s);
    }
    free_if_over(s);
}

static void on_closed(struct op *op, bool ok)
{
    struct stream *s = op->stream;
    (void)ok;
    s->ended = true;
    (void)grpc_call_cancel_with_status(s->call, GRPC_STATUS_CANCELLED, "closed", NULL);
    s->ops--;
    free_if_over(s);
}

static void on_op(struct op *op, bool ok)
{
    (void)ok;
    op->stream->ops--;
    free_if_over(op->stream);
}

static void accept_next(void);

static void on_stream(struct op *op, bool ok)
{
    struct stream *s = op->stream;
    if (!ok) {
        osm_free(s);
        return;
    }
    s->delta = grpc_slice_str_cmp(s->details.method,
                                  "/envoy.service.discovery.v3.AggregatedDiscoveryService/"
                                  "DeltaAggregatedResources") == 0;
    grpc_call_details_destroy(&s->details);
    grpc_metadata_array_destroy(&s->metadata);
    s->next = streams;
    if (streams)
        streams->prev = s;
    streams = s;
    grpc_op close = {.op = GRPC_OP_RECV_CLOSE_ON_SERVER};
    close.data.recv_close_on_server.cancelled = &s->cancelled;
    grpc_op headers = {.op = GRPC_OP_SEND_INITIAL_METADATA};
    (void)start(s, &s->close, &close);
    (void)start(s, &s->headers, &headers);
    receive(s);
    accept_next();
}

static void accept_next(void)
{
    struct stream *s = osm_alloc(sizeof *s);
    if (!s)
        end("out of memory");
    s->accept = (struct op){on_stream, s};
    s->close = (struct op){on_closed, s};
    s->headers = (struct op){on_op, s};
    s->receive = (struct op){on_received, s};
    s->send = (struct op){on_sent, s};
    grpc_call_details_init(&s->details);
    grpc_metadata_array_init(&s->metadata);
    if (grpc_server_request_call(server, &s->call, &s->details, &s->metadata, queue, queue,
                                 &s->accept) != GRPC_CALL_OK)
        end("takes no more streams");
}

/* Ends by SIGTERM, and the process with it: the system takes the rest. */
static void *heed_signals(void *set)
{
    uint32_t round = 0;
    int number;
    while (!sigwait(set, &number) && number == SIGUSR1) {
        round++;
        (void)pthread_mutex_lock(&lock);
        for (struct stream *s = streams; s; s = s->next)
            answer(s, -1, round);
        (void)pthread_mutex_unlock(&lock);
    }
    _exit(0);
}

static bool read_record(const char *path)
{
    static const char *const messages[TYPES] = {
        "envoy.config.cluster.v3.Cluster", "envoy.config.endpoint.v3.ClusterLoadAssignment",
        "envoy.config.listener.v3.Listener", "envoy.config.route.v3.RouteConfiguration",
        "envoy.extensions.transport_sockets.tls.v3.Secret"};
    FILE *file = fopen(path, "rb");
    struct load_record head;
    for (int i = 0; i < TYPES; i++)
        (void)snprintf(urls[i], sizeof urls[i], "type.googleapis.com/%s", messages[i]);
    while (file && fread(&head, sizeof head, 1, file) == 1) {
        if (recorded_len == RESPONSES_MAX)
            end("more recorded responses than there is room for");
        if (head.type >= TYPES || head.len > LOAD_MESSAGE_MAX_BYTES)
            end("the record is damaged");
        grpc_slice body = grpc_slice_malloc(head.len);
        if (fread(GRPC_SLICE_START_PTR(body), 1, head.len, file) != head.len)
            end("the record is cut off");
        recorded[recorded_len++] = (struct recorded){head.round, (int)head.type, body};
    }
    if (file)
        (void)fclose(file);
    return recorded_len > 0;
}

static grpc_server_credentials *credentials_of(const struct canned_config *c)
{
    grpc_ssl_pem_key_cert_pair pair = {c->key_pem, c->chain_pem};
    return c->chain_pem ? grpc_ssl_server_credentials_create_ex(
                              c->roots_pem, &pair, 1,
                              GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY, NULL)
                        : grpc_insecure_server_credentials_create();
}

int canned_serve(const struct canned_config *config)
{
    if (!read_record(config->record)) {
        (void)fprintf(stderr, "xds-load: %s: no recorded response in it\n", config->record);
        return 1;
    }
    struct osm_err err = {0};
    sigset_t signals; /* blocked before any thread starts: one waits for them */
    pthread_t waiting;
    sigemptyset(&signals);
    sigaddset(&signals, SIGUSR1);
    sigaddset(&signals, SIGTERM);
    (void)pthread_sigmask(SIG_BLOCK, &signals, NULL);
    if (osm__ads_tls_no_tickets(&err)) {
        (void)fprintf(stderr, "xds-load: %s\n", err.msg);
        return 1;
    }
    osm__absl_tune();
    grpc_init();
    queue = grpc_completion_queue_create_for_next(NULL);
    server = osm__ads_make_server(0);
    grpc_server_register_completion_queue(server, queue, NULL);
    grpc_server_credentials *credentials = credentials_of(config);
    int port = grpc_server_add_http2_port(server, config->listen, credentials);
    grpc_server_credentials_release(credentials);
    if (!port) {
        (void)fprintf(stderr, "xds-load: cannot listen on %s\n", config->listen);
        return 1;
    }
    if (pthread_create(&waiting, NULL, heed_signals, &signals)) {
        (void)fprintf(stderr, "xds-load: cannot start a thread\n");
        return 1;
    }
    grpc_server_start(server);
    for (int i = 0; i < SLOTS; i++)
        accept_next();
    const char *colon = strrchr(config->listen, ':');
    (void)printf("%.*s:%d\n", (int)(colon ? colon - config->listen : 0), config->listen, port);
    (void)fflush(stdout);
    for (;;) {
        grpc_event event =
            grpc_completion_queue_next(queue, gpr_inf_future(GPR_CLOCK_REALTIME), NULL);
        struct op *op = event.tag;
        (void)pthread_mutex_lock(&lock);
        op->fn(op, event.success);
        (void)pthread_mutex_unlock(&lock);
    }
}
