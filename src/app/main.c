/* osm-controller: parses flags, runs the daemon. */
#include "app/app.h"

#include "base/file.h"
#include "base/log.h"

#include <signal.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    struct osm_app_config config;
    struct osm_err err = {0};
    if (osm_app_config_parse(&config, argc, argv, &err)) {
        (void)fprintf(stderr, "osm-controller: %s\n", err.msg);
        return 2;
    }
    if (config.help) {
        osm_app_config_help();
        return 0;
    }
    if (config.version) {
        (void)printf("osm-controller %s\n", OSM_VERSION);
        return 0;
    }
    (void)signal(SIGPIPE, SIG_IGN);
    osm_files_allow();
    json_set_alloc_funcs(osm_alloc, osm_free);
    osm_log_set_level(OSM_LOG_TOPIC_COUNT,
                      (enum osm_log_level)osm_log_level_parse(config.verbosity));
    return osm_app_run(&config);
}
