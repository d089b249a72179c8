/* No state between calls: what the functions of a bundle can reach and keep (locals of modules, the
 * tables they hold, closures inside those) is hashed after the load and compared after runs. A rule
 * that counts its calls gives two equal dry runs, so looking at answers alone does not find it.
 *
 *   modules' tables, declared functions --> upvalues --> tables, metatables, closures --> ...
 *
 * By content: an equal table in the place of another is no change. Breadth first, keys in order,
 * each table, closure and variable once; so two walks meet the same things in the same order until
 * the first difference of shape. Why not read-only tables instead: a proxy would have to stand in
 * for each (pairs, #, ipairs and rawlen would all see the proxy), and it would stop neither `n = n
 * + 1` nor the iterator that string.gmatch returns. */
#pragma once

#include "policy/engine_priv.h"

struct osm_purity;

/** Remembers what the bundle's functions reach. Owns: caller, osm_purity_free. Errors: OSM_ENOMEM;
 * OSM_ELIMIT where a bundle holds more than 200,000 tables and functions. */
OSM_MUST_USE int osm_purity_take(struct osm_engine *e, struct osm_purity **out,
                                 struct osm_err *err);
void osm_purity_free(struct osm_purity *purity);
/** Compares now with then; appends one entry (where, message, module, line) to @p changes for each
 * variable that differs, as far as the two can be compared. Errors: OSM_ENOMEM, OSM_ELIMIT. */
OSM_MUST_USE int osm_purity_compare(struct osm_engine *e, const struct osm_purity *then,
                                    json_t *changes, struct osm_err *err);
