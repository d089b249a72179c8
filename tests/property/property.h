/* Property tests of the policy engine: random histories, held to what must always be true.
 *
 *   random.c   a seed's numbers          objects.c  one random manifest
 *   ops.c      a history as a list       history.c  a random history
 *   replay.c   an engine that lives through it, and a fresh one that sees only the outcome
 *   compare.c  what two snapshots say, to the byte       allowed.c  who may what, from served bytes
 *   mutate.c   one part of an object removed or broken   shrink.c   the least history that fails
 *   rules.c    random changes of the rules, and an engine that is given each of them
 *   walks.c, order.c, closed.c, processes.c, self.c      the other properties; main.c runs them
 *
 * A history is a list of operations that do not depend on each other, so that any part of it is a
 * history too: that is what lets it be shrunk. Where memory is out, tests end (OSM_REQUIRE). */
#pragma once

#include "base/buf.h"
#include "base/check.h"
#include "base/map.h"
#include "model/store.h"
#include "policy/engine.h"

enum { TEXT_MAX = 16 << 20 }; /* bytes of a report */

/* --- random.c --- */
struct random {
    uint64_t state;
};
struct random random_of(uint64_t seed);
/** 0 to n - 1. */
unsigned pick(struct random *r, unsigned n);
#define PICK(r, list) ((list)[pick((r), (unsigned)(sizeof(list) / sizeof *(list)))])

/* --- ops.c --- */
struct op {
    enum op_type {
        OP_PUT,    /* body */
        OP_DELETE, /* key */
        OP_SWAP,   /* to the other bundle */
        OP_RUN     /* what came since the last run is one batch */
    } type;
    json_t *body; /* frozen */
    char *key;
    bool pinned; /* shrinking leaves it alone */
};
struct ops {
    struct op *list;
    size_t len, cap;
};
/** Appends; takes the reference to @p body. */
void ops_put(struct ops *ops, json_t *body);
void ops_delete(struct ops *ops, const char *key);
void ops_add(struct ops *ops, enum op_type type);
/** Appends copies of elements [from, to) of @p all. */
void ops_copy(struct ops *ops, const struct ops *all, size_t from, size_t to);
void ops_clear(struct ops *ops);
/** As a spec writes them: mesh:apply [[ YAML ]], mesh:delete(...), mesh:number() where a batch
 * ends. */
void ops_print(const struct ops *ops, struct osm_buf *out);
/** Without its place; NULL: no object. */
struct osm_object *object_of(const json_t *body);

/* --- objects.c --- */
enum kind {
    KIND_NAMESPACE,
    KIND_SERVICE,
    KIND_POD,
    KIND_SLICE,
    KIND_ENDPOINTS,
    KIND_TARGET,
    KIND_GROUP,
    KIND_TCPROUTE,
    KIND_SPLIT,
    KIND_CONFIG,
    KIND_LINK,
    KIND_COUNT
};
/** A new manifest. @p sane: nothing in it is refused, and the mesh is closed. Owns: caller. */
json_t *object_random(struct random *r, enum kind kind, bool sane);
json_t *object_parse(const char *yaml);
/** How a history begins: a namespace and a pod that shrinking leaves alone, so that someone is
 * served in each; and the other two namespaces. */
void objects_anchor(struct ops *ops);

/* --- history.c --- */
struct history {
    struct random random;
    struct osm_map present, gone; /* key -> json_t, owned */
};
struct history history_new(uint64_t seed);
/** Appends one step: a batch and its run. */
void history_step(struct history *h, struct ops *ops);
void history_clear(struct history *h);

/* --- replay.c --- */
enum bundle {
    BUNDLE_ONE,     /* the shipped one under chaos_a */
    BUNDLE_OTHER,   /* under chaos_b */
    BUNDLE_SHIPPED, /* as it is */
    BUNDLE_OPEN     /* under open: grants what it should not */
};

