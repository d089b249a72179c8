#include "known.h"

#include "base/clock.h"
#include "xds/wire.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <nghttp2/nghttp2.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { READ_BYTES = 64 * 1024, PREFIX_BYTES = 5 };

static const char *const urls[LOAD_TYPES] = {
    "type.googleapis.com/envoy.config.cluster.v3.Cluster",
    "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
    "type.googleapis.com/envoy.config.listener.v3.Listener",
    "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
    "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
};

void sidecar_fail(struct sidecar *s, const char *what, const char *why)
{
    struct load *l = s->load;
    if (s->state == LOAD_ENDED)
        return;
    l->failed++;
    if (!l->first_error[0])
        (void)snprintf(l->first_error, sizeof l->first_error, "%s: %s: %s", s->uuid, what, why);
    s->state = LOAD_ENDED; /* released by sidecar_event: this may be one of nghttp2's callbacks */
}

/* --- requests --- */

static void put_text(struct osm_buf *out, uint32_t field, const char *text)
{
    if (text && *text)
        osm_wire_put_bytes(out, field, text, strlen(text));
}

/* google.rpc.Status */
static void put_refusal(struct load_type *t, struct osm_buf *out, uint32_t field)
{
    if (!t->refuses)
        return;
    t->refuses = false;
    size_t mark = osm_wire_open(out, field);
    put_text(out, 2, "refused on purpose");
    osm_wire_close(out, mark);
}

static void put_node(struct sidecar *s, struct osm_buf *out, uint32_t field)
{
    if (s->sent_node)
        return;
    s->sent_node = true;
    size_t mark = osm_wire_open(out, field);
    put_text(out, 1, s->uuid);
    put_text(out, 6, "envoy");
    osm_wire_close(out, mark);
}

static void put_sotw(struct sidecar *s, int type, struct osm_buf *out)
{
    struct load_type *t = &s->types[type];
    put_text(out, 1, t->version);
    put_node(s, out, 2);
    if (!known_is_wildcard(type))
        osm_map_each (&t->names, e)
            if (known_is_asked_for(type, e->value))
                put_text(out, 3, e->key);
    put_text(out, 4, urls[type]);
    put_text(out, 5, t->nonce);
    put_refusal(t, out, 6);
}

static void put_delta(struct sidecar *s, int type, struct osm_buf *out)
{
    struct load_type *t = &s->types[type];
    put_node(s, out, 1);
    put_text(out, 2, urls[type]);
    if (!known_is_wildcard(type))
        osm_map_each (&t->names, e)
            if (!((struct load_name *)e->value)->sent && known_is_asked_for(type, e->value))
                put_text(out, 3, e->key);
    for (size_t at = 0; at < t->gone.len; at += strlen(t->gone.data + at) + 1)
        put_text(out, 4, t->gone.data + at);
    if (!t->asked)
        osm_map_each (&t->names, e) {
            const struct load_name *n = e->value;
            if (!n->version || !known_is_asked_for(type, n))
                continue;
            size_t mark = osm_wire_open(out, 5);
            put_text(out, 1, e->key);
            put_text(out, 2, n->version);
            osm_wire_close(out, mark);
        }
    put_text(out, 6, t->nonce);
    put_refusal(t, out, 7);
}

static void request(struct sidecar *s, int type)
{
    struct osm_buf message = OSM_BUF_INIT(LOAD_MESSAGE_MAX_BYTES);
    if (s->load->delta)
        put_delta(s, type, &message);
    else
        put_sotw(s, type, &message);
    uint8_t prefix[PREFIX_BYTES] = {0, (uint8_t)(message.len >> 24), (uint8_t)(message.len >> 16),
                                    (uint8_t)(message.len >> 8), (uint8_t)message.len};
    (void)osm_buf_add(&s->out, prefix, sizeof prefix);
    (void)osm_buf_add(&s->out, message.data ? message.data : "", message.len);
    osm_buf_clear(&message);
    s->types[type].asked = true;
    s->types[type].dirty = false;
    osm_buf_reset(&s->types[type].gone);
    if (!known_is_wildcard(type))
        osm_map_each (&s->types[type].names, e)
            ((struct load_name *)e->value)->sent = known_is_asked_for(type, e->value);
    if (s->load->delta) /* an answer is given once */
        osm_free(osm_take_ptr(&s->types[type].nonce));
}

