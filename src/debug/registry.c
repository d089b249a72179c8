#include "debug/registry.h"

#include "base/map.h"
#include "base/nearest.h"

#include <string.h>
#include <strings.h>

static const char *const type_words[] = {
#define X(id, word, doc) word,
    OSM_CONTROL_ARG_TYPES(X)
#undef X
};
static const char *const role_words[] = {"view", "operate"};

struct entry {
    const struct osm_control_command *command;
    void *ud;
};

struct osm_registry {
    struct osm_map commands; /* name -> entry, owned */
};

const char *osm_role_name(enum osm_role role)
{
    return role_words[role];
}

int osm_role_parse(const char *word)
{
    for (int i = 0; i <= OSM_ROLE_OPERATE; i++)
        if (!strcmp(word, role_words[i]))
            return i;
    return -1;
}

struct osm_registry *osm_registry_new(void)
{
    struct osm_registry *r = osm_alloc(sizeof *r);
    if (r)
        r->commands = (struct osm_map)OSM_MAP_INIT;
    return r;
}

void osm_registry_free(struct osm_registry *r)
{
    if (!r)
        return;
    osm_map_each (&r->commands, e)
        osm_free(e->value);
    osm_map_clear(&r->commands);
    osm_free(r);
}

int osm_registry_add(struct osm_registry *r, const struct osm_control_command *table, void *ud,
                     struct osm_err *err)
{
    for (const struct osm_control_command *c = table; c->name; c++) {
        if (osm_map_has(&r->commands, c->name))
            return osm_fail(err, OSM_EEXIST, "two commands are called %s", c->name);
        struct entry *entry = osm_alloc(sizeof *entry);
        if (!entry || osm_map_put(&r->commands, c->name, entry, NULL)) {
            osm_free(entry);
            return osm_fail(err, OSM_ENOMEM, "command %s", c->name);
        }
        *entry = (struct entry){c, ud};
    }
    return 0;
}

const struct osm_control_command *osm_registry_find(const struct osm_registry *r, const char *name,
                                                    void **ud)
{
    const struct entry *entry = osm_map_get(&r->commands, name);
    if (!entry)
        return NULL;
    *ud = entry->ud;
    return entry->command;
}

const char *osm_registry_nearest(const struct osm_registry *r, const char *name)
{
    return osm_nearest_in(&r->commands, name);
}

/* --- schema --- */

static const struct osm_control_arg *find_arg(const struct osm_control_command *command,
                                              const char *name)
{
    for (const struct osm_control_arg *a = command->args; a && a->name; a++)
        if (!strcmp(a->name, name))
            return a;
    return NULL;
}

/* Whether `word` is one of the words of `choices`, in any case. */
static bool is_choice(const char *choices, const char *word)
{
    size_t len = strlen(word);
    for (const char *at = choices; *at; at += strspn(at, " ")) {
        size_t n = strcspn(at, " ");
        if (n == len && !strncasecmp(at, word, n))
            return true;
        at += n;
    }
    return false;
}

static bool is_key(const json_t *value)
{
    return json_is_string(value) || json_is_integer(value) || json_is_boolean(value);
}

static bool all_are(const json_t *list, bool keys)
{
    size_t i;
    const json_t *item;
    json_array_foreach (list, i, item)
        if (keys ? !is_key(item) : !json_is_string(item))
            return false;
    return true;
}

