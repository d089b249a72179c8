#include "kube/discovery.h"

#include "base/buf.h"
#include "base/json.h"

#include <string.h>

enum { RESOURCES_MAX = 20000, VERSIONS_MAX_BYTES = 1024 };

const char osm_kube_discovery_accept[] =
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,"
    "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";

void osm_kube_resources_clear(struct osm_kube_resources *r)
{
    for (size_t i = 0; i < r->len; i++) {
        osm_free(r->list[i].group);
        osm_free(r->list[i].version);
        osm_free(r->list[i].kind);
        osm_free(r->list[i].plural);
    }
    osm_free(r->list);
    osm_map_clear(&r->stale);
    *r = (struct osm_kube_resources){0};
}

/* A path segment, so that nothing a server says leads elsewhere. */
static bool is_word(const char *text)
{
    size_t n = strlen(text);
    return n && n <= 253 &&
           strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.") == n &&
           text[0] != '.';
}

static bool has_verb(const json_t *verbs, const char *verb)
{
    size_t i;
    const json_t *each;
    json_array_foreach ((json_t *)(uintptr_t)verbs, i, each)
        if (json_is_string(each) && !strcmp(json_string_value(each), verb))
            return true;
    return false;
}

static int add(struct osm_kube_resources *r, const struct osm_kube_resource *like,
               const json_t *verbs)
{
    if (!is_word(like->version) || !is_word(like->kind) || !is_word(like->plural) ||
        (*like->group && !is_word(like->group)))
        return 0; /* of no use, such as a subresource "pods/log" */
    if (r->len == RESOURCES_MAX)
        return OSM_ELIMIT;
    if (!(r->len & (r->len - 1))) {
        struct osm_kube_resource *grown =
            osm_realloc_array(r->list, r->len ? r->len * 2 : 1, sizeof *grown);
        if (!grown)
            return OSM_ENOMEM;
        r->list = grown;
    }
    struct osm_kube_resource *at = &r->list[r->len];
    *at = *like;
    at->group = osm_strdup(like->group);
    at->version = osm_strdup(like->version);
    at->kind = osm_strdup(like->kind);
    at->plural = osm_strdup(like->plural);
    at->can_list = has_verb(verbs, "list");
    at->can_watch = has_verb(verbs, "watch");
    r->len++;
    return at->group && at->version && at->kind && at->plural ? 0 : OSM_ENOMEM;
}

/* --- APIGroupDiscoveryList --- */

static char *text_at(const json_t *object, const char *key)
{
    return (char *)(uintptr_t)osm_json_text(object, key);
}

static int add_version(struct osm_kube_resources *r, const char *group, const json_t *version,
                       unsigned rank)
{
    size_t i;
    const json_t *entry, *resources = json_object_get(version, "resources");
    int rc = 0;
    if (!strcmp(osm_json_text(version, "freshness"), "Stale"))
        rc = osm_map_put(&r->stale, group, r, NULL);
    json_array_foreach ((json_t *)(uintptr_t)resources, i, entry) {
        const json_t *kind = json_object_get(entry, "responseKind");
        const struct osm_kube_resource like = {
            .group = (char *)(uintptr_t)group,
            .version = text_at(version, "version"),
            .kind = text_at(kind, "kind"),
            .plural = text_at(entry, "resource"),
            .namespaced = !strcmp(osm_json_text(entry, "scope"), "Namespaced"),
            .rank = rank,
        };
        if (!rc)
            rc = add(r, &like, json_object_get(entry, "verbs"));
    }
    return rc;
}

static int add_groups(struct osm_kube_resources *r, const json_t *document)
{
    size_t i, n;
    const json_t *group, *version;
    int rc = 0;
    json_array_foreach ((json_t *)(uintptr_t)json_object_get(document, "items"), i, group) {
        const char *name = osm_json_text(json_object_get(group, "metadata"), "name");
        const json_t *versions = json_object_get(group, "versions");
        json_array_foreach ((json_t *)(uintptr_t)versions, n, version) {
            if (!rc)
                rc = add_version(r, name, version, (unsigned)n);
        }
    }
    return rc;
}

