/* Follows one call through the configuration of both sidecars, as they are served: what each layer
 * of the data plane makes of it, up to the first that denies. Thread: any. */
#pragma once

#include "whatif/match.h"
#include "xds/snapshot.h"

/* A pod's proxy by the pod's address; NULL: there is none. */
typedef const struct osm_snapshot_proxy *osm_call_find_fn(void *ud, const char *address);

struct osm_call {
    const struct osm_snapshot_proxy *caller;
    const char *address;        /* that the application connects to */
    unsigned port;              /* and the port */
    struct osm_request request; /* but for the port; principal: the caller's */
    osm_call_find_fn *find;
    void *ud;
};

/** *out: {"verdict": "allowed", "denied", "partly" (some of the pods that it may get to deny it) or
 * "unknown", "layer": of the step that decided, "steps": [{"layer", "passes": true, false or null
 * (not known), "text", "policies": of the sidecar's own authorisation: [{"name", "caller": is one
 * of its principals: true, false or null, "principals", "permissions"}], "policy", "permission":
 * which let it pass}]}. Layers: "client listener", "client route", "endpoints", "server", "server
 * listener", "connection", "server route", "request", "filters". Caller: json_decref. Errors:
 * OSM_EPARSE a resource cannot be read; OSM_ENOMEM. */
OSM_MUST_USE int osm_call_walk(const struct osm_call *call, json_t **out, struct osm_err *err);
