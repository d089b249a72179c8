/* What the rooms of the policy engine share: declarations, keys, frames, the engine itself.
 *
 *   engine.c    a run, from changes to a snapshot; host.c gives it a thread
 *   bundle/     files, modules, what they declare and extend; what is said of them to authors
 *   kinds/      schemas, objects, buckets, key lists; what C derives from the world (facts)
 *   memo/       cells, reads, verification, cycles, depth; keys and values
 *   sandbox/    the Lua state, its limits, its library
 *   emit/       the `out` table, and what C fills in
 *   encode/     Lua tables to Envoy's messages and back
 *   console/    lines of Lua on an engine that nobody is served from
 *   mesh_api.c  the `mesh` table
 *   report.c    rejects, errors, the snapshot
 *   rebind.c    another bundle for an engine that has run
 *
 * Lua is entered in one place, osm_lua_call, and each evaluation runs on a coroutine of its own.
 * That gives each its own stack limit, instruction count and depth of C calls, so that what a rule
 * may do does not depend on who asked for it first; nested pcalls on one stack would end at 197 and
 * make the answer a function of the path. */
#pragma once

#include "base/buf.h"
#include "base/map.h"
#include "model/world.h"
#include "policy/engine.h"
#include "policy/sandbox/sandbox_pool.h"
#include "xds/compose.h"

#include <lauxlib.h>
#include <lua.h>

#ifdef __clang_analyzer__ /* it raises: without this the analyser sees paths behind it */
#define luaL_error(...) (luaL_error(__VA_ARGS__), __builtin_unreachable(), 0)
#endif

enum {
    OSM_KEYS_MAX = 3,
    OSM_KEY_BYTES = 1024, /* canonical form of a key */
    OSM_DEPTH_MAX = 150,  /* rules in a chain */
    OSM_NEST_MAX = 300, /* frames: twice the depth, so that a cut chain is known to be too deep from
                           its first half on */
    OSM_VALUE_DEPTH = 32,
    /* Between two looks at the clock: one instruction can take 20 ms (a < b on long texts with zero
     * bytes), so few of them. Lua 5.4 looks at each instruction either way. */
    OSM_HOOK_COUNT = 100,
    OSM_BUDGET = 5000000,
    OSM_TEXT_MAX = 4 << 20,      /* bytes of one text in Lua: what a single instruction may cost */
    OSM_EVALUATION_MS = 5000,    /* of one evaluation, callees excluded */
    OSM_WALL_SOFT_MS = 2000,     /* of a run: a line in the log */
    OSM_WALL_MAX_MS = 10000,     /* of a run: the state is lost */
    OSM_WALL_FIRST_MS = 60000,   /* of the first, which makes everything; nothing waits for it */
    OSM_ERROR_TEXT_MAX = 4096,   /* bytes of an error's message that are kept */
    OSM_READS_MAX = 1000000,     /* of one evaluation */
    OSM_EMISSION_MAX = 64 << 20, /* bytes of all messages of one emit cell */
    OSM_ITEMS_MAX = 10000,       /* per emit cell */
    OSM_REJECTS_MAX = 10000,     /* per cell, and per object in accept */
    OSM_MESSAGE_MAX = 4 << 20,   /* bytes of one encoded message */
};

struct osm_cell;
struct osm_line;
struct osm_profile;
struct osm_thing;
struct osm_engine;
struct osm_schema;
struct osm_steps;

struct osm_scalar {
    enum osm_scalar_type { OSM_SCALAR_BOOL, OSM_SCALAR_INT, OSM_SCALAR_STR } type;
    int64_t i;       /* integer, boolean */
    const char *str; /* NUL-terminated, without NUL inside; borrowed */
};

struct osm_key {
    size_t n;
    struct osm_scalar at[OSM_KEYS_MAX];
};

/* bundle/signature.h; not known: the same as nothing. */
struct osm_signature {
    bool known;
    struct osm_hash hash;
};

