/* Base64 (RFC 4648, the standard alphabet). Pure. */
#pragma once

#include "base/buf.h"

/** Appends what @p text stands for; white space in it is passed over, padding may be left out.
 * Errors: OSM_EPARSE, those of the buffer. */
OSM_MUST_USE int osm_base64_decode(struct osm_buf *out, const char *text, size_t len);
/** Appends @p len bytes, with padding, on one line. Errors: those of the buffer. */
int osm_base64_encode(struct osm_buf *out, const void *bytes, size_t len);
