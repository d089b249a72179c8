/* Tells when the files of a bundle have changed: inotify on its directories with a while of quiet
 * after the last event, and a look now and then, since inotify can lose events. The files are read
 * on the thread pool. Thread: loop. */
#pragma once

#include "loop/loop.h"
#include "policy/files.h"

struct osm_notice;

/** The directories were read. @p files: a reference to take; NULL: they cannot be read, @p error
 * says why. */
typedef void osm_notice_fn(void *ud, struct osm_policy_files *files, const char *error);

OSM_MUST_USE int osm_notice_start(struct osm_notice **out, struct osm_loop *loop,
                                  const char *const *dirs, osm_notice_fn *fn, void *ud,
                                  struct osm_err *err);
/** Reads them now; what is written from here on is read anew. */
void osm_notice_look(struct osm_notice *notice);
/** Something was written, and it is not read yet. */
bool osm_notice_pending(const struct osm_notice *notice);
/** No call of fn from here on. NULL is accepted. */
void osm_notice_stop(struct osm_notice *notice);