/* The new names first, as Envoy asks for endpoints before it accepts the clusters. */
static void ask(struct sidecar *s, int answered)
{
    for (int type = 0; type < LOAD_TYPES; type++)
        if (type != answered && s->types[type].dirty)
            request(s, type);
    if (answered >= 0)
        request(s, answered);
    (void)nghttp2_session_resume_data(s->session, s->stream);
}

/* --- responses --- */

static void note_configured(struct sidecar *s)
{
    bool all = s->types[LOAD_CDS].version && s->types[LOAD_LDS].version;
    for (int type = 0; type < LOAD_TYPES; type++)
        all = all && !s->types[type].missing;
    if (!all || s->configured)
        return;
    s->configured = true;
    s->configured_us = osm_now_us();
    s->load->configured++;
}

/* The answers to all that has come are with the kernel. */
static void note_acked(struct sidecar *s)
{
    struct load *l = s->load;
    if (!s->unacked)
        return;
    l->acked += s->unacked;
    s->unacked = 0;
    l->last_ack_us = osm_now_us();
    if (!l->first_ack_us)
        l->first_ack_us = l->last_ack_us;
    if (s->round != l->round) {
        s->round = l->round;
        l->heard++;
    }
    note_configured(s);
}

static int type_of(const uint8_t *url, size_t len)
{
    for (int type = 0; type < LOAD_TYPES; type++)
        if (strlen(urls[type]) == len && !memcmp(urls[type], url, len))
            return type;
    return -1;
}

/* In delta by name; in the state of the world a cluster or listener that is not in it. */
static void drop_what_went(struct sidecar *s, int type, const uint8_t *data, size_t len)
{
    struct load_type *t = &s->types[type];
    struct osm_wire_reader r = {data, data + len};
    struct osm_wire_field f;
    while (s->load->delta && osm_wire_next(&r, &f) == 1)
        if (f.field == 6)
            known_drop(s, type, osm_map_getn(&t->names, f.data, f.len));
    if (s->load->delta || !known_is_wildcard(type))
        return;
    osm_map_each (&t->names, e)
        if (((struct load_name *)e->value)->sweep != t->sweep)
            known_drop(s, type, e->value);
}

static void take_response(struct sidecar *s, const uint8_t *data, size_t len)
{
    struct osm_wire_reader r = {data, data + len};
    struct osm_wire_field f, version = {0}, nonce = {0};
    int type = -1;
    while (osm_wire_next(&r, &f) == 1) {
        if (f.field == 1)
            version = f;
        else if (f.field == 4)
            type = type_of(f.data, f.len);
        else if (f.field == 5)
            nonce = f;
    }
    if (type < 0) {
        sidecar_fail(s, "response", "of a type that was not asked for");
        return;
    }
    struct load_type *t = &s->types[type];
    known_set_text(&t->nonce, nonce.data, nonce.len);
    s->load->responses++;
    s->load->bytes += len;
    if (s->load->refuse && memmem(data, len, s->load->refuse, strlen(s->load->refuse))) {
        t->refuses = true;
        s->load->refused++;
        if (!s->load->first_refusal_us)
            s->load->first_refusal_us = osm_now_us();
        ask(s, type);
        return;
    }
    t->sweep++;
    r = (struct osm_wire_reader){data, data + len};
    while (osm_wire_next(&r, &f) == 1) {
        if (f.field != 2)
            continue;
        if (!s->load->delta) {
            known_take(s, type, f.data, f.len, version.data, version.len);
            continue;
        }
        struct osm_wire_reader inner = {f.data, f.data + f.len};
        struct osm_wire_field g, of = {0}, any = {0};
        while (osm_wire_next(&inner, &g) == 1) {
            of = g.field == 1 ? g : of;
            any = g.field == 2 ? g : any;
        }
        known_take(s, type, any.data, any.len, of.data, of.len);
    }
    drop_what_went(s, type, data, len);
    known_set_text(&t->version, version.len ? (const char *)version.data : "-",
                   version.len ? version.len : 1);
    s->unacked++;
    if (s->load->record && s->uuid == s->load->recorded) {
        struct load_record head = {(uint32_t)s->load->round, (uint32_t)type, (uint32_t)len};
        (void)fwrite(&head, sizeof head, 1, s->load->record);
        (void)fwrite(data, len, 1, s->load->record);
    }
    ask(s, type);
}

