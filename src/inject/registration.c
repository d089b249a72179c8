#include "inject/registration.h"

#include "base/base64.h"

#include <string.h>

enum { ROOTS_MAX_BYTES = 1 << 20 };

/* Namespaces of the mesh, but for those that are to be ignored and those of control planes. */
static json_t *namespace_selector(const struct osm_webhook_object *o)
{
    return json_pack("{s:{s:s}, s:[{s:s, s:s}, {s:s, s:s, s:[s]}, {s:s, s:s}]}", "matchLabels",
                     "openservicemesh.io/monitored-by", o->mesh_name, "matchExpressions", "key",
                     "openservicemesh.io/ignore", "operator", "DoesNotExist", "key",
                     "kubernetes.io/metadata.name", "operator", "NotIn", "values", o->osm_namespace,
                     "key", "control-plane", "operator", "DoesNotExist");
}

static json_t *webhook(const struct osm_webhook_object *o, const char *roots_base64)
{
    return json_pack("{s:s, s:{s:{s:s, s:s, s:s, s:i}, s:s}, s:[{s:[s], s:[s], s:[s], s:[s]}], "
                     "s:s, s:s, s:o, s:s, s:I, s:[s]}",
                     "name", "osm-inject.k8s.io", "clientConfig", "service", "name", "osm-injector",
                     "namespace", o->osm_namespace, "path", "/mutate-pod-creation", "port", 9090,
                     "caBundle", roots_base64, "rules", "operations", "CREATE", "apiGroups", "*",
                     "apiVersions", "v1", "resources", "pods", "failurePolicy", "Fail",
                     "matchPolicy", "Exact", "namespaceSelector", namespace_selector(o),
                     "sideEffects", "NoneOnDryRun", "timeoutSeconds", (json_int_t)o->timeout_s,
                     "admissionReviewVersions", "v1");
}

json_t *osm_webhook_configuration(const struct osm_webhook_object *object)
{
    struct osm_buf roots = OSM_BUF_INIT(ROOTS_MAX_BYTES);
    json_t *made = NULL;
    if (!osm_base64_encode(&roots, object->roots_pem, strlen(object->roots_pem)))
        made = json_pack("{s:s, s:s, s:{s:s, s:{s:s, s:s, s:s, s:s}}, s:[o]}", "apiVersion",
                         "admissionregistration.k8s.io/v1", "kind", "MutatingWebhookConfiguration",
                         "metadata", "name", object->name, "labels", "app.kubernetes.io/name",
                         "openservicemesh.io", "app.kubernetes.io/instance", object->mesh_name,
                         "app.kubernetes.io/version", OSM_VERSION, "app", "osm-injector",
                         "webhooks", webhook(object, roots.data ? roots.data : ""));
    osm_buf_clear(&roots);
    return made;
}
