/* Between the calls of `out` (emit_out.c) and the reading of what they are given (emit_item.c). */
#pragma once

#include "policy/emit/emit.h"

/* What one function of `out` takes. */
struct osm__form {
    const char *name;
    enum osm_xds_type type;
    enum osm_item_part part;
    const char *resource;  /* field that names the resource */
    const char *element;   /* field that names the element, NULL none */
    const char *message;   /* full name of the message, NULL: C makes it */
    const char *forbidden; /* field of the message that composition fills in */
    enum osm_fill fill;
    const char *fields[9];
    const char *doc; /* for authors */
};

/** Fills in @p emitted and its item from the table at stack index 1; an error leaves what is there
 * to the owner. [-0, +0, e] */
void osm__item_read(lua_State *L, const struct osm__form *form, struct osm_emitted *emitted);
/** The message at @p index under the name @p name. NULL: err says why. [-0, +2, e] */
struct osm_bytes *osm__item_encode_header(lua_State *L, const struct osm__form *form, int index,
                                          const char *name, struct osm_err *err);
