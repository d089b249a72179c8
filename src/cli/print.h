/* Standard output: tables and JSON. */
#pragma once

#include <jansson.h>

/** Prints @p rows: lines of tab-separated cells, at most sixteen, each column padded to its widest
 * cell. */
void osm_print_table(const char *rows);
/** With \xNN in the place of what a terminal would act on. */
void osm_print_text(const char *text);
/** On one line: `50`, `"7s"`, `{"any":true}`; cut where it is long. */
void osm_print_value(const json_t *value);
/** Indented, with a newline. 0, or 1 where the output could not be written: an exit code. */
int osm_print_json(const json_t *value);
