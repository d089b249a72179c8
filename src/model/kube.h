/* The few fields of Kubernetes objects that host facts are derived from, read out once and checked:
 * everything behind this file works on plain structs. An object with a wrong type in any of these
 * fields is malformed: OSM_EINVAL, and for facts it does not exist. Strings are borrowed from the
 * object, of which each struct holds a reference. Pure. */
#pragma once

#include "model/names.h"
#include "model/object.h"

enum { OSM__IPV4_SIZE = 16 };

struct osm__label {
    const char *key, *value;
};

struct osm__labels {
    struct osm__label *list; /* sorted by key */
    size_t len;
};

/* Of a pod or a slice: there, several may have one name. */
struct osm__named_port {
    const char *name;
    uint16_t number;
};

struct osm__pod {
    struct osm_object *object;
    const char *name, *account;
    const char *hostname, *subdomain; /* "" absent */
    char key[OSM_PROXY_KEY_SIZE];     /* of its sidecar; "" no (valid) label */
    char ip[OSM__IPV4_SIZE];          /* "" none yet */
    bool over;                        /* phase Succeeded or Failed */
    bool deleting;
    bool ready;
    struct osm__labels labels;
    struct osm__named_port *ports; /* named TCP ports, by name */
    size_t ports_len;
};

struct osm__service_port {
    const char *name; /* "" unnamed */
    uint16_t number;
    uint16_t target;         /* 0: by name */
    const char *target_name; /* NULL: by number */
};

struct osm__service {
    struct osm_object *object;
    bool headless;
    bool publish_not_ready;
    struct osm__labels selector;     /* empty: selects nothing */
    struct osm__service_port *ports; /* TCP only, by number and name */
    size_t ports_len;
};

struct osm__endpoint {
    char ip[OSM__IPV4_SIZE];
    const char *hostname; /* "" none */
    const char *pod;      /* "" no targetRef to a pod of this namespace */
    bool ready;
};

/* A group of endpoints that share ports: an EndpointSlice, or one subset of an Endpoints object. */
struct osm__slice {
    struct osm__endpoint *endpoints;
    size_t endpoints_len;
    struct osm__named_port *ports; /* TCP only, by name */
    size_t ports_len;
};

/* An EndpointSlice (one slice) or an Endpoints object (one per subset). */
struct osm__slices {
    struct osm_object *object;
    const char *service; /* "" an EndpointSlice that belongs to none */
    struct osm__slice *list;
    size_t len;
};

/* Each: 0, OSM_EINVAL (malformed) or OSM_ENOMEM. The matching free accepts NULL. */
OSM_MUST_USE int osm__pod_read(struct osm__pod **out, struct osm_object *object);
void osm__pod_free(struct osm__pod *pod);
OSM_MUST_USE int osm__service_read(struct osm__service **out, struct osm_object *object);
void osm__service_free(struct osm__service *service);
OSM_MUST_USE int osm__endpoint_slice_read(struct osm__slices **out, struct osm_object *object);
OSM_MUST_USE int osm__endpoints_read(struct osm__slices **out, struct osm_object *object);
void osm__slices_free(struct osm__slices *slices);

/* The first of @p n ports by name that is called so, and how many are; NULL, 0: none. A Service of
 * a thousand ports asks as often. */
const struct osm__named_port *osm__ports_named(const struct osm__named_port *ports, size_t n,
                                               const char *name, size_t *found);

/* Is every label of @p selector on the pod? An empty selector selects nothing. */
bool osm__selects(const struct osm__labels *selector, const struct osm__labels *labels);