static void take_messages(struct sidecar *s)
{
    size_t at = 0;
    while (s->in.len - at >= PREFIX_BYTES) {
        const uint8_t *p = (const uint8_t *)s->in.data + at;
        size_t len = (size_t)p[1] << 24 | (size_t)p[2] << 16 | (size_t)p[3] << 8 | p[4];
        if (s->in.len - at - PREFIX_BYTES < len)
            break;
        take_response(s, p + PREFIX_BYTES, len);
        if (s->state != LOAD_OPEN)
            return;
        at += PREFIX_BYTES + len;
    }
    if (at)
        memmove(s->in.data, s->in.data + at, s->in.len - at);
    s->in.len -= at;
}

/* --- HTTP/2 --- */

static ssize_t on_send(nghttp2_session *session, const uint8_t *data, size_t len, int flags,
                       void *ud)
{
    struct sidecar *s = ud;
    (void)session, (void)flags;
    ssize_t n;
    if (s->ssl) {
        ERR_clear_error();
        n = SSL_write(s->ssl, data, (int)len);
        if (n <= 0) {
            int e = SSL_get_error(s->ssl, (int)n);
            return e == SSL_ERROR_WANT_WRITE || e == SSL_ERROR_WANT_READ
                       ? NGHTTP2_ERR_WOULDBLOCK
                       : NGHTTP2_ERR_CALLBACK_FAILURE;
        }
    } else {
        n = send(s->fd, data, len, MSG_NOSIGNAL);
        if (n < 0)
            return errno == EAGAIN ? NGHTTP2_ERR_WOULDBLOCK : NGHTTP2_ERR_CALLBACK_FAILURE;
    }
    return n;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t stream, const uint8_t *data,
                   size_t len, void *ud)
{
    struct sidecar *s = ud;
    (void)session, (void)flags, (void)stream;
    return osm_buf_add(&s->in, data, len) ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
                     void *ud)
{
    struct sidecar *s = ud;
    (void)session, (void)frame, (void)flags;
    if (name_len == 7 && !memcmp(name, ":status", 7) &&
        (value_len != 3 || memcmp(value, "200", 3) != 0)) {
        char text[16];
        (void)snprintf(text, sizeof text, "%.*s", (int)value_len, (const char *)value);
        sidecar_fail(s, "answered with HTTP status", text);
    } else if (name_len == 7 && !memcmp(name, ":status", 7) && !s->accepted) {
        s->accepted = true;
        s->load->accepted++;
    }
    if (name_len == 12 && !memcmp(name, "grpc-message", 12) && value_len) {
        char text[160];
        (void)snprintf(text, sizeof text, "%.*s", (int)value_len, (const char *)value);
        sidecar_fail(s, "stream ended", text);
    }
    return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t stream, uint32_t code, void *ud)
{
    (void)session, (void)stream;
    sidecar_fail(ud, "stream closed", nghttp2_http2_strerror(code));
    return 0;
}

static ssize_t read_body(nghttp2_session *session, int32_t stream, uint8_t *to, size_t max,
                         uint32_t *flags, nghttp2_data_source *source, void *ud)
{
    struct sidecar *s = ud;
    (void)session, (void)stream, (void)flags, (void)source;
    size_t n = s->out.len - s->out_at;
    if (!n)
        return NGHTTP2_ERR_DEFERRED;
    n = n < max ? n : max;
    memcpy(to, s->out.data + s->out_at, n);
    s->out_at += n;
    if (s->out_at == s->out.len) {
        s->out_at = 0;
        osm_buf_reset(&s->out);
    }
    return (ssize_t)n;
}

static nghttp2_nv header(const char *name, const char *value)
{
    return (nghttp2_nv){(uint8_t *)(uintptr_t)name, (uint8_t *)(uintptr_t)value, strlen(name),
                        strlen(value), NGHTTP2_NV_FLAG_NONE};
}

