/* What is visible, and the answers over all namespaces. Every object is kept, visible or not, so
 * that a namespace can gain or lose the label without anybody reading it again; facts exist for
 * monitored namespaces only. */
#include "model/world_priv.h"

#include <stdlib.h>
#include <string.h>

#define MONITORED_BY "openservicemesh.io/monitored-by"

struct osm_world *osm_world_new(const struct osm_world_config *config)
{
    struct osm_world *world = osm_alloc(sizeof *world);
    if (!world)
        return NULL;
    world->mesh_name = osm_strdup(config->mesh_name);
    world->osm_namespace = osm_strdup(config->osm_namespace);
    world->changed = (struct osm__facts_changed){true, true, true, true, NULL, NULL};
    if (!world->mesh_name || !world->osm_namespace) {
        osm_world_free(world);
        return NULL;
    }
    return world;
}

static void free_space(struct osm__space *space)
{
    osm_map_each (&space->objects, e)
        osm_object_unref(e->value);
    osm_map_clear(&space->objects);
    osm__facts_free(space->facts);
    osm_free(space);
}

void osm_world_free(struct osm_world *world)
{
    if (!world)
        return;
    osm_map_each (&world->spaces, e)
        free_space(e->value);
    osm_map_clear(&world->spaces);
    json_decref(world->workloads);
    json_decref(world->accounts);
    osm_free(world->proxies);
    osm_free(world->doubled);
    osm_free(world->proxy_services);
    osm_free(world->mesh_name);
    osm_free(world->osm_namespace);
    osm_free(world);
}

/* --- applying a batch --- */

static int space_of(struct osm_world *world, const char *name, struct osm__space **out)
{
    struct osm__space *space = osm_map_get(&world->spaces, name);
    if (!space) {
        space = osm_alloc(sizeof *space);
        if (!space || osm_map_put(&world->spaces, name, space, NULL)) {
            osm_free(space);
            return OSM_ENOMEM;
        }
        space->objects = (struct osm_map)OSM_MAP_INIT_BORROWS;
        space->name = world->spaces.entries[world->spaces.entries_len - 1].key;
    }
    *out = space;
    return 0;
}

static bool is_namespace(const struct osm_object *object)
{
    return osm_object_is(object, "", "Namespace");
}

/* With @p next, as it will be after this batch. */
static bool is_visible(const struct osm_world *world, const struct osm_object *object, bool next)
{
    if (!object)
        return false;
    if (osm_object_is(object, "config.openservicemesh.io", "MeshConfig"))
        return !strcmp(object->ns, world->osm_namespace);
    const struct osm__space *space =
        osm_map_get(&world->spaces, is_namespace(object) ? object->name : object->ns);
    if (!space || (!*object->ns && !is_namespace(object)))
        return false;
    return next ? space->next : space->monitored;
}

static bool carries_label(const struct osm_world *world, const struct osm_object *ns)
{
    const char *mesh =
        ns ? osm_json_str_at(ns->body, "metadata", "labels", MONITORED_BY, NULL) : NULL;
    return mesh && !strcmp(mesh, world->mesh_name);
}

struct batch {
    struct osm_world *world;
    const struct osm_changes *changes;
    osm_world_visible_fn *visible;
    void *ud;
    struct osm_map keys; /* of the changes; filled only where a namespace is toggled */
    bool facts_changed;
};

static const struct osm_object *either(const struct osm_change *change)
{
    return change->now ? change->now : change->gone;
}

static void tell(struct batch *b, struct osm_object *old, struct osm_object *now)
{
    if (b->visible && (old || now))
        b->visible(b->ud, old, now);
}

/* Makes the spaces that the batch touches and finds out which are toggled. */
static int prepare(struct batch *b)
{
    bool toggled = false;
    for (size_t i = 0; i < b->changes->len; i++) {
        const struct osm_change *change = &b->changes->list[i];
        struct osm__space *space = NULL;
        int rc = space_of(b->world, either(change)->ns, &space);
        if (!rc && is_namespace(either(change))) {
            rc = space_of(b->world, either(change)->name, &space);
            if (!rc)
                space->next = carries_label(b->world, change->now);
            toggled = toggled || (!rc && space->next != space->monitored);
        }
        if (rc)
            return rc;
    }
    for (size_t i = 0; toggled && i < b->changes->len; i++) {
        const struct osm_object *object = either(&b->changes->list[i]);
        if (osm_map_put(&b->keys, object->key, b->world, NULL))
            return OSM_ENOMEM;
    }
    return 0;
}

