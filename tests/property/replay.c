/* Two engines live through a history: one sees every change as it comes, the other only what there
 * is in the end. */
#include "policy/memo/cells.h"
#include "property.h"

#include <stdio.h>
#include <string.h>

/* --- engines --- */

static struct osm_engine *engine_open(enum bundle bundle)
{
    const char *const *dirs[] = {
        [BUNDLE_ONE] = (const char *const[]){"policies", "tests/property/chaos_a", NULL},
        [BUNDLE_OTHER] = (const char *const[]){"policies", "tests/property/chaos_b", NULL},
        [BUNDLE_SHIPPED] = (const char *const[]){"policies", NULL},
        [BUNDLE_OPEN] = (const char *const[]){"policies", "tests/property/open", NULL}};
    struct osm_engine_config config = {.policies_dirs = dirs[bundle],
                                       .mesh_name = "osm",
                                       .osm_namespace = "osm-system",
                                       .trust_domain = "cluster.local",
                                       .roots_pem = "roots"};
    struct osm_engine *engine = NULL;
    struct osm_err err = {0};
    if (osm_engine_new(&engine, &config, &err)) {
        (void)fprintf(stderr, "%s (run this in the repository's root)\n", err.msg);
        OSM_REQUIRE(!"the bundle loads");
    }
    return engine;
}

/* A chain of rules that is deeper than there are frames is cut, and which of its cells are in the
 * memo then depends on who asked first; what it says does not. */
bool engine_has_cut_chain(const struct osm_engine *engine)
{
    osm_map_each (&engine->cells, e)
        if (((const struct osm_cell *)e->value)->cut)
            return true;
    return false;
}

size_t engine_cells(const struct osm_engine *engine)
{
    return engine->cells.count;
}

static bool run(struct osm_engine *engine, struct osm_store_reader *reader,
                struct osm_snapshot **out, struct osm_buf *why)
{
    struct osm_err err = {0};
    struct osm_changes none = {NULL, 0}, *changes = osm_store_reader_take(reader);
    *out = NULL;
    int rc = osm_engine_run(engine, changes ? changes : &none, out, &err);
    osm_changes_free(changes);
    if (rc)
        (void)osm_buf_addf(why, "the run failed: %s\n", err.msg);
    return !rc;
}

struct osm_snapshot *fresh_snapshot(struct osm_store *store, enum bundle bundle, size_t *cells,
                                    struct osm_buf *why)
{
    struct osm_engine *engine = engine_open(bundle);
    struct osm_snapshot *snapshot = NULL;
    struct osm_store_reader *reader = osm_store_reader_new(store);
    OSM_REQUIRE(reader);
    (void)run(engine, reader, &snapshot, why);
    osm_store_reader_free(reader);
    *cells = engine_has_cut_chain(engine) ? SIZE_MAX : engine_cells(engine);
    osm_engine_free(engine);
    return snapshot;
}

/* --- what a failing emitter keeps ---
 *
 * An item whose emitter fails keeps its last bytes, unless it authorises; the one place where what
 * is served depends on the past. The two emitters of the test's bundle that can fail serve whole
 * resources to everyone, so that what must be kept can be told from the snapshots. */

static const struct {
    const char *where, *prefix;
} fragile[] = {{"emitter chaos/links.fragile(", "fragile "},
               {"emitter chaos/links.chaos_clusters(", "chaos "}};

/* "emitter fragile(red, a)" -> "fragile red/a"; NULL: another error. */
static char *fragile_resource(const char *where)
{
    for (size_t i = 0; i < sizeof fragile / sizeof *fragile; i++) {
        size_t n = strlen(fragile[i].where);
        const char *comma = strncmp(where, fragile[i].where, n) ? NULL : strstr(where, ", ");
        if (!comma)
            continue;
        char *name = osm_strf("%s%.*s/%.*s", fragile[i].prefix, (int)(comma - where - (long)n),
                              where + n, (int)strcspn(comma + 2, ")"), comma + 2);
        OSM_REQUIRE(name);
        return name;
    }
    return NULL;
}

