#include "debug/complete.h"

#include "debug/words.h"
#include "policy/bundle/lex.h"

#include <string.h>

enum { CALLS_MAX = 16, NAME_MAX_BYTES = 128 };

void osm_completing_clear(struct osm_completing *c)
{
    osm_free(c->name);
    for (size_t i = 0; i < OSM_COMPLETING_BEFORE_MAX; i++)
        osm_free(c->before[i]);
    *c = (struct osm_completing){0};
}

static int add_before(struct osm_completing *c, const char *text, size_t len)
{
    size_t i = c->before_len++;
    if (i >= OSM_COMPLETING_BEFORE_MAX)
        return 0;
    osm_free(c->before[i]);
    c->before[i] = osm_strndup(text, len);
    return c->before[i] ? 0 : OSM_ENOMEM;
}

static void forget_before(struct osm_completing *c)
{
    c->before_len = 0;
}

/* --- Lua --- */

struct call {
    char name[NAME_MAX_BYTES]; /* "" where it is no mesh.name() */
};

static void put_name(char out[NAME_MAX_BYTES], const char *start, const char *end)
{
    size_t len = (size_t)(end - start);
    if (len >= NAME_MAX_BYTES)
        len = 0;
    memcpy(out, start, len);
    out[len] = '\0';
}

/* Walks the source; what it stands in at its end is what is completed. */
static int parse_lua(struct osm_completing *c, const char *line, const char *code)
{
    struct osm_lex at = {code, code + strlen(code), 1};
    struct call calls[CALLS_MAX];
    size_t depth = 0;
    const char *start, *name = NULL; /* name: begins behind "mesh." */
    const char *mesh_end = NULL;     /* right behind "mesh" */
    int rc = 0;
    c->any = false;
    for (enum osm_lex_piece piece; !rc && (piece = osm_lex_next(&at, &start)) != OSM_LEX_END;) {
        size_t len = (size_t)(at.at - start);
        bool open = piece == OSM_LEX_TEXT && (len == 1 || at.at[-1] != *start) && *start != '[';
        const char *asked = name, *mesh = mesh_end;
        mesh_end = NULL;
        if (piece == OSM_LEX_SIGN && *start == '.' && (mesh == start || asked)) {
            name = asked ? asked : at.at;
        } else if (piece == OSM_LEX_WORD && asked && (start == asked || start[-1] == '.')) {
            name = asked; /* mesh.acme.quota */
        } else {
            name = NULL;
            if (piece == OSM_LEX_WORD && len == 4 && !memcmp(start, "mesh", 4))
                mesh_end = at.at;
        }
        if (piece == OSM_LEX_SIGN && strchr("({[", *start)) {
            if (depth == CALLS_MAX)
                return 0;
            calls[depth].name[0] = '\0';
            if (*start == '(' && asked)
                put_name(calls[depth].name, asked, start);
            depth++;
            forget_before(c);
        } else if (piece == OSM_LEX_SIGN && strchr(")}]", *start)) {
            depth -= depth > 0;
            forget_before(c);
        } else if (open && depth && calls[depth - 1].name[0]) {
            c->any = true;
            c->source = OSM_COMPLETE_KEYS;
            c->start = (size_t)(start + 1 - line);
            c->end = *start;
            c->name = osm_strdup(calls[depth - 1].name);
            return c->name ? 0 : OSM_ENOMEM;
        } else if (piece == OSM_LEX_TEXT && depth && calls[depth - 1].name[0] && len > 1) {
            rc = add_before(c, start + 1, len - 2);
        } else if (piece == OSM_LEX_WORD && depth && calls[depth - 1].name[0]) {
            rc = add_before(c, start, len); /* a number, or a variable: not known */
        }
    }
    if (!rc && name && name <= at.end && (name == at.end || at.at == at.end)) {
        c->any = strcspn(name, " \t\n") == strlen(name);
        c->source = OSM_COMPLETE_MESH;
        c->start = (size_t)(name - line);
    }
    return rc;
}

/* --- words --- */

/* The last word of @p rest, which may be empty: where it begins, and the one before. Quotes count
 * as far as words with spaces go. */
static int split(struct osm_completing *c, const char *line, const char *rest, const char **last,
                 const struct osm_control_arg **option)
{
    char quote = '\0';
    const char *start = rest;
    int rc = 0;
    *option = NULL;
    c->end = ' ';
    for (const char *at = rest; !rc && *at; at++) {
        if (quote && *at == quote) {
            quote = '\0';
        } else if (!quote && (*at == '"' || *at == '\'')) {
            quote = *at;
        } else if (!quote && (*at == ' ' || *at == '\t')) {
            size_t len = (size_t)(at - start);
            bool is_option = len > 2 && start[0] == '-' && start[1] == '-';
            if (len && !is_option)
                rc = add_before(c, start, len);
            start = at + 1;
        }
    }
    if (quote) {
        c->end = quote;
        start++;
    }
    c->start = (size_t)(start - line);
    *last = start;
    return rc;
}

static const struct osm_control_arg *nth(const struct osm_control_command *command, size_t n)
{
    for (const struct osm_control_arg *a = command->args; a && a->name; a++) {
        if (a->type == OSM_ARG_FLAG || a->type == OSM_ARG_DATA)
            continue;
        if (!n || a->type == OSM_ARG_KEYS || a->type == OSM_ARG_TEXTS || a->type == OSM_ARG_LINE)
            return a;
        n--;
    }
    return NULL;
}

/* Keys are keys of what the word before them names. */
static int shift_name(struct osm_completing *c)
{
    if (c->source != OSM_COMPLETE_KEYS || !c->before_len)
        return 0;
    c->name = c->before[0];
    memmove(c->before, c->before + 1, (OSM_COMPLETING_BEFORE_MAX - 1) * sizeof *c->before);
    c->before[OSM_COMPLETING_BEFORE_MAX - 1] = NULL;
    c->before_len--;
    return 0;
}

int osm_complete_parse(struct osm_completing *out, const struct osm_registry *registry,
                       const char *line)
{
    const char *rest = NULL, *last;
    const struct osm_control_arg *option;
    *out = (struct osm_completing){0};
    const struct osm_control_command *command = osm_words_command(registry, line, &rest);
    bool behind = command && rest > line && (rest[-1] == ' ' || rest[-1] == '\t');
    if (!behind) { /* "policy", "policy wh", "xds" */
        out->any = true;
        out->source = OSM_COMPLETE_COMMAND;
        out->end = ' ';
        out->start = strspn(line, " \t");
        return 0;
    }
    int rc = split(out, line, rest, &last, &option);
    size_t position = out->before_len;
    out->command = command;
    out->arg = nth(command, position);
    if (!rc && last[0] == '-' && last[1] == '-' && out->end == ' ') {
        out->any = command->args != NULL;
        out->arg = NULL;
    } else if (!rc && out->arg && out->arg->complete == OSM_COMPLETE_LUA) {
        forget_before(out);
        out->end = '\0';
        rc = parse_lua(out, line, rest);
    } else if (!rc && out->arg) {
        out->any = true;
        out->source = out->arg->complete;
        if (out->arg->type == OSM_ARG_LINE) {
            out->start = (size_t)(rest - line);
            out->end = '\0';
        }
        rc = shift_name(out);
    }
    if (rc)
        osm_completing_clear(out);
    return rc;
}
