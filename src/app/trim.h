/* Memory that is free goes back to the system.
 *
 * The C library keeps what was freed, for the next who asks: after thousands of connections, of
 * objects, or an engine for questions have come and gone, that may be most of what the daemon
 * holds, and a pod's memory limit counts it. It is asked to give it back when there is much of it
 * at two looks in a row, so not in the middle of a storm that will need it again; and at every look
 * above the limit of memory: proxies are refused meanwhile. Looking costs time where much is free,
 * so that it is done when something has changed, and else ever more rarely, but often above the
 * limit. */
#pragma once

#include <stddef.h>

#include "base/mem.h"
#include "loop/loop.h"

struct osm_trim;

/** Starts to look. limit_bytes: of the process's resident memory; 0: none. NULL: memory is out.
 * Owns: caller, osm_trim_free. Thread: loop. */
OSM_MUST_USE struct osm_trim *osm_trim_start(struct osm_loop *loop, size_t limit_bytes);
/** NULL is accepted. */
void osm_trim_free(struct osm_trim *trim);
