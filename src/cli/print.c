#include "cli/print.h"

#include "base/mem.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum { CELL_MAX = 16, VALUE_SHOWN_BYTES = 100 };

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

void osm_print_text(const char *text)
{
    for (const unsigned char *p = (const unsigned char *)text; *p; p++)
        (void)(*p < 0x20 || *p == 0x7f ? printf("\\x%02x", *p) : putchar(*p));
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
    return fflush(stdout) ? 1 : 0;
}
