/* The commands of every session, whatever the daemon offers: help, role, more, quit. */
#include "debug/control_priv.h"
#include "debug/render.h"
#include "debug/words.h"

#include <string.h>

/* --- help --- */

/* "policy why" and "policy.why" are one. */
static const struct osm_control_command *named(const struct osm_registry *registry,
                                               const char *name)
{
    void *ud;
    const char *rest;
    const struct osm_control_command *command = osm_registry_find(registry, name, &ud);
    return command ? command : osm_words_command(registry, name, &rest);
}

static void help(void *ud, struct osm_control_request *request, const json_t *args)
{
    const struct osm_registry *registry = request->session->control->config.registry;
    const char *name = json_string_value(json_object_get(args, "command"));
    struct osm_err err = {0};
    const struct osm_control_command *command = name && *name ? named(registry, name) : NULL;
    json_t *list = !name || !*name ? osm_registry_describe_all(registry)
                   : command       ? json_pack("[o]", osm_registry_describe(command))
                                   : NULL;
    (void)ud;
    if (name && *name && !command)
        (void)osm_fail(&err, OSM_ENOENT, "no such command: %.64s", name);
    else if (!list)
        (void)osm_fail(&err, OSM_ENOMEM, "help");
    if (err.code)
        osm_control_fail(request, &err);
    else
        osm_control_reply(request, json_pack("{s:o}", "commands", list));
}

static void add_usage(struct osm_buf *out, const json_t *command)
{
    size_t i;
    const json_t *arg;
    char *typed = osm_words_typed(json_string_value(json_object_get(command, "name")));
    (void)osm_buf_add_str(out, typed ? typed : "?");
    osm_free(typed);
    json_array_foreach (json_object_get(command, "args"), i, arg) {
        const char *name = json_string_value(json_object_get(arg, "name"));
        const char *type = json_string_value(json_object_get(arg, "type"));
        bool required = json_is_true(json_object_get(arg, "required"));
        bool list = !strcmp(type, "texts") || !strcmp(type, "keys");
        if (!strcmp(type, "data")) /* for programs */
            continue;
        (void)osm_buf_add_str(out, required ? " " : " [");
        if (!strcmp(type, "flag"))
            (void)osm_buf_add_str(out, "--");
        for (const char *c = name; *c; c++)
            (void)osm_buf_add_char(out, strcmp(type, "flag") != 0 && *c >= 'a' && *c <= 'z'
                                            ? (char)(*c - 'a' + 'A')
                                        : *c == '_' && !strcmp(type, "flag") ? '-'
                                                                             : *c);
        (void)osm_buf_add_strs(out, list ? "..." : "", required ? "" : "]", NULL);
    }
}

/* One line per command; of a single one its arguments too. */
static int help_text(struct osm_buf *out, const json_t *data)
{
    const json_t *list = json_object_get(data, "commands"), *command, *arg;
    struct osm_buf rows = OSM_BUF_INIT(1024 * 1024);
    size_t i, k;
    bool one = json_array_size(list) == 1;
    json_array_foreach ((json_t *)(uintptr_t)list, i, command) {
        add_usage(&rows, command);
        (void)osm_buf_add_strs(&rows, "\t", json_string_value(json_object_get(command, "role")),
                               "\t", json_string_value(json_object_get(command, "help")), "\n",
                               NULL);
        json_array_foreach (json_object_get(command, "args"), k, arg) {
            if (!one)
                break;
            (void)osm_buf_add_strs(&rows, "  ", json_string_value(json_object_get(arg, "name")),
                                   "\t", json_string_value(json_object_get(arg, "type")), "\t",
                                   json_string_value(json_object_get(arg, "help")), NULL);
            const json_t *choices = json_object_get(arg, "choices"), *choice;
            size_t c;
            json_array_foreach ((json_t *)(uintptr_t)choices, c, choice)
                (void)osm_buf_add_strs(&rows, c ? ", " : ": ", json_string_value(choice), NULL);
            (void)osm_buf_add_char(&rows, '\n');
        }
    }
    if (rows.failed)
        out->failed = rows.failed;
    else if (rows.data)
        (void)osm_render_table(out, rows.data);
    osm_buf_clear(&rows);
    return out->failed;
}

/* --- the session --- */

static void role(void *ud, struct osm_control_request *request, const json_t *args)
{
    struct osm__session *s = request->session;
    const char *wanted = json_string_value(json_object_get(args, "role"));
    int next = wanted ? osm_role_parse(wanted) : (int)s->role;
    struct osm_err err = {0};
    (void)ud;
    if (next < 0)
        (void)osm_fail(&err, OSM_EINVAL, "role: expected view or operate, in small letters");
    else if (next > (int)s->role)
        (void)osm_fail(&err, OSM_EACCES, "a session may lower its role, never raise it: it is %s",
                       osm_role_name(s->role));
    if (err.code) {
        osm_control_fail(request, &err);
        return;
    }
    s->role = (enum osm_role)next;
    osm_control_reply(request, json_pack("{s:s, s:s}", "role", osm_role_name(s->role), "socket",
                                         osm_role_name(s->control->config.role)));
}

static void more(void *ud, struct osm_control_request *request, const json_t *args)
{
    struct osm_err err = {0};
    (void)ud;
    (void)args;
    if (osm__session_next_page(request))
        return;
    (void)osm_fail(&err, OSM_ENOENT, "there is no more of the last answer");
    osm_control_fail(request, &err);
}

/* What went on until the session said something has ended by this request already. */
static void stop(void *ud, struct osm_control_request *request, const json_t *args)
{
    (void)ud;
    (void)args;
    osm_control_reply(request, NULL);
}

static void quit(void *ud, struct osm_control_request *request, const json_t *args)
{
    (void)ud;
    (void)args;
    request->session->leaving = true;
    osm_control_reply(request, NULL);
}

static const struct osm_control_arg help_args[] = {
    {.name = "command",
     .type = OSM_ARG_LINE,
     .complete = OSM_COMPLETE_COMMAND,
     .help = "only this one, such as policy why"},
    {.name = NULL},
};
static const struct osm_control_arg role_args[] = {
    {.name = "role", .type = OSM_ARG_TEXT, .choices = "view operate", .help = "the lower role"},
    {.name = NULL},
};
const struct osm_control_command osm__builtins[] = {
    {.name = "help",
     .handler = help,
     .text = help_text,
     .args = help_args,
     .help = "the commands, with roles and arguments"},
    {.name = "role",
     .handler = role,
     .args = role_args,
     .help = "what this session may do; or to do less from now on"},
    {.name = "more", .handler = more, .help = "the next page of an answer that has several"},
    {.name = "stop", .handler = stop, .help = "ends a watch of this session, as any line does"},
    {.name = "quit", .handler = quit, .help = "ends the session"},
    {.name = NULL},
};
