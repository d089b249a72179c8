/* After each of many random changes, what an engine says that has seen them all is what a fresh one
 * says of the outcome. Each walk begins with an empty mesh and a seed of its own. */
#include "property.h"

#include <inttypes.h>
#include <string.h>

enum { WALK = 250 /* runs */ };

struct seen {
    unsigned runs, rejects, errors, kept, proxies, resources;
};

/* Fails if it does after the last operation. */
static bool fails_at_the_end(void *ud, const struct ops *ops, struct osm_buf *why)
{
    struct replay p;
    bool lived = true;
    replay_open(&p, BUNDLE_ONE);
    p.forgets = ud;
    for (size_t i = 0; lived && i < ops->len; i++)
        lived = replay_apply(&p, &ops->list[i], why);
    /* Without a last run there is nothing to compare. */
    bool compares = ops->len && ops->list[ops->len - 1].type == OP_RUN;
    bool fails = !lived || (compares && !replay_equals_fresh(&p, why));
    replay_close(&p);
    return fails;
}

static void look(const struct replay *p, struct seen *seen)
{
    seen->runs++;
    seen->rejects += json_array_size(p->snapshot->rejects) > 0;
    seen->errors += json_array_size(p->snapshot->errors) > 0;
    seen->kept += p->kept.count > 0;
    seen->proxies += p->snapshot->proxies_len > 2;
}

/* One walk of @p runs. False: it failed, and the report says how. */
static bool walk(uint64_t seed, unsigned runs, struct seen *seen, struct osm_buf *report)
{
    struct history h = history_new(seed);
    struct ops ops = {0};
    struct replay p;
    struct osm_buf why = OSM_BUF_INIT(TEXT_MAX);
    bool fine = true;
    unsigned n = 0;
    replay_open(&p, BUNDLE_ONE);
    objects_anchor(&ops);
    for (size_t done = 0; fine && n < runs; n++) {
        history_step(&h, &ops);
        for (; fine && done < ops.len; done++)
            fine = replay_apply(&p, &ops.list[done], &why);
        fine = fine && replay_equals_fresh(&p, &why);
        if (fine)
            look(&p, seen);
    }
    replay_close(&p);
    history_clear(&h);
    osm_buf_clear(&why);
    if (!fine) {
        (void)osm_buf_addf(
            report,
            "-- incremental and from scratch differ. Again: OSM_PROPERTY_SEED=%" PRIu64
            " OSM_PROPERTY_CHANGES=%u %s incremental_equals_scratch\n",
            seed, n, property_program);
        report_history(report, &ops, fails_at_the_end, NULL);
    }
    ops_clear(&ops);
    return fine;
}

bool incremental_equals_scratch(const struct task *task)
{
    struct seen seen = {0};
    bool fine = true;
    for (unsigned i = 0; fine && i * WALK < task->changes; i++) {
        unsigned left = task->changes - i * WALK;
        if (i % task->workers == task->worker)
            fine = walk(task->seed + i, left < WALK ? left : WALK, &seen, task->report);
    }
    /* Any other seed may draw a poor walk by chance; the one that is always run may not. */
    if (fine && task->seed == SEED_DEFAULT && seen.runs >= WALK &&
        (seen.rejects * 4 < seen.runs || seen.errors * 8 < seen.runs ||
         seen.kept * 50 < seen.runs || seen.proxies * 3 < seen.runs)) {
        (void)osm_buf_addf(task->report,
                           "-- the walk went nowhere: of %u runs %u had rejects, %u errors, %u "
                           "something kept, %u proxies\n",
                           seen.runs, seen.rejects, seen.errors, seen.kept, seen.proxies);
        fine = false;
    }
    return fine;
}

/* --- the test can fail ---
 *
 * An engine that is not told when a TrafficSplit goes: that must be found, and what is left of the
 * history is a namespace, a split, its end, and the runs between. */
bool a_lost_change_is_found_and_shrunk(const struct task *task)
{
    static char forgotten[] = "TrafficSplit";
    struct history h = history_new(task->seed);
    struct ops ops = {0};
    struct replay p;
    struct osm_buf why = OSM_BUF_INIT(TEXT_MAX);
    bool equal = true;
    if (task->worker)
        return true;
    replay_open(&p, BUNDLE_ONE);
    p.forgets = forgotten;
    objects_anchor(&ops);
    size_t done = 0;
    for (unsigned n = 0; equal && n < 4 * WALK; n++) {
        history_step(&h, &ops);
        for (; equal && done < ops.len; done++)
            equal = replay_apply(&p, &ops.list[done], &why);
        equal = equal && replay_equals_fresh(&p, &why);
    }
    replay_close(&p);
    history_clear(&h);
    osm_buf_clear(&why);
    size_t before = ops.len, parts = 0, splits = 0, puts = 0, deletions = 0;
    if (!equal)
        shrink(&ops, fails_at_the_end, forgotten);
    for (size_t i = 0; i < ops.len; i++) {
        const struct op *op = &ops.list[i];
        const char *kind = osm_json_str_at(op->body, "kind", NULL);
        if (op->type == OP_PUT && !op->pinned) {
            puts++;
            parts += mutate_spots(op->body);
            splits += kind && !strcmp(kind, forgotten);
        }
        deletions += op->type == OP_DELETE;
    }
    /* Two of the anchor, namespace and split, its end, two runs: apiVersion, kind, metadata with
     * name, label or namespace, and of the spec what makes it be reported. */
    bool fine = !equal && splits == 1 && puts <= 2 && deletions == 1 && ops.len <= 7 && parts <= 20;
    if (!fine) {
        (void)osm_buf_addf(
            task->report,
            "-- %s; %zu operations became %zu, of which %zu put %zu parts of objects\n",
            equal ? "not found" : "found", before, ops.len, puts, parts);
        ops_print(&ops, task->report);
        (void)fails_at_the_end(forgotten, &ops, task->report);
    }
    ops_clear(&ops);
    return fine;
}
