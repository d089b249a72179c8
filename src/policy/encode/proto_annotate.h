/* Envoy's messages for editors. */
#pragma once

#include "base/buf.h"

/** Every compiled message as LuaCATS annotations, one class each: what osm_proto_encode_lua takes.
 * Appends to @p out. Errors: those of the buffer. */
OSM_MUST_USE int osm_proto_annotate(struct osm_buf *out);
