/* The memo: one cell per (declaration, key), with its value, the reads that led to it, and its
 * errors and rejects.
 *
 *   object, bucket, key list, fact   inputs: their hash is looked up in C, again when touched
 *   rule                             verifies its reads in the order they were made, runs at the
 *                                    first that has changed
 *   emit                             like a rule; its answer is items
 *
 *            .---------- all reads hold, or it has run ----------.
 *            v                                                   |
 *   NEW --> GOOD -- something that it reads changed or is stale --> STALE
 *            |                                                   |
 *            '----- no reader and no root left: LOST, dropped <--'
 *
 * A cell knows its readers. When an input's hash changes, all that reads it, directly or not, is
 * marked stale; nothing is evaluated. Stale emit cells are in a list, and a run brings those: only
 * what is reached from there is verified. So:
 *
 *   the readers of a stale cell are stale; the reads of a good one are good
 *   a good cell is right, without a look at its reads
 *   what still lives at the end of a run is good
 *
 * Reads form no circle (who would close one is a cycle, below), so a cell without readers and roots
 * can go, and its own reads are then looked at.
 *
 * A cell that is being verified or run is active; asking for it again is a cycle. All members of a
 * cycle become errors, with the union of their reads, whatever pcall does; so the outcome does not
 * depend on where the cycle was entered. A chain deeper than OSM_DEPTH_MAX is an error of the cells
 * above that depth, a property of the graph: `depth` is stored with the cell. */
#pragma once

#include "policy/engine_priv.h"

enum osm_cell_type {
    OSM_CELL_OBJECT,
    OSM_CELL_BUCKET,
    OSM_CELL_KEYS,
    OSM_CELL_FACT,
    OSM_CELL_RULE,
    OSM_CELL_EMIT
};

enum osm_cell_error {
    OSM_CELL_FINE,
    OSM_CELL_FAILED,
    OSM_CELL_PASSED_ON,
    OSM_CELL_CYCLE,
    OSM_CELL_TOO_DEEP
};

/* Who has recorded a read of the cell that holds this: read number `read` of `cell`. */
struct osm_reading {
    struct osm_cell *cell;
    size_t read;
};

struct osm_cell {
    struct osm_decl *decl;
    enum osm_cell_type type;
    enum osm_cell_error failed;
    bool known : 1;   /* has been evaluated */
    bool stale : 1;   /* something below it has changed: to be verified */
    bool active : 1;  /* on the stack of frames */
    bool cut : 1;     /* too deep, found by cutting the chain: its reads are those of the whole */
    bool touched : 1; /* in the engine's list of that name, as the next ones */
    bool due : 1;
    bool lost : 1;
    bool refill : 1;
    bool hashed : 1; /* made_hash has been filled in */
    uint32_t depth;
    uint32_t roots;  /* who holds it but readers: an emitter's keys, an emitter's each, headers */
    uint64_t ran;    /* run in which it was last evaluated */
    uint64_t mark;   /* of an emitter's keys */
    uint64_t handed; /* run in which the value was last given to Lua */
    uint64_t reader; /* serial of the frame that read it last: keeps repeated reads apart from new
                        ones */
    struct osm_hash hash;
    struct osm_hash ref_hash; /* input: what `ref` was made from */
    struct osm_hash
        made_hash; /* of the value as it was made, to see whether somebody wrote into it */
    int ref;       /* the value; LUA_NOREF not made yet */
    int error_line;
    json_t *json; /* fact: the value */
    char *error;
    char *error_module;       /* path, NULL unknown */
    char *header_error;       /* its answer is no listener's header */
    struct osm_bytes *header; /* the last answer that was one: served on while it fails */
    char *mutation;           /* this rule wrote into what it was given */
    struct osm_cell
        *ring; /* in a cycle: the next member; all of them live and go together, or one that
                  comes back would find the others in error and not know itself a member */
    struct osm_read *reads;
    size_t reads_len;
    struct osm_reading *readers; /* in no order */
    size_t readers_len, readers_cap;
    json_t *rejects;
    struct osm_emission *emission;
    size_t telling_at; /* 1 + place in engine->telling; 0: not in it */
    size_t key_len;
    unsigned char decl_id[sizeof(uint32_t)]; /* with the key right behind it, the map's key */
    unsigned char key[];                     /* canonical */
};

static inline bool osm_cell_is_input(const struct osm_cell *cell)
{
    return cell->type < OSM_CELL_RULE;
}

