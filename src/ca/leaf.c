/* Leaves: one key and one certificate each. The name decides what a leaf may do, so the name is
 * checked here too, against the kind that is asked for: whatever a caller mixes up, a workload
 * never gets the control plane's name, and a service account that is named like a proxy gets
 * nothing. */
#include "base/clock.h"
#include "ca/ca_priv.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdatomic.h>
#include <string.h>

enum { UUID_LEN = 36, LABEL_MAX = 63, SERIAL_HEX_SIZE = 48 };
static const char PROXY_KIND[] = ".sidecar.";
static const int64_t EXPIRED_MAX_S = 87600LL * 3600;

struct osm_leaf {
    atomic_uint refs;
    char *chain_pem;
    char *key_pem;
    size_t key_size;
    int64_t not_before, not_after;
    char serial[SERIAL_HEX_SIZE];
};

static bool uuid_at(const char *s)
{
    for (int i = 0; i < UUID_LEN; i++) {
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;
        bool hex = (s[i] >= '0' && s[i] <= '9') || (s[i] >= 'a' && s[i] <= 'f');
        if (dash ? s[i] != '-' : !hex)
            return false;
    }
    return true;
}

static bool proxy_prefix(const char *name)
{
    return uuid_at(name) && !strncmp(name + UUID_LEN, PROXY_KIND, sizeof PROXY_KIND - 1);
}

/* "<account>.<namespace>" before ".<trust domain>": a dot with something on both sides. */
static bool workload_name(const char *name, const char *trust_domain)
{
    size_t len = strlen(name), td = strlen(trust_domain);
    if (len <= td + 1 || strcmp(name + len - td, trust_domain) || name[len - td - 1] != '.')
        return false;
    const char *dot = memchr(name, '.', len - td - 1);
    return dot != NULL;
}

/* "<service>.<namespace>.svc": three labels, each of a length that resolvers take. */
static bool webhook_name(const char *name)
{
    const char *first = strchr(name, '.'), *second = first ? strchr(first + 1, '.') : NULL;
    return second && first - name <= LABEL_MAX && second - first - 1 <= LABEL_MAX &&
           !strcmp(second, ".svc");
}

static int check_name(const struct osm_ca *ca, const struct osm_leaf_request *r,
                      struct osm_err *err)
{
    const char *cn = r->common_name;
    int rc = osm__dns_name_check("common name", cn, err);
    if (rc)
        return rc;
    if (r->kind == OSM_LEAF_PROXY) {
        if (!r->uuid || strlen(r->uuid) != UUID_LEN || !uuid_at(r->uuid))
            return osm_fail(err, OSM_EINVAL, "uuid: is not 8-4-4-4-12 lower-case hex digits");
        if (!proxy_prefix(cn) || strncmp(cn, r->uuid, UUID_LEN) != 0 ||
            !workload_name(cn + UUID_LEN + sizeof PROXY_KIND - 1, ca->trust_domain))
            return osm_fail(err, OSM_EINVAL, "common name: is not %s%s<account>.<namespace>.%s",
                            r->uuid, PROXY_KIND, ca->trust_domain);
        return 0;
    }
    if (r->kind == OSM_LEAF_WEBHOOK)
        return webhook_name(cn)
                   ? 0
                   : osm_fail(err, OSM_EINVAL, "common name: is not <service>.<namespace>.svc");
    if (!workload_name(cn, ca->trust_domain))
        return osm_fail(err, OSM_EINVAL, "common name: is not <account>.<namespace>.%s",
                        ca->trust_domain);
    if (proxy_prefix(cn))
        return osm_fail(
            err, OSM_EREJECTED,
            "common name: the account is named like a proxy (<uuid>%s...); rename the account",
            PROXY_KIND);
    return 0;
}

static bool is_for_clients(enum osm_leaf_kind kind)
{
    return kind == OSM_LEAF_PROXY || kind == OSM_LEAF_SERVICE;
}

static int sign(const struct osm_ca *ca, X509 *cert, enum osm_leaf_kind kind, struct osm_err *err)
{
    /* digitalSignature; an RSA key may also be what TLS 1.2 encrypts the secret to (ciphers without
     * ECDHE), keyEncipherment: RFC 5280, 4.2.1.3 */
    static const int usage[] = {0, 2};
    size_t usages = EVP_PKEY_get_base_id(X509_get0_pubkey(cert)) == EVP_PKEY_RSA ? 2 : 1;
    if (X509_set_issuer_name(cert, X509_get_subject_name(ca->cert)) != 1 ||
        !osm__cert_add_basic_constraints(cert, false) ||
        !osm__cert_add_key_usage(cert, usage, usages) ||
        !osm__cert_add_extended_key_usage(cert, kind != OSM_LEAF_PROXY, is_for_clients(kind)) ||
        !osm__cert_add_authority_key_id(cert, ca->cert) || !X509_sign(cert, ca->key, EVP_sha256()))
        return osm__crypto_fail(err, OSM_ECRYPTO, "certificate cannot be signed");
    return 0;
}

