/* What a piece of a bundle is, wherever it was loaded: the code of its functions, with their lines,
 * and all that they can reach, as one hash. The same text in two bundles is not the same program:
 * a module that it requires, or one that wrote into its table while it was loaded, may differ. */
#pragma once

#include "policy/engine_priv.h"

/** Fills in the signatures of the engine's modules, kinds, indexes and extensions, as far as they
 * have one: what holds userdata, a coroutine or keys that are tables has none, and is then the same
 * as nothing. Not while rules run. Errors: OSM_ENOMEM, OSM_ELUA. */
OSM_MUST_USE int osm_signatures_take(struct osm_engine *e, struct osm_err *err);

static inline bool osm_signature_equal(const struct osm_signature *a, const struct osm_signature *b)
{
    return a->known && b->known && osm_hash_equal(a->hash, b->hash);
}
