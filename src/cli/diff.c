/* `osm policy diff` and `osm diff`: what would change. The files are read here and sent as texts,
 * so the daemon need not see them: `kubectl exec -i ... osm diff -f -` works. */
#include "cli/client.h"
#include "cli/commands.h"
#include "cli/manifests.h"
#include "cli/print.h"

#include "base/buf.h"
#include "base/json.h"
#include "base/map.h"
#include "policy/files.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* How much of a diff a person reads; -o json has all of it. */
enum {
    ASK_TIMEOUT_MS = 120 * 1000,
    GROUPS_SHOWN = 20,
    RESOURCES_SHOWN = 20,
    FIELDS_SHOWN = 20,
    NAMES_SHOWN = 4,
    LINES_SHOWN = 20,
    LINE_MAX_BYTES = 1 << 20
};

/* --- fields --- */

/* A whole element or part that comes or goes is known by its path. */
static bool is_scalar(const json_t *value)
{
    return value && !json_is_object(value) && !json_is_array(value);
}

/* The length of the path's first part, where that is an element of a list and a field in it
 * follows: a line of its own, above all that is in it. */
static size_t head_of(const char *path)
{
    const char *end = strstr(path, "].");
    return end ? (size_t)(end - path) + 1 : 0;
}

static void print_field(const json_t *field, size_t head, const char *indent)
{
    const char *change = osm_json_text(field, "change"), *path = osm_json_text(field, "path");
    path += head + (head > 0);
    const json_t *before = json_object_get(field, "before"),
                 *after = json_object_get(field, "after");
    bool added = !strcmp(change, "added"), removed = !strcmp(change, "removed");
    bool moved = !strcmp(change, "moved"), named = path[strlen(path) - (*path != '\0')] == ']';
    const json_t *only = added ? after : before;
    if (!*path) /* the whole resource */
        return;
    (void)printf("%s%s", indent, added ? "+ " : removed ? "- " : "");
    osm_print_text(path);
    if (added || removed) {
        if (is_scalar(only) || !named) {
            (void)fputs(": ", stdout);
            osm_print_value(only);
        }
    } else {
        (void)fputs(moved ? " moves from " : ": ", stdout);
        osm_print_value(before);
        (void)fputs(moved ? " to " : " -> ", stdout);
        osm_print_value(after);
    }
    (void)putchar('\n');
}

/* Fields of one element stand together; its name is told once. */
static void print_fields(const json_t *fields, size_t max)
{
    size_t i;
    const json_t *field;
    const char *element = "";
    json_array_foreach ((json_t *)(uintptr_t)fields, i, field) {
        const char *path = osm_json_text(field, "path");
        size_t head = head_of(path);
        if (i >= max)
            break;
        if (head && (head_of(element) != head || strncmp(element, path, head) != 0)) {
            char *name = osm_strndup(path, head);
            (void)fputs("    ", stdout);
            osm_print_text(name ? name : "?");
            (void)putchar('\n');
            osm_free(name);
        }
        element = path;
        print_field(field, head, head ? "      " : "    ");
    }
}

/* --- resources --- */

static const json_t *change_at(const json_t *diff, const json_t *place)
{
    return json_array_get(json_object_get(diff, "changes"), (size_t)json_integer_value(place));
}

/* What is told once for several resources. */
static bool is_alike(const json_t *a, const json_t *b)
{
    static const char *const fields[] = {"type", "change", "fields", "more"};
    bool whole = strcmp(osm_json_text(a, "change"), "changed") != 0;
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        if (!(whole && i >= 2) &&
            !json_equal(json_object_get(a, fields[i]), json_object_get(b, fields[i])))
            return false;
    return true;
}

static void print_names(const json_t *const *list, size_t n)
{
    for (size_t i = 0; i < n && i < NAMES_SHOWN; i++) {
        (void)fputs(i ? ", " : "", stdout);
        osm_print_text(osm_json_text(list[i], "name"));
    }
    if (n > NAMES_SHOWN)
        (void)printf(" and %zu more", n - NAMES_SHOWN);
}

