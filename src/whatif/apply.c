#include "whatif/apply.h"
#include "whatif/settled.h"

#include "base/json.h"
#include "base/map.h"
#include "base/mem.h"
#include "model/world.h"
#include "source/manifest.h"

#include <string.h>
#include <strings.h>

static const char other_form[] = "manifests: expected a list of {\"name\": TEXT, \"text\": TEXT}";
static const char LAST_APPLIED[] = "kubectl.kubernetes.io/last-applied-configuration";

struct applying {
    const struct osm_apply *apply;
    struct osm_map places; /* key -> place + 1 in the objects */
    struct osm_map opened; /* namespaces whose objects were outside, and are not any more */
    struct osm_map named;  /* key of a manifest's object -> the live one (a reference), or this:
                              there is none */
    struct osm_applied *out;
    struct osm_err *err;
};

static int no_memory(struct applying *a)
{
    return osm_fail(a->err, OSM_ENOMEM, "out of memory");
}

/* --- one object over another --- */

/* A new reference; NULL: no memory. @p last: what was applied before, of this place; may be NULL.
 */
static json_t *merge(json_t *live, const json_t *last, json_t *now)
{
    const char *key;
    json_t *value;
    if (!json_is_object(live) || !json_is_object(now))
        return json_incref(now);
    json_t *out = json_copy(live);
    int rc = out ? 0 : -1;
    json_object_foreach ((json_t *)(uintptr_t)last, key, value)
        if (!json_object_get(now, key))
            (void)json_object_del(out, key);
    json_object_foreach (now, key, value) {
        json_t *old = json_object_get(live, key);
        if (json_is_null(value)) /* a manifest's null is nothing said, or taken back */
            (void)json_object_del(out, key);
        else if (!rc)
            rc = json_object_set_new(
                out, key, old ? merge(old, json_object_get(last, key), value) : json_incref(value));
    }
    if (!rc)
        return out;
    json_decref(out);
    return NULL;
}

/* What the object was when it was last applied; new reference, {} where nobody knows. NULL: no
 * memory. */
static json_t *last_of(const struct applying *a, const struct osm_object *live)
{
    const char *text = osm_json_str_at(live->body, "metadata", "annotations", LAST_APPLIED, NULL);
    json_t *last = text              ? json_loads(text, 0, NULL)
                   : a->apply->whole ? json_copy((json_t *)(uintptr_t)live->body)
                                     : NULL;
    if (!json_is_object(last)) {
        json_decref(last);
        return json_object();
    }
    if (!text)
        (void)json_object_del(last, "status");
    return last;
}

/* Forms of two versions have no fields in common that mean the same: then only what is the API
 * server's own stays. */
static json_t *merge_versions(const struct osm_object *live, json_t *now)
{
    json_t *out = json_copy(now);
    const json_t *metadata = json_object_get(live->body, "metadata");
    json_t *status = json_object_get(live->body, "status");
    json_t *both =
        out ? merge((json_t *)(uintptr_t)metadata, NULL, json_object_get(now, "metadata")) : NULL;
    int rc = both ? json_object_set_new(out, "metadata", both) : -1;
    if (!rc && status && !json_object_get(out, "status"))
        rc = json_object_set(out, "status", status);
    if (!rc)
        return out;
    json_decref(out);
    return NULL;
}

/* Takes the reference to @p made. */
static int put(struct applying *a, struct osm_object *made)
{
    struct osm_changes *objects = a->apply->objects;
    uintptr_t place = (uintptr_t)osm_map_get(&a->places, made->key);
    struct osm_object *live = place ? objects->list[place - 1].now : NULL;
    if (live) {
        objects->list[place - 1].now = made;
        osm_object_unref(live);
        return 0;
    }
    struct osm_change *grown = osm_realloc_array(objects->list, objects->len + 1, sizeof *grown);
    if (grown)
        objects->list = grown;
    if (!grown || osm_map_put(&a->places, made->key, (void *)(uintptr_t)(objects->len + 1), NULL)) {
        osm_object_unref(made);
        return no_memory(a);
    }
    grown[objects->len++] = (struct osm_change){made, NULL};
    return 0;
}

/* Remembers what was there before the first manifest that names it. */
static int name(struct applying *a, const char *key, struct osm_object *live)
{
    if (osm_map_has(&a->named, key))
        return 0;
    if (osm_map_put(&a->named, key, live ? (void *)live : a, NULL))
        return no_memory(a);
    if (live)
        (void)osm_object_ref(live);
    return 0;
}

