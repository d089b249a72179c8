/* What is served: an immutable snapshot, made on the policy thread, read on the loop thread.
 * Proxies whose resources are equal share one class, and resources share their bytes. */
#pragma once

#include "base/bytes.h"
#include "base/err.h"

#include <jansson.h>
#include <stdint.h>

/* In the order of sending (make before break). */
#define OSM_XDS_TYPES(X)                                                                           \
    X(CDS, "envoy.config.cluster.v3.Cluster", "name")                                              \
    X(EDS, "envoy.config.endpoint.v3.ClusterLoadAssignment", "cluster_name")                       \
    X(LDS, "envoy.config.listener.v3.Listener", "name")                                            \
    X(RDS, "envoy.config.route.v3.RouteConfiguration", "name")                                     \
    X(SDS, "envoy.extensions.transport_sockets.tls.v3.Secret", "name")

enum osm_xds_type {
#define X(id, message, name_field) OSM_XDS_##id,
    OSM_XDS_TYPES(X)
#undef X
        OSM_XDS_TYPE_COUNT
};
/** "envoy.config.cluster.v3.Cluster" */
const char *osm_xds_type_message(enum osm_xds_type type);
/** "CDS" */
const char *osm_xds_type_short(enum osm_xds_type type);
/** "type.googleapis.com/envoy..." -> type; -1 unknown. */
int osm_xds_type_parse(const char *type_url);

/* A named resource; immutable, shared. */
struct osm_resource {
    struct osm_bytes *body; /* the encoded message, without its Any */
    const char *name;
    const char *version; /* opaque text; equal versions mean equal bytes */
    bool authorises;     /* some of it says who may do what: not to be kept stale */
};
OSM_MUST_USE struct osm_resource *osm_resource_new(const char *name, struct osm_bytes *body_taken);
/** The same with a version of the caller's (leaf certificates). */
OSM_MUST_USE struct osm_resource *osm_resource_new_versioned(const char *name, const char *version,
                                                             struct osm_bytes *body_taken);
/** The same, of a resource some of which authorises, or none. */
OSM_MUST_USE struct osm_resource *osm_resource_new_composed(const char *name, bool authorises,
                                                            struct osm_bytes *body_taken);

struct osm_resource *osm_resource_ref(struct osm_resource *resource);
void osm_resource_unref(struct osm_resource *resource);

/* The resources of a set of proxies: per type sorted by name. Immutable, shared. */
struct osm_class {
    struct {
        struct osm_resource **list;
        size_t len;
    } types[OSM_XDS_TYPE_COUNT];
};
/** An empty class with its arrays NULL; the maker fills `types` (arrays by osm_alloc_array;
 * resources owned) before sharing. */
OSM_MUST_USE struct osm_class *osm_class_new(void);
struct osm_class *osm_class_ref(struct osm_class *cls);
void osm_class_unref(struct osm_class *cls);
/** Borrowed; NULL where absent. */
struct osm_resource *osm_class_find(const struct osm_class *cls, enum osm_xds_type type,
                                    const char *name);

struct osm_snapshot_proxy {
    const char *key; /* osm_proxy_key; strings owned by the snapshot */
    const char *pod, *ns, *account;
    struct osm_class *cls;
};

struct osm_snapshot {
    uint64_t number;                    /* 1, 2, ...; given anew by whoever publishes it: the loop's
                                           from then on */
    struct osm_snapshot_proxy *proxies; /* sorted by key */
    size_t proxies_len;
    json_t *rejects; /* [{"object": "TrafficTarget blue/t1", "path": "spec.rules[0]", "reason": ...,
                        "origin": ..., "by": "rule or module"}] */
    json_t *errors;  /* [{"where": "rule backends(blue, shop)", "message": ..., "module": ...,
                        "line": n}] */
    json_t *policy;  /* {"digest": ..., "modules": n, "rules_run": n, "cells": n, "run_us": n, ...}:
                        figures of the run */
    json_t *host;    /* what the policies ask of the daemon itself: the answer of their rule
                        "host_settings"; NULL: nothing */
};
OSM_MUST_USE struct osm_snapshot *osm_snapshot_new(void);
/** @p base, but the proxies that @p pick chooses have what @p other says of them, where it says
 * anything. Shares the classes and reports of both. NULL: no memory. */
typedef bool osm_snapshot_pick_fn(void *ud, const char *key);
OSM_MUST_USE struct osm_snapshot *osm_snapshot_mix(const struct osm_snapshot *base,
                                                   const struct osm_snapshot *other,
                                                   osm_snapshot_pick_fn *pick, void *ud);
/** @p base, but each proxy has the class that @p remake makes of its own: a reference, NULL: no
 * memory. */
typedef struct osm_class *osm_snapshot_remake_fn(void *ud, const struct osm_snapshot_proxy *proxy);
OSM_MUST_USE struct osm_snapshot *osm_snapshot_remade(const struct osm_snapshot *base,
                                                      osm_snapshot_remake_fn *remake, void *ud);
struct osm_snapshot *osm_snapshot_ref(struct osm_snapshot *snapshot);
void osm_snapshot_unref(struct osm_snapshot *snapshot);
/** By osm_proxy_key; borrowed; NULL where absent. */
const struct osm_snapshot_proxy *osm_snapshot_find(const struct osm_snapshot *snapshot,
                                                   const char *key);
