/* Included before every C file by tidy.sh, never compiled: what the analyser cannot see from one
 * file alone. osm_fail returns and stores the code it is given, and no caller gives 0; without that
 * each `return osm_fail(...)` would look like a success whose results are missing. */
#pragma once

#include "base/err.h"

static inline int osm__analyzer_failure(struct osm_err *err, int code, int result)
{
    (void)result;
    if (code == 0)
        __builtin_unreachable();
    if (err)
        err->code = code;
    return code;
}

#define osm_fail(err, code, ...)                                                                   \
    osm__analyzer_failure((err), (code), (osm_fail)((err), (code), __VA_ARGS__))
