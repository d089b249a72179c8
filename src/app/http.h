/* What the daemon answers over HTTP: health, metrics and versions on one address; on another, of
 * the loopback and only while it is asked for, what it holds, for whoever looks for a fault. No
 * answer holds a key or a token. */
#pragma once

#include "app/app.h"

/** Listens on --http-address: what is there answers before anything is served. Errors: those of
 * osm_http_listen. */
OSM_MUST_USE int osm_app_http_start(struct osm_app *app, struct osm_err *err);
/** Listens on --debug-address where that was given; when there is something to be looked at.
 * Errors: as above. */
OSM_MUST_USE int osm_app_http_debug_start(struct osm_app *app, struct osm_err *err);
/** The settings have changed: the debug server comes or goes. */
void osm_app_http_settings(struct osm_app *app);
/** done(ud) comes when nothing of it is left. */
void osm_app_http_stop(struct osm_app *app, osm_task_fn *done, void *ud);
/** "127.0.0.1:9091" or "off"; borrowed until it stops. */
const char *osm_app_http_address(const struct osm_app *app);
const char *osm_app_debug_address(const struct osm_app *app);

/* --- health.c --- */
/** NULL: it is ready. Else why not, for people; borrowed until the loop turns. */
const char *osm_app_not_ready(const struct osm_app *app);
void osm_app_http_ready(void *ud, struct osm_http_request *request);
void osm_app_http_alive(void *ud, struct osm_http_request *request);
void osm_app_http_healthz(void *ud, struct osm_http_request *request);
void osm_app_http_version(void *ud, struct osm_http_request *request);
void osm_app_http_smi_version(void *ud, struct osm_http_request *request);

/* --- figures.c --- */
void osm_app_http_metrics(void *ud, struct osm_http_request *request);
/** Observes how late the loop is, each second, until the timer is freed. NULL: no memory. */
OSM_MUST_USE struct osm_timer *osm_app_watch_lag(struct osm_app *app);

/* --- endpoints.c --- */
extern const struct osm_http_route osm_app_debug_routes[];
