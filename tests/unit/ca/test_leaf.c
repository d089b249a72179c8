/* Leaves: what is in them, whom a verifier accepts with them, and which names are never signed. */
#include "ca_util.h"

#include "base/clock.h"

#include <pthread.h>

#define PROXY_CN   UUID ".sidecar.caller.red." TD
#define SERVICE_CN "caller.red." TD
#define A63        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define WEBHOOK_CN "osm-injector.osm-system.svc"

static struct osm_leaf *must_issue(const struct osm_ca *ca, const struct osm_leaf_request *r)
{
    struct osm_leaf *leaf = NULL;
    struct osm_err err = {0};
    if (osm_ca_issue(ca, r, &leaf, &err))
        fail_msg("osm_ca_issue: %s", err.msg);
    return leaf;
}

static const struct osm_leaf_request proxy = {OSM_LEAF_PROXY, PROXY_CN, UUID, 3600, 0};
static const struct osm_leaf_request service = {OSM_LEAF_SERVICE, SERVICE_CN, NULL, 24 * 3600, 0};
static const struct osm_leaf_request webhook = {OSM_LEAF_WEBHOOK, WEBHOOK_CN, NULL, 3600, 0};
static const struct osm_leaf_request ads = {OSM_LEAF_ADS, NULL, NULL, 3600, 0};

/* X509_V_OK or why not. */
static int verify(const char *chain, const char *root_pem, int purpose, int64_t at)
{
    X509 *cert = x509(chain), *root = x509(root_pem);
    X509_STORE *store = X509_STORE_new();
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    assert_int_equal(X509_STORE_add_cert(store, root), 1);
    assert_int_equal(X509_STORE_CTX_init(ctx, store, cert, NULL), 1);
    assert_int_equal(X509_STORE_CTX_set_purpose(ctx, purpose), 1);
    X509_VERIFY_PARAM_set_flags(X509_STORE_CTX_get0_param(ctx), X509_V_FLAG_X509_STRICT);
    if (at)
        X509_STORE_CTX_set_time(ctx, 0, (time_t)at);
    int ok = X509_verify_cert(ctx);
    int why = X509_STORE_CTX_get_error(ctx);
    assert_int_equal(ok == 1, why == X509_V_OK);
    X509_STORE_CTX_free(ctx);
    X509_STORE_free(store);
    X509_free(cert);
    X509_free(root);
    return why;
}

/* "DNS:...,URI:..." as they stand in the certificate. */
static void alt_names(const char *pem, char *out, size_t size)
{
    X509 *cert = x509(pem);
    GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
    out[0] = '\0';
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        int type = 0;
        const ASN1_STRING *s = GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(names, i), &type);
        size_t at = strlen(out);
        (void)snprintf(out + at, size - at, "%s%s:%.*s", at ? "," : "",
                       type == GEN_URI ? "URI" : "DNS", ASN1_STRING_length(s),
                       (const char *)ASN1_STRING_get0_data(s));
    }
    GENERAL_NAMES_free(names);
    X509_free(cert);
}

static void common_name(const char *pem, char *out, size_t size)
{
    X509 *cert = x509(pem);
    assert_true(
        X509_NAME_get_text_by_NID(X509_get_subject_name(cert), NID_commonName, out, (int)size) > 0);
    X509_free(cert);
}

