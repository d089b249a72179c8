#include "http/client_priv.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/utf8.h"

#include <curl/curl.h>
#include <stdio.h>
#include <string.h>
#include <uv.h>

enum { CONNECT_MS = 10 * 1000, CONNECTIONS_MAX = 64, TURNS_MAX = 64 };

struct osm_http_client {
    struct osm_loop *loop;
    CURLM *multi;
    struct osm_timer *timer; /* curl's own */
    char *user_agent;
    uint64_t connect_ms;
    struct osm_http_fetch *fetches;
    bool inside;  /* curl is at work: nothing can be added or removed */
    bool telling; /* done() callbacks are being called */
    bool to_settle;
};

struct osm_http_fetch {
    struct osm_http_client *client;
    struct osm_http_fetch *next, **prev;
    CURL *easy;
    struct curl_slist *headers;
    struct osm_timer *idle;
    uint64_t idle_ms, heard_ms;
    uint64_t body_max, body_len;
    void *ud;
    void (*head)(void *ud, struct osm_http_fetch *fetch, int status);
    int (*data)(void *ud, struct osm_http_fetch *fetch, const char *bytes, size_t len);
    void (*done)(void *ud, const struct osm_http_result *result);
    int rc; /* why we ended it ourselves */
    bool added, told;
    char error[CURL_ERROR_SIZE];
};

/* A descriptor that curl wants to be told of. */
struct socket {
    uv_poll_t poll;
    struct osm_http_client *client;
    curl_socket_t fd;
};

static void settle(struct osm_http_client *client);

/* --- the loop --- */

static void act(struct osm_http_client *client, curl_socket_t fd, int events)
{
    int running;
    client->inside = true;
    CURLMcode code = curl_multi_socket_action(client->multi, fd, events, &running);
    client->inside = false;
    if (code)
        osm_log(OSM_LOG_HTTP, OSM_LOG_ERROR, "HTTP client",
                OSM_S("error", curl_multi_strerror(code)));
    settle(client);
}

static void on_ready(uv_poll_t *poll, int status, int events)
{
    struct socket *s = poll->data;
    int mask = (events & UV_READABLE ? CURL_CSELECT_IN : 0) |
               (events & UV_WRITABLE ? CURL_CSELECT_OUT : 0) | (status < 0 ? CURL_CSELECT_ERR : 0);
    act(s->client, s->fd, mask);
}

static void socket_closed(uv_handle_t *handle)
{
    osm_free(handle->data);
}

static struct socket *socket_new(struct osm_http_client *client, curl_socket_t fd)
{
    struct socket *s = osm_alloc(sizeof *s);
    if (!s)
        return NULL;
    s->client = client;
    s->fd = fd;
    s->poll.data = s;
    if (uv_poll_init(osm_loop_uv(client->loop), &s->poll, fd) ||
        curl_multi_assign(client->multi, fd, s)) {
        osm_free(s);
        return NULL;
    }
    return s;
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *ud, void *socket_ud)
{
    struct osm_http_client *client = ud;
    struct socket *s = socket_ud;
    (void)easy;
    if (what == CURL_POLL_REMOVE) {
        if (s) {
            (void)curl_multi_assign(client->multi, fd, NULL);
            uv_close((uv_handle_t *)&s->poll, socket_closed);
        }
        return 0;
    }
    if (!s)
        s = socket_new(client, fd);
    if (!s) { /* to refuse would end every fetch for good; so only those that wait for this one do
               */
        osm_log(OSM_LOG_HTTP, OSM_LOG_ERROR, "HTTP client: a socket is not watched: out of memory");
        return 0;
    }
    (void)uv_poll_start(&s->poll,
                        (what & CURL_POLL_IN ? UV_READABLE : 0) |
                            (what & CURL_POLL_OUT ? UV_WRITABLE : 0),
                        on_ready);
    return 0;
}

static int on_timer_wanted(CURLM *multi, long timeout_ms, void *ud)
{
    struct osm_http_client *client = ud;
    (void)multi;
    if (timeout_ms < 0)
        osm_timer_stop(client->timer);
    else
        osm_timer_start(client->timer, (uint64_t)timeout_ms, 0);
    return 0;
}

static void on_time(void *ud)
{
    struct osm_http_client *client = ud;
    if (client->to_settle)
        settle(client);
    act(client, CURL_SOCKET_TIMEOUT, 0);
}

/* --- the end of a fetch --- */

