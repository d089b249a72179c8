#include "inject/exclusions.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { ENTRIES_MAX = 1024, TEXT_MAX = 64 };

static bool cidr_valid(const char *text)
{
    char address[INET_ADDRSTRLEN];
    const char *slash = strchr(text, '/');
    if (!slash || (size_t)(slash - text) >= sizeof address)
        return false;
    memcpy(address, text, (size_t)(slash - text));
    address[slash - text] = '\0';
    struct in_addr parsed;
    size_t digits = strspn(slash + 1, "0123456789");
    return inet_pton(AF_INET, address, &parsed) == 1 && digits >= 1 && digits <= 2 &&
           !slash[1 + digits] && strtoumax(slash + 1, NULL, 10) <= 32;
}

static bool port_valid(const char *text, uint16_t *port)
{
    char *end;
    errno = 0;
    uintmax_t number = isdigit((unsigned char)text[0]) ? strtoumax(text, &end, 10) : 0;
    if (!number || errno || *end || number > 65535)
        return false;
    *port = (uint16_t)number;
    return true;
}

/* Lists grow up to ENTRIES_MAX; a value that is there already is not added again. */
static int add_text(char ***list, size_t *len, const char *text, struct osm_err *err)
{
    for (size_t i = 0; i < *len; i++)
        if (!strcmp((*list)[i], text))
            return 0;
    if (*len >= ENTRIES_MAX)
        return osm_fail(err, OSM_ELIMIT, "more than %d entries in an exclusion list", ENTRIES_MAX);
    char **grown = osm_realloc_array(*list, *len + 1, sizeof **list);
    if (grown)
        *list = grown;
    char *copy = grown ? osm_strdup(text) : NULL;
    if (!copy)
        return osm_fail(err, OSM_ENOMEM, "exclusion lists");
    grown[(*len)++] = copy;
    return 0;
}

static int add_port(uint16_t **list, size_t *len, uint16_t port, struct osm_err *err)
{
    for (size_t i = 0; i < *len; i++)
        if ((*list)[i] == port)
            return 0;
    if (*len >= ENTRIES_MAX)
        return osm_fail(err, OSM_ELIMIT, "more than %d entries in an exclusion list", ENTRIES_MAX);
    uint16_t *grown = osm_realloc_array(*list, *len + 1, sizeof **list);
    if (!grown)
        return osm_fail(err, OSM_ENOMEM, "exclusion lists");
    grown[(*len)++] = port;
    *list = grown;
    return 0;
}

/* What a list holds, and where it comes from in both places. */
struct list {
    const char *field;      /* of MeshConfig spec.traffic */
    const char *annotation; /* of the pod; NULL: none */
    char ***texts;          /* CIDRs or interfaces */
    uint16_t **ports;
    size_t *len;
    bool cidrs;
};

static int from_mesh_config(const struct list *list, const json_t *traffic, struct osm_err *err)
{
    const json_t *array = json_object_get(traffic, list->field);
    if (array && !json_is_array(array) && !json_is_null(array))
        return osm_fail(err, OSM_EINVAL, "MeshConfig: spec.traffic.%s: expected a list",
                        list->field);
    size_t i;
    json_t *item;
    json_array_foreach (array, i, item) {
        const char *text = json_string_value(item);
        json_int_t port = json_integer_value(item);
        int rc;
        if (list->ports)
            rc = port >= 1 && port <= 65535 ? add_port(list->ports, list->len, (uint16_t)port, err)
                                            : OSM_EINVAL;
        else
            rc = text && (list->cidrs ? cidr_valid(text) : osm_interface_valid(text))
                     ? add_text(list->texts, list->len, text, err)
                     : OSM_EINVAL;
        if (rc == OSM_EINVAL)
            return osm_fail(err, OSM_EINVAL, "MeshConfig: spec.traffic.%s[%zu]: expected %s",
                            list->field, i,
                            list->ports   ? "a port from 1 to 65535"
                            : list->cidrs ? "an IPv4 range such as 10.0.0.0/8"
                                          : "the name of an interface such as eth0 or eth+");
        if (rc)
            return rc;
    }
    return 0;
}

