/* The writer: json values as block YAML. Text stays plain only where every reader, YAML 1.1 or 1.2,
 * takes it for a string; texts of several lines become literal blocks where that keeps each
 * character. */
#include "base/buf.h"
#include "base/yaml.h"
#include "base/yaml_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    INDENT = 2,
    SIMPLE_KEY_MAX = 500 /* bytes; readers look 1024 characters ahead for the colon */
};

static bool has_only(const char *text, const char *chars)
{
    return !text[strspn(text, chars)];
}

static bool is_plain(const char *text, size_t len)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_/$";
    static const char digits[] = "0123456789";
    static const char inside[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_/$.-+=@()*|<>;~^%: ";
    if (!len || !has_only(text, inside) || osm__yaml_resolve(text, len).type != OSM__YAML_STRING)
        return false;
    if (!strchr(letters, *text)) {
        /* "10s" is text to everybody; a date, a time of day, an address or a version looks like a
         * number to somebody */
        if (!strchr(digits, *text) || has_only(text, "0123456789abcdefABCDEFxXoO_.:+-tTzZ "))
            return false;
    }
    if (!strcmp(text, "y") || !strcmp(text, "Y") || !strcmp(text, "n") || !strcmp(text, "N"))
        return false;
    return !strstr(text, ": ") && text[len - 1] != ':' && text[len - 1] != ' ';
}

/* Decodes one character of valid UTF-8. */
static unsigned decode(const unsigned char *s, size_t *len)
{
    *len = *s < 0x80 ? 1 : *s < 0xe0 ? 2 : *s < 0xf0 ? 3 : 4;
    unsigned c = *len == 1 ? *s : *s & (0xffu >> (*len + 1));
    for (size_t i = 1; i < *len; i++)
        c = c << 6 | (s[i] & 0x3fu);
    return c;
}

/* What libyaml and others read back as it stands, and not as a line break. */
static bool is_printable(unsigned c)
{
    if (c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x2028 || c == 0x2029 || c == 0xfeff)
        return false;
    return !(c >= 0xd800 && c < 0xe000) && c != 0xfffe && c != 0xffff;
}

static bool is_literal(const char *text, size_t len)
{
    if (!memchr(text, '\n', len) || strchr(" \t\n", *text))
        return false;
    if (len > 1 && text[len - 1] == '\n' && text[len - 2] == '\n')
        return false;
    for (size_t i = 0, n; i < len; i += n) {
        unsigned c = decode((const unsigned char *)text + i, &n);
        if (c != '\n' && c != '\t' && !is_printable(c))
            return false;
    }
    return true;
}

static void add_indent(struct osm_buf *out, int columns)
{
    for (int i = 0; i < columns; i++)
        (void)osm_buf_add_char(out, ' ');
}

static void add_quoted(struct osm_buf *out, const char *text, size_t len)
{
    (void)osm_buf_add_char(out, '"');
    for (size_t i = 0, n; i < len; i += n) {
        unsigned c = decode((const unsigned char *)text + i, &n);
        if (c == '"' || c == '\\')
            (void)osm_buf_addf(out, "\\%c", (int)c);
        else if (c == '\n')
            (void)osm_buf_add_str(out, "\\n");
        else if (c == '\t')
            (void)osm_buf_add_str(out, "\\t");
        else if (is_printable(c))
            (void)osm_buf_add(out, text + i, n);
        else
            (void)osm_buf_addf(out, "\\u%04x", c);
    }
    (void)osm_buf_add_char(out, '"');
}

static void add_literal(struct osm_buf *out, const char *text, size_t len, int columns)
{
    (void)osm_buf_add_str(out, text[len - 1] == '\n' ? "|" : "|-");
    for (const char *line = text; line < text + len;) {
        const char *end = memchr(line, '\n', (size_t)(text + len - line));
        size_t n = (size_t)((end ? end : text + len) - line);
        (void)osm_buf_add_char(out, '\n');
        if (n)
            add_indent(out, columns);
        (void)osm_buf_add(out, line, n);
        line += n + 1;
    }
}