static void expect_leaf(const struct osm_ca *ca, const struct osm_leaf_request *r, const char *cn,
                        const char *sans, uint32_t eku)
{
    int64_t before =
        osm_wall_s(); /* time() may still say the second before: its clock is coarser */
    struct osm_leaf *leaf = must_issue(ca, r);
    int64_t after = osm_wall_s();
    char text[1024];
    common_name(osm_leaf_chain_pem(leaf), text, sizeof text);
    assert_string_equal(text, cn);
    alt_names(osm_leaf_chain_pem(leaf), text, sizeof text);
    assert_string_equal(text, sans);

    X509 *cert = x509(osm_leaf_chain_pem(leaf)), *root = x509(osm_ca_roots_pem(ca));
    EVP_PKEY *key = pkey(osm_leaf_key_pem(leaf));
    assert_int_equal(X509_get_extended_key_usage(cert), eku);
    assert_int_equal(X509_get_key_usage(cert), KU_DIGITAL_SIGNATURE);
    assert_int_equal(X509_check_ca(cert), 0);
    assert_non_null(X509_get0_subject_key_id(cert));
    assert_int_equal(
        ASN1_OCTET_STRING_cmp(X509_get0_authority_key_id(cert), X509_get0_subject_key_id(root)), 0);
    assert_int_equal(X509_check_private_key(cert, key), 1);
    assert_int_equal(EVP_PKEY_get_bits(key), 256);
    assert_non_null(strstr(osm_leaf_key_pem(leaf), "-----BEGIN PRIVATE KEY-----")); /* PKCS#8 */
    int64_t from = osm__asn1_time_s(X509_get0_notBefore(cert)),
            to = osm__asn1_time_s(X509_get0_notAfter(cert));
    assert_in_range(from, before - OSM_CA_BACKDATE_S, after - OSM_CA_BACKDATE_S);
    assert_in_range(to, before + r->validity_s, after + r->validity_s);
    assert_int_equal(osm_leaf_not_after(leaf), to);
    assert_int_equal(strlen(osm_leaf_serial(leaf)), 32);
    EVP_PKEY_free(key);
    X509_free(cert);
    X509_free(root);
    osm_leaf_unref(leaf);
}

static void test_a_crt_02_service_certificate(void **state)
{
    struct tmp *t = *state;
    struct osm_ca *ca = must_open(t->state);
    expect_leaf(ca, &service, SERVICE_CN, "DNS:" SERVICE_CN, XKU_SSL_SERVER | XKU_SSL_CLIENT);
    struct osm_leaf *leaf = must_issue(ca, &service);
    assert_int_equal(
        verify(osm_leaf_chain_pem(leaf), osm_ca_roots_pem(ca), X509_PURPOSE_SSL_SERVER, 0),
        X509_V_OK);
    assert_int_equal(
        verify(osm_leaf_chain_pem(leaf), osm_ca_roots_pem(ca), X509_PURPOSE_SSL_CLIENT, 0),
        X509_V_OK);
    osm_leaf_unref(leaf);
    osm_ca_unref(ca);
}

/* TLS 1.2 without ECDHE encrypts to an RSA key; peers refuse one that is not for that. */
static void test_a_service_certificate_of_an_rsa_key_may_be_encrypted_to(void **state)
{
    struct tmp *t = *state;
    struct osm_ca *ca = must_open(t->state);
    struct osm_leaf_request request = service;
    request.rsa_bits = 2048;
    struct osm_leaf *leaf = must_issue(ca, &request);
    X509 *cert = x509(osm_leaf_chain_pem(leaf));
    assert_int_equal(X509_get_key_usage(cert), KU_DIGITAL_SIGNATURE | KU_KEY_ENCIPHERMENT);
    X509_free(cert);
    osm_leaf_unref(leaf);
    osm_ca_unref(ca);
}

static void test_a_crt_03_proxy_certificate(void **state)
{
    struct tmp *t = *state;
    struct osm_ca *ca = must_open(t->state);
    expect_leaf(ca, &proxy, PROXY_CN, "DNS:" PROXY_CN ",URI:spiffe://" TD "/osm/proxy/" UUID,
                XKU_SSL_CLIENT);
    osm_ca_unref(ca);
}

static void test_ads_certificate(void **state)
{
    struct tmp *t = *state;
    struct osm_ca *ca = must_open(t->state);
    expect_leaf(ca, &ads, "ads." TD, "DNS:ads." TD, XKU_SSL_SERVER);
    osm_ca_unref(ca);
}

static void test_webhook_certificate(void **state)
{
    struct tmp *t = *state;
    struct osm_ca *ca = must_open(t->state);
    expect_leaf(ca, &webhook, WEBHOOK_CN, "DNS:" WEBHOOK_CN, XKU_SSL_SERVER);
    struct osm_leaf *leaf = must_issue(ca, &webhook);
    const char *pem = osm_leaf_chain_pem(leaf), *root = osm_ca_roots_pem(ca);
    assert_int_equal(verify(pem, root, X509_PURPOSE_SSL_SERVER, 0), X509_V_OK);
    assert_int_equal(verify(pem, root, X509_PURPOSE_SSL_CLIENT, 0), X509_V_ERR_INVALID_PURPOSE);
    X509 *cert = x509(pem);
    assert_int_equal(X509_check_host(cert, WEBHOOK_CN, 0, 0, NULL), 1);
    assert_int_equal(X509_check_host(cert, "osm-injector.other.svc", 0, 0, NULL), 0);
    X509_free(cert);
    osm_leaf_unref(leaf);
    osm_ca_unref(ca);
}

