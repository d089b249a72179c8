/* YAML and JSON text to json values, with places. yaml.c is the only file of the tree that includes
 * libyaml's header. Reads what kubectl reads: several documents, comments, anchors and merge keys
 * (with a ceiling on what they expand to), YAML 1.1 booleans (true/yes/on and their capitalised
 * forms); JSON is a subset. Integers stay integers; one that does not fit 64 bits is an error,
 * never a rounded float. Stricter than YAML: duplicate keys, keys that are no scalar, .inf and
 * .nan, NUL characters, bytes that are not UTF-8 and tags other than the core ones are errors. */
#pragma once

#include "base/err.h"

#include <jansson.h>

enum {
    OSM_YAML_DEPTH_MAX = 64,
    OSM_YAML_NODES_MAX = 1000000,
    OSM_YAML_BYTES_MAX = 64 << 20,
    OSM_YAML_DOCS_MAX = 20000, /* null ones are not counted */
};

struct osm_yaml_doc {
    json_t *value; /* any JSON value but null: a null document is left out. No two places share a
                      reference */
    int line;      /* of its first token, from 1 */
    /* where the document is a map with a list `items`: the line of each item (for a Kubernetes
     * List); else NULL, 0 */
    int *item_lines;
    size_t item_lines_len;
};

struct osm_yaml_docs {
    struct osm_yaml_doc *list;
    size_t len;
};

struct osm_yaml_place {
    int line, column; /* from 1; 0 where unknown */
};

/** Parses all documents of @p text. Limits: the four above; an alias counts as what it stands for.
 *  Errors: OSM_EPARSE with "LINE:COLUMN: what", and *place (may be NULL); nothing is returned then.
 * OSM_ENOMEM, OSM_ELIMIT (with a place too where there is one). Thread: any. */
OSM_MUST_USE int osm_yaml_parse(const char *text, size_t len, struct osm_yaml_docs *out,
                                struct osm_yaml_place *place, struct osm_err *err);
void osm_yaml_docs_clear(struct osm_yaml_docs *docs);

/** Writes a value as block YAML (keys in insertion order; strings quoted where a reader would
 * mistake them). What is written parses back to an equal value. Errors: those of the buffer;
 * OSM_EINVAL a string holds a NUL character; OSM_ELIMIT deeper than OSM_YAML_DEPTH_MAX. */
struct osm_buf;
int osm_yaml_write(struct osm_buf *out, const json_t *value);
