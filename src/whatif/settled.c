#include "whatif/settled.h"

#include "base/json.h"
#include "base/map.h"
#include "base/mem.h"

#include <string.h>

static const char OF_SERVICE[] = "kubernetes.io/service-name";
static const char MANAGED_BY[] = "endpointslice.kubernetes.io/managed-by";
static const char CONTROLLER[] = "endpointslice-controller.k8s.io";

/* What is to be done with the endpoints of a Service; values of a map by "NAMESPACE/NAME". */
static char derive, keep;

/* Borrowed; "" where there is none. */
static const char *label_of(const struct osm_object *o, const char *label)
{
    const char *text = osm_json_str_at(o->body, "metadata", "labels", label, NULL);
    return text ? text : "";
}

static bool selects(const json_t *selector, const struct osm_object *pod)
{
    const char *key;
    json_t *value;
    json_object_foreach ((json_t *)(uintptr_t)selector, key, value) {
        const char *text = osm_json_str_at(pod->body, "metadata", "labels", key, NULL);
        if (!text || !json_is_string(value) || strcmp(text, json_string_value(value)) != 0)
            return false;
    }
    return true;
}

/* Whether the change is one of the Service's endpoints. */
static bool moves(const struct osm_settled_pair *pair, const struct osm_object *service,
                  const json_t *selector)
{
    const struct osm_object *either = pair->now ? pair->now : pair->before;
    if (strcmp(either->ns, service->ns) != 0)
        return false;
    if (!osm_object_is(either, "", "Pod"))
        return osm_object_is(either, "", "Service") && !strcmp(either->name, service->name);
    return (pair->before && selects(selector, pair->before)) ||
           (pair->now && selects(selector, pair->now));
}

static int set(struct osm_map *services, const char *ns, const char *name, void *what)
{
    char *key = osm_strf("%s/%s", ns, name);
    int rc = key ? osm_map_put(services, key, what, NULL) : OSM_ENOMEM;
    osm_free(key);
    return rc ? OSM_ENOMEM : 0;
}

static const void *get(const struct osm_map *services, const char *ns, const char *name)
{
    char *key = osm_strf("%s/%s", ns, name);
    const void *what = key ? osm_map_get(services, key) : NULL;
    osm_free(key);
    return what;
}

static int find_services(struct osm_map *services, const struct osm_changes *objects,
                         const struct osm_settled_pair *pairs, size_t n)
{
    int rc = 0;
    for (size_t i = 0; i < objects->len && !rc; i++) {
        const struct osm_object *o = objects->list[i].now;
        const json_t *selector =
            osm_object_is(o, "", "Service") ? osm_json_at(o->body, "spec", "selector", NULL) : NULL;
        bool moved = false;
        for (size_t k = 0; k < n && json_object_size(selector) && !moved; k++)
            moved = moves(&pairs[k], o, selector);
        if (moved)
            rc = set(services, o->ns, o->name, &derive);
    }
    return rc;
}

static bool is_slice(const struct osm_object *o)
{
    return osm_object_is(o, "discovery.k8s.io", "EndpointSlice");
}

/* Of a Service to which somebody else adds slices nothing can be derived. */
static int find_others(struct osm_map *services, const struct osm_changes *objects)
{
    int rc = 0;
    for (size_t i = 0; i < objects->len && !rc; i++) {
        const struct osm_object *o = objects->list[i].now;
        if (is_slice(o) && strcmp(label_of(o, MANAGED_BY), CONTROLLER) != 0 &&
            get(services, o->ns, label_of(o, OF_SERVICE)))
            rc = set(services, o->ns, label_of(o, OF_SERVICE), &keep);
    }
    return rc;
}

int osm_settled_endpoints(struct osm_changes *objects, const struct osm_settled_pair *pairs,
                          size_t n)
{
    struct osm_map services = OSM_MAP_INIT;
    size_t left = 0;
    int rc = find_services(&services, objects, pairs, n);
    if (!rc && services.count)
        rc = find_others(&services, objects);
    for (size_t i = 0; i < objects->len && !rc && services.count; i++) {
        struct osm_object *o = objects->list[i].now;
        const char *service = is_slice(o)                         ? label_of(o, OF_SERVICE)
                              : osm_object_is(o, "", "Endpoints") ? o->name
                                                                  : NULL;
        if (service && get(&services, o->ns, service) == &derive)
            osm_object_unref(o);
        else
            objects->list[left++] = objects->list[i];
    }
    if (!rc && services.count)
        objects->len = left;
    osm_map_clear(&services);
    return rc;
}
