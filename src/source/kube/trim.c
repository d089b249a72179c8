/* What of an object is kept. A Pod in full is ten times what the mesh reads of it. */
#include "source/kube/kube_priv.h"

#include <string.h>

/* Keeps of an object the members named. */
static void keep(json_t *object, const char *const *names)
{
    const char *key;
    json_t *value;
    void *next;
    json_object_foreach_safe(object, next, key, value)
    {
        const char *const *name = names;
        while (*name && strcmp(*name, key) != 0)
            name++;
        if (!*name)
            (void)json_object_del(object, key);
    }
}

static void keep_in_each(json_t *list, const char *const *names)
{
    size_t i;
    json_t *each;
    json_array_foreach (list, i, each) {
        if (json_is_object(each))
            keep(each, names);
    }
}

static void trim_pod(json_t *pod)
{
    static const char *const in_pod[] = {"apiVersion", "kind", "metadata", "spec", "status", NULL};
    static const char *const in_metadata[] = {"name",
                                              "namespace",
                                              "uid",
                                              "labels",
                                              "annotations",
                                              "resourceVersion",
                                              "generation",
                                              "deletionTimestamp",
                                              "creationTimestamp",
                                              "ownerReferences",
                                              NULL};
    static const char *const in_spec[] = {"serviceAccount", "serviceAccountName", "hostname",
                                          "subdomain",      "containers",         NULL};
    static const char *const in_container[] = {"name",           "ports",        "livenessProbe",
                                               "readinessProbe", "startupProbe", NULL};
    static const char *const in_status[] = {"phase", "podIP", "podIPs", "conditions", NULL};
    static const char *const in_condition[] = {"type", "status", NULL};
    json_t *metadata = json_object_get(pod, "metadata"), *spec = json_object_get(pod, "spec");
    json_t *status = json_object_get(pod, "status");
    json_t *conditions = json_object_get(status, "conditions");
    size_t i;
    json_t *each;
    keep(pod, in_pod);
    if (json_is_object(metadata))
        keep(metadata, in_metadata);
    if (json_is_object(spec))
        keep(spec, in_spec);
    keep_in_each(json_object_get(spec, "containers"), in_container);
    if (json_is_object(status))
        keep(status, in_status);
    keep_in_each(conditions, in_condition);
    for (i = json_array_size(conditions); i-- > 0;) {
        each = json_array_get(conditions, i);
        const char *type = json_string_value(json_object_get(each, "type"));
        if (type && strcmp(type, "Ready") != 0)
            (void)json_array_remove(conditions, i);
    }
}

static void trim_slice(json_t *slice)
{
    static const char *const in_endpoint[] = {"addresses", "conditions", "hostname", "targetRef",
                                              NULL};
    static const char *const in_ref[] = {"kind", "name", "namespace", NULL};
    json_t *endpoints = json_object_get(slice, "endpoints");
    size_t i;
    json_t *each;
    keep_in_each(endpoints, in_endpoint);
    json_array_foreach (endpoints, i, each) {
        json_t *ref = json_object_get(each, "targetRef");
        if (json_is_object(ref))
            keep(ref, in_ref);
    }
}

/* What kubectl applied last is asked for by previews (whatif/apply.h); of what controllers make
 * nobody applies the next form. */
static void trim_last_applied(json_t *metadata)
{
    json_t *annotations = json_object_get(metadata, "annotations");
    if (json_is_object(annotations) &&
        !json_object_del(annotations, "kubectl.kubernetes.io/last-applied-configuration") &&
        !json_object_size(annotations))
        (void)json_object_del(metadata, "annotations");
}

static bool is_pod(const char *group, const char *kind)
{
    return !*group && !strcmp(kind, "Pod");
}

static bool is_slice(const char *group, const char *kind)
{
    return !strcmp(group, "discovery.k8s.io") && !strcmp(kind, "EndpointSlice");
}

bool osm__kube_is_trimmed(const char *group, const char *kind)
{
    return is_pod(group, kind) || is_slice(group, kind);
}

int osm__kube_trim(json_t *object, const char *group, const char *version, const char *kind,
                   bool whole)
{
    json_t *metadata = json_object_get(object, "metadata");
    int rc = 0;
    if (json_is_object(metadata)) {
        (void)json_object_del(metadata, "managedFields");
        (void)json_object_del(metadata, "selfLink");
    }
    if (json_is_object(metadata) && !whole && osm__kube_is_trimmed(group, kind))
        trim_last_applied(metadata);
    if (!whole && is_pod(group, kind))
        trim_pod(object);
    if (!whole && is_slice(group, kind))
        trim_slice(object);
    if (!json_object_get(object, "kind"))
        rc = json_object_set_new(object, "kind", json_string(kind));
    if (!rc && !json_object_get(object, "apiVersion"))
        rc = json_object_set_new(object, "apiVersion",
                                 *group ? json_sprintf("%s/%s", group, version)
                                        : json_string(version));
    return rc ? OSM_ENOMEM : 0;
}
