#include "app/policy_commands.h"

static bool is_ready(const struct osm_app *app, struct osm_control_request *request)
{
    struct osm_err err = {0};
    if (app->reload && app->synced)
        return true;
    (void)osm_fail(&err, OSM_EBUSY, "the daemon is starting: its source has not been read yet");
    osm_control_fail(request, &err);
    return false;
}

static void outcome_known(void *ud, const json_t *outcome)
{
    osm_control_reply(ud, json_deep_copy(outcome));
}

void osm_policy_reload_command(void *ud, struct osm_control_request *request, const json_t *args)
{
    struct osm_app *app = ud;
    if (is_ready(app, request))
        osm_reload_now(app->reload, json_is_true(json_object_get(args, "force")), outcome_known,
                       request);
}

/* The generations as they are after a command, or its error. */
static void answer(struct osm_app *app, struct osm_control_request *request, int rc,
                   struct osm_err *err)
{
    json_t *status = rc ? NULL : osm_reload_status(app->reload);
    if (!rc && !status)
        (void)osm_fail(err, OSM_ENOMEM, "out of memory");
    if (status)
        osm_control_reply(request, status);
    else
        osm_control_fail(request, err);
}

void osm_policy_activate_command(void *ud, struct osm_control_request *request, const json_t *args)
{
    struct osm_app *app = ud;
    struct osm_err err = {0};
    const char *digest = json_string_value(json_object_get(args, "digest"));
    if (is_ready(app, request))
        answer(app, request, osm_reload_activate(app->reload, digest, &err), &err);
}

void osm_policy_rollback_command(void *ud, struct osm_control_request *request, const json_t *args)
{
    struct osm_app *app = ud;
    struct osm_err err = {0};
    const char *reason = json_string_value(json_object_get(args, "reason"));
    if (is_ready(app, request))
        answer(app, request,
               osm_reload_roll_back(app->reload, reason ? reason : "by command", &err), &err);
}

void osm_policy_list_command(void *ud, struct osm_control_request *request, const json_t *args)
{
    struct osm_app *app = ud;
    struct osm_err err = {0};
    (void)args;
    if (is_ready(app, request))
        answer(app, request, 0, &err);
}
