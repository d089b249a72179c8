/* /metrics: what base/metrics.h keeps, what is there to be looked at, and of each proxy what ads
 * counts; the last piece by piece, there may be tens of thousands. */
#include "app/http.h"

#include "app/build_info.h"
#include "app/endpoints.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/map.h"
#include "base/metrics.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LAG_MS = 1000, PIECE_BYTES = 32 * 1024 };

/* --- the loop --- */

static void on_lag_timer(void *ud)
{
    struct osm_app *app = ud;
    uint64_t now_us = osm_now_us(), due_us = app->lag_due_us;
    osm_metric_observe(OSM_METRIC_LOOP_LAG, NULL,
                       now_us > due_us ? (double)(now_us - due_us) / 1e6 : 0);
    app->lag_due_us = now_us + (uint64_t)LAG_MS * 1000;
    osm_timer_start(app->lag_timer, LAG_MS, 0);
}

struct osm_timer *osm_app_watch_lag(struct osm_app *app)
{
    struct osm_timer *timer = osm_timer_new(app->loop, on_lag_timer, app);
    if (timer) {
        app->lag_due_us = osm_now_us() + (uint64_t)LAG_MS * 1000;
        osm_timer_start(timer, LAG_MS, 0);
    }
    return timer;
}

/* --- samples --- */

static void sample(struct osm_buf *out, enum osm_metric metric, double value)
{
    osm_metrics_begin(out, metric);
    osm_metrics_sample(out, metric, NULL, value);
}

/* Newer kernels say it as the folder's size; else the folder is read. 0: not known. */
static size_t open_fds(void)
{
    struct stat st;
    size_t n = 0;
    if (!stat("/proc/self/fd", &st) && st.st_size > 0)
        return (size_t)st.st_size;
    DIR *dir = opendir("/proc/self/fd");
    while (dir && readdir(dir))
        n++;
    if (dir)
        (void)closedir(dir);
    return n > 3 ? n - 3 : 0; /* itself, and . and .. */
}

static void add_process(struct osm_buf *out)
{
    long page = sysconf(_SC_PAGESIZE), ticks = sysconf(_SC_CLK_TCK);
    struct osm_buf text = OSM_BUF_INIT(8192);
    struct rlimit files;
    struct rusage use;
    if (!osm_buf_read_file(&text, "/proc/self/stat", NULL) && text.data) {
        /* The fields after the name, which may hold anything: state is the third of all. */
        const char *p = strrchr(text.data, ')');
        double fields[25] = {0};
        for (size_t i = 2; p && i < sizeof fields / sizeof *fields; i++) {
            p = strchr(p + 1, ' ');
            fields[i] = p ? strtod(p, NULL) : 0;
        }
        sample(out, OSM_METRIC_RESIDENT, fields[23] * (double)page);
        sample(out, OSM_METRIC_VIRTUAL, fields[22]);
        sample(out, OSM_METRIC_THREADS, fields[19]);
        osm_buf_reset(&text);
        const char *boot = osm_buf_read_file(&text, "/proc/stat", NULL) || !text.data
                               ? NULL
                               : strstr(text.data, "\nbtime ");
        if (boot)
            sample(out, OSM_METRIC_STARTED, strtod(boot + 7, NULL) + fields[21] / (double)ticks);
    }
    osm_buf_clear(&text);
    if (!getrusage(RUSAGE_SELF, &use))
        sample(out, OSM_METRIC_CPU,
               (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) +
                   (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) / 1e6);
    if (!getrlimit(RLIMIT_NOFILE, &files))
        sample(out, OSM_METRIC_MAX_FDS, (double)files.rlim_cur);
    size_t fds = open_fds();
    if (fds)
        sample(out, OSM_METRIC_OPEN_FDS, (double)fds);
}

