/* The objects of a definition that may be stored in an older version: each is patched with nothing,
 * and so stored anew in the version of today. One that the schema of today refuses, or an admission
 * policy, stays as it is, readable, and its version stays in the list of those that may be stored.
 */
#include "install/install_priv.h"

#include "base/json.h"
#include "base/log.h"

#include <stdio.h>
#include <string.h>

enum { PAGE = 10 }; /* objects of a list: no more than 1.5 MiB each, which fits into one document */

static const char NEEDS[] = "its role needs list and patch of the kinds of the mesh, and patch of "
                            "customresourcedefinitions/status";
static const char NAMES_ONLY[] =
    "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";

static struct osm__crd *crd_of(struct osm__part *p)
{
    return (struct osm__crd *)p;
}

static void rewrite_next(struct osm__part *p);

/* --- the end --- */

static void trimmed(struct osm__part *p, const struct osm_kube_answer *a)
{
    if (a->status == 409) /* it has changed meanwhile: is it still as it was? */
        osm__part_again(p);
    else if (a->rc || !a->object)
        osm__part_refused(p, a, NEEDS);
    else
        osm__part_done(p);
}

static void trim(struct osm__crd *crd)
{
    const char *version = osm_json_text(json_object_get(crd->live, "metadata"), "resourceVersion");
    json_t *body = json_pack("{s:{s:s}, s:{s:[s]}}", "metadata", "resourceVersion", version,
                             "status", "storedVersions", osm_crd_storage(crd->live));
    char *path = osm_strf("%s/status?fieldManager=osm-bootstrap", crd->path);
    osm_log(OSM_LOG_BOOTSTRAP, OSM_LOG_INFO, "objects of older versions written anew",
            OSM_S("obj", crd->part.name), OSM_U("objects", crd->rewritten));
    if (!body || !path)
        osm__part_fail(&crd->part, osm_code_text(OSM_ENOMEM), "");
    else
        osm__part_ask(&crd->part,
                      &(struct osm_kube_ask){.verb = "patch",
                                             .resource = "customresourcedefinitions/status",
                                             .method = "PATCH",
                                             .path = path,
                                             .content_type = osm_kube_merge_patch,
                                             .body = body},
                      trimmed);
    json_decref(body);
    osm_free(path);
}

/* --- objects --- */

static void listed(struct osm__part *p, const struct osm_kube_answer *a)
{
    struct osm__crd *crd = crd_of(p);
    json_t *items = json_object_get(a->object, "items");
    const char *token = osm_json_text(json_object_get(a->object, "metadata"), "continue");
    if (a->status == 404 || a->status == 410) { /* a version that is served since now; a list that
                                                   took too long: from the beginning */
        osm_free(osm_take_ptr(&crd->continue_token));
        osm__part_await(p, a->why, p->begin);
    } else if (a->rc || !json_is_array(items)) {
        osm__part_refused(p, a, NEEDS);
    } else {
        osm_free(crd->continue_token);
        crd->continue_token = *token ? osm_strdup(token) : NULL;
        json_decref(crd->old);
        crd->old = json_incref(items);
        rewrite_next(p);
    }
}

static void list(struct osm__crd *crd)
{
    struct osm_buf path = OSM_BUF_INIT(64 << 10);
    (void)osm_buf_addf(&path, "%s?limit=%d%s", crd->objects_path, PAGE,
                       crd->continue_token ? "&continue=" : "");
    for (const char *c = crd->continue_token; c && *c; c++) /* base64 */
        (void)(*c == '+' ? osm_buf_add_str(&path, "%2B") : osm_buf_add_char(&path, *c));
    if (path.failed)
        osm__part_fail(&crd->part, osm_code_text(path.failed), "");
    else
        osm__part_ask(&crd->part,
                      &(struct osm_kube_ask){.verb = "list",
                                             .resource = crd->part.name,
                                             .path = path.data,
                                             .accept = NAMES_ONLY},
                      listed);
    osm_buf_clear(&path);
}

static void rewritten(struct osm__part *p, const struct osm_kube_answer *a)
{
    struct osm__crd *crd = crd_of(p);
    bool is_denied = !strcmp(a->reason, "Forbidden") && !osm_kube_lacks_right(a);
    bool is_gone = a->status == 404, is_invalid = a->status == 422 || a->status == 400 || is_denied;
    if (!is_gone && !is_invalid && (a->rc || !a->object)) {
        osm__part_refused(p, a, NEEDS);
        return;
    }
    if (is_invalid) {
        crd->kept++;
        osm_log(OSM_LOG_BOOTSTRAP, OSM_LOG_WARN,
                "an object stays in its older version: the server refuses to write it",
                OSM_S("obj", p->name), OSM_S("reason", a->why));
    }
    crd->rewritten += !is_gone && !is_invalid;
    (void)json_array_remove(crd->old, json_array_size(crd->old) - 1);
    rewrite_next(p);
}

static void rewrite_next(struct osm__part *p)
{
    struct osm__crd *crd = crd_of(p);
    size_t n = json_array_size(crd->old);
    if (!n && crd->continue_token) {
        list(crd);
        return;
    }
    if (!n && crd->kept) {
        osm__part_done(p);
        return;
    }
    if (!n) {
        trim(crd);
        return;
    }
    const json_t *spec = json_object_get(crd->ours, "spec");
    const json_t *metadata = json_object_get(json_array_get(crd->old, n - 1), "metadata");
    json_t *nothing = json_object();
    char *path = osm_strf(
        "/apis/%s/%s/namespaces/%s/%s/%s?fieldManager=osm-bootstrap", osm_json_text(spec, "group"),
        osm_crd_storage(crd->ours), osm_json_text(metadata, "namespace"),
        osm_json_text(json_object_get(spec, "names"), "plural"), osm_json_text(metadata, "name"));
    if (!nothing || !path)
        osm__part_fail(p, osm_code_text(OSM_ENOMEM), "");
    else
        osm__part_ask(p,
                      &(struct osm_kube_ask){.verb = "patch",
                                             .resource = p->name,
                                             .method = "PATCH",
                                             .path = path,
                                             .content_type = osm_kube_merge_patch,
                                             .body = nothing},
                      rewritten);
    json_decref(nothing);
    osm_free(path);
}

void osm__crd_rewrite(struct osm__crd *crd)
{
    if (!osm_crd_has_old_objects(crd->live)) {
        osm__part_done(&crd->part);
        return;
    }
    json_decref(osm_take_ptr(&crd->old));
    osm_free(osm_take_ptr(&crd->continue_token));
    crd->rewritten = crd->kept = 0;
    list(crd);
}
