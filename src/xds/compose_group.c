/* A group's parts: what its terms select of each target, which references are served, and the class
 * that comes out. */
#include "xds/compose_priv.h"

#include <stdlib.h>
#include <string.h>

static int part_order(const struct osm__target *x, const struct osm__target *y)
{
    return x->type != y->type ? (x->type > y->type) - (x->type < y->type)
                              : strcmp(x->name, y->name);
}

static bool is_served(const struct osm__part *part)
{
    return part->composed && part->composed->shared;
}

static bool serves(const struct osm__group *group, enum osm_xds_type type, const char *name)
{
    size_t low = 0, high = group->parts_len;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct osm__target *t = group->parts[middle].target;
        int order = t->type != type ? (t->type > type) - (t->type < type) : strcmp(t->name, name);
        if (!order)
            return is_served(&group->parts[middle]);
        if (order > 0)
            high = middle;
        else
            low = middle + 1;
    }
    return false;
}

static void part_clear(struct osm__part *part)
{
    json_decref(part->excluded);
    json_decref(part->dangling);
    osm__composed_unref(part->composed);
    osm__target_unref(part->target);
    *part = (struct osm__part){0};
}

static void class_unuse(struct osm_compose *compose, struct osm__class *c)
{
    if (!c || --c->uses)
        return;
    (void)osm_map_deln(&compose->classes, &c->key, sizeof c->key);
    osm_class_unref(c->cls);
    osm_free(c);
}

void osm__group_free(struct osm_compose *compose, struct osm__group *group)
{
    osm__group_leave_terms(group);
    for (size_t i = 0; i < group->parts_len; i++)
        part_clear(&group->parts[i]);
    for (size_t i = 0; i < group->dirty.len; i++)
        osm__target_unref(group->dirty.list[i]);
    osm__ptrs_clear(&group->dirty);
    class_unuse(compose, group->cls);
    (void)osm_map_del(&compose->groups, group->key);
    osm_free(group->parts);
    osm_free(group->terms);
    osm_free(group->key);
    osm_free(group);
}

/* ---- which parts are to be composed ---- */

static int by_part(const void *a, const void *b)
{
    return part_order(*(struct osm__target *const *)a, *(struct osm__target *const *)b);
}

static int add_target(struct osm__ptrs *list, struct osm__target *target, uint64_t stamp)
{
    if (target->stamp == stamp)
        return 0;
    target->stamp = stamp;
    return osm__ptrs_push(list, target);
}

/* Borrowed: entries, parts and the dirty list hold them meanwhile. */
static int due_targets(struct osm_compose *compose, struct osm__group *group, struct osm__ptrs *out)
{
    uint64_t stamp = ++compose->stamp;
    int rc = 0;
    for (size_t i = 0; i < group->dirty.len && !rc; i++)
        rc = add_target(out, group->dirty.list[i], stamp);
    for (size_t i = 0; group->full && i < group->parts_len && !rc; i++)
        rc = add_target(out, group->parts[i].target, stamp);
    for (size_t t = 0; group->full && t < group->terms_len; t++)
        for (size_t i = 0; i < group->terms[t]->links.len && !rc; i++)
            rc = add_target(
                out, ((struct osm__link *)group->terms[t]->links.list[i])->entry->target, stamp);
    if (!rc && out->len)
        qsort(out->list, out->len, sizeof *out->list, by_part);
    return rc;
}

/* Marks the parts of the targets as dirty; those that are missing are made, empty. */
static int merge_parts(struct osm__group *group, const struct osm__ptrs *targets)
{
    struct osm__part *merged = osm_alloc_array(group->parts_len + targets->len, sizeof *merged);
    if (!merged)
        return OSM_ENOMEM;
    size_t n = 0, p = 0, t = 0;
    while (p < group->parts_len || t < targets->len) {
        struct osm__target *target = t < targets->len ? targets->list[t] : NULL;
        int order = p == group->parts_len ? 1
                    : !target             ? -1
                                          : part_order(group->parts[p].target, target);
        if (order <= 0) {
            merged[n] = group->parts[p++];
        } else {
            merged[n].target = target;
            target->refs++;
        }
        if (order >= 0) {
            merged[n].dirty = true;
            t++;
        }
        n++;
    }
    osm_free(group->parts);
    group->parts = merged;
    group->parts_len = n;
    return 0;
}

static void drop_empty_parts(struct osm__group *group)
{
    size_t kept = 0;
    for (size_t i = 0; i < group->parts_len; i++) {
        if (group->parts[i].composed)
            group->parts[kept++] = group->parts[i];
        else
            part_clear(&group->parts[i]);
    }
    group->parts_len = kept;
}

/* ---- composing one part ---- */

/* How specific the most specific term is by which the group reads the entry; -1: none. */
static int rank_for(const struct osm__entry *entry, uint64_t stamp)
{
    int rank = -1;
    for (size_t i = 0; i < entry->links_len; i++)
        if (entry->links[i].term->stamp == stamp && entry->links[i].rank > rank)
            rank = entry->links[i].rank;
    return rank;
}

