/* osm: the command of operators. Talks to the daemon over its control socket. */
#include "base/nearest.h"
#include "base/options.h"
#include "cli/commands.h"
#include "cli/print.h"
#include "cli/takes.h"

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
    "  osm policy init DIR [--force]             a folder of your own to begin with: a module, its "
    "spec, and what\n"
    "                                            an editor completes with. --force: also where "
    "something lies there\n"
    "  osm policy check DIR... [--objects DIR]   do these policies load, and what do they make of "
    "these "
    "objects?\n"
    "                                            exit code 0 fine; 1 the policies are wrong; 2 "
    "usage; 3 "
    "only objects\n"
    "                                            were rejected. -o json for machines\n"
    "  osm policy test DIR [--policies DIR]... [-k NAME]\n"
    "                                            runs DIR's *_spec.lua over --policies (default: "
    "the "
    "shipped ones)\n"
    "                                            with DIR on top; exit code 0 or 1. Needs "
    "lua-busted\n"
    "  osm policy annotations DIR... --out DIR   what editors complete and check with: open --out "
    "as "
    "the workspace\n"
    "  osm policy docs DIR...                    the page of all that a policy can ask and say, as "
    "Markdown\n";

/* The language bounds a text; this is its other half. */
static const char USAGE_2[] =
    "  osm policy why NAMESPACE/POD RESOURCE [FIELD|ELEMENT]\n"
    "                                            who said what the pod's proxy is served (a "
    "listener, "
    "a virtual\n"
    "                                            host in a route table, ...), and from which "
    "objects "
    "it follows\n"
    "  osm policy why-not CALLER SERVICE [--path /x] [--method GET] [--header NAME=VALUE]... "
    "[--port "
    "N]\n"
    "                                            may CALLER (NAMESPACE/POD or NAMESPACE/ACCOUNT) "
    "call SERVICE\n"
    "                                            (NAME.NAMESPACE), and if not, who denies it and "
    "what is nearest;\n"
    "                                            exit code 0 allowed; 1 error, or not known here; "
    "3 denied\n"
    "  osm policy diff DIR [DIR...]              what would change with DIR laid over the shipped "
    "policies, nothing live does;\n"
    "                                            exit code 0 nothing; 1 error, also of rules; 2 "
    "usage; 3 something\n"
    "  osm diff -f FILE|DIR|- [--delete KIND/NAMESPACE/NAME] [--policies DIR]...\n"
    "                                            the same of objects, applied as kubectl would, or "
    "of both; --policies: all the\n"
    "                                            daemon's directories\n"
    "  osm policy profile [--seconds N]          runs, answers from the memo, instructions and "
    "time of each rule, since\n"
    "                                            the daemon's policies took over; --seconds: of "
    "this time, with the lines\n"
    "  osm policy profile [DIR...] --objects DIR the same for one translation of these objects, "
    "without a daemon\n"
    "  osm policy list                           the generations of the daemon's policies, what is "
    "held and why\n"
    "  osm policy reload [--force]               takes over what is in their directories now; exit "
    "code 1:\n"
    "                                            rejected, held or quarantined (--force: all the "
    "same)\n"
    "  osm policy apply DIR... [--canary 5%|label=KEY=VALUE] [--soak 30s] [--force]\n"
    "                                            the same for DIR, laid over the shipped policies "
    "in place of\n"
    "                                            your own; a canary serves some proxies first, and "
    "one refusal\n"
    "                                            ends it\n"
    "  osm policy activate [DIGEST]              lets policies take over that are held, or a "
    "canary\n"
    "  osm policy rollback [REASON]              goes back to the generation before, and "
    "quarantines this one\n"
    "  osm ca reload                             takes over the roots that are in the state "
    "directory now\n"
    "  osm debug [COMMAND]                       a console: what is served and why, Lua on a copy "
    "of "
    "the mesh; `osm debug help`\n"
    "                                            lists the commands. On a pipe: no prompt, exit "
    "code "
    "1 where one failed\n"
    "  osm version\n\n"
    "Of several DIR the first holds the shipped policies (installed in share/osm/policies), the "
    "others lie over it.\npolicy init, check, test, annotations and docs need no daemon.\n\n";

