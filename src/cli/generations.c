/* `osm policy reload`, `apply`, `activate`, `rollback` and `list`: which policies the daemon uses,
 * and how others take their place. `osm policy why`: where a resource comes from. */
#include "cli/client.h"
#include "cli/commands.h"
#include "cli/print.h"

#include "base/buf.h"
#include "base/json.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    ASK_TIMEOUT_MS = 120 * 1000,
    TABLE_MAX_BYTES = 1024 * 1024,
    DIGEST_SHOWN = 12,
    SOAK_DEFAULT_MS = 30 * 1000
};

static bool is_json(const struct osm_cli *cli)
{
    return cli->output && !strcmp(cli->output, "json");
}

static int ask(const struct osm_cli *cli, const char *command, json_t *args, int timeout_ms,
               json_t **out)
{
    struct osm_err err = {0};
    if (!osm_client_ask(cli->socket_path, command, args, timeout_ms, out, &err))
        return 0;
    osm_print_error(&err);
    return 1;
}

static int tell_outcome(const struct osm_cli *cli, json_t *outcome)
{
    static const struct {
        const char *state, *words;
        bool good;
    } outcomes[] = {
        {"active", "in force", true},
        {"held", "held; `osm policy activate` lets them take over", false},
        {"rejected", "rejected; the ones before stay in force", false},
        {"rolled back", "rolled back and quarantined; the ones before are in force", false},
        {"quarantined", "quarantined; --force tries them again", false},
    };
    if (!is_json(cli))
        (void)osm_print_tame(outcome);
    const char *state = osm_json_text(outcome, "state"), *reason = osm_json_text(outcome, "reason");
    const char *words = state;
    bool good = false;
    for (size_t i = 0; i < sizeof outcomes / sizeof *outcomes; i++)
        if (!strcmp(outcomes[i].state, state)) {
            words = outcomes[i].words;
            good = outcomes[i].good;
        }
    if (is_json(cli))
        (void)osm_print_json(outcome);
    else
        (void)fprintf(good ? stdout : stderr, "policies %.*s: %s%s%s\n", DIGEST_SHOWN,
                      *osm_json_text(outcome, "digest") ? osm_json_text(outcome, "digest") : "?",
                      words, *reason ? "\n  " : "", reason);
    return osm_print_end() || !good;
}

int osm_cli_policy_reload(const struct osm_cli *cli)
{
    json_t *outcome = NULL;
    int rc = ask(cli, "policy.reload", json_pack("{s:b}", "force", cli->force), ASK_TIMEOUT_MS,
                 &outcome);
    if (rc)
        return rc;
    rc = tell_outcome(cli, outcome);
    json_decref(outcome);
    return rc;
}

int osm_cli_policy_apply(const struct osm_cli *cli, const char *const *dirs, size_t n)
{
    json_t *outcome = NULL, *paths = json_array();
    int soak_ms = SOAK_DEFAULT_MS;
    if (cli->soak && !(soak_ms = osm_cli_duration_ms(cli->soak))) {
        (void)fprintf(stderr, "osm: --soak %s: expected a duration such as 30s, at most 1h\n",
                      cli->soak);
        goto wrong;
    }
    for (size_t i = 0; i < n; i++) {
        char path[PATH_MAX];
        if (!realpath(dirs[i], path)) {
            (void)fprintf(stderr, "osm: %s: %s\n", dirs[i], strerror(errno));
            goto wrong;
        }
        (void)json_array_append_new(paths, json_string(path));
    }
    json_t *args =
        json_pack("{s:o, s:b, s:s*}", "dirs", paths, "force", cli->force, "canary", cli->canary);
    if (cli->soak)
        (void)json_object_set_new(args, "soak_ms", json_integer(soak_ms));
    if (cli->canary && !is_json(cli))
        (void)fprintf(stderr, "canary: asks for %s, for %d s; `osm policy list` shows it\n",
                      cli->canary, soak_ms / 1000);
    int rc = ask(cli, "policy.apply", args, ASK_TIMEOUT_MS + (cli->canary ? soak_ms : 0), &outcome);
    if (rc)
        return rc;
    rc = tell_outcome(cli, outcome);
    json_decref(outcome);
    return rc;
wrong:
    json_decref(paths);
    return 2;
}

/* "2026-11-27T04:10:00Z". */
static void date_of(const json_t *entry, char out[32])
{
    time_t at = (time_t)json_integer_value(json_object_get(entry, "at"));
    struct tm tm;
    out[0] = '\0';
    if (at && gmtime_r(&at, &tm))
        (void)strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &tm);
}

static void print_canary(const json_t *canary)
{
    enum { NAMES_SHOWN = 5 };
    size_t i, count = (size_t)json_integer_value(json_object_get(canary, "count"));
    const json_t *name;
    if (!count)
        return;
    (void)printf("canary: serves %zu proxies for %" JSON_INTEGER_FORMAT " s more:", count,
                 (json_integer_value(json_object_get(canary, "soak_left_ms")) + 999) / 1000);
    json_array_foreach (json_object_get(canary, "proxies"), i, name)
        if (i < NAMES_SHOWN)
            (void)printf("%s %s", i ? "," : "", json_string_value(name));
    (void)printf("%s\n", count > NAMES_SHOWN ? ", ..." : "");
}

