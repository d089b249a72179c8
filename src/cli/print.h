/* Standard output: tables and JSON; and errors. */
#pragma once

#include "base/err.h"

#include <jansson.h>

/** Prints @p rows: lines of tab-separated cells, at most sixteen, each column padded to its widest
 * cell. */
void osm_print_table(const char *rows);
/** With \xNN in the place of what a terminal would act on. */
void osm_print_text(const char *text);
/** The same in all texts of an answer that a person is going to see, lines and tabs too: names and
 * reasons come from whoever may write an object. Returns @p value. */
json_t *osm_print_tame(json_t *value);
/** On standard error, "WHO: TEXT"; with \xNN as above, but lines stay lines. */
void osm_print_complaint(const char *who, const char *text);
/** "osm: ...", in the same way. */
void osm_print_error(const struct osm_err *err);
/** On one line: `50`, `"7s"`, `{"any":true}`; cut where it is long. */
void osm_print_value(const json_t *value);
/** Indented, with a newline. 0, or 1 where the output could not be written: an exit code. */
int osm_print_json(const json_t *value);
/** When all is printed. 0, or 1 where some of it could not be written, which is told: an exit code.
 */
int osm_print_end(void);
