/* The memo: one cell per (declaration, key), with its value, the reads that led to it, and its
 * errors and rejects.
 *
 *   object, bucket, key list, fact      inputs: their hash is looked up in C
 *   rule                                verifies its reads in the order they were made, runs at the
 * first that has changed emit                                like a rule, its answer is items
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

struct osm_cell {
    struct osm_decl *decl;
    enum osm_cell_type type;
    bool known;  /* has been evaluated */
    bool active; /* on the stack of frames */
    bool cut;    /* too deep, found by cutting the chain: its reads are those of the whole chain */
    enum osm_cell_error failed;
    uint32_t depth;
    uint64_t verified; /* run in which the hash was last known to be right */
    uint64_t ran;      /* run in which it was last evaluated */
    uint64_t live;     /* mark of the collection, and of an emitter's keys */
    uint64_t handed;   /* run in which the value was last given to Lua */
    uint64_t told;     /* mark of the collection: reported */
    struct osm_hash
        made_hash;   /* of the value as it was made, to see whether somebody wrote into it */
    uint64_t reader; /* serial of the frame that read it last: keeps repeated reads apart from new
                        ones */
    struct osm_hash hash;
    struct osm_hash ref_hash;   /* input: what `ref` was made from */
    int ref;                    /* the value; LUA_NOREF not made yet */
    json_t *json;               /* fact: the value */
    uint64_t verified_revision; /* fact: of the world */
    char *error;
    char *error_module; /* path, NULL unknown */
    int error_line;
    char *header_error; /* its answer is no listener's header */
    char *mutation;     /* this rule wrote into what it was given */
    struct osm_cell
        *ring; /* in a cycle: the next member; all of them live and go together, or one that
                  comes back would find the others in error and not know itself a member */
    struct osm_read *reads;
    size_t reads_len;
    json_t *rejects;
    struct osm_emission *emission;
    size_t key_len;
    unsigned char key[]; /* canonical; map key = id of the declaration and this */
};

static inline bool osm_cell_is_input(const struct osm_cell *cell)
{
    return cell->type < OSM_CELL_RULE;
}

/** Finds or makes. NULL: no memory (engine->abort is set). */
struct osm_cell *osm_cells_get(struct osm_engine *e, struct osm_decl *decl,
                               const struct osm_key *key, const char **why);
/** Brings the cell up to date. Never raises; a failure is the cell's error, or engine->abort. */
void osm_cells_bring(struct osm_engine *e, struct osm_cell *cell);
/** Notes that the evaluation under way reads @p cell, brings it up to date and completes the note.
 * False: engine->abort is set. */
bool osm_cells_read(struct osm_engine *e, struct osm_cell *cell);
/** Looks all inputs up again. True: one has changed, so rules have to be verified. */
bool osm_cells_refresh_inputs(struct osm_engine *e);
/** Pushes the value of a cell that has been brought up to date and is not in error. [-0, +1, m] */
void osm_cells_push(lua_State *L, struct osm_cell *cell);
/** Drops a cell from the memo. */
void osm_cells_drop(struct osm_engine *e, struct osm_cell *cell);
void osm_cells_clear(struct osm_engine *e);
/** "backends(shop, cart)" with @p what before it: "rule ". */
void osm_cell_name(const struct osm_cell *cell, struct osm_buf *out);
/* --- cells_live.c --- */
/** Drops what no emitter's items reach; calls report for each live cell in error or with rejects.
 */
void osm_cells_collect(struct osm_engine *e, void (*report)(void *ud, struct osm_cell *cell),
                       void *ud);
/** Compares what was handed out in this run with its hash; a difference becomes `mutation` of the
 * rules that ran. */
void osm_cells_check_mutations(struct osm_engine *e);
