/* The least history that still fails. First operations go, in ever smaller runs of them (delta
 * debugging: an operation means the same without the others), then parts of the objects that are
 * left. Every candidate is judged by living through it again. */
#include "property.h"

enum { TRIES = 4000 };

struct shrinking {
    fails_fn *fails;
    void *ud;
    unsigned tries;
};

static bool still_fails(struct shrinking *s, const struct ops *candidate)
{
    struct osm_buf why = OSM_BUF_INIT(TEXT_MAX);
    bool fails = s->tries++ < TRIES && s->fails(s->ud, candidate, &why);
    osm_buf_clear(&why);
    return fails;
}

static bool try_without(struct shrinking *s, struct ops *ops, size_t at, size_t n)
{
    struct ops candidate = {0};
    size_t end = at + n < ops->len ? at + n : ops->len;
    ops_copy(&candidate, ops, 0, at);
    for (size_t i = at; i < end; i++)
        if (ops->list[i].pinned)
            ops_copy(&candidate, ops, i, i + 1);
    ops_copy(&candidate, ops, end, ops->len);
    bool fails = candidate.len < ops->len && still_fails(s, &candidate);
    if (fails) {
        struct ops old = *ops;
        *ops = candidate;
        candidate = old;
    }
    ops_clear(&candidate);
    return fails;
}

/* True: something went. From the end: what came late is most likely what matters least... except
 * the last run, which is tried like all else and stays. */
static bool drop_operations(struct shrinking *s, struct ops *ops)
{
    bool any = false;
    for (size_t n = ops->len / 2 ? ops->len / 2 : 1; n; n /= 2)
        for (size_t at = ops->len; at > 0 && s->tries < TRIES;) {
            at = at > n ? at - n : 0;
            any |= try_without(s, ops, at, n);
        }
    return any;
}

/* The body without its @p spot-th part: false, there is none that can go. */
static bool try_without_part(struct shrinking *s, struct ops *ops, size_t i, size_t spot)
{
    struct mutation m;
    json_t *whole = ops->list[i].body;
    ops->list[i].body = mutate(whole, spot, 0, NULL, &m);
    bool fails = ops->list[i].body && still_fails(s, ops);
    if (fails) {
        json_decref(whole);
    } else {
        json_decref(ops->list[i].body);
        ops->list[i].body = whole;
    }
    return fails;
}

static bool drop_parts(struct shrinking *s, struct ops *ops)
{
    bool any = false;
    for (size_t i = 0; i < ops->len; i++) {
        if (ops->list[i].type != OP_PUT || ops->list[i].pinned)
            continue;
        for (size_t spot = 0; spot < mutate_spots(ops->list[i].body) && s->tries < TRIES;)
            if (try_without_part(s, ops, i, spot))
                any = true; /* the next part is at this place now */
            else
                spot++;
    }
    return any;
}

void shrink(struct ops *ops, fails_fn *fails, void *ud)
{
    struct shrinking s = {fails, ud, 0};
    bool any = true;
    while (any && s.tries < TRIES) {
        any = drop_operations(&s, ops);
        any |= drop_parts(&s, ops);
    }
}

void report_history(struct osm_buf *out, struct ops *ops, fails_fn *fails, void *ud)
{
    struct osm_buf why = OSM_BUF_INIT(TEXT_MAX);
    size_t before = ops->len;
    if (!fails(ud, ops, &why)) {
        (void)osm_buf_add_str(out, "-- it does not fail again when it is replayed\n");
    } else {
        shrink(ops, fails, ud);
        osm_buf_reset(&why);
        (void)fails(ud, ops, &why);
    }
    (void)osm_buf_addf(out, "-- shrunk from %zu to %zu operations:\n", before, ops->len);
    ops_print(ops, out);
    (void)osm_buf_addf(out, "-- what is wrong then:\n%s", why.data ? why.data : "");
    osm_buf_clear(&why);
}
