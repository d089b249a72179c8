/* Health, and what the daemon is. Ready: it has what it needs to serve, and serves. Whatever is
 * wrong beside that (a rejected bundle, a source that has gone away) is told by ?verbose and
 * changes nothing: not to be ready would keep proxies from what they can have. */
#include "app/http.h"

#include "app/build_info.h"
#include "app/ca_secret.h"
#include "base/json.h"

#include <string.h>
#include <time.h>

enum { REPORT_MAX_BYTES = 256 * 1024 };

const char *osm_app_not_ready(const struct osm_app *app)
{
    if (app->stopping)
        return "stopping";
    bool serves = app->config.roles & OSM_APP_CONTROLLER;
    bool injects = app->config.roles & OSM_APP_INJECTOR;
    if (!serves && app->bootstrap && !osm_install_done(app->bootstrap))
        return "starting: not all that the API server has to have is there yet";
    if ((serves || injects) && !app->ca)
        return app->ca_secret && *osm_ca_secret_problem(app->ca_secret)
                   ? osm_ca_secret_problem(app->ca_secret)
                   : "starting: the root certificate is not known yet";
    if (!serves)
        return app->webhook && !osm_webhook_ready(app->webhook) ? osm_webhook_failure(app->webhook)
                                                                : NULL;
    if (!app->synced)
        return "starting: the source has not been read yet";
    if (!app->snapshot)
        return app->reload && osm_reload_error(app->reload)
                   ? osm_reload_error(app->reload)
                   : "starting: the policies have not run yet";
    return app->ads ? NULL : "starting: nothing is served yet";
}

/* One line: what is there, or what is wrong with it. */
static void line(struct osm_buf *out, bool good, const char *what, const char *detail)
{
    (void)osm_buf_add_strs(out, good ? "[ok] " : "[!!] ", what, detail ? ": " : "",
                           detail ? detail : "", "\n", NULL);
}

static void report_policies(struct osm_buf *out, const struct osm_app *app)
{
    json_t *status = app->reload ? osm_reload_status(app->reload) : NULL;
    const json_t *candidate = json_object_get(status, "candidate");
    const char *digest;
    json_t *entry;
    char *text = osm_strf(
        "generation %lld, %s", (long long)json_integer_value(json_object_get(status, "generation")),
        *osm_json_text(status, "digest") ? osm_json_text(status, "digest") : "none is in force");
    line(out, app->snapshot != NULL, "policies", text);
    osm_free(text);
    if (app->reload && osm_reload_error(app->reload))
        line(out, false, "policy run", osm_reload_error(app->reload));
    if (*osm_json_text(status, "problem"))
        line(out, false, "policies in the directories", osm_json_text(status, "problem"));
    if (*osm_json_text(status, "unstored"))
        line(out, false, "policies not stored", osm_json_text(status, "unstored"));
    if (json_is_object(candidate))
        line(out, strcmp(osm_json_text(candidate, "state"), "held") != 0, "candidate",
             osm_json_text(candidate, "state"));
    json_object_foreach (json_object_get(status, "quarantine"), digest, entry)
        line(out, false, "quarantined", digest);
    json_decref(status);
}

static void report_numbers(struct osm_buf *out, const struct osm_app *app)
{
    const struct osm_snapshot *s = app->snapshot;
    char *text = osm_strf("snapshot %llu: %zu objects or parts rejected, %zu rules in error",
                          (unsigned long long)(s ? s->number : 0),
                          s ? json_array_size(s->rejects) : 0, s ? json_array_size(s->errors) : 0);
    line(out, s && !json_array_size(s->errors), text ? text : "snapshot", NULL);
    osm_free(text);
    text = osm_strf("%zu proxies connected to %s", app->ads ? osm_ads_proxies(app->ads) : 0,
                    app->config.ads_listen);
    line(out, app->ads != NULL, "ads", text);
    osm_free(text);
}

/* "2026-01-31T23:59:59Z"; "" for 0. */
static const char *time_text(json_int_t at_s, char out[32])
{
    time_t at = (time_t)at_s;
    struct tm tm;
    out[0] = '\0';
    if (at && gmtime_r(&at, &tm))
        (void)strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &tm);
    return out;
}

/* Of an API server: each kind that is not as it should be, since when and why. */
static void report_kinds(struct osm_buf *out, const json_t *status)
{
    size_t i;
    json_t *kind;
    char since[32];
    json_array_foreach (json_object_get(status, "kinds"), i, kind) {
        const char *state = osm_json_text(kind, "state"), *reason = osm_json_text(kind, "reason");
        bool good = !strcmp(state, "watched") || !strcmp(state, "absent");
        const char *at = time_text(json_integer_value(json_object_get(kind, "since")), since);
        char *text =
            osm_strf("%s%s%s%s%s", state, *at ? " since " : "", at, *reason ? ": " : "", reason);
        char *name =
            osm_strf("kind %s%s%s", osm_json_text(kind, "kind"),
                     *osm_json_text(kind, "group") ? "." : "", osm_json_text(kind, "group"));
        if (strcmp(state, "watched") != 0)
            line(out, good, name ? name : "kind", text);
        osm_free(name);
        osm_free(text);
    }
}

static void report_source(struct osm_buf *out, const struct osm_app *app)
{
    json_t *status = app->source ? osm_source_status(app->source) : NULL;
    const char *failure = app->source ? osm_source_failure(app->source) : NULL;
    char since[32];
    const char *at = time_text(json_integer_value(json_object_get(status, "since")), since);
    char *text = failure ? osm_strf("%s%s%s%s; what it last gave serves", failure,
                                    *at ? " (since " : "", at, *at ? ")" : "")
                         : NULL;
    line(out, app->synced && !failure, "source",
         text           ? text
         : !app->synced ? "not read yet"
                        : app->config.source);
    report_kinds(out, status);
    osm_free(text);
    json_decref(status);
}

