/* The debug consoles that the flags ask for, beside the control socket: --debug-socket and
 * --debug-console. They know the same commands. */
#pragma once

#include "app/app.h"

/** Listens. Errors: those of osm_control_start and of the token's file. */
OSM_MUST_USE int osm_app_consoles_start(struct osm_app *app, struct osm_err *err);
void osm_app_consoles_stop(struct osm_app *app);
