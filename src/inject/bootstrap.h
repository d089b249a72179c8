/* The files a sidecar starts from: Envoy's bootstrap, its xDS client certificate, and the script of
 * the init container. */
#pragma once

#include "base/buf.h"
#include "base/err.h"

#include <jansson.h>

/* A probe of the kubelet that comes to Envoy, which knows the container by it. */
enum osm_probe_kind {
    OSM_PROBE_LIVENESS,
    OSM_PROBE_READINESS,
    OSM_PROBE_STARTUP,
    OSM_PROBE_KIND_COUNT
};
enum osm_probe_way {
    OSM_PROBE_HTTP,         /* a request for osm_probe_path */
    OSM_PROBE_TLS_THROUGH,  /* TLS that Envoy passes on: of each kind one at most */
    OSM_PROBE_TLS_FROM_HERE /* like HTTP, and Envoy speaks TLS to the container */
};
struct osm_bootstrap_probe {
    enum osm_probe_kind kind;
    enum osm_probe_way way;
    const char *container;
    uint16_t port;    /* of the container, on 127.0.0.1 */
    const char *path; /* of the container; not for TLS_THROUGH */
    int timeout_s;
};

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
    const struct osm_bootstrap_probe *probes; /* in the order of the pod's containers */
    size_t probes_len;
};

/** "liveness", "readiness", "startup". */
const char *osm_probe_name(enum osm_probe_kind kind);
/** The port that Envoy listens on for them: 15901, 15902, 15903. */
int osm_probe_port(enum osm_probe_kind kind);
/** Appends "/osm-<kind>-probe/<container>", the path that a rewritten probe asks for. */
void osm_probe_path(struct osm_buf *out, enum osm_probe_kind kind, const char *container);

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
