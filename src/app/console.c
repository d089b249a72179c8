#include "app/console.h"

#include <string.h>

enum { SESSIONS_MAX = 4, PAGE_BYTES = 1024 * 1024 };

static struct osm_control_config config_of(const struct osm_app *app)
{
    return (struct osm_control_config){
        .loop = app->loop,
        .registry = app->commands,
        .role = (enum osm_role)osm_role_parse(app->config.debug_role),
        .sessions_max = SESSIONS_MAX,
        .page_bytes = PAGE_BYTES,
    };
}

static int start_socket(struct osm_app *app, struct osm_err *err)
{
    struct osm_control_config config = config_of(app);
    config.path = app->config.debug_socket;
    config.private_dir = true;
    int rc = osm_control_start(&app->debug_socket, &config, err);
    osm_err_prepend(err, "--debug-socket: ");
    return rc;
}

static int start_tcp(struct osm_app *app, struct osm_err *err)
{
    struct osm_control_config config = config_of(app);
    char *token = NULL;
    int rc = osm_control_read_token(&token, app->config.debug_token_file, err);
    if (rc) {
        osm_err_prepend(err, "--debug-token-file: ");
        return rc;
    }
    config.address = app->config.debug_console;
    config.token = token;
    rc = osm_control_start(&app->debug_console, &config, err);
    osm_err_prepend(err, "--debug-console: ");
    osm_free_secret(token, strlen(token));
    return rc;
}

int osm_app_consoles_start(struct osm_app *app, struct osm_err *err)
{
    int rc = app->config.debug_socket ? start_socket(app, err) : 0;
    if (!rc && app->config.debug_console)
        rc = start_tcp(app, err);
    return rc;
}

void osm_app_consoles_stop(struct osm_app *app)
{
    osm_control_stop(osm_take_ptr(&app->debug_socket));
    osm_control_stop(osm_take_ptr(&app->debug_console));
}
