/* What the control socket answers with the help of engines beside the live one: `diff`,
 * `policy.why_not`, and of `policy.why` who has given a field its value. */
#pragma once

#include "app/app.h"

/** Errors: OSM_ENOMEM. */
OSM_MUST_USE int osm_whatif_start(struct osm_app *app, struct osm_err *err);
/** Whoever waits is answered. */
void osm_whatif_stop(struct osm_app *app);

/** diff: {"policies": a bundle as osm_policy_files_json, or absent: those in force; "manifests",
 * "deletes": as of osm_apply, or absent; "fresh": by an engine of its own}. Answers as
 * osm_preview_run, and "snapshot", the number of that which it was compared with, "behind": the
 * objects were newer than that, "layers": the directories of the policies in force, "bare": other
 * policies were given, and the first of these is not among them. policy.why_not: {"caller",
 * "service", "port", "method", "path", "headers": {name: value}}, all but the first two may be
 * absent. Answers as osm_why_not. */
extern const struct osm_control_command osm_whatif_commands[];

/** Answers {"type", "resource", "items": [the one that has the field], "field": as osm_field_why}.
 * @p items: of the resource, as osm_engine_why. */
void osm_whatif_field(struct osm_app *app, struct osm_control_request *request,
                      enum osm_xds_type type, struct osm_resource *resource, const char *path,
                      json_t *items);
