#include "policy/emit/emit.h"

#include "policy/memo/cells.h"
#include "policy/memo/key.h"
#include "policy/memo/value.h"
#include "policy/sandbox/sandbox.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { KEY_MAX_BYTES = 16 * 1024, EACH_MAX_BYTES = 64 << 20 };

int osm_emit_body(lua_State *L)
{
    struct osm_cell *c = lua_touserdata(L, 1);
    struct osm_engine *e = osm_engine_of(L);
    struct osm_key key;
    osm_top(e)->emission = osm_alloc(sizeof *osm_top(e)->emission);
    if (!osm_top(e)->emission) {
        e->abort =
            OSM_ABORT_NOMEM; /* no error of the emitter's: it would stand until a read changes */
        return luaL_error(L, "out of memory");
    }
    osm_key_decode(c->key, c->key_len, &key);
    lua_rawgeti(L, LUA_REGISTRYINDEX, c->decl->fn);
    lua_rawgeti(L, LUA_REGISTRYINDEX, e->mesh_ref);
    lua_rawgeti(L, LUA_REGISTRYINDEX, e->out_ref);
    lua_call(L, 2 + osm_key_push(L, &key), 0);
    return 0;
}

static void free_emission(struct osm_emission *emission)
{
    if (!emission)
        return;
    for (size_t i = 0; i < emission->len; i++)
        osm_emitted_clear(&emission->list[i]);
    osm_emitted_clear(&emission->building);
    osm_free(emission->list);
    osm_free(emission);
}

void osm_emit_discard(struct osm_frame *f)
{
    free_emission(f->emission);
    f->emission = NULL;
}

/* --- what was said, as a name and a hash --- */

/* Texts stand as they are, but escaped and, where they read like another type, quoted: two keys
 * never read alike. */
static void add_key_text(struct osm_buf *out, const struct osm_scalar *s)
{
    if (s->type != OSM_SCALAR_STR) {
        (void)(s->type == OSM_SCALAR_INT ? osm_buf_add_int(out, s->i)
                                         : osm_buf_add_str(out, s->i ? "true" : "false"));
        return;
    }
    bool alike = !strcmp(s->str, "true") || !strcmp(s->str, "false") ||
                 isdigit((unsigned char)s->str[0]) || s->str[0] == '-';
    if (alike)
        (void)osm_buf_add_char(out, '"');
    for (const char *p = s->str; *p; p++) {
        if (strchr(",()#\\\"", *p))
            (void)osm_buf_add_char(out, '\\');
        (void)osm_buf_add_char(out, *p);
    }
    if (alike)
        (void)osm_buf_add_char(out, '"');
}

/* "envoy/clusters.clusters(shop,cart,80)#CDS:shop/cart|80" */
static char *item_key(const struct osm_cell *c, const struct osm_item *item)
{
    char room[OSM_BUF_ROOM];
    struct osm_buf out = osm_buf_on(room, sizeof room, KEY_MAX_BYTES);
    struct osm_key key;
    osm_key_decode(c->key, c->key_len, &key);
    (void)osm_buf_add_strs(&out, c->decl->name, "(", NULL);
    for (size_t i = 0; i < key.n; i++) {
        if (i)
            (void)osm_buf_add_char(&out, ',');
        add_key_text(&out, &key.at[i]);
    }
    (void)osm_buf_add_strs(&out, ")#", osm_xds_type_short(item->type), ":", item->resource, NULL);
    if (item->element)
        (void)osm_buf_add_strs(&out, "#", item->element, NULL);
    return osm_buf_take(&out);
}

static struct osm_hash fold_text(struct osm_hash sum, const char *text)
{
    return osm_hash_fold(sum, osm_hash_text(text ? 's' : 'n', text ? text : ""));
}

static struct osm_hash fold_number(struct osm_hash sum, uint64_t number)
{
    return osm_hash_fold(sum, (struct osm_hash){0, number});
}

