/* What an emitter says: the `out` table, the items that come of it, and their way into the
 * composition.
 *
 * An emit cell holds its last emission. A run that succeeds replaces it, item by item, only where
 * something differs. A run that fails leaves it, without what authorises: to go on granting on
 * stale grounds would be worse than to deny. */
#pragma once

#include "policy/engine_priv.h"

/* One item as the emitter said it. */
struct osm_emitted {
    struct osm_item
        *item; /* what C fills in: the template, kept; else NULL once the composition has it */
    char *key;
    size_t order;         /* of the calls in this evaluation */
    struct osm_hash hash; /* of all that was said */
    struct osm_hash body; /* filled: of what the composition has */
    bool put;             /* the composition has it */
    bool authorises;
    enum osm_fill { OSM_FILL_NONE, OSM_FILL_ENDPOINTS, OSM_FILL_ROOTS } fill;
    char *ns, *service; /* endpoints */
    int port;
    bool any_account;
    char **names; /* endpoints: accounts, sorted; roots: sans. NULL-terminated */
    size_t names_len;
    uint16_t *ports; /* endpoints: of the pods, ascending; NULL: any */
    size_t ports_len;
};

struct osm_emission {
    struct osm_emitted *list; /* sorted by key once committed */
    size_t len, cap;
    size_t bytes;                /* of all messages so far */
    unsigned forms;              /* bits of osm_emit_form: of those that were said */
    struct osm_emitted building; /* leftovers of a call that raised */
};

/** Makes the table; engine->out_ref. [-0, +0, m] */
void osm_emit_make_out(lua_State *L);
/** Runs the emitter of the emit cell in light userdata 1. For osm_lua_call. */
int osm_emit_body(lua_State *L);
/** The evaluation in @p f has ended and is in the cell. */
void osm_emit_commit(struct osm_engine *e, struct osm_cell *cell, struct osm_frame *f);
/** Frees what an evaluation has left in its frame. */
void osm_emit_discard(struct osm_frame *f);
/** Takes all items of the cell out of the composition. */
void osm_emit_withdraw(struct osm_engine *e, struct osm_cell *cell);
/** Only what authorises. */
void osm_emit_withdraw_grants(struct osm_engine *e, struct osm_cell *cell);
/** Brings the keys of all emitters and their cells up to date. Errors: OSM_ENOMEM; engine->abort.
 */
OSM_MUST_USE int osm_emit_run_all(struct osm_engine *e);

/** Takes all cells of an emitter away, with their items. */
void osm_emit_drop_cells(struct osm_engine *e, struct osm_decl *emitter);
/** Takes out of the composition what emitters that fail have kept. */
void osm_emit_forget_kept(struct osm_engine *e);

/* emit_out.c */
/** The bit of out.<name>; 0: there is none. */
unsigned osm_emit_form(const char *name);
void osm_emitted_clear(struct osm_emitted *emitted);
/** What `out` offers: [{"name", "text", "message": full name or null, "fields": [names]}]. Caller:
 * json_decref; NULL: no memory. */
json_t *osm_emit_describe(void);
/** A listener's header from the table at @p index, which a header rule has answered. NULL: err says
 * why. [-0, +2, e] */
struct osm_bytes *osm_emit_encode_header(lua_State *L, int index, const char *name,
                                         struct osm_err *err);

/* fill.c */
/** Fills in again where endpoints or roots may have changed. Errors: OSM_ENOMEM. */
OSM_MUST_USE int osm_fill_all(struct osm_engine *e);
/** Fills one item and hands it to the composition. */
OSM_MUST_USE int osm_fill_put(struct osm_engine *e, struct osm_emitted *emitted);
