/* Opening the CA: the root is read and checked, or made when there is none at all. Anything between
 * the two, and any root that would not verify, ends the start: a new root made silently would cut
 * every running proxy off. */
#include "ca/ca.h"

#include "base/clock.h"
#include "base/log.h"
#include "ca/ca_priv.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>

enum { RSA_MIN_BITS = 2048 };
static const int64_t ROOT_VALIDITY_S = 87600LL * 3600;

int osm__ca_no_password(char *buf, int size, int writing, void *ud)
{
    (void)buf, (void)size, (void)writing, (void)ud;
    return -1;
}

static int parse_key(EVP_PKEY **out, const struct osm_buf *pem, struct osm_err *err)
{
    BIO *bio = BIO_new_mem_buf(pem->len ? pem->data : "", (int)pem->len);
    EVP_PKEY *key = bio ? PEM_read_bio_PrivateKey(bio, NULL, osm__ca_no_password, NULL) : NULL;
    BIO_free(bio);
    if (!key)
        return osm__crypto_fail(err, OSM_EPARSE, "no private key in PEM without password");
    *out = key;
    ERR_clear_error();
    return 0;
}

static int parse_cert(X509 **out, const struct osm_buf *pem, struct osm_err *err)
{
    BIO *bio = BIO_new_mem_buf(pem->len ? pem->data : "", (int)pem->len);
    X509 *cert = bio ? PEM_read_bio_X509(bio, NULL, osm__ca_no_password, NULL) : NULL;
    int rc = 0;
    if (!cert) {
        rc = osm__crypto_fail(err, OSM_EPARSE, "no certificate in PEM");
    } else {
        X509 *more = PEM_read_bio_X509(bio, NULL, osm__ca_no_password, NULL);
        if (more)
            rc = osm_fail(err, OSM_EPARSE,
                          "holds more than one certificate; it must be the root alone");
        X509_free(more);
    }
    ERR_clear_error(); /* the end of the file is an error to OpenSSL */
    BIO_free(bio);
    if (rc)
        X509_free(cert);
    else
        *out = cert;
    return rc;
}

static int check_key_strength(EVP_PKEY *key, struct osm_err *err)
{
    int type = EVP_PKEY_get_base_id(key), bits = EVP_PKEY_get_bits(key);
    if (type == EVP_PKEY_RSA && bits < RSA_MIN_BITS)
        return osm_fail(err, OSM_EREJECTED, "RSA key of %d bits; %d are the least", bits,
                        RSA_MIN_BITS);
    if (type == EVP_PKEY_RSA)
        return 0;
    char curve[32] = "?";
    if (type == EVP_PKEY_EC)
        (void)EVP_PKEY_get_group_name(key, curve, sizeof curve, NULL);
    if (type == EVP_PKEY_EC && (!strcmp(curve, "prime256v1") || !strcmp(curve, "secp384r1") ||
                                !strcmp(curve, "P-256") || !strcmp(curve, "P-384")))
        return 0;
    return osm_fail(err, OSM_EREJECTED,
                    "key of a kind that proxies do not accept; use ECDSA P-256 or P-384, or RSA");
}

/* So that gRPC and Envoy accept what it signs. */
int osm__ca_check_root(X509 *cert, EVP_PKEY *key, struct osm_err *err)
{
    int rc = check_key_strength(key, err);
    if (rc)
        return rc;
    if (X509_check_ca(cert) != 1 || !(X509_get_key_usage(cert) & KU_KEY_CERT_SIGN))
        return osm_fail(err, OSM_EREJECTED,
                        "is not a CA certificate (CA:TRUE, key usage certificate sign)");
    /* What proxies would hold against every certificate that it signs. */
    uint32_t usage = X509_get_extended_key_usage(cert);
    if (usage != UINT32_MAX && !(usage & XKU_ANYEKU) &&
        (usage & (XKU_SSL_SERVER | XKU_SSL_CLIENT)) != (XKU_SSL_SERVER | XKU_SSL_CLIENT))
        return osm_fail(err, OSM_EREJECTED,
                        "has an extended key usage that is not for servers and clients both");
    if (X509_get_ext_by_NID(cert, NID_name_constraints, -1) >= 0)
        return osm_fail(err, OSM_EREJECTED,
                        "has name constraints; names of the mesh's certificates are accounts, not "
                        "the hosts that constraints are about");
    if (X509_NAME_cmp(X509_get_subject_name(cert), X509_get_issuer_name(cert)) ||
        X509_verify(cert, key) != 1) {
        ERR_clear_error();
        return osm_fail(err, OSM_EREJECTED,
                        "is not self-signed; it must be a root, since proxies trust it alone");
    }
    return 0;
}

