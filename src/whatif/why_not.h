/* Whether one account may call a Service, and if not, which layer denies and what comes nearest to
 * a grant. Decided by what both sidecars are served, explained from the objects. Thread: the
 * engine's. */
#pragma once

#include "model/packed.h"
#include "policy/engine.h"

struct osm_why_not {
    const struct osm_snapshot *served;
    struct osm_changes *objects;       /* all that there are; added to */
    const struct osm_outside *outside; /* as of struct osm_apply */
    const char *trust_domain;
    const char *caller; /* "namespace/pod" or "namespace/account" */
    const char
        *service;  /* "namespace/name", "name.namespace", "name.namespace.svc.cluster.local" */
    unsigned port; /* of the Service; 0: the one that it has, or 80 */
    const char *method, *path; /* NULL: GET, / */
    const json_t *headers;     /* {"x-user": "a"} or NULL */
};

/** *out: as osm_call_walk, and "caller": {"pod", "account"}, "service": "blue/shop", "port",
 * "protocol", "request": "GET /" or null (no HTTP), "text": the verdict in a sentence,
 * "allowed_by":
 * [{"object", "origin", "text"}], "near": the same of what comes nearest, "rejects": those of the
 * snapshot that may have to do with it. More layers: "caller", "service", "port". Only of an engine
 * that has not run and is thrown away. Caller: json_decref. Errors: OSM_EINVAL a name or the port
 * cannot be made out; OSM_ENOENT there is no such caller; OSM_ELUA a rule fails; OSM_EPARSE;
 * OSM_ENOMEM. */
OSM_MUST_USE int osm_why_not(const struct osm_why_not *question, struct osm_engine *engine,
                             json_t **out, struct osm_err *err);
