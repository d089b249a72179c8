/* Files that a command writes into a folder of an author's, and brings up to date there later, but
 * never over what the author has changed: DIR/.osm/written.json holds the hash of each file as it
 * was written, and one that is neither absent nor still that is left alone. */
#pragma once

#include "base/err.h"

#include <jansson.h>

struct osm__written {
    char *dir;
    json_t *before, *now; /* path -> hash: of the last time, of this time */
    json_t *kept;         /* paths of files that are the author's, as they are */
    size_t count;         /* files that were written or are as they would be written */
};

/** The folder is made where it is absent. Errors: OSM_EIO with path and reason, OSM_ENOMEM. */
OSM_MUST_USE int osm__written_open(struct osm__written *w, const char *dir, struct osm_err *err);
/** Writes DIR/@p path ("acme/x.lua"; folders between are made) whole under another name, then
 * renames it. A file that is kept is no error. Errors: as above. */
OSM_MUST_USE int osm__written_put(struct osm__written *w, const char *path, const char *text,
                                  size_t len, struct osm_err *err);
/** Takes out of DIR/.osm/ what was written there the last time, is not any more and was not
 * changed, and notes what was written. Errors: as above. */
OSM_MUST_USE int osm__written_finish(struct osm__written *w, struct osm_err *err);
/** Repeatable. */
void osm__written_clear(struct osm__written *w);
