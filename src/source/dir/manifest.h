/* One file of manifests, read whole: its objects in order, with Kubernetes Lists taken apart. A
 * file is one unit: any error in it, and none of its objects is returned. */
#pragma once

#include "base/hash.h"
#include "model/object.h"
#include "source/dir/walk.h"

enum { OSM__MANIFEST_BYTES_MAX = 4 << 20 };

struct osm__manifest {
    struct osm_object **objects; /* one reference each; no key twice */
    size_t len;
    struct osm_hash bytes;  /* of the file's text */
    struct osm__file_id id; /* as of before reading */
};

struct osm__manifest_problem {
    int line, column; /* 0 where unknown */
    char message[512];
};

/** Reads @p path; origins begin with @p name.
 *  @p known (may be NULL): the text's hash at the last reading; when it is the same, only bytes and
 * id are filled in and OSM_EEXIST is returned. Errors: OSM_ENOENT the file is gone; OSM_ENOMEM;
 * anything else is a problem of the file, in *problem. On an error *out holds no object, but bytes
 * and id as far as they are known. */
OSM_MUST_USE int osm__manifest_read(struct osm__manifest *out, const char *path, const char *name,
                                    const struct osm_hash *known,
                                    struct osm__manifest_problem *problem);
/** The same of a text that is in memory; id and bytes are not filled in. */
OSM_MUST_USE int osm__manifest_parse(struct osm__manifest *out, const char *text, size_t len,
                                     const char *name, struct osm__manifest_problem *problem);
void osm__manifest_clear(struct osm__manifest *manifest);
