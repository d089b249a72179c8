/* What a listener's TLS needs: its certificate and key, and what it agrees to. TLS 1.2 with forward
 * secrecy or 1.3, HTTP/1.1 alone (who offers HTTP/2 too falls back to it), and no resumption: a
 * ticket would outlive the certificate that it was given under. */
#include "http/http_priv.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <string.h>

static const unsigned char PROTOCOL[] = "\x08http/1.1";

static int fail(struct osm_err *err, int code, const char *what)
{
    unsigned long e = ERR_peek_last_error();
    const char *reason = e ? ERR_reason_error_string(e) : NULL;
    int rc = osm_fail(err, code, "TLS: %s%s%s", what, reason ? ": " : "", reason ? reason : "");
    ERR_clear_error();
    return rc;
}

/* Without it OpenSSL would ask the terminal for the password of an encrypted PEM. */
static int no_password(char *buf, int size, int writing, void *ud)
{
    (void)buf;
    (void)size;
    (void)writing;
    (void)ud;
    return -1;
}

/* Whoever offers protocols, but not this one, is refused (RFC 7301, 3.2). */
static int choose_protocol(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                           const unsigned char *in, unsigned in_len, void *ud)
{
    (void)ssl;
    (void)ud;
    for (unsigned i = 0; i < in_len; i += in[i] + 1U) {
        if (in[i] != PROTOCOL[0] || i + in[i] >= in_len ||
            memcmp(in + i + 1, PROTOCOL + 1, PROTOCOL[0]) != 0)
            continue;
        *out = in + i + 1;
        *out_len = in[i];
        return SSL_TLSEXT_ERR_OK;
    }
    return SSL_TLSEXT_ERR_ALERT_FATAL;
}

static bool set_up(SSL_CTX *tls)
{
    (void)SSL_CTX_set_options(tls, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION |
                                       SSL_OP_CIPHER_SERVER_PREFERENCE);
    (void)SSL_CTX_set_mode(tls, SSL_MODE_ENABLE_PARTIAL_WRITE |
                                    SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
    /* Else one read would work through all records without a byte for us that a peer has sent. */
    (void)SSL_CTX_clear_mode(tls, SSL_MODE_AUTO_RETRY);
    (void)SSL_CTX_set_session_cache_mode(tls, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_alpn_select_cb(tls, choose_protocol, NULL);
    return SSL_CTX_set_num_tickets(tls, 0) == 1 &&
           SSL_CTX_set_min_proto_version(tls, TLS1_2_VERSION) == 1 &&
           SSL_CTX_set_cipher_list(tls, "ECDHE+AESGCM:ECDHE+CHACHA20") == 1;
}

static int read_chain(SSL_CTX *tls, const char *pem, struct osm_err *err)
{
    BIO *bio = BIO_new_mem_buf(pem, -1);
    X509 *cert = bio ? PEM_read_bio_X509(bio, NULL, no_password, NULL) : NULL;
    int rc = 0;
    if (!cert)
        rc = fail(err, OSM_EPARSE, "the certificate chain cannot be read");
    else if (SSL_CTX_use_certificate(tls, cert) != 1)
        rc = fail(err, OSM_EREJECTED, "the certificate cannot be used");
    X509_free(cert);
    while (!rc && (cert = PEM_read_bio_X509(bio, NULL, no_password, NULL)))
        if (SSL_CTX_add0_chain_cert(tls, cert) != 1) {
            X509_free(cert);
            rc = fail(err, OSM_EREJECTED, "the certificate chain cannot be used");
        }
    if (!rc && ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE)
        rc = fail(err, OSM_EPARSE, "the certificate chain cannot be read whole");
    ERR_clear_error();
    BIO_free(bio);
    return rc;
}

/* OpenSSL wipes what it makes of it; no other copy is made. */
static int read_key(SSL_CTX *tls, const char *pem, struct osm_err *err)
{
    BIO *bio = BIO_new_mem_buf(pem, -1);
    EVP_PKEY *key = bio ? PEM_read_bio_PrivateKey(bio, NULL, no_password, NULL) : NULL;
    int rc = 0;
    if (!key)
        rc = fail(err, OSM_EPARSE, "the private key cannot be read");
    else if (SSL_CTX_use_PrivateKey(tls, key) != 1 || SSL_CTX_check_private_key(tls) != 1)
        rc = fail(err, OSM_EMISMATCH, "the private key is not the certificate's");
    EVP_PKEY_free(key);
    BIO_free(bio);
    return rc;
}

int osm__http_tls_new(struct ssl_ctx_st **out, const char *chain_pem, const char *key_pem,
                      struct osm_err *err)
{
    ERR_clear_error();
    if (!chain_pem || !key_pem)
        return osm_fail(err, OSM_EINVAL,
                        "TLS: a certificate chain needs its key, and a key its "
                        "chain");
    SSL_CTX *tls = SSL_CTX_new(TLS_server_method());
    int rc = tls && set_up(tls) ? 0 : fail(err, OSM_ECRYPTO, "OpenSSL cannot be set up");
    if (!rc)
        rc = read_chain(tls, chain_pem, err);
    if (!rc)
        rc = read_key(tls, key_pem, err);
    if (rc)
        SSL_CTX_free(tls);
    else
        *out = tls;
    return rc;
}

void osm__http_tls_free(struct ssl_ctx_st *tls)
{
    SSL_CTX_free(tls);
}
