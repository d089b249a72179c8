/* What the objects say of a call: who has granted it, what comes nearest to a grant, and what was
 * rejected that may have been meant. */
#include "whatif/why_not_priv.h"

#include "base/buf.h"
#include "base/json.h"
#include "base/mem.h"

#include <stdbool.h>
#include <string.h>

enum { TEXT_MAX_BYTES = 2048, REJECTS_TOLD_MAX = 10 };

static int no_memory(struct osm__why_not *a)
{
    return osm_fail(a->err, OSM_ENOMEM, "out of memory");
}

/* "TrafficTarget blue/t1", where it is, and @p text. */
static json_t *told(const struct osm__why_not *a, const json_t *object, const char *text)
{
    const char *kind = osm_json_text(object, "kind"), *ns = osm_json_text(object, "namespace"),
               *name = osm_json_text(object, "name");
    const struct osm_object *known = osm__why_not_object(a, kind, ns, name);
    char *label = osm_strf("%s %s/%s", kind, ns, name);
    json_t *out = label ? json_pack("{s:s, s:s, s:s}", "object", label, "origin",
                                    known ? known->origin : "", "text", text)
                        : NULL;
    osm_free(label);
    return out;
}

/* What has let it pass, by the last step that names a policy. */
static int add_allowed(struct osm__why_not *a, json_t *out)
{
    const json_t *steps = json_object_get(a->out, "steps"), *step;
    size_t i;
    int rc = 0;
    json_array_foreach ((json_t *)(uintptr_t)steps, i, step) {
        const char *policy = osm_json_text(step, "policy");
        json_t *grant = NULL;
        if (!*policy || rc)
            continue;
        rc = osm__why_not_ask(a, "grant_explained", json_pack("[s]", policy), &grant);
        size_t at = (size_t)json_integer_value(json_object_get(step, "permission"));
        bool request = !strcmp(osm_json_text(step, "layer"), "request");
        const char *part =
            request ? json_string_value(json_array_get(json_object_get(grant, "parts"), at)) : NULL;
        json_t *entry = json_is_object(grant)
                            ? told(a, grant, part ? part : osm_json_text(step, "layer"))
                            : json_pack("{s:s, s:s, s:s}", "object", policy, "origin", "", "text",
                                        osm_json_text(step, "layer"));
        if (!rc && json_array_append_new(out, entry))
            rc = no_memory(a);
        json_decref(grant);
    }
    return rc;
}

static const json_t *deciding(const struct osm__why_not *a)
{
    const char *layer = osm_json_text(a->out, "layer");
    bool denied = strcmp(osm_json_text(a->out, "verdict"), "allowed") != 0;
    const json_t *step, *last = NULL;
    size_t i;
    json_array_foreach (json_object_get(a->out, "steps"), i, step) {
        if (strcmp(osm_json_text(step, "layer"), layer) != 0)
            continue;
        if (!denied || !json_is_true(json_object_get(step, "passes")))
            return step;
        last = step;
    }
    return last;
}

/* Policies of the server's sidecar that let this very caller do something else. */
static int add_near_policies(struct osm__why_not *a, json_t *out)
{
    const json_t *policy;
    size_t i;
    int rc = 0;
    json_array_foreach (json_object_get(deciding(a), "policies"), i, policy) {
        json_t *grant = NULL;
        const char *name = osm_json_text(policy, "name");
        if (rc || json_is_false(json_object_get(policy, "caller")))
            continue;
        char *text =
            osm_strf("lets %s/%s do: %s", a->ns, a->account, osm_json_text(policy, "permissions"));
        rc = text ? osm__why_not_ask(a, "grant_explained", json_pack("[s]", name), &grant)
                  : no_memory(a);
        json_t *entry = rc                      ? NULL
                        : json_is_object(grant) ? told(a, grant, text)
                                                : json_pack("{s:s, s:s, s:s}", "object", name,
                                                            "origin", "", "text", text);
        if (!rc && json_array_append_new(out, entry))
            rc = no_memory(a);
        json_decref(grant);
        osm_free(text);
    }
    return rc;
}

