/* Rejects, errors and the snapshot of a run. */
#pragma once

#include "policy/engine_priv.h"

/** Drops what nobody holds, gathers what is told, compares with the last snapshot. Takes @p proxies
 * and @p compose_errors in every case. *out NULL: nothing differs. Errors: OSM_ENOMEM. */
OSM_MUST_USE int osm_report_snapshot(struct osm_engine *e, struct osm_snapshot_proxy *proxies,
                                     size_t proxies_len, json_t *compose_errors,
                                     struct osm_snapshot **out, struct osm_err *err);
/** Frees what composition has made, where no snapshot takes it. */
void osm_report_free_proxies(struct osm_snapshot_proxy *proxies, size_t n);
