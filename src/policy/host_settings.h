/* What policies ask of the daemon itself: the answer of the rule "host_settings", as JSON in the
 * snapshot. It takes no key; a bundle need not have it. While it fails, or its answer is no table,
 * the last good one counts. Nobody in Lua has to read it: the engine does, like an emitter. */
#pragma once

#include "policy/engine_priv.h"

/** Brings the rule to date. Errors: OSM_ENOMEM; OSM_ELUA when the state is lost. */
OSM_MUST_USE int osm_host_settings_bring(struct osm_engine *e);
void osm_host_settings_clear(struct osm_engine *e);