/* Targets that would grant it if they named the caller, or the server. */
static int add_near_grants(struct osm__why_not *a, json_t *out)
{
    const json_t *accounts = json_object_get(a->explained, "accounts"), *account, *near;
    char *caller = osm_strf("%s/%s", a->ns, a->account);
    size_t i, k;
    int rc = caller ? 0 : no_memory(a);
    json_array_foreach ((json_t *)(uintptr_t)accounts, i, account) {
        json_t *list = NULL;
        if (!rc)
            rc = osm__why_not_ask(
                a, "near_grants",
                json_pack("[ssO]", caller, a->service_ns, (json_t *)(uintptr_t)account), &list);
        json_array_foreach (rc ? NULL : list, k, near) {
            json_t *entry = told(a, near, osm_json_text(near, "text"));
            if (json_array_append_new(out, entry))
                rc = no_memory(a);
        }
        json_decref(list);
    }
    osm_free(caller);
    return rc;
}

static int add_near(struct osm__why_not *a, json_t *out)
{
    int rc = add_near_policies(a, out);
    bool granted = json_array_size(out) || json_object_get(deciding(a), "policy");
    return rc || granted || !a->port ? rc : add_near_grants(a, out);
}

/* Whether any text in the value is this one. */
static bool mentions(const json_t *value, const char *text)
{
    const char *key;
    json_t *item;
    size_t i;
    if (json_is_string(value))
        return !strcmp(json_string_value(value), text);
    json_object_foreach ((json_t *)(uintptr_t)value, key, item)
        if (mentions(item, text))
            return true;
    json_array_foreach (value, i, item)
        if (mentions(item, text))
            return true;
    return false;
}

/* Without knowing what its kind means: it names both sides of the call. */
static bool is_about(const struct osm__why_not *a, const struct osm_object *o)
{
    const json_t *spec = json_object_get(o->body, "spec"), *account;
    size_t i;
    bool server = mentions(spec, a->service);
    json_array_foreach (json_object_get(a->explained, "accounts"), i, account)
        server = server || mentions(spec, json_string_value(account));
    return server && mentions(spec, a->account);
}

/* What rejects are held against. */
struct related {
    struct osm_map labels;           /* "TrafficTarget blue/t1" -> object */
    const struct osm_object **about; /* the call */
    size_t len;
};

static int relate(const struct osm__why_not *a, struct related *r)
{
    const struct osm_changes *objects = a->q->objects;
    r->about = osm_alloc_array(objects->len + 1, sizeof *r->about);
    int rc = r->about ? 0 : OSM_ENOMEM;
    for (size_t i = 0; i < objects->len && !rc; i++) {
        struct osm_object *o = objects->list[i].now;
        char *label = osm_strf("%s %s/%s", o->kind, o->ns, o->name);
        rc = label ? osm_map_put(&r->labels, label, o, NULL) : OSM_ENOMEM;
        osm_free(label);
        if (is_about(a, o))
            r->about[r->len++] = o;
    }
    return rc;
}

/* It is about the call; or an object of its namespace that is names it, as a target its routes; or
 * it is the Service, or divides it. */
static bool has_to_do(const struct osm__why_not *a, const struct related *r,
                      const struct osm_object *o)
{
    const char *divided = osm_json_text(json_object_get(o->body, "spec"), "service");
    if (!strcmp(o->ns, a->service_ns) &&
        (!strcmp(divided, a->service) ||
         (osm_object_is(o, "", "Service") && !strcmp(o->name, a->service))))
        return true;
    for (size_t i = 0; i < r->len; i++)
        if (r->about[i] == o || (!strcmp(r->about[i]->ns, o->ns) &&
                                 mentions(json_object_get(r->about[i]->body, "spec"), o->name)))
            return true;
    return false;
}

