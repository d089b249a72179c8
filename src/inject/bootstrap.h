/* The files a sidecar starts from: Envoy's bootstrap, its xDS client certificate, and the script of the init container. */
#pragma once

#include "base/buf.h"
#include "base/err.h"

struct osm_bootstrap_config {
    const char *uuid;          /* node.id */
    const char *account, *ns;  /* node.cluster <account>.<ns> */
    const char *osm_namespace; /* ADS at osm-controller.<osm_namespace>.svc.cluster.local */
    const char *trust_domain;  /* the ADS server must present ads.<trust domain> */
    int ads_port;              /* 15128 */
    const char *mount_path;    /* where Envoy will find the files: "/etc/envoy" */
    int drain_time_s;          /* 0: 45... told in the file's head comment: how long a removed chain keeps its connections */
};

/** bootstrap.yaml */
OSM_MUST_USE int osm_bootstrap_yaml(struct osm_buf *out, const struct osm_bootstrap_config *config, struct osm_err *err);
/** tls_certificate_sds_secret.yaml and validation_context_sds_secret.yaml */
OSM_MUST_USE int osm_bootstrap_tls_sds_yaml(struct osm_buf *out, const struct osm_bootstrap_config *config, struct osm_err *err);
OSM_MUST_USE int osm_bootstrap_validation_sds_yaml(struct osm_buf *out, const struct osm_bootstrap_config *config, struct osm_err *err);
