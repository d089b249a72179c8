#include "policy/memo/cells.h"

#include "policy/emit/emit.h"
#include "policy/kinds/kinds.h"
#include "policy/memo/key.h"
#include "policy/memo/trace.h"
#include "policy/memo/value.h"
#include "policy/mesh_api.h"
#include "policy/profile.h"
#include "policy/sandbox/sandbox.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

enum { NAME_MAX_BYTES = 4096, CHAIN_MAX_BYTES = 400 };

static void out_of_memory(struct osm_engine *e)
{
    e->abort = OSM_ABORT_NOMEM;
}

/* --- finding --- */

enum { KEY_AT = offsetof(struct osm_cell, decl_id) }; /* of the map's key in a cell */
_Static_assert(offsetof(struct osm_cell, key) == KEY_AT + sizeof(uint32_t), "no gap in the key");

static size_t map_key(const struct osm_decl *decl, const unsigned char *key, size_t len,
                      unsigned char out[OSM_KEY_BYTES + 4])
{
    memcpy(out, &decl->id, sizeof decl->id);
    memcpy(out + sizeof decl->id, key, len);
    return sizeof decl->id + len;
}

static enum osm_cell_type type_of(const struct osm_decl *decl, const struct osm_key *key)
{
    switch (decl->type) {
    case OSM_DECL_KIND:
        return key->n ? OSM_CELL_OBJECT : OSM_CELL_KEYS;
    case OSM_DECL_INDEX:
        return key->n ? OSM_CELL_BUCKET : OSM_CELL_KEYS;
    case OSM_DECL_FACT:
        return OSM_CELL_FACT;
    case OSM_DECL_RULE:
        return OSM_CELL_RULE;
    case OSM_DECL_EMIT:
    default:
        return OSM_CELL_EMIT;
    }
}

struct osm_cell *osm_cells_find(struct osm_engine *e, const struct osm_decl *decl,
                                const unsigned char *key, size_t len)
{
    unsigned char full[OSM_KEY_BYTES + 4];
    return osm_map_getn(&e->cells, full, map_key(decl, key, len, full));
}

struct osm_cell *osm_cells_get(struct osm_engine *e, struct osm_decl *decl,
                               const struct osm_key *key, const char **why)
{
    unsigned char bytes[OSM_KEY_BYTES], full[OSM_KEY_BYTES + 4];
    size_t len = osm_key_encode(key, bytes);
    *why = len ? NULL : "a key is longer than 1,000 bytes";
    if (!len)
        return NULL;
    size_t full_len = map_key(decl, bytes, len, full);
    struct osm_cell *c = osm_map_getn(&e->cells, full, full_len);
    if (c)
        return c;
    if (e->memory + (e->cells.count + 1) * sizeof *c > e->memory_max) {
        e->abort = OSM_ABORT_LUA_MEMORY; /* rules that ask for ever more keys */
        *why = "out of memory";
        return NULL;
    }
    c = osm_alloc(sizeof *c + len);
    if (c)
        memcpy((unsigned char *)c + KEY_AT, full, full_len);
    if (!c || osm_map_putn(&e->cells, (unsigned char *)c + KEY_AT, full_len, c, NULL)) {
        osm_free(c);
        out_of_memory(e);
        *why = "out of memory";
        return NULL;
    }
    c->decl = decl;
    c->type = type_of(decl, key);
    c->ref = LUA_NOREF;
    c->key_len = len;
    if (c->type == OSM_CELL_FACT && key->n > 0)
        osm_topic_add(e, key->at[0].str, key->n > 1 ? key->at[1].str : "", c);
    osm_cells_may_be_lost(e, c); /* until somebody has read it */
    return c;
}

void osm_cell_name(const struct osm_cell *cell, struct osm_buf *out)
{
    struct osm_key key;
    osm_key_decode(cell->key, cell->key_len, &key);
    (void)osm_buf_addf(out, "%s(", cell->decl->name);
    osm_key_text(&key, ", ", out);
    (void)osm_buf_add_char(out, ')');
}

static void set_failed(struct osm_engine *e, struct osm_cell *c, enum osm_cell_error kind)
{
    e->too_deep += kind == OSM_CELL_TOO_DEEP;
    e->too_deep -= c->failed == OSM_CELL_TOO_DEEP;
    c->failed = kind;
}

static void forget_error(struct osm_engine *e, struct osm_cell *c)
{
    set_failed(e, c, OSM_CELL_FINE);
    osm_free(c->error);
    osm_free(c->error_module);
    c->error = c->error_module = NULL;
    c->error_line = 0;
}

