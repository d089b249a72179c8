/* Transport security of the ADS port: the server's own material, which may be replaced while it
 * runs, and who the peer is.
 *
 * gRPC verifies a client certificate when a connection is made; a stream may come hours later, or
 * on a resumed session. So at every stream start the certificate is verified again, against the
 * roots and the clock of that moment. Certificates that today's roots have verified are remembered:
 * a client that opens and resets streams as fast as it can must not cost a signature each. */
#include "xds/ads_priv.h"

#include "base/buf.h"
#include "base/clock.h"

#include <openssl/conf.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

enum { PEERS_MAX = 16384, DIGEST_BYTES = 32 /* SHA-256 */ };

static void forget_peers(struct osm__ads_tls *tls);

static int crypto_fail(struct osm_err *err, int code, const char *what)
{
    unsigned long e = ERR_peek_last_error();
    const char *why = e ? ERR_reason_error_string(e) : NULL;
    ERR_clear_error();
    return osm_fail(err, code, "%s: %s", what, why ? why : "not valid");
}

int osm__ads_tls_no_tickets(struct osm_err *err)
{
    static bool done; /* loop thread, process-wide */
    static const char text[] =
        "openssl_conf = init\n[init]\nssl_conf = ssl\n[ssl]\nsystem_default = tls\n"
        "[tls]\nNumTickets = 0\nOptions = -SessionTicket\nMinProtocol = TLSv1.2\n"
        "CipherString = DEFAULT@SECLEVEL=2\n";
    if (done)
        return 0;
    /* The machine's own configuration first, so that it cannot come later and replace this one. */
    if (!OPENSSL_init_ssl(OPENSSL_INIT_LOAD_CONFIG, NULL))
        return crypto_fail(err, OSM_ECRYPTO, "cannot start OpenSSL");
    OPENSSL_load_builtin_modules();
    BIO *bio = BIO_new_mem_buf(text, (int)sizeof text - 1);
    CONF *conf = NCONF_new(NULL);
    long line = 0;
    bool ok =
        bio && conf && NCONF_load_bio(conf, bio, &line) > 0 && CONF_modules_load(conf, NULL, 0) > 0;
    NCONF_free(conf);
    BIO_free(bio);
    if (!ok)
        return crypto_fail(err, OSM_ECRYPTO, "cannot switch off TLS session tickets");
    done = true;
    return 0;
}

/* ---- the server's material ---- */

static X509 *read_certificate(const char *pem)
{
    BIO *bio = BIO_new_mem_buf(pem, -1);
    X509 *cert = bio ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;
    BIO_free(bio);
    return cert;
}

static X509_STORE *read_roots(const char *pem, char fingerprint[65])
{
    BIO *bio = BIO_new_mem_buf(pem, -1);
    X509_STORE *store = X509_STORE_new();
    size_t n = 0;
    for (X509 *cert; bio && store && (cert = PEM_read_bio_X509(bio, NULL, NULL, NULL)); n++) {
        unsigned char digest[DIGEST_BYTES];
        if (!n && X509_digest(cert, EVP_sha256(), digest, NULL))
            for (size_t i = 0; i < sizeof digest; i++)
                (void)snprintf(fingerprint + 2 * i, 3, "%02x", digest[i]);
        (void)X509_STORE_add_cert(store, cert);
        X509_free(cert);
    }
    if (n)
        ERR_clear_error(); /* the end of the text is one */
    BIO_free(bio);
    if (n)
        return store;
    X509_STORE_free(store);
    return NULL;
}

static bool key_matches(const char *key_pem, X509 *cert)
{
    BIO *bio = BIO_new_mem_buf(key_pem, -1);
    EVP_PKEY *key = bio ? PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL) : NULL;
    bool ok = key && X509_check_private_key(cert, key) == 1;
    EVP_PKEY_free(key);
    BIO_free(bio);
    return ok;
}

int osm__ads_tls_init(struct osm__ads_tls *tls)
{
    return pthread_mutex_init(&tls->lock, NULL) ? OSM_ENOMEM : 0;
}

