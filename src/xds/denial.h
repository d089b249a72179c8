/* What is served in the place of a resource that may not be served any more. Pure. */
#pragma once

#include "xds/snapshot.h"

/** A route table of that name that leads nowhere: 404. Proxies keep a table that is merely left
 * out. NULL: no memory. */
OSM_MUST_USE struct osm_resource *osm_denial_routes(const char *name);