/* The route configuration that the entry needs and the group is not served: Envoy would hold the
 * listener back for ever. */
static const char *missing_routes(const struct osm__group *group, const struct osm__entry *entry)
{
    const struct osm_item *item = entry->item;
    if (item->type != OSM_XDS_LDS)
        return NULL;
    for (size_t i = 0; i < item->refs_len; i++)
        if (item->refs[i].kind == OSM_REF_ROUTE_CONFIG &&
            !serves(group, OSM_XDS_RDS, item->refs[i].name))
            return item->refs[i].name;
    return NULL;
}

static int add_candidate(struct osm__group *group, struct osm__entry *entry, int rank,
                         struct osm__candidate *out, json_t **excluded)
{
    const char *missing = missing_routes(group, entry);
    *out = (struct osm__candidate){entry, rank, missing != NULL};
    return missing ? osm__report(
                         excluded, entry,
                         "left out: route configuration \"%s\" is not served to the same proxies",
                         missing)
                   : 0;
}

/* What the group reads of the target, in no order. A target that the whole mesh shares has many
 * more entries than the group's terms have links, or the other way round: the shorter way is gone.
 */
static int candidates_of(struct osm_compose *compose, struct osm__group *group,
                         const struct osm__target *target, uint64_t stamp,
                         struct osm__candidate *out, size_t *n, json_t **excluded)
{
    int rc = 0;
    if (target->entries.len <= group->links_len) {
        for (size_t i = 0; !rc && i < target->entries.len; i++) {
            struct osm__entry *entry = target->entries.list[i];
            int rank = rank_for(entry, stamp);
            if (rank >= 0)
                rc = add_candidate(group, entry, rank, &out[(*n)++], excluded);
        }
        return rc;
    }
    uint64_t seen = ++compose->stamp;
    for (size_t t = 0; t < group->terms_len; t++)
        for (size_t i = 0; !rc && i < group->terms[t]->links.len; i++) {
            struct osm__entry *entry = ((struct osm__link *)group->terms[t]->links.list[i])->entry;
            if (entry->target != target || entry->stamp == seen)
                continue;
            entry->stamp = seen;
            rc = add_candidate(group, entry, rank_for(entry, stamp), &out[(*n)++], excluded);
        }
    return rc;
}

static int compose_part(struct osm_compose *compose, struct osm__group *group,
                        struct osm__part *part, uint64_t stamp)
{
    size_t entries = part->target->entries.len,
           most = entries < group->links_len ? entries : group->links_len;
    struct osm__candidate *candidates = osm_alloc_array(most, sizeof *candidates);
    struct osm__composed *composed = NULL;
    json_t *excluded = NULL;
    size_t n = 0;
    int rc = candidates ? 0 : OSM_ENOMEM;
    if (!rc)
        rc = candidates_of(compose, group, part->target, stamp, candidates, &n, &excluded);
    if (!rc && n)
        rc = osm__composed_get(compose, part->target, candidates, n, &composed);
    if (rc) {
        json_decref(excluded);
    } else {
        json_decref(part->excluded);
        osm__composed_unref(part->composed);
        part->excluded = excluded;
        part->composed = composed;
    }
    osm_free(candidates);
    return rc;
}

/* Composes the dirty parts of a range of types. *presence: one came or went; *changed: a resource
 * is another one. */
static int compose_parts(struct osm_compose *compose, struct osm__group *group, bool routes,
                         uint64_t stamp, bool *presence, bool *changed)
{
    for (size_t i = 0; i < group->parts_len; i++) {
        struct osm__part *part = &group->parts[i];
        if (!part->dirty || (part->target->type == OSM_XDS_RDS) != routes)
            continue;
        struct osm__resource *before = part->composed ? part->composed->shared : NULL;
        struct osm_resource *resource = before ? osm_resource_ref(before->resource) : NULL;
        int rc = compose_part(compose, group, part, stamp);
        if (!rc) {
            *presence |= (resource != NULL) != is_served(part);
            *changed |= resource != (is_served(part) ? part->composed->shared->resource : NULL);
        }
        osm_resource_unref(resource);
        if (rc)
            return rc;
    }
    return 0;
}

/* ---- references ---- */

static int check_reference(struct osm__group *group, struct osm__part *part,
                           const struct osm__entry *entry, const struct osm_item_ref *ref)
{
    const char *name = ref->name;
    enum osm_xds_type type;
    switch ((enum osm_ref_kind)ref->kind) {
    case OSM_REF_CLUSTER:
        type = OSM_XDS_CDS;
        break;
    case OSM_REF_EDS:
        type = OSM_XDS_EDS;
        name = *name ? name : entry->item->resource;
        break;
    case OSM_REF_SECRET:
        if (!strcmp(name, "service-cert")) /* each proxy's own leaf: the stream adds it */
            return 0;
        type = OSM_XDS_SDS;
        break;
    case OSM_REF_ROUTE_CONFIG:
    default:
        return 0; /* what lacks one has been left out */
    }
    if (serves(group, type, name))
        return 0;
    return osm__report(&part->dangling, entry,
                       "refers to %s \"%s\", which is not served to the same proxies",
                       osm__type_word(type), name);
}

