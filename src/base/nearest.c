#include "base/nearest.h"

#include <string.h>

enum { WORD_MAX = 80 };

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

/* Letters to insert, remove or replace to get from a to b; long words are far from everything. */
static size_t distance(const char *a, const char *b)
{
    size_t la = strlen(a), lb = strlen(b), row[WORD_MAX + 1];
    if (la > WORD_MAX || lb > WORD_MAX)
        return WORD_MAX;
    for (size_t j = 0; j <= lb; j++)
        row[j] = j;
    for (size_t i = 1; i <= la; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= lb; j++) {
            size_t best = diagonal + (lower(a[i - 1]) != lower(b[j - 1]));
            diagonal = row[j];
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[lb];
}

struct osm_nearest osm_nearest_start(const char *word)
{
    size_t least = strlen(word) / 3 + 2;
    return (struct osm_nearest){word, NULL, least < WORD_MAX ? least : WORD_MAX};
}

void osm_nearest_consider(struct osm_nearest *search, const char *candidate)
{
    size_t d = distance(candidate, search->word);
    if (d < search->least) {
        search->least = d;
        search->best = candidate;
    }
}

const char *osm_nearest_of(const char *const *names, const char *word)
{
    struct osm_nearest search = osm_nearest_start(word);
    for (; *names; names++)
        osm_nearest_consider(&search, *names);
    return search.best;
}

const char *osm_nearest_in(const struct osm_map *names, const char *word)
{
    struct osm_nearest search = osm_nearest_start(word);
    osm_map_each (names, e)
        osm_nearest_consider(&search, e->key);
    return search.best;
}
