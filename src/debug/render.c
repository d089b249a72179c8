#include "debug/render.h"

#include "base/utf8.h"

#include <stdint.h>
#include <string.h>
#include <time.h>

enum {
    COLUMNS_MAX = 12,
    CELL_MAX_BYTES = 60,
    LAST_CELL_MAX_BYTES = 240, /* of a row: it makes no other cell wider */
    INDENT_MAX = 32,
    ROWS_MAX_BYTES = 64 << 20
};

/* --- texts --- */

int osm_render_text(struct osm_buf *out, const char *text)
{
    return osm_utf8_add_tame(out, text, "\n\t");
}

/* --- tables --- */

static size_t characters(const char *text, size_t len)
{
    size_t n = 0;
    for (size_t i = 0; i < len; i++)
        n += ((unsigned char)text[i] & 0xc0) != 0x80;
    return n;
}

int osm_render_table(struct osm_buf *out, const char *rows)
{
    size_t widths[COLUMNS_MAX] = {0};
    for (int pass = 0; pass < 2; pass++)
        for (const char *cell = rows; *cell;) {
            for (size_t column = 0; *cell; column++) {
                size_t len = strcspn(cell, "\t\n"), width = characters(cell, len);
                bool last = cell[len] != '\t';
                if (!pass && column < COLUMNS_MAX && !last && width > widths[column])
                    widths[column] = width;
                if (pass)
                    (void)osm_buf_add(out, cell, len);
                for (; pass && !last && column < COLUMNS_MAX && width < widths[column] + 2; width++)
                    (void)osm_buf_add_char(out, ' ');
                cell += len + (cell[len] != '\0');
                if (last)
                    break;
            }
            if (pass)
                (void)osm_buf_add_char(out, '\n');
        }
    return out->failed;
}

/* --- values --- */

/* Members that hold seconds since 1970. */
static bool is_time(const char *name)
{
    return name && (!strcmp(name, "at") || !strcmp(name, "not_after"));
}

static void date(struct osm_buf *out, const json_t *value)
{
    char text[32];
    time_t at = (time_t)json_integer_value(value);
    struct tm tm;
    if (gmtime_r(&at, &tm) && strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &tm))
        (void)osm_buf_add_str(out, text);
}