static void print_resources(const json_t *const *list, size_t n)
{
    const json_t *first = list[0], *fields = json_object_get(first, "fields");
    const char *change = osm_json_text(first, "change");
    size_t more = (size_t)json_integer_value(json_object_get(first, "more"));
    bool changed = !strcmp(change, "changed");
    (void)printf("  %s%s ",
                 changed                    ? ""
                 : !strcmp(change, "added") ? "+ "
                                            : "- ",
                 osm_json_text(first, "type"));
    print_names(list, n);
    (void)putchar('\n');
    if (!changed)
        return;
    print_fields(fields, FIELDS_SHOWN);
    if (json_array_size(fields) > FIELDS_SHOWN)
        more += json_array_size(fields) - FIELDS_SHOWN;
    if (more)
        (void)printf("    and %zu more fields\n", more);
    if (!json_array_size(fields) && !more)
        (void)printf("    in what is not shown\n");
}

/* Takes out of @p list (n, NULL: told already) those that are like the first, which is put before
 * them. */
static size_t take_alike(const json_t **list, size_t n, size_t first, const json_t **out)
{
    size_t found = 0;
    for (size_t i = first; i < n; i++)
        if (list[i] && (i == first || is_alike(out[0], list[i]))) {
            out[found++] = list[i];
            list[i] = NULL;
        }
    return found;
}

static int print_group(const json_t *diff, const json_t *group)
{
    const json_t *proxies = json_object_get(group, "proxies");
    const json_t *places = json_object_get(group, "changes"), *place;
    size_t n = json_array_size(places), people = json_array_size(proxies), i, shown = 0, more = 0;
    const json_t **list = osm_alloc_array(n + 1, sizeof *list);
    const json_t **alike = osm_alloc_array(n + 1, sizeof *alike);
    int rc = list && alike ? 0 : OSM_ENOMEM;
    (void)printf("%zu %s: ", people, people == 1 ? "proxy" : "proxies");
    for (i = 0; i < people && i < NAMES_SHOWN; i++) {
        (void)fputs(i ? ", " : "", stdout);
        osm_print_text(json_string_value(json_array_get(proxies, i)));
    }
    (void)fputs(people > NAMES_SHOWN ? ", ...\n" : "\n", stdout);
    json_array_foreach (rc ? NULL : (json_t *)(uintptr_t)places, i, place)
        list[i] = change_at(diff, place);
    for (i = 0; i < n && !rc; i++) {
        size_t found = list[i] ? take_alike(list, n, i, alike) : 0;
        if (found && shown++ < RESOURCES_SHOWN)
            print_resources(alike, found);
        else
            more += found;
    }
    if (more)
        (void)printf("  and %zu more resources\n", more);
    osm_free(list);
    osm_free(alike);
    return rc;
}

/* --- what is told beside them --- */

static void print_proxies(const json_t *diff, const char *list, const char *words)
{
    const json_t *names = json_object_get(diff, list), *name;
    size_t i, n = json_array_size(names);
    if (!n)
        return;
    (void)printf("%zu %s %s: ", n, n == 1 ? "proxy" : "proxies", words);
    json_array_foreach ((json_t *)(uintptr_t)names, i, name) {
        if (i >= NAMES_SHOWN)
            break;
        (void)fputs(i ? ", " : "", stdout);
        osm_print_text(json_string_value(name));
    }
    (void)fputs(n > NAMES_SHOWN ? ", ...\n" : "\n", stdout);
}

static void print_reject(const json_t *reject)
{
    const char *path = osm_json_text(reject, "path"), *origin = osm_json_text(reject, "origin");
    const char *parts[] = {
        osm_json_text(reject, "object"), *path ? " " : "",    path,   ": ",
        osm_json_text(reject, "reason"), *origin ? " (" : "", origin, *origin ? ")" : ""};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        osm_print_text(parts[i]);
}

