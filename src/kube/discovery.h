/* Which kinds an API server serves, in which versions, and under which paths. Pure: the documents
 * come from the caller.
 *
 * Servers of Kubernetes 1.27 and newer tell all in two documents (/api and /apis, asked for as
 * APIGroupDiscoveryList); for older ones there is a document per group and version. */
#pragma once

#include "base/err.h"
#include "base/map.h"

#include <jansson.h>
#include <stdbool.h>

extern const char osm_kube_discovery_accept[];

struct osm_kube_resource {
    char *group, *version, *kind, *plural;
    bool namespaced;
    bool can_list, can_watch;
    unsigned rank; /* order of the versions as the server prefers them; 0 first */
};

struct osm_kube_resources {
    struct osm_kube_resource *list;
    size_t len;
    struct osm_map stale; /* group or "group/version" of which the server itself does not know all
                             at present */
};

/** Adds what a document says: an APIGroupDiscoveryList, or an APIResourceList (then @p rank is that
 * of its version). Errors: OSM_EPARSE it is neither; OSM_ENOMEM. */
OSM_MUST_USE int osm_kube_resources_add(struct osm_kube_resources *resources,
                                        const json_t *document, unsigned rank, struct osm_err *err);
/** The groups of an APIGroupList ("apps/v1", ...) or the versions of an APIVersions ("v1"), as the
 * server prefers them within a group: an array of strings. NULL: it is neither, or no memory. */
json_t *osm_kube_group_versions(const json_t *document);
/** The one of @p kind to use: of @p versions (preferred first, NULL-terminated) the first that is
 * served and can be listed and watched. NULL: none; *served (may be NULL) then lists the versions
 * that there are, "v1, v2"; caller: osm_free. */
const struct osm_kube_resource *osm_kube_resources_find(const struct osm_kube_resources *resources,
                                                        const char *group, const char *kind,
                                                        const char *const *versions, char **served);
/** Whether it is not known what there is of this group. */
bool osm_kube_resources_stale(const struct osm_kube_resources *resources, const char *group);
void osm_kube_resources_clear(struct osm_kube_resources *resources);
/** "/apis/apps/v1/deployments"; caller: osm_free. NULL: no memory. */
char *osm_kube_path(const struct osm_kube_resource *resource);