static int add_rejects(struct osm__why_not *a, json_t *out)
{
    struct related r = {.labels = OSM_MAP_INIT};
    size_t i;
    const json_t *reject;
    int rc = json_array_size(a->q->served->rejects) ? relate(a, &r) : 0;
    json_array_foreach (rc ? NULL : a->q->served->rejects, i, reject) {
        const struct osm_object *o = osm_map_get(&r.labels, osm_json_text(reject, "object"));
        if (json_array_size(out) >= REJECTS_TOLD_MAX)
            break;
        if (o && has_to_do(a, &r, o) && json_array_append(out, (json_t *)(uintptr_t)reject))
            rc = OSM_ENOMEM;
    }
    osm_map_clear(&r.labels);
    osm_free(r.about);
    return rc ? no_memory(a) : 0;
}

/* The verdict in a sentence, in the words of the mesh. */
static int add_text(struct osm__why_not *a, const json_t *allowed, const json_t *near)
{
    struct osm_buf text = OSM_BUF_INIT(TEXT_MAX_BYTES);
    const char *verdict = osm_json_text(a->out, "verdict"), *layer = osm_json_text(a->out, "layer");
    const char *why = osm_json_text(deciding(a), "text");
    const json_t *by = json_array_get(allowed, json_array_size(allowed) - 1);
    const json_t *nearest = json_array_get(near, 0);
    if (json_object_get(a->out, "text"))
        return 0;
    if (!strcmp(verdict, "allowed") && by)
        (void)osm_buf_addf(&text, "by %s, %s", osm_json_text(by, "object"),
                           osm_json_text(by, "text"));
    else if (!strcmp(verdict, "allowed"))
        (void)osm_buf_add_str(&text, json_is_true(json_object_get(a->explained, "permissive"))
                                         ? "in permissive mode every account may call every other"
                                         : "no sidecar of the mesh forbids it");
    else if (!strcmp(layer, "client listener") && !strcmp(verdict, "denied"))
        (void)osm_buf_addf(
            &text, "nothing grants %s/%s a call of %s/%s%s: %s", a->ns, a->account, a->service_ns,
            a->service,
            json_array_size(json_object_get(a->explained, "accounts")) ? "" : ", which has no pod",
            why);
    else
        (void)osm_buf_add_str(&text, why);
    bool misses = json_object_get(deciding(a), "policies") && nearest;
    if (strcmp(verdict, "allowed") != 0 && misses)
        (void)osm_buf_addf(&text, "; %s %s", osm_json_text(nearest, "object"),
                           osm_json_text(nearest, "text"));
    int rc =
        text.failed || json_object_set_new(a->out, "text", json_string(text.data ? text.data : ""))
            ? no_memory(a)
            : 0;
    osm_buf_clear(&text);
    return rc;
}

int osm__why_not_explain(struct osm__why_not *a)
{
    json_t *allowed = json_array(), *near = json_array(), *rejects = json_array();
    const char *verdict = osm_json_text(a->out, "verdict");
    int rc = allowed && near && rejects ? 0 : no_memory(a);
    if (!rc && strcmp(verdict, "denied") != 0)
        rc = add_allowed(a, allowed);
    if (!rc && strcmp(verdict, "allowed") != 0 && a->explained)
        rc = add_near(a, near);
    if (!rc && strcmp(verdict, "allowed") != 0)
        rc = add_rejects(a, rejects);
    if (!rc)
        rc = add_text(a, allowed, near);
    json_t *more =
        rc ? NULL
           : json_pack("{s:O, s:O, s:O}", "allowed_by", allowed, "near", near, "rejects", rejects);
    if (!rc && (!more || json_object_update(a->out, more)))
        rc = no_memory(a);
    json_decref(more);
    json_decref(allowed);
    json_decref(near);
    json_decref(rejects);
    return rc;
}