static void open_stream(struct sidecar *s)
{
    static nghttp2_session_callbacks *callbacks;
    static const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, INT32_MAX}, {NGHTTP2_SETTINGS_ENABLE_PUSH, 0}};
    const char *path =
        s->load->delta
            ? "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
            : "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources";
    const nghttp2_nv headers[] = {header(":method", "POST"),
                                  header(":scheme", s->ssl ? "https" : "http"),
                                  header(":path", path),
                                  header(":authority", s->load->server_name),
                                  header("content-type", "application/grpc"),
                                  header("te", "trailers")};
    nghttp2_data_provider body = {.read_callback = read_body};
    if (!callbacks && !nghttp2_session_callbacks_new(&callbacks)) {
        nghttp2_session_callbacks_set_send_callback(callbacks, on_send);
        nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
        nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
        nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
    }
    if (nghttp2_session_client_new(&s->session, callbacks, s) ||
        nghttp2_submit_settings(s->session, NGHTTP2_FLAG_NONE, settings, 2) ||
        nghttp2_session_set_local_window_size(s->session, NGHTTP2_FLAG_NONE, 0, INT32_MAX)) {
        sidecar_fail(s, "HTTP/2", "out of memory");
        return;
    }
    s->stream = nghttp2_submit_request(s->session, NULL, headers, sizeof headers / sizeof *headers,
                                       &body, NULL);
    if (s->stream < 0) {
        sidecar_fail(s, "HTTP/2", nghttp2_strerror(s->stream));
        return;
    }
    s->state = LOAD_OPEN;
    for (int type = 0; type < LOAD_TYPES; type++)
        if (known_is_wildcard(type) || s->types[type].names.count)
            request(s, type);
}

/* --- the connection --- */

static void watch(struct sidecar *s, bool write)
{
    if (write == s->wants_write)
        return;
    struct epoll_event e = {.events = EPOLLIN | (write ? EPOLLOUT : 0), .data.ptr = s};
    (void)epoll_ctl(s->load->epoll_fd, EPOLL_CTL_MOD, s->fd, &e);
    s->wants_write = write;
}

static void handshake(struct sidecar *s)
{
    ERR_clear_error();
    int rc = SSL_connect(s->ssl);
    int e = rc == 1 ? 0 : SSL_get_error(s->ssl, rc);
    if (rc == 1)
        open_stream(s);
    else if (e == SSL_ERROR_WANT_READ || e == SSL_ERROR_WANT_WRITE)
        watch(s, e == SSL_ERROR_WANT_WRITE);
    else
        sidecar_fail(s, "handshake",
                     ERR_reason_error_string(ERR_peek_last_error())
                         ? ERR_reason_error_string(ERR_peek_last_error())
                         : "the connection was closed");
}

static void begin(struct sidecar *s)
{
    if (!s->load->tls) {
        open_stream(s);
        return;
    }
    s->ssl = SSL_new(s->load->tls);
    static const unsigned char h2[] = {2, 'h', '2'};
    if (!s->ssl || !SSL_set_fd(s->ssl, s->fd) || SSL_use_certificate(s->ssl, s->certificate) != 1 ||
        SSL_use_PrivateKey(s->ssl, s->key) != 1 || SSL_set_alpn_protos(s->ssl, h2, sizeof h2) ||
        !SSL_set_tlsext_host_name(s->ssl, s->load->server_name) ||
        !SSL_set1_host(s->ssl, s->load->server_name)) {
        sidecar_fail(s, "TLS", "cannot be set up");
        return;
    }
    s->state = LOAD_HANDSHAKE;
    handshake(s);
}

void sidecar_start(struct sidecar *s)
{
    s->fd = socket(s->load->address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int on = 1; /* small requests go at once */
    (void)setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    s->state = LOAD_CONNECTING;
    s->started_us = osm_now_us();
    s->out = (struct osm_buf)OSM_BUF_INIT(LOAD_MESSAGE_MAX_BYTES);
    s->in = (struct osm_buf)OSM_BUF_INIT(LOAD_MESSAGE_MAX_BYTES);
    for (int type = 0; type < LOAD_TYPES; type++)
        s->types[type].gone = (struct osm_buf)OSM_BUF_INIT(LOAD_MESSAGE_MAX_BYTES);
    if (s->fd < 0 ||
        (connect(s->fd, (const struct sockaddr *)&s->load->address, s->load->address_len) &&
         errno != EINPROGRESS)) {
        sidecar_fail(s, "connect", strerror(errno));
        return;
    }
    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT, .data.ptr = s};
    s->wants_write = true;
    if (epoll_ctl(s->load->epoll_fd, EPOLL_CTL_ADD, s->fd, &e))
        sidecar_fail(s, "epoll", strerror(errno));
}

