/* What a plain (unquoted) YAML scalar means: shared by the reader, and by the writer, which must
 * know what to quote. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

enum osm__yaml_type {
    OSM__YAML_STRING,
    OSM__YAML_NULL,
    OSM__YAML_BOOL,
    OSM__YAML_INT,
    OSM__YAML_REAL,
    OSM__YAML_MERGE,     /* << */
    OSM__YAML_INT_RANGE, /* an integer that does not fit 64 bits */
    OSM__YAML_NOT_FINITE /* .inf, .nan, or a number too large for a double */
};

struct osm__yaml_scalar {
    enum osm__yaml_type type;
    union {
        bool b;
        long long i;
        double r;
    } value;
};

/* Needs NUL-terminated text; an embedded NUL makes it a string. */
struct osm__yaml_scalar osm__yaml_resolve(const char *text, size_t len);
