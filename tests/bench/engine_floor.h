/* The floor: a plain C loop over the same objects that finds the same answer sets. No Lua, no memo,
 * no encoder, no composition: what it takes is what the answers cost at the least, and what it
 * leaves out is what the engine adds. */
#pragma once

#include "model/object.h"

struct bench_floor;

/** Who may call whom, and every item that the shipped policies emit, as a name and an audience. */
struct bench_floor *bench_floor_run(struct osm_object *const *objects, size_t len);
void bench_floor_free(struct bench_floor *floor);
size_t bench_floor_items(const struct bench_floor *floor);
/** The accounts that may call a Service's own pods: "namespace/name", sorted, in a JSON list that
 * the caller owns. */
json_t *bench_floor_callers(const struct bench_floor *floor, const char *ns, const char *service);
