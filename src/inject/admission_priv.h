/* What the files of this module that make the patch share. */
#pragma once

#include "inject/admission.h"

#define OSM__VOLUME     "envoy-bootstrap-config-volume"
#define OSM__SECRET     "envoy-bootstrap-config-"
#define OSM__UUID_LABEL "osm-proxy-uuid"

#define OSM__ENVOY       "envoy" /* containers */
#define OSM__HEALTHCHECK "osm-healthcheck"

enum { OSM__SIDECAR_USER = 1500 };

/* Open Service Mesh's codes of what injection is denied for. */
enum osm__admission_code {
    OSM__DECODING_BODY = 6103,
    OSM__NIL_REQUEST = 6107,
    OSM__POD_WORD = 6108,
    OSM__NAMESPACE_WORD = 6109,
    OSM__EXCLUSIONS = 6110,
    OSM__READING_BODY = 6111,
    OSM__NIL_BODY = 6112,
};
/** Returns @p rc; where that is an error, the denial that follows has the code. */
OSM_MUST_USE int osm__admission_coded(struct osm_admission *a, enum osm__admission_code code,
                                      int rc);

/* A patch that is being written; a failed operation (no memory) is remembered. */
struct osm__patch {
    json_t *ops; /* an array, or NULL */
    bool failed;
};

/** Appends an operation at a JSON pointer. Takes @p value; NULL is a failure. */
void osm__patch_add(struct osm__patch *patch, const char *op, json_t *value, const char *pointer,
                    ...) __attribute__((format(printf, 4, 5)));
void osm__patch_remove(struct osm__patch *patch, const char *pointer, ...)
    __attribute__((format(printf, 2, 3)));

/** Appends compact JSON. */
OSM_MUST_USE int osm__dump(struct osm_buf *out, const json_t *value);

/** For whoever creates the pod: "container NAME: FIELD: WHAT". Errors: OSM_ENOMEM. */
OSM_MUST_USE int osm__warn(struct osm_admission *a, const char *container, const char *field,
                           const char *what);

/** Of containers that the redirection takes something from. Errors: those of osm_exclusions_read.
 */
OSM_MUST_USE int osm__warn_of_redirection(struct osm_admission *a, const json_t *mesh_config,
                                          struct osm_err *err);

/** Of an array of objects the first whose member "name" is @p name; its place in *index. NULL:
 * none. */
const json_t *osm__named(const json_t *list, const char *name, size_t *index);

/* What becomes of the probes of the pod's containers. */
struct osm__probes {
    const json_t *before; /* of a copy: what its probes were, as `originals`; NULL: nothing */
    json_t *originals;    /* owned; {"<container>": {"livenessProbe": {path, port, scheme}}} */
    bool has_tcp;         /* osm-healthcheck is wanted */
};

/** Appends the operations, and fills a->probes and a->warnings. Errors: OSM_EINVAL what cannot be
 * rewritten; OSM_ENOMEM. */
OSM_MUST_USE int osm__probes_rewrite(struct osm__probes *probes, struct osm_admission *a,
                                     struct osm__patch *patch, struct osm_err *err);
/** Fills a->patch and what belongs to it. @p scrape: Prometheus is to find the pod. Errors:
 * OSM_EINVAL what is wrong with pod or MeshConfig, or given nowhere; OSM_ENOMEM. */
OSM_MUST_USE int osm__patch_make(struct osm_admission *a, const struct osm_injector *injector,
                                 const json_t *mesh_config, bool scrape, struct osm_err *err);
