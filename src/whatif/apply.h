/* Manifests over the objects that there are, as `kubectl apply` puts them there: what a manifest
 * says is so; what it said when it was applied last, and says no more, goes; what others have set
 * meanwhile stays. Lists are taken whole. What a cluster's controllers keep of Services whose
 * endpoints change thereby goes (settled.h). Pure. Thread: any. */
#pragma once

#include "model/packed.h"

struct osm_apply {
    struct osm_changes *objects; /* all that there are; becomes all that there would be */
    const char *mesh_name, *osm_namespace;
    /* Objects of namespaces that are not in the mesh, which the source keeps aside: those of each
     * namespace that is named are added. NULL: there are none. */
    const struct osm_outside *outside;
    /* Objects are files of a directory: of what a manifest does not say nothing stays, but for the
     * status. Otherwise that is asked of the annotation that kubectl leaves. */
    bool whole;
};

/* What has become of the objects that were named. */
struct osm_applied {
    size_t created, configured, unchanged, deleted;
    size_t outside; /* of those: no policy sees them, their namespace is not of the mesh */
    /* of those: new Services of a cluster, which is going to give them an address */
    size_t unaddressed;
};

/** Applies the manifests, in their order, [{"name": "shop.yaml", "text": ...}], then deletes
 * ["KIND/NAMESPACE/NAME", "KIND.GROUP/NAME", ...]. NULL is none of either. Errors: OSM_EINVAL
 * "shop.yaml:3:1: ...", or they are of another form; OSM_ENOENT there is no object of that name, or
 * more than one kind; OSM_ENOMEM. The objects are of no use after an error. */
OSM_MUST_USE int osm_apply(const struct osm_apply *apply, const json_t *manifests,
                           const json_t *deletes, struct osm_applied *out, struct osm_err *err);
