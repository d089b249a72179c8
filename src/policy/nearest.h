/* "do you mean ...?": the known name that is closest to a mistyped one. */
#pragma once

#include "base/map.h"

/** NULL where nothing is close (a third of the letters may differ). Borrowed. */
const char *osm_nearest(const char *const *names, const char *name);
const char *osm_nearest_in(const struct osm_map *names, const char *name);
