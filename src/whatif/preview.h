/* What would be served if the policies, the objects or both were others: evaluated by an engine
 * beside the live one, compared with what is served. Nothing live takes part. Thread: the engine's.
 *
 * An engine that is kept has evaluated the mesh as it is, and is asked for what differs:
 *
 *   other objects   first those that there are, as a new engine begins, then the others, as the
 *                   live one would meet them
 *   other rules     as a new generation would begin
 *
 * What begins anew keeps nothing of what fails, though it may not have failed in a former preview:
 * what that was like is no part of the answer. The live engine does keep what it served before a
 * rule failed: where one fails as things are, other objects are compared with what the preview's
 * engine says of those that there are, or all that was kept would seem to go. */
#pragma once

#include "policy/engine.h"
#include "whatif/snapshots.h"

struct osm_preview {
    struct osm_changes *objects;       /* all that there are; changed */
    const struct osm_snapshot *served; /* what it is compared with */
    const json_t *manifests, *deletes; /* as of osm_apply; NULL: none */
    const char *mesh_name, *osm_namespace;
    const struct osm_outside *outside; /* as of osm_apply */
    bool whole;                        /* as of osm_apply */
    bool in_force;                     /* the engine's rules are those that are served */
    unsigned guard_percent;            /* as of osm_comparison_reasons */
    /* True from the moment when it has taken too long; also the engine's. NULL: never. */
    const atomic_bool *canceled;
    /* What the last preview by this engine has left; NULL for the first of them. */
    void **kept;
};

/** *out: as osm_snapshots_diff, and "digest" of the policies, "warnings" of their load, "objects":
 * {"created", "configured", "unchanged", "deleted", "outside", "unaddressed"} or null where none
 * were given, "ready": the engine had evaluated before, "times_us": {"apply", "evaluate",
 * "compare"}. Errors: as osm_apply; OSM_ELUA the run has failed; OSM_ETIMEDOUT with the first error
 * of the rules that had run; those of osm_snapshots_diff. OSM_ENOMEM, or a lost engine: neither it
 * nor *kept can be used for another preview. */
OSM_MUST_USE int osm_preview_run(const struct osm_preview *preview, struct osm_engine *engine,
                                 json_t **out, struct osm_err *err);
/** Has the engine evaluate what there is, so that the next preview by it is a quick one. Uses
 * `objects`, `canceled` and `kept`. Errors: as osm_preview_run. */
OSM_MUST_USE int osm_preview_prepare(const struct osm_preview *preview, struct osm_engine *engine,
                                     struct osm_err *err);
void osm_preview_drop(void *kept);