static int open_namespace(struct applying *a, const char *ns)
{
    struct osm_changes *objects = a->apply->objects;
    size_t at = objects->len;
    if (!*ns || osm_map_has(&a->opened, ns))
        return 0;
    int rc = osm_map_put(&a->opened, ns, a, NULL);
    if (!rc)
        rc = osm_outside_open(a->apply->outside, ns, objects);
    for (; at < objects->len && !rc; at++)
        rc = osm_map_put(&a->places, objects->list[at].now->key, (void *)(uintptr_t)(at + 1), NULL);
    return rc ? no_memory(a) : 0;
}

static int apply_object(struct applying *a, struct osm_object *object)
{
    bool is_namespace = osm_object_is(object, "", "Namespace");
    if (open_namespace(a, is_namespace ? object->name : object->ns))
        return OSM_ENOMEM;
    uintptr_t place = (uintptr_t)osm_map_get(&a->places, object->key);
    struct osm_object *live = place ? a->apply->objects->list[place - 1].now : NULL;
    json_t *now = (json_t *)(uintptr_t)object->body;
    int rc = name(a, object->key, live);
    if (rc || !live)
        return rc ? rc : put(a, osm_object_ref(object));
    json_t *last = last_of(a, live);
    json_t *body = !last ? NULL
                   : strcmp(live->version, object->version) != 0
                       ? merge_versions(live, now)
                       : merge((json_t *)(uintptr_t)live->body, last, now);
    json_decref(last);
    struct osm_object *made = NULL;
    if (!body)
        return no_memory(a);
    rc = osm_object_new(&made, body, object->origin, a->err);
    return rc ? rc : put(a, made);
}

static int apply_manifest(struct applying *a, const json_t *manifest)
{
    const json_t *text = json_object_get(manifest, "text");
    struct osm_object **list = NULL;
    size_t n = 0;
    /* Something else would be no manifest, and the answer that nothing changes. */
    if (!json_is_string(text) || !json_is_string(json_object_get(manifest, "name")))
        return osm_fail(a->err, OSM_EINVAL, other_form);
    int rc = osm_manifest_parse(&list, &n, json_string_value(text), json_string_length(text),
                                osm_json_text(manifest, "name"), a->err);
    for (size_t i = 0; i < n; i++) {
        if (!rc)
            rc = apply_object(a, list[i]);
        osm_object_unref(list[i]);
    }
    osm_free(list);
    return rc;
}

/* --- taking out --- */

/* "TrafficTarget/blue/t1", "traffictarget.access.smi-spec.io/blue/t1", "Namespace/blue" */
static bool is_meant(const struct osm_object *object, const char *what)
{
    size_t len = strcspn(what, "/"), kind = strcspn(what, "./");
    const char *rest = what[len] ? what + len + 1 : "", *slash = strchr(rest, '/');
    if (strlen(object->kind) != kind || strncasecmp(object->kind, what, kind) != 0)
        return false;
    if (kind < len && (strlen(object->group) != len - kind - 1 ||
                       strncasecmp(object->group, what + kind + 1, len - kind - 1) != 0))
        return false;
    size_t ns = slash ? (size_t)(slash - rest) : 0;
    return strlen(object->ns) == ns && !strncmp(object->ns, rest, ns) &&
           !strcmp(object->name, slash ? slash + 1 : rest);
}

static int delete_one(struct applying *a, const char *what)
{
    struct osm_changes *objects = a->apply->objects;
    size_t found = 0, at = 0;
    const char *ns = what + strcspn(what, "/"), *end = *ns ? strchr(++ns, '/') : NULL;
    char *named = end ? osm_strndup(ns, (size_t)(end - ns)) : NULL;
    int rc = end && !named ? no_memory(a) : named ? open_namespace(a, named) : 0;
    osm_free(named);
    if (rc)
        return rc;
    for (size_t i = 0; i < objects->len; i++)
        if (is_meant(objects->list[i].now, what)) {
            found++;
            at = i;
        }
    if (!found)
        return osm_fail(a->err, OSM_ENOENT,
                        "--delete %.200s: there is no such object; expected KIND/NAMESPACE/NAME",
                        what);
    if (found > 1)
        return osm_fail(a->err, OSM_ENOENT,
                        "--delete %.200s: there are %zu such objects; say KIND.GROUP", what, found);
    struct osm_object *gone = objects->list[at].now, *moved;
    if (name(a, gone->key, gone))
        return OSM_ENOMEM;
    (void)osm_map_del(&a->places, gone->key);
    moved = objects->list[at].now = objects->list[--objects->len].now;
    bool last = at == objects->len;
    if (!last && osm_map_put(&a->places, moved->key, (void *)(uintptr_t)(at + 1), NULL))
        return no_memory(a); /* the key is there: cannot happen */
    osm_object_unref(gone);
    a->out->deleted++;
    return 0;
}