static void free_cell(struct osm_engine *e, struct osm_cell *c)
{
    if (e->L)
        luaL_unref(e->L, LUA_REGISTRYINDEX, c->ref);
    forget_error(e, c);
    osm_emit_withdraw(e, c);
    osm_free(c->mutation);
    osm_free(c->header_error);
    osm_bytes_unref(c->header);
    osm_free(c->reads);
    osm_free(c->readers);
    json_decref(c->json);
    json_decref(c->rejects);
    osm_free(c);
}

void osm__cells_drop(struct osm_engine *e, struct osm_cell *c)
{
    struct osm_key key;
    osm_cells_set_reads(e, c, NULL, 0);
    if (c->type == OSM_CELL_FACT) {
        osm_key_decode(c->key, c->key_len, &key);
        if (key.n > 0)
            osm_topic_remove(e, key.at[0].str, key.n > 1 ? key.at[1].str : "", c);
    }
    (void)osm_map_deln(&e->cells, (unsigned char *)c + KEY_AT, sizeof c->decl_id + c->key_len);
    free_cell(e, c);
}

void osm_cells_clear(struct osm_engine *e)
{
    struct osm_cells *const lists[] = {&e->touched, &e->due,     &e->spreading,
                                       &e->lost,    &e->handed,  &e->refill,
                                       &e->headers, &e->telling, &e->unfinished};
    osm_map_each (&e->cells, entry)
        free_cell(e, entry->value);
    osm_map_clear(&e->cells);
    osm_topics_clear(e);
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        osm_free(lists[i]->list);
        *lists[i] = (struct osm_cells){0};
    }
}

/* --- inputs --- */

void osm__cells_look_up(struct osm_engine *e, struct osm_cell *c)
{
    struct osm_key key;
    switch (c->type) {
    case OSM_CELL_OBJECT:
        c->hash = osm_kinds_object_hash(c->decl, c->key, c->key_len);
        break;
    case OSM_CELL_BUCKET:
        c->hash = osm_kinds_bucket_hash(c->decl, c->key, c->key_len);
        break;
    case OSM_CELL_KEYS:
        c->hash = osm_kinds_keys_hash(c->decl);
        break;
    case OSM_CELL_FACT:
    default:
        osm_key_decode(c->key, c->key_len, &key);
        json_t *now = c->decl->fact(e, &key);
        if (!now) {
            out_of_memory(e);
            return;
        }
        json_decref(c->json);
        c->json = now;
        c->hash = osm_json_hash(now);
        break;
    }
    c->known = true;
}

/* --- evaluation --- */

static int l_rule_body(lua_State *L)
{
    struct osm_cell *c = lua_touserdata(L, 1);
    struct osm_engine *e = osm_engine_of(L);
    struct osm_key key;
    struct osm_err err = {0};
    osm_key_decode(c->key, c->key_len, &key);
    lua_rawgeti(L, LUA_REGISTRYINDEX, c->decl->fn);
    lua_rawgeti(L, LUA_REGISTRYINDEX, e->mesh_ref);
    if (c->decl->original)
        osm_mesh_api_push_ask(L, c->decl->original);
    lua_call(L, (c->decl->original ? 2 : 1) + osm_key_push(L, &key), 1);
    struct osm_frame *f = osm_top(e);
    if (osm_value_hash(L, -1, "the answer", &f->new_hash, &err))
        return luaL_error(L, "%s", err.msg);
    if (c->ref == LUA_NOREF || c->failed || !osm_hash_equal(c->hash, f->new_hash))
        f->new_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    return 0;
}

/* Takes @p text. */
static void set_error(struct osm_engine *e, struct osm_cell *c, enum osm_cell_error kind,
                      char *text, const char *module, int line)
{
    forget_error(e, c);
    luaL_unref(e->L, LUA_REGISTRYINDEX, c->ref);
    c->ref = LUA_NOREF;
    set_failed(e, c, kind);
    c->error = text;
    c->error_module = module && module[0] ? osm_strdup(module) : NULL;
    c->error_line = line;
    if (!text || (module && module[0] && !c->error_module))
        out_of_memory(e);
    c->hash = osm_hash_text('e', text ? text : "");
}

static uint32_t depth_of(const struct osm_cell *c)
{
    uint32_t depth = 0;
    for (size_t i = 0; i < c->reads_len; i++)
        if (c->reads[i].cell->type == OSM_CELL_RULE && c->reads[i].cell->depth > depth)
            depth = c->reads[i].cell->depth;
    return depth + 1;
}

