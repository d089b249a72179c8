/* `osm policy check`: do the policies load, and what do they make of a directory of manifests?
 *
 *   --objects DIR --source/dir--> store --> engine (its thread) --> findings --> stdout, exit code
 *
 * Findings are lines "file:line: text" that editors jump to; the last line is a summary. Warnings
 * (a replaced file has changed below) are told and change no exit code. Without
 * objects the mesh is empty: what an emitter says once for all is evaluated all the same. */
#include "cli/policy_priv.h"
#include "cli/print.h"

#include "cli/policy_objects.h"
#include "model/world.h"
#include "policy/host.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct check {
    const struct osm_cli *cli;
    const struct osm__dirs *dirs;
    struct osm__objects objects;
    json_t *errors, *rejects, *warnings; /* findings */
    json_t *description;                 /* NULL: it does not load */
    size_t proxies;
    size_t hidden; /* objects that no policy sees: their namespace is not of the mesh */
    bool failed;   /* no memory for what there is to say */
};

static void add(struct check *c, json_t *list, json_t *finding)
{
    if (!finding || json_array_append_new(list, finding))
        c->failed = true;
}

/* --- objects --- */

/* "shop.yaml" of the directory of objects. */
static json_t *object_finding(const struct check *c, const char *file, int line, const char *text)
{
    size_t n = strlen(c->cli->objects_dir);
    while (n > 1 && c->cli->objects_dir[n - 1] == '/')
        n--;
    char *path = osm_strf("%.*s%s%s", (int)n, c->cli->objects_dir, *file ? "/" : "", file);
    json_t *finding =
        path ? json_pack("{s:s, s:i, s:s}", "file", path, "line", line, "text", text) : NULL;
    osm_free(path);
    return finding;
}

static void take_problems(struct check *c)
{
    size_t i;
    const json_t *error;
    json_array_foreach (c->objects.problems, i, error) {
        json_int_t line = json_integer_value(json_object_get(error, "line"));
        add(c, c->rejects,
            object_finding(c, osm_json_text(error, "file"), line > 0 ? (int)line : 1,
                           osm_json_text(error, "message")));
    }
}

/* --- the engine --- */

/* "TrafficTarget blue/t1 spec.rules[0].name: reason (grants)" at the object's place. */
static json_t *reject_finding(const struct check *c, const json_t *reject)
{
    const char *origin = osm_json_text(reject, "origin"), *colon = strrchr(origin, ':');
    const char *path = osm_json_text(reject, "path"), *by = osm_json_text(reject, "by");
    intmax_t line = colon ? strtoimax(colon + 1, NULL, 10) : 0;
    char *file = osm_strndup(origin, colon ? (size_t)(colon - origin) : strlen(origin));
    char *text =
        osm_strf("%s%s%s: %s%s%s%s", osm_json_text(reject, "object"), *path ? " " : "", path,
                 osm_json_text(reject, "reason"), *by ? " (" : "", by, *by ? ")" : "");
    json_t *finding =
        file && text ? object_finding(c, file, line > 0 && line < INT32_MAX ? (int)line : 1, text)
                     : NULL;
    osm_free(file);
    osm_free(text);
    return finding;
}

static json_t *error_finding(const struct check *c, const json_t *error)
{
    json_t *finding = osm__policy_finding(c->dirs, osm_json_text(error, "module"),
                                          (int)json_integer_value(json_object_get(error, "line")),
                                          osm_json_text(error, "message"));
    char *text = osm_strf("%s: %s", osm_json_text(error, "where"), osm_json_text(finding, "text"));
    if (!finding || !text || json_object_set_new(finding, "text", json_string(text))) {
        json_decref(finding);
        finding = NULL;
    }
    osm_free(text);
    return finding;
}

