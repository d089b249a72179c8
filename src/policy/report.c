#include "policy/report.h"

#include "policy/kinds/kinds.h"
#include "policy/memo/cells.h"
#include "policy/memo/value.h"

#include <stdlib.h>
#include <string.h>

enum { NAME_MAX_BYTES = 4096, ENTRY_MAX_BYTES = 1 << 20 };

struct lists {
    json_t *rejects, *errors;
    bool failed;
};

static void append(struct lists *l, json_t *list, json_t *item)
{
    if (!item || json_array_append_new(list, item))
        l->failed = true;
}

static void add_error(struct lists *l, const char *where, const char *message, const char *module,
                      int line)
{
    append(l, l->errors,
           json_pack("{s:o, s:o, s:o, s:i}", "where", osm_text_json(where), "message",
                     osm_text_json(message), "module", osm_text_json(module), "line", line));
}

/* An answer that only passes an error on is not told: the rule where it arose is. */
static void report_cell(struct lists *l, const struct osm_cell *c)
{
    size_t i;
    json_t *reject;
    json_array_foreach (c->rejects, i, reject)
        append(l, l->rejects, json_incref(reject));
    bool own_error = c->failed && c->failed != OSM_CELL_PASSED_ON;
    if (!own_error && !c->mutation && !c->header_error)
        return;
    struct osm_buf name = OSM_BUF_INIT(NAME_MAX_BYTES);
    (void)osm_buf_add_str(&name, c->type == OSM_CELL_EMIT ? "emitter " : "rule ");
    osm_cell_name(c, &name);
    if (name.failed)
        l->failed = true;
    if (own_error && !name.failed)
        add_error(l, name.data, c->error, c->error_module ? c->error_module : c->decl->module->path,
                  c->error_line);
    if (c->mutation && !name.failed)
        add_error(l, name.data, c->mutation, c->decl->module->path, c->decl->line);
    if (c->header_error && !name.failed)
        add_error(l, name.data, c->header_error, c->decl->module->path, c->decl->line);
    osm_buf_clear(&name);
}

/* Of a chain that is too deep, those are told that somebody outside of it asks for. */
static bool is_inside_chain(const struct osm_cell *c)
{
    if (c->failed != OSM_CELL_TOO_DEEP || c->roots)
        return false;
    for (size_t i = 0; i < c->readers_len; i++)
        if (c->readers[i].cell->failed != OSM_CELL_TOO_DEEP)
            return false;
    return true;
}

static void report_declarations(const struct osm_engine *e, struct lists *l)
{
    for (size_t k = 0; k < e->decls_len; k++) {
        const struct osm_decl *d = e->decls[k];
        if (d->each_error)
            add_error(l, d->name, d->each_error, d->module->path, d->line);
    }
    for (size_t k = 0; k < e->telling_things.len; k++) {
        const struct osm_thing *t = e->telling_things.list[k];
        size_t i;
        json_t *reject;
        json_array_foreach (t->rejects, i, reject)
            append(l, l->rejects, json_incref(reject));
        if (t->error)
            append(l, l->errors, json_incref(t->error));
    }
}

static bool has_object(const json_t *rejects, const json_t *object)
{
    size_t i;
    const json_t *reject;
    json_array_foreach ((json_t *)(uintptr_t)rejects, i, reject)
        if (json_equal(json_object_get(reject, "object"), object))
            return true;
    return false;
}

/* What the host cannot read; the schema of the kind may have said it better. */
static void report_world(struct osm_engine *e, struct lists *l)
{
    size_t i, n = json_array_size(l->rejects);
    json_t *report, *of_world = osm_world_reports(e->world);
    l->failed = l->failed || !of_world;
    json_array_foreach (of_world, i, report)
        if (!n || !has_object(l->rejects, json_object_get(report, "object")))
            append(l, l->rejects, json_incref(report));
    json_decref(of_world);
}

/* --- order: by the text of each entry, equal ones once --- */

struct entry {
    struct osm_buf text;
    json_t *value;
};

static int by_text(const void *a, const void *b)
{
    return strcmp(((const struct entry *)a)->text.data, ((const struct entry *)b)->text.data);
}

static int add_text(const char *text, size_t len, void *ud)
{
    return osm_buf_add(ud, text, len) ? -1 : 0;
}

/* The members are dumped in the order they were made in, which is the same for all entries of a
 * list: "object" or "where" first. */
static json_t *in_order(json_t *list)
{
    size_t n = json_array_size(list), i;
    json_t *item, *sorted = json_array();
    struct entry *entries = osm_alloc_array(n, sizeof *entries);
    bool failed = !sorted || !entries;
    for (i = 0; !failed && i < n; i++) {
        entries[i].value = item = json_array_get(list, i);
        entries[i].text = (struct osm_buf)OSM_BUF_INIT(ENTRY_MAX_BYTES);
        failed = json_dump_callback(item, add_text, &entries[i].text, JSON_COMPACT) != 0;
    }
    if (!failed)
        qsort(entries, n, sizeof *entries, by_text);
    for (i = 0; !failed && i < n; i++)
        if (!i || strcmp(entries[i - 1].text.data, entries[i].text.data) != 0)
            failed = json_array_append(sorted, entries[i].value) != 0;
    for (i = 0; entries && i < n; i++)
        osm_buf_clear(&entries[i].text);
    osm_free(entries);
    json_decref(list);
    if (!failed)
        return sorted;
    json_decref(sorted);
    return NULL;
}

/* --- the snapshot --- */

