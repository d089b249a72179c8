/* To remove or break any part of a TrafficTarget, a TCPRoute or an HTTPRouteGroup never lets
 * anybody do what was not allowed before. What SMI reads as "any" when it is absent (a path, the
 * methods, the headers, the ports of a TCPRoute, the matches that a rule picks) widens by
 * definition; there, it must widen nothing else (enum scope).
 *
 * In each world, with the mesh closed, every such object is deleted, and some of its parts are
 * removed or broken, by a change to a running engine; each is mended again. */
#include "property.h"

#include <inttypes.h>
#include <string.h>

/* Of several objects with one key the last stays. */
static void drop_replaced(struct ops *ops)
{
    struct osm_map last = OSM_MAP_INIT;
    struct ops kept = {0};
    for (int round = 0; round < 2; round++)
        for (size_t i = 0; i < ops->len; i++) {
            struct osm_object *object = ops->list[i].body ? object_of(ops->list[i].body) : NULL;
            if (object && !round)
                OSM_REQUIRE(!osm_map_put(&last, object->key, &ops->list[i], NULL));
            else if (!object || osm_map_get(&last, object->key) == &ops->list[i])
                ops_copy(&kept, ops, round ? i : 0, round ? i + 1 : 0);
            osm_object_unref(object);
        }
    osm_map_clear(&last);
    ops_clear(ops);
    *ops = kept;
}

static void make_world(uint64_t seed, struct ops *ops)
{
    static const struct {
        enum kind kind;
        unsigned count;
    } parts[] = {{KIND_SERVICE, 12}, {KIND_POD, 24},    {KIND_GROUP, 12},
                 {KIND_TCPROUTE, 8}, {KIND_TARGET, 14}, {KIND_SPLIT, 1}};
    struct random r = random_of(seed);
    objects_anchor(ops);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        for (unsigned n = 0; n < parts[i].count; n++)
            ops_put(ops, object_random(&r, parts[i].kind, true));
    ops_add(ops, OP_RUN);
    drop_replaced(ops);
}

static bool grants_depend_on(const struct osm_object *object)
{
    return osm_object_is(object, "access.smi-spec.io", "TrafficTarget") ||
           osm_object_is(object, "specs.smi-spec.io", "TCPRoute") ||
           osm_object_is(object, "specs.smi-spec.io", "HTTPRouteGroup");
}

static void add_pairs(struct osm_map *pairs, const json_t *target)
{
    size_t i;
    const json_t *source;
    json_array_foreach (osm_json_at(target, "spec", "sources", NULL), i, source) {
        char *pair = osm_strf("%s.%s.cluster.local -> %s/%s", osm_json_str_at(source, "name", NULL),
                              osm_json_str_at(source, "namespace", NULL),
                              osm_json_str_at(target, "metadata", "namespace", NULL),
                              osm_json_str_at(target, "spec", "destination", "name", NULL));
        OSM_REQUIRE(pair && !osm_map_put(pairs, pair, pairs, NULL));
        osm_free(pair);
    }
}

static bool names(const json_t *target, const json_t *route)
{
    size_t i;
    const json_t *rule;
    const char *ns = osm_json_str_at(target, "metadata", "namespace", NULL);
    const char *kind = osm_json_str_at(target, "kind", NULL);
    if (strcmp(kind, "TrafficTarget") != 0 ||
        strcmp(ns, osm_json_str_at(route, "metadata", "namespace", NULL)) != 0)
        return false;
    json_array_foreach (osm_json_at(target, "spec", "rules", NULL), i, rule)
        if (!strcmp(osm_json_str_at(rule, "kind", NULL), osm_json_str_at(route, "kind", NULL)) &&
            !strcmp(osm_json_str_at(rule, "name", NULL),
                    osm_json_str_at(route, "metadata", "name", NULL)))
            return true;
    return false;
}

/* Sources and destinations of the target, or of the targets that name the route. */
static struct osm_map pairs_of(const struct ops *world, const json_t *object)
{
    struct osm_map pairs = OSM_MAP_INIT;
    if (!strcmp(osm_json_str_at(object, "kind", NULL), "TrafficTarget")) {
        add_pairs(&pairs, object);
        return pairs;
    }
    for (size_t i = 0; i < world->len; i++)
        if (world->list[i].type == OP_PUT && names(world->list[i].body, object))
            add_pairs(&pairs, world->list[i].body);
    return pairs;
}

