/* The files of a directory with the objects that each last gave. A file is one unit: with any error
 * in it, it keeps the objects that it last gave (none, if it never gave any). */
#pragma once

#include "base/map.h"
#include "source/dir/manifest.h"

enum { OSM__FILES_OBJECTS_MAX = 200000 };

struct osm__file {
    char *path; /* relative */
    struct osm__file_id id;
    struct osm_hash bytes;
    bool is_read;                /* bytes says what was read last, well formed or not */
    bool racy;                   /* has to be read again, though its id may be the same */
    unsigned scan;               /* the last that saw it */
    struct osm_object **objects; /* the last good ones */
    size_t len;
    bool ever_good;
    bool broken;
    struct osm__manifest_problem problem; /* where broken */
};

struct osm__files {
    const char *root;   /* borrowed */
    struct osm_map map; /* path -> struct osm__file * */
    size_t objects_len; /* in all of them */
    bool changed;       /* the objects of some file did */
};

/** The file of this path, made where it is new. NULL: no memory. */
OSM_MUST_USE struct osm__file *osm__files_at(struct osm__files *files, const char *path);
/** Reads it again. Sets *gone where it vanished meanwhile. Errors: OSM_ENOMEM, and nothing changed;
 *  all else is the file's own problem. */
OSM_MUST_USE int osm__files_read(struct osm__files *files, struct osm__file *file, bool *gone);
/** Takes it out, with its objects. */
void osm__files_drop(struct osm__files *files, struct osm__file *file);
void osm__files_clear(struct osm__files *files);
/** Marks it broken; logs what is new. */
void osm__file_set_problem(struct osm__file *file, const struct osm__manifest_problem *problem);
bool osm__file_id_is_younger(const struct osm__file_id *id, int64_t age_ms);