static int from_annotation(const struct list *list, const json_t *annotations, struct osm_err *err)
{
    const char *at =
        list->annotation ? json_string_value(json_object_get(annotations, list->annotation)) : NULL;
    for (size_t entries = 0; at; entries++) {
        char text[TEXT_MAX];
        if (entries >= ENTRIES_MAX) /* also if all are the same: the pod may be a stranger's */
            return osm_fail(err, OSM_ELIMIT, "more than %d entries in annotation '%s'", ENTRIES_MAX,
                            list->annotation);
        size_t n = strcspn(at, ",");
        const char *next = at[n] ? at + n + 1 : NULL;
        while (n && isspace((unsigned char)*at))
            at++, n--;
        while (n && isspace((unsigned char)at[n - 1]))
            n--;
        size_t copied = n < sizeof text ? n : sizeof text - 1;
        memcpy(text, at, copied);
        text[copied] = '\0';
        uint16_t port = 0;
        if (list->ports && (n >= sizeof text || !port_valid(text, &port)))
            return osm_fail(err, OSM_EINVAL,
                            "Invalid port value '%s' specified for annotation '%s'", text,
                            list->annotation);
        if (!list->ports && (n >= sizeof text || !cidr_valid(text)))
            return osm_fail(err, OSM_EINVAL, "Invalid IP range '%s' specified for annotation '%s'",
                            text, list->annotation);
        int rc = list->ports ? add_port(list->ports, list->len, port, err)
                             : add_text(list->texts, list->len, text, err);
        if (rc)
            return rc;
        at = next;
    }
    return 0;
}

int osm_exclusions_read(struct osm_exclusions *out, const json_t *mesh_config, const json_t *pod,
                        struct osm_err *err)
{
    const json_t *spec = json_object_get(mesh_config, "spec");
    const json_t *traffic = json_object_get(spec, "traffic");
    const json_t *annotations = json_object_get(json_object_get(pod, "metadata"), "annotations");
    struct osm_exclusions e = {0};
    const struct list lists[] = {
        {"outboundIPRangeExclusionList", "openservicemesh.io/outbound-ip-range-exclusion-list",
         &e.ip_out, NULL, &e.config.outbound_ip_exclusions_len, true},
        {"outboundIPRangeInclusionList", "openservicemesh.io/outbound-ip-range-inclusion-list",
         &e.ip_in, NULL, &e.config.outbound_ip_inclusions_len, true},
        {"outboundPortExclusionList", "openservicemesh.io/outbound-port-exclusion-list", NULL,
         &e.ports_out, &e.config.outbound_port_exclusions_len, false},
        {"inboundPortExclusionList", "openservicemesh.io/inbound-port-exclusion-list", NULL,
         &e.ports_in, &e.config.inbound_port_exclusions_len, false},
        {"networkInterfaceExclusionList", NULL, &e.interfaces, NULL,
         &e.config.interface_exclusions_len, false},
    };
    int rc = 0;
    for (size_t i = 0; !rc && i < sizeof lists / sizeof lists[0]; i++) {
        rc = from_mesh_config(&lists[i], traffic, err);
        if (!rc)
            rc = from_annotation(&lists[i], annotations, err);
    }
    const json_t *mode = json_object_get(json_object_get(spec, "sidecar"), "localProxyMode");
    if (!rc && mode && !json_is_null(mode)) {
        const char *text = json_string_value(mode);
        if (!text || (*text && strcmp(text, "Localhost") != 0 && strcmp(text, "PodIP") != 0))
            rc = osm_fail(err, OSM_EINVAL,
                          "MeshConfig: spec.sidecar.localProxyMode: expected Localhost or PodIP");
        else
            e.config.pod_ip_mode = !strcmp(text, "PodIP");
    }
    if (rc) {
        osm_exclusions_clear(&e);
        return rc;
    }
    e.config.outbound_ip_exclusions = (const char *const *)e.ip_out;
    e.config.outbound_ip_inclusions = (const char *const *)e.ip_in;
    e.config.outbound_port_exclusions = e.ports_out;
    e.config.inbound_port_exclusions = e.ports_in;
    e.config.interface_exclusions = (const char *const *)e.interfaces;
    *out = e;
    return 0;
}

static void free_texts(char **list, size_t len)
{
    for (size_t i = 0; i < len; i++)
        osm_free(list[i]);
    osm_free(list);
}

void osm_exclusions_clear(struct osm_exclusions *e)
{
    free_texts(e->ip_out, e->config.outbound_ip_exclusions_len);
    free_texts(e->ip_in, e->config.outbound_ip_inclusions_len);
    free_texts(e->interfaces, e->config.interface_exclusions_len);
    osm_free(e->ports_out);
    osm_free(e->ports_in);
    *e = (struct osm_exclusions){0};
}
