/* Who signs: the roots that are in use, and what the daemon itself presents. Thread: loop. */
#pragma once

#include "app/app.h"

/** Another state of the CA takes over, live: who is trusted, who signs, and with it all that is
 * signed. Takes @p next. Errors: those of osm_ca_may_follow; nothing has changed then. */
OSM_MUST_USE int osm_app_set_ca(struct osm_app *app, struct osm_ca *next, struct osm_err *err);
/** The same, once what the state before has asked of proxies is done. Nothing happens where it is
 * the state in use. Errors: also OSM_EBUSY not yet. */
OSM_MUST_USE int osm_app_take_ca(struct osm_app *app, struct osm_ca *next, struct osm_err *err);
/** The certificate of the ADS server, with the roots as they are. Errors: those of osm_ca_issue. */
OSM_MUST_USE int osm_app_issue_ads_leaf(struct osm_app *app, struct osm_err *err);
/** Now, and live; @p app: a struct osm_app. */
void osm_app_renew_ads_leaf(void *app);
/** The same once it is due: what app->ads_leaf_timer calls. */
void osm_app_look_at_ads_leaf(void *app);