static int code_of(const struct osm_http_fetch *f, CURLcode code)
{
    switch (code) {
    case CURLE_OK:
        return 0;
    case CURLE_WRITE_ERROR:
        return f->rc ? f->rc : OSM_EPARSE;
    case CURLE_OPERATION_TIMEDOUT:
        return OSM_ETIMEDOUT;
    case CURLE_OUT_OF_MEMORY:
        return OSM_ENOMEM;
    case CURLE_BAD_CONTENT_ENCODING:
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_UNSUPPORTED_PROTOCOL: /* "HTTP/0.9", which is whatever is no HTTP */
        return OSM_EPARSE;
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_SSL_INVALIDCERTSTATUS:
        return OSM_EACCES;
    default:
        return OSM_EIO;
    }
}

/* Calls done(), once. */
static void tell(struct osm_http_fetch *f, int rc, const char *error)
{
    struct osm_http_result result = {.rc = rc, .content_type = "", .retry_after_s = -1};
    if (f->told)
        return;
    f->told = true;
    long status = 0, version = 0;
    curl_off_t retry_s = 0;
    const char *type = NULL;
    (void)curl_easy_getinfo(f->easy, CURLINFO_RESPONSE_CODE, &status);
    (void)curl_easy_getinfo(f->easy, CURLINFO_HTTP_VERSION, &version);
    (void)curl_easy_getinfo(f->easy, CURLINFO_CONTENT_TYPE, &type);
    if (!curl_easy_getinfo(f->easy, CURLINFO_RETRY_AFTER, &retry_s) && retry_s > 0)
        result.retry_after_s = retry_s;
    result.status = (int)status;
    result.http2 = version == CURL_HTTP_VERSION_2_0;
    result.content_type = type ? type : "";
    result.error = !rc ? "" : error;
    bool nested = f->client->telling;
    f->client->telling = true;
    f->done(f->ud, &result);
    f->client->telling = nested;
}

static void destroy(struct osm_http_fetch *f)
{
    if (f->added)
        (void)curl_multi_remove_handle(f->client->multi, f->easy);
    if (f->easy)
        curl_easy_cleanup(f->easy);
    for (struct curl_slist *h = f->headers; h; h = h->next) /* one may hold a token */
        explicit_bzero(h->data, strlen(h->data));
    curl_slist_free_all(f->headers);
    osm_timer_free(f->idle);
    if (f->prev) {
        *f->prev = f->next;
        if (f->next)
            f->next->prev = f->prev;
    }
    osm_free(f);
}

static void end(struct osm_http_fetch *f, int rc, const char *error)
{
    struct osm_http_client *client = f->client;
    tell(f, rc, error);
    if (client->inside)
        client->to_settle = true; /* removed as soon as curl is not at work */
    else
        destroy(f);
}

/* What the library quotes in the text of an error, such as a proxy's URL, may hold a password. */
static const char untold[] = "an address with a password";

static void end_with(struct osm_http_fetch *f, CURLcode code)
{
    int rc = code_of(f, code);
    const char *text = rc && rc == f->rc           ? osm_code_text(rc)
                       : *f->error                 ? f->error
                       : code == CURLE_WRITE_ERROR ? "the body cannot be expanded"
                                                   : curl_easy_strerror(code);
    char error[sizeof f->error + sizeof untold];
    (void)snprintf(error, sizeof error, "%s", text);
    char *quoted = strchr(error, '\'');
    if (quoted && strchr(quoted, '@'))
        memcpy(quoted, untold, sizeof untold);
    end(f, rc, osm_utf8_repair(error));
}

/* Adds and removes what could not be while curl was at work, and tells of what has ended. */
static void settle(struct osm_http_client *client)
{
    if (client->inside || client->telling)
        return;
    client->to_settle = false;
    for (struct osm_http_fetch *f = client->fetches, *next; f; f = next) {
        next = f->next;
        if (f->told) {
            destroy(f);
        } else if (!f->added) {
            if (curl_multi_add_handle(client->multi, f->easy)) {
                end(f, OSM_ENOMEM, osm_code_text(OSM_ENOMEM));
                next = client->fetches; /* done() may have ended others */
            } else {
                f->added = true;
            }
        }
    }
    CURLMsg *message;
    int left;
    while ((message = curl_multi_info_read(client->multi, &left))) {
        struct osm_http_fetch *f = NULL;
        CURLcode code = message->data.result;
        if (message->msg == CURLMSG_DONE &&
            !curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&f) && f)
            end_with(f, code);
    }
    if (client->to_settle) /* started by a callback: on the next turn */
        osm_timer_start(client->timer, 0, 0);
}

void osm_http_fetch_cancel(struct osm_http_fetch *fetch)
{
    if (!fetch->told)
        end(fetch, OSM_ECANCELED, osm_code_text(OSM_ECANCELED));
}

int osm_http_fetch_status(const struct osm_http_fetch *fetch)
{
    long status = 0;
    (void)curl_easy_getinfo(fetch->easy, CURLINFO_RESPONSE_CODE, &status);
    return (int)status;
}

/* --- what arrives --- */

