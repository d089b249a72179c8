/* What stream.c (requests and views in), stream_claims.c (what a client comes with),
 * stream_suspects.c (which resource of a refused response is to blame) and stream_plan.c (responses
 * out) share. */
#pragma once

#include "xds/stream.h"

enum { OSM__INFLIGHT_MAX = 8, OSM__NAMES_MAX = 65536 };

enum osm__entry_state {
    OSM__LACKS,
    OSM__HAS,     /* exactly `resource`'s version */
    OSM__UNKNOWN, /* it refused the response that held it, or took it away */
    OSM__LEAVING  /* delta: told that it is gone; if that is refused, it may still be there */
};

/* What the client has of one name. Entries are sorted by name; there is one for each name that is
 * subscribed to or was sent. */
struct osm__entry {
    struct osm_resource
        *resource;  /* sent, or a stand-in without body: only name and claimed version are known */
    uint64_t seq;   /* of the response that brought it; 0: claimed */
    uint64_t since; /* of the first one since when it was there all along; 0: claimed */
    uint32_t group; /* delta: sent with those of this group only; 0: with all the rest */
    uint8_t state;  /* enum osm__entry_state */
    bool named;     /* subscribed to by name */
    bool ask;       /* answer it, changed or not */
    bool held;      /* unknown, and its type has not changed since */
    bool told;      /* delta: knows that it does not exist */
};

/* A response without an answer. The state of the world keeps the newest only. */
struct osm__sent {
    uint64_t seq;
    struct osm_hash version;
    uint32_t epoch;
    bool adds;  /* not only removals */
    bool alone; /* it held one resource */
};

struct osm__type {
    bool subscribed, wildcard;
    bool explicit_names; /* state of the world: an empty list is no wildcard any more */
    bool owed;           /* answer even if there is nothing */
    bool expected;
    bool claims;     /* the client came with something */
    bool distrusted; /* and is not believed */
    bool ever_sent, ever_answered;
    bool acked, nacked;
    bool planned; /* the counts below are valid */
    struct osm__entry *entries;
    size_t len;
    struct osm__sent inflight[OSM__INFLIGHT_MAX];
    unsigned inflight_len;
    uint32_t epoch;       /* counts changes of the content that the client subscribes to */
    uint64_t last_seq;    /* newest response */
    uint64_t refused_seq; /* newest that was refused */
    uint32_t groups;      /* the newest number of a group */
    struct osm_hash acked_version, nacked_version;
    char *error;
    size_t adds, urgent, gone, tell, waiting;
    uint32_t next_group; /* of suspects, to be sent; 0: none */
};

struct osm__view {
    struct osm_class *cls; /* NULL: no view yet */
    struct {
        char *name;
        struct osm_resource *resource;
        bool by_name_only;
    } secrets[OSM_STREAM_SECRETS_MAX]; /* sorted by name */
    size_t secrets_len;
};

struct osm_stream {
    enum osm_stream_mode mode;
    uint64_t tag, seq;
    uint64_t waived; /* CDS responses up to this one hold nothing back */
    struct osm__view view;
    struct osm__type types[OSM_XDS_TYPE_COUNT];
};

/* The resources of a view in the order of names, the secrets merged in. */
struct osm__cursor {
    const struct osm__view *view;
    enum osm_xds_type type;
    size_t at, secret_at;
};
struct osm__item {
    const char *name;
    struct osm_resource *resource; /* NULL: it will come */
    bool by_name_only;
};
bool osm__cursor_next(struct osm__cursor *cursor, struct osm__item *out);

struct osm__names_how {
    bool named; /* subscribed to by name */
    bool ask;   /* answer them whatever the client has */
    bool only;  /* the list is the whole subscription */
};
/** Gives each name an entry ("*" and empty names are none). Nothing has changed on failure. The
 * limit is on what the client says: what it is sent for a wildcard is bounded by the views. */
OSM_MUST_USE int osm__take_names(struct osm__type *type, const char *const *names, size_t n,
                                 const struct osm__names_how *how);

/* --- stream_claims.c --- */
/** Delta: takes initial_resource_versions in. */
OSM_MUST_USE int osm__take_claims(struct osm__type *type, const struct osm_stream_request *request);
/** Delta: endpoints of clusters that were sent on this stream are waited for, whatever was claimed.
 */
void osm__ask_for_warming(struct osm_stream *stream);

/* --- stream_suspects.c --- */
/** Delta: those that a refused response brought, and are unknown now, are parted in two groups, or
 * found: one alone. */
void osm__suspects_refused(struct osm__type *type, const struct osm__sent *sent);
/** They were accepted: nobody among them is to blame. */
void osm__suspects_accepted(struct osm__type *type, uint64_t seq);

struct osm__entry *osm__entry_find(const struct osm__type *type, const char *name);
void osm__nonce(const struct osm_stream *stream, uint64_t seq, char out[OSM_NONCE_SIZE]);
/** Hash over names and versions of what the client has. */
struct osm_hash osm__type_version(const struct osm__type *type);
