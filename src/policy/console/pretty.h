/* Lua values as a person reads them: like the constructors that would make them, keys sorted, on
 * one line where it fits. */
#pragma once

#include "base/buf.h"

#include <lua.h>

/** Appends the value at @p index. @p whole: all of it; else short: three levels, ten members of
 * each, texts cut. Raises where Lua has no memory; an osm_buf that is full stays so. [-0, +0, m] */
void osm_console_pretty(lua_State *L, int index, bool whole, struct osm_buf *out);