/* Lua puts the place in front of what `error` is given, and not of all else. */
static void print_error(const json_t *error, size_t alike)
{
    const char *message = osm_json_text(error, "message");
    char *place = osm_strf("%s:%" JSON_INTEGER_FORMAT ": ", osm_json_text(error, "module"),
                           json_integer_value(json_object_get(error, "line")));
    if (place && strncmp(message, place, strlen(place)) != 0)
        osm_print_text(place);
    osm_free(place);
    osm_print_text(message);
    (void)fputs(" (", stdout);
    osm_print_text(osm_json_text(error, "where"));
    if (alike > 1)
        (void)printf(" and %zu more", alike - 1);
    (void)fputs(")\n", stdout);
}

/* One line of a module may fail for many keys: told once. */
static void print_errors(const json_t *diff, const char *list, const char *words)
{
    struct osm_map seen = OSM_MAP_INIT; /* place and message -> how many */
    json_t *errors = json_object_get(diff, list), *error;
    size_t i, shown = 0, more = 0;
    json_array_foreach (errors, i, error) {
        char *key = osm_strf("%s:%" JSON_INTEGER_FORMAT ":%s", osm_json_text(error, "module"),
                             json_integer_value(json_object_get(error, "line")),
                             osm_json_text(error, "message"));
        uintptr_t alike = key ? (uintptr_t)osm_map_get(&seen, key) : 0;
        if (!key || osm_map_put(&seen, key, (void *)(alike + 1), NULL))
            more++; /* without memory it is counted, at least */
        if (!alike && json_object_set_new(error, "key", json_string(key ? key : "")))
            more++;
        osm_free(key);
    }
    json_array_foreach (errors, i, error) {
        const char *key = osm_json_text(error, "key");
        size_t alike = *key ? (uintptr_t)osm_map_get(&seen, key) : 0;
        if (alike && shown++ < LINES_SHOWN) {
            (void)printf("%s: ", words);
            print_error(error, alike);
        } else {
            more += alike;
        }
    }
    if (more)
        (void)printf("%s: and %zu more\n", words, more);
    osm_map_clear(&seen);
}

static void print_warning(const json_t *warning)
{
    osm_print_text(osm_json_text(warning, "message"));
}

static void print_text(const json_t *text)
{
    osm_print_text(json_string_value(text));
}

static void print_list(const json_t *diff, const char *list, const char *words,
                       void (*print)(const json_t *each))
{
    size_t i, n = json_array_size(json_object_get(diff, list));
    const json_t *each;
    json_array_foreach (json_object_get(diff, list), i, each) {
        if (i >= LINES_SHOWN)
            break;
        (void)printf("%s: ", words);
        print(each);
        (void)putchar('\n');
    }
    if (n > LINES_SHOWN)
        (void)printf("%s: and %zu more\n", words, n - LINES_SHOWN);
}

static void print_objects(const json_t *objects)
{
    static const char *const words[] = {"created", "configured", "unchanged", "deleted"};
    bool any = false;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        json_int_t n = json_integer_value(json_object_get(objects, words[i]));
        if (n)
            (void)printf("%s%" JSON_INTEGER_FORMAT " %s", any ? ", " : "objects: ", n, words[i]);
        any = any || n;
    }
    if (any)
        (void)putchar('\n');
}

/* What somebody may have overlooked. */
static void print_notes(const json_t *diff)
{
    const json_t *objects = json_object_get(diff, "objects");
    json_int_t outside = json_integer_value(json_object_get(objects, "outside")),
               unaddressed = json_integer_value(json_object_get(objects, "unaddressed"));
    (void)fflush(stdout);
    if (outside)
        (void)fprintf(stderr,
                      "osm: no policy sees %" JSON_INTEGER_FORMAT
                      " of the objects: their namespaces are not of the mesh\n",
                      outside);
    if (unaddressed)
        (void)fprintf(stderr,
                      "osm: of the new Services %" JSON_INTEGER_FORMAT
                      " will get an address from the cluster: what leads their callers to it is "
                      "not shown\n",
                      unaddressed);
    if (json_is_true(json_object_get(diff, "bare")))
        (void)fprintf(
            stderr,
            "osm: the policies hold no file of %s, which cannot be read here, so all that "
            "it says would be gone: name a copy of it first to lay others over it\n",
            json_string_value(json_array_get(json_object_get(diff, "layers"), 0)));
    if (json_is_true(json_object_get(diff, "behind")))
        (void)fprintf(stderr, "osm: the daemon is translating newer objects just now: the diff may "
                              "hold what they change\n");
}