/* A module file. */
struct osm_module {
    char *name; /* "smi/split" */
    char *path; /* "smi/split.lua", below the bundle's folder */
    char *text;
    size_t text_len;
    bool added; /* by a directory that lies over the first: its names hold a dot */
    enum { OSM_MODULE_NEW, OSM_MODULE_LOADING, OSM_MODULE_LOADED } state;
    uint64_t loading; /* serial of the beginning of its load: the later, the further in */
    int ref;          /* what it returned */
    bool looks;       /* it does more with `mesh` than to ask for names that stand in its text */
    struct osm_signature signature;
};

/* Of all evaluations of a rule or an emitter since the engine began; profile.c. */
struct osm_cost {
    uint64_t runs, hits; /* hits: asked for (an emitter: looked at) and answered without a run */
    uint64_t instructions, ns; /* without those of whom it asked */
};

enum osm_decl_type { OSM_DECL_KIND, OSM_DECL_INDEX, OSM_DECL_FACT, OSM_DECL_RULE, OSM_DECL_EMIT };

typedef json_t *osm_fact_fn(struct osm_engine *engine, const struct osm_key *key);

/* One name that can be asked for, or an emitter. */
struct osm_decl {
    enum osm_decl_type type;
    uint32_t id; /* position in engine->decls; in an engine that has been given another bundle
                    (rebind.c) that of the first declaration that it stands for */
    char *name;
    const struct osm_module *module; /* NULL: a fact of the host */
    int line;                        /* of the function, 0 unknown */
    int fn;                          /* reference: rule, keys of an index, run of an emitter */
    struct osm_cost cost;
    const char *params; /* fact: "ssi": string, string, integer */
    osm_fact_fn *fact;
    struct osm_signature signature; /* kind, index: of its functions */
    /* rebind.c, while the bundle is replaced */
    struct osm_decl *next; /* what stands for it in the next one; NULL: */
    bool gone;             /* nothing does */
    bool other;            /* what does may answer otherwise */
    bool renamed;          /* who asks for its name asks somebody else */
    bool retaken;          /* kind: its objects are taken in again */
    bool reshaped;         /* ... and may be others for rules then */
    bool requires_late;    /* rule, emitter: it has called `require` while it ran */

    /* kind */
    char *group;
    char **versions;             /* NULL-terminated, preferred first */
    struct osm_schema **schemas; /* by version, entries may be NULL */
    struct osm_hash schema_hash; /* of their source */
    int *from;                   /* references by version, LUA_NOREF none */
    int accept;                  /* reference or LUA_NOREF */
    bool status;                 /* rules see the status, and it counts as content */
    bool hides_labels;           /* its objects come without labels and annotations */
    bool tolerant;               /* what is good of an object counts: `refused` says what is not */
    struct osm_decl **indexes;   /* of this kind */
    size_t indexes_len;
    struct osm_map objects; /* canonical key -> struct osm_thing */

    /* rule */
    struct osm_decl *original; /* what it wraps */
    struct osm_decl *extended; /* a header rule, with the extensions of its listener; made when
                                  asked for */

    /* index */
    struct osm_decl *of;
    struct osm_map buckets; /* canonical key -> struct osm_bucket */

    /* key list of a kind or index: number and sum of the hashes of its keys, in any order */
    uint64_t keys_len;
    struct osm_hash keys_sum;

    /* emit */
    char *each_name;
    struct osm_decl *each;
    struct osm_cell *each_cell;
    bool each_failed;
    char *each_error;             /* its answer is no list of keys */
    struct osm_hash each_seen;    /* of the answer that emit_cells are made from */
    struct osm_cell **emit_cells; /* in the order of the keys */
    size_t emit_cells_len;
};

/* What a module adds to the work of others (declare_join.c, extend.c). */
struct osm_join {
    enum osm_join_type { OSM_JOIN_EXTENDS, OSM_JOIN_WRAPS } type;
    char *target; /* the extension point or the rule */
    const struct osm_point *point;
    const struct osm_module *module;
    int line;
    int run, vary;                      /* references */
    struct osm_signature signature;     /* of these */
    char **after, **before, **requires; /* names of modules, NULL-terminated or NULL */
    unsigned waits;                     /* while they are sorted: joins that go before */
};

struct osm_read {
    struct osm_cell *cell;
    struct osm_hash seen;
    size_t at; /* once it is a cell's own: its place in cell->readers */
};

