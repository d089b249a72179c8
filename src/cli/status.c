/* `osm status`: the daemon's state for a person: source, what is served, each proxy, what was left
 * out and why. */
#include "cli/client.h"
#include "cli/commands.h"
#include "cli/print.h"

#include "base/buf.h"
#include "base/json.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

enum { ASK_TIMEOUT_MS = 10 * 1000, TABLE_MAX_BYTES = 64 * 1024 * 1024 };

static json_int_t number_at(const json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}

/* "since 2026-01-31T23:59:59Z: why". */
static void print_trouble(const json_t *of)
{
    time_t since = (time_t)number_at(of, "since");
    struct tm tm;
    char at[32] = "";
    if (since && gmtime_r(&since, &tm))
        (void)strftime(at, sizeof at, "%Y-%m-%dT%H:%M:%SZ", &tm);
    (void)printf("%s%s%s%s", *at ? " since " : "", at, *osm_json_text(of, "reason") ? ": " : "",
                 osm_json_text(of, "reason"));
}

static void print_cluster(const json_t *source)
{
    const json_t *kinds = json_object_get(source, "kinds"), *errors, *item;
    size_t i, watched = 0;
    json_array_foreach ((json_t *)(uintptr_t)kinds, i, item)
        watched += !strcmp(osm_json_text(item, "state"), "watched");
    (void)printf("SOURCE    kubernetes:%s  %s", osm_json_text(source, "path"),
                 osm_json_text(source, "state"));
    print_trouble(source);
    (void)printf("  %s, %zu kinds watched, %" JSON_INTEGER_FORMAT " objects\n",
                 *osm_json_text(source, "server") ? osm_json_text(source, "server") : "not reached",
                 watched, number_at(source, "objects"));
    json_array_foreach ((json_t *)(uintptr_t)kinds, i, item) {
        if (!strcmp(osm_json_text(item, "state"), "watched"))
            continue;
        (void)printf("  %s%s%s: %s", osm_json_text(item, "kind"),
                     *osm_json_text(item, "group") ? "." : "", osm_json_text(item, "group"),
                     osm_json_text(item, "state"));
        print_trouble(item);
        (void)putchar('\n');
    }
    errors = json_object_get(source, "errors");
    json_array_foreach ((json_t *)(uintptr_t)errors, i, item)
        (void)printf("  %s: %s%s\n", osm_json_text(item, "file"), osm_json_text(item, "message"),
                     json_is_true(json_object_get(item, "kept")) ? " (what is known of it serves)"
                                                                 : "");
}

static void print_source(const json_t *source)
{
    const json_t *errors = json_object_get(source, "errors");
    if (!strcmp(osm_json_text(source, "kind"), "kubernetes")) {
        print_cluster(source);
        return;
    }
    (void)printf("SOURCE    %s:%s  %s%s%s  %" JSON_INTEGER_FORMAT " files, %" JSON_INTEGER_FORMAT
                 " objects\n",
                 osm_json_text(source, "kind"), osm_json_text(source, "path"),
                 osm_json_text(source, "state"), *osm_json_text(source, "reason") ? ": " : "",
                 osm_json_text(source, "reason"), number_at(source, "files"),
                 number_at(source, "objects"));
    size_t i;
    json_t *error;
    json_array_foreach (errors, i, error)
        (void)printf("  %s:%" JSON_INTEGER_FORMAT ":%" JSON_INTEGER_FORMAT ": %s (%s)\n",
                     osm_json_text(error, "file"), number_at(error, "line"),
                     number_at(error, "column"), osm_json_text(error, "message"),
                     json_is_true(json_object_get(error, "kept")) ? "its last good objects serve"
                                                                  : "its objects are absent");
}

