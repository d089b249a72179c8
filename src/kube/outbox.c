#include "kube/outbox.h"

#include <string.h>

enum { RETRY_AFTER_MAX_S = 300, SHIFT_MAX = 16 };

/* --- lists --- */

static void leave(struct osm_outbox *o, struct osm_outbox_slot *s)
{
    *(s->prev ? &s->prev->next : &o->first[s->state]) = s->next;
    *(s->next ? &s->next->prev : &o->last[s->state]) = s->prev;
    s->next = s->prev = NULL;
    o->waiting -= s->state != OSM_OUTBOX_RESTING;
}

static void enter(struct osm_outbox *o, struct osm_outbox_slot *s, enum osm_outbox_state state)
{
    s->state = state;
    s->prev = o->last[state];
    *(s->prev ? &s->prev->next : &o->first[state]) = s;
    o->last[state] = s;
    o->waiting += state != OSM_OUTBOX_RESTING;
}

static void move(struct osm_outbox *o, struct osm_outbox_slot *s, enum osm_outbox_state state)
{
    leave(o, s);
    enter(o, s, state);
}

static void forget(struct osm_outbox *o, struct osm_outbox_slot *s)
{
    leave(o, s);
    (void)osm_map_del(&o->slots, s->key);
    osm_free(s->key);
    osm_free(s);
}

/* --- life --- */

void osm_outbox_init(struct osm_outbox *o, const struct osm_outbox_limits *limits, uint64_t now_ms)
{
    *o = (struct osm_outbox){
        .limits = limits, .tokens_m = (uint64_t)limits->burst * 1000, .filled_ms = now_ms};
}

void osm_outbox_clear(struct osm_outbox *o)
{
    for (int state = 0; state < 4; state++)
        while (o->first[state])
            forget(o, o->first[state]);
    osm_map_clear(&o->slots);
}

/* --- what waits --- */

static bool make_room(struct osm_outbox *o)
{
    if (o->slots.count < o->limits->keys_max)
        return true;
    if (!o->first[OSM_OUTBOX_RESTING])
        return false;
    forget(o, o->first[OSM_OUTBOX_RESTING]);
    return true;
}

bool osm_outbox_put(struct osm_outbox *o, const char *key)
{
    struct osm_outbox_slot *s = osm_map_get(&o->slots, key);
    if (s) {
        s->again = s->state == OSM_OUTBOX_SENDING;
        s->dropped = false;
        if (s->state == OSM_OUTBOX_RESTING)
            move(o, s, OSM_OUTBOX_WAITING);
        return true;
    }
    s = make_room(o) ? osm_alloc(sizeof *s) : NULL;
    if (s)
        s->key = osm_strdup(key);
    if (!s || !s->key || osm_map_put(&o->slots, key, s, NULL)) {
        if (s)
            osm_free(s->key);
        osm_free(s);
        o->lost++;
        return false;
    }
    enter(o, s, OSM_OUTBOX_READY);
    return true;
}

bool osm_outbox_drop(struct osm_outbox *o, const char *key)
{
    struct osm_outbox_slot *s = osm_map_get(&o->slots, key);
    bool is_sent = s && s->state == OSM_OUTBOX_SENDING;
    if (is_sent) {
        s->dropped = true;
        s->again = false;
    } else if (s && s->state != OSM_OUTBOX_RESTING) {
        forget(o, s);
    }
    return !is_sent;
}

/* --- sending --- */

static void fill(struct osm_outbox *o, uint64_t now_ms)
{
    uint64_t max = (uint64_t)o->limits->burst * 1000;
    uint64_t passed_ms = now_ms > o->filled_ms ? now_ms - o->filled_ms : 0;
    bool is_full = passed_ms > max; /* no product that could overflow */
    o->tokens_m = is_full ? max : o->tokens_m + passed_ms * o->limits->per_s;
    o->tokens_m = o->tokens_m < max ? o->tokens_m : max;
    o->filled_ms = now_ms;
}

/* Whose time has come; *wait_ms: until the next one's. */
static void wake(struct osm_outbox *o, uint64_t now_ms, uint64_t *wait_ms)
{
    struct osm_outbox_slot *next;
    for (struct osm_outbox_slot *s = o->first[OSM_OUTBOX_WAITING]; s; s = next) {
        next = s->next;
        if (s->not_before_ms <= now_ms)
            move(o, s, OSM_OUTBOX_READY);
        else if (s->not_before_ms - now_ms < *wait_ms)
            *wait_ms = s->not_before_ms - now_ms;
    }
    for (struct osm_outbox_slot *s = o->first[OSM_OUTBOX_RESTING]; s; s = next) {
        next = s->next;
        if (s->not_before_ms + s->rest_ms <= now_ms)
            forget(o, s);
    }
}

