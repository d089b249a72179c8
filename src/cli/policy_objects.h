/* A directory of manifests, read once as the daemon reads it, for commands that evaluate policies
 * without one. */
#pragma once

#include "model/store.h"

#include <jansson.h>
#include <stdbool.h>

struct osm__objects {
    struct osm_store *store;
    struct osm_store_reader *reader;
    json_t *problems; /* files that cannot be read: [{"file", "line", "message"}] */
    bool failed;      /* no memory for an object */
};

/** @p dir: NULL for a mesh without objects. Errors: OSM_EIO with the path, OSM_ENOMEM. */
OSM_MUST_USE int osm__objects_open(struct osm__objects *o, const char *dir, struct osm_err *err);
/** Repeatable. */
void osm__objects_close(struct osm__objects *o);