static void free_key(char *pem)
{
    osm_free_secret(pem, pem ? strlen(pem) : 0);
}

void osm__ads_tls_clear(struct osm__ads_tls *tls)
{
    osm_free(tls->chain_pem);
    free_key(tls->key_pem);
    osm_free(tls->roots_pem);
    X509_STORE_free(tls->roots);
    forget_peers(tls);
    pthread_mutex_destroy(&tls->lock);
}

static void swap(char **a, char **b)
{
    char *t = *a;
    *a = *b;
    *b = t;
}

int osm__ads_tls_set(struct osm__ads_tls *tls, const char *chain_pem, const char *key_pem,
                     const char *roots_pem, struct osm_err *err)
{
    int rc = 0;
    char fingerprint[65] = "";
    char *chain = osm_strdup(chain_pem), *key = osm_strdup(key_pem), *roots = osm_strdup(roots_pem);
    X509 *cert = read_certificate(chain_pem);
    X509_STORE *store = read_roots(roots_pem, fingerprint);
    if (!chain || !key || !roots) {
        rc = osm_fail(err, OSM_ENOMEM, "TLS material of the ADS server");
    } else if (!cert) {
        rc = crypto_fail(err, OSM_ECRYPTO, "the certificate of the ADS server cannot be read");
    } else if (!store) {
        rc = crypto_fail(err, OSM_ECRYPTO, "the roots for the ADS server cannot be read");
    } else if (!key_matches(key_pem, cert)) {
        rc = crypto_fail(err, OSM_ECRYPTO,
                         "the key of the ADS server does not match its certificate");
    } else {
        pthread_mutex_lock(&tls->lock);
        swap(&tls->chain_pem, &chain);
        swap(&tls->key_pem, &key);
        swap(&tls->roots_pem, &roots);
        tls->generation++;
        pthread_mutex_unlock(&tls->lock);
        X509_STORE_free(tls->roots);
        forget_peers(tls);
        tls->roots = store;
        store = NULL;
        memcpy(tls->root_fingerprint, fingerprint, sizeof fingerprint);
    }
    X509_free(cert);
    X509_STORE_free(store);
    osm_free(chain);
    free_key(key);
    osm_free(roots);
    return rc;
}

/* Once per connection, on a thread of gRPC's. */
static grpc_ssl_certificate_config_reload_status fetch(void *ud,
                                                       grpc_ssl_server_certificate_config **out)
{
    struct osm__ads_tls *tls = ud;
    grpc_ssl_certificate_config_reload_status status = GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED;
    pthread_mutex_lock(&tls->lock);
    if (tls->delivered != tls->generation) {
        grpc_ssl_pem_key_cert_pair pair = {tls->key_pem, tls->chain_pem};
        *out = grpc_ssl_server_certificate_config_create(tls->roots_pem, &pair, 1);
        status =
            *out ? GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_NEW : GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_FAIL;
        if (*out)
            tls->delivered = tls->generation;
    }
    pthread_mutex_unlock(&tls->lock);
    return status;
}

grpc_server_credentials *osm__ads_tls_credentials(struct osm__ads_tls *tls)
{
    grpc_ssl_server_credentials_options *options =
        grpc_ssl_server_credentials_create_options_using_config_fetcher(
            GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY, fetch, tls);
    return options ? grpc_ssl_server_credentials_create_with_options(options) : NULL;
}

/* ---- the peer ---- */

static char *property(const grpc_auth_context *context, const char *name)
{
    grpc_auth_property_iterator it = grpc_auth_context_find_properties_by_name(context, name);
    const grpc_auth_property *p = grpc_auth_property_iterator_next(&it);
    return p ? osm_strndup(p->value, p->value_length) : NULL;
}

