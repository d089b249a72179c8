/* Whether a new pod gets a sidecar, and how: an AdmissionReview in, another with a JSON patch out.
 * Pure but for the random bytes of the proxy's uuid: what the cluster holds comes in, and what is
 * to be written goes out.
 *
 *   read --(bad review)--------------------------------------> DENY
 *     |'-----(pods that are not of Kubernetes)----------------> ALLOW
 *     '--> decide --(not of the mesh, or asked not to be)----> ALLOW
 *            |  '--(annotation, image, probe that is wrong)--> DENY
 *            '-----------------------------------------------> INJECT: the patch is made, a
 * certificate is wanted for id
 *                                                                '--> inject: the Secret to write
 * before the answer
 *
 * Whatever can be wrong with a pod is found out by decide, so that nothing is signed in vain. A pod
 * is not checked by the API server yet: none of its fields has to have the type that it should, and
 * its texts may hold NULs: those that are read here do not, see review.h.
 *
 * A pod that has a sidecar already is a copy (`kubectl debug --copy-to`). It gets an identity of
 * its own, and a Secret for it; the rest of the patch is what its containers lack. */
#pragma once

#include "base/err.h"
#include "inject/bootstrap.h"
#include "model/names.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

/* Texts are borrowed. Of images NULL and "" are none given; MeshConfig's spec.sidecar.{envoyImage,
 * envoyWindowsImage,initContainerImage} win. */
struct osm_injector {
    const char *mesh_name, *osm_namespace, *trust_domain;
    const char *envoy_image, *envoy_windows_image, *init_image, *healthcheck_image;
    const char *pull_policy; /* of osm-init and osm-healthcheck; NULL or "": Kubernetes' own */
    int ads_port;
    int drain_time_s; /* 0: 45 s */
};

enum osm_admission_outcome { OSM_ADMISSION_ALLOW, OSM_ADMISSION_DENY, OSM_ADMISSION_INJECT };

enum { OSM_ADMISSION_REASON_SIZE = 512 };

struct osm_admission {
    enum osm_admission_outcome outcome;
    char ns[OSM_NS_SIZE];
    char name[OSM_DNS_NAME_SIZE];           /* or generateName; "" neither */
    char reason[OSM_ADMISSION_REASON_SIZE]; /* why denied, or why no sidecar */
    struct osm_proxy_id id;                 /* INJECT */
    int code;                               /* of a denial, see osm_admission_code */
    bool dry_run;
    bool is_copy;
    bool is_transient;             /* DENY: for now, as the answer says */
    json_t *review;                /* owned; what follows lies in it */
    const char *api_version, *uid; /* NULL: none that can be echoed */
    json_t *pod;                   /* NULL, and no denial: "pods" of another group, which pass */
    json_t *patch;                 /* owned; operations of RFC 6902 */
    json_t *warnings;              /* owned; for whoever creates the pod. NULL: none */
    struct osm_bootstrap_probe
        *probes; /* owned; what Envoy answers for the pod. Texts in probe_texts */
    size_t probes_len;
    json_t *probe_texts; /* owned */
};

/** Parses an AdmissionReview of at most 4 MiB and 100000 values. One that is bad is denied: outcome
 * and reason. Errors: OSM_ENOMEM. */
OSM_MUST_USE int osm_admission_read(struct osm_admission *a, const char *body, size_t len,
                                    struct osm_err *err);
/** Outcome, reason and patch. @p ns_body, @p mesh_config: the objects' bodies; NULL: there is none.
 * A review that is denied already stays so; no memory is a denial. */
void osm_admission_decide(struct osm_admission *a, const struct osm_injector *injector,
                          const json_t *ns_body, const json_t *mesh_config);
/** The Secret that the sidecar starts from; *secret stays NULL on a dry run. It holds a private
 * key: call osm_webhook_wipe_secret before the last reference goes. Errors: OSM_EINVAL a field of
 * MeshConfig, OSM_ELIMIT the files are more than a Secret holds, and the outcome is DENY with it;
 * OSM_ENOMEM. */
OSM_MUST_USE int osm_admission_inject(struct osm_admission *a, const struct osm_injector *injector,
                                      const json_t *mesh_config, const char *cert_chain_pem,
                                      const char *key_pem, const char *roots_pem, json_t **secret,
                                      struct osm_err *err);
/** Whatever was decided: not this pod. */
void osm_admission_deny(struct osm_admission *a, const char *why);
/** Open Service Mesh's number of a denial's error, such as 6103; 0 it has none. */
int osm_admission_code(const struct osm_admission *a);
/** The whole AdmissionReview with its response; NULL: no memory. */
OSM_MUST_USE json_t *osm_admission_response(const struct osm_admission *a);
/** Repeatable. */
void osm_admission_clear(struct osm_admission *a);
/** Overwrites the data of a Secret; the reference stays the caller's. Texts that others have a
 * reference to are gone too. NULL is accepted. */
void osm_webhook_wipe_secret(json_t *secret);
