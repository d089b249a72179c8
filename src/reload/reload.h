/* Which rules are in force, and how others take their place while the daemon runs.
 *
 *   directories --read--> STAGED --loads, translates--> CHECKED --swap--> ACTIVE --> RETIRED
 *   or `apply`               |                          |     |              |
 *                         REJECTED   held: waits for ---'     canary --> ROLLED BACK,
 *                                    `activate`                          its digest quarantined
 *
 * The unit is the whole bundle, by its digest. A candidate has an engine and a thread of its own
 * and follows the live objects like the active one, so a slow or broken one delays nothing. It
 * takes over with a snapshot of the same objects or newer ones, by one pointer. For a while after
 * that the generation before it goes on evaluating: should proxies refuse what the new one says,
 * what serves again is its answer on the objects of now, so nothing that was revoked meanwhile is
 * granted again. Where its engine gives no answer in time, what it said last stands in, without
 * what authorises and has changed since (standin.h). There is one roll-back per digest. Should that
 * answer be refused, too, it is not sent again until it changes, and a proxy keeps of each resource
 * what it accepted last.
 *
 * A canary is a candidate that serves some proxies, the others being served by the active one, both
 * from the objects of now. One refusal ends it; after its soak it takes over. Who it can harm are
 * those proxies.
 *
 * What has been applied by command stays in force until the directories change. What has been
 * active last is stored, with its texts: a restart begins with it, whatever lies in
 * the directories, which then are a candidate like any other. Where nothing is stored and the
 * directories do not load, nothing is served: the shipped rules alone would drop the operator's
 * own denials. Thread: loop. */
#pragma once

#include "loop/loop.h"
#include "model/store.h"
#include "policy/host.h"
#include "xds/refusal.h"

struct osm_reload;

struct osm_reload_callbacks {
    void *ud;
    /** To be served from now on; borrowed. One snapshot may come again. */
    void (*publish)(void *ud, struct osm_snapshot *snapshot);
    /** Something about the generations has changed: whoever waits may look again. */
    void (*changed)(void *ud);
    const char *(*roots_pem)(void *ud);
    /** The kinds that the generations read, all together: [{"kind", "group", "versions"}]. True:
     * the store has all objects of them; else osm_reload_synced follows. */
    bool (*kinds)(void *ud, const json_t *kinds);
    /** Whether the proxy is connected. */
    bool (*connected)(void *ud, const char *proxy);
    /** Its version, "1.36.4"; "" unknown; borrowed for the moment. *like_it (may be NULL): how many
     * connected proxies have the same: what one version refuses another may take. */
    const char *(*version)(void *ud, const char *proxy, size_t *like_it);
    /** A generation has come into a state: "staged", "canary", "active", "held", "rejected",
     * "rolled back", "superseded", "standing by", "retired"; or a better reason is known for the
     * one it is in; or what the directories hold does not become one: "quarantined", "rejected",
     * "unreadable" (then @p digest is ""). @p reason: NULL none. Borrowed. May be NULL. */
    void (*noted)(void *ud, const char *digest, const char *state, const char *reason);
};

/* Whom a canary serves. All zero: it serves nobody first. */
struct osm_reload_canary {
    unsigned percent;  /* of the proxies that are connected, at least one; 0: by label */
    const char *label; /* "key=value" of their pods; borrowed */
    uint64_t soak_ms;  /* how long, before it takes over */
};
enum { OSM_RELOAD_SOAK_MS = 30 * 1000 };
/** From "5%" or "label=KEY=VALUE"; KEY=VALUE alone is a label too. @p text is borrowed by *out.
 * Errors: OSM_EINVAL. */
OSM_MUST_USE int osm_reload_canary_parse(struct osm_reload_canary *out, const char *text,
                                         struct osm_err *err);

struct osm_reload_config {
    struct osm_loop *loop;
    struct osm_store *store;
    const char *const *dirs;         /* NULL-terminated; borrowed */
    const char *state_dir;           /* borrowed */
    unsigned guard_percent;          /* a bundle that takes more of what is served away is held */
    uint64_t watch_ms;               /* how long refusals count after a swap */
    struct osm_reload_canary canary; /* of bundles that the directories hold */
    struct osm_engine_config engine; /* names and limits; borrowed */
};

