#include "app/leaves.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/map.h"
#include "base/metrics.h"
#include "model/names.h"
#include "xds/secret.h"

#include <stdio.h>
#include <string.h>

enum { RETRY_MS = 2000, LOOK_MS = 10 * 1000 };

struct entry {
    struct osm_leaves *leaves;
    char *key, *ns, *account, *common_name;
    struct osm_resource *secret; /* NULL until the first is signed */
    struct osm_timer *renew;
    int64_t renew_at_s, ends_at_s; /* wall clock */
    bool signing, orphaned;        /* orphaned: freed when the pool returns it */
    bool again;                    /* the root has changed while it was signed */
    /* The pool's, while `signing`: what it needs is its own, it may sign on while osm_leaves_free
     * runs. */
    struct osm_ca *ca;
    struct osm_leaves_rules rules;
    struct osm_leaf *signed_leaf;
    struct osm_err signed_err;
};

struct osm_leaves {
    struct osm_loop *loop;
    struct osm_ca *ca;
    char *trust_domain;
    struct osm_leaves_rules rules;
    struct osm_leaves_callbacks callbacks;
    struct osm_map entries; /* "ns/account" -> struct entry */
    struct osm_timer *look;
};

static void entry_free(struct entry *e)
{
    if (!e)
        return;
    if (e->secret)
        osm_resource_unref(e->secret);
    osm_leaf_unref(e->signed_leaf);
    osm_ca_unref(e->ca);
    osm_timer_free(e->renew);
    osm_free(e->key);
    osm_free(e->ns);
    osm_free(e->account);
    osm_free(e->common_name);
    osm_free(e);
}

static void drop(struct entry *e)
{
    if (e->signing) {
        e->orphaned = true;
        osm_timer_free(osm_take_ptr(&e->renew));
    } else {
        entry_free(e);
    }
}

static void look_at_the_clock(void *ud);

struct osm_leaves *osm_leaves_new(struct osm_loop *loop, const struct osm_ca *ca,
                                  const char *trust_domain, const struct osm_leaves_rules *rules,
                                  const struct osm_leaves_callbacks *callbacks)
{
    struct osm_leaves *l = osm_alloc(sizeof *l);
    char *domain = osm_strdup(trust_domain);
    if (!l || !domain) {
        osm_free(l);
        osm_free(domain);
        return NULL;
    }
    *l = (struct osm_leaves){.loop = loop,
                             .ca = osm_ca_ref(ca),
                             .trust_domain = domain,
                             .rules = *rules,
                             .callbacks = *callbacks,
                             .entries = OSM_MAP_INIT,
                             .look = osm_timer_new(loop, look_at_the_clock, l)};
    if (!l->look) {
        osm_leaves_free(l);
        return NULL;
    }
    osm_timer_start(l->look, LOOK_MS, LOOK_MS);
    return l;
}

void osm_leaves_free(struct osm_leaves *l)
{
    if (!l)
        return;
    osm_map_each (&l->entries, e)
        drop(e->value);
    osm_map_clear(&l->entries);
    osm_timer_free(l->look);
    osm_ca_unref(l->ca);
    osm_free(l->trust_domain);
    osm_free(l);
}

static void sign_on_pool(void *ud)
{
    struct entry *e = ud;
    struct osm_leaf_request request = {.kind = OSM_LEAF_SERVICE,
                                       .common_name = e->common_name,
                                       .validity_s = e->rules.validity_s,
                                       .rsa_bits = e->rules.rsa_bits};
    uint64_t begin_us = osm_now_us();
    if (osm_ca_issue(e->ca, &request, &e->signed_leaf, &e->signed_err)) {
        e->signed_leaf = NULL;
        osm_metric_add(OSM_METRIC_ERRORS, OSM_LABELS("E4014"), 1);
    } else {
        osm_metric_add(OSM_METRIC_CERTS_ISSUED, NULL, 1);
        osm_metric_observe(OSM_METRIC_CERT_TIME, NULL, (double)(osm_now_us() - begin_us) / 1e6);
    }
}

