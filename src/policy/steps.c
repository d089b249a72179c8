/* One emitter for one key, looked at step by step. */
#include "policy/emit/steps.h"
#include "policy/bundle/extend.h"
#include "policy/emit/emit.h"
#include "policy/memo/cells.h"
#include "policy/memo/key.h"
#include "policy/sandbox/sandbox.h"

#include <string.h>

static struct osm_decl *emitter_of(const struct osm_engine *e, const char *name)
{
    for (size_t i = 0; i < e->decls_len; i++)
        if (e->decls[i]->type == OSM_DECL_EMIT && !strcmp(e->decls[i]->name, name))
            return e->decls[i];
    return NULL;
}

/* The cell, evaluated. NULL: err says why. */
static struct osm_cell *evaluated(struct osm_engine *e, struct osm_decl *decl,
                                  const struct osm_key *key, struct osm_err *err)
{
    const char *why = NULL;
    struct osm_cell *cell = osm_cells_get(e, decl, key, &why);
    if (!cell) {
        (void)osm_fail(err, OSM_EINVAL, "%s: %s", decl->name, why);
        return NULL;
    }
    osm_cells_hold(cell);
    osm_cells_bring(e, cell);
    if (e->abort) {
        (void)osm__engine_lost(e, err);
        return NULL;
    }
    if (!cell->failed)
        return cell;
    (void)osm_fail(err, OSM_ELUA, "%s", cell->error);
    return NULL;
}

static const struct osm_emitted *said_as(const struct osm_cell *cell, const char *item)
{
    const struct osm_emission *emission = cell->emission;
    for (size_t i = 0; emission && i < emission->len; i++)
        if (!strcmp(emission->list[i].key, item))
            return &emission->list[i];
    return NULL;
}

/* --- headers that a rule makes --- */

struct header {
    struct osm_decl *rule, *extended;
    struct osm_cell *cell;
};

/* The rule that joins extensions to another is declared when an emitter first names it. */
static int l_declare(lua_State *L)
{
    struct header *h = lua_touserdata(L, 1);
    h->extended = osm_extend_header_rule(L, h->rule);
    return 0;
}

static int l_note_answer(lua_State *L)
{
    const struct header *h = lua_touserdata(L, 1);
    osm_cells_push(L, h->cell);
    if (lua_istable(L, -1))
        osm_steps_add(L, lua_gettop(L), NULL, NULL);
    return 0;
}

static int trace_header(struct osm_engine *e, const struct osm_steps_question *q,
                        const struct osm_key *key, json_t **out, struct osm_err *err)
{
    struct header h = {0};
    size_t len = strcspn(q->rule, ","); /* "name, extended" is the host's own */
    h.rule = osm_map_getn(&e->names, q->rule, len);
    if (!h.rule || h.rule->type != OSM_DECL_RULE)
        return osm_fail(err, OSM_ENOENT, "there is no rule \"%.*s\"", (int)len, q->rule);
    int rc = osm_lua_run(e, l_declare, &h, err);
    e->steps->message = "envoy.config.listener.v3.Listener";
    h.cell = rc || !h.extended ? NULL : evaluated(e, h.extended, key, err);
    if (!h.cell)
        return rc ? rc : err->code ? err->code : osm_fail(err, OSM_ENOMEM, "out of memory");
    if (!json_array_size(e->steps->steps)) /* nothing extends it */
        rc = osm_lua_run(e, l_note_answer, &h, err);
    json_t *steps = json_array_get(e->steps->steps, 0);
    char *place = osm_strf("%s:%d", h.rule->module->path, h.rule->line);
    if (!rc && (!place || !steps ||
                json_object_set_new(json_array_get(steps, 0), "place", json_string(place))))
        rc = osm_fail(err, OSM_ENOMEM, "out of memory");
    osm_free(place);
    if (!rc)
        *out = json_incref(steps);
    return rc;
}

/* --- items that an emitter says --- */

static int trace_item(struct osm_engine *e, const struct osm_steps_question *q,
                      const struct osm_key *key, json_t **out, struct osm_err *err)
{
    struct osm_decl *emitter = emitter_of(e, q->emitter);
    if (!emitter)
        return osm_fail(err, OSM_ENOENT, "there is no emitter \"%s\"", q->emitter);
    const struct osm_cell *cell = evaluated(e, emitter, key, err);
    if (!cell)
        return err->code;
    const struct osm_emitted *m = said_as(cell, q->item);
    if (!m)
        return osm_fail(err, OSM_ENOENT, "%s: is not said any more: the objects have changed",
                        q->item);
    *out = json_incref(json_array_get(e->steps->said, m->order));
    return *out ? 0 : osm_fail(err, OSM_ENOMEM, "out of memory");
}

static int trace(struct osm_engine *e, const struct osm_steps_question *q, json_t **out,
                 struct osm_err *err)
{
    struct osm_key key;
    const char *why = osm_engine_key(q->keys, &key);
    if (why)
        return osm_fail(err, OSM_EINVAL, "%s", why);
    return q->emitter ? trace_item(e, q, &key, out, err) : trace_header(e, q, &key, out, err);
}

int osm_engine_steps(struct osm_engine *e, const struct osm_changes *objects,
                     const struct osm_steps_question *question, json_t **out, struct osm_err *err)
{
    struct osm_steps t = {.steps = json_array(), .said = json_array()};
    struct osm_err own = {0};
    int rc = t.steps && t.said ? 0 : osm_fail(&own, OSM_ENOMEM, "out of memory");
    if (!rc)
        rc = osm_engine_take(e, objects, &own);
    e->steps = &t;
    if (!rc)
        rc = trace(e, question, out, &own);
    e->steps = NULL;
    if (!rc && t.failed) {
        json_decref(*out);
        rc = osm_fail(&own, OSM_ENOMEM, "out of memory");
    }
    json_decref(t.steps);
    json_decref(t.said);
    return rc ? osm_fail(err, rc, "%s", own.msg) : 0;
}
