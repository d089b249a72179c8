#include "policy/bundle/doc.h"

#include "base/buf.h"

#include <ctype.h>
#include <string.h>

enum { BLOCK_MAX_BYTES = 64 * 1024 };

struct span {
    const char *at;
    size_t len;
};

/* --- lines --- */

/* The beginning of a line (from 1); the end of the text where there are fewer. */
static const char *start_of(const char *text, int line)
{
    for (; line > 1; line--) {
        const char *end = strchr(text, '\n');
        if (!end)
            return text + strlen(text);
        text = end + 1;
    }
    return text;
}

/* The line that begins here, without the white space around it. */
static struct span line_here(const char *at)
{
    struct span s = {at, strcspn(at, "\n")};
    for (; s.len && isspace((unsigned char)*s.at); s.len--)
        s.at++;
    while (s.len && isspace((unsigned char)s.at[s.len - 1]))
        s.len--;
    return s;
}

static const char *next_line(const char *at)
{
    at += strcspn(at, "\n");
    return *at ? at + 1 : at;
}

static bool begins(struct span s, const char *with)
{
    size_t n = strlen(with);
    return s.len >= n && !memcmp(s.at, with, n);
}

static bool is_doc(struct span s)
{
    return begins(s, "---") && !begins(s, "----");
}

static bool is_word(char c)
{
    return isalnum((unsigned char)c) || c == '_';
}

/* The first line of the block that ends right above @p at. */
static const char *block_above(const char *text, const char *at)
{
    while (at > text) {
        const char *before = at - 1; /* the newline of the line above */
        while (before > text && before[-1] != '\n')
            before--;
        if (!is_doc(line_here(before)))
            break;
        at = before;
    }
    return at;
}

/* --- tags --- */

static struct span skip(struct span s, size_t n)
{
    n = n < s.len ? n : s.len;
    return (struct span){s.at + n, s.len - n};
}

static struct span skip_spaces(struct span s)
{
    while (s.len && (*s.at == ' ' || *s.at == '\t'))
        s = skip(s, 1);
    return s;
}

/* The length of the type that begins here: "table<string, integer>", "fun(a: T): string?", "x|y[]".
 */
static size_t type_length(struct span s)
{
    int depth = 0;
    char quote = '\0', before = '\0';
    for (size_t i = 0; i < s.len; i++) {
        char c = s.at[i];
        if (quote) {
            quote = c == quote ? '\0' : quote;
        } else if (c == '"' || c == '\'') {
            quote = c;
        } else if (strchr("([{<", c)) {
            depth++;
        } else if (strchr(")]}>", c)) {
            depth--;
        } else if (depth <= 0 && c == ',') {
            return i;
        } else if (depth <= 0 && (c == ' ' || c == '\t')) {
            struct span rest = skip_spaces(skip(s, i));
            if (before != ':' && before != '|' && !begins(rest, "|"))
                return i;
            continue;
        }
        before = c;
    }
    return s.len;
}

static size_t word_length(struct span s)
{
    size_t n = 0;
    while (n < s.len && is_word(s.at[n]))
        n++;
    return n;
}

static json_t *text_of(struct span s)
{
    return json_stringn(s.at, s.len);
}

/* What follows a name or a type: "# text", "  text". */
static struct span comment_of(struct span s)
{
    s = skip_spaces(s);
    if (begins(s, "#"))
        s = skip_spaces(skip(s, 1));
    return s;
}

static int read_param(json_t *params, struct span s)
{
    s = skip_spaces(s);
    size_t n = begins(s, "...") ? 3 : word_length(s);
    n += n < s.len && s.at[n] == '?';
    struct span name = {s.at, n};
    s = skip_spaces(skip(s, n));
    struct span type = {s.at, type_length(s)};
    return json_array_append_new(params, json_pack("{s:o, s:o, s:o}", "name", text_of(name), "type",
                                                   text_of(type), "text",
                                                   text_of(comment_of(skip(s, type.len)))));
}

