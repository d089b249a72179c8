/* Which kinds the server has: asked at the start, when a definition changes, and now and then. One
 * look is a few documents at once; only one that is complete counts. */
#include "source/kube/kube_priv.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "base/utf8.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    DOCUMENT_MAX_BYTES = 16 << 20,
    SOON_MS = 50,
    PERIOD_MS = 30 * 1000,
    DOUBT_MS = 2000,
    BACKOFF_MS = 250,
    BACKOFF_MAX_MS = 30 * 1000,
    HURRIES = 8,       /* 50 ms, 100 ms, ... 6 s */
    STREAM_MINOR = 32, /* the first minor version whose streaming lists can be relied on */
};

struct asking {
    struct osm__kube_look *look;
    struct osm_kube_call *call;
    char *path;
    unsigned rank;
};

static void begin(struct osm__kube_look *look);

static void ended(struct osm__kube_look *look)
{
    struct kube *source = look->source;
    uint64_t wait_ms = PERIOD_MS;
    look->under_way = false;
    if (look->failed) {
        wait_ms = (uint64_t)BACKOFF_MS << (look->failures < 7 ? look->failures : 7);
        wait_ms = wait_ms > BACKOFF_MAX_MS ? BACKOFF_MAX_MS : wait_ms;
        wait_ms = wait_ms / 2 + osm_now_us() % (wait_ms / 2);
        look->failures++;
        if (!look->failing_since_ms) {
            look->failing_since_ms = osm_now_ms();
            osm_log(OSM_LOG_SOURCE, OSM_LOG_WARN, "the API server does not say which kinds it has",
                    OSM_S("error", look->error));
        }
    } else {
        look->failures = 0;
        look->failing_since_ms = 0;
        look->error[0] = '\0';
        look->good = look->number;
        look->doubtful = false;
        osm__kube_looked(source);
        if (look->doubtful)
            wait_ms = DOUBT_MS;
        if (look->hurries) {
            wait_ms = (uint64_t)SOON_MS << (HURRIES - look->hurries);
            look->hurries--;
        }
    }
    if (look->again)
        wait_ms = 0;
    look->again = false;
    osm_timer_start(look->timer, wait_ms, 0);
    osm__kube_changed(source);
}

static void fail(struct osm__kube_look *look, const char *path, int status, const char *text)
{
    look->failed = true;
    if (status && status != 200)
        (void)snprintf(look->error, sizeof look->error, "%.100s: HTTP %d%s%.180s", path, status,
                       *text ? ": " : "", text);
    else
        (void)snprintf(look->error, sizeof look->error, "%.280s", text);
    (void)osm_utf8_repair(look->error);
}

static void ask(struct osm__kube_look *look, const char *path, unsigned rank);

/* --- documents --- */

static bool is_wanted_group(const struct kube *source, const char *group, size_t len)
{
    for (size_t i = 0; i < source->kinds_len; i++)
        if (strlen(source->kinds[i]->group) == len && !memcmp(source->kinds[i]->group, group, len))
            return true;
    return false;
}

/* An older server: a document per group and version. */
static void ask_each(struct osm__kube_look *look, const json_t *versions)
{
    size_t i;
    const json_t *each;
    unsigned rank = 0;
    const char *before = "";
    size_t before_len = 0;
    json_array_foreach ((json_t *)(uintptr_t)versions, i, each) {
        const char *api = json_string_value(each), *slash = api ? strchr(api, '/') : NULL;
        size_t len = slash ? (size_t)(slash - api) : 0;
        if (!api || !is_wanted_group(look->source, api, len))
            continue;
        rank = len == before_len && !memcmp(api, before, len) ? rank + 1 : 0;
        before = api;
        before_len = len;
        char *path = osm_strf("%s/%s", slash ? "/apis" : "/api", api);
        if (path)
            ask(look, path, rank);
        else
            fail(look, "discovery", 0, osm_code_text(OSM_ENOMEM));
        osm_free(path);
    }
}

static void take_version(struct osm__kube_look *look, const json_t *document)
{
    char *end = NULL;
    unsigned long minor = strtoul(osm_json_text(document, "minor"), &end, 10); /* "35", "35+" */
    look->can_stream = !strcmp(osm_json_text(document, "major"), "1") && minor >= STREAM_MINOR;
    (void)snprintf(look->server_version, sizeof look->server_version, "%s",
                   osm_json_text(document, "gitVersion"));
    (void)osm_utf8_repair(look->server_version);
}

static void take(struct osm__kube_look *look, const struct asking *asking, const json_t *document)
{
    struct osm_err err = {0};
    if (!strcmp(asking->path, "/version")) {
        take_version(look, document);
        return;
    }
    json_t *versions = osm_kube_group_versions(document);
    if (versions) {
        look->by_group = true;
        ask_each(look, versions);
    } else if (osm_kube_resources_add(&look->found, document, asking->rank, &err)) {
        fail(look, asking->path, 0, err.msg);
    }
    json_decref(versions);
}

