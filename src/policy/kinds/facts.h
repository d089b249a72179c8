/* What C derives from the settings and the world: each a function of its key, asked for like
 * everything else. */
#pragma once

#include "policy/engine_priv.h"

/** Declares all facts. Errors: OSM_ENOMEM. */
OSM_MUST_USE int osm_facts_declare(struct osm_engine *e, struct osm_err *err);
/** Does the key fit the fact's signature? NULL or what it takes. */
const char *osm_fact_check(const struct osm_decl *fact, const struct osm_key *key);
/** {"name", "text", "params", "returns"} as in policy/bundle/doc.h. Caller: json_decref; NULL: no
 * memory.
 */
json_t *osm_fact_describe(const struct osm_decl *fact);
