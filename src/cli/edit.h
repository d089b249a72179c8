/* Lines that a person types: editing, history, completion, by libedit, whose only user this is. */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>

struct osm_edit;

/* What a line may go on with. */
struct osm_edit_words {
    char **list;  /* NULL-terminated, each osm_free, as the list */
    size_t start; /* the byte of the line from which each stands */
    char end[2];  /* what a whole word is followed by, or "" */
};
/** @p line up to the cursor. False: nothing is known. *out: the caller's. */
typedef bool osm_edit_complete_fn(void *ud, const char *line, struct osm_edit_words *out);

/** @p history_path: where the history is kept (made 0600); NULL: nowhere. Errors: OSM_ENOMEM,
 * OSM_EIO no terminal. */
OSM_MUST_USE int osm_edit_new(struct osm_edit **out, const char *history_path,
                              osm_edit_complete_fn *complete, void *ud, struct osm_err *err);
/** Keeps the history; NULL is accepted. */
void osm_edit_free(struct osm_edit *edit);

enum osm_edit_end { OSM_EDIT_LINE, OSM_EDIT_ABANDONED, OSM_EDIT_EOF };
/** Asks for a line. *line: osm_free; only of OSM_EDIT_LINE, without its end; NULL: no memory. */
enum osm_edit_end osm_edit_line(struct osm_edit *edit, const char *prompt, char **line);