static struct osm_hash hash_emitted(const struct osm_emitted *m)
{
    const struct osm_item *item = m->item;
    struct osm_hash h = {0, (uint64_t)item->part};
    h = fold_text(fold_text(h, item->resource), item->element);
    h = fold_number(h, (uint64_t)item->alone << 2 | (uint64_t)item->authorises << 1 |
                           (uint64_t)m->any_account);
    h = fold_text(fold_text(fold_text(h, item->unique), item->header_rule), item->place);
    for (size_t i = 0; item->tags && item->tags[i]; i++)
        h = fold_text(h, item->tags[i]);
    h = fold_number(h, item->audience_len);
    for (size_t i = 0; i < item->audience_len; i++) {
        const struct osm_term *t = &item->audience[i];
        h = fold_text(fold_text(fold_text(fold_text(h, t->pod), t->service), t->account), t->ns);
    }
    h = fold_text(fold_text(h, m->ns), m->service);
    h = fold_number(fold_number(h, (uint64_t)m->port), m->names_len);
    for (size_t i = 0; i < m->names_len; i++)
        h = fold_text(h, m->names[i]);
    h = fold_number(h, m->ports ? m->ports_len + 1 : 0);
    for (size_t i = 0; m->ports && i < m->ports_len; i++)
        h = fold_number(h, m->ports[i]);
    return item->body ? osm_hash_fold(h, osm_bytes_hash(item->body)) : h;
}

static int by_key_and_order(const void *a, const void *b)
{
    const struct osm_emitted *x = a, *y = b;
    int order = strcmp(x->key, y->key);
    return order ? order : (x->order > y->order) - (x->order < y->order);
}

/* Sorts by key; those that say the same (type, resource, element) get a number in front of it. */
static int settle(const struct osm_cell *c, struct osm_emission *emission)
{
    size_t prefix = 0;
    for (size_t i = 0; i < emission->len; i++) {
        struct osm_emitted *m = &emission->list[i];
        m->key = item_key(c, m->item);
        if (!m->key)
            return OSM_ENOMEM;
        m->hash = hash_emitted(m);
        prefix = strlen(m->key) - strlen(m->item->resource) -
                 (m->item->element ? strlen(m->item->element) + 1 : 0) - 5;
    }
    if (emission->len)
        qsort(emission->list, emission->len, sizeof *emission->list, by_key_and_order);
    for (size_t i = 1, n = 1; i < emission->len; i++) {
        struct osm_emitted *m = &emission->list[i];
        bool same = !strcmp(m->key, emission->list[i - n].key);
        n = same ? n + 1 : 1;
        char *numbered =
            same ? osm_strf("%.*s[%zu]%s", (int)prefix, m->key, n, m->key + prefix) : NULL;
        if (same && !numbered)
            return OSM_ENOMEM;
        if (!same)
            continue;
        /* The first of equals keeps its key: the comparison above needs it. */
        m->item->key = numbered;
    }
    for (size_t i = 0; i < emission->len; i++) {
        struct osm_emitted *m = &emission->list[i];
        if (m->item->key) {
            osm_free(m->key);
            m->key = osm_strdup(m->item->key);
        } else {
            m->item->key = osm_strdup(m->key);
        }
        if (!m->key || !m->item->key)
            return OSM_ENOMEM;
    }
    if (emission->len)
        qsort(emission->list, emission->len, sizeof *emission->list, by_key_and_order);
    return 0;
}

/* --- into the composition --- */

/* Whose endpoints the items are filled with. */
static void follow(struct osm_engine *e, struct osm_cell *c, const struct osm_emission *emission,
                   bool on)
{
    for (size_t i = 0; emission && i < emission->len; i++) {
        const struct osm_emitted *m = &emission->list[i];
        if (m->fill != OSM_FILL_ENDPOINTS)
            continue;
        if (on)
            osm_topic_add(e, m->ns, m->service, c);
        else
            osm_topic_remove(e, m->ns, m->service, c);
    }
}

static void withdraw(struct osm_engine *e, struct osm_emitted *m)
{
    if (m->put && e->compose)
        osm_compose_remove(e->compose, m->key);
    m->put = false;
}

static int put(struct osm_engine *e, struct osm_emitted *m)
{
    if (m->fill)
        return osm_fill_put(e, m);
    m->put = true;
    return osm_compose_put(e->compose, osm_take_ptr(&m->item));
}

/* Both lists are sorted by key. What has not changed stays where it is. */
static int replace(struct osm_engine *e, struct osm_emission *old, struct osm_emission *now)
{
    int rc = 0;
    size_t at = 0;
    for (size_t i = 0; i < now->len && !rc; i++) {
        struct osm_emitted *m = &now->list[i];
        for (; old && at < old->len && strcmp(old->list[at].key, m->key) < 0; at++)
            withdraw(e, &old->list[at]);
        bool known = old && at < old->len && !strcmp(old->list[at].key, m->key);
        if (known && old->list[at].put && osm_hash_equal(old->list[at].hash, m->hash)) {
            struct osm_emitted swap = *m;
            *m = old->list[at];
            old->list[at++] = swap;
            continue;
        }
        rc = put(e, m);
        if (known)
            old->list[at++].put = false; /* replaced under its key */
    }
    for (; old && at < old->len; at++)
        withdraw(e, &old->list[at]);
    return rc;
}