static int check_pair(X509 *cert, EVP_PKEY *key, int64_t now, struct osm_err *err)
{
    if (X509_check_private_key(cert, key) != 1) {
        ERR_clear_error();
        return osm_fail(
            err, OSM_EMISMATCH,
            "the key in %s does not belong to this certificate; restore the pair from one backup",
            OSM_CA_KEY_FILE);
    }
    int rc = osm__ca_check_root(cert, key, err);
    if (rc)
        return rc;
    int64_t not_before = osm__asn1_time_s(X509_get0_notBefore(cert));
    int64_t not_after = osm__asn1_time_s(X509_get0_notAfter(cert));
    if (not_before < 0 || not_after < 0)
        return osm_fail(err, OSM_EPARSE, "has a date that cannot be read");
    if (not_after <= now)
        return osm_fail(err, OSM_EREJECTED,
                        "expired %lld s ago; put a new root there, and restart the proxies: they "
                        "trust the old one",
                        (long long)(now - not_after));
    if (not_before > now)
        return osm_fail(err, OSM_EREJECTED, "is valid in %lld s only; check the clock",
                        (long long)(not_before - now));
    return 0;
}

int osm__ca_fingerprint(char out[OSM_CA_FINGERPRINT_SIZE], const X509 *cert, struct osm_err *err)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    if (X509_digest(cert, EVP_sha256(), digest, &len) != 1)
        return osm__crypto_fail(err, OSM_ECRYPTO, "fingerprint of the root");
    for (unsigned i = 0; i < len && 2 * i + 2 < OSM_CA_FINGERPRINT_SIZE; i++)
        (void)snprintf(out + 2 * (size_t)i, 3, "%02x", digest[i]);
    return 0;
}

static int describe(struct osm_ca *ca, struct osm_err *err)
{
    int rc = osm__ca_fingerprint(ca->fingerprint, ca->cert, err);
    if (rc)
        return rc;
    /* OpenSSL reads a certificate's extensions when first asked and keeps them in it: ask now, on
     * one thread. */
    (void)X509_check_purpose(ca->cert, -1, 0);
    ca->not_after = osm__asn1_time_s(X509_get0_notAfter(ca->cert));
    return 0;
}

/* The signing root first: its fingerprint is what leaves are compared with. */
static int bundle(struct osm_ca *ca, struct osm_err *err)
{
    struct osm_buf out = OSM_BUF_INIT(OSM_CA_FILE_MAX_BYTES * 2);
    for (size_t i = 0; i <= ca->passive_len; i++) {
        char *pem = osm__cert_pem(i ? ca->passive[i - 1].cert : ca->cert);
        (void)osm_buf_add_str(&out, pem ? pem : "");
        out.failed = pem || out.failed ? out.failed : OSM_ENOMEM;
        osm_free(pem);
    }
    ca->roots_pem = osm_buf_take(&out);
    return ca->roots_pem ? 0 : osm_fail(err, OSM_ENOMEM, "root certificates");
}

static int make_root(struct osm_ca *ca, int64_t now, struct osm_err *err)
{
    static const int usage[] = {5, 6}; /* keyCertSign, cRLSign: RFC 5280, 4.2.1.3 */
    const struct osm_cert_names names = {.common_name = "osm-ca.openservicemesh.io"};
    ca->key = osm__ca_new_key(0);
    if (!ca->key)
        return osm__crypto_fail(err, OSM_ECRYPTO, "key of the root cannot be made");
    int rc = osm__cert_new(&ca->cert, ca->key, &names, now - OSM_CA_BACKDATE_S,
                           now + ROOT_VALIDITY_S, err);
    if (rc)
        return rc;
    X509_NAME *subject = X509_get_subject_name(ca->cert);
    if (!osm__cert_add_name_part(subject, NID_countryName, "US") ||
        !osm__cert_add_name_part(subject, NID_localityName, "CA") ||
        !X509_set_issuer_name(ca->cert, subject) ||
        !osm__cert_add_basic_constraints(ca->cert, true) ||
        !osm__cert_add_key_usage(ca->cert, usage, 2) || !X509_sign(ca->cert, ca->key, EVP_sha256()))
        return osm__crypto_fail(err, OSM_ECRYPTO, "root cannot be made");
    return 0;
}

