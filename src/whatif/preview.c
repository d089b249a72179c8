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

/* --- an engine that is kept --- */

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

static struct kept *kept_of(const struct osm_preview *p)
{
    if (!*p->kept)
        *p->kept = osm_alloc(sizeof(struct kept));
    return *p->kept;
}

/* Where nothing is to be done that is seen soon. */
static int evaluate(const struct osm_preview *p, struct osm_engine *engine, struct kept *kept,
                    struct osm_err *err)
{
    struct osm_snapshot *made = NULL;
    struct osm_changes *changes = changes_to(kept, p->objects);
    int rc = changes ? osm_engine_run(engine, changes, &made, err)
                     : osm_fail(err, OSM_ENOMEM, "out of memory");
    osm_changes_free(changes);
    if (rc)
        return is_late((void *)(uintptr_t)p) ? too_late(engine, err) : rc;
    if (made) {
        osm_snapshot_unref(kept->snapshot);
        kept->snapshot = made;
    }
    return 0;
}

/* As a fresh engine would, whatever this one was asked before, and whenever that was. */
static int evaluate_anew(const struct osm_preview *p, struct osm_engine *engine, struct kept *kept,
                         struct osm_err *err)
{
    if (kept->snapshot)
        osm_engine_begin_anew(engine);
    return evaluate(p, engine, kept, err);
}

int osm_preview_prepare(const struct osm_preview *p, struct osm_engine *engine, struct osm_err *err)
{
    struct kept *kept = kept_of(p);
    return kept ? evaluate_anew(p, engine, kept, err) : osm_fail(err, OSM_ENOMEM, "out of memory");
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

/* @p apply: changes p->objects; NULL: they are what is asked about. *apply_us: what that took.
 * *before: a new reference to what the outcome is compared with. */
static int play(const struct osm_preview *p, struct osm_engine *engine,
                const struct osm_apply *apply, struct kept *kept, struct osm_applied *applied,
                uint64_t *apply_us, struct osm_snapshot **before, struct osm_err *err)
{
    int rc = p->in_force ? evaluate_anew(p, engine, kept, err) : 0;
    bool fails = json_array_size(p->served->errors) > 0;
    if (!rc)
        *before = osm_snapshot_ref(
            p->in_force && fails ? kept->snapshot : (struct osm_snapshot *)(uintptr_t)p->served);
    uint64_t start_us = osm_now_us();
    if (!rc && apply)
        rc = osm_apply(apply, p->manifests, p->deletes, applied, err);
    *apply_us = osm_now_us() - start_us;
    if (rc || (p->in_force && !apply))
        return rc;
    return p->in_force ? evaluate(p, engine, kept, err) : evaluate_anew(p, engine, kept, err);
}

/* What is said of the rules beside the difference. */
static json_t *about_rules(const struct osm_engine *engine)
{
    json_t *figures = osm_engine_figures(engine),
           *out = figures ? json_pack("{s:O?, s:O?}", "digest", json_object_get(figures, "digest"),
                                      "warnings", json_object_get(figures, "warnings"))
                          : NULL;
    json_decref(figures);
    return out;
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
    struct kept *kept = kept_of(p);
    json_t *diff = NULL;
    bool objects = json_array_size(p->manifests) || json_array_size(p->deletes);
    bool was_ready = kept && kept->snapshot;
    struct osm_snapshot *before = NULL;
    uint64_t start_us = osm_now_us(), apply_us = 0;
    int rc = kept
                 ? play(p, engine, objects ? &apply : NULL, kept, &applied, &apply_us, &before, err)
                 : osm_fail(err, OSM_ENOMEM, "out of memory");
    uint64_t evaluated_us = osm_now_us();
    if (!rc)
        rc = osm_snapshots_diff(before, kept->snapshot, &limits, p->guard_percent, &diff, err);
    if (!rc) {
        json_t *rules = about_rules(engine),
               *more = json_pack("{s:o, s:b, s:{s:I, s:I, s:I}}", "objects",
                                 objects ? applied_json(&applied) : json_null(), "ready", was_ready,
                                 "times_us", "apply", (json_int_t)apply_us, "evaluate",
                                 (json_int_t)(evaluated_us - start_us - apply_us), "compare",
                                 (json_int_t)(osm_now_us() - evaluated_us));
        if (!more || !rules || json_object_update(diff, more) || json_object_update(diff, rules))
            rc = osm_fail(err, OSM_ENOMEM, "out of memory");
        json_decref(more);
        json_decref(rules);
    }
    osm_snapshot_unref(before);
    if (rc)
        json_decref(diff);
    else
        *out = diff;
    return rc;
}
