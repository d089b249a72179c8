/* `osm policy profile`: what rules and emitters cost, of a daemon's policies while it runs, or of
 * one translation of a directory of manifests. */
#include "cli/policy_priv.h"

#include "cli/client.h"
#include "cli/policy_objects.h"
#include "cli/print.h"
#include "policy/host.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { TOP_DEFAULT = 15, NUMBER_MAX = 100000, ASK_TIMEOUT_MS = 60 * 1000 };

/* 1 to NUMBER_MAX; 0, said on stderr: it is none. @p text may be NULL. */
static int number(const char *flag, const char *text, int otherwise)
{
    char *end = NULL;
    if (!text)
        return otherwise;
    uintmax_t n = isdigit((unsigned char)*text) ? strtoumax(text, &end, 10) : 0;
    if (n && !*end && n <= NUMBER_MAX)
        return (int)n;
    (void)fprintf(stderr, "osm: %s %s: expected a number from 1\n", flag, text);
    return 0;
}

/* --- what is said --- */

static json_int_t field(const json_t *entry, const char *name)
{
    return json_integer_value(json_object_get(entry, name));
}

static json_int_t sum(const json_t *list, const char *name)
{
    size_t i;
    const json_t *each;
    json_int_t all = 0;
    json_array_foreach (list, i, each)
        all += field(each, name);
    return all;
}

static double ms(json_int_t us)
{
    return (double)us / 1000;
}

/* Share of all in percent. */
static double share(json_int_t us, json_int_t all_us)
{
    return all_us ? 100.0 * (double)us / (double)all_us : 0;
}

static void print_rest(const json_t *list, int top, const char *what)
{
    size_t n = json_array_size(list);
    if (n > (size_t)top)
        (void)printf("  and %zu more %s; --top N shows them\n", n - (size_t)top, what);
}

static void print_rules(const json_t *rules, int top)
{
    size_t i;
    const json_t *each;
    json_int_t all_us = sum(rules, "us");
    (void)printf("%12s %7s %10s %10s %14s  %s\n", "TIME", "SHARE", "RUNS", "HITS", "INSTRUCTIONS",
                 "RULE OR EMITTER");
    json_array_foreach (rules, i, each) {
        if (i >= (size_t)top)
            break;
        (void)printf("%9.3f ms %5.1f %% %10" JSON_INTEGER_FORMAT " %10" JSON_INTEGER_FORMAT
                     " %14" JSON_INTEGER_FORMAT "  %s%s (%s:%" JSON_INTEGER_FORMAT ")\n",
                     ms(field(each, "us")), share(field(each, "us"), all_us), field(each, "runs"),
                     field(each, "hits"), field(each, "instructions"),
                     json_is_true(json_object_get(each, "emitter")) ? "emitter " : "",
                     osm_json_text(each, "name"), osm_json_text(each, "module"),
                     field(each, "line"));
    }
    print_rest(rules, top, "rules and emitters");
}

static void print_lines(const json_t *lines, int top)
{
    size_t i;
    const json_t *each;
    json_int_t all_us = sum(lines, "us");
    (void)printf("\n%12s %7s %10s  %s\n", "TIME", "SHARE", "RUNS", "LINE");
    json_array_foreach (lines, i, each) {
        if (i >= (size_t)top)
            break;
        (void)printf(
            "%9.3f ms %5.1f %% %10" JSON_INTEGER_FORMAT "  %s:%" JSON_INTEGER_FORMAT "  %s\n",
            ms(field(each, "us")), share(field(each, "us"), all_us), field(each, "runs"),
            osm_json_text(each, "module"), field(each, "line"), osm_json_text(each, "text"));
    }
    print_rest(lines, top, "lines");
}

static int tell(const struct osm_cli *cli, const json_t *profile, int top)
{
    const json_t *rules = json_object_get(profile, "rules");
    const json_t *lines = json_object_get(profile, "lines");
    if (cli->output && !strcmp(cli->output, "json"))
        return osm_print_json(profile);
    (void)printf("policies %.12s%s, %.1f s: %" JSON_INTEGER_FORMAT " runs in %.3f ms\n",
                 osm_json_text(profile, "digest"), lines ? "" : " since they were loaded",
                 ms(field(profile, "us")) / 1000, sum(rules, "runs"), ms(sum(rules, "us")));
    if (json_array_size(rules))
        print_rules(rules, top);
    if (json_array_size(lines))
        print_lines(lines, top);
    return osm_print_end();
}

