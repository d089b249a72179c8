/* What becomes of a message on its way from the emitter through the extensions: noted while
 * somebody looks (engine->steps), on an engine that is thrown away. */
#pragma once

#include "policy/engine_priv.h"

struct osm_steps {
    const char
        *message;  /* full name of the message of the call under way; NULL: the host makes it */
    json_t *steps; /* of that call: [[{"by", "place", "message"}, ...] for each variant] */
    json_t *said;  /* of all items so far, in the order of the calls */
    bool failed;   /* no memory */
};

/** A call of `out` begins; its table is at @p index. [-0, +0, m] */
void osm_steps_call(lua_State *L, const char *message, int index);
/** The call has said its variant @p at. */
void osm_steps_said(lua_State *L, size_t at);
/** host.note(message, by, place) of the runtime: without `by` a variant begins. */
int osm_steps_note(lua_State *L);
/** Notes the message at @p index as a step of its own. [-0, +0, m] */
void osm_steps_add(lua_State *L, int index, const char *by, const char *place);
