/* Shared by schema*.c: the compiled form. */
#pragma once

#include "policy/kinds/schema.h"
#include "policy/sandbox/re2_shim.h"

enum osm__schema_type {
    OSM__SCHEMA_ANY,
    OSM__SCHEMA_OBJECT,
    OSM__SCHEMA_ARRAY,
    OSM__SCHEMA_STRING,
    OSM__SCHEMA_INTEGER,
    OSM__SCHEMA_NUMBER,
    OSM__SCHEMA_BOOLEAN
};

struct osm__schema_node;

struct osm__schema_property {
    char *name;
    struct osm__schema_node *node;
};

struct osm__schema_nodes {
    struct osm__schema_node **list;
    size_t len;
};

struct osm__schema_node {
    enum osm__schema_type type;
    bool nullable, preserve, int_or_string, has_minimum, has_maximum, exclusive_minimum,
        exclusive_maximum, is_int32, any_additional,
        closed,   /* additionalProperties: false: what is unknown is refused, not pruned */
        embedded, /* a whole object: its own keys stay, and say what it is */
        is_set;   /* no two equal items */
    double minimum, maximum;
    size_t min_length, max_length, min_items, max_items, min_properties,
        max_properties;                      /* max: SIZE_MAX where absent */
    struct osm__schema_property *properties; /* in the schema's order */
    size_t properties_len;
    json_t *required, *values, *default_value; /* owned copies; NULL where absent */
    json_t *map_keys;                          /* no two items with these members equal; owned */
    struct osm__schema_node *items, *additional, *negated;
    struct osm__schema_nodes one_of, any_of, all_of;
    char *pattern;
    struct osm_regex *regex;
};

/* Where we are, for messages: a name, or an index where name is NULL. */
struct osm__schema_at {
    const struct osm__schema_at *up;
    const char *name;
    size_t index;
};
/** osm_fail with the path in front. */
int osm__schema_fail(const struct osm__schema_at *at, struct osm_err *err, int code,
                     const char *fmt, ...) __attribute__((format(printf, 4, 5)));

const struct osm__schema_node *osm__schema_property(const struct osm__schema_node *node,
                                                    const char *name);
/** Prunes, defaults and checks. *value is borrowed from its holder; *replacement, where it is set,
 * is to take its place. */
OSM_MUST_USE int osm__schema_node_apply(const struct osm__schema_node *node, json_t *value,
                                        json_t **replacement, bool from_lua, struct osm_err *err);
/** As osm_schema_apply_tolerantly. */
OSM_MUST_USE int osm__schema_node_tolerate(const struct osm__schema_node *node, json_t *value,
                                           osm_schema_refused_fn *refused, void *ud,
                                           struct osm_err *err);
/** As osm_schema_check. */
OSM_MUST_USE int osm__schema_node_check(const struct osm__schema_node *node, const json_t *value,
                                        bool *changes, struct osm_err *err);

/** As osm_schema_describe. */
json_t *osm__schema_node_describe(const struct osm__schema_node *node);

enum { OSM__SCHEMA_DEPTH = 64 };