/* @p name: of the member; may be NULL. */
static void scalar(struct osm_buf *out, const char *name, const json_t *value)
{
    if (is_time(name) && json_is_integer(value))
        date(out, value);
    else if (json_is_string(value))
        (void)osm_render_text(out, json_string_value(value));
    else if (json_is_integer(value))
        (void)osm_buf_addf(out, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
    else if (json_is_real(value))
        (void)osm_buf_addf(out, "%g", json_real_value(value));
    else
        (void)osm_buf_add_str(out, json_is_true(value)    ? "true"
                                   : json_is_false(value) ? "false"
                                                          : "-");
}

static bool is_scalar(const json_t *value)
{
    return !json_is_object(value) && !json_is_array(value);
}

/* Something that a cell can hold: a scalar, or a list of few. */
static bool fits_cell(const json_t *value)
{
    size_t i;
    const json_t *item;
    json_array_foreach ((json_t *)(uintptr_t)value, i, item)
        if (!is_scalar(item))
            return false;
    return !json_is_object(value);
}

static void cell(struct osm_buf *rows, const char *name, const json_t *value, size_t max)
{
    struct osm_buf text = OSM_BUF_INIT(ROWS_MAX_BYTES);
    size_t i;
    const json_t *item;
    if (json_is_array(value))
        json_array_foreach ((json_t *)(uintptr_t)value, i, item) {
            (void)osm_buf_add_str(&text, i ? ", " : "");
            scalar(&text, NULL, item);
        }
    else if (value)
        scalar(&text, name, value);
    size_t len = text.len;
    for (i = 0; i < len; i++)
        if (text.data[i] == '\n' || text.data[i] == '\t')
            text.data[i] = ' ';
    if (text.data && characters(text.data, len) > max) {
        for (len = max; len && ((unsigned char)text.data[len] & 0xc0) == 0x80; len--) {
        }
        (void)osm_buf_add(rows, text.data, len);
        (void)osm_buf_add_str(rows, "...");
    } else if (len) {
        (void)osm_buf_add(rows, text.data, len);
    }
    if (text.failed)
        rows->failed = text.failed;
    osm_buf_clear(&text);
}

/* The members of the records, in the order in which they first come; 0: it is no table. */
static size_t columns_of(const json_t *list, const char *names[COLUMNS_MAX])
{
    size_t i, n = 0;
    const json_t *item, *member;
    const char *name;
    json_array_foreach ((json_t *)(uintptr_t)list, i, item) {
        if (!json_is_object(item))
            return 0;
        json_object_foreach ((json_t *)(uintptr_t)item, name, member) {
            size_t k = 0;
            while (k < n && strcmp(names[k], name) != 0)
                k++;
            if (!fits_cell(member) || (k == n && n == COLUMNS_MAX))
                return 0;
            if (k == n)
                names[n++] = name;
        }
    }
    return n;
}

static void indent(struct osm_buf *out, size_t depth)
{
    for (size_t i = 0; i < depth && i < INDENT_MAX; i++)
        (void)osm_buf_add_str(out, "  ");
}

static void table(struct osm_buf *out, const json_t *list, const char *const *names, size_t n,
                  size_t depth)
{
    struct osm_buf rows = OSM_BUF_INIT(ROWS_MAX_BYTES);
    size_t i;
    const json_t *item;
    for (size_t k = 0; k < n; k++) {
        if (!k)
            indent(&rows, depth);
        else
            (void)osm_buf_add_char(&rows, '\t');
        for (const char *c = names[k]; *c; c++) /* headings as of the other tables */
            (void)osm_buf_add_char(&rows, *c >= 'a' && *c <= 'z' ? (char)(*c - 'a' + 'A') : *c);
    }
    (void)osm_buf_add_char(&rows, '\n');
    json_array_foreach ((json_t *)(uintptr_t)list, i, item) {
        indent(&rows, depth);
        for (size_t k = 0; k < n; k++) {
            if (k)
                (void)osm_buf_add_char(&rows, '\t');
            cell(&rows, names[k], json_object_get(item, names[k]),
                 k + 1 < n ? CELL_MAX_BYTES : LAST_CELL_MAX_BYTES);
        }
        (void)osm_buf_add_char(&rows, '\n');
    }
    if (rows.failed)
        out->failed = rows.failed;
    else
        (void)osm_render_table(out, rows.data);
    osm_buf_clear(&rows);
}

static void render(struct osm_buf *out, const json_t *value, size_t depth);

/* After "name:" or "-": on the same line where it fits one. */
static void member(struct osm_buf *out, const char *name, const json_t *value, size_t depth)
{
    const char *text = json_string_value(value);
    if (text && strchr(text, '\n')) {
        (void)osm_buf_add_char(out, '\n');
        for (const char *at = text; *at;) {
            size_t len = strcspn(at, "\n");
            char *line = osm_strndup(at, len);
            indent(out, depth);
            if (!line || osm_render_text(out, line))
                out->failed = out->failed ? out->failed : OSM_ENOMEM;
            (void)osm_buf_add_char(out, '\n');
            osm_free(line);
            at += len + (at[len] != '\0');
        }
    } else if (is_scalar(value)) {
        (void)osm_buf_add_char(out, ' ');
        scalar(out, name, value);
        (void)osm_buf_add_char(out, '\n');
    } else if (!json_array_size(value) && !json_object_size(value)) {
        (void)osm_buf_add_str(out, json_is_array(value) ? " none\n" : " {}\n");
    } else {
        (void)osm_buf_add_char(out, '\n');
        render(out, value, depth);
    }
}

static void render_list(struct osm_buf *out, const json_t *list, size_t depth)
{
    const char *names[COLUMNS_MAX];
    size_t i, columns = columns_of(list, names);
    const json_t *item;
    if (columns) {
        table(out, list, names, columns, depth);
        return;
    }
    json_array_foreach ((json_t *)(uintptr_t)list, i, item) {
        indent(out, depth);
        (void)osm_buf_add_char(out, '-');
        member(out, NULL, item, depth + 1);
    }
}

static void render(struct osm_buf *out, const json_t *value, size_t depth)
{
    const char *name;
    const json_t *item;
    if (json_is_array(value)) {
        render_list(out, value, depth);
        return;
    }
    json_object_foreach ((json_t *)(uintptr_t)value, name, item) {
        indent(out, depth);
        (void)osm_render_text(out, name);
        (void)osm_buf_add_char(out, ':');
        member(out, name, item, depth + 1);
    }
}

int osm_render(struct osm_buf *out, const json_t *value)
{
    if (is_scalar(value) && value) {
        scalar(out, NULL, value);
        (void)osm_buf_add_char(out, '\n');
    } else {
        render(out, value, 0);
    }
    return out->failed;
}
