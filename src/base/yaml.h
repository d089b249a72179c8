/* YAML and JSON text to json values, with places. The only file of the tree that includes yaml.h.
 * Reads what kubectl reads: several documents, comments, anchors (with a ceiling on what they
 * expand to), YAML 1.1 booleans (true/yes/on and their capitalised forms); JSON is a subset.
 * Integers stay integers; one that does not fit 64 bits is an error, never a rounded float. */
#pragma once

#include "base/err.h"

#include <jansson.h>

struct osm_yaml_doc {
    json_t *value; /* any JSON value; a null document is left out */
    int line;      /* of its first token, from 1 */
};

struct osm_yaml_docs {
    struct osm_yaml_doc *list;
    size_t len;
};

struct osm_yaml_place {
    int line, column; /* from 1; 0 where unknown */
};

/** Parses all documents of @p text. Limits: depth 64, 1,000,000 nodes, duplicate keys are errors.
 *  Errors: OSM_EPARSE with "LINE:COLUMN: what", and *place; nothing is returned then. OSM_ENOMEM,
 * OSM_ELIMIT. Thread: any. */
OSM_MUST_USE int osm_yaml_parse(const char *text, size_t len, struct osm_yaml_docs *out,
                                struct osm_yaml_place *place, struct osm_err *err);
void osm_yaml_docs_clear(struct osm_yaml_docs *docs);
/** Writes a value as block YAML (keys in insertion order; strings quoted where a reader would
 * mistake them). */
struct osm_buf;
int osm_yaml_write(struct osm_buf *out, const json_t *value);
