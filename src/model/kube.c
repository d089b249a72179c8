/* Reading is strict about types and lenient about absence: null and a missing field are the same,
 * as in Kubernetes. */
#include "model/kube.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

/* --- typed access: 0 or OSM_EINVAL; the output keeps its default where the field is absent --- */

static const json_t *get(const json_t *holder, const char *field)
{
    const json_t *value = json_object_get(holder, field);
    return json_is_null(value) ? NULL : value;
}

static int get_object(const json_t *holder, const char *field, const json_t **out)
{
    const json_t *value = get(holder, field);
    if (value && !json_is_object(value))
        return OSM_EINVAL;
    *out = value;
    return 0;
}

static int get_array(const json_t *holder, const char *field, const json_t **out)
{
    const json_t *value = get(holder, field);
    if (value && !json_is_array(value))
        return OSM_EINVAL;
    *out = value;
    return 0;
}

static int get_text(const json_t *holder, const char *field, const char **out)
{
    const json_t *value = get(holder, field);
    if (!value)
        return 0;
    if (!json_is_string(value) || strlen(json_string_value(value)) != json_string_length(value))
        return OSM_EINVAL;
    *out = json_string_value(value);
    return 0;
}

static int get_bool(const json_t *holder, const char *field, bool *out)
{
    const json_t *value = get(holder, field);
    if (!value)
        return 0;
    if (!json_is_boolean(value))
        return OSM_EINVAL;
    *out = json_is_true(value);
    return 0;
}

/* A port number; 0 where absent. */
static int get_port(const json_t *holder, const char *field, uint16_t *out)
{
    const json_t *value = get(holder, field);
    if (!value)
        return 0;
    json_int_t n = json_is_integer(value) ? json_integer_value(value) : 0;
    if (n < 1 || n > UINT16_MAX)
        return OSM_EINVAL;
    *out = (uint16_t)n;
    return 0;
}

/* Empty where the field is absent. An address of another family is no error: it leaves @p out
 * empty. */
static int get_ipv4(const json_t *holder, const char *field, char out[OSM__IPV4_SIZE])
{
    const char *text = "";
    struct in_addr parsed;
    int rc = get_text(holder, field, &text);
    if (!rc && inet_pton(AF_INET, text, &parsed) == 1)
        (void)inet_ntop(AF_INET, &parsed, out, OSM__IPV4_SIZE);
    return rc;
}

static int is_tcp(const json_t *port, bool *out)
{
    const char *protocol = "TCP";
    int rc = get_text(port, "protocol", &protocol);
    *out = !rc && (!*protocol || !strcmp(protocol, "TCP")); /* "" is the default, too */
    return rc;
}

static int by_key(const void *a, const void *b)
{
    return strcmp(((const struct osm__label *)a)->key, ((const struct osm__label *)b)->key);
}

static int get_labels(const json_t *holder, const char *field, struct osm__labels *out)
{
    const json_t *map = NULL;
    const char *key;
    json_t *value;
    int rc = get_object(holder, field, &map);
    if (rc || !json_object_size(map))
        return rc;
    out->list = osm_alloc_array(json_object_size(map), sizeof *out->list);
    if (!out->list)
        return OSM_ENOMEM;
    json_object_foreach ((json_t *)map, key, value) {
        if (!json_is_string(value))
            return OSM_EINVAL;
        out->list[out->len++] = (struct osm__label){key, json_string_value(value)};
    }
    qsort(out->list, out->len, sizeof *out->list, by_key);
    return 0;
}

bool osm__selects(const struct osm__labels *selector, const struct osm__labels *labels)
{
    size_t j = 0;
    for (size_t i = 0; i < selector->len; i++) {
        while (j < labels->len && strcmp(labels->list[j].key, selector->list[i].key) < 0)
            j++;
        if (j == labels->len || strcmp(labels->list[j].key, selector->list[i].key) != 0 ||
            strcmp(labels->list[j].value, selector->list[i].value) != 0)
            return false;
    }
    return selector->len > 0;
}

/* --- ports by name --- */

