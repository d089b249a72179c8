/* The commands of `osm`. Each returns the process's exit code: 0 done, 1 not (the reason is on
 * stderr), 2 wrong words; osm_cli_policy has one more. */
#pragma once

#include "base/options.h"

#include <stdbool.h>
#include <stddef.h>

struct osm_cli {
    const char *socket_path;
    const char *output;     /* -o: "table", "yaml", "json"; NULL: the command's own default */
    const char *out_dir;    /* --out */
    const char *mount_path; /* --mount-path */
    const char *timeout;    /* --timeout 30s */
    bool applied, connected, force;
    const char *canary, *soak;                       /* --canary 5%, --soak 30s */
    const char *objects_dir;                         /* --objects */
    const char *policies[OSM_OPTION_VALUES_MAX + 1]; /* --policies, NULL-terminated */
    const char *files[OSM_OPTION_VALUES_MAX + 1];    /* -f, NULL-terminated */
    const char *deletes[OSM_OPTION_VALUES_MAX + 1];  /* --delete, NULL-terminated */
    const char *headers[OSM_OPTION_VALUES_MAX + 1];  /* --header, NULL-terminated */
    const char *method, *path, *port;                /* --method, --path, --port */
    const char *filter;                              /* -k */
    const char *console, *token_file;                /* --console HOST:PORT, --token-file */
    bool fresh;                                      /* --fresh */
    bool json;                                       /* --json */
    const char *seconds, *top;                       /* --seconds 10, --top 20 */
    const char *mesh_name, *osm_namespace;           /* NULL: the daemon's defaults */
};

/* Of `osm policy check` and the diffs, for CI. */
enum osm_exit {
    OSM_EXIT_FINE = 0,
    OSM_EXIT_POLICIES = 1, /* they do not load, or a rule or an emitter is in error */
    OSM_EXIT_USAGE = 2,    /* wrong words, or a directory that cannot be read */
    OSM_EXIT_REJECTED = 3, /* the policies are fine; objects, or files of them, were rejected */
    OSM_EXIT_DIFFERS = 3,  /* of a diff: something would change, and no rule is newly in error */
    OSM_EXIT_DENIED = 3,   /* of why-not: not all that it may get to let it in */
};

/** "30s", "500ms", "2m", "1h30m" in milliseconds; 0: another text, or more than an hour. */
int osm_cli_duration_ms(const char *text);
int osm_cli_ca_reload(const struct osm_cli *cli);
int osm_cli_status(const struct osm_cli *cli);
int osm_cli_wait(const struct osm_cli *cli);
int osm_cli_proxy_bootstrap(const struct osm_cli *cli, const char *pod);
/** @p type: CDS, EDS, LDS, RDS, SDS or NULL for all. */
int osm_cli_proxy_config(const struct osm_cli *cli, const char *pod, const char *type);
/** How programs talk to a console. */
int osm_cli_debug_help(void);
/** @p words: one command; none: a session on standard input. */
int osm_cli_debug(const struct osm_cli *cli, const char *const *words, size_t n);
int osm_cli_policy_list(const struct osm_cli *cli);
int osm_cli_policy_reload(const struct osm_cli *cli);
/** @p dirs: @p n of them. */
int osm_cli_policy_apply(const struct osm_cli *cli, const char *const *dirs, size_t n);
/** Other policies instead of those of the daemon: @p dirs, NULL-terminated. */
int osm_cli_policy_diff(const struct osm_cli *cli, const char *const *dirs);
/** Other objects (-f, --delete), other policies (--policies), or both. */
int osm_cli_diff(const struct osm_cli *cli);
/** @p digest: NULL for whichever is held. */
int osm_cli_policy_activate(const struct osm_cli *cli, const char *digest);
/** @p reason: NULL for none. */
int osm_cli_policy_rollback(const struct osm_cli *cli, const char *reason);
/** @p element: part of the name of a virtual host or filter chain, NULL for all. */
int osm_cli_policy_why(const struct osm_cli *cli, const char *pod, const char *resource,
                       const char *element);
/** @p caller: "namespace/pod" or "namespace/account"; @p service: "name.namespace" or
 * "namespace/name". */
int osm_cli_policy_why_not(const struct osm_cli *cli, const char *caller, const char *service);
/** What the daemon's policies cost. */
int osm_cli_policy_profile(const struct osm_cli *cli);
/** `osm policy ...` of those for authors; @p words are those behind "policy". Needs no daemon. -1:
 * no such command. */
int osm_cli_policy(const struct osm_cli *cli, const char **words, size_t n);
