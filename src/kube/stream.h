/* What an API server answers, taken apart as it arrives: the items of a list, the events of a
 * watch. At no time more than one object is held as text, and none that is longer than the limit;
 * the skeleton around the objects is followed byte by byte, so that it does not matter how the text
 * is cut into pieces. Pure. */
#pragma once

#include "base/buf.h"

#include <jansson.h>

enum {
    OSM_KUBE_OBJECT_MAX = 8 << 20, /* bytes of an object's text; etcd takes 1.5 MB by default */
    OSM_KUBE_ENVELOPE_MAX = 64 << 10,
};

enum osm_kube_stream_form {
    OSM_KUBE_LIST,  /* one object whose `items` are told one by one */
    OSM_KUBE_WATCH, /* objects one after the other: {"type": ..., "object": ...} */
};

struct osm_kube_stream_callbacks {
    void *ud;
    /** An item (@p type NULL), or what an event is about. Takes @p object. Not 0: the code that
     * osm_kube_stream_feed returns. */
    int (*object)(void *ud, const char *type, json_t *object);
    /** An object that cannot be used, and why; @p name as far as it is known: "namespace/name", or
     * "". The same return. */
    int (*bad)(void *ud, const char *name, const char *reason);
};

struct osm_kube_stream {
    struct osm_kube_stream_callbacks callbacks;
    enum osm_kube_stream_form form;
    int state;
    struct osm_buf text; /* of the value that is being read */
    size_t value_len;    /* of it, with what was not kept */
    size_t depth;        /* in it: brackets that are open */
    bool in_string, escaped;
    char key[32]; /* of the envelope's member that is being read; cut */
    size_t key_len;
    bool has_items;
    char resource_version[64], *continue_token; /* of a list; "", NULL: none */
    char first[48];                             /* how it all begins, for error texts */
    size_t first_len;
};

void osm_kube_stream_init(struct osm_kube_stream *stream, enum osm_kube_stream_form form,
                          const struct osm_kube_stream_callbacks *callbacks);
void osm_kube_stream_clear(struct osm_kube_stream *stream);
/** Errors: OSM_EPARSE this is no list or no watch; OSM_ENOMEM; those of the callbacks. */
OSM_MUST_USE int osm_kube_stream_feed(struct osm_kube_stream *stream, const char *bytes, size_t len,
                                      struct osm_err *err);
/** At the end of the text. Errors: OSM_EPARSE it ends in the middle, or is no list. */
OSM_MUST_USE int osm_kube_stream_end(const struct osm_kube_stream *stream, struct osm_err *err);
