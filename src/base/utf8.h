/* UTF-8 of outside origin: names, error texts of peers, texts cut at a fixed size. What goes into
 * JSON has to be valid. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/** Length of the valid sequence at the start of the @p len bytes, 0 where there is none. */
size_t osm_utf8_sequence(const char *text, size_t len);
bool osm_utf8_valid(const char *text, size_t len);
/** Replaces in place each byte of a NUL-terminated text that belongs to no valid sequence by '?'; a
 * character that was cut off at the end goes whole. Returns @p text. */
char *osm_utf8_repair(char *text);