static size_t on_data(char *bytes, size_t size, size_t n, void *ud)
{
    struct osm_http_fetch *f = ud;
    size_t len = size * n;
    f->heard_ms = osm_now_ms();
    if (f->told) /* canceled by another's callback */
        return len ? 0 : 1;
    f->body_len += len;
    if (f->body_max && f->body_len > f->body_max)
        f->rc = OSM_ELIMIT;
    else
        f->rc = f->data ? f->data(f->ud, f, bytes, len) : 0;
    return f->rc ? len + 1 : len;
}

static size_t on_header(char *bytes, size_t size, size_t n, void *ud)
{
    struct osm_http_fetch *f = ud;
    size_t len = size * n;
    f->heard_ms = osm_now_ms();
    if (f->head && !f->told && len && len <= 2 && (*bytes == '\r' || *bytes == '\n')) {
        int status = osm_http_fetch_status(f);
        if (status >= 200)
            f->head(f->ud, f, status);
    }
    return len;
}

static void on_idle(void *ud)
{
    struct osm_http_fetch *f = ud;
    uint64_t silent_ms = osm_now_ms() - f->heard_ms;
    char error[80];
    if (silent_ms < f->idle_ms) {
        osm_timer_start(f->idle, f->idle_ms - silent_ms, 0);
        return;
    }
    (void)snprintf(error, sizeof error, "nothing was heard for %llu ms",
                   (unsigned long long)f->idle_ms);
    end(f, OSM_ETIMEDOUT, error);
}

/* --- the start of a fetch --- */

static struct curl_blob blob_of(const char *pem)
{
    return (struct curl_blob){(void *)(uintptr_t)pem, strlen(pem), CURL_BLOB_COPY};
}

static int set_tls(CURL *easy, const struct osm_http_tls *tls)
{
    int failed = 0;
    if (tls->insecure)
        failed = curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 0L) ||
                 curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 0L);
    if (!failed && tls->ca) {
        struct curl_blob ca = blob_of(tls->ca);
        failed = curl_easy_setopt(easy, CURLOPT_CAINFO_BLOB, &ca) ||
                 curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
    }
    if (!failed && tls->cert) {
        struct curl_blob cert = blob_of(tls->cert), key = blob_of(tls->key ? tls->key : tls->cert);
        failed = curl_easy_setopt(easy, CURLOPT_SSLCERT_BLOB, &cert) ||
                 curl_easy_setopt(easy, CURLOPT_SSLKEY_BLOB, &key);
    }
    return failed ? OSM_ENOMEM : 0;
}

static int set_headers(struct osm_http_fetch *f, const char *const *headers)
{
    static const char *const none[] = {"Expect:", NULL}; /* curl's own: a round trip for nothing */
    const char *const *lists[] = {none, headers};
    for (size_t i = 0; i < 2; i++)
        for (const char *const *at = lists[i]; at && *at; at++) {
            struct curl_slist *grown = curl_slist_append(f->headers, *at);
            if (!grown)
                return OSM_ENOMEM;
            f->headers = grown;
        }
    return curl_easy_setopt(f->easy, CURLOPT_HTTPHEADER, f->headers) ? OSM_ENOMEM : 0;
}

static int set_request(struct osm_http_fetch *f, const struct osm_http_fetch_config *config)
{
    CURL *easy = f->easy;
    /* To wait whether a connection can be shared: TLS settles that; else the first answer would. */
    long waits = !strncasecmp(config->url, "https:", 6);
    int failed = curl_easy_setopt(easy, CURLOPT_URL, config->url) ||
                 curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https") ||
                 curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_2TLS) ||
                 curl_easy_setopt(easy, CURLOPT_PIPEWAIT, waits) ||
                 curl_easy_setopt(easy, CURLOPT_ACCEPT_ENCODING, "gzip") ||
                 curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L) ||
                 curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L) ||
                 curl_easy_setopt(easy, CURLOPT_TCP_KEEPIDLE, 30L) ||
                 curl_easy_setopt(easy, CURLOPT_TCP_KEEPINTVL, 10L) ||
                 curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)f->client->connect_ms) ||
                 curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)config->deadline_ms) ||
                 curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, f->error) ||
                 curl_easy_setopt(easy, CURLOPT_PRIVATE, f) ||
                 curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_data) ||
                 curl_easy_setopt(easy, CURLOPT_WRITEDATA, f) ||
                 curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header) ||
                 curl_easy_setopt(easy, CURLOPT_HEADERDATA, f);
    if (!failed && f->client->user_agent)
        failed = curl_easy_setopt(easy, CURLOPT_USERAGENT, f->client->user_agent) != CURLE_OK;
    if (!failed && config->proxy)
        failed = curl_easy_setopt(easy, CURLOPT_PROXY, config->proxy) != CURLE_OK;
    if (!failed && config->body)
        failed =
            curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)config->body_len) ||
            curl_easy_setopt(easy, CURLOPT_COPYPOSTFIELDS, config->body);
    if (!failed && config->method)
        failed = curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, config->method) != CURLE_OK;
    return failed ? OSM_ENOMEM : 0;
}

