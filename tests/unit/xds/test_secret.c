/* Secrets are read back with the structs that protobuf-c generates, which the writer does not use.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "xds/secret.h"

#include "envoy/extensions/transport_sockets/tls/v3/secret.pb-c.h"

typedef Envoy__Extensions__TransportSockets__Tls__V3__Secret secret_message;

static secret_message *unpack(const struct osm_resource *r)
{
    secret_message *m = envoy__extensions__transport_sockets__tls__v3__secret__unpack(
        NULL, osm_bytes_len(r->body), osm_bytes_data(r->body));
    assert_non_null(m);
    assert_string_equal(m->name, r->name);
    return m;
}

static void expect_inline(const Envoy__Config__Core__V3__DataSource *source, const char *text)
{
    assert_non_null(source);
    assert_int_equal(source->specifier_case,
                     ENVOY__CONFIG__CORE__V3__DATA_SOURCE__SPECIFIER_INLINE_BYTES);
    assert_int_equal(source->inline_bytes.len, strlen(text));
    assert_memory_equal(source->inline_bytes.data, text, strlen(text));
}

static void test_a_certificate_has_chain_key_and_version(void **state)
{
    (void)state;
    struct osm_resource *r = osm_secret_certificate("service-cert", "root.123", "CHAIN", "KEY");
    assert_non_null(r);
    assert_string_equal(r->version, "root.123");
    assert_true(osm_bytes_secret(r->body));
    secret_message *m = unpack(r);
    assert_int_equal(m->type_case,
                     ENVOY__EXTENSIONS__TRANSPORT_SOCKETS__TLS__V3__SECRET__TYPE_TLS_CERTIFICATE);
    expect_inline(m->tls_certificate->certificate_chain, "CHAIN");
    expect_inline(m->tls_certificate->private_key, "KEY");
    envoy__extensions__transport_sockets__tls__v3__secret__free_unpacked(m, NULL);
    osm_resource_unref(r);
}

static void test_a_validation_trusts_roots_and_exact_names(void **state)
{
    (void)state;
    const char *sans[] = {"shop.blue.cluster.local", "shop2.blue.cluster.local"};
    struct osm_resource *r =
        osm_secret_validation("root-cert-for-mtls-outbound:blue/shop", "ROOTS", sans, 2);
    assert_non_null(r);
    assert_false(osm_bytes_secret(r->body));
    secret_message *m = unpack(r);
    assert_int_equal(
        m->type_case,
        ENVOY__EXTENSIONS__TRANSPORT_SOCKETS__TLS__V3__SECRET__TYPE_VALIDATION_CONTEXT);
    expect_inline(m->validation_context->trusted_ca, "ROOTS");
    assert_int_equal(m->validation_context->n_match_typed_subject_alt_names, 2);
    for (size_t i = 0; i < 2; i++) {
        const Envoy__Extensions__TransportSockets__Tls__V3__SubjectAltNameMatcher *san =
            m->validation_context->match_typed_subject_alt_names[i];
        assert_int_equal(
            san->san_type,
            ENVOY__EXTENSIONS__TRANSPORT_SOCKETS__TLS__V3__SUBJECT_ALT_NAME_MATCHER__SAN_TYPE__DNS);
        assert_int_equal(san->matcher->match_pattern_case,
                         ENVOY__TYPE__MATCHER__V3__STRING_MATCHER__MATCH_PATTERN_EXACT);
        assert_string_equal(san->matcher->exact, sans[i]);
    }
    envoy__extensions__transport_sockets__tls__v3__secret__free_unpacked(m, NULL);
    osm_resource_unref(r);
}

static void test_without_names_any_that_verifies_will_do(void **state)
{
    (void)state;
    struct osm_resource *r = osm_secret_validation("root", "ROOTS", NULL, 0),
                        *again = osm_secret_validation("root", "ROOTS", NULL, 0);
    secret_message *m = unpack(r);
    assert_int_equal(m->validation_context->n_match_typed_subject_alt_names, 0);
    assert_string_equal(r->version, again->version);
    envoy__extensions__transport_sockets__tls__v3__secret__free_unpacked(m, NULL);
    osm_resource_unref(r);
    osm_resource_unref(again);
}

static void test_out_of_memory_gives_nothing(void **state)
{
    (void)state;
    struct osm_resource *r = NULL;
    for (long n = 0; !r && n < 20; n++) {
        osm_mem_fail_at(n);
        r = osm_secret_certificate("n", "v", "CHAIN", "KEY");
        osm_mem_fail_at(-1);
        assert_true(r || n < 19);
    }
    osm_resource_unref(r);
}

static int no_allocation_is_left(void **state)
{
    (void)state;
    return osm_mem_live() ? -1 : 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_certificate_has_chain_key_and_version),
        cmocka_unit_test(test_a_validation_trusts_roots_and_exact_names),
        cmocka_unit_test(test_without_names_any_that_verifies_will_do),
        cmocka_unit_test(test_out_of_memory_gives_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, no_allocation_is_left);
}
