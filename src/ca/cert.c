/* The parts of a certificate. Extensions are built from values, never from configuration text, so
 * that no name can smuggle one in. */
#include "ca/ca_priv.h"

#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <time.h>

enum { SERIAL_BITS = 128, KEY_ID_BYTES = 20, DNS_NAME_MAX = 253 };

int osm__crypto_fail(struct osm_err *err, int code, const char *what)
{
    unsigned long e = ERR_peek_last_error();
    const char *reason = e ? ERR_reason_error_string(e) : NULL;
    int rc = osm_fail(err, code, "%s%s%s", what, reason ? ": " : "", reason ? reason : "");
    ERR_clear_error();
    return rc;
}

EVP_PKEY *osm__ca_new_key(int rsa_bits)
{
    return rsa_bits ? EVP_RSA_gen((unsigned)rsa_bits) : EVP_EC_gen("P-256");
}

bool osm__cert_add_name_part(X509_NAME *name, int nid, const char *text)
{
    /* The explicit type keeps OpenSSL's table of upper bounds (64 bytes for a common name) out of
     * it. */
    return X509_NAME_add_entry_by_NID(name, nid, V_ASN1_UTF8STRING, (const unsigned char *)text, -1,
                                      -1, 0) == 1;
}

static bool add_extension(X509 *cert, int nid, void *value, bool critical)
{
    return X509_add1_ext_i2d(cert, nid, value, critical, X509V3_ADD_APPEND) == 1;
}

static bool add_alt_name(GENERAL_NAMES *names, int type, const char *text)
{
    GENERAL_NAME *gn = GENERAL_NAME_new();
    ASN1_IA5STRING *s = ASN1_IA5STRING_new();
    if (!gn || !s || !ASN1_STRING_set(s, text, -1)) {
        GENERAL_NAME_free(gn);
        ASN1_IA5STRING_free(s);
        return false;
    }
    GENERAL_NAME_set0_value(gn, type, s);
    if (sk_GENERAL_NAME_push(names, gn))
        return true;
    GENERAL_NAME_free(gn);
    return false;
}

static bool add_alt_names(X509 *cert, const struct osm_cert_names *n)
{
    if (!n->dns && !n->uri)
        return true;
    GENERAL_NAMES *names = sk_GENERAL_NAME_new_null();
    bool ok = names && (!n->dns || add_alt_name(names, GEN_DNS, n->dns)) &&
              (!n->uri || add_alt_name(names, GEN_URI, n->uri)) &&
              add_extension(cert, NID_subject_alt_name, names, false);
    sk_GENERAL_NAME_pop_free(names, GENERAL_NAME_free);
    return ok;
}

static bool add_subject_key_id(X509 *cert)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    ASN1_OCTET_STRING *id = ASN1_OCTET_STRING_new();
    bool ok = id && X509_pubkey_digest(cert, EVP_sha256(), digest, &len) == 1 &&
              ASN1_OCTET_STRING_set(id, digest, KEY_ID_BYTES) == 1 &&
              add_extension(cert, NID_subject_key_identifier, id, false);
    ASN1_OCTET_STRING_free(id);
    return ok;
}

bool osm__cert_add_authority_key_id(X509 *cert, const X509 *issuer)
{
    /* A root that was brought along may have no id; then its leaves name none either. */
    const ASN1_OCTET_STRING *id = X509_get0_subject_key_id((X509 *)issuer);
    if (!id)
        return true;
    AUTHORITY_KEYID *akid = AUTHORITY_KEYID_new();
    bool ok = akid && (akid->keyid = ASN1_OCTET_STRING_dup(id)) != NULL &&
              add_extension(cert, NID_authority_key_identifier, akid, false);
    AUTHORITY_KEYID_free(akid);
    return ok;
}

bool osm__cert_add_basic_constraints(X509 *cert, bool ca)
{
    BASIC_CONSTRAINTS *bc = BASIC_CONSTRAINTS_new();
    if (bc)
        bc->ca = ca ? 0xff : 0;
    bool ok = bc && add_extension(cert, NID_basic_constraints, bc, true);
    BASIC_CONSTRAINTS_free(bc);
    return ok;
}

bool osm__cert_add_key_usage(X509 *cert, const int *bits, size_t bits_len)
{
    ASN1_BIT_STRING *usage = ASN1_BIT_STRING_new();
    bool ok = usage != NULL;
    for (size_t i = 0; ok && i < bits_len; i++)
        ok = ASN1_BIT_STRING_set_bit(usage, bits[i], 1) == 1;
    ok = ok && add_extension(cert, NID_key_usage, usage, true);
    ASN1_BIT_STRING_free(usage);
    return ok;
}

