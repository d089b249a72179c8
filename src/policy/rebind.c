/* Another bundle for an engine that has run. What the memo holds stays where it is still right, so
 * that a preview of one changed rule takes what that rule takes, and not what the mesh does.
 *
 *   load       the new bundle, whole, beside the old one, in the same state
 *   pair       declarations of one type, module and name
 *   fits?      there is no kind that was not read before: its objects are not here. Else: no
 *   take over  cells, objects and buckets go to the new declarations; objects of a kind that takes
 *              them in otherwise (its functions, its indexes, its schema) are taken in by the next
 *              run
 *   doubt      the cells whose answer may be another
 *   free       the old bundle
 *
 * A cell's answer follows from what it has read, which the memo looks after, and from these, which
 * are compared here:
 *
 *   its function and what that reaches       the signature of its module (bundle/signature.h)
 *   whom `mesh.name` asks                     each name's declaration, wraps included
 *   the extensions of what an emitter says    those of the forms that it has said
 *   what it requires while it runs            nothing: it runs again
 *
 * Nothing of the old bundle is run again, so a module's table that another one wrote into while it
 * was loaded is what it would be in a fresh engine. */
#include "policy/engine_priv.h"

#include "policy/bundle/bundle.h"
#include "policy/bundle/extend.h"
#include "policy/bundle/purity.h"
#include "policy/bundle/signature.h"
#include "policy/emit/emit.h"
#include "policy/host_settings.h"
#include "policy/kinds/kinds.h"
#include "policy/memo/cells.h"
#include "policy/sandbox/sandbox.h"

#include <string.h>

/* What of an engine is its bundle's. */
struct bundle {
    struct osm_policy_files *files;
    struct osm_module *modules;
    size_t modules_len;
    struct osm_map modules_by_name;
    json_t *warnings;
    struct osm_decl **decls;
    size_t decls_len, decls_cap;
    bool signatures;
    struct osm_purity *pure;
    json_t *impure;
    struct osm_map names, kinds_by_type;
    struct osm_join **joins;
    size_t joins_len;
    int extend_ref, mesh_ref, out_ref;
};

#define SWAP(a, b)                                                                                 \
    do {                                                                                           \
        __typeof__(a) swap_ = (a);                                                                 \
        (a) = (b);                                                                                 \
        (b) = swap_;                                                                               \
    } while (0)

static void swap(struct osm_engine *e, struct bundle *b)
{
    SWAP(e->files, b->files);
    SWAP(e->modules, b->modules);
    SWAP(e->modules_len, b->modules_len);
    SWAP(e->modules_by_name, b->modules_by_name);
    SWAP(e->warnings, b->warnings);
    SWAP(e->decls, b->decls);
    SWAP(e->decls_len, b->decls_len);
    SWAP(e->decls_cap, b->decls_cap);
    SWAP(e->signatures, b->signatures);
    SWAP(e->pure, b->pure);
    SWAP(e->impure, b->impure);
    SWAP(e->names, b->names);
    SWAP(e->kinds_by_type, b->kinds_by_type);
    SWAP(e->joins, b->joins);
    SWAP(e->joins_len, b->joins_len);
    SWAP(e->extend_ref, b->extend_ref);
    SWAP(e->mesh_ref, b->mesh_ref);
    SWAP(e->out_ref, b->out_ref);
}

static void unref(struct osm_engine *e, int ref)
{
    luaL_unref(e->L, LUA_REGISTRYINDEX, ref); /* LUA_NOREF is accepted */
}

/* A rule that the host has made because a listener asked for it (bundle/extend.h). */
static bool is_made(const struct osm_decl *d)
{
    return d->original && d->original->extended == d;
}