void osm_emit_drop_cells(struct osm_engine *e, struct osm_decl *d)
{
    for (size_t i = 0; i < d->emit_cells_len; i++) {
        osm_emit_withdraw(e, d->emit_cells[i]);
        osm_cells_release(e, d->emit_cells[i]);
    }
    d->emit_cells_len = 0;
}

void osm_emit_forget_kept(struct osm_engine *e)
{
    for (size_t i = 0; i < e->decls_len; i++) {
        struct osm_decl *d = e->decls[i];
        if (d->each_failed)
            osm_emit_drop_cells(e, d);
        for (size_t k = 0; k < d->emit_cells_len; k++)
            if (d->emit_cells[k]->failed)
                osm_emit_withdraw(e, d->emit_cells[k]);
    }
}

void osm_emit_commit(struct osm_engine *e, struct osm_cell *c, struct osm_frame *f)
{
    if (c->failed) {
        if (e->anew)
            osm_emit_withdraw(e, c);
        else
            osm_emit_withdraw_grants(e, c);
        return;
    }
    struct osm_emission *now = f->emission, *old = c->emission;
    f->emission = NULL;
    c->emission = now;
    follow(e, c, now, true);
    follow(e, c, old, false);
    int rc = settle(c, now);
    if (!rc)
        rc = replace(e, old, now);
    if (rc)
        e->abort = OSM_ABORT_NOMEM;
    c->hash = osm_hash_text('l', "");
    for (size_t i = 0; i < now->len; i++)
        c->hash = osm_hash_fold(c->hash, now->list[i].hash);
    free_emission(old);
}

void osm_emit_withdraw_grants(struct osm_engine *e, struct osm_cell *c)
{
    for (size_t i = 0; c->emission && i < c->emission->len; i++)
        if (c->emission->list[i].authorises)
            withdraw(e, &c->emission->list[i]);
}

void osm_emit_withdraw(struct osm_engine *e, struct osm_cell *c)
{
    for (size_t i = 0; c->emission && i < c->emission->len; i++)
        withdraw(e, &c->emission->list[i]);
    if (e->compose) /* else all goes */
        follow(e, c, c->emission, false);
    free_emission(c->emission);
    c->emission = NULL;
}

/* --- the keys of an emitter --- */

/* Reads the answer that an emitter goes over into the scratch, as (length, bytes). */
static int l_each_keys(lua_State *L)
{
    struct osm_decl *d = lua_touserdata(L, 1);
    struct osm_engine *e = osm_engine_of(L);
    osm_cells_push(L, d->each_cell);
    if (!lua_istable(L, -1))
        return luaL_error(L, "each = \"%s\": expected a list of keys, got %s", d->each_name,
                          luaL_typename(L, -1));
    int list = lua_gettop(L);
    lua_Unsigned n = lua_rawlen(L, list);
    lua_pushnil(L);
    if (!n && lua_next(L, list))
        return luaL_error(L, "each = \"%s\": expected a list of keys, got a table with named keys",
                          d->each_name);
    lua_settop(L, list);
    lua_createtable(L, 0, (int)n); /* seen */
    for (lua_Unsigned i = 1; i <= n; i++) {
        struct osm_key key;
        unsigned char bytes[OSM_KEY_BYTES];
        lua_rawgeti(L, list, (lua_Integer)i);
        const char *why = osm_key_from_value(L, -1, &key);
        uint32_t len = why ? 0 : (uint32_t)osm_key_encode(&key, bytes);
        if (!len)
            return luaL_error(L, "each = \"%s\": key %d: %s", d->each_name, (int)i,
                              why ? why : "is longer than 1,000 bytes");
        lua_pop(L, 1);
        lua_pushlstring(L, (const char *)bytes, len);
        lua_pushvalue(L, -1);
        if (lua_rawget(L, list + 1) != LUA_TNIL)
            return luaL_error(L, "each = \"%s\": key %d is there twice", d->each_name, (int)i);
        lua_pop(L, 1);
        lua_pushboolean(L, 1);
        lua_rawset(L, list + 1);
        (void)osm_buf_add(&e->keys_scratch, &len, sizeof len);
        if (osm_buf_add(&e->keys_scratch, bytes, len)) {
            if (e->keys_scratch.failed == OSM_ENOMEM)
                e->abort = OSM_ABORT_NOMEM;
            return luaL_error(L, "each = \"%s\": too many keys", d->each_name);
        }
    }
    return 0;
}