static int by_name(const void *a, const void *b)
{
    const struct osm__named_port *x = a, *y = b;
    int order = strcmp(x->name, y->name);
    return order ? order : (x->number > y->number) - (x->number < y->number);
}

static void sort_named(struct osm__named_port *ports, size_t n)
{
    if (n)
        qsort(ports, n, sizeof *ports, by_name);
}

const struct osm__named_port *osm__ports_named(const struct osm__named_port *ports, size_t n,
                                               const char *name, size_t *found)
{
    size_t low = 0, high = n, end;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(ports[middle].name, name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    for (end = low; end < n && !strcmp(ports[end].name, name);)
        end++;
    *found = end - low;
    return *found ? ports + low : NULL;
}

/* --- Pod --- */

/* The Ready condition decides. A directory often holds pods with an address and no conditions at
 * all: a pod without a Ready condition counts as ready (kubelet writes that condition together with
 * the address, so a live cluster shows no such pod). */
static int read_ready(const json_t *status, bool *out)
{
    const json_t *conditions = NULL;
    size_t i;
    json_t *each;
    int rc = get_array(status, "conditions", &conditions);
    *out = !rc;
    json_array_foreach (conditions, i, each) {
        const char *type = "", *value = "";
        if (!json_is_object(each) || get_text(each, "type", &type) ||
            get_text(each, "status", &value))
            return OSM_EINVAL;
        if (!strcmp(type, "Ready"))
            *out = !strcmp(value, "True");
    }
    return rc;
}

static int read_status(struct osm__pod *pod, const json_t *status)
{
    const char *phase = "";
    int rc = get_text(status, "phase", &phase);
    pod->over = !strcmp(phase, "Succeeded") || !strcmp(phase, "Failed");
    if (!rc)
        rc = get_ipv4(status, "podIP", pod->ip);
    const json_t *ips = NULL;
    size_t i;
    json_t *each;
    if (!rc)
        rc = get_array(status, "podIPs", &ips);
    json_array_foreach (ips, i, each) {
        if (!rc && !json_is_object(each))
            rc = OSM_EINVAL;
        if (!rc && !*pod->ip) /* the first IPv4 address, where podIP is of the other family */
            rc = get_ipv4(each, "ip", pod->ip);
    }
    return rc ? rc : read_ready(status, &pod->ready);
}

static int read_container_ports(struct osm__pod *pod, const json_t *container)
{
    const json_t *ports = NULL;
    size_t i;
    json_t *each;
    if (!json_is_object(container) || get_array(container, "ports", &ports))
        return OSM_EINVAL;
    if (!json_array_size(ports))
        return 0;
    struct osm__named_port *list =
        osm_realloc_array(pod->ports, pod->ports_len + json_array_size(ports), sizeof *list);
    if (!list)
        return OSM_ENOMEM;
    pod->ports = list;
    json_array_foreach (ports, i, each) {
        struct osm__named_port port = {"", 0};
        bool tcp = false;
        if (!json_is_object(each) || is_tcp(each, &tcp) || get_text(each, "name", &port.name) ||
            get_port(each, "containerPort", &port.number) || !port.number)
            return OSM_EINVAL;
        if (tcp && *port.name)
            pod->ports[pod->ports_len++] = port;
    }
    return 0;
}

static int read_pod_spec(struct osm__pod *pod, const json_t *spec)
{
    const json_t *containers = NULL;
    size_t i;
    json_t *each;
    const char *account = "";
    int rc = get_text(spec, "serviceAccount", &account);
    if (!rc)
        rc = get_text(spec, "serviceAccountName", &account);
    pod->account = osm_pod_account(pod->object);
    if (!rc && !osm_account_valid(pod->account))
        rc = OSM_EINVAL;
    if (!rc)
        rc = get_text(spec, "hostname", &pod->hostname);
    if (!rc)
        rc = get_text(spec, "subdomain", &pod->subdomain);
    if (!rc)
        rc = get_array(spec, "containers", &containers);
    json_array_foreach (containers, i, each) {
        if (!rc)
            rc = read_container_ports(pod, each);
    }
    sort_named(pod->ports, pod->ports_len);
    return rc;
}

int osm__pod_read(struct osm__pod **out, struct osm_object *object)
{
    const json_t *metadata = NULL, *spec = NULL, *status = NULL;
    const char *uuid = "", *deleted = "";
    struct osm__pod *pod = osm_alloc(sizeof *pod);
    if (!pod)
        return OSM_ENOMEM;
    pod->object = osm_object_ref(object);
    pod->name = object->name;
    pod->hostname = pod->subdomain = "";
    int rc = get_object(object->body, "metadata", &metadata);
    if (!rc)
        rc = get_object(object->body, "spec", &spec);
    if (!rc)
        rc = get_object(object->body, "status", &status);
    if (!rc)
        rc = get_text(metadata, "deletionTimestamp", &deleted);
    pod->deleting = *deleted;
    if (!rc)
        rc = get_labels(metadata, "labels", &pod->labels);
    if (!rc)
        rc = read_pod_spec(pod, spec);
    if (!rc)
        rc = read_status(pod, status);
    if (!rc)
        rc = get_text(get(metadata, "labels"), "osm-proxy-uuid", &uuid);
    if (!rc && osm_uuid_valid(uuid))
        (void)osm_proxy_key(pod->key, uuid, object->ns);
    if (rc)
        osm__pod_free(pod);
    else
        *out = pod;
    return rc;
}

void osm__pod_free(struct osm__pod *pod)
{
    if (!pod)
        return;
    osm_object_unref(pod->object);
    osm_free(pod->labels.list);
    osm_free(pod->ports);
    osm_free(pod);
}

/* --- Service --- */

static int read_service_port(struct osm__service *service, const json_t *from)
{
    struct osm__service_port port = {.name = ""};
    bool tcp = false;
    if (!json_is_object(from) || is_tcp(from, &tcp) || get_text(from, "name", &port.name) ||
        get_port(from, "port", &port.number) || !port.number)
        return OSM_EINVAL;
    const json_t *target = get(from, "targetPort");
    if (json_is_string(target)) {
        if (get_text(from, "targetPort", &port.target_name))
            return OSM_EINVAL;
        if (port.target_name && !*port.target_name)
            port.target_name = NULL;
    } else if (json_is_integer(target) && json_integer_value(target) == 0) {
        target = NULL; /* 0 is how an unset one is written out */
    } else if (get_port(from, "targetPort", &port.target)) {
        return OSM_EINVAL;
    }
    if (!port.target && !port.target_name)
        port.target = port.number;
    if (tcp)
        service->ports[service->ports_len++] = port;
    return 0;
}

static int by_number(const void *a, const void *b)
{
    const struct osm__service_port *x = a, *y = b;
    return x->number != y->number ? (x->number > y->number) - (x->number < y->number)
                                  : strcmp(x->name, y->name);
}

int osm__service_read(struct osm__service **out, struct osm_object *object)
{
    const json_t *spec = NULL, *ports = NULL;
    const char *cluster_ip = "", *type = "";
    size_t i;
    json_t *each;
    struct osm__service *service = osm_alloc(sizeof *service);
    if (!service)
        return OSM_ENOMEM;
    service->object = osm_object_ref(object);
    int rc = get_object(object->body, "spec", &spec);
    if (!rc)
        rc = get_text(spec, "clusterIP", &cluster_ip);
    if (!rc)
        rc = get_text(spec, "type", &type);
    if (!rc)
        rc = get_bool(spec, "publishNotReadyAddresses", &service->publish_not_ready);
    if (!rc)
        rc = get_array(spec, "ports", &ports);
    service->headless = !strcmp(cluster_ip, "None");
    if (!rc)
        rc = get_labels(spec, "selector", &service->selector);
    if (!strcmp(type, "ExternalName"))
        service->selector.len = 0; /* a name for something outside: it selects nothing */
    if (!rc && json_array_size(ports)) {
        service->ports = osm_alloc_array(json_array_size(ports), sizeof *service->ports);
        rc = service->ports ? 0 : OSM_ENOMEM;
    }
    json_array_foreach (ports, i, each) {
        if (!rc)
            rc = read_service_port(service, each);
    }
    if (service->ports)
        qsort(service->ports, service->ports_len, sizeof *service->ports, by_number);
    if (rc)
        osm__service_free(service);
    else
        *out = service;
    return rc;
}

void osm__service_free(struct osm__service *service)
{
    if (!service)
        return;
    osm_object_unref(service->object);
    osm_free(service->selector.list);
    osm_free(service->ports);
    osm_free(service);
}

/* --- EndpointSlice and Endpoints --- */

static int read_target_ref(struct osm__endpoint *endpoint, const json_t *holder, const char *ns)
{
    const json_t *ref = NULL;
    const char *kind = "", *ref_ns = ns, *name = "";
    int rc = get_object(holder, "targetRef", &ref);
    if (rc || !ref)
        return rc;
    if (get_text(ref, "kind", &kind) || get_text(ref, "namespace", &ref_ns) ||
        get_text(ref, "name", &name))
        return OSM_EINVAL;
    /* A pod elsewhere lends its account to nobody here. */
    if (!strcmp(kind, "Pod") && (!*ref_ns || !strcmp(ref_ns, ns)))
        endpoint->pod = name;
    return 0;
}

static int read_slice_ports(struct osm__slice *slice, const json_t *ports)
{
    size_t i;
    json_t *each;
    if (!json_array_size(ports))
        return 0;
    slice->ports = osm_alloc_array(json_array_size(ports), sizeof *slice->ports);
    if (!slice->ports)
        return OSM_ENOMEM;
    json_array_foreach (ports, i, each) {
        struct osm__named_port port = {"", 0};
        bool tcp = false;
        if (!json_is_object(each) || is_tcp(each, &tcp) || get_text(each, "name", &port.name) ||
            get_port(each, "port", &port.number))
            return OSM_EINVAL;
        if (tcp && port.number)
            slice->ports[slice->ports_len++] = port;
    }
    sort_named(slice->ports, slice->ports_len);
    return 0;
}

/* One endpoint of an EndpointSlice. Its addresses are interchangeable, so the first stands for it.
 */
static int read_slice_endpoint(struct osm__slice *slice, const json_t *from, const char *ns)
{
    struct osm__endpoint endpoint = {.hostname = "", .pod = "", .ready = true};
    const json_t *addresses = NULL, *conditions = NULL;
    struct in_addr parsed;
    if (!json_is_object(from) || get_array(from, "addresses", &addresses) ||
        get_object(from, "conditions", &conditions) ||
        get_bool(conditions, "ready", &endpoint.ready) ||
        get_text(from, "hostname", &endpoint.hostname) || read_target_ref(&endpoint, from, ns))
        return OSM_EINVAL;
    const json_t *first = json_array_get(addresses, 0);
    if (!json_is_string(first))
        return OSM_EINVAL;
    if (inet_pton(AF_INET, json_string_value(first), &parsed) == 1) {
        (void)inet_ntop(AF_INET, &parsed, endpoint.ip, sizeof endpoint.ip);
        slice->endpoints[slice->endpoints_len++] = endpoint;
    }
    return 0;
}

static int slices_begin(struct osm__slices **out, struct osm_object *object, size_t len)
{
    struct osm__slices *slices = osm_alloc(sizeof *slices);
    if (!slices)
        return OSM_ENOMEM;
    slices->object = osm_object_ref(object);
    slices->service = "";
    slices->list = osm_alloc_array(len, sizeof *slices->list);
    if (!slices->list) {
        osm__slices_free(slices);
        return OSM_ENOMEM;
    }
    slices->len = len;
    *out = slices;
    return 0;
}

int osm__endpoint_slice_read(struct osm__slices **out, struct osm_object *object)
{
    const json_t *metadata = NULL, *labels = NULL, *endpoints = NULL, *ports = NULL;
    const char *type = "";
    size_t i;
    json_t *each;
    struct osm__slices *slices = NULL;
    int rc = slices_begin(&slices, object, 1);
    if (rc)
        return rc;
    rc = get_text(object->body, "addressType", &type);
    if (!rc && (!strcmp(type, "IPv6") || !strcmp(type, "FQDN"))) {
        *out = slices; /* the other half of a cluster of two families: no error, and nobody's */
        return 0;
    }
    if (!rc && strcmp(type, "IPv4") != 0)
        rc = OSM_EINVAL;
    if (!rc)
        rc = get_object(object->body, "metadata", &metadata);
    if (!rc)
        rc = get_object(metadata, "labels", &labels);
    if (!rc)
        rc = get_text(labels, "kubernetes.io/service-name", &slices->service);
    if (!rc)
        rc = get_array(object->body, "ports", &ports);
    if (!rc)
        rc = get_array(object->body, "endpoints", &endpoints);
    struct osm__slice *slice = &slices->list[0];
    if (!rc)
        rc = read_slice_ports(slice, ports);
    if (!rc && json_array_size(endpoints)) {
        slice->endpoints = osm_alloc_array(json_array_size(endpoints), sizeof *slice->endpoints);
        rc = slice->endpoints ? 0 : OSM_ENOMEM;
    }
    json_array_foreach (endpoints, i, each) {
        if (!rc)
            rc = read_slice_endpoint(slice, each, object->ns);
    }
    if (rc)
        osm__slices_free(slices);
    else
        *out = slices;
    return rc;
}

static int read_subset_addresses(struct osm__slice *slice, const json_t *addresses, bool ready,
                                 const char *ns)
{
    size_t i;
    json_t *each;
    json_array_foreach (addresses, i, each) {
        struct osm__endpoint endpoint = {.hostname = "", .pod = "", .ready = ready};
        if (!json_is_object(each) || get_ipv4(each, "ip", endpoint.ip) ||
            get_text(each, "hostname", &endpoint.hostname) || read_target_ref(&endpoint, each, ns))
            return OSM_EINVAL;
        if (*endpoint.ip)
            slice->endpoints[slice->endpoints_len++] = endpoint;
    }
    return 0;
}

static int read_subset(struct osm__slice *slice, const json_t *subset, const char *ns)
{
    const json_t *ready = NULL, *not_ready = NULL, *ports = NULL;
    if (!json_is_object(subset) || get_array(subset, "addresses", &ready) ||
        get_array(subset, "notReadyAddresses", &not_ready) || get_array(subset, "ports", &ports))
        return OSM_EINVAL;
    size_t n = json_array_size(ready) + json_array_size(not_ready);
    slice->endpoints = osm_alloc_array(n, sizeof *slice->endpoints);
    if (!slice->endpoints)
        return OSM_ENOMEM;
    int rc = read_slice_ports(slice, ports);
    if (!rc)
        rc = read_subset_addresses(slice, ready, true, ns);
    if (!rc)
        rc = read_subset_addresses(slice, not_ready, false, ns);
    return rc;
}

int osm__endpoints_read(struct osm__slices **out, struct osm_object *object)
{
    const json_t *subsets = NULL;
    size_t i;
    json_t *each;
    struct osm__slices *slices = NULL;
    int rc = get_array(object->body, "subsets", &subsets);
    if (!rc)
        rc = slices_begin(&slices, object, json_array_size(subsets));
    if (rc)
        return rc;
    slices->service = object->name;
    json_array_foreach (subsets, i, each) {
        if (!rc)
            rc = read_subset(&slices->list[i], each, object->ns);
    }
    if (rc)
        osm__slices_free(slices);
    else
        *out = slices;
    return rc;
}

void osm__slices_free(struct osm__slices *slices)
{
    if (!slices)
        return;
    for (size_t i = 0; slices->list && i < slices->len; i++) {
        osm_free(slices->list[i].endpoints);
        osm_free(slices->list[i].ports);
    }
    osm_free(slices->list);
    osm_object_unref(slices->object);
    osm_free(slices);
}