static size_t changed_proxies(const json_t *diff)
{
    size_t i, n = 0;
    const json_t *group;
    json_array_foreach (json_object_get(diff, "groups"), i, group)
        n += json_array_size(json_object_get(group, "proxies"));
    return n;
}

static int print_diff(const json_t *diff)
{
    const json_t *groups = json_object_get(diff, "groups"), *group, *fields;
    size_t i, n = json_array_size(groups);
    int rc = 0;
    json_array_foreach ((json_t *)(uintptr_t)groups, i, group) {
        if (i >= GROUPS_SHOWN || rc)
            break;
        rc = print_group(diff, group);
    }
    if (n > GROUPS_SHOWN)
        (void)printf("and %zu more groups of proxies; -o json has all\n", n - GROUPS_SHOWN);
    print_proxies(diff, "appear", "would be new");
    print_proxies(diff, "leave", "would be gone");
    fields = json_object_get(diff, "daemon");
    if (json_array_size(fields))
        (void)printf("the daemon itself\n");
    print_fields(fields, FIELDS_SHOWN);
    print_list(diff, "rejected", "rejected", print_reject);
    print_list(diff, "accepted", "no longer rejected", print_reject);
    print_errors(diff, "errors", "error");
    print_errors(diff, "fixed", "no longer an error");
    print_list(diff, "warnings", "warning", print_warning);
    print_list(diff, "guards", "look first", print_text);
    print_objects(json_object_get(diff, "objects"));
    (void)printf("%zu of %" JSON_INTEGER_FORMAT " proxies would change\n", changed_proxies(diff),
                 json_integer_value(json_object_get(diff, "proxies")));
    print_notes(diff);
    return rc;
}

/* Each group with its changes, in the place of the list that it refers to. */
static int write_out(json_t *diff)
{
    size_t i, k;
    json_t *group, *place;
    int rc = 0;
    json_array_foreach (json_object_get(diff, "groups"), i, group) {
        json_t *resources = json_array();
        json_array_foreach (json_object_get(group, "changes"), k, place)
            rc |= json_array_append(resources, (json_t *)(uintptr_t)change_at(diff, place));
        rc |= json_object_set_new(group, "resources", resources);
        rc |= json_object_del(group, "changes");
    }
    rc |= json_object_del(diff, "changes");
    return rc ? 1 : osm_print_json(diff);
}

static int complain(const struct osm_err *err)
{
    osm_print_error(err);
    return OSM_EXIT_POLICIES;
}

/* Takes @p args. */
static int ask(const struct osm_cli *cli, json_t *args)
{
    struct osm_err err = {0};
    json_t *diff = NULL;
    if (cli->fresh && json_object_set_new(args, "fresh", json_true())) {
        (void)osm_fail(&err, OSM_ENOMEM, "out of memory");
        json_decref(args);
        return complain(&err);
    }
    if (osm_client_ask(cli->socket_path, "diff", args, ASK_TIMEOUT_MS, &diff, &err))
        return complain(&err);
    int code = json_array_size(json_object_get(diff, "errors")) ? OSM_EXIT_POLICIES
               : json_is_true(json_object_get(diff, "differs")) ? OSM_EXIT_DIFFERS
                                                                : OSM_EXIT_FINE;
    int rc = cli->output && !strcmp(cli->output, "json") ? write_out(diff) : print_diff(diff);
    json_decref(diff);
    return osm_print_end() || rc ? OSM_EXIT_POLICIES : code;
}