static void kept_clear(struct osm_map *kept)
{
    osm_map_each (kept, e)
        osm_bytes_unref(e->value);
    osm_map_clear(kept);
}

static void note_kept(struct replay *p)
{
    struct osm_map now = OSM_MAP_INIT;
    size_t i;
    json_t *error;
    json_array_foreach (p->snapshot ? p->snapshot->errors : NULL, i, error) {
        char *name = fragile_resource(json_string_value(json_object_get(error, "where")));
        struct osm_bytes *bytes = name ? osm_map_get(&p->kept, name) : NULL;
        struct osm_resource *served = NULL;
        if (name && !bytes && p->before && p->before->proxies_len)
            served = osm_class_find(p->before->proxies[0].cls, OSM_XDS_CDS, name);
        if (served)
            bytes = served->body;
        if (bytes && !osm_map_has(&now, name))
            OSM_REQUIRE(!osm_map_put(&now, name, osm_bytes_ref(bytes), NULL));
        osm_free(name);
    }
    kept_clear(&p->kept);
    p->kept = now;
}

/* --- living through it --- */

void replay_open(struct replay *p, enum bundle bundle)
{
    *p = (struct replay){.truth = osm_store_new(), .told = osm_store_new(), .bundle = bundle};
    OSM_REQUIRE(p->truth && p->told);
    p->reader = osm_store_reader_new(p->told);
    OSM_REQUIRE(p->reader);
    p->engine = engine_open(bundle);
}

void replay_close(struct replay *p)
{
    kept_clear(&p->kept);
    osm_snapshot_unref(p->snapshot);
    osm_snapshot_unref(p->before);
    osm_engine_free(p->engine);
    osm_store_reader_free(p->reader);
    osm_store_free(p->truth);
    osm_store_free(p->told);
    *p = (struct replay){0};
}

static void put(struct replay *p, const json_t *body)
{
    struct osm_object *object = object_of(body);
    if (!object)
        return; /* a part of it is gone without which there is no object */
    OSM_REQUIRE(!osm_store_put(p->truth, osm_object_ref(object)));
    OSM_REQUIRE(!osm_store_put(p->told, object));
}

static void delete (struct replay *p, const char *key)
{
    const struct osm_object *object = osm_store_get(p->truth, key);
    bool tell = !object || !p->forgets || strcmp(object->kind, p->forgets) != 0;
    (void)osm_store_delete(p->truth, key);
    if (tell)
        (void)osm_store_delete(p->told, key);
}

bool replay_apply(struct replay *p, const struct op *op, struct osm_buf *why)
{
    struct osm_snapshot *made = NULL;
    switch (op->type) {
    case OP_PUT:
        put(p, op->body);
        return true;
    case OP_DELETE:
        delete (p, op->key);
        return true;
    case OP_SWAP:
        osm_engine_free(p->engine);
        p->bundle = p->bundle == BUNDLE_ONE ? BUNDLE_OTHER : BUNDLE_ONE;
        p->engine = engine_open(p->bundle);
        kept_clear(&p->kept);
        osm_snapshot_unref(p->snapshot);
        p->snapshot = NULL;
        OSM_REQUIRE(!osm_store_reader_restart(p->reader));
        return true;
    case OP_RUN:
    default:
        break;
    }
    if (!run(p->engine, p->reader, &made, why))
        return false;
    osm_snapshot_unref(p->before);
    p->before = p->snapshot;
    p->snapshot = made ? made : p->before ? osm_snapshot_ref(p->before) : NULL;
    note_kept(p);
    return true;
}

bool replay_equals_fresh(const struct replay *p, struct osm_buf *why)
{
    size_t cells = 0;
    struct osm_snapshot *fresh = fresh_snapshot(p->truth, p->bundle, &cells, why);
    if (!fresh)
        return false;
    bool equal = p->snapshot && snapshots_equal(p->snapshot, fresh, &p->kept, why);
    if (equal && cells != SIZE_MAX && cells != engine_cells(p->engine)) {
        (void)osm_buf_addf(why, "the memo holds %zu cells, from scratch %zu\n",
                           engine_cells(p->engine), cells);
        equal = false;
    }
    osm_snapshot_unref(fresh);
    return equal;
}