static int publish_root(const struct osm_ca *ca, const struct osm_ca_dir *dir, struct osm_err *err)
{
    struct osm_buf cert = OSM_BUF_INIT(OSM_CA_FILE_MAX_BYTES),
                   key = OSM_BUF_SECRET_INIT(OSM_CA_FILE_MAX_BYTES);
    int rc = osm_ca_write(ca, &cert, &key, err);
    if (!rc)
        rc = osm__ca_dir_publish(dir, key.data, cert.data, err);
    osm_buf_clear(&cert);
    osm_buf_clear(&key);
    return rc;
}

int osm_ca_write(const struct osm_ca *ca, struct osm_buf *cert, struct osm_buf *key,
                 struct osm_err *err)
{
    size_t key_size = 0;
    char *cert_pem = osm__cert_pem(ca->cert), *key_pem = osm__key_pem(ca->key, &key_size);
    if (cert_pem && key_pem) {
        (void)osm_buf_add_str(cert, cert_pem);
        (void)osm_buf_add_str(key, key_pem);
    }
    bool ok = cert_pem && key_pem && !cert->failed && !key->failed;
    osm_free(cert_pem);
    osm_free_secret(key_pem, key_size);
    return ok ? 0 : osm_fail(err, OSM_ENOMEM, "root");
}

/* Parses and checks both texts of the root. @p where: "DIR/" for words. */
static int take_pair(struct osm_ca *ca, const struct osm_buf *cert, const struct osm_buf *key,
                     const char *where, const char *cert_name, int64_t now, struct osm_err *err)
{
    const char *name = cert_name;
    int rc = parse_cert(&ca->cert, cert, err);
    if (!rc) {
        name = OSM_CA_KEY_FILE;
        rc = parse_key(&ca->key, key, err);
    }
    if (!rc) {
        name = cert_name;
        rc = check_pair(ca->cert, ca->key, now, err);
    }
    if (rc)
        osm_err_prepend(err, "%s%s: ", where, name);
    return rc;
}

/* Both files of the root. */
static int read_pair(struct osm_ca *ca, const struct osm_ca_dir *dir, const char *cert_name,
                     int64_t now, struct osm_err *err)
{
    struct osm_buf cert = OSM_BUF_INIT(OSM_CA_FILE_MAX_BYTES),
                   key = OSM_BUF_SECRET_INIT(OSM_CA_FILE_MAX_BYTES);
    char *where = osm_strf("%s/", dir->path);
    int rc = where ? osm__ca_dir_read(dir, cert_name, false, &cert, err)
                   : osm_fail(err, OSM_ENOMEM, "root");
    if (!rc)
        rc = osm__ca_dir_read(dir, OSM_CA_KEY_FILE, true, &key, err);
    if (!rc)
        rc = take_pair(ca, &cert, &key, where, cert_name, now, err);
    osm_buf_clear(&cert);
    osm_buf_clear(&key);
    osm_free(where);
    return rc;
}

static int exists(const struct osm_ca_dir *dir, const char *name, bool private_file, bool *yes,
                  struct osm_err *err)
{
    struct osm_buf text = OSM_BUF_SECRET_INIT(OSM_CA_FILE_MAX_BYTES);
    int rc = osm__ca_dir_read(dir, name, private_file, &text, err);
    osm_buf_clear(&text);
    *yes = !rc;
    if (rc != OSM_ENOENT)
        return rc;
    if (err)
        *err = (struct osm_err){0};
    return 0;
}

static int load_or_make(struct osm_ca *ca, const struct osm_ca_dir *dir, int64_t now,
                        struct osm_err *err)
{
    bool cert = false, key = false, aside = false;
    int rc = exists(dir, OSM_CA_CERT_FILE, false, &cert, err);
    if (!rc)
        rc = exists(dir, OSM_CA_KEY_FILE, true, &key, err);
    if (!rc && key && !cert)
        rc = exists(dir, osm__ca_cert_aside, false, &aside, err);
    if (rc)
        return rc;
    if (!cert && !key) {
        rc = make_root(ca, now, err);
        if (!rc)
            rc = publish_root(ca, dir, err);
        if (!rc)
            osm_log(OSM_LOG_CA, OSM_LOG_INFO, "root created", OSM_S("dir", dir->path));
        return rc;
    }
    if (aside) { /* a crash between the two steps of publish */
        rc = read_pair(ca, dir, osm__ca_cert_aside, now, err);
        return rc ? rc : osm__ca_dir_finish(dir, err);
    }
    if (!cert || !key)
        return osm_fail(err, OSM_EMISMATCH,
                        "%s: holds %s but not %s; restore the missing file, or move the other away "
                        "for a new root that "
                        "no running proxy trusts",
                        dir->path, cert ? OSM_CA_CERT_FILE : OSM_CA_KEY_FILE,
                        cert ? OSM_CA_KEY_FILE : OSM_CA_CERT_FILE);
    return read_pair(ca, dir, OSM_CA_CERT_FILE, now, err);
}

