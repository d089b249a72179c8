/* What would change for which proxies: the snapshot that is served, and another of the same or
 * other objects or policies. Proxies for which the same would change are told together. Thread:
 * any. */
#pragma once

#include "whatif/resources.h"

/** *out: {
 *   "changes": as osm_resources_told,
 *   "groups": [{"proxies": ["blue/shop-1", ...] sorted, "changes": [places in "changes"]}], the
 *     largest first,
 *   "appear", "leave": ["blue/shop-2", ...]: proxies that are in one of the two only,
 *   "proxies": n in both,
 *   "rejected", "accepted": of the snapshots' rejects those that are new, and those that go,
 *   "errors", "fixed": the same of their errors,
 *   "daemon": as osm_fields_diff of what the policies ask of the daemon itself,
 *   "guards": [texts]: why somebody should look first, as osm_comparison_reasons
 *     with @p guard_percent,
 *   "differs": whether any of these is not empty, but for the guards}.
 * Caller: json_decref. Errors: as osm_resources_compare. */
OSM_MUST_USE int osm_snapshots_diff(const struct osm_snapshot *served,
                                    const struct osm_snapshot *next,
                                    const struct osm_resources_limits *limits,
                                    unsigned guard_percent, json_t **out, struct osm_err *err);