static STACK_OF(X509) * read_chain(const char *pem)
{
    STACK_OF(X509) *chain = sk_X509_new_null();
    BIO *bio = pem ? BIO_new_mem_buf(pem, -1) : NULL;
    for (X509 *cert; chain && bio && (cert = PEM_read_bio_X509(bio, NULL, NULL, NULL));)
        if (!sk_X509_push(chain, cert))
            X509_free(cert);
    ERR_clear_error();
    BIO_free(bio);
    return chain;
}

/* Signatures, dates and purpose. */
static int verify(X509_STORE *roots, X509 *leaf, STACK_OF(X509) * chain, struct osm_err *err)
{
    int rc = 0;
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    if (!ctx || !X509_STORE_CTX_init(ctx, roots, leaf, chain)) {
        rc = osm_fail(err, OSM_ENOMEM, "client certificate");
    } else {
        (void)X509_STORE_CTX_set_purpose(ctx, X509_PURPOSE_SSL_CLIENT);
        if (X509_verify_cert(ctx) != 1)
            rc = osm_fail(err, OSM_EACCES, "client certificate: %s",
                          X509_verify_cert_error_string(X509_STORE_CTX_get_error(ctx)));
    }
    X509_STORE_CTX_free(ctx);
    ERR_clear_error();
    return rc;
}

static bool same_text(const ASN1_STRING *a, const char *text)
{
    size_t n = strlen(text);
    return (size_t)ASN1_STRING_length(a) == n &&
           !strncasecmp((const char *)ASN1_STRING_get0_data(a), text, n);
}

/* The one common name. */
static int common_name(X509 *leaf, char *out, size_t size, struct osm_err *err)
{
    const X509_NAME *subject = X509_get_subject_name(leaf);
    int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
    if (at < 0 || X509_NAME_get_index_by_NID(subject, NID_commonName, at) >= 0)
        return osm_fail(err, OSM_EACCES, "client certificate: it must have one common name");
    const ASN1_STRING *name = X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at));
    size_t len = (size_t)ASN1_STRING_length(name);
    if (len >= size || memchr(ASN1_STRING_get0_data(name), 0, len))
        return osm_fail(err, OSM_EACCES, "client certificate: common name too long or not text");
    memcpy(out, ASN1_STRING_get0_data(name), len);
    out[len] = '\0';
    return 0;
}

/* The marker of a proxy, "spiffe://<trust domain>/osm/proxy/<uuid>". Certificates of old bootstraps
 * have no URI at all; any other URI is somebody else's. */
static int check_marker(X509 *leaf, const struct osm_proxy_id *id, const char *trust_domain,
                        struct osm_err *err)
{
    int rc = 0;
    bool marked = false;
    uint32_t usage = X509_get_extended_key_usage(leaf);
    char *marker = osm_strf("spiffe://%s/osm/proxy/%s", trust_domain, id->uuid);
    GENERAL_NAMES *names = X509_get_ext_d2i(leaf, NID_subject_alt_name, NULL, NULL);
    if (!marker)
        rc = osm_fail(err, OSM_ENOMEM, "client certificate");
    for (int i = 0; !rc && names && i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        if (name->type != GEN_URI)
            continue;
        if (marked || !same_text(name->d.uniformResourceIdentifier, marker))
            rc = osm_fail(err, OSM_EACCES, "client certificate: its URI is not the one of proxy %s",
                          id->uuid);
        marked = true;
    }
    if (!rc && (usage == UINT32_MAX || !(usage & XKU_SSL_CLIENT)))
        rc = osm_fail(err, OSM_EACCES, "client certificate: it is not for clients");
    if (!rc && marked && (usage & XKU_SSL_SERVER))
        rc = osm_fail(err, OSM_EACCES, "client certificate: a proxy's must not be for servers too");
    GENERAL_NAMES_free(names);
    osm_free(marker);
    return rc;
}

static int64_t time_of(const ASN1_TIME *time)
{
    struct tm tm;
    return ASN1_TIME_to_tm(time, &tm) ? (int64_t)timegm(&tm) : 0;
}

