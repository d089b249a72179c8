/* Why a resource is as it is: the items that it is made of, who said them, and from which objects
 * that followed, by the reads that the memo has recorded. */
#include "policy/bundle/extend.h"
#include "policy/emit/emit.h"
#include "policy/engine.h"
#include "policy/kinds/kinds.h"
#include "policy/memo/cells.h"
#include "policy/memo/key.h"

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

static json_t *keys_of(const struct osm_cell *cell)
{
    struct osm_key key;
    osm_key_decode(cell->key, cell->key_len, &key);
    return osm_key_json(&key);
}

/* "acme/log.listener, acme/tags.listener": all that may have changed the header of a listener;
 * osm_free. */
static char *header_extensions(const struct osm_engine *e)
{
    struct osm_buf text = OSM_BUF_INIT(TEXT_MAX_BYTES);
    for (size_t i = 0; i < e->joins_len; i++) {
        const struct osm_join *j = e->joins[i];
        if (j->type == OSM_JOIN_EXTENDS && !strcmp(j->point->form, "listener"))
            (void)osm_buf_addf(&text, "%s%s.%s", text.len ? ", " : "", j->module->name,
                               j->point->name);
    }
    char *out = text.failed || !text.data ? NULL : osm_strdup(text.data);
    osm_buf_clear(&text);
    return out;
}

/* A header that a rule makes: said where the rule is, for each set of tags that the proxies have.
 */
static void add_made_header(struct asking *a, const struct osm_item *item,
                            const struct osm_cell *cell)
{
    char hash[OSM_HASH_HEX_SIZE] = "";
    bool cut = false;
    const struct osm_decl *rule = cell->decl->original ? cell->decl->original : cell->decl;
    char *extended = cell->decl->original ? header_extensions(a->e) : NULL;
    char *place = osm_strf("%s:%d", rule->module ? rule->module->path : "?", rule->line);
    json_t *because = a->deep ? because_of(cell, &cut) : json_array();
    if (cell->header)
        (void)osm_hash_hex(
            osm_hash_bytes(osm_bytes_data(cell->header), osm_bytes_len(cell->header)), hash);
    json_t *entry = because
                        ? json_pack("{s:s, s:n, s:s?, s:s?, s:b, s:s, s:o, s:b, s:s, s:o}", "item",
                                    item->key, "element", "place", place, "extended", extended,
                                    "authorises", false, "hash", hash, "because", because, "more",
                                    cut, "rule", cell->decl->name, "keys", keys_of(cell))
                        : NULL;
    a->failed = a->failed || json_array_append_new(a->list, entry) != 0;
    osm_free(extended);
    osm_free(place);
}

/* The resource's name is the first part of the keys of header rules. */
static bool is_header_of(const struct osm_cell *cell, const struct osm_item *item)
{
    struct osm_key key;
    osm_key_decode(cell->key, cell->key_len, &key);
    return !strcmp(cell->decl->name, item->header_rule) && !strcmp(key.at[0].str, item->resource);
}

static void add_item(void *ud, const struct osm_item *item)
{
    struct asking *a = ud;
    char hash[OSM_HASH_HEX_SIZE] = "";
    bool cut = false;
    if (a->failed || (a->element && (!item->element || !strstr(item->element, a->element))))
        return;
    for (size_t i = 0; item->header_rule && i < a->e->headers.len; i++)
        if (is_header_of(a->e->headers.list[i], item))
            add_made_header(a, item, a->e->headers.list[i]);
    if (item->header_rule)
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
    if (cell && entry &&
        (json_object_set_new(entry, "emitter", json_string(cell->decl->name)) ||
         json_object_set_new(entry, "keys", keys_of(cell))))
        a->failed = true;
    a->failed = json_array_append_new(a->list, entry) || a->failed;
}

int osm_engine_why(struct osm_engine *e, const struct osm_why_question *question, json_t **out,
                   struct osm_err *err)
{
    struct asking a = {e, question->element, json_array(), question->deep, false};
    int rc = a.list ? osm_compose_items_of(e->compose, question->proxy, question->type,
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
                          question->proxy ? " for this proxy" : "",
                          not_of_element ? ", or not of element " : "",
                          not_of_element ? question->element : "");
}