static int check_references(struct osm__group *group, bool all)
{
    for (size_t i = 0; i < group->parts_len; i++) {
        struct osm__part *part = &group->parts[i];
        if (!all && !part->dirty)
            continue;
        json_decref(part->dangling);
        part->dangling = NULL;
        for (size_t k = 0; is_served(part) && k < part->composed->referring.len; k++) {
            const struct osm__entry *entry = part->composed->referring.list[k];
            for (size_t r = 0; r < entry->item->refs_len; r++)
                if (check_reference(group, part, entry, &entry->item->refs[r]))
                    return OSM_ENOMEM;
        }
    }
    return 0;
}

/* ---- classes ---- */

static struct osm_class *class_make(const struct osm__group *group,
                                    const size_t counts[OSM_XDS_TYPE_COUNT])
{
    struct osm_class *cls = osm_class_new();
    for (int t = 0; cls && t < OSM_XDS_TYPE_COUNT; t++) {
        cls->types[t].list = osm_alloc_array(counts[t], sizeof *cls->types[t].list);
        if (!cls->types[t].list) {
            osm_class_unref(cls);
            return NULL;
        }
    }
    for (size_t i = 0; cls && i < group->parts_len; i++)
        if (is_served(&group->parts[i])) {
            enum osm_xds_type type = group->parts[i].target->type;
            cls->types[type].list[cls->types[type].len++] =
                osm_resource_ref(group->parts[i].composed->shared->resource);
        }
    return cls;
}

/* Resources are interned, so equal pointers in equal order are equal classes; a class keeps its
 * resources alive. */
static int class_find(struct osm_compose *compose, struct osm__group *group)
{
    size_t counts[OSM_XDS_TYPE_COUNT] = {0}, n = 0;
    const void **pointers = osm_alloc_array(group->parts_len, sizeof *pointers);
    struct osm__class *c = NULL;
    if (!pointers)
        return OSM_ENOMEM;
    for (size_t i = 0; i < group->parts_len; i++)
        if (is_served(&group->parts[i])) {
            pointers[n++] = group->parts[i].composed->shared->resource;
            counts[group->parts[i].target->type]++;
        }
    struct osm_hash key = osm_hash_bytes(pointers, n * sizeof *pointers);
    osm_free(pointers);
    c = osm_map_getn(&compose->classes, &key, sizeof key);
    if (!c) {
        c = osm_alloc(sizeof *c);
        if (!c)
            return OSM_ENOMEM;
        *c = (struct osm__class){class_make(group, counts), key, 0};
        if (!c->cls || osm_map_putn(&compose->classes, &key, sizeof key, c, NULL)) {
            osm_class_unref(c->cls);
            osm_free(c);
            return OSM_ENOMEM;
        }
    }
    c->uses++;
    class_unuse(compose, group->cls);
    group->cls = c;
    return 0;
}

int osm__group_compose(struct osm_compose *compose, struct osm__group *group)
{
    struct osm__ptrs targets = {0};
    bool full = group->full, routes_changed = false, presence = full, changed = full;
    int rc = due_targets(compose, group, &targets);
    if (!rc)
        rc = merge_parts(group, &targets);
    if (rc)
        goto out;
    uint64_t stamp = ++compose->stamp;
    group->links_len = 0;
    for (size_t t = 0; t < group->terms_len; t++) {
        group->terms[t]->stamp = stamp;
        group->links_len += group->terms[t]->links.len;
    }
    rc = compose_parts(compose, group, true, stamp, &routes_changed, &changed);
    for (size_t i = 0; routes_changed && i < group->parts_len; i++)
        group->parts[i].dirty |= group->parts[i].target->type == OSM_XDS_LDS;
    if (!rc)
        rc = compose_parts(compose, group, false, stamp, &presence, &changed);
    if (rc)
        goto out;
    drop_empty_parts(group);
    rc = check_references(group, presence || routes_changed);
    if (!rc && (changed || !group->cls))
        rc = class_find(compose, group);
    if (rc)
        goto out;
    group->full = false;
    group->reports = false;
    for (size_t i = 0; i < group->parts_len; i++) {
        const struct osm__part *part = &group->parts[i];
        group->parts[i].dirty = false;
        group->reports |= part->composed->reports || part->excluded || part->dangling;
    }
    for (size_t i = 0; i < group->dirty.len; i++)
        osm__target_unref(group->dirty.list[i]);
    group->dirty.len = 0;
out:
    osm__ptrs_clear(&targets);
    return rc;
}
