/* One question to the daemon over its control socket. Blocking. */
#pragma once

#include "base/err.h"

#include <jansson.h>

/** Sends {"cmd", "args"} and waits for the answer, at most @p timeout_ms. Owns: takes @p args.
 * *data: caller's json_decref. Errors: OSM_EINVAL @p args is NULL, as whatever is made of texts
 * that are no UTF-8; OSM_EIO where no daemon answers; else what the daemon says. */
OSM_MUST_USE int osm_client_ask(const char *socket_path, const char *cmd, json_t *args,
                                int timeout_ms, json_t **data, struct osm_err *err);
/** A connection to the unix socket @p path; the caller closes it. Errors: OSM_EIO no daemon answers
 * there; OSM_ELIMIT the path is too long. */
OSM_MUST_USE int osm_client_connect(int *fd, const char *path, struct osm_err *err);
/** Sends all of it. A daemon that has hung up is no error: what it said before tells why. Errors:
 * OSM_EIO. */
OSM_MUST_USE int osm_client_send(int fd, const char *data, size_t len, struct osm_err *err);
