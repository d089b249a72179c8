#include "whatif/preview.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/map.h"
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

/* --- an engine that has evaluated before --- */

struct kept {
    struct osm_map objects; /* key -> osm_object: what the engine knows */
    struct osm_snapshot *snapshot;
};

void osm_preview_drop(void *ud)
{
    struct kept *kept = ud;
    osm_map_each (&kept->objects, e)
        osm_object_unref(e->value);
    osm_map_clear(&kept->objects);
    osm_snapshot_unref(kept->snapshot);
    osm_free(kept);
}

static void add_change(struct osm_changes *changes, struct osm_object *now, struct osm_object *gone)
{
    changes->list[changes->len++] =
        (struct osm_change){now ? osm_object_ref(now) : NULL, gone ? osm_object_ref(gone) : NULL};
}

/* From the objects that the engine knows to those that it should; these are known then. Objects do
 * not change: what is the same object is the same. */
static struct osm_changes *changes_to(struct kept *kept, const struct osm_changes *objects)
{
    struct osm_map now = OSM_MAP_INIT_BORROWS;
    struct osm_changes *changes = osm_alloc(sizeof *changes);
    size_t max = objects->len + kept->objects.count;
    int rc = 0;
    if (changes)
        changes->list = osm_alloc_array(max + 1, sizeof *changes->list);
    if (!changes || !changes->list)
        rc = OSM_ENOMEM;
    for (size_t i = 0; i < objects->len && !rc; i++) {
        struct osm_object *object = objects->list[i].now;
        rc = osm_map_put(&now, object->key, object, NULL);
        if (!rc && osm_map_get(&kept->objects, object->key) != object)
            add_change(changes, object, NULL);
    }
    osm_map_each (&kept->objects, e)
        if (!rc && !osm_map_get(&now, ((struct osm_object *)e->value)->key))
            add_change(changes, NULL, e->value);
    if (rc) {
        osm_map_clear(&now);
        osm_changes_free(changes);
        return NULL;
    }
    osm_map_each (&now, e)
        (void)osm_object_ref(e->value);
    osm_map_each (&kept->objects, e)
        osm_object_unref(e->value);
    osm_map_clear(&kept->objects);
    kept->objects = now;
    return changes;
}

/* The engine has a snapshot for what is other than before only. */
static int evaluate_changes(const struct osm_preview *p, struct osm_engine *engine,
                            struct osm_snapshot **out, struct osm_err *err)
{
    struct kept *kept = *p->kept ? *p->kept : (*p->kept = osm_alloc(sizeof *kept));
    struct osm_changes *changes = kept ? changes_to(kept, p->objects) : NULL;
    int rc = changes ? osm_engine_run(engine, changes, out, err)
                     : osm_fail(err, OSM_ENOMEM, "out of memory");
    osm_changes_free(changes);
    if (rc)
        return rc;
    if (*out) {
        osm_snapshot_unref(kept->snapshot);
        kept->snapshot = osm_snapshot_ref(*out);
    } else if (kept->snapshot) {
        *out = osm_snapshot_ref(kept->snapshot);
    }
    return 0;
}

/* Nothing differs from nothing: a mesh without objects is a snapshot too. */
static int evaluate(const struct osm_preview *p, struct osm_engine *engine,
                    struct osm_snapshot **out, struct osm_err *err)
{
    int rc = p->kept ? evaluate_changes(p, engine, out, err)
                     : osm_engine_run(engine, p->objects, out, err);
    if (rc && is_late((void *)(uintptr_t)p))
        return too_late(engine, err);
    if (!rc && !*out)
        return osm_fail(err, OSM_EINVAL, "the engine has run before");
    return rc;
}

/* --- the whole --- */

static json_t *applied_json(const struct osm_applied *applied)
{
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I}", "created", (json_int_t)applied->created,
                     "configured", (json_int_t)applied->configured, "unchanged",
                     (json_int_t)applied->unchanged, "deleted", (json_int_t)applied->deleted,
                     "outside", (json_int_t)applied->outside, "unaddressed",
                     (json_int_t)applied->unaddressed);
}

int osm_preview_run(const struct osm_preview *p, struct osm_engine *engine, json_t **out,
                    struct osm_err *err)
{
    const struct osm_apply apply = {.objects = p->objects,
                                    .mesh_name = p->mesh_name,
                                    .osm_namespace = p->osm_namespace,
                                    .outside = p->outside,
                                    .whole = p->whole};
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
