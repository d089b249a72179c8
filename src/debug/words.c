#include "debug/words.h"

#include "base/buf.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

enum { NAME_WORDS_MAX = 3, NAME_MAX_BYTES = 64, WORD_MAX_BYTES = 64 * 1024 };

static const char *skip(const char *at)
{
    while (*at == ' ' || *at == '\t')
        at++;
    return at;
}

/* --- the name --- */

const struct osm_control_command *osm_words_command(const struct osm_registry *registry,
                                                    const char *line, const char **rest)
{
    const struct osm_control_command *found = NULL;
    char name[NAME_MAX_BYTES];
    size_t len = 0;
    const char *at = skip(line);
    for (int i = 0; i < NAME_WORDS_MAX && *at; i++) {
        size_t n = strcspn(at, " \t\n");
        if (len + n + 2 > sizeof name)
            break;
        if (i)
            name[len++] = '.';
        memcpy(name + len, at, n);
        len += n;
        name[len] = '\0';
        void *ud;
        const struct osm_control_command *command = osm_registry_find(registry, name, &ud);
        if (command) {
            found = command;
            *rest = skip(at + n);
        }
        at = skip(at + n);
    }
    return found;
}

char *osm_words_typed(const char *name)
{
    char *typed = osm_strdup(name);
    for (char *c = typed; c && *c; c++)
        if (*c == '.')
            *c = ' ';
    return typed;
}

char *osm_words_nearest(const struct osm_registry *registry, const char *line)
{
    char name[NAME_MAX_BYTES];
    const char *at = skip(line);
    for (int words = 2; words >= 1; words--) {
        size_t len = 0, n = strcspn(at, " \t\n");
        const char *second = skip(at + n);
        if (words == 2)
            n = (size_t)(second - at) + strcspn(second, " \t\n");
        for (size_t i = 0; i < n && len + 1 < sizeof name; i++)
            if (at[i] != ' ' && at[i] != '\t')
                name[len++] = at[i];
            else if (len && name[len - 1] != '.')
                name[len++] = '.';
        name[len] = '\0';
        const char *near = osm_registry_nearest(registry, name);
        if (near)
            return osm_words_typed(near);
    }
    return NULL;
}

/* --- words --- */

struct word {
    struct osm_buf text;
    bool quoted, bare_start; /* bare_start: its first character stands outside quotes */
};

/* Reads the next word; returns where it ends, NULL: a quote has no end. */
static const char *read_word(const char *at, struct word *w)
{
    char quote = '\0';
    osm_buf_reset(&w->text);
    w->quoted = false;
    w->bare_start = *at != '"' && *at != '\'';
    for (; *at && (quote || (*at != ' ' && *at != '\t')); at++) {
        if (quote && *at == quote) {
            quote = '\0';
        } else if (!quote && (*at == '"' || *at == '\'')) {
            quote = *at;
            w->quoted = true;
        } else {
            if (quote == '"' && *at == '\\' && (at[1] == '"' || at[1] == '\\'))
                at++;
            (void)osm_buf_add_char(&w->text, *at);
        }
    }
    return quote ? NULL : skip(at);
}

static const char *text_of(const struct word *w)
{
    return w->text.data ? w->text.data : "";
}

/* A whole number as it is written in decimal, within 64 bits. */
static bool is_number(const char *text, json_int_t *out)
{
    const char *digits = text + (*text == '-');
    char *end;
    if (!*digits || strspn(digits, "0123456789") != strlen(digits))
        return false;
    errno = 0;
    *out = strtoimax(text, &end, 10);
    return !errno && !*end;
}

static json_t *key_of(const struct word *w)
{
    json_int_t number;
    const char *text = text_of(w);
    if (!w->quoted && is_number(text, &number))
        return json_integer(number);
    if (!w->quoted && (!strcmp(text, "true") || !strcmp(text, "false")))
        return json_boolean(text[0] == 't');
    return json_string(text);
}

static json_t *value_of(const struct osm_control_arg *arg, const struct word *w)
{
    json_int_t number;
    const char *text = text_of(w);
    switch (arg->type) {
    case OSM_ARG_INTEGER:
        return is_number(text, &number) ? json_integer(number) : json_string(text);
    case OSM_ARG_FLAG:
        return !strcmp(text, "true") || !strcmp(text, "false") ? json_boolean(text[0] == 't')
                                                               : json_string(text);
    case OSM_ARG_KEYS:
        return key_of(w);
    case OSM_ARG_DATA: {
        json_t *data = json_loads(text, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, NULL);
        return data ? data : json_string(text);
    }
    case OSM_ARG_TEXT:
    case OSM_ARG_TEXTS:
    case OSM_ARG_LINE:
    default:
        return json_string(text);
    }
}

static bool is_list(const struct osm_control_arg *arg)
{
    return arg->type == OSM_ARG_KEYS || arg->type == OSM_ARG_TEXTS;
}

