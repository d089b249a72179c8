/* osm-healthcheck: answers the probes of one pod that were tcpSocket ones. */
#include "base/file.h"
#include "base/log.h"
#include "base/options.h"
#include "healthcheck/healthcheck.h"

#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>

enum { CONNECTIONS = 1024 }; /* some for each port that may take none */

struct config {
    const char *listen, *host, *verbosity;
    bool help, version;
};

struct program {
    struct osm_healthcheck check;
    struct osm_http *http;
    bool stopping;
};

static void stopped(void *ud)
{
    osm_loop_stop(ud);
}

static void terminate(void *ud)
{
    struct program *p = ud;
    if (p->stopping)
        return;
    p->stopping = true;
    osm_http_stop(osm_take_ptr(&p->http), stopped, p->check.loop);
    osm_healthcheck_stop(&p->check);
}

static int start(struct program *p, const struct config *config, struct osm_err *err)
{
    struct osm_http_listener *listener = NULL;
    const struct osm_http_listen listen = {.address = config->listen,
                                           .flag = "--listen",
                                           .routes = osm_healthcheck_routes,
                                           .ud = &p->check,
                                           .limits = {.connections = CONNECTIONS}};
    p->check.host = config->host;
    int rc = osm_loop_new(&p->check.loop, err);
    if (!rc)
        rc = osm_http_new(&p->http, p->check.loop, err);
    if (!rc)
        rc = osm_http_listen(&listener, p->http, &listen, err);
    if (!rc)
        rc = osm_loop_on_terminate(p->check.loop, terminate, p);
    if (!rc)
        osm_log(OSM_LOG_HTTP, OSM_LOG_INFO, "listening",
                OSM_S("address", osm_http_address(listener)));
    return rc;
}

static int run(const struct config *config)
{
    struct program p = {0};
    struct osm_err err = {0};
    int rc = start(&p, config, &err);
    if (rc)
        (void)fprintf(stderr, "osm-healthcheck: %s\n", err.msg);
    if (rc && p.http)
        terminate(&p);
    int open_handles = !rc || p.stopping ? osm_loop_run(p.check.loop) : 0;
    osm_loop_free(p.check.loop);
    return rc || open_handles ? 1 : 0;
}

int main(int argc, char **argv)
{
    struct config config = {.listen = "0.0.0.0:15904", .host = "127.0.0.1", .verbosity = "info"};
    const struct osm_option options[] = {
        {"listen", 0, "ADDRESS:PORT", "where kubelets ask (default 0.0.0.0:15904)", &config.listen,
         NULL, false},
        {"host", 0, "ADDRESS", "IPv4 address that is connected to (default 127.0.0.1)",
         &config.host, NULL, false},
        {"verbosity", 'v', "LEVEL",
         "trace, debug, info, warn, error, fatal or disabled (default info)", &config.verbosity,
         NULL, false},
        {"help", 'h', NULL, "this", NULL, &config.help, false},
        {"version", 0, NULL, "its version", NULL, &config.version, false},
        {0},
    };
    struct osm_err err = {0};
    const char **words = NULL;
    size_t words_len = 0;
    int rc = osm_options_parse(options, argc, argv, &words, &words_len, &err);
    osm_free(words);
    if (!rc && words_len)
        rc = osm_fail(&err, OSM_EINVAL, "takes flags alone");
    if (!rc && osm_log_level_parse(config.verbosity) < 0)
        rc = osm_fail(&err, OSM_EINVAL, "--verbosity: there is no level \"%s\"", config.verbosity);
    struct in_addr parsed;
    if (!rc && inet_pton(AF_INET, config.host, &parsed) != 1)
        rc = osm_fail(&err, OSM_EINVAL, "--host: \"%s\" is no IPv4 address", config.host);
    if (rc) {
        (void)fprintf(stderr, "osm-healthcheck: %s\n", err.msg);
        return 2;
    }
    if (config.help || config.version) {
        (void)printf("osm-healthcheck %s\n", OSM_VERSION);
        if (config.help)
            osm_options_help(options, stdout);
        return 0;
    }
    (void)signal(SIGPIPE, SIG_IGN);
    osm_files_allow();
    json_set_alloc_funcs(osm_alloc, osm_free);
    osm_log_set_level(OSM_LOG_TOPIC_COUNT,
                      (enum osm_log_level)osm_log_level_parse(config.verbosity));
    return run(&config);
}
