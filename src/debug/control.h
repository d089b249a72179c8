/* The control socket: a unix socket (0600) on which local programs ask the daemon. One JSON object
 * per line each way:
 *
 *   {"id": 1, "cmd": "status", "args": {...}}      {"id": 1, "ok": true, "data": ...}
 *                                                  {"id": 1, "ok": false, "err": {"code":
 * "OSM_ENOENT", "msg": "..."}}
 *
 * Peers are checked with SO_PEERCRED: root or the daemon's own user. Requests of one session are
 * answered in any order; `id` tells which. Everything is on the loop thread; a handler that cannot
 * answer at once keeps the request and answers later. */
#pragma once

#include "loop/loop.h"

#include <jansson.h>
#include <stdbool.h>

struct osm_control;
struct osm_control_request;

/** @p args is an object, borrowed for the call. The handler must answer the request exactly once,
 * now or later. */
typedef void osm_control_handler_fn(void *ud, struct osm_control_request *request,
                                    const json_t *args);

struct osm_control_command {
    const char *name; /* "proxy.config"; NULL ends a table */
    osm_control_handler_fn *handler;
    bool secret; /* the answer holds a key: its buffers are wiped */
    bool large;  /* takes requests of up to OSM_CONTROL_LARGE_MAX_BYTES */
};
/* What a request may have; one session at a time sends more than the lower bound, and what it sends
 * is parsed off the loop. */
enum { OSM_CONTROL_MAX_BYTES = 64 * 1024, OSM_CONTROL_LARGE_MAX_BYTES = 16 * 1024 * 1024 };

/** Listens on @p path; @p commands must outlive the server. A stale socket of a dead daemon is
 * replaced. Errors: OSM_EBUSY another daemon answers there; OSM_EIO. */
OSM_MUST_USE int osm_control_start(struct osm_control **out, struct osm_loop *loop,
                                   const char *path, const struct osm_control_command *commands,
                                   void *ud, struct osm_err *err);
/** Answers; @p data is taken (NULL: {}). The request is gone afterwards, also where its session has
 * left meanwhile. */
void osm_control_reply(struct osm_control_request *request, json_t *data);
/** The same with data that is JSON text already (taken): a large answer is written off the loop. */
void osm_control_reply_text(struct osm_control_request *request, char *data, size_t len);
void osm_control_fail(struct osm_control_request *request, const struct osm_err *err);
/** False once the session has left: a waiter may give up. */
bool osm_control_alive(const struct osm_control_request *request);
/** Closes the socket and all sessions, removes the file. Requests that are still kept must be
 * answered after it (nobody hears it). */
void osm_control_stop(struct osm_control *control);
