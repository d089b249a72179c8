#include "cli/takes.h"

#include "base/buf.h"

#include <string.h>

enum { SAID_MAX_BYTES = 512 };

static const char everywhere[] = "socket help";

static const struct command {
    const char *words, *options;
    const char *formats; /* of -o, the one without it first; "": it writes none */
} commands[] = {
    {"status", "", "table json"},
    {"wait", "applied connected timeout", "table json"},
    {"proxy bootstrap", "out mount-path", ""},
    {"proxy get config", "", "yaml json"},
    {"policy init", "force policies mesh-name osm-namespace", ""},
    {"policy check", "objects policies mesh-name osm-namespace", "table json"},
    {"policy test", "policies filter", ""},
    {"policy annotations", "out policies mesh-name osm-namespace", ""},
    {"policy docs", "policies mesh-name osm-namespace", "table json"},
    {"policy why", "", "table json"},
    {"policy why-not", "path method header port", "table json"},
    {"policy diff", "fresh", "table json"},
    {"policy profile", "seconds top objects policies mesh-name osm-namespace", "table json"},
    {"policy list", "", "table json"},
    {"policy reload", "force", "table json"},
    {"policy apply", "canary soak force", "table json"},
    {"policy activate", "", "table json"},
    {"policy rollback", "", "table json"},
    {"diff", "filename delete policies fresh", "table json"},
    {"ca reload", "", "table json"},
    {"debug", "console token-file json", ""},
    {"version", "", ""},
};

static bool is_among(const char *list, const char *word)
{
    size_t len = strlen(word), n;
    for (; *list; list += n + strspn(list + n, " ")) {
        n = strcspn(list, " ");
        if (n == len && !memcmp(list, word, n))
            return true;
    }
    return false;
}

static bool begins(const char *command, const char *const *words, size_t n)
{
    size_t len;
    for (; *command; command += len + strspn(command + len, " ")) {
        len = strcspn(command, " ");
        if (!n || strlen(*words) != len || memcmp(*words, command, len) != 0)
            return false;
        words++;
        n--;
    }
    return true;
}

static bool is_set(const struct osm_option *option)
{
    return option->flag ? *option->flag : *option->value != NULL;
}

/* A command of the console may have a flag of this name. */
static int refuse_for_console(const struct osm_option *option, struct osm_err *err)
{
    return osm_fail(err, OSM_EINVAL,
                    "debug takes no --%s; `osm debug -- COMMAND --%s` gives it to the console's "
                    "command",
                    option->name, option->name);
}

static int refuse(const struct command *command, const struct osm_option *option,
                  struct osm_err *err)
{
    struct osm_buf said = OSM_BUF_INIT(SAID_MAX_BYTES);
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        if (is_among(commands[i].options, option->name))
            (void)osm_buf_add_strs(&said, said.len ? ", " : "", commands[i].words, NULL);
    int rc = osm_fail(err, OSM_EINVAL, "%s takes no --%s, which is for: %s", command->words,
                      option->name, said.data ? said.data : "no command");
    osm_buf_clear(&said);
    return rc;
}

static int check_format(const struct command *command, const char *format, struct osm_err *err)
{
    if (!*command->formats)
        return osm_fail(err, OSM_EINVAL, "%s takes no -o", command->words);
    if (is_among(command->formats, format))
        return 0;
    return osm_fail(err, OSM_EINVAL, "-o %s: %s writes: %s", format, command->words,
                    command->formats);
}

/* "" would be the root of the file system to some, and "none given" to others. */
static int check_empty(const struct osm_option *options, const struct command *command,
                       const char *const *words, size_t n, struct osm_err *err)
{
    static const char hint[] = "is empty: is a variable not set?";
    for (const struct osm_option *o = options; o->name; o++) {
        bool is_list = o->value_name && strstr(o->value_name, "...");
        for (const char **value = o->value; value && *value; value++) {
            if (!**value)
                return osm_fail(err, OSM_EINVAL, "--%s %s", o->name, hint);
            if (!is_list)
                break;
        }
    }
    for (size_t i = 0; i < n; i++)
        if (!*words[i])
            return osm_fail(err, OSM_EINVAL, "%s: a word %s", command->words, hint);
    return 0;
}

static int check_one(const struct osm_option *option, const struct command *command,
                     struct osm_err *err)
{
    if (!is_set(option) || is_among(everywhere, option->name))
        return 0;
    if (!strcmp(option->name, "output"))
        return check_format(command, *option->value, err);
    if (is_among(command->options, option->name))
        return 0;
    return !strcmp(command->words, "debug") ? refuse_for_console(option, err)
                                            : refuse(command, option, err);
}

int osm_cli_check_options(const struct osm_option *options, const char *const *words, size_t n,
                          struct osm_err *err)
{
    const struct command *command = commands;
    const struct command *end = commands + sizeof commands / sizeof *commands;
    int rc = 0;
    while (command < end && !begins(command->words, words, n))
        command++;
    if (command == end)
        return 0;
    for (const struct osm_option *o = options; !rc && o->name; o++)
        rc = check_one(o, command, err);
    return rc ? rc : check_empty(options, command, words, n, err);
}
