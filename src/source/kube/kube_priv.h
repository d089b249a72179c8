/* What the files of this source share.
 *
 *   look.c    which kinds the server has          kind.c   one of them: list, watch, objects
 *   trim.c    what of an object is kept           scope.c  of which namespaces the sink is told
 *   barrier.c is everything known that is there now?
 *   kube.c    all of it together: which kinds are wanted, state, life */
#pragma once

#include "base/map.h"
#include "kube/api.h"
#include "kube/discovery.h"
#include "kube/reflector.h"
#include "kube/stream.h"
#include "model/packed.h"
#include "source/kube.h"
#include "source/source_priv.h"

enum {
    OSM__KUBE_DEADLINE_MS = 30 * 1000, /* a request that is no watch */
};
extern const char osm__kube_metadata_list[], osm__kube_metadata_watch[]; /* Accept: names only */

struct kube;

/* --- kind.c --- */

enum osm__kube_use {
    OSM__KUBE_OBJECTS, /* what the mesh is made of */
    OSM__KUBE_CRDS,    /* definitions: that there are new ones is what is to be known */
};

struct osm__kube_refused {
    uint32_t epoch; /* of the list in which, or after which, it was told */
    char why[256];
};

struct osm__kube_kind {
    struct kube *source;
    enum osm__kube_use use;
    char *group, *kind;
    char **versions; /* that can be read, preferred first; NULL-terminated */
    bool base;       /* wanted by the host itself */
    bool asked;      /* wanted by the policies in force, or on their way */
    bool whole;      /* policies read all of it: nothing of its objects is left out */
    /* as discovery has it */
    bool looked;         /* discovery has said whether it is there */
    bool running;        /* it is there */
    unsigned absences;   /* in a row, where it was there before */
    uint64_t absent_at;  /* the look that counted last */
    uint64_t born;       /* the last look that had begun before it was wanted */
    bool no_stream;      /* a streaming list did not come to its end */
    char *served_others; /* versions that are served, none of which can be read; NULL */
    char *version, *plural, *path;
    /* its objects */
    struct osm_reflector reflector;
    struct osm_timer *timer;
    struct osm_kube_call *call;
    struct osm_kube_stream stream;
    struct osm_err stream_err;
    bool stream_open;
    struct osm_map refused; /* id -> struct osm__kube_refused *: objects that are none of ours */
    /* barrier.c */
    struct osm_kube_call *probe;
    struct osm_kube_stream probe_stream;
    char *probe_token;
    struct osm_timer *probe_again; /* the server had too much to do */
};

/** Owns: all texts are copied. NULL: no memory. */
struct osm__kube_kind *osm__kind_new(struct kube *source, const char *group, const char *kind,
                                     const char *const *versions);
/** Others can be read. Errors: OSM_ENOMEM. */
OSM_MUST_USE int osm__kind_set_versions(struct osm__kube_kind *kind, const char *const *versions);
/** Its objects are not told gone. */
void osm__kind_free(struct osm__kube_kind *kind);
/** The server has it, as @p resource says; starts it, or starts it anew where that differs. */
OSM_MUST_USE int osm__kind_run(struct osm__kube_kind *kind,
                               const struct osm_kube_resource *resource);
/** The server has it no longer: its objects are gone. */
void osm__kind_stop(struct osm__kube_kind *kind);
/** What it waits for it tries now. */
void osm__kind_hurry(struct osm__kube_kind *kind);
/** All of its objects, from the beginning. */
void osm__kind_list_anew(struct osm__kube_kind *kind);
/** Nothing more of it to wait for. */
bool osm__kind_settled(const struct osm__kube_kind *kind);
/** It is there, but at present cannot be read; not where it may not be. */
bool osm__kind_failing(const struct osm__kube_kind *kind);
/** "TrafficTarget.access.smi-spec.io", or "Pod". */
void osm__kind_name(const struct osm__kube_kind *kind, char *out, size_t size);

/* --- trim.c --- */

/** Takes out of @p object what nobody reads: managedFields, what kubectl applied last; unless
 * @p whole, of Pods and EndpointSlices all but what the host derives facts from. Adds apiVersion
 * and kind where it has none, as items of lists have. Errors: OSM_ENOMEM. */