/* Frees the engine's bundle, which nothing refers to. */
static void free_bundle(struct osm_engine *e)
{
    for (size_t i = 0; i < e->decls_len; i++) {
        const struct osm_decl *d = e->decls[i];
        bool is_wrap = d->original && !is_made(d);
        if (!is_wrap) /* that one is its join's */
            unref(e, d->fn);
        unref(e, d->accept);
        for (size_t k = 0; d->from && d->versions[k]; k++)
            unref(e, d->from[k]);
    }
    for (size_t i = 0; i < e->joins_len; i++) {
        unref(e, e->joins[i]->run);
        unref(e, e->joins[i]->vary);
    }
    for (size_t i = 0; i < e->modules_len; i++)
        unref(e, e->modules[i].ref);
    unref(e, e->extend_ref);
    unref(e, e->mesh_ref);
    unref(e, e->out_ref);
    osm_purity_free(e->pure);
    json_decref(e->impure);
    osm_bundle_free(e);
    json_decref(e->warnings);
    osm_policy_files_unref(e->files);
}

static int load(struct osm_engine *e, struct osm_policy_files *files, struct osm_err *err)
{
    e->files = osm_policy_files_ref(files);
    e->extend_ref = e->mesh_ref = e->out_ref = LUA_NOREF;
    int rc = osm__engine_load(e, err);
    if (!rc)
        rc = osm_signatures_take(e, err);
    e->signatures = !rc;
    return rc;
}

/* --- pairs --- */

/* A rule that is wrapped is renamed to "NAME of MODULE": the length of what it was declared as. */
static size_t declared_len(const struct osm_decl *d)
{
    size_t len = strlen(d->name), more = d->module ? strlen(d->module->name) + 4 : 0;
    if (d->type != OSM_DECL_RULE || !more || len <= more ||
        strcmp(d->name + len - more + 4, d->module->name) != 0 ||
        strncmp(d->name + len - more, " of ", 4) != 0)
        return len;
    return len - more;
}

static bool is_pair(const struct osm_decl *a, const struct osm_decl *b)
{
    size_t len = declared_len(a);
    if (a->type != b->type || !a->module != !b->module || len != declared_len(b) ||
        memcmp(a->name, b->name, len) != 0)
        return false;
    return !a->module || !strcmp(a->module->name, b->module->name);
}

struct headers {
    const struct bundle *old;
    bool failed;
};

/* Makes those again that there were, as far as anything still extends listeners. */
static int l_extend_headers(lua_State *L)
{
    static const char suffix[] = ", extended";
    struct headers *h = lua_touserdata(L, 1);
    struct osm_engine *e = osm_engine_of(L);
    for (size_t i = 0; i < h->old->decls_len; i++) {
        const struct osm_decl *d = h->old->decls[i];
        size_t len = strlen(d->name);
        struct osm_decl *rule =
            is_made(d) ? osm_map_getn(&e->names, d->name, len - (sizeof suffix - 1)) : NULL;
        if (rule && rule->type == OSM_DECL_RULE && !osm_extend_header_rule(L, rule))
            h->failed = true;
    }
    return 0;
}

static int pair(struct osm_engine *e, const struct bundle *old, struct osm_err *err)
{
    struct headers h = {old, false};
    int rc = osm_lua_run(e, l_extend_headers, &h, err);
    if (rc || h.failed)
        return osm_fail(err, OSM_ENOMEM, "out of memory");
    for (size_t i = 0; i < old->decls_len; i++) {
        old->decls[i]->next = NULL;
        old->decls[i]->other = false;
        for (size_t k = 0; k < e->decls_len && !old->decls[i]->next; k++)
            if (is_pair(old->decls[i], e->decls[k]))
                old->decls[i]->next = e->decls[k];
    }
    return 0;
}

/* --- does it fit --- */

static bool same_texts(char *const *a, char *const *b)
{
    for (; a && b && *a && *b && !strcmp(*a, *b); a++)
        b++;
    return a && b ? !*a && !*b : a == b;
}

static bool same_intake(const struct osm_decl *a, const struct osm_decl *b)
{
    if (a->type == OSM_DECL_FACT)
        return true;
    if (!osm_signature_equal(&a->signature, &b->signature))
        return false;
    if (a->type == OSM_DECL_INDEX)
        return !strcmp(a->each_name, b->each_name);
    return !strcmp(a->group, b->group) && same_texts(a->versions, b->versions) &&
           osm_hash_equal(a->schema_hash, b->schema_hash) && a->status == b->status &&
           a->hides_labels == b->hides_labels && a->tolerant == b->tolerant;
}

