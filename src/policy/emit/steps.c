#include "policy/emit/steps.h"

#include "policy/encode/proto.h"

/* A message may be in a state between two steps that no proxy would take: it is written all the
 * same, or, where it has no form at all, left out. NULL: so it is, or no memory. */
static json_t *message_json(lua_State *L, int index, const char *name)
{
    struct osm_buf bytes = OSM_BUF_INIT(OSM_MESSAGE_MAX);
    const ProtobufCMessageDescriptor *descriptor = osm_proto_find(name);
    json_t *out = NULL;
    int rc = descriptor ? osm_proto_encode_lua(L, index, descriptor, OSM_PROTO_RULES_IGNORED,
                                               &bytes, NULL, NULL, NULL)
                        : OSM_ENOTSUP;
    if (!rc)
        rc = osm_proto_decode(descriptor, bytes.data ? bytes.data : "", bytes.len, &out, NULL);
    osm_buf_clear(&bytes);
    return rc ? NULL : out;
}

void osm_steps_add(lua_State *L, int index, const char *by, const char *place)
{
    struct osm_steps *t = osm_engine_of(L)->steps;
    json_t *message = t->message ? message_json(L, index, t->message) : NULL;
    json_t *step = json_pack("{s:s?, s:s?, s:o?}", "by", by, "place", place, "message", message);
    if (!by && json_array_append_new(t->steps, json_array()))
        t->failed = true;
    json_t *variant = json_array_get(t->steps, json_array_size(t->steps) - 1);
    if (json_array_append_new(variant, step))
        t->failed = true;
}

void osm_steps_call(lua_State *L, const char *message, int index)
{
    struct osm_steps *t = osm_engine_of(L)->steps;
    if (!t)
        return;
    t->message = message;
    (void)json_array_clear(t->steps);
    if (!message)
        return;
    /* where nothing extends it; else the runtime notes the same, with what follows */
    lua_getfield(L, index, "message");
    if (lua_istable(L, -1))
        osm_steps_add(L, lua_gettop(L), NULL, NULL);
    lua_pop(L, 1);
}

int osm_steps_note(lua_State *L)
{
    struct osm_steps *t = osm_engine_of(L)->steps;
    lua_settop(L, 3);
    if (t)
        osm_steps_add(L, 1, lua_tostring(L, 2), lua_tostring(L, 3));
    return 0;
}

void osm_steps_said(lua_State *L, size_t at)
{
    struct osm_steps *t = osm_engine_of(L)->steps;
    if (!t)
        return;
    /* the first was noted by the call itself, before the runtime's own */
    size_t n = json_array_size(t->steps);
    json_t *variant = json_array_get(t->steps, n > 1 ? at + 1 : at);
    if (json_array_append_new(t->said, variant ? json_incref(variant) : json_array()))
        t->failed = true;
}
