/* osm: the command of operators. Talks to the daemon over its control socket. */
#include "base/nearest.h"
#include "base/options.h"
#include "cli/commands.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char USAGE[] =
    "osm: operate an Open Service Mesh (" OSM_VERSION ")\n\n"
    "  osm status                                proxies, what they have applied, what was "
    "rejected\n"
    "  osm wait --applied [--connected]          until every connected proxy has applied what is "
    "in the source\n"
    "  osm proxy bootstrap NAMESPACE/POD --out DIR\n"
    "                                            the files a sidecar starts from, with a "
    "certificate of its own\n"
    "  osm proxy get config NAMESPACE/POD [CDS|EDS|LDS|RDS|SDS]\n"
    "                                            what the pod's proxy is served, as Envoy YAML\n"
    "  osm version\n\n";

/* The command whose words these are, run; 2 where there is none. */
static int run(const struct osm_cli *cli, const char **words, size_t n)
{
    static const char *const names[] = {"status", "wait", "proxy", "version", NULL};
    if (n == 1 && !strcmp(words[0], "status"))
        return osm_cli_status(cli);
    if (n == 1 && !strcmp(words[0], "wait"))
        return osm_cli_wait(cli);
    if (n == 1 && !strcmp(words[0], "version")) {
        (void)printf("osm %s\n", OSM_VERSION);
        return 0;
    }
    if (n == 3 && !strcmp(words[0], "proxy") && !strcmp(words[1], "bootstrap"))
        return osm_cli_proxy_bootstrap(cli, words[2]);
    if ((n == 4 || n == 5) && !strcmp(words[0], "proxy") && !strcmp(words[1], "get") &&
        !strcmp(words[2], "config"))
        return osm_cli_proxy_config(cli, words[3], n == 5 ? words[4] : NULL);
    const char *near = n ? osm_nearest_of(names, words[0]) : NULL;
    if (n && near && strcmp(near, words[0]) != 0)
        (void)fprintf(stderr, "osm: unknown command %s; did you mean %s?\n", words[0], near);
    else
        (void)fprintf(stderr, "osm: %s\n\n%s",
                      n ? "these words make no command" : "a command is missing", USAGE);
    return 2;
}

int main(int argc, char **argv)
{
    struct osm_cli cli = {.socket_path = getenv("OSM_CONTROL_SOCKET")};
    bool help = false;
    const struct osm_option options[] = {
        {"socket", 0, "PATH",
         "the daemon's control socket (default $OSM_CONTROL_SOCKET, else /run/osm/control.sock)",
         &cli.socket_path, NULL, false},
        {"output", 'o', "FORMAT", "status: table or json; proxy get config: yaml or json",
         &cli.output, NULL, false},
        {"applied", 0, NULL, "wait: until the configuration is applied", NULL, &cli.applied, false},
        {"connected", 0, NULL, "wait: also until every pod with a sidecar has connected", NULL,
         &cli.connected, false},
        {"timeout", 0, "DURATION", "wait: give up after this time (default 30s)", &cli.timeout,
         NULL, false},
        {"out", 0, "DIR", "proxy bootstrap: where the files go; created 0700", &cli.out_dir, NULL,
         false},
        {"mount-path", 0, "PATH",
         "proxy bootstrap: where Envoy will find the files (default /etc/envoy)", &cli.mount_path,
         NULL, false},
        {"help", 'h', NULL, "print this and end", NULL, &help, false},
        {NULL, 0, NULL, NULL, NULL, NULL, false},
    };
    struct osm_err err = {0};
    const char **words = NULL;
    size_t n = 0;
    json_set_alloc_funcs(osm_alloc, osm_free);
    if (osm_options_parse(options, argc, argv, &words, &n, &err)) {
        (void)fprintf(stderr, "osm: %s\n", err.msg);
        return 2;
    }
    if (!cli.socket_path)
        cli.socket_path = "/run/osm/control.sock";
    int rc = 2;
    static const char *const formats[] = {"json", "yaml", "table"};
    bool known = !cli.output;
    for (size_t i = 0; i < 3; i++)
        known |= cli.output && !strcmp(cli.output, formats[i]);
    if (help) {
        (void)fputs(USAGE, stdout);
        osm_options_help(options, stdout);
        rc = 0;
    } else if (!known) {
        (void)fprintf(stderr, "osm: -o %s: expected table, yaml or json\n", cli.output);
    } else {
        rc = run(&cli, words, n);
    }
    osm_free(words);
    return rc;
}
