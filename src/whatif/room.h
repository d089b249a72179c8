/* An engine on its thread, for the questions of scratch.h. Thread: loop, but for osm__room_settle
 * and osm__room_look. */
#pragma once

#include "whatif/scratch.h"

struct osm__room {
    struct osm_policy *policy;
    char *roots_pem;      /* that the engine has */
    atomic_bool canceled; /* read by the engine's thread */
    bool spoiled; /* the engine cannot be asked again; written by its thread while it works */
    size_t bytes; /* that the engine takes; the same */
    void *kept;
    void (*drop)(void *kept);
};

/** Starts the engine; callbacks->loaded says how that went. Errors: OSM_ENOMEM, OSM_EIO. */
OSM_MUST_USE int osm__room_new(struct osm__room **out, const struct osm_scratch_config *config,
                               struct osm_policy_files *files, bool proven,
                               void (*drop)(void *kept),
                               const struct osm_policy_callbacks *callbacks, struct osm_err *err);
/** Without waiting for the thread. No work is under way. NULL is accepted. */
void osm__room_discard(struct osm__room *room);
/** Cuts short what is under way, and waits for the thread. NULL is accepted. */
void osm__room_stop(struct osm__room *room);

/* What the engine of a room is to have before the next question is asked. */
struct osm__room_terms {
    struct osm_policy_files *files;
    char *roots_pem; /* owned; taken where it is another one than the room's */
    bool proven;
};

/** Gives the engine the terms, where they are others. *fits false: it needs to be another one. On
 * the engine's thread. Errors: as osm_engine_rebind; OSM_ENOMEM. */
OSM_MUST_USE int osm__room_settle(struct osm__room *room, struct osm_engine *engine,
                                  struct osm__room_terms *terms, bool *fits, struct osm_err *err);
/** After work: notes what the engine takes. True: what it says next may depend on what it was asked
 * before, or its state is lost. On the engine's thread. */
bool osm__room_look(struct osm__room *room, const struct osm_engine *engine);