/* What is said back to the API server, and by whom; what cannot be. */
static void print_feedback(const json_t *feedback)
{
    const char *holder = osm_json_text(feedback, "holder");
    size_t i;
    const json_t *failure;
    if (!feedback)
        return;
    (void)printf("FEEDBACK  statuses and Events about objects: %s%s; %" JSON_INTEGER_FORMAT
                 " Events and %" JSON_INTEGER_FORMAT " statuses to be written\n",
                 json_is_true(json_object_get(feedback, "leader")) ? "by this replica"
                 : *holder                                         ? "by "
                                                                   : "by nobody",
                 json_is_true(json_object_get(feedback, "leader")) ? "" : holder,
                 number_at(feedback, "events_waiting"), number_at(feedback, "statuses_waiting"));
    json_array_foreach (json_object_get(feedback, "failures"), i, failure)
        (void)printf("  %s\n", json_string_value(failure));
}

/* "NAMESPACE/POD refused CDS "a", "b": what it says" */
static void print_refusal(const json_t *proxy, const char *name, const json_t *type)
{
    size_t i;
    const json_t *resource;
    (void)printf("  %s/%s refused %s", osm_json_text(proxy, "namespace"),
                 osm_json_text(proxy, "pod"), name);
    json_array_foreach (json_object_get(type, "refused"), i, resource)
        (void)printf("%s \"%s\"", i ? "," : "", json_string_value(resource));
    (void)printf(": %s\n", osm_json_text(type, "error"));
}

/* Per type the acknowledged version (cut; "empty": acknowledged to have nothing; "-": never asked
 * for), with "due" or "NACK" before it; then what the refusals say, on lines of their own. */
static void print_proxies(const json_t *proxies, const json_t *missing)
{
    static const char *const types[] = {"CDS", "EDS", "LDS", "RDS", "SDS"};
    struct osm_buf rows = OSM_BUF_INIT(TABLE_MAX_BYTES);
    size_t i;
    json_t *proxy, *pod;
    (void)printf("PROXIES   %zu connected, %zu missing\n", json_array_size(proxies),
                 json_array_size(missing));
    if (json_array_size(proxies))
        (void)osm_buf_add_str(&rows, "POD\tACCOUNT\tMODE\tSNAPSHOT\tCDS\tEDS\tLDS\tRDS\tSDS\n");
    json_array_foreach (proxies, i, proxy) {
        (void)osm_buf_addf(&rows, "%s/%s\t%s\t%s\t%" JSON_INTEGER_FORMAT,
                           osm_json_text(proxy, "namespace"), osm_json_text(proxy, "pod"),
                           osm_json_text(proxy, "account"), osm_json_text(proxy, "mode"),
                           number_at(proxy, "snapshot"));
        for (size_t t = 0; t < 5; t++) {
            const json_t *type = json_object_get(json_object_get(proxy, "types"), types[t]);
            const char *acked = osm_json_text(type, "acked");
            (void)osm_buf_addf(&rows, "\t%s%.8s",
                               json_is_string(json_object_get(type, "nacked")) ? "NACK "
                               : json_is_true(json_object_get(type, "due"))    ? "due "
                                                                               : "",
                               !*acked                               ? "-"
                               : strspn(acked, "0") == strlen(acked) ? "empty"
                                                                     : acked);
        }
        (void)osm_buf_add_char(&rows, '\n');
    }
    if (rows.data)
        osm_print_table(rows.data);
    osm_buf_clear(&rows);
    json_array_foreach (proxies, i, proxy)
        for (size_t t = 0; t < 5; t++) {
            const json_t *type = json_object_get(json_object_get(proxy, "types"), types[t]);
            if (json_is_string(json_object_get(type, "nacked")))
                print_refusal(proxy, types[t], type);
        }
    json_array_foreach (missing, i, pod)
        (void)printf("  %s has not connected\n", json_string_value(pod));
}

static void print_reports(const json_t *rejects, const json_t *errors)
{
    size_t i;
    json_t *item;
    (void)printf("REJECTED  %zu objects or parts\n", json_array_size(rejects));
    json_array_foreach (rejects, i, item)
        (void)printf("  %s%s%s: %s%s%s%s\n", osm_json_text(item, "object"),
                     *osm_json_text(item, "path") ? ": " : "", osm_json_text(item, "path"),
                     osm_json_text(item, "reason"), *osm_json_text(item, "origin") ? "  (" : "",
                     osm_json_text(item, "origin"), *osm_json_text(item, "origin") ? ")" : "");
    (void)printf("ERRORS    %zu in rules\n", json_array_size(errors));
    json_array_foreach (errors, i, item)
        (void)printf("  %s: %s\n", osm_json_text(item, "where"), osm_json_text(item, "message"));
}

