/* What guards one door: a filter chain or a virtual host, as osm_proto_decode gives it. See
 * reload/doors.h. Pure. Thread: any. */
#pragma once

#include "base/err.h"

#include <jansson.h>

/* A condition under which a principal passes follows its name after a newline. */
struct osm__guard {
    json_t
        *allow; /* [{"principal": true}]: whoever passes is in each of them; []: nobody is asked */
    json_t *deny; /* {"principal": true}: who passes is in none */
    json_t *asks; /* {"who would pass without it": what is asked}: all the rest that must stay */
};
#define OSM__GUARD_ANYBODY   "anybody"
#define OSM__GUARD_STRANGERS "whoever has no certificate of the mesh"

/* All of them: 0 or OSM_ENOMEM; @p g is to be cleared either way. */
OSM_MUST_USE int osm__guard_init(struct osm__guard *g);
void osm__guard_clear(struct osm__guard *g);
/** Of what is not there: nobody gets in. */
OSM_MUST_USE int osm__guard_of_nothing(struct osm__guard *g);
OSM_MUST_USE int osm__guard_of_chain(struct osm__guard *g, const json_t *chain);
OSM_MUST_USE int osm__guard_of_host(struct osm__guard *g, const json_t *host);
/** Of a route table: whom its exceptions let pass, as a set in @p g's `allow`. */
OSM_MUST_USE int osm__guard_of_table(struct osm__guard *g, const json_t *table);
