#include "app/trim.h"

#include "base/log.h"

enum { LOOK_MS = 5000, PAUSE_MAX_TURNS = 120 };
enum { FULL_PAUSE_MAX_TURNS = 2 };                 /* proxies are refused until it has gone */
static const size_t STEP_BYTES = (size_t)16 << 20; /* less is not worth it */

struct osm_trim {
    struct osm_loop *loop;
    struct osm_timer *timer;
    size_t limit_bytes;
    size_t settled_bytes; /* free after the last time, or less since: whatever of it can go is gone,
                             which the C library counts as free all the same */
    size_t resident_bytes, after_bytes; /* of the look that is under way */
    size_t seen_bytes;                  /* resident at the last look */
    long seen_live;                     /* allocations then */
    unsigned pause_turns, turns;        /* between two looks; since the last one */
    bool has_much, had_much;
    bool is_busy, is_over;
};

static bool is_full(const struct osm_trim *t)
{
    return t->limit_bytes && t->resident_bytes > t->limit_bytes;
}

/* Thread: pool. Whoever allocates meanwhile may wait, where a million small pieces are free for
 * half a second: hence the pauses. */
static void look(void *ud)
{
    struct osm_trim *t = ud;
    struct osm_mem_heap heap = osm_mem_measure_heap();
    if (heap.free_bytes < t->settled_bytes)
        t->settled_bytes = heap.free_bytes;
    size_t more_bytes = heap.free_bytes - t->settled_bytes;
    t->has_much = more_bytes >= STEP_BYTES && more_bytes >= heap.used_bytes / 2;
    if (is_full(t) || (t->has_much && t->had_much)) {
        osm_mem_give_back();
        t->settled_bytes = osm_mem_measure_heap().free_bytes;
        t->after_bytes = osm_mem_resident();
    }
}

static void looked(void *ud)
{
    struct osm_trim *t = ud;
    t->is_busy = false;
    if (t->is_over) {
        osm_free(t);
        return;
    }
    bool is_first = t->has_much && !t->had_much;
    t->had_much = t->has_much;
    t->seen_bytes = t->resident_bytes;
    if (t->after_bytes) {
        osm_log(OSM_LOG_CORE, OSM_LOG_DEBUG, "free memory given back",
                OSM_I("resident_bytes_before", (int64_t)t->resident_bytes),
                OSM_I("resident_bytes", (int64_t)t->after_bytes));
        t->seen_bytes = t->after_bytes;
        t->had_much = false;
    }
    if (is_first)
        t->pause_turns = 1;
    else if (t->pause_turns < PAUSE_MAX_TURNS)
        t->pause_turns *= 2;
}

/* Soon after something has changed, ever more rarely while nothing does: much more is resident than
 * at the last look, or many fewer pieces are in use. */
static bool is_due(struct osm_trim *t)
{
    if (t->resident_bytes > t->seen_bytes + STEP_BYTES ||
        osm_mem_live() < t->seen_live - t->seen_live / 4)
        t->pause_turns = 1;
    if (is_full(t) && t->pause_turns > FULL_PAUSE_MAX_TURNS)
        t->pause_turns = FULL_PAUSE_MAX_TURNS;
    return ++t->turns >= t->pause_turns;
}

static void on_timer(void *ud)
{
    struct osm_trim *t = ud;
    if (t->is_busy)
        return;
    t->resident_bytes = osm_mem_resident();
    t->after_bytes = 0;
    if (!is_due(t))
        return;
    t->turns = 0;
    t->seen_live = osm_mem_live();
    t->is_busy = !osm_loop_work(t->loop, look, looked, t);
}

struct osm_trim *osm_trim_start(struct osm_loop *loop, size_t limit_bytes)
{
    struct osm_trim *t = osm_alloc(sizeof *t);
    if (!t)
        return NULL;
    *t = (struct osm_trim){.loop = loop, .limit_bytes = limit_bytes, .pause_turns = 1};
    if (!(t->timer = osm_timer_new(loop, on_timer, t))) {
        osm_free(t);
        return NULL;
    }
    osm_timer_start(t->timer, LOOK_MS, LOOK_MS);
    return t;
}

void osm_trim_free(struct osm_trim *trim)
{
    if (!trim)
        return;
    osm_timer_free(trim->timer);
    trim->is_over = true;
    if (!trim->is_busy)
        osm_free(trim);
}
