#include "app/eval_diff.h"

#include "base/json.h"
#include "debug/render.h"
#include "reload/compare.h"

#include <string.h>

enum { CHANGES_MAX = 200, ROWS_MAX_BYTES = 1 << 20 };

struct telling {
    json_t *list;
    size_t more;
    bool failed;
};

static void tell(struct telling *t, const struct osm_snapshot_proxy *proxy, enum osm_xds_type type,
                 const char *resource, const char *change)
{
    if (json_array_size(t->list) >= CHANGES_MAX) {
        t->more++;
        return;
    }
    if (json_array_append_new(t->list, json_pack("{s:o, s:s, s:s, s:s}", "proxy",
                                                 json_sprintf("%s/%s", proxy->ns, proxy->pod),
                                                 "type", osm_xds_type_short(type), "resource",
                                                 resource, "change", change)))
        t->failed = true;
}

/* Both lists are sorted by name. */
static void compare_type(struct telling *t, const struct osm_snapshot_proxy *before,
                         const struct osm_snapshot_proxy *after, enum osm_xds_type type)
{
    struct osm_resource **a = before->cls->types[type].list, **b = after->cls->types[type].list;
    size_t a_len = before->cls->types[type].len, b_len = after->cls->types[type].len;
    for (size_t i = 0, k = 0; i < a_len || k < b_len;) {
        int order = i == a_len ? 1 : k == b_len ? -1 : strcmp(a[i]->name, b[k]->name);
        if (order < 0)
            tell(t, before, type, a[i++]->name, "removed");
        else if (order > 0)
            tell(t, after, type, b[k++]->name, "added");
        else if (strcmp(a[i++]->version, b[k++]->version) != 0)
            tell(t, after, type, b[k - 1]->name, "changed");
    }
}

static json_t *opened_pairs(const struct osm_comparison *found)
{
    const char *pair;
    json_t *pairs = json_array(), *unused;
    json_object_foreach (found->opened, pair, unused)
        if (pairs && json_array_append_new(pairs, json_string(pair))) {
            json_decref(pairs);
            pairs = NULL;
        }
    return pairs;
}

json_t *osm_eval_diff(const struct osm_snapshot *served, const struct osm_snapshot *next,
                      struct osm_err *err)
{
    struct osm_comparison found;
    struct telling t = {0};
    if (osm_compare(&found, served, next, err))
        return NULL;
    t.list = json_array();
    for (size_t i = 0; t.list && i < served->proxies_len; i++) {
        const struct osm_snapshot_proxy *before = &served->proxies[i];
        const struct osm_snapshot_proxy *after = osm_snapshot_find(next, before->key);
        for (int type = 0; after && before->cls != after->cls && type < OSM_XDS_TYPE_COUNT; type++)
            compare_type(&t, before, after, (enum osm_xds_type)type);
    }
    json_t *pairs = opened_pairs(&found);
    json_t *out = t.list && !t.failed && pairs
                      ? json_pack("{s:I, s:I, s:O, s:I, s:O}", "proxies", (json_int_t)found.proxies,
                                  "changed_proxies", (json_int_t)found.changed_proxies, "changes",
                                  t.list, "more", (json_int_t)t.more, "opens", pairs)
                      : NULL;
    json_decref(t.list);
    json_decref(pairs);
    osm_comparison_clear(&found);
    if (!out)
        (void)osm_fail(err, OSM_ENOMEM, "out of memory");
    return out;
}

int osm_eval_diff_text(struct osm_buf *out, const json_t *diff)
{
    const json_t *changes = json_object_get(diff, "changes"), *pair;
    size_t i;
    (void)osm_buf_addf(out, "%d of %d proxies would be served something else\n",
                       (int)json_integer_value(json_object_get(diff, "changed_proxies")),
                       (int)json_integer_value(json_object_get(diff, "proxies")));
    if (json_array_size(changes))
        (void)osm_render(out, changes);
    if (json_integer_value(json_object_get(diff, "more")))
        (void)osm_buf_addf(out, "and %d more\n",
                           (int)json_integer_value(json_object_get(diff, "more")));
    json_array_foreach (json_object_get(diff, "opens"), i, pair) {
        (void)osm_buf_add_str(out, "lets in who is denied today: ");
        (void)osm_render_text(out, json_string_value(pair));
        (void)osm_buf_add_char(out, '\n');
    }
    return out->failed;
}