static void print_policy(const json_t *policy)
{
    const json_t *warnings = json_object_get(policy, "warnings");
    size_t i;
    json_t *item;
    (void)printf("POLICY    %" JSON_INTEGER_FORMAT " modules, digest %.16s\n",
                 number_at(policy, "modules"), osm_json_text(policy, "digest"));
    json_array_foreach (warnings, i, item)
        (void)printf("  %s: %s\n", osm_json_text(item, "module"), osm_json_text(item, "message"));
}

static void print_root(const json_t *root)
{
    size_t i;
    json_t *item;
    if (*osm_json_text(root, "problem"))
        (void)printf("  %s\n", osm_json_text(root, "problem"));
    json_array_foreach (json_object_get(root, "passive"), i, item)
        (void)printf("  root %.16s is trusted too\n", osm_json_text(item, "fingerprint"));
}

static void print_bootstrap(const json_t *bootstrap)
{
    size_t i;
    json_t *part;
    if (!bootstrap)
        return;
    (void)printf("BOOTSTRAP %s\n", osm_json_text(bootstrap, "state"));
    json_array_foreach (json_object_get(bootstrap, "parts"), i, part)
        if (*osm_json_text(part, "reason"))
            (void)printf("  %s %s: %s\n", osm_json_text(part, "name"), osm_json_text(part, "state"),
                         osm_json_text(part, "reason"));
}

static void print_injector(const json_t *injector)
{
    if (!injector)
        return;
    (void)printf("INJECTOR  %s as %s, %" JSON_INTEGER_FORMAT " pods injected, %" JSON_INTEGER_FORMAT
                 " denied\n",
                 osm_json_text(injector, "address"), osm_json_text(injector, "configuration"),
                 number_at(injector, "injected"), number_at(injector, "denied"));
    if (*osm_json_text(injector, "failure"))
        (void)printf("  %s\n", osm_json_text(injector, "failure"));
}

int osm_cli_status(const struct osm_cli *cli)
{
    struct osm_err err = {0};
    json_t *data;
    if (osm_client_ask(cli->socket_path, "status", json_object(), ASK_TIMEOUT_MS, &data, &err)) {
        osm_print_error(&err);
        return 1;
    }
    if (cli->output && !strcmp(cli->output, "json")) {
        (void)json_dumpf(data, stdout, JSON_INDENT(2));
        (void)putchar('\n');
    } else {
        (void)osm_print_tame(data);
        const char *policy_error = osm_json_text(data, "policy_error");
        (void)printf("MESH      %s in %s, osm-controller %s, up %" JSON_INTEGER_FORMAT
                     " s, root %.16s\n",
                     osm_json_text(data, "mesh"), osm_json_text(data, "osm_namespace"),
                     osm_json_text(data, "version"), number_at(data, "uptime_s"),
                     osm_json_text(json_object_get(data, "root"), "fingerprint"));
        print_root(json_object_get(data, "root"));
        print_bootstrap(json_object_get(data, "bootstrap"));
        print_injector(json_object_get(data, "injector"));
        (void)printf("HTTP      %s, debug server %s\n", osm_json_text(data, "http"),
                     osm_json_text(data, "debug"));
        print_source(json_object_get(data, "source"));
        print_feedback(json_object_get(data, "feedback"));
        (void)printf("SNAPSHOT  %" JSON_INTEGER_FORMAT "%s%s%s\n", number_at(data, "snapshot"),
                     json_is_true(json_object_get(data, "settled")) ? "" : ", changes under way",
                     *policy_error ? "; run failed: " : "", policy_error);
        print_policy(json_object_get(data, "policy"));
        print_proxies(json_object_get(data, "proxies"), json_object_get(data, "missing"));
        print_reports(json_object_get(data, "rejects"), json_object_get(data, "errors"));
    }
    json_decref(data);
    return osm_print_end();
}
