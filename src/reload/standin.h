/* What a generation said last, to be served while its engine says nothing: the proxies refuse what
 * the generation after it says, and its own thread is stuck. That would grant again what has been
 * revoked since. So all that authorises and has changed meanwhile, by what the generation after it
 * says, is left out: listeners go, route tables lead nowhere. Whom to believe (roots, names of
 * servers) is taken from the newer one.
 *
 * Older generations than that have their texts kept, not this: of what was said of the objects of
 * days ago most would be left out, and the rest lead to pods that are gone. Thread: loop. */
#pragma once

#include "xds/snapshot.h"

struct osm_standin;

/** Of nothing yet. NULL: no memory. */
OSM_MUST_USE struct osm_standin *osm_standin_new(void);
void osm_standin_free(struct osm_standin *standin);
/** This is what it says. @p current: of the objects of now, so nothing has changed since. A
 * reference is taken. */
void osm_standin_said(struct osm_standin *standin, struct osm_snapshot *snapshot, bool current);
/** What the generation after it says has changed, because objects have. */
void osm_standin_changed(struct osm_standin *standin, const struct osm_snapshot *before,
                         const struct osm_snapshot *after);
/** What may be served; @p newer: what the generation after it says now. A reference; NULL: no
 * memory, or it has said nothing. */
OSM_MUST_USE struct osm_snapshot *osm_standin_snapshot(const struct osm_standin *standin,
                                                       const struct osm_snapshot *newer);