static void test_proxy_and_ads_certificates_serve_one_side_only(void **state)
{
    struct tmp *t = *state;
    struct osm_ca *ca = must_open(t->state);
    const char *root = osm_ca_roots_pem(ca);
    struct osm_leaf *p = must_issue(ca, &proxy), *a = must_issue(ca, &ads);
    assert_int_equal(verify(osm_leaf_chain_pem(p), root, X509_PURPOSE_SSL_CLIENT, 0), X509_V_OK);
    assert_int_equal(verify(osm_leaf_chain_pem(p), root, X509_PURPOSE_SSL_SERVER, 0),
                     X509_V_ERR_INVALID_PURPOSE);
    assert_int_equal(verify(osm_leaf_chain_pem(a), root, X509_PURPOSE_SSL_SERVER, 0), X509_V_OK);
    assert_int_equal(verify(osm_leaf_chain_pem(a), root, X509_PURPOSE_SSL_CLIENT, 0),
                     X509_V_ERR_INVALID_PURPOSE);
    osm_leaf_unref(p);
    osm_leaf_unref(a);
    osm_ca_unref(ca);
}

static void test_leaf_of_another_ca_does_not_verify(void **state)
{
    struct tmp *t = *state;
    struct osm_ca *ca = must_open(t->state), *other = must_open(in(t->root, "other"));
    struct osm_leaf *leaf = must_issue(other, &service);
    /* Both roots have one subject; the key id tells them apart. */
    assert_int_equal(
        verify(osm_leaf_chain_pem(leaf), osm_ca_roots_pem(ca), X509_PURPOSE_SSL_CLIENT, 0),
        X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY);
    osm_leaf_unref(leaf);
    osm_ca_unref(ca);
    osm_ca_unref(other);
}

static void test_leaf_ends_with_its_validity(void **state)
{
    struct tmp *t = *state;
    struct osm_ca *ca = must_open(t->state);
    struct osm_leaf *leaf = must_issue(ca, &service);
    const char *pem = osm_leaf_chain_pem(leaf), *root = osm_ca_roots_pem(ca);
    int64_t to = osm_leaf_not_after(leaf);
    assert_int_equal(verify(pem, root, X509_PURPOSE_SSL_CLIENT, to - 1), X509_V_OK);
    assert_int_equal(verify(pem, root, X509_PURPOSE_SSL_CLIENT, to + 1),
                     X509_V_ERR_CERT_HAS_EXPIRED);
    osm_leaf_unref(leaf);

    struct osm_leaf_request past = proxy;
    past.validity_s = -10;
    leaf = must_issue(ca, &past);
    assert_int_equal(verify(osm_leaf_chain_pem(leaf), root, X509_PURPOSE_SSL_CLIENT, 0),
                     X509_V_ERR_CERT_HAS_EXPIRED);
    osm_leaf_unref(leaf);
    osm_ca_unref(ca);
}

static void test_validity_is_cut_to_the_root(void **state)
{
    struct tmp *t = *state;
    struct osm_ca *ca = must_open(t->state);
    struct osm_leaf_request r = service;
    static const int64_t asked[] = {87600LL * 3600 + 10, INT64_MAX};
    for (int i = 0; i < 2; i++) {
        r.validity_s = asked[i];
        struct osm_leaf *leaf = must_issue(ca, &r);
        assert_int_equal(osm_leaf_not_after(leaf), osm_ca_not_after(ca));
        X509 *cert = x509(osm_leaf_chain_pem(leaf));
        assert_int_equal(osm__asn1_time_s(X509_get0_notAfter(cert)), osm_ca_not_after(ca));
        X509_free(cert);
        osm_leaf_unref(leaf);
    }
    osm_ca_unref(ca);
}

static void test_validity_of_nothing_is_refused(void **state)
{
    struct tmp *t = *state;
    struct osm_ca *ca = must_open(t->state);
    static const int64_t bad[] = {0, INT64_MIN};
    for (int i = 0; i < 2; i++) {
        struct osm_leaf_request r = service;
        struct osm_leaf *leaf = NULL;
        r.validity_s = bad[i];
        assert_int_equal(osm_ca_issue(ca, &r, &leaf, NULL), OSM_EINVAL);
        assert_null(leaf);
    }
    osm_ca_unref(ca);
}