struct osm_outbox_slot *osm_outbox_next(struct osm_outbox *o, uint64_t now_ms, uint64_t *wait_ms)
{
    *wait_ms = UINT64_MAX;
    wake(o, now_ms, wait_ms);
    struct osm_outbox_slot *s = o->first[OSM_OUTBOX_READY];
    bool denied = o->denials >= o->limits->denials;
    if (!s)
        return NULL;
    if (o->not_before_ms > now_ms) {
        *wait_ms = o->not_before_ms - now_ms;
        return NULL;
    }
    if ((o->failures || denied) && o->first[OSM_OUTBOX_SENDING])
        return NULL; /* one probe at a time; its end asks again */
    fill(o, now_ms);
    if (o->tokens_m < 1000) {
        *wait_ms = (1000 - o->tokens_m + o->limits->per_s - 1) / o->limits->per_s;
        return NULL;
    }
    o->tokens_m -= 1000;
    s->again = s->dropped = false;
    move(o, s, OSM_OUTBOX_SENDING);
    return s;
}

static uint64_t backoff(const struct osm_outbox_limits *limits, uint64_t first_ms,
                        unsigned failures, uint32_t random)
{
    unsigned shift = failures < SHIFT_MAX ? failures : SHIFT_MAX;
    uint64_t ms = first_ms << (shift ? shift - 1 : 0);
    ms = ms < limits->backoff_max_ms ? ms : limits->backoff_max_ms;
    return ms / 2 + ms * (random % 1024) / 2048;
}

static void rest(struct osm_outbox *o, struct osm_outbox_slot *s, uint64_t now_ms)
{
    uint64_t next_ms = s->rest_ms ? s->rest_ms * 2 : o->limits->rest_ms;
    s->rest_ms = next_ms < o->limits->rest_max_ms ? next_ms : o->limits->rest_max_ms;
    s->not_before_ms = now_ms + s->rest_ms;
    s->failures = 0;
    move(o, s, s->again ? OSM_OUTBOX_WAITING : OSM_OUTBOX_RESTING);
}

static void hold(struct osm_outbox *o, struct osm_outbox_slot *s, uint64_t not_before_ms)
{
    if (s->dropped) {
        forget(o, s);
        return;
    }
    s->not_before_ms = not_before_ms;
    move(o, s, OSM_OUTBOX_WAITING);
}

void osm_outbox_unsent(struct osm_outbox *o, struct osm_outbox_slot *s)
{
    o->tokens_m += 1000;
    forget(o, s);
}

void osm_outbox_sent(struct osm_outbox *o, struct osm_outbox_slot *s,
                     enum osm_outbox_outcome outcome, int64_t retry_after_s, uint64_t now_ms,
                     uint32_t random)
{
    int64_t after_s = retry_after_s < RETRY_AFTER_MAX_S ? retry_after_s : RETRY_AFTER_MAX_S;
    uint64_t asked_ms = now_ms + (after_s > 0 ? (uint64_t)after_s * 1000 : 0);
    bool is_busy = outcome == OSM_OUTBOX_BUSY, is_denied = outcome == OSM_OUTBOX_DENIED;
    o->failures = is_busy ? o->failures + 1 : 0;
    o->denials = is_denied ? o->denials + 1 : is_busy ? o->denials : 0;
    if (is_busy) {
        uint64_t until_ms = now_ms + backoff(o->limits, o->limits->backoff_ms, o->failures, random);
        o->not_before_ms = until_ms > asked_ms ? until_ms : asked_ms;
        hold(o, s, o->not_before_ms);
    } else if (is_denied) {
        bool all = o->denials >= o->limits->denials;
        o->not_before_ms = all ? now_ms + o->limits->denied_ms : o->not_before_ms;
        hold(o, s, now_ms + backoff(o->limits, o->limits->denied_ms, ++s->failures, random));
    } else if (outcome == OSM_OUTBOX_LATER) {
        s->failures++;
        uint64_t until_ms = now_ms + backoff(o->limits, o->limits->backoff_ms, s->failures, random);
        hold(o, s, until_ms > asked_ms ? until_ms : asked_ms);
    } else if (outcome == OSM_OUTBOX_GONE && !s->again) {
        forget(o, s);
    } else {
        rest(o, s, now_ms);
    }
}

enum osm_outbox_outcome osm_outbox_outcome_of(int status, const char *message)
{
    if (status >= 200 && status < 300)
        return OSM_OUTBOX_DONE;
    if (status == 404 || status == 410 || strstr(message, "being terminated"))
        return OSM_OUTBOX_GONE;
    if (status == 403 && strstr(message, "exceeded quota"))
        return OSM_OUTBOX_LATER;
    if (status == 401 || status == 403)
        return OSM_OUTBOX_DENIED;
    if (!status || status == 429 || status >= 500)
        return OSM_OUTBOX_BUSY;
    return OSM_OUTBOX_LATER; /* 409, 422 and the like */
}