/* Milliseconds until a certificate of this end should be renewed: earlier than its lead by up to a
 * tenth of the wait, so that those which were made together are not renewed together. A lead that
 * leaves nothing of the life is cut to half of it. */
static uint64_t renewal_delay_ms(const struct osm_leaves_rules *rules, int64_t not_after)
{
    int64_t left_s = not_after - osm_wall_s();
    int64_t lead_s = rules->lead_s ? rules->lead_s : rules->validity_s / 3;
    if (lead_s > left_s / 2)
        lead_s = left_s / 2;
    int64_t wait_s = left_s - lead_s;
    if (wait_s <= 0)
        return RETRY_MS;
    uint64_t wait_ms = (uint64_t)wait_s * 1000;
    return wait_ms - osm_now_us() % (wait_ms / 10 + 1);
}

static void sign(struct entry *e);

static void on_renew(void *ud)
{
    struct entry *e = ud;
    struct osm_leaves *l = e->leaves;
    if (l->callbacks.in_use(l->callbacks.ud, e->ns, e->account)) {
        sign(e);
        return;
    }
    (void)osm_map_del(&l->entries, e->key);
    drop(e);
}

static void signed_back(void *ud)
{
    struct entry *e = ud;
    e->signing = false;
    if (e->orphaned) {
        entry_free(e);
        return;
    }
    struct osm_leaves *l = e->leaves;
    struct osm_ca *ca = osm_take_ptr(&e->ca);
    struct osm_leaf *leaf = osm_take_ptr(&e->signed_leaf);
    if (e->again) {
        e->again = false;
        osm_leaf_unref(leaf);
        osm_ca_unref(ca);
        sign(e);
        return;
    }
    if (!leaf) {
        osm_log(OSM_LOG_CA, OSM_LOG_ERROR, "service certificate not issued, trying again",
                OSM_S("account", e->key), OSM_S("error", e->signed_err.msg));
        osm_timer_start(e->renew, RETRY_MS, 0);
        osm_ca_unref(ca);
        return;
    }
    /* Root, kind and end are for a server that the proxy comes to with it, the serial for two that
     * are made within a second. */
    char version[192];
    (void)snprintf(version, sizeof version, "%s.%s.%s.%lld", osm_ca_fingerprint(ca),
                   osm_leaves_kind(&e->rules), osm_leaf_serial(leaf),
                   (long long)osm_leaf_not_after(leaf));
    osm_ca_unref(ca);
    struct osm_resource *secret = osm_secret_certificate(
        "service-cert", version, osm_leaf_chain_pem(leaf), osm_leaf_key_pem(leaf));
    if (secret) {
        if (e->secret)
            osm_resource_unref(e->secret);
        e->secret = secret;
        uint64_t delay_ms = renewal_delay_ms(&e->rules, osm_leaf_not_after(leaf));
        e->ends_at_s = osm_leaf_not_after(leaf);
        e->renew_at_s = osm_wall_s() + (int64_t)(delay_ms / 1000) + 1;
        osm_timer_start(e->renew, delay_ms, 0);
        osm_log(OSM_LOG_CA, OSM_LOG_INFO, "service certificate issued", OSM_S("account", e->key),
                OSM_S("serial", osm_leaf_serial(leaf)),
                OSM_I("not_after", osm_leaf_not_after(leaf)));
        l->callbacks.ready(l->callbacks.ud, e->ns, e->account, secret);
    } else {
        osm_timer_start(e->renew, RETRY_MS, 0);
    }
    osm_leaf_unref(leaf);
}

