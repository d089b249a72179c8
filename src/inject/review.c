#include "inject/review.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum {
    DEPTH_MAX = 128, /* what an object of the store may have too */
    /* The costliest value is an object that has an object as its only member: 270 bytes, measured,
     * and so 27 MB for all. Pods have some hundreds, seldom a few thousand. */
    VALUES_MAX = 100000,
    KEY_BYTES_MAX = 64,
};

/* --- bounds --- */

/* Behind the string that begins at text[at]. */
static size_t skip_string(const char *text, size_t len, size_t at)
{
    for (at++; at < len && text[at] != '"'; at++)
        if (text[at] == '\\')
            at++;
    return at;
}

/* Each value but the first stands behind a bracket or a comma. */
int osm__review_bounds(const char *text, size_t len, struct osm_err *err)
{
    size_t values = 1, depth = 0;
    for (size_t at = 0; at < len; at++) {
        char c = text[at];
        if (c == '"')
            at = skip_string(text, len, at);
        values += c == '{' || c == '[' || c == ',';
        depth += c == '{' || c == '[';
        depth -= (c == '}' || c == ']') && depth;
        if (depth > DEPTH_MAX)
            return osm_fail(err, OSM_ELIMIT, "admission review: is nested deeper than %d",
                            DEPTH_MAX);
        if (values > VALUES_MAX)
            return osm_fail(err, OSM_ELIMIT, "admission review: has more than %d values",
                            VALUES_MAX);
    }
    return 0;
}

/* --- texts --- */

/* What is read, as keys with spaces between; "*" is each item of a list. */
static const char *const of_review[] = {
    "apiVersion",           "request uid",       "request kind group",
    "request kind version", "request kind kind", "request operation",
    "request subResource",  "request namespace", NULL};
static const char *const of_pod[] = {
    "metadata name",
    "metadata generateName",
    "metadata namespace",
    "metadata annotations openservicemesh.io/sidecar-injection",
    "metadata annotations openservicemesh.io/outbound-ip-range-exclusion-list",
    "metadata annotations openservicemesh.io/outbound-ip-range-inclusion-list",
    "metadata annotations openservicemesh.io/outbound-port-exclusion-list",
    "metadata annotations openservicemesh.io/inbound-port-exclusion-list",
    "spec serviceAccountName",
    "spec serviceAccount",
    "spec nodeSelector kubernetes.io/os",
    "spec os name",
    "spec volumes * name",
    NULL};
static const char *const of_container[] = {"name", "image", "ports * name", "env * name", NULL};
static const char *const probes[] = {"livenessProbe", "readinessProbe", "startupProbe"};
static const char *const of_probe[] = {"httpGet path",
                                       "httpGet port",
                                       "httpGet scheme",
                                       "httpGet host",
                                       "tcpSocket port",
                                       "tcpSocket host",
                                       NULL};

static bool has_nul(const json_t *value, const char *path)
{
    char key[KEY_BYTES_MAX + 1];
    size_t n = strcspn(path, " "), i;
    const char *next = path[n] ? path + n + 1 : path + n;
    const json_t *item;
    if (!n)
        return json_is_string(value) &&
               strlen(json_string_value(value)) != json_string_length(value);
    if (*path == '*') {
        json_array_foreach ((json_t *)(uintptr_t)value, i, item)
            if (has_nul(item, next))
                return true;
        return false;
    }
    if (!json_is_object(value) || n > KEY_BYTES_MAX)
        return false;
    memcpy(key, path, n);
    key[n] = '\0';
    return has_nul(json_object_get(value, key), next);
}

static const char *first_with_nul(const json_t *value, const char *const *paths)
{
    while (*paths && !has_nul(value, *paths))
        paths++;
    return *paths;
}

static int nul_in(struct osm_err *err, const char *where, const char *path)
{
    char field[2 * KEY_BYTES_MAX];
    (void)snprintf(field, sizeof field, "%s", path);
    for (char *c = field; *c; c++)
        if (*c == ' ')
            *c = '.';
    return osm_fail(err, OSM_EINVAL, "admission request: %s%s: has a NUL in its text", where,
                    field);
}

static int check_container(const json_t *container, const char *list, size_t index,
                           struct osm_err *err)
{
    char where[2 * KEY_BYTES_MAX];
    const char *path = first_with_nul(container, of_container);
    (void)snprintf(where, sizeof where, "request.object.spec.%s[%zu].", list, index);
    if (path)
        return nul_in(err, where, path);
    for (size_t i = 0; i < sizeof probes / sizeof *probes; i++) {
        const json_t *probe = json_object_get(container, probes[i]);
        path = probe ? first_with_nul(probe, of_probe) : NULL;
        if (path) {
            (void)snprintf(where, sizeof where, "request.object.spec.%s[%zu].%s.", list, index,
                           probes[i]);
            return nul_in(err, where, path);
        }
    }
    return 0;
}

int osm__review_texts(const json_t *review, struct osm_err *err)
{
    const char *path = first_with_nul(review, of_review);
    return path ? nul_in(err, "", path) : 0;
}

int osm__review_pod_texts(const json_t *pod, struct osm_err *err)
{
    static const char *const lists[] = {"initContainers", "containers"};
    const char *path = first_with_nul(pod, of_pod);
    if (path)
        return nul_in(err, "request.object.", path);
    const json_t *spec = json_object_get(pod, "spec");
    for (size_t l = 0; l < 2; l++) {
        size_t i;
        const json_t *each;
        json_array_foreach (json_object_get(spec, lists[l]), i, each) {
            int rc = check_container(each, lists[l], i, err);
            if (rc)
                return rc;
        }
    }
    return 0;
}
