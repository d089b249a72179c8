/* Which resource of a refused response is to blame.
 *
 * A client that refuses a response says why in words, for people. So what it refused is sent again
 * in halves, each in a response of its own, until one that is refused holds a single resource. That
 * takes twice the logarithm of their number in messages where one of them is bad, not their number.
 * What was found stays in a group of its own: when it is sent again, because the content of its
 * type has changed, it does not spoil the response that holds the rest. Where each half is accepted
 * nobody was to blame.
 *
 * The state of the world has no way to send less than everything: there all of a response is
 * suspected. */
#include "xds/stream_priv.h"

static bool suspected(const struct osm__entry *e, uint64_t seq)
{
    return e->state == OSM__UNKNOWN && e->seq == seq;
}

void osm__suspects_refused(struct osm__type *t, const struct osm__sent *sent)
{
    size_t count = 0, at = 0;
    for (size_t i = 0; i < t->len; i++)
        count += suspected(&t->entries[i], sent->seq);
    if (count > 1 && sent->epoch != t->epoch)
        return; /* the newer content may be better: as it was */
    uint32_t first = ++t->groups, second = ++t->groups;
    for (size_t i = 0; i < t->len; i++)
        if (suspected(&t->entries[i], sent->seq)) {
            t->entries[i].group = at++ < (count + 1) / 2 ? first : second;
            /* The others of its response may be forgotten by now, or have been sent again. */
            t->entries[i].held = t->entries[i].held && sent->alone;
        }
}

void osm__suspects_accepted(struct osm__type *t, uint64_t seq)
{
    for (size_t i = 0; i < t->len; i++)
        if (t->entries[i].seq == seq)
            t->entries[i].group = 0;
}
