#include "model/facts.h"

#include "base/log.h"

#include <string.h>

/* --- bags --- */

static int bag_add(struct osm__bag *bag, void *item)
{
    if (bag->len == bag->cap) {
        size_t cap = bag->cap ? bag->cap * 2 : 2;
        void **items = osm_realloc_array(bag->items, cap, sizeof *items);
        if (!items)
            return OSM_ENOMEM;
        bag->items = items;
        bag->cap = cap;
    }
    bag->items[bag->len++] = item;
    return 0;
}

static void bag_del(struct osm__bag *bag, const void *item)
{
    for (size_t i = 0; i < bag->len; i++)
        if (bag->items[i] == item) {
            bag->items[i] = bag->items[--bag->len];
            return;
        }
}

static void bag_clear(struct osm__bag *bag)
{
    osm_free(bag->items);
    *bag = (struct osm__bag){NULL, 0, 0};
}

/* --- indexes: name -> bag --- */

static int index_add(struct osm_map *index, const char *key, void *item)
{
    struct osm__bag *bag = osm_map_get(index, key);
    if (!bag) {
        bag = osm_alloc(sizeof *bag);
        if (!bag || osm_map_put(index, key, bag, NULL)) {
            osm_free(bag);
            return OSM_ENOMEM;
        }
    }
    return bag_add(bag, item);
}

static void index_del(struct osm_map *index, const char *key, const void *item)
{
    struct osm__bag *bag = osm_map_get(index, key);
    if (!bag)
        return;
    bag_del(bag, item);
    if (!bag->len) {
        (void)osm_map_del(index, key);
        bag_clear(bag);
        osm_free(bag);
    }
}

static void index_clear(struct osm_map *index)
{
    osm_map_each (index, e) {
        bag_clear(e->value);
        osm_free(e->value);
    }
    osm_map_clear(index);
}

static char *label_key(const struct osm__label *label)
{
    return osm_strf("%s=%s", label->key, label->value);
}

/* --- nodes --- */

/* The address of a map's own copy of a key, which outlives the caller's text. */
static const char *own_key(const struct osm_map *map)
{
    return map->entries[map->entries_len - 1].key;
}

#define NODE_GET(type, map, key, out)                                                              \
    do {                                                                                           \
        *(out) = osm_map_get((map), (key));                                                        \
        if (!*(out)) {                                                                             \
            struct type *fresh_ = osm_alloc(sizeof *fresh_);                                       \
            if (!fresh_ || osm_map_put((map), (key), fresh_, NULL)) {                              \
                osm_free(fresh_);                                                                  \
                return OSM_ENOMEM;                                                                 \
            }                                                                                      \
            fresh_->name = own_key(map);                                                           \
            *(out) = fresh_;                                                                       \
        }                                                                                          \
    } while (0)

static int pod_node(struct osm__facts *facts, const char *name, struct osm__pod_node **out)
{
    NODE_GET(osm__pod_node, &facts->pods, name, out);
    return 0;
}

static int service_node(struct osm__facts *facts, const char *name, struct osm__service_node **out)
{
    NODE_GET(osm__service_node, &facts->services, name, out);
    return 0;
}

static int account_node(struct osm__facts *facts, const char *name, struct osm__account_node **out)
{
    NODE_GET(osm__account_node, &facts->accounts, name, out);
    return 0;
}

static int mention_node(struct osm__facts *facts, const char *name, struct osm__mention_node **out)
{
    NODE_GET(osm__mention_node, &facts->mentions, name, out);
    return 0;
}

static void drop_pod_node(struct osm__facts *facts, struct osm__pod_node *node)
{
    if (node->pod || node->services.len)
        return;
    (void)osm_map_del(&facts->pods, node->name);
    bag_clear(&node->services);
    osm_free(node);
}

static void drop_account_node(struct osm__facts *facts, struct osm__account_node *node)
{
    if (node->sidecars || node->services.len)
        return;
    (void)osm_map_del(&facts->accounts, node->name);
    bag_clear(&node->services);
    osm_free(node);
}

