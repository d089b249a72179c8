/* The files a sidecar starts from: Envoy's bootstrap, its xDS client certificate, and the script of
 * the init container. */
#pragma once

#include "base/buf.h"
#include "base/err.h"

#include <jansson.h>

struct osm_bootstrap_config {
    const char *uuid;          /* node.id */
    const char *account, *ns;  /* node.cluster <account>.<ns> */
    const char *osm_namespace; /* ADS at osm-controller.<osm_namespace>.svc.cluster.local */
    const char *trust_domain;  /* the ADS server must present ads.<trust domain> */
    int ads_port;              /* 15128 */
    const char *mount_path;    /* where Envoy will find the files: "/etc/envoy" */
    /* TLS towards the control plane, in Envoy's words; NULL and empty lists: TLS 1.2 to 1.3,
     * Envoy's own choice of ciphers and curves. The lists are JSON arrays of texts, borrowed. */
    const char *tls_minimum, *tls_maximum;
    const json_t *cipher_suites, *ecdh_curves;
    const char *log_level; /* Envoy's word; NULL: error */
    int drain_time_s;      /* how long a removed chain keeps its connections; 0: 45 s */
};

/** bootstrap.yaml */
OSM_MUST_USE int osm_bootstrap_yaml(struct osm_buf *out, const struct osm_bootstrap_config *config,
                                    struct osm_err *err);
/** tls_certificate_sds_secret.yaml and validation_context_sds_secret.yaml */
OSM_MUST_USE int osm_bootstrap_tls_sds_yaml(struct osm_buf *out,
                                            const struct osm_bootstrap_config *config,
                                            struct osm_err *err);
OSM_MUST_USE int osm_bootstrap_validation_sds_yaml(struct osm_buf *out,
                                                   const struct osm_bootstrap_config *config,
                                                   struct osm_err *err);
/** Envoy's arguments, one per line, without the program: --log-level, --config-path,
 * --service-cluster, --drain-time-s and
 *  --disable-hot-restart (a sidecar is never replaced in place, and hot restart's shared memory
 * would be one for all that share an IPC namespace). */
OSM_MUST_USE int osm_bootstrap_args(struct osm_buf *out, const struct osm_bootstrap_config *config,
                                    struct osm_err *err);
