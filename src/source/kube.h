/* An API server as a source of objects.
 *
 *   discovery --which kinds, which versions--> a reflector per kind --put, gone--> sink
 *
 * What the host needs (Namespaces, Services, Pods, EndpointSlices, Endpoints) and what the policies
 * ask for is listed and watched. A kind that the server lacks has no objects; it is looked for
 * again when a CustomResourceDefinition changes, and now and then. The sink is told of objects of
 * the cluster, of namespaces that are in the mesh (label openservicemesh.io/monitored-by) and of
 * the mesh's own; all others are kept packed (osm_source_outside). A kind that may not be read is
 * reported, and the rest goes on. While the server cannot be reached what it last said stands; what
 * is listed then replaces it. */
#pragma once

#include "kube/config.h"
#include "source/source.h"

struct osm_kube;

struct osm_source_kube_options { /* copied */
    const char *mesh_name, *osm_namespace;
    uint64_t
        silence_ms; /* without a byte: a watch is given up. Bookmarks come about every minute */
};

/** Takes what @p config holds. Errors: OSM_ENOMEM. */
OSM_MUST_USE int osm_source_kube_start(struct osm_source **out, struct osm_loop *loop,
                                       struct osm_kube_config *config,
                                       const struct osm_source_kube_options *options,
                                       const struct osm_source_sink *sink, struct osm_err *err);

/* For who writes to the server that is read from. */

/** Its client, for as long as the source lives. */
struct osm_kube *osm_source_kube_api(struct osm_source *source);
/** Where objects of a kind are: "/apis/policy.openservicemesh.io/v1alpha1/ingressbackends"; NULL:
 * it is not watched. Borrowed until the next turn of the loop. */
const char *osm_source_kube_path(const struct osm_source *source, const char *group,
                                 const char *kind);
/** The server's store has been replaced by a copy of its past: everything is listed anew. */
void osm_source_kube_set_back(struct osm_source *source);
/** Grows when a CustomResourceDefinition changes. */
uint64_t osm_source_kube_definitions(const struct osm_source *source);