static int set_arg(json_t *args, const struct osm_control_arg *arg, const struct word *w,
                   struct osm_err *err)
{
    json_t *value = value_of(arg, w);
    json_t *list = is_list(arg) ? json_object_get(args, arg->name) : NULL;
    int rc = value ? 0 : -1;
    if (is_list(arg)) {
        if (!list) {
            list = json_array();
            rc |= json_object_set_new(args, arg->name, list);
        }
        rc |= json_array_append_new(list, value);
    } else if (json_object_get(args, arg->name)) {
        json_decref(value);
        return osm_fail(err, OSM_EINVAL, "%s is given twice", arg->name);
    } else {
        rc |= json_object_set_new(args, arg->name, value);
    }
    /* jansson refuses what is not UTF-8 too */
    return rc ? osm_fail(err, OSM_EINVAL, "%s: not a text in UTF-8", arg->name) : 0;
}

/* --mount-path is mount_path. */
static const struct osm_control_arg *named(const struct osm_control_command *command,
                                           const char *name, size_t len)
{
    for (const struct osm_control_arg *a = command->args; a && a->name; a++) {
        size_t i = 0;
        while (i < len && a->name[i] &&
               (a->name[i] == name[i] || (a->name[i] == '_' && name[i] == '-')))
            i++;
        if (i == len && !a->name[i])
            return a;
    }
    return NULL;
}

/* The next argument in order that has no value yet; a list takes all that is left. */
static const struct osm_control_arg *next_in_order(const struct osm_control_command *command,
                                                   const json_t *args)
{
    for (const struct osm_control_arg *a = command->args; a && a->name; a++)
        if (a->type != OSM_ARG_FLAG && a->type != OSM_ARG_DATA &&
            (is_list(a) || !json_object_get(args, a->name)))
            return a;
    return NULL;
}

/* "--name=WORD", "--name WORD" or "--flag" in *w; *at is behind it. */
static int take_option(const struct osm_control_command *command, json_t *args, struct word *w,
                       const char **at, struct osm_err *err)
{
    const char *name = text_of(w) + 2;
    size_t len = strcspn(name, "=");
    const struct osm_control_arg *arg = named(command, name, len);
    if (!arg)
        return osm_fail(err, OSM_EINVAL, "%s takes no argument --%.64s", command->name, name);
    if (name[len] == '=') {
        struct word value = {.text = OSM_BUF_INIT(WORD_MAX_BYTES), .quoted = w->quoted};
        int rc = osm_buf_add_str(&value.text, name + len + 1);
        rc = rc ? osm_fail(err, rc, "out of memory") : set_arg(args, arg, &value, err);
        osm_buf_clear(&value.text);
        return rc;
    }
    if (arg->type == OSM_ARG_FLAG)
        return json_object_set_new(args, arg->name, json_true())
                   ? osm_fail(err, OSM_ENOMEM, "out of memory")
                   : 0;
    if (!**at)
        return osm_fail(err, OSM_EINVAL, "--%s: its value is missing", arg->name);
    *at = read_word(*at, w);
    return *at ? set_arg(args, arg, w, err) : osm_fail(err, OSM_EINVAL, "a quote has no end");
}

int osm_words_args(const struct osm_control_command *command, const char *rest, json_t **args,
                   struct osm_err *err)
{
    struct word w = {.text = OSM_BUF_INIT(WORD_MAX_BYTES)};
    json_t *out = json_object();
    int rc = out ? 0 : osm_fail(err, OSM_ENOMEM, "out of memory");
    bool options = true;
    for (const char *at = skip(rest); !rc && *at;) {
        const struct osm_control_arg *arg = next_in_order(command, out);
        if (arg && arg->type == OSM_ARG_LINE &&
            (!options || strncmp(at, "--", 2) != 0 ||
             !named(command, at + 2, strcspn(at + 2, "= \t")))) {
            if (json_object_set_new(out, arg->name, json_string(at)))
                rc = osm_fail(err, OSM_EINVAL, "%s: not a text in UTF-8", arg->name);
            break;
        }
        at = read_word(at, &w);
        if (!at)
            rc = osm_fail(err, OSM_EINVAL, "a quote has no end");
        else if (w.text.failed)
            rc = osm_fail(err, w.text.failed, "%s", osm_code_text(w.text.failed));
        else if (options && w.bare_start && !strcmp(text_of(&w), "--"))
            options = false;
        else if (options && w.bare_start && !strncmp(text_of(&w), "--", 2))
            rc = take_option(command, out, &w, &at, err);
        else if (arg)
            rc = set_arg(out, arg, &w, err);
        else
            rc = osm_fail(err, OSM_EINVAL, "%s: %.64s is more than it takes", command->name,
                          text_of(&w));
    }
    osm_buf_clear(&w.text);
    if (rc)
        json_decref(out);
    else
        *args = out;
    return rc;
}
