/* Who has given one field of a resource its value: the emitter's line, then each extension that has
 * changed it. The item is evaluated again, step by step, by an engine that is thrown away. Thread:
 * the engine's. */
#pragma once

#include "policy/engine.h"

struct osm_field_question {
    enum osm_xds_type type;
    const struct osm_resource *resource; /* as it is served */
    const char *path;                    /* as of whatif/fields.h */
    const json_t *items;                 /* of the resource, as osm_engine_why, deep */
    const struct osm_changes *objects;   /* all that there are */
};

/** Whether the text is a path that begins with a field of resources of this type. */
bool osm_field_is_path(enum osm_xds_type type, const char *text);

/** *out: {"path": with its elements by name, "value", "item": of the items the one that has it,
 * "steps": [{"by": null or "acme/retry.route", "place": "envoy/clusters.lua:14", "before" (not of
 * the first), "after"}: absent where it had no such field], "host": the field is filled in by the
 * daemon itself, "changed": the objects have changed since, and its value with them}. Caller:
 * json_decref. Errors: OSM_ENOENT there is no such field; those of osm_engine_steps. */
OSM_MUST_USE int osm_field_why(const struct osm_field_question *question, struct osm_engine *engine,
                               json_t **out, struct osm_err *err);
