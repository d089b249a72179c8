/* Between the search for both sides of a call, with its walk (why_not.c), and what the objects say
 * of it (why_not_explain.c). */
#pragma once

#include "base/map.h"
#include "whatif/why_not.h"

struct osm__why_not {
    const struct osm_why_not *q;
    struct osm_engine *engine;
    struct osm_err *err;
    struct osm_map by_address;               /* of pods -> struct osm_snapshot_proxy */
    const struct osm_snapshot_proxy *caller; /* NULL: it has no sidecar that is served */
    char ns[64], account[256], pod[256];     /* the caller; pod "": none */
    char service_ns[64], service[256];
    json_t *explained; /* the Service; NULL: no policy sees it */
    const json_t *port;
    json_t *out;
};

/** Borrowed; NULL where absent. */
const struct osm_object *osm__why_not_object(const struct osm__why_not *why, const char *kind,
                                             const char *ns, const char *name);
/** Asks a rule of smi/explain.lua; takes @p keys (NULL: no memory). */
OSM_MUST_USE int osm__why_not_ask(struct osm__why_not *why, const char *rule, json_t *keys,
                                  json_t **out);
/** Adds to why->out what explains it: "text", "allowed_by", "near", "rejects". */
OSM_MUST_USE int osm__why_not_explain(struct osm__why_not *why);
