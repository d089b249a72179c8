#include "policy/nearest.h"

#include <string.h>

enum { NAME_MAX = 64 };

/* Letters to insert, remove or replace to get from a to b. */
static size_t distance(const char *a, const char *b)
{
    size_t la = strlen(a), lb = strlen(b), row[NAME_MAX + 1];
    if (la > NAME_MAX || lb > NAME_MAX)
        return NAME_MAX;
    for (size_t j = 0; j <= lb; j++)
        row[j] = j;
    for (size_t i = 1; i <= la; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= lb; j++) {
            size_t best = diagonal + (a[i - 1] != b[j - 1]);
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            diagonal = row[j];
            row[j] = best;
        }
    }
    return row[lb];
}

static void consider(const char *candidate, const char *name, const char **best, size_t *least)
{
    size_t d = distance(candidate, name);
    if (d < *least) {
        *least = d;
        *best = candidate;
    }
}

const char *osm_nearest(const char *const *names, const char *name)
{
    const char *best = NULL;
    size_t least = strlen(name) / 3 + 2;
    for (; *names; names++)
        consider(*names, name, &best, &least);
    return best;
}

const char *osm_nearest_in(const struct osm_map *names, const char *name)
{
    const char *best = NULL;
    size_t least = strlen(name) / 3 + 2;
    osm_map_each (names, e)
        consider(e->key, name, &best, &least);
    return best;
}
