/* What would be served if the policies, the objects or both were others: evaluated by an engine
 * that is thrown away, compared with what is served. Nothing live takes part. Thread: the engine's.
 */
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
    unsigned guard_percent;            /* as of osm_comparison_reasons */
    /* True from the moment when it has taken too long; also the engine's. NULL: never. */
    const atomic_bool *canceled;
    /* What the last preview by this engine has left; NULL for the first of them. Then only what is
     * other than in that one is evaluated. NULL: the engine is used once. */
    void **kept;
};

/** *out: as osm_snapshots_diff, and "digest" of the policies, "warnings" of their load, "objects":
 * {"created", "configured", "unchanged", "deleted", "outside", "unaddressed"} or null where none
 * were given, "times_us": {"apply", "evaluate", "compare"}. Errors: as osm_apply; OSM_ELUA the run
 * has failed; OSM_ETIMEDOUT with the first error of the rules that had run; those of
 * osm_snapshots_diff. After an error the engine must not be used again. */
OSM_MUST_USE int osm_preview_run(const struct osm_preview *preview, struct osm_engine *engine,
                                 json_t **out, struct osm_err *err);
void osm_preview_drop(void *kept);