/* Each part that is not there yet, or was left to somebody else, and why. */
static void report_bootstrap(struct osm_buf *out, const struct osm_app *app)
{
    json_t *status = osm_install_status(app->bootstrap), *part;
    const char *state = osm_json_text(status, "state");
    size_t i;
    line(out, !strcmp(state, "done"), "bootstrap", state);
    json_array_foreach (json_object_get(status, "parts"), i, part) {
        const char *how = osm_json_text(part, "state"), *why = osm_json_text(part, "reason");
        char *text = osm_strf("%s%s%s", how, *why ? ": " : "", why);
        if (*why)
            line(out, strcmp(how, "failed") != 0, osm_json_text(part, "name"), text);
        osm_free(text);
    }
    json_decref(status);
}

static void report_roots(struct osm_buf *out, const struct osm_app *app)
{
    const char *problem = app->ca_secret ? osm_ca_secret_problem(app->ca_secret) : "";
    line(out, app->ca && !*problem, "roots",
         *problem  ? problem
         : app->ca ? osm_ca_fingerprint(app->ca)
                   : "not known yet");
}

static void report_injector(struct osm_buf *out, const struct osm_app *app)
{
    const char *failure =
        app->webhook ? osm_webhook_failure(app->webhook) : "starting: no roots yet";
    line(out, !failure, "injector", failure ? failure : app->config.webhook_name);
}

static void report(struct osm_buf *out, const struct osm_app *app)
{
    if (app->bootstrap)
        report_bootstrap(out, app);
    if (app->config.roles & (OSM_APP_CONTROLLER | OSM_APP_INJECTOR))
        report_roots(out, app);
    if (app->config.roles & OSM_APP_INJECTOR)
        report_injector(out, app);
    if (!(app->config.roles & OSM_APP_CONTROLLER))
        return;
    report_source(out, app);
    report_policies(out, app);
    report_numbers(out, app);
}

void osm_app_http_ready(void *ud, struct osm_http_request *request)
{
    const struct osm_app *app = ud;
    const char *why_not = osm_app_not_ready(app);
    struct osm_buf out = OSM_BUF_INIT(REPORT_MAX_BYTES);
    if (osm_http_query(request, "verbose"))
        report(&out, app);
    if (why_not)
        (void)osm_buf_add_strs(&out, "Service is not ready: ", why_not, "\n", NULL);
    else
        (void)osm_buf_add_str(&out, "Service is ready\n");
    osm_http_reply(request, why_not ? 503 : 200, "text/plain; charset=utf-8", &out);
}

/* That it is answered is what was asked. */
void osm_app_http_alive(void *ud, struct osm_http_request *request)
{
    (void)ud;
    osm_http_reply_text(request, 200, "Service is alive");
}

void osm_app_http_healthz(void *ud, struct osm_http_request *request)
{
    const struct osm_app *app = ud;
    bool waits = !(app->config.roles & OSM_APP_CONTROLLER); /* others wait for it here */
    const char *why_not = waits ? osm_app_not_ready(app) : NULL;
    osm_http_reply_text(request, why_not ? 503 : 200, why_not ? why_not : "Health OK");
}

void osm_app_http_version(void *ud, struct osm_http_request *request)
{
    (void)ud;
    osm_http_reply_json(request, 200,
                        json_pack("{s:s, s:s, s:s}", "version", OSM_VERSION, "git_commit",
                                  osm_build_commit, "build_date", osm_build_date));
}

/* --- SMI --- */

struct smi {
    struct osm_http_request *request;
    json_t *kinds; /* NULL: not to be had */
};

static void ask_kinds(void *ud, struct osm_engine *engine)
{
    struct smi *smi = ud;
    smi->kinds = engine ? osm_engine_kinds(engine) : NULL;
}

static void kinds_answered(void *ud)
{
    struct smi *smi = ud;
    static const char domain[] = ".smi-spec.io";
    json_t *out = smi->kinds ? json_object() : NULL;
    size_t i;
    json_t *kind;
    json_array_foreach (smi->kinds, i, kind) {
        const char *group = osm_json_text(kind, "group");
        const char *version =
            json_string_value(json_array_get(json_object_get(kind, "versions"), 0));
        size_t n = strlen(group);
        if (!strcmp(osm_json_text(kind, "kind"), "UDPRoute")) /* read only to be refused */
            continue;
        if (n > sizeof domain && !strcmp(group + n - (sizeof domain - 1), domain))
            (void)json_object_set_new(out, osm_json_text(kind, "kind"),
                                      json_sprintf("%s/%s", group, version));
    }
    if (out)
        osm_http_reply_json(smi->request, 200, out);
    else
        osm_http_reply_text(smi->request, 503,
                            "the policies are being replaced; again in a moment");
    json_decref(smi->kinds);
    osm_free(smi);
}

void osm_app_http_smi_version(void *ud, struct osm_http_request *request)
{
    struct osm_app *app = ud;
    struct smi *smi = osm_alloc(sizeof *smi);
    if (smi)
        smi->request = request;
    if (smi && app->reload && !osm_reload_ask(app->reload, ask_kinds, kinds_answered, smi))
        return;
    osm_free(smi);
    osm_http_reply_text(request, 503, "no policies are in force");
}