static void print_status(const json_t *status)
{
    struct osm_buf rows = OSM_BUF_INIT(TABLE_MAX_BYTES);
    size_t i;
    const json_t *entry, *reason;
    const char *digest;
    char date[32];
    (void)osm_buf_add_str(&rows, "GENERATION\tDIGEST\tSTATE\tSINCE\tREASON\n");
    json_array_foreach (json_object_get(status, "generations"), i, entry) {
        date_of(entry, date);
        (void)osm_buf_addf(&rows, "%" JSON_INTEGER_FORMAT "\t%.*s\t%s\t%s\t%s\n",
                           json_integer_value(json_object_get(entry, "generation")), DIGEST_SHOWN,
                           osm_json_text(entry, "digest"), osm_json_text(entry, "state"), date,
                           osm_json_text(entry, "reason"));
    }
    osm_print_table(rows.data);
    const json_t *candidate = json_object_get(status, "candidate");
    json_array_foreach (json_object_get(candidate, "reasons"), i, reason)
        (void)printf("held: %s\n", json_string_value(reason));
    print_canary(json_object_get(candidate, "canary"));
    json_object_foreach (json_object_get(status, "quarantine"), digest, entry)
        (void)printf("quarantined: %.*s by %s: %s\n", DIGEST_SHOWN, digest,
                     osm_json_text(entry, "version"), osm_json_text(entry, "reason"));
    if (*osm_json_text(status, "problem"))
        (void)printf("problem: %s\n", osm_json_text(status, "problem"));
    if (*osm_json_text(status, "unstored"))
        (void)printf("not stored, a restart begins with older policies: %s\n",
                     osm_json_text(status, "unstored"));
    osm_buf_clear(&rows);
}

static int show(const struct osm_cli *cli, const char *command, json_t *args)
{
    json_t *status = NULL;
    int rc = ask(cli, command, args, ASK_TIMEOUT_MS, &status);
    if (rc)
        return rc;
    if (is_json(cli))
        (void)osm_print_json(status);
    else
        print_status(osm_print_tame(status));
    json_decref(status);
    return osm_print_end();
}

int osm_cli_policy_list(const struct osm_cli *cli)
{
    return show(cli, "policy.list", json_object());
}

int osm_cli_policy_activate(const struct osm_cli *cli, const char *digest)
{
    return show(cli, "policy.activate", json_pack("{s:s*}", "digest", digest));
}

int osm_cli_policy_rollback(const struct osm_cli *cli, const char *reason)
{
    return show(cli, "policy.rollback", json_pack("{s:s*}", "reason", reason));
}

/* --- why --- */

static void print_item(const json_t *item)
{
    size_t i;
    const json_t *object, *step;
    (void)printf("%s%s%s\n", osm_json_text(item, "item"),
                 *osm_json_text(item, "element") ? "  makes " : "", osm_json_text(item, "element"));
    (void)printf(
        "  said at %s%s%s%s\n", osm_json_text(item, "place"),
        *osm_json_text(item, "extended") ? ", changed by " : "", osm_json_text(item, "extended"),
        json_is_true(json_object_get(item, "authorises")) ? "; authorises: withdrawn where it fails"
                                                          : "");
    json_array_foreach (json_object_get(item, "because"), i, object) {
        size_t k;
        const char *version = osm_json_text(object, "resource_version");
        (void)printf("  because of %s%s%s%s%s\n", osm_json_text(object, "object"),
                     *osm_json_text(object, "origin") ? " at " : "",
                     osm_json_text(object, "origin"), *version ? ", resourceVersion " : "",
                     version);
        (void)printf("    by ");
        json_array_foreach (json_object_get(object, "through"), k, step)
            if (k) /* the first is the emitter, which is the item's own */
                (void)printf("%s%s", k > 1 ? " > " : "", json_string_value(step));
        (void)putchar('\n');
    }
    if (json_is_true(json_object_get(item, "more")))
        (void)printf("  and more objects\n");
}

/* Who has given one field its value. */
static void print_field(const json_t *field)
{
    size_t i;
    const json_t *step;
    osm_print_text(osm_json_text(field, "path"));
    (void)fputs(" = ", stdout);
    osm_print_value(json_object_get(field, "value"));
    (void)putchar('\n');
    if (json_is_true(json_object_get(field, "host")))
        (void)printf("  filled in by the daemon itself\n");
    json_array_foreach (json_object_get(field, "steps"), i, step) {
        const char *by = osm_json_text(step, "by");
        const json_t *before = json_object_get(step, "before"),
                     *after = json_object_get(step, "after");
        (void)printf("  %s%s at %s", *by ? "changed by " : "said", by,
                     osm_json_text(step, "place"));
        if (*by || !after) {
            (void)fputs(": ", stdout);
            if (*by && before)
                osm_print_value(before);
            (void)fputs(*by && before ? " -> " : "", stdout);
            if (after)
                osm_print_value(after);
            else
                (void)fputs("absent", stdout);
        }
        (void)putchar('\n');
    }
    if (json_is_true(json_object_get(field, "changed")))
        (void)printf("  which is no longer so: the objects have changed, ask again\n");
}

int osm_cli_policy_why(const struct osm_cli *cli, const char *pod, const char *resource,
                       const char *element)
{
    json_t *answer = NULL;
    size_t i;
    const json_t *item;
    int rc =
        ask(cli, "policy.why",
            json_pack("{s:s, s:s, s:s*}", "pod", pod, "resource", resource, "element", element),
            ASK_TIMEOUT_MS, &answer);
    if (rc)
        return rc;
    if (is_json(cli)) {
        (void)osm_print_json(answer);
    } else {
        (void)osm_print_tame(answer);
        (void)printf("%s %s of %s:\n", osm_json_text(answer, "type"),
                     osm_json_text(answer, "resource"), pod);
        if (json_object_get(answer, "field"))
            print_field(json_object_get(answer, "field"));
        json_array_foreach (json_object_get(answer, "items"), i, item)
            print_item(item);
    }
    json_decref(answer);
    return osm_print_end();
}
