/* What whoever creates a pod may not expect of its redirection to the sidecar. */
#include "inject/admission_priv.h"
#include "inject/exclusions.h"
#include "model/object.h"

#include <string.h>

int osm__warn(struct osm_admission *a, const char *container, const char *field, const char *what)
{
    char *text = osm_strf("container %s: %s: %s", container, field, what);
    if (!a->warnings)
        a->warnings = json_array();
    int rc = text && a->warnings ? json_array_append_new(a->warnings, json_string(text)) : -1;
    osm_free(text);
    return rc ? OSM_ENOMEM : 0;
}

/* What runs as the sidecar's user is taken for it by the redirection. */
static int warn_of_user(struct osm_admission *a, const json_t *container, const char *name)
{
    static const char what[] =
        "is the user of the sidecar: what the container sends does not go through the mesh";
    const json_t *of_pod = osm_json_at(a->pod, "spec", "securityContext", "runAsUser", NULL);
    const json_t *own = osm_json_at(container, "securityContext", "runAsUser", NULL);
    return json_integer_value(own ? own : of_pod) == OSM__SIDECAR_USER
               ? osm__warn(a, name, "securityContext.runAsUser", what)
               : 0;
}

static bool is_excluded(const struct osm_exclusions *exclusions, const json_t *container,
                        const json_t *port)
{
    if (json_is_string(port))
        port = json_object_get(
            osm__named(json_object_get(container, "ports"), json_string_value(port), NULL),
            "containerPort");
    for (size_t i = 0; i < exclusions->config.inbound_port_exclusions_len; i++)
        if (json_integer_value(port) == exclusions->ports_in[i])
            return true;
    return false;
}

/* What the kubelet asks of the container itself, and Envoy cannot ask in its place. */
static int warn_of_kubelet(struct osm_admission *a, const struct osm_exclusions *exclusions,
                           const json_t *container, const char *name)
{
    static const char what[] = "comes without TLS, which the sidecar refuses: use exec, or exclude "
                               "the port from the redirection";
    static const char *const asked[][4] = {
        {"livenessProbe", "grpc", NULL, "livenessProbe.grpc"},
        {"readinessProbe", "grpc", NULL, "readinessProbe.grpc"},
        {"startupProbe", "grpc", NULL, "startupProbe.grpc"},
        {"lifecycle", "postStart", "httpGet", "lifecycle.postStart.httpGet"},
        {"lifecycle", "preStop", "httpGet", "lifecycle.preStop.httpGet"}};
    for (size_t i = 0; i < sizeof asked / sizeof *asked; i++) {
        const json_t *handler = osm_json_at(container, asked[i][0], asked[i][1], asked[i][2], NULL);
        const char *host = json_string_value(json_object_get(handler, "host"));
        if (json_is_object(handler) && !(host && *host) &&
            !is_excluded(exclusions, container, json_object_get(handler, "port")) &&
            osm__warn(a, name, asked[i][3], what))
            return OSM_ENOMEM;
    }
    return 0;
}

int osm__warn_of_redirection(struct osm_admission *a, const json_t *mesh_config,
                             struct osm_err *err)
{
    struct osm_exclusions exclusions;
    size_t i;
    const json_t *each;
    int rc = osm_exclusions_read(&exclusions, mesh_config, a->pod, err);
    if (rc)
        return rc;
    json_array_foreach (osm_json_at(a->pod, "spec", "containers", NULL), i, each) {
        const char *name = json_string_value(json_object_get(each, "name"));
        if (rc || !name || !strcmp(name, OSM__ENVOY) || !strcmp(name, OSM__HEALTHCHECK))
            continue;
        rc = warn_of_user(a, each, name);
        if (!rc)
            rc = warn_of_kubelet(a, &exclusions, each, name);
    }
    osm_exclusions_clear(&exclusions);
    return rc ? osm_fail(err, OSM_ENOMEM, "patch of a pod") : 0;
}