static int new_ca(struct osm_ca **out, const char *trust_domain, struct osm_err *err)
{
    int rc = osm__dns_name_check("trust domain", trust_domain, err);
    struct osm_ca *ca = rc ? NULL : osm_alloc(sizeof *ca);
    if (rc)
        return rc;
    if (ca)
        atomic_init(&ca->refs, 1);
    if (!ca || !(ca->trust_domain = osm_strdup(trust_domain))) {
        osm_ca_unref(ca);
        return osm_fail(err, OSM_ENOMEM, "CA");
    }
    *out = ca;
    return 0;
}

/* The roots are read: what follows from them. */
static int complete(struct osm_ca *ca, struct osm_err *err)
{
    int rc = bundle(ca, err);
    if (!rc)
        osm_log(OSM_LOG_CA, OSM_LOG_INFO, "root ready", OSM_S("fingerprint", ca->fingerprint),
                OSM_I("not_after", ca->not_after), OSM_U("passive", ca->passive_len));
    return rc;
}

int osm_ca_open(struct osm_ca **out, const struct osm_ca_config *config, struct osm_err *err)
{
    struct osm_ca_dir dir = {.fd = -1};
    struct osm_ca *ca = NULL;
    int rc = new_ca(&ca, config->trust_domain, err);
    if (!rc && (!config->state_dir || !*config->state_dir))
        rc = osm_fail(err, OSM_EINVAL, "state directory: is not set");
    if (!rc)
        rc = osm__ca_dir_open(&dir, config->state_dir, err);
    if (!rc)
        rc = load_or_make(ca, &dir, osm_wall_s(), err);
    if (!rc)
        rc = describe(ca, err);
    if (!rc)
        rc = osm__ca_read_passive(ca, &dir, osm_wall_s(), err);
    if (!rc)
        rc = complete(ca, err);
    if (!rc)
        *out = osm_take_ptr(&ca);
    osm_ca_unref(ca);
    osm__ca_dir_close(&dir);
    if (rc)
        osm_err_prepend(err, "CA: ");
    return rc;
}

int osm_ca_read(struct osm_ca **out, const struct osm_ca_texts *texts, const char *trust_domain,
                struct osm_err *err)
{
    struct osm_ca *ca = NULL;
    int rc = new_ca(&ca, trust_domain, err);
    if (!rc)
        rc = take_pair(ca, texts->cert, texts->key, "", OSM_CA_CERT_FILE, osm_wall_s(), err);
    if (!rc)
        rc = describe(ca, err);
    if (!rc && texts->passive) {
        rc = osm__ca_add_passive(ca, texts->passive, osm_wall_s(), err);
        if (rc)
            osm_err_prepend(err, "%s: ", OSM_CA_PASSIVE_FILE);
    }
    if (!rc)
        rc = complete(ca, err);
    if (!rc)
        *out = osm_take_ptr(&ca);
    osm_ca_unref(ca);
    return rc;
}

int osm_ca_make(struct osm_ca **out, const char *trust_domain, struct osm_err *err)
{
    struct osm_ca *ca = NULL;
    int rc = new_ca(&ca, trust_domain, err);
    if (!rc)
        rc = make_root(ca, osm_wall_s(), err);
    if (!rc)
        rc = describe(ca, err);
    if (!rc)
        rc = bundle(ca, err);
    if (!rc)
        *out = osm_take_ptr(&ca);
    osm_ca_unref(ca);
    return rc;
}

struct osm_ca *osm_ca_ref(const struct osm_ca *ca)
{
    struct osm_ca *counted = (struct osm_ca *)(uintptr_t)ca; /* only the count changes */
    atomic_fetch_add_explicit(&counted->refs, 1, memory_order_relaxed);
    return counted;
}

void osm_ca_unref(struct osm_ca *ca)
{
    if (!ca || atomic_fetch_sub_explicit(&ca->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (size_t i = 0; i < ca->passive_len; i++)
        X509_free(ca->passive[i].cert);
    EVP_PKEY_free(ca->key); /* OpenSSL wipes the private part */
    X509_free(ca->cert);
    osm_free(ca->roots_pem);
    osm_free(ca->trust_domain);
    osm_free(ca);
}

const char *osm_ca_roots_pem(const struct osm_ca *ca)
{
    return ca->roots_pem;
}

const char *osm_ca_fingerprint(const struct osm_ca *ca)
{
    return ca->fingerprint;
}

int64_t osm_ca_not_after(const struct osm_ca *ca)
{
    return ca->not_after;
}
