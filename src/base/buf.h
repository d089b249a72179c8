/* A growing byte buffer with a ceiling. A failed append (no memory, over the ceiling) is returned
 * and also remembered in `failed`, and later appends do nothing: a writer may append freely and
 * look once. data is NUL-terminated. */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

enum { OSM_BUF_ROOM = 256 }; /* for a name with all that leads to it, mostly */

struct osm_buf {
    char *data; /* NULL while empty */
    size_t len, cap;
    size_t max;  /* ceiling in bytes, without the NUL */
    int failed;  /* 0 or the first error code */
    bool secret; /* wiped when it grows or goes */
    char *lent;  /* the caller's, which data may be; NULL: none */
};

#define OSM_BUF_INIT(max_bytes)                                                                    \
    {                                                                                              \
        NULL, 0, 0, (max_bytes), 0, false, NULL                                                    \
    }
#define OSM_BUF_SECRET_INIT(max_bytes)                                                             \
    {                                                                                              \
        NULL, 0, 0, (max_bytes), 0, true, NULL                                                     \
    }

/** One that allocates only for what does not fit @p room, which outlives it: for short texts on
 * paths that run often. */
static inline struct osm_buf osm_buf_on(char *room, size_t room_size, size_t max_bytes)
{
    room[0] = '\0';
    return (struct osm_buf){.data = room, .cap = room_size, .max = max_bytes, .lent = room};
}

int osm_buf_add(struct osm_buf *buf, const void *data, size_t len);
int osm_buf_add_str(struct osm_buf *buf, const char *text);
int osm_buf_add_char(struct osm_buf *buf, char c);
/** Several texts one after the other; the last argument is NULL. For paths that run often: a format
 * costs ten times as much. */
int osm_buf_add_strs(struct osm_buf *buf, ...) __attribute__((sentinel));
int osm_buf_add_int(struct osm_buf *buf, int64_t number);
int osm_buf_addf(struct osm_buf *buf, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/** A JSON string with quotes; bytes that are not valid UTF-8 become U+FFFD. */
int osm_buf_add_json_string(struct osm_buf *buf, const char *text);
/** Makes room for @p extra bytes; returns where to write them, NULL on failure. Advance `len` by
 * what was written. */
char *osm_buf_reserve(struct osm_buf *buf, size_t extra);
/** Empties, keeps memory and ceiling, forgets the failure. */
void osm_buf_reset(struct osm_buf *buf);
/** Frees; repeatable. */
void osm_buf_clear(struct osm_buf *buf);
/** Moves the text out (osm_free), of a lent room a copy; NULL when the buffer failed or there is no
 * memory. An empty buffer gives "". */
char *osm_buf_take(struct osm_buf *buf);
/** Appends a whole file. Errors: OSM_ENOENT, OSM_ELIMIT, OSM_EIO with path and reason. */
int osm_buf_read_file(struct osm_buf *buf, const char *path, struct osm_err *err);
