/* The status of objects whose kind has one of ours: {"currentStatus": "committed" or "error",
 * "reason"}, as Open Service Mesh wrote them for IngressBackend and UpstreamTrafficSetting.
 *
 * A kind has one if its definition says so: there is a subresource `status`, and it names
 * `status.currentStatus`, in its schema or as what kubectl is to print. So a later kind needs no
 * line here, and the status of a kind that is somebody else's is left alone.
 *
 * Written by a merge patch that names uid and resourceVersion: what was judged is what gets the
 * verdict. An apply would take the fields for our own, which another controller's status shares,
 * and would have to be forced over what Open Service Mesh itself has left. A status is no part of
 * what the policies read, so that none of this makes a rule run again. */
#include "feedback/feedback_priv.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "base/utf8.h"

#include <stdio.h>
#include <string.h>

enum { ASK_DEADLINE_MS = 15 * 1000, ASK_AGAIN_MS = 60 * 1000, DEFINITION_MAX = 8 << 20 };

static const char committed_reason[] = "successfully committed by the system";

static const struct osm_outbox_limits limits = {.keys_max = 20000,
                                                .burst = 100,
                                                .per_s = 20,
                                                .backoff_ms = 1000,
                                                .backoff_max_ms = 5 * 60 * 1000,
                                                .rest_ms = 500,
                                                .rest_max_ms = 60 * 1000,
                                                .denied_ms = 30 * 1000,
                                                .denials = 3};

/* --- which kinds --- */

static void kind_free(struct osm__status_kind *k)
{
    if (!k)
        return;
    osm_kube_cancel(k->call);
    osm_free(k->group);
    osm_free(k->kind);
    osm_free(k);
}

static bool is_text(const json_t *schema)
{
    const char *type = json_string_value(json_object_get(schema, "type"));
    return type && !strcmp(type, "string");
}

/* Whether this version of a definition has a status of ours. */
static bool names_it(const json_t *version)
{
    const json_t *status =
        osm_json_at(version, "schema", "openAPIV3Schema", "properties", "status", NULL);
    size_t i;
    const json_t *column;
    if (!osm_json_at(version, "subresources", "status", NULL))
        return false;
    if (is_text(osm_json_at(status, "properties", "currentStatus", NULL)))
        return is_text(osm_json_at(status, "properties", "reason", NULL));
    if (!json_is_true(json_object_get(status, "x-kubernetes-preserve-unknown-fields")))
        return false;
    const json_t *columns = json_object_get(version, "additionalPrinterColumns");
    json_array_foreach ((json_t *)(uintptr_t)columns, i, column)
        if (!strcmp(osm_json_text(column, "jsonPath"), ".status.currentStatus"))
            return true;
    return false;
}

static bool has_it(const json_t *list, const char *version)
{
    const json_t *crd = json_array_get(json_object_get(list, "items"), 0);
    size_t i;
    const json_t *each;
    json_array_foreach ((json_t *)(uintptr_t)osm_json_at(crd, "spec", "versions", NULL), i, each)
        if (!strcmp(osm_json_text(each, "name"), version))
            return names_it(each);
    return false;
}

/* "v1alpha1" of ".../v1alpha1/ingressbackends". */
static bool split_path(const char *path, char version[64], const char **plural)
{
    const char *end = path ? strrchr(path, '/') : NULL, *begin = end;
    while (begin && begin > path && begin[-1] != '/')
        begin--;
    if (!begin || end - begin >= 64)
        return false;
    memcpy(version, begin, (size_t)(end - begin));
    version[end - begin] = '\0';
    *plural = end + 1;
    return true;
}

static void on_definition(void *ud, const struct osm_kube_result *result)
{
    struct osm__status_kind *k = ud;
    struct osm_feedback *f = k->feedback;
    char version[64];
    const char *plural;
    k->call = NULL;
    if (result->rc == OSM_ECANCELED)
        return;
    bool is_success = !result->rc && result->status == 200 && result->body->data;
    json_t *list = is_success ? json_loadb(result->body->data, result->body->len, 0, NULL) : NULL;
    k->has = OSM__STATUS_UNKNOWN;
    k->again_ms = osm_now_ms() + ASK_AGAIN_MS;
    if (list &&
        split_path(osm_source_kube_path(f->config.source, k->group, k->kind), version, &plural))
        k->has = has_it(list, version) ? OSM__STATUS_YES : OSM__STATUS_NO;
    json_decref(list);
    if (k->has == OSM__STATUS_YES)
        osm__feedback_look(f);
}