bool osm__cert_add_extended_key_usage(X509 *cert, bool server, bool client)
{
    EXTENDED_KEY_USAGE *usage = sk_ASN1_OBJECT_new_null();
    /* OBJ_nid2obj's objects are static: the stack is freed, they are not. */
    bool ok = usage && (!server || sk_ASN1_OBJECT_push(usage, OBJ_nid2obj(NID_server_auth))) &&
              (!client || sk_ASN1_OBJECT_push(usage, OBJ_nid2obj(NID_client_auth))) &&
              add_extension(cert, NID_ext_key_usage, usage, false);
    sk_ASN1_OBJECT_free(usage);
    return ok;
}

static bool set_serial(X509 *cert)
{
    BIGNUM *bn = BN_new();
    /* The top bit is set so that every serial has the same length and none is zero. */
    bool ok = bn && BN_rand(bn, SERIAL_BITS, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ANY) == 1 &&
              BN_to_ASN1_INTEGER(bn, X509_get_serialNumber(cert)) != NULL;
    BN_free(bn);
    return ok;
}

int osm__cert_new(X509 **out, EVP_PKEY *key, const struct osm_cert_names *names, int64_t not_before,
                  int64_t not_after, struct osm_err *err)
{
    X509 *cert = X509_new();
    bool ok =
        cert && X509_set_version(cert, X509_VERSION_3) == 1 && set_serial(cert) &&
        osm__cert_add_name_part(X509_get_subject_name(cert), NID_organizationName,
                                "Open Service Mesh") &&
        osm__cert_add_name_part(X509_get_subject_name(cert), NID_commonName, names->common_name) &&
        ASN1_TIME_set(X509_getm_notBefore(cert), (time_t)not_before) != NULL &&
        ASN1_TIME_set(X509_getm_notAfter(cert), (time_t)not_after) != NULL &&
        X509_set_pubkey(cert, key) == 1 && add_alt_names(cert, names) && add_subject_key_id(cert);
    if (!ok) {
        X509_free(cert);
        return osm__crypto_fail(err, OSM_ECRYPTO, "certificate cannot be built");
    }
    *out = cert;
    return 0;
}

char *osm__cert_pem(X509 *cert)
{
    char *data = NULL, *pem = NULL;
    BIO *bio = BIO_new(BIO_s_mem());
    if (bio && PEM_write_bio_X509(bio, cert) == 1) {
        long len = BIO_get_mem_data(bio, &data);
        pem = osm_strndup(data, (size_t)len);
    }
    BIO_free(bio);
    return pem;
}

char *osm__key_pem(EVP_PKEY *key, size_t *size)
{
    char *data = NULL, *pem = NULL;
    BIO *bio = BIO_new(BIO_s_secmem()); /* wiped when it grows and when it goes */
    if (bio && PEM_write_bio_PKCS8PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) == 1) {
        size_t len = (size_t)BIO_get_mem_data(bio, &data);
        pem = osm_strndup(data, len);
        if (pem)
            *size = len + 1;
    }
    BIO_free(bio);
    return pem;
}

int64_t osm__asn1_time_s(const ASN1_TIME *t)
{
    struct tm tm = {0};
    return ASN1_TIME_to_tm(t, &tm) == 1 ? (int64_t)timegm(&tm) : -1;
}

int osm__dns_name_check(const char *what, const char *name, struct osm_err *err)
{
    size_t len = name ? strlen(name) : 0;
    if (!len)
        return osm_fail(err, OSM_EINVAL, "%s: is empty", what);
    if (len > DNS_NAME_MAX)
        return osm_fail(err, OSM_ELIMIT,
                        "%s: %zu bytes long, but a DNS name ends at %d; shorten account, namespace "
                        "or trust domain",
                        what, len, DNS_NAME_MAX);
    for (size_t i = 0; i < len; i++) {
        char c = name[i];
        bool edge = i == 0 || i + 1 == len || name[i - 1] == '.' || name[i + 1] == '.';
        bool alnum = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
        if (!alnum && (edge || (c != '-' && c != '.')))
            return osm_fail(err, OSM_EINVAL,
                            "%s: byte %zu is not allowed there in a lower-case DNS name", what,
                            i + 1);
    }
    return 0;
}
