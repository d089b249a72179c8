/* What reflector.c tells expect.c. */
#pragma once

#include "kube/reflector.h"

void osm__expect_put(struct osm_reflector *r, const char *id, uint64_t version);
void osm__expect_gone(struct osm_reflector *r, const char *id, uint64_t version);
/** Everything up to @p version is known. */
void osm__expect_reached(struct osm_reflector *r, uint64_t version);
/** A list that began after the expectation is complete. */
void osm__expect_listed(struct osm_reflector *r);
