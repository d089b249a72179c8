/* The questions that are answered from the objects at the moment of asking: ports and endpoints. */
#include "model/facts.h"

#include <stdlib.h>
#include <string.h>

const struct osm__service_node *osm__facts_service(const struct osm__facts *facts, const char *name)
{
    const struct osm__service_node *node = facts ? osm_map_get(&facts->services, name) : NULL;
    return node && node->service ? node : NULL;
}

const struct osm__service_port *osm__facts_port(const struct osm__service_node *node, int number)
{
    const struct osm__service_port *ports = node->service->ports;
    size_t n = node->service->ports_len, low = 0, high = n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (ports[middle].number < number)
            low = middle + 1;
        else
            high = middle;
    }
    return low < n && ports[low].number == number ? &ports[low] : NULL;
}

/* Pods of one address (the node's own network) stand for it only where they agree on the account.
 */
static struct osm__pod_node *pod_of_address(const struct osm__facts *facts, const char *ip)
{
    const struct osm__bag *bag = osm_map_get(&facts->pods_by_ip, ip);
    struct osm__pod_node *found = NULL;
    for (size_t i = 0; bag && i < bag->len; i++) {
        struct osm__pod_node *node = bag->items[i];
        if (node->pod->over)
            continue;
        if (found && strcmp(found->pod->account, node->pod->account) != 0)
            return NULL;
        if (!found || strcmp(node->name, found->name) < 0)
            found = node;
    }
    return found;
}

struct osm__pod_node *osm__facts_endpoint_pod(const struct osm__facts *facts,
                                              const struct osm__endpoint *endpoint)
{
    struct osm__pod_node *node = *endpoint->pod ? osm_map_get(&facts->pods, endpoint->pod)
                                                : pod_of_address(facts, endpoint->ip);
    return node && node->pod ? node : NULL;
}

/* --- target ports --- */

static void add_number(struct osm__numbers *out, uint16_t number)
{
    size_t at = 0;
    while (at < out->len && out->list[at] < number)
        at++;
    if (!number || at == OSM__NUMBERS_MAX || (at < out->len && out->list[at] == number))
        return;
    if (out->len < OSM__NUMBERS_MAX)
        out->len++;
    memmove(out->list + at + 1, out->list + at, (out->len - 1 - at) * sizeof *out->list);
    out->list[at] = number;
}

static uint16_t least(const struct osm__numbers *numbers)
{
    return numbers->len ? numbers->list[0] : 0;
}

/* The numbers a slice gives to a service port: by the port's name; where service and slice have one
 * port each, that one. */
static void slice_ports(const struct osm__slice *slice, const struct osm__service *service,
                        const struct osm__service_port *port, struct osm__numbers *out)
{
    size_t n;
    const struct osm__named_port *named =
        osm__ports_named(slice->ports, slice->ports_len, port->name, &n);
    for (size_t i = 0; i < n; i++)
        add_number(out, named[i].number);
    if (!named && slice->ports_len == 1 && service->ports_len == 1)
        add_number(out, slice->ports[0].number);
}

static void pod_ports(const struct osm__pod *pod, const struct osm__service_port *port,
                      struct osm__numbers *out)
{
    size_t n = 0;
    const struct osm__named_port *named = NULL;
    if (!port->target && port->target_name)
        named = osm__ports_named(pod->ports, pod->ports_len, port->target_name, &n);
    add_number(out, port->target);
    for (size_t i = 0; i < n; i++)
        add_number(out, named[i].number);
}

void osm__facts_target_ports(const struct osm__service_node *node,
                             const struct osm__service_port *port, struct osm__numbers *out)
{
    const struct osm__slices *slices;
    bool by_pod = port->target && node->service->selector.len; /* that number, in each pod */
    out->len = 0;
    for (size_t i = 0; !by_pod && (slices = osm__facts_slices(node, i)); i++)
        for (size_t j = 0; j < slices->len; j++)
            slice_ports(&slices->list[j], node->service, port, out);
    if (!out->len)
        add_number(out, port->target);
    if (out->len)
        return;
    for (size_t i = 0; i < node->pods.len; i++)
        pod_ports(((struct osm__pod_node *)node->pods.items[i])->pod, port, out);
}