static int read_policies(json_t *args, const char *const *dirs, struct osm_err *err)
{
    struct osm_policy_files *files = NULL;
    int rc = osm_policy_files_read(&files, dirs, err);
    if (rc)
        return rc;
    if (json_object_set_new(args, "policies", osm_policy_files_json(files)))
        rc = osm_fail(err, OSM_ENOMEM, "out of memory");
    osm_policy_files_unref(files);
    return rc;
}

static bool is_among(const struct stat *dir, const char *const *dirs)
{
    struct stat st;
    for (size_t i = 0; dirs[i]; i++)
        if (!stat(dirs[i], &st) && st.st_dev == dir->st_dev && st.st_ino == dir->st_ino)
            return true;
    return false;
}

/* The directory of the shipped policies, as the daemon names it: osm_free. NULL: it cannot be read
 * here, or is one of @p dirs. */
static char *shipped_dir(const struct osm_cli *cli, const char *const *dirs)
{
    struct osm_err err = {0};
    json_t *list = NULL;
    char *dir = NULL;
    struct stat st;
    if (osm_client_ask(cli->socket_path, "policy.list", json_object(), ASK_TIMEOUT_MS, &list, &err))
        return NULL;
    const char *first = json_string_value(json_array_get(json_object_get(list, "layers"), 0));
    if (first && !stat(first, &st) && S_ISDIR(st.st_mode) && !is_among(&st, dirs))
        dir = osm_strdup(first);
    json_decref(list);
    return dir;
}

/* As `osm policy apply` would lay them: over the shipped ones. */
int osm_cli_policy_diff(const struct osm_cli *cli, const char *const *dirs)
{
    struct osm_err err = {0};
    size_t n = 0, at = 0;
    while (dirs[n])
        n++;
    json_t *args = json_object();
    char *shipped = shipped_dir(cli, dirs);
    const char **all = osm_alloc_array(n + 2, sizeof *all);
    int rc = args && all ? 0 : osm_fail(&err, OSM_ENOMEM, "out of memory");
    if (!rc && shipped)
        all[at++] = shipped;
    for (size_t i = 0; !rc && i < n; i++)
        all[at++] = dirs[i];
    if (!rc)
        rc = read_policies(args, all, &err);
    osm_free(all);
    osm_free(shipped);
    if (!rc)
        return ask(cli, args);
    json_decref(args);
    return complain(&err);
}

int osm_cli_diff(const struct osm_cli *cli)
{
    struct osm_err err = {0};
    json_t *args = json_object(), *manifests = NULL, *deletes = json_array();
    int rc = args && deletes ? 0 : osm_fail(&err, OSM_ENOMEM, "out of memory");
    if (!cli->files[0] && !cli->deletes[0] && !cli->policies[0]) {
        (void)fprintf(stderr, "osm: diff: of what? -f FILE, --delete KIND/NAMESPACE/NAME or "
                              "--policies DIR\n");
        json_decref(args);
        json_decref(deletes);
        return OSM_EXIT_USAGE;
    }
    if (!rc)
        rc = osm_manifests_read(&manifests, cli->files, &err);
    for (size_t i = 0; cli->deletes[i] && !rc; i++)
        if (json_array_append_new(deletes, json_string(cli->deletes[i])))
            rc = osm_fail(&err, OSM_EINVAL, "--delete %s: is no text", cli->deletes[i]);
    if (!rc && cli->policies[0])
        rc = read_policies(args, cli->policies, &err);
    if (!rc && (json_object_set(args, "manifests", manifests) ||
                json_object_set(args, "deletes", deletes)))
        rc = osm_fail(&err, OSM_ENOMEM, "out of memory");
    json_decref(manifests);
    json_decref(deletes);
    if (!rc)
        return ask(cli, args);
    json_decref(args);
    return complain(&err);
}
