#include "cli/print.h"

#include "base/mem.h"
#include "base/utf8.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum { CELL_MAX = 16, VALUE_SHOWN_BYTES = 100, TEXT_MAX_BYTES = 64 * 1024 * 1024 };

void osm_print_table(const char *rows)
{
    size_t widths[CELL_MAX] = {0};
    for (int pass = 0; pass < 2; pass++) {
        for (const char *row = rows; *row;) {
            size_t row_len = strcspn(row, "\n");
            const char *cell = row;
            for (size_t column = 0; column < CELL_MAX && cell <= row + row_len; column++) {
                size_t len = strcspn(cell, "\t\n");
                if (pass == 0 && len > widths[column])
                    widths[column] = len;
                bool last = cell[len] != '\t';
                if (pass == 1)
                    (void)printf("%s%-*.*s", "  ", last ? (int)len : (int)widths[column], (int)len,
                                 cell);
                if (last)
                    break;
                cell += len + 1;
            }
            if (pass == 1)
                (void)putchar('\n');
            row += row_len + (row[row_len] == '\n');
        }
    }
}

static void put_tame(FILE *file, const char *text, const char *kept)
{
    struct osm_buf tame = OSM_BUF_INIT(TEXT_MAX_BYTES);
    int rc = osm_utf8_add_tame(&tame, text, kept);
    (void)fputs(rc ? "?" : tame.data ? tame.data : "", file);
    osm_buf_clear(&tame);
}

void osm_print_text(const char *text)
{
    put_tame(stdout, text, "");
}

void osm_print_complaint(const char *who, const char *text)
{
    (void)fprintf(stderr, "%s: ", who);
    put_tame(stderr, text, "\n\t");
    (void)putc('\n', stderr);
}

void osm_print_error(const struct osm_err *err)
{
    osm_print_complaint("osm", err->msg);
}

json_t *osm_print_tame(json_t *value)
{
    size_t i;
    const char *key, *text = json_string_value(value);
    json_t *item;
    json_array_foreach (value, i, item)
        (void)osm_print_tame(item);
    json_object_foreach (value, key, item)
        (void)osm_print_tame(item);
    if (text) {
        struct osm_buf tame = OSM_BUF_INIT(TEXT_MAX_BYTES);
        int rc = osm_utf8_add_tame(&tame, text, "");
        if (rc || tame.len != json_string_length(value)) /* else it says the same */
            (void)json_string_set(value, rc ? "?" : tame.data);
        osm_buf_clear(&tame);
    }
    return value;
}

void osm_print_value(const json_t *value)
{
    char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY | JSON_ENSURE_ASCII);
    size_t len = text ? strlen(text) : 0;
    (void)printf("%.*s%s", VALUE_SHOWN_BYTES, text ? text : "?",
                 len > VALUE_SHOWN_BYTES ? "..." : "");
    osm_free(text);
}

int osm_print_json(const json_t *value)
{
    (void)json_dumpf(value, stdout, JSON_INDENT(2));
    (void)putchar('\n');
    return osm_print_end();
}

/* What is longer than the library's buffer is written before the flush, which then succeeds. */
int osm_print_end(void)
{
    static bool is_told;
    if (!fflush(stdout) && !ferror(stdout))
        return 0;
    if (!is_told)
        osm_print_complaint("osm", "the output cannot be written");
    is_told = true;
    return 1;
}
