/* The policy engine: a bundle of Lua modules, the world it reads, and what it emits. Synchronous
 * and single-threaded; policy/host.h runs it on a thread of its own. The specs (busted) run this
 * very library.
 *
 *   changes --> world --> input cells (objects, buckets, key lists, facts)
 *                            |  recorded reads
 *                         rule cells (Lua, memoised) --> emit cells (items with audiences) -->
 * compose --> snapshot
 */
#pragma once

#include "model/object.h"
#include "policy/files.h"
#include "xds/snapshot.h"

#include <stdatomic.h>

struct osm_engine;

struct osm_engine_config {
    /* The bundle; a reference of the engine's own is taken. NULL: it is read from the directories
     * below. */
    struct osm_policy_files *files;
    const char *const *policies_dirs; /* NULL-terminated; each lies over those before it */
    const char *mesh_name;            /* "osm" */
    const char *osm_namespace;        /* "osm-system" */
    const char *trust_domain;         /* "cluster.local" */
    const char *roots_pem;    /* trusted CA certificates, public; fills validation contexts */
    size_t memory_max_bytes;  /* of the Lua state and the memo; 0: 512 MiB */
    uint64_t (*now_ms)(void); /* monotonic; NULL: the system's */
    bool thorough;            /* whether rules keep state is looked for after every run, not after
                                 the first and one in 64 */
    /* For an engine that is thrown away. */
    bool notes_steps;            /* osm_engine_steps may be asked of it */
    bool proven;                 /* another engine serves with the same rules, and none of them has
                                    written into an answer: whether one does in the first run is not
                                    looked for */
    bool yields;                 /* its thread (policy/host.h) gives way to all others */
    const atomic_bool *canceled; /* set by another thread: what is under way ends as if its time
                                    were over, and the state is lost. NULL: never */
    const atomic_bool *stopping; /* the same, and nothing more is begun: nobody waits any more */
};

/** Loads and checks the bundle. Errors: OSM_ELUA "file:line: text"; nothing of the bundle runs
 * then. */
OSM_MUST_USE int osm_engine_new(struct osm_engine **out, const struct osm_engine_config *config,
                                struct osm_err *err);
void osm_engine_free(struct osm_engine *engine);

/** Tells the reader whose status this bundle's rules see. Thread: the store's, while no run is
 * under way. Errors: OSM_ENOMEM. */
struct osm_store_reader;
OSM_MUST_USE int osm_engine_watch_status(const struct osm_engine *engine,
                                         struct osm_store_reader *reader);

/** Applies a batch of object changes (not taken), runs what is dirty and asked for, composes. *out
 * is a new reference to the snapshot, numbered 1, 2, ...; NULL when nothing that is served
 * or reported differs from the last one. Errors of rules are contained in the snapshot. Errors:
 * OSM_ENOMEM, OSM_ELUA (state lost; the engine must be thrown away). */
OSM_MUST_USE int osm_engine_run(struct osm_engine *engine, const struct osm_changes *changes,
                                struct osm_snapshot **out, struct osm_err *err);
/** The next run keeps nothing of what fails in it or has failed before, as if it were the first one
 * (of a rule that fails, what grants nothing is served on else). */
void osm_engine_begin_anew(struct osm_engine *engine);
/** Gives an engine that has run another bundle: the next run, which begins anew, evaluates what the
 * difference concerns, and nothing else. *done false: that needs an engine of its own (there is a
 * kind that was not read before, or rules have kept state), and this one is as it was.
 * @p proven: as in the config. Errors: OSM_ELUA the bundle does not load; the engine is as it was,
 * where osm_engine_lost does not say otherwise. OSM_ENOMEM: it must be thrown away. */
OSM_MUST_USE int osm_engine_rebind(struct osm_engine *engine, struct osm_policy_files *files,
                                   bool proven, bool *done, struct osm_err *err);
/** What it runs. Borrowed, until it is given others. */
const struct osm_policy_files *osm_engine_files(const struct osm_engine *engine);
/** Whether the state is lost: the engine must be thrown away. */
bool osm_engine_lost(const struct osm_engine *engine);
/** Whether rules were seen to keep state or to write into answers, or lacked memory: what the
 * engine says may depend on what it was asked before. */
bool osm_engine_stained(const struct osm_engine *engine);
/** Takes in a batch (not taken), evaluates nothing: of an engine that is only asked, and thrown
 * away then, what is not asked for costs nothing. Errors: as osm_engine_run. */
OSM_MUST_USE int osm_engine_take(struct osm_engine *engine, const struct osm_changes *changes,
                                 struct osm_err *err);
/** The errors of rules as they stand, as in a snapshot: also where the last run was cut, of what it
 * had evaluated. Caller: json_decref. NULL: no memory. */
OSM_MUST_USE json_t *osm_engine_errors(const struct osm_engine *engine);
/** For when no batch is waiting: does a piece of the housekeeping that runs leave (collecting
 * garbage, mostly well under 1 ms). True: there is more. Never needed for correctness; without it
 * runs do it themselves, and take longer. */
bool osm_engine_rest(struct osm_engine *engine);

/** Replaces the trusted roots (public PEM); the next run fills them in. */
OSM_MUST_USE int osm_engine_set_roots(struct osm_engine *engine, const char *roots_pem);

