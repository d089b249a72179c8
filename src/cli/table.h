/* Tables on standard output. */
#pragma once

/** Prints @p rows: lines of tab-separated cells, at most sixteen, each column padded to its widest
 * cell. */
void osm_table_print(const char *rows);
