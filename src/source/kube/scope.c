/* What the sink is told of: objects of namespaces that are in the mesh, of the mesh's own, and of
 * the cluster. A cluster may have a hundred times more; nobody reads that (the world shows none of
 * it to policies), so it is kept packed: a namespace that joins is there at once, without a
 * request.
 *
 *   a namespace joins --open--> told put      one leaves --> told gone --pack--> kept
 *
 * What the reflector keeps with an object is a struct osm__kube_held: the object, where the sink
 * has it, or the packed one. */
#include "source/kube/kube_priv.h"

#include "base/log.h"

#include <string.h>

static const char MONITORED_BY[] = "openservicemesh.io/monitored-by";

/* Values of the map of namespaces. */
static char joined, half_joined; /* without memory for all its objects */

struct osm__kube_held {
    struct osm_object *object; /* the sink has it; NULL: packed */
    struct osm_packed *packed;
};

static bool has(const struct kube *s, const char *ns)
{
    return !*ns || !strcmp(ns, s->osm_namespace) || osm_map_has(&s->joined, ns);
}

static void tell(struct kube *s, struct osm_object *object)
{
    s->objects++;
    s->generation++;
    s->sink.put(s->sink.ud, osm_object_ref(object));
}

static void tell_gone(struct kube *s, const struct osm_object *object)
{
    s->objects--;
    s->generation++;
    if (!s->stopping)
        s->sink.gone(s->sink.ud, object->key);
}

/* --- one object --- */

int osm__held_put(struct osm__kube_kind *k, struct osm_object *object, void **data)
{
    struct kube *s = k->source;
    struct osm__kube_held *held = *data;
    struct osm_packed *packed = NULL;
    bool inside = has(s, object->ns);
    if (!inside && osm_packed_new(&packed, object))
        return OSM_ENOMEM;
    if (!held)
        held = osm_alloc(sizeof *held);
    if (!held) {
        osm_packed_unref(packed);
        return OSM_ENOMEM;
    }
    *data = held;
    struct osm_object *old = osm_take_ptr(&held->object);
    s->outside -= held->packed != NULL;
    s->outside += packed != NULL;
    osm_packed_unref(held->packed);
    held->packed = packed;
    if (inside) {
        s->objects -= old != NULL;
        held->object = osm_object_ref(object);
        tell(s, object);
    } else if (old) {
        tell_gone(s, old);
    }
    osm_object_unref(old);
    return 0;
}

void osm__held_drop(struct osm__kube_kind *k, void *data)
{
    struct osm__kube_held *held = data;
    if (!held)
        return;
    if (held->object)
        tell_gone(k->source, held->object);
    k->source->outside -= held->packed != NULL;
    osm_object_unref(held->object);
    osm_packed_unref(held->packed);
    osm_free(held);
}

/* --- namespaces --- */

static bool is_in(const char *id, const char *ns)
{
    size_t len = strlen(ns);
    return !strncmp(id, ns, len) && id[len] == '/';
}

static int open_one(struct kube *s, struct osm__kube_held *held)
{
    struct osm_object *object = NULL;
    if (!held || !held->packed)
        return 0;
    if (osm_packed_open(&object, held->packed))
        return OSM_ENOMEM;
    held->object = object;
    osm_packed_unref(osm_take_ptr(&held->packed));
    s->outside--;
    tell(s, object);
    return 0;
}

static int pack_one(struct kube *s, struct osm__kube_held *held)
{
    if (!held || !held->object)
        return 0;
    if (osm_packed_new(&held->packed, held->object))
        return OSM_ENOMEM;
    struct osm_object *object = osm_take_ptr(&held->object);
    s->outside++;
    tell_gone(s, object);
    osm_object_unref(object);
    return 0;
}

/* Of all kinds. Errors: OSM_ENOMEM, of some. */
static int each_of(struct kube *s, const char *ns,
                   int (*one)(struct kube *s, struct osm__kube_held *held))
{
    int rc = 0;
    for (size_t i = 0; i < s->kinds_len; i++) {
        osm_map_each (&s->kinds[i]->reflector.known, e) {
            struct osm_reflector_known *known = e->value;
            if (is_in(e->key, ns) && one(s, known->data))
                rc = OSM_ENOMEM;
        }
    }
    return rc;
}

static void join(struct kube *s, const char *ns)
{
    if (osm_map_get(&s->joined, ns) == &joined)
        return;
    int rc = osm_map_put(&s->joined, ns, &half_joined, NULL);
    if (!rc)
        rc = each_of(s, ns, open_one);
    if (!rc)
        rc = osm_map_put(&s->joined, ns, &joined, NULL);
    if (rc)
        osm_log(OSM_LOG_SOURCE, OSM_LOG_ERROR,
                "objects of a namespace are not served: out of memory", OSM_S("ns", ns));
}

static void leave(struct kube *s, const char *ns)
{
    if (!osm_map_has(&s->joined, ns))
        return;
    (void)osm_map_del(&s->joined, ns);
    if (strcmp(ns, s->osm_namespace) != 0 && each_of(s, ns, pack_one))
        osm_log(OSM_LOG_SOURCE, OSM_LOG_WARN, "objects of a namespace that left stay in memory",
                OSM_S("ns", ns));
}

void osm__scope_namespace(struct kube *s, const char *name, const json_t *body)
{
    const char *mesh = osm_json_str_at(body, "metadata", "labels", MONITORED_BY, NULL);
    if (s->stopping) /* nobody is told any more, and everything goes */
        return;
    if (mesh && !strcmp(mesh, s->mesh_name))
        join(s, name);
    else
        leave(s, name);
}

/* --- what is kept back --- */

struct osm_outside *osm__scope_outside(const struct kube *s)
{
    struct osm_outside *out = osm_alloc(sizeof *out);
    struct osm_packed **list = osm_alloc_array(s->outside + 1, sizeof *list);
    if (!out || !list) {
        osm_free(out);
        osm_free(list);
        return NULL;
    }
    out->list = list;
    for (size_t i = 0; i < s->kinds_len; i++) {
        osm_map_each (&s->kinds[i]->reflector.known, e) {
            const struct osm_reflector_known *known = e->value;
            const struct osm__kube_held *held = known->data;
            if (held && held->packed && out->len < s->outside)
                list[out->len++] = osm_packed_ref(held->packed);
        }
    }
    return out;
}