/* "type name, type name  text": the text belongs to the last. A name stands one space behind its
 * type and ends the line, or has a comma, "#" or two spaces behind it. */
static int read_returns(json_t *returns, struct span s)
{
    for (;;) {
        s = skip_spaces(s);
        struct span type = {s.at, type_length(s)}, name = {s.at, 0};
        s = skip(s, type.len);
        if (s.len > 1 && s.at[0] == ' ' && s.at[1] != ' ') {
            struct span after = skip(s, 1);
            size_t n = word_length(after);
            n += n && n < after.len && after.at[n] == '?';
            struct span rest = skip(after, n);
            if (n && (!rest.len || begins(rest, ",") || begins(rest, "  ") || begins(rest, " #"))) {
                name = (struct span){after.at, n};
                s = rest;
            }
        }
        bool more = begins(s, ",");
        struct span comment = more ? (struct span){s.at, 0} : comment_of(s);
        if (json_array_append_new(returns,
                                  json_pack("{s:o, s:o, s:o}", "type", text_of(type), "name",
                                            text_of(name), "text", text_of(comment))))
            return -1;
        if (!more)
            return 0;
        s = skip(s, 1);
    }
}

/* A plain line behind a tag goes on with the tag's text. */
static int continue_text(json_t *entry, struct span s)
{
    const char *old = json_string_value(json_object_get(entry, "text"));
    s = skip_spaces(s);
    char *joined = osm_strf("%s%s%.*s", old, old && *old ? " " : "", (int)s.len, s.at);
    int rc = joined ? json_object_set_new(entry, "text", json_string(joined)) : -1;
    osm_free(joined);
    return rc;
}

static int read_block(const char *from, const char *end, struct osm_buf *text, json_t *params,
                      json_t *returns)
{
    json_t *last = NULL; /* of the tags: borrowed from its list */
    for (const char *at = from; at < end; at = next_line(at)) {
        int rc = 0;
        struct span s = skip(line_here(at), 3);
        if (begins(s, "@param ")) {
            rc = read_param(params, skip(s, strlen("@param ")));
            last = json_array_get(params, json_array_size(params) - 1);
        } else if (begins(s, "@return ")) {
            rc = read_returns(returns, skip(s, strlen("@return ")));
            last = json_array_get(returns, json_array_size(returns) - 1);
        } else if (begins(s, "@")) {
            last = NULL;
        } else if (last) {
            rc = continue_text(last, s);
        } else {
            if (text->len)
                (void)osm_buf_add_char(text, '\n');
            s = begins(s, " ") ? skip(s, 1) : s;
            (void)osm_buf_add(text, s.at, s.len);
        }
        if (rc)
            return -1;
    }
    return text->failed ? -1 : 0;
}

static json_t *read_doc(const char *from, const char *end)
{
    struct osm_buf text = OSM_BUF_INIT(BLOCK_MAX_BYTES);
    json_t *params = json_array(), *returns = json_array(), *doc = NULL;
    if (params && returns && !read_block(from, end, &text, params, returns))
        doc = json_pack("{s:s, s:O, s:O}", "text", text.data ? text.data : "", "params", params,
                        "returns", returns);
    json_decref(params);
    json_decref(returns);
    osm_buf_clear(&text);
    return doc;
}

json_t *osm_doc_above(const char *text, int line)
{
    const char *at = start_of(text, line);
    return read_doc(block_above(text, at), at);
}

json_t *osm_doc_head(const char *text)
{
    const char *end = text;
    while (is_doc(line_here(end)))
        end = next_line(end);
    json_t *doc = read_doc(text, end);
    json_t *head = json_incref(json_object_get(doc, "text"));
    json_decref(doc);
    return head;
}

/* --- where declarations stand --- */