/* The command whose words these are, run; 2 where there is none. */
static int run(const struct osm_cli *cli, const char **words, size_t n)
{
    static const char *const names[] = {"status", "wait",  "proxy",   "diff", "policy",
                                        "ca",     "debug", "version", NULL};
    if (n == 1 && !strcmp(words[0], "status"))
        return osm_cli_status(cli);
    if (n == 1 && !strcmp(words[0], "wait"))
        return osm_cli_wait(cli);
    if (n == 1 && !strcmp(words[0], "diff"))
        return osm_cli_diff(cli);
    if (n == 2 && !strcmp(words[0], "help") && !strcmp(words[1], "debug"))
        return osm_cli_debug_help();
    if (n && !strcmp(words[0], "debug"))
        return osm_cli_debug(cli, words + 1, n - 1);
    if (n == 1 && !strcmp(words[0], "version")) {
        (void)printf("osm %s\n", OSM_VERSION);
        return osm_print_end();
    }
    if (n == 3 && !strcmp(words[0], "proxy") && !strcmp(words[1], "bootstrap"))
        return osm_cli_proxy_bootstrap(cli, words[2]);
    if ((n == 4 || n == 5) && !strcmp(words[0], "proxy") && !strcmp(words[1], "get") &&
        !strcmp(words[2], "config"))
        return osm_cli_proxy_config(cli, words[3], n == 5 ? words[4] : NULL);
    if (n == 2 && !strcmp(words[0], "ca") && !strcmp(words[1], "reload"))
        return osm_cli_ca_reload(cli);
    if (n > 1 && !strcmp(words[0], "policy")) {
        if (n == 2 && !strcmp(words[1], "list"))
            return osm_cli_policy_list(cli);
        if (n == 2 && !strcmp(words[1], "reload"))
            return osm_cli_policy_reload(cli);
        if (n > 2 && !strcmp(words[1], "apply"))
            return osm_cli_policy_apply(cli, words + 2, n - 2);
        if (n <= 3 && !strcmp(words[1], "activate"))
            return osm_cli_policy_activate(cli, n == 3 ? words[2] : NULL);
        if ((n == 4 || n == 5) && !strcmp(words[1], "why"))
            return osm_cli_policy_why(cli, words[2], words[3], n == 5 ? words[4] : NULL);
        if (n == 4 && !strcmp(words[1], "why-not"))
            return osm_cli_policy_why_not(cli, words[2], words[3]);
        if (n > 2 && !strcmp(words[1], "diff"))
            return osm_cli_policy_diff(cli, words + 2);
        if (n == 2 && !strcmp(words[1], "profile") && !cli->objects_dir)
            return osm_cli_policy_profile(cli);
        if (n <= 3 && !strcmp(words[1], "rollback"))
            return osm_cli_policy_rollback(cli, n == 3 ? words[2] : NULL);
    }
    int rc = n > 1 && !strcmp(words[0], "policy") ? osm_cli_policy(cli, words + 1, n - 1) : -1;
    if (rc >= 0)
        return rc;
    const char *near = n ? osm_nearest_of(names, words[0]) : NULL;
    if (n && near && strcmp(near, words[0]) != 0)
        (void)fprintf(stderr, "osm: unknown command %s; did you mean %s?\n", words[0], near);
    else
        (void)fprintf(stderr, "osm: %s\n\n%s%s",
                      n ? "these words make no command" : "a command is missing", USAGE, USAGE_2);
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
        {"output", 'o', "FORMAT",
         "json, or what is printed without it: yaml of proxy get config, table of others",
         &cli.output, NULL, false},
        {"applied", 0, NULL, "wait: until the configuration is applied", NULL, &cli.applied, false},
        {"connected", 0, NULL, "wait: also until every pod with a sidecar has connected", NULL,
         &cli.connected, false},
        {"timeout", 0, "DURATION", "wait: give up after this time (default 30s)", &cli.timeout,
         NULL, false},
        {"force", 0, NULL,
         "policy reload: also what was rejected, quarantined or would be held; policy init: also "
         "where the folder is not empty",
         NULL, &cli.force, false},
        {"canary", 0, "WHOM",
         "policy apply: serve these first, 5% of the connected proxies or label=KEY=VALUE",
         &cli.canary, NULL, false},
        {"soak", 0, "DURATION", "policy apply: for this long (default 30s, at most 1h)", &cli.soak,
         NULL, false},
        {"out", 0, "DIR",
         "where the files go; proxy bootstrap: created 0700; policy annotations: the workspace",
         &cli.out_dir, NULL, false},
        {"filename", 'f', "FILE...",
         "diff: manifests; a file, a directory, - for standard input; may be given several times",
         cli.files, NULL, false},
        {"fresh", 0, NULL,
         "diff, policy diff: by an engine of its own, which evaluates the whole mesh, not by the "
         "one that is kept ready",
         NULL, &cli.fresh, false},
        {"delete", 0, "KIND/NAMESPACE/NAME...",
         "diff: an object that would be gone; may be given several times", cli.deletes, NULL,
         false},
        {"path", 0, "PATH", "policy why-not: of the request (default /)", &cli.path, NULL, false},
        {"method", 0, "METHOD", "policy why-not: of the request (default GET)", &cli.method, NULL,
         false},
        {"header", 0, "NAME=VALUE...", "policy why-not: of the request; may be given several times",
         cli.headers, NULL, false},
        {"port", 0, "N", "policy why-not: of the Service (default: its only one, or 80)", &cli.port,
         NULL, false},
        {"objects", 0, "DIR",
         "policy check, profile: manifests to evaluate; check without it: an empty mesh",
         &cli.objects_dir, NULL, false},
        {"policies", 0, "DIR...",
         "policy init, check, test, diff: the policies, as of osm-controller; may be given several "
         "times",
         cli.policies, NULL, false},
        {"seconds", 0, "N", "policy profile: look at the daemon for so long, line by line",
         &cli.seconds, NULL, false},
        {"top", 0, "N", "policy profile: so many rules and lines (default 15)", &cli.top, NULL,
         false},
        {"filter", 'k', "NAME", "policy test: only tests whose name holds NAME", &cli.filter, NULL,
         false},
        {"mesh-name", 0, "NAME", "policy check: as of osm-controller (default osm)", &cli.mesh_name,
         NULL, false},
        {"osm-namespace", 0, "NS", "policy check: as of osm-controller (default osm-system)",
         &cli.osm_namespace, NULL, false},
        {"mount-path", 0, "PATH",
         "proxy bootstrap: where Envoy will find the files (default /etc/envoy)", &cli.mount_path,
         NULL, false},
        {"console", 0, "HOST:PORT", "debug: the daemon's --debug-console instead of its socket",
         &cli.console, NULL, false},
        {"token-file", 0, "FILE", "debug: what --console asks for", &cli.token_file, NULL, false},
        {"json", 0, NULL, "debug: JSON lines on standard input and output, for programs", NULL,
         &cli.json, false},
        {"help", 'h', NULL, "print this and end", NULL, &help, false},
        {NULL, 0, NULL, NULL, NULL, NULL, false},
    };
    struct osm_err err = {0};
    const char **words = NULL;
    size_t n = 0;
    json_set_alloc_funcs(osm_alloc, osm_free);
    if (osm_options_parse(options, argc, argv, &words, &n, &err)) {
        osm_print_error(&err);
        return 2;
    }
    if (!cli.socket_path)
        cli.socket_path = "/run/osm/control.sock";
    int rc = 2;
    if (help) {
        (void)fputs(USAGE, stdout);
        (void)fputs(USAGE_2, stdout);
        osm_options_help(options, stdout);
        rc = osm_print_end();
    } else if (osm_cli_check_options(options, words, n, &err)) {
        osm_print_error(&err);
    } else {
        rc = run(&cli, words, n);
    }
    osm_free(words);
    return rc;
}