static void drop_mention_node(struct osm__facts *facts, struct osm__mention_node *node)
{
    if (node->services.len)
        return;
    (void)osm_map_del(&facts->mentions, node->name);
    bag_clear(&node->services);
    osm_free(node);
}

static void free_service_node(struct osm__service_node *node)
{
    osm__service_free(node->service);
    osm__slices_free(node->endpoints);
    bag_clear(&node->slices);
    bag_clear(&node->pods);
    bag_clear(&node->accounts);
    bag_clear(&node->mentions);
    osm_free(node);
}

struct osm__facts *osm__facts_new(const char *ns, struct osm__facts_changed *changed)
{
    struct osm__facts *facts = osm_alloc(sizeof *facts);
    if (!facts)
        return NULL;
    facts->ns = ns;
    facts->changed = changed;
    return facts;
}

void osm__facts_free(struct osm__facts *facts)
{
    if (!facts)
        return;
    osm_map_each (&facts->pods, e) {
        struct osm__pod_node *node = e->value;
        osm__pod_free(node->pod);
        bag_clear(&node->services);
        osm_free(node);
    }
    osm_map_each (&facts->accounts, e) {
        bag_clear(&((struct osm__account_node *)e->value)->services);
        osm_free(e->value);
    }
    osm_map_each (&facts->mentions, e) {
        bag_clear(&((struct osm__mention_node *)e->value)->services);
        osm_free(e->value);
    }
    osm_map_each (&facts->services, e)
        free_service_node(e->value);
    osm_map_each (&facts->slices, e)
        osm__slices_free(e->value);
    osm_map_each (&facts->malformed, e)
        osm_object_unref(e->value);
    osm_map_clear(&facts->malformed);
    osm_map_clear(&facts->pods);
    osm_map_clear(&facts->accounts);
    osm_map_clear(&facts->mentions);
    osm_map_clear(&facts->services);
    osm_map_clear(&facts->slices);
    index_clear(&facts->pods_by_label);
    index_clear(&facts->services_by_label);
    index_clear(&facts->pods_by_ip);
    bag_clear(&facts->marked);
    osm_free(facts);
}

/* --- marking --- */

static int mark(struct osm__facts *facts, struct osm__service_node *node)
{
    if (node->marked)
        return 0;
    int rc = bag_add(&facts->marked, node);
    node->marked = !rc;
    return rc;
}

static int mark_mentioned(struct osm__facts *facts, const char *form, const char *name)
{
    char *key = osm_strf(form, name);
    if (!key)
        return OSM_ENOMEM;
    const struct osm__mention_node *mention = osm_map_get(&facts->mentions, key);
    int rc = 0;
    for (size_t i = 0; mention && i < mention->services.len && !rc; i++)
        rc = mark(facts, mention->services.items[i]);
    osm_free(key);
    return rc;
}

/* Marks the services that select this pod or whose endpoints name it. */
static int mark_around(struct osm__facts *facts, const struct osm__pod *pod)
{
    int rc = mark_mentioned(facts, "p/%s", pod->name);
    if (!rc && *pod->ip)
        rc = mark_mentioned(facts, "a/%s", pod->ip);
    for (size_t i = 0; i < pod->labels.len && !rc; i++) {
        char *key = label_key(&pod->labels.list[i]);
        const struct osm__bag *bag = key ? osm_map_get(&facts->services_by_label, key) : NULL;
        rc = key ? 0 : OSM_ENOMEM;
        for (size_t j = 0; bag && j < bag->len && !rc; j++) {
            struct osm__service_node *node = bag->items[j];
            if (osm__selects(&node->service->selector, &pod->labels))
                rc = mark(facts, node);
        }
        osm_free(key);
    }
    return rc;
}

/* --- changes --- */

static int say_malformed(struct osm__facts *facts, struct osm_object *object)
{
    void *before = NULL;
    osm_log(OSM_LOG_MODEL, OSM_LOG_WARN,
            "object is malformed; what is derived from it leaves it out", OSM_S("obj", object->key),
            OSM_S("origin", object->origin));
    if (osm_map_put(&facts->malformed, object->key, osm_object_ref(object), &before)) {
        osm_object_unref(object);
        return OSM_ENOMEM;
    }
    osm_object_unref(before);
    facts->changed->reports = true;
    return 0;
}