static void test_serials_and_keys_are_never_the_same(void **state)
{
    struct tmp *t = *state;
    struct osm_ca *ca = must_open(t->state);
    struct osm_leaf *a = must_issue(ca, &service), *b = must_issue(ca, &service);
    assert_string_not_equal(osm_leaf_serial(a), osm_leaf_serial(b));
    assert_string_not_equal(osm_leaf_key_pem(a), osm_leaf_key_pem(b));
    X509 *cert = x509(osm_leaf_chain_pem(a));
    BIGNUM *bn = ASN1_INTEGER_to_BN(X509_get0_serialNumber(cert), NULL);
    char *hex = BN_bn2hex(bn);
    assert_int_equal(strcasecmp(hex, osm_leaf_serial(a)), 0);
    assert_int_equal(BN_num_bits(bn), 128);
    OPENSSL_free(hex);
    BN_free(bn);
    X509_free(cert);
    osm_leaf_unref(a);
    osm_leaf_unref(b);
    osm_ca_unref(ca);
}

static char *with_account(const char *before, size_t account_len, const char *after)
{
    char *account = osm_alloc(account_len + 1);
    assert_non_null(account);
    memset(account, 'a', account_len);
    char *name = osm_strf("%s%s%s", before, account, after);
    osm_free(account);
    return name;
}

/* X.509 gives a common name 64 bytes, Kubernetes gives an account 253. A verifier must read back
 * exactly what was asked. */
static void test_long_account_names_survive_whole(void **state)
{
    struct tmp *t = *state;
    struct osm_ca *ca = must_open(t->state);
    static const size_t lengths[] = {63, 64, 65, 120, 253 - sizeof ".red." TD + 1};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        char *cn = with_account("", lengths[i], ".red." TD), sans[600], text[300];
        struct osm_leaf_request r = service;
        r.common_name = cn;
        struct osm_leaf *leaf = must_issue(ca, &r);
        common_name(osm_leaf_chain_pem(leaf), text, sizeof text);
        assert_string_equal(text, cn);
        alt_names(osm_leaf_chain_pem(leaf), sans, sizeof sans);
        assert_string_equal(sans + 4, cn);
        assert_int_equal(
            verify(osm_leaf_chain_pem(leaf), osm_ca_roots_pem(ca), X509_PURPOSE_SSL_CLIENT, 0),
            X509_V_OK);
        osm_leaf_unref(leaf);
        osm_free(cn);
    }
    char *cn = with_account(UUID ".sidecar.", 150, ".red." TD);
    struct osm_leaf_request r = proxy;
    r.common_name = cn;
    struct osm_leaf *leaf = must_issue(ca, &r);
    osm_leaf_unref(leaf);
    osm_free(cn);
    osm_ca_unref(ca);
}

static void test_name_over_the_dns_limit_is_refused_with_its_length(void **state)
{
    struct tmp *t = *state;
    struct osm_ca *ca = must_open(t->state);
    char *cn = with_account("", 253 - (sizeof ".red." TD - 1) + 1, ".red." TD);
    struct osm_leaf_request r = service;
    struct osm_leaf *leaf = NULL;
    struct osm_err err = {0};
    r.common_name = cn;
    assert_int_equal(osm_ca_issue(ca, &r, &leaf, &err), OSM_ELIMIT);
    assert_non_null(strstr(err.msg, "254 bytes"));
    assert_null(leaf);
    osm_free(cn);
    osm_ca_unref(ca);
}

static void test_account_with_dots_is_signed(void **state)
{
    struct tmp *t = *state;
    struct osm_ca *ca = must_open(t->state);
    expect_leaf(ca, &(struct osm_leaf_request){OSM_LEAF_SERVICE, "a.b.c.red." TD, NULL, 60, 0},
                "a.b.c.red." TD, "DNS:a.b.c.red." TD, XKU_SSL_SERVER | XKU_SSL_CLIENT);
    osm_ca_unref(ca);
}

