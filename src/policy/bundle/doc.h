/* Doc comments of Lua modules, read from their source: the `---` lines right above a declaration,
 * in the LuaCATS form that editors read too. So what an author is told, what an editor shows and
 * what the page of references says come from one text.
 *
 *   --- Where requests for a Service go.
 *   ---@param namespace string
 *   ---@return split.Backend[]  by service
 *
 * All answers belong to the caller (json_decref); NULL: no memory. Thread: any. */
#pragma once

#include <jansson.h>

/** The block right above line @p line (from 1): {"text": the lines that are no tags, joined by
 * "\n"; "params": [{"name", "type", "text"}], "returns": [{"type", "name", "text"}]}. A name ends
 * in "?" where the parameter may be absent; name and text are "" where they are not given. */
json_t *osm_doc_above(const char *text, int line);
/** The block that the file begins with, as plain text; "" without one. */
json_t *osm_doc_head(const char *text);
/** The line on which the entry `name = ` of a table stands, at or above @p line; @p line where it
 * is written otherwise. */
int osm_doc_line_of(const char *text, const char *name, int line);
/** Blocks that hold ---@class or ---@alias: [{"name", "line", "lines": [...]}], lines as they
 * stand. */
json_t *osm_doc_types(const char *text);
/** `function M.name(a, b)` of a module: [{"name", "line", "args": ["a", "b"], "text", "params",
 * "returns"}]. */
json_t *osm_doc_functions(const char *text);
