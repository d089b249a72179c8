/* What the load client changes at the server: a program to run, or a file that takes the contents
 * of two in turn by one rename, so that the server never reads half of it. */
#pragma once

#include "base/buf.h"
#include "base/options.h"

enum { CHANGE_KINDS_MAX = 2 * OSM_OPTION_VALUES_MAX, CHANGE_NAME_MAX_BYTES = 32 };

struct change {
    char name[CHANGE_NAME_MAX_BYTES]; /* the program's or the file's, up to its first dot */
    const char *program;              /* borrowed */
    char *file, *next;                /* next: beside the other one, renamed to file */
    struct osm_buf contents[2];
    size_t turn;
};

struct changes {
    struct change list[CHANGE_KINDS_MAX];
    size_t len;
};

/** @p programs, @p swaps: as --change and --swap say, NULL-terminated. Ends the process where one
 * cannot be read. */
void changes_read(struct changes *c, const char *const *programs, const char *const *swaps);
void changes_clear(struct changes *c);
/** What of it takes time and is not the server's: done before the clock starts. */
void change_prepare(struct change *c);
void change_make(const struct change *c);
