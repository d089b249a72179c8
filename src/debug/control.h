/* Consoles: sockets on which people and programs ask the daemon. One server is one socket: a unix
 * socket (0600; its peers are root or the daemon's own user, by SO_PEERCRED), or TCP on a loopback
 * address, where the first line must be a token. `osm help debug` has the protocol; in short, one
 * JSON object per line each way, or lines of text:
 *
 *   {"id": 1, "cmd": "status", "args": {...}}      {"id": 1, "ok": true, "data": ...}
 *   {"id": 2, "line": "policy rollback"}           {"id": 2, "ok": false, "err": {"code":
 *                                                   "OSM_EACCES", "msg": "..."}}
 *
 * What a session may do is its role: that of the socket, which the session may lower and never
 * raise. JSON requests of one session are answered in any order (`id` tells which), lines of text
 * one after the other. Each is logged with its end: who, in which role, what, how it went, how long
 * it took.
 *
 * Limits: sessions of a server; 64 KiB of a request, 16 MiB of some; pages of an answer; five
 * minutes without a word; ten seconds for an answer, unless a command says otherwise; a peer that
 * does not read is asked nothing further, and dropped when nothing has moved for ten seconds.
 * Everything is on the loop thread; a handler that cannot answer at once keeps the request and
 * answers later. */
#pragma once

#include "debug/registry.h"
#include "loop/loop.h"

struct osm_control;

struct osm_control_config {
    struct osm_loop *loop;
    const char *path; /* of the unix socket; NULL: TCP */
    bool private_dir; /* its directory must be its owner's alone, and is made where it is absent */
    const char *address; /* "127.0.0.1:15300", "[::1]:15300"; loopback only */
    const char *token;   /* TCP: at least OSM_CONTROL_TOKEN_MIN bytes; copied */
    /* What it answers; borrowed, and must outlive the server. The commands of every session, help
     * and the like, are added to it. */
    struct osm_registry *registry;
    enum osm_role role; /* of its sessions */
    size_t sessions_max;
    bool large;           /* requests of commands that are: one at a time, parsed off the loop */
    size_t page_bytes;    /* an answer is given in pieces of so many; 0: always whole */
    uint32_t patience_ms; /* with a peer that does not read, or stops in a large request; 0: ten
                             seconds */
};

enum { OSM_CONTROL_TOKEN_MIN = 16, OSM_CONTROL_TOKEN_MAX = 256 };

/** Listens. A stale socket of a dead daemon is replaced. Errors: OSM_EBUSY another daemon answers
 * there; OSM_EACCES the directory is open to others; OSM_EINVAL an address that is not loopback, a
 * token that is too short; OSM_EIO. */
OSM_MUST_USE int osm_control_start(struct osm_control **out,
                                   const struct osm_control_config *config, struct osm_err *err);
/** Reads a token file: one line, for its owner only. *out: osm_free_secret(*out, strlen(*out)).
 * Errors: OSM_EACCES others may read it; OSM_EIO; OSM_EINVAL too short or too long. */
OSM_MUST_USE int osm_control_read_token(char **out, const char *path, struct osm_err *err);
/** Answers; @p data is taken (NULL: {}). The request is gone afterwards, also where its session has
 * left meanwhile. */
void osm_control_reply(struct osm_control_request *request, json_t *data);
/** The same with data that is JSON text already (taken): large data is written off the loop. */
void osm_control_reply_text(struct osm_control_request *request, char *data, size_t len);
void osm_control_fail(struct osm_control_request *request, const struct osm_err *err);
/** False once the session has left, or the time for the answer is over: a waiter may give up. */
bool osm_control_alive(const struct osm_control_request *request);
/** Calls fn(ud) once when nobody waits for the answer any more (the session has left, or has asked
 * something else meanwhile); the request must still be answered. Not called once it is. */
void osm_control_on_cancel(struct osm_control_request *request, osm_task_fn *fn, void *ud);
/** Says something before the answer: {"id", "event": data}. @p data is taken. False: it was
 * dropped, the peer does not read. */
bool osm_control_tell(struct osm_control_request *request, json_t *data);
/** What a module keeps for the session of the request; freed with it, after its last request. */
void osm_control_keep(struct osm_control_request *request, void *data, osm_task_fn *free_data);
void *osm_control_kept(const struct osm_control_request *request);
/** Closes the socket and all sessions, removes the file. Requests that are still kept must be
 * answered after it (nobody hears it). NULL is accepted. */
void osm_control_stop(struct osm_control *control);
