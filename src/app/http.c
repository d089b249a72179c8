#include "app/http.h"

#include "base/log.h"

#include <string.h>

enum { DEBUG_RETRY_MS = 5000 };

static const char DEBUG_ADDRESS[] = "127.0.0.1:9092";
static const char OFF[] = "off";

static const struct osm_http_route routes[] = {
    {"/health/ready", osm_app_http_ready, "whether the daemon serves; ?verbose says more", 0},
    {"/health/alive", osm_app_http_alive, "whether it turns", 0},
    {"/healthz", osm_app_http_healthz, "the same", 0},
    {"/metrics", osm_app_http_metrics, "for Prometheus", 0},
    {"/version", osm_app_http_version, "what it is", 0},
    {"/smi/version", osm_app_http_smi_version, "which versions of SMI it prefers", 0},
    {NULL, NULL, NULL, 0},
};

const char *osm_app_http_address(const struct osm_app *app)
{
    return app->http_listener ? osm_http_address(app->http_listener) : OFF;
}

const char *osm_app_debug_address(const struct osm_app *app)
{
    return app->debug_listener ? osm_http_address(app->debug_listener) : OFF;
}

static bool is_off(const char *address)
{
    return !*address || !strcmp(address, OFF);
}

static int listen_for_debug(struct osm_app *app, struct osm_err *err)
{
    const char *asked = app->config.debug_address;
    const struct osm_http_listen config = {
        .address = asked ? asked : DEBUG_ADDRESS,
        .flag = "--debug-address",
        .loopback_only = true,
        .routes = osm_app_debug_routes,
        .ud = app,
    };
    int rc = osm_http_listen(&app->debug_listener, app->http, &config, err);
    if (!rc)
        osm_log(OSM_LOG_HTTP, OSM_LOG_WARN, "the debug server is on",
                OSM_S("address", osm_http_address(app->debug_listener)));
    return rc;
}

/* The flag alone says yes or no; without it the MeshConfig does. */
static bool wants_debug(const struct osm_app *app)
{
    const char *asked = app->config.debug_address;
    return asked ? !is_off(asked) : app->settings.debug_server;
}

static void follow_settings(void *ud)
{
    struct osm_app *app = ud;
    struct osm_err err = {0};
    if (!app->http || app->stopping)
        return;
    if (wants_debug(app) && !app->debug_listener && listen_for_debug(app, &err)) {
        osm_log(OSM_LOG_HTTP, OSM_LOG_ERROR, "no debug server, trying again",
                OSM_S("error", err.msg));
        osm_timer_start(app->debug_retry, DEBUG_RETRY_MS, 0);
    } else if (!wants_debug(app) && app->debug_listener) {
        osm_http_close(app->debug_listener);
        app->debug_listener = NULL;
        osm_log(OSM_LOG_HTTP, OSM_LOG_INFO, "the debug server is off");
    }
}

void osm_app_http_settings(struct osm_app *app)
{
    follow_settings(app);
}

int osm_app_http_start(struct osm_app *app, struct osm_err *err)
{
    const struct osm_http_listen config = {
        .address = app->config.http_address,
        .flag = "--http-address",
        .routes = routes,
        .ud = app,
    };
    int rc = osm_http_new(&app->http, app->loop, err);
    if (rc)
        return rc;
    app->lag_timer = osm_app_watch_lag(app);
    app->debug_retry = osm_timer_new(app->loop, follow_settings, app);
    if (!app->lag_timer || !app->debug_retry)
        return osm_fail(err, OSM_ENOMEM, "HTTP server");
    if (!is_off(config.address))
        rc = osm_http_listen(&app->http_listener, app->http, &config, err);
    return rc;
}

int osm_app_http_debug_start(struct osm_app *app, struct osm_err *err)
{
    return wants_debug(app) ? listen_for_debug(app, err) : 0;
}

void osm_app_http_stop(struct osm_app *app, osm_task_fn *done, void *ud)
{
    struct osm_http *http = osm_take_ptr(&app->http);
    osm_timer_free(osm_take_ptr(&app->lag_timer));
    osm_timer_free(osm_take_ptr(&app->debug_retry));
    app->http_listener = app->debug_listener = NULL;
    if (http)
        osm_http_stop(http, done, ud);
    else
        done(ud);
}