static void test_names_of_the_wrong_kind_are_never_signed(void **state)
{
    struct tmp *t = *state;
    struct osm_ca *ca = must_open(t->state);
    static const struct {
        struct osm_leaf_request r;
        int code;
    } bad[] = {
        /* A workload must not get the control plane's name, nor a name of another domain. */
        {{OSM_LEAF_SERVICE, "ads." TD, NULL, 60, 0}, OSM_EINVAL},
        {{OSM_LEAF_SERVICE, TD, NULL, 60, 0}, OSM_EINVAL},
        {{OSM_LEAF_SERVICE, "caller.red.example.com", NULL, 60, 0}, OSM_EINVAL},
        {{OSM_LEAF_SERVICE, "caller.redcluster.local", NULL, 60, 0}, OSM_EINVAL},
        {{OSM_LEAF_SERVICE, NULL, NULL, 60, 0}, OSM_EINVAL},
        {{OSM_LEAF_SERVICE, "", NULL, 60, 0}, OSM_EINVAL},
        {{OSM_LEAF_SERVICE, "*.red." TD, NULL, 60, 0}, OSM_EINVAL},
        {{OSM_LEAF_SERVICE, "caller..red." TD, NULL, 60, 0}, OSM_EINVAL},
        {{OSM_LEAF_SERVICE, "Caller.red." TD, NULL, 60, 0}, OSM_EINVAL},
        {{OSM_LEAF_SERVICE, "caller\n.red." TD, NULL, 60, 0}, OSM_EINVAL},
        {{OSM_LEAF_SERVICE, "caller,DNS:x.red." TD, NULL, 60, 0}, OSM_EINVAL},
        {{OSM_LEAF_SERVICE, "c\xc3\xa4ller.red." TD, NULL, 60, 0}, OSM_EINVAL},
        /* A service account may be named like a proxy; such a certificate would pass for one. */
        {{OSM_LEAF_SERVICE, PROXY_CN, NULL, 60, 0}, OSM_EREJECTED},
        {{OSM_LEAF_PROXY, PROXY_CN, NULL, 60, 0}, OSM_EINVAL},
        {{OSM_LEAF_PROXY, PROXY_CN, "1f3b0b5e-7d0c-4c55-9a5e-0d9b8a7c6f02", 60, 0}, OSM_EINVAL},
        {{OSM_LEAF_PROXY, PROXY_CN, UUID "/x", 60, 0}, OSM_EINVAL},
        {{OSM_LEAF_PROXY, SERVICE_CN, UUID, 60, 0}, OSM_EINVAL},
        {{OSM_LEAF_PROXY, UUID ".sidecar.red." TD, UUID, 60, 0}, OSM_EINVAL},
        {{OSM_LEAF_PROXY, UUID ".sidecar." TD, UUID, 60, 0}, OSM_EINVAL},
        {{OSM_LEAF_PROXY, UUID ".gateway.caller.red." TD, UUID, 60, 0}, OSM_EINVAL},
        {{OSM_LEAF_PROXY, UUID ".sidecar.caller.red.example.com", UUID, 60, 0}, OSM_EINVAL},
        /* The API server calls a webhook by service and namespace, nothing else. */
        {{OSM_LEAF_WEBHOOK, NULL, NULL, 60, 0}, OSM_EINVAL},
        {{OSM_LEAF_WEBHOOK, "svc", NULL, 60, 0}, OSM_EINVAL},
        {{OSM_LEAF_WEBHOOK, "osm-system.svc", NULL, 60, 0}, OSM_EINVAL},
        {{OSM_LEAF_WEBHOOK, ".osm-system.svc", NULL, 60, 0}, OSM_EINVAL},
        {{OSM_LEAF_WEBHOOK, "osm-injector..svc", NULL, 60, 0}, OSM_EINVAL},
        {{OSM_LEAF_WEBHOOK, "a.osm-injector.osm-system.svc", NULL, 60, 0}, OSM_EINVAL},
        {{OSM_LEAF_WEBHOOK, WEBHOOK_CN "." TD, NULL, 60, 0}, OSM_EINVAL},
        {{OSM_LEAF_WEBHOOK, WEBHOOK_CN ".", NULL, 60, 0}, OSM_EINVAL},
        {{OSM_LEAF_WEBHOOK, "osm-injector.osm-system.svcs", NULL, 60, 0}, OSM_EINVAL},
        {{OSM_LEAF_WEBHOOK, "*.osm-system.svc", NULL, 60, 0}, OSM_EINVAL},
        {{OSM_LEAF_WEBHOOK, SERVICE_CN, NULL, 60, 0}, OSM_EINVAL},
        {{OSM_LEAF_WEBHOOK, A63 "a.osm-system.svc", NULL, 60, 0}, OSM_EINVAL},
        {{OSM_LEAF_WEBHOOK, "a." A63 "a.svc", NULL, 60, 0}, OSM_EINVAL},
        {{OSM_LEAF_SERVICE, WEBHOOK_CN, NULL, 60, 0}, OSM_EINVAL},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct osm_leaf *leaf = NULL;
        struct osm_err err = {0};
        int rc = osm_ca_issue(ca, &bad[i].r, &leaf, &err);
        if (rc != bad[i].code || leaf || !err.msg[0])
            fail_msg("row %zu: %s: %s", i, rc ? osm_code_name(rc) : "signed", err.msg);
    }
    osm_ca_unref(ca);
}

