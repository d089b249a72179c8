/* What is known of one kind of objects, and what to ask the server next: a state machine without
 * network and clock.
 *
 *        .--> LIST (page by page) --> WATCH from there --> ended --> WATCH from where it was --.
 *        |      or: STREAM, a watch that begins with all there is                              |
 *        '---------------- 410 Gone, garbage, a server that went back in time <---------------'
 *
 * A list replaces: what it does not hold is gone. It is asked for the newest state, so that nothing
 * comes back that was deleted. Failures wait longer each time, at random within a span, and as long
 * as the server asks for; what is known stays known meanwhile. */
#pragma once

#include "base/buf.h"
#include "base/map.h"

#include <jansson.h>

enum osm_reflector_step { OSM_REFLECT_LIST, OSM_REFLECT_STREAM, OSM_REFLECT_WATCH };

struct osm_reflector_callbacks {
    void *ud;
    /** An object now exists, or has this content. Takes @p object. @p data: what the owner keeps
     * with it, NULL at first. Errors end the response: OSM_ENOMEM. */
    int (*put)(void *ud, const char *id, json_t *object, void **data);
    /** It is gone; @p data goes with it. */
    void (*gone)(void *ud, const char *id, void *data);
    /** Anything; a test's may be constant. */
    uint32_t (*random)(void *ud);
};

struct osm_reflector_limits {
    uint64_t backoff_ms, backoff_max_ms; /* of the first failure; of the last */
    uint64_t denied_ms;                  /* after 401 and 403 */
    uint64_t retry_after_max_ms;         /* a server may ask for as long */
    uint64_t too_short_ms; /* a watch that ends sooner, with nothing said, has failed */
    unsigned page;         /* objects per page of a list */
    unsigned watch_s;      /* the server ends a watch after it, or twice as long */
};
extern const struct osm_reflector_limits osm_reflector_defaults;

/* How a response has ended. */
struct osm_reflector_end {
    int rc;                /* of the transport, or of what reads the stream */
    int status;            /* HTTP; 0 none */
    const char *reason;    /* "Expired", of a Status object; "" none */
    const char *message;   /* for people */
    int64_t retry_after_s; /* -1: not told */
    /* of a list that is complete: */
    const char *resource_version, *continue_token; /* NULL: the last page */
};

struct osm_reflector_known {
    uint64_t version; /* resourceVersion; 0: no number */
    uint32_t epoch;   /* of the last list that held it */
    void *data;
};

struct osm_expect;

struct osm_reflector {
    struct osm_reflector_callbacks callbacks;
    const struct osm_reflector_limits *limits;
    struct osm_map known;         /* "namespace/name" or "name" -> struct osm_reflector_known * */
    enum osm_reflector_step step; /* what to ask next, or what is being asked */
    char resource_version[64];    /* everything up to here is known; "" nothing */
    char *continue_token;
    uint32_t epoch;
    bool can_stream; /* the server offers it, as far as we know */
    bool synced;     /* a list has been complete at least once */
    bool denied;     /* the last answer was 403: there is nothing to wait for */
    bool missing;    /* the last answer was 404 */
    bool busy;       /* the last answer was 429: the server is there, and says to come again */
    bool listing;    /* between the first page and the last */
    bool established;
    uint64_t asked_ms, not_before_ms;
    unsigned failures;         /* in a row */
    unsigned restarts;         /* of lists, in a row, because of 410 */
    uint64_t events;           /* of this watch */
    uint64_t failing_since_ms; /* 0: not failing */
    char failure[320];         /* "" or why */
    struct osm_expect *expect; /* NULL: nobody waits */
    /* figures */
    uint64_t lists, watches, objects_bad;
    char bad[320]; /* the last object that could not be used, since the last list; "" none */
    /* an ERROR event of the stream */
    int error_status;
    int64_t error_retry_s;
    char error_reason[64], error_message[256];
    bool in_past; /* the server has said something older than we know */
};

void osm_reflector_init(struct osm_reflector *r, const struct osm_reflector_limits *limits,
                        const struct osm_reflector_callbacks *callbacks);
/** Tells gone() for all that is known. */
void osm_reflector_clear(struct osm_reflector *r);

/** When to ask: milliseconds from now. */
uint64_t osm_reflector_wait(const struct osm_reflector *r, uint64_t now_ms);
/** The request is made now: its query goes to @p query ("limit=500&..."). Errors: OSM_ENOMEM. */
OSM_MUST_USE int osm_reflector_ask(struct osm_reflector *r, uint64_t now_ms, struct osm_buf *query);
/** The head of a good response is here. */
void osm_reflector_established(struct osm_reflector *r);
/** As of osm_kube_stream_callbacks. Errors: OSM_EMISMATCH it is no object of an API server;
 * OSM_ECANCELED the stream has said that it is over (osm_reflector_ended follows); OSM_ENOMEM. */
OSM_MUST_USE int osm_reflector_object(struct osm_reflector *r, const char *type, json_t *object);
/** An object that cannot be used. Errors: OSM_EMISMATCH in a watch: of whom it was is not known, so
 * everything is listed anew. */
OSM_MUST_USE int osm_reflector_bad(struct osm_reflector *r, const char *name, const char *reason);
/** The response has ended; osm_reflector_wait says what follows. */
void osm_reflector_ended(struct osm_reflector *r, const struct osm_reflector_end *end,
                         uint64_t now_ms);
/** Nothing more to wait for: it is listed, or may not be. */
bool osm_reflector_settled(const struct osm_reflector *r);
/** A change of credentials, or somebody who waits: what is to be asked is asked now. */
void osm_reflector_hurry(struct osm_reflector *r);
/** What is asked next is all that there is, from its beginning; what is known stays until then. Not
 * while a request is under way. */
void osm_reflector_list_anew(struct osm_reflector *r);

/* --- expectations: is all known that the server has at this moment? --- */

/* Asked by a list of names and versions beside the stream: since a watch that has nothing to say
 * says nothing, its last resourceVersion alone does not tell. */

/** Begins anew. Errors: OSM_ENOMEM. */
OSM_MUST_USE int osm_reflector_expect(struct osm_reflector *r);
/** The server has this object. Errors: OSM_ENOMEM. */
OSM_MUST_USE int osm_reflector_expect_object(struct osm_reflector *r, const char *id,
                                             uint64_t version);
/** That were all, as of @p version. Errors: OSM_ENOMEM. */
OSM_MUST_USE int osm_reflector_expect_end(struct osm_reflector *r, uint64_t version);
/** Whether a list of @p version is of a time before it began: the store is a copy of its past. */
bool osm_reflector_expect_is_past(const struct osm_reflector *r, uint64_t version);
/** Everything that was expected is known. */
bool osm_reflector_met(const struct osm_reflector *r);
void osm_reflector_expect_nothing(struct osm_reflector *r);

/** A resourceVersion as a number; 0: it is none. */
uint64_t osm_kube_version(const char *text);
/** "namespace/name" or "name" of an object; false: it has no name, or one that is too long. */
enum { OSM_KUBE_ID_SIZE = 512 };
bool osm_kube_id(const json_t *object, char out[OSM_KUBE_ID_SIZE]);
