#include "debug/framing.h"

#include <string.h>

int osm_framing_add(struct osm_framing *f, const char *data, size_t len)
{
    if (f->start) {
        size_t left = f->in.len - f->start;
        memmove(f->in.data, f->in.data + f->start, left);
        explicit_bzero(f->in.data + left, f->in.len - left);
        f->in.len = left;
        f->start = 0;
        if (!left && f->in.cap > 4 * OSM_FRAME_MAX_BYTES)
            osm_buf_clear(&f->in); /* a large line has been here */
    }
    return osm_buf_add(&f->in, data, len);
}

/* The next line of the form, or of any where it is not known. What was searched in vain is not
 * searched again: a large line comes in many pieces. */
static const char *line_end(struct osm_framing *f)
{
    size_t left = f->in.len - f->start - f->searched;
    const char *from = f->in.data ? f->in.data + f->start + f->searched : "";
    const char *end = left ? memchr(from, '\n', left) : NULL;
    f->searched += end ? (size_t)(end - from) : left;
    return end;
}

bool osm_framing_waits(struct osm_framing *f)
{
    return line_end(f) != NULL;
}

/* Blank lines say nothing, but in the middle of a text session. */
static void skip_blank(struct osm_framing *f)
{
    while (f->form != OSM_FORM_TEXT && f->start < f->in.len &&
           (f->in.data[f->start] == '\n' || f->in.data[f->start] == '\r')) {
        f->start++;
        f->searched = 0;
    }
}

int osm_framing_next(struct osm_framing *f, struct osm_frame *out)
{
    skip_blank(f);
    size_t left = f->in.len - f->start;
    if (!left)
        return 0;
    char *line = f->in.data + f->start;
    if (f->form == OSM_FORM_UNKNOWN && !f->token_due)
        f->form = *line == '{' ? OSM_FORM_JSON : OSM_FORM_TEXT;
    const char *end = line_end(f);
    size_t len = end ? (size_t)(end - line) : left;
    if (len > (f->large ? (size_t)OSM_FRAME_LARGE_MAX_BYTES : (size_t)OSM_FRAME_MAX_BYTES))
        return OSM_ELIMIT;
    if (!end && !f->ended)
        return 0;
    f->start += len + (end != NULL);
    f->searched = 0;
    f->large = false;
    if (len && line[len - 1] == '\r')
        len--;
    line[len] = '\0'; /* the line end, or the buffer's own NUL */
    *out = (struct osm_frame){line, len, f->token_due};
    f->token_due = false;
    return 1;
}

void osm_framing_clear(struct osm_framing *f)
{
    osm_buf_clear(&f->in);
    f->start = f->searched = 0;
}