static void ask_definition(struct osm_feedback *f, struct osm__status_kind *k)
{
    struct osm_err err = {0};
    char version[64];
    const char *plural;
    if (!split_path(osm_source_kube_path(f->config.source, k->group, k->kind), version, &plural))
        return;
    char *path = osm_strf("/apis/apiextensions.k8s.io/v1/customresourcedefinitions?"
                          "fieldSelector=metadata.name%%3D%s.%s",
                          plural, k->group);
    const struct osm_kube_request request = {.verb = "list",
                                             .resource = "customresourcedefinitions",
                                             .path = path,
                                             .deadline_ms = ASK_DEADLINE_MS,
                                             .body_max = DEFINITION_MAX,
                                             .ud = k,
                                             .done = on_definition};
    k->definitions = osm_source_kube_definitions(f->config.source);
    if (path && !osm_kube_start(&k->call, f->kube, &request, &err))
        k->has = OSM__STATUS_ASKING;
    else
        k->again_ms = osm_now_ms() + ASK_AGAIN_MS;
    osm_free(path);
}

void osm__status_kinds(struct osm_feedback *f, const json_t *kinds)
{
    size_t i;
    const json_t *wanted;
    osm_map_each (&f->kinds, e)
        ((struct osm__status_kind *)e->value)->wanted = false;
    json_array_foreach ((json_t *)(uintptr_t)kinds, i, wanted) {
        const char *group = osm_json_text(wanted, "group"), *kind = osm_json_text(wanted, "kind");
        char *type = strchr(group, '.') ? osm_strf("%s/%s", group, kind) : NULL;
        struct osm__status_kind *k = type ? osm_map_get(&f->kinds, type) : NULL;
        if (type && !k) {
            k = osm_alloc(sizeof *k);
            if (k) {
                k->feedback = f;
                k->group = osm_strdup(group);
                k->kind = osm_strdup(kind);
            }
            if (k && (!k->group || !k->kind || osm_map_put(&f->kinds, type, k, NULL))) {
                kind_free(k);
                k = NULL;
            }
        }
        if (k)
            k->wanted = true;
        osm_free(type);
    }
    osm_map_each (&f->kinds, e) {
        struct osm__status_kind *k = e->value;
        if (k->wanted)
            continue;
        (void)osm_map_deln(&f->kinds, e->key, e->key_len);
        kind_free(k);
    }
}

/* --- the status of one object --- */

/* What it should be; *reason: osm_free. False: no memory. */
static bool verdict(const struct osm_feedback *f, const char *key, const char **status,
                    char **reason)
{
    const struct osm__about *about = osm__rejects_about(f, key);
    bool is_refused = about && about->text;
    *status = is_refused ? "error" : "committed";
    *reason = osm_strdup(!is_refused     ? committed_reason
                         : about->reason ? about->reason
                                         : about->text);
    return *reason;
}

static bool differs(const struct osm_feedback *f, const struct osm_object *object)
{
    const json_t *now = json_object_get(object->body, "status");
    const char *status;
    char *reason;
    if (!verdict(f, object->key, &status, &reason))
        return false;
    bool is_other = strcmp(osm_json_text(now, "currentStatus"), status) != 0 ||
                    strcmp(osm_json_text(now, "reason"), reason) != 0;
    osm_free(reason);
    return is_other;
}

static void look_at(void *ud, struct osm_object *object)
{
    struct osm_feedback *f = ud;
    char type[512];
    (void)snprintf(type, sizeof type, "%s/%s", object->group, object->kind);
    const struct osm__status_kind *k = osm_map_get(&f->kinds, type);
    const char *version = osm_json_str_at(object->body, "metadata", "resourceVersion", NULL);
    const char *known = osm_map_get(&f->due, object->key);
    void *old = NULL;
    if (!k || k->has != OSM__STATUS_YES || !version)
        return;
    if (!differs(f, object)) {
        (void)osm_writer_drop(f->statuses, object->key);
        osm_free(osm_map_del(&f->due, object->key));
        return;
    }
    if (known && *known == '!' && !strcmp(known + 1, version))
        return; /* it was written: the watch will tell */
    char *copy = osm_strdup(version);
    if (!copy || osm_map_put(&f->due, object->key, copy, &old)) {
        osm_free(copy);
        return;
    }
    osm_free(old);
    osm_writer_put(f->statuses, object->key);
}

