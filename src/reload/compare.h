/* What a bundle would change, before it is live: two snapshots of the same objects, the one that is
 * served and a candidate's. Pure. Thread: any. */
#pragma once

#include "xds/snapshot.h"

struct osm_comparison {
    /* Resources, each counted for each proxy that is in both snapshots. */
    size_t before, vanished, changed, added;
    size_t proxies, changed_proxies;
    size_t bare;       /* proxies that have listeners and would have none */
    char bare_one[96]; /* the first of them, "namespace/pod" */
    /* Who would be let in where it is not today (reload/doors.h): {"red.caller.cluster.local ->
     * chain
     * \"inbound_blue/shop_8080_http\"": true}. At most OSM_OPENED_MAX; `opened_more` says how many
     * beside them. */
    json_t *opened;
    size_t opened_more;
};
enum { OSM_OPENED_MAX = 100 };

/** Errors: OSM_ENOMEM; OSM_EPARSE a listener or route table of either cannot be read. */
OSM_MUST_USE int osm_compare(struct osm_comparison *out, const struct osm_snapshot *served,
                             const struct osm_snapshot *candidate, struct osm_err *err);
void osm_comparison_clear(struct osm_comparison *comparison);
/** Why somebody should look before it takes over: texts, of who would be let in at most @p max; []
 * where nobody need to.
 * @p percent: of resources taken away, more than so many. Caller: json_decref. NULL: no memory. */
OSM_MUST_USE json_t *osm_comparison_reasons(const struct osm_comparison *comparison,
                                            unsigned percent, size_t max);
