/* An outbox (kube/outbox.h) on the network: patches that are made when they are sent. Thread: loop.
 */
#pragma once

#include "kube/api.h"
#include "kube/outbox.h"

struct osm_writer;

struct osm_write {
    char *path;               /* osm_alloc'd; the writer frees it */
    json_t *body;             /* the writer's too */
    const char *content_type; /* a literal */
};

struct osm_writer_config {
    struct osm_loop *loop;
    struct osm_kube *kube; /* borrowed */
    const struct osm_outbox_limits *limits;
    const char *resource; /* as counted: "events"; a literal */
    const char *what;     /* for people: "Events"; a literal */
    void *ud;
    /** Whether anything is sent now. */
    bool (*may)(void *ud);
    /** What this key says now. False: nothing (any more), or no memory. */
    bool (*make)(void *ud, const char *key, struct osm_write *out);
    /** It has ended. May be NULL. */
    void (*done)(void *ud, const char *key, enum osm_outbox_outcome outcome);
};

/** Errors: OSM_ENOMEM. */
OSM_MUST_USE int osm_writer_new(struct osm_writer **out, const struct osm_writer_config *config,
                                struct osm_err *err);
/** NULL is accepted. */
void osm_writer_free(struct osm_writer *writer);
void osm_writer_put(struct osm_writer *writer, const char *key);
/** As osm_outbox_drop; done() is not called for it then. */
bool osm_writer_drop(struct osm_writer *writer, const char *key);
/** Everything that waits; what is under way ends without done(). */
void osm_writer_drop_all(struct osm_writer *writer);
/** may() answers otherwise now. */
void osm_writer_wake(struct osm_writer *writer);
size_t osm_writer_waiting(const struct osm_writer *writer);
/** Why nothing was written last; "" it was. Borrowed until the next turn. */
const char *osm_writer_failure(const struct osm_writer *writer);