static bool is_input(const struct osm_decl *d)
{
    return d->type == OSM_DECL_KIND || d->type == OSM_DECL_INDEX || d->type == OSM_DECL_FACT;
}

/* The kind whose objects the declaration is about; NULL: none. */
static const struct osm_decl *kind_of(const struct osm_decl *d)
{
    return d->type == OSM_DECL_KIND ? d : d->type == OSM_DECL_INDEX ? d->of : NULL;
}

/* Kinds of the old bundle whose objects are to be taken in again. */
static void find_retaken(struct osm_engine *e, const struct bundle *old)
{
    for (size_t i = 0; i < old->decls_len; i++) {
        struct osm_decl *d = old->decls[i];
        if (d->type != OSM_DECL_KIND)
            continue;
        d->reshaped = !d->next || !same_intake(d, d->next) || e->intake_requires;
        d->retaken = d->reshaped || d->next->indexes_len != d->indexes_len;
    }
    for (size_t i = 0; i < old->decls_len; i++) {
        const struct osm_decl *d = old->decls[i];
        if (kind_of(d) && (!d->next || !same_intake(d, d->next)))
            ((struct osm_decl *)(uintptr_t)kind_of(d))->retaken = true;
    }
    e->intake_requires = false;
}

static bool same_names(const struct osm_engine *e, const struct bundle *old)
{
    osm_map_each (&old->names, entry)
        if (!osm_map_has(&e->names, entry->key))
            return false;
    return e->names.count == old->names.count;
}

static bool fits(const struct osm_engine *e, const struct bundle *old)
{
    size_t kinds = 0, known = 0;
    for (size_t i = 0; i < old->decls_len; i++)
        known += old->decls[i]->type == OSM_DECL_KIND && old->decls[i]->next &&
                 !strcmp(old->decls[i]->group, old->decls[i]->next->group);
    for (size_t i = 0; i < e->decls_len; i++)
        kinds += e->decls[i]->type == OSM_DECL_KIND;
    /* Who renames for a name in vain has read nothing that would tell him that there is one now. */
    return kinds == known && (!e->asked_unknown || same_names(e, old));
}

/* --- what is another --- */

static bool extends_form(const struct osm_join *j, unsigned form)
{
    return j->type == OSM_JOIN_EXTENDS && osm_emit_form(j->point->form) == form;
}

static bool same_join(const struct osm_join *a, const struct osm_join *b)
{
    return a->point == b->point && a->line == b->line &&
           !strcmp(a->module->name, b->module->name) &&
           osm_signature_equal(&a->signature, &b->signature);
}

/* The forms whose extensions differ, as bits. */
static unsigned other_forms(const struct osm_engine *e, const struct bundle *old)
{
    unsigned forms = 0;
    for (const struct osm_point *p = osm_points; p->name; p++) {
        unsigned form = osm_emit_form(p->form);
        size_t a = 0, b = 0;
        for (;; a++, b++) {
            while (a < old->joins_len && !extends_form(old->joins[a], form))
                a++;
            while (b < e->joins_len && !extends_form(e->joins[b], form))
                b++;
            if (a == old->joins_len || b == e->joins_len)
                break;
            if (!same_join(old->joins[a], e->joins[b]))
                forms |= form;
        }
        if (a < old->joins_len || b < e->joins_len)
            forms |= form;
    }
    return forms;
}

/* Whether a name is renames of another declaration than before. */
static bool other_name(const struct osm_engine *e, const char *name, const struct osm_decl *d)
{
    return !d->next || osm_map_get(&e->names, name) != d->next;
}

/* @p renames: there are other names. */
static bool other_answer(const struct osm_decl *d, unsigned forms, bool renames)
{
    const struct osm_decl *next = d->next;
    if (is_input(d) || !next)
        return !next;
    if (renames && d->module->looks) /* at one, without asking: nothing is read by that */
        return true;
    if (d->requires_late || !osm_signature_equal(&d->module->signature, &next->module->signature) ||
        d->line != next->line || strcmp(d->name, next->name) != 0) /* rejects name it */
        return true;
    if (is_made(d) && (forms & osm_emit_form("listener")))
        return true;
    return (d->original ? d->original->next : NULL) != next->original;
}

