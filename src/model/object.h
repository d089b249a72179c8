/* Kubernetes objects as the mesh holds them: immutable, shared by reference between the loop and
 * the policy thread. */
#pragma once

#include "base/err.h"
#include "base/hash.h"

#include <jansson.h>
#include <stdbool.h>

/* What identifies an object across versions of its API: kind with group, namespace ("" when
 * cluster-scoped), name. */
struct osm_object {
    /* borrowed from body or made at construction; never NULL */
    const char *group;   /* "" for the core group */
    const char *version; /* "v1alpha3" */
    const char *kind;
    const char *ns;
    const char *name;
    const char *key;    /* "group/kind/namespace/name": identity in every map of ours */
    const char *origin; /* where it came from: "shop.yaml:12" or a resourceVersion; "" unknown */
    const json_t *body; /* the manifest; frozen: nobody writes to it after construction (references
                           are atomic) */
    /* of the canonical body (keys sorted, values tagged with their type: 1 and 1.0 differ) without
     * status and without metadata.managedFields, resourceVersion and generation */
    struct osm_hash content;
    /* the same, without metadata.labels and metadata.annotations either */
    struct osm_hash core;
    /* of the little of a v1 Pod's status that host facts are derived from: podIP, podIPs, phase,
     * and the status of the Ready condition (and whatever makes any of these malformed). Zero for
     * every other kind. A Pod that becomes ready is a change although its content is equal. */
    struct osm_hash live;
    /* of the canonical status; zero where there is none. It counts only for kinds whose policies
     * read it, see osm_store_reader_watch_status. */
    struct osm_hash status;
};

/** Checks apiVersion, kind, metadata.name (and that namespace, if present, is a string), fills in
 * what is derived. A namespaced core or CRD kind without a namespace gets "default" (as kubectl
 * does); Namespace, Node and other cluster-scoped kinds of Kubernetes get "". Names are bounded and
 * hold no slash, so that a key has one reading. Owns: takes one reference to @p body in every case.
 * Errors: OSM_EINVAL with the field's path; OSM_ELIMIT the body is nested deeper than 128;
 * OSM_ENOMEM. */
OSM_MUST_USE int osm_object_new(struct osm_object **out, json_t *body, const char *origin,
                                struct osm_err *err);
struct osm_object *osm_object_ref(struct osm_object *object);
void osm_object_unref(struct osm_object *object);
/** Equal content and equal live status: nobody who reads the one would answer differently for the
 * other. */
bool osm_object_same(const struct osm_object *a, const struct osm_object *b);
/** "TrafficSplit of split.smi-spec.io": is it this kind, whatever its version? */
bool osm_object_is(const struct osm_object *object, const char *group, const char *kind);

/** Value at a path of string keys, NULL-terminated: osm_json_at(o->body, "spec", "clusterIP",
 * NULL). NULL where a step is absent or not an object. Borrowed. */
const json_t *osm_json_at(const json_t *value, ...) __attribute__((sentinel));
/** The same, as text; NULL unless it is a string. */
const char *osm_json_str_at(const json_t *value, ...) __attribute__((sentinel));

/** The service account that a Pod runs as: spec.serviceAccountName, else serviceAccount, the
 * field's old name, else "default". Borrowed. */
const char *osm_pod_account(const struct osm_object *pod);
/** The same of a Pod's body that is no object yet. */
const char *osm_pod_body_account(const json_t *body);

/* One change of the store: the object that now has this key, or NULL with `gone` (the last object
 * that had it). */
struct osm_change {
    struct osm_object *now;  /* NULL: deleted */
    struct osm_object *gone; /* set when deleted */
};

/* A batch, in no particular order, each key at most once. Crosses from the loop to the policy
 * thread. */
struct osm_changes {
    struct osm_change *list;
    size_t len;
};
/** Drops the references and the struct. NULL is accepted. */
void osm_changes_free(struct osm_changes *changes);
