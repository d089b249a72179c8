/* What a session's overrides would change for whom: the answer of `diff()` on a console. */
#pragma once

#include "base/buf.h"
#include "xds/snapshot.h"

/** osm_snapshots_diff. Caller: json_decref. NULL: @p err. Thread: any. */
json_t *osm_eval_diff(const struct osm_snapshot *served, const struct osm_snapshot *next,
                      struct osm_err *err);
/** For a person. Errors: those of the buffer. */
int osm_eval_diff_text(struct osm_buf *out, const json_t *diff);