/* --- taking over --- */

static int take_over_input(struct osm_engine *e, struct osm_decl *d)
{
    struct osm_decl *next = d->next;
    if (kind_of(d) && kind_of(d)->retaken)
        return d->type == OSM_DECL_KIND ? osm_kinds_put_off(e, d) : 0;
    if (!next) /* there are no kinds and indexes left that nothing stands for */
        return 0;
    SWAP(next->objects, d->objects);
    SWAP(next->buckets, d->buckets);
    next->keys_len = d->keys_len;
    next->keys_sum = d->keys_sum;
    osm_map_each (&next->objects, entry)
        ((struct osm_thing *)entry->value)->kind = next;
    osm_map_each (&next->buckets, entry)
        ((struct osm_bucket *)entry->value)->index = next;
    return 0;
}

static void forget_keys(struct osm_engine *e, struct osm_decl *d)
{
    if (d->each_cell)
        osm_cells_release(e, d->each_cell);
    d->each_cell = NULL;
    d->each_seen = (struct osm_hash){0, 0};
}

static void take_over_emitter(struct osm_engine *e, struct osm_decl *d)
{
    struct osm_decl *next = d->next;
    if (!next || d->each->next != next->each || !next->each)
        forget_keys(e, d);
    if (next) {
        next->each_cell = d->each_cell;
        next->each_failed = d->each_failed;
        next->each_seen = d->each_seen;
        SWAP(next->each_error, d->each_error);
        SWAP(next->emit_cells, d->emit_cells);
        SWAP(next->emit_cells_len, d->emit_cells_len);
        return;
    }
    osm_emit_drop_cells(e, d);
}

static int take_over_decl(struct osm_engine *e, struct osm_decl *d)
{
    if (d->next) {
        d->next->id = d->id;
        d->next->cost = d->cost;
    }
    if (d->type == OSM_DECL_EMIT)
        take_over_emitter(e, d);
    return is_input(d) ? take_over_input(e, d) : 0;
}

static void doubt_readers(struct osm_engine *e, const struct osm_cell *c)
{
    for (size_t i = 0; i < c->readers_len; i++)
        osm_cells_doubt(e, c->readers[i].cell);
}

static void forget_value(struct osm_engine *e, struct osm_cell *c)
{
    unref(e, c->ref);
    c->ref = LUA_NOREF;
}

/* What is made of it, directly or not: an answer that holds an object is told from another by the
 * object as it was written, and would pass for the same. */
static void forget_answers(struct osm_engine *e, struct osm_cell *c)
{
    struct osm_cells left = {0};
    (void)osm_cells_push_to(e, &left, c);
    while (left.len && !e->abort) {
        const struct osm_cell *at = left.list[--left.len];
        for (size_t i = 0; i < at->readers_len && !e->abort; i++) {
            struct osm_cell *reader = at->readers[i].cell;
            if (!reader->known && reader->ref == LUA_NOREF)
                continue;
            forget_value(e, reader);
            osm_cells_doubt(e, reader);
            (void)osm_cells_push_to(e, &left, reader);
        }
    }
    osm_free(left.list);
}

static void forget_header(struct osm_engine *e, struct osm_cell *c)
{
    osm_bytes_unref(c->header);
    osm_free(c->header_error);
    c->header = NULL;
    c->header_error = NULL;
    osm_cells_note_telling(e, c);
}

/* @p renames: somebody else answers to some of mesh's names. */
static void take_over_cell(struct osm_engine *e, struct osm_cell *c, unsigned forms, bool renames)
{
    static const unsigned no_forms = 0;
    const struct osm_decl *d = c->decl;
    const unsigned *said = c->emission ? &c->emission->forms : &no_forms;
    /* Who is in a cycle, or at the end of a chain that is too deep, has not read those behind. */
    bool doubts = d->other || c->failed == OSM_CELL_CYCLE || c->failed == OSM_CELL_TOO_DEEP;
    if (c->header || c->header_error)
        forget_header(e, c);
    if (c->type == OSM_CELL_EMIT)
        doubts = doubts || (forms && c->failed) || (*said & forms) ||
                 (renames && (*said & osm_emit_form("listener"))); /* it names a rule */
    if (d->next)
        c->decl = d->next;
    if (doubts && d->next)
        osm_cells_doubt(e, c);
}

