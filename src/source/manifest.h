/* Manifests that somebody hands over, instead of a source that is watched. Pure. Thread: any. */
#pragma once

#include "model/object.h"

/** The objects of a text in YAML or JSON, in its order, Lists taken apart; the text is one unit, as
 * a file of a directory is. Origins are "name:LINE". *out: references and array (osm_free) are the
 * caller's. Errors: OSM_EINVAL and others "name:line:column: message"; OSM_ENOMEM. */
OSM_MUST_USE int osm_manifest_parse(struct osm_object ***out, size_t *n, const char *text,
                                    size_t len, const char *name, struct osm_err *err);
