#include "app/ca_reload.h"

#include "app/ca_secret.h"
#include "app/roots.h"

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
    json_t *passive = ca ? json_array() : NULL;
    if (!ca)
        return json_object();
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

static void answer(struct reload *r)
{
    if (r->err.code)
        osm_control_fail(r->request, &r->err);
    else
        osm_control_reply(r->request, osm_ca_status(r->app->ca));
    osm_free(r);
}

static void take_over(void *ud)
{
    struct reload *r = ud;
    struct osm_app *app = r->app;
    app->reloading_ca = false;
    if (r->ca && app->stopping) {
        osm_ca_unref(r->ca);
        (void)osm_fail(&r->err, OSM_EBUSY, "the daemon is stopping");
    } else if (r->ca) {
        r->err.code = osm_app_take_ca(app, r->ca, &r->err);
    }
    answer(r);
}

static void secret_read(void *ud, const struct osm_err *err)
{
    struct reload *r = ud;
    r->app->reloading_ca = false;
    r->err = *err;
    answer(r);
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
    if (r)
        *r = (struct reload){.app = app, .request = request};
    int rc = err.code;
    if (r && app->ca_secret)
        rc = osm_ca_secret_ask(app->ca_secret, secret_read, r, &err);
    else if (r && osm_loop_work(app->loop, read_directory, take_over, r))
        rc = osm_fail(&err, OSM_ENOMEM, "reload");
    if (rc) {
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
     .help = "takes over the roots that are in the state directory, or in their Secret, now"},
    {.name = NULL},
};
