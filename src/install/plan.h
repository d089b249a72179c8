/* What is to be done with one CustomResourceDefinition, by what the API server has. Pure.
 *
 * Ours are the files of charts/osm/crds, the same that the chart ships. They keep every field of
 * every object (x-kubernetes-preserve-unknown-fields): the server only relabels an object that is
 * read in another version than it was written in, and what it dropped on the way, or because it was
 * mistyped, might have been a limit. */
#pragma once

#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>

/* One of ours, as JSON. */
struct osm_crd_file {
    const char *name; /* "traffictargets.access.smi-spec.io" */
    const char *json;
};
extern const struct osm_crd_file osm_crd_files[]; /* ends with a NULL name */

enum osm_crd_step {
    OSM_CRD_APPLY,  /* it is absent, or older */
    OSM_CRD_KEEP,   /* it is as ours */
    OSM_CRD_LEAVE,  /* it is newer than ours */
    OSM_CRD_WAIT,   /* it is being deleted */
    OSM_CRD_REFUSE, /* it is something else of the same name */
};

enum { OSM_CRD_WHY_SIZE = 512 };

struct osm_crd_plan {
    enum osm_crd_step step;
    bool
        drop_webhook; /* first: its objects are converted by a webhook, which an apply would keep */
    bool drop_unknown; /* it is of the time when no schema was needed: that has to be said */
    char why[OSM_CRD_WHY_SIZE]; /* of LEAVE, WAIT and REFUSE, for people; "" */
};

/** @p live NULL: there is none. */
void osm_crd_plan(struct osm_crd_plan *out, const json_t *live, const json_t *ours);

enum osm_crd_state { OSM_CRD_PENDING, OSM_CRD_READY, OSM_CRD_CONFLICT };
/** Whether the server takes its objects. CONFLICT: not before somebody does something. @p why: what
 * is not as it should be, for people; "" nothing is, or it does not say. */
enum osm_crd_state osm_crd_state(const json_t *live, char why[OSM_CRD_WHY_SIZE]);

/** In which version objects are stored; "" none. */
const char *osm_crd_storage(const json_t *crd);
/** Whether objects may be stored in another one. */
bool osm_crd_has_old_objects(const json_t *live);
