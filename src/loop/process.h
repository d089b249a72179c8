/* A program that is run for what it prints. Thread: loop. */
#pragma once

#include "base/buf.h"
#include "loop/loop.h"

struct osm_process;

struct osm_process_result {
    int rc;                             /* 0: it has ended by itself with status 0 */
    int status;                         /* its exit status; -1: it was ended, or never began */
    const struct osm_buf *out, *errors; /* what it printed; borrowed */
    const char *error;                  /* what rc means; "" where it is 0 */
};

struct osm_process_config {
    const char *const *argv; /* NULL-terminated; the first is looked for in PATH */
    const char *const *env;  /* "NAME=VALUE" beside what we have; NULL-terminated; may be NULL */
    size_t output_max;       /* bytes; more is an error */
    uint64_t deadline_ms;    /* it is killed then */
    bool secret;             /* what it prints is wiped */
    void *ud;
    /** Once; the process is gone when it returns. Codes: OSM_ETIMEDOUT, OSM_ELIMIT, OSM_EREJECTED
     * another status than 0, OSM_ECANCELED, OSM_EIO. */
    void (*done)(void *ud, const struct osm_process_result *result);
};

/** Nothing is called back before it returns. Errors: OSM_ENOENT there is no such program; OSM_EIO,
 * OSM_ENOMEM. */
OSM_MUST_USE int osm_process_start(struct osm_process **out, struct osm_loop *loop,
                                   const struct osm_process_config *config, struct osm_err *err);
/** Kills it; done() is called before this returns. */
void osm_process_cancel(struct osm_process *process);
