/* What the files of webhook share. */
#pragma once

#include "webhook/webhook.h"

#include "base/map.h"

enum { OSM__WEBHOOK_REASON = 512 };

extern const char osm__webhook_metadata[]; /* Accept: only the metadata of what is written */

struct osm__admission_call;

struct osm__registration {
    struct osm_timer *timer;
    struct osm_kube_call *call;
    unsigned failures; /* in a row */
    bool again;        /* the roots have changed while it was asked */
    bool done;
    char failure[OSM__WEBHOOK_REASON]; /* "" none */
};

struct osm__secrets {
    struct osm_map waiting; /* "namespace/uuid" -> struct osm__secret * */
    struct osm_timer *timer;
    struct osm_kube_call *call;
    struct osm__secret *current; /* what the call is about; NULL: the pods of before the start */
    char *page;                  /* of these pods: what continues the list; NULL: they are listed */
    bool listing;
    unsigned failures; /* in a row */
    uint64_t lost;
};

struct osm_webhook {
    struct osm_webhook_config config;
    const struct osm_ca *ca;        /* signs what pods get */
    const struct osm_ca *server_ca; /* has signed what the server presents */
    const struct osm_ca *known_ca; /* its roots are what the API server was told last; NULL: none */
    struct osm_leaf *leaf;         /* what the server presents */
    struct osm_http_listener *listener;
    struct osm_timer *renew;
    struct osm__registration registration;
    struct osm__secrets secrets;
    struct osm__admission_call *calls; /* under way */
    struct osm__admission_call *waiting,
        **behind;            /* for their turn; where the next one is hung on */
    unsigned running;        /* of calls */
    struct osm_turns *turns; /* each begins one */
    uint64_t injected, allowed, denied;
    /* its end */
    bool stopping, drained; /* drained: the listener has gone */
    struct osm_timer *grace;
    osm_task_fn *stopped;
    void *stopped_ud;
};

/** The API server knows the roots of w->ca. */
void osm__webhook_registered(struct osm_webhook *w);
/** Something has ended: so may the webhook. */
void osm__webhook_end_if_done(struct osm_webhook *w);

/* --- admit.c --- */
void osm__webhook_admit(void *webhook, struct osm_http_request *request);
/** Begins one of those that wait. */
void osm__webhook_start_one(void *webhook);
/** Answers all that is under way or waits: not now. */
void osm__webhook_end_calls(struct osm_webhook *w);

/* --- registration.c --- */
OSM_MUST_USE int osm__registration_init(struct osm_webhook *w);
void osm__registration_clear(struct osm_webhook *w);
/** Now, with the roots as they are. */
void osm__registration_apply(struct osm_webhook *w);

/* --- secrets.c --- */
OSM_MUST_USE int osm__secrets_init(struct osm_webhook *w);
void osm__secrets_clear(struct osm_webhook *w);
/** One is about to be made, which will need an owner. */
void osm__secrets_expect(struct osm_webhook *w, const char *ns, const char *uuid);
/** It has been made. @p uid: its own; "": not known. */
void osm__secrets_made(struct osm_webhook *w, const char *ns, const char *uuid, const char *uid);
/** The API server has refused it. */
void osm__secrets_refused(struct osm_webhook *w, const char *ns, const char *uuid);
