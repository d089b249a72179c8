/* Certificates that are made for a test, a listener with TLS, and peers that speak it. */
#pragma once

#include "http/http_util.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

struct pair {
    char *chain, *key;
};

static inline char *text_of(BIO *bio)
{
    char *data;
    long len = BIO_get_mem_data(bio, &data);
    char *text = strndup(data, (size_t)len);
    BIO_free(bio);
    return text;
}

/* Signed by its own key. */
static inline struct pair make_pair(const char *name)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = X509_new();
    BIO *chain = BIO_new(BIO_s_mem()), *secret = BIO_new(BIO_s_mem());
    X509V3_CTX ctx;
    char alt[128];
    (void)snprintf(alt, sizeof alt, "DNS:%s", name);
    assert_int_equal(X509_set_version(cert, X509_VERSION_3), 1);
    assert_int_equal(ASN1_INTEGER_set(X509_get_serialNumber(cert), 1), 1);
    assert_non_null(X509_gmtime_adj(X509_getm_notBefore(cert), -60));
    assert_non_null(X509_gmtime_adj(X509_getm_notAfter(cert), 3600));
    assert_int_equal(X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_ASC,
                                                (const unsigned char *)name, -1, -1, 0),
                     1);
    assert_int_equal(X509_set_issuer_name(cert, X509_get_subject_name(cert)), 1);
    X509V3_set_ctx(&ctx, cert, cert, NULL, NULL, 0);
    X509_EXTENSION *names = X509V3_EXT_conf_nid(NULL, &ctx, NID_subject_alt_name, alt);
    assert_int_equal(X509_add_ext(cert, names, -1), 1);
    X509_EXTENSION_free(names);
    assert_int_equal(X509_set_pubkey(cert, key), 1);
    assert_true(X509_sign(cert, key, EVP_sha256()) > 0);
    assert_int_equal(PEM_write_bio_X509(chain, cert), 1);
    assert_int_equal(PEM_write_bio_PrivateKey(secret, key, NULL, NULL, 0, NULL, NULL), 1);
    X509_free(cert);
    EVP_PKEY_free(key);
    return (struct pair){text_of(chain), text_of(secret)};
}

static inline void free_pair(struct pair *pair)
{
    free(pair->chain);
    free(pair->key);
}

static inline void tls_listen(struct fixture *f, const struct pair *pair,
                              struct osm_http_limits limits)
{
    struct osm_err err = {0};
    const struct osm_http_listen config = {"127.0.0.1:0", "--x",       false,    routes, f,
                                           limits,        pair->chain, pair->key};
    osm_http_close(f->listener);
    f->listener = NULL;
    if (osm_http_listen(&f->listener, f->http, &config, &err))
        fail_msg("%s", err.msg);
}

struct peer {
    int fd;
    SSL *ssl;
};

/* Not greeted yet. @p trusted: the only certificate that it takes; NULL: any. @p alpn: as it goes
 * over the wire; NULL: none. */
static inline struct peer tls_peer(const struct fixture *f, const char *trusted, const char *alpn,
                                   int max_version)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_security_level(ctx, 0);
    assert_int_equal(SSL_CTX_set_max_proto_version(ctx, max_version), 1);
    if (alpn)
        assert_int_equal(
            SSL_CTX_set_alpn_protos(ctx, (const unsigned char *)alpn, (unsigned)strlen(alpn)), 0);
    if (trusted) {
        BIO *bio = BIO_new_mem_buf(trusted, -1);
        X509 *cert = PEM_read_bio_X509(bio, NULL, NULL, NULL);
        assert_int_equal(X509_STORE_add_cert(SSL_CTX_get_cert_store(ctx), cert), 1);
        SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
        X509_free(cert);
        BIO_free(bio);
    }
    struct peer peer = {client(f), SSL_new(ctx)};
    SSL_CTX_free(ctx);
    assert_int_equal(SSL_set_fd(peer.ssl, peer.fd), 1);
    SSL_set_connect_state(peer.ssl);
    return peer;
}