static void add_generations(struct osm_buf *out, const struct osm_app *app)
{
    json_t *status = app->reload ? osm_reload_status(app->reload) : NULL;
    json_t *generations = json_object_get(status, "generations"), *entry;
    struct osm_map seen = OSM_MAP_INIT;
    size_t i;
    osm_metrics_begin(out, OSM_METRIC_POLICY_GENERATION);
    json_array_foreach (generations, i, entry) { /* newest first: of one digest the last counts */
        const char *digest = osm_json_text(entry, "digest");
        if (osm_map_has(&seen, digest) || osm_map_put(&seen, digest, status, NULL))
            continue;
        osm_metrics_sample(out, OSM_METRIC_POLICY_GENERATION,
                           OSM_LABELS(digest, osm_json_text(entry, "state")),
                           (double)json_integer_value(json_object_get(entry, "generation")));
    }
    const char *digest;
    json_object_foreach (json_object_get(status, "quarantine"), digest, entry)
        if (!osm_map_has(&seen, digest))
            osm_metrics_sample(out, OSM_METRIC_POLICY_GENERATION, OSM_LABELS(digest, "quarantined"),
                               0);
    osm_map_clear(&seen);
    json_decref(status);
}

static void add_flags(struct osm_buf *out, const struct osm_app *app)
{
    json_t *flags = osm_app_feature_flags(app), *value;
    const char *name;
    osm_metrics_begin(out, OSM_METRIC_FEATURE_FLAGS);
    json_object_foreach (flags, name, value)
        osm_metrics_sample(out, OSM_METRIC_FEATURE_FLAGS, OSM_LABELS(name), json_is_true(value));
    json_decref(flags);
}

static void add_source(struct osm_buf *out, const struct osm_app *app)
{
    json_t *status = app->source ? osm_source_status(app->source) : NULL, *kind;
    size_t i;
    sample(out, OSM_METRIC_SOURCE_UP, app->synced && !osm_source_failure(app->source));
    if (app->feedback) {
        size_t events, statuses;
        osm_feedback_waiting(app->feedback, &events, &statuses);
        sample(out, OSM_METRIC_LEADER, osm_feedback_leads(app->feedback));
        osm_metrics_begin(out, OSM_METRIC_KUBE_WRITES_WAITING);
        osm_metrics_sample(out, OSM_METRIC_KUBE_WRITES_WAITING, OSM_LABELS("event"),
                           (double)events);
        osm_metrics_sample(out, OSM_METRIC_KUBE_WRITES_WAITING, OSM_LABELS("status"),
                           (double)statuses);
    }
    osm_metrics_begin(out, OSM_METRIC_SOURCE_KIND_UP);
    json_array_foreach (json_object_get(status, "kinds"), i, kind) {
        const char *state = osm_json_text(kind, "state");
        char *name =
            osm_strf("%s%s%s", osm_json_text(kind, "kind"),
                     *osm_json_text(kind, "group") ? "." : "", osm_json_text(kind, "group"));
        if (name)
            osm_metrics_sample(out, OSM_METRIC_SOURCE_KIND_UP, OSM_LABELS(name, state),
                               !strcmp(state, "watched"));
        osm_free(name);
    }
    json_decref(status);
}

