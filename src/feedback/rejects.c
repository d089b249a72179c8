/* What is said about each object: the rejects of a snapshot, by object. */
#include "feedback/feedback_priv.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/utf8.h"

#include <stdio.h>
#include <string.h>

enum { KEY_MAX = 1024, GROUPS_MAX = 4096 };

void osm__about_free(struct osm__about *about)
{
    if (!about)
        return;
    osm_free(about->uid);
    osm_free(about->text);
    osm_free(about->reason);
    osm_free(about);
}

const struct osm__about *osm__rejects_about(const struct osm_feedback *f, const char *key)
{
    return osm_map_get(&f->abouts, key);
}

struct osm__about *osm__about_get(struct osm_feedback *f, const char *key, const char *uid)
{
    struct osm__about *about = osm_map_get(&f->abouts, key);
    if (about && !strcmp(about->uid, uid))
        return about;
    if (about) { /* of another object that had its name */
        (void)osm_map_del(&f->abouts, key);
        osm__about_free(about);
    }
    about = f->abouts.count < OSM__ABOUT_MAX ? osm_alloc(sizeof *about) : NULL;
    if (about)
        about->uid = osm_strdup(uid);
    if (about && about->uid && !osm_map_put(&f->abouts, key, about, NULL))
        return about;
    osm__about_free(about);
    return NULL;
}

/* --- which object --- */

void osm__rejects_kinds(struct osm_feedback *f, const json_t *kinds)
{
    static const char *const core[] = {"Namespace", "Service", "Pod", "Endpoints"};
    size_t i;
    const json_t *kind;
    osm_map_each (&f->groups, e)
        osm_free(e->value);
    osm_map_clear(&f->groups);
    json_t *all = json_array();
    for (i = 0; i < sizeof core / sizeof *core; i++)
        (void)json_array_append_new(all, json_pack("{s:s, s:s}", "kind", core[i], "group", ""));
    (void)json_array_append_new(
        all, json_pack("{s:s, s:s}", "kind", "EndpointSlice", "group", "discovery.k8s.io"));
    (void)json_array_extend(all, (json_t *)(uintptr_t)kinds);
    json_array_foreach (all, i, kind) {
        const char *name = osm_json_text(kind, "kind"), *group = osm_json_text(kind, "group");
        char *old = osm_map_get(&f->groups, name);
        char *both = old ? osm_strf("%s\n%s", old, group) : osm_strdup(group);
        if (!both || strlen(both) > GROUPS_MAX || osm_map_put(&f->groups, name, both, NULL))
            osm_free(both); /* its objects stay without an Event */
        else
            osm_free(old);
    }
    json_decref(all);
    f->look_again = true;
}

/* "TrafficTarget blue/t1" of a reject, from @p origin. Two groups may have the kind. */
static struct osm_object *find(const struct osm_feedback *f, const char *label, const char *origin)
{
    const char *space = strchr(label, ' ');
    char kind[256];
    size_t len = space ? (size_t)(space - label) : sizeof kind;
    if (len >= sizeof kind)
        return NULL;
    memcpy(kind, label, len);
    kind[len] = '\0';
    struct osm_object *found = NULL;
    for (const char *group = osm_map_get(&f->groups, kind); group;) {
        size_t n = strcspn(group, "\n");
        struct osm_buf key = OSM_BUF_INIT(KEY_MAX);
        (void)osm_buf_add(&key, group, n);
        (void)osm_buf_add_strs(&key, "/", kind, "/", strchr(space + 1, '/') ? "" : "/", space + 1,
                               NULL);
        struct osm_object *object = key.failed ? NULL : osm_store_get(f->config.store, key.data);
        osm_buf_clear(&key);
        if (object && (!found || !strcmp(object->origin, origin)))
            found = object;
        group = group[n] ? group + n + 1 : NULL;
    }
    return found;
}

/* --- one object --- */

static void add_reason(struct osm_buf *text, const json_t *reject)
{
    const char *path = osm_json_text(reject, "path");
    (void)osm_buf_add_strs(text, text->len ? "; " : "", path, *path ? ": " : "",
                           osm_json_text(reject, "reason"), NULL);
}

/* For a status. Of one reason: what the texts of Open Service Mesh begin with comes first. */
static char *status_reason(const json_t *reject, size_t n, const char *text)
{
    const char *path = osm_json_text(reject, "path");
    char *reason = n == 1 ? osm_strf("%s%s%s%s", osm_json_text(reject, "reason"), *path ? " (" : "",
                                     path, *path ? ")" : "")
                          : NULL;
    if (reason && strlen(reason) < OSM__TEXT_MAX)
        return reason;
    osm_free(reason);
    return osm_strdup(text);
}

/* @p first of @p n rejects of it. */
static void take(struct osm_feedback *f, const struct osm_object *object, const json_t *first,
                 size_t n, struct osm_buf *text)
{
    const char *uid = osm_json_str_at(object->body, "metadata", "uid", NULL);
    struct osm__about *about = uid ? osm__about_get(f, object->key, uid) : NULL;
    char *cut = osm_strndup(text->data ? text->data : "",
                            text->len < OSM__TEXT_MAX - 1 ? text->len : OSM__TEXT_MAX - 1);
    if (!about || !cut) {
        osm_free(cut);
        f->not_told++;
        return;
    }
    (void)osm_utf8_repair(cut);
    about->epoch = f->epoch;
    (void)snprintf(about->version, sizeof about->version, "%s", object->version);
    osm_free(about->reason);
    about->reason = status_reason(first, n, cut);
    if (about->text && !strcmp(about->text, cut)) {
        osm_free(cut);
        return;
    }
    osm_free(about->text);
    about->text = cut;
    osm__events_put(f, object->key, about);
}

/* Those that were refused before, and are no longer. */
static void take_back(struct osm_feedback *f)
{
    osm_map_each (&f->abouts, e) {
        struct osm__about *about = e->value;
        if (about->epoch == f->epoch || !about->text) /* it is; or is being taken back */
            continue;
        if (!about->sent && osm__events_drop(f, e->key)) { /* there is nothing to correct */
            (void)osm_map_deln(&f->abouts, e->key, e->key_len);
            osm__about_free(about);
        } else {
            osm_free(osm_take_ptr(&about->text));
            osm__events_put(f, e->key, about);
        }
    }
}

void osm__rejects_look(struct osm_feedback *f, const struct osm_snapshot *snapshot)
{
    json_t *rejects = snapshot->rejects;
    if (rejects == f->seen && !f->look_again)
        return;
    json_decref(f->seen);
    f->seen = json_incref(rejects);
    f->look_again = false;
    f->epoch++;
    f->not_told = 0;
    size_t n = json_array_size(rejects);
    for (size_t i = 0; i < n;) { /* those of one object follow each other */
        const json_t *first = json_array_get(rejects, i);
        const char *label = osm_json_text(first, "object");
        struct osm_buf text = OSM_BUF_INIT(64 * 1024);
        size_t begin = i;
        for (; i < n && !strcmp(osm_json_text(json_array_get(rejects, i), "object"), label); i++)
            if (text.len < OSM__TEXT_MAX)
                add_reason(&text, json_array_get(rejects, i));
        const struct osm_object *object = find(f, label, osm_json_text(first, "origin"));
        if (object)
            take(f, object, first, i - begin, &text);
        osm_buf_clear(&text);
    }
    take_back(f);
}

void osm__rejects_clear(struct osm_feedback *f)
{
    osm_map_each (&f->abouts, e)
        osm__about_free(e->value);
    osm_map_clear(&f->abouts);
    json_decref(osm_take_ptr(&f->seen));
    f->look_again = true;
}
