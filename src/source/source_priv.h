/* What every source begins with: the functions behind source.h. */
#pragma once

#include "source/source.h"

struct osm_source {
    void (*stop)(struct osm_source *source);
    json_t *(*status)(const struct osm_source *source);
    void (*refresh)(struct osm_source *source, osm_source_refreshed_fn *done, void *ud);
    void (*forget)(struct osm_source *source, void *ud);          /* NULL: nobody waits */
    bool (*want)(struct osm_source *source, const json_t *kinds); /* NULL: it tells of all */
    const char *(*failure)(const struct osm_source *source);
    struct osm_outside *(*outside)(const struct osm_source *source); /* NULL: it tells of all */
};