static int check_value(const struct osm_control_arg *arg, const json_t *value, struct osm_err *err)
{
    const char *text = json_string_value(value), *expected = NULL;
    switch (arg->type) {
    case OSM_ARG_TEXT:
        expected = text && *text ? NULL : "a text that is not empty";
        break;
    case OSM_ARG_LINE:
        expected = text ? NULL : "a text";
        break;
    case OSM_ARG_FLAG:
        expected = json_is_boolean(value) ? NULL : "true or false";
        break;
    case OSM_ARG_INTEGER:
        expected = json_is_integer(value) ? NULL : "a whole number";
        break;
    case OSM_ARG_TEXTS:
        expected = json_is_array(value) && all_are(value, false) ? NULL : "an array of texts";
        break;
    case OSM_ARG_DATA:
        break;
    case OSM_ARG_KEYS:
        expected = json_is_array(value) && all_are(value, true)
                       ? NULL
                       : "an array of texts, whole numbers and booleans";
        break;
    }
    if (expected)
        return osm_fail(err, OSM_EINVAL, "%s: expected %s", arg->name, expected);
    if (text && arg->choices && !is_choice(arg->choices, text))
        return osm_fail(err, OSM_EINVAL, "%s: expected one of %s, got %.64s", arg->name,
                        arg->choices, text);
    json_int_t number = json_integer_value(value);
    if (arg->type == OSM_ARG_INTEGER && (arg->min || arg->max) &&
        (number < arg->min || number > arg->max))
        return osm_fail(err, OSM_EINVAL, "%s: expected %lld to %lld", arg->name,
                        (long long)arg->min, (long long)arg->max);
    return 0;
}

int osm_registry_check(const struct osm_control_command *command, const json_t *args,
                       struct osm_err *err)
{
    const char *name;
    json_t *value;
    json_object_foreach ((json_t *)(uintptr_t)args, name, value) {
        const struct osm_control_arg *arg = find_arg(command, name);
        if (arg) {
            int rc = check_value(arg, value, err);
            if (rc)
                return rc;
            continue;
        }
        struct osm_nearest near = osm_nearest_start(name);
        for (const struct osm_control_arg *a = command->args; a && a->name; a++)
            osm_nearest_consider(&near, a->name);
        return osm_fail(err, OSM_EINVAL, "%s takes no argument %.64s%s%s%s", command->name, name,
                        near.best ? "; did you mean " : "", near.best ? near.best : "",
                        near.best ? "?" : "");
    }
    for (const struct osm_control_arg *a = command->args; a && a->name; a++)
        if (a->required && !json_object_get(args, a->name))
            return osm_fail(err, OSM_EINVAL, "%s: %s is missing: %s", command->name, a->name,
                            a->help);
    return 0;
}

/* --- help --- */

static json_t *choices_of(const struct osm_control_arg *arg)
{
    json_t *list = arg->choices ? json_array() : NULL;
    for (const char *at = arg->choices; at && *at; at += strspn(at, " ")) {
        size_t n = strcspn(at, " ");
        if (json_array_append_new(list, json_stringn(at, n))) {
            json_decref(list);
            return NULL;
        }
        at += n;
    }
    return list;
}

static json_t *describe_arg(const struct osm_control_arg *arg)
{
    bool bounded = arg->type == OSM_ARG_INTEGER && (arg->min || arg->max);
    return json_pack("{s:s, s:s, s:b, s:s, s:o*, s:o*, s:o*}", "name", arg->name, "type",
                     type_words[arg->type], "required", arg->required, "help", arg->help, "choices",
                     choices_of(arg), "min", bounded ? json_integer(arg->min) : NULL, "max",
                     bounded ? json_integer(arg->max) : NULL);
}

json_t *osm_registry_describe(const struct osm_control_command *command)
{
    json_t *args = json_array();
    int rc = 0;
    for (const struct osm_control_arg *a = command->args; a && a->name; a++)
        rc |= json_array_append_new(args, describe_arg(a));
    json_t *out = json_pack("{s:s, s:s, s:s, s:o}", "name", command->name, "role",
                            osm_role_name(command->role), "help", command->help, "args", args);
    if (!rc)
        return out;
    json_decref(out);
    return NULL;
}

json_t *osm_registry_describe_all(const struct osm_registry *r)
{
    size_t n = 0;
    const char **names = osm_map_sorted_keys(&r->commands, &n);
    json_t *list = names ? json_array() : NULL;
    for (size_t i = 0; list && i < n; i++) {
        const struct entry *entry = osm_map_get(&r->commands, names[i]);
        if (json_array_append_new(list, osm_registry_describe(entry->command))) {
            json_decref(list);
            list = NULL;
        }
    }
    osm_free(names);
    return list;
}
