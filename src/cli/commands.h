/* The commands of `osm`. Each returns the process's exit code: 0 done, 1 not (the reason is on
 * stderr), 2 wrong words. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct osm_cli {
    const char *socket_path;
    const char *output;     /* -o: "table", "yaml", "json"; NULL: the command's own default */
    const char *out_dir;    /* --out */
    const char *mount_path; /* --mount-path */
    const char *timeout;    /* --timeout 30s */
    bool applied, connected;
};

int osm_cli_status(const struct osm_cli *cli);
int osm_cli_wait(const struct osm_cli *cli);
int osm_cli_proxy_bootstrap(const struct osm_cli *cli, const char *pod);
/** @p type: CDS, EDS, LDS, RDS, SDS or NULL for all. */
int osm_cli_proxy_config(const struct osm_cli *cli, const char *pod, const char *type);
