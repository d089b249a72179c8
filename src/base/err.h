/* Errors: a negative code as return value, and optionally a struct with the text. The text needs no
 * memory, so that running out of it can be reported too. */
#pragma once

#include "base/mem.h"

/* code, number, text */
#define OSM_ERRORS(X)                                                                              \
    X(OSM_ENOMEM, -1, "out of memory")                                                             \
    X(OSM_EINVAL, -2, "invalid argument")                                                          \
    X(OSM_ENOENT, -3, "not found")                                                                 \
    X(OSM_EEXIST, -4, "exists already")                                                            \
    X(OSM_EIO, -5, "input/output error")                                                           \
    X(OSM_ELIMIT, -6, "over a limit")                                                              \
    X(OSM_EPARSE, -7, "cannot be parsed")                                                          \
    X(OSM_EREJECTED, -8, "rejected")                                                               \
    X(OSM_EBUSY, -9, "busy")                                                                       \
    X(OSM_ECANCELED, -10, "canceled")                                                              \
    X(OSM_ETIMEDOUT, -11, "timed out")                                                             \
    X(OSM_EACCES, -12, "not permitted")                                                            \
    X(OSM_ENOTSUP, -13, "not supported")                                                           \
    X(OSM_ELUA, -14, "error in a Lua module")                                                      \
    X(OSM_ECRYPTO, -15, "cryptographic operation failed")                                          \
    X(OSM_EMISMATCH, -16, "does not match")

enum osm_code {
    OSM_OK = 0,
#define X(name, number, text) name = number,
    OSM_ERRORS(X)
#undef X
};

struct osm_err {
    int code;      /* 0 or one of enum osm_code */
    char msg[512]; /* always valid UTF-8, also where it was cut */
};

/** Fills @p err (may be NULL) and returns @p code, so that a failure is one line: `return
 * osm_fail(err, OSM_EIO, ...)`. */
int osm_fail(struct osm_err *err, int code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/** Puts context before the text: "policy smi/split: " + "line 40: ...". Nothing happens where err
 * is NULL or holds no error. */
void osm_err_prepend(struct osm_err *err, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
const char *osm_code_text(int code);
const char *osm_code_name(int code);
