/* What outlives the daemon, in DIR (STATE_DIR/policies): the bundle that was active last, and the
 * digests of bundles that are not to be tried again. Files are replaced whole, never half. Thread:
 * any, one at a time. */
#pragma once

#include "policy/files.h"

/** *out: the last active bundle, NULL where none is stored. @p instead_of: the digest of what the
 * daemon's directories held, where the bundle was applied by command in place of that; else "".
 * Errors: OSM_EINVAL, OSM_EIO it is damaged or cannot be read; OSM_EACCES others may have
 * written it. */
OSM_MUST_USE int osm_kept_bundle(struct osm_policy_files **out,
                                 char instead_of[OSM_POLICY_DIGEST_SIZE], const char *dir,
                                 struct osm_err *err);
OSM_MUST_USE int osm_kept_write_bundle(const char *dir, const struct osm_policy_files *files,
                                       const char *instead_of, struct osm_err *err);
/** *out: {digest: {"version": the daemon's, "reason", "at": seconds of the Unix epoch}}; empty
 * where none is stored. Errors: as above. */
OSM_MUST_USE int osm_kept_quarantine(json_t **out, const char *dir, struct osm_err *err);
OSM_MUST_USE int osm_kept_write_quarantine(const char *dir, const json_t *quarantine,
                                           struct osm_err *err);
