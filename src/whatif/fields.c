#include "whatif/fields_priv.h"

#include "base/json.h"
#include "base/map.h"
#include "base/mem.h"

#include <ctype.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

struct diff {
    json_t *out;
    size_t max, *more;
    struct osm_buf path;
    int rc;
};

/* --- names of elements --- */

const struct osm__namer osm__namers[] = {
    {"name", {"name"}},
    {"key", {"key"}},
    {"key", {"header", "key"}},
    {"upgrade_type", {"upgrade_type"}},
    {"address_prefix", {"address_prefix"}},
    {"address", {"endpoint", "address", "socket_address", "address"}},
    {"zone", {"locality", "zone"}},
    {NULL, {NULL}},
};

const char *osm__name_by(const struct osm__namer *namer, const json_t *element)
{
    for (size_t i = 0; namer->keys[i]; i++)
        element = json_object_get(element, namer->keys[i]);
    return json_string_value(element);
}

/* Whether each element has a name that no other one of the list has. 1, 0, OSM_ENOMEM. */
static int names_all(const struct osm__namer *namer, const json_t *list)
{
    struct osm_map seen = OSM_MAP_INIT;
    size_t i;
    const json_t *element;
    int all = 1;
    json_array_foreach ((json_t *)(uintptr_t)list, i, element) {
        const char *name = osm__name_by(namer, element);
        if (!name || osm_map_has(&seen, name))
            all = 0;
        else if (osm_map_put(&seen, name, &seen, NULL))
            all = OSM_ENOMEM;
        if (all != 1)
            break;
    }
    osm_map_clear(&seen);
    return all;
}

int osm__namer_of(const json_t *list, const json_t *other, const struct osm__namer **out)
{
    const struct osm__namer *namer = osm__namers;
    int all = 0;
    for (; namer->label && all == 0; namer += all == 0) {
        all = names_all(namer, list);
        if (all == 1)
            all = names_all(namer, other);
    }
    bool any = json_array_size(list) || json_array_size(other);
    *out = all == 1 && any ? namer : NULL;
    return all < 0 ? all : 0;
}

/* --- telling --- */

/* Takes @p before and @p after (NULL: it has none). */
static void tell(struct diff *d, const char *change, json_t *before, json_t *after)
{
    if (d->rc || json_array_size(d->out) >= d->max) {
        *d->more += !d->rc;
        json_decref(before);
        json_decref(after);
        return;
    }
    json_t *entry = json_pack("{s:s, s:s, s:o*, s:o*}", "path", d->path.data ? d->path.data : "",
                              "change", change, "before", before, "after", after);
    if (json_array_append_new(d->out, entry))
        d->rc = OSM_ENOMEM;
}

static json_t *shared(const json_t *value)
{
    return json_incref((json_t *)(uintptr_t)value);
}

/* Goes one step down; back with leave. */
static size_t enter(struct diff *d, const char *open, const char *label, const char *name,
                    const char *close)
{
    size_t mark = d->path.len;
    if (osm_buf_add_strs(&d->path, open, label, name, close, NULL) && !d->rc)
        d->rc = d->path.failed;
    return mark;
}

static void leave(struct diff *d, size_t mark)
{
    d->path.len = mark;
    if (d->path.data)
        d->path.data[mark] = '\0';
}

static bool is_plain(const char *key)
{
    for (const char *c = key; *c; c++)
        if (!isalnum((unsigned char)*c) && !strchr("_@-", *c))
            return false;
    return *key;
}

static size_t enter_key(struct diff *d, const char *key)
{
    return is_plain(key) ? enter(d, d->path.len ? "." : "", "", key, "")
                         : enter(d, "[\"", "", key, "\"]");
}

static size_t enter_name(struct diff *d, const struct osm__namer *namer, const char *name)
{
    size_t mark = enter(d, "[", namer->label, "=", name);
    (void)enter(d, "]", "", "", "");
    return mark;
}

static size_t enter_index(struct diff *d, size_t index)
{
    char text[32];
    (void)snprintf(text, sizeof text, "%zu", index);
    return enter(d, "[", "", text, "]");
}

/* --- comparing --- */

static void compare(struct diff *d, const json_t *before, const json_t *after);

static void compare_objects(struct diff *d, const json_t *before, const json_t *after)
{
    const char *key;
    json_t *value;
    json_object_foreach ((json_t *)(uintptr_t)before, key, value) {
        size_t mark = enter_key(d, key);
        compare(d, value, json_object_get(after, key));
        leave(d, mark);
    }
    json_object_foreach ((json_t *)(uintptr_t)after, key, value) {
        if (json_object_get(before, key))
            continue;
        size_t mark = enter_key(d, key);
        compare(d, NULL, value);
        leave(d, mark);
    }
}

