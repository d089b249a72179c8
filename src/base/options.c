#include "base/options.h"

#include "base/nearest.h"

#include <string.h>

enum { WORD_MAX = 64 };

static const struct osm_option *find(const struct osm_option *options, const char *name, size_t len)
{
    for (const struct osm_option *o = options; o->name; o++)
        if (strlen(o->name) == len && !strncmp(o->name, name, len))
            return o;
    return NULL;
}

static int unknown(const struct osm_option *options, const char *flag, size_t len,
                   struct osm_err *err)
{
    char word[WORD_MAX + 1];
    size_t copied = len < WORD_MAX ? len : WORD_MAX;
    memcpy(word, flag, copied);
    word[copied] = '\0';
    struct osm_nearest search = osm_nearest_start(word);
    for (const struct osm_option *o = options; o->name; o++)
        osm_nearest_consider(&search, o->name);
    if (search.best)
        return osm_fail(err, OSM_EINVAL, "unknown flag --%s; did you mean --%s?", word,
                        search.best);
    return osm_fail(err, OSM_EINVAL, "unknown flag --%s; --help lists them", word);
}

/* Handles the flag at argv[*i]; advances *i over a value of its own. */
static int take_flag(const struct osm_option *options, int argc, char **argv, int *i,
                     struct osm_err *err)
{
    const char *text = argv[*i];
    const struct osm_option *option = NULL;
    const char *equals = NULL;
    if (text[1] == '-') {
        equals = strchr(text, '=');
        size_t len = equals ? (size_t)(equals - text - 2) : strlen(text + 2);
        option = find(options, text + 2, len);
        if (!option)
            return unknown(options, text + 2, len, err);
    } else {
        for (const struct osm_option *o = options; o->name && !option; o++)
            if (o->short_name == text[1] && !text[2])
                option = o;
        if (!option)
            return osm_fail(err, OSM_EINVAL, "unknown flag %s; --help lists them", text);
    }
    if (!option->value_name) {
        if (equals)
            return osm_fail(err, OSM_EINVAL, "--%s takes no value", option->name);
        *option->flag = true;
        return 0;
    }
    if (!equals && *i + 1 >= argc)
        return osm_fail(err, OSM_EINVAL, "--%s needs a value: %s", option->name,
                        option->value_name);
    const char **value = option->value;
    if (strstr(option->value_name, "...")) {
        while (*value)
            value++;
        if (value - option->value == OSM_OPTION_VALUES_MAX)
            return osm_fail(err, OSM_EINVAL, "--%s: at most %d of them", option->name,
                            OSM_OPTION_VALUES_MAX);
    }
    *value = equals ? equals + 1 : argv[++*i];
    return 0;
}

int osm_options_parse(const struct osm_option *options, int argc, char **argv, const char ***words,
                      size_t *words_len, struct osm_err *err)
{
    const char **list = osm_alloc_array((size_t)argc + 1, sizeof *list);
    size_t n = 0;
    if (!list)
        return osm_fail(err, OSM_ENOMEM, "command line");
    bool flags_ended = false;
    for (int i = 1; i < argc; i++) {
        if (flags_ended || argv[i][0] != '-' || !argv[i][1]) {
            list[n++] = argv[i];
        } else if (!strcmp(argv[i], "--")) {
            flags_ended = true;
        } else {
            int rc = take_flag(options, argc, argv, &i, err);
            if (rc) {
                osm_free(list);
                return rc;
            }
        }
    }
    *words = list;
    *words_len = n;
    return 0;
}

int osm_options_require(const struct osm_option *options, struct osm_err *err)
{
    for (const struct osm_option *o = options; o->name; o++)
        if (o->required && o->value && !*o->value)
            return osm_fail(err, OSM_EINVAL, "--%s %s is missing: %s", o->name, o->value_name,
                            o->help);
    return 0;
}

void osm_options_help(const struct osm_option *options, FILE *to)
{
    for (const struct osm_option *o = options; o->name; o++) {
        char left[WORD_MAX + 1];
        (void)snprintf(left, sizeof left, "--%s%s%s", o->name, o->value_name ? " " : "",
                       o->value_name ? o->value_name : "");
        if (o->short_name)
            (void)fprintf(to, "  -%c, %-24s %s\n", o->short_name, left, o->help);
        else
            (void)fprintf(to, "      %-24s %s\n", left, o->help);
    }
}