static int fill(struct osm_leaf *leaf, X509 *cert, EVP_PKEY *key, struct osm_err *err)
{
    BIGNUM *bn = ASN1_INTEGER_to_BN(X509_get0_serialNumber(cert), NULL);
    char *hex = bn ? BN_bn2hex(bn) : NULL;
    int rc = 0;
    if (hex && strlen(hex) < sizeof leaf->serial) {
        memcpy(leaf->serial, hex, strlen(hex) + 1);
        for (char *c = leaf->serial; *c; c++)
            if (*c >= 'A' && *c <= 'F')
                *c = (char)(*c - 'A' + 'a');
    } else {
        rc = osm__crypto_fail(err, OSM_ECRYPTO, "serial number");
    }
    OPENSSL_free(hex);
    BN_free(bn);
    if (rc)
        return rc;
    leaf->chain_pem = osm__cert_pem(cert);
    leaf->key_pem = osm__key_pem(key, &leaf->key_size);
    return leaf->chain_pem && leaf->key_pem ? 0 : osm_fail(err, OSM_ENOMEM, "certificate");
}

int osm_ca_issue(const struct osm_ca *ca, const struct osm_leaf_request *request,
                 struct osm_leaf **out, struct osm_err *err)
{
    int64_t now = osm_wall_s();
    char *ads_name = NULL, *uri = NULL;
    struct osm_cert_names names = {.common_name = request->common_name};
    struct osm_leaf *leaf = NULL;
    EVP_PKEY *key = NULL;
    X509 *cert = NULL;
    int rc = 0;

    if (request->validity_s == 0 || request->validity_s < -EXPIRED_MAX_S) {
        rc = osm_fail(err, OSM_EINVAL, "validity: is not set");
        goto out;
    }
    if (request->rsa_bits &&
        (request->rsa_bits < OSM_RSA_BITS_MIN || request->rsa_bits > OSM_RSA_BITS_MAX)) {
        rc = osm_fail(err, OSM_EINVAL, "RSA key of %d bits: expected %d to %d", request->rsa_bits,
                      OSM_RSA_BITS_MIN, OSM_RSA_BITS_MAX);
        goto out;
    }
    if (now >= ca->not_after) {
        rc = osm_fail(err, OSM_EREJECTED,
                      "the root has expired; nothing that it signs would be accepted");
        goto out;
    }
    if (request->kind == OSM_LEAF_ADS) {
        names.common_name = ads_name = osm_strf("ads.%s", ca->trust_domain);
        rc = ads_name ? osm__dns_name_check("ADS server name", ads_name, err)
                      : osm_fail(err, OSM_ENOMEM, "name");
    } else {
        rc = check_name(ca, request, err);
    }
    if (rc)
        goto out;
    names.dns = names.common_name;
    if (request->kind == OSM_LEAF_PROXY) {
        names.uri = uri = osm_strf("spiffe://%s/osm/proxy/%s", ca->trust_domain, request->uuid);
        if (!uri) {
            rc = osm_fail(err, OSM_ENOMEM, "name");
            goto out;
        }
    }
    leaf = osm_alloc(sizeof *leaf);
    if (!leaf) {
        rc = osm_fail(err, OSM_ENOMEM, "certificate");
        goto out;
    }
    atomic_init(&leaf->refs, 1);
    leaf->not_after =
        request->validity_s > ca->not_after - now ? ca->not_after : now + request->validity_s;
    leaf->not_before = (leaf->not_after < now ? leaf->not_after : now) - OSM_CA_BACKDATE_S;
    key = osm__ca_new_key(request->rsa_bits);
    if (!key) {
        rc = osm__crypto_fail(err, OSM_ECRYPTO, "key cannot be made");
        goto out;
    }
    rc = osm__cert_new(&cert, key, &names, leaf->not_before, leaf->not_after, err);
    if (!rc)
        rc = sign(ca, cert, request->kind, err);
    if (!rc)
        rc = fill(leaf, cert, key, err);
    if (!rc)
        *out = osm_take_ptr(&leaf);
out:
    osm_leaf_unref(leaf);
    X509_free(cert);
    EVP_PKEY_free(key);
    osm_free(ads_name);
    osm_free(uri);
    return rc;
}

struct osm_leaf *osm_leaf_ref(struct osm_leaf *leaf)
{
    atomic_fetch_add_explicit(&leaf->refs, 1, memory_order_relaxed);
    return leaf;
}

void osm_leaf_unref(struct osm_leaf *leaf)
{
    if (!leaf || atomic_fetch_sub_explicit(&leaf->refs, 1, memory_order_acq_rel) != 1)
        return;
    osm_free(leaf->chain_pem);
    osm_free_secret(leaf->key_pem, leaf->key_size);
    osm_free(leaf);
}

const char *osm_leaf_chain_pem(const struct osm_leaf *leaf)
{
    return leaf->chain_pem;
}

const char *osm_leaf_key_pem(const struct osm_leaf *leaf)
{
    return leaf->key_pem;
}

int64_t osm_leaf_due_s(const struct osm_leaf *leaf, int64_t now_s)
{
    int64_t from_s = leaf->not_before + OSM_CA_BACKDATE_S;
    int64_t left_s = from_s + (leaf->not_after - from_s) / 3 * 2 - now_s;
    return now_s < leaf->not_before || left_s < 0 ? 0 : left_s;
}

int64_t osm_leaf_not_after(const struct osm_leaf *leaf)
{
    return leaf->not_after;
}

const char *osm_leaf_serial(const struct osm_leaf *leaf)
{
    return leaf->serial;
}
