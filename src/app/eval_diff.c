#include "app/eval_diff.h"

#include "base/json.h"
#include "debug/render.h"
#include "whatif/snapshots.h"

#include <string.h>

/* How much is told at all, and how much of it a person reads. */
enum {
    FIELDS_MAX = 1000,
    BYTES_MAX = 8 << 20,
    GUARD_PERCENT = 30,
    GROUPS_SHOWN = 10,
    CHANGES_SHOWN = 20,
    FIELDS_SHOWN = 20,
    NAMES_SHOWN = 4,
    VALUE_SHOWN_BYTES = 160
};

json_t *osm_eval_diff(const struct osm_snapshot *served, const struct osm_snapshot *next,
                      struct osm_err *err)
{
    const struct osm_resources_limits limits = {.fields_max = FIELDS_MAX, .bytes_max = BYTES_MAX};
    json_t *out = NULL;
    return osm_snapshots_diff(served, next, &limits, GUARD_PERCENT, &out, err) ? NULL : out;
}

/* --- for a person --- */

static int append_start(const char *data, size_t len, void *ud)
{
    struct osm_buf *buf = ud;
    size_t room = buf->max - buf->len;
    return osm_buf_add(buf, data, len < room ? len : room);
}

static void add_value(struct osm_buf *out, const json_t *value)
{
    struct osm_buf text = OSM_BUF_INIT(VALUE_SHOWN_BYTES);
    (void)json_dump_callback(value, append_start, &text, JSON_COMPACT | JSON_ENCODE_ANY);
    if (text.data)
        (void)osm_render_text(out, text.data);
    if (text.len == text.max)
        (void)osm_buf_add_str(out, "...");
    osm_buf_clear(&text);
}

static void add_more(struct osm_buf *out, const char *indent, size_t n, const char *what)
{
    if (n)
        (void)osm_buf_addf(out, "%sand %zu more %s\n", indent, n, what);
}

static void add_field(struct osm_buf *out, const json_t *field)
{
    const char *change = osm_json_text(field, "change"), *path = osm_json_text(field, "path");
    bool added = !strcmp(change, "added"), removed = !strcmp(change, "removed");
    if (!*path) /* the whole resource */
        return;
    (void)osm_buf_add_strs(out, "    ", added ? "+ " : removed ? "- " : "", NULL);
    (void)osm_render_text(out, path);
    (void)osm_buf_add_str(out, ": ");
    if (!added)
        add_value(out, json_object_get(field, "before"));
    (void)osm_buf_add_str(out, added || removed ? "" : " -> ");
    if (!removed)
        add_value(out, json_object_get(field, "after"));
    (void)osm_buf_add_char(out, '\n');
}

static void add_change(struct osm_buf *out, const json_t *change)
{
    const json_t *fields = json_object_get(change, "fields"), *field;
    const char *how = osm_json_text(change, "change");
    size_t i, n = json_array_size(fields);
    (void)osm_buf_add_strs(out, "  ", !strcmp(how, "added") ? "+ " : "", NULL);
    (void)osm_buf_add_strs(out, !strcmp(how, "removed") ? "- " : "", osm_json_text(change, "type"),
                           " ", NULL);
    (void)osm_render_text(out, osm_json_text(change, "name"));
    (void)osm_buf_add_char(out, '\n');
    if (strcmp(how, "changed") != 0)
        return;
    json_array_foreach ((json_t *)(uintptr_t)fields, i, field)
        if (i < FIELDS_SHOWN)
            add_field(out, field);
    add_more(out, "    ",
             (n > FIELDS_SHOWN ? n - FIELDS_SHOWN : 0) +
                 (size_t)json_integer_value(json_object_get(change, "more")),
             "fields");
}

static void add_group(struct osm_buf *out, const json_t *diff, const json_t *group)
{
    const json_t *proxies = json_object_get(group, "proxies"), *proxy, *place;
    const json_t *changes = json_object_get(group, "changes");
    size_t i, n = json_array_size(proxies);
    (void)osm_buf_addf(out, "%zu %s: ", n, n == 1 ? "proxy" : "proxies");
    json_array_foreach ((json_t *)(uintptr_t)proxies, i, proxy) {
        if (i == NAMES_SHOWN)
            break;
        (void)osm_buf_add_str(out, i ? ", " : "");
        (void)osm_render_text(out, json_string_value(proxy));
    }
    (void)osm_buf_add_str(out, n > NAMES_SHOWN ? ", ...\n" : "\n");
    json_array_foreach ((json_t *)(uintptr_t)changes, i, place)
        if (i < CHANGES_SHOWN)
            add_change(out, json_array_get(json_object_get(diff, "changes"),
                                           (size_t)json_integer_value(place)));
    n = json_array_size(changes);
    add_more(out, "  ", n > CHANGES_SHOWN ? n - CHANGES_SHOWN : 0, "resources");
}

/* Lists beside the changes that have something to tell: as tables, and texts. */
static void add_lists(struct osm_buf *out, const json_t *diff)
{
    static const char *const lists[] = {"appear", "leave", "rejected", "accepted",
                                        "errors", "fixed", "daemon",   NULL};
    const json_t *guards = json_object_get(diff, "guards"), *guard;
    size_t k;
    for (const char *const *name = lists; *name; name++) {
        const json_t *list = json_object_get(diff, *name);
        if (!json_array_size(list))
            continue;
        (void)osm_buf_add_strs(out, *name, ":\n", NULL);
        (void)osm_render(out, list);
    }
    json_array_foreach ((json_t *)(uintptr_t)guards, k, guard) {
        (void)osm_render_text(out, json_string_value(guard));
        (void)osm_buf_add_char(out, '\n');
    }
}

int osm_eval_diff_text(struct osm_buf *out, const json_t *diff)
{
    const json_t *groups = json_object_get(diff, "groups"), *group;
    size_t i, n = json_array_size(groups);
    if (!json_is_true(json_object_get(diff, "differs")))
        return osm_buf_addf(out, "nothing would change for %d proxies\n",
                            (int)json_integer_value(json_object_get(diff, "proxies")));
    json_array_foreach ((json_t *)(uintptr_t)groups, i, group)
        if (i < GROUPS_SHOWN)
            add_group(out, diff, group);
    add_more(out, "", n > GROUPS_SHOWN ? n - GROUPS_SHOWN : 0, "groups of proxies");
    add_lists(out, diff);
    return out->failed;
}