/* 1 done; 0 the peer has said goodbye; -1 it has failed. */
static inline int tls_wait(struct fixture *f, const struct peer *peer, int rc)
{
    switch (SSL_get_error(peer->ssl, rc)) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
        turn(f);
        return 1;
    case SSL_ERROR_ZERO_RETURN:
        return 0;
    default:
        ERR_clear_error();
        return -1;
    }
}

static inline bool tls_greet(struct fixture *f, const struct peer *peer)
{
    for (uint64_t until = osm_now_ms() + 5000; osm_now_ms() < until;) {
        ERR_clear_error();
        int rc = SSL_do_handshake(peer->ssl);
        if (rc == 1)
            return true;
        if (tls_wait(f, peer, rc) <= 0)
            return false;
    }
    fail_msg("no handshake within 5 s");
    return false;
}

static inline struct peer tls_client(struct fixture *f)
{
    struct peer peer = tls_peer(f, NULL, NULL, 0);
    assert_true(tls_greet(f, &peer));
    return peer;
}

static inline void tls_close(struct peer *peer)
{
    SSL_free(peer->ssl);
    close(peer->fd);
}

static inline void tls_say(struct fixture *f, const struct peer *peer, const char *text, size_t len)
{
    for (uint64_t until = osm_now_ms() + 10000; len && osm_now_ms() < until;) {
        ERR_clear_error();
        int n = SSL_write(peer->ssl, text, (int)len);
        if (n > 0) {
            text += n;
            len -= (size_t)n;
        } else if (tls_wait(f, peer, n) <= 0) {
            return; /* the server has hung up: the test looks at that */
        }
    }
}

/* Up to @p len bytes; fewer where the server ends: *end is then what tls_wait said. */
static inline size_t tls_hear(struct fixture *f, const struct peer *peer, char *to, size_t len,
                              int *end)
{
    size_t at = 0;
    *end = 1;
    for (uint64_t until = osm_now_ms() + 10000; at < len && osm_now_ms() < until;) {
        ERR_clear_error();
        int n = SSL_read(peer->ssl, to + at, (int)(len - at));
        if (n > 0)
            at += (size_t)n;
        else if ((*end = tls_wait(f, peer, n)) <= 0)
            break;
    }
    return at;
}

/* The next answer, which has a Content-Length: its body (free). */
static inline char *tls_answer(struct fixture *f, const struct peer *peer, int status, size_t *len)
{
    char head[1024], start[32];
    size_t n = 0;
    int end;
    while (n < 4 || memcmp(head + n - 4, "\r\n\r\n", 4) != 0) {
        assert_true(n < sizeof head - 1);
        assert_int_equal(tls_hear(f, peer, &head[n], 1, &end), 1);
        n++;
    }
    head[n] = '\0';
    (void)snprintf(start, sizeof start, "HTTP/1.1 %d ", status);
    assert_memory_equal(head, start, strlen(start));
    const char *length = strstr(head, "Content-Length: ");
    assert_non_null(length);
    *len = strtoul(length + 16, NULL, 10);
    char *body = calloc(1, *len + 1);
    assert_int_equal(tls_hear(f, peer, body, *len, &end), *len);
    return body;
}

static inline void tls_expect(struct fixture *f, const struct peer *peer, int status,
                              const char *body)
{
    size_t len;
    char *heard = tls_answer(f, peer, status, &len);
    if (body)
        assert_string_equal(heard, body);
    free(heard);
}

static inline void tls_ask(struct fixture *f, const struct peer *peer)
{
    tls_say(f, peer, GET("/hello"), strlen(GET("/hello")));
    tls_expect(f, peer, 200, "hello\n");
}

/* What a new connection is shown. */
static inline bool tls_is_served(struct fixture *f, const struct pair *pair)
{
    struct peer peer = tls_peer(f, pair->chain, NULL, 0);
    bool is = tls_greet(f, &peer);
    if (is)
        tls_ask(f, &peer);
    tls_close(&peer);
    return is;
}