/* What the change added beyond its scope; NULL nothing. Borrowed from @p now. */
static const char *added(const struct allowed *before, const struct allowed *now, enum scope scope,
                         const struct osm_map *pairs)
{
    switch (scope) {
    case SCOPE_ROUTES:
        return allowed_beyond(&now->ports, &before->ports);
    case SCOPE_PAIRS:
        osm_map_each (&now->pairs, e)
            if (!osm_map_has(&before->pairs, e->key) && !osm_map_has(pairs, e->key))
                return e->key;
        return NULL;
    case SCOPE_NOTHING:
    default:
        return allowed_beyond(&now->whole, &before->whole);
    }
}

struct attempt {
    enum bundle bundle;
    enum scope scope;
    struct osm_map pairs;
};

/* The last run of the history is the breaking one. */
static bool grants_more(void *ud, const struct ops *ops, struct osm_buf *why)
{
    const struct attempt *a = ud;
    struct replay p;
    bool lived = true;
    replay_open(&p, a->bundle);
    for (size_t i = 0; lived && i < ops->len; i++)
        lived = replay_apply(&p, &ops->list[i], why);
    const char *more = NULL;
    if (lived && p.before && p.snapshot) {
        struct allowed before = allowed_of(p.before), now = allowed_of(p.snapshot);
        more = added(&before, &now, a->scope, &a->pairs);
        if (more)
            (void)osm_buf_addf(why, "allowed only after the last change: %s\n", more);
        allowed_clear(&before);
        allowed_clear(&now);
    }
    replay_close(&p);
    return !lived || more;
}

/* Deletes and puts as it takes to have @p body in place of the object with the key. */
static void replace(struct ops *ops, const char *key, json_t *body)
{
    struct osm_object *object = body ? object_of(body) : NULL;
    if (!object || strcmp(object->key, key) != 0)
        ops_delete(ops, key);
    if (object)
        ops_put(ops, json_incref(body));
    osm_object_unref(object);
}

static bool apply_from(struct replay *p, const struct ops *ops, size_t from, struct osm_buf *why)
{
    bool lived = true;
    for (size_t i = from; lived && i < ops->len; i++)
        lived = replay_apply(p, &ops->list[i], why);
    return lived;
}

enum { ONE_OF = 8 /* parts and ways to break them, in one world */ };

struct closing {
    const struct task *task;
    struct random random;
    enum bundle bundle;
    uint64_t seed;
    const struct ops *world;
    struct replay p;
    struct allowed before;
    unsigned tried, changed;
    size_t left; /* operations of the shrunk history that failed */
};

static void report(struct closing *c, const struct ops *breaking, const json_t *original,
                   const struct mutation *m)
{
    struct ops all = {0};
    struct attempt attempt = {c->bundle, m->scope, pairs_of(c->world, original)};
    ops_copy(&all, c->world, 0, c->world->len);
    size_t from = all.len;
    ops_copy(&all, breaking, 0, breaking->len);
    for (size_t i = from - 1; i < all.len; i++)
        all.list[i].pinned = true;
    for (size_t i = 0; i < from; i++)
        all.list[i].pinned |= all.list[i].body && json_equal(all.list[i].body, original);
    (void)osm_buf_addf(c->task->report,
                       "-- breaking a part grants more: %s %s. Again: OSM_PROPERTY_SEED=%" PRIu64
                       " OSM_PROPERTY_CHANGES=1 %s breaking_grants_nothing\n",
                       m->path, m->what, c->seed, property_program);
    report_history(c->task->report, &all, grants_more, &attempt);
    c->left = all.len;
    osm_map_clear(&attempt.pairs);
    ops_clear(&all);
}

/* Breaks one part, looks, mends it. @p broken: NULL, the object goes. Takes it. */
static bool try_one(struct closing *c, const char *key, const json_t *original, json_t *broken,
                    const struct mutation *m)
{
    struct ops breaking = {0}, mending = {0};
    struct osm_buf why = OSM_BUF_INIT(TEXT_MAX);
    struct osm_object *other = broken ? object_of(broken) : NULL;
    replace(&breaking, key, broken);
    ops_add(&breaking, OP_RUN);
    if (other && strcmp(other->key, key) != 0)
        ops_delete(&mending, other->key);
    ops_put(&mending, json_deep_copy(original));
    ops_add(&mending, OP_RUN);
    bool fine = apply_from(&c->p, &breaking, 0, &why);
    if (fine && c->p.snapshot != c->p.before) {
        struct allowed now = allowed_of(c->p.snapshot);
        struct osm_map pairs = pairs_of(c->world, original);
        fine = !added(&c->before, &now, m->scope, &pairs);
        osm_map_clear(&pairs);
        c->changed += now.whole.count != c->before.whole.count;
        allowed_clear(&now);
    }
    c->tried++;
    if (!fine)
        report(c, &breaking, original, m);
    fine = fine && apply_from(&c->p, &mending, 0, &why);
    osm_object_unref(other);
    json_decref(broken);
    ops_clear(&breaking);
    ops_clear(&mending);
    osm_buf_clear(&why);
    return fine;
}

