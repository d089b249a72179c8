/* What a cluster's own controllers will have made of objects that change, before they have: which
 * endpoints a Service has follows from its selector and from pods. Pure. Thread: any. */
#pragma once

#include "model/object.h"

/* An object as it is and as it would be; NULL: absent. */
struct osm_settled_pair {
    const struct osm_object *before, *now;
};

/** Takes out of @p objects the EndpointSlices and Endpoints that controllers keep of Services whose
 * endpoints the pairs change: what would be behind such a Service is then derived from its selector
 * and the pods, as the controllers do. Those of a Service to which somebody else adds slices stay.
 * Errors: OSM_ENOMEM. */
OSM_MUST_USE int osm_settled_endpoints(struct osm_changes *objects,
                                       const struct osm_settled_pair *pairs, size_t n);
