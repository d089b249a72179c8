#include "app/roots.h"

#include "app/leaves.h"
#include "base/clock.h"
#include "base/log.h"

enum { LOOK_S = 10 }; /* the clock may be set meanwhile */

static void look_at_ads_leaf_later(struct osm_app *app)
{
    int64_t due_s = osm_leaf_due_s(app->ads_leaf, osm_wall_s());
    due_s = due_s < 1 || due_s > LOOK_S ? LOOK_S : due_s;
    osm_timer_start(app->ads_leaf_timer, (uint64_t)due_s * 1000, 0);
}

int osm_app_issue_ads_leaf(struct osm_app *app, struct osm_err *err)
{
    struct osm_leaf *leaf;
    struct osm_leaf_request request = {.kind = OSM_LEAF_ADS,
                                       .validity_s = app->config.ads_cert_validity_s,
                                       .rsa_bits = app->settings.rsa_only ? OSM_RSA_BITS_MIN : 0};
    int rc = osm_ca_issue(app->ca, &request, &leaf, err);
    if (rc)
        return rc;
    osm_leaf_unref(app->ads_leaf);
    app->ads_leaf = leaf;
    app->ads_leaf_is_rsa = app->settings.rsa_only;
    look_at_ads_leaf_later(app);
    return 0;
}

void osm_app_renew_ads_leaf(void *ud)
{
    struct osm_app *app = ud;
    struct osm_err err = {0};
    if (osm_app_issue_ads_leaf(app, &err)) {
        osm_log(OSM_LOG_CA, OSM_LOG_ERROR, "ADS certificate not renewed, trying again",
                OSM_S("error", err.msg));
        look_at_ads_leaf_later(app);
        return;
    }
    osm_ads_set_tls(app->ads, osm_leaf_chain_pem(app->ads_leaf), osm_leaf_key_pem(app->ads_leaf),
                    osm_ca_roots_pem(app->ca));
}

void osm_app_look_at_ads_leaf(void *ud)
{
    struct osm_app *app = ud;
    if (osm_leaf_due_s(app->ads_leaf, osm_wall_s()))
        look_at_ads_leaf_later(app);
    else
        osm_app_renew_ads_leaf(app);
}

int osm_app_set_ca(struct osm_app *app, struct osm_ca *next, struct osm_err *err)
{
    struct osm_ca *before = app->ca;
    /* Without proxies there is nobody to be cut off: who has slept through a step follows too. */
    int rc = app->ads ? osm_ca_may_follow(before, next, err) : 0;
    if (!rc && app->ads) {
        app->ca = next;
        rc = osm_app_issue_ads_leaf(app, err);
    }
    if (rc) {
        app->ca = before;
        osm_ca_unref(next);
        return rc;
    }
    app->ca = next;
    if (app->webhook)
        osm_webhook_set_ca(app->webhook, next);
    if (app->ads) {
        osm_ads_set_tls(app->ads, osm_leaf_chain_pem(app->ads_leaf),
                        osm_leaf_key_pem(app->ads_leaf), osm_ca_roots_pem(app->ca));
        osm_leaves_set_ca(app->leaves, app->ca);
    }
    osm_log(OSM_LOG_CA, OSM_LOG_INFO, "roots taken over",
            OSM_S("signs", osm_ca_fingerprint(app->ca)),
            OSM_U("passive", osm_ca_passive_count(app->ca)));
    osm_ca_unref(before);
    if (app->reload)
        osm_reload_roots_changed(app->reload);
    return 0;
}

int osm_app_take_ca(struct osm_app *app, struct osm_ca *next, struct osm_err *err)
{
    bool is_same = osm_ca_same(app->ca, next);
    if (!is_same && app->ads &&
        (osm_reload_roots_due(app->reload) || !osm_ads_secrets_applied(app->ads))) {
        osm_ca_unref(next);
        return osm_fail(err, OSM_EBUSY, "%s",
                        app->snapshot ? "not every connected proxy has the roots and certificates "
                                        "of the step before: `osm wait --applied`, then again"
                                      : "no policies are in force yet, so nobody has been served "
                                        "the roots of today; `osm status` says why");
    }
    if (!is_same)
        return osm_app_set_ca(app, next, err);
    osm_ca_unref(next);
    return 0;
}
