/* The memo after a run: what nothing reaches is dropped, and whoever has written into what mesh
 * answered is named. */
#include "policy/cells.h"

#include "policy/kinds.h"
#include "policy/value.h"

#include <string.h>

enum { NAME_MAX_BYTES = 4096 };

static void mark(struct osm_cell *c, uint64_t now, bool from_too_deep,
                 void (*report)(void *, struct osm_cell *), void *ud)
{
    /* Of a chain that is too deep, those are told that somebody outside of it asks for. */
    bool tell = c->failed != OSM_CELL_TOO_DEEP || !from_too_deep;
    if (tell && c->told != now) {
        c->told = now;
        report(ud, c);
    }
    if (c->live == now)
        return;
    c->live = now;
    for (struct osm_cell *m = c->ring; m && m != c; m = m->ring)
        mark(m, now, false, report, ud);
    for (size_t i = 0; i < c->reads_len; i++)
        mark(c->reads[i].cell, now, c->failed == OSM_CELL_TOO_DEEP, report, ud);
}

void osm_cells_collect(struct osm_engine *e, void (*report)(void *ud, struct osm_cell *cell),
                       void *ud)
{
    uint64_t now = ++e->serial;
    for (size_t i = 0; i < e->decls_len; i++) {
        struct osm_decl *d = e->decls[i];
        if (d->each_cell)
            mark(d->each_cell, now, false, report, ud);
        for (size_t k = 0; k < d->emit_cells_len; k++)
            mark(d->emit_cells[k], now, false, report, ud);
    }
    for (size_t i = 0; i < e->headers_len; i++)
        mark(e->headers[i], now, false, report, ud);
    size_t kept = 0;
    for (size_t i = 0; i < e->inputs_len; i++)
        if (e->inputs[i]->live == now)
            e->inputs[kept++] = e->inputs[i];
    e->inputs_len = kept;
    osm_map_each (&e->cells, entry) {
        struct osm_cell *c = entry->value;
        if (c->live != now)
            osm_cells_drop(e, c);
    }
}

/* The evaluations of this run that read the cell. */
static void blame(struct osm_engine *e,
                  bool (*reads)(const struct osm_cell *read, const void *what), const void *what,
                  const char *name)
{
    osm_map_each (&e->cells, entry) {
        struct osm_cell *c = entry->value;
        if (c->ran != e->run || osm_cell_is_input(c))
            continue;
        for (size_t i = 0; i < c->reads_len; i++) {
            struct osm_cell *read = c->reads[i].cell;
            if (!reads(read, what))
                continue;
            if (osm_cell_is_input(read)) { /* its table is made anew */
                luaL_unref(e->L, LUA_REGISTRYINDEX, read->ref);
                read->ref = LUA_NOREF;
            }
            if (!c->mutation)
                e->mutated = true,
                c->mutation = osm_strf(
                    "%s was changed by one of its readers; what mesh answers is read-only", name);
            e->settled = false;
            c->known = false; /* what it made of a changed value cannot be trusted */
            for (struct osm_cell *m = c->ring; m && m != c; m = m->ring)
                m->known = false;
            break;
        }
    }
}

static bool is_cell(const struct osm_cell *read, const void *what)
{
    return read == what;
}

static bool holds_thing(const struct osm_cell *read, const void *what)
{
    const struct osm_thing *t = what;
    if (read->type == OSM_CELL_OBJECT)
        return read->decl == t->kind && read->key_len == t->key_len &&
               !memcmp(read->key, t->key, t->key_len);
    for (size_t i = 0; read->type == OSM_CELL_BUCKET && i < t->buckets_len; i++)
        if (read->decl == t->buckets[i]->index && read->key_len == t->buckets[i]->key_len &&
            !memcmp(read->key, t->buckets[i]->key, read->key_len))
            return true;
    return false;
}

static void blame_thing(void *ud, struct osm_thing *t)
{
    struct osm_buf name = OSM_BUF_INIT(NAME_MAX_BYTES);
    (void)osm_buf_addf(&name, "%s %s%s%s", t->object->kind, t->object->ns,
                       t->object->ns[0] ? "/" : "", t->object->name);
    blame(ud, holds_thing, t, name.data ? name.data : "an object");
    osm_buf_clear(&name);
}

void osm_cells_check_mutations(struct osm_engine *e)
{
    osm_kinds_check_mutations(e, blame_thing, e);
    osm_map_each (&e->cells, entry) {
        struct osm_cell *c = entry->value;
        if (c->handed != e->run || c->type == OSM_CELL_OBJECT || c->failed || c->ref < 0)
            continue;
        struct osm_hash now = {0, 0}, then = c->type == OSM_CELL_RULE ? c->hash : c->made_hash;
        lua_rawgeti(e->L, LUA_REGISTRYINDEX, c->ref);
        int rc = osm_value_hash(e->L, -1, "", &now, NULL);
        lua_pop(e->L, 1);
        if (!rc && osm_hash_equal(now, then))
            continue;
        luaL_unref(e->L, LUA_REGISTRYINDEX, c->ref);
        c->ref = LUA_NOREF;
        e->settled = false;
        if (c->type == OSM_CELL_RULE)
            c->known = false;
        struct osm_buf name = OSM_BUF_INIT(NAME_MAX_BYTES);
        osm_cell_name(c, &name);
        blame(e, is_cell, c, name.data ? name.data : "an answer");
        osm_buf_clear(&name);
    }
}
