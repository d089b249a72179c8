/* What the control socket answers: status, wait, proxy.bootstrap, proxy.config. */
#pragma once

#include "app/app.h"

OSM_MUST_USE int osm_app_control_start(struct osm_app *app, struct osm_err *err);
/** Answers who still waits, then closes the socket. */
void osm_app_control_stop(struct osm_app *app);
/** The proxy of "namespace/pod" in the newest snapshot; borrowed. NULL with the error: OSM_EINVAL,
 * OSM_ENOENT. */
const struct osm_snapshot_proxy *osm_app_find_proxy(const struct osm_app *app, const char *name,
                                                    struct osm_err *err);
/** What the proxy is served, decoded, secrets left out: {"CDS": [...], ...}; @p type "CDS": only
 * that; NULL: all. Caller: json_decref. NULL: @p err. */
json_t *osm_app_proxy_config(const struct osm_app *app, const struct osm_snapshot_proxy *proxy,
                             const char *type, struct osm_err *err);
/** Something has moved: whoever waits for the configuration to be applied looks again. */
void osm_app_wake_waiters(struct osm_app *app);
