/* The roots in a Secret that all replicas share (keys ca.crt, private.key, and passive.crt where
 * roots are trusted that do not sign).
 *
 *   look --> there --------------------> read --> take() --> look every 10 s: what has changed is
 *     ^        none, at the start only:               taken too
 *     '-- 409 -- make a root, POST -- 201 --> read
 *
 * Of several that start at once the server lets one write, and the others take what it wrote. One
 * that is there is never written to. What cannot be read, or may not be taken, leaves what is in
 * use; one that is gone is not made again: what would come of it is no longer what proxies trust.
 * Thread: loop. */
#pragma once

#include "ca/ca.h"
#include "kube/api.h"

struct osm_ca_secret;

struct osm_ca_secret_config {
    struct osm_loop *loop;
    struct osm_kube *kube; /* borrowed for its life, like the texts */
    const char *ns, *name, *trust_domain;
    void *ud;
    /** Takes @p ca. Called at the start and whenever the Secret has changed. Errors: it is asked
     * again with the next look. */
    int (*take)(void *ud, struct osm_ca *ca, struct osm_err *err);
};

OSM_MUST_USE int osm_ca_secret_start(struct osm_ca_secret **out,
                                     const struct osm_ca_secret_config *config,
                                     struct osm_err *err);
/** Who waits is told OSM_ECANCELED. Not from take(). NULL is accepted. */
void osm_ca_secret_stop(struct osm_ca_secret *secret);
/** Looks now. @p done: once, with what has come of it (code 0: what is there is in use). Errors:
 * OSM_EBUSY somebody waits already. */
OSM_MUST_USE int osm_ca_secret_ask(struct osm_ca_secret *secret,
                                   void (*done)(void *ud, const struct osm_err *err), void *ud,
                                   struct osm_err *err);
/** What is wrong with it, for people; "" nothing. */
const char *osm_ca_secret_problem(const struct osm_ca_secret *secret);
