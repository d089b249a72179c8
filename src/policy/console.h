/* A console on an engine that nobody is served from: a throw-away copy of the policies in force and
 * of the objects, in which a person may try lines of Lua. Nothing that happens here is seen
 * anywhere else; what a line defines is there for the next one.
 *
 * `mesh` is what rules have. override(name, fn) lets fn(mesh, keys...) answer for a rule, and gives
 * what answered so far; diff() says, once its line is over, what would be served then. A local of a
 * line's outermost level is a variable of the session, so that `local x = 1` and `x` on the next
 * line are what one expects. pp(value) prints a value in full; what a line answers is printed
 * sorted, and short.
 *
 * An engine becomes one by osm_console_open and is then asked by these functions only. Thread: the
 * engine's. */
#pragma once

#include "policy/engine.h"

struct osm_console_limits {
    uint32_t line_ms;    /* of one line, all that it asks for included; 0: 1,000 */
    size_t memory_bytes; /* beyond what the copy itself needs; 0: 16 MiB */
};

/** Errors: OSM_ENOMEM, OSM_ELUA. */
OSM_MUST_USE int osm_console_open(struct osm_engine *engine,
                                  const struct osm_console_limits *limits, struct osm_err *err);
/** Takes objects in (not taken); nothing is evaluated. Errors: as osm_engine_run. */
OSM_MUST_USE int osm_console_update(struct osm_engine *engine, const struct osm_changes *changes,
                                    struct osm_err *err);
/** Runs @p text: as an expression, else as statements. *out: {"text": what it printed and answered,
 * "value": its first answer as JSON or null where that is none, "diff": true where it asked for
 * one}, or {"incomplete": true} where it goes on. Caller: json_decref. Errors: OSM_ELUA "console:1:
 * ..."; OSM_ELIMIT over a limit of the console: the engine must be thrown away then, as after
 * OSM_ENOMEM. */
OSM_MUST_USE int osm_console_eval(struct osm_engine *engine, const char *text, json_t **out,
                                  struct osm_err *err);
/** Asks as `mesh.name(keys...)` would; the answer as of osm_console_eval. Errors: the same;
 * OSM_ENOENT, OSM_EINVAL. */
OSM_MUST_USE int osm_console_ask(struct osm_engine *engine, const char *name, const json_t *keys,
                                 json_t **out, struct osm_err *err);
/** The same, of a rule or an emitter's key that is evaluated afresh, with all that happens
 * meanwhile: {"answer": as of osm_console_eval or null, "error": text or null, "run": {"name":
 * "rule backends(shop, cart)", "how": "ran", "memo", "verified" or "read", "us", "own_us",
 * "instructions", "times": how often, "reads": [as run]}, "more": what was left out}. Errors: the
 * same. */
OSM_MUST_USE int osm_console_trace(struct osm_engine *engine, const char *name, const json_t *keys,
                                   json_t **out, struct osm_err *err);
/** What would be served if the copy were in force, with what its lines have overridden: a whole
 * run, of all that there is. *out: a new reference. Errors: as osm_engine_run. */
OSM_MUST_USE int osm_console_run(struct osm_engine *engine, struct osm_snapshot **out,
                                 struct osm_err *err);
/** All names that can be asked as `mesh.name`, sorted. Caller: json_decref. NULL: no memory. */
json_t *osm_console_names(const struct osm_engine *engine);
