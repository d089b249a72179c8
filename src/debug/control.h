/* The control socket: a unix socket (0600) on which local programs ask the daemon. One JSON object
 * per line each way:
 *
 *   {"id": 1, "cmd": "status", "args": {...}}      {"id": 1, "ok": true, "data": ...}
 *                                                  {"id": 1, "ok": false, "err": {"code":
 * "OSM_ENOENT", "msg": "..."}}
 *
 * Peers are checked with SO_PEERCRED: root or the daemon's own user. What a session may do is its
 * role: that of the socket, which the session may lower and never raise. Requests of one session
 * are answered in any order; `id` tells which. Each is logged with its end: who, in which role,
 * what, how it went, how long it took. Everything is on the loop thread; a handler that cannot
 * answer at once keeps the request and answers later. */
#pragma once

#include "debug/registry.h"
#include "loop/loop.h"

struct osm_control;

struct osm_control_config {
    struct osm_loop *loop;
    const char *path;
    /* What it answers; borrowed, and must outlive the server. The commands of every session, help
     * and role, are added to it. */
    struct osm_registry *registry;
    enum osm_role role; /* of its sessions */
};

/** Listens. A stale socket of a dead daemon is replaced. Errors: OSM_EBUSY another daemon answers
 * there; OSM_EIO. */
OSM_MUST_USE int osm_control_start(struct osm_control **out,
                                   const struct osm_control_config *config, struct osm_err *err);
/** Answers; @p data is taken (NULL: {}). The request is gone afterwards, also where its session has
 * left meanwhile. */
void osm_control_reply(struct osm_control_request *request, json_t *data);
void osm_control_fail(struct osm_control_request *request, const struct osm_err *err);
/** False once the session has left: a waiter may give up. */
bool osm_control_alive(const struct osm_control_request *request);
/** Closes the socket and all sessions, removes the file. Requests that are still kept must be
 * answered after it (nobody hears it). */
void osm_control_stop(struct osm_control *control);
