/* The role "bootstrap": what the mesh needs in an API server before anybody can use it there.
 *
 *   each definition (charts/osm/crds):  look --> apply --> Established --> objects rewritten -->
 * done ^  '---- as ours, or newer: left ----^
 *                                        '---- after any failure, later each time
 *   MeshConfig osm-mesh-config, when its definition is there: made of the ConfigMap
 *   preset-mesh-config, unless there is one
 *
 * Several at once end as one: what is written is the same, and who comes second takes what is
 * there. It never gives up; what keeps it is in the log, once, and in the status. Thread: loop. */
#pragma once

#include "kube/api.h"

#include <jansson.h>

struct osm_install;

struct osm_install_config {
    struct osm_loop *loop;
    struct osm_kube *kube;     /* borrowed for its life */
    const char *osm_namespace; /* borrowed for its life */
    uint64_t deadline_ms;      /* until something that the server is to do has failed */
};

OSM_MUST_USE int osm_install_start(struct osm_install **out,
                                   const struct osm_install_config *config, struct osm_err *err);
/** NULL is accepted. */
void osm_install_stop(struct osm_install *install);
/** Everything is there. */
bool osm_install_done(const struct osm_install *install);
/** {"state": "done", "working" or "failed", "parts": [{"name", "state", "reason"}]}; a part's state
 * is "working", "failed", "created", "upgraded", "unchanged" or "newer". NULL: no memory. */
json_t *osm_install_status(const struct osm_install *install);
