/* Where the API server is, and who we are to it: from a kubeconfig, or from what a pod is given.
 * What may rotate while we run (token, certificates) is kept as a file's path and read by
 * kube/credentials.h. */
#pragma once

#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>

/* A program that makes credentials (client.authentication.k8s.io). */
struct osm_kube_exec {
    char *command; /* NULL: none; a relative path with a slash lies beside the kubeconfig */
    char **args;   /* NULL-terminated */
    char **env;    /* "NAME=VALUE", NULL-terminated */
    char *api_version;
    char *hint; /* how to install it; NULL */
    bool wants_cluster;
};

/* Of a pair NAME_file and NAME at most one is set. All NULL where absent. */
struct osm_kube_config {
    char *server; /* "https://10.96.0.1:443", without a slash at the end */
    char *about;  /* "in-cluster", or "context NAME of FILE" */
    char *ca_file, *ca;
    char *cert_file, *cert;
    char *key_file, *key; /* secret */
    char *token_file, *token;
    char *username, *password;
    char *proxy;
    char **headers; /* more of each request: of impersonation; NULL-terminated; NULL: none */
    bool insecure;
    struct osm_kube_exec exec;
};

/** What a pod finds in @p dir (NULL: where Kubernetes puts it) and in its environment. Errors:
 * OSM_ENOENT this is no pod. */
OSM_MUST_USE int osm_kube_config_in_cluster(struct osm_kube_config *out, const char *dir,
                                            struct osm_err *err);
/** From kubeconfig files, with colons between them: of each entry the first file that has it
 * counts. @p context NULL: the current one. Errors: OSM_ENOENT, OSM_EPARSE, OSM_EINVAL with file
 * and field; OSM_ENOTSUP something that is not done here. */
OSM_MUST_USE int osm_kube_config_load(struct osm_kube_config *out, const char *paths,
                                      const char *context, struct osm_err *err);
/** Wipes what is secret. */
void osm_kube_config_clear(struct osm_kube_config *config);