static bool is_http_url(const char *url)
{
    CURLU *parsed = curl_url();
    char *scheme = NULL;
    bool ok = parsed && !curl_url_set(parsed, CURLUPART_URL, url, 0) &&
              !curl_url_get(parsed, CURLUPART_SCHEME, &scheme, 0) &&
              (!strcmp(scheme, "http") || !strcmp(scheme, "https"));
    curl_free(scheme);
    curl_url_cleanup(parsed);
    return ok;
}

int osm_http_fetch_start(struct osm_http_fetch **out, struct osm_http_client *client,
                         const struct osm_http_fetch_config *config, struct osm_err *err)
{
    if (!is_http_url(config->url))
        return osm_fail(err, OSM_EINVAL, "%.200s is no http: or https: URL", config->url);
    struct osm_http_fetch *f = osm_alloc(sizeof *f);
    if (!f)
        return osm_fail(err, OSM_ENOMEM, "HTTP request");
    f->client = client;
    f->ud = config->ud;
    f->head = config->head;
    f->data = config->data;
    f->done = config->done;
    f->body_max = config->body_max;
    f->idle_ms = config->idle_ms;
    f->heard_ms = osm_now_ms();
    f->easy = curl_easy_init();
    f->idle = config->idle_ms ? osm_timer_new(client->loop, on_idle, f) : NULL;
    int rc = f->easy && (f->idle || !config->idle_ms) ? set_request(f, config) : OSM_ENOMEM;
    if (!rc)
        rc = set_headers(f, config->headers);
    if (!rc && config->tls)
        rc = set_tls(f->easy, config->tls);
    if (!rc && !client->inside) {
        rc = curl_multi_add_handle(client->multi, f->easy) ? OSM_ENOMEM : 0;
        f->added = !rc;
    }
    if (rc) {
        destroy(f);
        return osm_fail(err, rc, "HTTP request: %s", osm_code_text(rc));
    }
    client->to_settle = client->to_settle || !f->added;
    if (f->idle)
        osm_timer_start(f->idle, f->idle_ms, 0);
    f->next = client->fetches;
    f->prev = &client->fetches;
    if (f->next)
        f->next->prev = &f->next;
    client->fetches = f;
    *out = f;
    return 0;
}

/* --- life --- */

int osm_http_client_new(struct osm_http_client **out, const struct osm_http_client_config *config,
                        struct osm_err *err)
{
    struct osm_http_client *client = osm_alloc(sizeof *client);
    if (!client || !osm__http_client_init()) {
        osm_free(client);
        return osm_fail(err, OSM_ENOMEM, "HTTP client");
    }
    client->loop = config->loop;
    client->connect_ms = config->connect_ms ? config->connect_ms : CONNECT_MS;
    client->user_agent = config->user_agent ? osm_strdup(config->user_agent) : NULL;
    client->multi = curl_multi_init();
    client->timer = osm_timer_new(config->loop, on_time, client);
    long connections = config->connections_max ? (long)config->connections_max : CONNECTIONS_MAX;
    if (!client->multi || !client->timer || (config->user_agent && !client->user_agent) ||
        curl_multi_setopt(client->multi, CURLMOPT_SOCKETFUNCTION, on_socket) ||
        curl_multi_setopt(client->multi, CURLMOPT_SOCKETDATA, client) ||
        curl_multi_setopt(client->multi, CURLMOPT_TIMERFUNCTION, on_timer_wanted) ||
        curl_multi_setopt(client->multi, CURLMOPT_TIMERDATA, client) ||
        curl_multi_setopt(client->multi, CURLMOPT_MAX_HOST_CONNECTIONS, connections) ||
        curl_multi_setopt(client->multi, CURLMOPT_PIPELINING, (long)CURLPIPE_MULTIPLEX)) {
        osm_http_client_free(client);
        return osm_fail(err, OSM_ENOMEM, "HTTP client");
    }
    *out = client;
    return 0;
}

void osm_http_client_free(struct osm_http_client *client)
{
    if (!client)
        return;
    OSM_REQUIRE(!client->inside && !client->telling);
    while (client->fetches)
        end(client->fetches, OSM_ECANCELED, osm_code_text(OSM_ECANCELED));
    if (client->multi) {
        (void)curl_multi_cleanup(client->multi); /* closes its sockets, and says so */
        client->multi = NULL;
    }
    osm_timer_free(client->timer);
    osm_free(client->user_agent);
    osm_free(client);
    curl_global_cleanup();
}
