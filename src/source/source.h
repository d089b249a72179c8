/* A source of objects: a directory of manifests, or an API server. It tells a sink what exists. */
#pragma once

#include "loop/loop.h"
#include "model/object.h"
#include "model/packed.h"

#include <jansson.h>

/* All on the loop thread. */
struct osm_source_sink {
    void *ud;
    /** This object now exists, or has this content now. Takes the reference. */
    void (*put)(void *ud, struct osm_object *object);
    /** The object with this key is gone. */
    void (*gone)(void *ud, const char *key);
    /** Everything that existed at the start, of the kinds that are wanted, has been told. Again,
     * after osm_source_want has said that there is more to come. */
    void (*synced)(void *ud);
};

struct osm_source;

/** Watches @p path (a directory, recursively; *.yaml, *.yml, *.json, links followed; dot files and
 *  editor left-overs are skipped). The sink hears nothing before this returns.
 *  A file is one unit: with any error in it, it keeps the objects that it last gave. Of one object
 * in several files the file that sorts first gives it. A root that cannot be read holds everything.
 *  Lists (`kind: List`, PodList, ...) are taken apart; an origin is "relative/path.yaml:LINE".
 *  Errors: OSM_ENOENT/OSM_EINVAL when it is not a directory at the start. */
OSM_MUST_USE int osm_source_dir_start(struct osm_source **out, struct osm_loop *loop,
                                      const char *path, const struct osm_source_sink *sink,
                                      struct osm_err *err);
/** Loop thread, not from the sink; the sink is not called any more. NULL is accepted. */
void osm_source_stop(struct osm_source *source);
/** Of a directory: {"kind": "dir", "path": ..., "state": "ok"|"degraded"|"failed", "reason": ...,
 * "files": n, "objects": n, "generation": n, "errors": [{"file": ..., "line": n, "column": n,
 * "message": ..., "kept": true|false}]}. degraded: something is in error, or nothing has been read
 * yet; line and column are 0 where unknown. Of an API server: {"kind": "kubernetes", "path": its
 * URL, "as": whose credentials, "server": its version, "state", "reason", "since": when it failed,
 * seconds since 1970 or 0, "objects", "outside": objects of namespaces that are not in the mesh,
 * "generation", "errors", "kinds": [{"kind", "group",
 * "version", "state": "watched"|"listing"|"failing"|"denied"|"absent"|"unknown", "reason", "since",
 * "objects", "resource_version", "lists", "watches"}]}; an error's file is "Kind.group
 * namespace/name". Caller: json_decref. NULL: no memory. */
json_t *osm_source_status(const struct osm_source *source);
/** Why the source as a whole cannot be read at present (what it held is held); NULL: it can.
 * Borrowed until the next read. */
const char *osm_source_failure(const struct osm_source *source);
/** Calls back once the sink has been told all that is in the source at this moment; @p failure:
 * NULL, or why that cannot be said. Once, now (always, of a directory) or later; borrowed.
 * @p done may be NULL. */
typedef void osm_source_refreshed_fn(void *ud, const char *failure);
void osm_source_refresh(struct osm_source *source, osm_source_refreshed_fn *done, void *ud);
/** Whoever asked with this @p ud is not called back. */
void osm_source_forget(struct osm_source *source, void *ud);
/** Objects that the sink is not told of, since their namespaces are not in the mesh: for whoever
 * asks what would be if they were. Caller: osm_outside_free. NULL: no memory. */
struct osm_outside *osm_source_outside(const struct osm_source *source);
/** The kinds that somebody reads, beside those that the host needs: [{"kind", "group", "versions":
 * [preferred first]}], instead of those that were wanted before. A source may tell of others too.
 * True: the sink knows all of them already; else its synced() follows. */
bool osm_source_want(struct osm_source *source, const json_t *kinds);
