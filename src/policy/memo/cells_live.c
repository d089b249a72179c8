/* The memo after a run: what nothing reaches is dropped, and whoever has written into what mesh
 * answered is named. */
#include "policy/memo/cells.h"

#include "policy/kinds/kinds.h"
#include "policy/memo/value.h"

#include <string.h>

enum { NAME_MAX_BYTES = 4096 };

/* --- what is told --- */

static bool tells(const struct osm_cell *c)
{
    return json_array_size(c->rejects) > 0 || (c->failed && c->failed != OSM_CELL_PASSED_ON) ||
           c->mutation || c->header_error;
}

static void stop_telling(struct osm_engine *e, struct osm_cell *c)
{
    if (!c->telling_at)
        return;
    struct osm_cell *moved = e->telling.list[--e->telling.len];
    e->telling.list[c->telling_at - 1] = moved;
    moved->telling_at = c->telling_at;
    c->telling_at = 0;
    e->reports_changed = true;
}

void osm_cells_note_telling(struct osm_engine *e, struct osm_cell *c)
{
    if (!tells(c)) {
        stop_telling(e, c);
        return;
    }
    e->reports_changed = true;
    if (c->telling_at)
        return;
    if (osm_cells_push_to(e, &e->telling, c))
        c->telling_at = e->telling.len;
}

/* --- what nobody holds --- */

/* All members of a cycle live as long as one is held. */
static bool is_held(const struct osm_cell *c)
{
    if (c->readers_len || c->roots)
        return true;
    for (const struct osm_cell *m = c->ring; m && m != c; m = m->ring)
        if (m->readers_len || m->roots)
            return true;
    return false;
}

static void leave_lists(struct osm_engine *e, struct osm_cell *c)
{
    if (c->due)
        osm_cells_remove_from(&e->due, c);
    if (c->touched)
        osm_cells_remove_from(&e->touched, c);
    if (c->refill)
        osm_cells_remove_from(&e->refill, c);
    if (c->handed == e->run)
        osm_cells_remove_from(&e->handed, c);
    osm_cells_remove_from(&e->unfinished, c); /* mostly empty */
}

/* The list grows while cells go: what they read may be lost then. */
void osm_cells_collect(struct osm_engine *e)
{
    for (size_t i = 0; i < e->lost.len && !e->abort; i++) {
        struct osm_cell *c = e->lost.list[i];
        c->lost = false;
        if (is_held(c))
            continue;
        if (c->ring) {
            osm_cells_break_ring(e, c); /* each member comes by once more, on its own */
            continue;
        }
        stop_telling(e, c);
        leave_lists(e, c);
        osm__cells_drop(e, c);
    }
    e->lost.len = 0;
}

void osm_cells_expel(struct osm_engine *e, struct osm_cell *c)
{
    while (c->readers_len && !e->abort)
        osm_cells_set_reads(e, c->readers[c->readers_len - 1].cell, NULL, 0);
    osm_cells_break_ring(e, c);
    stop_telling(e, c);
    leave_lists(e, c);
    if (c->lost)
        osm_cells_remove_from(&e->lost, c);
    osm__cells_drop(e, c);
}

/* --- who has written into what --- */

/* The evaluations of this run that read the cell. */
static void blame(struct osm_engine *e, struct osm_cell *read, const char *name)
{
    if (osm_cell_is_input(read)) { /* its table is made anew */
        luaL_unref(e->L, LUA_REGISTRYINDEX, read->ref);
        read->ref = LUA_NOREF;
    }
    for (size_t i = 0; i < read->readers_len; i++) {
        struct osm_cell *c = read->readers[i].cell;
        if (c->ran != e->run)
            continue;
        e->stained = true;
        if (!c->mutation)
            c->mutation = osm_strf(
                "%s was changed by one of its readers; what mesh answers is read-only", name);
        osm_cells_note_telling(e, c);
        osm_cells_doubt(e, c); /* what it made of a changed value cannot be trusted */
        for (struct osm_cell *m = c->ring; m && m != c; m = m->ring)
            osm_cells_doubt(e, m);
    }
}

static void blame_thing(void *ud, struct osm_thing *t)
{
    struct osm_engine *e = ud;
    struct osm_buf name = OSM_BUF_INIT(NAME_MAX_BYTES);
    (void)osm_buf_addf(&name, "%s %s%s%s", t->object->kind, t->object->ns,
                       t->object->ns[0] ? "/" : "", t->object->name);
    const char *what = name.data ? name.data : "an object";
    struct osm_cell *c = osm_cells_find(e, t->kind, t->key, t->key_len);
    if (c)
        blame(e, c, what);
    for (size_t i = 0; i < t->buckets_len; i++) {
        const struct osm_bucket *b = t->buckets[i];
        c = osm_cells_find(e, b->index, b->key, b->key_len);
        if (c)
            blame(e, c, what);
    }
    osm_buf_clear(&name);
}

static void check_cell(struct osm_engine *e, struct osm_cell *c)
{
    if (c->failed || c->ref < 0)
        return;
    struct osm_hash now = {0, 0}, then = c->type == OSM_CELL_RULE ? c->hash : c->made_hash;
    lua_rawgeti(e->L, LUA_REGISTRYINDEX, c->ref);
    int rc = osm_value_hash(e->L, -1, "", &now, NULL);
    lua_pop(e->L, 1);
    if (!rc && osm_hash_equal(now, then))
        return;
    luaL_unref(e->L, LUA_REGISTRYINDEX, c->ref);
    c->ref = LUA_NOREF;
    if (c->type == OSM_CELL_RULE)
        osm_cells_doubt(e, c);
    struct osm_buf name = OSM_BUF_INIT(NAME_MAX_BYTES);
    osm_cell_name(c, &name);
    blame(e, c, name.data ? name.data : "an answer");
    osm_buf_clear(&name);
}

void osm_cells_check_mutations(struct osm_engine *e)
{
    osm_kinds_check_mutations(e, blame_thing, e);
    for (size_t i = 0; i < e->handed.len; i++)
        check_cell(e, e->handed.list[i]);
}
