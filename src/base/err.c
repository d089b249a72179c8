#include "base/err.h"

#include "base/utf8.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int osm_fail(struct osm_err *err, int code, const char *fmt, ...)
{
    if (!err)
        return code;
    char text[sizeof err->msg]; /* an argument may be err->msg itself */
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    err->code = code;
    memcpy(err->msg, osm_utf8_repair(text), sizeof text);
    return code;
}

void osm_err_prepend(struct osm_err *err, const char *fmt, ...)
{
    if (!err || !err->code)
        return;
    char old[sizeof err->msg];
    memcpy(old, err->msg, sizeof old);
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(err->msg, sizeof err->msg, fmt, ap);
    va_end(ap);
    if (n >= 0 && (size_t)n < sizeof err->msg)
        (void)snprintf(err->msg + n, sizeof err->msg - (size_t)n, "%s", old);
    (void)osm_utf8_repair(err->msg);
}

const char *osm_code_text(int code)
{
    switch (code) {
#define X(name, number, text)                                                                      \
    case name:                                                                                     \
        return text;
        OSM_ERRORS(X)
#undef X
    default:
        return code ? "unknown error" : "ok";
    }
}

const char *osm_code_name(int code)
{
    switch (code) {
#define X(name, number, text)                                                                      \
    case name:                                                                                     \
        return #name;
        OSM_ERRORS(X)
#undef X
    default:
        return code ? "OSM_E?" : "OSM_OK";
    }
}