/** Fails where rules have kept state between calls: OSM_ELUA "smi/split.lua:4: the local "cache"
 * changed while rules ran; ...". Runs look for it too (in release builds some of them) and report
 * it in the snapshot's errors. Errors: OSM_ENOMEM. */
OSM_MUST_USE int osm_engine_check_pure(struct osm_engine *engine, struct osm_err *err);

/** Asks one question, as a rule would: name "backends", keys ["blue", "shop", 80]. *out: the answer
 * as JSON. Errors: OSM_ELUA with the rule's error; OSM_ENOENT no such name. */
OSM_MUST_USE int osm_engine_ask(struct osm_engine *engine, const char *name, const json_t *keys,
                                json_t **out, struct osm_err *err);

struct osm_why_question {
    const char *proxy; /* its osm_proxy_key; NULL: whichever */
    enum osm_xds_type type;
    const char *resource;
    const char *element; /* only elements (virtual hosts, filter chains) whose name holds this;
                            NULL: all */
    bool deep;           /* with the objects behind each item, and what osm_engine_steps asks for */
};
/** Of which items a resource is made, and where they come from: [{"item":
 * "envoy/routes.outbound_hosts(blue, shop)#1", "element": name or null, "place":
 * "envoy/routes.lua:140", "extended": the extensions that changed it or null, "authorises": bool,
 * "hash": of its message, "emitter" or "rule", and "keys": as of osm_steps_question, where deep,
 * "because": [{"object": "TrafficSplit blue/s", "resource_version",
 * "origin": "shop.yaml:12", "through": ["emitter ...", "rule backends(blue, shop)", "index
 * splits_of(blue, shop)"]}], "more": there are more objects}]. Caller: json_decref. Errors:
 * OSM_ENOENT; OSM_ENOMEM. */
OSM_MUST_USE int osm_engine_why(struct osm_engine *engine, const struct osm_why_question *question,
                                json_t **out, struct osm_err *err);

/* An item, as osm_engine_why tells it. */
struct osm_steps_question {
    const char *emitter; /* "envoy/clusters.clusters"; NULL: it is a header that a rule makes */
    const char *rule;    /* then that one's name */
    const json_t *keys;  /* ["blue", "shop"] */
    const char *item;    /* "envoy/clusters.clusters(blue,shop)#CDS:blue/shop|80" */
};
/** Evaluates the emitter or rule for one key, and says what the item's message was at each step:
 * first as that says it, then as each extension that changes it leaves it. [{"by": null or
 * "acme/retry.route", "place": "envoy/clusters.lua:14", "message": as osm_proto_decode or null}];
 * [] where the host makes the message. Only of an engine that has not run and is thrown away
 * afterwards, with `notes_steps` in its config; @p objects: all, as of osm_engine_run. Caller:
 * json_decref. Errors: OSM_ENOENT nobody emits the item; OSM_ELUA the emitter's error, or the state
 * is lost; OSM_ENOMEM. */
OSM_MUST_USE int osm_engine_steps(struct osm_engine *engine, const struct osm_changes *objects,
                                  const struct osm_steps_question *question, json_t **out,
                                  struct osm_err *err);

/** What the bundle declares and what its authors can ask, for people and editors: {"digest",
 * "modules": [{"name", "path", "text", "types", "functions"}], "kinds", "indexes", "facts",
 * "rules", "emitters", "wraps", "extensions", "points", "out", "runtime"}, each sorted by name;
 * wraps and extensions in the order of their runs. An entry has "name", "text", mostly "module" (a
 * path below the bundle's folder), "line", "params" and "returns"; describe.c says the rest. Texts
 * are the doc comments of the source. Caller: json_decref. Errors: OSM_ENOMEM; OSM_ELUA the state
 * is lost. */
OSM_MUST_USE int osm_engine_describe(struct osm_engine *engine, json_t **out, struct osm_err *err);
/** The kinds that the bundle reads, as manifests name them: [{"kind", "group", "versions":
 * [preferred first]}]. NULL: no memory. Owns: caller. */
OSM_MUST_USE json_t *osm_engine_kinds(const struct osm_engine *engine);
/** What rules and emitters have cost since the engine began: {"us": how long that is,
 * "rules": [{"name", "emitter": bool, "module", "line", "runs", "hits": answers from the memo,
 * "instructions", "us"}]}, those with the most time first, without those that nobody has asked.
 * Time and instructions are of its own evaluations, callees excluded. Caller: json_decref. NULL: no
 * memory. */
OSM_MUST_USE json_t *osm_engine_costs(const struct osm_engine *engine);
/** Begins to follow evaluations line by line: of each rule the first runs, then one of @p every,
 * which counts for as many. Errors: OSM_EBUSY it is done already; OSM_ENOMEM. */
OSM_MUST_USE int osm_engine_profile_begin(struct osm_engine *engine, unsigned every,
                                          struct osm_err *err);
/** Ends it: as osm_engine_costs since it began, with "lines": [{"module", "line", "text", "runs",
 * "us"}]; what a line calls in C counts as its own. NULL: it had not begun; no memory. */
OSM_MUST_USE json_t *osm_engine_profile_end(struct osm_engine *engine);
/** Figures of the last run, also where it made no snapshot: as a snapshot's `policy`. NULL: no
 * memory. Owns: caller. */
OSM_MUST_USE json_t *osm_engine_figures(const struct osm_engine *engine);
