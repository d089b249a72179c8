/* What the policies ask of the daemon (the rule "host_settings"), checked: Lua's answer may be an
 * operator's own. */
#pragma once

#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct osm_host_settings {
    json_t *owned;                   /* what the texts and lists below lie in; NULL: the defaults */
    int64_t service_cert_validity_s; /* 24 h */
    int rsa_bits;                    /* 0: as the flag says */
    bool rsa_only;                   /* clients take no other key of a server */
    bool no_rsa;          /* clients take no RSA key of a server, whatever the flag says */
    uint32_t proxies_max; /* 0: any number */
    const char *tls_minimum, *tls_maximum;     /* Envoy's names; NULL: the bootstrap's own */
    const json_t *cipher_suites, *ecdh_curves; /* arrays of texts, may be empty */
    bool debug_server;                         /* the HTTP debug server is asked for */
    const char *log_level;                     /* base/log.h's word; NULL: as the flag says */
    const char *sidecar_log_level;             /* Envoy's word; NULL: the bootstrap's own */
};

struct osm_host_settings osm_host_settings_default(void);
/** Takes @p answer over into *settings (a reference of its own; NULL: the defaults). An answer that
 * is wrong anywhere changes nothing. Errors: OSM_EINVAL with the field. */
OSM_MUST_USE int osm_host_settings_take(struct osm_host_settings *settings, json_t *answer,
                                        struct osm_err *err);
void osm_host_settings_free(struct osm_host_settings *settings);
