/* The role "injector" in this daemon. Thread: loop. */
#pragma once

#include "app/app.h"

/** Once the roots are known. Does nothing where that is not this daemon's role. Errors: those of
 * osm_webhook_start. */
OSM_MUST_USE int osm_app_injector_start(struct osm_app *app, struct osm_err *err);