/* Turns "malformed" into "absent". */
static int absent_if_malformed(struct osm__facts *facts, int rc, struct osm_object *object)
{
    return rc == OSM_EINVAL ? say_malformed(facts, object) : rc;
}

static void forget_malformed(struct osm__facts *facts, const struct osm_object *old)
{
    struct osm_object *object = old ? osm_map_del(&facts->malformed, old->key) : NULL;
    facts->changed->reports = facts->changed->reports || object;
    osm_object_unref(object);
}

/* Enters a pod into the indexes, or takes it out of them. */
static int index_pod(struct osm__facts *facts, struct osm__pod_node *node, bool enter)
{
    const struct osm__pod *pod = node->pod;
    int rc = 0;
    for (size_t i = 0; i < pod->labels.len && !rc; i++) {
        char *key = label_key(&pod->labels.list[i]);
        if (!key)
            rc = OSM_ENOMEM;
        else if (enter)
            rc = index_add(&facts->pods_by_label, key, node);
        else
            index_del(&facts->pods_by_label, key, node);
        osm_free(key);
    }
    if (!rc && *pod->ip && enter)
        rc = index_add(&facts->pods_by_ip, pod->ip, node);
    else if (*pod->ip && !enter)
        index_del(&facts->pods_by_ip, pod->ip, node);
    if (rc || !*pod->key || pod->over)
        return rc;

    struct osm__account_node *account = NULL;
    rc = account_node(facts, pod->account, &account);
    if (rc)
        return rc;
    facts->changed->proxies = true;
    if (enter ? !account->sidecars++ : !--account->sidecars)
        facts->changed->accounts = true;
    drop_account_node(facts, account);
    return 0;
}

static int change_pod(struct osm__facts *facts, const char *name, struct osm_object *now)
{
    struct osm__pod_node *node = NULL;
    struct osm__pod *pod = NULL;
    int rc = now ? absent_if_malformed(facts, osm__pod_read(&pod, now), now) : 0;
    if (!rc)
        rc = pod_node(facts, name, &node);
    if (rc) {
        osm__pod_free(pod);
        return rc;
    }
    if (node->pod) {
        rc = mark_around(facts, node->pod);
        if (!rc)
            rc = index_pod(facts, node, false);
        osm__pod_free(node->pod);
    }
    node->pod = pod;
    if (pod && !rc)
        rc = mark_around(facts, pod);
    if (pod && !rc)
        rc = index_pod(facts, node, true);
    drop_pod_node(facts, node);
    return rc;
}

static int index_service(struct osm__facts *facts, struct osm__service_node *node, bool enter)
{
    if (!node->service || !node->service->selector.len)
        return 0;
    char *key = label_key(&node->service->selector.list[0]);
    int rc = key ? 0 : OSM_ENOMEM;
    if (!rc && enter)
        rc = index_add(&facts->services_by_label, key, node);
    else if (!rc)
        index_del(&facts->services_by_label, key, node);
    osm_free(key);
    return rc;
}

static int change_service(struct osm__facts *facts, const char *name, struct osm_object *now)
{
    struct osm__service_node *node = NULL;
    struct osm__service *service = NULL;
    int rc = now ? absent_if_malformed(facts, osm__service_read(&service, now), now) : 0;
    if (!rc)
        rc = service_node(facts, name, &node);
    if (rc) {
        osm__service_free(service);
        return rc;
    }
    rc = index_service(facts, node, false);
    osm__service_free(node->service);
    node->service = service;
    if (!rc)
        rc = index_service(facts, node, true);
    return rc ? rc : mark(facts, node);
}

static int change_endpoints(struct osm__facts *facts, const char *name, struct osm_object *now)
{
    struct osm__service_node *node = NULL;
    struct osm__slices *slices = NULL;
    int rc = now ? absent_if_malformed(facts, osm__endpoints_read(&slices, now), now) : 0;
    if (!rc)
        rc = service_node(facts, name, &node);
    if (rc) {
        osm__slices_free(slices);
        return rc;
    }
    osm__slices_free(node->endpoints);
    node->endpoints = slices;
    return mark(facts, node);
}

