/* An answer for a person: JSON as text, with every list of records as a table. Pure. */
#pragma once

#include "base/buf.h"

#include <jansson.h>

/** Appends @p value: an object as "name: value" lines, a list of objects as a table whose columns
 * are the members in the order in which they first come, long cells cut, everything else as YAML;
 * members "at" and "not_after" as dates. Ends with a newline unless there is nothing to say.
 * Control characters of texts are shown escaped, so that what came from outside cannot write to a
 * terminal. Errors: those of the buffer.
 */
int osm_render(struct osm_buf *out, const json_t *value);
/** Rows of cells, separated by tabs and newlines, as aligned columns two spaces apart. */
int osm_render_table(struct osm_buf *out, const char *rows);
/** One text, with control characters escaped but '\n' and '\t'. */
int osm_render_text(struct osm_buf *out, const char *text);
