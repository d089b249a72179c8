/* Why a resource is as it is: the items that it is made of, who said them, and from which objects
 * that followed, by the reads that the memo has recorded. */
#include "policy/emit/emit.h"
#include "policy/engine.h"
#include "policy/kinds/kinds.h"
#include "policy/memo/cells.h"

#include <string.h>

enum { TEXT_MAX_BYTES = 8192, OBJECTS_MAX = 200, STEPS_MAX = 5000 };

/* --- from a cell to the objects behind it --- */

struct walk {
    struct osm_map seen; /* cell -> the walk */
    json_t *because;
    size_t steps;
    bool failed, cut;
};

static const char *word_of(const struct osm_cell *cell)
{
    static const char *const words[] = {"object", "index", "keys of", "fact", "rule", "emitter"};
    return words[cell->type];
}

static json_t *name_of(const struct osm_cell *cell)
{
    struct osm_buf text = OSM_BUF_INIT(TEXT_MAX_BYTES);
    (void)osm_buf_addf(&text, "%s ", word_of(cell));
    osm_cell_name(cell, &text);
    json_t *json = text.failed ? json_string(cell->decl->name) : json_stringn(text.data, text.len);
    osm_buf_clear(&text);
    return json;
}

static void add_object(struct walk *w, const struct osm_thing *t, const json_t *through)
{
    const struct osm_object *o = t->object;
    const char *version = osm_json_str_at(o->body, "metadata", "resourceVersion", NULL);
    char *label = osm_strf("%s %s%s%s", o->kind, o->ns, *o->ns ? "/" : "", o->name);
    json_t *entry = label ? json_pack("{s:s, s:s?, s:s, s:O}", "object", label, "resource_version",
                                      version, "origin", o->origin, "through", through)
                          : NULL;
    w->failed = w->failed || json_array_append_new(w->because, entry);
    osm_free(label);
}

static void walk(struct walk *w, const struct osm_cell *cell, json_t *through);

static void look_into(struct walk *w, const struct osm_cell *cell, const json_t *through)
{
    if (cell->type == OSM_CELL_OBJECT) {
        const struct osm_thing *t = osm_map_getn(&cell->decl->objects, cell->key, cell->key_len);
        if (t && t->present)
            add_object(w, t, through);
    } else if (cell->type == OSM_CELL_BUCKET) {
        const struct osm_bucket *bucket =
            osm_map_getn(&cell->decl->buckets, cell->key, cell->key_len);
        for (size_t i = 0; bucket && i < bucket->len; i++)
            add_object(w, bucket->list[i], through);
    }
}

static void walk(struct walk *w, const struct osm_cell *cell, json_t *through)
{
    if (w->failed || ++w->steps > STEPS_MAX || json_array_size(w->because) >= OBJECTS_MAX) {
        w->cut = true;
        return;
    }
    if (osm_map_getn(&w->seen, &cell, sizeof cell))
        return;
    if (osm_map_putn(&w->seen, &cell, sizeof cell, w, NULL) ||
        json_array_append_new(through, name_of(cell))) {
        w->failed = true;
        return;
    }
    if (osm_cell_is_input(cell)) {
        json_t *path = json_copy(through);
        look_into(w, cell, path);
        json_decref(path);
    }
    for (size_t i = 0; i < cell->reads_len; i++)
        walk(w, cell->reads[i].cell, through);
    (void)json_array_remove(through, json_array_size(through) - 1);
}

/* The objects behind a cell; *cut: there are more. NULL: no memory. */
static json_t *because_of(const struct osm_cell *cell, bool *cut)
{
    struct walk w = {.because = json_array()};
    json_t *through = json_array();
    w.failed = !w.because || !through;
    walk(&w, cell, through);
    json_decref(through);
    osm_map_clear(&w.seen);
    *cut = w.cut;
    if (!w.failed)
        return w.because;
    json_decref(w.because);
    return NULL;
}

/* --- from an item to its cell --- */

static bool said(const struct osm_cell *cell, const char *item)
{
    const struct osm_emission *emission = cell->emission;
    for (size_t i = 0; emission && i < emission->len; i++)
        if (!strcmp(emission->list[i].key, item))
            return true;
    return false;
}

static const struct osm_cell *cell_of(const struct osm_engine *e, const char *item)
{
    for (size_t i = 0; i < e->decls_len; i++)
        for (size_t k = 0; e->decls[i]->type == OSM_DECL_EMIT && k < e->decls[i]->emit_cells_len;
             k++)
            if (said(e->decls[i]->emit_cells[k], item))
                return e->decls[i]->emit_cells[k];
    return NULL;
}

/* --- the answer --- */

struct asking {
    struct osm_engine *e;
    const char *element;
    json_t *list;
    bool deep, failed;
};

static void add_item(void *ud, const struct osm_item *item)
{
    struct asking *a = ud;
    char hash[OSM_HASH_HEX_SIZE] = "";
    bool cut = false;
    if (a->failed || (a->element && (!item->element || !strstr(item->element, a->element))))
        return;
    const struct osm_cell *cell = a->deep ? cell_of(a->e, item->key) : NULL;
    json_t *because = cell ? because_of(cell, &cut) : json_array();
    if (item->body)
        (void)osm_hash_hex(osm_hash_bytes(osm_bytes_data(item->body), osm_bytes_len(item->body)),
                           hash);
    json_t *entry = because ? json_pack("{s:s, s:s?, s:s?, s:s?, s:b, s:s, s:o, s:b}", "item",
                                        item->key, "element", item->element, "place", item->place,
                                        "extended", item->extended, "authorises", item->authorises,
                                        "hash", hash, "because", because, "more", cut)
                            : NULL;
    a->failed = json_array_append_new(a->list, entry) != 0;
}

int osm_engine_why(struct osm_engine *e, const struct osm_why_question *question, json_t **out,
                   struct osm_err *err)
{
    struct asking a = {e, question->element, json_array(), question->deep, false};
    int rc = a.list ? osm_compose_items_of(e->compose, question->uuid, question->type,
                                           question->resource, add_item, &a)
                    : OSM_ENOMEM;
    if (a.failed)
        rc = OSM_ENOMEM;
    bool not_of_element = !rc && !json_array_size(a.list);
    if (!rc && !not_of_element) {
        *out = a.list;
        return 0;
    }
    json_decref(a.list);
    return rc == OSM_ENOMEM
               ? osm_fail(err, rc, "out of memory")
               : osm_fail(err, OSM_ENOENT, "%s \"%.200s\": the policies say nothing of it%s%s%s",
                          osm_xds_type_short(question->type), question->resource,
                          question->uuid ? " for this proxy" : "",
                          not_of_element ? ", or not of element " : "",
                          not_of_element ? question->element : "");
}
