/* The files that a pod's sidecar starts from, with a certificate of its own. */
#pragma once

#include "app/app.h"

/** *files: {"bootstrap.yaml": {"content": ..., "secret": bool}, ...}; holds a private key: wipe it.
 *  @p mount_path: where Envoy will find them, NULL: /etc/envoy.
 *  Errors: OSM_EINVAL what the pod lacks (uuid label, monitored namespace), or a bad exclusion
 * list. */
OSM_MUST_USE int osm_sidecar_files(struct osm_app *app, const struct osm_object *pod,
                                   const char *mount_path, json_t **files, struct osm_err *err);