static void not_answered(struct osm__kube_look *look, const struct asking *asking,
                         const struct osm_kube_result *result)
{
    bool is_ready_document = !strcmp(asking->path, "/readyz");
    bool is_main = !strcmp(asking->path, "/api") || !strcmp(asking->path, "/apis");
    const char *version = strrchr(asking->path, '/');
    if (result->rc || result->status == 401 || is_main)
        fail(look, asking->path, result->status, result->message);
    else if (is_ready_document)
        look->not_ready = result->status >= 500;
    else if (result->status != 404 && strcmp(asking->path, "/version") != 0) {
        /* of this group it is not known what there is */
        const char *group = !strncmp(asking->path, "/apis/", 6) ? asking->path + 6 : "";
        char *name = osm_strndup(group, *group ? (size_t)(version - group) : 0);
        if (!name || osm_map_put(&look->found.stale, name, look, NULL))
            fail(look, asking->path, 0, osm_code_text(OSM_ENOMEM));
        osm_free(name);
    }
}

/* --- asking --- */

static void on_done(void *ud, const struct osm_kube_result *result)
{
    struct asking *asking = ud;
    struct osm__kube_look *look = asking->look;
    json_error_t error;
    (void)osm_map_deln(&look->calls, &asking, sizeof(struct asking *));
    look->open--;
    if (result->rc == OSM_ECANCELED) {
        look->failed = true;
    } else if (result->rc || result->status != 200) {
        not_answered(look, asking, result);
    } else if (strcmp(asking->path, "/readyz") != 0) {
        const struct osm_buf *body = result->body;
        json_t *document = json_loadb(body->data ? body->data : "", body->len, 0, &error);
        if (document)
            take(look, asking, document);
        else
            fail(look, asking->path, 0, "discovery: the answer is no JSON");
        json_decref(document);
    }
    osm_free(asking->path);
    osm_free(asking);
    if (!look->open && result->rc != OSM_ECANCELED)
        ended(look);
}

static void ask(struct osm__kube_look *look, const char *path, unsigned rank)
{
    struct asking *asking = osm_alloc(sizeof *asking);
    struct osm_err err = {0};
    int rc = asking && (asking->path = osm_strdup(path)) ? 0 : OSM_ENOMEM;
    if (!rc)
        rc = osm_map_putn(&look->calls, &asking, sizeof(struct asking *), asking, NULL);
    if (rc) {
        if (asking)
            osm_free(asking->path);
        osm_free(asking);
        fail(look, path, 0, osm_code_text(rc));
        return;
    }
    asking->look = look;
    asking->rank = rank;
    const struct osm_kube_request request = {.verb = "get",
                                             .resource = "discovery",
                                             .path = path,
                                             .accept = osm_kube_discovery_accept,
                                             .deadline_ms = OSM__KUBE_DEADLINE_MS,
                                             .body_max = DOCUMENT_MAX_BYTES,
                                             .ud = asking,
                                             .done = on_done};
    rc = osm_kube_start(&asking->call, look->source->api, &request, &err);
    if (rc) {
        fail(look, path, 0, err.msg);
        (void)osm_map_deln(&look->calls, &asking, sizeof(struct asking *));
        osm_free(asking->path);
        osm_free(asking);
        return;
    }
    look->open++;
}

static void begin(struct osm__kube_look *look)
{
    static const char *const paths[] = {"/version", "/readyz", "/api", "/apis"};
    osm_kube_resources_clear(&look->found);
    look->under_way = true;
    look->failed = look->not_ready = look->by_group = false;
    look->number = ++look->began;
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
        ask(look, paths[i], 0);
    if (!look->open)
        ended(look);
}

static void on_time(void *ud)
{
    struct osm__kube_look *look = ud;
    if (!look->under_way)
        begin(look);
}

void osm__look_hurry(struct osm__kube_look *look)
{
    if (look->source->stopping)
        return;
    if (!look->hurries && !look->under_way)
        osm_timer_start(look->timer, SOON_MS, 0);
    look->hurries = HURRIES;
}

uint64_t osm__look_now(struct osm__kube_look *look)
{
    if (look->under_way) {
        look->again = true; /* the one that is under way may have been told already */
        return look->began + 1;
    }
    osm_timer_start(look->timer, 0, 0);
    return look->began + 1;
}

int osm__look_init(struct osm__kube_look *look, struct kube *source)
{
    *look = (struct osm__kube_look){.source = source};
    look->timer = osm_timer_new(source->loop, on_time, look);
    if (!look->timer)
        return OSM_ENOMEM;
    osm_timer_start(look->timer, 0, 0);
    return 0;
}

void osm__look_clear(struct osm__kube_look *look)
{
    osm_map_each (&look->calls, e) {
        struct asking *asking = e->value;
        osm_kube_cancel(asking->call);
    }
    osm_map_clear(&look->calls);
    osm_kube_resources_clear(&look->found);
    osm_timer_free(osm_take_ptr(&look->timer));
}
