/* Roots that are trusted but do not sign: the one to come, and the one that was. */
#include "base/log.h"
#include "ca/ca_priv.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <string.h>

static bool is_known(const struct osm_ca *ca, const char *fingerprint)
{
    if (!strcmp(ca->fingerprint, fingerprint))
        return true;
    for (size_t i = 0; i < ca->passive_len; i++)
        if (!strcmp(ca->passive[i].fingerprint, fingerprint))
            return true;
    return false;
}

/* A verifier that finds two roots of one name looks at their key ids; without them it may take the
 * wrong one, and give up. */
static int told_apart(X509 *a, X509 *b)
{
    return X509_NAME_cmp(X509_get_subject_name(a), X509_get_subject_name(b)) != 0 ||
           (X509_get0_subject_key_id(a) && X509_get0_subject_key_id(b));
}

static int check_told_apart(const struct osm_ca *ca, X509 *cert, const char *fingerprint,
                            struct osm_err *err)
{
    bool ok = !strcmp(ca->fingerprint, fingerprint) || told_apart(ca->cert, cert);
    for (size_t i = 0; ok && i < ca->passive_len; i++)
        ok = !strcmp(ca->passive[i].fingerprint, fingerprint) ||
             told_apart(ca->passive[i].cert, cert);
    return ok ? 0
              : osm_fail(
                    err, OSM_EREJECTED,
                    "has the name of another root that is trusted, and not both have a subject "
                    "key id: proxies could not tell them apart");
}

/* Takes @p cert, or frees it. */
static int add(struct osm_ca *ca, X509 *cert, int64_t now, struct osm_err *err)
{
    struct osm_ca_passive made = {.cert = cert,
                                  .not_after = osm__asn1_time_s(X509_get0_notAfter(cert))};
    EVP_PKEY *key = X509_get_pubkey(cert);
    int rc = key ? osm__ca_check_root(cert, key, err)
                 : osm__crypto_fail(err, OSM_EPARSE, "has a key that cannot be read");
    EVP_PKEY_free(key);
    if (!rc)
        rc = osm__ca_fingerprint(made.fingerprint, cert, err);
    if (!rc)
        rc = check_told_apart(ca, cert, made.fingerprint, err);
    bool ended = !rc && made.not_after <= now;
    if (ended)
        osm_log(OSM_LOG_CA, OSM_LOG_WARN, "a passive root has expired and is not trusted",
                OSM_S("fingerprint", made.fingerprint), OSM_I("not_after", made.not_after));
    bool keep = !rc && !ended && !is_known(ca, made.fingerprint);
    if (keep && ca->passive_len == OSM_CA_PASSIVE_MAX) {
        keep = false;
        rc = osm_fail(err, OSM_ELIMIT, "holds more than %d roots", OSM_CA_PASSIVE_MAX);
    }
    if (keep)
        ca->passive[ca->passive_len++] = made;
    else
        X509_free(cert);
    return rc;
}

int osm__ca_add_passive(struct osm_ca *ca, const struct osm_buf *pem, int64_t now,
                        struct osm_err *err)
{
    BIO *bio = BIO_new_mem_buf(pem->len ? pem->data : "", (int)pem->len);
    int rc = bio ? 0 : osm_fail(err, OSM_ENOMEM, "roots");
    size_t n = 0;
    X509 *cert;
    while (!rc && (cert = PEM_read_bio_X509(bio, NULL, osm__ca_no_password, NULL))) {
        n++;
        rc = add(ca, cert, now, err);
        if (rc)
            osm_err_prepend(err, "certificate %zu: ", n);
    }
    /* The end of the text is "no start line"; anything else is a certificate that cannot be read.
     */
    bool at_end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
    if (!rc && (!n || !at_end))
        rc = osm__crypto_fail(err, OSM_EPARSE,
                              n ? "holds something that is no certificate in PEM"
                                : "no certificate in PEM; remove the file where none is meant");
    ERR_clear_error();
    BIO_free(bio);
    return rc;
}

int osm__ca_read_passive(struct osm_ca *ca, const struct osm_ca_dir *dir, int64_t now,
                         struct osm_err *err)
{
    struct osm_buf pem = OSM_BUF_INIT(OSM_CA_FILE_MAX_BYTES);
    int rc = osm__ca_dir_read(dir, OSM_CA_PASSIVE_FILE, false, &pem, err);
    if (rc == OSM_ENOENT) {
        if (err)
            *err = (struct osm_err){0};
        rc = 0;
    } else if (!rc) {
        rc = osm__ca_add_passive(ca, &pem, now, err);
        if (rc)
            osm_err_prepend(err, "%s/%s: ", dir->path, OSM_CA_PASSIVE_FILE);
    }
    osm_buf_clear(&pem);
    return rc;
}

size_t osm_ca_passive_count(const struct osm_ca *ca)
{
    return ca->passive_len;
}

const char *osm_ca_passive_fingerprint(const struct osm_ca *ca, size_t i)
{
    return i < ca->passive_len ? ca->passive[i].fingerprint : NULL;
}

int64_t osm_ca_passive_not_after(const struct osm_ca *ca, size_t i)
{
    return i < ca->passive_len ? ca->passive[i].not_after : 0;
}

bool osm_ca_same(const struct osm_ca *a, const struct osm_ca *b)
{
    bool same = !strcmp(a->fingerprint, b->fingerprint) && a->passive_len == b->passive_len;
    for (size_t i = 0; same && i < a->passive_len; i++)
        same = !strcmp(a->passive[i].fingerprint, b->passive[i].fingerprint);
    return same;
}

int osm_ca_may_follow(const struct osm_ca *before, const struct osm_ca *next, struct osm_err *err)
{
    if (strcmp(before->trust_domain, next->trust_domain) != 0)
        return osm_fail(err, OSM_EREJECTED, "the trust domain is another");
    if (!is_known(before, next->fingerprint))
        return osm_fail(
            err, OSM_EREJECTED,
            "no proxy trusts the new root %.16s... yet: put the old pair back and the new "
            "certificate into %s, load that, and wait until every proxy has it",
            next->fingerprint, OSM_CA_PASSIVE_FILE);
    if (!is_known(next, before->fingerprint))
        return osm_fail(
            err, OSM_EREJECTED,
            "certificates of the old root %.16s... are in use: put its certificate into "
            "%s until all proxies have one of the new root",
            before->fingerprint, OSM_CA_PASSIVE_FILE);
    return 0;
}