/* Makes the cells for the keys in the scratch; cells of keys that have gone take their items along.
 */
static int set_cells(struct osm_engine *e, struct osm_decl *d)
{
    size_t n = 0;
    for (size_t at = 0; at < e->keys_scratch.len; n++) {
        uint32_t len;
        memcpy(&len, e->keys_scratch.data + at, sizeof len);
        at += sizeof len + len;
    }
    struct osm_cell **cells = osm_alloc_array(n, sizeof(struct osm_cell *));
    if (!cells)
        return OSM_ENOMEM;
    uint64_t now = ++e->serial;
    for (size_t i = 0, at = 0; i < n; i++) {
        uint32_t len;
        struct osm_key key;
        const char *why;
        memcpy(&len, e->keys_scratch.data + at, sizeof len);
        osm_key_decode((const unsigned char *)e->keys_scratch.data + at + sizeof len, len, &key);
        at += sizeof len + len;
        cells[i] = osm_cells_get(e, d, &key, &why);
        if (!cells[i]) {
            osm_free(cells);
            return OSM_ENOMEM;
        }
        cells[i]->mark = now;
        osm_cells_hold(cells[i]);
        if (!cells[i]->known || cells[i]->stale)
            osm_cells_doubt(e, cells[i]);
    }
    for (size_t i = 0; i < d->emit_cells_len; i++) {
        if (d->emit_cells[i]->mark != now)
            osm_emit_withdraw(e, d->emit_cells[i]); /* the memo drops the cell when the run ends */
        osm_cells_release(e, d->emit_cells[i]);
    }
    osm_free(d->emit_cells);
    d->emit_cells = cells;
    d->emit_cells_len = n;
    return 0;
}

/* Nobody knows which keys there are: what grants is withdrawn, the rest stays until somebody does.
 */
static void each_fails(struct osm_engine *e, struct osm_decl *d)
{
    d->each_failed = true;
    if (e->anew)
        osm_emit_drop_cells(e, d);
    for (size_t i = 0; i < d->emit_cells_len; i++) {
        osm_emit_withdraw_grants(e, d->emit_cells[i]);
        osm_cells_doubt(e, d->emit_cells[i]); /* so that the grants come back with the keys */
    }
}

static int bring_keys(struct osm_engine *e, struct osm_decl *d)
{
    const char *why = NULL;
    struct osm_err err = {0};
    struct osm_key none = {0};
    if (!d->each_cell) {
        d->each_cell = osm_cells_get(e, d->each, &none, &why);
        if (!d->each_cell)
            return OSM_ENOMEM;
        osm_cells_hold(d->each_cell);
    }
    osm_cells_bring(e, d->each_cell);
    if (e->abort)
        return OSM_ELUA;
    bool changed = !osm_hash_equal(d->each_seen, d->each_cell->hash) || d->each_failed;
    if (!changed)
        return 0;
    e->reports_changed = e->reports_changed || d->each_error;
    osm_free(d->each_error);
    d->each_error = NULL;
    if (d->each_cell->failed) {
        each_fails(e, d);
        return 0;
    }
    osm_buf_reset(&e->keys_scratch);
    if (osm_lua_run(e, l_each_keys, d, &err)) {
        if (e->abort)
            return OSM_ELUA;
        d->each_error = osm_strdup(err.msg);
        e->reports_changed = true;
        each_fails(e, d);
        return d->each_error ? 0 : OSM_ENOMEM;
    }
    d->each_failed = false;
    d->each_seen = d->each_cell->hash;
    return set_cells(e, d);
}

/* A cell of an emitter whose keys nobody knows waits for them: osm_emit_run_all finds it again. */
static void bring_due(struct osm_engine *e)
{
    size_t waiting = 0;
    for (size_t i = 0; i < e->due.len && !e->abort; i++) {
        struct osm_cell *c = e->due.list[i];
        if (c->roots && c->decl->each_failed) {
            e->due.list[waiting++] = c;
            continue;
        }
        c->due = false;
        if (c->roots)
            osm_cells_bring(e, c);
    }
    e->due.len = waiting;
}

int osm_emit_run_all(struct osm_engine *e)
{
    for (size_t i = 0; i < e->decls_len; i++) {
        struct osm_decl *d = e->decls[i];
        int rc = d->type == OSM_DECL_EMIT ? bring_keys(e, d) : 0;
        if (rc)
            return rc;
    }
    bring_due(e);
    return e->abort ? OSM_ELUA : 0;
}
