/* `osm policy reload`, `activate`, `rollback` and `list`: which policies the daemon uses, and how
 * others take their place. `osm policy why`: where a resource comes from. */
#include "cli/client.h"
#include "cli/commands.h"
#include "cli/table.h"

#include "base/buf.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

enum { ASK_TIMEOUT_MS = 120 * 1000, TABLE_MAX_BYTES = 1024 * 1024, DIGEST_SHOWN = 12 };

static const char *text_at(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

static bool is_json(const struct osm_cli *cli)
{
    return cli->output && !strcmp(cli->output, "json");
}

static int ask(const struct osm_cli *cli, const char *command, json_t *args, json_t **out)
{
    struct osm_err err = {0};
    if (!osm_client_ask(cli->socket_path, command, args, ASK_TIMEOUT_MS, out, &err))
        return 0;
    (void)fprintf(stderr, "osm: %s\n", err.msg);
    return 1;
}

static void print_json(const json_t *value)
{
    (void)json_dumpf(value, stdout, JSON_INDENT(2));
    (void)putchar('\n');
}

int osm_cli_policy_reload(const struct osm_cli *cli)
{
    static const struct {
        const char *state, *words;
        bool good;
    } outcomes[] = {
        {"active", "in force", true},
        {"held", "held; `osm policy activate` lets them take over", false},
        {"rejected", "rejected; the ones before stay in force", false},
        {"quarantined", "quarantined; `osm policy reload --force` tries them again", false},
    };
    json_t *outcome = NULL;
    int rc = ask(cli, "policy.reload", json_pack("{s:b}", "force", cli->force), &outcome);
    if (rc)
        return rc;
    const char *state = text_at(outcome, "state"), *reason = text_at(outcome, "reason");
    const char *words = state;
    bool good = false;
    for (size_t i = 0; i < sizeof outcomes / sizeof *outcomes; i++)
        if (!strcmp(outcomes[i].state, state)) {
            words = outcomes[i].words;
            good = outcomes[i].good;
        }
    if (is_json(cli))
        print_json(outcome);
    else
        (void)fprintf(good ? stdout : stderr, "policies %.*s: %s%s%s\n", DIGEST_SHOWN,
                      *text_at(outcome, "digest") ? text_at(outcome, "digest") : "?", words,
                      *reason ? "\n  " : "", reason);
    json_decref(outcome);
    return good && !fflush(stdout) ? 0 : 1;
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
                           text_at(entry, "digest"), text_at(entry, "state"), date,
                           text_at(entry, "reason"));
    }
    osm_table_print(rows.data);
    json_array_foreach (json_object_get(json_object_get(status, "candidate"), "reasons"), i, reason)
        (void)printf("held: %s\n", json_string_value(reason));
    json_object_foreach (json_object_get(status, "quarantine"), digest, entry)
        (void)printf("quarantined: %.*s by %s: %s\n", DIGEST_SHOWN, digest,
                     text_at(entry, "version"), text_at(entry, "reason"));
    if (*text_at(status, "problem"))
        (void)printf("problem: %s\n", text_at(status, "problem"));
    osm_buf_clear(&rows);
}

static int show(const struct osm_cli *cli, const char *command, json_t *args)
{
    json_t *status = NULL;
    int rc = ask(cli, command, args, &status);
    if (rc)
        return rc;
    if (is_json(cli))
        print_json(status);
    else
        print_status(status);
    json_decref(status);
    return fflush(stdout) ? 1 : 0;
}

int osm_cli_policy_list(const struct osm_cli *cli)
{
    return show(cli, "policy.list", NULL);
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
    (void)printf("%s%s%s\n", text_at(item, "item"), *text_at(item, "element") ? "  makes " : "",
                 text_at(item, "element"));
    (void)printf("  said at %s%s%s%s\n", text_at(item, "place"),
                 *text_at(item, "extended") ? ", changed by " : "", text_at(item, "extended"),
                 json_is_true(json_object_get(item, "authorises"))
                     ? "; authorises: withdrawn where it fails"
                     : "");
    json_array_foreach (json_object_get(item, "because"), i, object) {
        size_t k;
        const char *version = text_at(object, "resource_version");
        (void)printf("  because of %s%s%s%s%s\n", text_at(object, "object"),
                     *text_at(object, "origin") ? " at " : "", text_at(object, "origin"),
                     *version ? ", resourceVersion " : "", version);
        (void)printf("    by ");
        json_array_foreach (json_object_get(object, "through"), k, step)
            if (k) /* the first is the emitter, which is the item's own */
                (void)printf("%s%s", k > 1 ? " > " : "", json_string_value(step));
        (void)putchar('\n');
    }
    if (json_is_true(json_object_get(item, "more")))
        (void)printf("  and more objects\n");
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
            &answer);
    if (rc)
        return rc;
    if (is_json(cli)) {
        print_json(answer);
    } else {
        (void)printf("%s %s of %s:\n", text_at(answer, "type"), text_at(answer, "resource"), pod);
        json_array_foreach (json_object_get(answer, "items"), i, item)
            print_item(item);
    }
    json_decref(answer);
    return fflush(stdout) ? 1 : 0;
}