static bool same_resources(const struct osm_class *a, const struct osm_class *b)
{
    if (a == b)
        return true;
    for (int t = 0; t < OSM_XDS_TYPE_COUNT; t++) {
        if (a->types[t].len != b->types[t].len)
            return false;
        for (size_t i = 0; i < a->types[t].len; i++) {
            const struct osm_resource *x = a->types[t].list[i], *y = b->types[t].list[i];
            if (x != y && (strcmp(x->name, y->name) != 0 || strcmp(x->version, y->version) != 0))
                return false;
        }
    }
    return true;
}

static bool same_proxies(const struct osm_snapshot *a, const struct osm_snapshot *b)
{
    if (a->proxies_len != b->proxies_len)
        return false;
    for (size_t i = 0; i < a->proxies_len; i++) {
        const struct osm_snapshot_proxy *x = &a->proxies[i], *y = &b->proxies[i];
        if (strcmp(x->key, y->key) != 0 || strcmp(x->pod, y->pod) != 0 ||
            strcmp(x->ns, y->ns) != 0 || strcmp(x->account, y->account) != 0 ||
            !same_resources(x->cls, y->cls))
            return false;
    }
    return true;
}

static bool same(const struct osm_snapshot *a, const struct osm_snapshot *b)
{
    bool same_host = a->host == b->host || json_equal(a->host, b->host);
    return same_host && same_proxies(a, b) && json_equal(a->rejects, b->rejects) &&
           json_equal(a->errors, b->errors);
}

void osm_report_free_proxies(struct osm_snapshot_proxy *proxies, size_t n)
{
    struct osm_snapshot *holder = osm_snapshot_new();
    if (!holder)
        return; /* out of memory: the engine is thrown away, and the process says so */
    holder->proxies = proxies;
    holder->proxies_len = n;
    osm_snapshot_unref(holder);
}

/* What cells and objects tell; nothing is done where it cannot differ from the last time. */
static int gather(struct osm_engine *e)
{
    if (e->cell_rejects && !e->reports_changed && !osm_world_reports_changed(e->world) &&
        !(e->too_deep && e->rules_run))
        return 0;
    struct lists l = {.rejects = json_array(), .errors = json_array()};
    if (!l.rejects || !l.errors) {
        json_decref(l.rejects);
        json_decref(l.errors);
        return OSM_ENOMEM;
    }
    for (size_t i = 0; i < e->telling.len; i++)
        if (!is_inside_chain(e->telling.list[i]))
            report_cell(&l, e->telling.list[i]);
    report_declarations(e, &l);
    report_world(e, &l);
    json_decref(e->cell_rejects);
    json_decref(e->cell_errors);
    e->cell_rejects = in_order(l.rejects);
    e->cell_errors = l.errors;
    e->reports_changed = false;
    return l.failed || !e->cell_rejects ? OSM_ENOMEM : 0;
}

json_t *osm_engine_errors(const struct osm_engine *e)
{
    struct lists l = {.rejects = json_array(), .errors = json_array()};
    l.failed = !l.rejects || !l.errors;
    for (size_t i = 0; i < e->telling.len && !l.failed; i++)
        report_cell(&l, e->telling.list[i]);
    if (!l.failed)
        report_declarations(e, &l);
    json_decref(l.rejects);
    if (!l.failed)
        return in_order(l.errors);
    json_decref(l.errors);
    return NULL;
}

/* What is not Lua's goes by the cells: their reads, the items, the resources made of them. An
 * estimate: tests/bench/run diff says how good. */
static size_t bytes_of(const struct osm_engine *e)
{
    enum { CELL_BYTES = 2500 };
    return e->memory + e->cells.count * CELL_BYTES;
}

json_t *osm_engine_figures(const struct osm_engine *e)
{
    json_t *figures = json_pack(
        "{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "digest", e->files->digest, "modules",
        (json_int_t)e->modules_len, "rules_run", (json_int_t)e->rules_run, "cells_verified",
        (json_int_t)e->cells_verified, "cells", (json_int_t)e->cells.count, "items",
        (json_int_t)osm_compose_items(e->compose), "lua_bytes", (json_int_t)e->memory, "bytes",
        (json_int_t)bytes_of(e), "run_us", (json_int_t)e->run_us, "runs", (json_int_t)e->run);
    if (figures && e->warnings && json_object_set(figures, "warnings", e->warnings)) {
        json_decref(figures);
        return NULL;
    }
    return figures;
}

int osm_report_snapshot(struct osm_engine *e, struct osm_snapshot_proxy *proxies,
                        size_t proxies_len, json_t *compose_errors, struct osm_snapshot **out,
                        struct osm_err *err)
{
    struct osm_snapshot *s = osm_snapshot_new();
    int rc = s ? 0 : OSM_ENOMEM;
    if (s) {
        s->proxies = proxies;
        s->proxies_len = proxies_len;
    } else {
        osm_report_free_proxies(proxies, proxies_len);
    }
    if (!rc)
        osm_cells_collect(e);
    if (!rc)
        rc = e->abort ? OSM_ENOMEM : gather(e);
    if (!rc && json_array_extend(compose_errors, e->cell_errors))
        rc = OSM_ENOMEM;
    if (rc) {
        json_decref(compose_errors);
        osm_snapshot_unref(s);
        return osm_fail(err, rc, "out of memory");
    }
    s->rejects = json_incref(e->cell_rejects);
    s->errors = in_order(compose_errors);
    s->policy = osm_engine_figures(e);
    s->host = json_incref(e->host_settings);
    if (!s->errors || !s->policy) {
        osm_snapshot_unref(s);
        return osm_fail(err, OSM_ENOMEM, "out of memory");
    }
    if (e->last && same(e->last, s)) {
        osm_snapshot_unref(s);
        *out = NULL;
        return 0;
    }
    s->number = ++e->snapshots;
    osm_snapshot_unref(e->last);
    e->last = osm_snapshot_ref(s);
    *out = s;
    return 0;
}
