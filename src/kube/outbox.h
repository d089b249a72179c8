/* What waits to be written, and when it may be: pure, without network and clock.
 *
 *   put --> READY (first come, first served) --next--> SENDING --sent--> RESTING --> forgotten
 *             ^                                            |                |
 *             '------------- LATER (its own time) <--------+---- put again -'
 *
 * There is one place for each key and what is to be written is made when it is sent, so the newest
 * state wins and nothing piles up. Writes have a rate. One key that is written again and again
 * waits longer each time, so that no quarrel with another writer becomes a loop. A server that is
 * busy or away holds all up, one that denies all but a probe now and then; what one key alone
 * causes holds up that key. */
#pragma once

#include "base/map.h"

struct osm_outbox_limits {
    size_t keys_max;
    unsigned burst, per_s;               /* writes at once; in the long run */
    uint64_t backoff_ms, backoff_max_ms; /* of failures */
    uint64_t rest_ms, rest_max_ms;       /* between two writes of one key */
    uint64_t denied_ms; /* of a key that was denied; between probes, once everything is */
    unsigned denials;   /* in a row until that is believed */
};

enum osm_outbox_outcome {
    OSM_OUTBOX_DONE,
    OSM_OUTBOX_GONE,   /* there is nothing left to write to, or it has changed */
    OSM_OUTBOX_LATER,  /* not now, for a reason of its own: a quota, or it was refused */
    OSM_OUTBOX_DENIED, /* we may not */
    OSM_OUTBOX_BUSY,   /* nobody's write gets through now */
};

enum osm_outbox_state {
    OSM_OUTBOX_READY,
    OSM_OUTBOX_WAITING,
    OSM_OUTBOX_SENDING,
    OSM_OUTBOX_RESTING
};

struct osm_outbox_slot {
    struct osm_outbox_slot *next, *prev; /* in the list of its state */
    char *key;
    enum osm_outbox_state state;
    bool again, dropped; /* while it is being sent */
    uint64_t not_before_ms, rest_ms;
    unsigned failures; /* in a row */
};

struct osm_outbox {
    const struct osm_outbox_limits *limits;
    struct osm_map slots; /* key -> slot */
    struct osm_outbox_slot *first[4], *last[4];
    size_t waiting;               /* READY, WAITING and SENDING */
    uint64_t tokens_m, filled_ms; /* thousandths of a write */
    uint64_t not_before_ms;
    unsigned failures, denials; /* of all, in a row */
    uint64_t lost;              /* over keys_max, or no memory */
};

void osm_outbox_init(struct osm_outbox *outbox, const struct osm_outbox_limits *limits,
                     uint64_t now_ms);
void osm_outbox_clear(struct osm_outbox *outbox);
/** What this key says is to be written. False: there is no place for it, which is counted. */
bool osm_outbox_put(struct osm_outbox *outbox, const char *key);
/** It need not be any more. False: it is on its way, and only not tried again. */
bool osm_outbox_drop(struct osm_outbox *outbox, const char *key);
/** The next to be sent, now; NULL: none for *wait_ms (UINT64_MAX: until something is put). Followed
 * by osm_outbox_sent. */
struct osm_outbox_slot *osm_outbox_next(struct osm_outbox *outbox, uint64_t now_ms,
                                        uint64_t *wait_ms);
/** It had nothing to say after all. */
void osm_outbox_unsent(struct osm_outbox *outbox, struct osm_outbox_slot *slot);
/** How it has ended. @p retry_after_s: -1 not told. The slot may be gone. */
void osm_outbox_sent(struct osm_outbox *outbox, struct osm_outbox_slot *slot,
                     enum osm_outbox_outcome outcome, int64_t retry_after_s, uint64_t now_ms,
                     uint32_t random);
/** What an API server's answer means. @p status: HTTP, 0 none. */
enum osm_outbox_outcome osm_outbox_outcome_of(int status, const char *message);
