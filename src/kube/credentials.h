/* What each request shows: a token or a certificate, and whom it trusts. Files are read again while
 * we run, so that what rotates is used without a restart; a plugin is asked again before what it
 * gave ends, and when the server does not take it. Thread: loop. */
#pragma once

#include "http/client.h"
#include "kube/config.h"

struct osm_kube_credentials;

struct osm_kube_identity {
    struct osm_http_tls tls;
    const char *authorization; /* "Authorization: Bearer ..."; NULL: none */
};

/** @p config is borrowed for its life. @p changed: a plugin has answered, well or not. */
OSM_MUST_USE int osm_kube_credentials_new(struct osm_kube_credentials **out, struct osm_loop *loop,
                                          const struct osm_kube_config *config,
                                          void (*changed)(void *ud), void *ud, struct osm_err *err);
void osm_kube_credentials_free(struct osm_kube_credentials *credentials);
/** What to show now; texts are borrowed until the next call. Errors: OSM_EBUSY a plugin is at work,
 * changed() follows; all else: there are none at present, and why. */
OSM_MUST_USE int osm_kube_credentials_get(struct osm_kube_credentials *credentials,
                                          struct osm_kube_identity *out, struct osm_err *err);
/** The server did not take what was shown. */
void osm_kube_credentials_refused(struct osm_kube_credentials *credentials);
/** Seconds since 1970 of "2030-01-31T23:59:59Z"; -1: it is none. */
int64_t osm_kube_time(const char *text);
