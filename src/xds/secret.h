/* Envoy Secret messages. Pure. */
#pragma once

#include "xds/snapshot.h"

/** A tls_certificate secret named @p name with inline chain and key, as an SDS resource with that
 * version; its bytes are secret. */
OSM_MUST_USE struct osm_resource *osm_secret_certificate(const char *name, const char *version,
                                                         const char *chain_pem,
                                                         const char *key_pem);
/** A validation_context: trusted roots, and the exact DNS names that the peer may have (sans_len 0:
 * any that verifies). */
OSM_MUST_USE struct osm_resource *osm_secret_validation(const char *name, const char *roots_pem,
                                                        const char *const *sans, size_t sans_len);
