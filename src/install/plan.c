#include "install/plan.h"

#include "base/json.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char REVISION[] = "openservicemesh.io/crd-revision";

static const json_t *spec_of(const json_t *crd)
{
    return json_object_get(crd, "spec");
}

static const json_t *version_of(const json_t *crd, const char *name)
{
    size_t i;
    json_t *version;
    json_array_foreach (json_object_get(spec_of(crd), "versions"), i, version)
        if (!strcmp(osm_json_text(version, "name"), name))
            return version;
    return NULL;
}

/* 0: it has none, as whatever is not ours. */
static unsigned long revision_of(const json_t *crd)
{
    const json_t *annotations = json_object_get(json_object_get(crd, "metadata"), "annotations");
    const char *text = osm_json_text(annotations, REVISION);
    char *end = NULL;
    unsigned long revision = isdigit((unsigned char)*text) ? strtoul(text, &end, 10) : 0;
    return end && !*end ? revision : 0;
}

/* --- is it ours? --- */

/* All that @p ours says is in @p live, which may say more in its objects, not in its lists. */
static bool contains(const json_t *live, const json_t *ours)
{
    const char *key;
    json_t *value;
    if (json_is_object(ours)) {
        json_object_foreach ((json_t *)(uintptr_t)ours, key, value)
            if (!contains(json_object_get(live, key), value))
                return false;
        return json_is_object(live);
    }
    if (json_is_array(ours)) {
        bool same = json_is_array(live) && json_array_size(live) == json_array_size(ours);
        for (size_t i = 0; same && i < json_array_size(ours); i++)
            same = contains(json_array_get(live, i), json_array_get(ours, i));
        return same;
    }
    return json_equal(live, ours);
}

static bool is_foreign(const json_t *live, const json_t *ours, char *why, size_t size)
{
    const json_t *a = spec_of(live), *b = spec_of(ours);
    const json_t *names = json_object_get(a, "names"), *our_names = json_object_get(b, "names");
    const char *kind = osm_json_text(names, "kind"), *our_kind = osm_json_text(our_names, "kind");
    const char *scope = osm_json_text(a, "scope"), *our_scope = osm_json_text(b, "scope");
    if (!strcmp(kind, our_kind) && !strcmp(scope, our_scope))
        return false;
    (void)snprintf(why, size,
                   "is of kind %.64s and scope %.32s, not %s and %s: another product has taken the "
                   "name; delete that definition, or keep its product out of this cluster",
                   kind, scope, our_kind, our_scope);
    return true;
}

static bool is_newer(const json_t *live, const json_t *ours, char *why, size_t size)
{
    unsigned long revision = revision_of(live), our_revision = revision_of(ours);
    size_t i;
    json_t *version;
    if (revision > our_revision) {
        (void)snprintf(why, size, "is of revision %lu, ours of %lu: a newer release made it",
                       revision, our_revision);
        return true;
    }
    json_array_foreach (json_object_get(spec_of(live), "versions"), i, version) {
        const char *name = osm_json_text(version, "name");
        if (version_of(ours, name))
            continue;
        (void)snprintf(why, size, "has a version %.64s, which ours lacks: someone newer made it",
                       name);
        return true;
    }
    return false;
}

static const json_t *condition(const json_t *live, const char *type)
{
    size_t i;
    json_t *found;
    json_array_foreach (json_object_get(json_object_get(live, "status"), "conditions"), i, found)
        if (!strcmp(osm_json_text(found, "type"), type))
            return found;
    return NULL;
}

static bool is_going(const json_t *live, char *why, size_t size)
{
    const char *since = osm_json_text(json_object_get(live, "metadata"), "deletionTimestamp");
    const json_t *names = json_object_get(spec_of(live), "names");
    const char *says = osm_json_text(condition(live, "Terminating"), "message");
    if (!*since)
        return false;
    (void)snprintf(why, size,
                   "is being deleted since %.32s%s%.160s; what holds it are objects with "
                   "finalizers: kubectl get %.64s.%.100s -A",
                   since, *says ? ": " : "", says, osm_json_text(names, "plural"),
                   osm_json_text(spec_of(live), "group"));
    return true;
}

void osm_crd_plan(struct osm_crd_plan *out, const json_t *live, const json_t *ours)
{
    *out = (struct osm_crd_plan){.step = OSM_CRD_APPLY};
    if (!live)
        return;
    const json_t *conversion = json_object_get(spec_of(live), "conversion");
    if (is_going(live, out->why, sizeof out->why))
        out->step = OSM_CRD_WAIT;
    else if (is_foreign(live, ours, out->why, sizeof out->why))
        out->step = OSM_CRD_REFUSE;
    else if (is_newer(live, ours, out->why, sizeof out->why))
        out->step = OSM_CRD_LEAVE;
    else if (contains(live, ours))
        out->step = OSM_CRD_KEEP;
    if (out->step != OSM_CRD_APPLY)
        return;
    out->drop_webhook = !strcmp(osm_json_text(conversion, "strategy"), "Webhook");
    out->drop_unknown = json_is_true(json_object_get(spec_of(live), "preserveUnknownFields"));
}

/* --- does the server take its objects? --- */

static bool says(const json_t *live, const char *type, const char *status)
{
    return !strcmp(osm_json_text(condition(live, type), "status"), status);
}

enum osm_crd_state osm_crd_state(const json_t *live, char why[OSM_CRD_WHY_SIZE])
{
    static const char *const bad[] = {"NonStructuralSchema", "Established"};
    bool refused = says(live, "NamesAccepted", "False");
    why[0] = '\0';
    if (refused)
        (void)snprintf(why, OSM_CRD_WHY_SIZE,
                       "its names are another definition's: %.200s; delete the other one, or have "
                       "it give them up",
                       osm_json_text(condition(live, "NamesAccepted"), "message"));
    if (says(live, "Established", "True"))
        return OSM_CRD_READY;
    for (size_t i = 0; i < sizeof bad / sizeof *bad && !*why; i++)
        (void)snprintf(why, OSM_CRD_WHY_SIZE, "%.300s",
                       osm_json_text(condition(live, bad[i]), "message"));
    return refused ? OSM_CRD_CONFLICT : OSM_CRD_PENDING;
}

/* --- in which version are its objects? --- */

const char *osm_crd_storage(const json_t *crd)
{
    size_t i;
    json_t *version;
    json_array_foreach (json_object_get(spec_of(crd), "versions"), i, version)
        if (json_is_true(json_object_get(version, "storage")))
            return osm_json_text(version, "name");
    return "";
}

bool osm_crd_has_old_objects(const json_t *live)
{
    const char *storage = osm_crd_storage(live);
    size_t i;
    json_t *version;
    json_array_foreach (json_object_get(json_object_get(live, "status"), "storedVersions"), i,
                        version)
        if (*storage &&
            strcmp(json_string_value(version) ? json_string_value(version) : "", storage) != 0)
            return true;
    return false;
}
