/* Immutable, reference-counted bytes: encoded messages that many readers share. Any thread. */
#pragma once

#include "base/hash.h"
#include "base/mem.h"

struct osm_bytes; /* opaque */

/** Copies. NULL: no memory. */
OSM_MUST_USE struct osm_bytes *osm_bytes_new(const void *data, size_t len);
/** The same, wiped when the last reference goes, and osm_bytes_secret() says true: never printed.
 */
OSM_MUST_USE struct osm_bytes *osm_bytes_new_secret(const void *data, size_t len);
struct osm_bytes *osm_bytes_ref(struct osm_bytes *b);
void osm_bytes_unref(struct osm_bytes *b);
const void *osm_bytes_data(const struct osm_bytes *b);
size_t osm_bytes_len(const struct osm_bytes *b);
struct osm_hash osm_bytes_hash(const struct osm_bytes *b);
bool osm_bytes_secret(const struct osm_bytes *b);
