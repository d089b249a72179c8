/* One request about one JSON document: what is written, what is read, and why not, in words for
 * people. Thread: loop. */
#pragma once

#include "kube/api.h"

#include <jansson.h>

extern const char osm_kube_merge_patch[]; /* a content type */

struct osm_kube_answer {
    int rc;     /* 0: there was an answer, of whatever status; as of struct osm_kube_result */
    int status; /* HTTP; 0 none */
    const char *reason;    /* of a Status object: "AlreadyExists"; "" none */
    const char *why;       /* "" a success; else "GET /apis/...: 403 Forbidden: ...", for people */
    int64_t retry_after_s; /* -1: not told */
    json_t *object;        /* of a success: the document; NULL none. Borrowed */
};

struct osm_kube_ask {
    const char *verb, *resource, *method; /* as of struct osm_kube_request */
    const char *path;                     /* copied */
    const char *accept;                   /* NULL: application/json */
    const char *content_type;             /* NULL: application/json */
    const json_t *body;                   /* used up by the start; NULL: none */
    bool secret;                          /* what travels is wiped, but for @p body */
    void *ud;
    /** Once. Texts of @p answer are borrowed. OSM_ECANCELED: by osm_kube_cancel. */
    void (*done)(void *ud, const struct osm_kube_answer *answer);
};

/** Nothing is called back before it returns. *@p call, a place that outlives the request, is what
 * osm_kube_cancel takes; NULL again when it has ended. Errors: those of osm_kube_start. */
OSM_MUST_USE int osm_kube_ask(struct osm_kube_call **call, struct osm_kube *kube,
                              const struct osm_kube_ask *ask, struct osm_err *err);
/** Whether it is the right that lacks: quotas and admission policies answer 403 too. */
bool osm_kube_lacks_right(const struct osm_kube_answer *answer);
/** Wipes a text of @p object. */
void osm_kube_wipe(json_t *text);