static void sign(struct entry *e)
{
    if (e->signing)
        return;
    e->signing = true;
    e->ca = osm_ca_ref(e->leaves->ca);
    e->rules = e->leaves->rules;
    if (osm_loop_work(e->leaves->loop, sign_on_pool, signed_back, e)) {
        e->signing = false;
        osm_ca_unref(osm_take_ptr(&e->ca));
        osm_timer_start(e->renew, RETRY_MS, 0);
    }
}

/* By the wall clock: timers stand still while it jumps, and go on while the machine sleeps. */
static bool is_due(const struct entry *e)
{
    return e->secret && e->renew_at_s <= osm_wall_s();
}

static void look_at_the_clock(void *ud)
{
    struct osm_leaves *l = ud;
    osm_map_each (&l->entries, at)
        if (is_due(at->value))
            on_renew(at->value);
}

static void sign_all(struct osm_leaves *l)
{
    osm_map_each (&l->entries, at) {
        struct entry *e = at->value;
        e->again = e->signing;
        sign(e);
    }
}

const char *osm_leaves_kind(const struct osm_leaves_rules *rules)
{
    return rules->rsa_bits ? "rsa" : "p256";
}

void osm_leaves_set_rules(struct osm_leaves *l, const struct osm_leaves_rules *rules)
{
    bool other_keys = (rules->rsa_bits > 0) != (l->rules.rsa_bits > 0);
    l->rules = *rules;
    if (other_keys)
        sign_all(l);
}

void osm_leaves_set_ca(struct osm_leaves *l, const struct osm_ca *ca)
{
    bool same_root = !strcmp(osm_ca_fingerprint(ca), osm_ca_fingerprint(l->ca));
    osm_ca_unref(l->ca);
    l->ca = osm_ca_ref(ca);
    if (!same_root)
        sign_all(l);
}

void osm_leaves_want(struct osm_leaves *l, const char *ns, const char *account)
{
    char *key = osm_strf("%s/%s", ns, account);
    struct entry *e = key ? osm_map_get(&l->entries, key) : NULL;
    if (e) {
        osm_free(key);
        if (is_due(e))
            sign(e);
        /* What has ended is not handed out: its account may have been away for long. */
        if (e->secret && e->ends_at_s > osm_wall_s())
            l->callbacks.ready(l->callbacks.ud, ns, account, e->secret);
        return; /* or it is under way */
    }
    e = osm_alloc(sizeof *e);
    if (!key || !e) {
        osm_free(key);
        osm_free(e);
        return; /* the proxy asks again */
    }
    e->leaves = l;
    e->key = key;
    e->ns = osm_strdup(ns);
    e->account = osm_strdup(account);
    e->common_name = osm_principal(account, ns, l->trust_domain);
    e->renew = osm_timer_new(l->loop, on_renew, e);
    if (!e->ns || !e->account || !e->common_name || !e->renew ||
        osm_map_put(&l->entries, key, e, NULL)) {
        entry_free(e);
        return;
    }
    sign(e);
}

struct osm_resource *osm_leaves_get(const struct osm_leaves *l, const char *ns, const char *account)
{
    char *key = osm_strf("%s/%s", ns, account);
    struct entry *e = key ? osm_map_get(&l->entries, key) : NULL;
    osm_free(key);
    return e ? e->secret : NULL;
}

json_t *osm_leaves_keys(const struct osm_leaves *l)
{
    size_t n;
    json_t *list = json_array();
    const char **keys = osm_map_sorted_keys(&l->entries, &n);
    for (size_t i = 0; list && keys && i < n; i++)
        (void)json_array_append_new(list, json_string(keys[i]));
    osm_free(keys);
    return list;
}

bool osm_leaves_look(const struct osm_leaves *l, const char *key, struct osm_leaf_view *out)
{
    const struct entry *e = osm_map_get(&l->entries, key);
    if (!e)
        return false;
    *out = (struct osm_leaf_view){e->common_name, e->secret ? e->secret->version : NULL,
                                  e->ends_at_s, e->renew_at_s, e->signing};
    return true;
}
