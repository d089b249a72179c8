/* What the files of feedback share.
 *
 *   feedback.c   who leads, when to look, life       rejects.c   what is said about each object
 *   events.c     an Event for each object            notes.c     Events about this replica
 *   status.c     which kinds have a status of ours, and what is in it */
#pragma once

#include "base/hash.h"
#include "base/map.h"
#include "feedback/feedback.h"
#include "kube/elector.h"
#include "kube/writer.h"
#include "source/kube.h"

enum {
    OSM__ABOUT_MAX = 10000, /* objects of which something is said */
    OSM__TEXT_MAX = 1024,   /* of an Event, and a status */
};

/* What is said about one object. */
struct osm__about {
    char *uid;
    char version[64]; /* of its kind */
    char *text;       /* "spec.host: must be one host; ..."; NULL: it is refused no longer */
    char *reason;     /* the same for a status: "must be one host (spec.host)" */
    uint32_t epoch;   /* of the look that saw it refused */
    /* its Event */
    bool sent;        /* there is one */
    bool is_due;      /* it says something else than it should */
    json_int_t count; /* how often it was told */
    int64_t first_s;  /* wall clock; 0: not yet */
    uint64_t told_ms; /* monotonic */
};

/* What is said about this replica. */
struct osm__note {
    const char *reason, *type; /* literals: "PolicyActivated", "Normal" */
    char *text;
    json_int_t count;
    int64_t first_s, last_s;
    uint64_t number; /* the least goes first */
};

enum osm__has_status { OSM__STATUS_UNKNOWN, OSM__STATUS_ASKING, OSM__STATUS_NO, OSM__STATUS_YES };
struct osm__status_kind {
    struct osm_feedback *feedback;
    char *group, *kind;
    bool wanted;
    enum osm__has_status has;
    uint64_t definitions; /* as many changes of definitions had been seen when it was asked */
    uint64_t again_ms;
    struct osm_kube_call *call;
};

struct osm_feedback {
    struct osm_feedback_config config;
    struct osm_kube *kube;
    char instance[128]; /* this replica, for people */
    struct osm_elector *elector;
    struct osm_timer *look, *refresh;
    bool look_due, leads, stopping;
    uint64_t unsettled_since_ms; /* 0: it was settled when last looked */
    osm_task_fn *stopped;
    void *stopped_ud;
    /* rejects.c */
    struct osm_map abouts; /* object key -> struct osm__about * */
    struct osm_map groups; /* kind -> "group\ngroup": of which it may be */
    uint32_t epoch;
    json_t *seen;    /* the rejects of the last look */
    bool look_again; /* although they are the same */
    bool many;       /* has been told of all at once */
    size_t not_told; /* rejects beyond OSM__ABOUT_MAX */
    /* events.c */
    struct osm_writer *events;
    struct osm_kube_call *adopting;
    struct osm_timer *adopt_retry;
    char *adopt_token;
    unsigned adopt_pages;
    bool adopted;
    /* notes.c */
    struct osm_writer *own;
    struct osm_map notes; /* name of the Event -> struct osm__note * */
    uint64_t began_ms;
    uint64_t notes_made;
    /* status.c */
    struct osm_writer *statuses;
    struct osm_map kinds; /* "group/Kind" -> struct osm__status_kind * */
    struct osm_map due;   /* object key -> resourceVersion that was judged, with a ! before it where
                             its status has been written; osm_free */
};

/* --- rejects.c --- */
/** Takes what the snapshot says. */
void osm__rejects_look(struct osm_feedback *f, const struct osm_snapshot *snapshot);
void osm__rejects_kinds(struct osm_feedback *f, const json_t *kinds);
void osm__rejects_clear(struct osm_feedback *f);
const struct osm__about *osm__rejects_about(const struct osm_feedback *f, const char *key);
void osm__about_free(struct osm__about *about);
/** Of the object with this uid, made where there is none. NULL: no memory, or too many. */
struct osm__about *osm__about_get(struct osm_feedback *f, const char *key, const char *uid);

/* --- events.c --- */
int osm__events_init(struct osm_feedback *f, struct osm_err *err);
void osm__events_clear(struct osm_feedback *f);
/** Leading has begun: what does the one before have told? adopted follows. */
void osm__events_adopt(struct osm_feedback *f);
void osm__events_stop_adopting(struct osm_feedback *f);
/** What is said about this object has changed. */
void osm__events_put(struct osm_feedback *f, const char *key, struct osm__about *about);
/** Nothing is to be said about it. False: it is just being said. */
bool osm__events_drop(struct osm_feedback *f, const char *key);

struct osm__event {
    const char *ns, *name;
    json_t *about; /* involvedObject; taken */
    const char *reason, *type, *text;
    json_int_t count;
    int64_t first_s, last_s;
};
/** A server-side apply of it: creates it or brings it up to date in one request. False: no memory.
 */
bool osm__event_write(const struct osm_feedback *f, const struct osm__event *event,
                      struct osm_write *out);
/** Of an outcome: counted. */
void osm__feedback_count(const char *what, enum osm_outbox_outcome outcome);

/* --- notes.c --- */
int osm__notes_init(struct osm_feedback *f, struct osm_err *err);
void osm__notes_clear(struct osm_feedback *f);
void osm__notes_add(struct osm_feedback *f, const char *id, const char *reason, const char *type,
                    const char *text);

/* --- status.c --- */
int osm__status_init(struct osm_feedback *f, struct osm_err *err);
void osm__status_clear(struct osm_feedback *f);
void osm__status_kinds(struct osm_feedback *f, const json_t *kinds);
/** Asks the definitions that have to be asked; of objects whose status is another than it should
 * be, it is written. */
void osm__status_look(struct osm_feedback *f);
void osm__status_drop_all(struct osm_feedback *f);

/* --- feedback.c --- */
/** Soon. */
void osm__feedback_look(struct osm_feedback *f);
