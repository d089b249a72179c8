/* UTF-8 of outside origin: names, error texts of peers, texts cut at a fixed size. What goes into
 * JSON has to be valid. */
#pragma once

#include "base/buf.h"

#include <stdbool.h>
#include <stddef.h>

/** Length of the valid sequence at the start of the @p len bytes, 0 where there is none. */
size_t osm_utf8_sequence(const char *text, size_t len);
bool osm_utf8_valid(const char *text, size_t len);
/** Replaces in place each byte of a NUL-terminated text that belongs to no valid sequence by '?'; a
 * character that was cut off at the end goes whole. Returns @p text. */
char *osm_utf8_repair(char *text);
/** Appends the text with \xNN or \u00NN in the place of every character that a terminal would act
 * on, but those that @p kept lists: what comes from outside must not write to a person's screen.
 * Errors: those of the buffer. */
int osm_utf8_add_tame(struct osm_buf *out, const char *text, const char *kept);