static void add_state(struct osm_buf *out, const struct osm_app *app)
{
    const struct osm_snapshot *s = app->snapshot;
    json_t *namespaces = osm_app_namespaces(app);
    if (app->source)
        add_source(out, app);
    sample(out, OSM_METRIC_NAMESPACES, (double)json_array_size(namespaces));
    json_decref(namespaces);
    sample(out, OSM_METRIC_PROXIES, app->ads ? (double)osm_ads_proxies(app->ads) : 0);
    sample(out, OSM_METRIC_PROXIES_MISSING, (double)osm_app_missing(app));
    sample(out, OSM_METRIC_SNAPSHOT, s ? (double)s->number : 0);
    sample(out, OSM_METRIC_POLICY_REJECTS, s ? (double)json_array_size(s->rejects) : 0);
    sample(out, OSM_METRIC_POLICY_ERRORS, s ? (double)json_array_size(s->errors) : 0);
    sample(out, OSM_METRIC_READY, !osm_app_not_ready(app));
    add_generations(out, app);
    add_flags(out, app);
    if (app->ads_leaf) {
        osm_metrics_begin(out, OSM_METRIC_CERT_ENDS);
        osm_metrics_sample(out, OSM_METRIC_CERT_ENDS, OSM_LABELS("ads"),
                           (double)osm_leaf_not_after(app->ads_leaf));
        osm_metrics_sample(out, OSM_METRIC_CERT_ENDS, OSM_LABELS("root"),
                           (double)osm_ca_not_after(app->ca));
    }
    osm_metrics_begin(out, OSM_METRIC_VERSION);
    osm_metrics_sample(out, OSM_METRIC_VERSION,
                       OSM_LABELS(OSM_VERSION, osm_build_date, osm_build_commit), 1);
}

/* --- of each proxy --- */

struct scrape {
    const struct osm_app *app;
    char (*keys)[OSM_PROXY_KEY_SIZE];
    size_t n, at, family;
    bool begun;
};

static const enum osm_metric families[] = {OSM_METRIC_PROXY_SENT, OSM_METRIC_PROXY_NOT_SENT,
                                           OSM_METRIC_PROXY_REQUESTS};
enum { FAMILIES = sizeof families / sizeof *families };

static uint64_t count_of(const struct osm_ads_counts *counts, enum osm_metric metric)
{
    return metric == OSM_METRIC_PROXY_SENT       ? counts->sent
           : metric == OSM_METRIC_PROXY_NOT_SENT ? counts->not_sent
                                                 : counts->requests;
}

static void add_proxy(struct osm_buf *out, const struct scrape *s, const char *proxy)
{
    struct osm_ads_figures figures;
    if (!s->app->ads || !osm_ads_figures(s->app->ads, proxy, &figures))
        return; /* gone meanwhile */
    for (int t = 0; t < OSM_XDS_TYPE_COUNT; t++) {
        uint64_t count = count_of(&figures.types[t], families[s->family]);
        if (count)
            osm_metrics_sample(out, families[s->family],
                               OSM_LABELS(figures.uuid, figures.identity,
                                          osm_xds_type_short((enum osm_xds_type)t)),
                               (double)count);
    }
}

static int more(void *ud, struct osm_buf *out)
{
    struct scrape *s = ud;
    for (; s->family < FAMILIES; s->family++, s->at = 0, s->begun = false) {
        if (!s->begun)
            osm_metrics_begin(out, families[s->family]);
        s->begun = true;
        while (s->at < s->n && out->len < PIECE_BYTES)
            add_proxy(out, s, s->keys[s->at++]);
        if (s->at < s->n)
            return 1;
    }
    return 0;
}

static int piece(void *ud, struct osm_buf *out)
{
    struct scrape *s = ud;
    if (!s->family && !s->begun) { /* at first, what is there once */
        osm_metrics_write(out);
        add_state(out, s->app);
        add_process(out);
    }
    return out->failed ? out->failed : more(s, out);
}

static void end(void *ud)
{
    struct scrape *s = ud;
    osm_free(s->keys);
    osm_free(s);
}

void osm_app_http_metrics(void *ud, struct osm_http_request *request)
{
    struct osm_app *app = ud;
    struct scrape *s = osm_alloc(sizeof *s);
    if (s) {
        s->app = app;
        s->keys = app->ads ? osm_ads_known(app->ads, &s->n) : NULL;
    }
    if (!s || (app->ads && !s->keys)) {
        osm_free(s);
        osm_http_reply_text(request, 500, "out of memory");
        return;
    }
    osm_http_reply_stream(request, 200, "text/plain; version=0.0.4; charset=utf-8",
                          &(struct osm_http_source){s, piece, end});
}
