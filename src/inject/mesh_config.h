/* What MeshConfig's spec.sidecar says of sidecars that start from now on, checked. The same is said
 * by the policies (policies/osm/host.lua) to whoever runs them; an injector does not. */
#pragma once

#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>

struct osm_sidecar_settings {
    const char *envoy_image, *envoy_windows_image, *init_image; /* "" none given */
    const char *log_level;                 /* Envoy's word; NULL: the bootstrap's own */
    const char *tls_minimum, *tls_maximum; /* Envoy's words */
    json_t *cipher_suites, *ecdh_curves;   /* owned; arrays of texts that Envoy knows */
    const json_t *resources;               /* an object, or NULL */
    bool privileged_init;
};

/** @p mesh_config: the object's body, which the texts lie in; NULL: there is none, and all has its
 * default. Ciphers and curves that Envoy does not know are left out, since it would not start with
 * them. Errors: OSM_EINVAL with the field's path; OSM_ENOMEM. */
OSM_MUST_USE int osm_sidecar_settings_read(struct osm_sidecar_settings *out,
                                           const json_t *mesh_config, struct osm_err *err);
/** Repeatable. */
void osm_sidecar_settings_clear(struct osm_sidecar_settings *settings);
