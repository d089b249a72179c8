/* What MeshConfig says of sidecars' TLS: nothing reaches the bootstrap that Envoy would refuse, or
 * that would keep it from the control plane. */
#include "admission_util.h"

#include "inject/mesh_config.h"

static void becomes(const char *sidecar, const char *minimum, const char *maximum,
                    const char *ciphers, const char *curves)
{
    char text[1024];
    struct osm_sidecar_settings s = {0};
    struct osm_err err = {0};
    (void)snprintf(text, sizeof text, "spec: {sidecar: %s}", sidecar);
    json_t *body = yaml(text);
    if (osm_sidecar_settings_read(&s, body, &err))
        fail_msg("%s: %s", sidecar, err.msg);
    assert_string_equal(s.tls_minimum, minimum);
    assert_string_equal(s.tls_maximum, maximum);
    same(s.cipher_suites, ciphers);
    same(s.ecdh_curves, curves);
    osm_sidecar_settings_clear(&s);
    osm_sidecar_settings_clear(&s);
    json_decref(body);
}

static void test_versions_are_those_asked_for_and_in_order(void **state)
{
    (void)state;
    becomes("{}", "TLSv1_2", "TLSv1_3", "[]", "[]");
    becomes("null", "TLSv1_2", "TLSv1_3", "[]", "[]");
    becomes("{tlsMinProtocolVersion: TLS_AUTO, tlsMaxProtocolVersion: ''}", "TLSv1_2", "TLSv1_3",
            "[]", "[]");
    becomes("{tlsMinProtocolVersion: TLSv1_3, tlsMaxProtocolVersion: TLSv1_2}", "TLSv1_3",
            "TLSv1_3", "[]", "[]");
    becomes("{tlsMinProtocolVersion: TLSv1_0, tlsMaxProtocolVersion: TLSv1_1}", "TLSv1_0",
            "TLSv1_1", "[]", "[]");
}

static void test_ciphers_and_curves_that_envoy_does_not_know_are_left_out(void **state)
{
    (void)state;
    becomes("{cipherSuites: [AES128-SHA, bad, AES128-SHA, '[AES128-SHA|bad]', "
            "'[AES128-SHA|AES256-SHA]', '[]', '', '[AES128-SHA|]'], ecdhCurves: [secp384r1, P-384, "
            "prime256v1, P-999]}",
            "TLSv1_2", "TLSv1_3", "[AES128-SHA, '[AES128-SHA|AES256-SHA]']", "[P-384, P-256]");
}

static void test_what_the_control_plane_speaks_is_among_them(void **state)
{
    (void)state;
    becomes("{tlsMaxProtocolVersion: TLSv1_2, cipherSuites: [ECDHE-RSA-AES256-GCM-SHA384]}",
            "TLSv1_2", "TLSv1_2", "[ECDHE-RSA-AES256-GCM-SHA384, ECDHE-ECDSA-AES128-GCM-SHA256]",
            "[]");
    becomes("{tlsMaxProtocolVersion: TLSv1_2, cipherSuites: [AES128-SHA], ecdhCurves: [X25519]}",
            "TLSv1_2", "TLSv1_2",
            "[AES128-SHA, ECDHE-ECDSA-AES128-GCM-SHA256, ECDHE-RSA-AES128-GCM-SHA256]",
            "[X25519, P-256]");
    becomes("{tlsMaxProtocolVersion: TLSv1_2, cipherSuites: "
            "['[ECDHE-ECDSA-AES128-GCM-SHA256|ECDHE-RSA-AES128-GCM-SHA256]']}",
            "TLSv1_2", "TLSv1_2", "['[ECDHE-ECDSA-AES128-GCM-SHA256|ECDHE-RSA-AES128-GCM-SHA256]']",
            "[]");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_versions_are_those_asked_for_and_in_order),
        cmocka_unit_test(test_ciphers_and_curves_that_envoy_does_not_know_are_left_out),
        cmocka_unit_test(test_what_the_control_plane_speaks_is_among_them),
    };
    return cmocka_run_group_tests_name("inject/mesh_config", tests, NULL, no_leak);
}