/* The objects of a toggled namespace that this batch does not touch appear or vanish. */
static void toggle(struct batch *b, struct osm__space *space)
{
    osm_map_each (&space->objects, e) {
        struct osm_object *object = e->value;
        if (osm_map_has(&b->keys, e->key))
            continue;
        bool before = is_visible(b->world, object, false),
             after = is_visible(b->world, object, true);
        if (before != after)
            tell(b, before ? object : NULL, after ? object : NULL);
    }
    if (!space->next) {
        osm__facts_free(space->facts);
        space->facts = NULL;
    }
    b->world->changed = (struct osm__facts_changed){true, true, true, true, NULL, NULL};
    b->world->toggled = true;
    b->facts_changed = true;
}

static int apply_one(struct batch *b, const struct osm_change *change)
{
    struct osm__space *space = osm_map_get(&b->world->spaces, either(change)->ns);
    const char *key = either(change)->key;
    struct osm_object *old = osm_map_get(&space->objects, key), *now = change->now;
    int rc = 0;
    if (now) {
        rc = osm_map_put(&space->objects, key, now, NULL);
        if (!rc)
            (void)osm_object_ref(now);
    } else {
        (void)osm_map_del(&space->objects, key);
    }
    bool before = is_visible(b->world, old, false), after = is_visible(b->world, now, true);
    bool same = old && now && osm_object_same(old, now);
    bool same_status = old && now && osm_hash_equal(old->status, now->status);
    if (!rc && (before != after || (before && !(same && same_status))))
        tell(b, before ? old : NULL, after ? now : NULL);
    if (!rc && !same && space->facts && (old || now) && osm__facts_wants(either(change))) {
        b->facts_changed = true;
        rc = osm__facts_change(space->facts, old, now);
    }
    osm_object_unref(old);
    return rc;
}

static int make_facts(struct osm__space *space, struct osm__facts_changed *changed)
{
    int rc = 0;
    space->facts = osm__facts_new(space->name, changed);
    if (!space->facts)
        return OSM_ENOMEM;
    osm_map_each (&space->objects, e) {
        if (!rc && osm__facts_wants(e->value))
            rc = osm__facts_change(space->facts, NULL, e->value);
    }
    return rc;
}

int osm_world_apply(struct osm_world *world, const struct osm_changes *changes,
                    osm_world_visible_fn *visible, void *ud)
{
    struct batch b = {world, changes, visible, ud, OSM_MAP_INIT_BORROWS, false};
    int rc = prepare(&b);
    osm_map_each (&world->spaces, e) {
        struct osm__space *space = e->value;
        if (!rc && space->next != space->monitored)
            toggle(&b, space);
    }
    for (size_t i = 0; i < changes->len && !rc; i++)
        rc = apply_one(&b, &changes->list[i]);
    osm_map_each (&world->spaces, e) {
        struct osm__space *space = e->value;
        space->monitored = space->next;
        if (!rc && space->monitored && !space->facts)
            rc = make_facts(space, &world->changed);
        if (!space->monitored && !space->objects.count) {
            (void)osm_map_del(&world->spaces, e->key);
            free_space(space);
        }
    }
    osm_map_clear(&b.keys);
    world->revision += b.facts_changed;
    return rc;
}

bool osm_world_monitored(const struct osm_world *world, const char *ns)
{
    const struct osm__space *space = osm_map_get(&world->spaces, ns);
    return space && space->monitored;
}

uint64_t osm_world_revision(const struct osm_world *world)
{
    return world->revision;
}

/* --- facts of one namespace --- */

/* The linked facts of a namespace: NULL in *out where it is not monitored. */
static int linked(struct osm_world *world, const char *ns, struct osm__facts **out)
{
    const struct osm__space *space = osm_map_get(&world->spaces, ns);
    *out = space ? space->facts : NULL;
    return *out ? osm__facts_link(*out) : 0;
}

int osm__world_link(struct osm_world *world)
{
    int rc = 0;
    osm_map_each (&world->spaces, e) {
        struct osm__space *space = e->value;
        if (!rc && space->facts)
            rc = osm__facts_link(space->facts);
    }
    return rc;
}

