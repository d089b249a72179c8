#include "whatif/preview.h"

#include "base/clock.h"
#include "base/json.h"
#include "whatif/apply.h"

enum { FIELDS_MAX = 1000, BYTES_MAX = 16 << 20 };

static bool is_late(void *ud)
{
    const struct osm_preview *p = ud;
    return p->canceled && atomic_load_explicit(p->canceled, memory_order_relaxed);
}

/* A run that was cut says whose fault it probably is: a rule that never ends is an error each time
 * that it is asked. */
static int too_late(const struct osm_engine *engine, struct osm_err *err)
{
    json_t *errors = engine ? osm_engine_errors(engine) : NULL;
    const json_t *first = json_array_get(errors, 0);
    int rc = first ? osm_fail(err, OSM_ETIMEDOUT,
                              "has taken too long and was ended; %zu errors until then, the first: "
                              "%s:%d: %.200s (%.100s)",
                              json_array_size(errors), osm_json_text(first, "module"),
                              (int)json_integer_value(json_object_get(first, "line")),
                              osm_json_text(first, "message"), osm_json_text(first, "where"))
                   : osm_fail(err, OSM_ETIMEDOUT, "has taken too long and was ended");
    json_decref(errors);
    return rc;
}

/* Nothing differs from nothing: a mesh without objects is a snapshot too. */
static int evaluate(const struct osm_preview *p, struct osm_engine *engine,
                    struct osm_snapshot **out, struct osm_err *err)
{
    int rc = osm_engine_run(engine, p->objects, out, err);
    if (rc && is_late((void *)(uintptr_t)p))
        return too_late(engine, err);
    if (!rc && !*out)
        return osm_fail(err, OSM_EINVAL, "the engine has run before");
    return rc;
}

static json_t *applied_json(const struct osm_applied *applied)
{
    return json_pack("{s:I, s:I, s:I, s:I, s:I}", "created", (json_int_t)applied->created,
                     "configured", (json_int_t)applied->configured, "unchanged",
                     (json_int_t)applied->unchanged, "deleted", (json_int_t)applied->deleted,
                     "outside", (json_int_t)applied->outside);
}

int osm_preview_run(const struct osm_preview *p, struct osm_engine *engine, json_t **out,
                    struct osm_err *err)
{
    const struct osm_apply apply = {p->objects, p->mesh_name, p->osm_namespace, p->whole};
    const struct osm_resources_limits limits = {FIELDS_MAX, BYTES_MAX, is_late,
                                                (void *)(uintptr_t)p};
    struct osm_applied applied = {0};
    struct osm_snapshot *next = NULL;
    json_t *diff = NULL;
    bool objects = json_array_size(p->manifests) || json_array_size(p->deletes);
    uint64_t start_us = osm_now_us();
    int rc = objects ? osm_apply(&apply, p->manifests, p->deletes, &applied, err) : 0;
    uint64_t applied_us = osm_now_us();
    if (!rc)
        rc = evaluate(p, engine, &next, err);
    uint64_t evaluated_us = osm_now_us();
    if (!rc)
        rc = osm_snapshots_diff(p->served, next, &limits, p->guard_percent, &diff, err);
    if (!rc) {
        json_t *more = json_pack("{s:O?, s:O?, s:o, s:{s:I, s:I, s:I}}", "digest",
                                 json_object_get(next->policy, "digest"), "warnings",
                                 json_object_get(next->policy, "warnings"), "objects",
                                 objects ? applied_json(&applied) : json_null(), "times_us",
                                 "apply", (json_int_t)(applied_us - start_us), "evaluate",
                                 (json_int_t)(evaluated_us - applied_us), "compare",
                                 (json_int_t)(osm_now_us() - evaluated_us));
        if (!more || json_object_update(diff, more))
            rc = osm_fail(err, OSM_ENOMEM, "out of memory");
        json_decref(more);
    }
    osm_snapshot_unref(next);
    if (rc)
        json_decref(diff);
    else
        *out = diff;
    return rc;
}