static char *too_deep_text(void)
{
    return osm_strf("the chain of rules below is longer than %d; does it ask for ever more keys?",
                    OSM_DEPTH_MAX);
}

static void commit(struct osm_engine *e, struct osm_frame *f, char *message, const char *module,
                   int line)
{
    struct osm_cell *c = f->cell;
    bool emits = c->type == OSM_CELL_EMIT;
    osm_cells_break_ring(e, c);
    osm_cells_set_reads(e, c, f->reads.list, f->reads.len);
    c->cut = false;
    c->depth = depth_of(c);
    json_decref(c->rejects);
    c->rejects = f->rejects;
    f->rejects = NULL;
    osm_free(c->mutation);
    c->mutation = NULL;
    c->ran = e->run;
    if (!emits && c->depth > OSM_DEPTH_MAX) {
        osm_free(message);
        set_error(e, c, OSM_CELL_TOO_DEEP, too_deep_text(), c->decl->module->path, c->decl->line);
    } else if (message) {
        bool passed_on = f->raised && f->raised->error && !strcmp(f->raised->error, message);
        if (!module[0] && !passed_on) {
            module = c->decl->module->path;
            line = c->decl->line;
        }
        set_error(e, c, passed_on ? OSM_CELL_PASSED_ON : OSM_CELL_FAILED, message, module, line);
    } else {
        if (!emits && f->new_ref != LUA_NOREF) {
            luaL_unref(e->L, LUA_REGISTRYINDEX, c->ref);
            c->ref = f->new_ref;
            f->new_ref = LUA_NOREF;
        }
        forget_error(e, c);
        c->hash = f->new_hash;
    }
    if (emits)
        osm_emit_commit(e, c, f);
    c->known = true;
    c->stale = false;
    osm_cells_note_telling(e, c);
    /* Not a matter of what it read: tried again. */
    if (f->ended == OSM_ENDED_TIME || f->ended == OSM_ENDED_FULL)
        (void)osm_cells_push_to(e, &e->unfinished, c);
    e->stained = e->stained || f->ended == OSM_ENDED_FULL;
}

static void evaluate(struct osm_engine *e, struct osm_frame *f)
{
    struct osm_cell *c = f->cell;
    char *message = NULL, module[256];
    int line = 0;
    struct osm_frame *caller = osm_profile_enter(e, f);
    f->running = true;
    f->serial = ++e->serial;
    f->reads.len = 0;
    e->rules_run++;
    int rc = OSM_ELUA;
    if (osm_sandbox_is_stopping(e)) /* too short to look at the clock, most are */
        e->abort = OSM_ABORT_STUCK;
    else
        rc = osm_lua_call(e, c->type == OSM_CELL_EMIT ? osm_emit_body : l_rule_body, c, &message,
                          module, &line);
    if (rc && !message && !e->abort)
        out_of_memory(e);
    if (e->trace)
        osm_trace_ran(e->trace, c, f->budget < OSM_BUDGET ? OSM_BUDGET - f->budget : 0);
    if (e->abort)
        osm_free(message);
    else
        commit(e, f, message, module, line);
    luaL_unref(e->L, LUA_REGISTRYINDEX, f->new_ref);
    f->new_ref = LUA_NOREF;
    osm_emit_discard(f);
    osm_profile_leave(e, f, caller);
}

/* True: every read gives what it gave before. Stops at the first that does not, before it would ask
 * for what is not read any more. */
static bool reads_hold(struct osm_engine *e, struct osm_frame *f)
{
    struct osm_cell *c = f->cell;
    e->cells_verified++;
    for (f->at = 0; f->at < c->reads_len; f->at++) {
        struct osm_read *r = &c->reads[f->at];
        osm_cells_bring(e, r->cell);
        if (e->abort || !osm_hash_equal(r->cell->hash, r->seen))
            return false;
    }
    if (c->type == OSM_CELL_EMIT)
        return true;
    uint32_t depth = depth_of(c);
    if (c->failed == OSM_CELL_CYCLE)
        return true;
    if (c->failed == OSM_CELL_TOO_DEEP && c->cut)
        return true;
    if ((depth > OSM_DEPTH_MAX) != (c->failed == OSM_CELL_TOO_DEEP))
        return false;
    c->depth = depth;
    return true;
}

/* --- cycles and chains without end --- */

