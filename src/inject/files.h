/* All that a sidecar starts from, for whoever brings it there: a Secret, or a folder. */
#pragma once

#include "inject/bootstrap.h"

struct osm_sidecar_files {
    struct osm_bootstrap_config bootstrap;
    const char *cert_chain_pem, *key_pem, *roots_pem;
};

/** Takes a copy of what it keeps; errors end the listing. */
typedef int osm_sidecar_file_fn(void *ud, const char *name, const char *text, bool secret,
                                struct osm_err *err);
/** Calls @p each with what Envoy finds below mount_path: bootstrap.yaml, the two SDS files,
 * certificate, key and roots. Only the key is secret. Errors: those of the writers and of @p each.
 */
OSM_MUST_USE int osm_sidecar_files_list(const struct osm_sidecar_files *files,
                                        osm_sidecar_file_fn *each, void *ud, struct osm_err *err);
/** The script of the init container, by MeshConfig (its body, or NULL) and the pod's body. Errors:
 * those of osm_exclusions_read and osm_iptables_script. */
OSM_MUST_USE int osm_sidecar_init_script(struct osm_buf *out, const json_t *mesh_config,
                                         const json_t *pod, struct osm_err *err);
