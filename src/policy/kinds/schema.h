/* OpenAPI v3 schemas in the form that custom resource definitions have ("structural"): prune,
 * default, validate, in the API server's order, so that an object from a directory is the object
 * that an API server would have stored.
 *
 * Supported: type, properties, required, items, additionalProperties, enum, default, nullable,
 * minimum, maximum, exclusiveMinimum, exclusiveMaximum (booleans), minLength, maxLength, minItems,
 * maxItems, minProperties, maxProperties, pattern (RE2), format (int32, int64, float, double),
 * oneOf, anyOf, allOf, not, x-kubernetes-preserve-unknown-fields, x-kubernetes-int-or-string,
 * x-kubernetes-embedded-resource, x-kubernetes-list-type with x-kubernetes-list-map-keys; texts
 * (description, title, example) and x-kubernetes-map-type are ignored. Anything else is an error:
 * better no check at start-up than one that is silently not done.
 *
 * Other than an API server's, a schema may close an object with `additionalProperties: false`: a
 * field that it does not name is then an error, not pruned. */
#pragma once

#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>

struct osm_schema;

/** Compiles @p openapi (borrowed for the call), whose root must be an object's. Errors: OSM_EINVAL,
 * OSM_ENOTSUP with the path of the keyword ("spec.weight: not supported: multipleOf"). Thread: any;
 * the result is immutable. */
OSM_MUST_USE int osm_schema_new(struct osm_schema **out, const json_t *openapi,
                                struct osm_err *err);
void osm_schema_free(struct osm_schema *schema);

/** Makes @p value (a whole object, changed in place) what the schema says: drops unknown properties
 * (refuses them where an object is closed) and nulls, writes defaults, turns 3.0 into 3 where an
 * integer is wanted; then checks. apiVersion, kind and metadata of the root are left alone. Errors:
 * OSM_EINVAL "spec.backends[0].weight: expected integer, got string" or "spec.matches[0].method:
 * unknown field; did you mean methods?", the first in the object's order; the value may have been
 * changed by then. OSM_ELIMIT: over 64 deep. */
OSM_MUST_USE int osm_schema_apply(const struct osm_schema *schema, json_t *value,
                                  struct osm_err *err);
/** The same for an object of which what is good counts: a property whose value is wrong is taken
 * out, and its path with the reason goes to @p refused ("spec.port: must be at least 1"), which may
 * fail with OSM_ENOMEM. Errors: OSM_EINVAL the object as a whole is wrong. */
typedef int osm_schema_refused_fn(void *ud, const char *text);
OSM_MUST_USE int osm_schema_apply_tolerantly(const struct osm_schema *schema, json_t *value,
                                             osm_schema_refused_fn *refused, void *ud,
                                             struct osm_err *err);
/** Whether osm_schema_apply would change anything, without doing it: *changes and 0, and then
 * nothing has been said yet about whether the value is good. Otherwise it has been checked to the
 * end. Errors: those of osm_schema_apply. */
OSM_MUST_USE int osm_schema_check(const struct osm_schema *schema, const json_t *value,
                                  bool *changes, struct osm_err *err);

/** What the schema lets through, as JSON for whoever shows it: {"type": "object"|...|"any",
 * "nullable": true, "enum": [...], "items": ..., "additional": ..., "properties": [{"name",
 * "required", "schema"}]}, absent what says nothing. Caller: json_decref; NULL: no memory. */
json_t *osm_schema_describe(const struct osm_schema *schema);
/** The same for a value that was a Lua table: an empty one becomes the list or the map that is
 * wanted in its place. */
OSM_MUST_USE int osm_schema_apply_lua(const struct osm_schema *schema, json_t *value,
                                      struct osm_err *err);