/** Finds or makes. NULL: no memory (engine->abort is set). */
struct osm_cell *osm_cells_get(struct osm_engine *e, struct osm_decl *decl,
                               const struct osm_key *key, const char **why);
/** The cell of a canonical key; NULL: nobody has asked. */
struct osm_cell *osm_cells_find(struct osm_engine *e, const struct osm_decl *decl,
                                const unsigned char *key, size_t len);
/** Brings the cell up to date. Never raises; a failure is the cell's error, or engine->abort. */
void osm_cells_bring(struct osm_engine *e, struct osm_cell *cell);
/** Notes that the evaluation under way reads @p cell, brings it up to date and completes the note.
 * False: engine->abort is set. */
bool osm_cells_read(struct osm_engine *e, struct osm_cell *cell);
/** Pushes the value of a cell that has been brought up to date and is not in error. [-0, +1, m] */
void osm_cells_push(lua_State *L, struct osm_cell *cell);
void osm_cells_clear(struct osm_engine *e);
/** "backends(shop, cart)" with @p what before it: "rule ". */
void osm_cell_name(const struct osm_cell *cell, struct osm_buf *out);
/** Looks an input up. */
void osm__cells_look_up(struct osm_engine *e, struct osm_cell *cell);
/** Takes the cell out of the memo, with its reads. Nobody reads it, and it is in no list. */
void osm__cells_drop(struct osm_engine *e, struct osm_cell *cell);

/* --- cells_links.c; where there is no memory, engine->abort is set --- */
/** False: no memory. */
bool osm_cells_push_to(struct osm_engine *e, struct osm_cells *cells, struct osm_cell *cell);
void osm_cells_remove_from(struct osm_cells *cells, const struct osm_cell *cell);
/** Replaces the reads of a cell, and enters it with those that it reads. Copies @p reads. */
void osm_cells_set_reads(struct osm_engine *e, struct osm_cell *cell, const struct osm_read *reads,
                         size_t n);
/** What reads the cell becomes stale, and what reads that; emit cells are due. */
void osm_cells_spoil(struct osm_engine *e, struct osm_cell *cell);
/** The cell's own value cannot be trusted: it is evaluated when it is next asked for. */
void osm_cells_doubt(struct osm_engine *e, struct osm_cell *cell);
/** The input of this key, if anybody has asked for it, is looked up by the run. */
void osm_cells_touch(struct osm_engine *e, const struct osm_decl *decl, const unsigned char *key,
                     size_t len);
/** The facts about this, and what is filled in from it. For osm_world_settle; ud: the engine. */
void osm_cells_touch_topic(void *ud, enum osm_world_topic topic, const char *ns, const char *name);
/** Looks up what was touched, and spoils the readers of what has changed. */
void osm_cells_look_up_touched(struct osm_engine *e);
/** A root is somebody who holds the cell and is no cell. */
void osm_cells_hold(struct osm_cell *cell);
void osm_cells_release(struct osm_engine *e, struct osm_cell *cell);
/** Whoever holds nobody goes when the run ends. */
void osm_cells_may_be_lost(struct osm_engine *e, struct osm_cell *cell);
/** Its members stand alone again. */
void osm_cells_break_ring(struct osm_engine *e, struct osm_cell *cell);

/* Who asks the world about one Service or account. */
struct osm_topic {
    struct osm_cells facts;
    struct osm_cells
        fills; /* emit cells whose items C fills in, as often as there are such items */
};
void osm_topic_add(struct osm_engine *e, const char *ns, const char *name, struct osm_cell *cell);
void osm_topic_remove(struct osm_engine *e, const char *ns, const char *name,
                      struct osm_cell *cell);
void osm_topics_clear(struct osm_engine *e);

/* --- cells_live.c --- */
/** Drops what nobody holds any more. */
void osm_cells_collect(struct osm_engine *e);
/** Enters the cell among those that tell something, or takes it out, as it now stands. */
void osm_cells_note_telling(struct osm_engine *e, struct osm_cell *cell);
/** Drops a cell that no root holds, now. What reads it has lost its reads, and must be evaluated
 * anew. */
void osm_cells_expel(struct osm_engine *e, struct osm_cell *cell);
/** Not of an engine whose rules are proven. Compares what was handed out in this run with its hash;
 * a difference becomes `mutation` of the rules that ran. */
void osm_cells_check_mutations(struct osm_engine *e);
