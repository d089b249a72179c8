/* `osm policy why-not`: may one call another, and if not, why. */
#include "cli/client.h"
#include "cli/commands.h"
#include "cli/print.h"

#include "base/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ASK_TIMEOUT_MS = 120 * 1000 };

static const char *mark_of(const json_t *step)
{
    const json_t *passes = json_object_get(step, "passes");
    return json_is_true(passes) ? "ok  " : json_is_false(passes) ? "DENY" : "?   ";
}

/* What the sidecar's own policies are, where none lets it pass. */
static void print_policies(const json_t *step)
{
    size_t i;
    const json_t *policy;
    bool denied = !json_is_true(json_object_get(step, "passes"));
    json_array_foreach (denied ? json_object_get(step, "policies") : NULL, i, policy) {
        (void)fputs("       ", stdout);
        osm_print_text(osm_json_text(policy, "name"));
        (void)fputs(" lets ", stdout);
        osm_print_text(osm_json_text(policy, "principals"));
        (void)fputs(" do: ", stdout);
        osm_print_text(osm_json_text(policy, "permissions"));
        (void)putchar('\n');
    }
}

static void print_steps(const json_t *answer)
{
    size_t i;
    const json_t *step;
    json_array_foreach (json_object_get(answer, "steps"), i, step) {
        (void)printf("  %s %-15s ", mark_of(step), osm_json_text(step, "layer"));
        osm_print_text(osm_json_text(step, "text"));
        (void)putchar('\n');
        print_policies(step);
    }
}

/* "  TrafficTarget blue/t1 (shop.yaml:12): what it says" */
static void print_object(const json_t *entry, const char *text)
{
    const char *origin = osm_json_text(entry, "origin"), *path = osm_json_text(entry, "path");
    const char *parts[] = {"  ",
                           osm_json_text(entry, "object"),
                           *path ? " " : "",
                           path,
                           *origin ? " (" : "",
                           origin,
                           *origin ? "): " : ": ",
                           text};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        osm_print_text(parts[i]);
    (void)putchar('\n');
}

static void print_list(const json_t *answer, const char *list, const char *words, const char *text)
{
    size_t i;
    const json_t *entry;
    json_array_foreach (json_object_get(answer, list), i, entry) {
        if (!i)
            (void)printf("%s\n", words);
        print_object(entry, osm_json_text(entry, text));
    }
}

static void print_answer(json_t *answer)
{
    (void)osm_print_tame(answer);
    const json_t *caller = json_object_get(answer, "caller");
    const char *pod = osm_json_text(caller, "pod"), *request = osm_json_text(answer, "request");
    json_int_t port = json_integer_value(json_object_get(answer, "port"));
    (void)printf("%s: %s\n", osm_json_text(answer, "verdict"), osm_json_text(answer, "text"));
    (void)printf("%s%s%s%s -> %s", osm_json_text(caller, "account"), *pod ? " (pod " : "", pod,
                 *pod ? ")" : "", osm_json_text(answer, "service"));
    if (port)
        (void)printf(" port %" JSON_INTEGER_FORMAT " (%s)", port,
                     osm_json_text(answer, "protocol"));
    (void)fputs(*request ? " " : "", stdout);
    (void)printf("%s\n", request);
    print_steps(answer);
    print_list(answer, "allowed_by", "granted by", "text");
    print_list(answer, "near", "nearest", "text");
    print_list(answer, "rejects", "rejected, and may have been meant", "reason");
}

/* "x-user=a" into {"x-user": "a"}. */
static int take_headers(json_t *args, const char *const *headers)
{
    json_t *out = json_object();
    for (size_t i = 0; headers[i]; i++) {
        const char *sign = strchr(headers[i], '=');
        char *name = sign ? osm_strndup(headers[i], (size_t)(sign - headers[i])) : NULL;
        bool twice = name && json_object_get(out, name);
        int rc =
            name && *name && !twice ? json_object_set_new(out, name, json_string(sign + 1)) : -1;
        osm_free(name);
        if (rc) {
            (void)fprintf(stderr, "osm: --header %s: expected NAME=VALUE%s\n", headers[i],
                          twice ? ", each name once" : "");
            json_decref(out);
            return OSM_EXIT_USAGE;
        }
    }
    return json_object_set_new(args, "headers", out) ? OSM_EXIT_POLICIES : 0;
}

static int take_port(json_t *args, const char *text)
{
    char *end = NULL;
    unsigned long port = text ? strtoul(text, &end, 10) : 0;
    if (!text)
        return 0;
    if (!*text || *end || !port || port > 65535) {
        (void)fprintf(stderr, "osm: --port %s: expected 1 to 65535\n", text);
        return OSM_EXIT_USAGE;
    }
    return json_object_set_new(args, "port", json_integer((json_int_t)port)) ? OSM_EXIT_POLICIES
                                                                             : 0;
}

int osm_cli_policy_why_not(const struct osm_cli *cli, const char *caller, const char *service)
{
    struct osm_err err = {0};
    json_t *answer = NULL;
    json_t *args = json_pack("{s:s, s:s, s:s*, s:s*}", "caller", caller, "service", service,
                             "method", cli->method, "path", cli->path);
    int rc = args ? take_headers(args, cli->headers) : 0;
    if (args && !rc)
        rc = take_port(args, cli->port);
    if (rc) {
        json_decref(args);
        return rc;
    }
    if (osm_client_ask(cli->socket_path, "policy.why_not", args, ASK_TIMEOUT_MS, &answer, &err)) {
        osm_print_error(&err);
        return OSM_EXIT_POLICIES;
    }
    const char *verdict = osm_json_text(answer, "verdict");
    int code = !strcmp(verdict, "allowed")   ? OSM_EXIT_FINE
               : !strcmp(verdict, "unknown") ? OSM_EXIT_POLICIES
                                             : OSM_EXIT_DENIED;
    if (cli->output && !strcmp(cli->output, "json"))
        (void)osm_print_json(answer);
    else
        print_answer(answer);
    json_decref(answer);
    return osm_print_end() ? OSM_EXIT_POLICIES : code;
}
