/* What every source begins with: the functions behind source.h. */
#pragma once

#include "source/source.h"

struct osm_source {
    void (*stop)(struct osm_source *source);
    json_t *(*status)(const struct osm_source *source);
    void (*refresh)(struct osm_source *source);
    const char *(*failure)(const struct osm_source *source);
};