int osm_world_settle(struct osm_world *world, osm_world_topic_fn *on_topic, void *ud)
{
    world->changed.tell = world->toggled ? NULL : on_topic;
    world->changed.ud = ud;
    int rc = osm__world_link(world);
    world->changed.tell = NULL;
    if (rc)
        return rc;
    if (world->toggled)
        on_topic(ud, OSM_WORLD_ALL, NULL, NULL);
    if (!world->toggled && world->changed.workloads)
        on_topic(ud, OSM_WORLD_WORKLOADS, NULL, NULL);
    if (!world->toggled && world->changed.accounts)
        on_topic(ud, OSM_WORLD_ACCOUNTS, NULL, NULL);
    world->toggled = false;
    return 0;
}

int osm__by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The names of the nodes in a bag, sorted; every kind of node begins with its name. osm_free. */
static const char **sorted_names(const struct osm__bag *bag)
{
    const char **names = osm_alloc_array(bag->len, sizeof *names);
    for (size_t i = 0; names && i < bag->len; i++)
        names[i] = *(const char *const *)bag->items[i];
    if (names && bag->len)
        qsort(names, bag->len, sizeof *names, osm__by_text);
    return names;
}

static json_t *names_to_json(const struct osm__bag *bag)
{
    json_t *out = json_array();
    const char **names = out ? sorted_names(bag) : NULL;
    for (size_t i = 0; names && out && i < bag->len; i++)
        if (json_array_append_new(out, json_string(names[i]))) {
            json_decref(out);
            out = NULL;
        }
    if (!names) {
        json_decref(out);
        out = NULL;
    }
    osm_free(names);
    return out;
}

json_t *osm_world_target_ports(struct osm_world *world, const char *ns, const char *service,
                               int port)
{
    struct osm__numbers numbers = {.len = 0};
    struct osm__facts *facts = NULL;
    if (linked(world, ns, &facts))
        return NULL;
    const struct osm__service_node *node = osm__facts_service(facts, service);
    const struct osm__service_port *found = node ? osm__facts_port(node, port) : NULL;
    if (found)
        osm__facts_target_ports(node, found, &numbers);
    json_t *list = json_array();
    for (size_t i = 0; list && i < numbers.len; i++)
        if (json_array_append_new(list, json_integer(numbers.list[i]))) {
            json_decref(list);
            list = NULL;
        }
    return list;
}

json_t *osm_world_accounts_behind(struct osm_world *world, const char *ns, const char *service)
{
    struct osm__facts *facts = NULL;
    if (linked(world, ns, &facts))
        return NULL;
    const struct osm__service_node *node = osm__facts_service(facts, service);
    return node ? names_to_json(&node->accounts) : json_array();
}

json_t *osm_world_services_of(struct osm_world *world, const char *ns, const char *account)
{
    struct osm__facts *facts = NULL;
    if (linked(world, ns, &facts))
        return NULL;
    const struct osm__account_node *node = facts ? osm_map_get(&facts->accounts, account) : NULL;
    return node ? names_to_json(&node->services) : json_array();
}

static int backends_of(struct osm_world *world, const char *ns, const char *service, int port,
                       bool any_port, struct osm__backend **out, size_t *n, bool *headless)
{
    struct osm__facts *facts = NULL;
    int rc = linked(world, ns, &facts);
    const struct osm__service_node *node = rc ? NULL : osm__facts_service(facts, service);
    const struct osm__service_port *found = node && !any_port ? osm__facts_port(node, port) : NULL;
    *out = NULL;
    *n = 0;
    *headless = node && node->service->headless;
    if (rc || !node || (!any_port && !found))
        return rc;
    return osm__facts_backends(facts, node, found, out, n);
}

static int by_hostname(const void *a, const void *b)
{
    const struct osm__backend *x = a, *y = b;
    int order = strcmp(x->hostname, y->hostname);
    return order ? order : strcmp(x->address, y->address);
}

json_t *osm_world_members(struct osm_world *world, const char *ns, const char *service)
{
    struct osm__backend *list = NULL;
    size_t n = 0;
    bool headless = false, failed = backends_of(world, ns, service, 0, true, &list, &n, &headless);
    json_t *out = failed ? NULL : json_array();
    if (n)
        qsort(list, n, sizeof *list, by_hostname);
    for (size_t i = 0; headless && out && i < n; i++) {
        if (!*list[i].hostname || !list[i].own)
            continue;
        json_t *member =
            json_pack("{s:s, s:s}", "hostname", list[i].hostname, "address", list[i].address);
        if (json_array_append_new(out, member)) {
            json_decref(out);
            out = NULL;
        }
    }
    osm_free(list);
    return out;
}

