#include "app/injector.h"

#include <stdlib.h>

/* The images have no flag, as in Open Service Mesh: a chart names them in the environment, and a
 * MeshConfig may name others. */
int osm_app_injector_start(struct osm_app *app, struct osm_err *err)
{
    const struct osm_app_config *config = &app->config;
    if (!(config->roles & OSM_APP_INJECTOR))
        return 0;
    const struct osm_webhook_config webhook = {
        .loop = app->loop,
        .kube = app->kube,
        .http = app->http,
        .listen = config->injector_listen,
        .name = config->webhook_name,
        .injector = {.mesh_name = config->mesh_name,
                     .osm_namespace = config->osm_namespace,
                     .trust_domain = config->trust_domain,
                     .envoy_image = getenv("OSM_DEFAULT_ENVOY_IMAGE"),
                     .envoy_windows_image = getenv("OSM_DEFAULT_ENVOY_WINDOWS_IMAGE"),
                     .init_image = getenv("OSM_DEFAULT_INIT_CONTAINER_IMAGE"),
                     .healthcheck_image = getenv("OSM_DEFAULT_HEALTHCHECK_CONTAINER_IMAGE"),
                     .pull_policy = config->pull_policy,
                     .ads_port = app->ads_port,
                     .drain_time_s = (int)config->sidecar_drain_time_s},
        .timeout_s = config->webhook_timeout_s,
        .validity_s = config->ads_cert_validity_s,
        .orphan_s = config->injector_orphans_s,
    };
    return osm_webhook_start(&app->webhook, &webhook, app->ca, err);
}
