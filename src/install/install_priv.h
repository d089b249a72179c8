/* What the files of this module share.
 *
 *   part.c    the steps, trials and state of each part       crd.c       one definition
 *   rewrite.c its objects, in the version that stores        preset.c    the MeshConfig
 *   install.c   all of it */
#pragma once

#include "install/install.h"
#include "install/plan.h"
#include "kube/ask.h"

enum osm__part_state {
    OSM__PART_WORKING,
    OSM__PART_FAILED, /* and is tried again */
    OSM__PART_CREATED,
    OSM__PART_UPGRADED,
    OSM__PART_UNCHANGED,
    OSM__PART_NEWER,
};

struct osm__part {
    struct osm_install *install;
    const char *name;                   /* borrowed */
    void (*begin)(struct osm__part *p); /* from the first step; after a failure again */
    struct osm_timer *timer;
    struct osm_kube_call *call;
    void (*then)(struct osm__part *p);                                      /* the timer */
    void (*answered)(struct osm__part *p, const struct osm_kube_answer *a); /* the call */
    enum osm__part_state state, outcome; /* outcome: of this trial, if all goes well */
    unsigned failures;                   /* in a row */
    uint64_t waiting_since_ms;           /* for something that the server does; 0: not */
    bool is_told;                        /* that it waits for it */
    char reason[OSM_CRD_WHY_SIZE];       /* what keeps it; "" */
};

/* One definition. */
struct osm__crd {
    struct osm__part part; /* first */
    json_t *ours;
    char *path, *objects_path; /* of it; of its objects, in the version that stores */
    json_t *live;              /* as last seen; NULL none */
    json_t *old;               /* rewrite.c: objects that are to be rewritten, from the end */
    char *continue_token;
    size_t rewritten, kept;
};

struct osm__preset {
    struct osm__part part; /* first */
    char *path, *config_path;
};

struct osm_install {
    struct osm_install_config config;
    struct osm__crd *crds;
    size_t crds_len;
    struct osm__preset preset;
    bool stopping, told;
};

/* --- part.c --- */

OSM_MUST_USE int osm__part_init(struct osm__part *p, struct osm_install *install, const char *name,
                                void (*begin)(struct osm__part *p));
void osm__part_clear(struct osm__part *p);
/** Asks; @p answered is called with what comes back, unless the whole is being stopped. */
void osm__part_ask(struct osm__part *p, const struct osm_kube_ask *ask,
                   void (*answered)(struct osm__part *p, const struct osm_kube_answer *a));
/** The same after a while. */
void osm__part_wait(struct osm__part *p, uint64_t ms, void (*then)(struct osm__part *p));
/** For something that the server does, @p why of it: looks again by @p then; past the deadline that
 * is a failure, and goes on. */
void osm__part_await(struct osm__part *p, const char *why, void (*then)(struct osm__part *p));
/** This trial has failed; the next one begins later. @p hint: what to do, "" nothing known. */
void osm__part_fail(struct osm__part *p, const char *why, const char *hint);
/** The same for an answer: by its status it knows what to do. @p needs: which rights are needed. */
void osm__part_refused(struct osm__part *p, const struct osm_kube_answer *a, const char *needs);
/** Another one has been faster: from the beginning, soon. */
void osm__part_again(struct osm__part *p);
void osm__part_done(struct osm__part *p);
bool osm__part_is_done(const struct osm__part *p);

/* --- crd.c --- */

OSM_MUST_USE int osm__crd_init(struct osm__crd *crd, struct osm_install *install,
                               const struct osm_crd_file *file);
void osm__crd_clear(struct osm__crd *crd);

/* --- rewrite.c --- */

/** Objects that are stored in an older version are written again, unchanged; then the definition
 * says that there are none of them, and the part is done. */
void osm__crd_rewrite(struct osm__crd *crd);

/* --- preset.c --- */

OSM_MUST_USE int osm__preset_init(struct osm__preset *preset, struct osm_install *install);
void osm__preset_clear(struct osm__preset *preset);

/* --- install.c --- */

/** A part has come to its end. */
void osm__install_moved(struct osm_install *install);
