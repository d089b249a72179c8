/* What a peer of a console sends, cut into lines, however it arrives. The first byte of a session
 * that is no line end says which form it has: '{' is JSON, one object per line; anything else is
 * text. Where a token is due, the first line is that, whatever form follows. Pure. */
#pragma once

#include "base/buf.h"

enum {
    OSM_FRAME_MAX_BYTES = 64 * 1024,
    OSM_FRAME_LARGE_MAX_BYTES = 16 * 1024 * 1024, /* where somebody has allowed it */
    OSM_FRAME_CHUNK_BYTES = 4096
};

enum osm_form { OSM_FORM_UNKNOWN, OSM_FORM_TEXT, OSM_FORM_JSON };

struct osm_framing {
    struct osm_buf in;
    size_t start;
    size_t searched; /* so many bytes from there on hold no line end */
    bool large;      /* the next line may have OSM_FRAME_LARGE_MAX_BYTES */
    enum osm_form form;
    bool token_due;
    bool ended; /* nothing comes any more: what has no line end is a line too */
};

#define OSM_FRAMING_INIT(wants_token)                                                              \
    {                                                                                              \
        OSM_BUF_SECRET_INIT(OSM_FRAME_LARGE_MAX_BYTES + 2 * OSM_FRAME_CHUNK_BYTES), 0, 0, false,   \
            OSM_FORM_UNKNOWN, (wants_token), false                                                 \
    }

struct osm_frame {
    const char *text; /* borrowed until the next call; NUL-terminated */
    size_t len;       /* without line end; a text line may be empty, a JSON line is not */
    bool is_token;
};

/** At most OSM_FRAME_CHUNK_BYTES at a time, once osm_framing_waits has said no. Errors: OSM_ENOMEM.
 */
OSM_MUST_USE int osm_framing_add(struct osm_framing *framing, const char *data, size_t len);
/** 1: *out is the next line; 0: it is not whole yet. A line ends what `large` has allowed. Errors:
 * OSM_ELIMIT the line has more bytes than it may: the session is over, unless `large` is set. */
OSM_MUST_USE int osm_framing_next(struct osm_framing *framing, struct osm_frame *out);
/** A whole line is waiting: nothing more should be read. */
bool osm_framing_waits(struct osm_framing *framing);
void osm_framing_clear(struct osm_framing *framing);
