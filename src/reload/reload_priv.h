/* What the files of reload share: candidate.c brings a bundle up to its swap, canary.c tries it on
 * some proxies before, verdict.c watches it after that, apply.c brings bundles of other
 * directories, record.c remembers and tells. */
#pragma once

#include "reload/compare.h"
#include "reload/generation.h"
#include "reload/notice.h"
#include "reload/reload.h"
#include "reload/standin.h"

#include "base/map.h"

enum { OSM__HISTORY_MAX = 32, OSM__RETIRED_MAX = 2 };

/* Who has asked what becomes of a bundle. It is an answer only once the files are read of which the
 * question is: another bundle's outcome may come first. */
struct osm__asking {
    struct osm__asking *next;
    const void *reading; /* what is to be read first; NULL: it has been */
    osm_reload_answer_fn *answer;
    void *ud;
};

struct osm_reload {
    struct osm_reload_config config;
    struct osm_reload_callbacks callbacks;
    char *kept_dir;
    struct osm_notice *notice;
    uint64_t next_id;
    bool synced;

    struct osm_generation *active;   /* NULL: nothing is served */
    struct osm_generation *previous; /* evaluates while the active one is watched; or NULL */
    struct osm_policy_files *retired[OSM__RETIRED_MAX]; /* of those before, to go back to; newest
                                                           first; or NULL */
    uint64_t published;                                 /* number of the newest snapshot that was */

    /* candidate.c */
    struct osm_generation *candidate;
    bool was_compared, forced; /* it has passed the guards, or they do not count */
    bool recalled;             /* it is not of the directories, but stored or in force before */
    bool by_command;           /* it is of other directories */
    struct osm_reload_canary trial;        /* whom it is to serve first; `label` is owned */
    bool force_next;                       /* what is being read was asked for by force */
    json_t *held;                          /* why it waits for `activate`; NULL: it does not */
    struct osm__comparing *comparing;      /* on the pool; NULL: none */
    char rejected[OSM_POLICY_DIGEST_SIZE]; /* digest, "" none */
    uint64_t rejected_at;                  /* revision of the store; 0: whatever the objects are */
    struct osm_timer *retry;
    bool retry_due;

    /* canary.c */
    struct osm_timer *soak;
    struct osm_map canary;    /* osm_proxy_key -> this: whom the candidate serves; empty: nobody */
    uint64_t canary_since;    /* number of the first snapshot that held it */
    uint64_t canary_until_ms; /* monotonic */
    bool soaked;              /* it has served some, and nothing spoke against it */

    /* apply.c */
    char in_dirs[OSM_POLICY_DIGEST_SIZE]; /* digest of what the directories held when last read */
    bool applied;                   /* what is active is not of the directories: they must change */
    bool applied_before;            /* of the generation before it */
    bool look_asked;                /* the reading under way was asked for */
    struct osm__applying *applying; /* on the pool; NULL: none */

    /* verdict.c */
    struct osm_timer *watch_end;
    uint64_t swapped_at;            /* number of the first snapshot that the active one published */
    struct osm_timer *verdict;      /* looks at `refusal` in the next turn of the loop */
    char *refusal;                  /* why the active one is to be rolled back; NULL: it is not */
    bool undecided;                 /* which resource it was may still be told */
    enum osm_xds_type refused_type; /* of the resource that decided */
    char *refused_name;
    struct osm__blame *blame; /* blame.c: asks whose fault it was; NULL: nobody does */
    struct osm_map
        refusing; /* osm_proxy_key -> this: proxies that refuse what only the active one says */
    char *back_reason; /* the active one is rolled back as soon as the previous one has caught up;
                          NULL: it is not */
    struct osm_standin *standin;    /* of the previous one; NULL: there is none, or no memory */
    struct osm_snapshot *said;      /* what the active one said last; or NULL */
    struct osm_timer *back_overdue; /* the previous one does not catch up */
    bool standing_in;               /* so that is served */

    /* record.c */
    char *problem;
    json_t *quarantine, *history; /* history: newest last */
    struct osm__asking *asking;
    struct osm__storing *storing; /* on the pool; NULL: none */
    bool store_again;
    char *unstored; /* why the state directory holds something older; NULL: it does not */
    struct osm_timer *store_retry;
    uint32_t store_wait_ms; /* before the next try; doubles */
};

/* --- candidate.c --- */
struct osm__staging {
    bool forced; /* the guards do not count */
    bool
        recalled; /* not what the directories hold, which are looked at once its outcome is known */
    bool by_command;                        /* of other directories */
    const struct osm_reload_canary *canary; /* copied; NULL: none */
};
/** Takes the reference of @p files. */
void osm__reload_stage(struct osm_reload *r, struct osm_policy_files *files,
                       const struct osm__staging *how);