void osm__status_look(struct osm_feedback *f)
{
    uint64_t now_ms = osm_now_ms();
    bool any = false;
    osm_map_each (&f->kinds, e) {
        struct osm__status_kind *k = e->value;
        bool is_old = k->has != OSM__STATUS_UNKNOWN &&
                      k->definitions != osm_source_kube_definitions(f->config.source);
        if (!k->call && ((k->has == OSM__STATUS_UNKNOWN && now_ms >= k->again_ms) || is_old))
            ask_definition(f, k);
        any = any || k->has == OSM__STATUS_YES;
    }
    if (any)
        osm_store_each(f->config.store, look_at, f);
    osm_map_each (&f->due, e) {
        if (osm_store_get(f->config.store, e->key))
            continue;
        (void)osm_writer_drop(f->statuses, e->key);
        osm_free(osm_map_deln(&f->due, e->key, e->key_len));
    }
}

static bool make(void *ud, const char *key, struct osm_write *out)
{
    struct osm_feedback *f = ud;
    const struct osm_object *object = osm_store_get(f->config.store, key);
    const char *judged = osm_map_get(&f->due, key), *status;
    const char *version =
        object ? osm_json_str_at(object->body, "metadata", "resourceVersion", NULL) : NULL;
    const char *uid = object ? osm_json_str_at(object->body, "metadata", "uid", NULL) : NULL;
    const char *path =
        object ? osm_source_kube_path(f->config.source, object->group, object->kind) : NULL;
    const char *slash = path ? strrchr(path, '/') : NULL;
    char *reason = NULL;
    bool is_judged = judged && version && !strcmp(judged, version);
    if (!is_judged || !uid || !slash || !differs(f, object) || !verdict(f, key, &status, &reason)) {
        osm_free(osm_map_del(&f->due, key)); /* the next look has it anew */
        return false;
    }
    bool is_in = *object->ns;
    out->content_type = "application/merge-patch+json";
    out->path = osm_strf("%.*s%s%s/%s/%s/status?fieldManager=osm-controller", (int)(slash - path),
                         path, is_in ? "/namespaces/" : "", object->ns, slash + 1, object->name);
    out->body = json_pack("{s:{s:s, s:s}, s:{s:s, s:s}}", "metadata", "uid", uid, "resourceVersion",
                          version, "status", "currentStatus", status, "reason", reason);
    osm_free(reason);
    return out->path && out->body;
}

static void done(void *ud, const char *key, enum osm_outbox_outcome outcome)
{
    struct osm_feedback *f = ud;
    const char *judged = osm_map_get(&f->due, key);
    char *written = outcome == OSM_OUTBOX_DONE && judged ? osm_strf("!%s", judged) : NULL;
    void *old = NULL;
    osm__feedback_count("status", outcome);
    if (written && !osm_map_put(&f->due, key, written, &old))
        osm_free(old);
    else
        osm_free(written);
    if (outcome == OSM_OUTBOX_GONE)
        osm_free(osm_map_del(&f->due, key));
}

/* --- life --- */

static bool may(void *ud)
{
    const struct osm_feedback *f = ud;
    return f->adopted && !f->stopping && f->leads && osm_elector_leads(f->elector);
}

int osm__status_init(struct osm_feedback *f, struct osm_err *err)
{
    const struct osm_writer_config config = {.loop = f->config.loop,
                                             .kube = f->kube,
                                             .limits = &limits,
                                             .resource = "status",
                                             .what = "statuses",
                                             .ud = f,
                                             .may = may,
                                             .make = make,
                                             .done = done};
    return osm_writer_new(&f->statuses, &config, err);
}

void osm__status_drop_all(struct osm_feedback *f)
{
    osm_writer_drop_all(f->statuses);
    osm_map_each (&f->due, e)
        osm_free(e->value);
    osm_map_clear(&f->due);
}

void osm__status_clear(struct osm_feedback *f)
{
    if (f->statuses)
        osm__status_drop_all(f);
    osm_writer_free(f->statuses);
    osm_map_each (&f->kinds, e)
        kind_free(e->value);
    osm_map_clear(&f->kinds);
}