static json_t *warning_finding(const struct check *c, const json_t *warning)
{
    json_t *finding = json_pack("{s:s}", "text", osm_json_text(warning, "message"));
    json_t *place =
        osm__policy_finding(c->dirs, osm_json_text(warning, "module"),
                            (int)json_integer_value(json_object_get(warning, "line")), "");
    if (!finding || !place || json_object_update_missing(finding, place)) {
        json_decref(finding);
        finding = NULL;
    }
    json_decref(place);
    return finding;
}

static void take_snapshot(struct check *c, const struct osm_snapshot *snapshot)
{
    size_t i;
    json_t *each;
    json_array_foreach (snapshot->errors, i, each)
        add(c, c->errors, error_finding(c, each));
    json_array_foreach (snapshot->rejects, i, each)
        add(c, c->rejects, reject_finding(c, each));
    json_array_foreach (json_object_get(snapshot->policy, "warnings"), i, each)
        add(c, c->warnings, warning_finding(c, each));
    c->proxies = snapshot->proxies_len;
}

static bool is_namespace(const struct osm_object *object)
{
    return osm_object_is(object, "", "Namespace");
}

static void see(void *ud, struct osm_object *old, struct osm_object *now)
{
    struct check *c = ud;
    (void)old;
    if (now && !is_namespace(now))
        c->hidden--;
}

/* What is hidden in silence from a daemon's policies is worth a word to an author. */
static int count_hidden(struct check *c, const struct osm_changes *changes)
{
    struct osm_world_config config = {osm__policy_mesh_name(c->cli),
                                      osm__policy_osm_namespace(c->cli)};
    struct osm_world *world = osm_world_new(&config);
    for (size_t i = 0; i < changes->len; i++)
        c->hidden += changes->list[i].now && !is_namespace(changes->list[i].now);
    int rc = world ? osm_world_apply(world, changes, see, c) : OSM_ENOMEM;
    osm_world_free(world);
    return rc;
}

static int run(struct osm_engine *engine, struct check *c, struct osm_err *err)
{
    struct osm_changes none = {NULL, 0}, *changes = osm_store_reader_take(c->objects.reader);
    struct osm_snapshot *snapshot = NULL;
    int rc = changes && count_hidden(c, changes) ? osm_fail(err, OSM_ENOMEM, "out of memory") : 0;
    if (!rc)
        rc = osm_engine_run(engine, changes ? changes : &none, &snapshot, err);
    osm_changes_free(changes);
    if (!rc && snapshot)
        take_snapshot(c, snapshot);
    osm_snapshot_unref(snapshot);
    return rc;
}

/* Each step asks more of the bundle than the one before, and the first that fails is the finding.
 */
static void evaluate(void *ud)
{
    struct check *c = ud;
    struct osm_engine *engine = NULL;
    struct osm_err err = {0};
    int rc = osm__policy_load(c->cli, c->dirs, &engine, &err);
    if (!rc)
        rc = osm_engine_describe(engine, &c->description, &err);
    if (!rc)
        rc = run(engine, c, &err);
    osm_engine_free(engine);
    if (rc)
        add(c, c->errors, osm__policy_finding(c->dirs, NULL, 0, err.msg));
}

/* --- what is said --- */

/* Messages quote what objects and policies say: a finding stays one line. */
static void print_findings(const json_t *list, const char *what)
{
    size_t i;
    json_t *each;
    json_array_foreach ((json_t *)(uintptr_t)list, i, each) {
        json_int_t line = json_integer_value(json_object_get(each, "line"));
        osm_print_text(osm_json_text(each, "file"));
        (void)putchar(':');
        if (line)
            (void)printf("%" JSON_INTEGER_FORMAT ":", line);
        (void)printf(" %s", what);
        osm_print_text(osm_json_text(each, "text"));
        (void)putchar('\n');
    }
}

static size_t count(const struct check *c, const char *list)
{
    return json_array_size(json_object_get(c->description, list));
}

