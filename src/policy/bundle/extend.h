/* Extensions and wraps: how a module changes what another one says, without a copy of it.
 *
 *   out.virtual_host{...} --> extensions of its points, in order --> one item for each variant
 *   mesh.reachers(...)    --> the outermost wrap --original(...)--> ... --> the rule itself
 *
 * An extension point belongs to a form of `out`; it is a part of that form's message. Points of one
 * form run from the outside in (a virtual host before its routes), extensions of one point in the
 * order that `after`, `before` and `requires` ask for, and by module name where they do not care.
 * A wrap is a rule of its own, memoised like any other, that may ask the one it stands before. */
#pragma once

#include "policy/engine_priv.h"

struct osm_point {
    const char *name; /* "route" */
    const char *form; /* "virtual_host", as in out.virtual_host */
    bool varies;      /* an extension may give some accounts something else */
    const char *text; /* what it is, for the documentation */
};

/** Ends with a NULL name; points of one form stand together, in the order of their runs. */
extern const struct osm_point osm_points[];
/** NULL where there is none. */
const struct osm_point *osm_point_find(const char *name);
const char *osm_point_nearest(const char *name);

/** Sorts the joins of all modules and puts the wraps before their rules. Errors: OSM_ELUA
 * "file:line: ..." for an unknown rule, a required module that is not there, a circle; OSM_ENOMEM.
 */
OSM_MUST_USE int osm_extend_link(struct osm_engine *e, struct osm_err *err);
void osm_extend_free(struct osm_engine *e);
/** Makes what the runtime needs, where anything extends. [-0, +0, m] */
void osm_extend_make(lua_State *L);
/** Whether any extension has a point of this form. */
bool osm_extend_has(const struct osm_engine *e, const char *form);
/** Pushes what becomes of the item at @p index (an argument of out.<form>): a list of { item =, by
 * =
 * }. Runs the extensions in the evaluation under way. [-0, +1, e] */
void osm_extend_push(lua_State *L, const char *form, int index);
/** The rule that answers what @p rule does, with the extensions of listeners applied; @p rule
 * itself where there are none. NULL: no memory. */
struct osm_decl *osm_extend_header_rule(lua_State *L, struct osm_decl *rule);
