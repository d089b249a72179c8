/* What both generators ask of the values that they write into shell and YAML. */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>

/** Lower-case DNS name (letters, digits, "-" and "." inside), 1 to @p max bytes. @p what names it
 * in the error. */
OSM_MUST_USE int osm__check_name(const char *what, const char *text, bool dots, size_t max,
                                 struct osm_err *err);