/* What the frame has read before it asked for the cell of the next frame. */
static int add_own_reads(const struct osm_frame *f, struct osm_reads *all)
{
    const struct osm_read *list = f->running ? f->reads.list : f->cell->reads;
    size_t n = f->running ? f->reads.len - 1 : f->at;
    if (all->len + n > all->cap) {
        size_t cap = (all->len + n) * 2;
        struct osm_read *grown = osm_realloc_array(all->list, cap, sizeof *grown);
        if (!grown)
            return OSM_ENOMEM;
        all->list = grown;
        all->cap = cap;
    }
    if (n)
        memcpy(all->list + all->len, list, n * sizeof *list);
    all->len += n;
    return 0;
}

/* The cell becomes an error that is tried again when one of @p reads has changed. Takes @p text. */
static void become_error(struct osm_engine *e, struct osm_cell *c, const struct osm_reads *reads,
                         enum osm_cell_error kind, char *text)
{
    osm_cells_break_ring(e, c);
    osm_cells_set_reads(e, c, reads->list, reads->len);
    json_decref(c->rejects);
    c->rejects = NULL;
    osm_free(c->mutation);
    c->mutation = NULL;
    c->depth = kind == OSM_CELL_TOO_DEEP ? OSM_DEPTH_MAX + 1 : depth_of(c);
    set_error(e, c, kind, text, c->decl->module->path, c->decl->line);
    c->known = true;
    c->stale = false;
    c->ran = e->run;
    osm_cells_note_telling(e, c);
}

/* Counts round the cycle; i < 2 * n. */
static struct osm_frame *member(struct osm_engine *e, size_t base, size_t n, size_t i)
{
    return &e->frames[base + (i < n ? i : i - n)];
}

/* "cycle: a(1) -> b(1) -> a(1)", from the member with the least name, so that every way into the
 * cycle reads alike. */
static char *cycle_text(struct osm_engine *e, size_t base, size_t n)
{
    struct osm_buf least = OSM_BUF_INIT(NAME_MAX_BYTES), name = OSM_BUF_INIT(NAME_MAX_BYTES),
                   text = OSM_BUF_INIT(NAME_MAX_BYTES * 4);
    size_t first = 0;
    for (size_t i = 0; i < n; i++) {
        osm_buf_reset(&name);
        osm_cell_name(e->frames[base + i].cell, &name);
        if (!name.data || (least.data && strcmp(name.data, least.data) >= 0))
            continue;
        first = i;
        osm_buf_reset(&least);
        (void)osm_buf_add_str(&least, name.data);
    }
    (void)osm_buf_add_str(&text, "cycle: ");
    for (size_t i = 0; i <= n && text.len < CHAIN_MAX_BYTES; i++) {
        if (i)
            (void)osm_buf_add_str(&text, " -> ");
        osm_cell_name(member(e, base, n, first + i)->cell, &text);
    }
    if (text.len >= CHAIN_MAX_BYTES)
        (void)osm_buf_addf(&text, " -> ... (%zu rules)", n);
    osm_buf_clear(&least);
    osm_buf_clear(&name);
    return osm_buf_take(&text);
}

/* The frames from the cell's own to the top are a cycle. Each member gets the reads of all,
 * beginning with its own, as if it had been the one that was asked first. The unions are made
 * before any member's reads change. */
static void cut_cycle(struct osm_engine *e, struct osm_cell *c)
{
    size_t base = e->nest - 1;
    while (e->frames[base].cell != c)
        base--;
    size_t n = e->nest - base;
    char *text = cycle_text(e, base, n);
    struct osm_reads *unions = osm_alloc_array(n, sizeof *unions);
    int rc = unions && text ? 0 : OSM_ENOMEM;
    for (size_t i = 0; !rc && i < n; i++)
        for (size_t k = 0; !rc && k < n; k++)
            rc = add_own_reads(member(e, base, n, i + k), &unions[i]);
    e->abort = OSM_ABORT_CYCLE;
    e->abort_level = base;
    for (size_t i = 0; !rc && i < n; i++)
        become_error(e, e->frames[base + i].cell, &unions[i], OSM_CELL_CYCLE, osm_strdup(text));
    for (size_t i = 0; !rc && i < n; i++)
        e->frames[base + i].cell->ring = member(e, base, n, i + 1)->cell;
    for (size_t i = 0; unions && i < n; i++)
        osm_free(unions[i].list);
    osm_free(unions);
    osm_free(text);
    if (rc)
        out_of_memory(e);
}

/* All frames are in use. Every rule that has OSM_DEPTH_MAX frames or more above it is too deep for
 * certain; the first of them becomes the error, those above it have no verdict yet and are
 * evaluated again if somebody else asks. */
