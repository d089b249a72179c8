/* A session with a console of the daemon: lines of JSON over a socket that stays open. Blocking,
 * but for what is said meanwhile on standard input. */
#pragma once

#include "base/buf.h"

#include <jansson.h>
#include <stdbool.h>

struct osm_link {
    int fd;
    struct osm_buf in;
    size_t start; /* what lies before it in `in` has been read */
    int last_id;
};

/** To a unix socket. Errors: OSM_EIO. */
OSM_MUST_USE int osm_link_open(struct osm_link *link, const char *socket_path, struct osm_err *err);
/** To HOST:PORT of --debug-console, with the token in @p token_file. Errors: OSM_EIO, OSM_EACCES,
 * OSM_EINVAL. */
OSM_MUST_USE int osm_link_open_tcp(struct osm_link *link, const char *address,
                                   const char *token_file, struct osm_err *err);
void osm_link_close(struct osm_link *link);

/** Sends a request with an id of its own, which is returned; negative: OSM_EIO, OSM_ENOMEM. @p
 * request is taken. */
int osm_link_send(struct osm_link *link, json_t *request, struct osm_err *err);
/** The next message, whosever it is. *message: caller's json_decref. 1: there is none, but @p
 * other_fd (-1: none) can be read, or a signal came. Errors: OSM_EIO the daemon has closed the
 * session; OSM_EPARSE; OSM_ETIMEDOUT after @p timeout_ms (negative: never). */
OSM_MUST_USE int osm_link_next(struct osm_link *link, int other_fd, int timeout_ms,
                               json_t **message, struct osm_err *err);
/** Asks {"cmd", "args"} and waits for the answer's data. @p args is taken (NULL: none). Messages
 * that answer something else are dropped. Errors: as osm_link_next; OSM_EREJECTED the daemon's. */
OSM_MUST_USE int osm_link_ask(struct osm_link *link, const char *cmd, json_t *args, int timeout_ms,
                              json_t **data, struct osm_err *err);
/** Copies lines of @p from_fd to the session and what it says to @p to_fd, until both ends are
 * done. Errors: OSM_EIO. */
OSM_MUST_USE int osm_link_relay(struct osm_link *link, int from_fd, int to_fd, struct osm_err *err);
