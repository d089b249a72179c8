/* Lines of a console share what they declare. */
#pragma once

#include "base/mem.h"

/** @p text with every local of its outermost level made a variable of the environment: "local x, y"
 * is "x, y = nil", "local function f" is "function f". Lines and columns stay what they were.
 * Locals with attributes (<const>, <close>) stay locals. osm_free; NULL: no memory. Thread: any. */
OSM_MUST_USE char *osm_console_share_locals(const char *text);
