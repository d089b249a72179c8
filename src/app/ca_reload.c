#include "app/ca_reload.h"

enum { RELOAD_MAX_MS = 30 * 1000 };

/* Reading waits for a lock, so it is done on the pool. */
struct reload {
    struct osm_app *app;
    struct osm_control_request *request;
    struct osm_ca *ca;
    struct osm_err err;
};

json_t *osm_ca_status(const struct osm_ca *ca)
{
    json_t *passive = json_array();
    for (size_t i = 0; i < osm_ca_passive_count(ca); i++)
        (void)json_array_append_new(
            passive, json_pack("{s:s, s:I}", "fingerprint", osm_ca_passive_fingerprint(ca, i),
                               "not_after", (json_int_t)osm_ca_passive_not_after(ca, i)));
    return json_pack("{s:s, s:I, s:o}", "fingerprint", osm_ca_fingerprint(ca), "not_after",
                     (json_int_t)osm_ca_not_after(ca), "passive", passive);
}

static void read_directory(void *ud)
{
    struct reload *r = ud;
    const struct osm_app_config *config = &r->app->config;
    struct osm_ca_config where = {config->state_dir, config->trust_domain};
    if (osm_ca_open(&r->ca, &where, &r->err))
        r->ca = NULL;
}

static void take_over(void *ud)
{
    struct reload *r = ud;
    struct osm_app *app = r->app;
    int rc = r->ca ? 0 : r->err.code;
    app->reloading_ca = false;
    if (!rc && app->stopping) {
        osm_ca_unref(r->ca);
        rc = osm_fail(&r->err, OSM_EBUSY, "the daemon is stopping");
    } else if (!rc && !osm_ca_same(app->ca, r->ca) &&
               (osm_reload_roots_due(app->reload) || !osm_ads_secrets_applied(app->ads))) {
        osm_ca_unref(r->ca);
        rc =
            osm_fail(&r->err, OSM_EBUSY,
                     "not every connected proxy has the roots and certificates of the step before: "
                     "`osm wait --applied`, then again");
    } else if (!rc) {
        rc = osm_app_set_ca(app, r->ca, &r->err);
    }
    if (rc)
        osm_control_fail(r->request, &r->err);
    else
        osm_control_reply(r->request, osm_ca_status(app->ca));
    osm_free(r);
}

static void reload_roots(void *ud, struct osm_control_request *request, const json_t *args)
{
    struct osm_app *app = ud;
    struct osm_err err = {0};
    struct reload *r = NULL;
    (void)args;
    if (!app->ads || app->stopping)
        (void)osm_fail(&err, OSM_EBUSY, "the daemon is starting or stopping");
    else if (app->reloading_ca)
        (void)osm_fail(&err, OSM_EBUSY, "the roots are being read already");
    else if (!(r = osm_alloc(sizeof *r)))
        (void)osm_fail(&err, OSM_ENOMEM, "reload");
    if (r) {
        *r = (struct reload){.app = app, .request = request};
        if (osm_loop_work(app->loop, read_directory, take_over, r))
            (void)osm_fail(&err, OSM_ENOMEM, "reload");
    }
    if (err.code) {
        osm_free(r);
        osm_control_fail(request, &err);
        return;
    }
    app->reloading_ca = true;
}

const struct osm_control_command osm_ca_commands[] = {
    {.name = "ca.reload",
     .handler = reload_roots,
     .role = OSM_ROLE_OPERATE,
     .deadline_ms = RELOAD_MAX_MS,
     .help = "takes over the roots that are in the state directory now"},
    {.name = NULL},
};
