/* Who is let in: what inbound listeners and their route tables ask of a connection and of a
 * request, compared between two configurations. Nothing here proves that somebody gets in; whatever
 * cannot be shown to be as closed as it was is told, for a person to look at. Pure. Thread: any.
 *
 * A door is a filter chain (who may connect) or a virtual host (who may send requests). What guards
 * a door: principals that RBAC allows or denies, filters that ask somebody else, and the client
 * certificate. A chain that takes other connections than it did, or a virtual host other host
 * names, is a new door. */
#pragma once

#include "xds/snapshot.h"

/** Called with whom a door lets in anew ("red.caller.cluster.local"; "anybody", where nothing is
 * asked any more; a text about a filter that is gone) and the door (`chain "inbound_..."`). Returns
 * 0 or OSM_ENOMEM. */
typedef int osm_doors_opened_fn(void *ud, const char *who, const char *door);

/** Of a listener. NULL @p before: there was none. A listener that is outbound, and was, has no
 * doors. Errors: OSM_ENOMEM; OSM_EPARSE one of them cannot be read. */
OSM_MUST_USE int osm_doors_of_listener(const struct osm_resource *before,
                                       const struct osm_resource *after,
                                       osm_doors_opened_fn *opened, void *ud, struct osm_err *err);
/** Of a route table that authorises (osm_resource.authorises), or did. The same. */
OSM_MUST_USE int osm_doors_of_routes(const struct osm_resource *before,
                                     const struct osm_resource *after, osm_doors_opened_fn *opened,
                                     void *ud, struct osm_err *err);
