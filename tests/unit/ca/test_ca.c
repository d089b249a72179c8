/* The root: made once, found again, and refused in every state that is not a whole, fitting, valid
 * pair. */
#include "ca_util.h"

static void test_a_crt_01_first_start_makes_the_root_of_the_reference(void **state)
{
    struct tmp *t = *state;
    struct osm_ca *ca = must_open(t->state);
    X509 *cert = x509(osm_ca_roots_pem(ca));
    char text[256];

    X509_NAME *subject = X509_get_subject_name(cert);
    assert_true(X509_NAME_get_text_by_NID(subject, NID_commonName, text, sizeof text) > 0);
    assert_string_equal(text, "osm-ca.openservicemesh.io");
    assert_true(X509_NAME_get_text_by_NID(subject, NID_organizationName, text, sizeof text) > 0);
    assert_string_equal(text, "Open Service Mesh");
    assert_true(X509_NAME_get_text_by_NID(subject, NID_countryName, text, sizeof text) > 0);
    assert_string_equal(text, "US");
    assert_true(X509_NAME_get_text_by_NID(subject, NID_localityName, text, sizeof text) > 0);
    assert_string_equal(text, "CA");

    assert_int_equal(X509_check_ca(cert), 1);
    assert_int_equal(X509_get_key_usage(cert), KU_KEY_CERT_SIGN | KU_CRL_SIGN);
    int critical = 0;
    BASIC_CONSTRAINTS *bc = X509_get_ext_d2i(cert, NID_basic_constraints, &critical, NULL);
    assert_non_null(bc);
    assert_int_equal(critical, 1);
    BASIC_CONSTRAINTS_free(bc);
    assert_non_null(X509_get0_subject_key_id(cert));
    assert_int_equal(EVP_PKEY_get_base_id(X509_get0_pubkey(cert)), EVP_PKEY_EC);
    assert_int_equal(EVP_PKEY_get_bits(X509_get0_pubkey(cert)), 256);
    int64_t lifetime =
        osm__asn1_time_s(X509_get0_notAfter(cert)) - osm__asn1_time_s(X509_get0_notBefore(cert));
    assert_int_equal(lifetime, 87600LL * 3600 + OSM_CA_BACKDATE_S);
    assert_int_equal(osm_ca_not_after(ca), osm__asn1_time_s(X509_get0_notAfter(cert)));
    assert_int_equal(X509_verify(cert, X509_get0_pubkey(cert)), 1);
    X509_free(cert);
    osm_ca_unref(ca);
}

static void test_a_crt_01_restart_reuses_the_root_byte_for_byte(void **state)
{
    struct tmp *t = *state;
    struct osm_ca *ca = must_open(t->state);
    char *cert = slurp(in(t->state, "ca.crt")), *key = slurp(in(t->state, "private.key"));
    assert_string_equal(cert, osm_ca_roots_pem(ca));
    struct osm_ca *again = must_open(t->state);
    assert_string_equal(osm_ca_roots_pem(again), cert);
    assert_string_equal(osm_ca_fingerprint(again), osm_ca_fingerprint(ca));
    assert_int_equal(strlen(osm_ca_fingerprint(ca)), 64);
    char *cert2 = slurp(in(t->state, "ca.crt")), *key2 = slurp(in(t->state, "private.key"));
    assert_string_equal(cert, cert2);
    assert_string_equal(key, key2);
    osm_free(cert);
    osm_free(cert2);
    osm_free(key);
    osm_free(key2);
    osm_ca_unref(ca);
    osm_ca_unref(again);
}