/* "name =", ["name"] = or "M.rules.name =" at the beginning of a line. */
static bool declares(struct span s, const char *name)
{
    size_t n = strlen(name);
    if (begins(s, "[")) {
        s = skip(s, 2); /* the bracket and a quote */
        if (!begins(s, name) || s.len < n + 2 || s.at[n + 1] != ']')
            return false;
        s = skip_spaces(skip(s, n + 2));
    } else {
        for (size_t i = 0; i < s.len && (is_word(s.at[i]) || s.at[i] == '.'); i++)
            if (s.at[i] == '.' && begins(skip(s, i + 1), name))
                return begins(skip_spaces(skip(s, i + 1 + n)), "=");
        if (!begins(s, name) || (s.len > n && is_word(s.at[n])))
            return false;
        s = skip_spaces(skip(s, n));
    }
    return begins(s, "=") && !begins(s, "==");
}

int osm_doc_line_of(const char *text, const char *name, int line)
{
    int found = 0, at_line = 1;
    for (const char *at = text; *at && at_line <= line; at = next_line(at), at_line++)
        if (declares(line_here(at), name))
            found = at_line;
    return found ? found : line;
}

/* --- types and functions --- */

static json_t *lines_of(const char *from, const char *end)
{
    json_t *lines = json_array();
    for (const char *at = from; lines && at < end; at = next_line(at)) {
        if (json_array_append_new(lines, text_of(line_here(at)))) {
            json_decref(lines);
            return NULL;
        }
    }
    return lines;
}

/* "---@class (exact) services.Port: table" -> services.Port; empty where the line is none. */
static struct span type_name(struct span s)
{
    size_t tag = begins(s, "---@class ") ? 10 : begins(s, "---@alias ") ? 10 : 0;
    s = skip(s, tag);
    if (tag && begins(s, "(exact) "))
        s = skip(s, strlen("(exact) "));
    size_t n = 0;
    while (tag && n < s.len && (is_word(s.at[n]) || s.at[n] == '.'))
        n++;
    return (struct span){s.at, n};
}

json_t *osm_doc_types(const char *text)
{
    json_t *types = json_array();
    int line = 1;
    bool failed = !types;
    for (const char *at = text; *at && !failed;) {
        const char *end = at;
        int lines = 0;
        struct span name = {at, 0};
        for (; *end && is_doc(line_here(end)); end = next_line(end), lines++)
            if (!name.len)
                name = type_name(line_here(end));
        if (name.len)
            failed =
                json_array_append_new(types, json_pack("{s:o, s:i, s:o}", "name", text_of(name),
                                                       "line", line, "lines", lines_of(at, end)));
        if (!lines) {
            end = next_line(end);
            lines = 1;
        }
        line += lines;
        at = end;
    }
    if (!failed)
        return types;
    json_decref(types);
    return NULL;
}

static json_t *args_of(struct span s)
{
    json_t *args = json_array();
    while (s.len && *s.at != ')') {
        s = skip_spaces(s);
        size_t n = begins(s, "...") ? 3 : word_length(s);
        if (n && json_array_append_new(args, text_of((struct span){s.at, n}))) {
            json_decref(args);
            return NULL;
        }
        s = skip(s, n ? n : 1);
    }
    return args;
}

json_t *osm_doc_functions(const char *text)
{
    static const char opening[] = "function M.";
    json_t *functions = json_array();
    int line = 1;
    bool failed = !functions;
    for (const char *at = text; *at && !failed; at = next_line(at), line++) {
        struct span s = line_here(at);
        if (!begins(s, opening))
            continue;
        s = skip(s, sizeof opening - 1);
        struct span name = {s.at, word_length(s)};
        s = skip(s, name.len);
        if (!begins(s, "("))
            continue;
        json_t *doc = osm_doc_above(text, line);
        failed = !doc || json_object_set_new(doc, "name", text_of(name)) ||
                 json_object_set_new(doc, "line", json_integer(line)) ||
                 json_object_set_new(doc, "args", args_of(skip(s, 1))) ||
                 json_array_append(functions, doc);
        json_decref(doc);
    }
    if (!failed)
        return functions;
    json_decref(functions);
    return NULL;
}
