/* One part of an object removed or broken. Parts are counted in the order in which they are met,
 * containers before what they hold; what makes it an object at all (kind, apiVersion, name) is
 * broken too, but removed by nobody but the shrinker, which then finds no object. */
#include "property.h"

#include <string.h>

struct walk {
    size_t left; /* parts to pass before the one that is meant */
    size_t seen;
    unsigned variant;
    struct osm_buf path;
    json_t *parent;
    const char *name; /* in an object; NULL: */
    size_t index;     /* in a list */
    bool found;
};

static void visit(struct walk *w, json_t *value);

static void reach(struct walk *w, json_t *parent, const char *name, size_t index, json_t *value)
{
    size_t len = w->path.len;
    if (name)
        (void)osm_buf_addf(&w->path, "%s%s", len ? "." : "", name);
    else
        (void)osm_buf_addf(&w->path, "[%zu]", index);
    if (w->seen++ == w->left) {
        w->parent = parent;
        w->name = name;
        w->index = index;
        w->found = true;
        return;
    }
    visit(w, value);
    if (w->found)
        return;
    w->path.len = len;
    w->path.data[len] = '\0';
}

static void visit(struct walk *w, json_t *value)
{
    const char *name;
    size_t i;
    json_t *each;
    if (json_is_object(value)) {
        json_object_foreach (value, name, each) {
            reach(w, value, name, 0, each);
            if (w->found)
                return;
        }
    } else {
        json_array_foreach (value, i, each) {
            reach(w, value, NULL, i, each);
            if (w->found)
                return;
        }
    }
}

size_t mutate_spots(const json_t *body)
{
    struct walk w = {.left = SIZE_MAX, .path = OSM_BUF_INIT(TEXT_MAX)};
    visit(&w, (json_t *)(uintptr_t)body);
    osm_buf_clear(&w.path);
    return w.seen;
}

/* None of these is a value that any field of the tested kinds means something by, other than what
 * its absence means. */
static json_t *garbage(unsigned variant)
{
    switch (variant) {
    case 1:
        return json_integer(7);
    case 2:
        return json_string("(*)!");
    case 3:
        return json_object();
    case 4:
        return json_array();
    case 5:
        return json_null();
    case 6:
        return json_string("");
    default:
        return json_true();
    }
}

static const char *const words[VARIANTS] = {"is removed",   "becomes 7",   "becomes \"(*)!\"",
                                            "becomes {}",   "becomes []",  "becomes null",
                                            "becomes \"\"", "becomes true"};

/* --- what SMI reads as "any" when it is absent --- */

static bool matches(const char *path, const char *pattern)
{
    for (; *pattern; pattern++) {
        if (*pattern == '#') { /* an index */
            if (*path < '0' || *path > '9')
                return false;
            while (*path >= '0' && *path <= '9')
                path++;
        } else if (*path++ != *pattern) {
            return false;
        }
    }
    return !*path;
}

/* Do the other TCPRoutes of the target still limit its ports? */
static bool limited(const json_t *target, const struct osm_store *store)
{
    size_t i;
    const json_t *rule, *rules = osm_json_at(target, "spec", "rules", NULL);
    const char *ns = osm_json_str_at(target, "metadata", "namespace", NULL);
    json_array_foreach (rules, i, rule) {
        const char *kind = osm_json_str_at(rule, "kind", NULL);
        if (!kind || strcmp(kind, "TCPRoute") != 0 || !store)
            continue;
        char *key =
            osm_strf("specs.smi-spec.io/TCPRoute/%s/%s", ns, osm_json_str_at(rule, "name", NULL));
        const struct osm_object *route = key ? osm_store_get(store, key) : NULL;
        osm_free(key);
        if (route && json_array_size(osm_json_at(route->body, "spec", "matches", "ports", NULL)))
            return true;
    }
    return false;
}

/* @p body: after it. */
static enum scope scope_of(const json_t *body, const char *path, unsigned variant, bool emptied,
                           bool tcp_rule, const struct osm_store *store)
{
    const char *kind = osm_json_str_at(body, "kind", NULL);
    bool gone = variant == 0 || variant == 5 || variant == 4; /* absent, null, [] */
    if (!kind)
        return SCOPE_NOTHING;
    if (!strcmp(kind, "HTTPRouteGroup")) {
        if (matches(path, "spec.matches[#].pathRegex"))
            return variant == 0 || variant == 5 || variant == 6 ? SCOPE_ROUTES : SCOPE_NOTHING;
        if (matches(path, "spec.matches[#].methods") || matches(path, "spec.matches[#].headers"))
            return gone ? SCOPE_ROUTES : SCOPE_NOTHING;
        if (matches(path, "spec.matches[#].headers[#]"))
            return variant == 0 ? SCOPE_ROUTES : SCOPE_NOTHING;
        if (matches(path, "spec.matches[#].methods[#]"))
            return variant == 0 && emptied ? SCOPE_ROUTES : SCOPE_NOTHING;
    } else if (!strcmp(kind, "TCPRoute")) {
        if (matches(path, "spec.matches"))
            return variant == 3 ? SCOPE_PAIRS : SCOPE_NOTHING;
        if (matches(path, "spec.matches.ports"))
            return gone ? SCOPE_PAIRS : SCOPE_NOTHING;
        if (matches(path, "spec.matches.ports[#]"))
            return variant == 0 && emptied ? SCOPE_PAIRS : SCOPE_NOTHING;
    } else if (!strcmp(kind, "TrafficTarget")) {
        if (matches(path, "spec.rules[#].matches"))
            return gone ? SCOPE_PAIRS : SCOPE_NOTHING;
        if (matches(path, "spec.rules[#].matches[#]"))
            return variant == 0 && emptied ? SCOPE_PAIRS : SCOPE_NOTHING;
        if (matches(path, "spec.rules[#]"))
            return variant == 0 && tcp_rule && !limited(body, store) ? SCOPE_PAIRS : SCOPE_NOTHING;
    }
    return SCOPE_NOTHING;
}

json_t *mutate(const json_t *body, size_t spot, unsigned variant, const struct osm_store *store,
               struct mutation *out)
{
    struct walk w = {.left = spot, .variant = variant, .path = OSM_BUF_INIT(TEXT_MAX)};
    json_t *copy = json_deep_copy(body);
    OSM_REQUIRE(copy);
    visit(&w, copy);
    if (!w.found) {
        json_decref(copy);
        osm_buf_clear(&w.path);
        return NULL;
    }
    const json_t *old =
        w.name ? json_object_get(w.parent, w.name) : json_array_get(w.parent, w.index);
    const char *kind = osm_json_str_at(old, "kind", NULL);
    bool tcp_rule = kind && !strcmp(kind, "TCPRoute");
    (void)snprintf(out->path, sizeof out->path, "%s", w.path.data);
    (void)snprintf(out->what, sizeof out->what, "%s", words[variant]);
    osm_buf_clear(&w.path);
    if (w.name)
        (void)(variant ? json_object_set_new(w.parent, w.name, garbage(variant))
                       : json_object_del(w.parent, w.name));
    else
        (void)(variant ? json_array_set_new(w.parent, w.index, garbage(variant))
                       : json_array_remove(w.parent, w.index));
    out->scope =
        scope_of(copy, out->path, variant, !w.name && !json_array_size(w.parent), tcp_rule, store);
    return copy;
}