static void test_leaf_lives_while_it_is_referenced(void **state)
{
    struct tmp *t = *state;
    struct osm_ca *ca = must_open(t->state);
    struct osm_leaf *leaf = must_issue(ca, &service);
    osm_ca_unref(ca); /* not needed by it any more */
    long live = osm_mem_live();
    assert_ptr_equal(osm_leaf_ref(leaf), leaf);
    osm_leaf_unref(leaf);
    assert_int_equal(osm_mem_live(), live);
    assert_non_null(strstr(osm_leaf_chain_pem(leaf), "BEGIN CERTIFICATE"));
    osm_leaf_unref(leaf);
    assert_true(osm_mem_live() < live);
    osm_leaf_unref(NULL);
}

static void *issue_some(void *ud)
{
    const struct osm_ca *ca = ud;
    for (int i = 0; i < 20; i++) {
        struct osm_leaf *leaf = NULL;
        if (osm_ca_issue(ca, i % 2 ? &proxy : &service, &leaf, NULL))
            return ud;
        osm_leaf_unref(leaf);
    }
    return NULL;
}

static void test_threads_issue_from_one_ca_at_once(void **state)
{
    struct tmp *t = *state;
    struct osm_ca *ca = must_open(t->state);
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, issue_some, ca), 0);
    for (int i = 0; i < 4; i++) {
        void *failed = ca;
        assert_int_equal(pthread_join(threads[i], &failed), 0);
        assert_null(failed);
    }
    osm_ca_unref(ca);
}

static void test_issue_survives_any_failed_allocation(void **state)
{
    struct tmp *t = *state;
    struct osm_ca *ca = must_open(t->state);
    long before = osm_mem_live(), n = 0;
    for (;; n++) {
        struct osm_leaf *leaf = NULL;
        osm_mem_fail_at(n);
        int rc = osm_ca_issue(ca, &proxy, &leaf, NULL);
        osm_mem_fail_at(-1);
        if (!rc) {
            osm_leaf_unref(leaf);
            break;
        }
        assert_int_equal(rc, OSM_ENOMEM);
        assert_null(leaf);
        assert_int_equal(osm_mem_live(), before);
    }
    assert_true(n >= 4);
    osm_ca_unref(ca);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, tmp_setup, tmp_teardown)
    const struct CMUnitTest tests[] = {
        T(test_a_crt_02_service_certificate),
        T(test_a_service_certificate_of_an_rsa_key_may_be_encrypted_to),
        T(test_a_crt_03_proxy_certificate),
        T(test_ads_certificate),
        T(test_webhook_certificate),
        T(test_proxy_and_ads_certificates_serve_one_side_only),
        T(test_leaf_of_another_ca_does_not_verify),
        T(test_leaf_ends_with_its_validity),
        T(test_validity_is_cut_to_the_root),
        T(test_validity_of_nothing_is_refused),
        T(test_serials_and_keys_are_never_the_same),
        T(test_long_account_names_survive_whole),
        T(test_name_over_the_dns_limit_is_refused_with_its_length),
        T(test_account_with_dots_is_signed),
        T(test_names_of_the_wrong_kind_are_never_signed),
        T(test_leaf_lives_while_it_is_referenced),
        T(test_threads_issue_from_one_ca_at_once),
        T(test_issue_survives_any_failed_allocation),
    };
    return cmocka_run_group_tests_name("ca/leaf", tests, quiet, no_leak);
}
