/* Requests and their answers. */
#include "http/http_priv.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static const char TEXT[] = "text/plain; charset=utf-8";
static const char JSON[] = "application/json";

static const char *reason_of(int status)
{
    static const struct {
        int status;
        const char *reason;
    } known[] = {
        {200, "OK"},
        {400, "Bad Request"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {408, "Request Timeout"},
        {409, "Conflict"},
        {413, "Content Too Large"},
        {414, "URI Too Long"},
        {415, "Unsupported Media Type"},
        {417, "Expectation Failed"},
        {431, "Request Header Fields Too Large"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {503, "Service Unavailable"},
        {505, "HTTP Version Not Supported"},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i].status == status)
            return known[i].reason;
    return "Other";
}

const char *osm_http_query(const struct osm_http_request *r, const char *name)
{
    size_t n = strlen(name);
    for (size_t i = 0; i < r->parameters_len; i++) {
        const char *p = r->parameters[i];
        if (!strncmp(p, name, n) && (p[n] == '=' || !p[n]))
            return p[n] ? p + n + 1 : "";
    }
    return NULL;
}

const char *osm_http_header(const struct osm_http_request *r, const char *name)
{
    return osm__http_head_find(r->head, r->head_len, name);
}

const char *osm_http_body(const struct osm_http_request *r, size_t *len)
{
    *len = r->body.len;
    return r->body.len ? r->body.data : "";
}

const struct osm_http_route *osm_http_routes(const struct osm_http_request *r)
{
    return r->routes;
}

bool osm_http_alive(const struct osm_http_request *r)
{
    return r->conn != NULL;
}

static void count(int status, const char *method, const struct osm_http_route *route,
                  double seconds)
{
    char code[16];
    (void)snprintf(code, sizeof code, "%d", status);
    /* A path that is none of ours is the peer's word: it would make a series each. */
    const char *const labels[] = {code, method, route ? route->path : "other"};
    osm_metric_add(OSM_METRIC_HTTP_RESPONSES, labels, 1);
    osm_metric_observe(OSM_METRIC_HTTP_DURATION, labels, seconds);
}

struct osm_http_request *osm__http_request_new(struct osm__http_conn *conn, const char *head,
                                               size_t head_len)
{
    struct osm_http_request *r = osm_alloc(sizeof *r);
    char *text = r ? osm_strndup(head, head_len) : NULL;
    if (!text) {
        osm_free(r);
        return NULL;
    }
    osm__http_head_split(text, head_len);
    r->conn = conn;
    r->listener = conn->listener;
    r->routes = osm__http_listener_routes(conn->listener);
    r->out = (struct osm_buf)OSM_BUF_INIT(OSM__HTTP_BODY_MAX);
    r->body = (struct osm_buf)OSM_BUF_INIT(OSM__HTTP_BODY_MAX);
    r->method = conn->head.method;
    r->head_only = !strcmp(r->method, "HEAD");
    r->http_1_0 = conn->head.http_1_0;
    r->has_body = conn->head.chunked || conn->head.length;
    r->started_ms = osm_now_ms();
    r->head = text;
    r->head_len = head_len;
    conn->request = r;
    osm__http_hold(r->listener);
    return r;
}

void osm__http_end(struct osm_http_request *r)
{
    if (r->conn)
        r->conn->request = NULL;
    r->conn = NULL;
    if (r->handled && !r->status) /* its handler answers, and nobody hears it */
        return;
    if (r->source.more)
        r->source.end(r->source.ud);
    osm__http_let_go(r->listener, r->body.len);
    osm_buf_clear(&r->body);
    osm_buf_clear(&r->out);
    osm_free(r->head);
    osm_free(r);
}

/* --- beginning an answer --- */

static void add_date(struct osm_buf *out)
{
    char text[40];
    struct tm tm;
    time_t now = (time_t)osm_wall_s();
    if (gmtime_r(&now, &tm) && strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S GMT", &tm))
        (void)osm_buf_addf(out, "Date: %s\r\n", text);
}

static void add_headers(struct osm_http_request *r, const char *type)
{
    struct osm_buf *out = &r->out;
    r->close = r->close || !osm__http_listener_keeps(r->listener);
    (void)osm_buf_addf(out, "HTTP/1.1 %d %s\r\n", r->status, reason_of(r->status));
    add_date(out);
    (void)osm_buf_addf(out, "Content-Type: %s\r\nCache-Control: no-store\r\n", type);
    if (r->allow)
        (void)osm_buf_addf(out, "Allow: %s\r\n", r->allow);
    (void)osm_buf_add_str(out, "X-Content-Type-Options: nosniff\r\n");
    (void)osm_buf_add_str(out, r->close ? "Connection: close\r\n" : "Connection: keep-alive\r\n");
}

/* The answer is there; out of memory cuts the connection. */
static void begin(struct osm_http_request *r)
{
    r->answered_ms = osm_now_ms();
    if (!r->conn) {
        osm__http_end(r);
        return;
    }
    count(r->status, r->method, r->route, (double)(r->answered_ms - r->started_ms) / 1000);
    r->conn->since_ms = r->answered_ms;
    osm__http_wake(r->conn);
}

void osm_http_reply(struct osm_http_request *r, int status, const char *type, struct osm_buf *body)
{
    static const char lost[] = "the answer did not fit, or memory is out\n";
    bool failed = body->failed;
    const char *data = failed ? lost : body->data;
    size_t len = failed ? sizeof lost - 1 : body->len;
    r->status = failed ? 500 : status;
    add_headers(r, failed ? TEXT : type);
    (void)osm_buf_addf(&r->out, "Content-Length: %zu\r\n\r\n", len);
    if (!r->head_only && len)
        (void)osm_buf_add(&r->out, data, len);
    osm_buf_clear(body);
    begin(r);
}

void osm_http_reply_text(struct osm_http_request *r, int status, const char *text)
{
    struct osm_buf body = OSM_BUF_INIT(OSM__HTTP_BODY_MAX);
    (void)osm_buf_add_strs(&body, text, "\n", NULL);
    osm_http_reply(r, status, TEXT, &body);
}

void osm__http_refuse(struct osm_http_request *r, int status, const char *text)
{
    r->whole = !r->has_body;
    r->close = r->close || r->has_body;
    osm__http_drop_body(r);
    osm_http_reply_text(r, status, text);
}

static int append(const char *data, size_t len, void *buf)
{
    return osm_buf_add(buf, data, len);
}

void osm_http_reply_json(struct osm_http_request *r, int status, json_t *value)
{
    struct osm_buf body = OSM_BUF_INIT(OSM__HTTP_BODY_MAX);
    if (!value || json_dump_callback(value, append, &body, JSON_INDENT(2)) ||
        osm_buf_add_char(&body, '\n'))
        body.failed = OSM_ENOMEM;
    json_decref(value);
    osm_http_reply(r, status, JSON, &body);
}

void osm_http_reply_stream(struct osm_http_request *r, int status, const char *type,
                           const struct osm_http_source *source)
{
    r->status = status;
    r->chunked = !r->http_1_0;
    r->close = r->close || r->http_1_0; /* where it ends is where the connection does */
    add_headers(r, type);
    (void)osm_buf_add_str(&r->out, r->chunked ? "Transfer-Encoding: chunked\r\n\r\n" : "\r\n");
    if (r->head_only)
        source->end(source->ud);
    else
        r->source = *source;
    begin(r);
}

/* --- going on with it --- */

/* The next piece of the source, as a chunk. */
static int make_piece(struct osm_http_request *r)
{
    struct osm_buf piece = OSM_BUF_INIT(OSM__HTTP_BODY_MAX);
    int rc = r->source.more(r->source.ud, &piece);
    if (rc >= 0 && piece.len && r->chunked)
        (void)osm_buf_addf(&r->out, "%zx\r\n", piece.len);
    if (rc >= 0 && piece.len)
        (void)osm_buf_add(&r->out, piece.data, piece.len);
    if (rc >= 0 && piece.len && r->chunked)
        (void)osm_buf_add_str(&r->out, "\r\n");
    if (rc == 0 && r->chunked)
        (void)osm_buf_add_str(&r->out, "0\r\n\r\n");
    if (piece.failed)
        rc = piece.failed;
    osm_buf_clear(&piece);
    if (rc <= 0) {
        r->source.end(r->source.ud);
        r->source.more = NULL;
    }
    return rc;
}

int osm__http_next(struct osm_http_request *r)
{
    int rc = 0;
    if (r->sent == r->out.len && !r->out.failed) {
        osm_buf_reset(&r->out);
        r->sent = 0;
        while (r->source.more && !r->out.len && rc >= 0)
            rc = make_piece(r);
    }
    if (rc >= 0 && r->out.failed)
        rc = r->out.failed;
    if (rc < 0) {
        osm_log(OSM_LOG_HTTP, OSM_LOG_WARN, "answer not finished, connection cut",
                OSM_S("path", r->route ? r->route->path : ""), OSM_S("error", osm_code_text(rc)));
        return rc;
    }
    return r->sent < r->out.len;
}