static void test_root_is_the_same_under_any_umask_and_private(void **state)
{
    struct tmp *t = *state;
    mode_t old = umask(0);
    struct osm_ca *ca = must_open(t->state);
    (void)umask(old);
    struct stat st;
    assert_int_equal(stat(t->state, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
    assert_int_equal(stat(in(t->state, "private.key"), &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(stat(in(t->state, "ca.crt"), &st), 0);
    assert_int_equal(st.st_mode & 07777, 0644);
    osm_ca_unref(ca);
}

static void test_two_roots_differ(void **state)
{
    struct tmp *t = *state;
    struct osm_ca *a = must_open(t->state), *b = must_open(in(t->root, "other"));
    assert_string_not_equal(osm_ca_fingerprint(a), osm_ca_fingerprint(b));
    osm_ca_unref(a);
    osm_ca_unref(b);
}

static void make_and_close(const char *dir)
{
    osm_ca_unref(must_open(dir));
}

static void test_key_of_another_ca_is_a_mismatch_and_nothing_changes(void **state)
{
    struct tmp *t = *state;
    make_and_close(t->state);
    make_and_close(in(t->root, "other"));
    char *key = slurp(in(in(t->root, "other"), "private.key")),
         *cert = slurp(in(t->state, "ca.crt"));
    spit(in(t->state, "private.key"), key, strlen(key), 0600);
    expect_refused(t->state, OSM_EMISMATCH, "does not belong to this certificate");
    char *cert2 = slurp(in(t->state, "ca.crt")), *key2 = slurp(in(t->state, "private.key"));
    assert_string_equal(cert, cert2);
    assert_string_equal(key, key2);
    osm_free(key);
    osm_free(key2);
    osm_free(cert);
    osm_free(cert2);
}

static void test_key_alone_is_refused(void **state)
{
    struct tmp *t = *state;
    make_and_close(t->state);
    assert_int_equal(unlink(in(t->state, "ca.crt")), 0);
    expect_refused(t->state, OSM_EMISMATCH, "holds private.key but not ca.crt");
    assert_int_equal(access(in(t->state, "ca.crt"), F_OK), -1);
}

static void test_certificate_alone_is_refused(void **state)
{
    struct tmp *t = *state;
    make_and_close(t->state);
    assert_int_equal(unlink(in(t->state, "private.key")), 0);
    expect_refused(t->state, OSM_EMISMATCH, "holds ca.crt but not private.key");
    assert_int_equal(access(in(t->state, "private.key"), F_OK), -1);
}

static void test_crash_between_the_two_renames_is_completed(void **state)
{
    struct tmp *t = *state;
    struct osm_ca *ca = must_open(t->state);
    assert_int_equal(rename(in(t->state, "ca.crt"), in(t->state, osm__ca_cert_aside)), 0);
    struct osm_ca *again = must_open(t->state);
    assert_string_equal(osm_ca_fingerprint(ca), osm_ca_fingerprint(again));
    assert_int_equal(access(in(t->state, "ca.crt"), F_OK), 0);
    assert_int_equal(access(in(t->state, osm__ca_cert_aside), F_OK), -1);
    osm_ca_unref(ca);
    osm_ca_unref(again);
}

static void test_certificate_aside_of_another_root_is_not_taken(void **state)
{
    struct tmp *t = *state;
    make_and_close(t->state);
    make_and_close(in(t->root, "other"));
    assert_int_equal(unlink(in(t->state, "ca.crt")), 0);
    assert_int_equal(rename(in(in(t->root, "other"), "ca.crt"), in(t->state, osm__ca_cert_aside)),
                     0);
    expect_refused(t->state, OSM_EMISMATCH, "does not belong");
}

static void test_rests_of_a_crash_before_the_renames_are_replaced(void **state)
{
    struct tmp *t = *state;
    assert_int_equal(mkdir(t->state, 0700), 0);
    spit(in(t->state, ".private.key.new"), "half", 4, 0600);
    spit(in(t->state, osm__ca_cert_aside), "half", 4, 0644);
    make_and_close(t->state);
    make_and_close(t->state);
    assert_int_equal(access(in(t->state, ".private.key.new"), F_OK), -1);
    assert_int_equal(access(in(t->state, osm__ca_cert_aside), F_OK), -1);
}

static void test_truncated_files_are_refused_at_every_length(void **state)
{
    struct tmp *t = *state;
    make_and_close(t->state);
    char *cert = slurp(in(t->state, "ca.crt")), *key = slurp(in(t->state, "private.key"));
    /* The last line's newline and dashes may go: what is before is whole. */
    size_t cert_body = (size_t)(strstr(cert, "-----END") - cert),
           key_body = (size_t)(strstr(key, "-----END") - key);
    for (size_t n = 0; n < cert_body; n += 37) {
        spit(in(t->state, "ca.crt"), cert, n, 0644);
        expect_refused(t->state, OSM_EPARSE, "ca.crt: no certificate in PEM");
    }
    spit(in(t->state, "ca.crt"), cert, strlen(cert), 0644);
    for (size_t n = 0; n < key_body; n += 17) {
        spit(in(t->state, "private.key"), key, n, 0600);
        expect_refused(t->state, OSM_EPARSE, "private.key: no private key in PEM");
    }
    osm_free(cert);
    osm_free(key);
}

static void test_key_that_others_may_read_is_refused(void **state)
{
    struct tmp *t = *state;
    make_and_close(t->state);
    static const mode_t modes[] = {0644, 0640, 0604, 0620, 0601};
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        assert_int_equal(chmod(in(t->state, "private.key"), modes[i]), 0);
        expect_refused(t->state, OSM_EACCES, "private.key: others may use it");
    }
    assert_int_equal(chmod(in(t->state, "private.key"), 0400), 0);
    make_and_close(t->state);
}

static void test_certificate_that_others_may_write_is_refused(void **state)
{
    struct tmp *t = *state;
    make_and_close(t->state);
    assert_int_equal(chmod(in(t->state, "ca.crt"), 0666), 0);
    expect_refused(t->state, OSM_EACCES, "ca.crt: others may change it");
}

static void test_key_of_another_user_is_refused(void **state)
{
    struct tmp *t = *state;
    make_and_close(t->state);
    if (chown(in(t->state, "private.key"), 12345, (gid_t)-1))
        skip(); /* needs root */
    expect_refused(t->state, OSM_EACCES, "belongs to uid 12345");
}

static void test_two_certificates_in_one_file_are_refused(void **state)
{
    struct tmp *t = *state;
    make_and_close(t->state);
    char *cert = slurp(in(t->state, "ca.crt"));
    char *twice = osm_strf("%s%s", cert, cert);
    spit(in(t->state, "ca.crt"), twice, strlen(twice), 0644);
    expect_refused(t->state, OSM_EPARSE, "more than one certificate");
    osm_free(cert);
    osm_free(twice);
}

static void test_oversized_file_is_refused(void **state)
{
    struct tmp *t = *state;
    make_and_close(t->state);
    assert_int_equal(truncate(in(t->state, "ca.crt"), OSM_CA_FILE_MAX_BYTES + 5000), 0);
    expect_refused(t->state, OSM_ELIMIT, "ca.crt: larger than");
}

static void test_fifo_in_place_of_a_file_does_not_hang(void **state)
{
    struct tmp *t = *state;
    make_and_close(t->state);
    assert_int_equal(unlink(in(t->state, "ca.crt")), 0);
    assert_int_equal(mkfifo(in(t->state, "ca.crt"), 0600), 0);
    expect_refused(t->state, OSM_EIO, "not a regular file");
}

/* --- pairs that an operator brings along --- */

struct own {
    EVP_PKEY *key;
    EVP_PKEY *signer; /* NULL: itself */
    bool ca, no_usage, expired, future;
};

static void put_own(const char *dir, const struct own *o)
{
    static const int sign_usage[] = {5, 6}, leaf_usage[] = {0};
    const struct osm_cert_names names = {.common_name = "my root"};
    struct osm_err err = {0};
    X509 *cert = NULL;
    int64_t now = time(NULL), from = now - 60, to = now + 3600;
    if (o->expired)
        to = now - 1;
    if (o->future)
        from = now + 600;
    assert_int_equal(osm__cert_new(&cert, o->key, &names, from, to, &err), 0);
    assert_int_equal(X509_set_issuer_name(cert, X509_get_subject_name(cert)), 1);
    assert_true(osm__cert_add_basic_constraints(cert, o->ca));
    if (!o->no_usage)
        assert_true(osm__cert_add_key_usage(cert, o->ca ? sign_usage : leaf_usage, o->ca ? 2 : 1));
    assert_true(X509_sign(cert, o->signer ? o->signer : o->key, EVP_sha256()) > 0);
    size_t size = 0;
    char *cert_pem = osm__cert_pem(cert), *key_pem = osm__key_pem(o->key, &size);
    (void)mkdir(dir, 0700);
    spit(in(dir, "ca.crt"), cert_pem, strlen(cert_pem), 0644);
    spit(in(dir, "private.key"), key_pem, strlen(key_pem), 0600);
    osm_free(cert_pem);
    osm_free_secret(key_pem, size);
    X509_free(cert);
}

static void test_own_root_is_used(void **state)
{
    struct tmp *t = *state;
    EVP_PKEY *keys[] = {EVP_RSA_gen(2048), EVP_EC_gen("P-256"), EVP_EC_gen("P-384")};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        put_own(t->state, &(struct own){.key = keys[i], .ca = true});
        struct osm_ca *ca = must_open(t->state);
        struct osm_leaf *leaf = NULL;
        assert_int_equal(
            osm_ca_issue(ca, &(struct osm_leaf_request){.kind = OSM_LEAF_ADS, .validity_s = 60},
                         &leaf, NULL),
            0);
        X509 *root = x509(osm_ca_roots_pem(ca)), *cert = x509(osm_leaf_chain_pem(leaf));
        assert_int_equal(X509_verify(cert, X509_get0_pubkey(root)), 1);
        X509_free(root);
        X509_free(cert);
        osm_leaf_unref(leaf);
        osm_ca_unref(ca);
        EVP_PKEY_free(keys[i]);
    }
}

static void test_own_root_without_key_usage_is_used(void **state)
{
    struct tmp *t = *state;
    EVP_PKEY *key = EVP_EC_gen("P-256");
    put_own(t->state, &(struct own){.key = key, .ca = true, .no_usage = true});
    make_and_close(t->state);
    EVP_PKEY_free(key);
}

static void test_own_root_that_would_not_verify_is_refused(void **state)
{
    struct tmp *t = *state;
    EVP_PKEY *good = EVP_EC_gen("P-256"), *other = EVP_EC_gen("P-256"), *weak = EVP_RSA_gen(1024),
             *odd = EVP_EC_gen("secp256k1"), *ed = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    put_own(t->state, &(struct own){.key = good, .ca = false});
    expect_refused(t->state, OSM_EREJECTED, "ca.crt: is not a CA certificate");
    put_own(t->state, &(struct own){.key = good, .ca = true, .signer = other});
    expect_refused(t->state, OSM_EREJECTED, "not self-signed");
    put_own(t->state, &(struct own){.key = good, .ca = true, .expired = true});
    expect_refused(t->state, OSM_EREJECTED, "expired");
    put_own(t->state, &(struct own){.key = good, .ca = true, .future = true});
    expect_refused(t->state, OSM_EREJECTED, "check the clock");
    put_own(t->state, &(struct own){.key = weak, .ca = true});
    expect_refused(t->state, OSM_EREJECTED, "1024 bits");
    put_own(t->state, &(struct own){.key = odd, .ca = true});
    expect_refused(t->state, OSM_EREJECTED, "proxies do not accept");
    EVP_PKEY_free(good);
    EVP_PKEY_free(other);
    EVP_PKEY_free(weak);
    EVP_PKEY_free(odd);
    EVP_PKEY_free(ed);
}

static void test_encrypted_key_is_refused_without_asking(void **state)
{
    struct tmp *t = *state;
    make_and_close(t->state);
    char *pem = slurp(in(t->state, "private.key"));
    EVP_PKEY *key = pkey(pem);
    BIO *bio = BIO_new(BIO_s_mem());
    assert_int_equal(
        PEM_write_bio_PKCS8PrivateKey(bio, key, EVP_aes_256_cbc(), "secret", 6, NULL, NULL), 1);
    char *data = NULL;
    long len = BIO_get_mem_data(bio, &data);
    spit(in(t->state, "private.key"), data, (size_t)len, 0600);
    expect_refused(t->state, OSM_EPARSE, "without password");
    BIO_free(bio);
    EVP_PKEY_free(key);
    osm_free(pem);
}

static void test_bad_configuration_is_named(void **state)
{
    struct tmp *t = *state;
    struct osm_err err = {0};
    struct osm_ca *ca = NULL;
    static const char *const bad[] = {"",    ".",   "a..b", "-a",   "a-", "Cluster.local",
                                      "a/b", "a b", "a.",   "x\ny", "a_b"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(osm_ca_open(&ca, &(struct osm_ca_config){t->state, bad[i]}, &err),
                         OSM_EINVAL);
        assert_non_null(strstr(err.msg, "trust domain"));
    }
    assert_int_equal(osm_ca_open(&ca, &(struct osm_ca_config){NULL, TD}, &err), OSM_EINVAL);
    assert_int_equal(osm_ca_open(&ca, &(struct osm_ca_config){"", TD}, &err), OSM_EINVAL);
    assert_null(ca);
}

static void test_open_survives_any_failed_allocation(void **state)
{
    struct tmp *t = *state;
    for (int existing = 0; existing < 2; existing++) {
        long n = 0;
        for (;; n++) {
            struct osm_ca *ca = NULL;
            struct osm_err err = {0};
            if (!existing)
                remove_tree(t->state);
            osm_mem_fail_at(n);
            int rc = open_ca(&ca, t->state, &err);
            osm_mem_fail_at(-1);
            if (!rc) {
                osm_ca_unref(ca);
                break;
            }
            assert_int_equal(rc, OSM_ENOMEM);
            assert_null(ca);
        }
        assert_true(n > 3);
    }
}

/* --- roots that are kept elsewhere --- */

static struct osm_buf text_of(const char *text)
{
    struct osm_buf out = OSM_BUF_INIT(OSM_CA_FILE_MAX_BYTES);
    assert_int_equal(osm_buf_add_str(&out, text), 0);
    return out;
}

static struct osm_ca *made(struct osm_buf *cert, struct osm_buf *key)
{
    struct osm_ca *ca = NULL;
    struct osm_err err = {0};
    *cert = (struct osm_buf)OSM_BUF_INIT(OSM_CA_FILE_MAX_BYTES);
    *key = (struct osm_buf)OSM_BUF_SECRET_INIT(OSM_CA_FILE_MAX_BYTES);
    assert_int_equal(osm_ca_make(&ca, TD, &err), 0);
    assert_int_equal(osm_ca_write(ca, cert, key, &err), 0);
    return ca;
}

static void test_root_that_was_written_is_read_as_the_same(void **state)
{
    (void)state;
    struct osm_buf cert, key;
    struct osm_err err = {0};
    struct osm_ca *ca = made(&cert, &key), *again = NULL;
    const struct osm_ca_texts texts = {&cert, &key, NULL};
    assert_int_equal(osm_ca_read(&again, &texts, TD, &err), 0);
    assert_true(osm_ca_same(ca, again));
    assert_string_equal(osm_ca_roots_pem(ca), osm_ca_roots_pem(again));
    assert_string_equal(osm_ca_roots_pem(ca), cert.data);
    struct osm_leaf *leaf = NULL;
    const struct osm_leaf_request request = {.kind = OSM_LEAF_ADS, .validity_s = 60};
    assert_int_equal(osm_ca_issue(again, &request, &leaf, &err), 0);
    osm_leaf_unref(leaf);
    osm_ca_unref(ca);
    osm_ca_unref(again);
    osm_buf_clear(&cert);
    osm_buf_clear(&key);
}

static void test_passive_roots_of_texts_are_trusted(void **state)
{
    (void)state;
    struct osm_buf cert, key, other_cert, other_key;
    struct osm_err err = {0};
    struct osm_ca *ca = made(&cert, &key), *other = made(&other_cert, &other_key), *both = NULL;
    const struct osm_ca_texts texts = {&cert, &key, &other_cert};
    assert_int_equal(osm_ca_read(&both, &texts, TD, &err), 0);
    assert_int_equal(osm_ca_passive_count(both), 1);
    assert_string_equal(osm_ca_passive_fingerprint(both, 0), osm_ca_fingerprint(other));
    assert_int_equal(osm_ca_may_follow(ca, both, &err), 0);
    osm_ca_unref(ca);
    osm_ca_unref(other);
    osm_ca_unref(both);
    osm_buf_clear(&cert);
    osm_buf_clear(&key);
    osm_buf_clear(&other_cert);
    osm_buf_clear(&other_key);
}

static void test_texts_that_are_no_root_are_refused_by_name(void **state)
{
    (void)state;
    struct osm_buf cert, key, other_cert, other_key, nonsense = text_of("nonsense"),
                                                     nothing = OSM_BUF_INIT(16);
    struct osm_ca *ca = made(&cert, &key), *other = made(&other_cert, &other_key), *out = NULL;
    const struct {
        struct osm_ca_texts texts;
        int rc;
        const char *says;
    } rows[] = {
        {{&nonsense, &key, NULL}, OSM_EPARSE, "ca.crt: no certificate"},
        {{&nothing, &key, NULL}, OSM_EPARSE, "ca.crt: no certificate"},
        {{&cert, &nonsense, NULL}, OSM_EPARSE, "private.key: no private key"},
        {{&cert, &nothing, NULL}, OSM_EPARSE, "private.key: no private key"},
        {{&cert, &other_key, NULL}, OSM_EMISMATCH, "ca.crt: the key"},
        {{&cert, &key, &nonsense}, OSM_EPARSE, "passive.crt: no certificate"},
        {{&cert, &key, &key}, OSM_EPARSE, "passive.crt: "},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct osm_err err = {0};
        assert_int_equal(osm_ca_read(&out, &rows[i].texts, TD, &err), rows[i].rc);
        assert_non_null(strstr(err.msg, rows[i].says));
        assert_null(strstr(err.msg, "PRIVATE KEY"));
        assert_null(out);
    }
    osm_ca_unref(ca);
    osm_ca_unref(other);
    osm_buf_clear(&cert);
    osm_buf_clear(&key);
    osm_buf_clear(&other_cert);
    osm_buf_clear(&other_key);
    osm_buf_clear(&nonsense);
}

static void test_reading_and_making_survive_any_failed_allocation(void **state)
{
    (void)state;
    struct osm_buf cert, key;
    struct osm_ca *first = made(&cert, &key);
    const struct osm_ca_texts texts = {&cert, &key, &cert};
    bool waits = false;
    for (long n = 0; !waits; n++) {
        struct osm_ca *read = NULL, *new = NULL;
        struct osm_err err = {0};
        osm_mem_fail_at(n);
        int rc = osm_ca_read(&read, &texts, TD, &err);
        if (!rc)
            rc = osm_ca_make(&new, TD, &err);
        waits = osm_mem_fail_waits();
        osm_mem_fail_at(-1);
        assert_true(waits ? !rc : rc == 0 || rc == OSM_ENOMEM || rc == OSM_ECRYPTO);
        osm_ca_unref(read);
        osm_ca_unref(new);
    }
    osm_ca_unref(first);
    osm_buf_clear(&cert);
    osm_buf_clear(&key);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, tmp_setup, tmp_teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_root_that_was_written_is_read_as_the_same),
        cmocka_unit_test(test_passive_roots_of_texts_are_trusted),
        cmocka_unit_test(test_texts_that_are_no_root_are_refused_by_name),
        cmocka_unit_test(test_reading_and_making_survive_any_failed_allocation),
        T(test_a_crt_01_first_start_makes_the_root_of_the_reference),
        T(test_a_crt_01_restart_reuses_the_root_byte_for_byte),
        T(test_root_is_the_same_under_any_umask_and_private),
        T(test_two_roots_differ),
        T(test_key_of_another_ca_is_a_mismatch_and_nothing_changes),
        T(test_key_alone_is_refused),
        T(test_certificate_alone_is_refused),
        T(test_crash_between_the_two_renames_is_completed),
        T(test_certificate_aside_of_another_root_is_not_taken),
        T(test_rests_of_a_crash_before_the_renames_are_replaced),
        T(test_truncated_files_are_refused_at_every_length),
        T(test_key_that_others_may_read_is_refused),
        T(test_certificate_that_others_may_write_is_refused),
        T(test_key_of_another_user_is_refused),
        T(test_two_certificates_in_one_file_are_refused),
        T(test_oversized_file_is_refused),
        T(test_fifo_in_place_of_a_file_does_not_hang),
        T(test_own_root_is_used),
        T(test_own_root_without_key_usage_is_used),
        T(test_own_root_that_would_not_verify_is_refused),
        T(test_encrypted_key_is_refused_without_asking),
        T(test_bad_configuration_is_named),
        T(test_open_survives_any_failed_allocation),
    };
    return cmocka_run_group_tests_name("ca/ca", tests, quiet, no_leak);
}