struct osm_reads {
    struct osm_read *list;
    size_t len, cap;
};

/* Why one evaluation ends, whatever its author catches. It is an error of that rule alone. */
enum osm_ended {
    OSM_ENDED_NOT,
    OSM_ENDED_BUDGET, /* instructions */
    OSM_ENDED_MEMORY, /* it allocates without end */
    OSM_ENDED_FULL,   /* the whole state is at its cap */
    OSM_ENDED_TEXT,   /* one text is too long */
    OSM_ENDED_TIME,
};

struct osm_cells {
    struct osm_cell **list;
    size_t len, cap;
};

struct osm_things {
    struct osm_thing **list;
    size_t len, cap;
};

struct osm_objects {
    struct osm_object **list;
    size_t len, cap;
};

/* One evaluation under way, or a cell whose reads are being verified. */
struct osm_frame {
    struct osm_cell *cell;  /* NULL: loading, accept, from, keys */
    bool running;           /* false: verifying */
    size_t at;              /* verifying: the read being looked at */
    struct osm_reads reads; /* running; the array is kept for the next user of this level */
    uint32_t depth;
    uint64_t serial;
    json_t *rejects;
    lua_State *co;
    int64_t budget;
    int until_look; /* instructions from one look to the next */
    bool followed;  /* profile.c: line by line, for `weight` evaluations: */
    uint64_t weight;
    struct osm_line *line;  /* where it is; NULL: nowhere yet */
    uint64_t line_since_ns; /* up to here it has paid */
    size_t memory;          /* bytes allocated since it began, freed ones too */
    uint64_t since_ms; /* when it was first seen running since it began or a callee returned; 0: not
                          yet */
    bool full;         /* it was refused memory because the state is at its cap */
    enum osm_ended ended;
    struct osm_cell *raised; /* the cell whose error was raised here last */
    struct osm_emission *emission;
    int new_ref;
    struct osm_hash new_hash;
};

/* Why everything down to `level` unwinds; no pcall of an author stops it. */
enum osm_abort {
    OSM_ABORT_NONE,
    OSM_ABORT_CYCLE,
    OSM_ABORT_DEPTH,
    OSM_ABORT_NOMEM, /* the rest: the state is lost */
    OSM_ABORT_LUA_MEMORY,
    OSM_ABORT_STUCK,
};

struct osm_engine {
    struct osm_policy_files *files;
    char *mesh_name, *osm_namespace, *trust_domain, *roots_pem;
    json_t *settings;
    uint64_t roots_version; /* grows with osm_engine_set_roots */

    /* sandbox */
    lua_State *L;
    size_t memory, memory_max;
    size_t collected; /* memory after the last whole collection of garbage */
    bool collecting;  /* one is under way */
    struct osm_pool pool;
    struct osm_frame frames[OSM_NEST_MAX];
    size_t nest; /* frames in use */
    enum osm_abort abort;
    size_t abort_level;
    uint64_t (*now_ms)(void);
    uint64_t deadline_ms;
    const atomic_bool *canceled, *stopping; /* NULL: never */
    bool notes_steps;                       /* what extensions do can be noted */
    bool proven;                            /* nobody looks for writes into answers */
    bool anew;                   /* what fails in this run keeps nothing of what it said before */
    bool asked_unknown;          /* a rule has asked mesh for a name that nobody declares */
    bool intake_requires;        /* a kind or an index has called `require` for an object */
    struct osm_steps *steps;     /* where, emit/steps.c; NULL: nobody looks */
    struct osm_cells unfinished; /* their evaluation ended for a reason that does not follow from
                                    what they read (time, a full state): they are tried again */
    uint64_t serial;
    unsigned prints;                  /* in this run */
    struct osm_frame *paying;         /* the innermost evaluation; NULL: none */
    uint64_t paid_ns;                 /* up to here it has paid */
    const struct osm_cell *evaluated; /* the last */
    uint64_t began_ns;
    struct osm_profile *profile; /* NULL: nobody wants to know */
    int mesh_ref, out_ref, base_ref;
    struct osm_buf encoded; /* scratch of the messages that emitters say */

