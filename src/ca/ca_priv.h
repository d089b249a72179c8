/* What the files of the CA share: the files in the state directory (dir.c), the parts of a
 * certificate (cert.c), and the CA itself. Not for other modules. */
#pragma once

#include "base/buf.h"
#include "ca/ca.h"

#include <openssl/evp.h>
#include <openssl/x509.h>
#include <stdatomic.h>
#include <stdbool.h>

#define OSM_CA_CERT_FILE    "ca.crt"
#define OSM_CA_KEY_FILE     "private.key"
#define OSM_CA_PASSIVE_FILE "passive.crt"

enum { OSM_CA_FILE_MAX_BYTES = 64 * 1024, OSM_CA_BACKDATE_S = 60 };

enum { OSM_CA_FINGERPRINT_SIZE = 65 };

struct osm_ca_passive {
    X509 *cert;
    char fingerprint[OSM_CA_FINGERPRINT_SIZE];
    int64_t not_after;
};

struct osm_ca {
    atomic_uint refs;
    EVP_PKEY *key;
    X509 *cert;
    char *roots_pem;
    char *trust_domain;
    char fingerprint[OSM_CA_FINGERPRINT_SIZE];
    int64_t not_after;
    struct osm_ca_passive passive[OSM_CA_PASSIVE_MAX];
    size_t passive_len;
};

/* --- dir.c: the state directory, held under an exclusive lock while it is open --- */

struct osm_ca_dir {
    int fd; /* -1: closed */
    const char *path;
};

/** Creates the directory where absent (not its parents), locks it and checks owner, mode and that
 * it can be written. Errors: OSM_EACCES, OSM_EIO, OSM_EBUSY another process has held the lock for
 * 10 s. Blocks. */
OSM_MUST_USE int osm__ca_dir_open(struct osm_ca_dir *dir, const char *path, struct osm_err *err);
void osm__ca_dir_close(struct osm_ca_dir *dir);
/** Reads a file whole. @p private_file: nobody else may read it. Errors: OSM_ENOENT, OSM_EACCES,
 * OSM_EIO, OSM_ELIMIT. */
OSM_MUST_USE int osm__ca_dir_read(const struct osm_ca_dir *dir, const char *name, bool private_file,
                                  struct osm_buf *out, struct osm_err *err);
/** Writes both files aside, then gives them their names, the key first. After any failure neither
 * has its name, or the certificate still lies aside whole and osm__ca_dir_finish can name it. */
OSM_MUST_USE int osm__ca_dir_publish(const struct osm_ca_dir *dir, const char *key_pem,
                                     const char *cert_pem, struct osm_err *err);
/** The name under which publish leaves the certificate between its two steps. */
extern const char osm__ca_cert_aside[];
/** The second step alone. */
OSM_MUST_USE int osm__ca_dir_finish(const struct osm_ca_dir *dir, struct osm_err *err);

/* --- passive.c --- */

/** Reads the roots that are trusted but do not sign; no file: none. What has expired, and the
 * active root itself, is left out with a line in the log. Errors: those of osm__ca_dir_read,
 * OSM_EPARSE, OSM_EREJECTED (not a root, weak key), OSM_ELIMIT. */
OSM_MUST_USE int osm__ca_read_passive(struct osm_ca *ca, const struct osm_ca_dir *dir, int64_t now,
                                      struct osm_err *err);

/** The same from a text. Errors: OSM_EPARSE, OSM_EREJECTED, OSM_ELIMIT. */
OSM_MUST_USE int osm__ca_add_passive(struct osm_ca *ca, const struct osm_buf *pem, int64_t now,
                                     struct osm_err *err);

/* --- ca.c --- */

/** What any root must be, apart from its dates. Errors: OSM_EREJECTED. */
OSM_MUST_USE int osm__ca_check_root(X509 *cert, EVP_PKEY *key, struct osm_err *err);
OSM_MUST_USE int osm__ca_fingerprint(char out[OSM_CA_FINGERPRINT_SIZE], const X509 *cert,
                                     struct osm_err *err);
/** Without it OpenSSL would ask the terminal for the password of an encrypted PEM. */
int osm__ca_no_password(char *buf, int size, int writing, void *ud);

/* --- cert.c --- */

/** osm_fail with OpenSSL's reason behind the text; empties OpenSSL's error queue of this thread. */
int osm__crypto_fail(struct osm_err *err, int code, const char *what);
/** P-256, or RSA of so many bits. */
OSM_MUST_USE EVP_PKEY *osm__ca_new_key(int rsa_bits);
struct osm_cert_names {
    const char *common_name;
    const char *dns, *uri; /* NULL: none */
};
/** A certificate without signature: version, random serial, subject, validity, subject alternative
 * names, subject key id. */
OSM_MUST_USE int osm__cert_new(X509 **out, EVP_PKEY *key, const struct osm_cert_names *names,
                               int64_t not_before, int64_t not_after, struct osm_err *err);
bool osm__cert_add_basic_constraints(X509 *cert, bool ca);
bool osm__cert_add_key_usage(X509 *cert, const int *bits, size_t bits_len);
bool osm__cert_add_extended_key_usage(X509 *cert, bool server, bool client);
bool osm__cert_add_authority_key_id(X509 *cert, const X509 *issuer);
bool osm__cert_add_name_part(X509_NAME *name, int nid, const char *text);
/** Strings for osm_free; NULL: no memory. */
OSM_MUST_USE char *osm__cert_pem(X509 *cert);
/** PKCS#8; *size is what osm_free_secret needs. */
OSM_MUST_USE char *osm__key_pem(EVP_PKEY *key, size_t *size);
/** A certificate's date as seconds since 1970; -1 where it is unreadable. */
int64_t osm__asn1_time_s(const ASN1_TIME *t);
/** Lower-case DNS name of at most 253 bytes (a label may be longer than 63: account names may). @p
 * what names it in the error. */
OSM_MUST_USE int osm__dns_name_check(const char *what, const char *name, struct osm_err *err);
