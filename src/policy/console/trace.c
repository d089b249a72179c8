/* One evaluation, with all that happens meanwhile. Cells tell when they are brought up to date
 * (memo/cells.c); here that becomes a tree. */
#include "policy/memo/trace.h"
#include "policy/console/console_priv.h"
#include "policy/memo/value.h"

#include "base/clock.h"
#include "base/json.h"

#include <string.h>

enum { NODES_MAX = 2000, DEPTH_MAX = 64, NAME_MAX_BYTES = 1200 };

struct node {
    json_t *json, *reads; /* borrowed: they hang in the tree */
    uint64_t start_us, inner_us;
    int64_t instructions;
    bool good, ran;
};

struct osm_trace {
    json_t *root; /* the list that the first node hangs in */
    struct node stack[DEPTH_MAX];
    size_t depth, skipped; /* nodes under way; of those that are too deep */
    size_t nodes, left_out;
    bool failed;
};

static json_t *name_of(const struct osm_cell *cell)
{
    static const char *const words[] = {"object", "index", "keys of", "fact", "rule", "emitter"};
    struct osm_buf text = OSM_BUF_INIT(NAME_MAX_BYTES);
    (void)osm_buf_addf(&text, "%s ", words[cell->type]);
    osm_cell_name(cell, &text);
    json_t *json = text.failed ? json_string(cell->decl->name) : json_stringn(text.data, text.len);
    osm_buf_clear(&text);
    return json;
}

static void set(struct osm_trace *t, json_t *node, const char *name, json_t *value)
{
    if (json_object_set_new(node, name, value))
        t->failed = true;
}

/* The same cell as the last read, and nothing happens: one line for all of them. */
static bool is_again(const json_t *list, const json_t *name)
{
    const json_t *last = json_array_get(list, json_array_size(list) - 1);
    const char *how = osm_json_text(last, "how");
    return last && json_equal(json_object_get(last, "name"), name) &&
           (!strcmp(how, "memo") || !strcmp(how, "read"));
}

static void count_again(struct osm_trace *t, json_t *list)
{
    json_t *last = json_array_get(list, json_array_size(list) - 1);
    json_int_t times = json_integer_value(json_object_get(last, "times"));
    set(t, last, "times", json_integer(times ? times + 1 : 2));
}

void osm_trace_enter(struct osm_trace *t, const struct osm_cell *cell, bool good)
{
    json_t *list = t->depth ? t->stack[t->depth - 1].reads : t->root;
    if (t->skipped || t->depth == DEPTH_MAX || t->nodes >= NODES_MAX) {
        t->skipped++;
        t->left_out++;
        return;
    }
    json_t *name = name_of(cell), *reads = json_array();
    if ((good || osm_cell_is_input(cell)) && is_again(list, name)) {
        count_again(t, list);
        json_decref(name);
        json_decref(reads);
        t->skipped++; /* its end is none of a node's */
        return;
    }
    json_t *json = json_pack("{s:o, s:o}", "name", name, "reads", reads);
    t->failed = t->failed || json_array_append_new(list, json);
    t->nodes++;
    t->stack[t->depth++] =
        (struct node){.json = json, .reads = reads, .start_us = osm_now_us(), .good = good};
}

void osm_trace_ran(struct osm_trace *t, const struct osm_cell *cell, int64_t instructions)
{
    (void)cell;
    if (t->skipped || !t->depth)
        return;
    t->stack[t->depth - 1].ran = true;
    t->stack[t->depth - 1].instructions = instructions;
}

void osm_trace_leave(struct osm_trace *t, const struct osm_cell *cell)
{
    if (t->skipped) {
        t->skipped--;
        return;
    }
    struct node *n = &t->stack[--t->depth];
    uint64_t us = osm_now_us() - n->start_us;
    const char *how = osm_cell_is_input(cell) ? "read"
                      : n->good               ? "memo"
                      : n->ran                ? "ran"
                                              : "verified";
    if (t->depth)
        t->stack[t->depth - 1].inner_us += us;
    if (!n->json)
        return;
    set(t, n->json, "how", json_string(how));
    set(t, n->json, "us", json_integer((json_int_t)us));
    set(t, n->json, "own_us", json_integer((json_int_t)(us > n->inner_us ? us - n->inner_us : 0)));
    if (n->ran)
        set(t, n->json, "instructions", json_integer(n->instructions));
    if (cell->failed)
        set(t, n->json, "error", osm_text_json(cell->error ? cell->error : "?"));
    if (!json_array_size(n->reads))
        (void)json_object_del(n->json, "reads");
}

/* --- asking --- */

static json_t *result(const struct osm_trace *t, json_t *answer, const struct osm_cell *cell)
{
    return json_pack("{s:O?, s:s?, s:O?, s:I}", "answer", answer, "error",
                     cell->failed ? cell->error : NULL, "run", json_array_get(t->root, 0), "more",
                     (json_int_t)t->left_out);
}

int osm_console_trace(struct osm_engine *e, const char *name, const json_t *keys, json_t **out,
                      struct osm_err *err)
{
    struct osm_cell *cell;
    json_t *answer = NULL;
    osm__console_begin(e);
    struct osm_trace *t = osm_alloc(sizeof *t);
    if (t)
        t->root = json_array();
    int rc = t && t->root ? osm__console_cell(e, name, keys, &cell, err)
                          : osm_fail(err, OSM_ENOMEM, "out of memory");
    if (!rc && !osm_cell_is_input(cell))
        osm_cells_doubt(e, cell);
    if (!rc) {
        e->trace = t;
        osm_cells_bring(e, cell);
        e->trace = NULL;
        if (e->abort)
            rc = osm__console_lost(e, err);
        else if (!cell->failed)
            rc = osm__console_answer(e, cell, &answer, err);
    }
    if (!rc && (t->failed || !(*out = result(t, answer, cell))))
        rc = osm_fail(err, OSM_ENOMEM, "out of memory");
    json_decref(answer);
    if (t)
        json_decref(t->root);
    osm_free(t);
    return rc;
}
