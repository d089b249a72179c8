/* What the debug endpoints say, and figures.c counts. */
#pragma once

#include "app/app.h"

/** {"enableRetryPolicy": bool}: the flags that the MeshConfig names; false also where a flag is
 * reported to have no effect. NULL: no memory. */
json_t *osm_app_feature_flags(const struct osm_app *app);
/** The names of the namespaces that are monitored, sorted. NULL: no memory. */
json_t *osm_app_namespaces(const struct osm_app *app);
/** How many pods should have a proxy connected and have none. */
size_t osm_app_missing(const struct osm_app *app);