static int check_leaf(const struct osm__ads_tls *tls, X509 *leaf, STACK_OF(X509) * chain,
                      const char *trust_domain, struct osm__peer *out, struct osm_err *err)
{
    struct osm__peer peer = {.not_after = time_of(X509_get0_notAfter(leaf))};
    char name[512];
    int rc = verify(tls->roots, leaf, chain, err);
    if (!rc)
        rc = common_name(leaf, name, sizeof name, err);
    if (!rc && osm_proxy_id_parse(&peer.id, name, trust_domain, err)) {
        osm_err_prepend(err, "client certificate is not a proxy's: ");
        rc = OSM_EACCES;
    }
    if (!rc)
        rc = check_marker(leaf, &peer.id, trust_domain, err);
    if (!rc) {
        (void)osm_proxy_key(peer.key, peer.id.uuid, peer.id.ns);
        *out = peer;
    }
    return rc;
}

/* What a peer has shown, as a key. */
static bool digest_of(const char *leaf_pem, const char *chain_pem, unsigned char out[DIGEST_BYTES])
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    const char *chain = chain_pem ? chain_pem : "";
    bool ok = ctx && EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) == 1 &&
              EVP_DigestUpdate(ctx, leaf_pem, strlen(leaf_pem) + 1) == 1 &&
              EVP_DigestUpdate(ctx, chain, strlen(chain)) == 1 &&
              EVP_DigestFinal_ex(ctx, out, NULL) == 1;
    EVP_MD_CTX_free(ctx);
    return ok;
}

static void forget_peers(struct osm__ads_tls *tls)
{
    osm_map_each (&tls->peers, e)
        osm_free(e->value);
    osm_map_clear(&tls->peers);
}

static void remember(struct osm__ads_tls *tls, const unsigned char digest[DIGEST_BYTES],
                     const struct osm__peer *peer)
{
    struct osm__peer *copy = osm_alloc(sizeof *copy);
    if (!copy)
        return;
    *copy = *peer;
    if (tls->peers.count >= PEERS_MAX)
        forget_peers(tls);
    if (osm_map_putn(&tls->peers, digest, DIGEST_BYTES, copy, NULL))
        osm_free(copy);
}

static int read_peer(const struct osm__ads_tls *tls, const char *leaf_pem, const char *chain_pem,
                     const char *trust_domain, struct osm__peer *out, struct osm_err *err)
{
    X509 *leaf = read_certificate(leaf_pem);
    STACK_OF(X509) *chain = read_chain(chain_pem);
    int rc = leaf ? check_leaf(tls, leaf, chain, trust_domain, out, err)
                  : osm_fail(err, OSM_EACCES, "the client certificate cannot be read");
    sk_X509_pop_free(chain, X509_free);
    X509_free(leaf);
    return rc;
}

int osm__ads_tls_peer(struct osm__ads_tls *tls, grpc_call *call, const char *trust_domain,
                      struct osm__peer *out, struct osm_err *err)
{
    grpc_auth_context *context = grpc_call_auth_context(call);
    char *leaf_pem = context ? property(context, GRPC_X509_PEM_CERT_PROPERTY_NAME) : NULL;
    char *chain_pem = context ? property(context, GRPC_X509_PEM_CERT_CHAIN_PROPERTY_NAME) : NULL;
    unsigned char digest[DIGEST_BYTES];
    int rc = 0;
    if (!leaf_pem) {
        rc = osm_fail(err, OSM_EACCES, "the connection has no client certificate");
    } else {
        bool has_key = digest_of(leaf_pem, chain_pem, digest);
        const struct osm__peer *known =
            has_key ? osm_map_getn(&tls->peers, digest, sizeof digest) : NULL;
        if (known && known->not_after > osm_wall_s()) {
            *out = *known;
        } else {
            rc = read_peer(tls, leaf_pem, chain_pem, trust_domain, out, err);
            if (!rc && has_key && !known)
                remember(tls, digest, out);
        }
    }
    osm_free(leaf_pem);
    osm_free(chain_pem);
    grpc_auth_context_release(context);
    return rc;
}
