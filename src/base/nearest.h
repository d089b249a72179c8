/* "did you mean ...?": the known name that is closest to a mistyped one. */
#pragma once

#include "base/map.h"

struct osm_nearest {
    const char *word;
    const char *best; /* NULL: nothing is close yet. Borrowed from the candidates. */
    size_t least;     /* only candidates below this distance count */
};

/** A search: start it, show it every candidate, read `best`. A third of the letters, and one more,
 * may differ; whether they are capitals does not count. */
struct osm_nearest osm_nearest_start(const char *word);
void osm_nearest_consider(struct osm_nearest *search, const char *candidate);

/** Among @p names, ended by NULL. */
const char *osm_nearest_of(const char *const *names, const char *word);
/** Among the keys of a map. */
const char *osm_nearest_in(const struct osm_map *names, const char *word);