OSM_MUST_USE int osm__kube_trim(json_t *object, const char *group, const char *version,
                                const char *kind, bool whole);

/** Whether an object of the kind is less than whole unless it has to be. */
bool osm__kube_is_trimmed(const char *group, const char *kind);

/* --- scope.c --- */

/** An object is there, or is other than it was: tells the sink of it or, where its namespace is not
 * in the mesh, keeps it aside. *data: what the reflector keeps with it. Errors: OSM_ENOMEM. */
OSM_MUST_USE int osm__held_put(struct osm__kube_kind *kind, struct osm_object *object, void **data);
/** It is gone. @p data: NULL is accepted. */
void osm__held_drop(struct osm__kube_kind *kind, void *data);
/** A Namespace is there; @p body NULL: it is not. Its objects come or go, if that makes it join or
 * leave. */
void osm__scope_namespace(struct kube *source, const char *name, const json_t *body);
/** As of osm_source_outside. */
struct osm_outside *osm__scope_outside(const struct kube *source);

/* --- look.c --- */

struct osm__kube_look {
    struct kube *source;
    struct osm_timer *timer;
    struct osm_map calls; /* address of a struct asking -> it */
    struct osm_kube_resources found;
    unsigned open;
    bool under_way, failed, not_ready, again;
    bool by_group;     /* an older server: only of groups wanted when it began is it known */
    bool doubtful;     /* something seems to be gone: a second look soon */
    bool can_stream;   /* of the server that answers now */
    unsigned failures; /* in a row */
    unsigned hurries;  /* quick looks that are left */
    uint64_t number;   /* of looks that have ended well */
    uint64_t began;    /* number of looks that have begun */
    uint64_t good;     /* the newest of those that has ended well */
    char error[320], server_version[64];
    uint64_t failing_since_ms;
};
int osm__look_init(struct osm__kube_look *look, struct kube *source);
void osm__look_clear(struct osm__kube_look *look);
/** Soon, and some times after that: something has changed. */
void osm__look_hurry(struct osm__kube_look *look);
/** Now; the number that look->good reaches when that one has ended well. */
uint64_t osm__look_now(struct osm__kube_look *look);

/* --- barrier.c --- */

struct osm__kube_waiter {
    struct osm__kube_waiter *next;
    osm_source_refreshed_fn *done;
    void *ud;
};
struct osm__kube_barrier {
    struct osm__kube_waiter *now, *next; /* of the round that runs; of the one after it */
    struct osm__kube_waiter *over;       /* of one that has ended: being told */
    uint64_t look;                       /* the discovery that the round needs; 0: no round */
    uint64_t began_ms;
    bool probing;
};
void osm__barrier_ask(struct kube *source, osm_source_refreshed_fn *done, void *ud);
void osm__barrier_forget(struct kube *source, void *ud);
/** Something has changed: the round may go on, or be over. */
void osm__barrier_move(struct kube *source);
void osm__barrier_clear(struct kube *source);
/** Timer: the list of a kind anew. @p ud: the kind. */
void osm__barrier_probe_again(void *ud);

/* --- kube.c --- */

struct kube {
    struct osm_source source; /* first: the two share their address */
    struct osm_loop *loop;
    struct osm_source_sink sink;
    struct osm_kube *api;
    struct osm__kube_kind **kinds;
    size_t kinds_len;
    struct osm__kube_look look;
    struct osm__kube_barrier barrier;
    struct osm_timer *turn; /* to look at itself: after whatever has happened */
    char *mesh_name, *osm_namespace;
    uint64_t silence_ms;
    struct osm_map joined;        /* namespaces of the mesh */
    uint64_t objects, generation; /* those that the sink has */
    size_t outside;               /* those that are kept packed */
    uint64_t definitions;         /* changes of CustomResourceDefinitions */
    bool synced, failed, stopping;
    int64_t since_s; /* when it failed; wall clock */
    uint64_t failed_ms;
    char failure[512];
};

/** Something has happened that its state may follow from; looked at when this turn of the loop is
 * over. */
void osm__kube_changed(struct kube *source);
/** After a look that has ended well. */
void osm__kube_looked(struct kube *source);