struct replay {
    struct osm_store *truth; /* what there is */
    struct osm_store *told;  /* what the engine is told of; the same unless a fault is asked for */
    struct osm_store_reader *reader; /* the engine's */
    struct osm_engine *engine;
    struct osm_snapshot *snapshot, *before; /* the newest and the one before the last run */
    struct osm_map kept; /* fragile resources whose emitter fails: name -> osm_bytes, last good */
    enum bundle bundle;
    const char *forgets; /* fault: deletions of this kind are not told; NULL none */
};
void replay_open(struct replay *p, enum bundle bundle);
void replay_close(struct replay *p);
/** False: the engine failed, and @p why says how. */
bool replay_apply(struct replay *p, const struct op *op, struct osm_buf *why);
/** False: what the engine says is not what a fresh one says of the same objects. */
bool replay_equals_fresh(const struct replay *p, struct osm_buf *why);
/** A fresh engine's word on @p store, and the size of its memo (SIZE_MAX: not determined). NULL: it
 * failed. */
struct osm_snapshot *fresh_snapshot(struct osm_store *store, enum bundle bundle, size_t *cells,
                                    struct osm_buf *why);
size_t engine_cells(const struct osm_engine *engine);
/** Then which cells are in the memo depends on who asked first. */
bool engine_has_cut_chain(const struct osm_engine *engine);

/* --- compare.c --- */
/** Resources byte for byte, who is served which, rejects, errors. @p kept: resources that @p grown
 * may serve beyond @p fresh, and must, with these bytes; NULL none. */
bool snapshots_equal(const struct osm_snapshot *grown, const struct osm_snapshot *fresh,
                     const struct osm_map *kept, struct osm_buf *why);
/** Of all that the snapshot says. */
struct osm_hash snapshot_digest(const struct osm_snapshot *snapshot);

/* --- allowed.c --- */
struct allowed {
    struct osm_map whole; /* "caller server port route" */
    struct osm_map ports; /* "caller server port" */
    struct osm_map pairs; /* "caller server" */
};
struct allowed allowed_of(const struct osm_snapshot *snapshot);
void allowed_clear(struct allowed *a);
/** Frees what decoding has remembered. */
void allowed_forget(void);
/** A member of @p now that is not in @p before; NULL none. Borrowed. */
const char *allowed_beyond(const struct osm_map *now, const struct osm_map *before);

/* --- mutate.c --- */
enum scope {
    SCOPE_NOTHING, /* may add nothing */
    SCOPE_ROUTES,  /* SMI reads the absence as "any": routes between who may talk already */
    SCOPE_PAIRS    /* the same of ports, and of a target's matches: between the sources and the
                      destinations of the targets that hold it */
};
struct mutation {
    char path[256]; /* "spec.rules[0].kind" */
    char what[64];  /* "removed", "becomes 7" */
    enum scope scope;
};
enum { VARIANTS = 8 };
/** A copy of @p body with its @p spot-th part removed (variant 0) or broken. NULL: there is no such
 * part. @p store: the other objects, for the scope. Owns: caller. */
json_t *mutate(const json_t *body, size_t spot, unsigned variant, const struct osm_store *store,
               struct mutation *out);
size_t mutate_spots(const json_t *body);

/* --- shrink.c --- */
typedef bool fails_fn(void *ud, const struct ops *ops, struct osm_buf *why);
/** Takes away operations and then parts of objects for as long as it still fails. */
void shrink(struct ops *ops, fails_fn *fails, void *ud);
/** Appends the shrunk history with what is wrong with it. */
void report_history(struct osm_buf *out, struct ops *ops, fails_fn *fails, void *ud);

/* --- the properties --- */
enum { SEED_DEFAULT = 1 };

struct task {
    uint64_t seed;
    unsigned changes;
    unsigned worker, workers; /* this one does its share of the work */
    struct osm_buf *report;
};
/* Each: false when it fails, and the report says how. */
bool incremental_equals_scratch(const struct task *task);
bool order_does_not_matter(const struct task *task);
bool breaking_grants_nothing(const struct task *task);
bool processes_agree(const struct task *task);
bool changed_rules_equal_scratch(const struct task *task);
bool a_lost_change_is_found_and_shrunk(const struct task *task);
bool an_open_bundle_is_found_and_shrunk(const struct task *task);
/** For processes_agree: prints the digest of a walk. */
void print_digest(uint64_t seed, unsigned changes);
extern const char *property_program; /* argv[0] */
