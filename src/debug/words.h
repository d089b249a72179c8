/* A typed line as a request: "policy why shop/cart inbound --type LDS" is policy.why with {"pod":
 * "shop/cart", "resource": "inbound", "type": "LDS"}. Words are separated by spaces; 'one word' and
 * "one \"word\"" are quoted. Arguments come in the order of the schema, or by name: --name WORD,
 * --name=WORD, --flag; JSON data by name only. Of keys, digits are a number and true and false are
 * booleans, unless quoted. Pure. */
#pragma once

#include "debug/registry.h"

/** The command whose words the line begins with; as many as make a name. *rest: behind them. NULL:
 * the line begins with no command's name. Borrowed. */
const struct osm_control_command *osm_words_command(const struct osm_registry *registry,
                                                    const char *line, const char **rest);
/** The arguments in what follows the name. *args: caller's json_decref; not yet held to the schema
 * (osm_registry_check). Errors: OSM_EINVAL with what is wrong; OSM_ENOMEM. */
OSM_MUST_USE int osm_words_args(const struct osm_control_command *command, const char *rest,
                                json_t **args, struct osm_err *err);
/** The name that a line most likely means, as it is typed ("xds show"); NULL: none. osm_free. */
char *osm_words_nearest(const struct osm_registry *registry, const char *line);
/** "policy.why" as it is typed. osm_free. */
char *osm_words_typed(const char *name);