static void cut_chain(struct osm_engine *e)
{
    size_t level = OSM_NEST_MAX - OSM_DEPTH_MAX;
    struct osm_reads all = {0};
    int rc = 0;
    e->abort = OSM_ABORT_DEPTH;
    e->abort_level = level;
    for (size_t i = level; !rc && i < e->nest; i++)
        rc = add_own_reads(&e->frames[i], &all);
    if (rc) {
        out_of_memory(e);
    } else {
        become_error(e, e->frames[level].cell, &all, OSM_CELL_TOO_DEEP, too_deep_text());
        e->frames[level].cell->cut = true;
    }
    osm_free(all.list);
}

/* --- asking --- */

static void bring(struct osm_engine *e, struct osm_cell *c)
{
    if (osm_cell_is_input(c)) {
        osm__cells_look_up(e, c);
        return;
    }
    if (c->active) {
        cut_cycle(e, c);
        return;
    }
    size_t level = e->nest;
    struct osm_frame *f = osm_frame_push(e, c, false);
    if (!f) {
        cut_chain(e);
        return;
    }
    c->active = true;
    bool holds = c->known && reads_hold(e, f);
    if (holds) {
        c->stale = false;
        c->decl->cost.hits += c->type == OSM_CELL_EMIT; /* nobody asks for those */
    } else if (!e->abort) {
        evaluate(e, f);
    }
    c->active = false;
    osm_frame_pop(e);
    if (e->abort && e->abort < OSM_ABORT_NOMEM && e->abort_level == level)
        e->abort = OSM_ABORT_NONE;
}

void osm_cells_bring(struct osm_engine *e, struct osm_cell *c)
{
    bool good = c->known && !c->stale;
    if (e->abort)
        return;
    if (e->trace)
        osm_trace_enter(e->trace, c, good);
    if (!good)
        bring(e, c);
    if (e->trace)
        osm_trace_leave(e->trace, c);
}

bool osm_cells_read(struct osm_engine *e, struct osm_cell *cell)
{
    struct osm_frame *f = osm_top(e);
    size_t at = f->reads.len;
    bool again = cell->reader == f->serial;
    if (!again) {
        if (f->reads.len == f->reads.cap) {
            size_t cap = f->reads.cap ? f->reads.cap * 2 : 16;
            struct osm_read *grown = osm_realloc_array(f->reads.list, cap, sizeof *grown);
            if (!grown) {
                out_of_memory(e);
                return false;
            }
            f->reads.list = grown;
            f->reads.cap = cap;
        }
        f->reads.list[f->reads.len++] = (struct osm_read){cell, {0, 0}, 0};
    }
    e->evaluated = NULL;
    osm_cells_bring(e, cell);
    if (e->abort)
        return false;
    cell->decl->cost.hits += cell->type == OSM_CELL_RULE && e->evaluated != cell;
    if (!again)
        f->reads.list[at].seen = cell->hash;
    cell->reader = f->serial;
    return true;
}

/* A bucket's or a fact's table is made when somebody wants it, and once for all who do. */
void osm_cells_push(lua_State *L, struct osm_cell *c)
{
    struct osm_engine *e = osm_engine_of(L);
    if (c->type == OSM_CELL_OBJECT) {
        osm_kinds_push_object(L, c->decl, c->key, c->key_len);
        return;
    }
    if (c->handed != e->run)
        (void)osm_cells_push_to(e, &e->handed, c);
    if (osm_cell_is_input(c) && (c->ref == LUA_NOREF || !osm_hash_equal(c->ref_hash, c->hash))) {
        if (c->type == OSM_CELL_BUCKET)
            osm_kinds_push_bucket(L, c->decl, c->key, c->key_len);
        else if (c->type == OSM_CELL_KEYS)
            osm_kinds_push_keys(L, c->decl);
        else
            osm_value_push(L, c->json);
        c->hashed = false;
        luaL_unref(L, LUA_REGISTRYINDEX, c->ref);
        c->ref = LUA_NOREF;
        c->ref = luaL_ref(L, LUA_REGISTRYINDEX);
        c->ref_hash = c->hash;
    } else if (c->type == OSM_CELL_BUCKET && c->handed != e->run) {
        osm_kinds_bucket_handed(e, c->decl, c->key, c->key_len);
    }
    c->handed = e->run;
    lua_rawgeti(L, LUA_REGISTRYINDEX, c->ref);
    if (osm_cell_is_input(c) && !c->hashed && !e->proven) {
        if (osm_value_hash(L, -1, "", &c->made_hash, NULL))
            luaL_error(L, "%s: cannot be handed out", c->decl->name);
        c->hashed = true;
    }
}