/* --- what has become of them --- */

static void count(struct applying *a)
{
    osm_map_each (&a->named, e) {
        uintptr_t place = (uintptr_t)osm_map_get(&a->places, e->key);
        const struct osm_object *now = place ? a->apply->objects->list[place - 1].now : NULL;
        const struct osm_object *live = e->value == a ? NULL : e->value;
        if (!now)
            continue; /* counted as deleted */
        bool same = live && osm_object_same(live, now) && osm_hash_equal(live->status, now->status);
        *(same ? &a->out->unchanged : live ? &a->out->configured : &a->out->created) += 1;
    }
}

/* --- what follows in a cluster --- */

/* The places of objects are others afterwards. */
static int settle(struct applying *a)
{
    struct osm_settled_pair *pairs = osm_alloc_array(a->named.count + 1, sizeof *pairs);
    size_t n = 0;
    if (!pairs)
        return no_memory(a);
    osm_map_each (&a->named, e) {
        uintptr_t place = (uintptr_t)osm_map_get(&a->places, e->key);
        const struct osm_object *now = place ? a->apply->objects->list[place - 1].now : NULL;
        const struct osm_object *live = e->value == a ? NULL : e->value;
        bool same = live && now ? osm_object_same(live, now) : !live && !now;
        if (!same)
            pairs[n++] = (struct osm_settled_pair){live, now};
        bool new_service = now && !live && osm_object_is(now, "", "Service");
        a->out->unaddressed +=
            new_service && !osm_json_str_at(now->body, "spec", "clusterIP", NULL) &&
            strcmp(osm_json_text(osm_json_at(now->body, "spec", NULL), "type"), "ExternalName");
    }
    int rc = osm_settled_endpoints(a->apply->objects, pairs, n);
    osm_free(pairs);
    return rc ? no_memory(a) : 0;
}

/* --- what nobody sees --- */

static void see(void *ud, struct osm_object *old, struct osm_object *now)
{
    struct applying *a = ud;
    (void)old;
    if (now && osm_map_has(&a->named, now->key))
        a->out->outside--;
}

/* A world of the namespaces and the objects that were named. */
static int count_outside(struct applying *a)
{
    const struct osm_changes *objects = a->apply->objects;
    struct osm_world_config config = {a->apply->mesh_name, a->apply->osm_namespace};
    struct osm_world *world = osm_world_new(&config);
    struct osm_changes few = {osm_alloc_array(objects->len + 1, sizeof *few.list), 0};
    int rc = world && few.list ? 0 : no_memory(a);
    for (size_t i = 0; i < objects->len && !rc; i++) {
        struct osm_object *object = objects->list[i].now;
        bool named = osm_map_has(&a->named, object->key);
        if (named || osm_object_is(object, "", "Namespace"))
            few.list[few.len++] = objects->list[i];
        a->out->outside += named;
    }
    if (!rc && osm_world_apply(world, &few, see, a))
        rc = no_memory(a);
    osm_free(few.list);
    osm_world_free(world);
    return rc;
}

int osm_apply(const struct osm_apply *apply, const json_t *manifests, const json_t *deletes,
              struct osm_applied *out, struct osm_err *err)
{
    struct applying a = {.apply = apply, .out = out, .err = err};
    const struct osm_changes *objects = apply->objects;
    size_t i;
    const json_t *each;
    int rc = 0;
    *out = (struct osm_applied){0};
    if (manifests && !json_is_array(manifests))
        return osm_fail(err, OSM_EINVAL, other_form);
    for (i = 0; i < objects->len && !rc; i++)
        if (osm_map_put(&a.places, objects->list[i].now->key, (void *)(uintptr_t)(i + 1), NULL))
            rc = no_memory(&a);
    json_array_foreach ((json_t *)(uintptr_t)manifests, i, each)
        rc = rc ? rc : apply_manifest(&a, each);
    json_array_foreach ((json_t *)(uintptr_t)deletes, i, each)
        rc = rc ? rc : delete_one(&a, json_string_value(each) ? json_string_value(each) : "");
    if (!rc)
        rc = count_outside(&a);
    if (!rc)
        count(&a);
    if (!rc && !apply->whole)
        rc = settle(&a);
    osm_map_each (&a.named, e)
        if (e->value != &a)
            osm_object_unref(e->value);
    osm_map_clear(&a.places);
    osm_map_clear(&a.opened);
    osm_map_clear(&a.named);
    return rc;
}