void osm__reload_on_files(void *ud, struct osm_policy_files *files, const char *error);
void osm__reload_on_retry(void *ud);
/** Goes on with the candidate as far as it can go now. */
void osm__reload_check(struct osm_reload *r);
/** What is under way on the pool runs out, and nobody hears of it. */
/* The candidate with what is served, on the pool; it is held, or goes on. */
void osm__reload_compare(struct osm_reload *r);
void osm__reload_stop_comparing(struct osm_reload *r);
/** Rejects the candidate. @p whatever_the_objects: it is not tried again when they change. */
void osm__reload_reject(struct osm_reload *r, bool whatever_the_objects, const char *reason);
/** It waits for `activate`. Takes @p reasons. */
void osm__reload_hold(struct osm_reload *r, json_t *reasons);
/** An error of the candidate's that the active policies do not have on these objects, as
 * "module:line: message (rule ...)"; osm_free. NULL: none. */
char *osm__reload_new_error(const struct osm_snapshot *candidate,
                            const struct osm_snapshot *served);
/** Ends the candidate, which another takes the place of; NULL is none. */
void osm__reload_drop_candidate(struct osm_reload *r, const char *reason);

/* --- canary.c --- */
/** The candidate serves whom it is to serve first, or is held: there is nobody. */
void osm__canary_start(struct osm_reload *r);
/** What is to be published: the active one's snapshot, with the canary's share in it. A reference.
 */
OSM_MUST_USE struct osm_snapshot *osm__canary_mix(const struct osm_reload *r);
/** The candidate is a canary, and has run. */
void osm__canary_ran(struct osm_reload *r, bool news);
/** It serves nobody any more; @p tell: the proxies are told. */
void osm__canary_stop(struct osm_reload *r, bool tell);
/** It is rolled back: its digest is quarantined. */
void osm__canary_back(struct osm_reload *r, const char *reason);
void osm__canary_soaked(void *ud);
/* After news of either. */
void osm__canary_compare(struct osm_reload *r);
json_t *osm__canary_status(const struct osm_reload *r);

/* --- apply.c --- */
/** The directories were read. False: nothing of it is news while what was applied is in force. */
bool osm__apply_is_news(struct osm_reload *r, const struct osm_policy_files *files);
void osm__apply_stop(struct osm_reload *r);

/* --- verdict.c --- */
/** The candidate takes over. */
void osm__reload_swap(struct osm_reload *r);
void osm__reload_on_verdict(void *ud);
/** Publishes what is to be served under the next number. */
void osm__reload_publish(struct osm_reload *r);
/** The active generation has run, and says something else. */
void osm__reload_active_ran(struct osm_reload *r);
void osm__reload_on_back_overdue(void *ud);
/** The previous generation has run. */
void osm__reload_previous_ran(struct osm_reload *r);
/** The previous generation need not evaluate any more. */
void osm__reload_end_watch(void *ud);

/* --- blame.c --- */
/** Ends the generation once it has told which lines are behind the resource that was refused. */
void osm__reload_blame(struct osm_reload *r, struct osm_generation *refused, const char *reason);
void osm__reload_stop_blame(struct osm_reload *r);

/* --- record.c --- */
/** *kept: the files that were active last, NULL: none. */
OSM_MUST_USE int osm__record_open(struct osm_reload *r, struct osm_policy_files **kept,
                                  struct osm_err *err);
void osm__record_close(struct osm_reload *r);
/** In the history: a new entry, or another state of a generation that has one. @p reason: NULL
 * none. */
void osm__record_note(struct osm_reload *r, const struct osm_generation *g, const char *state,
                      const char *reason);
/** A bundle that never became a generation: counted and told. */
void osm__record_refused(struct osm_reload *r, const char *digest, const char *state,
                         const char *reason);
/** As the problem. */
void osm__record_rolled_back(struct osm_reload *r, const char *digest, const char *reason);
/** A better reason for a roll-back: in the history, the quarantine and the problem. */
void osm__record_explain(struct osm_reload *r, uint64_t id, const char *digest, const char *reason);
/** Somebody waits for the outcome of what is read by @p reading (the notice, an application);
 * without memory it is told so at once. */
void osm__record_ask(struct osm_reload *r, const void *reading, osm_reload_answer_fn *answer,
                     void *ud);
/** It has been read: the next outcome is the answer to those who wait for it. NULL: all of them. */
void osm__record_heard(struct osm_reload *r, const void *reading);
/** One is told that nothing comes of it. */
void osm__record_refuse(osm_reload_answer_fn *answer, void *ud, const char *reason);
/** Whoever has asked about it hears it. @p g: NULL where it is about files that never became one.
 */
void osm__record_answer(struct osm_reload *r, const struct osm_generation *g, const char *digest,
                        const char *state, const char *reason);
/** What is wrong with what lies in the directories, for people; NULL: nothing. */
void osm__record_problem(struct osm_reload *r, char *text_taken);
/** Why the digest is not to be tried; NULL: it may be. Borrowed. */
const char *osm__record_quarantined(const struct osm_reload *r, const char *digest);
void osm__record_quarantine(struct osm_reload *r, const char *digest, const char *reason);
void osm__record_pardon(struct osm_reload *r, const char *digest);
/** Writes the active bundle and the quarantine to the state directory, soon; again and again until
 * it has worked. */
void osm__record_store(struct osm_reload *r);
/* struct osm_reload: the time for the next try has come. */
void osm__record_on_store_retry(void *ud);