/* --- the older documents --- */

static int add_resource_list(struct osm_kube_resources *r, const json_t *document, unsigned rank)
{
    const char *api = osm_json_text(document, "groupVersion"), *slash = strchr(api, '/');
    char *group = slash ? osm_strndup(api, (size_t)(slash - api)) : osm_strdup("");
    size_t i;
    const json_t *entry;
    int rc = group ? 0 : OSM_ENOMEM;
    json_array_foreach ((json_t *)(uintptr_t)json_object_get(document, "resources"), i, entry) {
        const struct osm_kube_resource like = {
            .group = group,
            .version = (char *)(uintptr_t)(slash ? slash + 1 : api),
            .kind = text_at(entry, "kind"),
            .plural = text_at(entry, "name"),
            .namespaced = json_is_true(json_object_get(entry, "namespaced")),
            .rank = rank,
        };
        if (!rc)
            rc = add(r, &like, json_object_get(entry, "verbs"));
    }
    osm_free(group);
    return rc;
}

int osm_kube_resources_add(struct osm_kube_resources *r, const json_t *document, unsigned rank,
                           struct osm_err *err)
{
    const char *kind = osm_json_text(document, "kind");
    int rc = OSM_EPARSE;
    if (!strcmp(kind, "APIGroupDiscoveryList") && json_is_array(json_object_get(document, "items")))
        rc = add_groups(r, document);
    else if (!strcmp(kind, "APIResourceList"))
        rc = add_resource_list(r, document, rank);
    if (rc)
        return osm_fail(err, rc, "discovery: %s",
                        rc == OSM_EPARSE ? "the answer is no list of resources"
                                         : osm_code_text(rc));
    return 0;
}

json_t *osm_kube_group_versions(const json_t *document)
{
    const char *kind = osm_json_text(document, "kind");
    bool is_groups = !strcmp(kind, "APIGroupList");
    json_t *out = is_groups || !strcmp(kind, "APIVersions") ? json_array() : NULL;
    size_t i, n;
    json_t *group, *version;
    if (out && !is_groups)
        (void)json_array_extend(out, json_object_get(document, "versions"));
    if (out && is_groups)
        json_array_foreach (json_object_get(document, "groups"), i, group)
            json_array_foreach (json_object_get(group, "versions"), n, version)
                if (json_is_string(json_object_get(version, "groupVersion")))
                    (void)json_array_append(out, json_object_get(version, "groupVersion"));
    return out;
}

/* --- asking --- */

const struct osm_kube_resource *osm_kube_resources_find(const struct osm_kube_resources *r,
                                                        const char *group, const char *kind,
                                                        const char *const *versions, char **served)
{
    struct osm_buf text = OSM_BUF_INIT(VERSIONS_MAX_BYTES);
    const struct osm_kube_resource *found = NULL;
    for (const char *const *version = versions; *version && !found; version++)
        for (size_t i = 0; i < r->len && !found; i++) {
            const struct osm_kube_resource *each = &r->list[i];
            if (!strcmp(each->kind, kind) && !strcmp(each->group, group) &&
                !strcmp(each->version, *version) && each->can_list && each->can_watch)
                found = each;
        }
    for (size_t i = 0; i < r->len && !found && served; i++)
        if (!strcmp(r->list[i].kind, kind) && !strcmp(r->list[i].group, group))
            (void)osm_buf_add_strs(&text, text.len ? ", " : "", r->list[i].version, NULL);
    if (served)
        *served = text.len ? osm_buf_take(&text) : NULL;
    osm_buf_clear(&text);
    return found;
}

bool osm_kube_resources_stale(const struct osm_kube_resources *r, const char *group)
{
    return osm_map_has(&r->stale, group);
}

char *osm_kube_path(const struct osm_kube_resource *resource)
{
    return *resource->group
               ? osm_strf("/apis/%s/%s/%s", resource->group, resource->version, resource->plural)
               : osm_strf("/api/%s/%s", resource->version, resource->plural);
}
