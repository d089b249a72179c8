/* inotify on the loop: tells which names under a set of directories changed. It is a hint and never
 * the truth: events get lost (overflow, network file systems, links to elsewhere), so its user
 * looks at the files anyway, now and then. */
#pragma once

#include "loop/loop.h"

enum osm_watch_event {
    OSM_WATCH_WRITING, /* a file is written to, its writer is not done */
    OSM_WATCH_DONE,    /* a file is complete: written and closed, or renamed to this name */
    OSM_WATCH_CHANGED, /* a file was created, renamed away, deleted, touched */
    OSM_WATCH_TREE,    /* the same of a directory */
    OSM_WATCH_LOST     /* the queue overflowed; rel is "" */
};

/* @p rel is the path of the file or directory, as built from what osm_watch_add was given. */
typedef void osm_watch_fn(void *ud, enum osm_watch_event event, const char *rel);

struct osm_watch;

/** Errors: OSM_EIO where the system has no inotify instance left; OSM_ENOMEM. */
OSM_MUST_USE int osm_watch_new(struct osm_watch **out, struct osm_loop *loop, osm_watch_fn *fn,
                               void *ud, struct osm_err *err);
/** No call of fn from here on; memory goes in libuv's close callback. NULL is accepted. */
void osm_watch_free(struct osm_watch *watch);
/** A round: begin, add what is to be watched (again), end drops what was not added. */
void osm_watch_begin(struct osm_watch *watch);
/** Errors: OSM_ENOENT gone; OSM_ELIMIT the system's limit of watches; OSM_EIO; OSM_ENOMEM. */
OSM_MUST_USE int osm_watch_add(struct osm_watch *watch, const char *path, const char *rel);
void osm_watch_end(struct osm_watch *watch);
/** Reads the events that are there now, without the loop. */
void osm_watch_drain(struct osm_watch *watch);
