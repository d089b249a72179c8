/* The links between cells, in both directions, and what runs along them: staleness upwards, to
 * the readers; loss downwards, to what was read. */
#include "policy/memo/cells.h"

#include "policy/memo/key.h"

#include <string.h>

bool osm_cells_push_to(struct osm_engine *e, struct osm_cells *cells, struct osm_cell *cell)
{
    if (cells->len == cells->cap) {
        size_t cap = cells->cap ? cells->cap * 2 : 16;
        struct osm_cell **grown = osm_realloc_array(cells->list, cap, sizeof(struct osm_cell *));
        if (!grown) {
            e->abort = OSM_ABORT_NOMEM;
            return false;
        }
        cells->list = grown;
        cells->cap = cap;
    }
    cells->list[cells->len++] = cell;
    return true;
}

void osm_cells_remove_from(struct osm_cells *cells, const struct osm_cell *cell)
{
    for (size_t i = cells->len; i > 0; i--) {
        if (cells->list[i - 1] != cell)
            continue;
        cells->list[i - 1] = cells->list[--cells->len];
        return;
    }
}

/* --- reads and readers --- */

static bool add_reader(struct osm_cell *cell, struct osm_cell *reader, size_t read)
{
    if (cell->readers_len == cell->readers_cap) {
        size_t cap = cell->readers_cap ? cell->readers_cap * 2 : 2;
        struct osm_reading *grown = osm_realloc_array(cell->readers, cap, sizeof *grown);
        if (!grown)
            return false;
        cell->readers = grown;
        cell->readers_cap = cap;
    }
    cell->readers[cell->readers_len++] = (struct osm_reading){reader, read};
    return true;
}

/* The last reader moves into the free place. */
static void remove_reader(const struct osm_read *read)
{
    struct osm_cell *cell = read->cell;
    struct osm_reading moved = cell->readers[--cell->readers_len];
    cell->readers[read->at] = moved;
    moved.cell->reads[moved.read].at = read->at;
}

void osm_cells_set_reads(struct osm_engine *e, struct osm_cell *c, const struct osm_read *reads,
                         size_t n)
{
    struct osm_read *copy = n ? osm_alloc_array(n, sizeof *copy) : NULL;
    struct osm_read *old = c->reads;
    size_t old_len = c->reads_len;
    if (n && !copy) {
        e->abort = OSM_ABORT_NOMEM;
        return;
    }
    for (size_t i = 0; i < old_len; i++)
        remove_reader(&old[i]);
    c->reads = copy;
    c->reads_len = 0;
    for (size_t i = 0; i < n; i++) {
        copy[i] = (struct osm_read){reads[i].cell, reads[i].seen, reads[i].cell->readers_len};
        if (!add_reader(copy[i].cell, c, i)) {
            e->abort = OSM_ABORT_NOMEM;
            break;
        }
        c->reads_len = i + 1;
    }
    /* Only now: what is read again has not lost anybody. */
    for (size_t i = 0; i < old_len; i++)
        osm_cells_may_be_lost(e, old[i].cell);
    osm_free(old);
}

/* --- upwards --- */

static void make_stale(struct osm_engine *e, struct osm_cell *c)
{
    if (c->stale)
        return;
    c->stale = true;
    if (c->type == OSM_CELL_EMIT && !c->due) {
        c->due = true;
        (void)osm_cells_push_to(e, &e->due, c);
    }
    (void)osm_cells_push_to(e, &e->spreading, c);
}

static void spread(struct osm_engine *e)
{
    while (e->spreading.len) {
        const struct osm_cell *c = e->spreading.list[--e->spreading.len];
        for (size_t i = 0; i < c->readers_len; i++)
            make_stale(e, c->readers[i].cell);
    }
}

void osm_cells_spoil(struct osm_engine *e, struct osm_cell *c)
{
    for (size_t i = 0; i < c->readers_len; i++)
        make_stale(e, c->readers[i].cell);
    spread(e);
}

void osm_cells_doubt(struct osm_engine *e, struct osm_cell *c)
{
    c->known = false;
    make_stale(e, c);
    spread(e);
}

/* --- inputs --- */

static void touch(struct osm_engine *e, struct osm_cell *c)
{
    if (c->touched)
        return;
    c->touched = true;
    (void)osm_cells_push_to(e, &e->touched, c);
}

void osm_cells_touch(struct osm_engine *e, const struct osm_decl *decl, const unsigned char *key,
                     size_t len)
{
    struct osm_cell *c = osm_cells_find(e, decl, key, len);
    if (c)
        touch(e, c);
}