/* --- backends --- */

struct backends {
    struct osm__backend *list;
    size_t len, cap;
};

static int add(struct backends *out, struct osm__backend backend)
{
    if (out->len == out->cap) {
        size_t cap = out->cap ? out->cap * 2 : 8;
        struct osm__backend *list = osm_realloc_array(out->list, cap, sizeof *list);
        if (!list)
            return OSM_ENOMEM;
        out->list = list;
        out->cap = cap;
    }
    out->list[out->len++] = backend;
    return 0;
}

static int add_slice(struct backends *out, const struct osm__facts *facts,
                     const struct osm__slice *slice, uint16_t port)
{
    int rc = 0;
    for (size_t i = 0; i < slice->endpoints_len && !rc; i++) {
        const struct osm__endpoint *endpoint = &slice->endpoints[i];
        const struct osm__pod_node *node = osm__facts_endpoint_pod(facts, endpoint);
        if (endpoint->ready && (!node || (!node->pod->over && !node->pod->deleting)))
            rc = add(out, (struct osm__backend){endpoint->ip, node ? node->pod->account : "",
                                                endpoint->hostname, port,
                                                node && !strcmp(node->pod->ip, endpoint->ip)});
    }
    return rc;
}

static int add_pods(struct backends *out, const struct osm__service_node *node,
                    const struct osm__service_port *port)
{
    int rc = 0;
    for (size_t i = 0; i < node->pods.len && !rc; i++) {
        const struct osm__pod *pod = ((struct osm__pod_node *)node->pods.items[i])->pod;
        struct osm__numbers numbers = {.len = 0};
        if (port)
            pod_ports(pod, port, &numbers);
        uint16_t number = least(&numbers);
        bool usable =
            *pod->ip && !pod->deleting && (pod->ready || node->service->publish_not_ready);
        bool named = *pod->hostname && !strcmp(pod->subdomain, node->name);
        if (usable && (number || !port))
            rc = add(out, (struct osm__backend){pod->ip, pod->account, named ? pod->hostname : "",
                                                number, true});
    }
    return rc;
}

static int by_address(const void *a, const void *b)
{
    const struct osm__backend *x = a, *y = b;
    int order = strcmp(x->address, y->address);
    if (!order)
        order = (x->port > y->port) - (x->port < y->port);
    if (!order)
        order = strcmp(x->hostname, y->hostname);
    return order ? order : strcmp(x->account, y->account);
}

/* One entry per address, port and hostname: of several accounts the least that is known. */
static void drop_duplicates(struct backends *out)
{
    size_t n = 0;
    if (out->len)
        qsort(out->list, out->len, sizeof *out->list, by_address);
    for (size_t i = 0; i < out->len; i++) {
        struct osm__backend *last = n ? &out->list[n - 1] : NULL, *b = &out->list[i];
        if (!last || strcmp(last->address, b->address) != 0 || last->port != b->port ||
            strcmp(last->hostname, b->hostname) != 0)
            out->list[n++] = *b;
        else if (!*last->account)
            last->account = b->account;
        out->list[n - 1].own = out->list[n - 1].own || b->own;
    }
    out->len = n;
}

int osm__facts_backends(const struct osm__facts *facts, const struct osm__service_node *node,
                        const struct osm__service_port *port, struct osm__backend **out, size_t *n)
{
    const struct osm__slices *slices;
    struct backends all = {NULL, 0, 0};
    int rc = 0;
    for (size_t i = 0; (slices = osm__facts_slices(node, i)); i++)
        for (size_t j = 0; j < slices->len && !rc; j++) {
            struct osm__numbers numbers = {.len = 0};
            if (port)
                slice_ports(&slices->list[j], node->service, port, &numbers);
            if (numbers.len || !port)
                rc = add_slice(&all, facts, &slices->list[j], least(&numbers));
        }
    if (!rc && !osm__facts_slices(node, 0))
        rc = add_pods(&all, node, port);
    if (rc) {
        osm_free(all.list);
        return rc;
    }
    drop_duplicates(&all);
    *out = all.list;
    *n = all.len;
    return 0;
}
