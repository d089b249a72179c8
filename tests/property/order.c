/* The order in which objects arrive does not matter, nor which of them arrive together: for a world
 * at some moment of a history, several orders and batchings, each against all at once. */
#include "property.h"

#include <inttypes.h>

enum { STEPS = 60, ORDERS = 4 };

/* The world after @p steps of a history, an operation for each object. */
static void make_world(uint64_t seed, struct ops *out)
{
    struct history h = history_new(seed);
    struct ops ops = {0};
    objects_anchor(out);
    for (unsigned i = 0; i < STEPS; i++)
        history_step(&h, &ops);
    osm_map_each (&h.present, e)
        ops_put(out, json_incref(e->value));
    ops_clear(&ops);
    history_clear(&h);
}

/* Shuffles and cuts into batches of up to @p most. */
static void shuffled(struct random *r, const struct ops *world, unsigned most, struct ops *out)
{
    ops_copy(out, world, 0, world->len);
    for (size_t i = out->len; i > 1; i--) {
        size_t k = pick(r, (unsigned)i);
        struct op op = out->list[i - 1];
        out->list[i - 1] = out->list[k];
        out->list[k] = op;
    }
    struct ops cut = {0};
    for (size_t i = 0; i < out->len;) {
        size_t n = 1 + pick(r, most);
        if (n > out->len - i)
            n = out->len - i;
        ops_copy(&cut, out, i, i + n);
        ops_add(&cut, OP_RUN);
        i += n;
    }
    ops_clear(out);
    *out = cut;
}

/* Fails if the world, arriving thus, ends as something else than all at once. A failing emitter
 * keeps nothing: no object is ever other than in the end. But an emitter may fail for what another
 * object brings, and then keeps what it said without it; replay knows. */
static bool differs_from_scratch(void *ud, const struct ops *ops, struct osm_buf *why)
{
    (void)ud;
    struct replay p;
    bool lived = true;
    replay_open(&p, BUNDLE_ONE);
    for (size_t i = 0; lived && i < ops->len; i++)
        lived = replay_apply(&p, &ops->list[i], why);
    bool fails = !lived || (p.snapshot && ops->len && ops->list[ops->len - 1].type == OP_RUN &&
                            !replay_equals_fresh(&p, why));
    replay_close(&p);
    return fails;
}

bool order_does_not_matter(const struct task *task)
{
    struct osm_buf why = OSM_BUF_INIT(TEXT_MAX);
    bool fine = true;
    uint64_t seed = task->seed + task->worker;
    unsigned done = 0, share = task->changes / task->workers;
    for (; fine && done < share; seed += task->workers) {
        struct ops world = {0};
        struct random r = random_of(~seed);
        make_world(seed, &world);
        for (int i = 0; fine && i < ORDERS; i++) {
            struct ops ops = {0};
            shuffled(&r, &world, i % 2 ? 12 : 1, &ops);
            done += (unsigned)(ops.len - world.len); /* runs */
            fine = !differs_from_scratch(NULL, &ops, &why);
            if (!fine) {
                (void)osm_buf_addf(task->report,
                                   "-- an order matters. Again: OSM_PROPERTY_SEED=%" PRIu64
                                   " OSM_PROPERTY_CHANGES=1 %s order_does_not_matter\n",
                                   seed, property_program);
                report_history(task->report, &ops, differs_from_scratch, NULL);
            }
            ops_clear(&ops);
        }
        ops_clear(&world);
    }
    osm_buf_clear(&why);
    return fine;
}