static void receive(struct sidecar *s)
{
    static uint8_t data[READ_BYTES];
    for (;;) {
        ssize_t n;
        bool again;
        if (s->ssl) {
            ERR_clear_error();
            n = SSL_read(s->ssl, data, sizeof data);
            int e = n > 0 ? 0 : SSL_get_error(s->ssl, (int)n);
            again = e == SSL_ERROR_WANT_READ || e == SSL_ERROR_WANT_WRITE;
        } else {
            n = recv(s->fd, data, sizeof data, 0);
            again = n < 0 && errno == EAGAIN;
        }
        if (n <= 0) {
            if (!again)
                sidecar_fail(s, "connection", "closed by the server");
            return;
        }
        ssize_t used = nghttp2_session_mem_recv(s->session, data, (size_t)n);
        if (used < 0)
            sidecar_fail(s, "HTTP/2", nghttp2_strerror((int)used));
        else
            take_messages(s);
        if (s->state != LOAD_OPEN)
            return;
    }
}

static void go_on(struct sidecar *s, uint32_t events)
{
    int error = 0;
    socklen_t len = sizeof error;
    if (s->state == LOAD_CONNECTING) {
        if (getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &error, &len) || error) {
            sidecar_fail(s, "connect", strerror(error));
            return;
        }
        begin(s);
    } else if (s->state == LOAD_HANDSHAKE) {
        handshake(s);
    }
    if (s->state == LOAD_OPEN && events & (EPOLLIN | EPOLLHUP | EPOLLERR))
        receive(s);
    if (s->state != LOAD_OPEN)
        return;
    int rc = nghttp2_session_send(s->session);
    if (rc)
        sidecar_fail(s, "HTTP/2", nghttp2_strerror(rc));
    else {
        bool more = nghttp2_session_want_write(s->session); /* the socket is full */
        watch(s, more);
        if (!more)
            note_acked(s);
    }
}

static void release(struct sidecar *s)
{
    s->load->accepted -= s->accepted;
    s->load->configured -= s->configured;
    s->accepted = s->configured = s->sent_node = false;
    nghttp2_session_del(s->session);
    s->session = NULL;
    SSL_free(s->ssl);
    s->ssl = NULL;
    if (s->fd > 0)
        (void)close(s->fd);
    s->fd = 0;
    osm_buf_clear(&s->out);
    osm_buf_clear(&s->in);
    s->out_at = s->unacked = 0;
    for (int type = 0; type < LOAD_TYPES; type++) {
        osm_free(osm_take_ptr(&s->types[type].nonce));
        s->types[type].asked = s->types[type].dirty = false;
        osm_buf_clear(&s->types[type].gone);
        osm_map_each (&s->types[type].names, e)
            ((struct load_name *)e->value)->sent = false;
    }
}

void sidecar_event(struct sidecar *s, uint32_t events)
{
    go_on(s, events);
    if (s->state == LOAD_ENDED)
        release(s);
}

void sidecar_stop(struct sidecar *s)
{
    release(s);
    s->state = LOAD_IDLE;
}

void sidecar_forget(struct sidecar *s)
{
    if (s->load)
        sidecar_stop(s);
    s->round = 0;
    for (int type = 0; type < LOAD_TYPES; type++) {
        osm_map_each (&s->types[type].names, e)
            known_free(e->value);
        osm_map_clear(&s->types[type].names);
        osm_free(s->types[type].version);
        s->types[type] = (struct load_type){0};
    }
}

void sidecar_free(struct sidecar *s)
{
    sidecar_forget(s);
    X509_free(s->certificate);
    EVP_PKEY_free(s->key);
}
