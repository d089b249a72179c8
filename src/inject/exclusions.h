/* Which traffic of a pod stays outside the mesh: MeshConfig's lists and the pod's annotations,
 * merged without duplicates. */
#pragma once

#include "inject/iptables.h"

#include <jansson.h>

struct osm_exclusions {
    struct osm_iptables_config config; /* points into what follows */
    char **ip_out, **ip_in, **interfaces;
    uint16_t *ports_out, *ports_in;
};

/** @p mesh_config: the MeshConfig object's body or NULL; @p pod: the Pod's body.
 *  Errors: OSM_EINVAL "Invalid port value '...' specified for annotation '...'", "Invalid IP range
 * '...' specified for annotation '...'", or the MeshConfig field's path. */
OSM_MUST_USE int osm_exclusions_read(struct osm_exclusions *out, const json_t *mesh_config,
                                     const json_t *pod, struct osm_err *err);
void osm_exclusions_clear(struct osm_exclusions *exclusions);
