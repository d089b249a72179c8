/* Names of functions of this process: from the symbol tables of its own file, where it has not been
 * stripped, and of its libraries' exported functions. */
#pragma once

#include "base/err.h"

#include <stdint.h>

struct osm_symbols;

/** Reads the program's symbol table. Any thread; blocks (files). NULL: no memory. */
OSM_MUST_USE struct osm_symbols *osm_symbols_new(void);
void osm_symbols_free(struct osm_symbols *symbols);
/** The function that @p address lies in, else "library+0x1234"; borrowed until the next call. */
const char *osm_symbols_name(struct osm_symbols *symbols, uintptr_t address);