static bool break_object(struct closing *c, const json_t *body)
{
    struct osm_object *object = object_of(body);
    struct mutation m = {"", "the object goes", SCOPE_NOTHING};
    bool fine = true;
    OSM_REQUIRE(object);
    if (grants_depend_on(object)) {
        fine = try_one(c, object->key, body, NULL, &m);
        size_t spots = mutate_spots(body);
        for (size_t spot = 0; fine && spot < spots; spot++)
            for (unsigned v = 0; fine && v < VARIANTS; v++) {
                if (pick(&c->random, ONE_OF))
                    continue;
                json_t *broken = mutate(body, spot, v, c->p.truth, &m);
                if (json_equal(broken, body))
                    json_decref(broken);
                else
                    fine = try_one(c, object->key, body, broken, &m);
            }
    }
    osm_object_unref(object);
    return fine;
}

/* Adds to @p total. */
static bool break_world(const struct task *task, enum bundle bundle, uint64_t seed,
                        struct closing *total)
{
    struct ops world = {0};
    struct osm_buf why = OSM_BUF_INIT(TEXT_MAX);
    make_world(seed, &world);
    struct closing c = {
        .task = task, .random = random_of(~seed), .bundle = bundle, .seed = seed, .world = &world};
    replay_open(&c.p, bundle);
    bool fine = apply_from(&c.p, &world, 0, &why);
    OSM_REQUIRE(fine);
    c.before = allowed_of(c.p.snapshot);
    for (size_t i = 0; fine && i < world.len; i++)
        if (world.list[i].type == OP_PUT)
            fine = break_object(&c, world.list[i].body);
    if (fine) { /* all is mended */
        struct allowed now = allowed_of(c.p.snapshot);
        const char *lost = allowed_beyond(&c.before.whole, &now.whole);
        fine = !lost && now.whole.count == c.before.whole.count;
        if (!fine)
            (void)osm_buf_addf(task->report, "-- seed %" PRIu64 ": lost for good: %s\n", seed,
                               lost ? lost : "nothing, but something came");
        allowed_clear(&now);
    }
    total->tried += c.tried;
    total->changed += c.changed;
    total->left = c.left;
    allowed_clear(&c.before);
    replay_close(&c.p);
    ops_clear(&world);
    osm_buf_clear(&why);
    return fine;
}

bool breaking_grants_nothing(const struct task *task)
{
    struct closing total = {0};
    bool fine = true;
    unsigned share = task->changes / task->workers;
    for (uint64_t i = task->worker; fine && total.tried <= share; i += task->workers)
        fine = break_world(task, BUNDLE_SHIPPED, task->seed + i, &total);
    if (fine && total.changed * 20 < total.tried) {
        (void)osm_buf_addf(task->report, "-- of %u parts broken only %u made a difference\n",
                           total.tried, total.changed);
        fine = false;
    }
    allowed_forget();
    return fine;
}

/* --- the test can fail --- */

bool an_open_bundle_is_found_and_shrunk(const struct task *task)
{
    struct osm_buf found = OSM_BUF_INIT(TEXT_MAX);
    struct task quiet = *task;
    struct closing total = {0};
    bool closed = true;
    quiet.report = &found;
    if (task->worker)
        return true;
    for (uint64_t i = 0; closed && i < 20; i++)
        closed = break_world(&quiet, BUNDLE_OPEN, task->seed + i, &total);
    allowed_forget();
    /* Anchor, two namespaces, a Service, a pod, TCPRoute, target, a run; its end, a run. */
    bool fine = !closed && total.left <= 12 && strstr(found.data, "kind: TCPRoute") &&
                strstr(found.data, "allowed only after the last change: ");
    if (!fine)
        (void)osm_buf_addf(task->report, "-- %s; %zu operations are left\n%s",
                           closed ? "not found" : "found", total.left,
                           found.data ? found.data : "");
    osm_buf_clear(&found);
    return fine;
}