/** Reads the stored bundle and the directories, and starts what is to be active. Errors: OSM_ENOENT
 * a directory does not exist; OSM_ENOMEM, OSM_EIO. A bundle that does not load is none: see
 * osm_reload_status. */
OSM_MUST_USE int osm_reload_start(struct osm_reload **out, const struct osm_reload_config *config,
                                  const struct osm_reload_callbacks *callbacks,
                                  struct osm_err *err);
/** Joins the engines' threads. NULL is accepted. */
void osm_reload_stop(struct osm_reload *reload);

/** The source holds all its objects now: engines begin. */
void osm_reload_synced(struct osm_reload *reload);
/** Objects have changed. */
void osm_reload_flush(struct osm_reload *reload);
/** The trusted roots have. */
void osm_reload_roots_changed(struct osm_reload *reload);
/** The newest roots are not in what is served. */
bool osm_reload_roots_due(const struct osm_reload *reload);
/** What is served covers all objects and roots of now, and no candidate is on its way to be active.
 */
bool osm_reload_settled(const struct osm_reload *reload);
/** Why nothing new is translated; NULL: it is. Borrowed. */
const char *osm_reload_error(const struct osm_reload *reload);

/** A proxy has refused something. */
void osm_reload_refused(struct osm_reload *reload, const struct osm_refusal *refusal);
/** A proxy has come again with nothing: its process began anew, without our doing. @p since: number
 * of the published snapshot that it was served when it went. */
void osm_reload_restarted(struct osm_reload *reload, const char *proxy, uint64_t since);

/** The outcome of what was asked: {"digest", "state": "active", "rejected", "held", "rolled back",
 * "quarantined" or "stopping", "generation", "reason": text or null}; borrowed. NULL: there was
 * no memory for the words. */
typedef void osm_reload_answer_fn(void *ud, const json_t *outcome);
/** Reads the directories now. @p force: tries a digest again that was rejected or is quarantined.
 * Answers exactly once, now or later. */
void osm_reload_now(struct osm_reload *reload, bool force, osm_reload_answer_fn *answer, void *ud);
struct osm_reload_application {
    const char *const *dirs; /* laid over the first of the daemon's own, in place of the others;
                                NULL-terminated; copied */
    struct osm_reload_canary canary; /* copied */
    bool force;
};
/** Reads other directories than the daemon's, once. What they hold stays in force until the
 * daemon's own change. Answers as osm_reload_now. */
void osm_reload_apply(struct osm_reload *reload, const struct osm_reload_application *application,
                      osm_reload_answer_fn *answer, void *ud);
/** Lets a generation that is held, or is a canary, take over. Errors: OSM_ENOENT there is none, or
 * another than @p digest (NULL: whichever; a beginning of it is enough). */
OSM_MUST_USE int osm_reload_activate(struct osm_reload *reload, const char *digest,
                                     struct osm_err *err);
/** Ends a canary; else goes back to the generation before the active one, and quarantines the
 * latter. Errors: OSM_ENOENT there is none. */
OSM_MUST_USE int osm_reload_roll_back(struct osm_reload *reload, const char *reason,
                                      struct osm_err *err);
/** Asks the active generation's engine, as osm_policy_ask. Errors: OSM_EBUSY nothing is active, or
 * its engine is being replaced; OSM_ENOMEM. */
OSM_MUST_USE int osm_reload_ask(struct osm_reload *reload, osm_policy_work_fn *work,
                                osm_task_fn *done, void *ud);
/** The policies in force, and the number of their generation; borrowed until the next one. NULL:
 * none are. */
struct osm_policy_files *osm_reload_files(const struct osm_reload *reload, uint64_t *generation);
/** {"generation", "digest", "state": "active" or "none", "layers": [the daemon's directories, the
 * shipped one first], "watched": bool, "standing_in": what is
 * served is what the generation before said last, without what authorises and has changed since,
 * "candidate": null or
 * {"digest", "state", "reasons", "canary": null or {"proxies": ["namespace/pod"...],
 * "soak_left_ms"}}, "applied": what is active was applied by command, "problem": text or null,
 * "generations": [{"generation", "digest", "state", "at", "reason"}] newest first, "quarantine":
 * {digest: {...}}}. NULL: no memory. */
json_t *osm_reload_status(const struct osm_reload *reload);
