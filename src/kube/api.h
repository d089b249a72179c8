/* Requests to an API server, as whom the configuration says. Where credentials have to be made
 * first, requests wait for them. Thread: loop. */
#pragma once

#include "base/buf.h"
#include "kube/config.h"
#include "loop/loop.h"

struct osm_kube;
struct osm_kube_call;

struct osm_kube_result {
    int rc;                     /* as of struct osm_http_result; OSM_EACCES also: no credentials */
    int status;                 /* HTTP; 0 none */
    const char *reason;         /* of a Status object: "Expired"; "" none */
    const char *message;        /* why it is no success, for people; "" */
    int64_t retry_after_s;      /* -1: not told */
    const struct osm_buf *body; /* of a success, where nobody took the pieces; borrowed */
};

struct osm_kube_request {
    const char *verb, *resource; /* "list", "pods": how it is counted; literals or as long-lived */
    const char *method;          /* NULL: GET; a literal */
    const char *path;            /* "/api/v1/pods?limit=500" */
    const char *accept;          /* NULL: application/json; a literal */
    const char *content_type;    /* of the body; a literal */
    const void *body;            /* copied */
    size_t body_len;
    uint64_t deadline_ms, idle_ms; /* 0: none */
    size_t body_max;               /* where nobody takes the pieces */
    bool secret;                   /* copies of the bodies are wiped */
    void *ud;
    /** It is a success (2xx). May be NULL. */
    void (*head)(void *ud);
    /** A piece of a success's body; not 0 ends it. NULL: collected. */
    int (*data)(void *ud, const char *bytes, size_t len);
    /** Once; the call is gone when it returns. */
    void (*done)(void *ud, const struct osm_kube_result *result);
};

/** Takes what @p config holds. Errors: OSM_ENOMEM, and @p config is the caller's. */
OSM_MUST_USE int osm_kube_new(struct osm_kube **out, struct osm_loop *loop,
                              struct osm_kube_config *config, struct osm_err *err);
/** Cancels what is under way. NULL is accepted. */
void osm_kube_free(struct osm_kube *kube);
const struct osm_kube_config *osm_kube_config_of(const struct osm_kube *kube);

/** Nothing is called back before it returns. Errors: OSM_EACCES and others, there are no
 * credentials; OSM_ENOMEM. */
OSM_MUST_USE int osm_kube_start(struct osm_kube_call **out, struct osm_kube *kube,
                                const struct osm_kube_request *request, struct osm_err *err);
/** done() is called with OSM_ECANCELED before this returns. NULL is accepted. */
void osm_kube_cancel(struct osm_kube_call *call);
