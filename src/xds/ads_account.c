/* The leaf certificates that the streams of an account share. */
#include "xds/ads_priv.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "xds/discovery.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void osm__account_free(struct osm__account *account)
{
    if (!account)
        return;
    osm_free(account->ns);
    osm_free(account->name);
    osm_free(account->own_name);
    osm_resource_unref(account->leaf);
    osm_resource_unref(account->named_leaf);
    osm_free(account);
}

struct osm__account *osm__account_get(struct osm_ads *ads, const char *ns, const char *name)
{
    char key[OSM_NS_SIZE + OSM_DNS_NAME_SIZE + 1];
    (void)snprintf(key, sizeof key, "%s/%s", ns, name);
    struct osm__account *account = osm_map_get(&ads->accounts, key);
    if (account && !account->conns && account->leaf &&
        !osm__leaf_current(ads, account->leaf->version, osm_wall_s())) {
        /* Nobody has been here to have it renewed: it may have ended. */
        osm_resource_unref(osm_take_ptr(&account->leaf));
        osm_resource_unref(osm_take_ptr(&account->named_leaf));
        account->renew_s = 0;
    }
    if (account)
        return account;
    account = osm_alloc(sizeof *account);
    if (!account)
        return NULL;
    account->ns = osm_strdup(ns);
    account->name = osm_strdup(name);
    account->own_name = osm_strf("service-cert:%s", key);
    if (!account->ns || !account->name || !account->own_name ||
        osm_map_put(&ads->accounts, key, account, NULL)) {
        osm__account_free(account);
        return NULL;
    }
    return account;
}

/* "<root fingerprint>.<kind>.<serial>.<notAfter>" */
static int64_t version_not_after(const char *version)
{
    const char *dot = strrchr(version, '.');
    char *end;
    long long value = dot ? strtoll(dot + 1, &end, 10) : 0;
    return dot && !*end ? (int64_t)value : 0;
}

/* What stands behind the root's fingerprint in a version; NULL: it is of another root. */
static const char *after_root(const struct osm_ads *ads, const char *version)
{
    const char *root = ads->tls.root_fingerprint;
    size_t n = strlen(root);
    return n && !strncmp(version, root, n) && version[n] == '.' ? version + n + 1 : NULL;
}

static bool of_kind(const struct osm_ads *ads, const char *rest)
{
    const char *kind = ads->leaf_kind;
    size_t n = kind ? strlen(kind) : 0;
    return !kind || (!strncmp(rest, kind, n) && rest[n] == '.');
}

bool osm__leaf_of_other_kind(const struct osm_ads *ads, const char *version)
{
    const char *rest = after_root(ads, version);
    return rest && !of_kind(ads, rest);
}

bool osm__leaf_current(const struct osm_ads *ads, const char *version, int64_t now_s)
{
    const char *rest = after_root(ads, version);
    return rest && of_kind(ads, rest) && version_not_after(version) - now_s > ads->leaf_lead_s;
}

void osm__account_want(struct osm_ads *ads, struct osm__account *account)
{
    int64_t now_s = osm_wall_s();
    if (ads->stopping || account->leaf ||
        (account->asked_s && now_s - account->asked_s < OSM__ADS_ASK_AGAIN_S))
        return;
    account->asked_s = now_s;
    ads->callbacks.want_leaf(ads->callbacks.ud, account->ns, account->name);
}

void osm_ads_set_leaf(struct osm_ads *ads, const char *ns, const char *name,
                      struct osm_resource *secret)
{
    struct osm__account *account = osm__account_get(ads, ns, name);
    struct osm_resource *named =
        account ? osm_discovery_rename_secret(secret, account->own_name) : NULL;
    if (!named) {
        osm_log(OSM_LOG_XDS, OSM_LOG_ERROR,
                "leaf certificate not served: no memory, or not a secret", OSM_S("namespace", ns),
                OSM_S("account", name));
        return;
    }
    osm_resource_unref(account->leaf);
    osm_resource_unref(account->named_leaf);
    account->leaf = osm_resource_ref(secret);
    account->named_leaf = named;
    account->generation++;
    account->asked_s = 0;
    int64_t now_s = osm_wall_s(), left = version_not_after(secret->version) - now_s;
    account->renew_s = left > 0 ? now_s + left * 2 / 3 : 0;
    for (struct osm__conn *conn = ads->first; conn; conn = conn->next)
        if (conn->account == account)
            osm__conn_mark(conn);
}

void osm__account_sweep(struct osm_ads *ads, int64_t now_s)
{
    osm_map_each (&ads->accounts, e) {
        struct osm__account *account = e->value;
        if (account->conns) {
            account->idle_s = 0;
            if (account->renew_s && now_s >= account->renew_s) {
                int64_t left = version_not_after(account->leaf->version) - now_s;
                account->renew_s =
                    now_s + (left / 10 > 5 ? left / 10 : 5); /* once more, if nothing comes */
                ads->callbacks.want_leaf(ads->callbacks.ud, account->ns, account->name);
            }
        } else if (!account->idle_s) {
            account->idle_s = now_s;
        } else if (now_s - account->idle_s >= OSM__ADS_FORGET_S) {
            (void)osm_map_del(&ads->accounts, e->key);
            osm__account_free(account);
        }
    }
}
