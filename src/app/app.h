/* The daemon: who is wired to whom, and in which order things start and stop. The only place that
 * knows all modules.
 *
 *   source --> store --> reload: generations of policies, each on a thread of its own
 *                 |         '--> snapshot --> ads --> proxies
 *                 |                  '--> control: status, wait, config
 *                 '--> admission of streams
 *   http: health, metrics, debug endpoints; they read what is here
 *   leaves: service certificates per account, asked for by ads, signed on the thread pool
 *
 * Everything below is on the loop thread. */
#pragma once

#include "app/config.h"
#include "app/settings.h"
#include "ca/ca.h"
#include "debug/control.h"
#include "debug/evaluator.h"
#include "feedback/feedback.h"
#include "http/http.h"
#include "install/install.h"
#include "loop/loop.h"
#include "model/store.h"
#include "reload/reload.h"
#include "source/source.h"
#include "webhook/webhook.h"
#include "xds/ads.h"

struct osm_ca_secret;
struct osm_leaves;
struct osm_scratch;
struct osm_trim;
struct osm_waiter;
struct osm_profiling;

struct osm_app {
    struct osm_app_config config;
    struct osm_loop *loop;
    struct osm_kube *kube;           /* for what is written; NULL: nothing is */
    struct osm_install *bootstrap;   /* NULL: not this daemon's role */
    struct osm_webhook *webhook;     /* NULL: the same, or the roots are not known yet */
    struct osm_ca_secret *ca_secret; /* NULL: the roots are in the state directory */
    struct osm_ca *ca;               /* NULL: not known yet */
    struct osm_store *store;
    struct osm_source *source;
    struct osm_feedback *feedback; /* NULL: the source is no API server */
    struct osm_reload *reload;
    struct osm_scratch *scratch; /* engines for questions, thrown away */
    struct osm_ads *ads;
    struct osm_registry *commands;
    struct osm_control *control, *debug_socket, *debug_console;
    struct osm_evaluators *evaluators; /* for the consoles */
    struct osm_http *http;
    struct osm_http_listener *http_listener, *debug_listener; /* NULL: off */
    struct osm_timer *debug_retry, *lag_timer;
    uint64_t lag_due_us;
    struct osm_leaves *leaves;
    struct osm_trim *trim;
    struct osm_leaf *ads_leaf; /* what the ADS server presents; renewed before it ends */
    bool ads_leaf_is_rsa;
    struct osm_timer *ads_leaf_timer;
    struct osm_host_settings settings; /* what the policies ask of the daemon */
    bool reloading_ca;
    struct osm_snapshot *snapshot; /* the newest; NULL before the first run has ended */
    struct osm_waiter *waiters;
    struct osm_profiling *profiling; /* policy_profile.c; NULL: nobody takes a profile */
    int ads_port;
    bool synced, stopping, failed, flush_posted;
    int still_stopping; /* parts that stop in their own time */
    uint64_t started_ms;
    uint64_t published_at_us;         /* monotonic: the newest snapshot was */
    int64_t heard_us;                 /* wall clock: the source told of an object last */
    int64_t published_us, applied_us; /* wall clock: the newest snapshot was handed to ads; every
                                         connected proxy had answered it (0: not yet) */
};

/** Runs until SIGTERM or SIGINT. Returns the process's exit code. */
int osm_app_run(const struct osm_app_config *config);

/** True when all that the source holds is in the newest snapshot. Never while the source has
 * failed: what it holds is unknown then. */
bool osm_app_settled(const struct osm_app *app);
