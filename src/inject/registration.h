/* How the API server is told to ask for sidecars. Pure. */
#pragma once

#include "base/mem.h"

#include <jansson.h>
#include <stdint.h>

struct osm_webhook_object {
    const char *name;      /* of the MutatingWebhookConfiguration */
    const char *mesh_name; /* whose namespaces are asked about */
    const char
        *osm_namespace; /* where the Service osm-injector is, and whose pods are not asked about */
    const char *roots_pem; /* what the webhook's certificate is verified with */
    int64_t timeout_s;     /* how long the API server waits; Kubernetes takes 1 to 30 */
};

/** A MutatingWebhookConfiguration; NULL: no memory. */
OSM_MUST_USE json_t *osm_webhook_configuration(const struct osm_webhook_object *object);