json_t *osm_world_addresses(struct osm_world *world, const char *ns, const char *service)
{
    struct osm__backend *list = NULL;
    size_t n = 0;
    bool headless = false, failed = backends_of(world, ns, service, 0, true, &list, &n, &headless);
    json_t *out = failed ? NULL : json_array();
    const char *last = NULL;
    for (size_t i = 0; out && i < n; i++) {
        if (!list[i].own || (last && !strcmp(list[i].address, last)))
            continue;
        last = list[i].address;
        if (json_array_append_new(out, json_string(list[i].address))) {
            json_decref(out);
            out = NULL;
        }
    }
    osm_free(list);
    return out;
}

int osm_world_endpoints(struct osm_world *world, const char *ns, const char *service, int port,
                        struct osm_endpoint **out, size_t *n)
{
    struct osm__backend *list = NULL;
    size_t len = 0, kept = 0;
    bool headless = false;
    int rc = backends_of(world, ns, service, port, false, &list, &len, &headless);
    struct osm_endpoint *endpoints = rc ? NULL : osm_alloc_array(len, sizeof *endpoints);
    if (!rc && !endpoints)
        rc = OSM_ENOMEM;
    for (size_t i = 0; i < len && !rc; i++) {
        struct osm_endpoint *last = kept ? &endpoints[kept - 1] : NULL;
        if (!last || strcmp(last->address, list[i].address) != 0 || last->port != list[i].port)
            endpoints[kept++] =
                (struct osm_endpoint){list[i].address, list[i].account, list[i].port};
        else if (!*last->account) /* the same endpoint under two host names */
            last->account = list[i].account;
    }
    osm_free(list);
    if (rc)
        return rc;
    *out = endpoints;
    *n = kept;
    return 0;
}

/* --- facts over all namespaces --- */

static int add_workloads(json_t *out, const struct osm__space *space)
{
    size_t n = 0;
    const char **services = osm_map_sorted_keys(&space->facts->services, &n);
    int rc = services ? 0 : OSM_ENOMEM;
    for (size_t i = 0; i < n && !rc; i++) {
        const struct osm__service_node *node = osm_map_get(&space->facts->services, services[i]);
        const char **accounts = sorted_names(&node->accounts);
        rc = accounts ? 0 : OSM_ENOMEM;
        for (size_t j = 0; j < node->accounts.len && !rc; j++)
            if (json_array_append_new(out,
                                      json_pack("[sss]", space->name, node->name, accounts[j])))
                rc = OSM_ENOMEM;
        osm_free(accounts);
    }
    osm_free(services);
    return rc;
}

static int add_accounts(json_t *out, const struct osm__space *space)
{
    size_t n = 0;
    const char **accounts = osm_map_sorted_keys(&space->facts->accounts, &n);
    int rc = accounts ? 0 : OSM_ENOMEM;
    for (size_t i = 0; i < n && !rc; i++) {
        const struct osm__account_node *node = osm_map_get(&space->facts->accounts, accounts[i]);
        if (node->sidecars &&
            json_array_append_new(out, json_pack("[ss]", space->name, node->name)))
            rc = OSM_ENOMEM;
    }
    osm_free(accounts);
    return rc;
}

/* Answers from *kept, which is made anew where *changed. */
static json_t *answer(struct osm_world *world, json_t **kept, bool *changed,
                      int (*add)(json_t *out, const struct osm__space *space))
{
    size_t n = 0;
    if (osm__world_link(world))
        return NULL;
    if (!*changed && *kept)
        return json_incref(*kept);
    json_t *out = json_array();
    const char **names = osm_map_sorted_keys(&world->spaces, &n);
    int rc = out && names ? 0 : OSM_ENOMEM;
    for (size_t i = 0; i < n && !rc; i++) {
        const struct osm__space *space = osm_map_get(&world->spaces, names[i]);
        if (space->facts)
            rc = add(out, space);
    }
    osm_free(names);
    if (rc) {
        json_decref(out);
        return NULL;
    }
    json_decref(*kept);
    *kept = out;
    *changed = false;
    return json_incref(out);
}

json_t *osm_world_workloads(struct osm_world *world)
{
    return answer(world, &world->workloads, &world->changed.workloads, add_workloads);
}

json_t *osm_world_accounts(struct osm_world *world)
{
    return answer(world, &world->accounts, &world->changed.accounts, add_accounts);
}