void osm_cells_look_up_touched(struct osm_engine *e)
{
    for (size_t i = 0; i < e->touched.len; i++) {
        struct osm_cell *c = e->touched.list[i];
        struct osm_hash before = c->hash;
        bool known = c->known;
        c->touched = false;
        if (!e->abort)
            osm__cells_look_up(e, c);
        if (!known || !osm_hash_equal(before, c->hash))
            osm_cells_spoil(e, c);
    }
    e->touched.len = 0;
}

/* --- topics --- */

struct topic_key {
    struct osm_hash ns, name;
};

static struct topic_key topic_key(const char *ns, const char *name)
{
    return (struct topic_key){osm_hash_bytes(ns, strlen(ns)), osm_hash_bytes(name, strlen(name))};
}

static struct osm_cells *side_of(struct osm_topic *topic, const struct osm_cell *c)
{
    return c->type == OSM_CELL_EMIT ? &topic->fills : &topic->facts;
}

static void topic_free(struct osm_topic *topic)
{
    osm_free(topic->facts.list);
    osm_free(topic->fills.list);
    osm_free(topic);
}

void osm_topic_add(struct osm_engine *e, const char *ns, const char *name, struct osm_cell *c)
{
    struct topic_key key = topic_key(ns, name);
    struct osm_topic *topic = osm_map_getn(&e->topics, &key, sizeof key);
    if (!topic) {
        topic = osm_alloc(sizeof *topic);
        if (!topic || osm_map_putn(&e->topics, &key, sizeof key, topic, NULL)) {
            osm_free(topic);
            e->abort = OSM_ABORT_NOMEM;
            return;
        }
    }
    (void)osm_cells_push_to(e, side_of(topic, c), c);
}

void osm_topic_remove(struct osm_engine *e, const char *ns, const char *name, struct osm_cell *c)
{
    struct topic_key key = topic_key(ns, name);
    struct osm_topic *topic = osm_map_getn(&e->topics, &key, sizeof key);
    if (!topic)
        return;
    osm_cells_remove_from(side_of(topic, c), c);
    if (topic->facts.len || topic->fills.len)
        return;
    (void)osm_map_deln(&e->topics, &key, sizeof key);
    topic_free(topic);
}

void osm_topics_clear(struct osm_engine *e)
{
    osm_map_each (&e->topics, entry)
        topic_free(entry->value);
    osm_map_clear(&e->topics);
}

static void touch_about(struct osm_engine *e, const struct osm_topic *topic)
{
    for (size_t i = 0; i < topic->facts.len; i++)
        touch(e, topic->facts.list[i]);
    for (size_t i = 0; i < topic->fills.len; i++) {
        struct osm_cell *c = topic->fills.list[i];
        if (!c->refill)
            (void)osm_cells_push_to(e, &e->refill, c);
        c->refill = true;
    }
}

static void touch_named(struct osm_engine *e, const char *fact)
{
    static const struct osm_key none = {0};
    unsigned char key[OSM_KEY_BYTES];
    size_t len = osm_key_encode(&none, key);
    osm_cells_touch(e, osm_map_get(&e->names, fact), key, len);
}

void osm_cells_touch_topic(void *ud, enum osm_world_topic topic, const char *ns, const char *name)
{
    struct osm_engine *e = ud;
    if (topic == OSM_WORLD_NAMED) {
        struct topic_key key = topic_key(ns, name);
        const struct osm_topic *about = osm_map_getn(&e->topics, &key, sizeof key);
        if (about)
            touch_about(e, about);
        return;
    }
    if (topic == OSM_WORLD_ALL)
        osm_map_each (&e->topics, entry)
            touch_about(e, entry->value);
    if (topic != OSM_WORLD_ACCOUNTS)
        touch_named(e, "workloads");
    if (topic != OSM_WORLD_WORKLOADS)
        touch_named(e, "accounts");
}

/* --- downwards --- */

void osm_cells_may_be_lost(struct osm_engine *e, struct osm_cell *c)
{
    if (c->readers_len || c->roots || c->lost)
        return;
    c->lost = true;
    (void)osm_cells_push_to(e, &e->lost, c);
}

void osm_cells_hold(struct osm_cell *c)
{
    c->roots++;
}

void osm_cells_release(struct osm_engine *e, struct osm_cell *c)
{
    c->roots--;
    osm_cells_may_be_lost(e, c);
}

void osm_cells_break_ring(struct osm_engine *e, struct osm_cell *c)
{
    struct osm_cell *next = c->ring;
    c->ring = NULL;
    while (next && next != c) {
        struct osm_cell *m = next;
        next = m->ring;
        m->ring = NULL;
        osm_cells_may_be_lost(e, m);
    }
    if (next)
        osm_cells_may_be_lost(e, c);
}