static int change_endpoint_slice(struct osm__facts *facts, const char *name, struct osm_object *now)
{
    struct osm__service_node *node = NULL;
    struct osm__slices *slices = NULL;
    int rc = now ? absent_if_malformed(facts, osm__endpoint_slice_read(&slices, now), now) : 0;
    if (rc)
        return rc;
    struct osm__slices *old = osm_map_del(&facts->slices, name);
    if (old) {
        rc = service_node(facts, old->service, &node);
        if (!rc) {
            bag_del(&node->slices, old);
            rc = mark(facts, node);
        }
        osm__slices_free(old);
    }
    if (rc || !slices || !*slices->service) {
        osm__slices_free(slices);
        return rc;
    }
    rc = service_node(facts, slices->service, &node);
    if (!rc)
        rc = osm_map_put(&facts->slices, name, slices, NULL);
    if (rc) {
        osm__slices_free(slices);
        return rc;
    }
    rc = bag_add(&node->slices, slices);
    return rc ? rc : mark(facts, node);
}

typedef int change_fn(struct osm__facts *facts, const char *name, struct osm_object *now);

static change_fn *change_of(const struct osm_object *object)
{
    static const struct {
        const char *group, *kind;
        change_fn *change;
    } table[] = {
        {"", "Pod", change_pod},
        {"", "Service", change_service},
        {"", "Endpoints", change_endpoints},
        {"discovery.k8s.io", "EndpointSlice", change_endpoint_slice},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (osm_object_is(object, table[i].group, table[i].kind))
            return table[i].change;
    return NULL;
}

bool osm__facts_wants(const struct osm_object *object)
{
    return change_of(object) != NULL;
}

int osm__facts_change(struct osm__facts *facts, const struct osm_object *old,
                      struct osm_object *now)
{
    const struct osm_object *either = now ? now : old;
    forget_malformed(facts, old);
    return change_of(either)(facts, either->name, now);
}

/* --- linking --- */

const struct osm__slices *osm__facts_slices(const struct osm__service_node *node, size_t i)
{
    if (node->slices.len)
        return i < node->slices.len ? node->slices.items[i] : NULL;
    return i == 0 ? node->endpoints : NULL;
}

static int link_pod(struct osm__facts *facts, struct osm__service_node *service,
                    struct osm__pod_node *node)
{
    struct osm__account_node *account = NULL;
    if (!node || !node->pod || node->pod->over || node->mark == facts->mark)
        return 0;
    node->mark = facts->mark;
    int rc = bag_add(&service->pods, node);
    if (!rc)
        rc = bag_add(&node->services, service);
    if (!rc)
        rc = account_node(facts, node->pod->account, &account);
    if (rc || account->mark == facts->mark)
        return rc;
    account->mark = facts->mark;
    rc = bag_add(&service->accounts, account);
    return rc ? rc : bag_add(&account->services, service);
}

static int link_mention(struct osm__facts *facts, struct osm__service_node *service,
                        const struct osm__endpoint *endpoint)
{
    struct osm__mention_node *node = NULL;
    char *key = *endpoint->pod ? osm_strf("p/%s", endpoint->pod) : osm_strf("a/%s", endpoint->ip);
    int rc = key ? mention_node(facts, key, &node) : OSM_ENOMEM;
    osm_free(key);
    if (rc || node->mark == facts->mark)
        return rc;
    node->mark = facts->mark;
    rc = bag_add(&service->mentions, node);
    return rc ? rc : bag_add(&node->services, service);
}

static int link_selected(struct osm__facts *facts, struct osm__service_node *service)
{
    const struct osm__labels *selector = &service->service->selector;
    const struct osm__bag *least = NULL;
    for (size_t i = 0; i < selector->len; i++) {
        char *key = label_key(&selector->list[i]);
        if (!key)
            return OSM_ENOMEM;
        const struct osm__bag *bag = osm_map_get(&facts->pods_by_label, key);
        osm_free(key);
        if (!bag)
            return 0;
        if (!least || bag->len < least->len)
            least = bag;
    }
    int rc = 0;
    for (size_t i = 0; least && i < least->len && !rc; i++) {
        struct osm__pod_node *node = least->items[i];
        if (osm__selects(selector, &node->pod->labels))
            rc = link_pod(facts, service, node);
    }
    return rc;
}

static int link_named(struct osm__facts *facts, struct osm__service_node *service)
{
    const struct osm__slices *slices;
    int rc = 0;
    for (size_t i = 0; (slices = osm__facts_slices(service, i)); i++)
        for (size_t j = 0; j < slices->len; j++)
            for (size_t k = 0; k < slices->list[j].endpoints_len && !rc; k++) {
                const struct osm__endpoint *endpoint = &slices->list[j].endpoints[k];
                rc = link_mention(facts, service, endpoint);
                if (!rc)
                    rc = link_pod(facts, service, osm__facts_endpoint_pod(facts, endpoint));
            }
    return rc;
}

static void tell(const struct osm__facts *facts, const char *name)
{
    if (facts->changed->tell)
        facts->changed->tell(facts->changed->ud, OSM_WORLD_NAMED, facts->ns, name);
}

static void tell_all(const struct osm__facts *facts, const struct osm__bag *nodes)
{
    for (size_t i = 0; i < nodes->len; i++)
        tell(facts, *(const char *const *)nodes->items[i]); /* every node begins with its name */
}

/* Takes down a service's links and sets them anew. Nodes that end up without links go last, so that
 * old and new can be compared by address. */
static int link_service(struct osm__facts *facts, struct osm__service_node *service)
{
    struct osm__bag pods = service->pods, accounts = service->accounts,
                    mentions = service->mentions;
    service->pods = service->accounts = service->mentions = (struct osm__bag){NULL, 0, 0};
    for (size_t i = 0; i < pods.len; i++)
        bag_del(&((struct osm__pod_node *)pods.items[i])->services, service);
    for (size_t i = 0; i < accounts.len; i++)
        bag_del(&((struct osm__account_node *)accounts.items[i])->services, service);
    for (size_t i = 0; i < mentions.len; i++)
        bag_del(&((struct osm__mention_node *)mentions.items[i])->services, service);

    facts->mark++;
    int rc = service->service ? link_selected(facts, service) : 0;
    if (!rc && service->service)
        rc = link_named(facts, service);

    bool same_pods = pods.len == service->pods.len,
         same_accounts = accounts.len == service->accounts.len;
    for (size_t i = 0; i < pods.len; i++)
        same_pods = same_pods && ((struct osm__pod_node *)pods.items[i])->mark == facts->mark;
    for (size_t i = 0; i < accounts.len; i++)
        same_accounts =
            same_accounts && ((struct osm__account_node *)accounts.items[i])->mark == facts->mark;
    facts->changed->proxies = facts->changed->proxies || !same_pods;
    facts->changed->workloads = facts->changed->workloads || !same_accounts;
    tell(facts, service->name);
    tell_all(facts, &accounts);
    tell_all(facts, &service->accounts);
    for (size_t i = 0; i < pods.len; i++)
        drop_pod_node(facts, pods.items[i]);
    for (size_t i = 0; i < accounts.len; i++)
        drop_account_node(facts, accounts.items[i]);
    for (size_t i = 0; i < mentions.len; i++)
        drop_mention_node(facts, mentions.items[i]);
    bag_clear(&pods);
    bag_clear(&accounts);
    bag_clear(&mentions);
    return rc;
}

int osm__facts_link(struct osm__facts *facts)
{
    while (facts->marked.len) {
        struct osm__service_node *node = facts->marked.items[facts->marked.len - 1];
        int rc = link_service(facts, node);
        if (rc)
            return rc;
        facts->marked.len--;
        node->marked = false;
        if (!node->service && !node->endpoints && !node->slices.len) {
            (void)osm_map_del(&facts->services, node->name);
            free_service_node(node);
        }
    }
    return 0;
}
