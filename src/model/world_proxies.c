/* Who has a sidecar, and what of the objects nothing is derived from. */
#include "model/world_priv.h"

#include <stdlib.h>
#include <string.h>

static int by_key(const void *a, const void *b)
{
    return strcmp(((const struct osm_world_proxy *)a)->key,
                  ((const struct osm_world_proxy *)b)->key);
}

static bool has_sidecar(const struct osm__pod_node *node)
{
    return node->pod && *node->pod->key && !node->pod->over;
}

static void count_proxies(const struct osm_world *world, size_t *proxies, size_t *services)
{
    osm_map_each (&world->spaces, s) {
        const struct osm__facts *facts = ((const struct osm__space *)s->value)->facts;
        if (!facts)
            continue;
        osm_map_each (&facts->pods, p) {
            const struct osm__pod_node *node = p->value;
            *proxies += has_sidecar(node);
            *services += has_sidecar(node) ? node->services.len : 0;
        }
    }
}

static void add_proxies(struct osm_world *world, const struct osm__space *space,
                        const char ***services)
{
    osm_map_each (&space->facts->pods, p) {
        const struct osm__pod_node *node = p->value;
        if (!has_sidecar(node))
            continue;
        for (size_t i = 0; i < node->services.len; i++)
            (*services)[i] = ((const struct osm__service_node *)node->services.items[i])->name;
        if (node->services.len)
            qsort(*services, node->services.len, sizeof **services, osm__by_text);
        world->proxies[world->proxies_len++] = (struct osm_world_proxy){
            .key = node->pod->key,
            .pod = node->name,
            .ns = space->name,
            .account = node->pod->account,
            .services = *services,
            .services_len = node->services.len,
            .object = node->pod->object,
        };
        *services += node->services.len;
    }
}

static void set_doubled_aside(struct osm_world *world)
{
    size_t n = 0, before = world->doubled_len;
    world->doubled_len = 0;
    for (size_t i = 0, next; i < world->proxies_len; i = next) {
        for (next = i + 1; next < world->proxies_len; next++)
            if (strcmp(world->proxies[i].key, world->proxies[next].key) != 0)
                break;
        if (next == i + 1)
            world->proxies[n++] = world->proxies[i];
        else
            for (size_t k = i; k < next; k++)
                world->doubled[world->doubled_len++] = world->proxies[k];
    }
    world->proxies_len = n;
    world->changed.reports = world->changed.reports || before || world->doubled_len;
}

const struct osm_world_proxy *osm_world_proxies(struct osm_world *world, size_t *n)
{
    size_t proxies = 0, services = 0;
    *n = 0;
    if (osm__world_link(world))
        return NULL;
    if (!world->changed.proxies && world->proxies) {
        *n = world->proxies_len;
        return world->proxies;
    }
    count_proxies(world, &proxies, &services);
    osm_free(world->proxies);
    osm_free(world->doubled);
    osm_free(world->proxy_services);
    world->proxies_len = 0;
    world->proxies = osm_alloc_array(proxies, sizeof *world->proxies);
    world->doubled = osm_alloc_array(proxies, sizeof *world->doubled);
    world->proxy_services = osm_alloc_array(services, sizeof *world->proxy_services);
    if (!world->proxies || !world->doubled || !world->proxy_services) {
        osm_free(osm_take_ptr(&world->proxies));
        osm_free(osm_take_ptr(&world->doubled));
        osm_free(osm_take_ptr(&world->proxy_services));
        world->doubled_len = 0;
        return NULL;
    }
    const char **next = world->proxy_services;
    osm_map_each (&world->spaces, s) {
        if (((const struct osm__space *)s->value)->facts)
            add_proxies(world, s->value, &next);
    }
    if (world->proxies_len)
        qsort(world->proxies, world->proxies_len, sizeof *world->proxies, by_key);
    set_doubled_aside(world);
    world->changed.proxies = false;
    *n = world->proxies_len;
    return world->proxies;
}

bool osm_world_proxies_changed(const struct osm_world *world)
{
    return world->changed.proxies || !world->proxies;
}

/* --- reports --- */

bool osm_world_reports_changed(const struct osm_world *world)
{
    return world->changed.reports;
}

static int add_report(json_t *out, const struct osm_object *object, const char *path,
                      const char *reason)
{
    char *label =
        osm_strf("%s %s%s%s", object->kind, object->ns, *object->ns ? "/" : "", object->name);
    json_t *report = label ? json_pack("{s:s, s:s, s:s, s:s, s:s}", "object", label, "path", path,
                                       "reason", reason, "origin", object->origin, "by", "the host")
                           : NULL;
    osm_free(label);
    return json_array_append_new(out, report);
}

json_t *osm_world_reports(struct osm_world *world)
{
    json_t *out = json_array();
    int rc = out ? 0 : -1;
    osm_map_each (&world->spaces, s) {
        const struct osm__facts *facts = ((const struct osm__space *)s->value)->facts;
        if (facts)
            osm_map_each (&facts->malformed, e)
                rc |= add_report(out, e->value, "",
                                 "is malformed: nothing is derived from it, as if it were absent");
    }
    for (size_t i = 0; !rc && i < world->doubled_len; i++)
        rc |= add_report(out, world->doubled[i].object, "metadata.labels.osm-proxy-uuid",
                         "is that of another pod of the namespace, too: none of them is served");
    world->changed.reports = world->changed.reports && rc;
    if (!rc)
        return out;
    json_decref(out);
    return NULL;
}