    /* bundle */
    struct osm_module *modules;
    size_t modules_len;
    struct osm_map modules_by_name;
    json_t *warnings; /* of the load; entries as those of a snapshot's errors */
    struct osm_decl **decls;
    size_t decls_len, decls_cap;
    uint32_t next_decl_id;
    bool signatures;              /* have been taken */
    struct osm_purity *pure;      /* what its functions reached after the load */
    json_t *impure;               /* what has changed since; NULL: nothing that was seen */
    bool looked;                  /* for changes, after rules have run */
    bool stained;                 /* a rule has written into an answer, or lacked memory */
    struct osm_map names;         /* name -> decl, all but emitters */
    struct osm_map kinds_by_type; /* "group/Kind" -> decl */
    struct osm_join **joins;      /* by type, target, order of their runs once linked */
    size_t joins_len;
    int extend_ref; /* the runtime's part of extensions, LUA_NOREF where nothing extends */

    /* what the policies ask of the host */
    struct osm_cell *host_cell; /* held from the first run on; NULL: no such rule */
    struct osm_hash host_seen;
    json_t *host_settings; /* NULL: no answer yet */

    /* memo */
    struct osm_map cells;
    uint64_t run;                               /* from 1 */
    uint64_t rules_run, cells_verified, run_us; /* of this run */
    struct osm_cells touched;                   /* inputs to look up again, of this batch */
    struct osm_cells due;                       /* stale emit cells */
    struct osm_cells spreading;                 /* scratch of osm_cells_spoil */
    struct osm_cells lost;    /* nobody may hold them any more: looked at when the run ends */
    struct osm_cells handed;  /* whose value was given to Lua in this run */
    struct osm_cells refill;  /* emit cells with endpoints to fill in again */
    struct osm_cells headers; /* rule cells that composition has asked for */
    struct osm_cells telling; /* with rejects, an error, or the like */
    struct osm_thing *handed_things;  /* as handed, for objects */
    struct osm_things telling_things; /* as telling */
    struct osm_objects again;         /* to be taken in by the next run; a reference each */
    struct osm_map topics;            /* a Service or account -> struct osm_topic */
    size_t too_deep;                  /* cells that are OSM_CELL_TOO_DEEP */
    bool reports_changed; /* what cells and objects report may differ from the last time */
    json_t *cell_rejects, *cell_errors; /* what they reported then */
    struct osm_buf keys_scratch;

    struct osm_console *console; /* NULL: it is none */
    struct osm_trace *trace;     /* who is told what cells do; NULL: nobody */

    struct osm_world *world;
    struct osm_compose *compose;
    uint64_t filled_roots;
    struct osm_snapshot *last;
    uint64_t snapshots; /* so many were made */
    bool thorough;
};

/* engine.c, for other questions than a run. */
/** Loads engine->files into the state, up to where a run can begin. Errors: as osm_engine_new. */
OSM_MUST_USE int osm__engine_load(struct osm_engine *e, struct osm_err *err);
/** Why the state is lost, as an error. */
int osm__engine_lost(struct osm_engine *e, struct osm_err *err);

static inline struct osm_engine *osm_engine_of(lua_State *L)
{
    return *(struct osm_engine **)lua_getextraspace(L);
}

static inline struct osm_frame *osm_top(struct osm_engine *e)
{
    return e->nest ? &e->frames[e->nest - 1] : NULL;
}

/* --- engine.c --- */
/** Takes a batch of object changes in, up to where evaluating begins. Errors: as osm_engine_run. */
OSM_MUST_USE int osm_engine_take_in(struct osm_engine *e, const struct osm_changes *changes,
                                    struct osm_err *err);
/** The declaration of `mesh.name`. NULL: OSM_ENOENT in @p err, with the nearest. */
struct osm_decl *osm_engine_find_name(const struct osm_engine *e, const char *name,
                                      struct osm_err *err);
/** A list of up to three scalars as a key, which borrows from it; NULL or what is wrong. */
const char *osm_engine_key(const json_t *keys, struct osm_key *out);

/* --- console/console.c --- */
/** NULL is accepted. */
void osm_console_free(struct osm_console *console);