static void print_summary(const struct check *c, size_t objects)
{
    size_t errors = json_array_size(c->errors), rejects = json_array_size(c->rejects);
    if (!errors && !rejects)
        (void)printf("fine: ");
    else
        (void)printf("%zu error%s, %zu rejected: ", errors, errors == 1 ? "" : "s", rejects);
    if (c->description)
        (void)printf("%zu modules, %zu kinds, %zu indexes, %zu rules, %zu emitters, %zu objects, "
                     "%zu proxies, digest %s\n",
                     count(c, "modules"), count(c, "kinds"), count(c, "indexes"), count(c, "rules"),
                     count(c, "emitters"), objects, c->proxies,
                     osm_json_text(c->description, "digest"));
    else
        (void)printf("the policies do not load\n");
}

static int print_json(const struct check *c, size_t objects, bool ok)
{
    json_t *out =
        json_pack("{s:b, s:O, s:O, s:O, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s}", "ok", ok,
                  "errors", c->errors, "rejects", c->rejects, "warnings", c->warnings, "modules",
                  (json_int_t)count(c, "modules"), "kinds", (json_int_t)count(c, "kinds"),
                  "indexes", (json_int_t)count(c, "indexes"), "rules",
                  (json_int_t)count(c, "rules"), "emitters", (json_int_t)count(c, "emitters"),
                  "objects", (json_int_t)objects, "hidden", (json_int_t)c->hidden, "proxies",
                  (json_int_t)c->proxies, "digest", osm_json_text(c->description, "digest"));
    int rc = out ? json_dumpf(out, stdout, JSON_INDENT(2)) : -1;
    (void)putchar('\n');
    json_decref(out);
    return rc;
}

static int tell(struct check *c)
{
    size_t objects = osm_store_count(c->objects.store);
    int code = json_array_size(c->errors)    ? OSM_EXIT_POLICIES
               : json_array_size(c->rejects) ? OSM_EXIT_REJECTED
                                             : OSM_EXIT_FINE;
    if (c->cli->output && !strcmp(c->cli->output, "json")) {
        if (print_json(c, objects, code == OSM_EXIT_FINE))
            code = OSM_EXIT_POLICIES;
    } else {
        print_findings(c->warnings, "warning: ");
        print_findings(c->errors, "");
        print_findings(c->rejects, "");
        print_summary(c, objects);
    }
    if (c->hidden)
        (void)fprintf(
            stderr,
            "osm: no policy sees %zu of the objects: their namespaces are not declared with "
            "the label openservicemesh.io/monitored-by: %s\n",
            c->hidden, osm__policy_mesh_name(c->cli));
    return osm_print_end() ? OSM_EXIT_POLICIES : code;
}

int osm__policy_check(const struct osm_cli *cli, const struct osm__dirs *dirs)
{
    struct check c = {.cli = cli,
                      .dirs = dirs,
                      .errors = json_array(),
                      .rejects = json_array(),
                      .warnings = json_array()};
    struct osm_err err = {0};
    int code = OSM_EXIT_FINE;
    if (!c.errors || !c.rejects || !c.warnings) {
        (void)osm_fail(&err, OSM_ENOMEM, "out of memory");
        code = osm__policy_complain(&err);
    } else if (cli->objects_dir && !osm__policy_is_dir(cli->objects_dir)) {
        code = OSM_EXIT_USAGE;
    } else if (osm__objects_open(&c.objects, cli->objects_dir, &err)) {
        (void)osm__policy_complain(&err);
        code = OSM_EXIT_USAGE;
    } else {
        take_problems(&c);
        if (osm_policy_call(evaluate, &c, &err))
            code = osm__policy_complain(&err);
        else if (c.failed)
            code = osm__policy_complain((osm_fail(&err, OSM_ENOMEM, "out of memory"), &err));
        else
            code = tell(&c);
    }
    osm__objects_close(&c.objects);
    json_decref(c.errors);
    json_decref(c.rejects);
    json_decref(c.warnings);
    json_decref(c.description);
    return code;
}