static int all_cells(const struct osm_engine *e, struct osm_cell ***out, size_t *n)
{
    *n = 0;
    *out = osm_alloc_array(e->cells.count, sizeof(struct osm_cell *));
    if (!*out)
        return OSM_ENOMEM;
    osm_map_each (&e->cells, entry)
        (*out)[(*n)++] = entry->value;
    return 0;
}

static void take_over_cells(struct osm_engine *e, struct osm_cell *const *cells, size_t n,
                            unsigned forms, bool renames)
{
    for (size_t i = 0; i < n; i++) {
        const struct osm_decl *d = cells[i]->decl, *kind = kind_of(d);
        bool retaken = kind && kind->retaken; /* the same object is another for rules, perhaps */
        if (retaken)
            forget_value(e, cells[i]);
        if (d->renamed || retaken)
            doubt_readers(e, cells[i]);
        if (kind && kind->reshaped)
            forget_answers(e, cells[i]);
    }
    for (size_t i = 0; i < n; i++)
        take_over_cell(e, cells[i], forms, renames);
    for (size_t i = 0; i < n && !e->abort; i++)
        if (cells[i]->decl->gone)
            osm_cells_expel(e, cells[i]);
}

static int take_over(struct osm_engine *e, const struct bundle *old, struct osm_err *err)
{
    struct osm_cell **cells;
    size_t n;
    unsigned forms = other_forms(e, old);
    bool renames = !same_names(e, old);
    int rc = 0;
    find_retaken(e, old);
    if (all_cells(e, &cells, &n))
        return osm_fail(err, OSM_ENOMEM, "out of memory");
    for (size_t i = 0; i < old->decls_len; i++) {
        struct osm_decl *d = old->decls[i];
        d->other = other_answer(d, forms, renames);
        d->gone = d->renamed = !d->next;
    }
    osm_map_each (&old->names, entry) {
        struct osm_decl *d = entry->value;
        d->renamed = d->renamed || other_name(e, entry->key, d);
        renames = renames || d->renamed;
    }
    if (e->host_cell)
        osm_cells_release(e, e->host_cell);
    osm_host_settings_clear(e);
    osm_compose_forget_headers(e->compose);
    e->handed_things = NULL;
    for (size_t i = 0; i < old->decls_len && !rc; i++)
        rc = take_over_decl(e, old->decls[i]);
    if (!rc)
        take_over_cells(e, cells, n, forms, renames);
    osm_free(cells);
    if (rc)
        e->abort = OSM_ABORT_NOMEM;
    return e->abort ? osm__engine_lost(e, err) : 0;
}

int osm_engine_rebind(struct osm_engine *e, struct osm_policy_files *files, bool proven, bool *done,
                      struct osm_err *err)
{
    struct bundle old = {0};
    *done = false;
    if (e->abort)
        return osm__engine_lost(e, err);
    e->deadline_ms = e->now_ms() + OSM_WALL_MAX_MS;
    int rc = osm_engine_check_pure(e, err);
    if (e->impure && !e->abort) { /* what its rules have said may depend on whom it was told */
        *err = (struct osm_err){0};
        return 0;
    }
    if (!rc && !e->signatures)
        rc = osm_signatures_take(e, err);
    if (rc)
        return rc;
    e->signatures = true;
    swap(e, &old);
    rc = load(e, files, err);
    if (!rc)
        rc = pair(e, &old, err);
    if (rc || !fits(e, &old)) {
        free_bundle(e);
        swap(e, &old);
        return rc;
    }
    rc = take_over(e, &old, err);
    swap(e, &old);
    free_bundle(e);
    swap(e, &old);
    if (rc)
        return rc;
    e->proven = proven;
    e->looked = false;
    e->reports_changed = true;
    osm_engine_begin_anew(e);
    *done = true;
    return 0;
}
