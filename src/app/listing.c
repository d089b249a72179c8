#include "app/listing.h"

enum { LISTS_MAX = 4, PIECE_BYTES = 32 * 1024 };

struct writing {
    const struct osm_app *app;
    struct osm_listing lists[LISTS_MAX];
    size_t n, list, index;
    bool begun, any; /* the list; an element of it */
};

static int append(const char *data, size_t len, void *out)
{
    return osm_buf_add(out, data, len);
}

static void add_element(struct writing *w, struct osm_buf *out)
{
    const struct osm_listing *l = &w->lists[w->list];
    json_t *element = l->element(w->app, json_string_value(json_array_get(l->keys, w->index++)));
    if (!element)
        return;
    (void)osm_buf_add_str(out, w->any ? ",\n  " : "\n  ");
    if (json_dump_callback(element, append, out, JSON_COMPACT))
        out->failed = OSM_ENOMEM;
    w->any = true;
    json_decref(element);
}

static int more(void *ud, struct osm_buf *out)
{
    struct writing *w = ud;
    while (!out->failed && out->len < PIECE_BYTES && w->list < w->n) {
        const struct osm_listing *l = &w->lists[w->list];
        if (!w->begun)
            (void)osm_buf_add_strs(out, w->list ? ",\n" : "{", "\"", l->name, "\": [", NULL);
        w->begun = true;
        if (w->index < json_array_size(l->keys)) {
            add_element(w, out);
            continue;
        }
        (void)osm_buf_add_str(out, w->any ? "\n]" : "]");
        w->list++;
        w->index = 0;
        w->begun = w->any = false;
    }
    if (out->failed)
        return out->failed;
    if (w->list < w->n)
        return 1;
    (void)osm_buf_add_str(out, "}\n");
    return 0;
}

static void end(void *ud)
{
    struct writing *w = ud;
    for (size_t i = 0; i < w->n; i++)
        json_decref(w->lists[i].keys);
    osm_free(w);
}

void osm_listing_reply(struct osm_http_request *request, const struct osm_app *app,
                       const struct osm_listing *lists, size_t n)
{
    struct writing *w = osm_alloc(sizeof *w);
    bool whole = w != NULL;
    for (size_t i = 0; i < n; i++)
        whole = whole && lists[i].keys;
    if (!whole) {
        for (size_t i = 0; i < n; i++)
            json_decref(lists[i].keys);
        osm_free(w);
        osm_http_reply_text(request, 500, "out of memory");
        return;
    }
    w->app = app;
    w->n = n;
    for (size_t i = 0; i < n; i++)
        w->lists[i] = lists[i];
    osm_http_reply_stream(request, 200, "application/json",
                          &(struct osm_http_source){w, more, end});
}