/* --- of a daemon --- */

int osm_cli_policy_profile(const struct osm_cli *cli)
{
    struct osm_err err = {0};
    json_t *profile = NULL;
    int top = number("--top", cli->top, TOP_DEFAULT);
    int seconds = number("--seconds", cli->seconds, -1);
    if (!top || !seconds)
        return OSM_EXIT_USAGE;
    json_t *args = seconds > 0 ? json_pack("{s:i}", "seconds", seconds) : json_object();
    if (osm_client_ask(cli->socket_path, "policy.profile", args,
                       ASK_TIMEOUT_MS + (seconds > 0 ? seconds * 1000 : 0), &profile, &err))
        return osm__policy_complain(&err);
    int code = tell(cli, profile, top);
    json_decref(profile);
    return code;
}

/* --- of a directory --- */

struct translation {
    const struct osm_cli *cli;
    const struct osm__dirs *dirs;
    struct osm__objects objects;
    json_t *profile;
    size_t errors;
    int rc;
    struct osm_err err;
};

static void translate(void *ud)
{
    struct translation *t = ud;
    struct osm_engine *engine = NULL;
    struct osm_snapshot *snapshot = NULL;
    struct osm_changes none = {NULL, 0}, *changes = osm_store_reader_take(t->objects.reader);
    t->rc = osm__policy_load(t->cli, t->dirs, &engine, &t->err);
    if (!t->rc)
        t->rc = osm_engine_profile_begin(engine, 1, &t->err);
    if (!t->rc)
        t->rc = osm_engine_run(engine, changes ? changes : &none, &snapshot, &t->err);
    if (!t->rc && !(t->profile = osm_engine_profile_end(engine)))
        t->rc = osm_fail(&t->err, OSM_ENOMEM, "out of memory");
    if (!t->rc && snapshot && snapshot->policy &&
        json_object_set(t->profile, "digest", json_object_get(snapshot->policy, "digest")))
        t->rc = osm_fail(&t->err, OSM_ENOMEM, "out of memory");
    t->errors = snapshot ? json_array_size(snapshot->errors) : 0;
    osm_changes_free(changes);
    osm_snapshot_unref(snapshot);
    osm_engine_free(engine);
}

static int profile_objects(const struct osm_cli *cli, const struct osm__dirs *dirs, int top)
{
    struct translation t = {.cli = cli, .dirs = dirs};
    int code = OSM_EXIT_FINE, rc = osm__objects_open(&t.objects, cli->objects_dir, &t.err);
    if (!rc)
        rc = osm_policy_call(translate, &t, &t.err);
    if (rc || t.rc)
        code = osm__policy_complain(&t.err);
    else
        code = tell(cli, t.profile, top);
    if (t.errors)
        (void)fprintf(stderr,
                      "osm: %zu rules or emitters are in error; `osm policy check` says which\n",
                      t.errors);
    json_decref(t.profile);
    osm__objects_close(&t.objects);
    return code;
}

int osm__policy_profile(const struct osm_cli *cli, const struct osm__dirs *dirs)
{
    char *shipped = dirs->len ? NULL : osm__policy_find_shipped();
    const char *const only[] = {shipped, NULL};
    const struct osm__dirs used = dirs->len ? *dirs : (struct osm__dirs){only, shipped ? 1 : 0};
    int top = number("--top", cli->top, TOP_DEFAULT), code = OSM_EXIT_USAGE;
    bool are_dirs = top > 0;
    for (size_t i = 0; i < used.len && are_dirs; i++)
        are_dirs = osm__policy_is_dir(used.list[i]);
    if (!cli->objects_dir)
        (void)fprintf(stderr, "osm: policy profile: --objects DIR is missing: the manifests; "
                              "without any folder it is the daemon that is asked\n");
    else if (cli->seconds)
        (void)fprintf(stderr, "osm: policy profile: --seconds is for a daemon\n");
    else if (!used.len)
        (void)fprintf(stderr, "osm: policy profile: the shipped policies are not found: say "
                              "--policies DIR\n");
    else if (are_dirs && osm__policy_is_dir(cli->objects_dir))
        code = profile_objects(cli, &used, top);
    osm_free(shipped);
    return code;
}