static int places_of(const struct osm__namer *namer, const json_t *list, struct osm_map *out)
{
    size_t i;
    const json_t *element;
    int rc = 0;
    json_array_foreach ((json_t *)(uintptr_t)list, i, element)
        rc |= osm_map_put(out, osm__name_by(namer, element), (void *)(uintptr_t)(i + 1), NULL);
    return rc ? OSM_ENOMEM : 0;
}

/* Elements in both lists that stand in another order: as few as explain it. */
static void tell_moved(struct diff *d, const struct osm__namer *namer, const json_t *after,
                       const struct osm_map *old)
{
    size_t m = json_array_size(after), n = 0;
    size_t *from = osm_alloc_array(m + 1, sizeof *from), *to = osm_alloc_array(m + 1, sizeof *to);
    bool *stays = osm_alloc_array(m + 1, sizeof *stays);
    if (!from || !to || !stays)
        d->rc = OSM_ENOMEM;
    for (size_t i = 0; !d->rc && i < m; i++) {
        void *at = osm_map_get(old, osm__name_by(namer, json_array_get(after, i)));
        from[n] = (uintptr_t)at - 1;
        to[n] = i;
        n += at != NULL;
    }
    if (!d->rc)
        d->rc = osm__ascending(from, n, stays);
    for (size_t i = 0; !d->rc && i < n; i++) {
        if (stays[i])
            continue;
        const char *name = osm__name_by(namer, json_array_get(after, to[i]));
        size_t mark = enter_name(d, namer, name);
        tell(d, "moved", json_integer((json_int_t)from[i]), json_integer((json_int_t)to[i]));
        leave(d, mark);
    }
    osm_free(from);
    osm_free(to);
    osm_free(stays);
}

static void compare_named(struct diff *d, const struct osm__namer *namer, const json_t *before,
                          const json_t *after)
{
    struct osm_map old = OSM_MAP_INIT, now = OSM_MAP_INIT;
    size_t i;
    const json_t *element;
    d->rc = places_of(namer, before, &old);
    if (!d->rc)
        d->rc = places_of(namer, after, &now);
    json_array_foreach ((json_t *)(uintptr_t)before, i, element) {
        const char *name = osm__name_by(namer, element);
        if (d->rc || osm_map_has(&now, name))
            continue;
        size_t mark = enter_name(d, namer, name);
        compare(d, element, NULL);
        leave(d, mark);
    }
    json_array_foreach ((json_t *)(uintptr_t)after, i, element) {
        const char *name = osm__name_by(namer, element);
        uintptr_t at = d->rc ? 0 : (uintptr_t)osm_map_get(&old, name);
        if (d->rc)
            break;
        size_t mark = enter_name(d, namer, name);
        compare(d, at ? json_array_get(before, at - 1) : NULL, element);
        leave(d, mark);
    }
    if (!d->rc)
        tell_moved(d, namer, after, &old);
    osm_map_clear(&old);
    osm_map_clear(&now);
}

static void compare_aligned(struct diff *d, const json_t *before, const json_t *after)
{
    struct osm__alignment all;
    d->rc = osm__align(before, after, &all);
    if (d->rc)
        return;
    for (size_t i = 0; i < all.len && !d->rc; i++) {
        const struct osm__pair *p = &all.list[i];
        size_t mark = enter_index(d, p->after == OSM__NONE ? p->before : p->after);
        compare(d, p->before == OSM__NONE ? NULL : json_array_get(before, p->before),
                p->after == OSM__NONE ? NULL : json_array_get(after, p->after));
        leave(d, mark);
    }
    osm_free(all.list);
}

static void compare(struct diff *d, const json_t *before, const json_t *after)
{
    if (d->rc || (before && after && json_equal(before, after)))
        return;
    if (!before || !after) {
        if (before || after)
            tell(d, before ? "removed" : "added", before ? shared(before) : NULL,
                 after ? shared(after) : NULL);
    } else if (json_is_object(before) && json_is_object(after) &&
               !strcmp(osm_json_text(before, "@type"), osm_json_text(after, "@type"))) {
        compare_objects(d, before, after);
    } else if (json_is_array(before) && json_is_array(after)) {
        const struct osm__namer *namer;
        d->rc = osm__namer_of(before, after, &namer);
        if (!d->rc && namer)
            compare_named(d, namer, before, after);
        else if (!d->rc)
            compare_aligned(d, before, after);
    } else {
        tell(d, "changed", shared(before), shared(after));
    }
}

int osm_fields_diff(const json_t *before, const json_t *after, const char *prefix, json_t *out,
                    size_t max, size_t *more)
{
    struct diff d = {out, max, more, OSM_BUF_INIT(OSM_FIELDS_PATH_MAX_BYTES), 0};
    d.rc = osm_buf_add_str(&d.path, prefix);
    compare(&d, before, after);
    osm_buf_clear(&d.path);
    return d.rc;
}