static int add_string(struct osm_buf *out, const json_t *value, int columns)
{
    const char *text = json_string_value(value);
    size_t len = json_string_length(value);
    if (memchr(text, '\0', len))
        return OSM_EINVAL;
    if (is_plain(text, len))
        return osm_buf_add(out, text, len);
    if (is_literal(text, len))
        add_literal(out, text, len, columns);
    else
        add_quoted(out, text, len);
    return out->failed;
}

/* The fewest digits that read back as the same number, with a point: without one some readers see
 * an integer or a text. */
static int add_real(struct osm_buf *out, double value)
{
    char text[40];
    int digits = 15;
    do
        (void)snprintf(text, sizeof text, "%.*g", digits, value);
    while (strtod(text, NULL) != value && digits++ < 17);
    size_t whole = strcspn(text, ".e");
    (void)osm_buf_add(out, text, whole);
    if (text[whole] != '.')
        (void)osm_buf_add_str(out, ".0");
    return osm_buf_add_str(out, text + whole);
}

static bool is_block(const json_t *value)
{
    return (json_is_object(value) && json_object_size(value)) ||
           (json_is_array(value) && json_array_size(value));
}

static int add_value(struct osm_buf *out, const json_t *value, int columns, int depth);

/* After "key:" or "-": a block on the next line, anything else on this one. */
static int add_child(struct osm_buf *out, const json_t *value, int columns, int depth)
{
    if (!is_block(value))
        (void)osm_buf_add_char(out, ' ');
    else
        (void)osm_buf_add_char(out, '\n');
    if (is_block(value))
        add_indent(out, columns);
    return add_value(out, value, columns, depth);
}

static int add_map(struct osm_buf *out, const json_t *map, int columns, int depth)
{
    const char *key;
    json_t *value;
    bool first = true;
    int rc = 0;
    json_object_foreach ((json_t *)map, key, value) {
        size_t len = strlen(key);
        if (rc)
            return rc;
        if (!first) {
            (void)osm_buf_add_char(out, '\n');
            add_indent(out, columns);
        }
        first = false;
        if (len > SIMPLE_KEY_MAX)
            (void)osm_buf_add_str(out, "? ");
        if (is_plain(key, len))
            (void)osm_buf_add(out, key, len);
        else
            add_quoted(out, key, len);
        if (len > SIMPLE_KEY_MAX) {
            (void)osm_buf_add_char(out, '\n');
            add_indent(out, columns);
        }
        (void)osm_buf_add_char(out, ':');
        rc = add_child(out, value, columns + INDENT, depth + 1);
    }
    return rc;
}

static int add_list(struct osm_buf *out, const json_t *list, int columns, int depth)
{
    size_t i;
    json_t *value;
    int rc = 0;
    json_array_foreach (list, i, value) {
        if (rc)
            return rc;
        if (i) {
            (void)osm_buf_add_char(out, '\n');
            add_indent(out, columns);
        }
        (void)osm_buf_add_str(out, "- ");
        rc = add_value(out, value, columns + INDENT, depth + 1);
    }
    return rc;
}

/* The cursor is at @p columns already; no newline at the end. */
static int add_value(struct osm_buf *out, const json_t *value, int columns, int depth)
{
    if (depth > OSM_YAML_DEPTH_MAX)
        return OSM_ELIMIT;
    if (out->failed)
        return out->failed;
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return json_object_size(value) ? add_map(out, value, columns, depth)
                                       : osm_buf_add_str(out, "{}");
    case JSON_ARRAY:
        return json_array_size(value) ? add_list(out, value, columns, depth)
                                      : osm_buf_add_str(out, "[]");
    case JSON_STRING:
        return add_string(out, value, columns);
    case JSON_INTEGER:
        return osm_buf_addf(out, "%lld", (long long)json_integer_value(value));
    case JSON_REAL:
        return add_real(out, json_real_value(value));
    case JSON_TRUE:
        return osm_buf_add_str(out, "true");
    case JSON_FALSE:
        return osm_buf_add_str(out, "false");
    default:
        return osm_buf_add_str(out, "null");
    }
}

int osm_yaml_write(struct osm_buf *out, const json_t *value)
{
    /* A literal at the top would have to stand at column 0, where a line "---" ends it. */
    int rc = add_value(out, value, json_is_string(value) ? INDENT : 0, 1);
    if (!rc)
        rc = osm_buf_add_char(out, '\n');
    return rc ? rc : out->failed;
}
