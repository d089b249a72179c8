/* One definition: looked at, written, waited for. It is written by server-side apply, so that
 * labels, annotations and fields of others stay. Conflicts are forced: whoever has said something
 * else about the versions, the names or the conversion before (Open Service Mesh itself, kubectl,
 * Helm) has said which objects are taken and how they are read, and that is ours to say. */
#include "install/install_priv.h"

#include "base/json.h"

#include <stdio.h>
#include <string.h>

static const char CRDS[] = "customresourcedefinitions";
static const char NEEDS[] = "its role needs get, create and patch of "
                            "customresourcedefinitions.apiextensions.k8s.io";

static struct osm__crd *crd_of(struct osm__part *p)
{
    return (struct osm__crd *)p;
}

static void set_live(struct osm__crd *crd, json_t *live)
{
    json_decref(crd->live);
    crd->live = json_incref(live);
}

/* --- Established --- */

static void look_again(struct osm__part *p);

static void await(struct osm__crd *crd)
{
    char why[OSM_CRD_WHY_SIZE];
    enum osm_crd_state state = osm_crd_state(crd->live, why);
    if (state == OSM_CRD_CONFLICT) {
        osm__part_fail(&crd->part, why, "");
    } else if (state == OSM_CRD_PENDING) {
        osm__part_await(&crd->part, why, look_again);
    } else {
        memcpy(crd->part.reason, why, sizeof why);
        osm__crd_rewrite(crd);
    }
}

static void looked_again(struct osm__part *p, const struct osm_kube_answer *a)
{
    if (a->rc || a->status != 200) {
        osm__part_refused(p, a, NEEDS);
        return;
    }
    set_live(crd_of(p), a->object);
    await(crd_of(p));
}

static void look_again(struct osm__part *p)
{
    osm__part_ask(p,
                  &(struct osm_kube_ask){.verb = "get", .resource = CRDS, .path = crd_of(p)->path},
                  looked_again);
}

/* --- writing --- */

static void applied(struct osm__part *p, const struct osm_kube_answer *a)
{
    struct osm__crd *crd = crd_of(p);
    if (a->status == 409) {
        osm__part_again(p);
    } else if (a->rc || !a->object) {
        osm__part_refused(p, a, NEEDS);
    } else {
        p->outcome = a->status == 201 ? OSM__PART_CREATED
                     : crd->live      ? OSM__PART_UPGRADED
                                      : OSM__PART_UNCHANGED; /* another one has been faster */
        set_live(crd, a->object);
        await(crd);
    }
}

static void apply(struct osm__crd *crd, bool drop_unknown)
{
    json_t *body = json_deep_copy(crd->ours), *spec = json_object_get(body, "spec");
    char *path = osm_strf("%s?fieldManager=osm-bootstrap&force=true", crd->path);
    if (!body || !path ||
        (drop_unknown && json_object_set_new(spec, "preserveUnknownFields", json_false())))
        osm__part_fail(&crd->part, osm_code_text(OSM_ENOMEM), "");
    else
        osm__part_ask(&crd->part,
                      &(struct osm_kube_ask){.verb = "apply",
                                             .resource = CRDS,
                                             .method = "PATCH",
                                             .path = path,
                                             .content_type = "application/apply-patch+yaml",
                                             .body = body},
                      applied);
    json_decref(body);
    osm_free(path);
}

static void dropped(struct osm__part *p, const struct osm_kube_answer *a)
{
    if (a->status == 409 || a->status == 404) {
        osm__part_again(p);
    } else if (a->rc || !a->object) {
        osm__part_refused(p, a, NEEDS);
    } else {
        p->outcome = OSM__PART_UPGRADED;
        p->begin(p); /* what is left to do is seen from what there is now */
    }
}

/* An apply leaves alone what it does not mention, and a webhook beside the strategy None is
 * refused. */
static void drop_webhook(struct osm__crd *crd)
{
    const char *version = osm_json_text(json_object_get(crd->live, "metadata"), "resourceVersion");
    json_t *body = json_pack("{s:{s:s}, s:{s:{s:s, s:n}}}", "metadata", "resourceVersion", version,
                             "spec", "conversion", "strategy", "None", "webhook");
    char *path = osm_strf("%s?fieldManager=osm-bootstrap", crd->path);
    if (!body || !path)
        osm__part_fail(&crd->part, osm_code_text(OSM_ENOMEM), "");
    else
        osm__part_ask(&crd->part,
                      &(struct osm_kube_ask){.verb = "patch",
                                             .resource = CRDS,
                                             .method = "PATCH",
                                             .path = path,
                                             .content_type = osm_kube_merge_patch,
                                             .body = body},
                      dropped);
    json_decref(body);
    osm_free(path);
}

/* --- looking --- */

static void act(struct osm__crd *crd)
{
    struct osm_crd_plan plan;
    struct osm__part *p = &crd->part;
    osm_crd_plan(&plan, crd->live, crd->ours);
    switch (plan.step) {
    case OSM_CRD_WAIT:
        osm__part_await(p, plan.why, p->begin);
        return;
    case OSM_CRD_REFUSE:
        osm__part_fail(p, plan.why, "");
        return;
    case OSM_CRD_LEAVE:
        p->outcome = OSM__PART_NEWER;
        memcpy(p->reason, plan.why, sizeof plan.why);
        osm__part_done(p);
        return;
    case OSM_CRD_KEEP:
        p->outcome = p->outcome == OSM__PART_WORKING ? OSM__PART_UNCHANGED : p->outcome;
        await(crd);
        return;
    case OSM_CRD_APPLY:
        break;
    }
    p->waiting_since_ms = 0; /* what was going is gone */
    if (plan.drop_webhook)
        drop_webhook(crd);
    else
        apply(crd, plan.drop_unknown);
}

static void looked(struct osm__part *p, const struct osm_kube_answer *a)
{
    if (a->rc || (a->status != 200 && a->status != 404)) {
        osm__part_refused(p, a, NEEDS);
        return;
    }
    set_live(crd_of(p), a->object); /* none of a 404 */
    act(crd_of(p));
}

static void look(struct osm__part *p)
{
    osm__part_ask(p,
                  &(struct osm_kube_ask){.verb = "get", .resource = CRDS, .path = crd_of(p)->path},
                  looked);
}

/* --- life --- */

int osm__crd_init(struct osm__crd *crd, struct osm_install *install,
                  const struct osm_crd_file *file)
{
    *crd = (struct osm__crd){0};
    int rc = osm__part_init(&crd->part, install, file->name, look);
    crd->ours = json_loads(file->json, 0, NULL);
    const json_t *spec = json_object_get(crd->ours, "spec");
    crd->path = osm_strf("/apis/apiextensions.k8s.io/v1/%s/%s", CRDS, file->name);
    crd->objects_path =
        osm_strf("/apis/%s/%s/%s", osm_json_text(spec, "group"), osm_crd_storage(crd->ours),
                 osm_json_text(json_object_get(spec, "names"), "plural"));
    return !rc && crd->ours && crd->path && crd->objects_path ? 0 : OSM_ENOMEM;
}

void osm__crd_clear(struct osm__crd *crd)
{
    osm__part_clear(&crd->part);
    json_decref(crd->ours);
    json_decref(crd->live);
    json_decref(crd->old);
    osm_free(crd->continue_token);
    osm_free(crd->path);
    osm_free(crd->objects_path);
}
